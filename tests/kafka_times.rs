//! `message.timestamp.type` as Kafka's clients see it: whose the times of records are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use common::kafka::{self, KafkaClient, name, versions};
use common::{Broker, data_dir};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{ListOffsetsRequest, ProduceRequest};
use mk_net::fault::ErrorCode;
use mk_net::kafka::api::ApiKey;
use mk_storage::Timestamp;
use mk_storage::batch::{
    BatchBuilder, CheckedBatch, Compression, Header, RecordFields, TimestampType, checksum, number,
    records,
};

const STAMPED: &str = "message.timestamp.type=LogAppendTime";

/// Records that were made at these times, of a producer that has sent so many before.
fn batch(created: &[i64], codec: Compression, sequence: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for created in created {
        let fields = RecordFields { value: Some(b"value"), ..RecordFields::default() };
        builder.push(Timestamp(*created), &fields);
    }
    let mut bytes = builder.finish().unwrap();
    number(&mut bytes, 7, 0, sequence).unwrap();
    bytes
}

fn produce(
    client: &mut KafkaClient,
    version: i16,
    topic: &str,
    batch: &[u8],
) -> PartitionProduceResponse {
    let records = Some(Bytes::copy_from_slice(batch));
    let partition = PartitionProduceData::default().with_records(records);
    let topic =
        TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000);
    let mut response = client.call(version, &request.with_topic_data(vec![topic]));
    response.responses.remove(0).partition_responses.remove(0)
}

/// All batches from `offset` on, their checksums checked: each header with the times of its records.
fn fetch(client: &mut KafkaClient, topic: &str, offset: i64) -> Vec<(Header, Vec<i64>)> {
    let mut rest = kafka::fetch(client, topic, offset);
    let mut found = Vec::new();
    while !rest.is_empty() {
        let header = Header::parse(&rest).unwrap();
        assert_eq!(header.crc, checksum(&rest[..header.size]));
        let times = records(&rest, 1 << 20).unwrap().map(|record| record.unwrap().timestamp.0);
        found.push((header, times.collect()));
        rest = rest.slice(header.size..);
    }
    found
}

/// The offset and the time that are found for a time.
fn offset_of(client: &mut KafkaClient, version: i16, topic: &str, at: i64) -> (i64, i64) {
    let part = ListOffsetsPartition::default().with_timestamp(at);
    let topic = ListOffsetsTopic::default().with_name(name(topic)).with_partitions(vec![part]);
    let request = ListOffsetsRequest::default().with_replica_id((-1).into());
    let found = client.call(version, &request.with_topics(vec![topic]));
    let found = &found.topics[0].partitions[0];
    assert_eq!(found.error_code, 0);
    (found.offset, found.timestamp)
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

#[test]
fn records_have_the_time_of_their_append_where_the_topic_says_so() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run(&["topic", "create", "t", "-c", STAMPED]);
    let mut client = KafkaClient::connect(broker.address());
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let mut expected = Vec::new();
    for (n, version) in (0..).zip(3..=*versions(ApiKey::PRODUCE).end()) {
        let codec = codecs[if version < 7 { n % 4 } else { n % 5 }];
        let before = now_ms();
        let produced =
            produce(&mut client, version, "t", &batch(&[1000, 5, 2000], codec, n as i32 * 3));
        assert_eq!((produced.error_code, produced.base_offset), (0, n as i64 * 3));
        let time = produced.log_append_time_ms;
        assert!((before..=now_ms()).contains(&time), "version {version}: {time}");
        expected.push(time);
    }
    let found = fetch(&mut client, "t", 0);
    assert_eq!(found.len(), expected.len());
    for ((header, times), time) in found.iter().zip(&expected) {
        assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(header.base_timestamp, Timestamp(1000), "the producer's");
        assert_eq!((header.max_timestamp.0, times), (*time, &vec![*time; 3]));
    }
    for (at, time) in (0..).zip(&expected) {
        let first = expected.iter().position(|other| other >= time).unwrap() as i64;
        assert_eq!(offset_of(&mut client, 7, "t", *time), (first * 3, *time), "batch {at}");
    }
    assert_eq!(offset_of(&mut client, 7, "t", 2000), (0, expected[0]));
    let last = *expected.iter().max().unwrap();
    assert_eq!(offset_of(&mut client, 7, "t", last + 1), (-1, -1));
    let newest = expected.iter().position(|time| *time == last).unwrap() as i64;
    assert_eq!(offset_of(&mut client, 7, "t", -3), (newest * 3, last), "the largest time");

    // Of a batch that is sent again, the answer is that of the first time; our own client sees the same times.
    let last = *expected.last().unwrap();
    let again = produce(&mut client, 9, "t", &batch(&[1000, 5, 2000], Compression::None, 24));
    assert_eq!((again.error_code, again.base_offset), (0, 24));
    assert_eq!(again.log_append_time_ms, last);
    let printed = broker.run(&["consume", "t", "-o", "start", "-e", "-f", "%T\n"]);
    let printed: Vec<i64> = printed.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(printed, expected.iter().flat_map(|time| [*time; 3]).collect::<Vec<_>>());
}

#[test]
fn the_broker_says_what_topics_do_not_and_a_change_holds_for_what_comes() {
    let (_root, data) = data_dir();
    let flags = ["--set", "log.message.timestamp.type=LogAppendTime"];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    broker.run(&["topic", "create", "by-broker"]);
    let old_stay = ["-c", "retention.ms=-1"];
    let by_producer = ["topic", "create", "t", "-c", "message.timestamp.type=CreateTime"];
    broker.run(&[&by_producer[..], &old_stay].concat());
    let mut client = KafkaClient::connect(broker.address());
    let made = batch(&[1000, 2000], Compression::Lz4, 0);
    assert!(produce(&mut client, 9, "by-broker", &made).log_append_time_ms > 2000);
    for version in 3..=*versions(ApiKey::PRODUCE).end() {
        // The first time, and when it is sent again.
        assert_eq!(produce(&mut client, version, "t", &made).log_append_time_ms, -1);
    }
    broker.run(&["config", "set", "t", STAMPED]);
    let next = batch(&[1000, 2000], Compression::Lz4, 2);
    let time = produce(&mut client, 9, "t", &next).log_append_time_ms;
    broker.run(&["config", "set", "t", "message.timestamp.type=CreateTime"]);
    let last = batch(&[1000, 2000], Compression::Lz4, 4);
    assert_eq!(produce(&mut client, 9, "t", &last).log_append_time_ms, -1);
    let times: Vec<_> = fetch(&mut client, "t", 0).into_iter().map(|(_, times)| times).collect();
    assert_eq!(times, [vec![1000, 2000], vec![time; 2], vec![1000, 2000]]);
}

/// Consumers would take the largest of a producer's times for that of the append.
#[test]
fn a_producer_cannot_say_when_its_records_were_appended() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run(&["topic", "create", "plain"]);
    broker.run(&["topic", "create", "stamped", "-c", STAMPED]);
    let mut client = KafkaClient::connect(broker.address());
    let bytes = batch(&[1000, 2000], Compression::None, 0);
    let checked = CheckedBatch::check(&bytes, bytes.len()).unwrap();
    let mut claiming = bytes.clone();
    let header = checked.stamped(Timestamp(3000)).bytes();
    claiming[..header.len()].copy_from_slice(&header);
    for topic in ["plain", "stamped"] {
        let refused = produce(&mut client, 9, topic, &claiming);
        assert_eq!(ErrorCode(refused.error_code), ErrorCode::INVALID_TIMESTAMP, "{topic}");
        assert_eq!(refused.log_append_time_ms, -1);
        assert_eq!(offset_of(&mut client, 7, topic, -1).0, 0, "nothing was appended");
        // What was damaged on its way is not stamped as if it were whole.
        let mut damaged = bytes.clone();
        *damaged.last_mut().unwrap() ^= 1;
        let refused = produce(&mut client, 9, topic, &damaged);
        assert_eq!(ErrorCode(refused.error_code), ErrorCode::CORRUPT_MESSAGE, "{topic}");
        assert_eq!(produce(&mut client, 9, topic, &bytes).error_code, 0);
    }
}
