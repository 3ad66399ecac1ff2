//! The command line of `mkctl topic`.

use clap::Subcommand;
use mk::client::StartAt;

use crate::args::pair;
use crate::completion::{numbers, settings_to_set, topics};
use crate::confirm::Consent;
use crate::place;

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// List topics, with their sizes.
    #[command(before_help = "\
Examples:
  mkctl topic list
  mkctl topic list -J | jq -r 'select(.records == 0).topic'   empty ones")]
    List {
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    Create(CreateArgs),
    /// Show settings and partitions.
    #[command(before_help = "\
Examples:
  mkctl topic describe orders
  mkctl topic describe orders -J | jq '.partitions[].leader'")]
    Describe {
        /// Their names.
        #[arg(required = true, add = topics())]
        names: Vec<String>,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    Delete(DeleteArgs),
    AddPartitions(AddPartitionsArgs),
    Trim(TrimArgs),
}

/// Create topics.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl topic create orders -p 8
  mkctl topic create orders -p 8 -r 3 -c flush=interval:50ms
  mkctl topic create state -c cleanup.policy=compact   the newest of each key")]
pub struct CreateArgs {
    /// Their names.
    #[arg(required = true)]
    pub names: Vec<String>,
    /// How many partitions; otherwise the broker's num.partitions.
    #[arg(short, long)]
    pub partitions: Option<u32>,
    /// How many replicas.
    #[arg(short, long)]
    pub replication_factor: Option<u16>,
    /// A setting; may be given again.
    #[arg(short = 'c', long = "config", value_name = "NAME=VALUE", value_parser = pair, add = settings_to_set())]
    pub settings: Vec<(String, String)>,
    /// Fine if it is there already.
    #[arg(long)]
    pub if_not_exists: bool,
    /// Only say whether it would work.
    #[arg(long)]
    pub dry_run: bool,
    /// A JSON object a line.
    #[arg(short = 'J', long)]
    pub json: bool,
}

/// Delete topics with all their records.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl topic delete orders --dry-run        what would go
  mkctl topic delete orders orders.eu        asks first
  mkctl topic delete orders --if-exists -y   does not ask")]
pub struct DeleteArgs {
    /// Their names.
    #[arg(required = true, add = topics())]
    pub names: Vec<String>,
    /// Fine if it is not there.
    #[arg(long)]
    pub if_exists: bool,
    #[command(flatten)]
    pub consent: Consent,
    /// A JSON object a line.
    #[arg(short = 'J', long)]
    pub json: bool,
}

/// Let a topic grow, for ever. Keys may go to other partitions from then on.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl topic add-partitions orders 12 --dry-run
  mkctl topic add-partitions orders 12   twelve in all; asks first")]
pub struct AddPartitionsArgs {
    /// Its name.
    #[arg(add = topics())]
    pub name: String,
    /// How many partitions it is to have in all.
    pub total: u32,
    #[command(flatten)]
    pub consent: Consent,
    /// A JSON object.
    #[arg(short = 'J', long)]
    pub json: bool,
}

/// Take records away from the start of a topic.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl topic trim orders --before @-7d --dry-run   what would go
  mkctl topic trim orders -p 0 --before 1500
  mkctl topic trim orders --before end -y           the topic stays")]
pub struct TrimArgs {
    /// Its name.
    #[arg(add = topics())]
    pub name: String,
    /// Everything below: an offset, end, or @TIME.
    #[arg(long, value_name = "PLACE", value_parser = place::start)]
    pub before: StartAt,
    /// Only this partition; may be given again.
    #[arg(short, long = "partition", add = numbers())]
    pub partitions: Vec<u32>,
    #[command(flatten)]
    pub consent: Consent,
    /// A JSON object a line.
    #[arg(short = 'J', long)]
    pub json: bool,
}
