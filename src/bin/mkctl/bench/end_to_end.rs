//! `mkctl bench e2e`: from the time that a record was due to the time that a consumer has it.

use std::time::{Duration, Instant};

use mk::client::{
    ClientError, Cluster, Consumer, ConsumerSettings, Producer, ProducerRecord, ProducerSettings,
    StartAt,
};
use serde_json::json;
use tokio::runtime::Handle;

use super::args::BenchE2eArgs;
use super::latency::Latencies;
use super::{Pace, Throughput, acks_name, payload, prepare, print, wake_in_time};
use crate::outcome::Failure;

/// Who waits for a record for so long waits for one that is lost.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes at the beginning of each value: a number of the run, and that of the record.
const HEAD: usize = 16;

pub async fn run(cluster: &Cluster, args: BenchE2eArgs) -> Result<(), Failure> {
    let partitions = prepare(cluster, &args.topic).await?;
    let topic = args.topic.topic.clone();
    let settings = ProducerSettings {
        acks: args.acks,
        linger: args.linger,
        compression: args.compression,
        ..ProducerSettings::default()
    };
    let consumer = Consumer::new(cluster.another(), ConsumerSettings::default());
    let all: Vec<u32> = (0..partitions).collect();
    consumer.assign(&topic, &all, StartAt::Latest).await?;
    let producer = Producer::new(cluster.clone(), settings.clone());
    // The first record finds connections open, and is not counted.
    let size = (args.size as usize).max(HEAD);
    let run_id = run_id();
    send(&producer, &topic, run_id, u64::MAX, size).await?.receipt().await?;
    let pace = Pace { begun: Instant::now(), rate: Some(args.rate) };
    let reading = tokio::spawn(read(consumer, run_id, pace, args.records));
    let sending = send_all(producer, topic.clone(), (run_id, size), pace, args.records);
    let sending = tokio::task::spawn_blocking(|| {
        wake_in_time();
        Handle::current().block_on(sending)
    });
    sending.await.unwrap_or(Err(ClientError::Closed))?;
    let latencies = reading.await.map_err(|error| Failure::Failed(error.to_string()))??;
    let bytes = args.records * size as u64;
    let throughput = Throughput { records: args.records, bytes, took: pace.begun.elapsed() };
    let acks = acks_name(&settings);
    let value = json!({
        "bench": "e2e",
        "topic": topic,
        "partitions": partitions,
        "record_bytes": size,
        "acks": acks,
        "compression": args.compression.to_string(),
        "rate": args.rate,
        "throughput": throughput.json(),
        "latency_us": latencies.json(),
    });
    let head = format!(
        "end to end  {size} B records at {:.0} a second, {partitions} partitions, acks={acks}",
        args.rate
    );
    print(args.json, value, &[head, throughput.text(), latencies.text()])
}

async fn send_all(
    producer: Producer,
    topic: String,
    (run_id, size): (u64, usize),
    pace: Pace,
    count: u64,
) -> Result<(), ClientError> {
    let mut last = None;
    for number in 0..count {
        pace.wait(number);
        last = Some(send(&producer, &topic, run_id, number, size).await?);
    }
    if let Some(last) = last {
        last.receipt().await?;
    }
    producer.close().await;
    Ok(())
}

/// Tells the records of this run from those of others.
fn run_id() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().1
}

async fn send(
    producer: &Producer,
    topic: &str,
    run_id: u64,
    number: u64,
    size: usize,
) -> Result<mk::client::Delivery, ClientError> {
    let mut value = Vec::with_capacity(size);
    value.extend_from_slice(&run_id.to_le_bytes());
    value.extend_from_slice(&number.to_le_bytes());
    value.extend(payload(size - HEAD, number));
    let record = ProducerRecord {
        topic: topic.into(),
        value: Some(value.into()),
        ..ProducerRecord::default()
    };
    producer.send(record).await
}

/// Reads until all records of the run have come.
async fn read(
    mut consumer: Consumer,
    run_id: u64,
    pace: Pace,
    count: u64,
) -> Result<Latencies, Failure> {
    let mut latencies = Latencies::new();
    let mut found = 0;
    while found < count {
        let batches = tokio::time::timeout(PATIENCE, consumer.next()).await.map_err(|_| {
            let what = format!("{found} of {count} records have come, and none for 30 s");
            Failure::Failed(format!("{what}\nhint: without acks=all a record may be lost"))
        })??;
        let now = Instant::now();
        for record in batches.records() {
            let Some(value) = record.map_err(Failure::from)?.value else { continue };
            let Some((head, _)) = value.split_first_chunk::<HEAD>() else { continue };
            let number = |at: usize| {
                let field = head[at..].first_chunk().copied().unwrap_or_default();
                u64::from_le_bytes(field)
            };
            if number(0) == run_id && number(8) != u64::MAX {
                latencies.note(now.saturating_duration_since(pace.due(number(8))));
                found += 1;
            }
        }
    }
    Ok(latencies)
}
