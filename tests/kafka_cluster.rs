//! Kafka's requests in a cluster of three brokers: who leads, who has what, and what too few of them do for groups.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;
mod machines;

use common::kafka::{KafkaClient, append, name, text, versions};
use common::wait_until;
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::list_partition_reassignments_response::OngoingTopicReassignment;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponsePartition;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, CreateTopicsRequest, DeleteRecordsRequest,
    DescribeClusterRequest, DescribeConfigsRequest, DescribeLogDirsRequest, ElectLeadersRequest,
    FindCoordinatorRequest, GroupId, ListPartitionReassignmentsRequest, MetadataRequest,
    OffsetForLeaderEpochRequest,
};
use machines::{Machines, assert_replicas_equal};
use mk_net::fault::ErrorCode;
use mk_net::kafka::api::ApiKey;
use mk_storage::batch::{Header, TimestampType};

fn client(machines: &Machines, broker: u32) -> KafkaClient {
    KafkaClient::connect(&machines.brokers[&broker].address)
}

/// Partition 0 of the topic.
fn place(client: &mut KafkaClient) -> MetadataResponsePartition {
    let topic = MetadataRequestTopic::default().with_name(Some(name("t")));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    client.call(12, &request).topics.remove(0).partitions.remove(0)
}

fn ids(ids: &[BrokerId]) -> Vec<u32> {
    ids.iter().map(|id| id.0 as u32).collect()
}

/// A topic of one partition with so many replicas; answers who has them, once all are in sync.
fn create(client: &mut KafkaClient, replicas: i16) -> Vec<u32> {
    create_with(client, replicas, Vec::new())
}

/// The same, with settings of its own.
fn create_with(
    client: &mut KafkaClient,
    replicas: i16,
    configs: Vec<CreatableTopicConfig>,
) -> Vec<u32> {
    let topic = CreatableTopic::default()
        .with_name(name("t"))
        .with_num_partitions(1)
        .with_replication_factor(replicas)
        .with_configs(configs);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]);
    assert_eq!(client.call(7, &request).topics[0].error_code, 0);
    wait_in_sync(client, replicas);
    ids(&place(client).replica_nodes)
}

fn wait_in_sync(client: &mut KafkaClient, replicas: i16) {
    wait_until("all replicas are in sync", || {
        let place = place(client);
        place.isr_nodes.len() == replicas as usize && place.leader_id.0 >= 0
    });
}

/// The time that the leader gives to a batch is what its followers have, whatever their clocks say.
#[test]
fn replicas_have_the_leaders_times() {
    let mut machines = Machines::start();
    let mut any = client(&machines, 1);
    let config = CreatableTopicConfig::default()
        .with_name(text("message.timestamp.type"))
        .with_value(Some(text("LogAppendTime")));
    create_with(&mut any, 3, vec![config]);
    let mut leader = client(&machines, place(&mut any).leader_id.0 as u32);
    for _ in 0..20 {
        append(&mut leader, "t", -1, 10);
    }
    wait_in_sync(&mut any, 3);
    assert_replicas_equal(&mut machines, "t", 1);
    let log = machines.data(1).join("topics/t/0/00000000000000000000.log");
    let header = Header::parse(&std::fs::read(log).unwrap()).unwrap();
    assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
    assert!(header.max_timestamp > header.base_timestamp, "{header:?}");
}

/// Gives partition 0 other replicas, or calls that off.
fn reassign(client: &mut KafkaClient, to: Option<&[u32]>) -> ErrorCode {
    let to = to.map(|ids| ids.iter().map(|id| BrokerId(*id as i32)).collect());
    let partition = ReassignablePartition::default().with_replicas(to);
    let topic = ReassignableTopic::default().with_name(name("t")).with_partitions(vec![partition]);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
    ErrorCode(client.call(0, &request).responses[0].partitions[0].error_code)
}

/// What is being moved, of these partitions or of all.
fn moving(client: &mut KafkaClient, of: Option<(&str, i32)>) -> Vec<OngoingTopicReassignment> {
    let topics = of.map(|(topic, partition)| {
        let topic = ListPartitionReassignmentsTopics::default().with_name(name(topic));
        vec![topic.with_partition_indexes(vec![partition])]
    });
    let response =
        client.call(0, &ListPartitionReassignmentsRequest::default().with_topics(topics));
    assert_eq!(response.error_code, 0);
    response.topics
}

#[test]
fn a_partition_is_on_its_way_until_it_is_there_or_called_back() {
    let mut machines = Machines::start();
    let mut first = client(&machines, 1);
    let replicas = create(&mut first, 2);
    let other = (1..=3).find(|id| !replicas.contains(id)).unwrap();
    let mut client = client(&machines, replicas[0]);
    machines.kill_broker(other);

    let goal = [replicas[0], other];
    assert_eq!(reassign(&mut client, Some(&goal)), ErrorCode::NONE);
    let all = moving(&mut client, None);
    let [topic] = &all[..] else { panic!("{all:?}") };
    let [partition] = &topic.partitions[..] else { panic!("{topic:?}") };
    assert_eq!((topic.name.as_str(), partition.partition_index), ("t", 0));
    assert_eq!(ids(&partition.replicas), [replicas[0], other, replicas[1]]);
    assert_eq!(ids(&partition.adding_replicas), [other]);
    assert_eq!(ids(&partition.removing_replicas), [replicas[1]]);
    assert_eq!(moving(&mut client, Some(("t", 0))), all);
    assert_eq!(moving(&mut client, Some(("t", 1))), []);
    assert_eq!(moving(&mut client, Some(("u", 0))), []);

    assert_eq!(reassign(&mut client, None), ErrorCode::NONE);
    assert_eq!(moving(&mut client, None), []);
    assert_eq!(reassign(&mut client, None), ErrorCode::NO_REASSIGNMENT_IN_PROGRESS);
    assert_eq!(ids(&place(&mut client).replica_nodes), replicas);

    assert_eq!(reassign(&mut client, Some(&goal)), ErrorCode::NONE);
    machines.start_broker(other);
    wait_until("it is there", || moving(&mut client, None).is_empty());
    assert_eq!(ids(&place(&mut client).replica_nodes), goal);
}

fn beat(client: &mut KafkaClient, member: &str, epoch: i32) -> ConsumerGroupHeartbeatResponse {
    let joins = epoch == 0;
    let request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(if joins { 10_000 } else { -1 })
        .with_subscribed_topic_names(joins.then(|| vec![name("t")]))
        .with_topic_partitions(joins.then(Vec::new));
    client.call(0, &request)
}

/// While the offsets topic had too few replicas members of KIP-848 were told that their coordinator was not there, and
/// our own that all was well.
#[test]
fn members_stay_in_their_group_while_too_few_replicas_are_in_sync() {
    let mut machines = Machines::start();
    let mut first = client(&machines, 1);
    create(&mut first, 1);
    let request = FindCoordinatorRequest::default().with_key(text("g"));
    let mut coordinator = 0;
    wait_until("a member has joined", || {
        let found = first.call(3, &request);
        coordinator = found.node_id.0 as u32;
        found.error_code == 0 && beat(&mut client(&machines, coordinator), "a", 0).error_code == 0
    });
    let mut at = client(&machines, coordinator);
    let epoch = beat(&mut at, "a", 0).member_epoch;
    // What a is to give up for c it is not told any more.
    assert_eq!(beat(&mut at, "c", 0).error_code, 0);
    (1..=3).filter(|id| *id != coordinator).for_each(|id| machines.kill_broker(id));
    let offsets = MetadataRequestTopic::default().with_name(Some(name("__consumer_offsets")));
    let request = MetadataRequest::default().with_topics(Some(vec![offsets]));
    wait_until("the others are not in sync any more", || {
        let partitions = at.call(12, &request).topics.remove(0).partitions;
        let own = partitions.iter().filter(|p| p.leader_id.0 as u32 == coordinator);
        let in_sync: Vec<usize> = own.map(|partition| partition.isr_nodes.len()).collect();
        !in_sync.is_empty() && in_sync.iter().all(|count| *count == 1)
    });
    let refused = ErrorCode(beat(&mut at, "b", 0).error_code);
    assert_eq!(refused, ErrorCode::COORDINATOR_NOT_AVAILABLE, "nobody can join");
    for _ in 0..3 {
        let told = beat(&mut at, "a", epoch);
        assert_eq!((told.error_code, told.member_epoch), (0, epoch), "who is in it stays in it");
    }
    // Enough are in sync again: now it is told, by whoever coordinates the group then.
    machines.start_broker((1..=3).find(|id| *id != coordinator).unwrap());
    let request = FindCoordinatorRequest::default().with_key(text("g"));
    wait_until("it is told what to give up", || {
        let found = at.call(3, &request);
        let address = format!("{}:{}", found.host.as_str(), found.port);
        found.error_code == 0
            && beat(&mut KafkaClient::connect(&address), "a", epoch).assignment.is_some()
    });
}

const PREFERRED: i8 = 0;
const UNCLEAN: i8 = 1;

/// Elects a leader; answers what is said of partition 0, if anything.
fn elect(client: &mut KafkaClient, version: i16, kind: i8, all: bool) -> Option<ErrorCode> {
    let topic = TopicPartitions::default().with_topic(name("t")).with_partitions(vec![0]);
    let topics = (!all).then(|| vec![topic]);
    let request =
        ElectLeadersRequest::default().with_election_type(kind).with_topic_partitions(topics);
    let response = client.call(version, &request);
    assert_eq!(response.error_code, 0);
    let topic = response.replica_election_results.into_iter().next()?;
    Some(ErrorCode(topic.partition_result[0].error_code))
}

#[test]
fn the_preferred_leader_leads_again_when_it_is_told_to() {
    let mut machines = Machines::start();
    let mut first = client(&machines, 1);
    let replicas = create(&mut first, 3);
    let mut client = client(&machines, replicas[1]);
    let mut begun = place(&mut client).leader_epoch;
    for version in versions(ApiKey::ELECT_LEADERS) {
        for all in [true, false] {
            machines.kill_broker(replicas[0]);
            wait_until("another leads", || place(&mut client).leader_id.0 as u32 != replicas[0]);
            let away = elect(&mut client, version, PREFERRED, false);
            assert_eq!(away, Some(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE));
            if version >= 1 {
                let led = elect(&mut client, version, UNCLEAN, false);
                assert_eq!(led, Some(ErrorCode::ELECTION_NOT_NEEDED));
            }
            machines.start_broker(replicas[0]);
            wait_until("it is in sync again", || place(&mut client).isr_nodes.len() == 3);
            assert_eq!(elect(&mut client, version, PREFERRED, all), Some(ErrorCode::NONE));
            let place = place(&mut client);
            assert!(place.leader_id.0 as u32 == replicas[0] && place.leader_epoch > begun);
            begun = place.leader_epoch;
            let again = (!all).then_some(ErrorCode::ELECTION_NOT_NEEDED);
            assert_eq!(elect(&mut client, version, PREFERRED, all), again);
        }
    }
}

#[test]
fn each_broker_answers_for_what_it_has() {
    let machines = Machines::start();
    let mut leader = client(&machines, 1);
    let replicas = create(&mut leader, 2);
    let other = (1..=3).find(|id| !replicas.contains(id)).unwrap();
    let [mut leader, mut follower, mut other] =
        [replicas[0], replicas[1], other].map(|id| client(&machines, id));

    let brokers = other.call(1, &DescribeClusterRequest::default()).brokers;
    let mut found: Vec<i32> = brokers.iter().map(|broker| broker.broker_id.0).collect();
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3]);

    let of = |kind: i8, name: &str, key: &str| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(Some(vec![text(key)]));
        DescribeConfigsRequest::default().with_resources(vec![resource])
    };
    // Only its own disk, and only its own settings.
    for (client, topics) in [(&mut leader, 1), (&mut follower, 1), (&mut other, 0)] {
        // They hear of a topic one after the other.
        wait_until("it has heard", || {
            client.call(4, &of(2, "t", "flush")).results[0].error_code == 0
        });
        let request = DescribeLogDirsRequest::default().with_topics(None);
        assert_eq!(client.call(4, &request).results[0].topics.len(), topics);
    }
    let mine = of(4, &replicas[0].to_string(), "broker.id");
    let result = leader.call(4, &mine).results.remove(0);
    assert_eq!(result.configs[0].value, Some(text(&replicas[0].to_string())));
    let result = follower.call(4, &mine).results.remove(0);
    assert_eq!(ErrorCode(result.error_code), ErrorCode::INVALID_REQUEST);
    // What the mini-zookeeper says for all topics comes before what the broker says.
    let result = other.call(4, &of(2, "t", "min.insync.replicas")).results.remove(0);
    let [config] = &result.configs[..] else { panic!("{result:?}") };
    assert_eq!((config.value.as_deref(), config.config_source), (Some("2"), 3));

    // Only the leader takes records away, and says where an epoch ends.
    for (client, error) in [
        (&mut leader, ErrorCode::NONE),
        (&mut follower, ErrorCode::NOT_LEADER_OR_FOLLOWER),
        (&mut other, ErrorCode::NOT_LEADER_OR_FOLLOWER),
    ] {
        let part = DeleteRecordsPartition::default().with_offset(0);
        let topic = DeleteRecordsTopic::default().with_name(name("t")).with_partitions(vec![part]);
        let request = DeleteRecordsRequest::default().with_topics(vec![topic]);
        let result = client.call(2, &request).topics.remove(0).partitions.remove(0);
        assert_eq!(ErrorCode(result.error_code), error);
        let part = OffsetForLeaderPartition::default();
        let topic = OffsetForLeaderTopic::default().with_topic(name("t"));
        let request = OffsetForLeaderEpochRequest::default()
            .with_topics(vec![topic.with_partitions(vec![part])]);
        let result = client.call(4, &request).topics.remove(0).partitions.remove(0);
        assert_eq!(ErrorCode(result.error_code), error);
    }

    // Among three brokers the cluster chooses, and nobody else.
    let chosen = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1)]);
    let topic = CreatableTopic::default()
        .with_name(name("u"))
        .with_num_partitions(-1)
        .with_replication_factor(-1);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic.clone().with_assignments(vec![chosen])]);
    let refused = leader.call(7, &request).topics.remove(0);
    assert_eq!(ErrorCode(refused.error_code), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    // With no number given there are as many replicas as brokers of a cluster have by default.
    let request = CreateTopicsRequest::default().with_topics(vec![topic]);
    let made = leader.call(7, &request).topics.remove(0);
    assert_eq!((made.error_code, made.num_partitions, made.replication_factor), (0, 1, 3));
}

/// What consumers have not been given must not seem to be lost to them later.
#[test]
fn an_epoch_ends_no_later_than_what_is_committed() {
    let mut machines = Machines::start();
    let mut first = client(&machines, 1);
    let replicas = create(&mut first, 2);
    let mut client = client(&machines, replicas[0]);
    append(&mut client, "t", -1, 3);
    let epoch = place(&mut client).leader_epoch;
    machines.kill_broker(replicas[1]);
    // Two replicas are needed for anything to be committed.
    append(&mut client, "t", 1, 4);
    for current in [-1, epoch] {
        let part = OffsetForLeaderPartition::default()
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let topic = OffsetForLeaderTopic::default().with_topic(name("t"));
        let request = OffsetForLeaderEpochRequest::default()
            .with_topics(vec![topic.with_partitions(vec![part])]);
        let found = client.call(4, &request).topics.remove(0).partitions.remove(0);
        assert_eq!((found.error_code, found.leader_epoch, found.end_offset), (0, epoch, 3));
    }
}
