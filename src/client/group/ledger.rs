//! What a member reads, how far it was handed out, done and committed. Pure.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::client::cluster::PartitionKey;

/// The partitions that a member reads.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<PartitionKey, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    topic_id: Uuid,
    assignment: u64,
    /// Behind the last record that was handed out.
    delivered: u64,
    /// Behind the last record that is done.
    done: u64,
    /// The leader epoch of the last batch that was handed out.
    epoch: i32,
    /// What was committed last; none: nothing ever. Then where it begins is committed, too: who comes after
    /// begins there, and not behind what has come since.
    committed: Option<u64>,
    /// The group has not taken what was committed last.
    refused: bool,
    /// It goes to another: nothing more of it is handed out.
    leaving: bool,
    paused: bool,
}

/// An offset that is to be committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub key: PartitionKey,
    pub topic_id: Uuid,
    /// Of this assignment.
    assignment: u64,
    pub offset: u64,
    pub epoch: i32,
}

impl Ledger {
    /// A partition is read from `offset` on, by this assignment of the consumer; that is `committed`, or
    /// nothing is.
    pub fn begin(
        &mut self,
        key: PartitionKey,
        (topic_id, assignment): (Uuid, u64),
        offset: u64,
        committed: bool,
    ) {
        let entry = Entry {
            topic_id,
            assignment,
            delivered: offset,
            done: offset,
            epoch: -1,
            committed: committed.then_some(offset),
            refused: false,
            leaving: false,
            paused: false,
        };
        self.entries.insert(key, entry);
    }

    /// A partition is read from another offset on: that is how far the group has come.
    pub fn seek(&mut self, key: &PartitionKey, assignment: u64, offset: u64) {
        if let Some(entry) = self.entries.get_mut(key) {
            (entry.assignment, entry.delivered, entry.done) = (assignment, offset, offset);
            entry.committed = None;
        }
    }

    /// A partition is paused, or read again. False if it is not this member's.
    pub fn pause(&mut self, key: &PartitionKey, paused: bool) -> bool {
        self.entries.get_mut(key).map(|entry| entry.paused = paused).is_some()
    }

    /// True if a partition is paused.
    pub fn is_paused(&self, key: &PartitionKey) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.paused)
    }

    /// What is paused: topics' ids and numbers.
    pub fn paused(&self) -> Vec<(Uuid, u32)> {
        let paused = self.entries.iter().filter(|(_, entry)| entry.paused);
        paused.map(|(key, entry)| (entry.topic_id, key.1)).collect()
    }

    /// A partition is not read any more.
    pub fn end(&mut self, key: &PartitionKey) {
        self.entries.remove(key);
    }

    /// The partitions that are read.
    pub fn partitions(&self) -> impl Iterator<Item = &PartitionKey> {
        self.entries.keys()
    }

    /// True if what was fetched for this assignment, from an offset on, is to be handed out; takes note that it
    /// is, up to `next`. Where the log has less than the group has read the consumer has gone back: so has the
    /// group then.
    pub fn deliver(
        &mut self,
        key: &PartitionKey,
        assignment: u64,
        (from, next): (u64, u64),
        epoch: i32,
    ) -> bool {
        let entry = self.entries.get_mut(key);
        let current = entry.filter(|entry| entry.assignment == assignment && !entry.leaving);
        let Some(entry) = current else { return false };
        if from < entry.delivered {
            (entry.done, entry.committed) = (from, None);
        }
        (entry.delivered, entry.epoch) = (next, epoch);
        true
    }

    /// True if this assignment of a partition holds, and is committed up to `offset`.
    pub fn is_committed(&self, key: &PartitionKey, assignment: u64, offset: u64) -> bool {
        self.entries.get(key).is_some_and(|entry| {
            let reached = entry.committed.is_some_and(|committed| committed >= offset);
            entry.assignment == assignment && reached && !entry.refused
        })
    }

    /// True if this assignment of a partition holds, and it does not go to another. Where it is read from, if
    /// it is begun once more.
    pub fn is_current(&self, key: &PartitionKey, assignment: u64) -> Option<(u64, i32)> {
        let entry = self.entries.get(key)?;
        let current = entry.assignment == assignment && !entry.leaving;
        current.then_some((entry.delivered, entry.epoch))
    }

    /// A partition is read by another assignment of the consumer, from where it was.
    pub fn begin_again(&mut self, key: &PartitionKey, assignment: u64) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.assignment = assignment;
        }
    }

    /// All that was handed out is done.
    pub fn done_with_all(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.done = entry.delivered);
    }

    /// All records of a partition before `offset` are done. False if they were not handed out by this
    /// assignment, so that another may have them by now.
    pub fn done(&mut self, key: &PartitionKey, offset: u64) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        if offset > entry.delivered {
            return false;
        }
        if offset > entry.done {
            (entry.done, entry.refused) = (offset, false);
        }
        true
    }

    /// The same for this assignment alone.
    pub fn done_in(&mut self, key: &PartitionKey, assignment: u64, offset: u64) -> bool {
        let is_it = self.entries.get(key).is_some_and(|entry| entry.assignment == assignment);
        is_it && self.done(key, offset)
    }

    /// A partition goes to another: nothing more of it is handed out.
    pub fn leave(&mut self, key: &PartitionKey) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.leaving = true;
        }
    }

    /// True if all that was handed out of a partition is done.
    pub fn is_done(&self, key: &PartitionKey) -> bool {
        self.entries.get(key).is_none_or(|entry| entry.done >= entry.delivered)
    }

    /// What is done and not committed.
    pub fn due(&self) -> Vec<Due> {
        let due = |(key, entry): (&PartitionKey, &Entry)| Due {
            key: key.clone(),
            topic_id: entry.topic_id,
            assignment: entry.assignment,
            offset: entry.done,
            epoch: entry.epoch,
        };
        self.entries.iter().filter(|(_, entry)| entry.is_due()).map(due).collect()
    }

    /// True if something of a partition is done and not committed.
    pub fn is_due(&self, key: &PartitionKey) -> bool {
        self.entries.get(key).is_some_and(Entry::is_due)
    }

    /// This is committed; or the group has refused it, and will not take it later either.
    pub fn settled(&mut self, due: &Due, taken: bool) {
        let entry = self.entries.get_mut(&due.key);
        if let Some(entry) = entry.filter(|entry| entry.assignment == due.assignment) {
            (entry.committed, entry.refused) = (Some(due.offset), !taken);
        }
    }
}

impl Entry {
    fn is_due(&self) -> bool {
        self.committed.is_none_or(|committed| committed < self.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: u32) -> PartitionKey {
        ("orders".into(), partition)
    }

    fn due(ledger: &Ledger) -> Vec<(u32, u64)> {
        ledger.due().into_iter().map(|due| (due.key.1, due.offset)).collect()
    }

    /// Partition 0 from a committed offset on, 1 from where nothing was.
    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        ledger.begin(key(0), (Uuid::nil(), 7), 10, true);
        ledger.begin(key(1), (Uuid::nil(), 8), 20, false);
        ledger
    }

    #[test]
    fn what_is_done_is_due_until_it_is_committed() {
        let mut ledger = ledger();
        assert_eq!(due(&ledger), [(1, 20)], "where it begins, for who comes after");
        assert!(ledger.deliver(&key(0), 7, (10, 15), 3));
        assert_eq!(due(&ledger), [(1, 20)], "it is not done");
        assert!(!ledger.is_done(&key(0)));
        assert!(!ledger.done(&key(0), 16), "that was not handed out");
        assert!(ledger.done(&key(0), 12));
        assert_eq!(due(&ledger), [(0, 12), (1, 20)]);
        ledger.done_with_all();
        assert!(ledger.is_done(&key(0)));
        let all = ledger.due();
        assert_eq!((all[0].offset, all[0].epoch), (15, 3));
        all.iter().for_each(|due| ledger.settled(due, true));
        assert_eq!(due(&ledger), []);
    }

    /// A log that was cut had less than the group had read: the consumer went back, the group did not, and
    /// whoever came next skipped what had come meanwhile.
    #[test]
    fn a_group_goes_back_with_the_log() {
        let mut ledger = ledger();
        assert!(ledger.deliver(&key(0), 7, (3, 8), 4));
        assert!(!ledger.is_done(&key(0)), "it was handed out anew");
        assert_eq!(due(&ledger), [(0, 3), (1, 20)]);
        ledger.done_with_all();
        assert_eq!(due(&ledger), [(0, 8), (1, 20)]);
    }

    /// A partition that had gone counted as committed, and a batch of it was handed out that another had.
    #[test]
    fn what_is_refused_or_gone_is_not_committed() {
        let mut ledger = ledger();
        ledger.deliver(&key(0), 7, (10, 15), 3);
        ledger.done_with_all();
        let all = ledger.due();
        ledger.settled(&all[0], false);
        assert!(!ledger.is_committed(&key(0), 7, 15));
        ledger.settled(&all[0], true);
        assert!(ledger.is_committed(&key(0), 7, 15));
        assert!(!ledger.is_committed(&key(0), 7, 16) && !ledger.is_committed(&key(0), 6, 15));
        ledger.end(&key(0));
        assert!(!ledger.is_committed(&key(0), 7, 15));
    }

    /// What was fetched for an assignment that is over came when the partition was back: the records
    /// between were skipped.
    #[test]
    fn what_is_of_another_assignment_or_leaves_is_not_handed_out() {
        let mut ledger = ledger();
        assert!(!ledger.deliver(&key(0), 6, (10, 15), 3));
        ledger.leave(&key(0));
        assert!(!ledger.deliver(&key(0), 7, (10, 15), 3));
        ledger.end(&key(0));
        assert!(!ledger.deliver(&key(0), 7, (10, 15), 3));
        assert!(!ledger.done(&key(0), 12));
        assert!(ledger.is_done(&key(0)));
    }
}
