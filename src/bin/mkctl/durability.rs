//! `mkctl durability-test`: a broker on the caller's disk is killed again and again while records are sent,
//! and what it acknowledged is compared with what it has when it is back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mk::client::{
    Admin, ClientError, Cluster, ClusterSettings, Consumer, ConsumerSettings, Delivery, Producer,
    ProducerRecord, ProducerSettings, StartAt, offsets,
};
use mk_net::message::{At, NewTopic, Setting};
use serde_json::json;

use crate::outcome::Failure;
use crate::program::{address_in, program, ready_line};
use crate::table;

/// Run a broker on this disk, kill it again and again while records are sent, and compare what it
/// acknowledged with what it has when it is back.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl durability-test --dir /mnt/disk
  mkctl durability-test -n 100 --flush interval:50ms   what that costs")]
pub struct DurabilityArgs {
    /// A folder on the disk to test; a folder of the test's own is made in it, and removed.
    #[arg(long, default_value = ".")]
    pub dir: PathBuf,
    /// How often the broker is killed.
    #[arg(short = 'n', long, default_value = "10", value_parser = clap::value_parser!(u64).range(1..))]
    pub rounds: u64,
    /// The topic's flush: ack, os, or interval:TIME.
    #[arg(long, default_value = "ack")]
    pub flush: String,
    /// A JSON object a line.
    #[arg(short = 'J', long)]
    pub json: bool,
}

const TOPIC: &str = "durability";
/// How long a broker may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);
/// Records on their way at once.
const OUTSTANDING: usize = 2000;
/// Bytes of a record are 8 to 8 and so many.
const MOST_BYTES: u64 = 1000;

/// A broker that is killed when this is dropped.
struct Broker {
    child: Child,
    cluster: Cluster,
    took: Duration,
}

/// A round: what was sent, what was acknowledged, and what came of it.
#[derive(Default)]
struct Round {
    sent: u64,
    /// Offsets of what was acknowledged, with the numbers.
    acknowledged: BTreeMap<u64, u64>,
    /// First offset that a record of the round may have.
    from: u64,
}

pub async fn run(args: DurabilityArgs) -> Result<(), Failure> {
    let dir = args.dir.join(format!("mk-durability-{}", std::process::id()));
    let cannot = |error| Failure::Failed(format!("cannot use {}: {error}", dir.display()));
    fs::create_dir_all(&dir).map_err(cannot)?;
    let sync = sync_time(&dir).map_err(cannot)?;
    let tested = tokio::select! {
        tested = test(&args, &dir, sync) => tested,
        _ = tokio::signal::ctrl_c() => Err(Failure::Failed("interrupted".to_owned())),
    };
    if tested.is_ok() {
        fs::remove_dir_all(&dir).map_err(cannot)?;
    } else {
        say!("the broker's data and its log stay in {}", dir.display());
    }
    tested
}

async fn test(args: &DurabilityArgs, dir: &Path, sync: Duration) -> Result<(), Failure> {
    let mut broker = start(dir).await?;
    create_topic(&broker.cluster, &args.flush).await?;
    let (mut all, mut rounds, mut lost) = (BTreeMap::new(), Vec::new(), 0);
    let mut number = 0;
    for at in 1..=args.rounds {
        let round = produce(&mut broker, &mut number).await?;
        broker.kill();
        broker = start(dir).await?;
        let missing = missing(&broker.cluster, round.from, &round.acknowledged).await?;
        lost += missing;
        let (sent, acknowledged) = (round.sent, round.acknowledged.len());
        rounds.push([at, sent, acknowledged as u64, missing, broker.took.as_millis() as u64]);
        if !args.json {
            say!("round {at}: {sent} sent, {acknowledged} acknowledged, {missing} lost");
        }
        all.extend(round.acknowledged);
    }
    // What was there once must still be.
    let lost = lost.max(missing(&broker.cluster, 0, &all).await?);
    report(args, &rounds, all.len(), lost, sync)?;
    if lost == 0 { Ok(()) } else { Err(Failure::Reported) }
}

fn report(
    args: &DurabilityArgs,
    rounds: &[[u64; 5]],
    acknowledged: usize,
    lost: u64,
    sync: Duration,
) -> Result<(), Failure> {
    let sync_ms = sync.as_secs_f64() * 1e3;
    if args.json {
        let rounds = rounds.iter().map(|[at, sent, acknowledged, lost, ready_ms]| {
            json!({"round": at, "sent": sent, "acknowledged": acknowledged, "lost": lost, "ready_ms": ready_ms})
        });
        let value = json!({
            "rounds": rounds.collect::<Vec<_>>(),
            "flush": args.flush,
            "acknowledged": acknowledged,
            "lost": lost,
            "sync_ms": sync_ms,
        });
        return Ok(table::print_json(&value)?);
    }
    let rows = rounds.iter().map(|round| round.map(|cell| cell.to_string()).to_vec());
    table::print(
        &["ROUND", "SENT", "ACKNOWLEDGED", "LOST", "READY MS"],
        &rows.collect::<Vec<_>>(),
    )?;
    say!("{acknowledged} records acknowledged, {lost} lost; flush={}", args.flush);
    say!("a sync of 4 KiB takes {sync_ms:.3} ms here");
    say!(
        "kill -9 ends the process, not the machine: what the system has in memory survives it. Whether \
         the disk keeps\nwhat it says it has synced shows only when its power is cut."
    );
    Ok(())
}

/// Sends records until the time for the kill has come; what is acknowledged by then counts.
async fn produce(broker: &mut Broker, number: &mut u64) -> Result<Round, Failure> {
    let ends = offsets(&broker.cluster, TOPIC, &[0], At::Latest).await?;
    let from = ends.into_iter().flatten().next().unwrap_or(0);
    let mut round = Round { from, ..Round::default() };
    let producer = Producer::new(broker.cluster.clone(), ProducerSettings::default());
    let mut outstanding: Vec<(u64, Delivery)> = Vec::new();
    let chance = u64::from(uuid::Uuid::new_v4().as_fields().0);
    let until = Instant::now() + Duration::from_millis(200 + chance % 800);
    while Instant::now() < until {
        if outstanding.len() < OUTSTANDING {
            outstanding.push((*number, send(&producer, *number).await?));
            *number += 1;
            round.sent += 1;
        } else {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        settle(&mut outstanding, &mut round)?;
    }
    // Dead before anything is told that it has not told.
    broker.kill();
    settle(&mut outstanding, &mut round)?;
    Ok(round)
}

async fn send(producer: &Producer, number: u64) -> Result<Delivery, ClientError> {
    let mut value = number.to_le_bytes().to_vec();
    value.resize(8 + (number.wrapping_mul(0x9e37_79b9) % MOST_BYTES) as usize, number as u8);
    let record = ProducerRecord {
        topic: TOPIC.into(),
        partition: Some(0),
        value: Some(value.into()),
        ..ProducerRecord::default()
    };
    producer.send(record).await
}

/// Takes note of what is acknowledged by now.
fn settle(outstanding: &mut Vec<(u64, Delivery)>, round: &mut Round) -> Result<(), ClientError> {
    let settled = outstanding.iter().take_while(|(_, delivery)| delivery.try_receipt().is_some());
    let settled = settled.count();
    for (number, delivery) in outstanding.drain(..settled) {
        if let Some(Some(offset)) =
            delivery.try_receipt().transpose()?.map(|receipt| receipt.offset)
        {
            round.acknowledged.insert(offset, number);
        }
    }
    Ok(())
}

/// How many acknowledged records are not where they were, from an offset on.
async fn missing(
    cluster: &Cluster,
    from: u64,
    acknowledged: &BTreeMap<u64, u64>,
) -> Result<u64, Failure> {
    let end = offsets(cluster, TOPIC, &[0], At::Latest).await?.into_iter().flatten().next();
    let end = end.unwrap_or(0);
    let mut consumer = Consumer::new(cluster.clone(), ConsumerSettings::default());
    consumer.assign(TOPIC, &[0], StartAt::Offset(from)).await?;
    let (mut next, mut found) = (from, 0);
    while next < end {
        let batches = consumer.next().await?;
        for record in batches.records() {
            let record = record?;
            let value = record.value.as_deref().and_then(|value| value.first_chunk().copied());
            let number = value.map(u64::from_le_bytes);
            found += u64::from(
                acknowledged.get(&record.offset.0).copied() == number && number.is_some(),
            );
        }
        next = batches.next_offset;
    }
    Ok(acknowledged.len() as u64 - found)
}

async fn create_topic(cluster: &Cluster, flush: &str) -> Result<(), Failure> {
    let setting = |name: &str, value: &str| Setting { name: name.into(), value: value.into() };
    let topic = NewTopic {
        name: TOPIC.to_owned(),
        partitions: Some(1),
        replication_factor: None,
        // Small enough that segments are closed, too.
        settings: vec![setting("flush", flush), setting("segment.bytes", "4MiB")],
    };
    let created = Admin::new(cluster.clone()).create_topics(vec![topic], false).await?;
    match created.into_iter().find_map(|created| created.result.err()) {
        Some(fault) => Err(ClientError::from(fault).into()),
        None => Ok(()),
    }
}

async fn start(dir: &Path) -> Result<Broker, Failure> {
    let log: PathBuf = dir.join("mkbroker.log");
    let failed = |what: String| Failure::Failed(format!("mkbroker does not start: {what}"));
    let begun = Instant::now();
    let stderr = File::options().create(true).append(true).open(&log);
    let stderr = stderr.map_err(|error| failed(error.to_string()))?;
    let mut command = Command::new(program("mkbroker")?);
    command.arg("--data").arg(dir.join("data")).args(["--listen", "127.0.0.1:0"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    let child = command.spawn().map_err(|error| {
        failed(format!("{error}\nhint: mkctl and mkbroker belong in one folder"))
    })?;
    let cluster = Cluster::new(Vec::new(), ClusterSettings::default());
    let mut broker = Broker { child, cluster, took: Duration::ZERO };
    let line = tokio::time::timeout(PATIENCE, ready_line(&mut broker.child)).await;
    let line = line.ok().and_then(Result::ok).unwrap_or_default();
    let address =
        address_in(&line).ok_or_else(|| failed(format!("its log is {}", log.display())))?;
    broker.cluster = Cluster::new(vec![address.to_owned()], ClusterSettings::default());
    broker.took = begun.elapsed();
    Ok(broker)
}

impl Broker {
    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The median time of a sync of 4 KiB.
fn sync_time(dir: &Path) -> std::io::Result<Duration> {
    let path = dir.join("sync");
    let mut file = File::create(&path)?;
    let mut times = Vec::new();
    for _ in 0..21 {
        file.write_all(&[7; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    fs::remove_file(path)?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
