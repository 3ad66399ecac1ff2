//! What there is in a cluster.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Distinguishes the starts of brokers; grows from start to start, whichever broker it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BrokerEpoch(pub u64);

/// How many leaders a partition has had, spells without one included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaderEpoch(pub i32);

/// How often the state of a partition has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PartitionEpoch(pub u32);

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broker {
    /// Its process; another one after each start.
    pub incarnation: Uuid,
    /// Of its last registration.
    pub epoch: BrokerEpoch,
    /// Host and port for clients and other brokers.
    pub address: String,
    /// Where it stands, if somebody has said so.
    pub rack: Option<String>,
    /// True while it is not to lead nor to be in sync: it has only begun, or is not heard of.
    pub fenced: bool,
    /// True once it is about to stop: it gets no leadership any more.
    pub stopping: bool,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    /// Its id: another topic of the same name has another.
    pub id: Uuid,
    /// Its own settings.
    pub settings: BTreeMap<String, String>,
    /// Its partitions, by number.
    pub partitions: Vec<Partition>,
}

/// A partition.
///
/// Invariants: `isr` and `eligible` are in `replicas`; `isr` and `eligible` have nobody in
/// common; a leader is in `isr`; with an empty `isr` there is no leader; nobody is `eligible` where enough
/// are in `isr` for records to be committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// The brokers that have it, the preferred leader first. While it is moved: those that are to have
    /// it, and behind them those that had it.
    pub replicas: Vec<u32>,
    /// Who leads.
    pub leader: Option<u32>,
    /// Of the leader, or of the spell without one.
    pub leader_epoch: LeaderEpoch,
    /// Of this state.
    pub epoch: PartitionEpoch,
    /// In-sync replicas: they have all that is committed.
    pub isr: Vec<u32>,
    /// Replicas that have all that is committed though they are not in sync: nothing was committed
    /// since they left, because too few were.
    pub eligible: Vec<u32>,
    /// From where and to where it is being moved; `replicas` are all of both.
    pub moving: Option<Move>,
    /// True after an unclean election, until the leader has said that it has begun anew.
    pub recovering: bool,
    /// The epoch of the last leader that was elected though it may miss committed records.
    #[serde(default)]
    pub unclean_epoch: Option<LeaderEpoch>,
    /// The version of the state in which it got its replicas. A broker whose disk has followed that one
    /// has made its replica: if it is not there, it was lost.
    pub placed: u64,
}

/// A partition's way from some brokers to others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Its replicas before, the preferred leader first.
    pub from: Vec<u32>,
    /// Its replicas when all of these are in sync.
    pub to: Vec<u32>,
    /// How fast each new replica may fetch, in bytes a second; none: as fast as it can.
    #[serde(default)]
    pub throttle: Option<u64>,
}

impl Topic {
    /// A partition by its number.
    pub fn partition(&self, number: u32) -> Option<&Partition> {
        self.partitions.get(number as usize)
    }
}

impl BrokerEpoch {
    /// No broker has this epoch.
    pub const NONE: BrokerEpoch = BrokerEpoch(0);
}

impl Partition {
    /// A partition that nobody leads yet.
    pub(crate) fn new(replicas: Vec<u32>, placed: u64) -> Partition {
        Partition {
            placed,
            isr: replicas.clone(),
            replicas,
            leader: None,
            leader_epoch: LeaderEpoch(0),
            epoch: PartitionEpoch(0),
            eligible: Vec::new(),
            moving: None,
            recovering: false,
            unclean_epoch: None,
        }
    }

    /// The replica that is to lead if it can.
    pub fn preferred(&self) -> Option<u32> {
        self.replicas.first().copied()
    }

    /// The replicas that it is to have.
    pub fn target(&self) -> &[u32] {
        self.moving.as_ref().map_or(&self.replicas, |moving| &moving.to)
    }

    /// The replicas that it had before it was moved.
    pub(super) fn origin(&self) -> &[u32] {
        self.moving.as_ref().map_or(&self.replicas, |moving| &moving.from)
    }

    /// Gives it these replicas; who is none of them is not in sync any more.
    pub(super) fn set_replicas(&mut self, replicas: Vec<u32>, moving: Option<Move>, version: u64) {
        if replicas.iter().any(|id| !self.replicas.contains(id)) {
            self.placed = version;
        }
        self.isr.retain(|id| replicas.contains(id));
        self.eligible.retain(|id| replicas.contains(id));
        (self.replicas, self.moving) = (replicas, moving);
    }

    /// Ends a move when all that it is moved to are in sync.
    pub(super) fn finish_move(&mut self, version: u64) {
        if let Some(moving) = &self.moving
            && moving.to.iter().all(|id| self.isr.contains(id))
        {
            self.set_replicas(moving.to.clone(), None, version);
        }
    }

    /// Takes note that this state follows another.
    pub(super) fn changed(&mut self) {
        self.epoch.0 += 1;
    }

    /// Gives it another leader, or none.
    pub(super) fn set_leader(&mut self, leader: Option<u32>) {
        self.leader = leader;
        self.leader_epoch.0 += 1;
    }
}
