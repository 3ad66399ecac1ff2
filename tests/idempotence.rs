//! Whatever becomes of answers, connections and leaders: each record is in the log once, in order.
//!
//! Producers send numbers through roads on which acknowledgements are held and lost and connections cut at
//! random, while leaders are killed. `MK_IDEMPOTENCE_RECORDS=1000000` sends more than the short run does.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
#[path = "chaos/datagrams.rs"]
#[allow(dead_code, reason = "roads carry heartbeats in another test")]
mod datagrams;
#[path = "chaos/links.rs"]
#[allow(dead_code, reason = "another test cuts more")]
mod links;
mod machines;
#[path = "chaos/random.rs"]
#[allow(dead_code, reason = "another test needs more")]
mod random;
#[path = "common/wire.rs"]
mod wire;

use std::collections::VecDeque;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{Broker, data_dir, wait_until};
use links::{Links, Node, Target, road_to_broker};
use machines::{Machines, Setup, assert_replicas_equal, own_address, wait_in_sync};
use mk::client::{
    Admin, Cluster, ClusterSettings, Consumer, ConsumerSettings, Producer, ProducerRecord,
    ProducerSettings, StartAt,
};
use mk_net::envelope::request;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{Appended, At, NewTopic, Produce, ProducePart};
use mk_storage::Timestamp;
use mk_storage::batch::{BatchBuilder, Compression, RecordFields, number};
use random::Random;
use rustix::process::Signal;
use tokio::runtime::Runtime;
use uuid::Uuid;

const PARTITIONS: u32 = 3;
/// Where numbers go, so that partitions are not alike.
const PLACES: [u32; 7] = [0, 0, 0, 0, 1, 1, 2];
/// Records of a producer whose acknowledgement is outstanding.
const OUTSTANDING: usize = 1000;
const PRODUCERS: u64 = 2;

fn records_wanted() -> u64 {
    let wanted = std::env::var("MK_IDEMPOTENCE_RECORDS").ok();
    wanted.map_or(60_000, |text| text.parse().unwrap())
}

fn pause(random: &mut Random, from_ms: u64, to_ms: u64) {
    std::thread::sleep(Duration::from_millis(from_ms + random.below(to_ms - from_ms)));
}

/// Three brokers, each behind a road for clients.
fn start(links: &Arc<Links>) -> (Machines, Vec<String>) {
    let mut machines = Machines::start_zoo("127.0.0.10:0", &[]);
    let mut roads = Vec::new();
    for id in 1..=3 {
        let target = Target::default();
        let road = road_to_broker(links, id, target.clone());
        let settings = vec![format!("advertised.listeners={road}")];
        let zoo = machines.zoo_address().to_owned();
        machines.set_up(id, Setup { listen: own_address(id), zoo, settings });
        machines.start_broker(id);
        links.set_process(id, machines.brokers[&id].id());
        *target.lock() = Some(machines.brokers[&id].address.clone());
        roads.push(road);
    }
    (machines, roads)
}

/// Holds the answers of a broker for a moment, cuts its clients off, and lets them back.
fn lose_answers(links: &Links, broker: u32, random: &mut Random) {
    let broker = Node::Broker(broker);
    links.silence((broker, Node::Client));
    pause(random, 1, 15);
    links.refuse((Node::Client, broker));
    links.heal((broker, Node::Client));
    links.heal((Node::Client, broker));
}

fn place_of(number: u64) -> u32 {
    PLACES[(number % PLACES.len() as u64) as usize]
}

/// Sends its part of the numbers, many at once; each is acknowledged in the end.
async fn produce(cluster: Cluster, producer_number: u64, count: u64) {
    let settings = ProducerSettings {
        linger: Duration::from_millis(1),
        batch_size: 512,
        ..ProducerSettings::default()
    };
    let producer = Producer::new(cluster, settings);
    let mut sent = VecDeque::new();
    for number in 0..count {
        let record = ProducerRecord {
            topic: "t".into(),
            partition: Some(place_of(number)),
            value: Some(format!("{producer_number} {number}").into()),
            ..ProducerRecord::default()
        };
        sent.push_back(producer.send(record).await.unwrap());
        while sent.len() > OUTSTANDING
            && let Some(delivery) = sent.pop_front()
        {
            delivery.receipt().await.unwrap();
        }
    }
    for delivery in sent {
        delivery.receipt().await.unwrap();
    }
    producer.close().await;
}

/// All numbers of a partition, by producer, in the order of the log.
async fn read(cluster: &Cluster, partition: u32) -> Vec<Vec<u64>> {
    let ends = mk::client::offsets(cluster, "t", &[partition], At::Latest).await.unwrap();
    let end = ends[0].unwrap();
    let mut consumer = Consumer::new(cluster.clone(), ConsumerSettings::default());
    consumer.assign("t", &[partition], StartAt::Earliest).await.unwrap();
    let mut found = vec![Vec::new(); PRODUCERS as usize];
    let mut next = 0;
    while next < end {
        let batches = consumer.next().await.unwrap();
        for record in batches.records() {
            let record = record.unwrap();
            let text = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            let (producer, number) = text.split_once(' ').unwrap();
            found[producer.parse::<usize>().unwrap()].push(number.parse().unwrap());
            next = record.offset.0 + 1;
        }
    }
    found
}

#[test]
fn each_record_is_there_once_whatever_is_lost() {
    let links = Arc::new(Links::default());
    let (mut machines, roads) = start(&links);
    let runtime = Runtime::new().unwrap();
    let cluster = Cluster::new(roads, ClusterSettings::default());
    let topic = NewTopic {
        name: "t".to_owned(),
        partitions: Some(PARTITIONS),
        replication_factor: Some(3),
        settings: Vec::new(),
    };
    let admin = Admin::new(cluster.clone());
    runtime.block_on(admin.create_topics(vec![topic], false)).unwrap();
    let count = records_wanted() / PRODUCERS;
    let producers: Vec<_> = (0..PRODUCERS)
        .map(|number| runtime.spawn(produce(cluster.clone(), number, count)))
        .collect();

    let ended = Arc::new(AtomicBool::new(false));
    let cutter = {
        let (links, ended) = (links.clone(), ended.clone());
        std::thread::spawn(move || {
            let (mut random, mut cuts) = (Random::new(7), 0);
            while !ended.load(Ordering::Relaxed) {
                let broker = 1 + random.below(3) as u32;
                lose_answers(&links, broker, &mut random);
                cuts += 1;
                pause(&mut random, 5, 80);
            }
            cuts
        })
    };
    let (mut random, mut kills) = (Random::new(8), 0);
    while !producers.iter().all(|producer| producer.is_finished()) {
        pause(&mut random, 300, 1500);
        // Commits wait for one that stands still; answers overtake each other.
        let slow = 1 + random.below(3) as u32;
        machines.brokers[&slow].signal(Signal::STOP);
        pause(&mut random, 20, 250);
        machines.brokers[&slow].signal(Signal::CONT);
        // A leader, whoever that is: each of them leads some partition.
        let id = 1 + random.below(3) as u32;
        machines.kill_broker(id);
        kills += 1;
        pause(&mut random, 50, 400);
        machines.start_broker(id);
        links.set_process(id, machines.brokers[&id].id());
        wait_in_sync(&runtime, &machines.client(), "t");
    }
    ended.store(true, Ordering::Relaxed);
    let cuts = cutter.join().unwrap();
    for producer in producers {
        runtime.block_on(producer).unwrap();
    }

    let (mut missing, mut twice) = (0, 0);
    for partition in 0..PARTITIONS {
        for numbers in runtime.block_on(read(&cluster, partition)) {
            let sent = (0..count).filter(|number| place_of(*number) == partition);
            let sent: Vec<u64> = sent.collect();
            let mut sorted = numbers.clone();
            sorted.sort_unstable();
            sorted.dedup();
            twice += numbers.len() - sorted.len();
            missing += sent.len() - sorted.len();
            assert!(numbers == sent, "partition {partition}: {missing} missing, {twice} twice");
        }
    }
    println!(
        "{} records, {cuts} times answers were lost, {kills} brokers killed: {missing} missing, \
         {twice} twice, all in order",
        count * PRODUCERS
    );
    assert!(cuts > 5 && kills > 0);
    links.stop();
    wait_in_sync(&runtime, &machines.client(), "t");
    assert_replicas_equal(&mut machines, "t", PARTITIONS);
}

/// A record of this producer, with this number, into partition 1.
fn append_numbered(broker: &Broker, producer: i64, sequence: i32) -> Result<Appended, Fault> {
    let mut batch = BatchBuilder::new(Compression::None);
    batch.push(Timestamp(1), &RecordFields::default());
    let mut batch = batch.finish().unwrap();
    number(&mut batch, producer, 0, sequence).unwrap();
    let (topic, length) = ("t".to_owned(), batch.len() as u32);
    let parts = vec![ProducePart { topic, topic_id: Uuid::nil(), partition: 1, length }];
    let message = Produce { acks: -1, timeout_ms: 60_000, parts };
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.write_all(&request(1, &message, batch.len())).unwrap();
    stream.write_all(&batch).unwrap();
    wire::answer_to(&mut stream, &message).0.parts.remove(0)
}

/// Waits until the broker has forgotten whoever has sent nothing since now: a producer that it knows may leave
/// out no number.
fn wait_until_forgotten(broker: &Broker, probe: i64) {
    append_numbered(broker, probe, 0).unwrap();
    wait_until("idle producers are forgotten", || match append_numbered(broker, probe, 7) {
        Ok(_) => true,
        Err(fault) => {
            assert_eq!(fault.code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, "{fault}");
            false
        }
    });
}

/// The log forgets a producer that is idle; when that goes on, its numbers follow nothing that is known, while answers
/// are lost and what was sent is sent again.
#[test]
fn a_producer_that_was_forgotten_goes_on() {
    const ROUNDS: u64 = 3;
    const RECORDS: u64 = 2000;
    let links = Arc::new(Links::default());
    let target = Target::default();
    let road = road_to_broker(&links, 1, target.clone());
    let advertised = format!("advertised.listeners={road}");
    let (_root, data) = data_dir();
    let settings = [
        &*advertised,
        "num.partitions=2",
        "log.retention.check.interval.ms=100ms",
        // Much longer than what was not answered takes to be sent again.
        "producer.id.expiration.ms=3s",
    ];
    let flags: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    links.set_process(1, broker.id());
    *target.lock() = Some(broker.address().to_owned());
    let runtime = Runtime::new().unwrap();
    let cluster = Cluster::new(vec![road], ClusterSettings::default());
    let settings = ProducerSettings {
        linger: Duration::from_millis(1),
        batch_size: 512,
        ..ProducerSettings::default()
    };
    let _inside = runtime.enter();
    let producer = Producer::new(cluster.clone(), settings);
    let mut random = Random::new(9);
    for round in 0..ROUNDS {
        let sending = async {
            let mut sent = Vec::new();
            for number in round * RECORDS..(round + 1) * RECORDS {
                let record = ProducerRecord {
                    topic: "t".into(),
                    partition: Some(0),
                    value: Some(format!("0 {number}").into()),
                    ..ProducerRecord::default()
                };
                sent.push(producer.send(record).await.unwrap());
            }
            for delivery in sent {
                delivery.receipt().await.unwrap();
            }
        };
        std::thread::scope(|scope| {
            let cutter = scope.spawn(|| {
                for _ in 0..10 {
                    lose_answers(&links, 1, &mut random);
                    pause(&mut random, 5, 40);
                }
            });
            runtime.block_on(sending);
            cutter.join().unwrap();
        });
        wait_until_forgotten(&broker, 1 + round as i64);
    }
    runtime.block_on(producer.close());
    let found = runtime.block_on(read(&cluster, 0)).remove(0);
    let all: Vec<u64> = (0..ROUNDS * RECORDS).collect();
    assert!(found == all, "{} of {} records", found.len(), all.len());
    links.stop();
    broker.stop();
}
