//! `mkctl bench consume`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mk::client::{ClientError, Cluster, Consumer, ConsumerSettings, StartAt, offsets};
use mk_net::message::At;
use serde_json::json;
use tokio::task::JoinSet;

use super::args::BenchConsumeArgs;
use super::latency::Latencies;
use super::{Throughput, print};
use crate::offsets::partitions_of;
use crate::outcome::Failure;

pub async fn run(cluster: &Cluster, args: BenchConsumeArgs) -> Result<(), Failure> {
    let topic = args.topic.as_str();
    let all = partitions_of(cluster, topic).await?;
    let partitions = all.len() as u32;
    let there = count(cluster, topic, &all).await?;
    if there == 0 {
        let what = format!("topic '{topic}' has no records\nhint: mkctl bench produce {topic}");
        return Err(Failure::Failed(what));
    }
    let wanted = args.records.unwrap_or(there).min(there);
    let consumers = args.consumers.clamp(1, partitions);
    let left = Arc::new(AtomicU64::new(wanted));
    let begun = Instant::now();
    let mut work = JoinSet::new();
    for number in 0..consumers {
        let mine: Vec<u32> =
            all.iter().copied().filter(|partition| partition % consumers == number).collect();
        let settings =
            ConsumerSettings { rack: args.rack.clone().unwrap_or_default(), ..Default::default() };
        let consumer = Consumer::new(cluster.another(), settings);
        let have = count(cluster, topic, &mine).await?;
        work.spawn(consume(consumer, topic.to_owned(), mine, have, left.clone()));
    }
    let (mut records, mut bytes, mut first, mut waits) = (0, 0, None, Latencies::new());
    while let Some(done) = work.join_next().await {
        let done = done.map_err(|error| Failure::Failed(error.to_string()))??;
        records += done.records;
        bytes += done.bytes;
        waits.add(&done.waits);
        first = first.into_iter().chain(done.first).min();
    }
    let throughput = Throughput { records, bytes, took: begun.elapsed() };
    let first: Option<Duration> = first.map(|at| at.saturating_duration_since(begun));
    let first_ms = first.map(|first| first.as_secs_f64() * 1e3);
    let value = json!({
        "bench": "consume",
        "topic": topic,
        "partitions": partitions,
        "consumers": consumers,
        "throughput": throughput.json(),
        "first_record_ms": first_ms,
        "latency_us": waits.json(),
    });
    let head = format!(
        "consume     {consumers} consumers, {partitions} partitions, first record after {:.1} ms",
        first_ms.unwrap_or_default()
    );
    print(args.json, value, &[head, throughput.text(), waits.text()])
}

/// How many offsets these partitions have.
async fn count(cluster: &Cluster, topic: &str, partitions: &[u32]) -> Result<u64, ClientError> {
    let starts = offsets(cluster, topic, partitions, At::Earliest).await?;
    let ends = offsets(cluster, topic, partitions, At::Latest).await?;
    let pairs = starts.into_iter().flatten().zip(ends.into_iter().flatten());
    Ok(pairs.map(|(start, end)| end.saturating_sub(start)).sum())
}

struct Done {
    records: u64,
    /// Of keys and values.
    bytes: u64,
    first: Option<Instant>,
    /// How long each batch of batches was waited for.
    waits: Latencies,
}

/// Reads until it has come to the ends, or all together have read enough.
async fn consume(
    mut consumer: Consumer,
    topic: String,
    partitions: Vec<u32>,
    have: u64,
    left: Arc<AtomicU64>,
) -> Result<Done, ClientError> {
    let mut done = Done { records: 0, bytes: 0, first: None, waits: Latencies::new() };
    let mut starts = consumer.assign(&topic, &partitions, StartAt::Earliest).await?;
    let mut passed = 0;
    while passed < have && left.load(Ordering::Relaxed) > 0 {
        let asked = Instant::now();
        let batches = consumer.next().await?;
        done.waits.note(asked.elapsed());
        done.first.get_or_insert_with(Instant::now);
        let mut found = 0;
        for record in batches.records() {
            let record = record?;
            found += 1;
            let sizes = [&record.key, &record.value]
                .map(|field| field.as_ref().map_or(0, |bytes| bytes.len()));
            done.bytes += sizes.iter().sum::<usize>() as u64;
        }
        done.records += found;
        // By offsets: of a compacted topic not all have records.
        if let Some((_, at)) =
            starts.iter_mut().find(|(partition, _)| *partition == batches.partition)
        {
            passed += batches.next_offset.saturating_sub(*at);
            *at = batches.next_offset.max(*at);
        }
        let _ = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.saturating_sub(found))
        });
    }
    Ok(done)
}
