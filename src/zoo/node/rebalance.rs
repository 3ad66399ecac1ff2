//! Gives partitions back to their preferred leaders, so that after an incident the load is spread again.
//!
//! Not at once: a broker that comes and goes would take its partitions' leaderships along each time.

use std::collections::HashMap;
use std::time::Duration;

use uuid::Uuid;

use crate::zoo::state::{ClusterState, Command, PartitionEpoch};

/// Who waits for its leadership, and since when.
#[derive(Debug)]
pub(super) struct Rebalance {
    hold_down: Duration,
    waiting: HashMap<(Uuid, u32), Waiting>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// Any change of the partition, such as a replica that has left, begins the time anew.
    epoch: PartitionEpoch,
    since: Duration,
}

/// Elections of one look: clients of these ask for their new leaders all at once.
const MOST_AT_ONCE: usize = 100;

impl Rebalance {
    /// Nothing may have happened to a partition for so long.
    pub fn new(hold_down: Duration) -> Rebalance {
        Rebalance { hold_down, waiting: HashMap::new() }
    }

    /// The elections that are due. To be asked every now and then.
    pub fn due(&mut self, state: &ClusterState, now: Duration) -> Vec<Command> {
        let before = std::mem::take(&mut self.waiting);
        let mut due = Vec::new();
        for (name, topic) in &state.topics {
            for (number, partition) in (0..).zip(&topic.partitions) {
                // While it is moved it goes to another preferred leader anyway.
                if state.preferred_instead(partition).is_none() || partition.moving.is_some() {
                    continue;
                }
                let (key, epoch) = ((topic.id, number), partition.epoch);
                let known = before.get(&key).filter(|waiting| waiting.epoch == epoch);
                let waiting = known.copied().unwrap_or(Waiting { epoch, since: now });
                let is_due = now.saturating_sub(waiting.since) >= self.hold_down;
                if is_due && due.len() < MOST_AT_ONCE {
                    due.push(Command::ElectPreferred { topic: name.clone(), partition: number });
                }
                self.waiting.insert(key, waiting);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::zoo::state::{BrokerEpoch, Restart};

    const HOLD_DOWN: Duration = Duration::from_secs(30);

    fn at(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn epoch(state: &ClusterState, id: u32) -> BrokerEpoch {
        state.brokers[&id].epoch
    }

    fn fence(state: &mut ClusterState, id: u32) {
        let epoch = epoch(state, id);
        state.apply(&Command::Fence { id, epoch }).unwrap();
    }

    /// Two brokers, `partitions` with both of them, and broker 1 back from the dead: it leads nothing.
    fn after_an_incident(partitions: u32) -> ClusterState {
        let mut state = ClusterState::new(Uuid::from_u128(1));
        for id in [1, 2] {
            let (incarnation, restart) = (Uuid::from_u128(id.into()), Restart::Kept);
            let address = String::new();
            let register = Command::Register { id, incarnation, address, rack: None, restart };
            state.apply(&register).unwrap();
            let epoch = epoch(&state, id);
            state.apply(&Command::Unfence { id, epoch }).unwrap();
        }
        let (name, id, settings) = ("t".to_owned(), Uuid::from_u128(7), BTreeMap::new());
        let create = Command::CreateTopic { name, id, partitions, replication_factor: 2, settings };
        state.apply(&create).unwrap();
        fence(&mut state, 1);
        let epoch = epoch(&state, 1);
        state.apply(&Command::Unfence { id: 1, epoch }).unwrap();
        state
    }

    /// All of them are in sync again.
    fn caught_up(mut state: ClusterState) -> ClusterState {
        for partition in &mut state.topics.get_mut("t").unwrap().partitions {
            partition.isr = partition.replicas.clone();
        }
        state
    }

    #[test]
    fn a_preferred_leader_waits_until_nothing_has_happened_for_a_while() {
        let mut rebalance = Rebalance::new(HOLD_DOWN);
        let absent = after_an_incident(1);
        assert_eq!(rebalance.due(&absent, at(0)), [], "it is not in sync");
        assert_eq!(rebalance.due(&absent, at(100)), []);
        let mut state = caught_up(absent);
        assert_eq!(rebalance.due(&state, at(101)), []);
        assert_eq!(rebalance.due(&state, at(130)), []);
        // Something happens to the partition.
        state.topics.get_mut("t").unwrap().partitions[0].epoch.0 += 1;
        assert_eq!(rebalance.due(&state, at(131)), []);
        assert_eq!(rebalance.due(&state, at(160)), []);
        let due = rebalance.due(&state, at(161));
        assert_eq!(due, [Command::ElectPreferred { topic: "t".to_owned(), partition: 0 }]);
        state.apply(&due[0]).unwrap();
        assert_eq!(state.topics["t"].partitions[0].leader, Some(1));
        assert_eq!(rebalance.due(&state, at(999)), []);
    }

    #[test]
    fn who_went_away_in_between_begins_to_wait_anew() {
        let mut rebalance = Rebalance::new(HOLD_DOWN);
        let mut state = caught_up(after_an_incident(1));
        assert_eq!(rebalance.due(&state, at(0)), []);
        fence(&mut state, 1);
        assert_eq!(rebalance.due(&state, at(29)), []);
        let epoch = epoch(&state, 1);
        state.apply(&Command::Unfence { id: 1, epoch }).unwrap();
        let state = caught_up(state);
        assert_eq!(rebalance.due(&state, at(31)), []);
        assert_eq!(rebalance.due(&state, at(60)), []);
        assert_eq!(rebalance.due(&state, at(61)).len(), 1);
    }

    #[test]
    fn a_few_change_at_a_time() {
        let mut rebalance = Rebalance::new(HOLD_DOWN);
        let mut state = caught_up(after_an_incident(500));
        assert_eq!(rebalance.due(&state, at(0)), []);
        let preferred = |state: &ClusterState| {
            let partitions = &state.topics["t"].partitions;
            partitions.iter().filter(|p| p.leader == p.preferred()).count()
        };
        let before = preferred(&state);
        let mut looks = 0;
        while preferred(&state) < 500 {
            looks += 1;
            for command in rebalance.due(&state, at(30 + looks)) {
                state.apply(&command).unwrap();
            }
        }
        assert_eq!(looks, (500 - before as u64).div_ceil(MOST_AT_ONCE as u64));
    }
}
