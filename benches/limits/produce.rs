//! Produce against raw TCP of the same bytes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;

use memmap2::{MmapMut, MmapOptions};

use crate::common::{TestBroker, batch_of, produce_frame, read_head};
use crate::{Goal, Moved, Plan, Row, timed};

/// Requests that may be on their way.
const WINDOW: usize = 64;

pub fn rows(plan: Plan) -> Vec<Row> {
    let mut rows = Vec::new();
    for size in [64 << 10, 1 << 20] {
        let batch = batch_of(size);
        let ours = Ours::start(&batch);
        let what = format!("produce {} KiB batches", size >> 10);
        let map = MmapOptions::new().len(plan.bytes as usize).populate().map_anon().unwrap();
        let mut into_map = Raw::start(&batch, Into::Map(map));
        let (limit, rate) =
            plan.compare(|bytes| timed(|| into_map.run(bytes)), |bytes| ours.run(bytes));
        let goal = Some(Goal::AtLeast(0.85));
        let name = format!("{what} vs raw TCP into a populated map");
        rows.push(Row { name, limit, ours: rate, unit: "GB/s", goal });
        let mut into_buffer = Raw::start(&batch, Into::Buffer(vec![0; 256 << 10]));
        let (limit, rate) =
            plan.compare(|bytes| timed(|| into_buffer.run(bytes)), |bytes| ours.run(bytes));
        let name = format!("{what} vs raw TCP into a small reused buffer");
        rows.push(Row { name, limit, ours: rate, unit: "GB/s", goal: None });
    }
    rows
}

/// A broker, and a topic to produce to.
struct Ours {
    broker: TestBroker,
    frame: Vec<u8>,
    batch_bytes: u64,
}

impl Ours {
    fn start(batch: &[u8]) -> Ours {
        // What is measured is the way into the log; syncs have their own bench.
        let broker = TestBroker::start(&[("log.flush.policy", "os")]);
        Ours { broker, frame: produce_frame("t", 1, batch), batch_bytes: batch.len() as u64 }
    }

    fn run(&self, bytes: u64) -> Moved {
        self.broker.create("t");
        let moved = timed(|| self.produce(bytes));
        self.broker.delete("t");
        moved
    }

    fn produce(&self, bytes: u64) -> u64 {
        let requests = bytes / self.batch_bytes;
        let mut writer = self.broker.connect();
        let mut reader = writer.try_clone().unwrap();
        let (answered, window) = mpsc::sync_channel(WINDOW);
        thread::scope(|scope| {
            scope.spawn(move || {
                for _ in 0..requests {
                    read_head(&mut reader);
                    window.recv().unwrap();
                }
            });
            for _ in 0..requests {
                answered.send(()).unwrap();
                writer.write_all(&self.frame).unwrap();
            }
        });
        requests * self.batch_bytes
    }
}

enum Into {
    Map(MmapMut),
    Buffer(Vec<u8>),
}

/// A sender and a receiver, and nothing else.
struct Raw {
    listener: TcpListener,
    message: Vec<u8>,
    into: Into,
}

impl Raw {
    fn start(batch: &[u8], into: Into) -> Raw {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Raw { listener, message: batch.to_vec(), into }
    }

    fn run(&mut self, bytes: u64) -> u64 {
        let count = bytes / self.message.len() as u64;
        let total = count * self.message.len() as u64;
        let address = self.listener.local_addr().unwrap();
        let message = &self.message;
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nodelay(true).unwrap();
                for _ in 0..count {
                    stream.write_all(message).unwrap();
                }
            });
            let (mut stream, _) = self.listener.accept().unwrap();
            let mut received = 0;
            while received < total {
                let space = match &mut self.into {
                    Into::Map(map) => {
                        let from = received as usize;
                        let to = map.len().min(from + (256 << 10));
                        &mut map[from..to]
                    }
                    Into::Buffer(buffer) => &mut buffer[..],
                };
                received += stream.read(space).unwrap() as u64;
            }
        });
        total
    }
}
