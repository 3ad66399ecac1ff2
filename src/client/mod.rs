//! The client library, on tokio.
//!
//! * [`Cluster`]: connections and metadata, shared by all that follow.
//! * [`Producer`]: collects records into batches, sends them again until they are acknowledged.
//! * [`Consumer`]: reads partitions from given offsets on.
//! * [`Admin`]: topics, settings, offsets.
//!
//! Inside, the rules are apart from the sockets: `accumulator` and `partitioner` are pure, the
//! drivers around them are tasks.
//!
//! What it does not do yet: a retransmission after a lost acknowledgement can store a record
//! twice (idempotence is not built), and consumers are assigned their partitions by hand (groups
//! are not built).

mod accumulator;
mod admin;
mod backoff;
mod by_leader;
mod cluster;
mod connection;
mod consumer;
mod error;
mod partitioner;
mod producer;

pub use accumulator::{Delivery, Receipt};
pub use admin::{Admin, offsets};
pub use cluster::{Cluster, ClusterSettings, TopicInfo};
pub(crate) use connection::Connection;
pub use consumer::{Consumer, ConsumerSettings, FetchedBatches, OffsetReset, StartAt};
pub use error::ClientError;
pub use partitioner::{murmur2, partition_of_key};
pub use producer::{Acks, Producer, ProducerRecord, ProducerSettings};
