//! The command line of `mkctl bench`.

use std::time::Duration;

use clap::Subcommand;
use mk::client::Acks;
use mk_storage::batch::Compression;

use crate::args::{acks, pair, time};
use crate::completion::{codecs, settings_to_set, topics};

#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    Produce(BenchProduceArgs),
    Consume(BenchConsumeArgs),
    E2e(BenchE2eArgs),
}

/// What a benchmark works on.
#[derive(Debug, clap::Args)]
pub struct BenchTopic {
    /// The topic; created if there is none.
    #[arg(add = topics())]
    pub topic: String,
    /// Create it with so many partitions if it is not there.
    #[arg(short, long)]
    pub partitions: Option<u32>,
    /// Create it with this setting if it is not there; may be given again.
    #[arg(short = 'c', long = "config", value_name = "NAME=VALUE", value_parser = pair, add = settings_to_set())]
    pub settings: Vec<(String, String)>,
}

/// Send records as fast as they are taken, or at a rate; print throughput, and latency from when a
/// record was due to its acknowledgement.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl bench produce load -p 4 -s 100 --producers 2
  mkctl bench produce load --acks 1 -c flush=os -n 5000000
  mkctl bench produce load --rate 10000            latency at this rate")]
pub struct BenchProduceArgs {
    #[command(flatten)]
    pub topic: BenchTopic,
    /// How many records.
    #[arg(short = 'n', long, default_value = "1000000")]
    pub records: u64,
    /// Bytes of each value.
    #[arg(short, long, default_value = "1KiB", value_parser = size)]
    pub size: u64,
    /// Records a second, of all producers together; otherwise as fast as they are taken.
    #[arg(short, long, value_parser = frequency)]
    pub rate: Option<f64>,
    /// How many producers send at once, each with connections of its own.
    #[arg(long, default_value = "1")]
    pub producers: u32,
    /// What to wait for: 0, 1 or all.
    #[arg(long, default_value = "all", value_parser = acks)]
    pub acks: Acks,
    /// Compression: none, gzip, snappy, lz4, zstd.
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none", add = codecs())]
    pub compression: Compression,
    /// batch.size of the producers.
    #[arg(long, value_name = "BYTES", default_value = "64KiB", value_parser = size)]
    pub batch_size: u64,
    /// linger.ms of the producers.
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = time)]
    pub linger: Duration,
    /// A JSON object a line.
    #[arg(short = 'J', long)]
    pub json: bool,
}

/// Read records from the start as fast as they come; print throughput, and how long the next ones were
/// waited for.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl bench consume load
  mkctl bench consume load --consumers 2 -J")]
pub struct BenchConsumeArgs {
    /// The topic.
    #[arg(add = topics())]
    pub topic: String,
    /// End after so many records; otherwise at the end of the topic.
    #[arg(short = 'n', long)]
    pub records: Option<u64>,
    /// How many consumers read at once, each its own partitions.
    #[arg(long, default_value = "1")]
    pub consumers: u32,
    /// Read from replicas in this rack.
    #[arg(long)]
    pub rack: Option<String>,
    /// A JSON object a line.
    #[arg(short = 'J', long)]
    pub json: bool,
}

/// Send records at a rate, and read them meanwhile; print latency from when a record was due to when the
/// consumer has it.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl bench e2e load --rate 10000
  mkctl bench e2e load --rate 10000 --acks 1 -c flush=os")]
pub struct BenchE2eArgs {
    #[command(flatten)]
    pub topic: BenchTopic,
    /// How many records.
    #[arg(short = 'n', long, default_value = "100000")]
    pub records: u64,
    /// Bytes of each value, 16 at least.
    #[arg(short, long, default_value = "100", value_parser = size)]
    pub size: u64,
    /// Records a second.
    #[arg(short, long, default_value = "10000", value_parser = frequency)]
    pub rate: f64,
    /// What the producer waits for: 0, 1 or all.
    #[arg(long, default_value = "all", value_parser = acks)]
    pub acks: Acks,
    /// Compression: none, gzip, snappy, lz4, zstd.
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none", add = codecs())]
    pub compression: Compression,
    /// linger.ms of the producer.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = time)]
    pub linger: Duration,
    /// A JSON object a line.
    #[arg(short = 'J', long)]
    pub json: bool,
}

fn size(text: &str) -> Result<u64, String> {
    mk::settings::parse_bytes(text).ok_or_else(|| "bytes, such as 100 or 1KiB".to_owned())
}

fn frequency(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "records a second, more than 0".to_owned())
}
