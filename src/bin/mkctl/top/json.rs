//! A look as a line of JSON.

use serde_json::{Value, json};

use super::sample::{Sample, state_of};

pub fn of(now: &Sample, before: Option<&Sample>) -> Value {
    let health = now.health();
    let brokers = now.cluster.brokers.iter().map(|broker| {
        let (came, went) = now.traffic(broker.id);
        json!({
            "id": broker.id,
            "address": broker.address,
            "state": state_of(broker),
            "leads": now.leads(broker.id),
            "in_bytes_per_second": came,
            "out_bytes_per_second": went,
        })
    });
    let topics = now.topics.iter().map(|(name, topic)| {
        json!({
            "topic": name,
            "partitions": topic.partitions,
            "records": topic.records,
            "bytes": topic.bytes,
            "records_per_second": now.rate(name, before),
        })
    });
    let groups = now.groups.iter().map(|group| {
        let rates = group.rates();
        json!({
            "group": group.listed.group,
            "state": group.listed.state,
            "members": group.listed.members,
            "lag": group.lag(),
            "behind_ms": group.behind_ms(),
            "in_per_second": rates.map(|(came, _)| came),
            "out_per_second": rates.map(|(_, went)| went),
        })
    });
    json!({
        "at_ms": jiff::Timestamp::now().as_millisecond(),
        "cluster_id": now.cluster.cluster_id,
        "partitions": health.partitions,
        "leaderless": health.leaderless,
        "not_in_sync": health.not_in_sync,
        "brokers": brokers.collect::<Vec<_>>(),
        "topics": topics.collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
        "clients": now.clients.len(),
    })
}
