//! Requests that wait: a fetch for records, a produce for the disk. Pure: time is passed in.
//!
//! A waiting request costs its entry here and nothing else: no thread, no timer of its own, no
//! look at it until a partition that it waits for moves or its deadline passes.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// Names a request that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// The requests of one event loop that wait. `T` is what must be known to answer one.
#[derive(Debug)]
pub struct Waiting<T> {
    next: u64,
    entries: HashMap<Ticket, Entry<T>>,
    deadlines: BTreeSet<(Instant, Ticket)>,
    by_partition: HashMap<u64, BTreeSet<Ticket>>,
}

#[derive(Debug)]
struct Entry<T> {
    request: T,
    deadline: Instant,
    partitions: Vec<u64>,
}

impl<T> Default for Waiting<T> {
    fn default() -> Waiting<T> {
        Waiting {
            next: 0,
            entries: HashMap::new(),
            deadlines: BTreeSet::new(),
            by_partition: HashMap::new(),
        }
    }
}

impl<T> Waiting<T> {
    /// Lets a request wait for any of the partitions (by serial number), at most until `deadline`.
    pub fn park(&mut self, request: T, partitions: Vec<u64>, deadline: Instant) -> Ticket {
        let ticket = Ticket(self.next);
        self.next += 1;
        for partition in &partitions {
            self.by_partition.entry(*partition).or_default().insert(ticket);
        }
        self.deadlines.insert((deadline, ticket));
        self.entries.insert(ticket, Entry { request, deadline, partitions });
        ticket
    }

    /// The requests that wait for a partition, oldest first.
    pub fn waiting_for(&self, partition: u64) -> Vec<Ticket> {
        self.by_partition.get(&partition).into_iter().flatten().copied().collect()
    }

    /// The request of a ticket, if it still waits.
    pub fn request(&self, ticket: Ticket) -> Option<&T> {
        self.entries.get(&ticket).map(|entry| &entry.request)
    }

    /// The request of a ticket, to be changed while it waits on.
    pub fn request_mut(&mut self, ticket: Ticket) -> Option<&mut T> {
        self.entries.get_mut(&ticket).map(|entry| &mut entry.request)
    }

    /// Lets a request wait at most until `deadline`, if it would wait for longer.
    pub fn hasten(&mut self, ticket: Ticket, deadline: Instant) {
        if let Some(entry) = self.entries.get_mut(&ticket)
            && deadline < entry.deadline
        {
            self.deadlines.remove(&(entry.deadline, ticket));
            self.deadlines.insert((deadline, ticket));
            entry.deadline = deadline;
        }
    }

    /// Ends the wait of a request.
    pub fn take(&mut self, ticket: Ticket) -> Option<T> {
        let entry = self.entries.remove(&ticket)?;
        self.deadlines.remove(&(entry.deadline, ticket));
        for partition in entry.partitions {
            if let Some(tickets) = self.by_partition.get_mut(&partition) {
                tickets.remove(&ticket);
                if tickets.is_empty() {
                    self.by_partition.remove(&partition);
                }
            }
        }
        Some(entry.request)
    }

    /// Ends the wait of the request whose deadline comes next.
    pub fn take_first(&mut self) -> Option<T> {
        let (_, ticket) = *self.deadlines.first()?;
        self.take(ticket)
    }

    /// Ends the wait of one request whose deadline is `now` or before.
    pub fn take_expired(&mut self, now: Instant) -> Option<T> {
        let (deadline, ticket) = *self.deadlines.first()?;
        if deadline <= now { self.take(ticket) } else { None }
    }

    /// Ends the wait of all requests that `matches` picks.
    pub fn take_all(&mut self, matches: impl Fn(&T) -> bool) -> Vec<T> {
        let gone: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| matches(&entry.request))
            .map(|(ticket, _)| *ticket)
            .collect();
        gone.into_iter().filter_map(|ticket| self.take(ticket)).collect()
    }

    /// When the next deadline passes.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn requests_are_found_by_partition_and_by_deadline() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut waiting = Waiting::default();
        let a = waiting.park("a", vec![1, 2], at(5));
        let b = waiting.park("b", vec![2], at(3));
        let c = waiting.park("c", vec![], at(3));
        assert_eq!(waiting.waiting_for(2), [a, b]);
        assert_eq!(waiting.waiting_for(1), [a]);
        assert_eq!(waiting.waiting_for(9), []);
        assert_eq!(waiting.next_deadline(), Some(at(3)));
        assert_eq!(waiting.take_expired(at(2)), None);
        assert_eq!(waiting.take_expired(at(3)), Some("b"));
        assert_eq!(waiting.take_expired(at(3)), Some("c"));
        assert_eq!(waiting.take(c), None);
        assert_eq!(waiting.request(a), Some(&"a"));
        assert_eq!(waiting.take(a), Some("a"));
        assert_eq!(waiting.take(b), None);
        assert!(waiting.entries.is_empty());
        assert!(waiting.by_partition.is_empty() && waiting.deadlines.is_empty());
    }

    #[test]
    fn a_wait_is_made_shorter_and_never_longer() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut waiting = Waiting::default();
        let a = waiting.park("a", vec![1], at(5));
        waiting.hasten(a, at(9));
        assert_eq!(waiting.next_deadline(), Some(at(5)));
        waiting.hasten(a, at(2));
        assert_eq!(
            (waiting.next_deadline(), waiting.take_expired(at(2))),
            (Some(at(2)), Some("a"))
        );
        assert_eq!(waiting.next_deadline(), None);
    }

    #[test]
    fn what_a_closed_connection_waited_for_is_forgotten() {
        let now = Instant::now();
        let mut waiting = Waiting::default();
        for n in 0..10 {
            waiting.park(n, vec![n], now);
        }
        waiting.take_all(|n| n % 2 == 0);
        assert_eq!(waiting.entries.len(), 5);
        assert_eq!(waiting.waiting_for(4), []);
        assert_eq!(waiting.waiting_for(5).len(), 1);
    }
}
