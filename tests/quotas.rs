//! One greedy or slow client does not harm the others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use common::{Broker, data_dir};
use mk::client::{
    Admin, Cluster, ClusterSettings, Consumer, ConsumerSettings, GroupConsumer, GroupSettings,
    Producer, ProducerRecord, ProducerSettings, StartAt,
};
use mk_net::codec::decode;
use mk_net::envelope::request;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::frame::{FrameHeader, HEADER_LEN};
use mk_net::message::{Fetch, FetchPart};
use tokio::runtime::Runtime;
use uuid::Uuid;

const MIB: usize = 1 << 20;

fn client(broker: &Broker, name: &str) -> Cluster {
    let settings = ClusterSettings { client_id: name.to_owned(), ..ClusterSettings::default() };
    Cluster::new(vec![broker.address().to_owned()], settings)
}

/// Sends so many records of 64 KiB; answers how long the last acknowledgement took to come.
async fn produce(cluster: &Cluster, records: usize) -> Duration {
    produce_of(cluster, records, MIB / 16).await
}

async fn produce_of(cluster: &Cluster, records: usize, size: usize) -> Duration {
    let producer = Producer::new(cluster.clone(), ProducerSettings::default());
    let begin = Instant::now();
    let mut deliveries = Vec::new();
    for _ in 0..records {
        let record = ProducerRecord {
            topic: "t".into(),
            value: Some(vec![7u8; size].into()),
            ..ProducerRecord::default()
        };
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.receipt().await.unwrap();
    }
    producer.close().await;
    begin.elapsed()
}

async fn consume(cluster: &Cluster, bytes: usize) -> Duration {
    let settings = ConsumerSettings { max_bytes: 256 << 10, ..ConsumerSettings::default() };
    let mut consumer = Consumer::new(cluster.clone(), settings);
    let begin = Instant::now();
    consumer.subscribe("t", StartAt::Earliest).await.unwrap();
    let mut read = 0;
    while read < bytes {
        read += consumer.next().await.unwrap().bytes().len();
    }
    begin.elapsed()
}

#[test]
fn who_does_more_than_its_quota_waits_and_others_do_not() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let flags = ["--set", "quota.producer.default=1MiB", "--set", "quota.consumer.default=1MiB"];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    let (greedy, modest) = (client(&broker, "greedy"), client(&broker, "modest"));
    runtime.block_on(async {
        produce(&modest, 1).await;
        // A second's worth at once, then four more at the rate.
        let (sent, other) = tokio::join!(produce(&greedy, 5 * 16), async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let begin = Instant::now();
            // A second's worth, which is its own: if it were shared, each would wait for those before, and
            // for those of the greedy one between them.
            for _ in 0..15 {
                produce(&modest, 1).await;
            }
            begin.elapsed()
        });
        assert!(sent >= Duration::from_secs(3), "{sent:?}");
        assert!(other < Duration::from_secs(2), "{other:?}");
        let (read, other) = tokio::join!(consume(&greedy, 5 * MIB), async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            let begin = Instant::now();
            consume(&modest, 15 * MIB / 16).await;
            begin.elapsed()
        });
        assert!(read >= Duration::from_secs(3), "{read:?}");
        assert!(other < Duration::from_millis(800), "{other:?}");
    });
    broker.stop();
}

/// Who made a new connection was held no more: what it owed was asked for only with what came next.
#[test]
fn a_new_connection_does_not_pay_for_an_old_one() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let flags = ["--set", "quota.producer.default=1MiB", "--set", "quota.consumer.default=1MiB"];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    let begin = Instant::now();
    runtime.block_on(async {
        // Each of them sends one request.
        for _ in 0..10 {
            produce_of(&client(&broker, "greedy"), 1, MIB / 2).await;
        }
    });
    assert!(begin.elapsed() >= Duration::from_secs(3), "{:?}", begin.elapsed());
    let begin = Instant::now();
    runtime.block_on(async {
        for _ in 0..10 {
            consume(&client(&broker, "greedy"), MIB / 2).await;
        }
    });
    assert!(begin.elapsed() >= Duration::from_secs(3), "{:?}", begin.elapsed());
    broker.stop();
}

/// Whoever did not say who it is, or that it carries records, was served once on each new connection.
#[test]
fn who_owes_is_refused_on_a_new_connection_whatever_it_says_of_itself() {
    let (_root, data) = data_dir();
    let flags = ["--set", "quota.consumer.default=1MiB"];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    let runtime = Runtime::new().unwrap();
    runtime.block_on(produce(&client(&broker, "other"), 64));
    let mut refused = 0;
    for _ in 0..5 {
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        stream.write_all(&request(1, &fetch_all(), 0)).unwrap();
        let mut head = [0; HEADER_LEN];
        stream.read_exact(&mut head).unwrap();
        let header = FrameHeader::parse(&head, u32::MAX).unwrap();
        if header.failed {
            let mut body = vec![0; header.body_len()];
            stream.read_exact(&mut body).unwrap();
            let fault: Fault = decode(&body).unwrap();
            assert_eq!(fault.code, ErrorCode::THROTTLING_QUOTA_EXCEEDED);
            refused += 1;
        }
    }
    // A second's worth at once, and another that makes a debt.
    assert!(refused >= 3, "{refused}");
    broker.stop();
}

/// A member whose client had produced more than its quota was held with all it had to say, and put out of its
/// group.
#[test]
fn who_is_held_for_its_records_is_heard_all_the_same() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let flags = [
        "--set",
        "quota.producer.default=256KiB",
        "--set",
        "group.consumer.session.timeout.ms=2s",
        "--set",
        "group.consumer.heartbeat.interval.ms=300ms",
    ];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    let cluster = client(&broker, "busy");
    runtime.block_on(async {
        // A topic that is made later begins an epoch, too.
        produce(&cluster, 1).await;
        let mut member = GroupConsumer::join(cluster.clone(), GroupSettings::of("g"), &["t"]);
        // So much that it is held for four seconds, twice as long as a session.
        let (sent, ()) = tokio::join!(produce(&cluster, 20), async {
            let mut read = 0;
            while read < 21 {
                read += member.next().await.unwrap().records().count();
            }
        });
        produce(&cluster, 1).await;
        assert!(sent > Duration::from_secs(3), "it was held: {sent:?}");
        let members = Admin::new(cluster.clone()).describe_group("g").await.unwrap().members;
        assert_eq!((members.len(), members[0].epoch), (1, 1), "it was never put out");
        member.close().await.unwrap();
    });
    broker.stop();
}

#[test]
fn who_asks_too_often_waits() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let flags = ["--set", "quota.request.default=20"];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    let begin = Instant::now();
    runtime.block_on(async {
        let cluster = client(&broker, "greedy");
        for _ in 0..60 {
            cluster.metadata(Some(Vec::new()), false).await.unwrap();
        }
    });
    assert!(begin.elapsed() >= Duration::from_millis(1500), "{:?}", begin.elapsed());
    broker.stop();
}

/// Asks for all there is, again and again, and reads nothing of it.
fn ask_and_never_read(broker: &Broker) -> TcpStream {
    let mut stream = TcpStream::connect(broker.address()).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    for correlation in 0..10_000 {
        if stream.write_all(&request(correlation, &fetch_all(), 0)).is_err() {
            break;
        }
    }
    stream
}

fn fetch_all() -> Fetch {
    let part = FetchPart {
        topic: "t".to_owned(),
        topic_id: Uuid::nil(),
        partition: 0,
        offset: 0,
        max_bytes: 64 << 20,
        leader_epoch: -1,
        last_epoch: -1,
        high_watermark: 0,
    };
    Fetch {
        max_wait_ms: 0,
        min_bytes: 0,
        max_bytes: 64 << 20,
        rack: String::new(),
        replica: None,
        reader: None,
        parts: vec![part],
    }
}

/// How long acknowledgements take, of records sent one at a time while another producer sends as fast as it can:
/// half of them, and all but one of a hundred.
async fn others(broker: &Broker, records: usize) -> (Duration, Duration) {
    let full_speed = client(broker, "fast");
    let sending = tokio::spawn(async move {
        loop {
            produce(&full_speed, 64).await;
        }
    });
    let producer = Producer::new(
        client(broker, "modest"),
        ProducerSettings { linger: Duration::ZERO, ..ProducerSettings::default() },
    );
    let mut times = Vec::with_capacity(records);
    for _ in 0..records {
        let begin = Instant::now();
        let record = ProducerRecord {
            topic: "other".into(),
            value: Some(vec![7u8; 100].into()),
            ..ProducerRecord::default()
        };
        producer.send(record).await.unwrap().receipt().await.unwrap();
        times.push(begin.elapsed());
    }
    sending.abort();
    producer.close().await;
    times.sort();
    (times[records / 2], times[records * 99 / 100])
}

#[test]
fn those_who_never_read_cost_the_broker_no_memory_and_others_no_time() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let flags = ["--set", "log.flush.policy=os"];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    let cluster = client(&broker, "modest");
    runtime.block_on(produce(&cluster, 512));
    let alone = runtime.block_on(others(&broker, 2000));
    let before = broker.resident_bytes();
    let slow: Vec<TcpStream> = (0..20).map(|_| ask_and_never_read(&broker)).collect();
    let beside = runtime.block_on(others(&broker, 2000));
    let read = runtime.block_on(consume(&cluster, 16 * MIB));
    let grown = broker.resident_bytes().saturating_sub(before);
    println!("20 that never read: {grown} bytes more");
    println!(
        "others beside a producer at full speed, p50 and p99: {alone:?}, with them {beside:?}"
    );
    println!("16 MiB are read in {read:?}");
    assert!(grown < 32 << 20, "{grown}");
    // Two cores that do much else; what is held up by a client waits for seconds.
    assert!(beside.1 < alone.1 * 3 + Duration::from_millis(20), "{alone:?} {beside:?}");
    drop(slow);
    broker.stop();
}
