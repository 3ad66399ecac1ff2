//! `mkctl cluster info`.

use mk::client::Admin;
use mk_net::message::{DescribeClusterResponse, DescribedBroker, MetadataResponse};
use serde_json::{Value, json};

use super::ids;
use crate::outcome::Failure;
use crate::table;

pub async fn run(admin: &Admin, json: bool) -> Result<(), Failure> {
    let versions = admin.api_versions().await?;
    let cluster = admin.describe_cluster(true).await?;
    let metadata = admin.metadata(None).await?;
    if json {
        table::print_json(&as_json(&cluster, &metadata, &versions.software))?;
        return Ok(());
    }
    let mut rows = vec![
        vec!["cluster".to_owned(), cluster.cluster_id.clone()],
        vec!["software".to_owned(), versions.software],
        vec!["topics".to_owned(), metadata.topics.len().to_string()],
        vec!["zookeeper".to_owned(), zookeeper(&cluster)],
        vec!["state".to_owned(), format!("version {}", cluster.state_version)],
    ];
    for broker in &cluster.brokers {
        let leads = leaderships(&metadata, broker.id);
        let words = format!("{}  {}  leads {leads}", broker.address, standing(broker));
        rows.push(vec![format!("broker {}", broker.id), words]);
    }
    for moving in &cluster.moves {
        let (from, to, arrived) = (ids(&moving.from), ids(&moving.to), ids(&moving.arrived));
        let what = format!("move {}:{}", moving.topic, moving.partition);
        rows.push(vec![what, format!("from {from} to {to}, in sync there {arrived}")]);
    }
    table::print(&["WHAT", "VALUE"], &rows)?;
    Ok(())
}

/// Where the mini-zookeeper is, and whether it answers.
pub fn zookeeper(cluster: &DescribeClusterResponse) -> String {
    let place = match cluster.zookeeper.as_str() {
        "" => format!("inside broker {}", cluster.answered_by),
        address => address.to_owned(),
    };
    match &cluster.zookeeper_fault {
        Some(fault) => format!("{place}, does not answer: {}", fault.message),
        None => place,
    }
}

fn standing(broker: &DescribedBroker) -> String {
    let standing = match (broker.fenced, broker.stopping) {
        (true, _) => "fenced",
        (false, true) => "stopping",
        (false, false) => "ready",
    };
    let heard = broker.heard_ms.map_or(String::new(), |ms| format!(", heard {ms} ms ago"));
    let rack = broker.rack.as_ref().map_or(String::new(), |rack| format!(", rack {rack}"));
    format!("{standing}{heard}{rack}")
}

fn leaderships(metadata: &MetadataResponse, broker: u32) -> usize {
    let topics = metadata.topics.iter().filter_map(|topic| topic.result.as_ref().ok());
    let partitions = topics.flat_map(|topic| &topic.partitions);
    partitions.filter(|partition| partition.leader == Some(broker)).count()
}

fn as_json(
    cluster: &DescribeClusterResponse,
    metadata: &MetadataResponse,
    software: &str,
) -> Value {
    let brokers = cluster.brokers.iter().map(|broker| {
        json!({
            "id": broker.id,
            "address": broker.address,
            "rack": broker.rack,
            "epoch": broker.epoch,
            "fenced": broker.fenced,
            "stopping": broker.stopping,
            "heard_ms": broker.heard_ms,
            "leads": leaderships(metadata, broker.id),
        })
    });
    let moves = cluster.moves.iter().map(|moving| {
        json!({
            "topic": moving.topic,
            "partition": moving.partition,
            "from": moving.from,
            "to": moving.to,
            "arrived": moving.arrived,
        })
    });
    json!({
        "cluster_id": cluster.cluster_id,
        "software": software,
        "topics": metadata.topics.len(),
        "zookeeper": cluster.zookeeper,
        "zookeeper_fault": cluster.zookeeper_fault.as_ref().map(|fault| fault.message.clone()),
        "state_version": cluster.state_version,
        "brokers": brokers.collect::<Vec<_>>(),
        "moves": moves.collect::<Vec<_>>(),
    })
}
