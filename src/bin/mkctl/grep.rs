//! `mkctl grep`.

use mk::client::Cluster;
use mk::client::StartAt;
use regex::bytes::RegexBuilder;

use crate::completion::topics;
use crate::consume::{Plan, read};
use crate::format::Format;
use crate::format::OutputArgs;
use crate::outcome::Failure;
use crate::place;

/// Print the records whose value matches; exit code 1 if none does.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl grep 'status=5[0-9]{2}' requests
  mkctl grep -i error logs -o @-1h   those of the last hour
  mkctl grep -k '^ann$' visits -J    the value or the key")]
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

pub async fn run(cluster: &Cluster, args: GrepArgs) -> Result<(), Failure> {
    let format = Format::of(&args.output).map_err(Failure::Usage)?;
    let pattern = RegexBuilder::new(&args.pattern).case_insensitive(args.ignore_case).build();
    let pattern = pattern.map_err(|error| {
        Failure::Usage(format!(
            "{error}\nhint: a backslash before ( [ . * + ? makes them plain text"
        ))
    })?;
    let plan = Plan {
        topics: args.topics,
        start: args.offset,
        group: None,
        until_end: true,
        count: None,
        partitions: vec![],
        rack: String::new(),
    };
    let mut found = false;
    read(cluster, plan, |out, from, record| {
        let matches = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| pattern.is_match(bytes));
        let in_key = args.key && matches(record.key.as_deref());
        if (in_key || matches(record.value.as_deref())) != args.invert_match {
            found = true;
            format.print(out, from, record)?;
        }
        Ok(true)
    })
    .await?;
    if found { Ok(()) } else { Err(Failure::Reported) }
}
