//! The command line of `mkctl consume`, `cat` and `tail`.

use mk::client::StartAt;

use crate::completion::{groups, numbers, topics};
use crate::format::OutputArgs;
use crate::place;

/// Print records; follows the topic unless told to end.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl consume orders                             what comes from now on
  mkctl consume orders -o start -e                 all there is
  mkctl consume orders -o @-1h -e -J | jq .value   the last hour, as JSON
  mkctl consume orders -g billing                  as a member of a group
  mkctl consume orders -p 0 -o 500 -n 10 -f '%p@%o %k=%v\\n'")]
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
    #[arg(short, long = "partition", add = numbers())]
    pub partitions: Vec<u32>,
    /// Read from replicas in this rack (broker.rack) where one is in sync, from leaders otherwise.
    #[arg(long)]
    pub rack: Option<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Print all records of topics: `consume -o start -e`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl cat orders
  mkctl cat orders orders.eu -J > backup.jsonl")]
pub struct CatArgs {
    /// The topics.
    #[arg(required = true, add = topics())]
    pub topics: Vec<String>,
    #[command(flatten)]
    pub output: OutputArgs,
}

/// Print the last records of topics: `consume -o -N -e`.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl tail orders           the last ten of each partition
  mkctl tail orders -n 1 -f   the last one, then whatever comes")]
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
