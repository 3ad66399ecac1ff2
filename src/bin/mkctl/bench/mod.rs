//! `mkctl bench`: how fast a cluster is, through the client library.
//!
//! Where records are sent at a rate, each has its time by the clock, and its latency counts from then: what
//! waits behind something slow is slow, too (no coordinated omission).

pub mod args;
mod consume;
mod end_to_end;
mod latency;
mod produce;

use std::io::Write;
#[cfg(target_os = "linux")]
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use mk::client::{Acks, Admin, Cluster, ProducerSettings};
use mk_net::fault::ErrorCode;
use mk_net::message::{NewTopic, Setting};
use serde_json::json;

use self::args::{BenchCommand, BenchTopic};
use crate::outcome::Failure;
use crate::table;

pub async fn run(cluster: &Cluster, command: BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Produce(args) => produce::run(cluster, args).await,
        BenchCommand::Consume(args) => consume::run(cluster, args).await,
        BenchCommand::E2e(args) => end_to_end::run(cluster, args).await,
    }
}

/// Creates the topic if it is not there; answers how many partitions it has.
async fn prepare(cluster: &Cluster, topic: &BenchTopic) -> Result<u32, Failure> {
    if topic.partitions.is_some() || !topic.settings.is_empty() {
        let settings = topic.settings.iter().cloned();
        let fresh = NewTopic {
            name: topic.topic.clone(),
            partitions: topic.partitions,
            replication_factor: None,
            settings: settings.map(|(name, value)| Setting { name, value }).collect(),
        };
        let created = Admin::new(cluster.clone()).create_topics(vec![fresh], false).await?;
        let fault = created.into_iter().find_map(|created| created.result.err());
        if let Some(fault) = fault.filter(|fault| fault.code != ErrorCode::TOPIC_ALREADY_EXISTS) {
            return Err(mk::client::ClientError::from(fault).into());
        }
    }
    Ok(cluster.topic(&topic.topic).await?.count())
}

/// Says how much went through, and how fast.
struct Throughput {
    records: u64,
    bytes: u64,
    took: Duration,
}

impl Throughput {
    fn records_per_second(&self) -> f64 {
        self.records as f64 / self.took.as_secs_f64()
    }

    fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.took.as_secs_f64()
    }

    fn text(&self) -> String {
        format!(
            "throughput  {:.1} MB/s  {:.0} records/s  {} records in {:.2} s",
            self.megabytes_per_second(),
            self.records_per_second(),
            self.records,
            self.took.as_secs_f64()
        )
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "records": self.records,
            "bytes": self.bytes,
            "seconds": self.took.as_secs_f64(),
            "records_per_second": self.records_per_second(),
            "bytes_per_second": self.bytes as f64 / self.took.as_secs_f64(),
        })
    }
}

/// Has sleeps of this thread end when they are to, not up to 50 us later.
fn wake_in_time() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::set_current_timer_slack(NonZeroU64::new(1)) {
        tracing::debug!(%error, "records may be sent a little late");
    }
}

/// When records are due: one after the other at a rate, or at once.
#[derive(Clone, Copy)]
struct Pace {
    begun: Instant,
    /// Records a second; none: as fast as they are taken.
    rate: Option<f64>,
}

impl Pace {
    /// True if the record of this number is not due yet.
    fn is_early(&self, number: u64) -> bool {
        self.rate.is_some() && self.due(number) > Instant::now()
    }

    /// Waits until the record of this number is due; answers since when it is. Blocks the thread: tokio's
    /// timers go by the millisecond, in which ten records may be due.
    fn wait(&self, number: u64) -> Instant {
        let due = self.due(number);
        if self.rate.is_some() {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        due
    }

    /// When the record of this number is due; now, if there is no rate.
    fn due(&self, number: u64) -> Instant {
        let Some(rate) = self.rate else { return Instant::now() };
        self.begun + Duration::from_secs_f64(number as f64 / rate)
    }
}

/// Bytes that no codec makes much smaller, different for each seed.
fn payload(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bytes.extend_from_slice(&(mixed ^ (mixed >> 27)).to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// How the acknowledgements are named that settings ask for.
fn acks_name(settings: &ProducerSettings) -> &'static str {
    match settings.acks {
        Acks::None => "0",
        Acks::Leader => "1",
        Acks::All => "all",
    }
}

fn print(json: bool, value: serde_json::Value, lines: &[String]) -> Result<(), Failure> {
    if json {
        return Ok(table::print_json(&value)?);
    }
    lines.iter().try_for_each(|line| writeln!(std::io::stdout(), "{line}"))?;
    Ok(())
}
