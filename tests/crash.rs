//! `kill -9` in the middle of producing: every acknowledged record is there afterwards, in order.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common::{Broker, assert_clean, data_dir, wait_until};
use mk::client::{Cluster, ClusterSettings, Producer, ProducerRecord, ProducerSettings};

const ROUNDS: u32 = 50;

/// Produces numbers until it is told to stop; answers (number, offset) of all that was
/// acknowledged.
async fn produce(
    address: String,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
) -> Vec<(u64, u64)> {
    let cluster = Cluster::new(vec![address], ClusterSettings::default());
    let settings = ProducerSettings { linger: Duration::from_millis(1), ..Default::default() };
    let producer = Producer::new(cluster, settings);
    let mut receipts = Vec::new();
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let mut deliveries = Vec::new();
        for _ in 0..50 {
            let record = ProducerRecord {
                topic: "t".into(),
                value: Some(format!("{number:0100}").into()),
                ..ProducerRecord::default()
            };
            deliveries.push((number, producer.send(record).await.unwrap()));
            number += 1;
        }
        for (number, delivery) in deliveries {
            receipts.push((number, delivery.receipt().await.unwrap().offset.unwrap()));
        }
        acknowledged.store(number, Ordering::Relaxed);
    }
    producer.close().await;
    receipts
}

#[test]
fn no_acknowledged_record_is_lost_to_fifty_kills() {
    let (_root, data) = data_dir();
    // Small segments, so that some kills hit while a segment is closed.
    let flags = ["--set", "log.segment.bytes=256KiB"];
    let mut broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    let address = broker.address().to_owned();
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let producing = runtime.spawn(produce(address.clone(), stop.clone(), acknowledged.clone()));
    for round in 0..ROUNDS {
        let before = acknowledged.load(Ordering::Relaxed);
        // Further into the stream each time.
        let goal = before + 200 + u64::from(round) * 37;
        wait_until("records are acknowledged", || acknowledged.load(Ordering::Relaxed) >= goal);
        broker.kill();
        broker = Broker::start_with(&data, &address, &flags);
        println!("kill {}: {}", round + 1, broker.ready_line());
        assert!(broker.ready_line().contains("after a crash"), "{}", broker.ready_line());
    }
    let goal = acknowledged.load(Ordering::Relaxed) + 200;
    wait_until("the last broker takes records", || acknowledged.load(Ordering::Relaxed) >= goal);
    stop.store(true, Ordering::Relaxed);
    let receipts = runtime.block_on(producing).unwrap();

    let output = broker.run(&["consume", "t", "-o", "start", "-e"]);
    let log: Vec<u64> = output.lines().map(|line| line.parse().unwrap()).collect();
    let acknowledged = receipts.len();
    let twice = log.len() - acknowledged;
    println!("{acknowledged} acknowledged, {} in the log, {twice} of them twice", log.len());
    for (number, offset) in &receipts {
        assert_eq!(log[*offset as usize], *number, "offset {offset}");
    }
    assert!(receipts.windows(2).all(|pair| pair[0].1 < pair[1].1), "acknowledged out of order");
    // A batch that was sent again may be there twice, but as a whole and in order.
    let mut highest = None;
    for number in &log {
        let next = highest.map_or(0, |highest: u64| highest + 1);
        assert!(*number <= next, "{number} after {highest:?}");
        highest = Some(highest.map_or(*number, |highest: u64| highest.max(*number)));
    }
    assert_clean(&data);
    broker.stop();
    assert_clean(&data);
}

#[test]
fn one_broker_a_directory() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_mkbroker"));
    second.arg("--data").arg(&data).args(["--listen", "127.0.0.1:0"]);
    let output = second.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&format!("process {}", broker.id())), "{error}");
}
