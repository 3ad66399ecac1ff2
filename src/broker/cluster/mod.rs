//! The broker as a member of its cluster: what it hears from the mini-zookeeper, and what it asks of it.
//!
//! * [`follow`]: takes in what the mini-zookeeper says; parts of partitions change at once.
//! * [`reconcile`]: makes the disk follow: topics and replicas come, change and go.
//! * [`in_sync`]: asks for changes of the in-sync replicas.
//! * [`replicate`]: fetches from leaders.

mod apply;
mod follow;
mod in_sync;
mod member;
pub mod reconcile;
mod replicate;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use mk_net::fault::{ErrorCode, Fault};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

pub use follow::Following;
pub use in_sync::InSync;
pub use member::Member;
pub use replicate::Replicator;

use super::partition::Partition;
use super::replication::leader::Proposal;
use super::shared::Shared;
use crate::zoo::message::{Report, Request, Response};
use crate::zoo::session::Session;
use crate::zoo::state::{self, BrokerEpoch, ClusterState, Command, Delta, Refused};
use uuid::Uuid;

/// The cluster as this broker knows it.
#[derive(Debug)]
pub struct Cluster {
    me: u32,
    /// Where the mini-zookeeper is; none: inside, and this broker is all of the cluster.
    zookeeper: Option<String>,
    /// Of this life; 0 until the mini-zookeeper has given it one.
    epoch: AtomicU64,
    state: RwLock<ClusterState>,
    session: OnceLock<Session>,
    proposals: UnboundedSender<(Arc<Partition>, Proposal)>,
    /// What is to be fetched changes.
    follows: UnboundedSender<replicate::Change>,
    /// The version that the disk had followed when the broker started.
    followed: AtomicU64,
    /// Topics that are not here as the state has them, for the disk failed or is full.
    pub(super) unmade: Mutex<BTreeSet<String>>,
    /// True while they are tried again, and while lost replicas are reported: what takes long must not
    /// queue up.
    pub(super) trying: AtomicBool,
    pub(super) reporting: AtomicBool,
    started: Instant,
}

/// The ends of the cluster's queues, for the threads that work on them.
#[derive(Debug)]
pub struct Queues {
    proposals: UnboundedReceiver<(Arc<Partition>, Proposal)>,
    follows: UnboundedReceiver<replicate::Change>,
}

/// How long the mini-zookeeper may take to answer.
const PATIENCE: Duration = Duration::from_secs(15);

impl Cluster {
    /// Nothing is known yet but what broker this is, and where the mini-zookeeper is if it is not inside.
    pub fn new(me: u32, zookeeper: Option<String>) -> (Cluster, Queues) {
        let state = ClusterState::new(Uuid::nil());
        let (proposals, proposed) = unbounded_channel();
        let (follows, followed) = unbounded_channel();
        let cluster = Cluster {
            me,
            zookeeper,
            epoch: AtomicU64::new(0),
            state: RwLock::new(state),
            session: OnceLock::new(),
            proposals,
            follows,
            followed: AtomicU64::new(0),
            unmade: Mutex::default(),
            trying: AtomicBool::new(false),
            reporting: AtomicBool::new(false),
            started: Instant::now(),
        };
        (cluster, Queues { proposals: proposed, follows: followed })
    }

    /// True if this broker is all of the cluster, with the mini-zookeeper inside.
    pub fn is_alone(&self) -> bool {
        self.zookeeper.is_none()
    }

    /// Where the mini-zookeeper is, if it is not inside.
    pub fn zookeeper(&self) -> Option<&str> {
        self.zookeeper.as_deref()
    }

    /// Adds to the timeline, where there is one for others; does not wait.
    pub fn report(shared: &Arc<Shared>, report: Report) {
        if shared.cluster.is_alone() {
            return;
        }
        let for_worker = shared.clone();
        shared.admin.run(move || {
            if let Err(fault) = for_worker.cluster.ask(Request::Report(vec![report])) {
                tracing::warn!(error = fault.message, "the timeline misses something");
            }
        });
    }

    /// An error while this broker has not registered: it does not know what there is, and must not say
    /// that a topic is not there.
    pub fn require_known(&self) -> Result<(), Fault> {
        if !self.is_entered() {
            let what = "the broker has just started and does not know the cluster yet";
            return Err(Fault::new(ErrorCode::LEADER_NOT_AVAILABLE, what));
        }
        Ok(())
    }

    /// This broker in this life.
    pub fn me(&self) -> state::Member {
        state::Member { id: self.me, epoch: BrokerEpoch(self.epoch.load(Ordering::Acquire)) }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The version of the state that the disk had followed when the broker started: what was placed
    /// here by then must be there.
    pub fn followed_before(&self) -> u64 {
        self.followed.load(Ordering::Acquire)
    }

    /// True once the mini-zookeeper has taken this broker in, in this life: until then it knows nothing
    /// of the cluster.
    pub fn is_entered(&self) -> bool {
        self.me().epoch != BrokerEpoch::NONE
    }

    /// True if the mini-zookeeper lets this broker lead and be in sync, as far as it has heard.
    pub fn may_lead(&self) -> bool {
        let me = self.me();
        let state = self.state();
        state.brokers.get(&me.id).is_some_and(|broker| broker.epoch == me.epoch && !broker.fenced)
    }

    /// The cluster's state, as far as this broker has heard. To be let go of soon.
    pub fn state(&self) -> RwLockReadGuard<'_, ClusterState> {
        self.state.read()
    }

    /// The mini-zookeeper has taken this broker in.
    pub fn enter(&self, epoch: BrokerEpoch, state: ClusterState) {
        *self.state.write() = state;
        self.epoch.store(epoch.0, Ordering::Release);
    }

    /// The state has changed.
    pub fn follow(&self, delta: &Delta) {
        if let Err(gap) = self.state.write().follow(delta) {
            // The session compares versions, too, and begins anew.
            tracing::error!(%gap, "the cluster's state cannot be followed");
        }
    }

    /// What is to be fetched has changed. Does not wait.
    pub fn fetch(&self, change: replicate::Change) {
        // Whoever would take it has ended only if the broker stops.
        let _ = self.follows.send(change);
    }

    /// Asks the mini-zookeeper to change who is in sync. Does not wait.
    pub fn propose(&self, partition: &Arc<Partition>, proposal: Proposal) {
        // Whoever would take it has ended only if the broker stops.
        let _ = self.proposals.send((partition.clone(), proposal));
    }

    /// Has the cluster changed by the mini-zookeeper; blocks until the change has come back to this
    /// broker.
    pub fn change(&self, command: Command) -> Result<(), Fault> {
        match self.ask(Request::Command(command))? {
            Response::Refused(refused) => Err(fault_of(&refused)),
            Response::Failed(what) => Err(Fault::new(ErrorCode::UNKNOWN_SERVER_ERROR, what)),
            _ => Ok(()),
        }
    }

    /// Asks the mini-zookeeper; blocks.
    pub fn ask(&self, request: Request) -> Result<Response, Fault> {
        let away = |what: String| Fault::new(ErrorCode::NOT_CONTROLLER, what);
        let session = self.session();
        let session = session.ok_or_else(|| away("the broker has just started".to_owned()))?;
        session.ask_blocking(request, PATIENCE).map_err(|error| away(error.to_string()))
    }

    /// The way to the mini-zookeeper, once there is one.
    pub fn session(&self) -> Option<&Session> {
        self.session.get()
    }

    /// To be called once, when there is a way to the mini-zookeeper.
    pub fn set_session(&self, session: Session) {
        if self.session.set(session).is_err() {
            tracing::error!("a broker has two sessions");
        }
    }
}

/// What a client is told of a refusal.
pub fn fault_of(refused: &Refused) -> Fault {
    let code = match refused {
        Refused::UnknownTopic(_) | Refused::UnknownPartition(..) => {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        }
        Refused::OtherTopic { .. } => ErrorCode::INCONSISTENT_TOPIC_ID,
        Refused::TopicExists(_) => ErrorCode::TOPIC_ALREADY_EXISTS,
        Refused::PartitionCount { .. } => ErrorCode::INVALID_PARTITIONS,
        Refused::TooFewBrokers { .. } => ErrorCode::INVALID_REPLICATION_FACTOR,
        Refused::Replicas(_) | Refused::UnknownBroker(_) | Refused::TooFewStay { .. } => {
            ErrorCode::INVALID_REPLICA_ASSIGNMENT
        }
        Refused::NotMoving => ErrorCode::NO_REASSIGNMENT_IN_PROGRESS,
        Refused::LeadsAlready(_) => ErrorCode::ELECTION_NOT_NEEDED,
        Refused::PreferredAway(_) => ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE,
        Refused::NobodyToElect => ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE,
        Refused::StaleBroker { .. } => ErrorCode::STALE_BROKER_EPOCH,
        Refused::NotLeader(_)
        | Refused::StalePartition { .. }
        | Refused::Ineligible(_)
        | Refused::DuplicateBroker(_) => ErrorCode::INVALID_REQUEST,
    };
    Fault::new(code, refused.to_string())
}
