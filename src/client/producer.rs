//! The producer: collects records, sends batches, sends them again until they are acknowledged. Each is in
//! the log once, and in the order in which it was given, but with acks=0.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{InitProducerId, Produce, ProducePart};
use mk_storage::Timestamp;
use mk_storage::batch::{BatchBuilder, Compression, RecordFields};
use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, Semaphore, oneshot};
use tokio::task::{JoinHandle, JoinSet};

use super::Admin;
use super::accumulator::{Accumulator, BatchSettings, Place, Pushed};
use super::backoff::{Backoff, sleep_until};
use super::batch::{Batch, Delivery};
use super::cluster::{Cluster, Lane, PartitionKey, TopicInfo};
use super::error::ClientError;
use super::partitioner::partition_of_key;
use super::queue::{Answer, Landed};
use super::retry::RetryInterceptor;
use crate::clock::TimeOfDay;
use crate::settings::parse_bytes;

/// What a producer waits for before it calls a record delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acks {
    /// Nothing.
    None,
    /// The leader has it in memory.
    Leader,
    /// It is as safe as the topic asks for: on the disk, unless the topic says otherwise.
    All,
}

/// How a producer works; Kafka's names and defaults where nothing else is said.
#[derive(Clone, Debug)]
pub struct ProducerSettings {
    /// `acks`. Other than [`Acks::None`] the producer is idempotent (`enable.idempotence`).
    pub acks: Acks,
    /// `batch.size`: a batch with so many bytes is sent at once; while none can be sent one takes up to four
    /// times as many, if the topic's `max.message.bytes` allows. 64 KiB.
    pub batch_size: usize,
    /// `linger.ms`: how long a batch waits for more records. 5 ms.
    pub linger: Duration,
    /// `compression.type`.
    pub compression: Compression,
    /// `buffer.memory`: bytes of records that wait; [`Producer::send`] waits for room. 64 MiB.
    pub buffer_memory: usize,
    /// `max.request.size`: of a request, and of a record. 8 MiB.
    pub max_request_size: usize,
    /// Asked before a batch is sent again; none: it is.
    pub retry_interceptor: Option<RetryInterceptor>,
    /// `delivery.timeout.ms`: a record that is not acknowledged by then has failed. 2 minutes.
    pub delivery_timeout: Duration,
}

impl Default for ProducerSettings {
    fn default() -> ProducerSettings {
        ProducerSettings {
            acks: Acks::All,
            batch_size: 64 << 10,
            linger: Duration::from_millis(5),
            compression: Compression::None,
            buffer_memory: 64 << 20,
            max_request_size: 8 << 20,
            retry_interceptor: None,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

/// A record to send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerRecord {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition; `None`: by the key, as Kafka's clients do, or any.
    pub partition: Option<u32>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since 1970; `None`: now.
    pub timestamp_ms: Option<i64>,
}

impl ProducerRecord {
    /// Its fields, as a batch takes them.
    fn with_fields<T>(&self, work: impl FnOnce(&RecordFields<'_>) -> T) -> T {
        let (key, value) = (self.key.as_deref(), self.value.as_deref());
        if self.headers.is_empty() {
            return work(&RecordFields { key, value, headers: &[] });
        }
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        work(&RecordFields { key, value, headers: &headers })
    }
}

/// Sends records. To be closed with [`Producer::close`], which waits for what is on its way; what
/// is dropped with it has failed.
#[derive(Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    driver: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    cluster: Cluster,
    settings: ProducerSettings,
    buffer: Mutex<Buffer>,
    /// Bytes of the buffer that are free.
    room: Semaphore,
    /// Told when there may be something to send.
    changed: Notify,
    /// Its id, once it is sent for the first time.
    id: OnceCell<i64>,
}

#[derive(Debug)]
struct Buffer {
    accumulator: Accumulator,
    time: TimeOfDay,
}

/// What became of a request: for each partition its batches, each with its result.
type Answers = Vec<(PartitionKey, Vec<(Batch, Answer)>)>;

/// What a record costs beside its bytes: its delivery, and its share of the batch.
const OVERHEAD: usize = 64;

impl Producer {
    /// Starts a producer. To be called inside a tokio runtime.
    pub fn new(cluster: Cluster, settings: ProducerSettings) -> Producer {
        let batches = BatchSettings {
            batch_size: settings.batch_size,
            linger: settings.linger,
            compression: settings.compression,
            max_request_size: settings.max_request_size,
            delivery_timeout: settings.delivery_timeout,
            numbered: settings.acks != Acks::None,
        };
        let shared = Arc::new(Shared {
            buffer: Mutex::new(Buffer {
                accumulator: Accumulator::new(batches),
                time: TimeOfDay::new(),
            }),
            room: Semaphore::new(settings.buffer_memory.min(Semaphore::MAX_PERMITS)),
            changed: Notify::new(),
            id: OnceCell::new(),
            cluster,
            settings,
        });
        let driver = tokio::spawn(drive(shared.clone()));
        Producer { shared, driver }
    }

    /// Puts a record into the buffer, waiting for room if there is none. Where it ends up, the
    /// [`Delivery`] says. Records of one partition keep their order.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ClientError> {
        let shared = &*self.shared;
        let charge = shared.charge_of(&record)?;
        let now = Instant::now();
        // Mostly nothing is to be waited for, and the future is small that does not.
        if let Some(topic) = shared.cluster.young_topic(&record.topic, now) {
            let place = place_of(&record, &topic)?;
            if let Ok(room) = shared.room.try_acquire_many(charge) {
                room.forget();
                return Ok(shared.push(now, &topic.name, place, &record, charge));
            }
        }
        Box::pin(shared.push_when_there_is_room(&record, charge)).await
    }

    /// Sends all that waits, at once, and waits until each record was acknowledged or has failed.
    pub async fn flush(&self) {
        let _flushing = Flushing::begin(&self.shared);
        let landings = self.shared.buffer.lock().accumulator.landings();
        for landing in landings {
            landing.wait().await;
        }
    }

    /// Flushes and ends.
    pub async fn close(self) {
        self.flush().await;
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// While this lives nothing lingers.
struct Flushing<'a>(&'a Shared);

impl Flushing<'_> {
    fn begin(shared: &Shared) -> Flushing<'_> {
        shared.buffer.lock().accumulator.flushing += 1;
        shared.changed.notify_one();
        Flushing(shared)
    }
}

impl Drop for Flushing<'_> {
    fn drop(&mut self) {
        self.0.buffer.lock().accumulator.flushing -= 1;
    }
}

impl Shared {
    /// What a record takes of the buffer.
    fn charge_of(&self, record: &ProducerRecord) -> Result<u32, ClientError> {
        let size = record.with_fields(BatchBuilder::size_of_one);
        let limit = self.settings.max_request_size;
        if size > limit {
            return Err(ClientError::RecordTooLarge { size, limit });
        }
        Ok((size + OVERHEAD).min(self.settings.buffer_memory).min(u32::MAX as usize) as u32)
    }

    async fn push_when_there_is_room(
        &self,
        record: &ProducerRecord,
        charge: u32,
    ) -> Result<Delivery, ClientError> {
        let topic = self.cluster.topic(&record.topic).await?;
        let place = place_of(record, &topic)?;
        let room = self.room.acquire_many(charge).await;
        room.map_err(|_| ClientError::Closed)?.forget();
        Ok(self.push(Instant::now(), &topic.name, place, record, charge))
    }

    /// Puts a record into its batch, which has room.
    fn push(
        &self,
        now: Instant,
        topic: &Arc<str>,
        place: Place,
        record: &ProducerRecord,
        charge: u32,
    ) -> Delivery {
        let (delivery, look) = record.with_fields(|fields| {
            let mut buffer = self.buffer.lock();
            let at = record.timestamp_ms.unwrap_or_else(|| buffer.time.ms(now));
            let pushed = Pushed { fields, timestamp: Timestamp(at), charge: charge as usize };
            buffer.accumulator.push(now, topic, place, &pushed)
        });
        if look {
            self.changed.notify_one();
        }
        delivery
    }

    /// The producer's id, which a broker gives it; any with acks=0, where nobody looks.
    async fn producer_id(&self) -> Result<i64, ClientError> {
        if self.settings.acks == Acks::None {
            return Ok(-1);
        }
        let request = InitProducerId { client_id: self.cluster.settings().client_id.clone() };
        let ask = async || Ok(self.cluster.call_any(&request, true).await?.producer_id);
        self.id.get_or_try_init(ask).await.copied()
    }

    fn give_back(&self, bytes: usize) {
        self.room.add_permits(bytes);
    }
}

/// Sends what is due, takes in what has landed, for as long as the producer lives.
async fn drive(shared: Arc<Shared>) {
    let mut requests: JoinSet<Answers> = JoinSet::new();
    let mut backoffs: Backoffs = HashMap::new();
    let mut last: HashMap<Option<u32>, oneshot::Receiver<()>> = HashMap::new();
    let mut known: HashSet<Arc<str>> = HashSet::new();
    loop {
        let now = Instant::now();
        let (freed, drained, due) = {
            let accumulator = &mut shared.buffer.lock().accumulator;
            let freed = accumulator.expire(now);
            let drained = accumulator.drain(now);
            (freed, drained, accumulator.next_due(now))
        };
        shared.give_back(freed);
        if !drained.is_empty() {
            for ((topic, _), _) in &drained {
                if !known.contains(topic) {
                    known.insert(topic.clone());
                    let cluster = shared.cluster.clone();
                    tokio::spawn(learn_limit(Arc::downgrade(&shared), cluster, topic.clone()));
                }
            }
            for (leader, runs) in by_leader(&shared, drained) {
                let (mine, sent) = oneshot::channel();
                let turn = Turn { before: last.insert(leader, sent), mine };
                requests.spawn(request(shared.clone(), leader, runs, turn));
            }
            continue;
        }
        tokio::select! {
            () = shared.changed.notified() => {}
            Some(landed) = requests.join_next() => match landed {
                Ok(landed) => take_in(&shared, &mut backoffs, landed),
                Err(error) => tracing::error!(%error, "a request has panicked"),
            },
            () = sleep_until(due) => {}
        }
    }
}

/// Asks how large a batch the topic takes. If nobody says, batches stay as small as `batch.size`.
async fn learn_limit(shared: Weak<Shared>, cluster: Cluster, topic: Arc<str>) {
    let admin = Admin::new(cluster);
    let Ok(described) = admin.describe_topics(Some(vec![topic.to_string()])).await else { return };
    let settings =
        described.into_iter().filter_map(|(_, topic)| topic.ok()).flat_map(|t| t.settings);
    let limit = settings.into_iter().find(|setting| setting.name == "max.message.bytes");
    let limit = limit.and_then(|setting| parse_bytes(&setting.value));
    // Whose records wait shall not be kept by this.
    if let Some((limit, shared)) = limit.zip(shared.upgrade()) {
        shared.buffer.lock().accumulator.set_limit(&topic, limit as usize);
    }
}

/// How long the partitions wait that have failed, and until when they do: what fails with it adds nothing.
type Backoffs = HashMap<PartitionKey, (Backoff, Instant)>;

type Runs = Vec<(PartitionKey, Vec<Batch>)>;

/// Requests to a leader are sent in the order in which they were made.
struct Turn {
    /// Ends when the request before was sent, or failed.
    before: Option<oneshot::Receiver<()>>,
    /// Dropped when this one was.
    mine: oneshot::Sender<()>,
}

fn by_leader(shared: &Shared, drained: Runs) -> BTreeMap<Option<u32>, Runs> {
    let mut groups: BTreeMap<Option<u32>, Runs> = BTreeMap::new();
    for (key, batches) in drained {
        let leader = shared.cluster.known_leader(&key.0, key.1);
        groups.entry(leader).or_default().push((key, batches));
    }
    groups
}

/// One produce request to a leader. Whatever happens, every batch comes back with a result.
async fn request(shared: Arc<Shared>, leader: Option<u32>, mut runs: Runs, turn: Turn) -> Answers {
    let answers = match leader {
        Some(leader) => {
            let answers = produce(&shared, leader, &mut runs, turn).await;
            let failed = |result: &Result<_, ClientError>| result.is_err();
            if answers.as_ref().map_or(true, |answers| answers.iter().any(failed)) {
                // Perhaps the leader is another by now.
                runs.iter().for_each(|(key, _)| shared.cluster.suspect(&key.0));
            }
            answers
        }
        None => Err(refresh(&shared, &runs).await.err().unwrap_or(ClientError::LeaderFound)),
    };
    let mut answers = answers.map(Vec::into_iter);
    let mut next = || match &mut answers {
        Ok(answers) => answers.next().unwrap_or(Err(ClientError::Closed)),
        Err(error) => Err(error.clone()),
    };
    let with_results = runs
        .into_iter()
        .map(|(key, batches)| (key, batches.into_iter().map(|batch| (batch, next())).collect()));
    with_results.collect()
}

/// Asks who leads these partitions. The answer serves the next try, which may come at once if all have
/// a leader.
async fn refresh(shared: &Shared, runs: &Runs) -> Result<(), ClientError> {
    let mut names: Vec<String> = runs.iter().map(|((topic, _), _)| topic.to_string()).collect();
    names.dedup();
    let metadata = shared.cluster.metadata_once(names, true).await?;
    if let Some(fault) = metadata.topics.into_iter().find_map(|topic| topic.result.err()) {
        return Err(fault.into());
    }
    let leader = |(topic, partition): &PartitionKey| shared.cluster.known_leader(topic, *partition);
    if runs.iter().all(|(key, _)| leader(key).is_some()) {
        return Ok(());
    }
    Err(Fault::new(ErrorCode::LEADER_NOT_AVAILABLE, "a partition has no leader").into())
}

async fn produce(
    shared: &Shared,
    leader: u32,
    runs: &mut Runs,
    turn: Turn,
) -> Result<Vec<Answer>, ClientError> {
    let id = shared.producer_id().await?;
    let request_timeout = shared.cluster.settings().request_timeout;
    let mut parts = Vec::new();
    let mut payload = Vec::new();
    for ((topic, partition), batches) in runs.iter_mut() {
        let topic_id = shared.cluster.known_id(topic);
        for batch in batches {
            let bytes = batch.bytes(id)?;
            parts.push(ProducePart {
                topic: topic.to_string(),
                topic_id,
                partition: *partition,
                length: bytes.len() as u32,
            });
            payload.push(bytes);
        }
    }
    let acks = match shared.settings.acks {
        Acks::None => 0,
        Acks::Leader => 1,
        Acks::All => -1,
    };
    let count = parts.len();
    let request = Produce { acks, timeout_ms: request_timeout.as_millis() as u32, parts };
    if let Some(before) = turn.before {
        // It ends without a word.
        let _ = before.await;
    }
    let connection = shared.cluster.connection_to(leader, Lane::Records).await?;
    if acks == 0 {
        connection.send_only(&request, joined(payload), request_timeout).await?;
        return Ok((0..count).map(|_| Ok(None)).collect());
    }
    // The broker itself answers at the request's timeout; the client gives it a little longer.
    let patience = request_timeout + Duration::from_secs(5);
    let partitions: Vec<PartitionKey> = runs.iter().map(|(key, _)| key.clone()).collect();
    let (response, _) = tokio::select! {
        answer = connection.call_in_turn(&request, joined(payload), patience, || drop(turn.mine)) => answer?,
        moved = shared.cluster.other_leader(leader, &partitions) => return Err(moved.into()),
    };
    if response.parts.len() != count {
        let what = format!("{} results for {count} batches", response.parts.len());
        return Err(ClientError::Protocol { address: format!("broker {leader}"), what });
    }
    let results = response.parts.into_iter();
    Ok(results.map(|result| result.map(Some).map_err(ClientError::Broker)).collect())
}

fn joined(mut payload: Vec<Bytes>) -> Bytes {
    if payload.len() == 1 {
        return payload.remove(0);
    }
    let mut all = BytesMut::with_capacity(payload.iter().map(Bytes::len).sum());
    for bytes in payload {
        all.extend_from_slice(&bytes);
    }
    all.freeze()
}

/// Tells records what became of them; what may succeed later is sent again.
fn take_in(shared: &Shared, backoffs: &mut Backoffs, landed: Answers) {
    let now = Instant::now();
    let mut freed = 0;
    for (key, answers) in landed {
        let failed = answers.iter().find_map(|(_, answer)| answer.as_ref().err());
        let pause = match failed {
            None => {
                backoffs.remove(&key);
                Duration::ZERO
            }
            Some(ClientError::LeaderFound) => Duration::ZERO,
            Some(error) => {
                let fresh = || (Backoff::new(shared.cluster.seed()), now);
                let (backoff, until) = backoffs.entry(key.clone()).or_insert_with(fresh);
                if *until <= now {
                    *until = now + backoff.failed();
                    if error.is_retriable() {
                        tracing::warn!(topic = %key.0, partition = key.1, %error, "not acknowledged yet");
                    }
                }
                until.saturating_duration_since(now)
            }
        };
        let interceptor = shared.settings.retry_interceptor.as_ref();
        let landed = Landed { answers, interceptor };
        freed += shared.buffer.lock().accumulator.landed(&key, landed, now, pause);
    }
    shared.give_back(freed);
}

/// Where a record goes.
fn place_of(record: &ProducerRecord, topic: &TopicInfo) -> Result<Place, ClientError> {
    match (record.partition, &record.key) {
        (Some(partition), _) if partition < topic.count() => Ok(Place::At(partition)),
        (Some(partition), _) => Err(no_partition(&record.topic, partition)),
        (None, Some(key)) => Ok(Place::At(partition_of_key(key, topic.count()))),
        (None, None) => Ok(Place::AnyOf(topic.count())),
    }
}

fn no_partition(topic: &str, partition: u32) -> ClientError {
    let what = format!("topic '{topic}' has no partition {partition}");
    Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what).into()
}
