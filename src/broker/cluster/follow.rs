//! Takes in what the mini-zookeeper says. Who leads changes at once; what needs the disk is left to the
//! control thread.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::super::catalog::Topic;
use super::super::partition::Partition;
use super::super::replication::replica::{Circumstances, Standing};
use super::super::shared::Shared;
use super::reconcile;
use super::replicate::Change;
use crate::zoo::session::Follower;
use crate::zoo::state::{self, BrokerEpoch, ClusterState, Delta};

/// What the session tells the broker.
pub struct Following {
    shared: Arc<Shared>,
    registered: Box<dyn Fn() + Send>,
    /// Taken when the broker may lead for the first time.
    may_lead: Option<Sender<()>>,
    /// When the version of the state was last written down.
    written: Instant,
}

/// The version of a state that is to change nothing on the disk is written down so late.
const WRITE_DOWN_INTERVAL: Duration = Duration::from_secs(1);

impl Following {
    /// Calls `registered` each time when the broker has registered and knows the state, and tells
    /// `may_lead` once when the mini-zookeeper lets the broker lead.
    pub fn new(
        shared: Arc<Shared>,
        registered: impl Fn() + Send + 'static,
        may_lead: Option<Sender<()>>,
    ) -> Following {
        let registered = Box::new(registered);
        Following { shared, registered, may_lead, written: Instant::now() }
    }
}

impl Follower for Following {
    fn registered(&mut self, epoch: BrokerEpoch, state: &ClusterState) {
        let shared = &self.shared;
        shared.cluster.enter(epoch, state.clone());
        // At once: the control thread may have much to do.
        for known in shared.topics.load().values() {
            assign(shared, known);
        }
        shared.groups.changed();
        shared.topics_grew();
        (self.registered)();
    }

    fn changed(&mut self, _: &ClusterState, delta: &Delta) {
        let shared = &self.shared;
        let grew = grows(&shared.cluster.state(), delta);
        shared.cluster.follow(delta);
        if grew {
            shared.topics_grew();
        }
        if shared.cluster.may_lead()
            && let Some(told) = self.may_lead.take()
        {
            // Nobody waits but at the start.
            let _ = told.send(());
        }
        let names = delta.topic_names();
        for name in &names {
            assign_known(shared, name);
        }
        shared.groups.changed();
        let due: Vec<String> = names
            .into_iter()
            .filter(|name| reconcile::is_due(shared, name))
            .map(str::to_owned)
            .collect();
        // Now and then though nothing is to be done: a mini-zookeeper that was put back to an older state
        // is refused by what is written down.
        if !due.is_empty() || self.written.elapsed() >= WRITE_DOWN_INTERVAL {
            self.written = Instant::now();
            let (for_worker, version) = (shared.clone(), delta.version);
            // All that was to be done for earlier versions is in the queue before it.
            shared.control.run(move || {
                due.iter().for_each(|name| reconcile::topic_or_report(&for_worker, name));
                reconcile::write_down(&for_worker, version);
            });
        }
    }

    fn lost(&mut self) {
        warn!("the mini-zookeeper is not reached; the leaders stay as they are");
    }
}

/// True if a change brings topics or partitions.
fn grows(state: &ClusterState, delta: &Delta) -> bool {
    delta.topics.iter().any(|topic| {
        let known = state.topics.get(&topic.name).filter(|known| known.id == topic.id);
        known.is_none_or(|known| known.partitions.len() < topic.total as usize)
    })
}

/// Gives the partitions of a topic that are served already their parts.
fn assign_known(shared: &Shared, name: &str) {
    let topics = shared.topics.load();
    let Some(known) = topics.get(name) else { return };
    assign(shared, known);
}

/// Gives the partitions of a topic the parts that the state has for them.
pub fn assign(shared: &Shared, known: &Topic) {
    let state = shared.cluster.state();
    let Some(topic) = state.topics.get(&known.name).filter(|topic| topic.id == known.id) else {
        return;
    };
    let min_isr = state.min_insync_replicas(topic);
    for (partition, wanted) in known.partitions().iter().zip(&topic.partitions) {
        assign_one(shared, &state, partition, wanted, min_isr);
    }
}

fn assign_one(
    shared: &Shared,
    state: &ClusterState,
    partition: &Arc<Partition>,
    wanted: &state::Partition,
    min_isr: usize,
) {
    let Ok(replica) = partition.replica() else { return };
    let me = shared.cluster.me();
    let lives = |id| state.brokers.get(&id).map_or(BrokerEpoch::NONE, |broker| broker.epoch);
    let now = shared.cluster.now();
    let sync_first = partition.sync_first();
    let before = replica.standing();
    replica.assign(wanted, &Circumstances { me, lives: &lives, min_isr, sync_first, now });
    let after = replica.standing();
    if before != after {
        let (topic, number) = (partition.topic(), partition.number());
        info!(topic, partition = number, ?before, ?after, "a partition has another leader");
    }
    // In-sync replicas may have left, so that more is committed without them.
    shared.changed(partition);
    let change = match after {
        Standing::Follower { leader: Some(leader), epoch } => Change::Follow {
            partition: partition.clone(),
            leader,
            epoch,
            in_sync: wanted.isr.contains(&me.id),
            throttle: wanted
                .moving
                .as_ref()
                .filter(|moving| !moving.from.contains(&me.id))
                .and_then(|moving| moving.throttle),
        },
        _ => Change::Leave(partition.serial()),
    };
    shared.cluster.fetch(change);
}
