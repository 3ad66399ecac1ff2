//! Three brokers and a mini-zookeeper as real processes, with faults between them: what was
//! acknowledged is there, in order, at its offset, on all replicas.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
mod machines;

use std::time::Duration;

use common::wait_until;
use machines::{Machines, Numbers, assert_replicas_equal, place, wait_in_sync};
use mk::client::{Consumer, ConsumerSettings, StartAt};
use rustix::process::Signal;
use tokio::runtime::Runtime;

/// What the log has, read by a consumer up to its end.
async fn read_all(machines: &Machines, topic: &str) -> Vec<u64> {
    let cluster = machines.client();
    let end = mk::client::offsets(&cluster, topic, &[0], mk_net::message::At::Latest).await;
    let end = end.unwrap()[0].unwrap();
    let mut consumer = Consumer::new(cluster, ConsumerSettings::default());
    consumer.assign(topic, &[0], StartAt::Earliest).await.unwrap();
    let mut found = Vec::new();
    while (found.len() as u64) < end {
        let batches = consumer.next().await.unwrap();
        for record in batches.records() {
            let record = record.unwrap();
            assert_eq!(record.offset.0, found.len() as u64, "offsets are dense");
            let text = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            found.push(text.parse().unwrap());
        }
    }
    found
}

/// Each number that was acknowledged is at its offset; others are numbers whose acknowledgement was
/// lost, and which were sent again.
fn check(receipts: &[(u64, u64)], log: &[u64]) {
    let twice = log.len() - receipts.len();
    println!("{} acknowledged, {} in the log, {twice} of them twice", receipts.len(), log.len());
    for (number, offset) in receipts {
        assert_eq!(log.get(*offset as usize), Some(number), "offset {offset}");
    }
    assert!(receipts.windows(2).all(|pair| pair[0].1 < pair[1].1), "acknowledged out of order");
    let mut next = 0;
    for number in log {
        assert!(*number <= next, "{number} before {next}");
        next = next.max(number + 1);
    }
}

#[test]
fn nothing_acknowledged_is_lost_whatever_happens_to_the_leader() {
    let mut machines = Machines::start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    let numbers = Numbers::start(&runtime, cluster.clone(), "t");
    numbers.wait_for(100);
    for round in 0..9 {
        wait_in_sync(&runtime, &cluster, "t");
        let leader = runtime.block_on(place(&cluster, "t")).leader.unwrap();
        numbers.wait_for(50);
        numbers.longest_pause();
        let fault = ["kill -9", "SIGSTOP", "SIGTERM"][round % 3];
        match fault {
            "kill -9" => machines.kill_broker(leader),
            "SIGSTOP" => machines.brokers[&leader].signal(Signal::STOP),
            _ => machines.brokers.remove(&leader).unwrap().stop(),
        }
        numbers.wait_for(100);
        println!("{fault} of broker {leader}: {:?} without", numbers.longest_pause());
        match fault {
            "SIGSTOP" => machines.brokers[&leader].signal(Signal::CONT),
            _ => machines.start_broker(leader),
        }
    }
    wait_in_sync(&runtime, &cluster, "t");
    let receipts = numbers.stop(&runtime);
    check(&receipts, &runtime.block_on(read_all(&machines, "t")));
    assert_replicas_equal(&mut machines, "t", 1);
}

#[test]
fn a_zookeeper_that_dies_and_comes_back_stops_nobody() {
    let mut machines = Machines::start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    let numbers = Numbers::start(&runtime, cluster.clone(), "t");
    numbers.wait_for(100);
    wait_in_sync(&runtime, &cluster, "t");
    let before = runtime.block_on(place(&cluster, "t"));
    machines.zoo.take().unwrap().kill();
    numbers.longest_pause();
    numbers.wait_for(300);
    machines.restart_zoo();
    numbers.wait_for(300);
    println!("while mkzoo was away: {:?} without", numbers.longest_pause());
    // It knows all, and decides again.
    let leader = before.leader.unwrap();
    machines.kill_broker(leader);
    numbers.wait_for(100);
    let after = runtime.block_on(place(&cluster, "t"));
    assert!(after.leader_epoch > before.leader_epoch);
    machines.start_broker(leader);
    wait_in_sync(&runtime, &cluster, "t");
    let receipts = numbers.stop(&runtime);
    check(&receipts, &runtime.block_on(read_all(&machines, "t")));
    assert_replicas_equal(&mut machines, "t", 1);
}

#[test]
fn all_brokers_die_at_once_and_one_comes_back_without_its_data() {
    let mut machines = Machines::start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    let numbers = Numbers::start(&runtime, cluster.clone(), "t");
    numbers.wait_for(200);
    wait_in_sync(&runtime, &cluster, "t");
    for id in 1..=3 {
        machines.kill_broker(id);
    }
    std::fs::remove_dir_all(machines.data(2)).unwrap();
    for id in [2, 3, 1] {
        machines.start_broker(id);
    }
    numbers.wait_for(200);
    wait_in_sync(&runtime, &cluster, "t");
    let receipts = numbers.stop(&runtime);
    check(&receipts, &runtime.block_on(read_all(&machines, "t")));
    assert_replicas_equal(&mut machines, "t", 1);
}

/// After an incident the load is spread again, without anybody's doing and without an error.
#[test]
fn a_preferred_leader_leads_again_after_a_while() {
    let mut machines = Machines::start_with(&["leader.rebalance.hold.down.ms=500ms"]);
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    let numbers = Numbers::start(&runtime, cluster.clone(), "t");
    numbers.wait_for(100);
    let before = runtime.block_on(place(&cluster, "t"));
    let preferred = before.replicas[0];
    assert_eq!(before.leader, Some(preferred));
    machines.kill_broker(preferred);
    numbers.wait_for(100);
    assert_ne!(runtime.block_on(place(&cluster, "t")).leader, Some(preferred));
    machines.start_broker(preferred);
    numbers.longest_pause();
    wait_until("the preferred leader leads again", || {
        runtime.block_on(place(&cluster, "t")).leader == Some(preferred)
    });
    numbers.wait_for(100);
    println!("given back: {:?} without", numbers.longest_pause());
    let receipts = numbers.stop(&runtime);
    check(&receipts, &runtime.block_on(read_all(&machines, "t")));
    assert_replicas_equal(&mut machines, "t", 1);
}

/// A broker that has nothing catches up while others are being written to.
#[test]
fn a_replica_that_was_wiped_is_made_anew() {
    let mut machines = Machines::start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    let numbers = Numbers::start(&runtime, cluster.clone(), "t");
    numbers.wait_for(500);
    let leader = runtime.block_on(place(&cluster, "t")).leader.unwrap();
    for wiped in (1..=3).filter(|id| *id != leader) {
        wait_in_sync(&runtime, &cluster, "t");
        machines.kill_broker(wiped);
        wait_until("it is fenced", || {
            !runtime.block_on(place(&cluster, "t")).in_sync_replicas.contains(&wiped)
        });
        std::fs::remove_dir_all(machines.data(wiped)).unwrap();
        machines.start_broker(wiped);
    }
    wait_in_sync(&runtime, &cluster, "t");
    numbers.wait_for(100);
    let receipts = numbers.stop(&runtime);
    check(&receipts, &runtime.block_on(read_all(&machines, "t")));
    assert_replicas_equal(&mut machines, "t", 1);
}

/// Rounds of `MK_FAILOVER_ROUNDS`: how long a producer waits for its next acknowledgement.
#[test]
fn a_failed_leader_is_replaced_in_time() {
    let rounds = std::env::var("MK_FAILOVER_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds = rounds.unwrap_or(3);
    let mut machines = Machines::start();
    let runtime = Runtime::new().unwrap();
    let cluster = machines.client();
    let numbers = Numbers::start(&runtime, cluster.clone(), "t");
    numbers.wait_for(100);
    for fault in ["kill -9", "SIGSTOP", "SIGTERM"] {
        let mut pauses = Vec::new();
        for _ in 0..rounds {
            wait_in_sync(&runtime, &cluster, "t");
            let leader = runtime.block_on(place(&cluster, "t")).leader.unwrap();
            numbers.wait_for(100);
            numbers.longest_pause();
            match fault {
                "kill -9" => machines.kill_broker(leader),
                "SIGSTOP" => machines.brokers[&leader].signal(Signal::STOP),
                _ => machines.brokers.remove(&leader).unwrap().stop(),
            }
            numbers.wait_for(100);
            pauses.push(numbers.longest_pause());
            match fault {
                "SIGSTOP" => machines.brokers[&leader].signal(Signal::CONT),
                _ => machines.start_broker(leader),
            }
        }
        pauses.sort();
        println!("{fault}: median {:?}, all {pauses:?}", pauses[pauses.len() / 2]);
        assert!(pauses[pauses.len() / 2] < Duration::from_secs(1));
    }
    numbers.stop(&runtime);
}
