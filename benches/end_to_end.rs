//! The client library against a broker, over loopback. `cargo bench --bench end_to_end`.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on must fail")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::TestBroker;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mk::client::{
    Acks, Cluster, ClusterSettings, Consumer, ConsumerSettings, Producer, ProducerRecord,
    ProducerSettings, StartAt,
};
use tokio::runtime::Runtime;

const RECORDS: u64 = 100_000;
const SIZE: usize = 100;

fn cluster(broker: &TestBroker) -> Cluster {
    Cluster::new(vec![broker.address()], ClusterSettings::default())
}

fn record(topic: &str, value: &Bytes) -> ProducerRecord {
    let value = Some(value.clone());
    ProducerRecord { topic: topic.into(), value, ..ProducerRecord::default() }
}

async fn produce_all(producer: &Producer, topic: &str, value: &Bytes) {
    let mut last = None;
    for _ in 0..RECORDS {
        last = Some(producer.send(record(topic, value)).await.unwrap());
    }
    producer.flush().await;
    last.unwrap().receipt().await.unwrap();
}

fn produce(c: &mut Criterion) {
    let broker = TestBroker::start(&[]);
    let runtime = Runtime::new().unwrap();
    let value = Bytes::from(vec![7; SIZE]);
    let mut group = c.benchmark_group("produce 100 000 records of 100 bytes");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(10);
    for (name, acks) in [("acks=all", Acks::All), ("acks=1", Acks::Leader)] {
        let settings = ProducerSettings { acks, ..ProducerSettings::default() };
        let producer = runtime.block_on(async { Producer::new(cluster(&broker), settings) });
        group.bench_function(name, |b| {
            b.iter(|| {
                runtime.block_on(produce_all(&producer, name.trim_start_matches("acks="), &value))
            });
        });
    }
    group.finish();
}

fn consume(c: &mut Criterion) {
    let broker = TestBroker::start(&[]);
    let runtime = Runtime::new().unwrap();
    let value = Bytes::from(vec![7; SIZE]);
    runtime.block_on(async {
        let producer = Producer::new(cluster(&broker), ProducerSettings::default());
        produce_all(&producer, "t", &value).await;
    });
    let mut group = c.benchmark_group("consume 100 000 records of 100 bytes");
    group.throughput(Throughput::Elements(RECORDS)).sample_size(10);
    group.bench_function("read each", |b| {
        b.iter(|| {
            runtime.block_on(async {
                let mut consumer = Consumer::new(cluster(&broker), ConsumerSettings::default());
                consumer.subscribe("t", StartAt::Earliest).await.unwrap();
                let mut seen = 0;
                while seen < RECORDS {
                    seen += consumer.next().await.unwrap().records().count() as u64;
                }
            });
        });
    });
    group.finish();
}

/// A record on its way to a consumer that waits for it.
fn latency(c: &mut Criterion) {
    let broker = TestBroker::start(&[]);
    let runtime = Runtime::new().unwrap();
    let value = Bytes::from(vec![7; SIZE]);
    for (name, acks) in [("acks=all", Acks::All), ("acks=1", Acks::Leader)] {
        let (producer, mut consumer) = runtime.block_on(async {
            let settings = ProducerSettings { acks, linger: Duration::ZERO, ..Default::default() };
            let producer = Producer::new(cluster(&broker), settings);
            let consumer = Consumer::new(cluster(&broker), ConsumerSettings::default());
            consumer.subscribe("tail", StartAt::Latest).await.unwrap();
            (producer, consumer)
        });
        c.bench_function(&format!("send and be acknowledged, {name}"), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let delivery = producer.send(record("alone", &value)).await.unwrap();
                    delivery.receipt().await.unwrap()
                })
            });
        });
        c.bench_function(&format!("from send to a waiting consumer, {name}"), |b| {
            b.iter(|| {
                runtime.block_on(async {
                    producer.send(record("tail", &value)).await.unwrap();
                    consumer.next().await.unwrap()
                })
            });
        });
    }
}

criterion_group!(benches, produce, consume, latency);
criterion_main!(benches);
