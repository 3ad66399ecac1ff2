//! Frames and messages. `cargo bench --bench codec`.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on must fail")]

mod common;

use std::hint::black_box;

use common::{batch_of, fetch_frame, produce_frame};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mk_net::codec::decode;
use mk_net::deframer::{Deframer, Incoming};
use mk_net::envelope::response;
use mk_net::frame::{FrameHeader, HEADER_LEN};
use mk_net::message::{Appended, Durability, Fetch, Produce, ProduceResponse};

fn frames(c: &mut Criterion) {
    let frame = fetch_frame("a-topic", 123_456, 1 << 20);
    let header = FrameHeader::parse(frame.first_chunk::<HEADER_LEN>().unwrap(), 1 << 20).unwrap();
    c.bench_function("parse a header", |b| {
        b.iter(|| FrameHeader::parse(black_box(frame.first_chunk().unwrap()), 1 << 20).unwrap());
    });
    c.bench_function("decode a fetch", |b| {
        b.iter(|| decode::<Fetch>(black_box(&frame[HEADER_LEN..])).unwrap());
    });
    let appended = Appended {
        base_offset: 7,
        log_append_time_ms: -1,
        log_start_offset: 0,
        durability: Durability::Disk,
    };
    let answer = ProduceResponse { parts: vec![Ok(appended)] };
    c.bench_function("encode a produce response", |b| {
        b.iter(|| response(black_box(&header), &answer, 0));
    });
}

/// From the bytes of the stream to decoded requests.
fn deframe(c: &mut Criterion) {
    let mut group = c.benchmark_group("deframe produce requests");
    for size in [100, 64 << 10] {
        let stream = produce_frame("a-topic", 1, &batch_of(size)).repeat(20);
        group.throughput(Throughput::Bytes(stream.len() as u64));
        group.bench_function(size.to_string(), |b| {
            let mut deframer = Deframer::new(1 << 20);
            b.iter(|| {
                let mut rest = &stream[..];
                while !rest.is_empty() {
                    let space = deframer.space();
                    let count = space.len().min(rest.len());
                    space[..count].copy_from_slice(&rest[..count]);
                    deframer.filled(count);
                    rest = &rest[count..];
                    while let Some(Incoming::Own(frame)) = deframer.take_next().unwrap() {
                        black_box(decode::<Produce>(frame.fields).unwrap());
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, frames, deframe);
criterion_main!(benches);
