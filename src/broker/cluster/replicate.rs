//! Fetches what this broker follows, and has it appended. One thread for all leaders, and one behind it
//! for what is far behind; what is to be asked for and when, [`super::super::replication::fetcher`] says.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use mk_net::message::{Fetch, FetchPart, FetchResponse, ReplicaLife};
use mk_storage::Offset;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tracing::{debug, error};

use super::super::background::stand_back;
use super::super::partition::Partition;
use super::super::replication::fetcher::{Fetcher, Lane, Order, Outcome};
use super::super::replication::replica::{FetchedFrom, Replica};
use super::super::shared::Shared;
use super::super::worker::{Worker, WorkerThread};
use super::apply::{self, Asked};
use crate::client::{ClientError, Connection};
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

/// The threads; [`Replicator::stop`] ends them.
#[derive(Debug)]
pub struct Replicator {
    end: oneshot::Sender<()>,
    thread: JoinHandle<()>,
    catch_up: WorkerThread,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// What a leader may take for an answer beyond the time that it may wait.
const PATIENCE: Duration = Duration::from_secs(10);

impl Replicator {
    /// Starts the threads.
    pub fn start(
        shared: Arc<Shared>,
        changes: UnboundedReceiver<Change>,
    ) -> std::io::Result<Replicator> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        let (worker, catch_up) = WorkerThread::start("mk-catch-up")?;
        worker.run(stand_back);
        let work = move || {
            runtime.block_on(async {
                let (synced, syncs) = unbounded_channel();
                let driver = Driver::new(shared, Arc::new(synced), worker);
                tokio::select! {
                    () = driver.run(changes, syncs) => {}
                    _ = ended => {}
                }
            });
        };
        let thread = thread::Builder::new().name("mk-replica".to_owned()).spawn(work)?;
        Ok(Replicator { end, thread, catch_up })
    }

    /// Ends the threads.
    pub fn stop(self) {
        let _ = self.end.send(());
        if self.thread.join().is_err() {
            error!("the thread that fetches from leaders has panicked");
        }
        self.catch_up.stop();
    }
}

struct Driver {
    shared: Arc<Shared>,
    fetcher: Fetcher,
    partitions: HashMap<u64, Arc<Partition>>,
    /// What is much does not share a connection with what is urgent.
    connections: HashMap<(u32, Lane), Arc<Connection>>,
    synced: Arc<UnboundedSender<u64>>,
    /// Where is taken in what is much.
    catch_up: Worker,
}

/// What became of a request.
struct Landed {
    order: Order,
    /// The parts that were asked for, by their serial numbers.
    asked: Vec<(u64, LeaderEpoch)>,
    result: Result<Answered, ClientError>,
}

/// An answer that was taken in.
struct Answered {
    /// The connection, if it is a new one.
    connection: Option<Arc<Connection>>,
    /// What became of each part, and how many bytes it brought.
    parts: Vec<(Outcome, u64)>,
}

impl Driver {
    fn new(shared: Arc<Shared>, synced: Arc<UnboundedSender<u64>>, catch_up: Worker) -> Driver {
        Driver {
            shared,
            fetcher: Fetcher::default(),
            partitions: HashMap::new(),
            connections: HashMap::new(),
            synced,
            catch_up,
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
                    Ok(landed) => self.landed(landed),
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
            if let Some((partition, part)) = self.part(*serial, *epoch) {
                let from = FetchedFrom { epoch: *epoch, offset: Offset(part.offset) };
                asked.push(Asked { partition, from });
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
            reader: None,
            parts,
        };
        let (shared, catch_up) = (self.shared.clone(), self.catch_up.clone());
        async move {
            let serials = asked.iter().map(|asked| (asked.partition.serial(), asked.from.epoch));
            let serials = serials.collect();
            let result = call(connection, address, &request, wait + PATIENCE).await;
            let result = match result {
                Ok(answer) => take_in(shared, catch_up, lane, asked, answer).await,
                Err(error) => Err(error),
            };
            Landed { order, asked: serials, result }
        }
    }

    fn part(&self, serial: u64, epoch: LeaderEpoch) -> Option<(Arc<Partition>, FetchPart)> {
        let partition = self.partitions.get(&serial)?;
        let replica = partition.replica().ok()?;
        let (offset, last_epoch) = replica.fetch_from(partition.sync_first())?;
        let topic = self.shared.topic(partition.topic()).ok()?;
        let most = self.shared.settings.number("replica.fetch.max.bytes");
        let part = FetchPart {
            topic: topic.name.clone(),
            topic_id: topic.id,
            partition: partition.number(),
            offset: offset.0,
            max_bytes: self.fetcher.most_bytes(serial, most) as u32,
            leader_epoch: epoch.0,
            last_epoch: last_epoch.map_or(-1, |epoch| epoch.0),
            high_watermark: replica.log().high_watermark().0,
        };
        Some((partition.clone(), part))
    }

    fn landed(&mut self, landed: Landed) {
        let Landed { order, asked, result } = landed;
        self.fetcher.landed(&order);
        let now = self.shared.cluster.now();
        let place = (order.leader, order.lane);
        let Answered { connection, parts } = match result {
            Ok(answered) => answered,
            Err(error) => {
                debug!(leader = order.leader, %error, "a leader does not answer");
                self.connections.remove(&place);
                for (serial, epoch) in order.parts {
                    self.fetcher.came(serial, epoch, Outcome::Failed, now);
                }
                return;
            }
        };
        self.connections.extend(connection.map(|connection| (place, connection)));
        for (serial, epoch) in order.parts.iter().filter(|part| !asked.contains(part)) {
            let replica = self.partitions.get(serial).and_then(|known| known.replica().ok());
            let outcome = replica.map_or(Outcome::Failed, Replica::not_asked);
            self.fetcher.came(*serial, *epoch, outcome, now);
        }
        for ((serial, epoch), (outcome, bytes)) in asked.into_iter().zip(parts) {
            self.fetcher.brought(serial, bytes, now);
            self.fetcher.came(serial, epoch, outcome, now);
            if outcome == Outcome::Moved {
                self.look_if_synced(serial);
            }
        }
    }
}

/// Takes an answer in: what is much on a thread of its own, so that what is urgent does not wait for it.
async fn take_in(
    shared: Arc<Shared>,
    catch_up: Worker,
    lane: Lane,
    asked: Vec<Asked>,
    (connection, response, payload): (Option<Arc<Connection>>, FetchResponse, Bytes),
) -> Result<Answered, ClientError> {
    if response.parts.len() != asked.len() {
        let what = format!("{} results for {} partitions", response.parts.len(), asked.len());
        return Err(ClientError::Invalid(what));
    }
    let parts = if lane == Lane::CatchUp {
        let (done, outcome) = oneshot::channel();
        catch_up.run(move || _ = done.send(apply::answer(&shared, &asked, response, payload)));
        let ended = |_| ClientError::Invalid("the broker is stopping".to_owned());
        outcome.await.map_err(ended)?
    } else {
        apply::answer(&shared, &asked, response, payload)
    };
    Ok(Answered { connection, parts })
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
