//! Records on their way into batches, and batches on their way to a broker. Pure: time is passed
//! in, nothing is sent.
//!
//! At most one request a partition is on its way, and batches that must be sent again come before
//! all others, so records reach the log in the order in which they were given.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mk_net::message::{Appended, Durability};
use mk_storage::Timestamp;
use mk_storage::batch::{BatchBuilder, Compression, RecordFields};
use tokio::sync::watch;

use super::cluster::PartitionKey;
use super::error::ClientError;

/// Where a record is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: u32,
    /// Its offset; `None` with acks=0, where nobody says.
    pub offset: Option<u64>,
    /// How safe it was when the broker said so.
    pub durability: Durability,
}

/// What becomes of a record that was given to a producer.
#[derive(Clone, Debug)]
pub struct Delivery {
    key: PartitionKey,
    index: u64,
    outcome: watch::Receiver<Option<Outcome>>,
}

/// What became of a batch.
pub(super) type Outcome = Result<Placed, ClientError>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    base_offset: Option<u64>,
    durability: Durability,
}

/// A batch.
#[derive(Debug)]
pub(super) struct Batch {
    content: Content,
    /// Bytes that its records take of the buffer.
    charge: usize,
    records: u64,
    created: Instant,
    outcome: watch::Sender<Option<Outcome>>,
}

#[derive(Debug)]
enum Content {
    Open(BatchBuilder),
    Finished(Bytes),
}

/// How batches are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSettings {
    pub batch_size: usize,
    pub linger: Duration,
    pub compression: Compression,
    pub max_request_size: usize,
    pub delivery_timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Accumulator {
    settings: BatchSettings,
    queues: BTreeMap<PartitionKey, Queue>,
    /// While more than 0, nothing lingers.
    pub flushing: usize,
}

/// Batches of a partition, oldest first; only the last one is open.
#[derive(Debug, Default)]
struct Queue {
    batches: VecDeque<Batch>,
    in_flight: Vec<watch::Receiver<Option<Outcome>>>,
    /// Not before.
    retry_at: Option<Instant>,
    /// Why it failed last.
    last_error: Option<ClientError>,
}

impl Accumulator {
    pub fn new(settings: BatchSettings) -> Accumulator {
        Accumulator { settings, queues: BTreeMap::new(), flushing: 0 }
    }

    /// Adds a record. True if the sender should look: a batch is full, or a new one has begun.
    pub fn push(
        &mut self,
        now: Instant,
        key: PartitionKey,
        timestamp: Timestamp,
        record: &RecordFields<'_>,
        charge: usize,
    ) -> (Delivery, bool) {
        let settings = self.settings;
        let queue = self.queues.entry(key.clone()).or_default();
        let added = BatchBuilder::size_added(record);
        let fits = queue.batches.back().is_some_and(|batch| batch.has_room(added, &settings));
        if !fits {
            queue.batches.push_back(Batch::new(now, settings.compression));
        }
        let batch = queue.batches.back_mut().expect("one was pushed if there was none");
        let index = batch.records;
        batch.push(timestamp, record, charge);
        let delivery = Delivery { key, index, outcome: batch.outcome.subscribe() };
        (delivery, !fits || batch.is_full(&settings))
    }

    /// Takes the batches that are to be sent now: for each partition one run of them, within the
    /// size of a request.
    pub fn drain(&mut self, now: Instant) -> Vec<(PartitionKey, Vec<Batch>)> {
        let settings = self.settings;
        let mut left = settings.max_request_size;
        let mut drained = Vec::new();
        for (key, queue) in &mut self.queues {
            if !queue.is_ready(now, &settings, self.flushing > 0) {
                continue;
            }
            let mut run: Vec<Batch> = Vec::new();
            while let Some(batch) = queue.batches.front() {
                let size = batch.size();
                let lingers = !batch.is_due(now, &settings) && queue.batches.len() == 1;
                let waits = lingers && self.flushing == 0 && !run.is_empty();
                if waits || (size > left && !(run.is_empty() && drained.is_empty())) {
                    break;
                }
                left = left.saturating_sub(size);
                run.extend(queue.batches.pop_front());
            }
            if !run.is_empty() {
                queue.in_flight = run.iter().map(|batch| batch.outcome.subscribe()).collect();
                drained.push((key.clone(), run));
            }
        }
        drained
    }

    /// Takes back batches that must be sent again, in their order, not before `retry_at`.
    pub fn put_back(
        &mut self,
        key: &PartitionKey,
        batches: Vec<Batch>,
        error: ClientError,
        retry_at: Instant,
    ) {
        let queue = self.queues.entry(key.clone()).or_default();
        for batch in batches.into_iter().rev() {
            queue.batches.push_front(batch);
        }
        queue.retry_at = Some(retry_at);
        if !matches!(error, ClientError::LeaderFound) {
            queue.last_error = Some(error);
        }
    }

    /// Says that the request of a partition is over.
    pub fn landed(&mut self, key: &PartitionKey, failed: bool) {
        if let Some(queue) = self.queues.get_mut(key) {
            queue.in_flight.clear();
            if !failed {
                queue.retry_at = None;
                queue.last_error = None;
            }
            if queue.batches.is_empty() {
                self.queues.remove(key);
            }
        }
    }

    /// Fails batches that were not delivered in time; answers the bytes that they gave back. Those
    /// that are on their way are waited for.
    pub fn expire(&mut self, now: Instant) -> usize {
        let timeout = self.settings.delivery_timeout;
        let mut freed = 0;
        for (key, queue) in &mut self.queues {
            let is_late = |batch: &Batch| now >= batch.created + timeout;
            while queue.in_flight.is_empty() && queue.batches.front().is_some_and(is_late) {
                let Some(batch) = queue.batches.pop_front() else { break };
                let what = format!("delivery to partition {} of '{}'", key.1, key.0);
                let last = queue.last_error.clone().map(Box::new);
                freed += batch.fail(ClientError::TimedOut { what, after: timeout, last });
            }
        }
        self.queues.retain(|_, queue| !queue.batches.is_empty() || !queue.in_flight.is_empty());
        freed
    }

    /// When [`Accumulator::drain`] or [`Accumulator::expire`] will have something to do.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let timeout = self.settings.delivery_timeout;
        let due_of = |queue: &Queue| {
            let first = queue.batches.front().filter(|_| queue.in_flight.is_empty())?;
            let ready = match queue.retry_at {
                Some(retry_at) if retry_at > now => retry_at,
                _ if queue.is_ready(now, &self.settings, self.flushing > 0) => now,
                _ => first.created + self.settings.linger,
            };
            Some(ready.min(first.created + timeout))
        };
        self.queues.values().filter_map(due_of).min()
    }

    /// The outcomes of all batches that there are, those on their way included.
    pub fn outcomes(&self) -> Vec<watch::Receiver<Option<Outcome>>> {
        let of_queue = |queue: &Queue| {
            let queued = queue.batches.iter().map(|batch| batch.outcome.subscribe());
            queue.in_flight.iter().cloned().chain(queued).collect::<Vec<_>>()
        };
        self.queues.values().flat_map(of_queue).collect()
    }
}

impl Queue {
    fn is_ready(&self, now: Instant, settings: &BatchSettings, flushing: bool) -> bool {
        let Some(first) = self.batches.front() else { return false };
        if !self.in_flight.is_empty() || self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        flushing || self.batches.len() > 1 || first.is_due(now, settings)
    }
}

impl Batch {
    fn new(now: Instant, compression: Compression) -> Batch {
        let content = Content::Open(BatchBuilder::new(compression));
        let (outcome, _) = watch::channel(None);
        Batch { content, charge: 0, records: 0, created: now, outcome }
    }

    fn has_room(&self, added: usize, settings: &BatchSettings) -> bool {
        match &self.content {
            Content::Open(builder) => builder.size() + added <= settings.batch_size,
            Content::Finished(_) => false,
        }
    }

    fn push(&mut self, timestamp: Timestamp, record: &RecordFields<'_>, charge: usize) {
        if let Content::Open(builder) = &mut self.content {
            builder.push(timestamp, record);
            self.records += 1;
            self.charge += charge;
        }
    }

    fn size(&self) -> usize {
        match &self.content {
            Content::Open(builder) => builder.size(),
            Content::Finished(bytes) => bytes.len(),
        }
    }

    fn is_full(&self, settings: &BatchSettings) -> bool {
        self.size() >= settings.batch_size
    }

    fn is_due(&self, now: Instant, settings: &BatchSettings) -> bool {
        let is_finished = matches!(self.content, Content::Finished(_));
        is_finished || self.is_full(settings) || now >= self.created + settings.linger
    }

    /// Its bytes; from now on it takes no more records.
    pub fn bytes(&mut self) -> Result<Bytes, ClientError> {
        if let Content::Open(builder) = &mut self.content {
            let builder = std::mem::replace(builder, BatchBuilder::new(Compression::None));
            let bytes =
                builder.finish().map_err(|error| ClientError::Invalid(error.to_string()))?;
            self.content = Content::Finished(bytes.into());
        }
        match &self.content {
            Content::Finished(bytes) => Ok(bytes.clone()),
            Content::Open(_) => Ok(Bytes::new()),
        }
    }

    /// Tells its records where they are; answers the bytes that it gives back.
    pub fn succeed(self, appended: Option<&Appended>) -> usize {
        let placed = Placed {
            base_offset: appended.map(|appended| appended.base_offset),
            durability: appended.map_or(Durability::None, |appended| appended.durability),
        };
        self.outcome.send_replace(Some(Ok(placed)));
        self.charge
    }

    /// Tells its records that they failed; answers the bytes that it gives back.
    pub fn fail(self, error: ClientError) -> usize {
        self.outcome.send_replace(Some(Err(error)));
        self.charge
    }
}

impl Delivery {
    /// Waits until the record was acknowledged, or failed.
    pub async fn receipt(mut self) -> Result<Receipt, ClientError> {
        let outcome = self.outcome.wait_for(Option::is_some).await;
        let outcome = outcome.map_err(|_| ClientError::Closed)?.clone();
        self.as_receipt(outcome)
    }

    /// What became of it, if that is known already.
    pub fn try_receipt(&self) -> Option<Result<Receipt, ClientError>> {
        let outcome = self.outcome.borrow().clone();
        outcome.is_some().then(|| self.as_receipt(outcome))
    }

    fn as_receipt(&self, outcome: Option<Outcome>) -> Result<Receipt, ClientError> {
        let Placed { base_offset, durability } = outcome.unwrap_or(Err(ClientError::Closed))?;
        let (topic, partition) = self.key.clone();
        let offset = base_offset.map(|base| base + self.index);
        Ok(Receipt { topic, partition, offset, durability })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: BatchSettings = BatchSettings {
        batch_size: 200,
        linger: Duration::from_millis(5),
        compression: Compression::None,
        max_request_size: 1000,
        delivery_timeout: Duration::from_secs(10),
    };

    fn key(partition: u32) -> PartitionKey {
        ("t".into(), partition)
    }

    fn push(accumulator: &mut Accumulator, now: Instant, partition: u32) -> (Delivery, bool) {
        let record = RecordFields { value: Some(&[7; 50]), ..RecordFields::default() };
        accumulator.push(now, key(partition), Timestamp(1), &record, 50)
    }

    fn appended(base_offset: u64) -> Appended {
        let durability = Durability::Disk;
        Appended { base_offset, log_append_time_ms: -1, log_start_offset: 0, durability }
    }

    #[test]
    fn batches_go_when_full_or_after_a_while_one_request_at_a_time() {
        let start = Instant::now();
        let mut accumulator = Accumulator::new(SETTINGS);
        let (first, begun) = push(&mut accumulator, start, 0);
        assert!(begun);
        assert!(accumulator.drain(start).is_empty());
        assert_eq!(accumulator.next_due(start), Some(start + SETTINGS.linger));
        let later = start + SETTINGS.linger;
        let mut sent = accumulator.drain(later);
        assert_eq!(sent.len(), 1);
        let deliveries: Vec<_> = (0..5).map(|_| push(&mut accumulator, later, 0).0).collect();
        let much_later = later + Duration::from_secs(1);
        assert!(accumulator.drain(much_later).is_empty(), "one is on its way");
        assert_eq!(accumulator.next_due(much_later), None);
        for batch in sent.remove(0).1 {
            assert_eq!(batch.succeed(Some(&appended(40))), 50);
        }
        accumulator.landed(&key(0), false);
        assert_eq!(first.try_receipt().unwrap().unwrap().offset, Some(40));
        let (_, batches) = accumulator.drain(much_later).remove(0);
        assert_eq!(batches.len(), 3, "two records a batch of 200 bytes");
        for (batch, base) in batches.into_iter().zip([41, 43, 45]) {
            batch.succeed(Some(&appended(base)));
        }
        let offsets = deliveries.iter().map(|d| d.try_receipt().unwrap().unwrap().offset.unwrap());
        assert_eq!(offsets.collect::<Vec<_>>(), [41, 42, 43, 44, 45]);
    }

    #[test]
    fn what_must_be_sent_again_comes_first_and_not_at_once() {
        let start = Instant::now();
        let mut accumulator = Accumulator::new(SETTINGS);
        accumulator.flushing = 1;
        push(&mut accumulator, start, 0);
        let (_, mut batches) = accumulator.drain(start).remove(0);
        let bytes = batches[0].bytes().unwrap();
        push(&mut accumulator, start, 0);
        let retry_at = start + Duration::from_millis(100);
        accumulator.put_back(&key(0), batches, ClientError::Closed, retry_at);
        accumulator.landed(&key(0), true);
        assert!(accumulator.drain(start).is_empty());
        assert_eq!(accumulator.next_due(start), Some(retry_at));
        let (_, mut batches) = accumulator.drain(retry_at).remove(0);
        assert_eq!(batches.len(), 2);
        assert_eq!(batches[0].bytes().unwrap(), bytes, "the same bytes, and no record more");
    }

    #[test]
    fn what_is_not_delivered_in_time_fails() {
        let start = Instant::now();
        let mut accumulator = Accumulator::new(SETTINGS);
        let (late, _) = push(&mut accumulator, start, 0);
        let (on_its_way, _) = push(&mut accumulator, start, 1);
        let sent = accumulator.drain(start + SETTINGS.linger);
        assert_eq!(sent.len(), 2);
        let (_, batches) = sent.into_iter().next().unwrap();
        accumulator.put_back(&key(0), batches, ClientError::Closed, start);
        accumulator.landed(&key(0), true);
        let end = start + SETTINGS.delivery_timeout;
        assert_eq!(accumulator.expire(start), 0);
        assert_eq!(accumulator.expire(end), 50);
        assert!(matches!(late.try_receipt(), Some(Err(ClientError::TimedOut { .. }))));
        assert!(on_its_way.try_receipt().is_none());
        assert_eq!(accumulator.outcomes().len(), 1);
    }
}
