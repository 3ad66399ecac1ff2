//! Records on their way into batches, and batches on their way to brokers, by partition ([`Queue`]). Pure:
//! time is passed in, nothing is sent.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mk_storage::Timestamp;
use mk_storage::batch::{BatchBuilder, Compression, RecordFields};
use uuid::Uuid;

use super::batch::{Batch, Delivery};
use super::cluster::PartitionKey;
use super::landing::Landing;
use super::partitioner::Sticky;
use super::queue::{Landed, Queue};

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
    topics: Vec<Topic>,
    /// Where each is among them.
    places: HashMap<Arc<str>, usize>,
    /// That of the last record.
    last: usize,
    /// While more than 0, nothing lingers.
    pub flushing: usize,
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    /// Where records go that may go anywhere.
    sticky: Sticky,
    /// Each with its name, by number.
    queues: BTreeMap<u32, (PartitionKey, Queue)>,
    /// `max.message.bytes`, as far as it is known.
    limit: Option<usize>,
}

/// Where a record goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place {
    /// To this partition.
    At(u32),
    /// To any of so many.
    AnyOf(u32),
}

/// A record that is to be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pushed<'a> {
    pub fields: &'a RecordFields<'a>,
    pub timestamp: Timestamp,
    /// Bytes that it takes of the buffer.
    pub charge: usize,
}

impl Accumulator {
    pub fn new(settings: BatchSettings) -> Accumulator {
        let (topics, places) = (Vec::new(), HashMap::new());
        Accumulator { settings, topics, places, last: 0, flushing: 0 }
    }

    /// Adds a record to this partition of a topic, or to one of so many. True if the sender should look: a batch
    /// is full, or a new one has begun.
    pub fn push(
        &mut self,
        now: Instant,
        topic: &Arc<str>,
        place: Place,
        pushed: &Pushed<'_>,
    ) -> (Delivery, bool) {
        let Pushed { fields, timestamp, charge } = pushed;
        let settings = self.settings;
        self.last = self.place_of(topic);
        let known = &mut self.topics[self.last];
        let added = BatchBuilder::size_added(fields);
        let number = match place {
            Place::At(number) => number,
            Place::AnyOf(count) => known.any_of(count, added, &settings),
        };
        let fresh = || {
            let mut queue = Queue::default();
            queue.limit = known.limit;
            ((topic.clone(), number), queue)
        };
        let (key, queue) = known.queues.entry(number).or_insert_with(fresh);
        let (batch, begun) = queue.open_batch(key, now, added, &settings);
        let (was_full, before) = (batch.is_full(&settings), if begun { 0 } else { batch.size() });
        let delivery = batch.next_delivery();
        batch.push(*timestamp, fields, *charge);
        if matches!(place, Place::AnyOf(_)) {
            known.sticky.took(batch.size() - before);
        }
        (delivery, begun || batch.is_full(&settings) && !was_full)
    }

    /// Says how large a batch a topic takes.
    pub fn set_limit(&mut self, topic: &str, limit: usize) {
        let Some(place) = self.places.get(topic) else { return };
        let topic = &mut self.topics[*place];
        topic.limit = Some(limit);
        topic.queues.values_mut().for_each(|(_, queue)| queue.limit = Some(limit));
    }

    /// Where a topic is. Mostly the last one is wanted, and by the very same name.
    fn place_of(&mut self, topic: &Arc<str>) -> usize {
        if self.topics.get(self.last).is_some_and(|last| Arc::ptr_eq(&last.name, topic)) {
            return self.last;
        }
        if let Some(place) = self.places.get(topic) {
            self.topics[*place].name = topic.clone();
            return *place;
        }
        self.topics.push(Topic::new(topic.clone()));
        self.places.insert(topic.clone(), self.topics.len() - 1);
        self.topics.len() - 1
    }

    fn queues(&self) -> impl Iterator<Item = &Queue> {
        self.topics.iter().flat_map(|topic| topic.queues.values().map(|(_, queue)| queue))
    }

    /// Takes the batches that are to be sent now, for each partition in order, within the size of a
    /// request.
    pub fn drain(&mut self, now: Instant) -> Vec<(PartitionKey, Vec<Batch>)> {
        let mut left = self.settings.max_request_size;
        let mut drained = Vec::new();
        let queues = self.topics.iter_mut().flat_map(|topic| topic.queues.values_mut());
        for (key, queue) in queues {
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
        landed: Landed<'_>,
        now: Instant,
        pause: Duration,
    ) -> usize {
        let topic = self.places.get(&key.0).map(|place| &mut self.topics[*place]);
        let queue = topic.and_then(|topic| topic.queues.get_mut(&key.1));
        queue.map_or(0, |(_, queue)| queue.landed(key, landed, now, pause))
    }

    /// Fails batches that were not delivered in time; answers the bytes that they gave back.
    pub fn expire(&mut self, now: Instant) -> usize {
        let timeout = self.settings.delivery_timeout;
        let queues = self.topics.iter_mut().flat_map(|topic| topic.queues.values_mut());
        queues.map(|(_, queue)| queue.expire(now, timeout)).sum()
    }

    /// When [`Accumulator::drain`] or [`Accumulator::expire`] will have something to do.
    pub fn next_due(&self, now: Instant) -> Option<Instant> {
        let flushing = self.flushing > 0;
        self.queues().filter_map(|queue| queue.next_due(now, &self.settings, flushing)).min()
    }

    /// Where all batches land that there are, those on their way included.
    pub fn landings(&self) -> Vec<Arc<Landing>> {
        self.queues().flat_map(Queue::landings).cloned().collect()
    }
}

impl Topic {
    fn new(name: Arc<str>) -> Topic {
        let seed = Uuid::new_v4().as_u64_pair().0 as u32;
        Topic { name, sticky: Sticky::new(seed), queues: BTreeMap::new(), limit: None }
    }

    /// The partition of a record of so many bytes that may go to any of `count`.
    fn any_of(&mut self, count: u32, added: usize, settings: &BatchSettings) -> u32 {
        let number = self.sticky.partition(count);
        let queue = self.queues.get(&number);
        let has_room = queue.is_some_and(|(_, queue)| queue.has_room(added, settings));
        if self.sticky.may_stay(settings.batch_size, has_room) {
            return number;
        }
        self.sticky.move_on();
        self.sticky.partition(count)
    }
}

#[cfg(test)]
mod tests {
    use mk_net::message::{Appended, Durability};

    use super::super::error::ClientError;
    use super::*;

    const SETTINGS: BatchSettings = BatchSettings::SMALL;

    fn push(accumulator: &mut Accumulator, now: Instant, partition: u32) -> (Delivery, bool) {
        let record = RecordFields { value: Some(&[7; 50]), ..RecordFields::default() };
        let pushed = Pushed { fields: &record, timestamp: Timestamp(1), charge: 50 };
        accumulator.push(now, &"t".into(), Place::At(partition), &pushed)
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
        assert_eq!(accumulator.landed(&sent_to, Landed::of(landed), later, Duration::ZERO), 50);
        assert_eq!(first.try_receipt().unwrap().unwrap().offset, Some(40));

        let deliveries: Vec<_> = (0..5).map(|_| push(&mut accumulator, later, 0).0).collect();
        let (_, batches) = accumulator.drain(later).remove(0);
        assert_eq!(batches.len(), 2, "two records a batch of 200 bytes; the third is open");
        accumulator.flushing = 1;
        let (_, last) = accumulator.drain(later).remove(0);
        let batches = batches.into_iter().chain(last).zip([41, 43, 45]);
        let landed = batches.map(|(batch, base)| (batch, Ok(Some(appended(base))))).collect();
        assert_eq!(accumulator.landed(&sent_to, Landed::of(landed), later, Duration::ZERO), 250);
        let offsets = deliveries.iter().map(|d| d.try_receipt().unwrap().unwrap().offset.unwrap());
        assert_eq!(offsets.collect::<Vec<_>>(), [41, 42, 43, 44, 45]);
    }

    /// What a record took of the buffer was counted, which is more than its bytes: a partition was left when its
    /// batch was half full, and the batch had to linger.
    #[test]
    fn a_partition_is_left_when_its_batch_is_full() {
        let start = Instant::now();
        let settings = BatchSettings { batch_size: 10_000, ..SETTINGS };
        let mut accumulator = Accumulator::new(settings);
        let record = RecordFields { value: Some(&[7; 50]), ..RecordFields::default() };
        let pushed = Pushed { fields: &record, timestamp: Timestamp(1), charge: 500 };
        for _ in 0..1000 {
            accumulator.push(start, &"t".into(), Place::AnyOf(3), &pushed);
        }
        let queues = accumulator.topics[0].queues.values();
        let mut sizes: Vec<usize> = queues.flat_map(|(_, queue)| queue.sizes()).collect();
        sizes.sort_unstable();
        // All but the last are full.
        assert!(sizes.len() > 3 && sizes[1..].iter().all(|size| *size >= 9_900), "{sizes:?}");
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
        let mut sent = accumulator.drain(start + SETTINGS.linger);
        assert_eq!(sent.len(), 4);
        let _on_its_way = sent.pop();
        let gone = || ClientError::Disconnected { address: "a".to_owned(), reason: "b".into() };
        for ((key, batches), error) in
            sent.into_iter().zip([gone(), ClientError::LeaderFound, gone()])
        {
            let landed = batches.into_iter().map(|batch| (batch, Err(error.clone()))).collect();
            accumulator.landed(&key, Landed::of(landed), start, Duration::ZERO);
        }
        let end = start + SETTINGS.delivery_timeout;
        assert_eq!(accumulator.expire(start), 0);
        assert_eq!(accumulator.expire(end), 150);
        let told = |n: usize| deliveries[n].try_receipt();
        assert!(matches!(told(0), Some(Err(ClientError::TimedOut { .. }))), "{:?}", told(0));
        assert!(matches!(told(1), Some(Err(ClientError::NotDelivered { .. }))), "{:?}", told(1));
        assert!(told(3).is_none(), "it is on its way");
        assert_eq!(accumulator.landings().len(), 1);
    }
}
