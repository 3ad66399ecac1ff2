//! `mkctl topic create` and `add-partitions`.

use mk::client::{Admin, Cluster};
use mk_net::fault::ErrorCode;
use mk_net::message::{NewTopic, Setting};
use serde_json::json;

use super::args::{AddPartitionsArgs, CreateArgs};
use crate::offsets::partitions_of;
use crate::outcome::Failure;
use crate::report::Report;

pub async fn create(admin: &Admin, args: CreateArgs) -> Result<(), Failure> {
    let settings: Vec<Setting> =
        args.settings.into_iter().map(|(name, value)| Setting { name, value }).collect();
    let topics = args.names.into_iter().map(|name| NewTopic {
        name,
        partitions: args.partitions,
        replication_factor: args.replication_factor,
        settings: settings.clone(),
    });
    let mut report = Report::new(args.json);
    for topic in admin.create_topics(topics.collect(), args.dry_run).await? {
        let name = topic.name;
        match topic.result {
            Ok((_, partitions)) => {
                let how = if args.dry_run { "could be created" } else { "created" };
                let words = format!("{name}: {how}, {partitions} partitions");
                let what = json!({ "topic": name, "partitions": partitions });
                report.went_well(what, !args.dry_run, &words)?;
            }
            Err(fault) if args.if_not_exists && fault.code == ErrorCode::TOPIC_ALREADY_EXISTS => {}
            Err(fault) => report.failed(json!({ "topic": name }), &fault.into())?,
        }
    }
    report.end()
}

pub async fn add_partitions(
    cluster: &Cluster,
    admin: &Admin,
    args: AddPartitionsArgs,
) -> Result<(), Failure> {
    let AddPartitionsArgs { name, total, consent, json } = args;
    let before = partitions_of(cluster, &name).await?.len();
    admin.add_partitions(&name, total, true).await?;
    let what = format!(
        "let {name} grow from {before} to {total} partitions, for ever; records of a key may go to \
         another partition than those before"
    );
    let done = consent.to(&what)?;
    if done {
        admin.add_partitions(&name, total, false).await?;
    }
    if done || json {
        let what = json!({ "topic": name, "before": before, "partitions": total });
        Report::new(json).went_well(what, done, &format!("{name}: {total} partitions"))?;
    }
    Ok(())
}
