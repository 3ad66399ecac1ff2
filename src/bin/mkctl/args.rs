//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mk::client::Acks;

use crate::bench::args::BenchCommand;
use crate::cluster::args::ClusterCommand;
use crate::completion::Shell;
use crate::config::ConfigCommand;
use crate::consume::args::{CatArgs, ConsumeArgs, TailArgs};
use crate::durability::DurabilityArgs;
use crate::elect::ElectArgs;
use crate::grep::GrepArgs;
use crate::group::args::GroupCommand;
use crate::offsets::OffsetsArgs;
use crate::partition::PartitionCommand;
use crate::produce::ProduceArgs;
use crate::profile::ProfileCommand;
use crate::top::TopArgs;
use crate::topic::args::TopicCommand;
use crate::verify::VerifyCommand;

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

/// A topic, or one of its partitions: names of topics have no colon.
pub fn partition(text: &str) -> Result<(String, Option<u32>), String> {
    match text.split_once(':') {
        None => Ok((text.to_owned(), None)),
        Some((topic, number)) => match number.parse() {
            Ok(number) => Ok((topic.to_owned(), Some(number))),
            Err(_) => Err(format!("'{number}' is no partition: write it as orders:0")),
        },
    }
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
