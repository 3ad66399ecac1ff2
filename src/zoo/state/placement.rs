//! Which brokers get a new partition.

use std::collections::BTreeMap;

use super::ClusterState;
use super::command::Refused;

impl ClusterState {
    /// Replicas for so many new partitions, each on `replication_factor` brokers that live: first
    /// replicas spread over all brokers in turn, the replicas of one over racks as far as there are
    /// racks.
    pub(super) fn places(
        &self,
        partitions: u32,
        replication_factor: u32,
    ) -> Result<Vec<Vec<u32>>, Refused> {
        let brokers = self.brokers_by_rack();
        let (alive, asked) = (brokers.len() as u32, replication_factor);
        if asked == 0 || asked > alive {
            return Err(Refused::TooFewBrokers { alive, asked });
        }
        let count = brokers.len();
        let place = |number: u64| {
            let first = (number % count as u64) as usize;
            // The followers of neighbours begin at different brokers: when one dies, all others share
            // its leaderships.
            let shift = (number / count as u64) as usize;
            let follower = |at| (first + 1 + (at + shift) % (count - 1).max(1)) % count;
            let all = std::iter::once(first).chain((0..asked as usize - 1).map(follower));
            all.map(|at| brokers[at]).collect()
        };
        Ok((0..u64::from(partitions)).map(|at| place(self.next_place + at)).collect())
    }

    /// The brokers that may get partitions; neighbours are of different racks where they can be.
    fn brokers_by_rack(&self) -> Vec<u32> {
        let mut racks: BTreeMap<Option<&str>, Vec<u32>> = BTreeMap::new();
        for (id, broker) in self.brokers.iter().filter(|(_, b)| !b.fenced && !b.stopping) {
            racks.entry(broker.rack.as_deref()).or_default().push(*id);
        }
        let longest = racks.values().map(Vec::len).max().unwrap_or(0);
        let rounds =
            (0..longest).flat_map(|at| racks.values().filter_map(move |rack| rack.get(at)));
        rounds.copied().collect()
    }
}
