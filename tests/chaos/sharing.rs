//! What the members of a group were handed, what the offsets topic says of the group, and what must hold of
//! both.

use std::collections::BTreeMap;
use std::fmt;

use super::history::{Outcome, Written};

/// How a member has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was closed in good order, which began then.
    Closed { began_ms: i64 },
    /// It was to be closed, and could not commit what was done; that was told then.
    CloseFailed { at_ms: i64 },
    /// It was dropped, then.
    Vanished { at_ms: i64 },
}

/// A member, from when it joined.
#[derive(Clone, Debug)]
pub struct Life {
    /// The name of its client, which no other life has.
    pub client_id: String,
    /// None while it lives.
    pub end: Option<End>,
}

/// A record that a member was handed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handed {
    pub life: usize,
    pub partition: u32,
    pub offset: u64,
    pub number: u64,
    pub at_ms: i64,
}

/// When a record counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    AtLeastOnce,
    AtMostOnce,
}

/// All that a group was handed, in this order.
#[derive(Clone, Debug)]
pub struct Sharing {
    pub group: String,
    pub promise: Promise,
    pub lives: Vec<Life>,
    pub handed: Vec<Handed>,
}

/// What the offsets topic says of a group, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Partition and offset of each commit.
    pub commits: Vec<(u32, u64)>,
    /// When a member was removed, by the name of its client.
    pub removed_ms: BTreeMap<String, Vec<i64>>,
}

/// What must not be; each of a group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// Acknowledged, and no member was handed it, or something else in its place.
    Missed { number: u64, partition: u32, offset: u64 },
    /// A member was handed a record while nobody had been handed one before it.
    Hole { client_id: String, partition: u32, expected: u64, found: u64 },
    /// A record came twice, and neither the first member had died or was put out, nor the second.
    Twice { first: String, second: String, partition: u32, offset: u64 },
    /// What was committed has gone back.
    CommittedBack { partition: u32, before: u64, after: u64 },
    /// In the end the group has come so far, and not to the end.
    Behind { partition: u32, committed: Option<u64>, end: u64 },
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What was found, and counts.
#[derive(Debug, Default)]
pub struct Tally {
    pub broken: Vec<Broken>,
    pub lives: usize,
    pub vanished: usize,
    pub put_out: usize,
    pub close_failed: usize,
    pub handed: usize,
    /// Records that came twice, and how long before its end the first member was handed the oldest of them.
    pub twice: usize,
    pub oldest_ms: i64,
    /// Records that nobody was handed.
    pub never: u64,
}

impl Sharing {
    pub fn new(group: &str, promise: Promise) -> Sharing {
        Sharing { group: group.to_owned(), promise, lives: Vec::new(), handed: Vec::new() }
    }

    /// Checks it, in partitions that end there.
    pub fn check(&self, written: &[Written], journal: &Journal, ends: &[u64]) -> Tally {
        let count = |which: &dyn Fn(&Life) -> bool| self.lives.iter().filter(|l| which(l)).count();
        let mut tally = Tally {
            lives: self.lives.len(),
            vanished: count(&|life| matches!(life.end, Some(End::Vanished { .. }))),
            close_failed: count(&|life| matches!(life.end, Some(End::CloseFailed { .. }))),
            put_out: count(&|life| journal.was_put_out(life).is_some()),
            handed: self.handed.len(),
            ..Tally::default()
        };
        let known = self.check_order(journal, &mut tally);
        let places: u64 = ends.iter().sum();
        tally.never = places.saturating_sub(known.len() as u64);
        if self.promise == Promise::AtLeastOnce {
            for &Written { number, partition, outcome, .. } in written {
                let Outcome::Acknowledged(offset) = outcome else { continue };
                if known.get(&(partition, offset)).is_none_or(|handed| handed.number != number) {
                    tally.broken.push(Broken::Missed { number, partition, offset });
                }
            }
        }
        journal.check(ends, &mut tally.broken);
        tally
    }

    /// Each record that is handed out follows one that was, or was handed out already. Answers the last time that
    /// each was.
    fn check_order(&self, journal: &Journal, tally: &mut Tally) -> BTreeMap<(u32, u64), Handed> {
        let mut known: BTreeMap<(u32, u64), Handed> = BTreeMap::new();
        let mut next: BTreeMap<u32, u64> = BTreeMap::new();
        for handed in &self.handed {
            let Handed { life, partition, offset, number, .. } = *handed;
            let client_id = self.lives[life].client_id.clone();
            let expected = next.entry(partition).or_default();
            if offset > *expected && self.promise == Promise::AtLeastOnce {
                let (expected, found) = (*expected, offset);
                tally.broken.push(Broken::Hole { client_id, partition, expected, found });
            }
            *expected = (*expected).max(offset + 1);
            let Some(before) = known.insert((partition, offset), *handed) else { continue };
            if before.number != number {
                tally.broken.push(Broken::Missed { number, partition, offset });
            }
            match self.excuse(&before, handed, journal) {
                Some(ended_ms) => {
                    tally.twice += 1;
                    tally.oldest_ms = tally.oldest_ms.max(ended_ms - before.at_ms);
                }
                None => {
                    let name = |handed: &Handed| self.lives[handed.life].client_id.clone();
                    let (first, second) = (name(&before), name(handed));
                    tally.broken.push(Broken::Twice { first, second, partition, offset });
                }
            }
        }
        known
    }

    /// When a member died or was put out, so that a record came twice; none: there is no excuse.
    fn excuse(&self, first: &Handed, second: &Handed, journal: &Journal) -> Option<i64> {
        if self.promise == Promise::AtMostOnce {
            return None;
        }
        let (one, other) = (&self.lives[first.life], &self.lives[second.life]);
        match one.end {
            Some(End::Vanished { at_ms } | End::CloseFailed { at_ms }) => Some(at_ms),
            _ => journal.was_put_out(one).or_else(|| journal.was_put_out(other)),
        }
    }
}

impl Journal {
    /// When a member was removed without having been closed. One that has heard of no coordinator for a session gives
    /// up what it has by itself, and is removed only when it is back: before it leaves, so twice.
    fn was_put_out(&self, life: &Life) -> Option<i64> {
        let latest = match life.end {
            Some(End::Closed { began_ms }) => began_ms,
            // Of one that vanished it is expected.
            Some(End::Vanished { .. }) => return None,
            Some(End::CloseFailed { .. }) | None => i64::MAX,
        };
        let removed = self.removed_ms.get(&life.client_id)?;
        let first = removed.first().copied();
        first.filter(|first| *first < latest || removed.len() > 1)
    }

    fn check(&self, ends: &[u64], broken: &mut Vec<Broken>) {
        let mut committed: BTreeMap<u32, u64> = BTreeMap::new();
        for (partition, after) in &self.commits {
            let before = committed.insert(*partition, *after).unwrap_or(0);
            if before > *after {
                let (partition, after) = (*partition, *after);
                broken.push(Broken::CommittedBack { partition, before, after });
            }
        }
        for (partition, end) in (0..).zip(ends.iter().copied()) {
            let committed = committed.get(&partition).copied();
            if committed != Some(end) {
                broken.push(Broken::Behind { partition, committed, end });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: End = End::Closed { began_ms: 50 };

    fn handed(life: usize, offset: u64) -> Handed {
        Handed { life, partition: 0, offset, number: offset + 10, at_ms: 40 + offset as i64 }
    }

    /// Four records, two of them handed to each of two members.
    fn good() -> (Sharing, Journal) {
        let life = |name: &str| Life { client_id: name.to_owned(), end: Some(CLOSED) };
        let handed = [(0, 0), (0, 1), (1, 2), (1, 3)].map(|(life, offset)| handed(life, offset));
        let sharing = Sharing {
            lives: vec![life("a"), life("b")],
            handed: handed.to_vec(),
            ..Sharing::new("g", Promise::AtLeastOnce)
        };
        let commits = vec![(0, 0), (0, 2), (0, 4)];
        // They leave after they were told to.
        let removed_ms = [("a", 51), ("b", 52)].map(|(name, ms)| (name.to_owned(), vec![ms]));
        (sharing, Journal { commits, removed_ms: removed_ms.into() })
    }

    fn broken(change: impl FnOnce(&mut Sharing, &mut Journal)) -> Vec<Broken> {
        let (mut sharing, mut journal) = good();
        change(&mut sharing, &mut journal);
        let written = (0..4).map(|offset| Written {
            writer: 0,
            partition: 0,
            number: offset + 10,
            outcome: Outcome::Acknowledged(offset),
        });
        sharing.check(&written.collect::<Vec<_>>(), &journal, &[4]).broken
    }

    fn twice(first: &str, second: &str, offset: u64) -> Broken {
        let (first, second) = (first.to_owned(), second.to_owned());
        Broken::Twice { first, second, partition: 0, offset }
    }

    #[test]
    fn a_group_that_is_handed_all_is_well() {
        assert_eq!(broken(|_, _| {}), []);
    }

    #[test]
    fn what_is_not_handed_out_is_missed_unless_once_at_most_was_promised() {
        let missed = Broken::Missed { number: 13, partition: 0, offset: 3 };
        assert_eq!(broken(|sharing, _| sharing.handed.truncate(3)), [missed]);
        let hole = broken(|sharing, _| {
            sharing.handed.remove(2);
        });
        let client_id = "b".to_owned();
        let expected = [
            Broken::Hole { client_id, partition: 0, expected: 2, found: 3 },
            Broken::Missed { number: 12, partition: 0, offset: 2 },
        ];
        assert_eq!(hole, expected);
        let at_most_once = broken(|sharing, _| {
            sharing.promise = Promise::AtMostOnce;
            sharing.handed.remove(2);
        });
        assert_eq!(at_most_once, []);
    }

    #[test]
    fn a_record_comes_twice_only_if_a_member_has_died_or_was_put_out() {
        let again = |sharing: &mut Sharing| sharing.handed.insert(2, handed(1, 1));
        assert_eq!(broken(|sharing, _| again(sharing)), [twice("a", "b", 1)]);
        for end in [End::Vanished { at_ms: 45 }, End::CloseFailed { at_ms: 60 }] {
            let died = |sharing: &mut Sharing| {
                again(sharing);
                sharing.lives[0].end = Some(end);
            };
            assert_eq!(broken(|sharing, _| died(sharing)), []);
            let at_most_once = broken(|sharing, _| {
                died(sharing);
                sharing.promise = Promise::AtMostOnce;
            });
            assert_eq!(at_most_once, [twice("a", "b", 1)]);
        }
        for name in ["a", "b"] {
            let put_out = broken(|sharing, journal| {
                again(sharing);
                journal.removed_ms.get_mut(name).unwrap().insert(0, 45);
            });
            assert_eq!(put_out, []);
        }
        // Its session ended while no coordinator was there, and it was closed before one knew.
        let back = broken(|sharing, journal| {
            again(sharing);
            journal.removed_ms.insert("a".to_owned(), vec![51, 52]);
        });
        assert_eq!(back, []);
        let heir = broken(|sharing, _| {
            again(sharing);
            sharing.lives[1].end = Some(End::Vanished { at_ms: 45 });
        });
        assert_eq!(heir, [twice("a", "b", 1)], "who came after has died, who was first has not");
    }

    #[test]
    fn what_is_committed_does_not_go_back_and_comes_to_the_end() {
        let back = Broken::CommittedBack { partition: 0, before: 2, after: 1 };
        assert_eq!(broken(|_, journal| journal.commits.insert(2, (0, 1))), [back]);
        let behind = Broken::Behind { partition: 0, committed: Some(2), end: 4 };
        assert_eq!(broken(|_, journal| journal.commits.truncate(2)), [behind]);
    }
}
