//! Kafka's protocol over a socket, version by version; what others that speak it got wrong is here, too. The
//! clients that people use are tried in tests/clients.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use bytes::Bytes;
use common::kafka::{KafkaClient, frame, name, text, versions};
use common::{Broker, data_dir};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, FetchResponse, FindCoordinatorRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, ProduceRequest,
};
use kafka_protocol::protocol::Decodable;
use mk_net::fault::ErrorCode;
use mk_net::kafka::api::{Api, ApiKey};
use mk_storage::Timestamp;
use mk_storage::batch::{BatchBuilder, Compression, RecordFields};

fn batch(values: &[&str], compression: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new(compression);
    for value in values {
        let fields = RecordFields { value: Some(value.as_bytes()), ..RecordFields::default() };
        builder.push(Timestamp(1000), &fields);
    }
    builder.finish().unwrap()
}

fn produce_request(topic: &str, acks: i16, records: &[u8]) -> ProduceRequest {
    let partition = PartitionProduceData::default()
        .with_index(0)
        .with_records(Some(Bytes::copy_from_slice(records)));
    let topic =
        TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![partition]);
    ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000).with_topic_data(vec![topic])
}

fn produce(
    client: &mut KafkaClient,
    version: i16,
    topic: &str,
    records: &[u8],
) -> PartitionProduceResponse {
    let mut response = client.call(version, &produce_request(topic, -1, records));
    response.responses.remove(0).partition_responses.remove(0)
}

fn fetch_request(topic: &str, offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_partition(0)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

fn partition(response: FetchResponse) -> PartitionData {
    response.responses.into_iter().next().unwrap().partitions.into_iter().next().unwrap()
}

fn metadata_of(client: &mut KafkaClient, version: i16, topic: &str) -> MetadataResponseTopic {
    let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    client.call(version, &request).topics.remove(0)
}

#[test]
fn every_version_of_what_is_read_and_written_is_served() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    for version in versions(ApiKey::API_VERSIONS) {
        let response = client.call(version, &ApiVersionsRequest::default());
        assert_eq!((response.error_code, response.api_keys.len()), (0, Api::ALL.len()));
    }
    for version in versions(ApiKey::METADATA) {
        let topic = metadata_of(&mut client, version, &format!("t{version}"));
        assert_eq!((topic.error_code, topic.partitions.len()), (0, 1), "version {version}");
        assert_eq!(topic.topic_id.is_nil(), version < 10);
        let brokers = client.call(version, &MetadataRequest::default().with_topics(Some(vec![])));
        let port: i32 = broker.address().rsplit_once(':').unwrap().1.parse().unwrap();
        assert_eq!(brokers.brokers[0].port, port);
    }
    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4];
    let mut written: i64 = 0;
    for version in 3..=11 {
        let zstd = (version >= 7).then_some(Compression::Zstd);
        for codec in codecs.into_iter().chain(zstd) {
            let records = batch(&["a", "b"], codec);
            let produced = produce(&mut client, version, "t0", &records);
            assert_eq!((produced.error_code, produced.base_offset), (0, written));
            written += 2;
        }
    }
    for version in versions(ApiKey::FETCH) {
        let got = partition(client.call(version, &fetch_request("t0", 0)));
        assert_eq!((got.error_code, got.high_watermark), (0, written), "version {version}");
        assert!(got.records.unwrap().len() > 61 * 30);
        // What is not there is said with records of length 0: null ends librdkafka's fetching (KAFKA-18646).
        for offset in [written, written + 1] {
            let got = partition(client.call(version, &fetch_request("t0", offset)));
            let beyond = ErrorCode::OFFSET_OUT_OF_RANGE.0;
            assert_eq!(got.error_code, if offset == written { 0 } else { beyond });
            assert_eq!(got.records.unwrap().len(), 0, "version {version}");
        }
    }
    for version in versions(ApiKey::LIST_OFFSETS) {
        let places = [(-1, written), (-2, 0), (1000, 0), (1001, -1)];
        let new = [(-3, 0)].into_iter().filter(|_| version >= 7);
        let newer = [(-4, 0)].into_iter().filter(|_| version >= 8);
        for (timestamp, offset) in places.into_iter().chain(new).chain(newer) {
            let part = ListOffsetsPartition::default().with_timestamp(timestamp);
            let topic =
                ListOffsetsTopic::default().with_name(name("t0")).with_partitions(vec![part]);
            let request =
                ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
            let found = client.call(version, &request).topics.remove(0).partitions.remove(0);
            assert_eq!((found.error_code, found.offset), (0, offset), "{version}: {timestamp}");
        }
    }
    for version in versions(ApiKey::FIND_COORDINATOR) {
        let request = FindCoordinatorRequest::default();
        let found = if version >= 4 {
            let keys = vec![text("a"), text("b")];
            let mut found = client.call(version, &request.with_coordinator_keys(keys));
            assert_eq!(found.coordinators.len(), 2);
            let first = found.coordinators.remove(0);
            (first.error_code, first.node_id.0)
        } else {
            let found = client.call(version, &request.with_key(text("a")));
            (found.error_code, found.node_id.0)
        };
        assert_eq!(found, (0, 1));
    }
    for version in versions(ApiKey::INIT_PRODUCER_ID) {
        let made =
            client.call(version, &InitProducerIdRequest::default().with_transactional_id(None));
        assert!(made.error_code == 0 && made.producer_id.0 >= 0 && made.producer_epoch == 0);
    }
    broker.stop();
}

/// A client that is newer than the broker cannot read a refusal in its own version: it asks again with what version 0
/// tells it (KIP-511).
#[test]
fn a_version_of_api_versions_that_is_not_known_is_answered_in_version_0() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    let mut request = frame(4, 7, &ApiVersionsRequest::default());
    request[6..8].copy_from_slice(&99i16.to_be_bytes());
    client.send_bytes(&request);
    let mut answer = client.receive_bytes();
    assert_eq!(answer.split_to(4)[..], 7i32.to_be_bytes());
    let refusal = ApiVersionsResponse::decode(&mut answer, 0).unwrap();
    assert_eq!(refusal.error_code, ErrorCode::UNSUPPORTED_VERSION.0);
    let [of_itself] = &refusal.api_keys[..] else { panic!("{refusal:?}") };
    assert_eq!((of_itself.api_key, of_itself.min_version, of_itself.max_version), (18, 0, 4));
    assert!(answer.is_empty());
    // The connection goes on; what else is not served ends it.
    assert_eq!(client.call(0, &ApiVersionsRequest::default()).error_code, 0);
    let mut old = frame(3, 8, &produce_request("t", -1, &batch(&["a"], Compression::None)));
    old[6..8].copy_from_slice(&2i16.to_be_bytes());
    client.send_bytes(&old);
    assert!(client.is_closed());
}

#[test]
fn a_whole_batch_comes_for_an_offset_in_it_and_the_first_whatever_its_size() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    metadata_of(&mut client, 12, "t");
    let long = "x".repeat(5000);
    let records = batch(&["a", &long, "c"], Compression::None);
    assert_eq!(produce(&mut client, 9, "t", &records).base_offset, 0);
    assert_eq!(produce(&mut client, 9, "t", &records).base_offset, 3);
    let mut request = fetch_request("t", 4);
    request.max_bytes = 10;
    request.topics[0].partitions[0].partition_max_bytes = 10;
    for version in versions(ApiKey::FETCH) {
        let got = partition(client.call(version, &request)).records.unwrap();
        assert_eq!(got.len(), records.len(), "version {version}");
        assert_eq!(got[..8], 3i64.to_be_bytes());
        assert_eq!(got[17..], records[17..]);
    }
}

#[test]
fn what_is_wrong_with_records_has_its_own_error() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run(&["topic", "create", "keyed", "-c", "cleanup.policy=compact"]);
    let mut client = KafkaClient::connect(broker.address());
    metadata_of(&mut client, 12, "t");
    let good = batch(&["a"], Compression::None);
    let mut damaged = good.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let large = batch(&[&"x".repeat(3 << 20)], Compression::None);
    let zstd = batch(&["a"], Compression::Zstd);
    let two = [&good[..], &good].concat();
    for (version, topic, records, error) in [
        (9, "t", &damaged, ErrorCode::CORRUPT_MESSAGE),
        (9, "t", &large, ErrorCode::MESSAGE_TOO_LARGE),
        (9, "keyed", &good, ErrorCode::INVALID_RECORD),
        (6, "t", &zstd, ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        (9, "t", &two, ErrorCode::INVALID_RECORD),
        (9, "t", &Vec::new(), ErrorCode::INVALID_RECORD),
        (9, "nobody", &good, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (9, "__consumer_offsets", &good, ErrorCode::POLICY_VIOLATION),
    ] {
        if topic == "__consumer_offsets" {
            let request = FindCoordinatorRequest::default().with_key(text("g"));
            client.call(3, &request);
        }
        let produced = produce(&mut client, version, topic, records);
        assert_eq!(ErrorCode(produced.error_code), error, "{topic}, version {version}");
        assert_eq!(produced.base_offset, -1);
        assert!(version < 8 || produced.error_message.is_some());
    }
    let refused = client.call(9, &produce_request("t", 7, &good));
    let code = refused.responses[0].partition_responses[0].error_code;
    assert_eq!(ErrorCode(code), ErrorCode::INVALID_REQUIRED_ACKS);
    let topic = metadata_of(&mut client, 12, "no/name");
    assert_eq!(ErrorCode(topic.error_code), ErrorCode::INVALID_TOPIC_EXCEPTION);
    let ask = MetadataRequestTopic::default().with_name(Some(name("never")));
    let request = MetadataRequest::default()
        .with_topics(Some(vec![ask]))
        .with_allow_auto_topic_creation(false);
    let code = client.call(12, &request).topics[0].error_code;
    assert_eq!(ErrorCode(code), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert!(!broker.run(&["topic", "list"]).contains("never"));
}

/// A duplicate of one of a producer's last five batches has the offset of the first one.
#[test]
fn a_batch_that_is_sent_again_is_in_the_log_once() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    metadata_of(&mut client, 12, "t");
    let made = client.call(4, &InitProducerIdRequest::default().with_transactional_id(None));
    let numbered = |sequence: i32| {
        let mut records = batch(&["a"], Compression::None);
        records[43..51].copy_from_slice(&made.producer_id.0.to_be_bytes());
        records[51..53].copy_from_slice(&made.producer_epoch.to_be_bytes());
        records[53..57].copy_from_slice(&sequence.to_be_bytes());
        let checksum = mk_storage::batch::checksum(&records);
        records[17..21].copy_from_slice(&checksum.to_be_bytes());
        records
    };
    for sequence in 0..6 {
        let produced = produce(&mut client, 9, "t", &numbered(sequence));
        assert_eq!((produced.error_code, produced.base_offset), (0, sequence.into()));
    }
    for sequence in 1..6 {
        let again = produce(&mut client, 9, "t", &numbered(sequence));
        assert_eq!((again.error_code, again.base_offset), (0, sequence.into()));
    }
    let early = produce(&mut client, 9, "t", &numbered(9));
    assert_eq!(ErrorCode(early.error_code), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
}

/// Answers are in the order of their requests, though a fetch waits; and what has no answer leaves no gap.
#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    metadata_of(&mut client, 12, "t");
    let records = batch(&["a"], Compression::None);
    client.send(11, &fetch_request("t", 0).with_max_wait_ms(60_000));
    client.send(9, &produce_request("t", 0, &records));
    client.send(9, &produce_request("t", -1, &records));
    client.send(12, &MetadataRequest::default().with_topics(None));
    assert!(!partition(client.receive::<FetchRequest>(11)).records.unwrap().is_empty());
    let produced = client.receive::<ProduceRequest>(9);
    assert_eq!(produced.responses[0].partition_responses[0].base_offset, 1);
    assert_eq!(client.receive::<MetadataRequest>(12).topics.len(), 1);
    // Whoever wants no answer learns from the end of its connection that it asked the wrong broker.
    client.send(9, &produce_request("nobody", 0, &records));
    assert!(client.is_closed());
}

#[test]
fn there_are_no_fetch_sessions() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    metadata_of(&mut client, 12, "t");
    let asked = client.call(11, &fetch_request("t", 0).with_session_epoch(0));
    assert_eq!((asked.error_code, asked.session_id), (0, 0));
    // kafka-go names a session, and wants none.
    let ended = client.call(11, &fetch_request("t", 0).with_session_id(-1).with_session_epoch(-1));
    assert_eq!((ended.error_code, ended.responses.len()), (0, 1));
    let unknown = client.call(11, &fetch_request("t", 0).with_session_id(5).with_session_epoch(1));
    assert_eq!(ErrorCode(unknown.error_code), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    let wrong = client.call(11, &fetch_request("t", 0).with_session_epoch(3));
    assert_eq!(ErrorCode(wrong.error_code), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
}

/// A request that claims more than it brings is refused before anything is reserved for it.
#[test]
fn what_is_claimed_and_not_there_takes_no_memory() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let before = broker.resident_bytes();
    for _ in 0..20 {
        let mut client = KafkaClient::connect(broker.address());
        let mut request = frame(8, 1, &MetadataRequest::default().with_topics(Some(vec![])));
        let at = request.len() - 7;
        request[at..at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
        client.send_bytes(&request);
        assert!(client.is_closed());
    }
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut client = KafkaClient::connect(broker.address());
        client.send_bytes(&(90i32 << 20).to_be_bytes());
        client.send_bytes(&[0, 0, 0, 9]);
        held.push(client);
    }
    let mut other = KafkaClient::connect(broker.address());
    assert_eq!(other.call(0, &ApiVersionsRequest::default()).error_code, 0);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "100 claims of 90 MiB took {grown} bytes");
    broker.stop();
}

/// Requests of every kind and version whose fields are random, and requests that break off: each is answered or ends its
/// connection, and nobody else notices.
#[test]
fn garbage_and_half_requests_harm_nobody() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut bystander = KafkaClient::connect(broker.address());
    metadata_of(&mut bystander, 12, "t");
    let before = broker.resident_bytes();
    let mut state = 7u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        (state >> 56) as u8
    };
    let mut answered = 0;
    for Api { key, min, max, .. } in Api::ALL {
        for version in *min..=*max {
            for length in [0, 1, 2, 7, 30, 200] {
                let mut body =
                    [&key.0.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 1]].concat();
                // A client id that is null, and no tags.
                body.extend([0xff, 0xff, 0]);
                // Most numbers are small: a random length is hardly ever one that is there.
                body.extend(
                    (0..length).map(|_| if random() < 128 { random() & 3 } else { random() }),
                );
                let mut client = KafkaClient::connect(broker.address());
                client.send_bytes(&(body.len() as i32).to_be_bytes());
                client.send_bytes(&body);
                answered += usize::from(!client.end().is_empty());
            }
        }
    }
    assert!(answered > 50, "{answered} were requests by chance");
    let whole = frame(9, 1, &produce_request("t", -1, &batch(&["half"], Compression::None)));
    for length in 0..whole.len() {
        let mut client = KafkaClient::connect(broker.address());
        client.send_bytes(&whole[..length]);
        assert_eq!(client.end(), b"");
    }
    let produced = produce(&mut bystander, 9, "t", &batch(&["a"], Compression::None));
    assert_eq!(
        (produced.error_code, produced.base_offset),
        (0, 0),
        "nothing of the halves is there"
    );
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "garbage took {grown} bytes");
    broker.stop();
}
