//! `mkctl cluster health`: what is wrong, in sentences.

use std::collections::BTreeMap;
use std::time::Duration;

use mk::client::Admin;
use mk_net::message::{DescribeClusterResponse, MetadataResponse, PartitionMetadata};
use serde_json::json;

use super::ids;
use crate::outcome::Failure;
use crate::table;

const INTERVAL: Duration = Duration::from_millis(500);

/// Once, or whenever it changes.
pub async fn run(
    admin: &Admin,
    watch: bool,
    exit_when_healthy: bool,
    json: bool,
) -> Result<(), Failure> {
    let mut last = None;
    loop {
        let troubles = match look(admin, !watch).await {
            Ok(troubles) => troubles,
            // Whoever watches waits until somebody answers.
            Err(Failure::Unreachable(what)) if watch => vec![what],
            Err(failure) => return Err(failure),
        };
        if last.as_ref() != Some(&troubles) {
            print(&troubles, json)?;
        }
        match (watch, troubles.is_empty()) {
            (false, true) => return Ok(()),
            (false, false) => return Err(Failure::Unhealthy),
            (true, true) if exit_when_healthy => return Ok(()),
            (true, _) => {}
        }
        last = Some(troubles);
        tokio::time::sleep(INTERVAL).await;
    }
}

fn print(troubles: &[String], json: bool) -> Result<(), Failure> {
    if json {
        let healthy = troubles.is_empty();
        return Ok(table::print_json(&json!({ "healthy": healthy, "troubles": troubles }))?);
    }
    let sentence = if troubles.is_empty() { "healthy" } else { "unhealthy" };
    let each = troubles.iter().map(|trouble| format!("  {trouble}"));
    Ok(table::print_lines(std::iter::once(sentence.to_owned()).chain(each))?)
}

/// What is wrong. Whoever watches is not told how long ago a broker was heard of: that changes all the time,
/// and nothing has happened.
async fn look(admin: &Admin, ages: bool) -> Result<Vec<String>, Failure> {
    let cluster = admin.describe_cluster(true).await?;
    let metadata = admin.metadata(None).await?;
    let needed = needed(admin).await?;
    let mut troubles = of_brokers(&cluster, ages);
    troubles.extend(of_partitions(&metadata, &needed));
    Ok(troubles)
}

/// `min.insync.replicas` of each topic.
async fn needed(admin: &Admin) -> Result<BTreeMap<String, usize>, Failure> {
    let topics = admin.describe_topics(None).await?;
    let needed = topics.into_iter().filter_map(|(name, topic)| {
        let topic = topic.ok()?;
        let setting = topic.settings.iter().find(|s| s.name == "min.insync.replicas")?;
        Some((name, setting.value.parse().ok()?))
    });
    Ok(needed.collect())
}

fn of_brokers(cluster: &DescribeClusterResponse, ages: bool) -> Vec<String> {
    let mut troubles = Vec::new();
    if let Some(fault) = &cluster.zookeeper_fault {
        let place = &cluster.zookeeper;
        troubles.push(format!("the zookeeper {place} does not answer: {}", fault.message));
    }
    for broker in &cluster.brokers {
        let (id, address) = (broker.id, &broker.address);
        if broker.fenced {
            let heard = broker.heard_ms.filter(|_| ages);
            let heard = heard.map(|ms| format!(", heard of {:.1} s ago", ms as f64 / 1e3));
            let heard = heard.unwrap_or_default();
            troubles.push(format!("broker {id} ({address}) is fenced{heard}"));
        } else if broker.stopping {
            troubles.push(format!("broker {id} ({address}) is stopping"));
        }
    }
    troubles
}

fn of_partitions(metadata: &MetadataResponse, needed: &BTreeMap<String, usize>) -> Vec<String> {
    let mut troubles = Vec::new();
    for topic in &metadata.topics {
        let Ok(places) = &topic.result else { continue };
        let needed = needed.get(&topic.name).copied().unwrap_or(1);
        for partition in &places.partitions {
            if let Some(trouble) = of_partition(partition, needed) {
                troubles.push(format!("{}:{} {trouble}", topic.name, partition.partition));
            }
        }
    }
    troubles
}

fn of_partition(partition: &PartitionMetadata, needed: usize) -> Option<String> {
    let PartitionMetadata { leader, replicas, in_sync_replicas, .. } = partition;
    let needed = needed.min(replicas.len());
    if leader.is_none() {
        return Some(format!("has no leader; its replicas are {}", ids(replicas)));
    }
    let missing: Vec<u32> =
        replicas.iter().copied().filter(|id| !in_sync_replicas.contains(id)).collect();
    if in_sync_replicas.len() < needed {
        let in_sync = in_sync_replicas.len();
        return Some(format!(
            "takes no records with acks=all: {in_sync} in sync, min.insync.replicas is {needed}"
        ));
    }
    (!missing.is_empty()).then(|| format!("is not in sync on {}", ids(&missing)))
}
