//! A partition goes to another broker while it is written to: everything arrives, no faster than it may,
//! and those who write do not notice.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
mod machines;

use std::time::Instant;

use common::wait_until;
use machines::{Machines, Numbers, Setup, own_address, place};
use mk::client::{Admin, Cluster, Producer, ProducerRecord, ProducerSettings};
use mk_net::message::PartitionOf;
use tokio::runtime::Runtime;

const RATE: u64 = 2 << 20;

/// Four brokers, and a topic on the first three.
fn start(runtime: &Runtime) -> (Machines, Cluster, PartitionOf) {
    let mut machines = Machines::start();
    let cluster = machines.client();
    runtime.block_on(fill(cluster.clone(), "t", 8));
    let zoo = machines.zoo_address().to_owned();
    machines.set_up(4, Setup { listen: own_address(4), zoo, settings: Vec::new() });
    machines.start_broker(4);
    (machines, cluster, PartitionOf { topic: "t".to_owned(), partition: 0 })
}

/// So many records of 1 MiB.
async fn fill(cluster: Cluster, topic: &str, mib: usize) {
    let producer = Producer::new(cluster, ProducerSettings::default());
    for _ in 0..mib {
        let value = vec![0x5a; 1 << 20];
        let record = ProducerRecord {
            topic: topic.into(),
            partition: Some(0),
            value: Some(value.into()),
            ..ProducerRecord::default()
        };
        producer.send(record).await.unwrap().receipt().await.unwrap();
    }
    producer.close().await;
}

/// Moves the partition; waits until it is there.
fn go(runtime: &Runtime, admin: &Admin, of: &PartitionOf, to: &[u32], throttle: Option<u64>) {
    let moved = admin.move_partition(of.clone(), to.to_vec(), throttle);
    let version = runtime.block_on(moved).unwrap();
    wait_until("it is there", || {
        let cluster = runtime.block_on(admin.describe_cluster(false)).unwrap();
        cluster.state_version >= version && cluster.moves.is_empty()
    });
}

#[test]
fn a_move_is_as_fast_as_it_may_be_and_nobody_notices() {
    let runtime = Runtime::new().unwrap();
    let (mut machines, cluster, of) = start(&runtime);
    let before = runtime.block_on(place(&cluster, "t")).replicas;
    let goal = vec![before[0], before[1], 4];
    let admin = Admin::new(cluster.clone());
    let numbers = Numbers::start(&runtime, cluster.clone(), "t");
    numbers.wait_for(10);
    numbers.longest_pause();

    let begun = Instant::now();
    go(&runtime, &admin, &of, &goal, Some(RATE));
    let took = begun.elapsed();
    println!("8 MiB at 2 MiB a second: {took:?}, producer {:?} without", numbers.longest_pause());
    // The last answer is not waited for.
    assert!(took.as_secs_f64() > 3.0, "{took:?}");

    // Its leader goes, too, and it is led by whom it has gone to.
    let begun = Instant::now();
    let other = vec![4, before[2], before[1]];
    go(&runtime, &admin, &of, &other, None);
    println!("without a throttle: {:?}", begun.elapsed());
    let leader = runtime.block_on(place(&cluster, "t")).leader.unwrap();
    assert!(other.contains(&leader));
    numbers.wait_for(100);
    let gone = machines.data(before[0]).join("topics/t/0");
    wait_until("who had it has it no more", || !gone.exists());
    for id in before.iter().filter(|id| !other.contains(id)) {
        machines.kill_broker(*id);
    }
    numbers.wait_for(100);
    let receipts = numbers.stop(&runtime);
    assert!(receipts.windows(2).all(|pair| pair[0].1 < pair[1].1), "acknowledged out of order");
}

/// The folder of a replica that was called off before it was made stayed: that it was not to be there was
/// compared with what was there before.
#[test]
fn a_move_that_is_called_off_leaves_everything_where_it_was() {
    let runtime = Runtime::new().unwrap();
    let (machines, cluster, of) = start(&runtime);
    let before = runtime.block_on(place(&cluster, "t"));
    let admin = Admin::new(cluster.clone());
    let goal = vec![4, before.replicas[1], before.replicas[2]];
    // It would take a day.
    runtime.block_on(admin.move_partition(of.clone(), goal.clone(), Some(100))).unwrap();
    let moves = runtime.block_on(admin.describe_cluster(false)).unwrap().moves;
    assert_eq!((&moves[0].to, moves[0].throttle), (&goal, Some(100)));
    wait_until("it has begun", || machines.data(4).join("topics/t/0").exists());
    runtime.block_on(admin.cancel_move(of.clone())).unwrap();
    wait_until("all know that it stays", || {
        let place = runtime.block_on(place(&cluster, "t"));
        place.replicas == before.replicas && place.leader == before.leader
    });
    let begun = machines.data(4).join("topics/t/0");
    wait_until("what was fetched is gone", || !begun.exists());
    let error = runtime.block_on(admin.cancel_move(of)).unwrap_err().to_string();
    assert!(error.contains("not being moved"), "{error}");
}
