//! When a fetch is answered: on the wire, without the client library.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
#[path = "common/wire.rs"]
mod wire;

use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Broker, data_dir};
use mk_net::fault::ErrorCode;
use mk_net::message::{Fetch, FetchPart, FetchResponse};
use uuid::Uuid;
use wire::exchange;

/// Offset, and most bytes of the part.
fn fetch(
    stream: &mut TcpStream,
    max_wait_ms: u32,
    min_bytes: u32,
    parts: &[(u64, u32)],
) -> (FetchResponse, Vec<u8>) {
    let parts = parts.iter().map(|(offset, max_bytes)| FetchPart {
        topic: "t".to_owned(),
        topic_id: Uuid::nil(),
        partition: 0,
        offset: *offset,
        max_bytes: *max_bytes,
        leader_epoch: -1,
        last_epoch: -1,
        high_watermark: 0,
    });
    let message = Fetch {
        max_wait_ms,
        min_bytes,
        max_bytes: 1 << 20,
        rack: String::new(),
        replica: None,
        reader: None,
        parts: parts.collect(),
    };
    exchange(stream, &message)
}

#[test]
fn a_fetch_is_answered_as_soon_as_waiting_cannot_help() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    for _ in 0..10 {
        broker.run_with_input(&["produce", "t", "-q"], &[b'x'; 1000]);
    }
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let long = 50_000;
    let start = Instant::now();
    // Its own limit keeps it below the minimum; once it waited until its time was up.
    let (response, payload) = fetch(&mut stream, long, 1 << 20, &[(0, 2500)]);
    assert_eq!(response.parts[0].as_ref().unwrap().length as usize, payload.len());
    assert!((2000..=2500).contains(&payload.len()), "{} bytes", payload.len());
    // The first batch comes even if it is larger than asked for; the second part gets nothing.
    let (response, payload) = fetch(&mut stream, long, 1, &[(3, 1), (3, 1)]);
    let lengths: Vec<u32> =
        response.parts.iter().map(|part| part.as_ref().unwrap().length).collect();
    assert!(payload.len() > 1000 && lengths[0] as usize + lengths[1] as usize == payload.len());
    // A part that fails is told at once, beside one that would wait.
    let (response, _) = fetch(&mut stream, long, 1, &[(10, 1), (99, 1)]);
    assert!(response.parts[0].is_ok());
    let fault = response.parts[1].as_ref().unwrap_err();
    assert_eq!(fault.code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert!(start.elapsed() < Duration::from_secs(30));
    // With nothing to say, it waits as long as it was told to.
    let start = Instant::now();
    let (response, payload) = fetch(&mut stream, 200, 1, &[(10, 1)]);
    assert!(start.elapsed() >= Duration::from_millis(199));
    assert!(payload.is_empty() && response.parts[0].as_ref().unwrap().high_watermark == 10);
}
