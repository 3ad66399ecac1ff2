//! Many partitions in few files: what is idle is closed, and opened again when it is used.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::collections::BTreeMap;

use common::{Broker, assert_clean, data_dir, wait_until};

const PARTITIONS: u64 = 300;
const RECORDS: u64 = 20_000;
/// Each log holds up to three files to append to.
const OPEN_LOGS: usize = 10;
const OPEN_FILES: usize = 20;

fn start(data: &std::path::Path) -> Broker {
    let flags = [
        format!("log.open.partitions.max={OPEN_LOGS}"),
        format!("log.open.files.max={OPEN_FILES}"),
        "log.idle.close.ms=100".to_owned(),
    ];
    let flags: Vec<&str> = flags.iter().flat_map(|flag| ["--set", flag.as_str()]).collect();
    Broker::start_with(data, "127.0.0.1:0", &flags)
}

fn open_files(broker: &Broker) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", broker.id())).unwrap().count()
}

/// A partition held six files for ever, so a few thousand of them were the end of a broker.
#[test]
#[cfg_attr(not(target_os = "linux"), ignore = "reads /proc")]
fn idle_partitions_hold_no_file() {
    let (_root, data) = data_dir();
    let broker = start(&data);
    let without_partitions = open_files(&broker);
    broker.run(&["topic", "create", "many", "-p", &PARTITIONS.to_string()]);
    let lines: String = (0..RECORDS).map(|n| format!("k{}:{n}\n", n % 5000)).collect();
    broker.run_with_input(&["produce", "many", "-K", ":"], lines.as_bytes());
    wait_until("all is closed", || open_files(&broker) <= without_partitions + 1);

    // The second half after all were closed, and on files that others need as well.
    broker.run_with_input(&["produce", "many", "-K", ":"], lines.as_bytes());
    check(&broker, 2);
    // Connections are files too; mkctl has closed its own, which the broker may learn late.
    let most = without_partitions + 2 * (3 * OPEN_LOGS + OPEN_FILES) + 10;
    assert!(open_files(&broker) <= most, "{} files are open", open_files(&broker));
    broker.kill();

    let broker = start(&data);
    check(&broker, 2);
    wait_until("all is closed", || open_files(&broker) <= without_partitions + 1);
    broker.stop();
    assert_clean(&data);
}

/// Every record is there `times` times, those of a key in order.
fn check(broker: &Broker, times: usize) {
    let found = broker.run(&["consume", "many", "-o", "start", "-e", "-f", "%k:%v\n"]);
    let mut by_key: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for line in found.lines() {
        let (key, value) = line.split_once(':').unwrap();
        by_key.entry(key).or_default().push(value.parse().unwrap());
    }
    assert_eq!(by_key.len(), 5000);
    for (key, values) in by_key {
        let first: u64 = key[1..].parse().unwrap();
        let once: Vec<u64> = (first..RECORDS).step_by(5000).collect();
        assert_eq!(values, once.repeat(times), "{key}");
    }
}
