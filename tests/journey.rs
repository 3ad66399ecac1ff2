//! A record's journey: in through `mkctl produce`, out through `mkctl consume`, the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use common::{Broker, assert_clean, data_dir, with_input};

fn numbers(count: u32) -> String {
    let mut lines = String::new();
    for n in 1..=count {
        writeln!(lines, "{n}").unwrap();
    }
    lines
}

#[test]
fn a_million_lines_come_out_as_they_went_in_and_survive_restarts() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let input = numbers(1_000_000);
    let output = broker.run_with_input(&["produce", "numbers"], input.as_bytes());
    let summary = String::from_utf8(output.stderr).unwrap();
    assert!(summary.contains("1000000 records"), "{summary}");
    assert!(summary.contains("durability: disk"), "{summary}");
    assert!(broker.run(&["consume", "numbers", "-o", "start", "-e"]) == input);
    assert_clean(&data);
    broker.stop();
    assert_clean(&data);
    let broker = Broker::start(&data);
    assert!(broker.ready_line().contains("after a clean stop"), "{}", broker.ready_line());
    assert!(broker.ready_line().contains(" 0 bytes scanned"), "{}", broker.ready_line());
    assert!(broker.run(&["cat", "numbers"]) == input);
    broker.kill();
    let broker = Broker::start(&data);
    assert!(broker.ready_line().contains("after a crash"), "{}", broker.ready_line());
    assert!(broker.run(&["cat", "numbers"]) == input);
}

#[test]
fn eight_partitions_keep_the_order_of_every_key() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run(&["topic", "create", "keyed", "-p", "8"]);
    let keys = 1000;
    let mut input = String::new();
    for n in 0..200_000 {
        writeln!(input, "key{}:{}", n % keys, n / keys).unwrap();
    }
    broker.run_with_input(&["produce", "keyed", "-K", ":", "-z", "lz4"], input.as_bytes());
    let output = broker.run(&["consume", "keyed", "-o", "start", "-e", "-f", "%p %k %v\\n"]);
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    let mut partitions: BTreeMap<String, u32> = BTreeMap::new();
    for line in output.lines() {
        let [partition, key, value]: [&str; 3] =
            line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let expected = next.entry(key.to_owned()).or_default();
        assert_eq!(value.parse::<u64>().unwrap(), *expected, "{line}");
        *expected += 1;
        let partition = partition.parse().unwrap();
        assert_eq!(*partitions.entry(key.to_owned()).or_insert(partition), partition, "{line}");
        assert_eq!(partition, mk::client::partition_of_key(key.as_bytes(), 8), "{line}");
    }
    assert!(next.len() == keys && next.values().all(|count| *count == 200));
    // A topic grows while it is in use, and keyless records spread.
    broker.run(&["topic", "add-partitions", "-y", "keyed", "12"]);
    broker.run_with_input(&["produce", "keyed", "-p", "11"], b"late\n");
    let late = broker.run(&["consume", "keyed", "-p", "11", "-o", "start", "-e"]);
    assert_eq!(late, "late\n");
    assert_clean(&data);
}

/// The files that git tracks here; all of cargo's registry as well, if MK_TEST_REGISTRY is set.
fn real_files() -> Vec<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let tracked = Command::new("git").args(["ls-files", "-z"]).current_dir(&root).output();
    let mut files: Vec<PathBuf> = match tracked {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)
            .unwrap()
            .split_terminator('\0')
            .map(|name| root.join(name))
            .filter(|path| path.is_file())
            .collect(),
        _ => {
            println!("git does not list the files here; the sources are taken instead");
            vec![root.join("Cargo.toml"), root.join("Cargo.lock"), root.join("src/lib.rs")]
        }
    };
    if let Ok(registry) = std::env::var("MK_TEST_REGISTRY") {
        let mut folders = vec![PathBuf::from(registry)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                let kind = entry.file_type().unwrap();
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() && entry.metadata().unwrap().len() <= 1 << 20 {
                    files.push(entry.path());
                }
            }
        }
    }
    files.sort();
    files
}

/// MK_TEST_REGISTRY=~/.cargo/registry/src takes the sources of all dependencies as well.
#[test]
fn real_files_survive_json_there_and_back() {
    let (root, data) = data_dir();
    let broker = Broker::start(&data);
    let files = real_files();
    let contents: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let bytes: usize = contents.iter().map(Vec::len).sum();
    println!("{} files, {bytes} bytes", files.len());
    for some in files.chunks(500) {
        let mut command = broker.ctl(&["produce", "files", "--whole", "-q", "-z", "zstd"]);
        assert!(command.args(some).status().unwrap().success());
    }
    // Out as JSON, in again from it, and out as raw bytes.
    let lines = broker.run(&["consume", "files", "-o", "start", "-e", "-J"]);
    assert_eq!(lines.lines().count(), files.len());
    let path = root.path().join("lines.json");
    std::fs::write(&path, &lines).unwrap();
    broker.run(&["produce", "copies", "--json", path.to_str().unwrap()]);
    for (index, content) in contents.iter().enumerate().step_by(1 + files.len() / 50) {
        let offset = index.to_string();
        let arguments = ["consume", "copies", "-o", &offset, "-n", "1", "-f", "%v"];
        let copy = broker.run_with_input(&arguments, b"").stdout;
        assert!(copy == *content, "{}", files[index].display());
    }
    let all = broker.run_with_input(&["consume", "copies", "-o", "start", "-e", "-f", "%v"], b"");
    assert!(all.stdout == contents.concat());
    assert_clean(&data);
}

#[test]
fn random_bytes_in_records_of_a_megabyte_survive_lz4() {
    let (root, data) = data_dir();
    let broker = Broker::start(&data);
    // Bytes that cannot be packed: a linear congruence, its upper byte.
    let mut state = 1u64;
    let mut random = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let parts: Vec<Vec<u8>> = (0..20).map(|_| (0..1 << 20).map(|_| random()).collect()).collect();
    let paths: Vec<PathBuf> = (0..20).map(|n| root.path().join(format!("part{n:02}"))).collect();
    for (path, part) in paths.iter().zip(&parts) {
        std::fs::write(path, part).unwrap();
    }
    let mut command = broker.ctl(&["produce", "random", "--whole", "-q", "-z", "lz4"]);
    assert!(command.args(&paths).status().unwrap().success());
    let out = broker.run_with_input(&["consume", "random", "-o", "start", "-e", "-f", "%v"], b"");
    assert!(out.stdout == parts.concat());
}

#[test]
fn a_follower_sees_records_as_they_come() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run(&["topic", "create", "news", "-p", "3"]);
    let mut follower = broker.ctl(&["consume", "news", "-o", "start", "-n", "3", "-f", "%v\\n"]);
    let follower = follower.stdout(std::process::Stdio::piped()).spawn().unwrap();
    for n in 0..3 {
        broker.run_with_input(&["produce", "news", "-p", &n.to_string()], b"x\n");
    }
    let output = follower.wait_with_output().unwrap();
    assert!(output.status.success());
    assert_eq!(output.stdout, b"x\nx\nx\n");
}

#[test]
fn consuming_creates_the_topic_too() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    assert_eq!(broker.run(&["consume", "fresh", "-o", "start", "-e"]), "");
    assert!(broker.run(&["topic", "list"]).starts_with("fresh\t1\t0\t"));
    // And nobody who must not.
    let output = with_input(broker.ctl(&["offsets", "other"]), b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(!broker.run(&["topic", "list"]).contains("other"));
    broker.stop();
    let broker =
        Broker::start_with(&data, "127.0.0.1:0", &["--set", "auto.create.topics.enable=false"]);
    let output = with_input(broker.ctl(&["produce", "no"]), b"x\n");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}
