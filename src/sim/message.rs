//! What goes over the simulated network.

use std::sync::Arc;
use std::time::Duration;

use mk_storage::{Epoch, Offset};

use crate::broker::replication::epochs::EpochEnd;
use crate::zoo::detector::Beat;
use crate::zoo::state::{BrokerEpoch, ClusterState, Command, Delta, LeaderEpoch, Member, Refused};

/// Who sends and receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// The mini-zookeeper.
    Zoo,
    /// A broker.
    Broker(u32),
    /// A producer or a consumer.
    Client(u32),
}

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// In order, until the connection breaks and all of it is over.
    Session,
    /// Each request for itself: late requests overtake each other, as over two connections.
    Request,
    /// Lost, doubled, out of order.
    Datagram,
}

/// A message.
#[derive(Clone, Debug)]
pub enum Message {
    /// A broker asks the mini-zookeeper.
    ToZoo {
        /// The connection.
        session: u64,
        /// Of the question.
        number: u64,
        /// The question.
        ask: Ask,
    },
    /// The mini-zookeeper tells a broker.
    FromZoo {
        /// The connection.
        session: u64,
        /// What.
        told: Told,
    },
    /// The connection has ended.
    SessionOver {
        /// Which.
        session: u64,
    },
    /// A heartbeat.
    Beat(Beat),
    /// The mini-zookeeper asks whether a broker lives.
    Probe,
    /// There is nobody at the broker's port.
    Unreachable(u32),
    /// A request to a broker.
    Request {
        /// Of the request.
        number: u64,
        /// What is asked.
        request: Request,
    },
    /// Its answer.
    Response {
        /// Of the request.
        number: u64,
        /// What is answered.
        response: Response,
    },
    /// The connection has ended before the answer.
    NoResponse {
        /// Of the request.
        number: u64,
    },
}

/// What a broker asks the mini-zookeeper.
#[derive(Clone, Debug)]
pub enum Ask {
    /// Whether the state has at least this version, and to be registered by this command.
    Register(u64, Command),
    /// To change something.
    Change(Command),
}

/// What the mini-zookeeper tells a broker.
#[derive(Clone, Debug)]
pub enum Told {
    /// It is registered.
    Registered(BrokerEpoch, Box<ClusterState>),
    /// It is not.
    SentAway,
    /// The state has changed.
    Push(Arc<Delta>),
    /// A change was made, or refused.
    Answer(u64, Result<(), Refused>),
}

/// What a broker is asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// Who leads.
    Metadata,
    /// To append a batch.
    Produce {
        /// Which partition.
        partition: u32,
        /// 1, or -1: all.
        acks: i8,
        /// The batch.
        batch: Vec<u8>,
    },
    /// For records.
    Fetch {
        /// Who asks, if it is a follower.
        replica: Option<Member>,
        /// What it may wait.
        wait: Duration,
        /// Of which partitions.
        parts: Vec<FetchPart>,
    },
    /// Where the log of a partition ends.
    End(u32),
}

/// A partition in a fetch.
#[derive(Clone, Copy, Debug)]
pub struct FetchPart {
    pub partition: u32,
    pub offset: Offset,
    pub leader_epoch: LeaderEpoch,
    pub last_epoch: Option<Epoch>,
    pub high_watermark: Offset,
}

/// What a broker answers.
#[derive(Clone, Debug)]
pub enum Response {
    /// Of each partition its leader and the leader's epoch.
    Metadata(Vec<(Option<u32>, LeaderEpoch)>),
    /// The offset of the first record.
    Produced(Result<Offset, Failure>),
    /// A part each.
    Fetched(Vec<Result<Fetched, Failure>>),
    /// The end.
    End(Result<Offset, Failure>),
}

/// A part of an answer to a fetch.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub high_watermark: Offset,
    pub start: Offset,
    pub diverging: Option<EpochEnd>,
    pub batches: Vec<u8>,
}

/// Why a broker does not do what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A record before it is missing.
    OutOfOrder,
    /// It does not lead, or not any more; what was appended may stay.
    NotLeader,
    /// Too few are in sync; nothing was appended.
    NotEnough,
    /// It was appended, and may be committed or not.
    TimedOut,
    /// Its disk fails.
    Storage,
    /// There are no records there.
    OutOfRange,
    /// It does not know yet.
    NotAvailable,
}

impl Ask {
    /// True if it asks for the broker to be in sync.
    pub fn names(&self, id: u32) -> bool {
        match self {
            Ask::Change(Command::AlterPartition(alter)) => {
                alter.isr.iter().any(|member| member.id == id)
            }
            _ => false,
        }
    }
}
