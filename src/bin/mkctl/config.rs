//! `mkctl config`: the settings of topics.

use clap::Subcommand;
use indicatif::HumanBytes;
use mk::client::{Admin, ClientError, Cluster};
use mk_net::message::{AlterTopic, Removal, Setting};
use serde_json::{Value, json};

use crate::args::pair;
use crate::completion::{setting_names, settings_to_set, topics};
use crate::confirm::Consent;
use crate::outcome::Failure;
use crate::report::Report;
use crate::table;
use crate::topic::source_of;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show what holds for a topic, and who says so.
    #[command(before_help = "\
Examples:
  mkctl config describe orders")]
    Describe {
        /// The topic.
        #[arg(add = topics())]
        topic: String,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Give a topic settings of its own.
    #[command(before_help = "\
Examples:
  mkctl config set orders retention.ms=7d
  mkctl config set orders retention.bytes=1GiB --dry-run   what would go")]
    Set {
        /// The topic.
        #[arg(add = topics())]
        topic: String,
        /// What is to hold.
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = pair, add = settings_to_set())]
        settings: Vec<(String, String)>,
        #[command(flatten)]
        consent: Consent,
        /// A JSON object.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Let the broker's settings hold for a topic again.
    #[command(before_help = "\
Examples:
  mkctl config unset orders retention.ms flush")]
    Unset {
        /// The topic.
        #[arg(add = topics())]
        topic: String,
        /// Which.
        #[arg(required = true, value_name = "NAME", add = setting_names())]
        names: Vec<String>,
        #[command(flatten)]
        consent: Consent,
        /// A JSON object.
        #[arg(short = 'J', long)]
        json: bool,
    },
}

pub async fn run(cluster: &Cluster, command: ConfigCommand) -> Result<(), Failure> {
    let admin = Admin::new(cluster.clone());
    match command {
        ConfigCommand::Describe { topic, json } => show(&admin, topic, json).await,
        ConfigCommand::Set { topic, settings, consent, json } => {
            let set = settings.into_iter().map(|(name, value)| Setting { name, value }).collect();
            alter(&admin, Change { topic, set, unset: Vec::new() }, consent, json).await
        }
        ConfigCommand::Unset { topic, names, consent, json } => {
            alter(&admin, Change { topic, set: Vec::new(), unset: names }, consent, json).await
        }
    }
}

/// What is to be different.
struct Change {
    topic: String,
    set: Vec<Setting>,
    unset: Vec<String>,
}

impl Change {
    fn request(&self, validate_only: bool) -> AlterTopic {
        let (name, set, unset) = (self.topic.clone(), self.set.clone(), self.unset.clone());
        AlterTopic { name, set, unset, validate_only }
    }
}

/// Prints the topic's own settings as they are then. Asks only if retention would remove records at once:
/// all else can be undone.
async fn alter(
    admin: &Admin,
    change: Change,
    consent: Consent,
    as_json: bool,
) -> Result<(), Failure> {
    let mut altered = admin.alter_topic(change.request(true)).await?;
    let name = &change.topic;
    for Removal { partition, segments, bytes, start } in &altered.removals {
        let bytes = HumanBytes(*bytes);
        say!(
            "{name} partition {partition}: retention would remove {segments} segments ({bytes}); \
             the log would begin at {start}"
        );
    }
    let done = match altered.removals.as_slice() {
        [] => !consent.dry_run,
        _ => consent.to(&format!("change {name}, which removes these records"))?,
    };
    if done {
        altered = admin.alter_topic(change.request(false)).await?;
    }
    if as_json {
        let what = json!({
            "topic": name,
            "settings": settings_json(&altered.settings),
            "removals": altered.removals.iter().map(removal_json).collect::<Vec<_>>(),
        });
        return Ok(Report::new(true).went_well(what, done, "")?);
    }
    if done || consent.dry_run {
        let settings = altered.settings.iter();
        let lines = settings.map(|Setting { name, value }| format!("{name}={value}"));
        table::print_lines(lines)?;
    }
    Ok(())
}

fn settings_json(settings: &[Setting]) -> Value {
    settings.iter().map(|setting| (setting.name.clone(), json!(setting.value))).collect()
}

fn removal_json(removal: &Removal) -> Value {
    json!({
        "partition": removal.partition,
        "segments": removal.segments,
        "bytes": removal.bytes,
        "start": removal.start,
    })
}

async fn show(admin: &Admin, topic: String, as_json: bool) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for (name, described) in admin.describe_topics(Some(vec![topic])).await? {
        for setting in described.map_err(ClientError::from)?.settings {
            let source = source_of(setting.source).to_owned();
            if as_json {
                table::print_json(&json!({
                    "topic": name,
                    "name": setting.name,
                    "value": setting.value,
                    "source": source,
                }))?;
            }
            rows.push(vec![setting.name, setting.value, source]);
        }
    }
    if !as_json {
        table::print(&["NAME", "VALUE", "SOURCE"], &rows)?;
    }
    Ok(())
}
