//! The client library against a broker that is not always there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Broker, data_dir};
use mk::client::{
    Acks, Admin, ClientError, Cluster, ClusterSettings, Consumer, ConsumerSettings, OffsetReset,
    Producer, ProducerRecord, ProducerSettings, RetryDecision, RetryInterceptor, StartAt,
};
use mk_net::fault::ErrorCode;
use mk_net::message::{At, Durability};
use tokio::time::timeout;

const LONG: Duration = Duration::from_secs(60);

fn cluster(broker: &Broker) -> Cluster {
    let settings = ClusterSettings {
        metadata_max_age: Duration::from_millis(200),
        api_timeout: Duration::from_secs(10),
        ..ClusterSettings::default()
    };
    Cluster::new(vec![broker.address().to_owned()], settings)
}

fn record(topic: &str, value: &[u8]) -> ProducerRecord {
    let value = Some(value.to_vec().into());
    ProducerRecord { topic: topic.into(), value, ..ProducerRecord::default() }
}

/// A broker that had as many connections as it may closed further ones, and the client said that it had ended.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_turned_away_is_told_why_and_comes_in_when_there_is_room() {
    let (_root, data) = data_dir();
    let broker = Broker::start_with(&data, "127.0.0.1:0", &["--set", "max.connections=2"]);
    // They are accepted in this order.
    let connect = || std::net::TcpStream::connect(broker.address()).unwrap();
    let others = [connect(), connect()];
    let settings =
        ClusterSettings { api_timeout: Duration::from_secs(1), ..ClusterSettings::default() };
    let hurried = Admin::new(Cluster::new(vec![broker.address().to_owned()], settings));
    let error = hurried.metadata(None).await.unwrap_err();
    let ClientError::TimedOut { last: Some(last), .. } = &error else { panic!("{error}") };
    let ClientError::TurnedAway { fault, .. } = &**last else { panic!("{error}") };
    assert_eq!(fault.code, ErrorCode::THROTTLING_QUOTA_EXCEEDED);
    assert!(fault.message.starts_with("2 connections"), "{fault}");
    assert!(error.hint().unwrap().contains("max.connections"), "{error}");

    let patient = Admin::new(cluster(&broker));
    let asking = tokio::spawn(async move { patient.metadata(None).await });
    drop(others);
    timeout(LONG, asking).await.unwrap().unwrap().unwrap();
    broker.stop();
}

/// With the broker gone, a producer holds as much as its buffer does and no more; what is not
/// delivered in time fails, and makes room.
#[tokio::test(flavor = "multi_thread")]
async fn the_buffer_is_bounded_and_records_fail_in_time() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let settings = ProducerSettings {
        buffer_memory: 20_000,
        delivery_timeout: Duration::from_secs(6),
        ..ProducerSettings::default()
    };
    let cluster = Cluster::new(vec![broker.address().to_owned()], ClusterSettings::default());
    let producer = Producer::new(cluster, settings);
    producer.send(record("t", b"first")).await.unwrap().receipt().await.unwrap();
    broker.kill();
    let mut deliveries = Vec::new();
    let value = vec![7; 1000];
    while let Ok(sent) = timeout(Duration::from_secs(2), producer.send(record("t", &value))).await {
        deliveries.push(sent.unwrap());
        assert!(deliveries.len() < 20, "20 records of 1000 bytes in a buffer of 20 000");
    }
    assert!(deliveries.len() >= 15, "{}", deliveries.len());
    // Once it took a minute: whoever asked for the leader held the records while he asked.
    let start = Instant::now();
    for delivery in deliveries {
        let error = timeout(LONG, delivery.receipt()).await.unwrap().unwrap_err();
        assert!(matches!(error, ClientError::NotDelivered { .. }), "{error}");
        assert!(error.is_unreachable());
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    timeout(LONG, producer.send(record("t", &value))).await.unwrap().unwrap();
    // And a flush ends, whatever becomes of them.
    timeout(LONG, producer.flush()).await.unwrap();
}

/// Somebody accepts and never answers, as when the way to the broker is gone without a word. The
/// next try must not wait on the same connection again.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_does_not_answer_is_not_used_again() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let settings = ClusterSettings {
        request_timeout: Duration::from_millis(100),
        api_timeout: Duration::from_secs(30),
        ..ClusterSettings::default()
    };
    let cluster = Cluster::new(vec![silent.local_addr().unwrap().to_string()], settings);
    let asking = tokio::spawn(async move { Admin::new(cluster).metadata(None).await });
    let first = timeout(LONG, silent.accept()).await.unwrap().unwrap();
    let second = timeout(LONG, silent.accept()).await.unwrap().unwrap();
    assert_ne!(first.1, second.1);
    asking.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_say_where_and_how_safe() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    for (acks, offset, durability) in [
        (Acks::All, Some(0), Durability::Disk),
        (Acks::Leader, Some(1), Durability::Memory),
        (Acks::None, None, Durability::None),
    ] {
        let settings = ProducerSettings { acks, ..ProducerSettings::default() };
        let producer = Producer::new(cluster(&broker), settings);
        let receipt = producer.send(record("t", b"x")).await.unwrap().receipt().await.unwrap();
        assert_eq!((receipt.offset, receipt.durability), (offset, durability));
        assert_eq!((&*receipt.topic, receipt.partition), ("t", 0));
        producer.close().await;
    }
    // With acks=0 nobody says when the record is there; but closing sends it. (It once did not.)
    let admin = Admin::new(cluster(&broker));
    timeout(LONG, async {
        while admin.list_offsets("t", &[0], At::Latest).await.unwrap()[0].as_ref().unwrap().offset
            != Some(3)
        {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    let producer = Producer::new(cluster(&broker), ProducerSettings::default());
    let wrong = ProducerRecord { partition: Some(7), ..record("t", b"x") };
    let error = producer.send(wrong).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    let error = producer.send(record("t", &vec![0; 9 << 20])).await.unwrap_err();
    assert!(matches!(error, ClientError::RecordTooLarge { .. }), "{error}");
    // Larger than the broker takes: that record fails, those around it do not.
    let before = producer.send(record("t", b"before")).await.unwrap();
    let large = producer.send(record("t", &vec![0; 3 << 20])).await.unwrap();
    let after = producer.send(record("t", b"after")).await.unwrap();
    assert_eq!(before.receipt().await.unwrap().offset, Some(3));
    assert_eq!(large.receipt().await.unwrap_err().code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
    assert_eq!(after.receipt().await.unwrap().offset, Some(4));
}

/// A request that the broker does not read at all failed only when its time was up, after it had
/// been sent again and again, and without a word why.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_large_fails_at_once() {
    let (_root, data) = data_dir();
    let limit = ["--set", "socket.request.max.bytes=64KiB"];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &limit);
    let producer = Producer::new(cluster(&broker), ProducerSettings::default());
    let start = Instant::now();
    let delivery = producer.send(record("t", &vec![0; 1 << 20])).await.unwrap();
    let error = timeout(LONG, delivery.receipt()).await.unwrap().unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30));
    let small = producer.send(record("t", b"small")).await.unwrap();
    assert_eq!(small.receipt().await.unwrap().offset, Some(0));
}

/// Two topics are read; one is deleted while no connection is there. The other goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_deleted_ends_alone() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let address = broker.address().to_owned();
    broker.run(&["topic", "create", "a", "b"]);
    let mut consumer = Consumer::new(cluster(&broker), ConsumerSettings::default());
    consumer.subscribe("a", StartAt::Earliest).await.unwrap();
    consumer.subscribe("b", StartAt::Earliest).await.unwrap();
    broker.stop();
    std::fs::remove_dir_all(data.join("topics/a")).unwrap();
    let broker = Broker::start_with(&data, &address, &[]);
    broker.run_with_input(&["produce", "b"], b"still here\n");
    let mut gone = 0;
    loop {
        match timeout(LONG, consumer.next()).await.unwrap() {
            Ok(batches) => {
                assert_eq!(&*batches.topic, "b");
                break;
            }
            Err(error) => {
                assert!(error.to_string().contains("'a'"), "{error}");
                gone += 1;
            }
        }
    }
    assert!(gone <= 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscriber_finds_partitions_that_are_added() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let cluster = cluster(&broker);
    let settings =
        ConsumerSettings { max_wait: Duration::from_millis(500), ..ConsumerSettings::default() };
    let mut consumer = Consumer::new(cluster.clone(), settings);
    assert_eq!(consumer.subscribe("t", StartAt::Latest).await.unwrap(), [(0, 0)]);
    let admin = Admin::new(cluster.clone());
    assert_eq!(admin.add_partitions("t", 3, false).await.unwrap(), 3);
    let producer = Producer::new(cluster, ProducerSettings::default());
    let late = ProducerRecord { partition: Some(2), ..record("t", b"late") };
    producer.send(late).await.unwrap().receipt().await.unwrap();
    let batches = timeout(LONG, consumer.next()).await.unwrap().unwrap();
    assert_eq!((batches.partition, batches.next_offset), (2, 1));
    let record = batches.records().next().unwrap().unwrap();
    assert_eq!(record.value.as_deref(), Some(&b"late"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_consumer_does_when_its_next_record_is_gone() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let lines: String = (0..10).map(|n| format!("{n}\n")).collect();
    broker.run_with_input(&["produce", "t"], lines.as_bytes());
    broker.run(&["topic", "trim", "-y", "t", "--before", "6"]);
    for (offset_reset, expected) in [
        (OffsetReset::Earliest, Some(6)),
        (OffsetReset::Latest, Some(10)),
        (OffsetReset::None, None),
    ] {
        let settings = ConsumerSettings { offset_reset, ..ConsumerSettings::default() };
        let mut consumer = Consumer::new(cluster(&broker), settings);
        consumer.assign("t", &[0], StartAt::Offset(2)).await.unwrap();
        if offset_reset == OffsetReset::Latest {
            // Long enough after the reset: what comes now is what it sees.
            tokio::time::sleep(Duration::from_millis(500)).await;
            broker.run_with_input(&["produce", "t"], b"10\n");
        }
        match (timeout(LONG, consumer.next()).await.unwrap(), expected) {
            (Ok(batches), Some(expected)) => {
                assert_eq!(batches.records().next().unwrap().unwrap().offset.0, expected);
            }
            (Err(error), None) => {
                assert_eq!(error.code(), Some(ErrorCode::OFFSET_OUT_OF_RANGE));
            }
            (result, _) => panic!("{offset_reset:?}: {result:?}"),
        }
    }
}

/// A fetch was waiting at the end when its partition was assigned from the start: what it then
/// brought was taken for the new position, and all records before it were skipped.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_is_assigned_anew_skips_nothing() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    broker.run_with_input(&["produce", "t"], b"0\n1\n2\n");
    // The answer to the first assignment's fetch comes as late as it can: with the second's.
    let settings = ConsumerSettings { min_bytes: 200, ..ConsumerSettings::default() };
    let mut consumer = Consumer::new(cluster(&broker), settings);
    consumer.assign("t", &[0], StartAt::Latest).await.unwrap();
    consumer.assign("t", &[0], StartAt::Earliest).await.unwrap();
    let mut next = 0;
    while next < 6 {
        let value = [b'x'; 300];
        broker.run_with_input(&["produce", "t", "-q"], &value);
        let batches = timeout(LONG, consumer.next()).await.unwrap().unwrap();
        for record in batches.records() {
            let offset = record.unwrap().offset.0;
            assert_eq!(offset, next);
            next += 1;
        }
    }
}

/// A consumer outlives its broker: it goes on where it was.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_on_after_the_broker_was_killed() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let address = broker.address().to_owned();
    broker.run_with_input(&["produce", "t"], b"before\n");
    let mut consumer = Consumer::new(cluster(&broker), ConsumerSettings::default());
    consumer.subscribe("t", StartAt::Earliest).await.unwrap();
    assert_eq!(consumer.next().await.unwrap().next_offset, 1);
    broker.kill();
    let broker = Broker::start_with(&data, &address, &[]);
    broker.run_with_input(&["produce", "t"], b"after\n");
    let batches = timeout(LONG, consumer.next()).await.unwrap().unwrap();
    let values: Vec<_> = batches.records().map(|record| record.unwrap().value.unwrap()).collect();
    assert_eq!(values, ["after"]);
}

/// Producers and consumers found partitions that were added when what they knew was half a minute old.
#[tokio::test(flavor = "multi_thread")]
async fn added_partitions_reach_running_producers_and_consumers_within_a_second() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let connect = || Cluster::new(vec![broker.address().to_owned()], ClusterSettings::default());
    let (sending, reading) = (connect(), connect());
    let producer = Producer::new(sending.clone(), ProducerSettings::default());
    producer.send(record("t", b"first")).await.unwrap().receipt().await.unwrap();
    let mut consumer = Consumer::new(reading.clone(), ConsumerSettings::default());
    consumer.subscribe("t", StartAt::Earliest).await.unwrap();
    assert_eq!(timeout(LONG, consumer.next()).await.unwrap().unwrap().partition, 0);
    let added = Admin::new(connect()).add_partitions("t", 3, false).await.unwrap();
    assert_eq!(added, 3);
    let begin = Instant::now();
    let mut sent = BTreeSet::new();
    while sent.len() < 3 {
        let delivery = producer.send(record("t", &[7; 60_000])).await.unwrap();
        sent.insert(delivery.receipt().await.unwrap().partition);
    }
    let (found, mut read) = (begin.elapsed(), BTreeSet::from([0]));
    while read.len() < 3 {
        read.insert(timeout(LONG, consumer.next()).await.unwrap().unwrap().partition);
    }
    println!("the producer after {found:?}, the consumer after {:?}", begin.elapsed());
    assert!(begin.elapsed() < Duration::from_secs(1), "{found:?} {:?}", begin.elapsed());
    producer.close().await;
    // Nothing that waits at the broker keeps a client alive that nobody has any more.
    drop((consumer, reading, sending));
    let admin = Admin::new(connect());
    let begin = Instant::now();
    while admin.list_clients().await.unwrap().0.len() > 1 {
        assert!(begin.elapsed() < Duration::from_secs(8), "the others are still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    broker.stop();
}

/// What was fetched before came all the same, and whoever went back was handed records twice or out of order.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_goes_where_it_is_told_to() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let cluster = cluster(&broker);
    let producer = Producer::new(cluster.clone(), ProducerSettings::default());
    for n in 0..1000u32 {
        // Batches of a few records.
        let delivery = producer.send(record("t", &n.to_le_bytes())).await.unwrap();
        if n % 10 == 9 {
            delivery.receipt().await.unwrap();
        }
    }
    let settings = ConsumerSettings { partition_max_bytes: 2000, ..ConsumerSettings::default() };
    let mut consumer = Consumer::new(cluster.clone(), settings);
    assert!(!consumer.seek("t", 0, 5).unwrap(), "it does not read that");
    consumer.subscribe("t", StartAt::Earliest).await.unwrap();
    timeout(LONG, consumer.next()).await.unwrap().unwrap();
    for to in [500, 3, 999, 0, 250] {
        // So long that more was fetched.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(consumer.seek("t", 0, to).unwrap());
        assert_eq!(consumer.position("t", 0), Some(to));
        let batches = timeout(LONG, consumer.next()).await.unwrap().unwrap();
        let first = batches.records().next().unwrap().unwrap();
        assert_eq!(first.offset.0, to, "nothing of before comes");
        assert_eq!(consumer.position("t", 0), Some(batches.next_offset));
    }
    consumer.seek("t", 0, 990).unwrap();
    while consumer.position("t", 0) != Some(1000) {
        timeout(LONG, consumer.next()).await.unwrap().unwrap();
    }
    consumer.pause("t", 0).unwrap();
    consumer.seek("t", 0, 0).unwrap();
    let paused = timeout(Duration::from_millis(300), consumer.next()).await;
    assert!(paused.is_err(), "it stays paused: {paused:?}");
    consumer.resume("t", 0).unwrap();
    assert_eq!(timeout(LONG, consumer.next()).await.unwrap().unwrap().records().count() % 10, 0);
    consumer.unassign("t", 0).unwrap();
    assert_eq!(consumer.position("t", 0), None);
    assert!(timeout(Duration::from_millis(300), consumer.next()).await.is_err());
    producer.close().await;
    broker.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_decides_what_is_sent_again() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let asked: Arc<Mutex<Vec<(u32, String)>>> = Arc::default();
    let noted = asked.clone();
    let interceptor = RetryInterceptor::new(move |retry| {
        assert_eq!((retry.topic, retry.partition, retry.records), ("t", 0, 1));
        noted.lock().unwrap().push((retry.attempts, retry.error.to_string()));
        if retry.attempts < 3 { RetryDecision::SendAgain } else { RetryDecision::GiveUp }
    });
    let settings =
        ProducerSettings { retry_interceptor: Some(interceptor), ..ProducerSettings::default() };
    let producer = Producer::new(cluster(&broker), settings);
    producer.send(record("t", b"first")).await.unwrap().receipt().await.unwrap();
    broker.kill();
    let delivery = producer.send(record("t", b"second")).await.unwrap();
    let error = timeout(LONG, delivery.receipt()).await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::NotDelivered { .. }), "{error}");
    let attempts: Vec<u32> = asked.lock().unwrap().iter().map(|(attempt, _)| *attempt).collect();
    assert_eq!(attempts, [1, 2, 3], "{:?}", asked.lock().unwrap());
}
