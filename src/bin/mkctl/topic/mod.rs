//! `mkctl topic`.

pub mod args;

use mk::client::{Admin, ClientError, Cluster, StartAt, offsets};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    At, DescribedPartition, DescribedTopic, NewTopic, PartitionMetadata, Setting, SettingSource,
};
use serde_json::json;

use self::args::TopicCommand;
use crate::cluster::ids;
use crate::confirm::confirm;
use crate::offsets::partitions_of;
use crate::outcome::{Failure, describe};
use crate::table;

pub async fn run(cluster: &Cluster, command: TopicCommand) -> Result<(), Failure> {
    let admin = Admin::new(cluster.clone());
    match command {
        TopicCommand::List { json } => list(&admin, json).await,
        TopicCommand::Create {
            names,
            partitions,
            replication_factor,
            settings,
            if_not_exists,
            dry_run,
        } => {
            let settings = pairs(settings);
            let topics = names.into_iter().map(|name| NewTopic {
                name,
                partitions,
                replication_factor,
                settings: settings.clone(),
            });
            create(&admin, topics.collect(), if_not_exists, dry_run).await
        }
        TopicCommand::Describe { names, json } => show(&admin, names, json).await,
        TopicCommand::Delete { names, if_exists, dry_run, yes } => {
            let what = format!("delete {} with all records", names.join(", "));
            match confirm(&what, yes, dry_run)? {
                true => delete(&admin, names, if_exists).await,
                false => Ok(()),
            }
        }
        TopicCommand::AddPartitions { name, total, dry_run } => {
            let now = admin.add_partitions(&name, total, dry_run).await?;
            eprintln!("{name}: {now} partitions{}", if dry_run { ", if it were done" } else { "" });
            Ok(())
        }
        TopicCommand::Trim { name, before, partitions, dry_run, yes } => {
            trim(cluster, &admin, (&name, partitions), before, (dry_run, yes)).await
        }
    }
}

async fn list(admin: &Admin, json: bool) -> Result<(), Failure> {
    let topics = admin.describe_topics(None).await?;
    let mut rows = Vec::new();
    for (name, described) in topics {
        let topic = described.map_err(ClientError::from)?;
        let (records, bytes) = sizes(&topic);
        if json {
            table::print_json(&json!({
                "topic": name,
                "partitions": topic.partitions.len(),
                "records": records,
                "bytes": bytes,
            }))?;
        }
        let partitions = topic.partitions.len().to_string();
        rows.push(vec![name, partitions, records.to_string(), table::bytes(bytes)]);
    }
    if !json {
        table::print(&["TOPIC", "PARTITIONS", "RECORDS", "SIZE"], &rows)?;
    }
    Ok(())
}

fn sizes(topic: &DescribedTopic) -> (u64, u64) {
    let records = |p: &DescribedPartition| p.high_watermark.saturating_sub(p.log_start_offset);
    let records = topic.partitions.iter().map(records).sum();
    (records, topic.partitions.iter().map(|partition| partition.size_bytes).sum())
}

async fn create(
    admin: &Admin,
    topics: Vec<NewTopic>,
    if_not_exists: bool,
    dry_run: bool,
) -> Result<(), Failure> {
    let created = admin.create_topics(topics, dry_run).await?;
    all(created.into_iter().map(|topic| match topic.result {
        Ok((_, partitions)) => {
            let how = if dry_run { "could be created" } else { "created" };
            eprintln!("{}: {how}, {partitions} partitions", topic.name);
            Ok(())
        }
        Err(fault) if if_not_exists && fault.code == ErrorCode::TOPIC_ALREADY_EXISTS => Ok(()),
        Err(fault) => Err(fault),
    }))
}

async fn delete(admin: &Admin, names: Vec<String>, if_exists: bool) -> Result<(), Failure> {
    let deleted = admin.delete_topics(names).await?;
    all(deleted.into_iter().map(|topic| match topic.result {
        Ok(()) => {
            eprintln!("{}: deleted", topic.name);
            Ok(())
        }
        Err(fault) if if_exists && fault.code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => Ok(()),
        Err(fault) => Err(fault),
    }))
}

/// Reports every failure; one of many fails the whole.
fn all(results: impl Iterator<Item = Result<(), Fault>>) -> Result<(), Failure> {
    let mut failed = false;
    for fault in results.filter_map(Result::err) {
        eprintln!("mkctl: {}", describe(&fault.into()));
        failed = true;
    }
    if failed { Err(Failure::Reported) } else { Ok(()) }
}

async fn show(admin: &Admin, names: Vec<String>, json: bool) -> Result<(), Failure> {
    let places = admin.metadata(Some(names.clone())).await?.topics;
    let topics = admin.describe_topics(Some(names)).await?;
    let mut results = Vec::new();
    for (name, described) in topics {
        let places = places.iter().find(|places| places.name == name);
        let places = places.and_then(|places| places.result.as_ref().ok());
        let places = places.map_or(&[][..], |places| &places.partitions);
        results.push(match described {
            Ok(topic) if json => {
                table::print_json(&as_json(&name, &topic, places))?;
                Ok(())
            }
            Ok(topic) => {
                show_one(&name, &topic, places)?;
                Ok(())
            }
            Err(fault) => Err(fault),
        });
    }
    all(results.into_iter())
}

fn show_one(
    name: &str,
    topic: &DescribedTopic,
    places: &[PartitionMetadata],
) -> std::io::Result<()> {
    let created = jiff::Timestamp::from_millisecond(topic.created_ms);
    let created = created.map_or_else(|_| topic.created_ms.to_string(), |time| time.to_string());
    let (records, bytes) = sizes(topic);
    println!("{name}  id {}  created {created}", topic.topic_id);
    println!("{records} records, {}", table::bytes(bytes));
    let settings = topic.settings.iter().map(|setting| {
        vec![setting.name.clone(), setting.value.clone(), source_of(setting.source).to_owned()]
    });
    table::print(&["SETTING", "VALUE", "SET BY"], &settings.collect::<Vec<_>>())?;
    let partitions = topic.partitions.iter().map(|partition| {
        let state = match (&partition.fault, &partition.damage) {
            (Some(fault), _) => fault.message.clone(),
            (None, Some(damage)) => format!("online, but {damage}"),
            (None, None) => "online".to_owned(),
        };
        let place = places.iter().find(|place| place.partition == partition.partition);
        let leader = place.and_then(|place| place.leader);
        vec![
            partition.partition.to_string(),
            leader.map_or("none".to_owned(), |leader| leader.to_string()),
            place.map_or(String::new(), |place| ids(&place.replicas)),
            place.map_or(String::new(), |place| ids(&place.in_sync_replicas)),
            partition.log_start_offset.to_string(),
            partition.log_end_offset.to_string(),
            table::bytes(partition.size_bytes),
            partition.segments.to_string(),
            state,
        ]
    });
    let header =
        ["PARTITION", "LEADER", "REPLICAS", "IN SYNC", "START", "END", "SIZE", "SEGMENTS", "STATE"];
    table::print(&header, &partitions.collect::<Vec<_>>())
}

fn as_json(name: &str, topic: &DescribedTopic, places: &[PartitionMetadata]) -> serde_json::Value {
    let settings = topic.settings.iter().map(|setting| {
        let value = json!({ "value": setting.value, "source": source_of(setting.source) });
        (setting.name.clone(), value)
    });
    let partitions = topic.partitions.iter().map(|partition| {
        let place = places.iter().find(|place| place.partition == partition.partition);
        json!({
            "partition": partition.partition,
            "leader": place.and_then(|place| place.leader),
            "leader_epoch": place.map(|place| place.leader_epoch),
            "replicas": place.map(|place| place.replicas.clone()),
            "in_sync_replicas": place.map(|place| place.in_sync_replicas.clone()),
            "start": partition.log_start_offset,
            "high_watermark": partition.high_watermark,
            "end": partition.log_end_offset,
            "bytes": partition.size_bytes,
            "segments": partition.segments,
            "fault": partition.fault.as_ref().map(|fault| fault.message.clone()),
            "damage": partition.damage,
        })
    });
    json!({
        "topic": name,
        "id": topic.topic_id.to_string(),
        "created_ms": topic.created_ms,
        "settings": settings.collect::<serde_json::Map<_, _>>(),
        "partitions": partitions.collect::<Vec<_>>(),
    })
}

/// Who set a setting.
pub fn source_of(source: SettingSource) -> &'static str {
    match source {
        SettingSource::Default => "default",
        SettingSource::Broker => "broker",
        SettingSource::Topic => "topic",
    }
}

async fn trim(
    cluster: &Cluster,
    admin: &Admin,
    (name, mut partitions): (&str, Vec<u32>),
    before: StartAt,
    (dry_run, yes): (bool, bool),
) -> Result<(), Failure> {
    if partitions.is_empty() {
        partitions = partitions_of(cluster, name).await?;
    }
    let places: Vec<u64> = match before {
        StartAt::Offset(offset) => vec![offset; partitions.len()],
        StartAt::Latest => vec![u64::MAX; partitions.len()],
        StartAt::Timestamp(millis) => {
            let found = offsets(cluster, name, &partitions, At::Timestamp(millis)).await?;
            // No record is that young: all are before.
            found.into_iter().map(|offset| offset.unwrap_or(u64::MAX)).collect()
        }
        StartAt::Earliest | StartAt::Last(_) => {
            let what = "--before takes an offset, end or @TIME".to_owned();
            return Err(Failure::Usage(what));
        }
    };
    let before: Vec<(u32, u64)> = partitions.iter().copied().zip(places).collect();
    let each = before.iter().map(|(partition, before)| match *before {
        u64::MAX => format!("all of {partition}"),
        before => format!("{partition} below {before}"),
    });
    let what = format!("remove records of {name}: {}", each.collect::<Vec<_>>().join(", "));
    if !confirm(&what, yes, dry_run)? {
        return Ok(());
    }
    let starts = admin.trim(name, &before).await?;
    all(partitions.iter().zip(starts).map(|(partition, start)| {
        start.map(|start| eprintln!("{name} partition {partition}: begins at {start}"))
    }))
}

fn pairs(pairs: Vec<(String, String)>) -> Vec<Setting> {
    pairs.into_iter().map(|(name, value)| Setting { name, value }).collect()
}
