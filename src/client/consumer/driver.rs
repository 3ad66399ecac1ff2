//! Keeps a fetch going for every partition, and puts by what it brings.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::time::Instant;

use bytes::Bytes;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{At, Fetch, FetchPart, FetchResponse, Fetched};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::batches::{FetchedBatches, end_of};
use super::nearest::{Nearest, REPLICA_PATIENCE, REPLICA_WAIT, Source};
use super::settings::{ConsumerSettings, OffsetReset};
use crate::client::admin::offsets;
use crate::client::backoff::{Backoff, sleep_until};
use crate::client::cluster::{Cluster, Lane, PartitionKey};
use crate::client::error::ClientError;
use crate::clock::now_ms;

/// What a consumer tells its driver.
#[derive(Debug)]
pub(super) enum Command {
    Assign(Vec<Start>),
    Unassign(PartitionKey),
    /// Fetches no more of a partition, or again.
    Pause(PartitionKey, bool),
    /// Reads the partitions of a topic that are added to so many.
    Subscribe(Arc<str>, u32),
}

/// A partition that is not read any more, and why.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub key: PartitionKey,
    /// Which assignment it was.
    pub assignment: u64,
    pub error: ClientError,
}

/// Where a partition is to be read from.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub key: PartitionKey,
    pub offset: u64,
    /// The leader epoch of the record before; -1 if that is not known. A leader that does not know of it is
    /// none any more.
    pub epoch: i32,
    /// Which assignment this is, of all of this consumer.
    pub assignment: u64,
}

/// A topic is gone when brokers have not known it for so long.
const GONE_AFTER: Duration = Duration::from_secs(2);

/// Keeps fetches going.
pub(super) struct Driver {
    cluster: Cluster,
    settings: ConsumerSettings,
    positions: BTreeMap<PartitionKey, Position>,
    /// Which part comes first in the next fetch.
    turn: usize,
    /// Numbers the assignments.
    assigned: Arc<AtomicU64>,
    subscribed: BTreeMap<Arc<str>, u32>,
    next_discovery: Option<Instant>,
    /// Fetched, and not yet taken.
    ready: VecDeque<Result<FetchedBatches, Failed>>,
    ready_bytes: usize,
}

/// Where a partition is being read.
struct Position {
    /// Which assignment this is: what was asked for an earlier one is not for this.
    assignment: u64,
    /// Another topic of the same name has other records at these offsets.
    topic_id: Uuid,
    offset: u64,
    /// The leader epoch of the last batch that it has had; -1: it has had none.
    read_epoch: i32,
    paused: bool,
    in_flight: bool,
    retry_at: Option<Instant>,
    nearest: Nearest,
    /// Set while it fails.
    failing: Option<(Instant, Backoff)>,
}

/// A part of a fetch.
struct Asked {
    key: PartitionKey,
    assignment: u64,
    topic_id: Uuid,
    offset: u64,
    /// A leader that does not know of this epoch yet is none any more; -1: any leader will do.
    leader_epoch: i32,
}

/// Whom a fetch goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    /// The broker; none: it is to be found out who leads.
    broker: Option<u32>,
    source: Source,
}

/// What became of a fetch.
struct Landed {
    target: Target,
    asked: Vec<Asked>,
    result: Result<Answer, ClientError>,
}

impl Driver {
    /// A driver that has nothing to read yet.
    pub fn new(cluster: Cluster, settings: ConsumerSettings, assigned: Arc<AtomicU64>) -> Driver {
        Driver {
            cluster,
            settings,
            positions: BTreeMap::new(),
            turn: 0,
            assigned,
            subscribed: BTreeMap::new(),
            next_discovery: None,
            ready: VecDeque::new(),
            ready_bytes: 0,
        }
    }

    /// Runs until the consumer is gone.
    pub async fn run(
        mut self,
        mut commands: mpsc::UnboundedReceiver<Command>,
        outbox: mpsc::Sender<Result<FetchedBatches, Failed>>,
    ) {
        let mut fetches: JoinSet<Landed> = JoinSet::new();
        let mut grown = self.cluster.grown();
        loop {
            self.start_fetches(&mut fetches);
            let wake_at = self.wake_at();
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                Some(landed) = fetches.join_next() => match landed {
                    Ok(landed) => self.take_in(landed).await,
                    // One that was cancelled is that of a program that ends.
                    Err(error) if error.is_cancelled() => {}
                    Err(error) => tracing::error!(%error, "a fetch has panicked"),
                },
                permit = outbox.reserve(), if !self.ready.is_empty() => {
                    let Ok(permit) = permit else { return };
                    if let Some(item) = self.ready.pop_front() {
                        self.ready_bytes -= item.as_ref().map_or(0, |item| item.data.len());
                        permit.send(item);
                    }
                }
                Ok(()) = grown.changed() => self.take_added(),
                () = sleep_until(wake_at) => self.discover().await,
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Assign(starts) => {
                for start in starts {
                    self.begin(start);
                }
            }
            Command::Unassign(key) => {
                self.positions.remove(&key);
            }
            Command::Pause(key, paused) => {
                if let Some(position) = self.positions.get_mut(&key) {
                    position.paused = paused;
                }
            }
            Command::Subscribe(topic, count) => {
                self.subscribed.insert(topic, count);
                let age = self.cluster.settings().metadata_max_age;
                self.next_discovery = Some(Instant::now() + age);
            }
        }
    }

    fn begin(&mut self, start: Start) {
        let Start { key, offset, epoch, assignment } = start;
        let paused = self.positions.get(&key).is_some_and(|position| position.paused);
        let position = Position {
            assignment,
            topic_id: self.cluster.known_id(&key.0),
            offset,
            read_epoch: epoch,
            paused,
            in_flight: false,
            retry_at: None,
            nearest: Nearest::Unknown,
            failing: None,
        };
        self.positions.insert(key, position);
    }

    /// When there is something to do though nothing happens.
    fn wake_at(&self) -> Option<Instant> {
        // While much waits to be taken nothing is fetched, and nothing tried again.
        let retries = self.positions.values().filter(|_| !self.is_full());
        let retries = retries.filter_map(|position| position.retry_at);
        retries.chain(self.next_discovery).min()
    }

    /// Asks for partitions that were added, now and then; mostly they are heard of before.
    async fn discover(&mut self) {
        let now = Instant::now();
        if self.next_discovery.is_none_or(|at| now < at) {
            return;
        }
        self.next_discovery = Some(now + self.cluster.settings().metadata_max_age);
        let names = self.subscribed.keys().map(|topic| topic.to_string()).collect();
        if self.cluster.metadata_once(names, false).await.is_ok() {
            self.take_added();
        }
    }

    /// Reads partitions that were added, from their first record on.
    fn take_added(&mut self) {
        let mut added = Vec::new();
        for (topic, seen) in &mut self.subscribed {
            let count = self.cluster.known_count(topic).unwrap_or(0);
            added.extend((*seen..count).map(|partition| (topic.clone(), partition)));
            *seen = count.max(*seen);
        }
        for key in added {
            tracing::info!(topic = %key.0, partition = key.1, "a partition was added");
            let assignment = self.assigned.fetch_add(1, Ordering::Relaxed);
            self.begin(Start { key, offset: 0, epoch: -1, assignment });
        }
    }

    fn is_full(&self) -> bool {
        self.ready_bytes >= self.settings.max_bytes as usize
    }

    /// Fetches all partitions that are not being fetched, unless much is waiting to be taken.
    fn start_fetches(&mut self, fetches: &mut JoinSet<Landed>) {
        if self.is_full() {
            return;
        }
        let now = Instant::now();
        let mut groups: BTreeMap<Target, Vec<Asked>> = BTreeMap::new();
        for (key, position) in &mut self.positions {
            if position.in_flight || position.paused || position.retry_at.is_some_and(|at| now < at)
            {
                continue;
            }
            position.in_flight = true;
            position.retry_at = None;
            let source = match self.settings.rack.as_str() {
                "" => Source::Leader,
                _ => position.nearest.source(now),
            };
            let broker = match source {
                Source::Replica(replica) => Some(replica),
                _ => self.cluster.known_leader(&key.0, key.1),
            };
            let Position { assignment, topic_id, offset, read_epoch, .. } = *position;
            let known_epoch = self.cluster.known_epoch(&key.0, key.1);
            let leader_epoch = source.epoch_to_ask(known_epoch, read_epoch);
            let asked = Asked { key: key.clone(), assignment, topic_id, offset, leader_epoch };
            groups.entry(Target { broker, source }).or_default().push(asked);
        }
        for (target, mut parts) in groups {
            // Brokers fill an answer in the order of its parts: each is first in its turn.
            self.turn = self.turn.wrapping_add(1);
            let first = self.turn % parts.len();
            parts.rotate_left(first);
            fetches.spawn(fetch(self.cluster.clone(), self.settings.clone(), target, parts));
        }
    }

    async fn take_in(&mut self, landed: Landed) {
        let Landed { target, asked, result } = landed;
        // What was asked for before the partition was assigned anew is thrown away.
        let mut current = Vec::with_capacity(asked.len());
        for Asked { key, assignment, .. } in &asked {
            let position = self.positions.get_mut(key);
            let position = position.filter(|position| position.assignment == *assignment);
            current.push(position.is_some());
            if let Some(position) = position {
                position.in_flight = false;
            }
        }
        let (parts, mut payload) = match result {
            Ok(found) => found,
            Err(error) => {
                for (Asked { key, .. }, _) in asked.iter().zip(current).filter(|(_, now)| *now) {
                    if !self.leave_replica(key, target, &error) {
                        self.failed(key, error.clone());
                    }
                }
                return;
            }
        };
        for ((Asked { key, .. }, part), current) in asked.iter().zip(parts).zip(current) {
            let length = part.as_ref().map_or(0, |fetched| fetched.length as usize);
            let data = payload.split_to(length.min(payload.len()));
            match part {
                _ if !current => {}
                Ok(fetched) => self.received(key, target, &fetched, data),
                Err(fault) if self.leave_replica(key, target, &fault) => {}
                Err(fault) if fault.code == ErrorCode::OFFSET_OUT_OF_RANGE => {
                    self.reset(key, fault).await;
                }
                Err(fault) => {
                    if fault.code == ErrorCode::UNKNOWN_LEADER_EPOCH {
                        // It has not heard of the one that leads now; nor should it be asked who does.
                        self.cluster.turn_away();
                    }
                    // Perhaps the leader is another by now; but not if that was just asked.
                    if fault.code != ErrorCode::LEADER_NOT_AVAILABLE {
                        self.cluster.suspect(&key.0);
                    }
                    self.failed(key, fault.into());
                }
            }
        }
    }

    /// Goes back to the leader if it was a replica that has failed: the leader knows what is true.
    fn leave_replica(&mut self, key: &PartitionKey, target: Target, error: &impl Display) -> bool {
        let Source::Replica(replica) = target.source else { return false };
        tracing::debug!(topic = %key.0, partition = key.1, replica, %error, "back to the leader");
        if let Some(position) = self.positions.get_mut(key) {
            position.nearest = Nearest::failed(Instant::now());
        }
        true
    }

    fn received(&mut self, key: &PartitionKey, target: Target, fetched: &Fetched, data: Bytes) {
        let Some(position) = self.positions.get_mut(key) else { return };
        position.failing = None;
        if let (Some(replica), Source::LeaderForNearest) =
            (fetched.preferred_replica, target.source)
        {
            tracing::debug!(topic = %key.0, partition = key.1, replica, "a replica is nearer");
            position.nearest = Nearest::named(replica, Instant::now());
            return;
        }
        if data.is_empty() {
            return;
        }
        let from = position.offset;
        let Some((next_offset, epoch)) = end_of(&data).filter(|(next, _)| *next > from) else {
            let what = "what was fetched are no batches that follow".to_owned();
            let (topic, partition) = (key.0.to_string(), key.1);
            self.give_up(key, ClientError::Damaged { topic, partition, offset: from, what });
            return;
        };
        position.offset = next_offset;
        position.read_epoch = epoch;
        self.ready_bytes += data.len();
        self.ready.push_back(Ok(FetchedBatches {
            topic: key.0.clone(),
            partition: key.1,
            next_offset,
            high_watermark: fetched.high_watermark,
            broker: target.broker.unwrap_or_default(),
            leader_epoch: epoch,
            assignment: position.assignment,
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
            OffsetReset::ByDuration(age) => At::Timestamp(now_ms() - age.as_millis() as i64),
            OffsetReset::None => {
                self.give_up(key, fault.into());
                return;
            }
        };
        self.reset_to(key, at).await;
    }

    async fn reset_to(&mut self, key: &PartitionKey, at: At) {
        match offsets(&self.cluster, &key.0, &[key.1], at).await {
            Ok(found) => {
                let Some(position) = self.positions.get_mut(key) else { return };
                // Nothing is so young: what comes next is.
                let Some(to) = found.first().copied().flatten() else {
                    return Box::pin(self.reset_to(key, At::Latest)).await;
                };
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
        // A topic that is gone is not made anew by those who read it. Brokers hear of a fresh one one after
        // the other.
        let is_gone = waited >= GONE_AFTER
            && matches!(
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
        self.give_up(key, error);
    }

    /// Reads a partition no more, and says why.
    fn give_up(&mut self, key: &PartitionKey, error: ClientError) {
        let Some(position) = self.positions.remove(key) else { return };
        let (key, assignment) = (key.clone(), position.assignment);
        self.ready.push_back(Err(Failed { key, assignment, error }));
    }
}

async fn fetch(
    cluster: Cluster,
    settings: ConsumerSettings,
    target: Target,
    asked: Vec<Asked>,
) -> Landed {
    let result = match target.broker {
        Some(broker) => fetch_from(&cluster, &settings, broker, target.source, &asked).await,
        None => find_leaders(&cluster, &asked).await,
    };
    Landed { target, asked, result }
}

/// What a fetch brings: a result a part, and their batches.
type Answer = (Vec<Result<Fetched, Fault>>, Bytes);

/// Asks who leads these partitions, without making topics that are gone. The answer serves the
/// next try; a topic that is gone fails alone.
async fn find_leaders(cluster: &Cluster, asked: &[Asked]) -> Result<Answer, ClientError> {
    let mut names: Vec<String> = asked.iter().map(|asked| asked.key.0.to_string()).collect();
    names.sort();
    names.dedup();
    let metadata = cluster.metadata_once(names, false).await?;
    let fault_of = |asked: &Asked| {
        let topic = metadata.topics.iter().find(|topic| *topic.name == *asked.key.0);
        let fault = topic.and_then(|topic| topic.result.as_ref().err()).cloned();
        fault.unwrap_or_else(|| {
            Fault::new(ErrorCode::LEADER_NOT_AVAILABLE, "the leader was not known")
        })
    };
    Ok((asked.iter().map(|asked| Err(fault_of(asked))).collect(), Bytes::new()))
}

async fn fetch_from(
    cluster: &Cluster,
    settings: &ConsumerSettings,
    broker: u32,
    source: Source,
    asked: &[Asked],
) -> Result<Answer, ClientError> {
    let count = asked.len();
    let parts = asked.iter().map(|asked| FetchPart {
        topic: asked.key.0.to_string(),
        topic_id: asked.topic_id,
        partition: asked.key.1,
        offset: asked.offset,
        max_bytes: settings.partition_max_bytes,
        leader_epoch: asked.leader_epoch,
        last_epoch: -1,
        high_watermark: 0,
    });
    let is_replica = matches!(source, Source::Replica(_));
    let max_wait = if is_replica { settings.max_wait.min(REPLICA_WAIT) } else { settings.max_wait };
    let rack = if source == Source::Leader { "" } else { &settings.rack };
    let request = Fetch {
        max_wait_ms: max_wait.as_millis() as u32,
        min_bytes: settings.min_bytes,
        max_bytes: settings.max_bytes,
        rack: rack.to_owned(),
        replica: None,
        reader: settings.reader.clone(),
        parts: parts.collect(),
    };
    let (response, payload) = match source {
        Source::Replica(_) => tokio::time::timeout(max_wait + REPLICA_PATIENCE, async {
            let connection = cluster.connection_to(broker, Lane::Records).await?;
            connection.call(&request, Bytes::new(), max_wait + REPLICA_PATIENCE).await
        })
        .await
        .unwrap_or_else(|_| {
            let what = format!("a fetch from broker {broker}");
            Err(ClientError::TimedOut { what, after: max_wait + REPLICA_PATIENCE, last: None })
        })?,
        Source::Leader | Source::LeaderForNearest => {
            call_leader(cluster, broker, &request, max_wait, asked).await?
        }
    };
    if response.parts.len() != count {
        let what = format!("{} results for {count} partitions", response.parts.len());
        return Err(ClientError::Protocol { address: format!("broker {broker}"), what });
    }
    Ok((response.parts, payload))
}

/// Asks the leader, as long as it is known to lead.
async fn call_leader(
    cluster: &Cluster,
    leader: u32,
    request: &Fetch,
    max_wait: Duration,
    asked: &[Asked],
) -> Result<(FetchResponse, Bytes), ClientError> {
    let suspect = |error| {
        for part in &request.parts {
            cluster.suspect(&part.topic);
        }
        error
    };
    let connection = cluster.connection_to(leader, Lane::Records).await.map_err(suspect)?;
    let patience = max_wait + cluster.settings().request_timeout;
    let partitions: Vec<PartitionKey> = asked.iter().map(|asked| asked.key.clone()).collect();
    let call = tokio::select! {
        answer = connection.call(request, Bytes::new(), patience) => answer,
        moved = cluster.other_leader(leader, &partitions) => Err(moved.into()),
    };
    call.map_err(suspect)
}
