//! How far a group has come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::broker::rate::Rate;

/// A partition by the name of its topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PartitionName {
    /// The topic.
    pub topic: String,
    /// Its number in the topic, from 0.
    pub partition: u32,
}

/// An offset that a group has committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The next record that it is to read: all before are acknowledged.
    pub offset: u64,
    /// The epoch of the leader of the record before it; -1 if the member did not say.
    pub leader_epoch: i32,
    /// What the member has written beside it.
    pub metadata: String,
    /// The topic's id: another topic of the same name has other records.
    pub topic_id: Uuid,
    /// When it was committed, in milliseconds since 1970.
    pub committed_ms: i64,
}

/// How fast a group gets on in a partition, since this coordinator serves it.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    since_ms: i64,
    acknowledged: Rate,
}

impl Pace {
    /// Nothing was acknowledged yet.
    pub fn new(now_ms: i64) -> Pace {
        Pace { since_ms: now_ms, acknowledged: Rate::default() }
    }

    /// So many records more are acknowledged.
    pub fn acknowledged(&mut self, records: u64, now_ms: i64) {
        self.acknowledged.add(self.second(now_ms), records);
    }

    /// Records that were acknowledged, a second, over the last ten.
    pub fn per_second(&self, now_ms: i64) -> u64 {
        self.acknowledged.per_second(self.second(now_ms))
    }

    fn second(&self, now_ms: i64) -> u64 {
        (now_ms - self.since_ms).max(0) as u64 / 1000
    }
}

/// The offsets of a group.
pub type Offsets = BTreeMap<PartitionName, Committed>;

/// Those that are older than `retention_ms`, counted from when they were committed or, if that is later,
/// from when the group was left by its last member.
pub fn expired(
    offsets: &Offsets,
    emptied_ms: i64,
    now_ms: i64,
    retention_ms: i64,
) -> Vec<PartitionName> {
    let is_over = |committed: &Committed| {
        now_ms.saturating_sub(committed.committed_ms.max(emptied_ms)) > retention_ms
    };
    offsets.iter().filter(|(_, o)| is_over(o)).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An offset of each partition from 0 on, committed then.
    fn offsets(committed_ms: &[i64]) -> Offsets {
        let of = |(partition, committed_ms): (u32, &i64)| {
            let committed = Committed {
                offset: 5,
                leader_epoch: -1,
                metadata: String::new(),
                topic_id: Uuid::nil(),
                committed_ms: *committed_ms,
            };
            (PartitionName { topic: "orders".to_owned(), partition }, committed)
        };
        (0..).zip(committed_ms).map(of).collect()
    }

    fn expired_numbers(offsets: &Offsets, emptied_ms: i64, now_ms: i64) -> Vec<u32> {
        let expired = expired(offsets, emptied_ms, now_ms, 100);
        expired.into_iter().map(|name| name.partition).collect()
    }

    #[test]
    fn it_counts_from_the_commit_or_from_when_the_last_member_left() {
        let offsets = offsets(&[1000, 1050, 1300]);
        assert_eq!(expired_numbers(&offsets, 0, 1100), [0; 0]);
        assert_eq!(expired_numbers(&offsets, 0, 1101), [0]);
        assert_eq!(expired_numbers(&offsets, 0, 1151), [0, 1]);
        // The last member has left later than it committed; or another has committed after that, from outside.
        assert_eq!(expired_numbers(&offsets, 1200, 1300), [0; 0]);
        assert_eq!(expired_numbers(&offsets, 1200, 1301), [0, 1]);
        assert_eq!(expired_numbers(&offsets, 1200, 1400), [0, 1]);
        assert_eq!(expired_numbers(&offsets, 1200, 1401), [0, 1, 2]);
        assert_eq!(expired_numbers(&offsets, 1200, 500), [0; 0], "a clock that went back");
    }
}
