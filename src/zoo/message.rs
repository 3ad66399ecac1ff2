//! What brokers and the zookeeper say to each other: in process as it is, as JSON over TCP.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::events::Event;
use super::heartbeat::Key;
use super::state::{BrokerEpoch, ClusterState, Command, Delta, Refused, Restart};

/// What is asked of the zookeeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A broker begins, or is back. From its answer on it gets every change of the state.
    Register(Registration),
    /// A change of the cluster.
    Command(Command),
    /// What a broker adds to the timeline.
    Report(Vec<Report>),
    /// The timeline behind an event.
    Events {
        /// Its id; 0: from the oldest on.
        after: u64,
        /// How many, the oldest first.
        most: u32,
    },
    /// Who the zookeeper is, and whom it hears.
    Describe,
}

/// Who registers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registration {
    /// The broker.
    pub id: u32,
    /// Its process.
    pub incarnation: Uuid,
    /// Host and port for clients and other brokers.
    pub address: String,
    /// Where it stands.
    pub rack: Option<String>,
    /// What it lost since its last life.
    pub restart: Restart,
    /// The cluster that its data belongs to, if it does already.
    pub cluster_id: Option<Uuid>,
    /// The newest state that it has ever seen. The zookeeper must not be older.
    pub seen_version: u64,
}

/// What only a broker knows and everybody should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// A leader has acknowledged its first record.
    FirstAcknowledged {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: u32,
        /// Since which election.
        leader_epoch: i32,
        /// Who leads.
        leader: u32,
    },
    /// A replica has cut records off to follow its leader.
    RecordsCut {
        /// The topic's name.
        topic: String,
        /// The partition's number.
        partition: u32,
        /// Whose.
        broker: u32,
        /// The first offset that is gone.
        from: u64,
        /// The one behind the last.
        to: u64,
        /// True if the replica knew that some of them were committed.
        committed: bool,
        /// True if a leader behind them was elected uncleanly: some may have been committed.
        unclean: bool,
    },
}

/// What the zookeeper answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// To a registration.
    Registered(Box<Registered>),
    /// To a command: it holds from this version of the state on, which was pushed before, as was all
    /// before it. A command that changes nothing names the version it found.
    Done {
        /// The version.
        version: u64,
    },
    /// To a report.
    Noted,
    /// To a question for events.
    Events(Vec<Event>),
    /// To the question who the zookeeper is.
    Description(Description),
    /// The state refuses the command or the registration.
    Refused(Refused),
    /// The zookeeper refuses the broker.
    Rejected(Rejected),
    /// The request makes no sense.
    Failed(String),
}

/// A broker is registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registered {
    /// Of this life of it.
    pub epoch: BrokerEpoch,
    /// Proves its heartbeats.
    pub key: Key,
    /// It is to beat so often.
    pub beat_interval_ms: u64,
    /// It is fenced when it is silent for so long.
    pub session_timeout_ms: u64,
    /// The state, which the pushes follow.
    pub state: ClusterState,
}

/// Why a broker and a zookeeper do not belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Rejected {
    /// They are of two clusters.
    #[error(
        "the broker's data belongs to cluster {found}, the zookeeper to cluster {known}\n\
         hint: start it with its own zookeeper, or with an empty data directory"
    )]
    OtherCluster {
        /// The zookeeper's.
        known: Uuid,
        /// The broker's.
        found: Uuid,
    },
    /// The zookeeper has forgotten something.
    #[error(
        "the broker has seen version {seen} of the cluster's state, the zookeeper is at {version}: \
         its data is an old copy\n\
         hint: start the zookeeper with its newest data; what an old copy does not know is lost"
    )]
    OldCopy {
        /// The broker's.
        seen: u64,
        /// The zookeeper's.
        version: u64,
    },
}

/// Who the zookeeper is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Its software's version.
    pub software: String,
    /// Its cluster.
    pub cluster_id: Uuid,
    /// The state's version.
    pub version: u64,
    /// How long it has run.
    pub uptime_ms: u64,
    /// Datagrams that were none of ours, forged, old or doubled.
    pub ignored_datagrams: u64,
    /// The brokers that it knows.
    pub brokers: Vec<DescribedBroker>,
}

/// What the zookeeper hears of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DescribedBroker {
    /// Which.
    pub id: u32,
    /// In which of its lives.
    pub epoch: BrokerEpoch,
    /// True while it is not to lead nor to be in sync.
    pub fenced: bool,
    /// True if its process seems to be gone.
    pub suspected: bool,
    /// How long ago it was last heard of; `None` if nobody listens.
    pub heard_ago_ms: Option<u64>,
}

/// What the zookeeper sends without being asked, to those who are registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Push {
    /// The state has changed.
    Delta(Delta),
}
