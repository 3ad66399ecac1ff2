//! The consumer: fetches ahead, hands out batches without copying them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{At, Fetch, FetchPart, Fetched};
use mk_storage::batch::{HEADER_LEN, Header, Record, checksum, records};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

use super::admin::Admin;
use super::backoff::Backoff;
use super::cluster::Cluster;
use super::error::ClientError;

/// What to do when the log no longer has the next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// Go on with the first that it has.
    Earliest,
    /// Go on with the next that comes.
    Latest,
    /// Fail.
    None,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record that there is.
    Earliest,
    /// Behind the last one.
    Latest,
    /// At this offset.
    Offset(u64),
    /// So many records before the end.
    Last(u64),
    /// At the first record of this time, in milliseconds since 1970, or later.
    Timestamp(i64),
}

/// How a consumer works; Kafka's names.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// `fetch.max.wait.ms`: how long the broker holds a fetch that finds nothing. 10 s.
    pub max_wait: Duration,
    /// `fetch.min.bytes`. 1.
    pub min_bytes: u32,
    /// `fetch.max.bytes`: of one answer. 16 MiB.
    pub max_bytes: u32,
    /// `max.partition.fetch.bytes`. 4 MiB.
    pub partition_max_bytes: u32,
    /// `auto.offset.reset`. The first that there is: nothing that is there is skipped.
    pub offset_reset: OffsetReset,
    /// `check.crcs`: check each batch's checksum when its records are read. On.
    pub check_crcs: bool,
    /// A partition whose broker does not answer for so long fails.
    pub give_up_after: Duration,
}

impl Default for ConsumerSettings {
    fn default() -> ConsumerSettings {
        ConsumerSettings {
            max_wait: Duration::from_secs(10),
            min_bytes: 1,
            max_bytes: 16 << 20,
            partition_max_bytes: 4 << 20,
            offset_reset: OffsetReset::Earliest,
            check_crcs: true,
            give_up_after: Duration::from_secs(120),
        }
    }
}

/// Reads partitions.
#[derive(Debug)]
pub struct Consumer {
    cluster: Cluster,
    commands: mpsc::UnboundedSender<Command>,
    fetched: mpsc::Receiver<Result<FetchedBatches, ClientError>>,
    driver: JoinHandle<()>,
}

/// Batches of a partition, as they lie in the log.
#[derive(Clone, Debug)]
pub struct FetchedBatches {
    /// Their topic.
    pub topic: Arc<str>,
    /// Their partition.
    pub partition: u32,
    /// Offset that follows their last record.
    pub next_offset: u64,
    /// Consumers saw records below when this was read.
    pub high_watermark: u64,
    /// Records before this were not asked for.
    from: u64,
    check_crcs: bool,
    data: Bytes,
}

#[derive(Debug)]
enum Command {
    Assign(Vec<(PartitionKey, u64)>),
    Unassign(PartitionKey),
    Subscribe(Arc<str>),
}

type PartitionKey = (Arc<str>, u32);

/// Bytes that one batch may unpack to.
const UNPACK_LIMIT: usize = 256 << 20;

impl Consumer {
    /// Starts a consumer. To be called inside a tokio runtime.
    pub fn new(cluster: Cluster, settings: ConsumerSettings) -> Consumer {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (outbox, fetched) = mpsc::channel(1);
        let driver = Driver {
            cluster: cluster.clone(),
            settings,
            positions: BTreeMap::new(),
            subscribed: Vec::new(),
            next_discovery: None,
            ready: VecDeque::new(),
            ready_bytes: 0,
        };
        let driver = tokio::spawn(driver.run(inbox, outbox));
        Consumer { cluster, commands, fetched, driver }
    }

    /// Reads all partitions of a topic, those that are added later included, from their start on.
    /// Answers where each begins.
    pub async fn subscribe(
        &self,
        topic: &str,
        start: StartAt,
    ) -> Result<Vec<(u32, u64)>, ClientError> {
        let count = self.cluster.topic(topic).await?.count();
        let partitions: Vec<u32> = (0..count).collect();
        let starts = self.assign(topic, &partitions, start).await?;
        self.command(Command::Subscribe(topic.into()))?;
        Ok(starts)
    }

    /// Reads partitions of a topic. Answers where each begins.
    pub async fn assign(
        &self,
        topic: &str,
        partitions: &[u32],
        start: StartAt,
    ) -> Result<Vec<(u32, u64)>, ClientError> {
        let info = self.cluster.topic(topic).await?;
        if let Some(missing) = partitions.iter().find(|partition| **partition >= info.count()) {
            let what = format!("topic '{topic}' has no partition {missing}");
            return Err(Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what).into());
        }
        let starts = self.find_starts(topic, partitions, start).await?;
        let keyed = starts.iter().map(|(partition, at)| ((info.name.clone(), *partition), *at));
        self.command(Command::Assign(keyed.collect()))?;
        Ok(starts)
    }

    /// Reads a partition no longer. What was fetched of it may still come.
    pub fn unassign(&self, topic: &str, partition: u32) -> Result<(), ClientError> {
        self.command(Command::Unassign((topic.into(), partition)))
    }

    /// The next batches, of any partition. An error says that a partition, or everything, cannot
    /// be read any more.
    pub async fn next(&mut self) -> Result<FetchedBatches, ClientError> {
        self.fetched.recv().await.unwrap_or(Err(ClientError::Closed))
    }

    fn command(&self, command: Command) -> Result<(), ClientError> {
        self.commands.send(command).map_err(|_| ClientError::Closed)
    }

    async fn find_starts(
        &self,
        topic: &str,
        partitions: &[u32],
        start: StartAt,
    ) -> Result<Vec<(u32, u64)>, ClientError> {
        let find = |at| offsets(&self.cluster, topic, partitions, at);
        let starts: Vec<u64> = match start {
            StartAt::Offset(offset) => vec![offset; partitions.len()],
            StartAt::Earliest => find(At::Earliest).await?.into_iter().flatten().collect(),
            StartAt::Latest => find(At::Latest).await?.into_iter().flatten().collect(),
            StartAt::Last(count) => {
                let (starts, ends) = (find(At::Earliest).await?, find(At::Latest).await?);
                let pairs = starts.into_iter().flatten().zip(ends.into_iter().flatten());
                pairs.map(|(start, end)| end.saturating_sub(count).max(start)).collect()
            }
            StartAt::Timestamp(millis) => {
                // The ends first: a record that comes in between is not to be skipped.
                let ends = find(At::Latest).await?.into_iter().flatten();
                let found = find(At::Timestamp(millis)).await?;
                found.into_iter().zip(ends).map(|(found, end)| found.unwrap_or(end)).collect()
            }
        };
        Ok(partitions.iter().copied().zip(starts).collect())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Offsets of a place in partitions of a topic.
pub async fn offsets(
    cluster: &Cluster,
    topic: &str,
    partitions: &[u32],
    at: At,
) -> Result<Vec<Option<u64>>, ClientError> {
    let found = Admin::new(cluster.clone()).list_offsets(topic, partitions, at).await?;
    let offsets = found.into_iter().map(|found| Ok(found?.offset));
    offsets.collect()
}

impl FetchedBatches {
    /// Their records, without those before the offset that was asked for.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, ClientError>> + '_ {
        let mut rest = self.data.clone();
        let batches = std::iter::from_fn(move || {
            let size = Header::parse(&rest).ok()?.size.min(rest.len());
            Some(rest.split_to(size))
        });
        batches.flat_map(move |batch| {
            let (records, error) = match self.open(&batch) {
                Ok(records) => (Some(records), None),
                Err(error) => (None, Some(Err(error))),
            };
            records.into_iter().flatten().chain(error)
        })
    }

    fn open(
        &self,
        batch: &Bytes,
    ) -> Result<impl Iterator<Item = Result<Record, ClientError>> + use<'_>, ClientError> {
        if self.check_crcs {
            let found = Header::parse(batch).map(|header| header.crc).unwrap_or_default();
            let computed = checksum(batch);
            if computed != found {
                let what = format!("its CRC-32C is {computed:#010x}, it says {found:#010x}");
                return Err(self.damaged(what));
            }
        }
        let records = records(batch, UNPACK_LIMIT).map_err(|e| self.damaged(e.to_string()))?;
        let records = records.map(|record| record.map_err(|e| self.damaged(e.to_string())));
        let wanted = |record: &Result<Record, _>| {
            record.as_ref().map_or(true, |record| record.offset.0 >= self.from)
        };
        Ok(records.filter(wanted))
    }

    fn damaged(&self, what: String) -> ClientError {
        let (topic, partition) = (self.topic.to_string(), self.partition);
        ClientError::Damaged { topic, partition, offset: self.from, what }
    }

    /// The batches' bytes, in Kafka's format.
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }
}

/// Keeps fetches going.
struct Driver {
    cluster: Cluster,
    settings: ConsumerSettings,
    positions: BTreeMap<PartitionKey, Position>,
    subscribed: Vec<Arc<str>>,
    next_discovery: Option<Instant>,
    /// Fetched, and not yet taken.
    ready: VecDeque<Result<FetchedBatches, ClientError>>,
    ready_bytes: usize,
}

/// Where a partition is being read.
struct Position {
    offset: u64,
    in_flight: bool,
    retry_at: Option<Instant>,
    /// Set while it fails.
    failing: Option<(Instant, Backoff)>,
}

/// What became of a fetch.
type Landed = (Vec<PartitionKey>, Result<(Vec<Result<Fetched, Fault>>, Bytes), ClientError>);

impl Driver {
    async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        outbox: mpsc::Sender<Result<FetchedBatches, ClientError>>,
    ) {
        let mut fetches: JoinSet<Landed> = JoinSet::new();
        loop {
            self.start_fetches(&mut fetches);
            let wake_at = self.wake_at();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                Some(landed) = fetches.join_next() => match landed {
                    Ok((keys, result)) => self.take_in(keys, result).await,
                    Err(error) => tracing::error!(%error, "a fetch has panicked"),
                },
                permit = outbox.reserve(), if !self.ready.is_empty() => {
                    let Ok(permit) = permit else { return };
                    if let Some(item) = self.ready.pop_front() {
                        self.ready_bytes -= item.as_ref().map_or(0, |item| item.data.len());
                        permit.send(item);
                    }
                }
                () = sleep_until(wake_at) => self.discover().await,
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Assign(starts) => {
                for (key, offset) in starts {
                    self.positions.insert(key, Position::at(offset));
                }
            }
            Command::Unassign(key) => {
                self.positions.remove(&key);
            }
            Command::Subscribe(topic) => {
                self.subscribed.push(topic);
                let age = self.cluster.settings().metadata_max_age;
                self.next_discovery = Some(Instant::now() + age);
            }
        }
    }

    /// When there is something to do though nothing happens.
    fn wake_at(&self) -> Option<Instant> {
        let retries = self.positions.values().filter_map(|position| position.retry_at);
        retries.chain(self.next_discovery).min()
    }

    /// Looks for partitions that were added; they are read from their first record on.
    async fn discover(&mut self) {
        let now = Instant::now();
        if self.next_discovery.is_none_or(|at| now < at) {
            return;
        }
        self.next_discovery = Some(now + self.cluster.settings().metadata_max_age);
        let names = self.subscribed.iter().map(|topic| topic.to_string()).collect();
        let Ok(metadata) = self.cluster.metadata(Some(names), false).await else { return };
        for topic in metadata.topics {
            let Ok(places) = topic.result else { continue };
            let name: Arc<str> = topic.name.as_str().into();
            let known = |key: &PartitionKey| self.positions.contains_key(key);
            // A topic that was read to its end on demand has no position left, and is not new.
            let highest = self.positions.keys().filter(|key| key.0 == name).map(|key| key.1).max();
            let fresh: Vec<PartitionKey> = places
                .partitions
                .iter()
                .map(|partition| (name.clone(), partition.partition))
                .filter(|key| !known(key) && highest.is_some_and(|highest| key.1 > highest))
                .collect();
            for key in fresh {
                tracing::info!(topic = %key.0, partition = key.1, "a partition was added");
                self.positions.insert(key, Position::at(0));
            }
        }
    }

    /// Fetches all partitions that are not being fetched, unless much is waiting to be taken.
    fn start_fetches(&mut self, fetches: &mut JoinSet<Landed>) {
        if self.ready_bytes >= self.settings.max_bytes as usize {
            return;
        }
        let now = Instant::now();
        let mut groups: BTreeMap<Option<u32>, Vec<(PartitionKey, u64)>> = BTreeMap::new();
        for (key, position) in &mut self.positions {
            if position.in_flight || position.retry_at.is_some_and(|at| now < at) {
                continue;
            }
            position.in_flight = true;
            position.retry_at = None;
            let leader = self.cluster.known_leader(&key.0, key.1);
            groups.entry(leader).or_default().push((key.clone(), position.offset));
        }
        for (leader, parts) in groups {
            fetches.spawn(fetch(self.cluster.clone(), self.settings.clone(), leader, parts));
        }
    }

    async fn take_in(
        &mut self,
        keys: Vec<PartitionKey>,
        result: Result<(Vec<Result<Fetched, Fault>>, Bytes), ClientError>,
    ) {
        for key in &keys {
            if let Some(position) = self.positions.get_mut(key) {
                position.in_flight = false;
            }
        }
        let (parts, mut payload) = match result {
            Ok(found) => found,
            Err(error) => {
                for key in &keys {
                    self.failed(key, error.clone());
                }
                return;
            }
        };
        for (key, part) in keys.iter().zip(parts) {
            match part {
                Ok(fetched) => {
                    let length = (fetched.length as usize).min(payload.len());
                    let data = payload.split_to(length);
                    self.received(key, &fetched, data);
                }
                Err(fault) if fault.code == ErrorCode::OFFSET_OUT_OF_RANGE => {
                    self.reset(key, fault).await;
                }
                Err(fault) => {
                    // Perhaps the leader is another by now.
                    self.cluster.suspect(&key.0);
                    self.failed(key, fault.into());
                }
            }
        }
    }

    fn received(&mut self, key: &PartitionKey, fetched: &Fetched, data: Bytes) {
        let Some(position) = self.positions.get_mut(key) else { return };
        position.failing = None;
        if data.is_empty() {
            return;
        }
        let from = position.offset;
        let Some(next_offset) = end_of(&data).filter(|next| *next > from) else {
            let what = "what was fetched are no batches that follow".to_owned();
            let (topic, partition) = (key.0.to_string(), key.1);
            self.positions.remove(key);
            let error = ClientError::Damaged { topic, partition, offset: from, what };
            self.ready.push_back(Err(error));
            return;
        };
        position.offset = next_offset;
        self.ready_bytes += data.len();
        self.ready.push_back(Ok(FetchedBatches {
            topic: key.0.clone(),
            partition: key.1,
            next_offset,
            high_watermark: fetched.high_watermark,
            from,
            check_crcs: self.settings.check_crcs,
            data,
        }));
    }

    /// The next record is not there any more, or never was.
    async fn reset(&mut self, key: &PartitionKey, fault: Fault) {
        let at = match self.settings.offset_reset {
            OffsetReset::Earliest => At::Earliest,
            OffsetReset::Latest => At::Latest,
            OffsetReset::None => {
                self.positions.remove(key);
                self.ready.push_back(Err(fault.into()));
                return;
            }
        };
        match offsets(&self.cluster, &key.0, &[key.1], at).await {
            Ok(found) => {
                let Some(position) = self.positions.get_mut(key) else { return };
                let to = found.first().copied().flatten().unwrap_or(0);
                let (topic, partition, from) = (&key.0, key.1, position.offset);
                tracing::warn!(%topic, partition, from, to, "the next record is not there");
                position.offset = to;
            }
            Err(error) => self.failed(key, error),
        }
    }

    /// Tries a partition again later, if that can help, and if it has not been tried for too long.
    fn failed(&mut self, key: &PartitionKey, error: ClientError) {
        let seed = self.cluster.seed();
        let Some(position) = self.positions.get_mut(key) else { return };
        let now = Instant::now();
        let (since, backoff) = position.failing.get_or_insert_with(|| (now, Backoff::new(seed)));
        let waited = now.saturating_duration_since(*since);
        // A topic that is gone is not made anew by those who read it.
        let is_gone = matches!(
            error.code(),
            Some(
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                    | ErrorCode::UNKNOWN_TOPIC_ID
                    | ErrorCode::INCONSISTENT_TOPIC_ID
            )
        );
        if error.is_retriable() && !is_gone && waited < self.settings.give_up_after {
            if waited.is_zero() {
                tracing::warn!(topic = %key.0, partition = key.1, %error, "trying again");
            }
            position.retry_at = Some(now + backoff.failed());
            return;
        }
        self.positions.remove(key);
        self.ready.push_back(Err(error));
    }
}

impl Position {
    fn at(offset: u64) -> Position {
        Position { offset, in_flight: false, retry_at: None, failing: None }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn fetch(
    cluster: Cluster,
    settings: ConsumerSettings,
    leader: Option<u32>,
    parts: Vec<(PartitionKey, u64)>,
) -> Landed {
    let keys: Vec<PartitionKey> = parts.iter().map(|(key, _)| key.clone()).collect();
    let result = match leader {
        Some(leader) => fetch_from(&cluster, &settings, leader, parts).await,
        None => Err(find_leaders(&cluster, &keys).await),
    };
    (keys, result)
}

/// Asks who leads these partitions, without making topics that are gone. The answer serves the
/// next try.
async fn find_leaders(cluster: &Cluster, keys: &[PartitionKey]) -> ClientError {
    let mut names: Vec<String> = keys.iter().map(|key| key.0.to_string()).collect();
    names.dedup();
    match cluster.metadata_once(names, false).await {
        Err(error) => error,
        Ok(metadata) => {
            let missing = metadata.topics.into_iter().find_map(|topic| topic.result.err());
            let unknown =
                || Fault::new(ErrorCode::LEADER_NOT_AVAILABLE, "the leader was not known");
            missing.unwrap_or_else(unknown).into()
        }
    }
}

async fn fetch_from(
    cluster: &Cluster,
    settings: &ConsumerSettings,
    leader: u32,
    parts: Vec<(PartitionKey, u64)>,
) -> Result<(Vec<Result<Fetched, Fault>>, Bytes), ClientError> {
    let count = parts.len();
    let parts = parts.into_iter().map(|((topic, partition), offset)| FetchPart {
        topic_id: cluster.known_id(&topic),
        topic: topic.to_string(),
        partition,
        offset,
        max_bytes: settings.partition_max_bytes,
        leader_epoch: -1,
    });
    let request = Fetch {
        max_wait_ms: settings.max_wait.as_millis() as u32,
        min_bytes: settings.min_bytes,
        max_bytes: settings.max_bytes,
        rack: String::new(),
        parts: parts.collect(),
    };
    let suspect = |error| {
        for part in &request.parts {
            cluster.suspect(&part.topic);
        }
        error
    };
    let connection = cluster.connection_to(leader).await.map_err(suspect)?;
    let patience = settings.max_wait + cluster.settings().request_timeout;
    let call = connection.call(&request, Bytes::new(), patience).await;
    let (response, payload) = call.map_err(suspect)?;
    if response.parts.len() != count {
        let what = format!("{} results for {count} partitions", response.parts.len());
        return Err(ClientError::Protocol { address: format!("broker {leader}"), what });
    }
    Ok((response.parts, payload))
}

/// The offset that follows the batches, if they are whole.
fn end_of(mut data: &[u8]) -> Option<u64> {
    let mut next = None;
    while data.len() >= HEADER_LEN {
        let header = Header::parse(data).ok()?;
        data = data.get(header.size..)?;
        next = Some(header.next_offset().0);
    }
    if data.is_empty() { next } else { None }
}
