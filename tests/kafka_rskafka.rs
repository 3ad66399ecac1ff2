//! rskafka, a client of Kafka's that is written in Rust and not by us, against a broker. tests/clients has the
//! cases, for it and for thirteen more that need other things than Rust.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

#[allow(dead_code, reason = "the other client uses the rest")]
#[path = "clients/rust/src/cases.rs"]
mod cases;
#[path = "clients/rust/src/pure.rs"]
mod pure;

use common::{Broker, data_dir};
use rskafka::client::partition::Compression;
use tokio::runtime::Runtime;

const CODECS: [(&str, Compression); 3] = [
    ("none", Compression::NoCompression),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
];

fn run(case: &str) {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let ended = Runtime::new().unwrap().block_on(pure::run(case, broker.address(), case, &CODECS));
    ended.unwrap();
    broker.stop();
}

#[test]
fn what_a_codec_has_packed_is_read_back() {
    run("codecs");
}

#[test]
fn reading_begins_at_either_end_in_a_batch_or_at_a_time() {
    run("offsets");
}

#[test]
fn headers_and_what_is_null_or_empty_come_back() {
    run("fields");
}

#[test]
fn a_large_record_comes_back() {
    run("large");
}

#[test]
fn topics_are_made_and_deleted_and_records_are() {
    run("admin");
}
