//! Who can reach whom, and how long it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mk_storage::disk::Chance;

use super::message::{Class, Place};

/// The network.
#[derive(Debug, Default)]
pub struct Network {
    /// One way each; sessions and requests, or datagrams.
    cuts: BTreeSet<(Place, Place, bool)>,
    /// When the last message of a session came, so that none overtakes it.
    last: BTreeMap<(Place, Place), Duration>,
    /// Of 100 datagrams so many are lost.
    pub loss: u64,
    /// One message in so many takes long; 0: none does.
    pub slow: u64,
}

impl Network {
    /// Lets nothing through from one to the other any more.
    pub fn cut(&mut self, from: Place, to: Place, datagrams: bool) {
        self.cuts.insert((from, to, datagrams));
    }

    /// Lets everything through again.
    pub fn heal(&mut self) {
        self.cuts.clear();
        (self.loss, self.slow) = (0, 0);
    }

    /// When the message comes, each time that it does.
    pub fn send(
        &mut self,
        now: Duration,
        (from, to): (Place, Place),
        class: Class,
        chance: &mut Chance,
    ) -> Vec<Duration> {
        let datagram = class == Class::Datagram;
        if self.cuts.contains(&(from, to, datagram)) {
            return Vec::new();
        }
        if datagram && chance.below(100) < self.loss {
            return Vec::new();
        }
        let delay = |chance: &mut Chance| {
            let slow = self.slow > 0 && chance.one_in(self.slow);
            let us = if slow { chance.below(400_000) } else { 30 + chance.below(400) };
            now + Duration::from_micros(us)
        };
        let mut arrivals = vec![delay(chance)];
        if datagram && chance.one_in(20) {
            arrivals.push(delay(chance));
        }
        if class == Class::Session {
            let last = self.last.entry((from, to)).or_default();
            *last = arrivals[0].max(*last);
            arrivals[0] = *last;
        }
        arrivals
    }
}
