//! A partition that has lost records which were safe is served up to the loss, takes nothing more,
//! and disturbs nobody.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::fs;

use common::{Broker, data_dir, with_input};

#[test]
fn a_damaged_partition_is_read_up_to_the_damage_and_the_others_are_served() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let lines: String = (0..1000).map(|n| format!("{n}\n")).collect();
    for topic in ["harmed", "whole"] {
        // In batches of a few records, so that something is left before the damage.
        for chunk in lines.as_bytes().chunks(500) {
            broker.run_with_input(&["produce", topic], chunk);
        }
    }
    let read = |broker: &Broker, topic| broker.run(&["consume", topic, "-o", "start", "-e"]);
    let before = read(&broker, "harmed");
    let whole = read(&broker, "whole");
    broker.stop();
    let log = data.join("topics/harmed/0/00000000000000000000.log");
    let length = fs::metadata(&log).unwrap().len();
    fs::OpenOptions::new().write(true).open(&log).unwrap().set_len(length / 2).unwrap();

    for _ in 0..2 {
        let broker = Broker::start(&data);
        assert!(broker.ready_line().contains("(1 damaged)"), "{}", broker.ready_line());
        let left = read(&broker, "harmed");
        assert!(left.len() > before.len() / 3 && left.len() < before.len());
        assert!(before.starts_with(&left));
        let refused =
            with_input(broker.ctl(&["produce", "harmed", "--delivery-timeout", "1s"]), b"more\n");
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("00000000000000000000.log is damaged at byte"), "{said}");
        assert!(broker.run(&["topic", "describe", "harmed"]).contains("is damaged at byte"));
        assert_eq!(read(&broker, "whole"), whole);
        broker.run_with_input(&["produce", "other"], b"x\n");
        broker.stop();
        assert_eq!(fs::metadata(&log).unwrap().len(), length / 2, "nothing was cut");
    }
}
