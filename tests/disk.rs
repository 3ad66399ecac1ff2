//! A disk that is full, or refuses to be written to: the broker lives, serves what it has, and says
//! what is wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
#[path = "common/volume.rs"]
mod volume;

use std::path::Path;
use std::process::Output;

use common::{Broker, assert_clean, wait_until, with_input};
use volume::{Volume, fill, remove};

const MIB: u64 = 1 << 20;

fn start(data: &Path, reserve: &str) -> Broker {
    let reserve = format!("log.disk.reserve.bytes={reserve}");
    let flags = ["--set", &reserve, "--set", "log.segment.bytes=4MiB"];
    let more = ["--set", "log.segment.delete.delay.ms=0"];
    let flags: Vec<&str> = flags.into_iter().chain(more).collect();
    Broker::start_with(data, "127.0.0.1:0", &flags)
}

/// Produces lines of 1000 bytes from `first` on; answers what mkctl said.
fn produce(broker: &Broker, topic: &str, first: u64, lines: u64) -> Output {
    let text: String = (first..first + lines).map(|n| format!("{n:01000}\n")).collect();
    let command = broker.ctl(&["produce", topic, "--delivery-timeout", "2s"]);
    with_input(command, text.as_bytes())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Produces until the disk is full; answers how many lines were acknowledged for certain.
fn produce_until_refused(broker: &Broker, topic: &str) -> u64 {
    let mut acknowledged = 0;
    loop {
        let output = produce(broker, topic, acknowledged, 1000);
        if !output.status.success() {
            assert!(
                said(&output).contains("room") || said(&output).contains("space"),
                "{output:?}"
            );
            return acknowledged;
        }
        acknowledged += 1000;
    }
}

/// The first lines of a topic are those that were acknowledged.
fn assert_has(broker: &Broker, topic: &str, from: &str, acknowledged: std::ops::Range<u64>) {
    let text = broker.run(&["consume", topic, "-o", from, "-e"]);
    // Lines of a produce that was refused in its middle may be there twice.
    let mut next = acknowledged.start;
    for line in text.lines() {
        next += u64::from(line.parse() == Ok(next));
    }
    assert!(next >= acknowledged.end, "line {next} is missing");
}

#[test]
fn a_full_disk_refuses_records_and_nothing_else() {
    let Some(volume) = Volume::mount(64) else { return };
    let data = volume.path().join("data");
    let broker = start(&data, "16MiB");
    broker.run(&["topic", "create", "big", "small"]);
    produce(&broker, "small", 0, 1);
    let acknowledged = produce_until_refused(&broker, "big");
    assert!(acknowledged > 20_000, "{acknowledged} lines of about 40,000 that have room");
    assert!(volume.free() >= 15 * MIB, "{} bytes are free, 16 MiB are kept", volume.free());
    let refused = produce(&broker, "big", acknowledged, 1000);
    assert!(said(&refused).contains("log.disk.reserve.bytes"), "{}", said(&refused));

    // Everything else goes on.
    assert_has(&broker, "big", "start", 0..acknowledged);
    broker.run(&["topic", "create", "made-meanwhile"]);
    broker.run(&["topic", "delete", "-y", "made-meanwhile"]);
    broker.run(&["config", "set", "small", "retention.ms=1h"]);
    broker.stop();
    let broker = start(&data, "16MiB");
    assert!(broker.ready_line().contains("after a clean stop"), "{}", broker.ready_line());
    assert_has(&broker, "big", "start", 0..acknowledged);

    // With room again records are taken again.
    broker.run(&["topic", "trim", "-y", "big", "--before", &(acknowledged / 2).to_string()]);
    wait_until("there is room", || volume.free() >= 24 * MIB);
    wait_until("records are taken", || {
        produce(&broker, "big", acknowledged, 1000).status.success()
    });
    assert_has(&broker, "big", "start", acknowledged / 2..acknowledged + 1000);
    broker.stop();
    assert_clean(&data);
}

#[test]
fn a_disk_that_others_fill_to_the_last_byte_is_an_error_and_no_signal() {
    let Some(volume) = Volume::mount(48) else { return };
    let data = volume.path().join("data");
    let broker = start(&data, "0B");
    broker.run(&["topic", "create", "t"]);
    assert!(produce(&broker, "t", 0, 1000).status.success());
    let filler = fill(&volume, 0);
    let acknowledged = 1000 + produce_until_refused_from(&broker, 1000);
    assert_has(&broker, "t", "start", 0..acknowledged);
    remove(&filler);
    wait_until("records are taken", || produce(&broker, "t", acknowledged, 1000).status.success());
    assert_has(&broker, "t", "start", 0..acknowledged + 1000);
    broker.kill();
    let broker = start(&data, "0B");
    assert_has(&broker, "t", "start", 0..acknowledged + 1000);
    broker.stop();
    assert_clean(&data);
}

fn produce_until_refused_from(broker: &Broker, first: u64) -> u64 {
    let mut acknowledged = 0;
    while produce(broker, "t", first + acknowledged, 100).status.success() {
        acknowledged += 100;
    }
    acknowledged
}

/// A store through a map to a volume that has turned read-only is SIGBUS, the end of every
/// partition of the process.
#[test]
fn a_volume_that_turns_read_only_sets_its_partitions_aside() {
    let Some(volume) = Volume::mount(48) else { return };
    let data = volume.path().join("data");
    let broker = start(&data, "0B");
    broker.run(&["topic", "create", "t"]);
    assert!(produce(&broker, "t", 0, 1000).status.success());
    volume.turn_read_only();
    for _ in 0..3 {
        let refused = produce(&broker, "t", 1000, 10);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        assert!(said(&refused).contains("takes no more records"), "{}", said(&refused));
    }
    assert!(broker.run(&["topic", "describe", "t"]).contains("takes no more records"));
    assert_has(&broker, "t", "start", 0..1000);
    assert!(broker.run(&["cluster", "info"]).contains(broker.address()));
    broker.kill();
}
