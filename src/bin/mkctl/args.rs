//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mk::client::Acks;

use crate::bench::args::BenchCommand;
use crate::cluster::args::ClusterCommand;
use crate::completion::{Shell, profiles};
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
  echo hello | mkctl produce greetings          a line, a record
  mkctl consume greetings -o start -e           all there is
  mkctl tail greetings -f                       the last ten, then what comes
  mkctl produce pictures --whole *.png          a file, a record
  mkctl consume orders -o @-1h -J | jq .value   the last hour, as JSON
  mkctl consume orders -g billing               as a member of a group
  mkctl group describe billing -w               how far it is, each second
  mkctl topic create orders -p 8 -c flush=interval:50ms
  mkctl cluster start --brokers 3               on this machine, until Ctrl-C
  mkctl cluster events -f                       who is fenced, who leads
  mkctl bench produce load -p 8 -s 100          how fast it is

-J prints JSON, an object a line; docs/json.md has every field.
Exit codes: 0 all done, 1 something failed, 2 usage, 3 no broker reached or time is up,
10 unhealthy.
";

/// Where a broker listens that was told nothing.
pub const DEFAULT_BOOTSTRAP: &str = "127.0.0.1:9092";

/// Produce to, consume from and look after an mk broker.
#[derive(Debug, Parser)]
#[command(name = "mkctl", version, before_help = EXAMPLES)]
pub struct Args {
    /// Addresses of brokers [or: MK_BOOTSTRAP].
    #[arg(short, long, global = true, value_name = "HOST:PORT,...")]
    pub bootstrap_server: Option<String>,

    /// The cluster with this name, see mkctl profile [or: MK_PROFILE].
    #[arg(long, global = true, value_name = "NAME", add = profiles())]
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
    #[command(before_help = "\
Examples:
  mkctl topic list
  mkctl topic create orders -p 8
  mkctl topic describe orders")]
    Topic(TopicCommand),
    /// Show and change what holds for a topic.
    #[command(subcommand)]
    #[command(before_help = "\
Examples:
  mkctl config describe orders
  mkctl config set orders retention.ms=7d")]
    Config(ConfigCommand),
    Offsets(OffsetsArgs),
    /// List the clients that are connected: producers and consumers.
    #[command(before_help = "\
Examples:
  mkctl clients
  mkctl clients --partitions   how far each consumer was given what it reads
  mkctl clients -J | jq 'select(.role == \"producer\").client_id'")]
    Clients {
        /// How far each was given every partition, in a group or not.
        #[arg(long, conflicts_with = "json")]
        partitions: bool,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// See who reads what, how far groups have come, and let them go on somewhere else.
    #[command(subcommand)]
    #[command(before_help = "\
Examples:
  mkctl group list
  mkctl group describe billing -w   who reads what, how far
  mkctl group seek billing --to @-1h")]
    Group(GroupCommand),
    /// Bring a cluster up, look at it, see what has happened.
    #[command(subcommand)]
    #[command(before_help = "\
Examples:
  mkctl cluster start --brokers 3   on this machine, until Ctrl-C
  mkctl cluster health              what is wrong
  mkctl cluster events -f           what happens")]
    Cluster(ClusterCommand),
    Elect(ElectArgs),
    /// Give partitions other replicas.
    #[command(subcommand)]
    #[command(before_help = "\
Examples:
  mkctl partition move orders:0 --to 1,2,4 --wait")]
    Partition(PartitionCommand),
    /// Measure how fast the cluster is, through the client library.
    #[command(subcommand)]
    #[command(before_help = "\
Examples:
  mkctl bench produce load -p 4 -s 100   throughput and latency
  mkctl bench consume load
  mkctl bench e2e load --rate 10000      from when it is due to when it is read")]
    Bench(BenchCommand),
    /// Send numbered records, and look later which are missing, there twice or out of order.
    #[command(subcommand)]
    #[command(before_help = "\
Examples:
  mkctl verify produce checked   prints the run's id
  mkctl verify consume checked   what is missing, there twice, out of order")]
    Verify(VerifyCommand),
    DurabilityTest(DurabilityArgs),
    Top(TopArgs),
    /// Name clusters, and say which is used.
    #[command(subcommand)]
    #[command(before_help = "\
Examples:
  mkctl profile set prod broker-1:9092,broker-2:9092
  mkctl profile use prod            from now on, wherever no other is named
  mkctl --profile test topic list   this once")]
    Profile(ProfileCommand),
    /// Print what a shell needs to complete commands, flags and names of topics.
    #[command(before_help = "\
Examples:
  source <(mkctl completion bash)   for ~/.bashrc
  mkctl completion fish | source")]
    Completion {
        /// The shell.
        shell: Shell,
    },
    /// Write pages for man(1), one for each command.
    #[command(before_help = "\
Examples:
  mkctl man ./man; man ./man/mkctl-consume.1")]
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// The words of a shell's line, up to the first command that is not mkctl; comments behind three
    /// spaces are none.
    fn words(line: &str) -> Vec<String> {
        let (mut words, mut quote) = (vec![String::new()], None);
        for letter in line.split("   ").next().unwrap().chars() {
            let word = words.last_mut().unwrap();
            match (quote, letter) {
                (None, '|' | ';' | '>' | '<' | ')') => break,
                (None, '\'' | '"') => quote = Some(letter),
                (Some(open), _) if open == letter => quote = None,
                (None, ' ') => words.push(String::new()),
                _ => word.push(letter),
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    /// The examples at the head of a command's help.
    fn examples(command: &clap::Command) -> Vec<String> {
        let head = command.get_before_help().map(ToString::to_string).unwrap_or_default();
        let lines = head.lines().skip_while(|line| *line != "Examples:").skip(1);
        lines.take_while(|line| line.starts_with("  ")).map(str::to_owned).collect()
    }

    fn check(command: &clap::Command, path: &str) {
        let examples = examples(command);
        assert!(!examples.is_empty(), "{path} --help has no example");
        for line in &examples {
            assert!(line.len() <= 80, "{path}: a line that a terminal would break: {line}");
            // A pipe may have more than one.
            for (at, _) in line.match_indices("mkctl ") {
                let parsed = Args::command().try_get_matches_from(words(&line[at..]));
                assert!(parsed.is_ok(), "{path}: {line}\n{}", parsed.unwrap_err());
            }
        }
        let is_shown = examples.iter().any(|line| line.contains(path));
        assert!(is_shown, "{path}: no example shows it");
        for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
            check(inner, &format!("{path} {}", inner.get_name()));
        }
    }

    /// An example that nobody tries goes wrong with the first flag that is renamed.
    #[test]
    fn every_command_begins_its_help_with_examples_that_can_be_typed() {
        check(&Args::command(), "mkctl");
    }
}
