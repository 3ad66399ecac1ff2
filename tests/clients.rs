//! Who is connected: registered by its connection, and gone with it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::process::Stdio;

use common::{Broker, data_dir, wait_until};
use mk::client::{Cluster, ClusterSettings, Producer, ProducerRecord, ProducerSettings};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// The clients with this name.
fn clients(broker: &Broker, name: &str) -> Vec<Value> {
    let text = broker.run(&["clients", "-J"]);
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|client| client["client_id"] == name).collect()
}

#[test]
fn producers_and_consumers_are_listed_while_they_are_connected() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let settings = ClusterSettings { client_id: "shop".to_owned(), ..ClusterSettings::default() };
    let cluster = Cluster::new(vec![broker.address().to_owned()], settings);
    let producer = runtime.block_on(async {
        let producer = Producer::new(cluster.clone(), ProducerSettings::default());
        let record = ProducerRecord {
            topic: "orders".into(),
            value: Some(vec![7u8; 1000].into()),
            ..ProducerRecord::default()
        };
        producer.send(record).await.unwrap().receipt().await.unwrap();
        producer
    });
    let shop = clients(&broker, "shop").remove(0);
    assert_eq!((&shop["role"], &shop["broker"]), (&json!("producer"), &json!(1)));
    assert_eq!(shop["connections"], 2, "for records, and for the rest");
    let bytes = shop["produces"]["orders"].as_u64().unwrap();
    assert!((1000..1200).contains(&bytes), "{bytes}");
    assert!(shop["software"].as_str().unwrap().starts_with("mk "));
    assert!(shop["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(shop["in_per_second"].as_u64().unwrap() > 0);

    let consume = broker.ctl(&["consume", "orders", "-g", "billing"]);
    let mut consumer = { consume }.stdout(Stdio::null()).spawn().unwrap();
    wait_until("the consumer is listed", || {
        clients(&broker, "mkctl").iter().any(|client| {
            client["role"] == "consumer"
                && client["group"] == "billing"
                && client["consumes"]["orders"].as_u64() == Some(bytes)
        })
    });
    let consume = broker.ctl(&["consume", "orders"]);
    let mut alone = { consume }.stdout(Stdio::null()).spawn().unwrap();
    wait_until("it is told how far a consumer without a group was given the partition", || {
        clients(&broker, "mkctl").iter().any(|client| {
            client["group"] == "" && client["delivered"] == json!({ "orders": { "0": 1 } })
        })
    });
    let listed = broker.run(&["clients", "--partitions"]);
    assert!(listed.lines().any(|line| line.ends_with("\t-\torders\t0\t1")), "{listed}");
    for consumer in [&mut consumer, &mut alone] {
        consumer.kill().unwrap();
        consumer.wait().unwrap();
    }
    wait_until("what it was given is forgotten with it", || {
        clients(&broker, "mkctl").iter().all(|client| client["delivered"] == json!({}))
    });
    wait_until("the consumer is gone", || {
        clients(&broker, "mkctl").iter().all(|client| client["group"] == "")
    });
    runtime.block_on(producer.close());
    drop(cluster);
    wait_until("the producer is gone", || clients(&broker, "shop").is_empty());
    broker.stop();
}
