//! Consumer groups, with real brokers: who reads what, and what is lost or read twice when members and
//! brokers come, go and die.
//!
//! `MK_GROUP_SECONDS=60` lets members come and go for so long; `MK_TEST_LOG=info` shows all logs.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
mod machines;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Broker, data_dir, wait_until};
use machines::Machines;
use mk::client::{
    Acknowledge, Admin, Cluster, ClusterSettings, GroupConsumer, GroupSettings, OffsetReset,
    Producer, ProducerRecord, ProducerSettings,
};
use mk_net::fault::ErrorCode;
use mk_net::message::{AlterTopic, NewTopic, PartitionOf};
use parking_lot::Mutex;
use rustix::process::Signal;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const TOPIC: &str = "orders";

/// Shows what clients in this process do, if `MK_TEST_LOG` says so.
fn show_log() {
    if let Ok(level) = std::env::var("MK_TEST_LOG") {
        let log = tracing_subscriber::fmt().with_env_filter(level).with_writer(std::io::stderr);
        // Another test may have begun it.
        let _ = log.try_init();
    }
}

fn client(broker: &Broker) -> Cluster {
    Cluster::new(vec![broker.address().to_owned()], ClusterSettings::default())
}

async fn create(cluster: &Cluster, partitions: u32) {
    let topic = NewTopic {
        name: TOPIC.to_owned(),
        partitions: Some(partitions),
        replication_factor: None,
        settings: Vec::new(),
    };
    let created = Admin::new(cluster.clone()).create_topics(vec![topic], false).await.unwrap();
    created[0].result.as_ref().unwrap();
}

/// Numbers from `from` on, so many, spread over the partitions by their keys.
async fn produce(cluster: &Cluster, from: u64, count: u64) {
    let producer = Producer::new(cluster.clone(), ProducerSettings::default());
    let mut deliveries = Vec::new();
    for number in from..from + count {
        let record = ProducerRecord {
            topic: TOPIC.into(),
            key: Some((number % 97).to_string().into()),
            value: Some(number.to_string().into()),
            ..ProducerRecord::default()
        };
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.receipt().await.unwrap();
    }
    producer.close().await;
}

fn settings(acknowledge: Acknowledge) -> GroupSettings {
    GroupSettings {
        acknowledge,
        commit_interval: Duration::from_millis(200),
        ..GroupSettings::of("billing")
    }
}

/// How long after a record of a partition the next one was read, by the same member and by another.
#[derive(Default)]
struct Gaps {
    last: BTreeMap<u32, (u32, Instant)>,
    kept: Vec<Duration>,
    moved: Vec<Duration>,
}

impl Gaps {
    fn note(&mut self, partition: u32, member: u32) {
        let now = Instant::now();
        if let Some((before, at)) = self.last.insert(partition, (member, now)) {
            let gaps = if before == member { &mut self.kept } else { &mut self.moved };
            gaps.push(now - at);
        }
    }

    fn tell(what: &str, gaps: &mut [Duration]) {
        gaps.sort();
        let at = |share: f64| gaps.get((gaps.len() as f64 * share) as usize).copied();
        println!(
            "{what}: {} gaps, p50 {:?}, p99 {:?}, longest {:?}",
            gaps.len(),
            at(0.5).unwrap_or_default(),
            at(0.99).unwrap_or_default(),
            gaps.last().copied().unwrap_or_default(),
        );
    }
}

/// What all members of a group have read.
#[derive(Default)]
struct Book {
    gaps: Gaps,
    /// How often each number was read.
    read: BTreeMap<u64, u32>,
    /// The last offset of each partition that each member has read.
    last: BTreeMap<(u32, u32), u64>,
    /// What was wrong.
    complaints: Vec<String>,
    may_go_back: bool,
}

/// A member that reads until it is told to stop.
struct Member {
    stop: oneshot::Sender<()>,
    task: JoinHandle<GroupConsumer>,
}

impl Member {
    fn start(
        runtime: &Runtime,
        cluster: &Cluster,
        settings: GroupSettings,
        number: u32,
        book: &Arc<Mutex<Book>>,
    ) -> Member {
        let _inside = runtime.enter();
        let consumer = GroupConsumer::join(cluster.another(), settings, &[TOPIC]);
        let (stop, stopped) = oneshot::channel();
        let task = runtime.spawn(read(consumer, number, book.clone(), stopped));
        Member { stop, task }
    }

    /// Leaves in good order.
    fn leave(self, runtime: &Runtime) {
        let _ = self.stop.send(());
        runtime.block_on(async { self.task.await.unwrap().close().await }).unwrap();
    }

    /// Vanishes without a word.
    fn vanish(self) {
        self.task.abort();
    }
}

async fn read(
    mut consumer: GroupConsumer,
    member: u32,
    book: Arc<Mutex<Book>>,
    mut stopped: oneshot::Receiver<()>,
) -> GroupConsumer {
    loop {
        let batches = tokio::select! {
            batches = consumer.next() => batches,
            _ = &mut stopped => return consumer,
        };
        let mut book = book.lock();
        let batches = match batches {
            Ok(batches) => batches,
            Err(error) => {
                book.complaints.push(format!("member {member}: {error}"));
                return consumer;
            }
        };
        book.gaps.note(batches.partition, member);
        for record in batches.records() {
            let record = record.unwrap();
            let text = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            *book.read.entry(text.parse().unwrap()).or_default() += 1;
            let place = (member, batches.partition);
            let before = book.last.insert(place, record.offset.0);
            if !book.may_go_back && before.is_some_and(|before| record.offset.0 <= before) {
                let (partition, offset) = (batches.partition, record.offset.0);
                let what = format!("member {member} went back to {offset} of {partition}");
                book.complaints.push(what);
            }
        }
    }
}

fn has_read(book: &Mutex<Book>, count: u64) -> bool {
    let book = book.lock();
    assert_eq!(book.complaints, Vec::<String>::new());
    book.read.len() as u64 == count
}

fn most_often(book: &Mutex<Book>) -> u32 {
    book.lock().read.values().copied().max().unwrap_or(0)
}

/// The members by how many partitions each reads.
fn shares(runtime: &Runtime, cluster: &Cluster) -> Vec<usize> {
    let described = runtime.block_on(Admin::new(cluster.clone()).describe_group("billing"));
    let Ok(group) = described else { return Vec::new() };
    if group.state != "Stable" {
        return Vec::new();
    }
    let of = |topics: &[mk_net::message::TopicPartitions]| {
        topics.iter().map(|topic| topic.partitions.len()).sum()
    };
    let mut shares: Vec<usize> = group.members.iter().map(|m| of(&m.assigned)).collect();
    shares.sort();
    shares
}

#[test]
fn members_share_the_partitions_and_hand_them_over_in_good_order() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let cluster = client(&broker);
    runtime.block_on(create(&cluster, 12));
    runtime.block_on(produce(&cluster, 0, 1000));
    let book = Arc::new(Mutex::new(Book::default()));
    let start =
        |n| Member::start(&runtime, &cluster, settings(Acknowledge::Automatically), n, &book);
    let first = start(1);
    wait_until("one reads all", || has_read(&book, 1000));
    let (second, third) = (start(2), start(3));
    wait_until("three share", || shares(&runtime, &cluster) == [4, 4, 4]);
    runtime.block_on(produce(&cluster, 1000, 1000));
    wait_until("three read all", || has_read(&book, 2000));
    first.leave(&runtime);
    wait_until("two share", || shares(&runtime, &cluster) == [6, 6]);
    runtime.block_on(produce(&cluster, 2000, 1000));
    wait_until("two read all", || has_read(&book, 3000));
    second.leave(&runtime);
    third.leave(&runtime);
    // Whoever comes later goes on where they have stopped.
    runtime.block_on(produce(&cluster, 3000, 1000));
    let fourth = start(4);
    wait_until("one reads the rest", || has_read(&book, 4000));
    fourth.leave(&runtime);
    assert_eq!(most_often(&book), 1, "nothing is read twice");
    broker.stop();
}

#[test]
fn what_a_member_was_not_done_with_is_read_by_another() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let flags = [
        "--set",
        "group.consumer.session.timeout.ms=1s",
        "--set",
        "group.consumer.heartbeat.interval.ms=200ms",
    ];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    let cluster = client(&broker);
    runtime.block_on(create(&cluster, 4));
    runtime.block_on(produce(&cluster, 0, 1000));
    let by_hand = || settings(Acknowledge::ByHand);
    // This one reads and is never done.
    let lost = Arc::new(Mutex::new(Book::default()));
    let first = Member::start(&runtime, &cluster, by_hand(), 1, &lost);
    wait_until("it has read all", || has_read(&lost, 1000));
    first.vanish();
    let mut second = {
        let _inside = runtime.enter();
        GroupConsumer::join(cluster.another(), by_hand(), &[TOPIC])
    };
    let mut read = BTreeSet::new();
    runtime.block_on(async {
        while read.len() < 1000 {
            let batches = second.next().await.unwrap();
            for record in batches.records() {
                let value = record.unwrap().value.unwrap();
                read.insert(String::from_utf8(value.to_vec()).unwrap());
            }
            second.acknowledge(&batches);
        }
        second.close().await.unwrap();
    });
    let group = runtime.block_on(Admin::new(cluster.clone()).describe_group("billing")).unwrap();
    let done: u64 = group.offsets.iter().map(|o| o.committed.as_ref().unwrap().offset).sum();
    assert_eq!((group.state.as_str(), done), ("Empty", 1000));
    broker.stop();
}

/// A member that left at once had its word to join arrive behind its word to leave: nobody read what it was
/// given until its session ended.
#[test]
fn who_leaves_while_it_joins_is_not_left_behind() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let cluster = client(&broker);
    runtime.block_on(async {
        create(&cluster, 4).await;
        produce(&cluster, 0, 10).await;
        let join =
            || GroupConsumer::join(cluster.clone(), settings(Acknowledge::Automatically), &[TOPIC]);
        for _ in 0..50 {
            join().close().await.unwrap();
        }
        // With an offset the group is kept, whoever is in it.
        let mut last = join();
        last.next().await.unwrap();
        last.commit().await.unwrap();
        last.close().await.unwrap();
        let group = Admin::new(cluster.clone()).describe_group("billing").await.unwrap();
        assert_eq!(group.members, []);
    });
    broker.stop();
}

/// A member that heard of no coordinator for a session had forgotten what it was done with; it was told that all
/// was committed, and others read that again.
#[test]
fn who_closes_behind_its_session_is_told_what_is_not_committed() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let session = ["--set", "group.consumer.session.timeout.ms=1s"];
    let beats = ["--set", "group.consumer.heartbeat.interval.ms=200ms"];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &[session, beats].concat());
    let cluster = client(&broker);
    runtime.block_on(create(&cluster, 1));
    runtime.block_on(produce(&cluster, 0, 100));
    let _inside = runtime.enter();
    let by_hand = GroupSettings {
        commit_interval: Duration::from_secs(3600),
        ..settings(Acknowledge::ByHand)
    };
    let mut member = GroupConsumer::join(cluster.another(), by_hand.clone(), &[TOPIC]);
    let batches = runtime.block_on(member.next()).unwrap();
    runtime.block_on(member.commit()).unwrap();
    member.acknowledge(&batches);
    broker.signal(Signal::STOP);
    wait_until("its session ends", || member.assignment().is_empty());
    broker.signal(Signal::CONT);
    let error = runtime.block_on(member.close()).unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_MEMBER_ID), "{error}");
    // Whoever is done with nothing has lost nothing.
    let mut other = GroupConsumer::join(cluster.another(), by_hand, &[TOPIC]);
    let again = runtime.block_on(other.next()).unwrap();
    assert_eq!(again.records().next().unwrap().unwrap().offset.0, 0);
    broker.signal(Signal::STOP);
    wait_until("its session ends", || other.assignment().is_empty());
    broker.signal(Signal::CONT);
    runtime.block_on(other.close()).unwrap();
    broker.stop();
}

#[test]
fn at_most_once_is_committed_before_it_is_handed_out() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let cluster = client(&broker);
    runtime.block_on(create(&cluster, 1));
    runtime.block_on(produce(&cluster, 0, 100));
    let _inside = runtime.enter();
    let join =
        || GroupConsumer::join(cluster.another(), settings(Acknowledge::BeforeDelivery), &[TOPIC]);
    let mut first = join();
    let batches = runtime.block_on(first.next()).unwrap();
    // It dies with what it was handed, and says goodbye only so that the test need not wait.
    let leave = async {
        first.close().await.unwrap();
        let group = Admin::new(cluster.clone()).describe_group("billing").await.unwrap();
        group.offsets[0].committed.clone().unwrap().offset
    };
    assert_eq!(runtime.block_on(leave), batches.next_offset);
    broker.stop();
}

/// The numbers in the next batches, or nothing if none come for a while.
async fn numbers(consumer: &mut GroupConsumer) -> Vec<u64> {
    let next = tokio::time::timeout(Duration::from_secs(2), consumer.next()).await;
    let Ok(batches) = next else { return Vec::new() };
    let text = |value: bytes::Bytes| String::from_utf8(value.to_vec()).unwrap();
    let batches = batches.unwrap();
    let numbers = batches.records().map(|r| text(r.unwrap().value.unwrap()).parse().unwrap());
    numbers.collect()
}

#[test]
fn a_member_seeks_pauses_and_begins_by_its_rule() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let cluster = client(&broker);
    runtime.block_on(async {
        create(&cluster, 1).await;
        produce(&cluster, 0, 10).await;
        let mut member =
            GroupConsumer::join(cluster.another(), settings(Acknowledge::Automatically), &[TOPIC]);
        assert_eq!(numbers(&mut member).await, (0..10).collect::<Vec<_>>());
        assert_eq!(member.assignment(), [(TOPIC.into(), 0)]);
        member.pause(TOPIC, 0).unwrap();
        produce(&cluster, 10, 1).await;
        // A fetch was on its way.
        let on_its_way = numbers(&mut member).await;
        produce(&cluster, 11, 1).await;
        assert!(numbers(&mut member).await.is_empty(), "after {on_its_way:?}");
        assert!(member.seek(TOPIC, 0, 5).unwrap());
        assert!(!member.seek(TOPIC, 7, 5).unwrap(), "it does not have that one");
        assert!(numbers(&mut member).await.is_empty(), "it is paused still");
        member.resume(TOPIC, 0).unwrap();
        assert_eq!(numbers(&mut member).await, (5..12).collect::<Vec<_>>());
        member.seek(TOPIC, 0, 3).unwrap();
        // Where it was told to go on it goes on, though it has read nothing there.
        member.close().await.unwrap();
        let group = Admin::new(cluster.clone()).describe_group("billing").await.unwrap();
        assert_eq!(group.offsets[0].committed.as_ref().unwrap().offset, 3);

        let by = |reset| {
            let mut other = settings(Acknowledge::Automatically);
            other.consumer.offset_reset = reset;
            GroupSettings { group: format!("by {reset:?}"), ..other }
        };
        let join = |settings| GroupConsumer::join(cluster.another(), settings, &[TOPIC]);
        let mut earliest = join(by(OffsetReset::Earliest));
        assert_eq!(numbers(&mut earliest).await[0], 0);
        let mut young = join(by(OffsetReset::ByDuration(Duration::from_secs(3600))));
        assert_eq!(numbers(&mut young).await[0], 0);
        let mut none = join(by(OffsetReset::None));
        let error = none.next().await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::OFFSET_OUT_OF_RANGE));
        // What comes while nobody is there is not skipped by who begins at the end.
        let mut latest = join(by(OffsetReset::Latest));
        assert!(numbers(&mut latest).await.is_empty());
        drop(latest);
        produce(&cluster, 12, 1).await;
        let group = Admin::new(cluster.clone()).describe_group("by Latest").await.unwrap();
        assert_eq!(group.offsets[0].committed.as_ref().unwrap().offset, 12);
    });
    broker.stop();
}

#[test]
fn offsets_are_set_and_groups_are_forgotten_only_while_nobody_is_there() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let cluster = client(&broker);
    let admin = Admin::new(cluster.clone());
    runtime.block_on(create(&cluster, 2));
    runtime.block_on(produce(&cluster, 0, 200));
    let none = runtime.block_on(admin.describe_group("billing")).unwrap_err();
    assert_eq!(none.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
    let book = Arc::new(Mutex::new(Book::default()));
    let by_itself = || settings(Acknowledge::Automatically);
    let member = Member::start(&runtime, &cluster, by_itself(), 1, &book);
    wait_until("all is read", || has_read(&book, 200));
    let partition = |partition| PartitionOf { topic: TOPIC.to_owned(), partition };
    let back = [(partition(0), 0), (partition(1), 0)];
    let set = runtime.block_on(admin.set_offsets("billing", &back)).unwrap();
    assert!(set.iter().all(|r| r.as_ref().unwrap_err().code == ErrorCode::NON_EMPTY_GROUP));
    let deleted = runtime.block_on(admin.delete_group("billing", None)).unwrap_err();
    assert_eq!(deleted.code(), Some(ErrorCode::NON_EMPTY_GROUP));
    member.leave(&runtime);
    let set = runtime.block_on(admin.set_offsets("billing", &back)).unwrap();
    assert!(set.iter().all(Result::is_ok));
    let bad = [(partition(9), 0)];
    let refused = runtime.block_on(admin.set_offsets("billing", &bad)).unwrap();
    assert_eq!(refused[0].as_ref().unwrap_err().code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    // All is read once more.
    let member = Member::start(&runtime, &cluster, by_itself(), 2, &book);
    wait_until("all is read twice", || book.lock().read.values().all(|count| *count == 2));
    member.leave(&runtime);
    let (groups, failed) = runtime.block_on(admin.list_groups()).unwrap();
    assert!(failed.is_empty());
    assert_eq!((groups.len(), groups[0].group.as_str(), groups[0].offsets), (1, "billing", 2));
    // They are in the log, and come back with it.
    broker.stop();
    let broker = Broker::start(&data);
    let (cluster, admin) = (client(&broker), Admin::new(client(&broker)));
    let (groups, _) = runtime.block_on(admin.list_groups()).unwrap();
    assert_eq!((groups.len(), groups[0].state.as_str()), (1, "Empty"));
    runtime.block_on(admin.delete_group("billing", None)).unwrap();
    let (groups, _) = runtime.block_on(Admin::new(cluster).list_groups()).unwrap();
    assert_eq!(groups, []);
    broker.stop();
}

#[test]
fn nobody_writes_into_the_offsets_topic_from_outside() {
    let runtime = Runtime::new().unwrap();
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let cluster = client(&broker);
    let admin = Admin::new(cluster.clone());
    let groups = runtime.block_on(async {
        create(&cluster, 1).await;
        produce(&cluster, 0, 1).await;
        let internal = "__consumer_offsets";
        // Made by somebody else it would have the settings of any topic, and forget offsets after a week.
        let made_by_reading = cluster.topic(internal).await.unwrap_err();
        assert_eq!(made_by_reading.code(), Some(ErrorCode::POLICY_VIOLATION));
        let topic = NewTopic {
            name: internal.to_owned(),
            partitions: Some(1),
            replication_factor: None,
            settings: Vec::new(),
        };
        let made = admin.create_topics(vec![topic], false).await.unwrap();
        let code = made[0].result.as_ref().unwrap_err().code;
        assert_eq!(code, ErrorCode::POLICY_VIOLATION);
        let _ = admin.describe_group("billing").await;
        let change = AlterTopic {
            name: internal.to_owned(),
            set: Vec::new(),
            unset: vec!["cleanup.policy".to_owned()],
            validate_only: false,
        };
        let altered = admin.alter_topic(change).await;
        assert_eq!(altered.unwrap_err().code(), Some(ErrorCode::POLICY_VIOLATION));
        let producer = Producer::new(cluster.clone(), ProducerSettings::default());
        let record = ProducerRecord {
            topic: internal.into(),
            key: Some("key".into()),
            ..ProducerRecord::default()
        };
        let refused = producer.send(record).await.unwrap().receipt().await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::POLICY_VIOLATION));
        let deleted = admin.delete_topics(vec![internal.to_owned()]).await.unwrap();
        let code = deleted[0].result.as_ref().unwrap_err().code;
        assert_eq!(code, ErrorCode::POLICY_VIOLATION);
        let grown = admin.add_partitions(internal, 100, false).await.unwrap_err();
        assert_eq!(grown.code(), Some(ErrorCode::POLICY_VIOLATION));
        admin.list_groups().await.unwrap().0
    });
    assert_eq!(groups, []);
    broker.stop();
}

/// What came of it when members and brokers came and went.
struct Churn {
    records: u64,
    members: u32,
    vanished: u32,
    killed: u32,
    twice: usize,
}

/// Members come and go, some without a word if they may; brokers are killed if they may be, the coordinator
/// among them.
fn churn(seconds: u64, may_vanish: bool, may_kill: bool) -> Churn {
    show_log();
    let runtime = Runtime::new().unwrap();
    let mut machines = Machines::start_with(&[]);
    let cluster = machines.client();
    runtime.block_on(create(&cluster, 12));
    // Who follows one that has vanished reads some of what it has read itself before.
    let book = Arc::new(Mutex::new(Book { may_go_back: may_vanish, ..Book::default() }));
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = {
        let (cluster, stop, written) = (cluster.another(), stop.clone(), written.clone());
        runtime.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let from = written.load(Ordering::Relaxed);
                produce(&cluster, from, 50).await;
                written.store(from + 50, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let mut churn = Churn { records: 0, members: 0, vanished: 0, killed: 0, twice: 0 };
    let mut members: Vec<Member> = Vec::new();
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(seconds) {
        churn.members += 1;
        let number = churn.members;
        let by_itself = settings(Acknowledge::Automatically);
        members.push(Member::start(&runtime, &cluster, by_itself, number, &book));
        if members.len() > 4 {
            let member = members.remove(0);
            if may_vanish && number.is_multiple_of(5) {
                churn.vanished += 1;
                member.vanish();
            } else {
                member.leave(&runtime);
            }
        }
        if may_kill && number.is_multiple_of(4) {
            let id = 1 + (number / 4) % 3;
            churn.killed += 1;
            machines.kill_broker(id);
            machines.start_broker(id);
            machines::wait_in_sync(&runtime, &cluster, TOPIC);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    stop.store(true, Ordering::Relaxed);
    runtime.block_on(writer).unwrap();
    churn.records = written.load(Ordering::Relaxed);
    wait_until("all is read", || has_read(&book, churn.records));
    members.into_iter().for_each(|member| member.leave(&runtime));
    let mut book = book.lock();
    churn.twice = book.read.values().filter(|count| **count > 1).count();
    Gaps::tell("partitions that stay", &mut book.gaps.kept);
    Gaps::tell("partitions that move", &mut book.gaps.moved);
    let Churn { records, members, vanished, killed, twice } = churn;
    println!(
        "{records} records, {members} members, of which {vanished} vanished, {killed} brokers \
         killed: {twice} records were read more than once"
    );
    churn
}

fn seconds_of_churn() -> u64 {
    std::env::var("MK_GROUP_SECONDS").map_or(5, |text| text.parse().unwrap())
}

#[test]
fn nothing_is_lost_when_members_vanish_and_brokers_are_killed() {
    let churn = churn(seconds_of_churn(), true, true);
    assert!(churn.vanished > 0 && churn.killed > 0);
}

/// A coordinator that was killed with answers on their way had the members fenced, which read again what
/// they had done since their last commit.
#[test]
fn each_record_is_read_once_while_brokers_are_killed() {
    let churn = churn(seconds_of_churn(), false, true);
    assert!(churn.killed > 0);
    assert_eq!(churn.twice, 0, "of {} records", churn.records);
}

/// `MK_GROUP_SECONDS=60 cargo test --release --test groups each_record_is_read_once_while_members -- --nocapture`
/// prints how long the records of a partition wait when it goes from one to another, and when it does not.
#[test]
fn each_record_is_read_once_while_members_come_and_go() {
    let churn = churn(seconds_of_churn(), false, false);
    assert_eq!(churn.twice, 0, "of {} records", churn.records);
}
