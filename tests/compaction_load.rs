//! A large log is compacted while records come: what it costs, and that nothing is lost.
//!
//! `MK_COMPACT_BYTES` says how large (default 64 MiB); times and rates are worth something in a
//! release build alone: `MK_COMPACT_BYTES=5368709120 cargo test --release --test compaction_load --
//! --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{Broker, assert_clean, data_dir};
use mk::client::{Cluster, ClusterSettings, Producer, ProducerRecord, ProducerSettings};

const VALUE_BYTES: u64 = 1000;
/// One record in a hundred is the newest of its key.
const RECORDS_PER_KEY: u64 = 100;
/// How long a rate is measured.
const ALONE: Duration = Duration::from_secs(4);
/// So often it is measured before it counts.
const WARM_UP: usize = 3;

/// Produces records number `0..` with these keys until `go_on` says no; answers how many.
async fn produce(
    broker: &Broker,
    topic: &str,
    keys: u64,
    mut go_on: impl FnMut(u64) -> bool,
) -> u64 {
    let cluster = Cluster::new(vec![broker.address().to_owned()], ClusterSettings::default());
    let producer = Producer::new(cluster, ProducerSettings::default());
    let mut number = 0;
    let mut last = None;
    while go_on(number) {
        // Neighbours in the log are of different keys, and rounds in different order.
        let key = (number % keys * 7919 + number / keys) % keys;
        let record = ProducerRecord {
            topic: topic.into(),
            key: Some(Bytes::from(format!("key {key}"))),
            value: Some(value(number)),
            ..ProducerRecord::default()
        };
        last = Some(producer.send(record).await.unwrap());
        number += 1;
    }
    if let Some(last) = last {
        last.receipt().await.unwrap();
    }
    producer.close().await;
    number
}

/// The record's number, and bytes behind it that are never the same.
fn value(number: u64) -> Bytes {
    let mut value = Vec::with_capacity(VALUE_BYTES as usize + 8);
    let mut state = number;
    while value.len() < VALUE_BYTES as usize {
        value.extend_from_slice(&state.to_le_bytes());
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    }
    value.truncate(VALUE_BYTES as usize);
    Bytes::from(value)
}

/// Bytes a second that are produced to another topic as long as `go_on` says so.
async fn rate(broker: &Broker, go_on: impl Fn(Instant) -> bool) -> f64 {
    let start = Instant::now();
    let records = produce(broker, "other", 1000, |_| go_on(start)).await;
    (records * VALUE_BYTES) as f64 / start.elapsed().as_secs_f64()
}

fn partition(broker: &Broker, topic: &str) -> serde_json::Value {
    let text = broker.run(&["topic", "describe", topic, "--json"]);
    let topics: serde_json::Value = serde_json::from_str(&text).unwrap();
    let topic = if topics.is_array() { &topics[0] } else { &topics };
    topic["partitions"][0].clone()
}

#[test]
fn a_large_log_is_compacted_while_records_come() {
    let bytes = std::env::var("MK_COMPACT_BYTES").ok().and_then(|text| text.parse().ok());
    let bytes: u64 = bytes.unwrap_or(64 << 20);
    let (records, keys) = (bytes / VALUE_BYTES, bytes / VALUE_BYTES / RECORDS_PER_KEY);
    let (_root, data) = data_dir();
    let segment = format!("log.segment.bytes={}", (bytes / 20).clamp(1 << 20, 1 << 30));
    let flags = ["--set", &segment, "--set", "log.cleaner.backoff.ms=20"];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    let runtime = tokio::runtime::Runtime::new().unwrap();

    runtime.block_on(produce(&broker, "state", keys, |number| number < records));
    let before = partition(&broker, "state")["bytes"].as_u64().unwrap();
    let alone_for = if bytes < 1 << 30 { ALONE / 8 } else { ALONE };
    let alone = || runtime.block_on(rate(&broker, |start| start.elapsed() < alone_for));
    // The first seconds are faster than any later: what was just written is not yet being written back.
    for _ in 0..WARM_UP {
        alone();
    }
    let mut alone_rates = vec![alone()];

    let (compacted, most_resident) = (AtomicBool::new(false), AtomicU64::new(0));
    let start = Instant::now();
    broker.run(&["config", "set", "state", "cleanup.policy=compact"]);
    let (meanwhile, took) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            // What is live, and the last segment, which is left alone.
            while partition(&broker, "state")["bytes"].as_u64().unwrap()
                > before / 100 + before / 10
            {
                most_resident.fetch_max(broker.resident_bytes(), Ordering::Relaxed);
                assert!(start.elapsed() < Duration::from_secs(600), "it is never compacted");
                thread::sleep(Duration::from_millis(20));
            }
            compacted.store(true, Ordering::Relaxed);
            start.elapsed()
        });
        let rate = runtime.block_on(rate(&broker, |_| !compacted.load(Ordering::Relaxed)));
        (rate, watch.join().unwrap())
    });
    alone_rates.push(alone());
    let after = partition(&broker, "state")["bytes"].as_u64().unwrap();
    let resident = most_resident.into_inner();

    let mut newest = HashMap::new();
    for number in 0..records {
        newest.insert((number % keys * 7919 + number / keys) % keys, number);
    }
    let mut found = HashMap::new();
    let lines = broker.run(&["consume", "state", "-o", "start", "-e", "-J"]);
    for line in lines.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let key = record["key"].as_str().unwrap().strip_prefix("key ").unwrap().to_owned();
        found.insert(key.parse::<u64>().unwrap(), record["offset"].as_u64().unwrap());
    }
    assert_eq!(found, newest, "the newest record of each key, at its offset");

    let mean = alone_rates.iter().sum::<f64>() / alone_rates.len() as f64;
    println!(
        "{before} bytes, {records} records of {keys} keys: {after} bytes after {took:.1?}; \
         producing meanwhile {:.0} MB/s, alone {:.0} and {:.0} MB/s: {:.2}; \
         most memory {:.0} MiB",
        meanwhile / 1e6,
        alone_rates[0] / 1e6,
        alone_rates[1] / 1e6,
        meanwhile / mean,
        resident as f64 / f64::from(1 << 20),
    );
    assert!(resident < 400 << 20, "{resident} bytes of memory");
    broker.stop();
    assert_clean(&data);
}
