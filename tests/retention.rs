//! Records go when they are too old or too many, and stay in the trash for a while.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::fs;
use std::path::Path;

use common::{Broker, assert_clean, data_dir, wait_until};

fn start(data: &Path, more: &[&str]) -> Broker {
    let mut flags = vec!["--set", "log.segment.bytes=64KiB"];
    flags.extend(["--set", "log.retention.check.interval.ms=100"]);
    flags.extend(more);
    Broker::start_with(data, "127.0.0.1:0", &flags)
}

fn produce(broker: &Broker, topic: &str) {
    let lines: String = (0..3000).map(|n| format!("record number {n} of a test\n")).collect();
    for chunk in lines.repeat(5).as_bytes().chunks(28_000) {
        broker.run_with_input(&["produce", topic], chunk);
    }
}

fn described(broker: &Broker, topic: &str) -> serde_json::Value {
    let text = broker.run(&["topic", "describe", topic, "--json"]);
    let topics: serde_json::Value = serde_json::from_str(&text).unwrap();
    let topic = if topics.is_array() { &topics[0] } else { &topics };
    topic["partitions"][0].clone()
}

fn trash(data: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(data.join("trash")) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn by_size_the_oldest_segments_go_and_their_readers_finish() {
    let (_root, data) = data_dir();
    let broker = start(&data, &[]);
    produce(&broker, "t");
    let all = broker.run(&["consume", "t", "-o", "start", "-e"]);
    let before = described(&broker, "t");
    let dry =
        broker.run_with_input(&["config", "set", "t", "retention.bytes=150KiB", "--dry-run"], b"");
    let told = String::from_utf8(dry.stderr).unwrap();
    assert!(told.contains("would remove") && told.contains("the log would begin at"), "{told}");
    assert_eq!(described(&broker, "t"), before, "a dry run changes nothing");

    broker.run(&["config", "set", "-y", "t", "retention.bytes=150KiB"]);
    wait_until("the oldest segments are gone", || described(&broker, "t")["start"] != 0);
    let after = described(&broker, "t");
    assert!(told.contains(&format!("begin at {}", after["start"])), "{told} {after}");
    assert!(after["bytes"].as_u64().unwrap() >= 150 << 10);
    assert_eq!(after["end"], before["end"]);
    let left = broker.run(&["consume", "t", "-o", "start", "-e"]);
    assert!(all.ends_with(&left) && left.len() < all.len());
    wait_until("they are in the trash", || {
        trash(&data).iter().any(|name| name.starts_with("t-0."))
    });
    broker.stop();
    assert_clean(&data);
}

#[test]
fn by_age_everything_goes_and_offsets_go_on() {
    let (_root, data) = data_dir();
    let broker = start(&data, &["--set", "log.segment.delete.delay.ms=200"]);
    produce(&broker, "t");
    let end = described(&broker, "t")["end"].clone();
    broker.run(&["config", "set", "-y", "t", "retention.ms=1"]);
    // The log starts at its end a moment before its segments are gone.
    wait_until("all is gone", || {
        let now = described(&broker, "t");
        now["start"] == end && now["bytes"] == 0
    });
    broker.run(&["config", "set", "t", "retention.ms=-1"]);
    broker.run_with_input(&["produce", "t"], b"more\n");
    let offset = broker.run(&["consume", "t", "-o", "start", "-e", "-f", "%o %v\n"]);
    assert_eq!(offset, format!("{end} more\n"));
    wait_until("the trash is empty", || trash(&data).is_empty());
    broker.kill();
    let broker = start(&data, &[]);
    assert_eq!(described(&broker, "t")["start"], end);
    assert_eq!(broker.run(&["consume", "t", "-o", "start", "-e"]), "more\n");
}

/// Append to a partition that had closed its files opened them by their name; by then the name
/// could belong to another topic.
#[test]
fn a_topic_made_again_under_the_same_name_is_another() {
    let (_root, data) = data_dir();
    let broker = start(&data, &["--set", "log.idle.close.ms=100"]);
    for round in 0..5 {
        broker.run_with_input(&["produce", "t"], format!("round {round}\n").as_bytes());
        assert_eq!(broker.run(&["consume", "t", "-o", "start", "-e"]), format!("round {round}\n"));
        broker.run(&["topic", "delete", "-y", "t"]);
    }
    let buried = trash(&data);
    assert_eq!(buried.iter().filter(|name| name.starts_with("t.")).count(), 5, "{buried:?}");
    broker.stop();
}
