//! A client of Kafka's protocol that sends what it is told, in the version that it is told.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    FetchRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use mk_net::kafka::api::{Api, ApiKey};
use mk_storage::Timestamp;
use mk_storage::batch::{BatchBuilder, Compression, RecordFields};

/// A connection.
pub struct KafkaClient {
    stream: TcpStream,
    correlation: i32,
}

impl KafkaClient {
    pub fn connect(address: &str) -> KafkaClient {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        KafkaClient { stream, correlation: 0 }
    }

    /// Where it is connected to.
    pub fn peer(&self) -> SocketAddr {
        self.stream.peer_addr().unwrap()
    }

    /// Sends a request and reads its response.
    pub fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        self.receive::<R>(version)
    }

    pub fn send<R: Request>(&mut self, version: i16, request: &R) {
        self.correlation += 1;
        let frame = frame(version, self.correlation, request);
        self.stream.write_all(&frame).unwrap();
    }

    /// Reads the response to a request of this type, which must be the next one.
    pub fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut bytes = self.receive_bytes();
        let header_version = R::Response::header_version(version);
        ResponseHeader::decode(&mut bytes, header_version).unwrap();
        let response = R::Response::decode(&mut bytes, version).unwrap();
        assert!(!bytes.has_remaining(), "{} bytes behind the response", bytes.len());
        response
    }

    /// A whole response without its length.
    pub fn receive_bytes(&mut self) -> Bytes {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut bytes = vec![0; i32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes.into()
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        // The broker may have closed the connection at an earlier byte.
        let _ = self.stream.write_all(bytes);
    }

    /// Sends no more, and reads whatever comes until the broker closes the connection.
    pub fn end(mut self) -> Vec<u8> {
        let _ = self.stream.shutdown(Shutdown::Write);
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }

    /// True once the broker has closed the connection; fails if it sends something, or after a minute.
    pub fn is_closed(&mut self) -> bool {
        match self.stream.read(&mut [0; 1]) {
            Ok(0) => true,
            Ok(_) => panic!("an answer instead of the end"),
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

/// Appends so many records to partition 0 of a topic; answers how many bytes they took.
pub fn append(client: &mut KafkaClient, topic: &str, acks: i16, records: usize) -> usize {
    let mut builder = BatchBuilder::new(Compression::None);
    for _ in 0..records {
        let fields = RecordFields { value: Some(b"value"), ..RecordFields::default() };
        builder.push(Timestamp(1000), &fields);
    }
    let batch = builder.finish().unwrap();
    let length = batch.len();
    let partition = PartitionProduceData::default().with_records(Some(batch.into()));
    let topic =
        TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![partition]);
    let request = ProduceRequest::default().with_acks(acks).with_timeout_ms(10_000);
    let response = client.call(9, &request.with_topic_data(vec![topic]));
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    length
}

/// The records of partition 0 of a topic from `offset` on, a mebibyte of them.
pub fn fetch(client: &mut KafkaClient, topic: &str, offset: i64) -> Bytes {
    let partition =
        FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic]);
    let partition = client.call(12, &request).responses.remove(0).partitions.remove(0);
    assert_eq!(partition.error_code, 0);
    partition.records.unwrap()
}

/// A request with its header and its length.
pub fn frame<R: Request>(version: i16, correlation: i32, request: &R) -> Vec<u8> {
    let mut body = BytesMut::new();
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(StrBytes::from_static_str("raw")))
        .encode(&mut body, R::header_version(version))
        .unwrap();
    request.encode(&mut body, version).unwrap();
    [&(body.len() as i32).to_be_bytes()[..], &body].concat()
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn name(name: &str) -> TopicName {
    TopicName(text(name))
}

/// The versions of a request that are served.
pub fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let api: &Api = key.served().unwrap();
    api.min..=api.max
}
