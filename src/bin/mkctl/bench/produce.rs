//! `mkctl bench produce`.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use mk::client::{
    ClientError, Cluster, Delivery, Producer, ProducerRecord, ProducerSettings, Receipt,
};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::args::BenchProduceArgs;
use super::latency::Latencies;
use super::{Pace, Throughput, acks_name, payload, prepare, print, wake_in_time};
use crate::outcome::Failure;

/// Different values, one after the other: so that the processor's cache holds neither all nor one.
const VALUES: usize = 64;
/// Records of a producer whose acknowledgement may be outstanding.
const MOST_OUTSTANDING: usize = 200_000;
/// Records that are waited for together.
const AT_ONCE: usize = 500;

pub async fn run(cluster: &Cluster, args: BenchProduceArgs) -> Result<(), Failure> {
    let partitions = prepare(cluster, &args.topic).await?;
    let settings = ProducerSettings {
        acks: args.acks,
        compression: args.compression,
        linger: args.linger,
        batch_size: args.batch_size as usize,
        ..ProducerSettings::default()
    };
    let producers = args.producers.max(1);
    let rate = args.rate.map(|rate| rate / f64::from(producers));
    let pace = Pace { begun: Instant::now(), rate };
    let mut work = JoinSet::new();
    for number in 0..producers {
        let mine = args.records / u64::from(producers)
            + u64::from(u64::from(number) < args.records % u64::from(producers));
        let producer = Producer::new(cluster.another(), settings.clone());
        let values: Vec<Bytes> = (0..VALUES)
            .map(|value| payload(args.size as usize, u64::from(number) << 32 | value as u64).into())
            .collect();
        let topic = args.topic.topic.as_str().into();
        let sending = produce(producer, topic, values, mine, pace);
        match pace.rate {
            None => work.spawn(sending),
            // Who waits for each record blocks a thread of its own.
            Some(_) => work.spawn_blocking(|| {
                wake_in_time();
                Handle::current().block_on(sending)
            }),
        };
    }
    let (mut latencies, mut durability) = (Latencies::new(), "none");
    while let Some(done) = work.join_next().await {
        let done = done.map_err(|error| Failure::Failed(error.to_string()))??;
        latencies.add(&done.latencies);
        durability = done.last.map_or(durability, |receipt| receipt.durability.name());
    }
    let took = pace.begun.elapsed();
    let bytes = args.records * args.size;
    let throughput = Throughput { records: args.records, bytes, took };
    let acks = acks_name(&settings);
    let value = json!({
        "bench": "produce",
        "topic": args.topic.topic,
        "partitions": partitions,
        "producers": producers,
        "record_bytes": args.size,
        "acks": acks,
        "compression": args.compression.to_string(),
        "rate": args.rate,
        "durability": durability,
        "throughput": throughput.json(),
        "latency_us": latencies.json(),
    });
    let head = format!(
        "produce     {} B records, {producers} producers, {partitions} partitions, acks={acks}, \
         compression {}, durability {durability}",
        args.size, args.compression
    );
    print(args.json, value, &[head, throughput.text(), latencies.text()])
}

struct Done {
    latencies: Latencies,
    last: Option<Receipt>,
}

/// Records that were sent one behind the other, each with the time when it was due.
type Sent = Vec<(Instant, Delivery)>;

/// Sends so many records; waits until each is acknowledged.
async fn produce(
    producer: Producer,
    topic: Arc<str>,
    values: Vec<Bytes>,
    count: u64,
    pace: Pace,
) -> Result<Done, ClientError> {
    let (outstanding, inbox) = mpsc::channel(MOST_OUTSTANDING / AT_ONCE);
    let noted = tokio::spawn(note(inbox));
    let mut sent = Sent::with_capacity(AT_ONCE);
    for number in 0..count {
        if sent.len() >= AT_ONCE || pace.is_early(number) && !sent.is_empty() {
            let full = std::mem::replace(&mut sent, Sent::with_capacity(AT_ONCE));
            if outstanding.send(full).await.is_err() {
                // One has failed, which is what is told.
                break;
            }
        }
        let due = pace.wait(number);
        let value = values[number as usize % values.len()].clone();
        let record =
            ProducerRecord { topic: topic.clone(), value: Some(value), ..Default::default() };
        sent.push((due, producer.send(record).await?));
    }
    let _ = outstanding.send(sent).await;
    drop(outstanding);
    producer.close().await;
    noted.await.unwrap_or(Err(ClientError::Closed))
}

/// Takes note of acknowledgements as they come, which they do in order but for other partitions'.
async fn note(mut inbox: mpsc::Receiver<Sent>) -> Result<Done, ClientError> {
    let mut done = Done { latencies: Latencies::new(), last: None };
    while let Some(sent) = inbox.recv().await {
        let mut now = Instant::now();
        for (due, delivery) in sent {
            let receipt = match delivery.try_receipt() {
                Some(receipt) => receipt?,
                None => {
                    let receipt = delivery.receipt().await?;
                    now = Instant::now();
                    receipt
                }
            };
            done.latencies.note(now.saturating_duration_since(due));
            done.last = Some(receipt);
        }
    }
    Ok(done)
}
