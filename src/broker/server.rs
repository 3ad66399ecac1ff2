//! Starts the threads of a broker, and stops them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use mk_net::connection::ConnectionLimits;
use mk_net::event_loop::{Counters, Limits, Prepared, Server};
use mk_net::message::BrokerAddress;
use mk_storage::directory::{DataDirectory, DirectoryError};
use mk_storage::error::DiskError;
use mk_storage::store::{OpenLimits, Store};
use tracing::error;
use uuid::Uuid;

use super::background::Background;
use super::catalog::CatalogError;
use super::clients::Clients;
use super::cluster::{Cluster, Member};
use super::compactor::{self, CompactCounters};
use super::config::{BrokerConfig, ConfigError};
use super::flusher::FlushThreads;
use super::groups::coordinator::{Coordinator, CoordinatorThread};
use super::membership::MembershipError;
use super::note::Note;
use super::open::{RecoverySummary, open_topics};
use super::partition::Partition;
use super::progress::Owed;
use super::quotas::Quotas;
use super::scrubber::{self, ScrubCounters};
use super::service::BrokerService;
use super::shared::{Shared, tell_of_commit};
use super::worker::WorkerThread;
use super::{cleaner, sweeper};
use crate::settings::BrokerSettings;
use crate::zoo::node::NodeError;
use crate::zoo::store::StoreError;

/// A broker that runs. To be stopped with [`Broker::stop`]; if it is dropped its process had
/// better end, and the next start recovers.
pub struct Broker {
    shared: Arc<Shared>,
    directory: DataDirectory,
    server: Server<Note>,
    flush_threads: FlushThreads,
    background: Vec<Background>,
    coordinator: CoordinatorThread,
    workers: Vec<WorkerThread>,
    member: Member,
    recovery: RecoverySummary,
}

/// Why a broker does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It was not told what it must know.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A topic's file cannot be used.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}{}", hint(.source))]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// What the directory says of its life in the cluster cannot be used.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// The file of the mini-zookeeper inside cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The mini-zookeeper inside cannot begin.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The mini-zookeeper inside does not take its broker in.
    #[error("the mini-zookeeper inside does not work: {0}")]
    Inside(String),
    /// The system refuses threads or the like.
    #[error("the system refuses what a broker needs: {0}")]
    System(#[from] std::io::Error),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "\nhint: another broker may run there; --listen takes another address"
        }
        std::io::ErrorKind::PermissionDenied => "\nhint: ports below 1024 need more rights",
        _ => "",
    }
}

/// What went wrong when a broker stopped. The next start recovers.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// Some logs could not be closed; see the log.
    #[error("{0} partitions could not be closed in good order")]
    Partitions(usize),
    /// The clean-shutdown mark could not be written.
    #[error(transparent)]
    Mark(#[from] DiskError),
}

/// Bytes that may wait to be sent on a connection before no more requests are taken from it.
const MOST_OUTGOING: u64 = 4 << 20;
/// Requests of a connection that may wait for their answer.
const MOST_PENDING: usize = 256;
/// How long a stop waits for answers that are on their way.
const GRACE: Duration = Duration::from_secs(5);

impl Broker {
    /// Starts a broker. One that carries its mini-zookeeper inside serves when this returns; one of a
    /// cluster does when the cluster has taken it in ([`Broker::when_ready`]).
    pub fn start(config: &BrokerConfig) -> Result<Broker, StartError> {
        let settings = &config.settings;
        let disk = config.disk()?;
        // First what may be refused without a look at the data.
        let address = config.listen_address()?;
        let limits = limits(settings);
        let prepared = Prepared::<Note>::bind(address, config.loops(), limits)
            .map_err(|source| StartError::Listen { address, source })?;
        let (host, port) = config.advertised(prepared.address())?;
        let directory = DataDirectory::open(disk.as_ref(), &config.data, || config.identity())?;
        let identity = directory.identity().clone();
        config.check_id(identity.broker_id)?;
        let store = Store::new(disk, open_limits(settings));
        let (topics_dir, trash_dir) = (directory.topics(), directory.trash());
        let defaults = BTreeMap::new();
        let (topics, mut recovery) =
            open_topics(&store, &topics_dir, &trash_dir, &defaults, settings)?;
        recovery.stopped_clean = directory.stopped_clean();

        let mailboxes = prepared.mailboxes();
        let (cluster, queues) = Cluster::new(identity.broker_id, config.zoo.clone());
        let (flusher, flush_threads) = start_flushers(settings, mailboxes.clone())?;
        let (control, control_thread) = WorkerThread::start("mk-control")?;
        let (admin, admin_thread) = WorkerThread::start("mk-admin")?;
        let (lookup, lookup_thread) = WorkerThread::start("mk-lookup")?;
        let (groups, groups_inbox) = Coordinator::new();
        let rack = Some(settings.text("broker.rack")).filter(|rack| !rack.is_empty());
        let shared = Arc::new(Shared {
            settings: settings.clone(),
            address: BrokerAddress { id: identity.broker_id, host, port, rack },
            cluster,
            topics: ArcSwap::from_pointee(topics),
            store,
            data: config.data.clone(),
            topics_dir,
            trash_dir,
            flusher,
            owed: mailboxes.iter().map(|_| Owed::default()).collect(),
            mailboxes,
            control,
            admin,
            clients: Clients::default(),
            quotas: Quotas::new(settings),
            groups,
            scrubbed: ScrubCounters::default(),
            compacted: CompactCounters::default(),
            lookup,
        });
        for (topic, number) in &recovery.scanned {
            if let Ok((_, partition)) = shared.partition(topic, Uuid::nil(), *number) {
                shared.flusher.recovered(&partition);
            }
        }
        let background = start_background(&shared)?;
        let coordinator = CoordinatorThread::start(shared.clone(), groups_inbox)?;
        let member = Member::start(&shared, queues, config, &directory)?;
        let server = prepared.start(|index| BrokerService::new(index, shared.clone()))?;
        let workers = vec![admin_thread, control_thread, lookup_thread];
        Ok(Broker {
            shared,
            directory,
            server,
            flush_threads,
            background,
            coordinator,
            workers,
            member,
            recovery,
        })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.shared.cluster.me().id
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What its start found.
    pub fn recovery(&self) -> &RecoverySummary {
        &self.recovery
    }

    /// What has happened on the wire.
    pub fn counters(&self) -> &Counters {
        self.server.counters()
    }

    /// What the scrubber has done since the start.
    pub fn scrubbed(&self) -> &ScrubCounters {
        &self.shared.scrubbed
    }

    /// What the compactor has done since the start.
    pub fn compacted(&self) -> &CompactCounters {
        &self.shared.compacted
    }

    /// What is told when the broker is ready, which is when its cluster lets it lead: one that stands
    /// alone is at once. Answered once.
    pub fn when_ready(&mut self) -> Option<Receiver<()>> {
        self.member.when_ready()
    }

    /// Stops in good order: hands its leaderships over, answers what can be answered, syncs and closes
    /// all logs.
    pub fn stop(self) -> Result<(), StopError> {
        self.member.hand_over(&self.shared);
        self.shared.groups.close();
        self.server.stop(GRACE);
        self.member.stop();
        self.coordinator.stop();
        for worker in self.workers {
            worker.stop();
        }
        self.flush_threads.stop();
        self.background.into_iter().for_each(Background::stop);
        let topics = self.shared.topics.load();
        let partitions: Vec<_> =
            topics.values().flat_map(|topic| topic.partitions().to_vec()).collect();
        let threads = self.shared.settings.number("num.recovery.threads.per.data.dir") as usize;
        match close_all(&partitions, threads) {
            0 => Ok(self.directory.mark_clean(self.shared.store.disk())?),
            failed => Err(StopError::Partitions(failed)),
        }
    }
}

fn start_background(shared: &Arc<Shared>) -> std::io::Result<Vec<Background>> {
    let idle = Duration::from_millis(shared.settings.number("log.idle.close.ms"));
    Ok(vec![
        sweeper::start(shared.store.clone(), idle)?,
        scrubber::start(shared.clone())?,
        cleaner::start(shared.clone())?,
        compactor::start(shared.clone())?,
    ])
}

fn open_limits(settings: &BrokerSettings) -> OpenLimits {
    OpenLimits {
        files: settings.number("log.open.files.max") as usize,
        logs: settings.number("log.open.partitions.max") as usize,
    }
}

fn limits(settings: &BrokerSettings) -> Limits {
    Limits {
        connection: ConnectionLimits {
            max_frame: settings.number("socket.request.max.bytes") as u32,
            max_outgoing: MOST_OUTGOING,
            max_pending: MOST_PENDING,
        },
        max_connections: settings.number("max.connections") as usize,
        idle: Duration::from_millis(settings.number("connections.max.idle.ms")),
    }
}

fn start_flushers(
    settings: &BrokerSettings,
    mailboxes: Arc<[mk_net::event_loop::Mailbox<Note>]>,
) -> std::io::Result<(super::flusher::Flusher, FlushThreads)> {
    let threads = settings.number("num.recovery.threads.per.data.dir") as usize;
    let interval = Duration::from_millis(settings.number("log.flush.checkpoint.interval.ms"));
    FlushThreads::start(threads, interval, move |partition| {
        let Ok(replica) = partition.replica() else { return };
        // Whoever waits is told of a failure, too.
        if replica.progressed(partition.sync_first()) || replica.log().poisoned().is_some() {
            tell_of_commit(&mailboxes, partition);
        }
        if let Some(fetching) = &*partition.fetching.load() {
            // Nobody fetches any more while the broker stops.
            let _ = fetching.send(partition.serial());
        }
    })
}

/// Closes logs side by side. Answers how many could not be closed. One that is offline was never
/// open.
fn close_all(partitions: &[Arc<Partition>], threads: usize) -> usize {
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let work = || {
        while let Some(partition) = partitions.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Ok(log) = partition.log() else { continue };
            if let Err(error) = log.close() {
                let (topic, number) = (partition.topic(), partition.number());
                error!(topic, partition = number, %error, "a log was not closed in good order");
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads.min(partitions.len()) {
            scope.spawn(work);
        }
    });
    failed.into_inner()
}
