//! Requests that name many groups, each of which is asked by itself: the last answer completes the response.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use kafka_protocol::protocol::Encodable;
use mk_net::fault::Fault;
use parking_lot::Mutex;

use crate::broker::kafka::NoAnswer;
use crate::broker::kafka::place::Place;
use crate::broker::reply::Reply;

/// A response whose parts come one by one.
pub struct Gather<P> {
    place: Place,
    parts: Mutex<Parts<P>>,
}

struct Parts<P> {
    parts: Vec<Option<P>>,
    /// How many have not come yet.
    missing: usize,
}

/// Most groups of a request: each is a question of its own.
const MOST_GROUPS: usize = 10_000;

/// Groups as a request names them, each once: a request must not be answered with a thousand times its bytes.
pub fn each_group<T, K: Eq + Hash>(
    groups: Vec<T>,
    name: impl Fn(&T) -> K,
) -> Result<Vec<T>, NoAnswer> {
    let mut seen = HashSet::new();
    let groups: Vec<T> = groups.into_iter().filter(|group| seen.insert(name(group))).collect();
    if groups.len() > MOST_GROUPS {
        return Err(format!("{} groups, {MOST_GROUPS} are allowed at once", groups.len()));
    }
    Ok(groups)
}

impl<P: Send + 'static> Gather<P> {
    /// One of so many parts, of which there is at least one.
    pub fn new(place: Place, count: usize) -> Arc<Gather<P>> {
        let parts = (0..count).map(|_| None).collect();
        Arc::new(Gather { place, parts: Mutex::new(Parts { parts, missing: count }) })
    }

    /// The reply to the question for one part. `translate` makes the part of its answer, `whole` the response of all.
    pub fn reply<A: Send + 'static, K: Encodable + 'static>(
        self: &Arc<Self>,
        index: usize,
        translate: impl FnOnce(Result<A, Fault>) -> P + Send + 'static,
        whole: fn(Vec<P>) -> K,
    ) -> Reply<A> {
        let gather = self.clone();
        Reply::kafka(self.place.index, self.place.to, move |answer, _| {
            let part = translate(answer);
            let mut gathered = gather.parts.lock();
            if let Some(place) = gathered.parts.get_mut(index) {
                *place = Some(part);
            }
            gathered.missing -= 1;
            if gathered.missing > 0 {
                return None;
            }
            let parts = std::mem::take(&mut gathered.parts);
            Some(gather.place.write(&whole(parts.into_iter().flatten().collect())))
        })
    }
}
