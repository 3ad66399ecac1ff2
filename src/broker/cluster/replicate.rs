//! Fetches what this broker follows, and appends it. One thread for all leaders; what is to be asked
//! for and when, [`super::super::replication::fetcher`] says.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use mk_net::message::{Fetch, FetchPart, FetchResponse, Fetched, ReplicaLife};
use mk_storage::{Epoch, Offset};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{debug, error, warn};

use super::super::cleaner;
use super::super::partition::Partition;
use super::super::replication::epochs::EpochEnd;
use super::super::replication::fetcher::{Fetcher, Lane, Order, Outcome};
use super::super::replication::replica::{LeaderLog, NotFollowed, Replica};
use super::super::shared::Shared;
use super::Cluster;
use crate::client::{ClientError, Connection};
use crate::clock::now_ms;
use crate::zoo::message::Report;
use crate::zoo::state::LeaderEpoch;

/// What is to be fetched from now on.
#[derive(Debug)]
pub enum Change {
    /// A partition has this leader.
    Follow {
        /// Which.
        partition: Arc<Partition>,
        /// Its leader.
        leader: u32,
        /// In which epoch.
        epoch: LeaderEpoch,
        /// True if this broker is in sync.
        in_sync: bool,
        /// Bytes a second that it may fetch until it is.
        throttle: Option<u64>,
    },
    /// A partition, by its serial number, has no leader, or this broker leads it or has it no more.
    Leave(u64),
}

/// The thread; [`Replicator::stop`] ends it.
#[derive(Debug)]
pub struct Replicator {
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// What a leader may take for an answer beyond the time that it may wait.
const PATIENCE: Duration = Duration::from_secs(10);

impl Replicator {
    /// Starts the thread.
    pub fn start(
        shared: Arc<Shared>,
        changes: UnboundedReceiver<Change>,
    ) -> std::io::Result<Replicator> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let work = move || {
            runtime.block_on(async {
                let (synced, syncs) = unbounded_channel();
                let driver = Driver::new(shared, Arc::new(synced));
                tokio::select! {
                    () = driver.run(changes, syncs) => {}
                    _ = ended => {}
                }
            });
        };
        let thread = thread::Builder::new().name("mk-replica".to_owned()).spawn(work)?;
        Ok(Replicator { end, thread })
    }

    /// Ends the thread.
    pub fn stop(self) {
        let _ = self.end.send(());
        if self.thread.join().is_err() {
            error!("the thread that fetches from leaders has panicked");
        }
    }
}

struct Driver {
    shared: Arc<Shared>,
    fetcher: Fetcher,
    partitions: HashMap<u64, Arc<Partition>>,
    /// What is much does not share a connection with what is urgent.
    connections: HashMap<(u32, Lane), Arc<Connection>>,
    synced: Arc<UnboundedSender<u64>>,
}

/// What became of a request.
struct Landed {
    order: Order,
    /// The parts that were asked for.
    asked: Vec<(u64, LeaderEpoch)>,
    result: Result<(Option<Arc<Connection>>, FetchResponse, Bytes), ClientError>,
}

impl Driver {
    fn new(shared: Arc<Shared>, synced: Arc<UnboundedSender<u64>>) -> Driver {
        Driver {
            shared,
            fetcher: Fetcher::default(),
            partitions: HashMap::new(),
            connections: HashMap::new(),
            synced,
        }
    }

    async fn run(
        mut self,
        mut changes: UnboundedReceiver<Change>,
        mut syncs: UnboundedReceiver<u64>,
    ) {
        let mut requests: JoinSet<Landed> = JoinSet::new();
        loop {
            while let Some(order) = self.fetcher.next(self.shared.cluster.now()) {
                requests.spawn(self.request(order));
            }
            let now = self.shared.cluster.now();
            let wake = self.fetcher.next_deadline(now).map(|at| at.saturating_sub(now));
            tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => self.obey(change),
                    None => return,
                },
                Some(serial) = syncs.recv() => self.look_if_synced(serial),
                Some(landed) = requests.join_next() => match landed {
                    Ok(landed) => self.take_in(landed),
                    Err(error) => error!(%error, "a fetch from a leader has panicked"),
                },
                () = tokio::time::sleep(wake.unwrap_or_default()), if wake.is_some() => {}
            }
        }
    }

    fn obey(&mut self, change: Change) {
        match change {
            Change::Follow { partition, leader, epoch, in_sync, throttle } => {
                let serial = partition.serial();
                partition.fetching.store(Some(self.synced.clone()));
                self.partitions.insert(serial, partition);
                self.fetcher.follow(serial, leader, epoch, in_sync);
                self.fetcher.throttle(serial, throttle);
                self.look_if_synced(serial);
            }
            Change::Leave(serial) => {
                self.fetcher.leave(serial);
                if let Some(partition) = self.partitions.remove(&serial) {
                    partition.fetching.store(None);
                }
            }
        }
    }

    /// Lets a partition be asked for once what it has is synced; sees to it that it is.
    fn look_if_synced(&mut self, serial: u64) {
        let Some(partition) = self.partitions.get(&serial) else { return };
        let Ok(replica) = partition.replica() else { return };
        if replica.fetch_from(partition.sync_first()).is_some() {
            self.fetcher.synced(serial);
        } else if replica.log().poisoned().is_none() {
            self.fetcher.syncs(serial);
            self.shared.flusher.flush_now(partition);
        }
    }

    fn request(&mut self, order: Order) -> impl Future<Output = Landed> + use<> {
        let Order { leader, lane, .. } = order;
        let connection = self.connections.get(&(leader, lane)).filter(|c| c.is_open()).cloned();
        let address = self.shared.cluster.state().brokers.get(&leader).map(|b| b.address.clone());
        let mut asked = Vec::with_capacity(order.parts.len());
        let mut parts = Vec::with_capacity(order.parts.len());
        for (serial, epoch) in &order.parts {
            if let Some(part) = self.part(*serial, *epoch) {
                asked.push((*serial, *epoch));
                parts.push(part);
            }
        }
        let settings = &self.shared.settings;
        let idle = Duration::from_millis(settings.number("replica.fetch.wait.max.ms"));
        let wait = lane.max_wait(idle);
        let me = self.shared.cluster.me();
        let request = Fetch {
            max_wait_ms: wait.as_millis() as u32,
            min_bytes: 1,
            max_bytes: settings.number("replica.fetch.response.max.bytes") as u32,
            rack: String::new(),
            replica: Some(ReplicaLife { broker: me.id, epoch: me.epoch.0 }),
            parts,
        };
        async move {
            let result = call(connection, address, &request, wait + PATIENCE).await;
            Landed { order, asked, result }
        }
    }

    fn part(&self, serial: u64, epoch: LeaderEpoch) -> Option<FetchPart> {
        let partition = self.partitions.get(&serial)?;
        let replica = partition.replica().ok()?;
        let (offset, last_epoch) = replica.fetch_from(partition.sync_first())?;
        let topic = self.shared.topic(partition.topic()).ok()?;
        let most = self.shared.settings.number("replica.fetch.max.bytes");
        Some(FetchPart {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partition: partition.number(),
            offset: offset.0,
            max_bytes: self.fetcher.most_bytes(serial, most) as u32,
            leader_epoch: epoch.0,
            last_epoch: last_epoch.map_or(-1, |epoch| epoch.0),
            high_watermark: replica.log().high_watermark().0,
        })
    }

    fn take_in(&mut self, landed: Landed) {
        let Landed { order, asked, result } = landed;
        self.fetcher.landed(&order);
        let now = self.shared.cluster.now();
        let place = (order.leader, order.lane);
        let (response, mut payload) = match result {
            Ok((connection, response, payload)) if response.parts.len() == asked.len() => {
                self.connections.extend(connection.map(|connection| (place, connection)));
                (response, payload)
            }
            other => {
                if let Err(error) = other {
                    debug!(leader = order.leader, %error, "a leader does not answer");
                }
                self.connections.remove(&place);
                for (serial, epoch) in order.parts {
                    self.fetcher.came(serial, epoch, Outcome::Failed, now);
                }
                return;
            }
        };
        // Those that were not asked for after all.
        for (serial, epoch) in order.parts.iter().filter(|part| !asked.contains(part)) {
            self.fetcher.came(*serial, *epoch, Outcome::Failed, now);
        }
        for ((serial, epoch), part) in asked.into_iter().zip(response.parts) {
            let length = part.as_ref().map_or(0, |fetched| fetched.length as usize);
            let batches = payload.split_to(length.min(payload.len()));
            let Some(partition) = self.partitions.get(&serial).cloned() else { continue };
            let outcome = match part {
                Ok(fetched) => self.take_part(&partition, epoch, &fetched, &batches),
                Err(fault) => {
                    let (topic, number) = (partition.topic(), partition.number());
                    debug!(topic, partition = number, %fault, "the leader refuses");
                    Outcome::Failed
                }
            };
            self.fetcher.brought(serial, batches.len() as u64, now);
            self.fetcher.came(serial, epoch, outcome, now);
            if outcome == Outcome::Moved {
                self.look_if_synced(serial);
            }
        }
    }

    /// Does to the log what the leader has said.
    fn take_part(
        &self,
        partition: &Arc<Partition>,
        epoch: LeaderEpoch,
        fetched: &Fetched,
        batches: &Bytes,
    ) -> Outcome {
        let Ok(replica) = partition.replica() else { return Outcome::Broken };
        let (topic, number) = (partition.topic(), partition.number());
        let result = match &fetched.diverging {
            Some(end) => {
                let end = EpochEnd { epoch: Epoch(end.epoch), end: Offset(end.end) };
                self.cut(partition, replica, epoch, end)
            }
            None => self.copy(partition, replica, epoch, fetched, batches),
        };
        match result {
            Ok(outcome) => outcome,
            Err(NotFollowed::Superseded) => Outcome::Failed,
            Err(error) if replica.log().poisoned().is_some() => {
                error!(topic, partition = number, %error, "a follower's log takes nothing any more");
                Outcome::Broken
            }
            Err(error) => {
                warn!(topic, partition = number, %error, "what the leader sent was not taken");
                Outcome::Failed
            }
        }
    }

    fn copy(
        &self,
        partition: &Arc<Partition>,
        replica: &Replica,
        epoch: LeaderEpoch,
        fetched: &Fetched,
        batches: &Bytes,
    ) -> Result<Outcome, NotFollowed> {
        let log = replica.log();
        let before = (log.end(), log.high_watermark());
        let theirs = LeaderLog {
            high_watermark: Offset(fetched.high_watermark),
            start: Offset(fetched.log_start_offset),
        };
        let copied = replica.copy(epoch, batches, theirs, now_ms())?;
        if log.high_watermark() != before.1 {
            self.shared.committed(partition);
        }
        if theirs.start > log.start() {
            let grave = cleaner::grave(&self.shared, partition);
            log.trim(theirs.start.min(log.end()), Some(&grave))?;
        }
        if copied.end == before.0 {
            return Ok(Outcome::Quiet);
        }
        let flush = self.shared.topic(partition.topic()).map(|topic| topic.effective().flush);
        if let Ok(flush) = flush {
            self.shared.flusher.appended(partition, flush);
        }
        if copied.rolled {
            self.shared.flusher.flush_now(partition);
        }
        Ok(Outcome::Moved)
    }

    fn cut(
        &self,
        partition: &Partition,
        replica: &Replica,
        epoch: LeaderEpoch,
        leader: EpochEnd,
    ) -> Result<Outcome, NotFollowed> {
        let (topic, number, before) = (partition.topic(), partition.number(), replica.log().end());
        let (end, committed) = replica.cut(epoch, leader)?;
        if committed > 0 {
            // Only after an unclean election.
            error!(topic, partition = number, %end, committed, "committed records were cut");
        } else {
            warn!(topic, partition = number, %before, %end, "the log parted from the leader's, and was cut");
        }
        let report = Report::RecordsCut {
            topic: topic.to_owned(),
            partition: number,
            broker: self.shared.cluster.me().id,
            from: end.0,
            to: before.0,
            committed: committed > 0,
        };
        Cluster::report(&self.shared, report);
        Ok(Outcome::Moved)
    }
}

async fn call(
    connection: Option<Arc<Connection>>,
    address: Option<String>,
    request: &Fetch,
    patience: Duration,
) -> Result<(Option<Arc<Connection>>, FetchResponse, Bytes), ClientError> {
    let (fresh, connection) = match connection {
        Some(connection) => (None, connection),
        None => {
            let address = address
                .ok_or_else(|| ClientError::Invalid("the leader has no address".to_owned()))?;
            let connection = Arc::new(Connection::open(&address, CONNECT_TIMEOUT).await?);
            (Some(connection.clone()), connection)
        }
    };
    let (response, payload) = connection.call(request, Bytes::new(), patience).await?;
    Ok((fresh, response, payload))
}
