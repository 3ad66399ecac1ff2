//! A record, from when it is due to when a consumer has it, at 10,000 a second: against bytes that go through
//! as many sockets, from a sender to someone in between and on to a receiver.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mk::client::{
    Acks, Cluster, ClusterSettings, Consumer, ConsumerSettings, Producer, ProducerRecord,
    ProducerSettings, StartAt,
};
use tokio::runtime::Runtime;

use crate::common::TestBroker;
use crate::{Goal, Plan, Row, median};

const SIZE: usize = 100;
const RATE: u32 = 10_000;
/// Records of a trial, for each of the 512 MiB of a whole run: a second.
const RECORDS: u64 = 10_000;

pub fn rows(plan: Plan) -> Vec<Row> {
    let records = ((plan.bytes * 2 * RECORDS) >> 29).max(RECORDS / 10) as u32;
    let broker = TestBroker::start(&[("log.flush.policy", "os")]);
    broker.create("t");
    let ours = Ours::start(&broker.address());
    let mut limits = [const { Vec::new() }; 2];
    let mut times = [const { Vec::new() }; 2];
    for _ in 0..plan.trials {
        for (all, latencies) in [(&mut limits, relay(records)), (&mut times, ours.run(records))] {
            all[0].push(latencies.value_at_quantile(0.5) as f64 / 1e3);
            all[1].push(latencies.value_at_quantile(0.99) as f64 / 1e3);
        }
    }
    let goals = [("p50", None), ("p99", Some(Goal::AtMost(3.0)))];
    let both = goals.into_iter().zip(limits).zip(times);
    let rows = both.map(|(((name, goal), mut limit), mut ours)| Row {
        name: format!("end to end at 10,000 a second, acks=1, {name}, vs a TCP relay"),
        limit: median(&mut limit),
        ours: median(&mut ours),
        unit: "us",
        goal,
    });
    rows.collect()
}

/// Nanoseconds.
fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap()
}

/// Waits until each is due; then sends it. Behind, it makes good.
fn at_the_rate(begin: Instant, records: u32, mut send: impl FnMut(u32)) {
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).unwrap();
    for number in 0..records {
        thread::sleep(due(begin, number).saturating_duration_since(Instant::now()));
        send(number);
    }
}

fn due(begin: Instant, number: u32) -> Instant {
    begin + Duration::from_secs(1) * number / RATE
}

/// Two ends of a connection.
fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    for stream in [&stream, &other] {
        stream.set_nodelay(true).unwrap();
    }
    (stream, other)
}

/// Someone in between passes on what comes, as it comes.
fn relay(records: u32) -> Histogram<u64> {
    let ((mut sender, mut inlet), (mut outlet, mut receiver)) = (connected(), connected());
    let between = thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(count @ 1..) = inlet.read(&mut buffer) {
            outlet.write_all(&buffer[..count]).unwrap();
        }
    });
    let begin = Instant::now() + Duration::from_millis(10);
    let receiving = thread::spawn(move || {
        let (mut latencies, mut value) = (latencies(), [0; SIZE]);
        for number in 0..records {
            receiver.read_exact(&mut value).unwrap();
            let latency = due(begin, number).elapsed().as_nanos() as u64;
            latencies.saturating_record(latency.max(1));
        }
        latencies
    });
    at_the_rate(begin, records, |_| sender.write_all(&[7; SIZE]).unwrap());
    drop(sender);
    between.join().unwrap();
    receiving.join().unwrap()
}

struct Ours {
    runtime: Runtime,
    cluster: Cluster,
    producer: Producer,
}

impl Ours {
    fn start(address: &str) -> Ours {
        let runtime = Runtime::new().unwrap();
        let settings = ProducerSettings {
            acks: Acks::Leader,
            linger: Duration::ZERO,
            ..ProducerSettings::default()
        };
        let cluster = Cluster::new(vec![address.to_owned()], ClusterSettings::default());
        let producer = runtime.block_on(async { Producer::new(cluster.clone(), settings) });
        Ours { runtime, cluster, producer }
    }

    fn send(&self) {
        let value = Some([7; SIZE].to_vec().into());
        let record = ProducerRecord { topic: "t".into(), value, ..ProducerRecord::default() };
        self.runtime.block_on(self.producer.send(record)).unwrap();
    }

    fn run(&self, records: u32) -> Histogram<u64> {
        let mut consumer = self.runtime.block_on(async {
            // Whatever was sent before is there by then.
            self.producer.flush().await;
            let consumer = Consumer::new(self.cluster.another(), ConsumerSettings::default());
            consumer.assign("t", &[0], StartAt::Latest).await.unwrap();
            consumer
        });
        let begin = Instant::now() + Duration::from_millis(10);
        let receiving = self.runtime.spawn(async move {
            let (mut latencies, mut number) = (latencies(), 0);
            while number < records {
                let batches = consumer.next().await.unwrap();
                for record in batches.records() {
                    record.unwrap();
                    let latency = due(begin, number).elapsed().as_nanos() as u64;
                    latencies.saturating_record(latency.max(1));
                    number += 1;
                }
            }
            latencies
        });
        at_the_rate(begin, records, |_| self.send());
        self.runtime.block_on(receiving).unwrap()
    }
}
