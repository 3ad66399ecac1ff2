//! The client library, on tokio.
//!
//! * [`Cluster`]: connections and metadata, shared by all that follow.
//! * [`Producer`]: collects records into batches, sends them again until they are acknowledged; each is in
//!   the log once, in order.
//! * [`Consumer`]: reads partitions from given offsets on.
//! * [`GroupConsumer`]: a member of a group, whose members share partitions.
//! * [`Admin`]: topics, settings, offsets, groups.
//!
//! Inside, the rules are apart from the sockets: `accumulator`, `queue`, `partitioner`, `membership` and `ledger` are pure, the
//! drivers around them are tasks.

mod accumulator;
mod admin;
mod backoff;
mod batch;
mod by_leader;
mod cluster;
mod connection;
mod consumer;
mod error;
mod group;
mod landing;
mod partitioner;
mod producer;
mod queue;
mod retry;

pub use admin::{Admin, offsets};
#[cfg(any(test, feature = "simulation"))]
pub(crate) use batch::Number;
pub use batch::{Delivery, Receipt};
pub use cluster::{Cluster, ClusterSettings, TopicInfo};
pub(crate) use connection::Connection;
pub use consumer::{Consumer, ConsumerSettings, FetchedBatches, OffsetReset, StartAt};
pub use error::ClientError;
#[cfg(test)]
pub(crate) use group::membership::{Membership, Says};
pub use group::{Acknowledge, GroupConsumer, GroupSettings};
pub use partitioner::{murmur2, partition_of_key};
pub use producer::{Acks, Producer, ProducerRecord, ProducerSettings};
pub use retry::{Retry, RetryDecision, RetryInterceptor};
