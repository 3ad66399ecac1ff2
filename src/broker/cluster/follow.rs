//! Takes in what the mini-zookeeper says. Who leads changes at once; what needs the disk is left to the
//! control thread.

use std::sync::Arc;

use tracing::{info, warn};

use super::super::catalog::Topic;
use super::super::partition::Partition;
use super::super::replication::replica::{Circumstances, Standing};
use super::super::shared::Shared;
use super::reconcile;
use super::replicate::Change;
use crate::zoo::delta::Delta;
use crate::zoo::session::Follower;
use crate::zoo::state::{self, BrokerEpoch, ClusterState};

/// What the session tells the broker.
pub struct Following {
    shared: Arc<Shared>,
    /// To be done once the broker has done as the state says for the first time.
    ready: Arc<dyn Fn() + Send + Sync>,
}

impl Following {
    /// Calls `ready` each time when the broker has registered and serves what the state says.
    pub fn new(shared: Arc<Shared>, ready: impl Fn() + Send + Sync + 'static) -> Following {
        Following { shared, ready: Arc::new(ready) }
    }
}

impl Follower for Following {
    fn registered(&mut self, epoch: BrokerEpoch, state: &ClusterState) {
        self.shared.cluster.enter(epoch, state.clone());
        let (shared, ready) = (self.shared.clone(), self.ready.clone());
        self.shared.control.run(move || {
            reconcile::all(&shared);
            ready();
        });
    }

    fn changed(&mut self, _: &ClusterState, delta: &Delta) {
        self.shared.cluster.follow(delta);
        for topic in delta.changed_topics() {
            assign_known(&self.shared, topic);
            if reconcile::is_due(&self.shared, topic) {
                let (shared, name) = (self.shared.clone(), topic.to_owned());
                self.shared.control.run(move || reconcile::topic_or_report(&shared, &name));
            }
        }
    }

    fn lost(&mut self) {
        warn!("the mini-zookeeper is not reached; the leaders stay as they are");
    }
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
        },
        _ => Change::Leave(partition.serial()),
    };
    shared.cluster.fetch(change);
}
