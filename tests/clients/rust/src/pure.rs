//! rskafka: written in Rust, small on purpose. It has partitions, and neither groups nor idempotence.
//! `cargo test` runs these cases, too (tests/kafka_rskafka.rs).

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::{Record, RecordAndOffset};

use crate::cases::{NotApplicable, Pace, equal, fields, large, packable, until};

/// Runs a case; with those codecs that the client was built with.
pub async fn run(
    case: &str,
    bootstrap: &str,
    topic: &str,
    codecs: &[(&str, Compression)],
) -> Result<()> {
    match case {
        "codecs" => every_codec(bootstrap, topic, codecs).await,
        "offsets" => offsets(bootstrap, topic).await,
        "fields" => every_field(bootstrap, topic).await,
        "large" => large_record(bootstrap, topic).await,
        "idempotence" => bail!(NotApplicable("it has no idempotent producer")),
        "group" | "commit" => bail!(NotApplicable("it has no groups")),
        "admin" => admin(bootstrap, topic).await,
        "failover" => failover(bootstrap, topic).await,
        _ => bail!("no case {case}"),
    }
}

async fn connect(bootstrap: &str) -> Result<Client> {
    Ok(ClientBuilder::new(bootstrap.split(',').map(str::to_owned).collect()).build().await?)
}

/// Makes the topic, and a client of its partition 0.
async fn create(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    replicas: i16,
) -> Result<PartitionClient> {
    let client = connect(bootstrap).await?;
    client.controller_client()?.create_topic(topic, partitions, replicas, 10_000).await?;
    Ok(client.partition_client(topic, 0, UnknownTopicHandling::Retry).await?)
}

fn record(key: Option<Vec<u8>>, value: Option<Vec<u8>>) -> Record {
    Record { key, value, headers: Default::default(), timestamp: Utc::now() }
}

fn numbered(number: usize) -> Record {
    record(None, Some(number.to_string().into_bytes()))
}

/// The records from the offset on, at least `count`.
async fn take(
    partition: &PartitionClient,
    offset: i64,
    count: usize,
) -> Result<Vec<RecordAndOffset>> {
    let mut found: Vec<RecordAndOffset> = vec![];
    let mut next = offset;
    while found.len() < count {
        let (records, _) = partition.fetch_records(next, 1..10_000_000, 20_000).await?;
        ensure!(!records.is_empty(), "{} of {count} records within 20 s", found.len());
        found.extend(records);
        next = found.last().map_or(next, |last| last.offset + 1);
    }
    Ok(found)
}

async fn read_all(partition: &PartitionClient) -> Result<Vec<Record>> {
    let end = partition.get_offset(OffsetAt::Latest).await?;
    let found = take(partition, 0, usize::try_from(end)?).await?;
    Ok(found.into_iter().map(|one| one.record).collect())
}

fn number(record: &Record) -> Result<usize> {
    Ok(std::str::from_utf8(record.value.as_deref().unwrap_or_default())?.parse()?)
}

/// What each codec has packed reads back equal, out of one log.
async fn every_codec(bootstrap: &str, topic: &str, codecs: &[(&str, Compression)]) -> Result<()> {
    let partition = create(bootstrap, topic, 1, 1).await?;
    let mut sent = vec![];
    for &(codec, compression) in codecs {
        let values: Vec<_> = (0..20).map(|n| packable(codec, n)).collect();
        let records = values.iter().map(|value| record(None, Some(value.clone()))).collect();
        partition.produce(records, compression).await?;
        sent.extend(values);
    }
    let found: Vec<_> =
        read_all(&partition).await?.into_iter().filter_map(|one| one.value).collect();
    equal(found, sent, "records of all codecs")
}

/// A reader begins wherever it is told to: at both ends, within a batch, at a time.
async fn offsets(bootstrap: &str, topic: &str) -> Result<()> {
    let partition = create(bootstrap, topic, 1, 1).await?;
    let begin = DateTime::from_timestamp(Utc::now().timestamp() - 60, 0).unwrap_or_default();
    let at = |n: i64| begin + TimeDelta::seconds(n);
    let batch = (0..10).map(|n| Record { timestamp: at(n), ..numbered(n as usize) }).collect();
    partition.produce(batch, Compression::NoCompression).await?;
    let first = async |offset: i64| number(&take(&partition, offset, 1).await?[0].record);
    equal(first(partition.get_offset(OffsetAt::Earliest).await?).await?, 0, "at the beginning")?;
    equal(first(5).await?, 5, "in the middle of a batch")?;
    let half_past = at(6) + TimeDelta::milliseconds(500);
    let offset = partition.get_offset(OffsetAt::Timestamp(half_past)).await?;
    equal(first(offset).await?, 7, "by timestamp")?;
    let end = partition.get_offset(OffsetAt::Latest).await?;
    let (early, _) = partition.fetch_records(end, 1..1_000_000, 2000).await?;
    equal(early.len(), 0, "at the end, before there is more")?;
    partition.produce(vec![numbered(10)], Compression::NoCompression).await?;
    equal(first(end).await?, 10, "at the end")
}

/// Headers, and keys and values that are null or empty, come back as they were.
async fn every_field(bootstrap: &str, topic: &str) -> Result<()> {
    let partition = create(bootstrap, topic, 1, 1).await?;
    for (key, value, headers) in fields() {
        let one = Record { headers: headers.into_iter().collect(), ..record(key, value) };
        partition.produce(vec![one], Compression::NoCompression).await?;
    }
    let found = read_all(&partition).await?.into_iter();
    let found = found.map(|one| (one.key, one.value, one.headers.into_iter().collect())).collect();
    equal(found, fields(), "fields")
}

/// A record of 900 KB.
async fn large_record(bootstrap: &str, topic: &str) -> Result<()> {
    let partition = create(bootstrap, topic, 1, 1).await?;
    partition.produce(vec![record(None, Some(large()))], Compression::NoCompression).await?;
    let found = read_all(&partition).await?;
    equal(found[0].value == Some(large()), true, "the large record is the same")
}

/// What its controller has: topics made, listed and deleted; and records deleted.
async fn admin(bootstrap: &str, topic: &str) -> Result<()> {
    let partition = create(bootstrap, topic, 2, 1).await?;
    let client = connect(bootstrap).await?;
    let partitions = async || -> Result<usize> {
        let listed = client.list_topics().await?;
        Ok(listed.into_iter().find(|one| one.name == topic).map_or(0, |one| one.partitions.len()))
    };
    until("2 partitions", async || Ok(partitions().await? == 2)).await?;
    partition.produce((0..10).map(numbered).collect(), Compression::NoCompression).await?;
    partition.delete_records(4, 10_000).await?;
    equal(partition.get_offset(OffsetAt::Earliest).await?, 4, "what is left")?;
    client.controller_client()?.delete_topic(topic, 10_000).await?;
    until("the topic is gone", async || Ok(partitions().await? == 0)).await
}

/// The leader is killed under load: every acknowledged record is read back.
async fn failover(bootstrap: &str, topic: &str) -> Result<()> {
    let partition = Arc::new(create(bootstrap, topic, 1, 3).await?);
    let pace = Arc::new(Pace::new(topic));
    let mut sent = vec![];
    let mut next = 0;
    while pace.going_on() {
        let (partition, pace) = (Arc::clone(&partition), Arc::clone(&pace));
        sent.push(tokio::spawn(async move {
            match partition.produce(vec![numbered(next)], Compression::NoCompression).await {
                Ok(_) => pace.acknowledged(next),
                Err(error) => eprintln!("not acknowledged: {error}"),
            }
        }));
        next += 1;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    for one in sent {
        one.await?;
    }
    partition.produce(vec![numbered(next)], Compression::NoCompression).await?;
    pace.acknowledged(next);
    let found: Vec<_> = read_all(&partition).await?.iter().map(number).collect::<Result<_>>()?;
    pace.verify(&found)
}
