//! Who serves what.

use uuid::Uuid;

use super::message;
use crate::fault::Fault;

message! {
    /// Asks what the broker speaks. Also the first thing to send to see whether it is one.
    pub struct ApiVersions {
        /// The client's name, for the broker's log.
        pub client_software_name: String,
        /// The client's version.
        pub client_software_version: String,
    }

    /// What the broker speaks.
    pub struct ApiVersionsResponse {
        /// The broker's software and its version.
        pub software: String,
        /// Every kind of request.
        pub kinds: Vec<KindVersions>,
        /// Largest frame that it reads, in bytes behind the header.
        pub max_frame_bytes: u32,
    }

    /// A kind of request.
    pub struct KindVersions {
        /// Its number.
        pub kind: u16,
        /// Oldest version.
        pub min_version: u16,
        /// Newest version.
        pub max_version: u16,
    }

    /// Asks for brokers and topics.
    pub struct Metadata {
        /// Which topics; `None` is all.
        pub topics: Option<Vec<String>>,
        /// Create topics named here that there are not, if the broker allows it.
        pub allow_auto_topic_creation: bool,
    }

    /// Brokers and topics.
    pub struct MetadataResponse {
        /// Id of the cluster.
        pub cluster_id: String,
        /// The brokers that run.
        pub brokers: Vec<BrokerAddress>,
        /// The topics asked for, in the order asked for; all of them by name.
        pub topics: Vec<TopicMetadata>,
    }

    /// Where a broker is.
    pub struct BrokerAddress {
        /// Its id.
        pub id: u32,
        /// Name or number of its host.
        pub host: String,
        /// Its port.
        pub port: u16,
        /// Its rack, if it has one.
        pub rack: Option<String>,
    }

    /// A topic, or why there is none.
    pub struct TopicMetadata {
        /// Its name.
        pub name: String,
        /// Where it is.
        pub result: Result<TopicPlaces, Fault>,
    }

    /// Where a topic is.
    pub struct TopicPlaces {
        /// Its id.
        pub topic_id: Uuid,
        /// Its partitions, from 0 on.
        pub partitions: Vec<PartitionMetadata>,
    }

    /// Where a partition is.
    pub struct PartitionMetadata {
        /// Its number.
        pub partition: u32,
        /// The broker that takes publishes, if there is one.
        pub leader: Option<u32>,
        /// The leader's epoch.
        pub leader_epoch: i32,
        /// Brokers that keep it.
        pub replicas: Vec<u32>,
        /// Those of them that have everything acknowledged.
        pub in_sync_replicas: Vec<u32>,
    }
}
