//! Consumer groups. The leader of a partition of the offsets topic coordinates the groups whose names
//! fall to that partition: who is a member, who reads what, how far each has come. All of that is in
//! the partition's log, so whoever leads it next goes on where this one has stopped.
//!
//! What follows from what is in [`group`] and [`shard`], which know neither disk nor clock; records are
//! appended and answers sent by the [`coordinator`]'s thread.

pub mod ask;
pub mod assignor;
mod classic;
mod commit;
pub mod coordinator;
mod error;
pub mod find;
mod group;
mod held;
mod journal;
pub mod kafka;
pub mod led;
pub mod member;
mod offsets;
pub mod pattern;
mod record;
mod rounds;
pub mod serve;
mod shard;
pub mod subscription;
#[cfg(test)]
mod tests;

use mk_net::fault::{ErrorCode, Fault};
use uuid::Uuid;

use crate::client::partition_of_key;

/// The topic of what groups have done.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// An error if a topic is the brokers' own: what groups have done is not to be changed behind their backs,
/// with another number of partitions nobody would find it, and without compaction it would expire.
pub fn refuse_internal(topic: &str) -> Result<(), Fault> {
    match topic {
        OFFSETS_TOPIC => {
            let what = format!("'{topic}' is the brokers' own");
            Err(Fault::new(ErrorCode::POLICY_VIOLATION, what))
        }
        _ => Ok(()),
    }
}

/// The partition of the offsets topic that has a group.
pub fn partition_of_group(group: &str, partitions: u32) -> u32 {
    partition_of_key(group.as_bytes(), partitions)
}

/// A partition of a topic; another topic of the same name is another.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct PartitionId {
    /// The topic's id.
    pub topic: Uuid,
    /// Its number in the topic, from 0.
    pub partition: u32,
}
