//! Records on their way into batches, and batches on their way to brokers, by partition ([`Queue`]). Pure:
//! time is passed in, nothing is sent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mk_storage::Timestamp;
use mk_storage::batch::{BatchBuilder, Compression, RecordFields};
use tokio::sync::watch;

use super::batch::{Batch, Delivery, Outcome};
use super::cluster::PartitionKey;
use super::queue::{Answer, Queue};

/// How batches are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchSettings {
    pub batch_size: usize,
    pub linger: Duration,
    pub compression: Compression,
    pub max_request_size: usize,
    pub delivery_timeout: Duration,
    /// True if batches have numbers, so that each is taken once.
    pub numbered: bool,
}

#[cfg(test)]
impl BatchSettings {
    /// Small enough that a handful of records crosses every boundary.
    pub const SMALL: BatchSettings = BatchSettings {
        batch_size: 200,
        linger: Duration::from_millis(5),
        compression: Compression::None,
        max_request_size: 1000,
        delivery_timeout: Duration::from_secs(10),
        numbered: true,
    };
}

/// The queues stay for as long as the producer lives: numbers go on.
#[derive(Debug)]
pub(super) struct Accumulator {
    settings: BatchSettings,
    queues: BTreeMap<PartitionKey, Queue>,
    /// `max.message.bytes` of topics, as far as it is known.
    limits: HashMap<Arc<str>, usize>,
    /// While more than 0, nothing lingers.
    pub flushing: usize,
}

impl Accumulator {
    pub fn new(settings: BatchSettings) -> Accumulator {
        Accumulator { settings, queues: BTreeMap::new(), limits: HashMap::new(), flushing: 0 }
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
        if queue.limit.is_none() {
            queue.limit = self.limits.get(&key.0).copied();
        }
        let added = BatchBuilder::size_added(record);
        let (batch, begun) = queue.open_batch(now, added, &settings);
        let index = batch.records.into();
        let was_full = batch.is_full(&settings);
        batch.push(timestamp, record, charge);
        let delivery = Delivery { key, index, outcome: batch.outcome() };
        (delivery, begun || batch.is_full(&settings) && !was_full)
    }

    /// Says how large a batch a topic takes.
    pub fn set_limit(&mut self, topic: &Arc<str>, limit: usize) {
        self.limits.insert(topic.clone(), limit);
        let queues = self.queues.iter_mut().filter(|(key, _)| key.0 == *topic);
        queues.for_each(|(_, queue)| queue.limit = Some(limit));
    }

    /// Takes the batches that are to be sent now, for each partition in order, within the size of a
    /// request.
    pub fn drain(&mut self, now: Instant) -> Vec<(PartitionKey, Vec<Batch>)> {
        let mut left = self.settings.max_request_size;
        let mut drained = Vec::new();
        for (key, queue) in &mut self.queues {
            if left == 0 {
                break;
            }
            let room = (left, drained.is_empty());
            let run = queue.take(now, &self.settings, self.flushing > 0, room);
            if !run.is_empty() {
                left = left.saturating_sub(run.iter().map(Batch::size).sum());
                drained.push((key.clone(), run));
            }
        }
        drained
    }

    /// Takes in what leaders said of batches of a partition: those that may succeed later are sent again,
    /// not before `pause` is over. Answers the bytes that the others give back.
    pub fn landed(
        &mut self,
        key: &PartitionKey,
        answers: Vec<(Batch, Answer)>,
        now: Instant,
        pause: Duration,
    ) -> usize {
        let queue = self.queues.get_mut(key);
        queue.map_or(0, |queue| queue.landed(answers, now, pause))
    }

    /// Fails batches that were not delivered in time; answers the bytes that they gave back.
    pub fn expire(&mut self, now: Instant) -> usize {
        let timeout = self.settings.delivery_timeout;
        let queues = self.queues.iter_mut();
        queues.map(|(key, queue)| queue.expire(now, key, timeout)).sum()
    }

    /// When [`Accumulator::drain`] or [`Accumulator::expire`] will have something to do.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let flushing = self.flushing > 0;
        let queues = self.queues.values();
        queues.filter_map(|queue| queue.next_due(now, &self.settings, flushing)).min()
    }

    /// The outcomes of all batches that there are, those on their way included.
    pub fn outcomes(&self) -> Vec<watch::Receiver<Option<Outcome>>> {
        self.queues.values().flat_map(Queue::outcomes).collect()
    }
}

#[cfg(test)]
mod tests {
    use mk_net::message::{Appended, Durability};

    use super::super::error::ClientError;
    use super::*;

    const SETTINGS: BatchSettings = BatchSettings::SMALL;

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
    fn batches_go_when_full_or_after_a_while() {
        let start = Instant::now();
        let mut accumulator = Accumulator::new(SETTINGS);
        let (first, begun) = push(&mut accumulator, start, 0);
        assert!(begun);
        assert!(accumulator.drain(start).is_empty());
        assert_eq!(accumulator.next_due(start), Some(start + SETTINGS.linger));
        let later = start + SETTINGS.linger;
        let (sent_to, batches) = accumulator.drain(later).remove(0);
        assert_eq!(accumulator.next_due(later), None, "the first is sent alone");
        let landed = batches.into_iter().map(|batch| (batch, Ok(Some(appended(40))))).collect();
        assert_eq!(accumulator.landed(&sent_to, landed, later, Duration::ZERO), 50);
        assert_eq!(first.try_receipt().unwrap().unwrap().offset, Some(40));

        let deliveries: Vec<_> = (0..5).map(|_| push(&mut accumulator, later, 0).0).collect();
        let (_, batches) = accumulator.drain(later).remove(0);
        assert_eq!(batches.len(), 2, "two records a batch of 200 bytes; the third is open");
        accumulator.flushing = 1;
        let (_, last) = accumulator.drain(later).remove(0);
        let batches = batches.into_iter().chain(last).zip([41, 43, 45]);
        let landed = batches.map(|(batch, base)| (batch, Ok(Some(appended(base))))).collect();
        assert_eq!(accumulator.landed(&sent_to, landed, later, Duration::ZERO), 250);
        let offsets = deliveries.iter().map(|d| d.try_receipt().unwrap().unwrap().offset.unwrap());
        assert_eq!(offsets.collect::<Vec<_>>(), [41, 42, 43, 44, 45]);
    }

    /// A request with little room left took a batch of each further partition, and was larger than it may be.
    #[test]
    fn a_request_is_not_larger_than_it_may_be() {
        let start = Instant::now();
        let mut accumulator = Accumulator::new(SETTINGS);
        for partition in 0..20 {
            push(&mut accumulator, start, partition);
        }
        let later = start + SETTINGS.linger;
        let mut sent = 0;
        while sent < 20 {
            let drained = accumulator.drain(later);
            let size: usize = drained.iter().flat_map(|(_, run)| run).map(Batch::size).sum();
            assert!(size <= SETTINGS.max_request_size, "{size}");
            assert!(!drained.is_empty(), "{sent} were sent");
            sent += drained.len();
        }
    }

    #[test]
    fn what_is_not_delivered_in_time_fails_and_tells_whether_it_may_be_there() {
        let start = Instant::now();
        let mut accumulator = Accumulator::new(SETTINGS);
        let partitions = 0..4;
        let deliveries: Vec<_> =
            partitions.clone().map(|n| push(&mut accumulator, start, n).0).collect();
        let sent = accumulator.drain(start + SETTINGS.linger);
        assert_eq!(sent.len(), 4);
        let gone = || ClientError::Disconnected { address: "a".to_owned(), reason: "b".into() };
        for ((key, batches), error) in
            sent.into_iter().zip([gone(), ClientError::LeaderFound, gone()])
        {
            let landed = batches.into_iter().map(|batch| (batch, Err(error.clone()))).collect();
            accumulator.landed(&key, landed, start, Duration::ZERO);
        }
        let end = start + SETTINGS.delivery_timeout;
        assert_eq!(accumulator.expire(start), 0);
        assert_eq!(accumulator.expire(end), 150);
        let told = |n: usize| deliveries[n].try_receipt();
        assert!(matches!(told(0), Some(Err(ClientError::TimedOut { .. }))), "{:?}", told(0));
        assert!(matches!(told(1), Some(Err(ClientError::NotDelivered { .. }))), "{:?}", told(1));
        assert!(told(3).is_none(), "it is on its way");
        assert_eq!(accumulator.outcomes().len(), 1);
    }
}
