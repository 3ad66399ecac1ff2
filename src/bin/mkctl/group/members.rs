//! `mkctl group members`.

use mk::client::Admin;
use mk_net::message::TopicPartitions;
use serde_json::json;

use crate::outcome::Failure;
use crate::table;

pub async fn run(admin: &Admin, group: &str, as_json: bool) -> Result<(), Failure> {
    let group = admin.describe_group(group).await?;
    if as_json {
        for member in group.members {
            table::print_json(&json!({
                "member": member.member,
                "instance_id": member.profile.instance_id,
                "client_id": member.profile.client_id,
                "host": member.client_host,
                "rack": member.profile.rack,
                "epoch": member.epoch,
                "heard_ms": member.heard_ms,
                "polled_ms": member.polled_ms,
                "topics": member.profile.topics,
                "pattern": member.pattern,
                "assigned": names(&member.assigned),
                "paused": names(&member.paused),
                "revoking": names(&member.revoking),
                "target": names(&member.target),
            }))?;
        }
        return Ok(());
    }
    let rows = group.members.into_iter().map(|member| {
        vec![
            member.member,
            member.profile.instance_id.unwrap_or_else(|| "-".to_owned()),
            member.profile.client_id,
            member.client_host,
            member.epoch.to_string(),
            format!("{:.1} s", member.heard_ms as f64 / 1000.0),
            format!("{:.1} s", member.polled_ms as f64 / 1000.0),
            in_short(&member.assigned),
        ]
    });
    let header = ["MEMBER", "INSTANCE", "CLIENT", "HOST", "EPOCH", "HEARD", "POLLED", "ASSIGNED"];
    table::print(&header, &rows.collect::<Vec<_>>())?;
    Ok(())
}

fn names(topics: &[TopicPartitions]) -> Vec<String> {
    let each = topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| format!("{}:{partition}", topic.topic))
    });
    each.collect()
}

fn in_short(topics: &[TopicPartitions]) -> String {
    let each = topics.iter().map(|topic| {
        let numbers: Vec<String> = topic.partitions.iter().map(u32::to_string).collect();
        format!("{}:{}", topic.topic, numbers.join(","))
    });
    let all: Vec<String> = each.collect();
    if all.is_empty() { "-".to_owned() } else { all.join(" ") }
}
