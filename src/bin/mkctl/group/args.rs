//! The command line of `mkctl group`.

use clap::Subcommand;

use crate::completion::{groups, numbers, topics};
use crate::confirm::Consent;

#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// List groups: their state, members, and in how many partitions they have committed an offset.
    #[command(before_help = "\
Examples:
  mkctl group list")]
    List {
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Show how far a group has come in each partition, who reads it, and why it does not get on.
    ///
    /// LAG is how many records are committed by producers and not acknowledged by the group; BEHIND is how
    /// long the first of them has been there; IN/s and OUT/s are records that come and are acknowledged, and
    /// DRAINED is when nothing is left at this rate.
    #[command(before_help = "\
Examples:
  mkctl group describe billing
  mkctl group describe billing -w               again each second
  mkctl group describe billing -J > far.jsonl   for seek --to file:far.jsonl")]
    Describe {
        /// The group.
        #[arg(add = groups())]
        group: String,
        /// Again each second.
        #[arg(short, long)]
        watch: bool,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Show the members of a group.
    #[command(before_help = "\
Examples:
  mkctl group members billing")]
    Members {
        /// The group.
        #[arg(add = groups())]
        group: String,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Let a group that has no members go on somewhere else.
    #[command(before_help = "\
Examples:
  mkctl group seek billing --to start            all over again
  mkctl group seek billing --to @-1h --dry-run   where would that be?
  mkctl group seek billing --to -100 -t orders   a hundred records back
  mkctl group seek billing --to file:far.jsonl   where it was once")]
    Seek {
        /// The group.
        #[arg(add = groups())]
        group: String,
        /// Where: start, end, @TIME, an offset, +N or -N from where the group is, file:PATH with lines of
        /// `group describe -J`.
        #[arg(long, allow_hyphen_values = true)]
        to: String,
        /// Only this topic; may be given again. Otherwise all that the group has committed offsets of.
        #[arg(short, long = "topic", add = topics())]
        topics: Vec<String>,
        /// Only this partition; may be given again.
        #[arg(short, long = "partition", add = numbers())]
        partitions: Vec<u32>,
        #[command(flatten)]
        consent: Consent,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Forget how far groups without members have come.
    #[command(before_help = "\
Examples:
  mkctl group delete billing --dry-run
  mkctl group delete billing invoices -y")]
    Delete {
        /// The groups.
        #[arg(required = true, add = groups())]
        groups: Vec<String>,
        #[command(flatten)]
        consent: Consent,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
}
