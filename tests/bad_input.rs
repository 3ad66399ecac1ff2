//! Whatever comes in on the wire: a typed error or a closed connection, the others served, the log
//! unharmed, memory bounded.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use common::{Broker, assert_clean, data_dir, with_input};
use mk_net::codec::{Wire, decode, encode};
use mk_net::envelope::request;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::frame::{FrameHeader, HEADER_LEN};
use mk_net::message::{
    CreateTopics, CreateTopicsResponse, DescribeTopics, Kind, NewTopic, Produce, ProducePart,
    ProduceResponse, Request,
};
use mk_storage::Timestamp;
use mk_storage::batch::{BatchBuilder, Compression, RecordFields};
use uuid::Uuid;

fn connect(broker: &Broker) -> TcpStream {
    let stream = TcpStream::connect(broker.address()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

fn answer(stream: &mut TcpStream) -> (FrameHeader, Vec<u8>) {
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head).unwrap();
    let header = FrameHeader::parse(&head, 1 << 20).unwrap();
    let mut body = vec![0; header.body_len()];
    stream.read_exact(&mut body).unwrap();
    (header, body)
}

fn fault(stream: &mut TcpStream) -> Fault {
    let (header, body) = answer(stream);
    assert!(header.failed);
    decode(&body).unwrap()
}

fn is_closed(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0]), Ok(count) if count > 0)
}

fn batch(value: &[u8]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp(1), &RecordFields { value: Some(value), ..Default::default() });
    builder.finish().unwrap()
}

/// Produces these bytes as a batch.
fn produce(stream: &mut TcpStream, topic: &str, bytes: &[u8]) -> Result<u64, Fault> {
    let part = ProducePart {
        topic: topic.to_owned(),
        topic_id: Uuid::nil(),
        partition: 0,
        length: bytes.len() as u32,
    };
    let message = Produce { acks: -1, timeout_ms: 10_000, parts: vec![part] };
    stream.write_all(&request(1, &message, bytes.len())).unwrap();
    stream.write_all(bytes).unwrap();
    let (header, body) = answer(stream);
    assert!(!header.failed, "{:?}", decode::<Fault>(&body));
    let mut response: ProduceResponse = decode(&body).unwrap();
    response.parts.remove(0).map(|appended| appended.base_offset)
}

#[test]
fn bad_input_harms_nobody() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run_with_input(&["produce", "t"], b"first\n");
    let mut bystander = connect(&broker);
    let mut bystander_count = 0;
    let mut others_are_served = || {
        bystander_count += 1;
        assert_eq!(produce(&mut bystander, "t", &batch(b"good")), Ok(bystander_count));
    };

    // Random bytes, of every first byte.
    let mut state = 7u64;
    for first in 0..=255u8 {
        let mut bytes = vec![first];
        for _ in 0..200 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            bytes.push((state >> 56) as u8);
        }
        let mut stream = connect(&broker);
        let _ = stream.write_all(&bytes);
        // Some begin a request of Kafka's protocol, and would be waited for.
        let _ = stream.shutdown(Shutdown::Write);
        assert!(is_closed(&mut stream), "first byte {first}");
    }
    others_are_served();

    // A client that wants TLS, and a browser.
    for bytes in [&b"\x16\x03\x01\x02\0\x01"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut stream = connect(&broker);
        stream.write_all(bytes).unwrap();
        assert!(is_closed(&mut stream));
    }

    // Every truncation of a good request, then silence, then the end.
    let good = batch(b"good");
    let part = ProducePart {
        topic: "t".to_owned(),
        topic_id: Uuid::nil(),
        partition: 0,
        length: good.len() as u32,
    };
    let message = Produce { acks: -1, timeout_ms: 1000, parts: vec![part] };
    let whole = [&request(1, &message, good.len())[..], &good].concat();
    for length in 0..whole.len() {
        let mut stream = connect(&broker);
        stream.write_all(&whole[..length]).unwrap();
        drop(stream);
    }
    others_are_served();

    // Lengths that lie: 2^31 is refused in words, and what is claimed below the limit is not
    // believed before it has come.
    let before = broker.resident_bytes();
    let mut stream = connect(&broker);
    stream.write_all(&request(9, &message, 1 << 31)).unwrap();
    assert_eq!(fault(&mut stream).code, ErrorCode::MESSAGE_TOO_LARGE);
    assert!(is_closed(&mut stream));
    let liars: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = connect(&broker);
            stream.write_all(&request(9, &message, 90 << 20)).unwrap();
            stream
        })
        .collect();
    others_are_served();
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "100 claims of 90 MiB took {grown} bytes");
    drop(liars);

    // Fields that lie.
    let mut stream = connect(&broker);
    let mut fields = Vec::new();
    (-1i8).encode(&mut fields);
    1000u32.encode(&mut fields);
    u32::MAX.encode(&mut fields);
    send(&mut stream, Produce::KIND, 1, &fields);
    assert_eq!(fault(&mut stream).code, ErrorCode::INVALID_REQUEST);

    // A list that is longer than any request needs, and one name a hundred thousand times.
    let names = |count: usize| encode(&DescribeTopics { names: Some(vec!["t".into(); count]) });
    for count in [100_001, 400_000] {
        send(&mut stream, Kind::DESCRIBE_TOPICS, 1, &names(count));
        assert_eq!(fault(&mut stream).code, ErrorCode::INVALID_REQUEST);
    }
    send(&mut stream, Kind::DESCRIBE_TOPICS, 1, &names(100_000));
    let (header, body) = answer(&mut stream);
    assert!(!header.failed && body.len() < 2000, "{} bytes", body.len());

    // Unknown kinds and versions; the connection lives on.
    send(&mut stream, Kind(4711), 1, &[]);
    let unknown = fault(&mut stream);
    assert_eq!(unknown.code, ErrorCode::UNSUPPORTED_VERSION);
    assert!(unknown.message.contains("4711"), "{unknown}");
    send(&mut stream, Kind::FETCH, 99, &[]);
    assert_eq!(fault(&mut stream).code, ErrorCode::UNSUPPORTED_VERSION);

    // Batches that are none.
    let mut damaged = batch(b"payload");
    *damaged.last_mut().unwrap() ^= 1;
    let code = |result: Result<u64, Fault>| result.unwrap_err().code;
    assert_eq!(code(produce(&mut stream, "t", &damaged)), ErrorCode::CORRUPT_MESSAGE);
    assert_eq!(code(produce(&mut stream, "t", &[])), ErrorCode::INVALID_RECORD);
    assert_eq!(code(produce(&mut stream, "t", &[0; 500])), ErrorCode::INVALID_RECORD);
    let mut old = batch(b"payload");
    old[16] = 1;
    let format = ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT;
    assert_eq!(code(produce(&mut stream, "t", &old)), format);
    let two = [batch(b"a"), batch(b"b")].concat();
    assert_eq!(code(produce(&mut stream, "t", &two)), ErrorCode::INVALID_RECORD);
    let large = batch(&vec![0; 3 << 20]);
    assert_eq!(code(produce(&mut stream, "t", &large)), ErrorCode::MESSAGE_TOO_LARGE);
    let missing = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(code(produce(&mut stream, "../../etc", &batch(b"x"))), missing);
    others_are_served();

    // Names that are no names.
    for name in ["../x", "..", "", "a/b", "a\0b", &"x".repeat(300)] {
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: None,
            replication_factor: None,
            settings: vec![],
        };
        let message = CreateTopics { topics: vec![topic], validate_only: false };
        stream.write_all(&request(3, &message, 0)).unwrap();
        let (_, body) = answer(&mut stream);
        let mut response: CreateTopicsResponse = decode(&body).unwrap();
        let error = response.topics.remove(0).result.unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_TOPIC_EXCEPTION, "{name:?}");
    }
    let output = with_input(broker.ctl(&["produce", "../x"]), b"x\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(!data.join("x").exists() && !data.join("topics/../x").exists());

    // Who only ever sends, and takes no answer, is not read from for ever.
    let before = broker.resident_bytes();
    let greedy = connect(&broker);
    greedy.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let ask = request(
        5,
        &mk_net::message::Metadata { topics: None, allow_auto_topic_creation: false },
        0,
    );
    let many = ask.repeat(1000);
    while (&greedy).write_all(&many).is_ok() {}
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "a client that takes nothing took {grown} bytes");
    others_are_served();
    drop(greedy);

    let lines = broker.run(&["consume", "t", "-o", "start", "-e"]);
    assert_eq!(lines, format!("first\n{}", "good\n".repeat(bystander_count as usize)));
    assert_clean(&data);
    broker.stop();
    assert_clean(&data);
}

fn send(stream: &mut TcpStream, kind: Kind, version: u16, fields: &[u8]) {
    let header = FrameHeader {
        response: false,
        failed: false,
        kind,
        version,
        correlation: 5,
        fields_len: fields.len() as u32,
        payload_len: 0,
    };
    stream.write_all(&header.encode()).unwrap();
    stream.write_all(fields).unwrap();
}
