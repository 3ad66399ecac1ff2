//! Producers and consumers that write down all that they do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mk::client::{
    ClientError, Cluster, ClusterSettings, Consumer, ConsumerSettings, OffsetReset, Producer,
    ProducerRecord, ProducerSettings, StartAt, partition_of_key,
};
use mk_net::fault::ErrorCode;
use mk_storage::batch::Record;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::history::{Outcome, Reading, Seen, Written};
use super::random::Random;

pub const TOPIC: &str = "chaos";
pub const PARTITIONS: u32 = 3;
/// Largest batch that the topic takes.
pub const MOST_BYTES: usize = 16 << 10;

/// A client of the cluster at these addresses.
pub fn cluster(addresses: &[String]) -> Cluster {
    named_cluster(addresses, &ClusterSettings::default().client_id)
}

/// A client of that name.
pub fn named_cluster(addresses: &[String], client_id: &str) -> Cluster {
    let settings = ClusterSettings {
        client_id: client_id.to_owned(),
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(5),
        ..ClusterSettings::default()
    };
    Cluster::new(addresses.to_vec(), settings)
}

/// What all writers share.
struct Desk {
    origin: Instant,
    next_number: AtomicU64,
    acknowledged: AtomicU64,
    stop: AtomicBool,
}

/// Producers of numbers.
pub struct Writers {
    desk: Arc<Desk>,
    tasks: Vec<JoinHandle<Notes>>,
}

/// A time without an acknowledgement for a writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pause {
    pub length: Duration,
    pub ended_ms: u64,
    pub partition: u32,
}

/// What one writer has to say.
#[derive(Default)]
pub struct Notes {
    pub written: Vec<Written>,
    pub longest_pause: Pause,
    /// Why records failed, and how many.
    pub errors: BTreeMap<String, usize>,
}

impl Writers {
    /// So many producers, each with a writer for each partition. The even ones choose the partition,
    /// the odd ones a key.
    pub fn start(
        runtime: &Runtime,
        addresses: &[String],
        producers: u32,
        seed: u64,
        origin: Instant,
    ) -> Writers {
        let desk = Arc::new(Desk {
            origin,
            next_number: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let _inside = runtime.enter();
        let mut tasks = Vec::new();
        for writer in 0..producers {
            let settings = ProducerSettings {
                linger: Duration::from_millis(u64::from(writer)),
                // The odd ones give up soon, and do not know what became of a record.
                delivery_timeout: Duration::from_secs(if writer % 2 == 1 { 2 } else { 120 }),
                ..ProducerSettings::default()
            };
            let producer = Arc::new(Producer::new(cluster(addresses), settings));
            for partition in 0..PARTITIONS {
                let random = Random::new(seed ^ u64::from(writer * PARTITIONS + partition) << 32);
                let work = write(producer.clone(), desk.clone(), writer, partition, random);
                tasks.push(runtime.spawn(work));
            }
        }
        Writers { desk, tasks }
    }

    pub fn acknowledged(&self) -> u64 {
        self.desk.acknowledged.load(Ordering::Relaxed)
    }

    /// Ends it once the outcome of each record is known.
    pub fn stop(self, runtime: &Runtime) -> Notes {
        self.desk.stop.store(true, Ordering::Relaxed);
        let mut all = Notes::default();
        for task in self.tasks {
            let notes = runtime.block_on(task).unwrap();
            all.written.extend(notes.written);
            all.longest_pause = all.longest_pause.max(notes.longest_pause);
            for (error, count) in notes.errors {
                *all.errors.entry(error).or_default() += count;
            }
        }
        all
    }
}

/// A key whose records come to this partition.
fn key_for(partition: u32) -> Bytes {
    let mut keys = (0u32..).map(|n| Bytes::from(format!("key-{n}")));
    keys.find(|key| partition_of_key(key, PARTITIONS) == partition).unwrap()
}

async fn write(
    producer: Arc<Producer>,
    desk: Arc<Desk>,
    writer: u32,
    partition: u32,
    mut random: Random,
) -> Notes {
    let mut notes = Notes::default();
    let mut last = Instant::now();
    while !desk.stop.load(Ordering::Relaxed) {
        let is_refused = random.chance(1);
        let count = if is_refused { 1 } else { 1 + random.below(8) };
        let mut deliveries = Vec::new();
        for _ in 0..count {
            let number = desk.next_number.fetch_add(1, Ordering::Relaxed);
            // A record that no batch of the topic has room for.
            let padding = if is_refused { MOST_BYTES } else { random.below(300) as usize };
            let by_key = writer % 2 == 1;
            let record = ProducerRecord {
                topic: TOPIC.into(),
                partition: (!by_key).then_some(partition),
                key: by_key.then(|| key_for(partition)),
                value: Some(format!("{number} {}", "x".repeat(padding)).into()),
                ..ProducerRecord::default()
            };
            deliveries.push((number, producer.send(record).await));
        }
        for (number, delivery) in deliveries {
            let result = match delivery {
                Ok(delivery) => delivery.receipt().await,
                // It was not given to the producer.
                Err(error) => {
                    *notes.errors.entry(format!("not sent: {error}")).or_default() += 1;
                    continue;
                }
            };
            let outcome = match &result {
                Ok(receipt) => {
                    assert_eq!(receipt.partition, partition, "the receipt of {number}");
                    Outcome::Acknowledged(receipt.offset.unwrap())
                }
                Err(ClientError::Broker(fault)) if fault.code == ErrorCode::MESSAGE_TOO_LARGE => {
                    Outcome::Refused
                }
                Err(ClientError::NotDelivered { .. }) => Outcome::Refused,
                Err(_) => Outcome::Unknown,
            };
            if let Err(error) = result {
                *notes.errors.entry(name_of(&error)).or_default() += 1;
            } else {
                let ended_ms = desk.origin.elapsed().as_millis() as u64;
                let pause = Pause { length: last.elapsed(), ended_ms, partition };
                notes.longest_pause = notes.longest_pause.max(pause);
                last = Instant::now();
                desk.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            notes.written.push(Written { writer, partition, number, outcome });
        }
    }
    notes
}

/// The number of a record that a writer has written.
pub fn number_of(record: &Record) -> u64 {
    let value = String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap();
    value.split_once(' ').unwrap().0.parse().unwrap()
}

/// An error without what is different each time.
fn name_of(error: &ClientError) -> String {
    match error {
        ClientError::Broker(fault) => format!("the broker: {}", fault.code),
        ClientError::TimedOut { last: Some(last), .. } => format!("timed out: {}", name_of(last)),
        ClientError::TimedOut { last: None, .. } => "timed out".to_owned(),
        ClientError::NotDelivered { last: Some(last), .. } => {
            format!("not done: {}", name_of(last))
        }
        ClientError::Unreachable { .. } => "unreachable".to_owned(),
        ClientError::Disconnected { .. } => "disconnected".to_owned(),
        other => other.to_string(),
    }
}

/// Where each partition ends, once that is known.
type Ends = Option<Vec<u64>>;

/// Consumers that follow, and one that begins anew all the time.
pub struct Readers {
    ends: watch::Sender<Ends>,
    tasks: Vec<JoinHandle<(Vec<Reading>, Vec<String>)>>,
}

impl Readers {
    /// One from the leaders, one from each rack, and one that begins anew.
    pub fn start(
        runtime: &Runtime,
        addresses: &[String],
        racks: &[String],
        origin: Instant,
    ) -> Readers {
        let (ends, known) = watch::channel(None);
        let mut tasks = Vec::new();
        let none = String::new();
        for rack in std::iter::once(&none).chain(racks) {
            let name = if rack.is_empty() { "leaders".to_owned() } else { format!("rack {rack}") };
            let work = follow(cluster(addresses), rack.clone(), name, origin, known.clone());
            tasks.push(runtime.spawn(work));
        }
        tasks.push(runtime.spawn(begin_anew(cluster(addresses), racks.to_vec(), origin, known)));
        Readers { ends, tasks }
    }

    /// Says where each partition ends, and waits until all have read so far. Answers what they have
    /// read, and what went wrong.
    pub fn finish(self, runtime: &Runtime, ends: Vec<u64>) -> (Vec<Reading>, Vec<String>) {
        let _ = self.ends.send(Some(ends));
        let results = self.tasks.into_iter().map(|task| runtime.block_on(task).unwrap());
        let (readings, errors): (Vec<_>, Vec<_>) = results.unzip();
        (readings.concat(), errors.concat())
    }
}

/// After the ends are known, nobody takes longer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A consumer that has failed, which none should, is followed by another so soon.
const RETRY: Duration = Duration::from_millis(100);

/// A consumer of all partitions, each from an offset on.
async fn begin(cluster: &Cluster, rack: &str, offsets: &[u64]) -> Result<Consumer, ClientError> {
    let settings = ConsumerSettings {
        max_wait: Duration::from_secs(1),
        rack: rack.to_owned(),
        // Nobody may be told that a record that it has not read is gone.
        offset_reset: OffsetReset::None,
        give_up_after: Duration::from_secs(600),
        ..ConsumerSettings::default()
    };
    let consumer = Consumer::new(cluster.clone(), settings);
    for (partition, offset) in (0..).zip(offsets) {
        consumer.assign(TOPIC, &[partition], StartAt::Offset(*offset)).await?;
    }
    Ok(consumer)
}

async fn follow(
    cluster: Cluster,
    rack: String,
    name: String,
    origin: Instant,
    ends: watch::Receiver<Ends>,
) -> (Vec<Reading>, Vec<String>) {
    let (reading, errors) = read(cluster, &rack, name, origin, ends, None).await;
    (vec![reading], errors)
}

/// Reads from the start for a second or so, then again.
async fn begin_anew(
    cluster: Cluster,
    racks: Vec<String>,
    origin: Instant,
    ends: watch::Receiver<Ends>,
) -> (Vec<Reading>, Vec<String>) {
    let (mut readings, mut errors) = (Vec::<Reading>::new(), Vec::new());
    let mut round = 0;
    loop {
        let is_last = ends.borrow().is_some();
        let rack = racks.get(round % (racks.len() + 1)).map_or("", String::as_str);
        let limit = (!is_last).then_some(Duration::from_secs(2));
        let name = format!("anew {round}");
        let (reading, wrong) = read(cluster.clone(), rack, name, origin, ends.clone(), limit).await;
        errors.extend(wrong);
        readings.push(reading);
        if is_last {
            return (readings, errors);
        }
        // Not everything that is read again and again is kept: the last ones are.
        if readings.len() > 5 {
            readings.remove(0);
        }
        round += 1;
    }
}

/// Reads from the start up to the ends, or for so long.
async fn read(
    cluster: Cluster,
    rack: &str,
    name: String,
    origin: Instant,
    mut ends: watch::Receiver<Ends>,
    limit: Option<Duration>,
) -> (Reading, Vec<String>) {
    let mut reading = Reading { name, ..Reading::default() };
    let mut errors = Vec::new();
    let at =
        |name: &str, what: &str| format!("{:>8} ms  {name}: {what}", origin.elapsed().as_millis());
    let mut next = vec![0u64; PARTITIONS as usize];
    let mut consumer = None;
    let begun = Instant::now();
    let mut deadline = None;
    loop {
        let goal = ends.borrow_and_update().clone();
        if goal.is_some() {
            deadline.get_or_insert(Instant::now() + PATIENCE);
        }
        let is_at = |goal: Vec<u64>| next.iter().zip(&goal).all(|(next, end)| next >= end);
        reading.is_whole = limit.is_none() && goal.is_some();
        if goal.is_some_and(is_at) || limit.is_some_and(|limit| begun.elapsed() >= limit) {
            return (reading, errors);
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            errors.push(at(&reading.name, &format!("has not come to the end: {next:?}")));
            return (reading, errors);
        }
        if consumer.is_none() {
            match begin(&cluster, rack, &next).await {
                Ok(begun) => consumer = Some(begun),
                Err(error) => {
                    errors.push(at(&reading.name, &format!("cannot begin at {next:?}: {error}")));
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
            }
        }
        let Some(reader) = &mut consumer else { continue };
        let batches = tokio::select! {
            batches = reader.next() => batches,
            _ = ends.changed() => continue,
            () = tokio::time::sleep(Duration::from_millis(500)) => continue,
        };
        let batches = match batches {
            Ok(batches) => batches,
            Err(error) => {
                errors.push(at(&reading.name, &error.to_string()));
                // Another goes on where this one has ended.
                consumer = None;
                tokio::time::sleep(RETRY).await;
                continue;
            }
        };
        let partition = batches.partition;
        for record in batches.records() {
            match record {
                Ok(record) => {
                    let (offset, number) = (record.offset.0, number_of(&record));
                    next[partition as usize] = offset + 1;
                    reading.seen.push(Seen { partition, offset, number });
                }
                Err(error) => errors.push(at(&reading.name, &error.to_string())),
            }
        }
    }
}
