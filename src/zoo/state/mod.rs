//! The cluster's state, and how commands change it.
//!
//! [`ClusterState::apply`] either changes the state and says what changed, or refuses and changes
//! nothing. What changed is a [`Delta`], which the log keeps and the brokers' copies follow.
//!
//! Epochs, all of which only grow:
//!
//! * a broker's: one for each of its starts. A message of an earlier life is refused by it;
//! * a leader's: one for each leader of a partition, or spell without one;
//! * a partition's: one for each change of its state. A change names the one that it is made from, so
//!   that of two made from the same one comes first and the other is refused (compare and set).
//!
//! Rules and their numbers: KIP-497 (only the state changes the in-sync replicas), KIP-903 (a member
//! is named with its broker epoch), KIP-966 (eligible leader replicas).

mod brokers;
mod command;
mod delta;
mod election;
mod model;
mod partitions;
mod placement;
#[cfg(test)]
mod tests;
mod topics;

use std::collections::BTreeMap;

pub use command::{Adopted, AlterPartition, Change, Command, Member, Refused, Restart};
pub use delta::{Delta, Gap, TopicDelta};
use election::Electorate;
pub use model::{Broker, BrokerEpoch, LeaderEpoch, Move, Partition, PartitionEpoch, Topic};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What the mini-zookeeper knows of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    /// Of which cluster.
    pub cluster_id: Uuid,
    /// How many commands have changed it.
    pub version: u64,
    /// The brokers that have ever registered, by id.
    pub brokers: BTreeMap<u32, Broker>,
    /// The topics, by name.
    pub topics: BTreeMap<String, Topic>,
    /// What holds for topics that do not say, by the topic setting's name.
    pub defaults: BTreeMap<String, String>,
    /// Where the replicas of the next partition begin, among the brokers.
    next_place: u64,
}

impl ClusterState {
    /// A cluster without brokers and topics.
    pub fn new(cluster_id: Uuid) -> ClusterState {
        ClusterState {
            cluster_id,
            version: 0,
            brokers: BTreeMap::new(),
            topics: BTreeMap::new(),
            defaults: BTreeMap::new(),
            next_place: 0,
        }
    }

    /// Does what the command says; answers what changed. Refused, it has changed nothing.
    pub fn apply(&mut self, command: &Command) -> Result<Vec<Change>, Refused> {
        let changes = self.change(command)?;
        self.version += u64::from(!changes.is_empty());
        Ok(changes)
    }

    /// Each command looks first, and changes something only when nothing can be refused any more.
    fn change(&mut self, command: &Command) -> Result<Vec<Change>, Refused> {
        match command {
            Command::Register { id, incarnation, address, rack, restart } => {
                self.register(*id, *incarnation, address, rack.as_deref(), *restart)
            }
            Command::Unfence { id, epoch } => self.unfence(*id, *epoch),
            Command::Fence { id, epoch } => self.fence(*id, *epoch),
            Command::BeginShutdown { id, epoch } => self.begin_shutdown(*id, *epoch),
            Command::CreateTopic { name, id, partitions, replication_factor, settings } => {
                self.create_topic(name, *id, *partitions, *replication_factor, settings)
            }
            Command::AddPartitions { name, total } => self.add_partitions(name, *total),
            Command::AlterTopic { name, settings } => self.alter_topic(name, settings),
            Command::SetDefaults { defaults } => Ok(self.set_defaults(defaults)),
            Command::DeleteTopic { name, id } => self.delete_topic(name, *id),
            Command::AdoptTopic { name, topic } => self.adopt_topic(name, topic),
            Command::LoseReplicas { id, epoch, partitions } => {
                self.lose_replicas(*id, *epoch, partitions)
            }
            Command::AlterPartition(alter) => self.alter_partition(alter),
            Command::ElectPreferred { topic, partition } => self.elect_preferred(topic, *partition),
            Command::ElectUnclean { topic, partition } => self.elect_unclean(topic, *partition),
            Command::Move { topic, partition, replicas, throttle } => {
                self.move_partition(topic, *partition, replicas, *throttle)
            }
            Command::CancelMove { topic, partition } => self.cancel_move(topic, *partition),
        }
    }
}
