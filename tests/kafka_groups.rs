//! Groups in Kafka's protocols, version by version, and groups whose members speak different ones.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use common::kafka::{KafkaClient, text};
use common::{Broker, data_dir, wait_until, with_input};
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::consumer_protocol_subscription::TopicPartition;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, DeleteGroupsRequest,
    DescribeGroupsRequest, FindCoordinatorRequest, GroupId, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable};
use mk_net::fault::ErrorCode;
use mk_net::kafka::api::ApiKey;
use uuid::Uuid;

fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let api = key.served().unwrap();
    api.min..=api.max
}

fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

/// A broker with a topic of four partitions, and a connection to it that has found the coordinator.
fn start() -> (tempfile::TempDir, Broker, KafkaClient) {
    let (root, data) = data_dir();
    let flags = ["--set", "group.min.session.timeout.ms=1s"];
    let broker = Broker::start_with(&data, "127.0.0.1:0", &flags);
    broker.run(&["topic", "create", "orders", "-p", "4"]);
    let client = connect(&broker);
    (root, broker, client)
}

fn connect(broker: &Broker) -> KafkaClient {
    let mut client = KafkaClient::connect(broker.address());
    let found = client.call(3, &FindCoordinatorRequest::default().with_key(text("g")));
    assert_eq!(found.error_code, 0);
    client
}

fn subscription(owned: &[i32]) -> Bytes {
    let owned =
        TopicPartition::default().with_topic(text("orders").into()).with_partitions(owned.to_vec());
    let mut bytes = BytesMut::from(&[0, 1][..]);
    ConsumerProtocolSubscription::default()
        .with_topics(vec![text("orders")])
        .with_owned_partitions(vec![owned])
        .encode(&mut bytes, 1)
        .unwrap();
    bytes.freeze()
}

fn join_request(name: &str, member: &str, owned: &[i32]) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(subscription(owned));
    JoinGroupRequest::default()
        .with_group_id(group(name))
        .with_session_timeout_ms(10_000)
        .with_rebalance_timeout_ms(10_000)
        .with_member_id(text(member))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
}

/// Joins; a member that is new takes the id that it is given.
fn join(
    client: &mut KafkaClient,
    version: i16,
    name: &str,
    member: &str,
    owned: &[i32],
) -> JoinGroupResponse {
    let joined = client.call(version, &join_request(name, member, owned));
    if ErrorCode(joined.error_code) == ErrorCode::MEMBER_ID_REQUIRED {
        assert!(version >= 4 && member.is_empty());
        return join(client, version, name, joined.member_id.as_str(), owned);
    }
    joined
}

/// The partitions that a member is to read.
fn sync(
    client: &mut KafkaClient,
    version: i16,
    name: &str,
    joined: &JoinGroupResponse,
) -> BTreeSet<i32> {
    let request = SyncGroupRequest::default()
        .with_group_id(group(name))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone())
        .with_protocol_type(Some(text("consumer")))
        .with_protocol_name(Some(text("range")));
    let synced = client.call(version, &request);
    assert_eq!(synced.error_code, 0);
    let mut bytes = synced.assignment;
    assert_eq!(bytes.get_i16(), 0);
    let assigned = ConsumerProtocolAssignment::decode(&mut bytes, 0).unwrap().assigned_partitions;
    assigned.into_iter().flat_map(|topic| topic.partitions).collect()
}

fn beat(
    client: &mut KafkaClient,
    version: i16,
    name: &str,
    joined: &JoinGroupResponse,
) -> ErrorCode {
    let request = HeartbeatRequest::default()
        .with_group_id(group(name))
        .with_generation_id(joined.generation_id)
        .with_member_id(joined.member_id.clone());
    ErrorCode(client.call(version, &request).error_code)
}

fn commit_request(name: &str, member: &str, generation: i32, offset: i64) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(offset)
        .with_committed_metadata(Some(text("noted")));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(TopicName(text("orders")))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(group(name))
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

fn commit(client: &mut KafkaClient, version: i16, request: &OffsetCommitRequest) -> ErrorCode {
    let committed = client.call(version, request);
    ErrorCode(committed.topics[0].partitions[0].error_code)
}

/// The offset of partition 1 and what is written beside it, and the offset of a partition that has none.
fn committed(client: &mut KafkaClient, version: i16, name: &str) -> (i64, String, i64) {
    let indexes = vec![1, 2];
    if version >= 8 {
        let topic = OffsetFetchRequestTopics::default()
            .with_name(TopicName(text("orders")))
            .with_partition_indexes(indexes);
        let of = |topics| {
            OffsetFetchRequestGroup::default().with_group_id(group(name)).with_topics(topics)
        };
        let mut ask = |topics| {
            let groups = vec![of(topics)];
            client
                .call(version, &OffsetFetchRequest::default().with_groups(groups))
                .groups
                .remove(0)
        };
        assert_eq!(ask(None).topics[0].partitions.len(), 1, "all that there is");
        let partitions = &ask(Some(vec![topic])).topics[0].partitions;
        let note = partitions[0].metadata.clone().unwrap().to_string();
        return (partitions[0].committed_offset, note, partitions[1].committed_offset);
    }
    let topic = OffsetFetchRequestTopic::default()
        .with_name(TopicName(text("orders")))
        .with_partition_indexes(indexes);
    let request = OffsetFetchRequest::default().with_group_id(group(name));
    let found = client.call(version, &request.clone().with_topics(Some(vec![topic])));
    if version >= 2 {
        let all = client.call(version, &request.with_topics(None));
        assert_eq!(all.topics[0].partitions.len(), 1, "all that there is");
    }
    let partitions = &found.topics[0].partitions;
    let note = partitions[0].metadata.clone().unwrap().to_string();
    (partitions[0].committed_offset, note, partitions[1].committed_offset)
}

#[test]
fn every_version_of_the_classic_protocol_is_served() {
    let (_root, broker, mut client) = start();
    let all = BTreeSet::from([0, 1, 2, 3]);
    for version in versions(ApiKey::JOIN_GROUP) {
        let name = format!("join-{version}");
        let joined = join(&mut client, version, &name, "", &[]);
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "version {version}");
        assert_eq!(joined.protocol_name.as_ref().unwrap().as_str(), "range");
        assert_ne!(joined.leader, joined.member_id, "no member leads");
        for version in versions(ApiKey::SYNC_GROUP) {
            assert_eq!(sync(&mut client, version, &name, &joined), all);
        }
        for version in versions(ApiKey::HEARTBEAT) {
            assert_eq!(beat(&mut client, version, &name, &joined), ErrorCode::NONE);
        }
        let leave = LeaveGroupRequest::default().with_group_id(group(&name));
        let version = version.min(5);
        let left = if version < 3 {
            client.call(version, &leave.with_member_id(joined.member_id.clone())).error_code
        } else {
            let one = MemberIdentity::default().with_member_id(joined.member_id.clone());
            let other = MemberIdentity::default().with_member_id(text("nobody"));
            let left = client.call(version, &leave.with_members(vec![one, other]));
            assert_eq!(ErrorCode(left.members[1].error_code), ErrorCode::UNKNOWN_MEMBER_ID);
            left.members[0].error_code
        };
        assert_eq!(left, 0, "version {version}");
        assert_eq!(beat(&mut client, 4, &name, &joined), ErrorCode::UNKNOWN_MEMBER_ID);
    }
    broker.stop();
}

#[test]
fn what_members_commit_every_version_tells() {
    let (_root, broker, mut client) = start();
    let joined = join(&mut client, 9, "g", "", &[]);
    let member = joined.member_id.as_str();
    let mut offset = 0;
    for version in versions(ApiKey::OFFSET_COMMIT) {
        offset += 1;
        let request = commit_request("g", member, joined.generation_id, offset);
        assert_eq!(commit(&mut client, version, &request), ErrorCode::NONE, "version {version}");
    }
    for version in versions(ApiKey::OFFSET_FETCH) {
        assert_eq!(committed(&mut client, version, "g"), (offset, "noted".to_owned(), -1));
    }
    // An offset below 0 was taken for 0, and all was read again.
    let none = commit_request("g", member, joined.generation_id, -1);
    assert_eq!(commit(&mut client, 9, &none), ErrorCode::INVALID_REQUEST);
    assert_eq!(committed(&mut client, 9, "g").0, offset);
    // Not from outside while there are members, nor from one that is none, nor of another generation.
    let outside = commit_request("g", "", -1, 9);
    assert_eq!(commit(&mut client, 8, &outside), ErrorCode::UNKNOWN_MEMBER_ID);
    let stranger = commit_request("g", "nobody", 1, 9);
    assert_eq!(commit(&mut client, 8, &stranger), ErrorCode::UNKNOWN_MEMBER_ID);
    // Another takes half of the partitions, and one that had them is to join again before it commits them.
    let other = join(&mut client, 9, "g", "", &[]);
    assert_eq!(beat(&mut client, 4, "g", &joined), ErrorCode::REBALANCE_IN_PROGRESS);
    let again = join(&mut client, 9, "g", member, &[]);
    let kept = sync(&mut client, 5, "g", &again);
    let other = join(&mut client, 9, "g", other.member_id.as_str(), &[]);
    let taken = sync(&mut client, 5, "g", &other);
    assert!(kept.len() == 2 && taken.len() == 2 && kept.is_disjoint(&taken));
    let (owner, loser) = if kept.contains(&1) { (&again, &other) } else { (&other, &again) };
    let request = commit_request("g", loser.member_id.as_str(), loser.generation_id, 9);
    for version in [8, 9] {
        assert_eq!(commit(&mut client, version, &request), ErrorCode::REBALANCE_IN_PROGRESS);
    }
    let request = commit_request("g", owner.member_id.as_str(), owner.generation_id, 10);
    assert_eq!(commit(&mut client, 8, &request), ErrorCode::NONE);
    assert_eq!(committed(&mut client, 8, "g").0, 10);
    assert!(broker.run(&["group", "describe", "g"]).contains("\t10\t"));
}

#[test]
fn what_a_member_may_not_say_has_its_own_error() {
    let (_root, _broker, mut client) = start();
    let code = |joined: JoinGroupResponse| ErrorCode(joined.error_code);
    let short = join_request("g", "", &[]).with_session_timeout_ms(10);
    assert_eq!(code(client.call(5, &short)), ErrorCode::INVALID_SESSION_TIMEOUT);
    let first = join(&mut client, 5, "other", "", &[]);
    let mut workers = join_request("other", "", &[]);
    workers.protocol_type = text("connect");
    assert_eq!(code(client.call(3, &workers)), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let mut own = join_request("other", "", &[]);
    own.protocols[0].name = text("stream");
    assert_eq!(code(client.call(3, &own)), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(beat(&mut client, 4, "other", &first), ErrorCode::NONE, "who is in it stays in it");
    own.protocols = vec![];
    assert_eq!(code(client.call(3, &own)), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let mut long = join_request("other", "", &[]);
    long.protocols[0].metadata = Bytes::from(vec![0; 300 << 10]);
    assert_eq!(code(client.call(3, &long)), ErrorCode::INVALID_REQUEST);
    // An id that nobody was given.
    assert_eq!(code(join(&mut client, 5, "g", "x", &[])), ErrorCode::UNKNOWN_MEMBER_ID);
    let mut nonsense = join_request("g", "x", &[]);
    nonsense.protocols[0].metadata = Bytes::from_static(&[0, 0, 0x7f, 0xff, 0xff, 0xff]);
    assert_eq!(code(client.call(5, &nonsense)), ErrorCode::INVALID_REQUEST);
    assert_eq!(code(join(&mut client, 5, "", "x", &[])), ErrorCode::INVALID_GROUP_ID);
    // What nobody could be told of in an older version.
    assert_eq!(
        code(join(&mut client, 9, "g", &"x".repeat(40_000), &[])),
        ErrorCode::INVALID_REQUEST
    );
    // A static member has one process at a time.
    let fixed =
        |member: &str| join_request("g", member, &[]).with_group_instance_id(Some(text("a")));
    let first = client.call(5, &fixed(""));
    let second = client.call(5, &fixed(""));
    assert_eq!((first.error_code, second.error_code), (0, 0));
    assert_eq!(
        code(client.call(5, &fixed(first.member_id.as_str()))),
        ErrorCode::FENCED_INSTANCE_ID
    );
    let request = HeartbeatRequest::default()
        .with_group_id(group("g"))
        .with_generation_id(first.generation_id)
        .with_member_id(first.member_id.clone())
        .with_group_instance_id(Some(text("a")));
    let fenced = client.call(3, &request);
    assert_eq!(ErrorCode(fenced.error_code), ErrorCode::FENCED_INSTANCE_ID);
    // It is sent away by its instance id alone.
    let one = MemberIdentity::default().with_group_instance_id(Some(text("a")));
    let leave = LeaveGroupRequest::default().with_group_id(group("g")).with_members(vec![one]);
    assert_eq!(client.call(3, &leave).members[0].error_code, 0);
}

fn consumer_beat(
    client: &mut KafkaClient,
    version: i16,
    member: &str,
    epoch: i32,
    owned: Option<(Uuid, &[i32])>,
) -> ConsumerGroupHeartbeatResponse {
    let joins = epoch == 0;
    let owned = owned.map(|(id, partitions)| {
        vec![TopicPartitions::default().with_topic_id(id).with_partitions(partitions.to_vec())]
    });
    let request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(group("g"))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(if joins { 10_000 } else { -1 })
        .with_subscribed_topic_names(joins.then(|| vec![TopicName(text("orders"))]))
        .with_topic_partitions(if joins { Some(vec![]) } else { owned });
    client.call(version, &request)
}

fn assigned(response: &ConsumerGroupHeartbeatResponse) -> Option<(Uuid, Vec<i32>)> {
    let topics = &response.assignment.as_ref()?.topic_partitions;
    Some(topics.first().map_or((Uuid::nil(), vec![]), |t| (t.topic_id, t.partitions.clone())))
}

#[test]
fn members_of_kip_848_come_give_up_and_leave() {
    let (_root, broker, mut client) = start();
    for version in versions(ApiKey::CONSUMER_GROUP_HEARTBEAT) {
        let a = consumer_beat(&mut client, version, "a", 0, None);
        let (id, all) = assigned(&a).unwrap();
        assert_eq!((a.error_code, all), (0, vec![0, 1, 2, 3]), "version {version}");
        let acknowledged =
            consumer_beat(&mut client, version, "a", a.member_epoch, Some((id, &[0, 1, 2, 3])));
        assert_eq!(acknowledged.error_code, 0);
        let quiet = consumer_beat(&mut client, version, "a", a.member_epoch, None);
        assert!(quiet.assignment.is_none(), "there is nothing new");
        let b = consumer_beat(&mut client, version, "b", 0, None);
        assert_eq!(assigned(&b).unwrap().1, [0i32; 0], "a has all");
        let less = consumer_beat(&mut client, version, "a", a.member_epoch, None);
        let (_, kept) = assigned(&less).unwrap();
        assert_eq!((kept.len(), less.member_epoch), (2, a.member_epoch));
        let done = consumer_beat(&mut client, version, "a", a.member_epoch, Some((id, &kept)));
        assert_eq!(done.member_epoch, b.member_epoch);
        let more = consumer_beat(&mut client, version, "b", b.member_epoch, None);
        assert_eq!(assigned(&more).unwrap().1.len(), 2);
        for version in versions(ApiKey::CONSUMER_GROUP_DESCRIBE) {
            let request = ConsumerGroupDescribeRequest::default()
                .with_group_ids(vec![group("g"), group("none")])
                .with_include_authorized_operations(true);
            let described = client.call(version, &request).groups;
            assert_eq!(described[0].members.len(), 2);
            assert_eq!(described[0].members[0].assignment.topic_partitions[0].partitions, kept);
            let kind = if version >= 1 { 1 } else { -1 };
            assert_eq!(described[0].members[0].member_type, kind);
            assert_eq!(ErrorCode(described[1].error_code), ErrorCode::GROUP_ID_NOT_FOUND);
        }
        // Who asks as a member is to be one, in the epoch that it has (KIP-848).
        for (member, epoch, error) in [
            ("a", done.member_epoch, ErrorCode::NONE),
            ("a", a.member_epoch, ErrorCode::STALE_MEMBER_EPOCH),
            ("nobody", 1, ErrorCode::UNKNOWN_MEMBER_ID),
        ] {
            let of = OffsetFetchRequestGroup::default()
                .with_group_id(group("g"))
                .with_member_id(Some(text(member)))
                .with_member_epoch(epoch)
                .with_topics(None);
            let request = OffsetFetchRequest::default().with_groups(vec![of]);
            let code = client.call(9, &request).groups[0].error_code;
            assert_eq!(ErrorCode(code), error, "{member} in epoch {epoch}");
        }
        let ahead = consumer_beat(&mut client, version, "a", 99, None);
        assert_eq!(ErrorCode(ahead.error_code), ErrorCode::FENCED_MEMBER_EPOCH);
        for member in ["a", "b"] {
            assert_eq!(consumer_beat(&mut client, version, member, -1, None).error_code, 0);
        }
        let gone = consumer_beat(&mut client, version, "a", 1, None);
        assert_eq!(ErrorCode(gone.error_code), ErrorCode::UNKNOWN_MEMBER_ID);
    }
    broker.stop();
}

/// A member of KIP-848 that wants all topics of a pattern.
#[test]
fn the_brokers_look_for_topics_of_a_pattern() {
    let (_root, broker, mut client) = start();
    let say = |client: &mut KafkaClient, epoch: i32, pattern: Option<&str>, owned| {
        let request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(group("g"))
            .with_member_id(text("a"))
            .with_member_epoch(epoch)
            .with_rebalance_timeout_ms(if epoch == 0 { 10_000 } else { -1 })
            .with_subscribed_topic_regex(pattern.map(text))
            .with_topic_partitions(owned);
        client.call(1, &request)
    };
    let beat = |client: &mut KafkaClient, epoch: i32, pattern: Option<&str>| {
        say(client, epoch, pattern, (epoch == 0).then(Vec::new))
    };
    let refused = beat(&mut client, 0, Some("orders-("));
    assert_eq!(ErrorCode(refused.error_code), ErrorCode::INVALID_REGULAR_EXPRESSION);
    // The brokers' own topic is none of them; there is one, for the coordinator was asked for.
    let first = beat(&mut client, 0, Some(".*"));
    let of = |told: &ConsumerGroupHeartbeatResponse| {
        let topics = told.assignment.as_ref().map(|told| &told.topic_partitions);
        topics.map(|topics| topics.iter().map(|topic| topic.partitions.len()).collect::<Vec<_>>())
    };
    assert_eq!(of(&first), Some(vec![4]));
    broker.run(&["topic", "create", "visits", "-p", "3"]);
    let mut now = BTreeSet::new();
    let mut epoch = first.member_epoch;
    wait_until("the new topic is its, too", || {
        let told = beat(&mut client, epoch, None);
        epoch = told.member_epoch;
        now = of(&told).into_iter().flatten().collect();
        now == BTreeSet::from([3, 4])
    });
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group("g")]);
    let described = client.call(1, &request).groups.remove(0).members.remove(0);
    let pattern = described.subscribed_topic_regex.as_ref().map(|pattern| pattern.as_str());
    assert_eq!((pattern, described.member_type), (Some(".*"), 1));
    assert!(broker.run(&["group", "members", "g", "-J"]).contains(r#""pattern":".*""#));
    // It wants something else: the rest it is to give up.
    let less = beat(&mut client, epoch, Some("vis[a-z]*"));
    assert_eq!(of(&less), Some(vec![3]));
    let kept = less.assignment.unwrap().topic_partitions.remove(0);
    let owned = TopicPartitions::default()
        .with_topic_id(kept.topic_id)
        .with_partitions(kept.partitions.clone());
    let done = say(&mut client, less.member_epoch, None, Some(vec![owned]));
    assert_eq!(of(&beat(&mut client, done.member_epoch, Some(""))), Some(vec![]));
}

#[test]
fn groups_are_listed_described_and_forgotten() {
    let (_root, _broker, mut client) = start();
    let joined = join(&mut client, 9, "g", "", &[]);
    let request = commit_request("g", joined.member_id.as_str(), joined.generation_id, 5);
    assert_eq!(commit(&mut client, 8, &request), ErrorCode::NONE);
    for version in versions(ApiKey::LIST_GROUPS) {
        let listed = client.call(version, &ListGroupsRequest::default()).groups;
        assert_eq!((listed.len(), listed[0].group_id.as_str()), (1, "g"));
        assert_eq!(listed[0].group_state.as_str(), if version >= 4 { "Stable" } else { "" });
        if version >= 4 {
            let empty = ListGroupsRequest::default().with_states_filter(vec![text("Empty")]);
            assert_eq!(client.call(version, &empty).groups.len(), 0);
        }
    }
    for version in versions(ApiKey::DESCRIBE_GROUPS) {
        let names = vec![group("g"), group("none")];
        let request = DescribeGroupsRequest::default().with_groups(names);
        let described = client.call(version, &request).groups;
        assert_eq!(described[0].members[0].member_id, joined.member_id);
        assert_eq!(described[0].members[0].member_assignment.len(), 2 + 4 + 8 + 4 + 16 + 4);
        assert_eq!(described[0].members[0].member_metadata.len(), 2 + 4 + 8 + 4);
        assert_eq!((described[1].error_code, described[1].group_state.as_str()), (0, "Dead"));
    }
    let delete = DeleteGroupsRequest::default().with_groups_names(vec![group("g"), group("none")]);
    for version in versions(ApiKey::DELETE_GROUPS) {
        let results = client.call(version, &delete).results;
        assert_eq!(ErrorCode(results[0].error_code), ErrorCode::NON_EMPTY_GROUP);
        assert_eq!(ErrorCode(results[1].error_code), ErrorCode::GROUP_ID_NOT_FOUND);
    }
    let one = MemberIdentity::default().with_member_id(joined.member_id.clone());
    let leave = LeaveGroupRequest::default().with_group_id(group("g")).with_members(vec![one]);
    assert_eq!(client.call(5, &leave).error_code, 0);
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(1);
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(TopicName(text("orders")))
        .with_partitions(vec![partition]);
    let outside = commit_request("g", "", -1, 7);
    assert_eq!(commit(&mut client, 8, &outside), ErrorCode::NONE, "nobody is in the group");
    let forget = OffsetDeleteRequest::default().with_group_id(group("g")).with_topics(vec![topic]);
    assert_eq!(client.call(0, &forget).topics[0].partitions[0].error_code, 0);
    // It is empty, and there until somebody deletes it or it is looked for what has expired.
    let listed = client.call(5, &ListGroupsRequest::default()).groups;
    assert_eq!((listed.len(), listed[0].group_state.as_str()), (1, "Empty"));
    let results = client.call(2, &delete).results;
    assert_eq!(results[0].error_code, 0);
    assert_eq!(client.call(5, &ListGroupsRequest::default()).groups.len(), 0);
}

/// A group that was named often was asked for as often, each time with all of its offsets; the coordinator of all groups
/// did nothing else meanwhile.
#[test]
fn groups_that_are_named_often_are_told_of_once() {
    let (_root, broker, mut client) = start();
    let outside = commit_request("g", "", -1, 7);
    assert_eq!(commit(&mut client, 8, &outside), ErrorCode::NONE);
    let before = broker.resident_bytes();
    let one = || OffsetFetchRequestGroup::default().with_group_id(group("g")).with_topics(None);
    let groups = (0..90_000).map(|_| one()).collect();
    let found = client.call(8, &OffsetFetchRequest::default().with_groups(groups));
    assert_eq!((found.groups.len(), found.groups[0].topics.len()), (1, 1));
    let names = (0..90_000).map(|_| group("g")).collect();
    let described = client.call(5, &DescribeGroupsRequest::default().with_groups(names));
    assert_eq!(described.groups.len(), 1);
    let grown = broker.resident_bytes().saturating_sub(before);
    assert!(grown < 100 << 20, "it took {grown} bytes");
    let keys = (0..90_000).map(|_| text("g")).collect();
    let found = client.call(4, &FindCoordinatorRequest::default().with_coordinator_keys(keys));
    assert_eq!(found.coordinators.len(), 1);
    for count in [20_000, 200_000] {
        let mut other = connect(&broker);
        let names = (0..count).map(|n: u32| group(&n.to_string())).collect();
        other.send(5, &DescribeGroupsRequest::default().with_groups(names));
        assert!(other.is_closed(), "{count} groups are too many at once");
    }
}

/// A classic member, one of KIP-848 and one of ours in a group: all partitions are covered, none twice.
#[test]
fn a_group_has_members_of_all_protocols() {
    let (_root, broker, mut client) = start();
    let mut ours = broker.ctl(&["consume", "orders", "-g", "g", "-f", "%p\\n"]);
    let mut ours = ours.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Until it has come there is no such group.
    wait_until("ours has all", || {
        let members = with_input(broker.ctl(&["group", "members", "g"]), b"");
        String::from_utf8_lossy(&members.stdout).contains("orders:0,1,2,3")
    });
    let mut classic = join(&mut client, 9, "g", "", &[]);
    let mut new = consumer_beat(&mut client, 1, "new", 0, None);
    let (mut of_classic, mut of_new): (BTreeSet<i32>, Vec<i32>) = (BTreeSet::new(), Vec::new());
    let start = Instant::now();
    let of_ours = loop {
        assert!(start.elapsed() < Duration::from_secs(60), "{of_classic:?} {of_new:?}");
        if beat(&mut client, 4, "g", &classic) == ErrorCode::REBALANCE_IN_PROGRESS {
            classic = join(&mut client, 9, "g", classic.member_id.as_str(), &[]);
            of_classic = sync(&mut client, 5, "g", &classic);
        }
        if let Some((id, partitions)) = assigned(&new) {
            of_new = partitions;
            new = consumer_beat(&mut client, 1, "new", new.member_epoch, Some((id, &of_new)));
        } else {
            new = consumer_beat(&mut client, 1, "new", new.member_epoch, None);
        }
        assert_eq!(new.error_code, 0);
        let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![group("g")]);
        let described = client.call(1, &request).groups.remove(0);
        let has = |id: &str| {
            let member = described.members.iter().find(|member| member.member_id.as_str() == id);
            let topics = member.map(|member| &member.assignment.topic_partitions);
            topics
                .into_iter()
                .flatten()
                .flat_map(|topic| topic.partitions.clone())
                .collect::<Vec<_>>()
        };
        let others = ["new", classic.member_id.as_str()];
        let ours = described.members.iter().map(|member| member.member_id.as_str());
        let ours = has(ours.filter(|id| !others.contains(id)).last().unwrap());
        if described.group_state.as_str() == "Stable"
            && of_classic.len() + of_new.len() + ours.len() == 4
        {
            break ours;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut all: Vec<i32> = of_classic.iter().chain(&of_new).chain(&of_ours).copied().collect();
    all.sort_unstable();
    assert_eq!(all, [0, 1, 2, 3]);
    assert!(!of_classic.is_empty() && !of_new.is_empty() && !of_ours.is_empty());
    ours.kill().unwrap();
    ours.wait().unwrap();
}
