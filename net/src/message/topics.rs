//! Topics: create, delete, describe, alter, grow.

use uuid::Uuid;

use super::{choice, message};
use crate::fault::Fault;

message! {
    /// Creates topics. Each is created whole or not at all.
    pub struct CreateTopics {
        /// Which.
        pub topics: Vec<NewTopic>,
        /// Only say whether it would work.
        pub validate_only: bool,
    }

    /// A topic to create.
    pub struct NewTopic {
        /// Its name.
        pub name: String,
        /// How many partitions; `None`: the broker's `num.partitions`.
        pub partitions: Option<u32>,
        /// How many replicas; `None`: the broker's default.
        pub replication_factor: Option<u16>,
        /// Its own settings.
        pub settings: Vec<Setting>,
    }

    /// A setting and its value.
    pub struct Setting {
        /// Its name.
        pub name: String,
        /// Its value, as people write it.
        pub value: String,
    }

    /// One result a topic, in the order asked for.
    pub struct CreateTopicsResponse {
        /// The results.
        pub topics: Vec<CreatedTopic>,
    }

    /// What became of a topic to create.
    pub struct CreatedTopic {
        /// Its name.
        pub name: String,
        /// Its id and number of partitions.
        pub result: Result<(Uuid, u32), Fault>,
    }

    /// Deletes topics with all their records.
    pub struct DeleteTopics {
        /// Which.
        pub names: Vec<String>,
    }

    /// One result a topic, in the order asked for.
    pub struct DeleteTopicsResponse {
        /// The results.
        pub topics: Vec<TopicResult>,
    }

    /// What became of a topic.
    pub struct TopicResult {
        /// Its name.
        pub name: String,
        /// Done, or why not.
        pub result: Result<(), Fault>,
    }

    /// Asks for settings and sizes of topics.
    pub struct DescribeTopics {
        /// Which; `None` is all.
        pub names: Option<Vec<String>>,
    }

    /// One result a topic, in the order asked for.
    pub struct DescribeTopicsResponse {
        /// The results.
        pub topics: Vec<(String, Result<DescribedTopic, Fault>)>,
    }

    /// A topic in full.
    pub struct DescribedTopic {
        /// Its id.
        pub topic_id: Uuid,
        /// When it was created, in milliseconds since 1970.
        pub created_ms: i64,
        /// Every setting that a topic has.
        pub settings: Vec<DescribedSetting>,
        /// Its partitions, from 0 on.
        pub partitions: Vec<DescribedPartition>,
    }

    /// A setting and where its value comes from.
    pub struct DescribedSetting {
        /// Its name.
        pub name: String,
        /// The value that holds.
        pub value: String,
        /// Who set it.
        pub source: SettingSource,
    }

    /// A partition in full, as this broker has it.
    pub struct DescribedPartition {
        /// Its number.
        pub partition: u32,
        /// First offset that is served.
        pub log_start_offset: u64,
        /// Consumers see records below.
        pub high_watermark: u64,
        /// Offset that the next record gets.
        pub log_end_offset: u64,
        /// Bytes of its batches.
        pub size_bytes: u64,
        /// How many segments it has.
        pub segments: u32,
        /// How far the followers that have fetched are, by their ids: each has everything before this
        /// offset. Empty if this broker does not lead it.
        pub follower_ends: Vec<(u32, u64)>,
        /// Why it is not served, if it is not.
        pub fault: Option<Fault>,
        /// Why it takes no more records, or the first damage that was found in it since the broker
        /// started.
        pub damage: Option<String>,
    }

    /// Changes a topic's own settings.
    pub struct AlterTopic {
        /// Which topic.
        pub name: String,
        /// Settings to set.
        pub set: Vec<Setting>,
        /// Settings that are to follow the broker's again.
        pub unset: Vec<String>,
        /// Only say whether it would work.
        pub validate_only: bool,
    }

    /// The topic's own settings after the change, and what its retention takes away with them.
    pub struct AlterTopicResponse {
        /// The settings.
        pub settings: Vec<Setting>,
        /// Partitions of which something is or would be removed.
        pub removals: Vec<Removal>,
    }

    /// What retention takes away from a partition when it is looked at next.
    pub struct Removal {
        /// Its number.
        pub partition: u32,
        /// How many segments go.
        pub segments: u32,
        /// Bytes of their batches.
        pub bytes: u64,
        /// First offset that stays.
        pub start: u64,
    }

    /// Lets a topic grow. Keys may go to other partitions from then on.
    pub struct AddPartitions {
        /// Which topic.
        pub name: String,
        /// How many partitions it is to have in all.
        pub total: u32,
        /// Only say whether it would work.
        pub validate_only: bool,
    }

    /// How many partitions there are now.
    pub struct AddPartitionsResponse {
        /// In all.
        pub partitions: u32,
    }
}

choice! {
    /// Who set a setting.
    pub enum SettingSource {
        /// Nobody: the default.
        Default = 0,
        /// The broker's.
        Broker = 1,
        /// The topic's own.
        Topic = 2,
    }
}

message! {
    /// Waits until a topic has more partitions than the client knows of.
    pub struct WatchTopics {
        /// The topics.
        pub topics: Vec<WatchedTopic>,
        /// How long it may wait.
        pub max_wait_ms: u32,
    }

    /// A topic as a client knows it.
    pub struct WatchedTopic {
        /// Its name.
        pub topic: String,
        /// Its id.
        pub topic_id: Uuid,
        /// How many partitions it has.
        pub partitions: u32,
    }

    /// What is worth to be asked for.
    pub struct WatchTopicsResponse {
        /// The topics that have more partitions, or are others of the same name; none: it has waited for long
        /// enough.
        pub grown: Vec<String>,
    }
}
