//! `mkctl config`: the settings of topics.

use clap::Subcommand;
use mk::client::{Admin, ClientError, Cluster};
use mk_net::message::{AlterTopic, Removal, Setting};
use serde_json::json;

use crate::args::pair;
use crate::completion::topics;
use crate::outcome::Failure;
use crate::table;
use crate::topic::source_of;

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show what holds for a topic, and who says so.
    Describe {
        /// The topic.
        #[arg(add = topics())]
        topic: String,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Give a topic settings of its own.
    Set {
        /// The topic.
        #[arg(add = topics())]
        topic: String,
        /// What is to hold.
        #[arg(required = true, value_name = "NAME=VALUE", value_parser = pair)]
        settings: Vec<(String, String)>,
        /// Only say whether it would work.
        #[arg(long)]
        dry_run: bool,
    },
    /// Let the broker's settings hold for a topic again.
    Unset {
        /// The topic.
        #[arg(add = topics())]
        topic: String,
        /// Which.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// Only say whether it would work.
        #[arg(long)]
        dry_run: bool,
    },
}

pub async fn run(cluster: &Cluster, command: ConfigCommand) -> Result<(), Failure> {
    let admin = Admin::new(cluster.clone());
    match command {
        ConfigCommand::Describe { topic, json } => show(&admin, topic, json).await,
        ConfigCommand::Set { topic, settings, dry_run } => {
            let set = settings.into_iter().map(|(name, value)| Setting { name, value }).collect();
            let validate_only = dry_run;
            alter(&admin, AlterTopic { name: topic, set, unset: Vec::new(), validate_only }).await
        }
        ConfigCommand::Unset { topic, names, dry_run } => {
            let validate_only = dry_run;
            alter(&admin, AlterTopic { name: topic, set: Vec::new(), unset: names, validate_only })
                .await
        }
    }
}

/// Prints the topic's own settings as they are then.
async fn alter(admin: &Admin, request: AlterTopic) -> Result<(), Failure> {
    let (name, dry_run) = (request.name.clone(), request.validate_only);
    let altered = admin.alter_topic(request).await?;
    for Setting { name, value } in altered.settings {
        println!("{name}={value}");
    }
    tell_removals(&name, &altered.removals, dry_run);
    Ok(())
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

/// What retention takes away with a topic's new settings.
fn tell_removals(topic: &str, removals: &[Removal], dry_run: bool) {
    let tense = if dry_run { "would remove" } else { "removes" };
    for Removal { partition, segments, bytes, start } in removals {
        let bytes = table::bytes(*bytes);
        eprintln!(
            "{topic} partition {partition}: retention {tense} {segments} segments ({bytes}); \
             the log would begin at {start}"
        );
    }
}
