//! `mkctl clients`.

use std::time::Duration;

use indicatif::HumanDuration;
use mk::client::{Admin, Cluster};
use mk_net::message::DescribedClient;
use serde_json::{Value, json};

use crate::outcome::{Failure, describe};
use crate::table;

pub async fn run(cluster: &Cluster, by_partition: bool, as_json: bool) -> Result<(), Failure> {
    let (clients, failed) = Admin::new(cluster.clone()).list_clients().await?;
    if as_json {
        for (broker, client) in &clients {
            table::print_json(&in_json(*broker, client))?;
        }
    } else if by_partition {
        let rows: Vec<Vec<String>> =
            clients.iter().flat_map(|(id, client)| delivered(*id, client)).collect();
        let header = ["CLIENT", "ADDRESS", "BROKER", "GROUP", "TOPIC", "PARTITION", "DELIVERED"];
        table::print(&header, &rows)?;
    } else {
        let rows: Vec<Vec<String>> = clients.iter().map(|(id, client)| row(*id, client)).collect();
        let header = [
            "CLIENT",
            "ADDRESS",
            "BROKER",
            "CONNECTED",
            "ROLE",
            "TOPICS",
            "GROUP",
            "REQUESTS/s",
            "IN/s",
            "OUT/s",
        ];
        table::print(&header, &rows)?;
    }
    for (broker, error) in &failed {
        say!("mkctl: the clients of broker {broker} are missing: {}", describe(error));
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::Reported) }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".to_owned() } else { text.to_owned() }
}

/// How far a client was given each partition.
fn delivered(broker: u32, client: &DescribedClient) -> Vec<Vec<String>> {
    let each = client.consumes.iter().flat_map(|topic| {
        topic.delivered.iter().map(|to| {
            vec![
                or_dash(&client.client_id),
                client.address.clone(),
                broker.to_string(),
                or_dash(&client.group),
                topic.topic.clone(),
                to.partition.to_string(),
                to.offset.to_string(),
            ]
        })
    });
    each.collect()
}

fn role(client: &DescribedClient) -> &'static str {
    match (client.produces.is_empty(), client.consumes.is_empty()) {
        (false, true) => "producer",
        (true, false) => "consumer",
        (false, false) => "both",
        (true, true) => "-",
    }
}

fn row(broker: u32, client: &DescribedClient) -> Vec<String> {
    let produced = client.produces.iter().map(|topic| topic.topic.as_str());
    let mut topics: Vec<&str> =
        produced.chain(client.consumes.iter().map(|topic| topic.topic.as_str())).collect();
    topics.sort_unstable();
    topics.dedup();
    vec![
        or_dash(&client.client_id),
        client.address.clone(),
        broker.to_string(),
        HumanDuration(Duration::from_millis(client.connected_ms)).to_string(),
        role(client).to_owned(),
        or_dash(&topics.join(",")),
        or_dash(&client.group),
        client.requests_per_second.to_string(),
        table::bytes(client.in_per_second),
        table::bytes(client.out_per_second),
    ]
}

fn in_json(broker: u32, client: &DescribedClient) -> Value {
    let produces = client.produces.iter();
    let produces: Value = produces.map(|topic| (topic.topic.clone(), json!(topic.bytes))).collect();
    let consumes = client.consumes.iter();
    let consumes: Value = consumes.map(|topic| (topic.topic.clone(), json!(topic.bytes))).collect();
    let delivered = client.consumes.iter().map(|topic| {
        let each = topic.delivered.iter();
        let each: Value = each.map(|to| (to.partition.to_string(), json!(to.offset))).collect();
        (topic.topic.clone(), each)
    });
    let delivered: Value = delivered.collect();
    json!({
        "client_id": client.client_id,
        "software": format!("{} {}", client.software_name, client.software_version),
        "address": client.address,
        "connections": client.connections,
        "broker": broker,
        "connected_ms": client.connected_ms,
        "idle_ms": client.idle_ms,
        "role": role(client),
        "produces": produces,
        "consumes": consumes,
        "delivered": delivered,
        "group": client.group,
        "requests_per_second": client.requests_per_second,
        "in_per_second": client.in_per_second,
        "out_per_second": client.out_per_second,
    })
}
