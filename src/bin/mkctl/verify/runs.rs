//! What is there of each run, and what is wrong with it.

use std::collections::BTreeMap;

/// The runs of a topic, by their ids.
#[derive(Debug, Default)]
pub struct Runs {
    runs: BTreeMap<String, Run>,
    /// Records that are of no run.
    pub others: u64,
}

/// A run.
#[derive(Debug, Default)]
pub struct Run {
    /// How many there are to be.
    count: u64,
    /// For each number that is there how often it is.
    counts: BTreeMap<u64, u64>,
    /// For each partition the last number.
    last: BTreeMap<u32, u64>,
    /// Numbers that are behind a larger one of their partition, and were not there before.
    pub misordered: u64,
}

impl Runs {
    /// Takes note of a record, as partitions have them in order.
    pub fn note(&mut self, partition: u32, value: &[u8]) {
        match parse(value) {
            Some((id, number, count)) => {
                let run = self.runs.entry(id.to_owned()).or_default();
                run.count = run.count.max(count);
                run.note(partition, number);
            }
            None => self.others += 1,
        }
    }

    /// All runs, or the one that is asked for.
    pub fn chosen(&self, run: Option<&str>) -> Vec<(&str, &Run)> {
        let chosen = self.runs.iter().filter(|(id, _)| run.is_none_or(|run| run == *id));
        chosen.map(|(id, run)| (id.as_str(), run)).collect()
    }
}

/// The run, the number and the count of a record.
fn parse(value: &[u8]) -> Option<(&str, u64, u64)> {
    let (id, numbers) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let (number, count) = numbers.split_once('/')?;
    let (number, count) = (number.parse().ok()?, count.parse().ok()?);
    (is_run(id) && number < count).then_some((id, number, count))
}

fn is_run(id: &str) -> bool {
    id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Run {
    fn note(&mut self, partition: u32, number: u64) {
        let count = self.counts.entry(number).or_default();
        *count += 1;
        let fresh = *count == 1;
        let last = self.last.entry(partition).or_insert(number);
        self.misordered += u64::from(fresh && number < *last);
        *last = number.max(*last);
    }

    /// How many numbers are there.
    pub fn distinct(&self) -> u64 {
        self.counts.len() as u64
    }

    /// How many records are there beyond the first of their number.
    pub fn doubles(&self) -> u64 {
        self.counts.values().map(|count| count - 1).sum()
    }

    /// Ranges of numbers that are missing, each with its last.
    pub fn gaps(&self) -> Vec<(u64, u64)> {
        let (mut gaps, mut next) = (Vec::new(), 0);
        for number in self.counts.keys() {
            if *number > next {
                gaps.push((next, number - 1));
            }
            next = number + 1;
        }
        if next < self.count {
            gaps.push((next, self.count - 1));
        }
        gaps
    }

    /// True if nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.doubles() == 0 && self.misordered == 0 && self.gaps().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_twice_or_late_is_told() {
        let mut runs = Runs::default();
        for (partition, value) in [
            (0, "0123456789ab 0/9"),
            (1, "0123456789ab 1/9"),
            (0, "0123456789ab 4/9"),
            (0, "0123456789ab 2/9"),
            (0, "0123456789ab 4/9"),
            (1, "0123456789ab 7/9"),
            (0, "fedcba987654 0/1"),
            (0, "hello"),
            (0, "0123456789ab x/9"),
            (0, "0123456789ab 9/9"),
        ] {
            runs.note(partition, value.as_bytes());
        }
        assert_eq!(runs.others, 3);
        let (_, run) = runs.chosen(Some("0123456789ab"))[0];
        assert_eq!((run.distinct(), run.doubles(), run.misordered), (5, 1, 1));
        assert_eq!(run.gaps(), [(3, 3), (5, 6), (8, 8)]);
        assert!(!run.is_sound());
        assert!(runs.chosen(Some("fedcba987654"))[0].1.is_sound());
        assert_eq!(runs.chosen(None).len(), 2);
    }
}
