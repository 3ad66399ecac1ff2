//! Closed segments are sealed, need no look at the next start, and are checked in the background.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use common::{Broker, assert_clean, data_dir, wait_until};

fn start(data: &Path) -> Broker {
    let flags = ["log.segment.bytes=64KiB", "log.scrub.interval.ms=1s", "num.network.threads=1"];
    let flags: Vec<&str> = flags.iter().flat_map(|flag| ["--set", *flag]).collect();
    Broker::start_with(data, "127.0.0.1:0", &flags)
}

fn files(data: &Path, ending: &str) -> Vec<PathBuf> {
    let dir = fs::read_dir(data.join("topics/t/0")).unwrap();
    let paths = dir.map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|found| found == ending)).collect();
    files.sort();
    files
}

fn produce(broker: &Broker) {
    let lines: String = (0..3000).map(|n| format!("record number {n} of a test\n")).collect();
    broker.run_with_input(&["produce", "t"], lines.repeat(5).as_bytes());
}

fn damage(broker: &Broker) -> Option<String> {
    let described = broker.run(&["topic", "describe", "t", "--json"]);
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    let topic = if described.is_array() { &described[0] } else { &described };
    topic["partitions"][0]["damage"].as_str().map(str::to_owned)
}

#[test]
fn a_flipped_bit_in_a_sealed_segment_is_found_and_told() {
    let (_root, data) = data_dir();
    let broker = start(&data);
    produce(&broker);
    wait_until("all closed segments are sealed", || {
        files(&data, "log").len() > 3 && files(&data, "seal").len() + 1 == files(&data, "log").len()
    });
    assert_eq!(damage(&broker), None);

    let second = &files(&data, "log")[1];
    let file = fs::OpenOptions::new().read(true).write(true).open(second).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 1000).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 1000).unwrap();
    wait_until("the damage is found", || damage(&broker).is_some());
    let found = damage(&broker).unwrap();
    assert!(found.contains(&*second.to_string_lossy()) && found.contains("at byte"), "{found}");

    file.write_all_at(&byte, 1000).unwrap();
    broker.stop();
    assert_clean(&data);
}

/// A start reads the seals, and none of what they vouch for.
#[test]
fn sealed_segments_are_not_looked_at_by_a_start() {
    let (_root, data) = data_dir();
    let broker = start(&data);
    produce(&broker);
    wait_until("all closed segments are sealed", || {
        files(&data, "seal").len() + 1 == files(&data, "log").len()
    });
    let before = broker.run(&["consume", "t", "-o", "start", "-e"]);
    broker.stop();
    // Nobody could open this segment if he looked into it; its length is right.
    let second = &files(&data, "log")[1];
    let content = fs::read(second).unwrap();
    fs::write(second, vec![0xff; content.len()]).unwrap();
    let broker = start(&data);
    assert!(broker.ready_line().contains(" 0 bytes scanned"), "{}", broker.ready_line());
    wait_until("the damage is found", || damage(&broker).is_some());
    broker.stop();

    // Without seals the indexes tell as much, and everything is sealed again.
    fs::write(second, content).unwrap();
    for seal in files(&data, "seal") {
        fs::remove_file(seal).unwrap();
    }
    let broker = start(&data);
    assert!(broker.ready_line().contains(" 0 bytes scanned"), "{}", broker.ready_line());
    assert_eq!(broker.run(&["consume", "t", "-o", "start", "-e"]), before);
    wait_until("all closed segments are sealed", || {
        files(&data, "seal").len() + 1 == files(&data, "log").len()
    });
    broker.stop();
    assert_clean(&data);
}
