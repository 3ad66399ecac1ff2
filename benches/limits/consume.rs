//! Consume against raw `sendfile` of the same bytes, both into a reused buffer.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use mk_net::codec::decode;
use mk_net::message::FetchResponse;

use crate::common::{TestBroker, batch_of, fetch_frame, produce_frame, read_head};
use crate::{Goal, Plan, Row, timed};

const FETCH_BYTES: u32 = 4 << 20;
const BUFFER: usize = 256 << 10;

pub fn rows(plan: Plan) -> Vec<Row> {
    let batch = batch_of(64 << 10);
    let batches = plan.bytes / batch.len() as u64;
    let bytes = batches * batch.len() as u64;

    let broker = TestBroker::start(&[("log.flush.policy", "os")]);
    broker.create("t");
    let mut stream = broker.connect();
    let frame = produce_frame("t", 1, &batch);
    for _ in 0..batches {
        stream.write_all(&frame).unwrap();
        read_head(&mut stream);
    }
    let mut file = tempfile::tempfile().unwrap();
    for _ in 0..batches {
        file.write_all(&batch).unwrap();
    }
    let (limit, ours) = plan.compare(
        |_| timed(|| raw(&file, bytes)),
        |_| timed(|| ours(&broker, batches, batch.len() as u64)),
    );
    let name = "consume vs raw sendfile into a reused buffer".to_owned();
    vec![Row { name, limit, ours, unit: "GB/s", goal: Some(Goal::AtLeast(0.9)) }]
}

fn raw(file: &File, bytes: u64) -> u64 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let mut position = 0;
            while position < bytes {
                let left = (bytes - position).min(FETCH_BYTES.into()) as usize;
                rustix::fs::sendfile(&stream, file, Some(&mut position), left).unwrap();
            }
        });
        let mut stream = TcpStream::connect(address).unwrap();
        drain(&mut stream, bytes, &mut vec![0; BUFFER]);
    });
    bytes
}

fn ours(broker: &TestBroker, batches: u64, batch_bytes: u64) -> u64 {
    let mut stream = broker.connect();
    let mut buffer = vec![0; BUFFER];
    let per_fetch = u64::from(FETCH_BYTES) / batch_bytes;
    // One request ahead of the one that is being read, as the consumer has it.
    let mut asked = 0;
    let mut ask = |stream: &mut TcpStream| {
        if asked < batches {
            stream.write_all(&fetch_frame("t", asked, FETCH_BYTES)).unwrap();
            asked += per_fetch;
        }
    };
    ask(&mut stream);
    let mut received = 0;
    while received < batches * batch_bytes {
        ask(&mut stream);
        let (header, fields) = read_head(&mut stream);
        let mut response: FetchResponse = decode(&fields).unwrap();
        assert_eq!(response.parts.remove(0).unwrap().length, header.payload_len);
        drain(&mut stream, header.payload_len.into(), &mut buffer);
        received += u64::from(header.payload_len);
    }
    received
}

fn drain(stream: &mut TcpStream, bytes: u64, buffer: &mut [u8]) {
    let mut left = bytes;
    while left > 0 {
        let most = buffer.len().min(left as usize);
        let count = stream.read(&mut buffer[..most]).unwrap();
        assert!(count > 0, "{left} bytes are missing");
        left -= count as u64;
    }
}
