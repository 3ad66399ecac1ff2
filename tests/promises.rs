//! What a cluster promises, on real brokers: what an acknowledgement says, what is refused when too few
//! are in sync, what a stop in good order does, and who leads when nobody may.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
mod machines;
#[path = "common/wire.rs"]
mod wire;

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use common::wait_until;
use machines::{Machines, Numbers, assert_replicas_equal, place, wait_in_sync};
use mk::client::{
    Acks, Admin, ClientError, Cluster, Producer, ProducerRecord, ProducerSettings, Receipt,
};
use mk_net::envelope::request;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    Appended, At, ClusterEvent, Durability, Election, PartitionOf, Produce, ProducePart,
};
use mk_storage::Timestamp;
use mk_storage::batch::{BatchBuilder, Compression, RecordFields};
use rustix::process::Signal;
use tokio::runtime::Runtime;
use uuid::Uuid;

async fn send(cluster: &Cluster, acks: Acks, patience: Duration) -> Result<Receipt, ClientError> {
    let settings =
        ProducerSettings { acks, delivery_timeout: patience, ..ProducerSettings::default() };
    let producer = Producer::new(cluster.clone(), settings);
    let record = ProducerRecord {
        topic: "t".into(),
        partition: Some(0),
        value: Some("a record".into()),
        ..ProducerRecord::default()
    };
    producer.send(record).await?.receipt().await
}

/// One produce request with acks=all to this broker, without a client that tries again.
fn produce(address: &str, timeout: Duration) -> Result<Appended, Fault> {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(Timestamp(1), &RecordFields { value: Some(b"raw"), ..RecordFields::default() });
    let batch = batch.finish().unwrap();
    let (topic, topic_id, length) = ("t".to_owned(), Uuid::nil(), batch.len() as u32);
    let parts = vec![ProducePart { topic, topic_id, partition: 0, length }];
    let message = Produce { acks: -1, timeout_ms: timeout.as_millis() as u32, parts };
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(&request(1, &message, batch.len())).unwrap();
    stream.write_all(&batch).unwrap();
    wire::answer_to(&mut stream, &message).0.parts.remove(0)
}

/// Where the log of the partition ends, as far as consumers see it.
fn end(runtime: &Runtime, cluster: &Cluster) -> u64 {
    let end = mk::client::offsets(cluster, "t", &[0], At::Latest);
    runtime.block_on(end).unwrap()[0].unwrap()
}

fn wait_for_isr(runtime: &Runtime, cluster: &Cluster, expected: &[u32]) {
    wait_until("these are in sync", || {
        let mut isr = runtime.block_on(place(cluster, "t")).in_sync_replicas;
        isr.sort_unstable();
        isr == expected
    });
}

fn events(runtime: &Runtime, cluster: &Cluster) -> Vec<ClusterEvent> {
    runtime.block_on(Admin::new(cluster.clone()).cluster_events(0, 0)).unwrap()
}

const LONG: Duration = Duration::from_secs(60);

#[test]
fn receipts_say_what_was_reached_and_too_few_in_sync_are_refused() {
    let mut machines = Machines::start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    let durability = |acks| runtime.block_on(send(&cluster, acks, LONG)).unwrap().durability;
    assert_eq!(durability(Acks::All), Durability::Quorum);
    assert_eq!(durability(Acks::Leader), Durability::Memory);
    assert_eq!(durability(Acks::None), Durability::None);
    wait_in_sync(&runtime, &cluster, "t");
    wait_until("all three are committed", || end(&runtime, &cluster) == 3);
    let leader = runtime.block_on(place(&cluster, "t")).leader.unwrap();
    let address = machines.brokers[&leader].address.clone();
    let others: Vec<u32> = (1..=3).filter(|id| *id != leader).collect();

    // In the log by the time that too few are in sync.
    others.iter().for_each(|id| machines.brokers[id].signal(Signal::STOP));
    let late = produce(&address, Duration::from_secs(5)).unwrap_err();
    assert_eq!(late.code, ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND, "{late}");
    wait_for_isr(&runtime, &cluster, &[leader]);
    assert_eq!(end(&runtime, &cluster), 3);
    // Refused before it is.
    let refused = produce(&address, LONG).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NOT_ENOUGH_REPLICAS, "{refused}");
    let error = runtime.block_on(send(&cluster, Acks::All, Duration::from_secs(2))).unwrap_err();
    let ClientError::NotDelivered { last: Some(last), .. } = &error else { panic!("{error}") };
    assert!(matches!(&**last, ClientError::Broker(fault) if fault.code == refused.code), "{error}");
    // With acks=1 it is taken, and nobody sees it yet.
    assert_eq!(durability(Acks::Leader), Durability::Memory);
    assert_eq!(end(&runtime, &cluster), 3, "what is not committed is not seen");

    others.iter().for_each(|id| machines.brokers[id].signal(Signal::CONT));
    wait_in_sync(&runtime, &cluster, "t");
    // What was late, and what was sent with acks=1.
    wait_until("it is committed", || end(&runtime, &cluster) == 5);
    assert_eq!(durability(Acks::All), Durability::Quorum);
    assert_replicas_equal(&mut machines, "t", 1);
}

#[test]
fn who_stops_in_good_order_hands_over_first() {
    let mut machines = Machines::start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    let numbers = Numbers::start(&runtime, cluster.clone(), "t");
    numbers.wait_for(100);
    wait_in_sync(&runtime, &cluster, "t");
    let before = runtime.block_on(place(&cluster, "t"));
    let leader = before.leader.unwrap();
    machines.brokers.remove(&leader).unwrap().stop();
    numbers.wait_for(100);
    numbers.stop(&runtime);
    let place_in = |events: &[ClusterEvent], kind: &str| {
        let of_it = |event: &ClusterEvent| match kind {
            "elected" => {
                event.kind == kind && event.text.contains(&format!("before it broker {leader}"))
            }
            _ => event.kind == kind && event.broker == Some(leader),
        };
        events.iter().position(of_it)
    };
    let events = events(&runtime, &cluster);
    let (shutdown, elected) = (place_in(&events, "shutdown"), place_in(&events, "elected"));
    assert!(shutdown.is_some() && shutdown < elected, "{events:?}");
    // Its process is gone only then; nobody had to miss it.
    let fenced = place_in(&events, "fenced");
    assert!(fenced.is_none() || elected < fenced, "{events:?}");
}

/// The two that were in sync last are gone for good, but for one that is away: whoever is left leads if
/// somebody says so, and it is told what that costs.
#[test]
fn an_unclean_election_is_made_by_hand_and_told_of() {
    let mut machines = Machines::start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    let numbers = Numbers::start(&runtime, cluster.clone(), "t");
    numbers.wait_for(100);
    wait_in_sync(&runtime, &cluster, "t");
    let leader = runtime.block_on(place(&cluster, "t")).leader.unwrap();
    let mut others = (1..=3).filter(|id| *id != leader);
    let (behind, away) = (others.next().unwrap(), others.next().unwrap());
    machines.kill_broker(behind);
    numbers.wait_for(100);
    let acknowledged = numbers.stop(&runtime).len() as u64;
    machines.kill_broker(away);
    wait_for_isr(&runtime, &cluster, &[leader]);
    machines.kill_broker(leader);
    std::fs::remove_dir_all(machines.data(leader)).unwrap();
    machines.start_broker(behind);
    machines.start_broker(leader);
    wait_for_isr(&runtime, &cluster, &[]);
    assert_eq!(runtime.block_on(place(&cluster, "t")).leader, None);

    let of = PartitionOf { topic: "t".to_owned(), partition: 0 };
    let admin = Admin::new(cluster.clone());
    let elect = || {
        let elected = admin.elect_leaders(Election::Unclean, Some(vec![of.clone()]));
        runtime.block_on(elected).unwrap().remove(0).1
    };
    let elected = elect().unwrap().unwrap();
    assert!([behind, leader].contains(&elected), "{elected}");
    assert_eq!(elect().unwrap_err().code, ErrorCode::ELECTION_NOT_NEEDED);
    // The one that had everything comes back, too late.
    machines.start_broker(away);
    wait_in_sync(&runtime, &cluster, "t");
    assert!(end(&runtime, &cluster) < acknowledged);
    let told = |kind: &str, text: String| {
        let events = events(&runtime, &cluster);
        let is_it = |event: &&ClusterEvent| event.kind == kind && event.text.contains(&text);
        assert!(events.iter().find(is_it).is_some(), "{kind}: {events:?}");
    };
    told("unclean election", format!("broker {elected}"));
    told("records lost", format!("broker {away} has cut"));
    assert_replicas_equal(&mut machines, "t", 1);
}

/// The first record for a topic came to a broker that did not reach the mini-zookeeper. Its error was the
/// caller's, at once.
#[test]
fn a_topic_is_made_once_the_zookeeper_is_back() {
    let mut machines = Machines::start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    machines.zoo.take().unwrap().kill();
    let first = runtime.spawn({
        let cluster = cluster.clone();
        async move { send(&cluster, Acks::All, LONG).await }
    });
    wait_until("brokers say that the zookeeper is away", || {
        let described = Admin::new(cluster.clone());
        let described = runtime.block_on(described.describe_cluster(true));
        described.is_ok_and(|described| described.zookeeper_fault.is_some())
    });
    machines.restart_zoo();
    assert_eq!(runtime.block_on(first).unwrap().unwrap().durability, Durability::Quorum);
}
