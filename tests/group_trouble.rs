//! Why a partition does not get on, and how far behind it is: told by `mkctl group describe`, against what is
//! known.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Broker, data_dir, wait_until};
use mk::client::{
    Acknowledge, Cluster, ClusterSettings, GroupConsumer, GroupSettings, Producer, ProducerRecord,
    ProducerSettings,
};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

const SESSION: [&str; 4] = [
    "--set",
    "group.consumer.session.timeout.ms=2s",
    "--set",
    "group.consumer.heartbeat.interval.ms=300ms",
];

fn client(broker: &Broker) -> Cluster {
    Cluster::new(vec![broker.address().to_owned()], ClusterSettings::default())
}

fn produce(broker: &Broker, lines: u64) {
    let input: String = (0..lines).map(|n| format!("{n}\n")).collect();
    assert!(broker.run_with_input(&["produce", "orders"], input.as_bytes()).status.success());
}

/// What is told of the only partition.
fn told(broker: &Broker) -> BTreeMap<String, Value> {
    let text = broker.run(&["group", "describe", "billing", "-J"]);
    serde_json::from_str(text.lines().next().unwrap_or("{}")).unwrap()
}

fn trouble(broker: &Broker) -> String {
    let told = told(broker);
    told.get("trouble").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn by_hand() -> GroupSettings {
    GroupSettings { acknowledge: Acknowledge::ByHand, ..GroupSettings::of("billing") }
}

/// A program that hung was not told of: what it had not asked for was fetched in the background all the same.
#[test]
fn a_program_that_hangs_and_one_that_has_paused_are_told() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let broker = Broker::start_with(&data, "127.0.0.1:0", &SESSION);
    produce(&broker, 100);
    let cluster = client(&broker);
    let mut member = runtime.block_on(async {
        let mut member = GroupConsumer::join(cluster, by_hand(), &["orders"]);
        let batches = member.next().await.unwrap();
        assert!(member.acknowledge_before("orders", 0, 40));
        member.commit().await.unwrap();
        assert!(!member.pause("nothing", 0).unwrap(), "it does not read that");
        assert!(member.pause("orders", 0).unwrap());
        assert_eq!(batches.next_offset, 100);
        member
    });
    wait_until("it is told that it has paused", || trouble(&broker) == "its member has paused it");
    assert!(member.resume("orders", 0).unwrap());
    wait_until("it is told that it does not ask", || trouble(&broker).contains("has not asked"));
    let hung = told(&broker);
    assert!(hung["trouble"].as_str().unwrap().ends_with("with 60 unacknowledged"), "{hung:?}");
    let (polled, heard) = (hung["polled_ms"].as_u64().unwrap(), hung["heard_ms"].as_u64().unwrap());
    assert!(polled > 15_000 && heard < 2_000, "{hung:?}");
    // It asks again.
    runtime.block_on(async {
        let asked = tokio::time::timeout(Duration::from_millis(200), member.next()).await;
        assert!(asked.is_err(), "there is nothing more");
    });
    wait_until("it is told no more", || trouble(&broker).is_empty());
    runtime.block_on(async { member.close().await.unwrap() });
    broker.stop();
}

#[test]
fn a_record_that_is_given_out_again_and_again_is_told() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let broker = Broker::start_with(&data, "127.0.0.1:0", &SESSION);
    produce(&broker, 100);
    for _ in 0..3 {
        // It takes the record, and dies of it.
        let cluster = client(&broker);
        runtime.block_on(async {
            let mut member = GroupConsumer::join(cluster, by_hand(), &["orders"]);
            member.next().await.unwrap();
            member.acknowledge_before("orders", 0, 40);
            member.commit().await.unwrap();
        });
    }
    let member = runtime.block_on(async {
        let mut member = GroupConsumer::join(client(&broker), by_hand(), &["orders"]);
        member.next().await.unwrap();
        member
    });
    let expected = "record 40 was given out 3 times and not acknowledged";
    wait_until("it is told", || trouble(&broker) == expected);
    runtime.block_on(async {
        member.acknowledge_before("orders", 0, 41);
        member.commit().await.unwrap();
        assert!(trouble(&broker).is_empty(), "it gets on");
        member.close().await.unwrap();
    });
    broker.stop();
}

/// A broker that was told to stop waited for what its clients waited for, a member's heartbeat and a look at
/// topics, and its leaderships were elsewhere long before.
#[test]
fn a_broker_stops_at_once_whoever_waits_for_it() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    // Long enough that a busy machine is not taken for a broker that waits.
    let interval = "group.consumer.heartbeat.interval.ms=30s";
    let session = "group.consumer.session.timeout.ms=2m";
    let broker = Broker::start_with(&data, "127.0.0.1:0", &["--set", interval, "--set", session]);
    produce(&broker, 100);
    let mut member = runtime.block_on(async {
        let mut member = GroupConsumer::join(client(&broker), by_hand(), &["orders"]);
        member.next().await.unwrap();
        member
    });
    let waiting = runtime.spawn(async move { member.next().await.map(drop) });
    wait_until("it waits", || {
        let told = told(&broker);
        told.get("heard_ms").and_then(Value::as_u64).is_some_and(|ms| ms > 100)
    });
    let begin = Instant::now();
    broker.stop();
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    waiting.abort();
}

#[test]
fn records_that_were_deleted_too_early_are_told() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let broker = Broker::start_with(&data, "127.0.0.1:0", &SESSION);
    produce(&broker, 100);
    runtime.block_on(async {
        let mut member = GroupConsumer::join(client(&broker), by_hand(), &["orders"]);
        member.next().await.unwrap();
        member.acknowledge_before("orders", 0, 40);
        member.close().await.unwrap();
    });
    broker.run(&["topic", "trim", "orders", "--partition", "0", "--before", "50", "-y"]);
    assert_eq!(trouble(&broker), "records were deleted before they were acknowledged");
    broker.stop();
}

/// Sends fifty records a second until nobody listens; of each, when it was made.
async fn send_fifty_a_second(cluster: Cluster, made: mpsc::UnboundedSender<i64>) {
    let producer = Producer::new(cluster, ProducerSettings::default());
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
        let record = ProducerRecord {
            topic: "orders".into(),
            value: Some("x".into()),
            timestamp_ms: Some(now_ms),
            ..ProducerRecord::default()
        };
        producer.send(record).await.unwrap();
        if made.send(now_ms).is_err() {
            return producer.close().await;
        }
    }
}

/// A consumer that is slow on purpose: the age of the first record that it is not done with is known, and so is
/// how fast it gets on.
#[test]
fn what_is_told_of_a_slow_consumer_is_what_it_knows_itself() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let broker = Broker::start_with(&data, "127.0.0.1:0", &SESSION);
    runtime.block_on(async {
        let (made, mut known) = mpsc::unbounded_channel();
        let sending = tokio::spawn(send_fifty_a_second(client(&broker), made));
        let mut member = GroupConsumer::join(client(&broker), by_hand(), &["orders"]);
        let mut times = vec![known.recv().await.unwrap()];
        let (mut delivered, mut done, begin) = (0, 0, Instant::now());
        println!("second  behind: told, truth (ms)  lag    in  out  drained in");
        for second in 1..=12 {
            tokio::time::sleep_until((begin + Duration::from_secs(second)).into()).await;
            // Half as fast as they come; then faster, so that it will be done before long.
            done += if second <= 6 { 25 } else { 65 };
            while delivered < done {
                delivered = member.next().await.unwrap().next_offset;
            }
            assert!(member.acknowledge_before("orders", 0, done));
            member.commit().await.unwrap();
            let asked = SystemTime::now();
            let row = told(&broker);
            while let Ok(made) = known.try_recv() {
                times.push(made);
            }
            let first = UNIX_EPOCH + Duration::from_millis(times[done as usize] as u64);
            let least = asked.duration_since(first).unwrap().as_millis() as u64;
            let most = first.elapsed().unwrap().as_millis() as u64;
            let number = |name: &str| row[name].as_u64().unwrap();
            let (behind, lag) = (number("behind_ms"), number("lag"));
            let (came, went) = (number("in_per_second"), number("out_per_second"));
            let drained = row["drained_in_seconds"].as_f64();
            println!(
                "{second:6}  {behind:12}, {least:5} to {most:5}  {lag:3}  {came:4}  {went:3}  {drained:?}"
            );
            assert!((least..=most + 1).contains(&(behind + 1)), "{row:?}");
            if second == 6 {
                assert!((40..=60).contains(&came) && (18..=26).contains(&went), "{row:?}");
                assert_eq!(drained, None, "more comes than goes");
            }
        }
        let row = told(&broker);
        let number = |name: &str| row[name].as_f64().unwrap();
        let (came, went) = (number("in_per_second"), number("out_per_second"));
        let drained = number("lag") / (went - came);
        assert!((number("drained_in_seconds") - drained).abs() < 0.01, "{row:?}");
        drop(known);
        sending.await.unwrap();
        member.close().await.unwrap();
    });
    broker.stop();
}
