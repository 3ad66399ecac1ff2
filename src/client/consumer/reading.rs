//! What a consumer reads, as its program sees it: which assignment of a partition counts, and what comes next.

use std::collections::BTreeMap;

use crate::client::cluster::PartitionKey;

/// The partitions that are read or were.
#[derive(Debug, Default)]
pub struct Reading(BTreeMap<PartitionKey, Part>);

#[derive(Clone, Copy, Debug)]
struct Part {
    /// What was fetched for an earlier assignment is thrown away; none: whatever was.
    least: Option<u64>,
    /// The offset of the next record that is handed out; none: it is not read.
    position: Option<u64>,
}

impl Reading {
    /// A partition is read from an offset on, by this assignment.
    pub fn begin(&mut self, key: PartitionKey, assignment: u64, offset: u64) {
        self.0.insert(key, Part { least: Some(assignment), position: Some(offset) });
    }

    /// It is read no more.
    pub fn end(&mut self, key: PartitionKey) {
        self.0.insert(key, Part { least: None, position: None });
    }

    /// True if a partition is read.
    pub fn has(&self, key: &PartitionKey) -> bool {
        self.position(key).is_some()
    }

    /// The offset of the next record of a partition that is handed out.
    pub fn position(&self, key: &PartitionKey) -> Option<u64> {
        self.0.get(key)?.position
    }

    /// True if what was fetched for this assignment is to be handed out; takes note that it is, up to `next`. A
    /// partition that is not known was added, and found by itself.
    pub fn deliver(&mut self, key: &PartitionKey, assignment: u64, next: u64) -> bool {
        let part = self.0.entry(key.clone());
        let part = part.or_insert(Part { least: Some(assignment), position: None });
        let counts = part.least.is_some_and(|least| assignment >= least);
        if counts {
            part.position = Some(next);
        }
        counts
    }

    /// True if a failure of this assignment is to be told: the partition is read no more then.
    pub fn fail(&mut self, key: &PartitionKey, assignment: u64) -> bool {
        let part = self.0.get(key);
        let counts = part.is_none_or(|part| part.least.is_some_and(|least| assignment >= least));
        if counts {
            self.end(key.clone());
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_fetched_for_an_earlier_assignment_is_thrown_away() {
        let mut reading = Reading::default();
        let key: PartitionKey = ("t".into(), 0);
        reading.begin(key.clone(), 3, 100);
        assert!(reading.deliver(&key, 3, 110));
        assert_eq!(reading.position(&key), Some(110));
        reading.begin(key.clone(), 4, 50);
        assert!(!reading.deliver(&key, 3, 120));
        assert_eq!(reading.position(&key), Some(50));
        assert!(!reading.fail(&key, 3));
        assert!(reading.deliver(&key, 4, 60));
        reading.end(key.clone());
        assert!(!reading.deliver(&key, 4, 70) && !reading.has(&key));
        reading.begin(key.clone(), 5, 0);
        assert!(reading.deliver(&key, 5, 1) && reading.fail(&key, 5) && !reading.has(&key));
        // One that was added.
        let added = ("t".into(), 1);
        assert!(reading.deliver(&added, 6, 9));
        assert_eq!(reading.position(&added), Some(9));
    }
}
