//! Which brokers get a new partition.

use std::collections::BTreeMap;

use super::ClusterState;
use super::command::Refused;
use super::model::Broker;

impl ClusterState {
    /// Replicas for so many new partitions, each on `replication_factor` brokers: first replicas spread
    /// over all brokers in turn, the replicas of one over racks as far as there are racks. Brokers that
    /// do not live get the last replicas, and only if those that live are too few (as in Kafka): a
    /// broker that is down or just starting keeps nobody from having a topic.
    pub fn places(
        &self,
        partitions: u32,
        replication_factor: u32,
    ) -> Result<Vec<Vec<u32>>, Refused> {
        let brokers = self.brokers_by_rack(|broker| !broker.fenced && !broker.stopping);
        let absent = self.brokers_by_rack(|broker| broker.fenced || broker.stopping);
        let (known, asked) = (self.brokers.len() as u32, replication_factor);
        if brokers.is_empty() || asked == 0 || asked > known {
            return Err(Refused::TooFewBrokers { alive: brokers.len() as u32, known, asked });
        }
        let count = brokers.len();
        let followers = (asked as usize).min(count) - 1;
        let late = asked as usize - 1 - followers;
        let place = |number: u64| {
            let first = (number % count as u64) as usize;
            // The followers of neighbours begin at different brokers: when one dies, all others share
            // its leaderships.
            let shift = (number / count as u64) as usize;
            let follower = |at| (first + 1 + (at + shift) % (count - 1)) % count;
            let mut replicas = vec![brokers[first]];
            self.spread(&mut replicas, (0..count - 1).map(|at| brokers[follower(at)]), followers);
            let from = first % absent.len().max(1);
            self.spread(&mut replicas, [&absent[from..], &absent[..from]].concat(), late);
            replicas
        };
        Ok((0..u64::from(partitions)).map(|at| place(self.next_place + at)).collect())
    }

    /// Adds so many of `candidates`: of those whose rack has the fewest replicas yet, the first.
    fn spread(
        &self,
        replicas: &mut Vec<u32>,
        candidates: impl IntoIterator<Item = u32>,
        count: usize,
    ) {
        let rack = |id: u32| self.brokers.get(&id).and_then(|broker| broker.rack.as_deref());
        let mut candidates: Vec<u32> = candidates.into_iter().collect();
        for _ in 0..count {
            let neighbours = |id: u32| {
                let same = |other: &&u32| rack(id).is_some() && rack(**other) == rack(id);
                replicas.iter().filter(same).count()
            };
            let best = (0..candidates.len()).min_by_key(|at| neighbours(candidates[*at]));
            let Some(best) = best else { return };
            replicas.push(candidates.remove(best));
        }
    }

    /// These brokers; neighbours are of different racks where they can be.
    fn brokers_by_rack(&self, these: impl Fn(&Broker) -> bool) -> Vec<u32> {
        let mut racks: BTreeMap<Option<&str>, Vec<u32>> = BTreeMap::new();
        for (id, broker) in self.brokers.iter().filter(|(_, broker)| these(broker)) {
            racks.entry(broker.rack.as_deref()).or_default().push(*id);
        }
        let longest = racks.values().map(Vec::len).max().unwrap_or(0);
        let rounds =
            (0..longest).flat_map(|at| racks.values().filter_map(move |rack| rack.get(at)));
        rounds.copied().collect()
    }
}
