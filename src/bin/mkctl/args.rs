//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mk::client::{Acks, StartAt};
use mk_storage::batch::Compression;

use crate::bench::args::BenchCommand;
use crate::completion::{Shell, groups, topics};
use crate::config::ConfigCommand;
use crate::group::args::GroupCommand;
use crate::place;
use crate::profile::ProfileCommand;

const EXAMPLES: &str = "\
Examples:
  echo hello | mkctl produce greetings           a line, a record
  mkctl consume greetings -o start -e            from the first record to the last
  mkctl tail greetings -f                        the last ten, then whatever comes
  mkctl produce pictures --whole *.png           a file, a record
  mkctl consume orders -o @-1h -J | jq .value    the last hour, as JSON
  mkctl consume orders -g billing                a member of a group: what others do not read
  mkctl group describe billing -w                how far the group has come, and who is behind
  mkctl topic create orders -p 8 -c flush=interval:50ms
  mkctl cluster start --brokers 3                three brokers and a zookeeper, until Ctrl-C
  mkctl cluster events -f                        who was fenced, who leads, as it happens
  mkctl bench produce load -p 8 -s 100           how fast it is

Exit codes: 0 all done, 1 something failed, 2 usage, 3 no broker reached or time is up, 10 unhealthy.
";

/// Where a broker listens that was told nothing.
pub const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";

/// Produce to, consume from and look after an mk broker.
#[derive(Debug, Parser)]
#[command(name = "mkctl", version, before_help = EXAMPLES)]
pub struct Args {
    /// Addresses of brokers, separated by commas. Without -b and --profile, those in MK_BOOTSTRAP, of the
    /// profile in MK_PROFILE, of the profile that is used; or else 127.0.0.1:9092.
    #[arg(short, long, global = true, value_name = "HOST:PORT,...")]
    pub bootstrap_server: Option<String>,

    /// The cluster with this name (mkctl profile).
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Option<String>,

    /// How long to try to reach a broker.
    #[arg(long, global = true, value_name = "TIME", default_value = "10s", value_parser = time)]
    pub timeout: Duration,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Produce(ProduceArgs),
    Consume(ConsumeArgs),
    Cat(CatArgs),
    Tail(TailArgs),
    Grep(GrepArgs),
    /// Create, list, describe, grow, trim and delete topics.
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Show and change what holds for a topic.
    #[command(subcommand)]
    Config(ConfigCommand),
    Offsets(OffsetsArgs),
    /// List the clients that are connected: producers and consumers, each connection a line.
    Clients {
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// See who reads what, how far groups have come, and let them go on somewhere else.
    #[command(subcommand)]
    Group(GroupCommand),
    /// Bring a cluster up, look at it, see what has happened.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    Elect(ElectArgs),
    /// Give partitions other replicas.
    #[command(subcommand)]
    Partition(PartitionCommand),
    /// Measure how fast the cluster is, through the client library.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Send numbered records, and look later which are missing, there twice or out of order.
    #[command(subcommand)]
    Verify(VerifyCommand),
    DurabilityTest(DurabilityArgs),
    Top(TopArgs),
    /// Name clusters, and say which is used.
    #[command(subcommand)]
    Profile(ProfileCommand),
    /// Print what a shell needs to complete commands, flags and names of topics.
    ///
    /// For bash, in ~/.bashrc: source <(mkctl completion bash)
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Write pages for man(1), one for each command.
    Man {
        /// The folder; made if there is none.
        dir: PathBuf,
    },
}

/// Send records: a line of stdin, or of files, each.
#[derive(Debug, clap::Args)]
pub struct ProduceArgs {
    /// The topic; created if there is none.
    #[arg(add = topics())]
    pub topic: String,
    /// Files to read; `-` is stdin, as is none.
    pub files: Vec<PathBuf>,
    /// The key of every record.
    #[arg(short, long, conflicts_with_all = ["key_delimiter", "json"])]
    pub key: Option<String>,
    /// What parts the key from the value in a line; the first one counts.
    #[arg(short = 'K', long, value_name = "DELIM", conflicts_with_all = ["whole", "json"])]
    pub key_delimiter: Option<String>,
    /// A header of every record; may be given again.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = pair)]
    pub headers: Vec<(String, String)>,
    /// The partition; otherwise the key decides, as with Kafka's clients.
    #[arg(short, long)]
    pub partition: Option<u32>,
    /// What to wait for: 0 nothing, 1 the leader's memory, all the disk (unless the topic's
    /// `flush` says otherwise).
    #[arg(long, default_value = "all", value_parser = acks)]
    pub acks: Acks,
    /// Compression: none, gzip, snappy, lz4, zstd.
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    pub compression: Compression,
    /// A file, or all of stdin, is one record.
    #[arg(long, conflicts_with = "json")]
    pub whole: bool,
    /// Lines are those of `consume -J`; key, value, headers and timestamp are taken from them.
    #[arg(long)]
    pub json: bool,
    /// How long a record is sent again until it counts as failed.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time)]
    pub delivery_timeout: Duration,
    /// No summary, no progress.
    #[arg(short, long)]
    pub quiet: bool,
}

/// Watch brokers, topics, groups and clients: what moves most comes first. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
pub struct TopArgs {
    /// How often it looks.
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub interval: Duration,
    /// Ends after so many looks.
    #[arg(short = 'n', long)]
    pub count: Option<u64>,
}

/// Run a broker on this disk, kill it again and again while records are sent, and compare what it
/// acknowledged with what it has when it is back.
#[derive(Debug, clap::Args)]
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

#[derive(Debug, Subcommand)]
pub enum VerifyCommand {
    /// Send numbered records; print the run's id, by which to look for them.
    Produce {
        /// The topic; created if there is none. Its number of partitions must stay as it is.
        #[arg(add = topics())]
        topic: String,
        /// How many records.
        #[arg(short = 'n', long, default_value = "100000")]
        records: u64,
        /// Nothing but the run's id.
        #[arg(short, long)]
        quiet: bool,
    },
    /// Read the topic from its start to its end; say what is wrong with each run. Exit code 1 if anything
    /// is.
    Consume {
        /// The topic.
        #[arg(add = topics())]
        topic: String,
        /// Only this run.
        #[arg(long, value_name = "ID")]
        run: Option<String>,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
}

/// Print records; follows the topic unless told to end.
#[derive(Debug, clap::Args)]
pub struct ConsumeArgs {
    /// The topics.
    #[arg(required = true, add = topics())]
    pub topics: Vec<String>,
    /// Read as a member of this group: what other members do not, from where the group has come to. What is
    /// printed is acknowledged.
    #[arg(short, long, add = groups(), conflicts_with = "partitions")]
    pub group: Option<String>,
    /// A name of this member that outlives it: its partitions are kept for it for a while.
    #[arg(long, requires = "group", value_name = "NAME")]
    pub instance_id: Option<String>,
    /// Only begin where the group is: read all, acknowledge nothing, and do not join.
    #[arg(long, requires = "group")]
    pub no_commit: bool,
    /// Where to begin: start, end, an offset, -N (the last N of each partition), @TIME
    /// (2026-01-31T12:00:00Z, milliseconds since 1970) or @-1h. Otherwise at the end; with -g at the start
    /// of partitions where the group has not been.
    #[arg(
        short,
        long,
        value_name = "PLACE",
        allow_hyphen_values = true,
        value_parser = place::start
    )]
    pub offset: Option<StartAt>,
    /// End at the end offsets seen at the start.
    #[arg(short = 'e', long)]
    pub end: bool,
    /// End after so many records.
    #[arg(short = 'n', long, value_name = "COUNT")]
    pub count: Option<u64>,
    /// Only this partition; may be given again.
    #[arg(short, long = "partition")]
    pub partitions: Vec<u32>,
    /// Read from replicas in this rack (broker.rack) where one is in sync, from leaders otherwise.
    #[arg(long)]
    pub rack: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// How records are printed.
#[derive(Clone, Debug, clap::Args)]
pub struct OutputArgs {
    /// %t topic, %p partition, %o offset, %k key, %v value, %T timestamp in ms, %h headers, %s size
    /// of the value, %% %; \n \t \\ \xNN. Nothing is put between records. Otherwise: the value and
    /// a newline.
    #[arg(short, long, conflicts_with = "json")]
    pub format: Option<String>,
    /// A JSON object a line; what is not UTF-8 as base64.
    #[arg(short = 'J', long)]
    pub json: bool,
}

/// Print all records of topics: `consume -o start -e`.
#[derive(Debug, clap::Args)]
pub struct CatArgs {
    /// The topics.
    #[arg(required = true, add = topics())]
    pub topics: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Print the last records of topics: `consume -o -N -e`.
#[derive(Debug, clap::Args)]
pub struct TailArgs {
    /// The topics.
    #[arg(required = true, add = topics())]
    pub topics: Vec<String>,
    /// How many, of each partition.
    #[arg(short = 'n', long, default_value_t = 10)]
    pub count: u64,
    /// Then print what comes.
    #[arg(short, long)]
    pub follow: bool,
    /// A JSON object a line.
    #[arg(short = 'J', long)]
    pub json: bool,
}

/// Print the records whose value matches; exit code 1 if none does.
#[derive(Debug, clap::Args)]
pub struct GrepArgs {
    /// A regular expression.
    pub pattern: String,
    /// The topics.
    #[arg(required = true, add = topics())]
    pub topics: Vec<String>,
    /// Look at the key, too.
    #[arg(short = 'k', long)]
    pub key: bool,
    /// Upper and lower case are the same.
    #[arg(short, long)]
    pub ignore_case: bool,
    /// Print those that do not match.
    #[arg(short = 'v', long)]
    pub invert_match: bool,
    /// Where to begin, as for `consume`.
    #[arg(
        short,
        long,
        value_name = "PLACE",
        default_value = "start",
        allow_hyphen_values = true,
        value_parser = place::start
    )]
    pub offset: StartAt,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// List topics, with their sizes.
    List {
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Create topics.
    Create {
        /// Their names.
        #[arg(required = true)]
        names: Vec<String>,
        /// How many partitions; otherwise the broker's num.partitions.
        #[arg(short, long)]
        partitions: Option<u32>,
        /// How many replicas.
        #[arg(short, long)]
        replication_factor: Option<u16>,
        /// A setting; may be given again.
        #[arg(short = 'c', long = "config", value_name = "NAME=VALUE", value_parser = pair)]
        settings: Vec<(String, String)>,
        /// Fine if it is there already.
        #[arg(long)]
        if_not_exists: bool,
        /// Only say whether it would work.
        #[arg(long)]
        dry_run: bool,
    },
    /// Show settings and partitions.
    Describe {
        /// Their names.
        #[arg(required = true, add = topics())]
        names: Vec<String>,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Delete topics with all their records.
    Delete {
        /// Their names.
        #[arg(required = true, add = topics())]
        names: Vec<String>,
        /// Fine if it is not there.
        #[arg(long)]
        if_exists: bool,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
    /// Let a topic grow. Keys may go to other partitions from then on.
    AddPartitions {
        /// Its name.
        #[arg(add = topics())]
        name: String,
        /// How many partitions it is to have in all.
        total: u32,
        /// Only say whether it would work.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take records away from the start of a topic.
    Trim {
        /// Its name.
        #[arg(add = topics())]
        name: String,
        /// Everything below: an offset, end, or @TIME.
        #[arg(long, value_name = "PLACE", value_parser = place::start)]
        before: StartAt,
        /// Only this partition; may be given again.
        #[arg(short, long = "partition")]
        partitions: Vec<u32>,
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
    },
}

/// Print the offsets of each partition: start and end, or those of a time.
#[derive(Debug, clap::Args)]
pub struct OffsetsArgs {
    /// The topic.
    #[arg(add = topics())]
    pub topic: String,
    /// A time: 2026-01-31T12:00:00Z, milliseconds since 1970, -1h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = place::time)]
    pub at: Option<i64>,
    /// A JSON object a line.
    #[arg(short = 'J', long)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    Start(StartArgs),
    /// Show the cluster's id, its brokers, its zookeeper, and partitions that are being moved.
    Info {
        /// A JSON object.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Say what is wrong, in sentences; exit code 10 if anything is.
    Health {
        /// Say it again whenever it changes.
        #[arg(short, long)]
        watch: bool,
        /// With --watch: end as soon as nothing is wrong.
        #[arg(short, long, requires = "watch")]
        exit_when_healthy: bool,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Print what has happened: who was heard of last, fenced, elected, with the time between.
    Events {
        /// Then print what happens.
        #[arg(short, long)]
        follow: bool,
        /// The newest so many; 0: all that are kept.
        #[arg(short = 'n', long, default_value_t = 50)]
        count: u32,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
}

/// Run a zookeeper and brokers on this machine, until Ctrl-C. On the same directory they go on where
/// they were.
#[derive(Debug, clap::Args)]
pub struct StartArgs {
    /// How many brokers.
    #[arg(long, default_value_t = 3)]
    pub brokers: u32,
    /// Directory of all of them; made if there is none.
    #[arg(long, value_name = "DIR", default_value = "./cluster")]
    pub data: PathBuf,
    /// Port of the first broker, the others take those behind it; 0: any free ones.
    #[arg(long, default_value_t = 9092)]
    pub port: u16,
    /// Port of the zookeeper; 0: any free one.
    #[arg(long, default_value_t = 2181)]
    pub zoo_port: u16,
}

/// Have the preferred replicas lead, or, where nobody does, any that lives.
///
///   mkctl elect                       wherever the preferred replica is in sync and does not lead
///   mkctl elect orders orders.eu:3    all of a topic, one partition
///   mkctl elect --unclean orders:0    somebody leads again; records may be lost
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ElectArgs {
    /// Partitions; without any, all for which it makes sense.
    #[arg(value_name = "TOPIC[:PARTITION]", value_parser = partition)]
    pub partitions: Vec<(String, Option<u32>)>,
    /// Any replica that lives, of partitions that nobody leads. Records may be lost.
    #[arg(long)]
    pub unclean: bool,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Subcommand)]
pub enum PartitionCommand {
    /// Move a partition to other brokers, the preferred leader first. The new ones are added, and
    /// the others go once all of them are in sync.
    Move {
        /// The partition.
        #[arg(value_name = "TOPIC:PARTITION", value_parser = partition)]
        partition: (String, Option<u32>),
        /// The brokers, by their ids.
        #[arg(
            long,
            value_name = "ID,ID,...",
            value_delimiter = ',',
            required_unless_present = "cancel"
        )]
        to: Vec<u32>,
        /// How fast each new replica fetches, in bytes a second, such as 20MiB; without it as fast as
        /// it can. The same move asked for again gets another throttle.
        #[arg(long, value_name = "RATE", value_parser = rate)]
        throttle: Option<u64>,
        /// Let it stay where it was.
        #[arg(long, conflicts_with_all = ["to", "wait", "throttle"])]
        cancel: bool,
        /// Wait until it is there, and say how far it is.
        #[arg(long)]
        wait: bool,
    },
}

/// A topic, or one of its partitions: names of topics have no colon.
fn partition(text: &str) -> Result<(String, Option<u32>), String> {
    match text.split_once(':') {
        None => Ok((text.to_owned(), None)),
        Some((topic, number)) => match number.parse() {
            Ok(number) => Ok((topic.to_owned(), Some(number))),
            Err(_) => Err(format!("'{number}' is no partition: write it as orders:0")),
        },
    }
}

fn rate(text: &str) -> Result<u64, String> {
    let rate = mk::settings::parse_bytes(text.trim_end_matches("/s"));
    rate.filter(|rate| *rate > 0).ok_or_else(|| "bytes a second, such as 20MiB".to_owned())
}

pub fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub fn acks(text: &str) -> Result<Acks, String> {
    match text {
        "0" => Ok(Acks::None),
        "1" => Ok(Acks::Leader),
        "all" | "-1" => Ok(Acks::All),
        _ => Err("0, 1 or all".to_owned()),
    }
}

pub fn time(text: &str) -> Result<Duration, String> {
    let millis = mk::settings::parse_millis(text).ok_or("a time such as 500ms, 10s, 2m, 1h")?;
    Ok(Duration::from_millis(millis))
}
