//! Groups that one of their members leads, as those of Kafka Connect and Kafka Streams: whatever the members say to each
//! other, the brokers hand it on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
mod machines;

use std::net::TcpStream;

use bytes::Bytes;
use common::kafka::{KafkaClient, text, versions};
use common::{Broker, data_dir, wait_until, with_input};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DescribeGroupsRequest,
    FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse,
    LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, SyncGroupRequest, TopicName,
};
use machines::Machines;
use mk_net::fault::ErrorCode;
use mk_net::kafka::api::ApiKey;

const GROUP: &str = "workers";

fn group() -> GroupId {
    GroupId(text(GROUP))
}

fn start(delay: &str) -> (tempfile::TempDir, Broker) {
    let (root, data) = data_dir();
    let delay = format!("group.initial.rebalance.delay.ms={delay}");
    let broker = Broker::start_with(&data, "127.0.0.1:0", &["--set", &delay]);
    broker.run(&["topic", "create", "orders", "-p", "4"]);
    (root, broker)
}

/// A connection to the broker that coordinates the group, which may be this one or another.
fn coordinator(address: &str) -> KafkaClient {
    let mut client = KafkaClient::connect(address);
    let request = FindCoordinatorRequest::default().with_key(text(GROUP));
    let mut at = String::new();
    wait_until("there is a coordinator, and no dead one", || {
        let found = client.call(3, &request);
        at = format!("{}:{}", found.host.as_str(), found.port);
        found.error_code == 0 && TcpStream::connect(&at).is_ok()
    });
    KafkaClient::connect(&at)
}

/// A worker, which says what it is called.
struct Worker {
    name: &'static str,
    version: i16,
    client: KafkaClient,
    id: String,
    generation: i32,
}

impl Worker {
    fn new(name: &'static str, version: i16, client: KafkaClient) -> Worker {
        Worker { name, version, client, id: String::new(), generation: -1 }
    }

    fn request(&self) -> JoinGroupRequest {
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("own"))
            .with_metadata(Bytes::from_static(self.name.as_bytes()));
        JoinGroupRequest::default()
            .with_group_id(group())
            .with_session_timeout_ms(30_000)
            .with_rebalance_timeout_ms(30_000)
            .with_member_id(text(&self.id))
            .with_protocol_type(text("connect"))
            .with_protocols(vec![protocol])
    }

    /// Asks to join, with the id that it is given if it needs one. What comes of it is not waited for.
    fn begin(&mut self) {
        if self.version >= 4 && self.id.is_empty() {
            let request = self.request();
            // A coordinator that is new does not know at once that it is one.
            wait_until("it is given an id", || {
                let told = self.client.call(self.version, &request);
                self.id = told.member_id.to_string();
                ErrorCode(told.error_code) == ErrorCode::MEMBER_ID_REQUIRED
            });
        }
        self.client.send(self.version, &self.request());
    }

    /// It has joined.
    fn joined(&mut self) -> JoinGroupResponse {
        let joined = self.client.receive::<JoinGroupRequest>(self.version);
        assert_eq!(joined.error_code, 0);
        (self.id, self.generation) = (joined.member_id.to_string(), joined.generation_id);
        joined
    }

    fn join(&mut self) -> JoinGroupResponse {
        self.begin();
        self.joined()
    }

    /// Asks what it is to do, and says it of all if it leads.
    fn ask(&mut self, work: &[(&str, &'static str)]) {
        let of = |(id, work): &(&str, &'static str)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(id))
                .with_assignment(Bytes::from_static(work.as_bytes()))
        };
        let request = SyncGroupRequest::default()
            .with_group_id(group())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_protocol_type(Some(text("connect")))
            .with_protocol_name(Some(text("own")))
            .with_assignments(work.iter().map(of).collect());
        self.client.send(self.version.min(5), &request);
    }

    fn told(&mut self) -> Result<Bytes, ErrorCode> {
        let told = self.client.receive::<SyncGroupRequest>(self.version.min(5));
        if told.error_code == 0 { Ok(told.assignment) } else { Err(ErrorCode(told.error_code)) }
    }

    fn beat(&mut self) -> ErrorCode {
        let request = HeartbeatRequest::default()
            .with_group_id(group())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id));
        ErrorCode(self.client.call(self.version.min(4), &request).error_code)
    }

    fn commit(&mut self) -> ErrorCode {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(7);
        let topic = OffsetCommitRequestTopic::default()
            .with_name(TopicName(text("orders")))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(group())
            .with_member_id(text(&self.id))
            .with_generation_id_or_member_epoch(self.generation)
            .with_topics(vec![topic]);
        let answer = self.client.call(8, &request);
        ErrorCode(answer.topics[0].partitions[0].error_code)
    }

    fn leave(&mut self) {
        let request =
            LeaveGroupRequest::default().with_group_id(group()).with_member_id(text(&self.id));
        assert_eq!(self.client.call(2, &request).error_code, 0);
    }
}

/// One joins, then another: both join again, and the first one gives out the work.
fn settle(address: &str, version: i16) -> (Worker, Worker) {
    let mut first = Worker::new("first", version, coordinator(address));
    let joined = first.join();
    assert_eq!(joined.leader.as_str(), first.id);
    let id = first.id.clone();
    first.ask(&[(&id, "all")]);
    assert_eq!(first.told(), Ok(Bytes::from_static(b"all")));
    let mut second = Worker::new("second", version, coordinator(address));
    second.begin();
    wait_until("the first is to join again", || first.beat() == ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = first.join();
    let follows = second.joined();
    assert_eq!((joined.leader.as_str(), follows.leader.as_str()), (&*first.id, &*first.id));
    assert_eq!((joined.generation_id, follows.generation_id), (first.generation, first.generation));
    assert_eq!(joined.protocol_name.as_deref(), Some("own"));
    assert!(follows.members.is_empty());
    let said = joined.members.iter().map(|m| (m.member_id.to_string(), m.metadata.clone()));
    let said: std::collections::BTreeMap<_, _> = said.collect();
    assert_eq!((&said[&first.id][..], &said[&second.id][..]), (&b"first"[..], &b"second"[..]));
    second.ask(&[]);
    let (left, right) = (first.id.clone(), second.id.clone());
    first.ask(&[(&left, "left"), (&right, "right")]);
    assert_eq!(first.told(), Ok(Bytes::from_static(b"left")));
    assert_eq!(second.told(), Ok(Bytes::from_static(b"right")));
    (first, second)
}

#[test]
fn in_every_version_the_leader_says_what_each_is_to_do() {
    let (_root, broker) = start("0s");
    for version in versions(ApiKey::JOIN_GROUP) {
        let (mut first, mut second) = settle(broker.address(), version);
        assert_eq!((first.beat(), second.beat()), (ErrorCode::NONE, ErrorCode::NONE));
        assert_eq!(second.commit(), ErrorCode::NONE);
        // The leader goes: the other one does all the work.
        second.ask(&[]);
        assert!(second.told().is_ok());
        first.leave();
        assert_eq!(second.beat(), ErrorCode::REBALANCE_IN_PROGRESS);
        assert_eq!(second.join().leader.as_str(), second.id);
        assert_eq!((first.beat(), first.commit()), {
            let gone = ErrorCode::UNKNOWN_MEMBER_ID;
            (gone, gone)
        });
        second.generation -= 1;
        assert_eq!(second.commit(), ErrorCode::ILLEGAL_GENERATION);
        second.leave();
    }
}

#[test]
fn such_a_group_is_listed_and_described() {
    let (_root, broker) = start("0s");
    let (mut first, second) = settle(broker.address(), 9);
    let client = &mut first.client;
    for version in versions(ApiKey::LIST_GROUPS) {
        let listed = client.call(version, &ListGroupsRequest::default()).groups;
        assert_eq!((listed.len(), listed[0].protocol_type.as_str()), (1, "connect"));
        if version >= 5 {
            assert_eq!(listed[0].group_type.as_str(), "classic");
            let others = ListGroupsRequest::default().with_types_filter(vec![text("consumer")]);
            assert_eq!(client.call(version, &others).groups, []);
        }
    }
    let request = DescribeGroupsRequest::default().with_groups(vec![group()]);
    for version in versions(ApiKey::DESCRIBE_GROUPS) {
        let described = client.call(version, &request).groups.remove(0);
        assert_eq!(
            (described.protocol_type.as_str(), described.protocol_data.as_str()),
            ("connect", "own")
        );
        assert_eq!((described.group_state.as_str(), described.members.len()), ("Stable", 2));
        let of = described.members.iter().find(|member| member.member_id.as_str() == second.id);
        let of = of.unwrap();
        assert_eq!(
            (&of.member_metadata[..], &of.member_assignment[..]),
            (&b"second"[..], &b"right"[..])
        );
    }
    let ids = vec![group()];
    let described = client.call(0, &ConsumerGroupDescribeRequest::default().with_group_ids(ids));
    assert_eq!(ErrorCode(described.groups[0].error_code), ErrorCode::GROUP_ID_NOT_FOUND);
    // Who would be told by the brokers what to read cannot join it.
    let consumer = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group())
        .with_rebalance_timeout_ms(10_000)
        .with_subscribed_topic_names(Some(vec![TopicName(text("orders"))]))
        .with_topic_partitions(Some(vec![]));
    let refused = client.call(0, &consumer);
    assert_eq!(ErrorCode(refused.error_code), ErrorCode::GROUP_ID_NOT_FOUND);
    let output = with_input(broker.ctl(&["consume", "orders", "-g", GROUP]), b"");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && told.contains("INCONSISTENT_GROUP_PROTOCOL"), "{told}");
    let listed = broker.run(&["group", "list"]);
    assert!(listed.contains("classic") && listed.contains("connect"), "{listed}");
    let described = broker.run(&["group", "describe", GROUP]);
    assert!(described.contains("Stable") && described.contains("own"), "{described}");
}

/// A coordinator that stopped waited for those who waited for it.
#[test]
fn who_waits_for_others_does_not_keep_a_broker_from_stopping() {
    let (_root, broker) = start("10m");
    let mut first = Worker::new("first", 9, coordinator(broker.address()));
    first.begin();
    let mut probe = coordinator(broker.address());
    let request = DescribeGroupsRequest::default().with_groups(vec![group()]);
    wait_until("it waits", || probe.call(5, &request).groups[0].members.len() == 1);
    broker.stop();
    let told = first.client.receive::<JoinGroupRequest>(9);
    assert_eq!(ErrorCode(told.error_code), ErrorCode::NOT_COORDINATOR);
}

/// The coordinator is killed: the next one knows the generation, and what each is to do.
#[test]
fn a_group_goes_on_with_the_next_coordinator() {
    let mut machines = Machines::start();
    assert!(machines.ctl(1, &["topic", "create", "orders"]).status().unwrap().success());
    let any = machines.brokers[&1].address.clone();
    let (mut first, mut second) = settle(&any, 9);
    let at = first.client.peer().to_string();
    let killed = *machines.brokers.iter().find(|(_, broker)| broker.address == at).unwrap().0;
    machines.kill_broker(killed);
    let other = machines.brokers.iter().find(|(id, _)| **id != killed).unwrap().1.address.clone();
    for worker in [&mut first, &mut second] {
        wait_until("another coordinates", || {
            worker.client = coordinator(&other);
            worker.client.peer().to_string() != at && worker.beat() == ErrorCode::NONE
        });
    }
    second.ask(&[]);
    assert_eq!(second.told(), Ok(Bytes::from_static(b"right")));
    assert_eq!(second.commit(), ErrorCode::NONE);
    let mut third = Worker::new("third", 9, coordinator(&other));
    third.begin();
    wait_until("all join again", || first.beat() == ErrorCode::REBALANCE_IN_PROGRESS);
    first.begin();
    second.begin();
    assert_eq!(first.joined().members.len(), 3);
}
