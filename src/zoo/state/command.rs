//! What may be asked of the state, and what it answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::model::{BrokerEpoch, LeaderEpoch, PartitionEpoch};

/// A change of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A broker's process begins, or is heard of again.
    Register {
        /// The broker.
        id: u32,
        /// Its process.
        incarnation: Uuid,
        /// Host and port for clients and other brokers.
        address: String,
        /// Where it stands.
        rack: Option<String>,
        /// What it lost since its last life.
        restart: Restart,
    },
    /// A broker that has caught up with the state may lead and be in sync.
    Unfence {
        /// The broker.
        id: u32,
        /// Which life of it.
        epoch: BrokerEpoch,
    },
    /// A broker is not heard of, or does not work: it leads nothing and is in sync no more.
    Fence {
        /// The broker.
        id: u32,
        /// Which life of it.
        epoch: BrokerEpoch,
    },
    /// A broker wants to stop: its leaderships go to others first.
    BeginShutdown {
        /// The broker.
        id: u32,
        /// Which life of it.
        epoch: BrokerEpoch,
    },
    /// A topic is created.
    CreateTopic {
        /// Its name.
        name: String,
        /// Its id.
        id: Uuid,
        /// How many partitions.
        partitions: u32,
        /// How many brokers have each of them.
        replication_factor: u32,
        /// Its own settings.
        settings: BTreeMap<String, String>,
    },
    /// A topic grows.
    AddPartitions {
        /// Its name.
        name: String,
        /// How many it has then.
        total: u32,
    },
    /// A topic's own settings become these.
    AlterTopic {
        /// Its name.
        name: String,
        /// All of its own settings.
        settings: BTreeMap<String, String>,
    },
    /// What holds for topics that do not say becomes this.
    SetDefaults {
        /// All of it, by the topic setting's name.
        defaults: BTreeMap<String, String>,
    },
    /// A topic is deleted.
    DeleteTopic {
        /// Its name.
        name: String,
        /// Its id.
        id: Uuid,
    },
    /// A broker that stands alone brings a topic that it has on its disk.
    AdoptTopic {
        /// Its name.
        name: String,
        /// What there is.
        topic: Adopted,
    },
    /// What a broker had of some partitions is gone, or can be used no more.
    LoseReplicas {
        /// The broker.
        id: u32,
        /// Which life of it.
        epoch: BrokerEpoch,
        /// The partitions, by their topic's id and their number.
        partitions: Vec<(Uuid, u32)>,
    },
    /// A leader changes who is in sync.
    AlterPartition(AlterPartition),
    /// The preferred replica leads, if it is in sync.
    ElectPreferred {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: u32,
    },
    /// Any replica that lives leads a partition that nobody leads, though records may be lost.
    ElectUnclean {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: u32,
    },
    /// A partition gets other replicas.
    Move {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: u32,
        /// Those that it gets, the preferred leader first.
        replicas: Vec<u32>,
        /// How fast each new replica may fetch, in bytes a second; none: as fast as it can.
        #[serde(default)]
        throttle: Option<u64>,
    },
    /// A partition stays where it was.
    CancelMove {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: u32,
    },
}

/// What a broker has lost since its last life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restart {
    /// Nothing: it stopped in good order, or its process died and the machine did not.
    Kept,
    /// What was not synced: the machine died.
    LostUnsynced,
    /// Everything: its data directory is new.
    LostAll,
}

/// A topic as a broker has it on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adopted {
    /// Its id.
    pub id: Uuid,
    /// The broker.
    pub broker: u32,
    /// Its own settings.
    pub settings: BTreeMap<String, String>,
    /// For each partition the epoch of its last record; its next leader has a later one.
    pub leader_epochs: Vec<LeaderEpoch>,
}

/// A leader says who is in sync.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterPartition {
    /// The topic's name.
    pub topic: String,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The partition's number.
    pub partition: u32,
    /// Who says so.
    pub leader: Member,
    /// As the leader knows it.
    pub leader_epoch: LeaderEpoch,
    /// The state that the leader knows, which this one follows.
    pub epoch: PartitionEpoch,
    /// Who is in sync, the leader among them.
    pub isr: Vec<Member>,
    /// False once an unclean leader has begun anew.
    pub recovering: bool,
}

/// A replica in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// The broker.
    pub id: u32,
    /// Which life of it.
    pub epoch: BrokerEpoch,
}

/// What a command changed. What it was before is for whoever has kept it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A broker has registered, or its state has changed.
    Broker {
        /// Which.
        id: u32,
    },
    /// What holds for topics that do not say.
    Defaults,
    /// A topic was created, or its settings have changed.
    Topic {
        /// Its name.
        name: String,
    },
    /// A topic is gone.
    TopicDeleted {
        /// Its name.
        name: String,
        /// Its id.
        id: Uuid,
    },
    /// A partition is new, or has changed.
    Partition {
        /// Its topic's name.
        topic: String,
        /// Its number.
        partition: u32,
    },
    /// Records that were acknowledged may be lost: a replica leads that was not known to have all.
    UncleanElection {
        /// Its topic's name.
        topic: String,
        /// Its number.
        partition: u32,
        /// Who leads.
        leader: u32,
        /// Who had all that was acknowledged, as far as is known.
        instead_of: Vec<u32>,
    },
}

/// Why a command was refused. It has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refused {
    /// No broker of this id has registered.
    #[error("broker {0} has never registered")]
    UnknownBroker(u32),
    /// The command comes from, or speaks of, an earlier life of a broker.
    #[error("broker {id} has epoch {known:?}, not {found:?}")]
    StaleBroker {
        /// Which.
        id: u32,
        /// The epoch it has.
        known: BrokerEpoch,
        /// The epoch in the command.
        found: BrokerEpoch,
    },
    /// Another process is registered under this id, and is heard of.
    #[error("broker {0} is registered by another process, which is alive")]
    DuplicateBroker(u32),
    /// There is no such topic.
    #[error("there is no topic '{0}'")]
    UnknownTopic(String),
    /// The topic was made anew.
    #[error("topic '{name}' has id {known}, not {found}")]
    OtherTopic {
        /// Its name.
        name: String,
        /// The id it has.
        known: Uuid,
        /// The id in the command.
        found: Uuid,
    },
    /// The topic has no such partition.
    #[error("topic '{0}' has no partition {1}")]
    UnknownPartition(String, u32),
    /// There is a topic of this name.
    #[error("topic '{0}' is there already")]
    TopicExists(String),
    /// A topic must have partitions, and never loses one.
    #[error("{asked} partitions, where there are {now}")]
    PartitionCount {
        /// How many there are.
        now: u32,
        /// How many were asked for.
        asked: u32,
    },
    /// There are not so many brokers.
    #[error(
        "{asked} replicas are asked for; {known} brokers have registered, {alive} of them are alive"
    )]
    TooFewBrokers {
        /// How many live; one must.
        alive: u32,
        /// How many have ever registered; there must be one a replica.
        known: u32,
        /// How many are needed.
        asked: u32,
    },
    /// The command comes from somebody who does not lead the partition.
    #[error("broker {0} does not lead the partition")]
    NotLeader(u32),
    /// The command was made from another state than there is.
    #[error("it has leader epoch {leader_epoch:?} and epoch {epoch:?}")]
    StalePartition {
        /// The leader epoch it has.
        leader_epoch: LeaderEpoch,
        /// The epoch it has.
        epoch: PartitionEpoch,
    },
    /// A broker cannot be in sync: it is fenced, about to stop, or was started anew.
    #[error("broker {0} cannot be in sync")]
    Ineligible(u32),
    /// The replicas cannot be those of a partition.
    #[error("{0:?} cannot be the replicas of a partition")]
    Replicas(Vec<u32>),
    /// With these replicas too few would be left that have all records.
    #[error(
        "of those that have all records {stay:?} would stay, {needed} must; it is being moved: wait \
         until it has arrived"
    )]
    TooFewStay {
        /// Who is in sync, or eligible, and one of the replicas then.
        stay: Vec<u32>,
        /// How many of those must stay.
        needed: usize,
    },
    /// The partition is not being moved.
    #[error("the partition is not being moved")]
    NotMoving,
    /// The right one leads already.
    #[error("broker {0} leads already")]
    LeadsAlready(u32),
    /// The preferred leader is fenced, about to stop, or not in sync.
    #[error("its preferred leader, broker {0}, is not in sync")]
    PreferredAway(u32),
    /// None of the replicas lives.
    #[error("none of its replicas lives")]
    NobodyToElect,
}

impl Refused {
    /// True if a change of the in-sync replicas was compared with the state that it was made from, and
    /// refused for what it asks. Of any other refusal its own effect may be the reason, if it was asked
    /// for before.
    pub fn is_of_what_was_asked(&self) -> bool {
        matches!(self, Refused::Replicas(_) | Refused::Ineligible(_))
    }
}
