//! What a member of a group knows of its membership, and what it says next. Pure: answers come in, what is
//! to be said, taken and given up goes out.

use std::collections::BTreeSet;
use std::hash::Hash;

/// The epoch of a member that is not in the group yet.
const JOIN: i32 = 0;

/// What a member says next; `P` names a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Says<P> {
    /// The epoch that it knows.
    pub epoch: i32,
    /// True if it says all of itself.
    pub whole: bool,
    /// What it reads, if that is new.
    pub owned: Option<BTreeSet<P>>,
    /// Which answer told it last what to read.
    pub seen: u32,
    /// Numbers what it says, from 1.
    pub beat: u32,
}

/// A membership.
///
/// At most two heartbeats are on their way: one that waits for news at the coordinator, and one that tells
/// the coordinator something.
#[derive(Clone, Debug)]
pub struct Membership<P> {
    epoch: i32,
    seen: u32,
    /// What it was told to read; nothing was said yet if none.
    target: Option<BTreeSet<P>>,
    /// What it reads, or has not given up yet.
    owned: BTreeSet<P>,
    /// What it has said last, of what it had seen then.
    said: Option<(u32, BTreeSet<P>)>,
    /// True until all of it was said to this coordinator.
    whole_due: bool,
    under_way: usize,
    /// How often it has said something.
    beats: u32,
}

impl<P: Copy + Ord + Hash> Default for Membership<P> {
    fn default() -> Membership<P> {
        Membership {
            epoch: JOIN,
            seen: 0,
            target: None,
            owned: BTreeSet::new(),
            said: None,
            whole_due: true,
            under_way: 0,
            beats: 0,
        }
    }
}

impl<P: Copy + Ord + Hash> Membership<P> {
    /// The epoch in which it is; 0 while it is not in the group.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// What it reads, or has not given up yet.
    #[cfg(test)]
    pub fn owned(&self) -> &BTreeSet<P> {
        &self.owned
    }

    /// What is to be said now, if anything is.
    pub fn next(&mut self) -> Option<Says<P>> {
        let is_news = self.whole_due
            || self
                .said
                .as_ref()
                .is_some_and(|(seen, owned)| *seen != self.seen || *owned != self.owned);
        // Before the first answer it is not known who it is.
        let most = if is_news && !self.whole_due { 2 } else { 1 };
        if self.under_way >= most {
            return None;
        }
        self.under_way += 1;
        self.beats += 1;
        let whole = std::mem::take(&mut self.whole_due);
        let owned = is_news.then(|| self.owned.clone());
        if is_news {
            self.said = Some((self.seen, self.owned.clone()));
        }
        let seen = if whole { 0 } else { self.seen };
        Some(Says { epoch: self.epoch, whole, owned, seen, beat: self.beats })
    }

    /// The coordinator has answered: the epoch, and what to read with the count of that answer. The answers to
    /// two heartbeats may come in either order: both only grow.
    pub fn answered(&mut self, epoch: i32, assigned: Option<(u32, BTreeSet<P>)>) {
        self.under_way = self.under_way.saturating_sub(1);
        self.epoch = self.epoch.max(epoch);
        if let Some((count, target)) = assigned
            && (count > self.seen || self.target.is_none())
        {
            self.seen = count;
            self.target = Some(target);
        }
    }

    /// The coordinator cannot be reached, or is another now: answers of it do not count any more. Nothing is
    /// taken until there is an answer to all that is said then: it may be another's by now.
    pub fn disconnected(&mut self) {
        self.under_way = 0;
        self.seen = 0;
        self.target = None;
        self.whole_due = true;
    }

    /// The coordinator does not know it any more: others may read by now what it has. Answers what that
    /// is; it joins anew.
    pub fn expelled(&mut self) -> BTreeSet<P> {
        let lost = std::mem::take(&mut self.owned);
        // What was said before is older than what comes.
        *self = Membership { beats: self.beats, ..Membership::default() };
        lost
    }

    /// True if it was told what to read since it said all of itself.
    pub fn is_told(&self) -> bool {
        self.target.is_some()
    }

    /// What is to be given up.
    pub fn to_release(&self) -> BTreeSet<P> {
        let Some(target) = &self.target else { return BTreeSet::new() };
        self.owned.difference(target).copied().collect()
    }

    /// What is to be read and is not yet.
    pub fn to_take(&self) -> BTreeSet<P> {
        let Some(target) = &self.target else { return BTreeSet::new() };
        target.difference(&self.owned).copied().collect()
    }

    /// It does not read these any more.
    pub fn released(&mut self, partitions: &BTreeSet<P>) {
        self.owned.retain(|partition| !partitions.contains(partition));
    }

    /// It reads these from now on.
    pub fn taken(&mut self, partitions: &BTreeSet<P>) {
        self.owned.extend(partitions);
    }
}
