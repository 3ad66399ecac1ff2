//! What those who run a cluster ask for.

use uuid::Uuid;

use super::{choice, message};
use crate::fault::Fault;

message! {
    /// Asks for the cluster as its mini-zookeeper has it.
    pub struct DescribeCluster {
        /// True: ask the mini-zookeeper itself; false: what this broker knows will do.
        pub ask_zookeeper: bool,
    }

    /// The cluster.
    pub struct DescribeClusterResponse {
        /// Its id.
        pub cluster_id: String,
        /// How often its state has changed.
        pub state_version: u64,
        /// Where its mini-zookeeper is; empty if this broker carries it inside.
        pub zookeeper: String,
        /// Why it was asked in vain, if it was.
        pub zookeeper_fault: Option<Fault>,
        /// The broker that answers.
        pub answered_by: u32,
        /// All brokers that have ever registered.
        pub brokers: Vec<DescribedBroker>,
        /// Partitions that are being moved.
        pub moves: Vec<DescribedMove>,
    }

    /// A broker.
    pub struct DescribedBroker {
        /// Its id.
        pub id: u32,
        /// HOST:PORT for clients.
        pub address: String,
        /// Its rack, if it has one.
        pub rack: Option<String>,
        /// Of its present life.
        pub epoch: u64,
        /// True while it is not to lead, nor to be in sync.
        pub fenced: bool,
        /// True once it is about to stop.
        pub stopping: bool,
        /// How long ago it was heard of, in milliseconds, if the mini-zookeeper was asked.
        pub heard_ms: Option<u64>,
    }

    /// A partition on its way.
    pub struct DescribedMove {
        /// Its topic.
        pub topic: String,
        /// Its number.
        pub partition: u32,
        /// The replicas that it had.
        pub from: Vec<u32>,
        /// Those that it is to have.
        pub to: Vec<u32>,
        /// Those of them that have caught up.
        pub arrived: Vec<u32>,
        /// How fast each new replica may fetch, in bytes a second; `None`: as fast as it can.
        pub throttle: Option<u64>,
    }

    /// Names a partition.
    pub struct PartitionOf {
        /// Its topic.
        pub topic: String,
        /// Its number.
        pub partition: u32,
    }

    /// Elects leaders by hand.
    pub struct ElectLeaders {
        /// Which replica is to lead.
        pub election: Election,
        /// Of which partitions; `None`: of all that it makes sense for.
        pub partitions: Option<Vec<PartitionOf>>,
    }

    /// One result a partition that something was to be done for.
    pub struct ElectLeadersResponse {
        /// The leader now, or why it did not change.
        pub partitions: Vec<(PartitionOf, Result<Option<u32>, Fault>)>,
    }

    /// Gives partitions other replicas, or calls that off.
    pub struct MovePartitions {
        /// The moves.
        pub moves: Vec<PartitionMove>,
    }

    /// A partition, and where it goes.
    pub struct PartitionMove {
        /// Which.
        pub partition: PartitionOf,
        /// Its replicas, the preferred leader first; `None`: it stays where it was.
        pub replicas: Option<Vec<u32>>,
        /// How fast each new replica may fetch, in bytes a second, more than 0; `None`: as fast as it can.
        pub throttle: Option<u64>,
    }

    /// One result a move, in the same order.
    pub struct MovePartitionsResponse {
        /// The state has all that has begun from this version on.
        pub state_version: u64,
        /// Begun, or why not.
        pub moves: Vec<Result<(), Fault>>,
    }

    /// Asks for what has happened.
    pub struct ClusterEvents {
        /// Events behind this one; 0: from the oldest that is kept on.
        pub after: u64,
        /// At most so many, the newest of them; 0: all that are kept.
        pub most: u32,
    }

    /// What has happened, oldest first.
    pub struct ClusterEventsResponse {
        /// Which cluster.
        pub cluster_id: Uuid,
        /// The events.
        pub events: Vec<ClusterEvent>,
    }

    /// Something that has happened.
    pub struct ClusterEvent {
        /// Larger than that of the one before.
        pub id: u64,
        /// When, in milliseconds since 1970, by the mini-zookeeper's clock.
        pub at_ms: i64,
        /// What, in one word, such as "fenced".
        pub kind: String,
        /// The broker that it is about, if it is about one.
        pub broker: Option<u32>,
        /// The partition that it is about, if it is about one.
        pub partition: Option<PartitionOf>,
        /// What, for people.
        pub text: String,
    }
}

choice! {
    /// Which replica is to lead.
    pub enum Election {
        /// The first of the replicas, if it is in sync.
        Preferred = 0,
        /// Any replica that lives, of a partition that nobody leads; records may be lost.
        Unclean = 1,
    }
}
