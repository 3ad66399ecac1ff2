//! `mkctl topic list` and `describe`.

use mk::client::{Admin, ClientError};
use mk_net::message::{DescribedTopic, PartitionMetadata};
use serde_json::json;

use super::{sizes, source_of};
use crate::cluster::ids;
use crate::outcome::{Failure, describe};
use crate::table;

pub async fn list(admin: &Admin, json: bool) -> Result<(), Failure> {
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

pub async fn show(admin: &Admin, names: Vec<String>, json: bool) -> Result<(), Failure> {
    let places = admin.metadata(Some(names.clone())).await?.topics;
    let topics = admin.describe_topics(Some(names)).await?;
    let mut failed = false;
    for (name, described) in topics {
        let places = places.iter().find(|places| places.name == name);
        let places = places.and_then(|places| places.result.as_ref().ok());
        let places = places.map_or(&[][..], |places| &places.partitions);
        match described {
            Ok(topic) if json => table::print_json(&as_json(&name, &topic, places))?,
            Ok(topic) => show_one(&name, &topic, places)?,
            Err(fault) => {
                say!("mkctl: {}", describe(&fault.into()));
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Reported) } else { Ok(()) }
}

fn show_one(
    name: &str,
    topic: &DescribedTopic,
    places: &[PartitionMetadata],
) -> std::io::Result<()> {
    let created = jiff::Timestamp::from_millisecond(topic.created_ms);
    let created = created.map_or_else(|_| topic.created_ms.to_string(), |time| time.to_string());
    let (records, bytes) = sizes(topic);
    table::print_lines([
        format!("{name}  id {}  created {created}", topic.topic_id),
        format!("{records} records, {}", table::bytes(bytes)),
    ])?;
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
