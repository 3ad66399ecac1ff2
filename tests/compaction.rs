//! Compacted topics: the newest record of each key stays, whatever happens meanwhile.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Broker, assert_clean, data_dir, wait_until, with_input};
use mk::client::{Cluster, ClusterSettings, Producer, ProducerRecord, ProducerSettings};

/// Small segments, compacted as soon as there is something to gain.
fn start(data: &Path, listen: &str) -> Broker {
    let settings = [
        "log.segment.bytes=64KiB",
        "log.cleanup.policy=compact",
        "log.cleaner.backoff.ms=20",
        "log.cleaner.min.cleanable.ratio=0.1",
        "log.cleaner.delete.retention.ms=0",
        "log.idle.close.ms=200",
    ];
    let flags: Vec<_> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    Broker::start_with(data, listen, &flags)
}

/// Offset, key and value of all that the topic has, in order.
fn consume(broker: &Broker, topic: &str, from: &str) -> Vec<(u64, String, Option<String>)> {
    let lines = broker.run(&["consume", topic, "-o", from, "-e", "-J"]);
    let records = lines.lines().map(|line| serde_json::from_str(line).unwrap());
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    let fields = |record: serde_json::Value| {
        let key = text(&record["key"]).unwrap();
        (record["offset"].as_u64().unwrap(), key, text(&record["value"]))
    };
    records.map(fields).collect()
}

fn bytes(broker: &Broker, topic: &str) -> u64 {
    let text = broker.run(&["topic", "describe", topic, "--json"]);
    let topics: serde_json::Value = serde_json::from_str(&text).unwrap();
    let topic = if topics.is_array() { &topics[0] } else { &topics };
    topic["partitions"][0]["bytes"].as_u64().unwrap()
}

#[test]
fn the_newest_of_each_key_stays_and_offsets_do_not_change() {
    let (_root, data) = data_dir();
    let broker = start(&data, "127.0.0.1:0");
    let mut expected = BTreeMap::new();
    let mut number = 0u64;
    for round in 0..40 {
        let mut lines = String::new();
        for _ in 0..500 {
            // Many keys come no more in the second half; in the end every third is deleted.
            let key = number * 7919 % if round < 20 { 100 } else { 40 };
            let value = (round < 39 || !key.is_multiple_of(3)).then(|| format!("{number:050}"));
            let key = format!("key {key}");
            lines += &serde_json::json!({ "key": key, "value": value }).to_string();
            lines.push('\n');
            expected.insert(key, (number, value));
            number += 1;
        }
        broker.run_with_input(&["produce", "t", "--json"], lines.as_bytes());
    }
    // What is in the last segment stays; and of the tombstones there the first compaction keeps all.
    wait_until("most of it is gone", || bytes(&broker, "t") < 140 << 10);
    let state = |broker: &Broker| {
        let found = consume(broker, "t", "start");
        assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "offsets increase");
        let state = found.into_iter().map(|(offset, key, value)| (key, (offset, value)));
        let mut state: BTreeMap<_, _> = state.collect();
        state.retain(|_, (_, value)| value.is_some());
        state
    };
    let mut alive = expected.clone();
    alive.retain(|_, (_, value)| value.is_some());
    assert_eq!(state(&broker), alive);
    // An offset in the middle of what is gone is as good as any.
    let all = consume(&broker, "t", "start");
    let gap = all.windows(2).find(|pair| pair[0].0 + 1 < pair[1].0).expect("something is gone");
    assert_eq!(consume(&broker, "t", &(gap[0].0 + 1).to_string())[0], gap[1]);
    broker.stop();
    assert_clean(&data);
    let broker = start(&data, "127.0.0.1:0");
    assert_eq!(state(&broker), alive);
}

#[test]
fn a_record_without_a_key_is_refused_where_it_would_never_go() {
    let (_root, data) = data_dir();
    let broker = start(&data, "127.0.0.1:0");
    let refused = with_input(broker.ctl(&["produce", "t"]), b"no key\n");
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && told.contains("has no key"), "{told}");
    assert!(told.contains("compacted"), "{told}");
    broker.run_with_input(&["produce", "t", "-K", ":"], b"a:1\n");
    broker.run(&["topic", "create", "u", "-c", "cleanup.policy=delete"]);
    broker.run_with_input(&["produce", "u"], b"no key\n");
    assert_eq!(broker.run(&["consume", "t", "-o", "start", "-e", "-f", "%k %v\n"]), "a 1\n");
}

/// Produces ever larger values to few keys until it is told to stop; the last one of each key.
async fn produce(
    address: String,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> BTreeMap<String, String> {
    let cluster = Cluster::new(vec![address], ClusterSettings::default());
    let settings = ProducerSettings { linger: Duration::from_millis(1), ..Default::default() };
    let producer = Producer::new(cluster, settings);
    let mut newest = BTreeMap::new();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let mut deliveries = Vec::new();
        for _ in 0..100 {
            let (key, value) = (format!("key {}", number % 53), format!("{number:0200}"));
            let record = ProducerRecord {
                topic: "t".into(),
                key: Some(key.clone().into()),
                value: Some(value.clone().into()),
                ..ProducerRecord::default()
            };
            deliveries.push(producer.send(record).await.unwrap());
            newest.insert(key, value);
            number += 1;
        }
        for delivery in deliveries {
            delivery.receipt().await.unwrap();
        }
        acknowledged.store(number, Ordering::Relaxed);
    }
    producer.close().await;
    newest
}

#[test]
fn kills_in_the_middle_of_compactions_lose_no_key() {
    let (_root, data) = data_dir();
    let mut broker = start(&data, "127.0.0.1:0");
    let address = broker.address().to_owned();
    let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let producing = runtime.spawn(produce(address.clone(), stop.clone(), acknowledged.clone()));
    for round in 0..20u64 {
        let before = acknowledged.load(Ordering::Relaxed);
        wait_until("records are acknowledged", || {
            acknowledged.load(Ordering::Relaxed) > before + 500 + round * 37
        });
        broker.kill();
        broker = start(&data, &address);
    }
    stop.store(true, Ordering::Relaxed);
    let newest = runtime.block_on(producing).unwrap();
    let number = acknowledged.load(Ordering::Relaxed);
    wait_until("most of it is gone", || bytes(&broker, "t") < number * 200 / 10 + (140 << 10));
    let found = consume(&broker, "t", "start");
    let found: BTreeMap<_, _> =
        found.into_iter().map(|(_, key, value)| (key, value.unwrap())).collect();
    assert_eq!(found, newest);
    broker.stop();
    assert_clean(&data);
}
