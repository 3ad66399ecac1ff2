//! From lists of what is asked for to lists of what became of it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::vec::IntoIter;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use mk_net::fault::{ErrorCode, Fault};

use super::offsets::number;
use super::place::text;

/// The results in one of our own answers, one after the other. Where there is no answer, what is said instead stands for
/// each.
#[derive(Debug)]
pub struct Results<T> {
    left: IntoIter<Result<T, Fault>>,
    refused: Option<Fault>,
}

impl<T> Results<T> {
    /// The results of an answer.
    pub fn of(answer: Result<Vec<Result<T, Fault>>, Fault>) -> Results<T> {
        match answer {
            Ok(results) => Results { left: results.into_iter(), refused: None },
            Err(fault) => Results { left: Vec::new().into_iter(), refused: Some(fault) },
        }
    }

    /// The next one.
    pub fn take(&mut self) -> Result<T, Fault> {
        self.left.next().unwrap_or_else(|| {
            let missing = || Fault::new(ErrorCode::UNKNOWN_SERVER_ERROR, "there is no result");
            Err(self.refused.clone().unwrap_or_else(missing))
        })
    }
}

/// Partitions that a request names, by their topics.
pub type Partitions = HashMap<String, HashSet<u32>>;

/// Partitions that a request names, by their topics.
pub fn partitions(named: impl IntoIterator<Item = (TopicName, Vec<i32>)>) -> Partitions {
    let mut partitions = Partitions::new();
    for (topic, indexes) in named {
        let numbers = indexes.into_iter().map(number);
        partitions.entry(topic.to_string()).or_default().extend(numbers);
    }
    partitions
}

/// What a request names, each once; what it names more than once is refused, as by Kafka.
pub fn each_once<K: Clone + Eq + Hash, T>(
    named: impl IntoIterator<Item = (K, T)>,
) -> Vec<(K, Result<T, Fault>)> {
    let mut places = HashMap::new();
    let mut found: Vec<(K, Result<T, Fault>)> = Vec::new();
    for (name, item) in named {
        match places.entry(name.clone()) {
            Entry::Vacant(place) => {
                place.insert(found.len());
                found.push((name, Ok(item)));
            }
            Entry::Occupied(place) => {
                if let Some((_, result)) = found.get_mut(*place.get()) {
                    let what = "it is in the request more than once";
                    *result = Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
                }
            }
        }
    }
    found
}

/// Puts together what stands behind each other for the same topic.
pub fn by_topic<T>(parts: impl IntoIterator<Item = (String, T)>) -> Vec<(String, Vec<T>)> {
    let mut topics: Vec<(String, Vec<T>)> = Vec::new();
    for (topic, part) in parts {
        match topics.last_mut() {
            Some((last, parts)) if *last == topic => parts.push(part),
            _ => topics.push((topic, vec![part])),
        }
    }
    topics
}

/// What is said of an error, if it is one.
pub fn message_of<T>(result: &Result<T, Fault>) -> Option<StrBytes> {
    result.as_ref().err().map(|fault| text(fault.message.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_twice_is_refused_once() {
        let found = each_once([("a", 1), ("b", 2), ("a", 3), ("a", 4), ("c", 5)]);
        let found: Vec<_> = found.into_iter().map(|(name, item)| (name, item.ok())).collect();
        assert_eq!(found, [("a", None), ("b", Some(2)), ("c", Some(5))]);
    }

    #[test]
    fn without_an_answer_each_has_its_fault() {
        let fault = Fault::new(ErrorCode::NOT_CONTROLLER, "away");
        let mut results = Results::<()>::of(Err(fault.clone()));
        assert_eq!((results.take(), results.take()), (Err(fault.clone()), Err(fault)));
        let mut results = Results::of(Ok(vec![Ok(1)]));
        assert_eq!(results.take(), Ok(1));
        assert_eq!(results.take().unwrap_err().code, ErrorCode::UNKNOWN_SERVER_ERROR);
    }

    #[test]
    fn parts_are_put_together_in_their_order() {
        let parts = [("a", 1), ("a", 2), ("b", 1)].map(|(topic, part)| (topic.to_owned(), part));
        let together = [("a".to_owned(), vec![1, 2]), ("b".to_owned(), vec![1])];
        assert_eq!(by_topic(parts), together);
    }
}
