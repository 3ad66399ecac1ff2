//! What replication costs, how fast an empty follower catches up and what that does to those who
//! produce, and how long a thousand partitions are without their leader.
//!
//! `MK_LOAD_BYTES` (default 4 MiB) and `MK_LOAD_PARTITIONS` (default 60) say how much; times are worth
//! something in a release build alone: `MK_LOAD_BYTES=536870912 MK_LOAD_PARTITIONS=1000 cargo test --release
//! --test cluster_load -- --nocapture --test-threads 1`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
mod machines;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::wait_until;
use machines::{Machines, place, wait_in_sync};
use mk::client::{Admin, Cluster, ClusterSettings, Producer, ProducerRecord, ProducerSettings};
use mk_net::message::{NewTopic, Setting};
use tokio::runtime::Runtime;

const RECORD_BYTES: u64 = 1024;
/// Each is measured so often, in turns; the median counts.
const ROUNDS: usize = 5;
/// The paced producer sends a record so often.
const PACE: Duration = Duration::from_millis(2);
/// How long it is measured alone.
const ALONE: Duration = Duration::from_secs(3);

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect(name))
}

fn load_bytes() -> u64 {
    from_environment("MK_LOAD_BYTES", 4 << 20)
}

fn create(
    runtime: &Runtime,
    cluster: &Cluster,
    name: &str,
    partitions: u32,
    replicas: u16,
    flush: &str,
) {
    let topic = NewTopic {
        name: name.to_owned(),
        partitions: Some(partitions),
        replication_factor: Some(replicas),
        settings: vec![Setting { name: "flush".to_owned(), value: flush.to_owned() }],
    };
    let admin = Admin::new(cluster.clone());
    let created = runtime.block_on(admin.create_topics(vec![topic], false)).unwrap();
    assert!(created.iter().all(|topic| topic.result.is_ok()), "{created:?}");
}

fn record(topic: &str, value: &Bytes) -> ProducerRecord {
    ProducerRecord {
        topic: topic.into(),
        partition: Some(0),
        value: Some(value.clone()),
        ..ProducerRecord::default()
    }
}

/// Produces so much; bytes a second until all of it is acknowledged.
async fn produce(cluster: Cluster, topic: &str, bytes: u64) -> f64 {
    let producer = Producer::new(cluster, ProducerSettings::default());
    let value = Bytes::from(vec![7; RECORD_BYTES as usize]);
    let begun = Instant::now();
    let mut last = None;
    for _ in 0..bytes / RECORD_BYTES {
        last = Some(producer.send(record(topic, &value)).await.unwrap());
    }
    producer.flush().await;
    last.unwrap().receipt().await.unwrap();
    let took = begun.elapsed();
    producer.close().await;
    bytes as f64 / took.as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn three_replicas_next_to_one() {
    let machines = Machines::start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    for flush in ["ack", "os"] {
        let names = [1, 3].map(|replicas| (format!("{flush}-{replicas}"), replicas));
        for (name, replicas) in &names {
            create(&runtime, &cluster, name, 1, *replicas, flush);
        }
        wait_in_sync(&runtime, &cluster, &names[1].0);
        let mut rates = [Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            for ((name, _), rates) in names.iter().zip(&mut rates) {
                let produced = produce(cluster.clone(), name, load_bytes());
                rates.push(runtime.block_on(produced));
            }
        }
        let [one, three] = rates.map(median);
        let (ratio, one, three) = (three / one, one / 1e6, three / 1e6);
        println!(
            "flush={flush} acks=all: one replica {one:.0} MB/s, three {three:.0} MB/s, ratio {ratio:.2}"
        );
    }
}

/// Sends a record every so often until it is told to stop; how long each acknowledgement took.
async fn paced(cluster: Cluster, topic: String, stop: Arc<AtomicBool>) -> Vec<Duration> {
    let settings = ProducerSettings { linger: Duration::ZERO, ..ProducerSettings::default() };
    let producer = Arc::new(Producer::new(cluster, settings));
    let value = Bytes::from(vec![7; RECORD_BYTES as usize]);
    let mut ticks = tokio::time::interval(PACE);
    let mut deliveries = tokio::task::JoinSet::new();
    while !stop.load(Ordering::Relaxed) {
        ticks.tick().await;
        let (sent, producer) = (record(&topic, &value), producer.clone());
        deliveries.spawn(async move {
            let begun = Instant::now();
            producer.send(sent).await.unwrap().receipt().await.unwrap();
            begun.elapsed()
        });
    }
    let mut took = deliveries.join_all().await;
    took.sort();
    took
}

fn percentile(sorted: &[Duration], part: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

fn print_latencies(when: &str, took: &[Duration]) {
    let [median, high, most] = [0.5, 0.99, 1.0].map(|part| percentile(took, part));
    println!("{when}: {} records, p50 {median:?}, p99 {high:?}, longest {most:?}", took.len());
}

/// Measures the paced producer while `work` goes on.
fn paced_while(
    runtime: &Runtime,
    cluster: &Cluster,
    topic: &str,
    work: impl FnOnce(),
) -> Vec<Duration> {
    let stop = Arc::new(AtomicBool::new(false));
    let producer = runtime.spawn(paced(cluster.clone(), topic.to_owned(), stop.clone()));
    work();
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(producer).unwrap()
}

#[test]
fn an_empty_follower_catches_up_under_load() {
    let mut machines = Machines::start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    for topic in ["large", "live"] {
        create(&runtime, &cluster, topic, 1, 3, "ack");
    }
    runtime.block_on(produce(cluster.clone(), "large", load_bytes()));
    wait_in_sync(&runtime, &cluster, "large");
    let leaders =
        ["large", "live"].map(|topic| runtime.block_on(place(&cluster, topic)).leader.unwrap());
    let wiped = (1..=3).find(|id| !leaders.contains(id)).unwrap();
    machines.kill_broker(wiped);
    std::fs::remove_dir_all(machines.data(wiped)).unwrap();
    wait_until("it is fenced", || {
        !runtime.block_on(place(&cluster, "large")).in_sync_replicas.contains(&wiped)
    });
    let alone = paced_while(&runtime, &cluster, "live", || std::thread::sleep(ALONE));
    print_latencies("before", &alone);
    let mut rate = 0.0;
    let during = paced_while(&runtime, &cluster, "live", || {
        machines.start_broker(wiped);
        let begun = Instant::now();
        wait_in_sync(&runtime, &cluster, "large");
        rate = load_bytes() as f64 / begun.elapsed().as_secs_f64();
    });
    print_latencies("while it catches up", &during);
    println!("catch-up {:.0} MB/s of {} bytes", rate / 1e6, load_bytes());
    let ratio = percentile(&during, 0.99).as_secs_f64() / percentile(&alone, 0.99).as_secs_f64();
    println!("p99 while it catches up, to p99 before: {ratio:.1}");
    wait_in_sync(&runtime, &cluster, "live");
}

#[test]
fn all_partitions_of_a_broker_that_dies_are_led_elsewhere() {
    let mut machines = Machines::start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    let partitions = from_environment("MK_LOAD_PARTITIONS", 60) as u32;
    create(&runtime, &cluster, "t", partitions, 3, "ack");
    let address = machines.brokers[&2].address.clone();
    let other = Admin::new(Cluster::new(vec![address], ClusterSettings::default()));
    let led = |by: &dyn Fn(u32) -> bool| {
        let metadata = runtime.block_on(other.metadata(Some(vec!["t".to_owned()]))).unwrap();
        let Ok(places) = &metadata.topics[0].result else { return 0 };
        places.partitions.iter().filter(|place| place.leader.is_some_and(by)).count()
    };
    wait_until("all are led", || led(&|_| true) == partitions as usize);
    let before = led(&|id| id == 1);
    let begun = Instant::now();
    machines.kill_broker(1);
    wait_until("all are led elsewhere", || led(&|id| id != 1) == partitions as usize);
    let took = begun.elapsed();
    println!("{before} of {partitions} partitions are led elsewhere {took:?} after kill -9");
    assert!(before >= partitions as usize / 3, "leaders are spread over the brokers");
    assert!(took < Duration::from_secs(30), "{took:?}");
}
