//! The command line of `mkctl topic`.

use clap::Subcommand;
use mk::client::StartAt;

use crate::args::pair;
use crate::completion::topics;
use crate::place;

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
