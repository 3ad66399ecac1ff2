//! Asks the mini-zookeeper for changes of the in-sync replicas: for followers that have caught up, and
//! against those that have fallen behind. Until it has answered whoever is asked for counts; so it is
//! asked again until it has.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::super::partition::Partition;
use super::super::replication::leader::Proposal;
use super::super::shared::Shared;
use super::reconcile;
use crate::zoo::message::{Request, Response};
use crate::zoo::state::{AlterPartition, Command};

/// The thread; [`InSync::stop`] ends it.
#[derive(Debug)]
pub struct InSync {
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

type Proposed = (Arc<Partition>, Proposal);

/// How long an answer may take before it is asked again.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(50);

impl InSync {
    /// Starts the thread.
    pub fn start(
        shared: Arc<Shared>,
        queue: UnboundedReceiver<Proposed>,
    ) -> std::io::Result<InSync> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let work = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = run(shared, queue) => {}
                    _ = ended => {}
                }
            });
        };
        let thread = thread::Builder::new().name("mk-in-sync".to_owned()).spawn(work)?;
        Ok(InSync { end, thread })
    }

    /// Ends the thread.
    pub fn stop(self) {
        let _ = self.end.send(());
        if self.thread.join().is_err() {
            tracing::error!("the thread that cares for the in-sync replicas has panicked");
        }
    }
}

async fn run(shared: Arc<Shared>, mut queue: UnboundedReceiver<Proposed>) {
    let most_lag = Duration::from_millis(shared.settings.number("replica.lag.time.max.ms"));
    let mut look = interval((most_lag / 4).max(Duration::from_millis(10)));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_look = Instant::now();
    let mut asking = JoinSet::new();
    loop {
        tokio::select! {
            proposed = queue.recv() => {
                let Some((partition, proposal)) = proposed else { return };
                asking.spawn(ask(shared.clone(), partition, proposal));
            }
            _ = look.tick() => {
                // A broker that was held up does not know who has fallen behind.
                if last_look.elapsed() < most_lag / 2 {
                    shrink(&shared, most_lag);
                }
                report_broken(&shared);
                reconcile::try_again(&shared);
                last_look = Instant::now();
            }
            Some(_) = asking.join_next() => {}
        }
    }
}

fn shrink(shared: &Shared, most_lag: Duration) {
    for topic in shared.topics.load().values() {
        for partition in topic.partitions().iter() {
            let proposal = partition
                .replica()
                .ok()
                .and_then(|replica| replica.propose_shrink(most_lag, shared.cluster.now()));
            if let Some(proposal) = proposal {
                shared.cluster.propose(partition, proposal);
            }
        }
    }
}

/// A log that takes nothing any more, or could not be made, is no leader's, if there is another.
fn report_broken(shared: &Arc<Shared>) {
    let is_broken = |partition: &Arc<Partition>| {
        let leads = |log: &Arc<mk_storage::log::Log>| log.poisoned().is_some();
        !partition.is_deleted() && partition.log().is_ok_and(leads)
    };
    let topics = shared.topics.load();
    let any = !shared.cluster.unmade.lock().is_empty()
        || topics.values().any(|topic| topic.partitions().iter().any(is_broken));
    if any && !shared.cluster.reporting.swap(true, Ordering::Relaxed) {
        let shared = shared.clone();
        shared.admin.clone().run(move || {
            reconcile::report_lost(&shared);
            shared.cluster.reporting.store(false, Ordering::Relaxed);
        });
    }
}

/// Asks until there is an answer, or another leader.
async fn ask(shared: Arc<Shared>, partition: Arc<Partition>, proposal: Proposal) {
    let Ok(replica) = partition.replica() else { return };
    let Ok(topic) = shared.topic(partition.topic()) else { return };
    let alter = AlterPartition {
        topic: topic.name.clone(),
        topic_id: topic.id,
        partition: partition.number(),
        leader: shared.cluster.me(),
        leader_epoch: proposal.leader_epoch,
        epoch: proposal.epoch,
        isr: proposal.isr.clone(),
        recovering: false,
    };
    let request = Request::Command(Command::AlterPartition(alter));
    while replica.leads_in(proposal.leader_epoch) && !partition.is_deleted() {
        let Some(session) = shared.cluster.session() else { return };
        match session.ask(request.clone(), PATIENCE).await {
            Ok(Response::Done { .. }) => return,
            Ok(Response::Refused(refused)) => {
                let (topic, number) = (partition.topic(), partition.number());
                tracing::debug!(topic, partition = number, %refused, "the in-sync replicas stay");
                if replica.refused(&proposal, &refused, shared.cluster.now()) {
                    shared.committed(&partition);
                }
                return;
            }
            Ok(_) | Err(_) => sleep(PAUSE).await,
        }
    }
}
