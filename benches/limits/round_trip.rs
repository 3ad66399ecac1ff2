//! A record that is acknowledged by the leader against an echo of as many bytes.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use mk_net::frame::HEADER_LEN;

use crate::common::{TestBroker, batch_of, produce_frame, read_head};
use crate::{Goal, Plan, Row, median};

const ROUNDS: usize = 2000;

pub fn rows(plan: Plan) -> Vec<Row> {
    let frame = produce_frame("t", 1, &batch_of(200));
    let broker = TestBroker::start(&[("log.flush.policy", "os")]);
    broker.create("t");
    let mut stream = broker.connect();
    let mut ours = || {
        stream.write_all(&frame).unwrap();
        HEADER_LEN + read_head(&mut stream).1.len()
    };
    let mut echo = Echo::start(frame.len(), ours());
    let (mut limits, mut times) = (Vec::new(), Vec::new());
    for _ in 0..plan.trials {
        limits.push(time(|| echo.round()));
        times.push(time(|| {
            ours();
        }));
    }
    let (limit, ours) = (median(&mut limits), median(&mut times));
    let name = "round trip of one record, acks=1, vs a TCP echo".to_owned();
    vec![Row { name, limit, ours, unit: "us", goal: Some(Goal::AtMost(2.0)) }]
}

/// Microseconds of a round, in the middle.
fn time(mut round: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            round();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    median(&mut times)
}

struct Echo {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Echo {
    /// Someone who answers requests of so many bytes with so many bytes.
    fn start(request_len: usize, answer_len: usize) -> Echo {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut other, _) = listener.accept().unwrap();
        for stream in [&stream, &other] {
            stream.set_nodelay(true).unwrap();
        }
        thread::spawn(move || {
            let mut request = vec![0; request_len];
            let answer = vec![0; answer_len];
            while other.read_exact(&mut request).is_ok() {
                if other.write_all(&answer).is_err() {
                    return;
                }
            }
        });
        Echo { stream, request: vec![0; request_len], answer: vec![0; answer_len] }
    }

    fn round(&mut self) {
        self.stream.write_all(&self.request).unwrap();
        self.stream.read_exact(&mut self.answer).unwrap();
    }
}
