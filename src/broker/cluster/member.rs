//! How a broker becomes a member of its cluster: it registers, makes its disk follow the state, says that
//! it is ready. A broker that stands alone carries the mini-zookeeper inside, and is its only member.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, atomic::Ordering};
use std::time::Duration;

use mk_storage::directory::{self, DataDirectory};
use parking_lot::Mutex;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::super::config::BrokerConfig;
use super::super::membership::{Membership, check_alone, note_loss, restart};
use super::super::progress::Progress;
use super::super::server::StartError;
use super::super::shared::Shared;
use super::{Following, InSync, Queues, Replicator, reconcile};
use crate::settings::BrokerSettings;
use crate::zoo::beat::Beat;
use crate::zoo::node::{Liveness, Node, NodeSettings};
use crate::zoo::session::{Me, Session};
use crate::zoo::state::{Adopted, Command, LeaderEpoch};
use crate::zoo::store::RedbLog;

/// What makes a broker a member of its cluster. It ends with [`Member::stop`].
pub struct Member {
    in_sync: InSync,
    replicator: Replicator,
    heart: Arc<Mutex<Heart>>,
    ready: Option<Receiver<()>>,
    /// Of a broker that stands alone.
    inside: Option<Node>,
}

/// The heartbeats, which begin when the broker is ready.
#[derive(Default)]
struct Heart {
    beat: Option<Beat>,
    ready: bool,
}

/// Nothing of a mini-zookeeper inside takes long but the disk.
const PATIENCE: Duration = Duration::from_secs(60);

impl Member {
    /// Joins. With the mini-zookeeper inside, the broker leads what it has when this returns.
    pub fn start(
        shared: &Arc<Shared>,
        queues: Queues,
        config: &BrokerConfig,
        directory: &DataDirectory,
    ) -> Result<Member, StartError> {
        let before = Membership::read(shared.store.disk(), directory.path())?;
        check_alone(before.as_ref(), config.zoo.is_none())?;
        let me = me(shared, config, directory, before.as_ref());
        note_loss(shared.store.disk(), directory.path(), before.as_ref(), me.restart)?;
        shared.cluster.followed.store(me.seen_version, Ordering::Release);
        let in_sync = InSync::start(shared.clone(), queues.proposals)?;
        let replicator = Replicator::start(shared.clone(), queues.follows)?;
        let heart = Arc::new(Mutex::new(Heart::default()));
        let (sender, ready) = mpsc::channel();
        let inside = match &config.zoo {
            Some(address) => {
                let joined = joined(shared.clone(), directory, heart.clone());
                let follower = Following::new(shared.clone(), joined, Some(sender));
                let session = Session::remote(address.clone(), me, Box::new(follower))?;
                shared.cluster.set_session(session.clone());
                let progress = Progress::new(shared);
                let beat = Beat::start(address.clone(), &session, move || progress.stalled())?;
                let mut heart = heart.lock();
                if heart.ready {
                    beat.ready();
                }
                heart.beat = Some(beat);
                None
            }
            None => {
                let node = start_inside(shared, config, directory)?;
                let (registered, known) = mpsc::channel();
                let follower =
                    Following::new(shared.clone(), move || _ = registered.send(()), None);
                let session = Session::local(node.handle(), me, Box::new(follower))?;
                shared.cluster.set_session(session.clone());
                if known.recv_timeout(PATIENCE).is_err() {
                    let why =
                        session.trouble().map_or(String::new(), |trouble| trouble.to_string());
                    return Err(StartError::Inside(why));
                }
                lead_alone(shared)?;
                let _ = sender.send(());
                Some(node)
            }
        };
        Ok(Member { in_sync, replicator, heart, ready: Some(ready), inside })
    }

    /// What is told when the cluster lets the broker lead for the first time. Answered once.
    pub fn when_ready(&mut self) -> Option<Receiver<()>> {
        self.ready.take()
    }

    /// Says that the broker is about to stop, and waits until others lead what it led.
    pub fn hand_over(&self, shared: &Shared) {
        if self.inside.is_some() || !self.heart.lock().ready {
            return;
        }
        let me = shared.cluster.me();
        let begin = Command::BeginShutdown { id: me.id, epoch: me.epoch };
        if let Err(fault) = shared.cluster.change(begin) {
            warn!(error = fault.message, "the leaderships could not be handed over");
        }
    }

    /// Ends what the broker does as a member. Others may do as they like from now on.
    pub fn stop(self) {
        self.replicator.stop();
        self.in_sync.stop();
        self.heart.lock().beat = None;
        if let Some(Err(error)) = self.inside.map(Node::stop) {
            error!(%error, "the mini-zookeeper inside had ended");
        }
    }
}

/// Who this broker is, and what it may have lost.
fn me(
    shared: &Shared,
    config: &BrokerConfig,
    directory: &DataDirectory,
    before: Option<&Membership>,
) -> Me {
    let identity = directory.identity();
    let address = &shared.address;
    let host = match address.host.contains(':') {
        true => format!("[{}]", address.host),
        false => address.host.clone(),
    };
    let seen = before.map_or(0, |before| before.state_version);
    Me {
        id: identity.broker_id,
        incarnation: Uuid::new_v4(),
        address: format!("{host}:{}", address.port),
        rack: address.rack.clone(),
        restart: restart(before, directory.stopped_clean()),
        cluster_id: identity.cluster_id.parse().ok(),
        // What a broker that stands alone forgets, its topics tell.
        seen_version: if config.zoo.is_some() { seen } else { 0 },
    }
}

/// What a broker of a cluster does each time when it has registered.
fn joined(
    shared: Arc<Shared>,
    directory: &DataDirectory,
    heart: Arc<Mutex<Heart>>,
) -> impl Fn() + Send + 'static {
    let (path, identity) = (directory.path().to_owned(), directory.identity().clone());
    move || {
        let (shared, heart) = (shared.clone(), heart.clone());
        let (path, identity) = (path.clone(), identity.clone());
        let control = shared.control.clone();
        control.run(move || {
            let (cluster_id, version) = {
                let state = shared.cluster.state();
                (state.cluster_id.to_string(), state.version)
            };
            if identity.cluster_id.is_empty()
                && let Err(error) =
                    directory::join_cluster(shared.store.disk(), &path, &identity, &cluster_id)
            {
                error!(%error, "the cluster's id could not be written down");
                return;
            }
            reconcile::all(&shared);
            reconcile::write_down(&shared, version);
            // Before it can be elected by what it had. Whoever cannot be told is away, and hears of it when
            // the broker registers again.
            if !reconcile::report_lost(&shared) {
                return;
            }
            let mut heart = heart.lock();
            heart.ready = true;
            if let Some(beat) = &heart.beat {
                beat.ready();
            }
        });
    }
}

/// The mini-zookeeper of a broker that stands alone.
fn start_inside(
    shared: &Shared,
    config: &BrokerConfig,
    directory: &DataDirectory,
) -> Result<Node, StartError> {
    let log = RedbLog::open(&config.data)?;
    let settings = NodeSettings {
        liveness: Liveness::Embedded,
        cluster_id: directory.identity().cluster_id.parse().ok(),
        defaults: defaults(&shared.settings),
        beat_interval: Duration::ZERO,
        session_timeout: Duration::ZERO,
        rebalance_after: None,
    };
    Ok(Node::start(Box::new(log), settings)?)
}

/// What the mini-zookeeper inside holds for topics that do not say.
fn defaults(settings: &BrokerSettings) -> BTreeMap<String, String> {
    let names = [
        ("flush", "log.flush.policy"),
        ("min.insync.replicas", "min.insync.replicas"),
        ("unclean.leader.election.enable", "unclean.leader.election.enable"),
    ];
    names.into_iter().map(|(topic, broker)| (topic.to_owned(), settings.text(broker))).collect()
}

/// Brings the topics on the disk, makes what is missing, and leads all of it.
fn lead_alone(shared: &Arc<Shared>) -> Result<(), StartError> {
    let wrong = |fault: mk_net::fault::Fault| StartError::Inside(fault.message);
    adopt(shared).map_err(wrong)?;
    let (sender, done) = mpsc::channel();
    let for_worker = shared.clone();
    shared.control.run(move || {
        reconcile::all(&for_worker);
        let version = for_worker.cluster.state().version;
        reconcile::write_down(&for_worker, version);
        let _ = sender.send(());
    });
    if done.recv().is_err() {
        return Err(StartError::Inside("the control thread has panicked".to_owned()));
    }
    reconcile::report_lost(shared);
    let me = shared.cluster.me();
    shared.cluster.change(Command::Unfence { id: me.id, epoch: me.epoch }).map_err(wrong)
}

/// Topics of which the mini-zookeeper inside knows nothing: it is new, or its file was lost. The topics'
/// own files and logs say all that it needs.
fn adopt(shared: &Shared) -> Result<(), mk_net::fault::Fault> {
    for (name, topic) in shared.topics.load().iter() {
        if shared.cluster.state().topics.contains_key(name) {
            continue;
        }
        let epoch = |log: &Arc<mk_storage::log::Log>| log.last_epoch().map_or(0, |epoch| epoch.0);
        let partitions = topic.partitions();
        let epochs = partitions.iter().map(|partition| partition.log().map_or(0, epoch));
        let adopted = Adopted {
            id: topic.id,
            broker: shared.cluster.me().id,
            settings: topic.settings().own.clone(),
            leader_epochs: epochs.map(LeaderEpoch).collect(),
        };
        shared.cluster.change(Command::AdoptTopic { name: name.clone(), topic: adopted })?;
        info!(topic = name, "a topic was found on the disk");
    }
    Ok(())
}
