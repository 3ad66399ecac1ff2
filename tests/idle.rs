//! Waiting is free: a hundred consumers at the end of their topics cost the broker nothing, and
//! get a record as soon as it is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::time::{Duration, Instant};

use common::{Broker, data_dir};
use mk::client::{
    Cluster, ClusterSettings, Consumer, ConsumerSettings, Producer, ProducerRecord,
    ProducerSettings, StartAt,
};

const CONSUMERS: usize = 100;

#[test]
fn a_hundred_waiting_consumers_cost_nothing_and_are_told_at_once() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let cluster =
            || Cluster::new(vec![broker.address().to_owned()], ClusterSettings::default());
        let mut consumers = Vec::new();
        for _ in 0..CONSUMERS {
            let consumer = Consumer::new(cluster(), ConsumerSettings::default());
            consumer.subscribe("t", StartAt::Latest).await.unwrap();
            consumers.push(consumer);
        }
        let settings = ProducerSettings { linger: Duration::ZERO, ..Default::default() };
        let producer = Producer::new(cluster(), settings);
        let send = || async {
            let value = Some("x".into());
            let record = ProducerRecord { topic: "t".into(), value, ..ProducerRecord::default() };
            producer.send(record).await.unwrap()
        };
        // All have waited, and been told, once.
        send().await.receipt().await.unwrap();
        for consumer in &mut consumers {
            consumer.next().await.unwrap();
        }

        let watched = Duration::from_secs(5);
        let before = broker.cpu_time();
        tokio::time::sleep(watched).await;
        let used = broker.cpu_time() - before;
        println!("{CONSUMERS} waiting consumers: {used:?} of processor time in {watched:?}");
        assert!(used <= Duration::from_millis(50), "{used:?} in {watched:?}");

        let mut waits = Vec::new();
        for _ in 0..50 {
            let start = Instant::now();
            let delivery = send().await;
            consumers[0].next().await.unwrap();
            waits.push(start.elapsed());
            delivery.receipt().await.unwrap();
        }
        waits.sort();
        let median = waits[waits.len() / 2];
        println!(
            "from send to a waiting consumer: {median:?} in the middle, {:?} at most",
            waits[49]
        );
        assert!(median < Duration::from_millis(50), "{median:?}");
    });
}
