//! What the benches share.

#![allow(dead_code, reason = "each bench uses a part")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot go on must fail")]

use std::net::TcpStream;

use mk::broker::{Broker, BrokerConfig};
use mk::settings::{BrokerSettings, Layers};
use mk_net::envelope::request;
use mk_net::frame::{FrameHeader, HEADER_LEN};
use mk_net::message::{
    CreateTopics, DeleteTopics, Fetch, FetchPart, NewTopic, Produce, ProducePart, Request,
};
use mk_storage::Timestamp;
use mk_storage::batch::{BatchBuilder, Compression, RecordFields};
use std::io::{Read, Write};
use uuid::Uuid;

/// A batch of about `size` bytes, of one record.
pub fn batch_of(size: usize) -> Vec<u8> {
    let value = vec![7; size.saturating_sub(75)];
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp(1), &RecordFields { value: Some(&value), ..Default::default() });
    builder.finish().unwrap()
}

/// Offsets below `end` in no order.
pub fn random_offsets(end: u64) -> Vec<u64> {
    let mut state = 1u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % end
    };
    std::iter::repeat_with(next).take(10_000).collect()
}

/// A broker in this process, with a directory that goes with it.
pub struct TestBroker {
    pub broker: Option<Broker>,
    root: tempfile::TempDir,
}

impl TestBroker {
    pub fn start(settings: &[(&str, &str)]) -> TestBroker {
        let root = tempfile::tempdir().unwrap();
        // What a bench deletes makes room for the next at once.
        let at_once = ("log.segment.delete.delay.ms", "0");
        let flags = settings
            .iter()
            .chain([&at_once])
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let layers = Layers { flags: flags.collect(), ..Layers::default() };
        let config = BrokerConfig {
            listen: "127.0.0.1:0".to_owned(),
            zoo: None,
            data: root.path().join("data"),
            settings: BrokerSettings::resolve(&layers).unwrap(),
        };
        TestBroker { broker: Some(Broker::start(&config).unwrap()), root }
    }

    pub fn address(&self) -> String {
        self.broker.as_ref().unwrap().address().to_string()
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address()).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// Creates a topic of one partition.
    pub fn create(&self, name: &str) {
        let mut stream = self.connect();
        let topic = NewTopic {
            name: name.to_owned(),
            partitions: Some(1),
            replication_factor: None,
            settings: vec![],
        };
        call(&mut stream, &CreateTopics { topics: vec![topic], validate_only: false });
    }

    /// Deletes a topic, and waits until its files are gone.
    pub fn delete(&self, name: &str) {
        call(&mut self.connect(), &DeleteTopics { names: vec![name.to_owned()] });
        let trash = self.root.path().join("data/trash");
        while std::fs::read_dir(&trash).is_ok_and(|mut entries| entries.next().is_some()) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

impl Drop for TestBroker {
    fn drop(&mut self) {
        if let Some(broker) = self.broker.take() {
            broker.stop().unwrap();
        }
    }
}

/// A produce request for partition 0, with the batch behind it.
pub fn produce_frame(topic: &str, acks: i8, batch: &[u8]) -> Vec<u8> {
    let part = ProducePart {
        topic: topic.to_owned(),
        topic_id: Uuid::nil(),
        partition: 0,
        length: batch.len() as u32,
    };
    let message = Produce { acks, timeout_ms: 30_000, parts: vec![part] };
    [&request(1, &message, batch.len())[..], batch].concat()
}

/// A fetch request for partition 0.
pub fn fetch_frame(topic: &str, offset: u64, max_bytes: u32) -> Vec<u8> {
    let part = FetchPart {
        topic: topic.to_owned(),
        topic_id: Uuid::nil(),
        partition: 0,
        offset,
        max_bytes,
        leader_epoch: -1,
        last_epoch: -1,
        high_watermark: 0,
    };
    let message = Fetch {
        replica: None,
        reader: None,
        max_wait_ms: 10_000,
        min_bytes: 1,
        max_bytes,
        rack: String::new(),
        parts: vec![part],
    };
    request(1, &message, 0).to_vec()
}

/// Reads a response's header and fields; its payload is left in the stream.
pub fn read_head(stream: &mut TcpStream) -> (FrameHeader, Vec<u8>) {
    let mut head = [0; HEADER_LEN];
    stream.read_exact(&mut head).unwrap();
    let header = FrameHeader::parse(&head, u32::MAX).unwrap();
    assert!(!header.failed);
    let mut fields = vec![0; header.fields_len as usize];
    stream.read_exact(&mut fields).unwrap();
    (header, fields)
}

/// A request and its answer, without payloads.
pub fn call<R: Request>(stream: &mut TcpStream, message: &R) -> R::Response {
    stream.write_all(&request(1, message, 0)).unwrap();
    let (_, fields) = read_head(stream);
    mk_net::codec::decode(&fields).unwrap()
}
