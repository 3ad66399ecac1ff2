//! A request of every kind, filled by hand.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use uuid::Uuid;

use crate::kafka::api::ApiKey;

/// How a request is filled. Lists have two items, texts are not empty, numbers not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// Every field that the version has.
    All,
    /// The same, but null whatever may be null in the newest version.
    Nulls,
}

impl Fill {
    fn nullable<T>(self, value: T) -> Option<T> {
        (self == Fill::All).then_some(value)
    }
}

macro_rules! requests {
    ($($key:ident $type:ident $build:path;)*) => {
        /// The request's fields as the library writes them.
        pub(super) fn encode(key: ApiKey, version: i16, fill: Fill) -> Vec<u8> {
            let mut bytes = BytesMut::new();
            match key {
                $(ApiKey::$key => $build(version, fill).encode(&mut bytes, version),)*
                _ => panic!("no request for {key}"),
            }
            .unwrap_or_else(|error| panic!("{key} {version} {fill:?}: {error:#}"));
            bytes.to_vec()
        }

        /// The library decodes the fields; how many bytes it leaves.
        pub(super) fn decode(key: ApiKey, version: i16, fields: &[u8]) -> Result<usize, String> {
            let mut bytes = Bytes::copy_from_slice(fields);
            match key {
                $(ApiKey::$key => <$type>::decode(&mut bytes, version).map(drop),)*
                _ => panic!("no request for {key}"),
            }
            .map(|()| bytes.len())
            .map_err(|error| format!("{error:#}"))
        }
    };
}

requests! {
    LIST_OFFSETS ListOffsetsRequest list_offsets;
    METADATA MetadataRequest metadata;
    OFFSET_COMMIT OffsetCommitRequest offset_commit;
    OFFSET_FETCH OffsetFetchRequest offset_fetch;
    FIND_COORDINATOR FindCoordinatorRequest find_coordinator;
    JOIN_GROUP JoinGroupRequest join_group;
    HEARTBEAT HeartbeatRequest heartbeat;
    LEAVE_GROUP LeaveGroupRequest leave_group;
    SYNC_GROUP SyncGroupRequest sync_group;
    DESCRIBE_GROUPS DescribeGroupsRequest describe_groups;
    LIST_GROUPS ListGroupsRequest list_groups;
    API_VERSIONS ApiVersionsRequest api_versions;
    CREATE_TOPICS CreateTopicsRequest create_topics;
    DELETE_TOPICS DeleteTopicsRequest delete_topics;
    DELETE_RECORDS DeleteRecordsRequest delete_records;
    INIT_PRODUCER_ID InitProducerIdRequest init_producer_id;
    OFFSET_FOR_LEADER_EPOCH OffsetForLeaderEpochRequest offset_for_leader_epoch;
    DESCRIBE_CONFIGS DescribeConfigsRequest describe_configs;
    ALTER_CONFIGS AlterConfigsRequest alter_configs;
    DESCRIBE_LOG_DIRS DescribeLogDirsRequest describe_log_dirs;
    CREATE_PARTITIONS CreatePartitionsRequest create_partitions;
    DELETE_GROUPS DeleteGroupsRequest delete_groups;
    ELECT_LEADERS ElectLeadersRequest elect_leaders;
    INCREMENTAL_ALTER_CONFIGS IncrementalAlterConfigsRequest incremental_alter_configs;
    ALTER_PARTITION_REASSIGNMENTS AlterPartitionReassignmentsRequest alter_partition_reassignments;
    LIST_PARTITION_REASSIGNMENTS ListPartitionReassignmentsRequest list_partition_reassignments;
    OFFSET_DELETE OffsetDeleteRequest offset_delete;
    DESCRIBE_CLUSTER DescribeClusterRequest describe_cluster;
    CONSUMER_GROUP_HEARTBEAT ConsumerGroupHeartbeatRequest consumer_group_heartbeat;
    CONSUMER_GROUP_DESCRIBE ConsumerGroupDescribeRequest consumer_group_describe;
}

/// A text, or an id that is one.
fn text<T: From<StrBytes>>(text: &'static str) -> T {
    StrBytes::from_static_str(text).into()
}

fn two<T: Clone>(item: T) -> Vec<T> {
    vec![item.clone(), item]
}

/// The value if the version has the field, or else what the library takes for no value.
fn only<T>(is_in: bool, value: T, absent: T) -> T {
    if is_in { value } else { absent }
}

fn list_offsets(version: i16, _: Fill) -> ListOffsetsRequest {
    use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let partition = ListOffsetsPartition::default()
        .with_partition_index(1)
        .with_current_leader_epoch(2)
        .with_timestamp(3);
    let topic =
        ListOffsetsTopic::default().with_name(text("topic")).with_partitions(two(partition));
    ListOffsetsRequest::default()
        .with_replica_id(4.into())
        .with_isolation_level(only(version >= 2, 1, 0))
        .with_topics(two(topic))
}

fn metadata(version: i16, fill: Fill) -> MetadataRequest {
    use metadata_request::MetadataRequestTopic;
    let topic = MetadataRequestTopic::default()
        .with_topic_id(Uuid::from_u128(7))
        .with_name(Some(text("topic")));
    MetadataRequest::default()
        .with_topics(fill.nullable(two(topic)))
        .with_allow_auto_topic_creation(version < 4)
        .with_include_cluster_authorized_operations((8..=10).contains(&version))
        .with_include_topic_authorized_operations(version >= 8)
}

fn offset_commit(version: i16, fill: Fill) -> OffsetCommitRequest {
    use offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let partition = OffsetCommitRequestPartition::default()
        .with_partition_index(1)
        .with_committed_offset(2)
        .with_committed_leader_epoch(3)
        .with_committed_metadata(fill.nullable(text("metadata")));
    let topic = OffsetCommitRequestTopic::default()
        .with_name(text("topic"))
        .with_partitions(two(partition));
    OffsetCommitRequest::default()
        .with_group_id(text("group"))
        .with_generation_id_or_member_epoch(4)
        .with_member_id(text("member"))
        .with_group_instance_id(fill.nullable(text("instance")).filter(|_| version >= 7))
        .with_retention_time_ms(5)
        .with_topics(two(topic))
}

fn offset_fetch(version: i16, fill: Fill) -> OffsetFetchRequest {
    use offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };
    let request = OffsetFetchRequest::default().with_require_stable(version >= 7);
    if version < 8 {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(text("topic"))
            .with_partition_indexes(vec![1, 2]);
        return request.with_group_id(text("group")).with_topics(fill.nullable(two(topic)));
    }
    let topic = OffsetFetchRequestTopics::default()
        .with_name(text("topic"))
        .with_partition_indexes(vec![1, 2]);
    let group = OffsetFetchRequestGroup::default()
        .with_group_id(text("group"))
        .with_member_id(fill.nullable(text("member")).filter(|_| version >= 9))
        .with_member_epoch(only(version >= 9, 3, -1))
        .with_topics(fill.nullable(two(topic)));
    request.with_groups(two(group))
}

fn find_coordinator(version: i16, _: Fill) -> FindCoordinatorRequest {
    FindCoordinatorRequest::default()
        .with_key(only(version < 4, text("group"), text("")))
        .with_key_type(only(version >= 1, 1, 0))
        .with_coordinator_keys(only(version >= 4, two(text("group")), vec![]))
}

fn join_group(version: i16, fill: Fill) -> JoinGroupRequest {
    use join_group_request::JoinGroupRequestProtocol;
    let protocol = JoinGroupRequestProtocol::default()
        .with_name(text("range"))
        .with_metadata(Bytes::from_static(b"\xff\xfe"));
    JoinGroupRequest::default()
        .with_group_id(text("group"))
        .with_session_timeout_ms(1)
        .with_rebalance_timeout_ms(2)
        .with_member_id(text("member"))
        .with_group_instance_id(fill.nullable(text("instance")).filter(|_| version >= 5))
        .with_protocol_type(text("consumer"))
        .with_protocols(two(protocol))
        .with_reason(fill.nullable(text("reason")))
}

fn heartbeat(version: i16, fill: Fill) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(text("group"))
        .with_generation_id(1)
        .with_member_id(text("member"))
        .with_group_instance_id(fill.nullable(text("instance")).filter(|_| version >= 3))
}

fn leave_group(version: i16, fill: Fill) -> LeaveGroupRequest {
    use leave_group_request::MemberIdentity;
    let request = LeaveGroupRequest::default().with_group_id(text("group"));
    if version < 3 {
        return request.with_member_id(text("member"));
    }
    let member = MemberIdentity::default()
        .with_member_id(text("member"))
        .with_group_instance_id(fill.nullable(text("instance")))
        .with_reason(fill.nullable(text("reason")));
    request.with_members(two(member))
}

fn sync_group(version: i16, fill: Fill) -> SyncGroupRequest {
    use sync_group_request::SyncGroupRequestAssignment;
    let assignment = SyncGroupRequestAssignment::default()
        .with_member_id(text("member"))
        .with_assignment(Bytes::from_static(b"\xff\xfe"));
    SyncGroupRequest::default()
        .with_group_id(text("group"))
        .with_generation_id(1)
        .with_member_id(text("member"))
        .with_group_instance_id(fill.nullable(text("instance")).filter(|_| version >= 3))
        .with_protocol_type(fill.nullable(text("consumer")))
        .with_protocol_name(fill.nullable(text("range")))
        .with_assignments(two(assignment))
}

fn describe_groups(version: i16, _: Fill) -> DescribeGroupsRequest {
    DescribeGroupsRequest::default()
        .with_groups(two(text("group")))
        .with_include_authorized_operations(version >= 3)
}

fn list_groups(version: i16, _: Fill) -> ListGroupsRequest {
    ListGroupsRequest::default()
        .with_states_filter(only(version >= 4, two(text("Stable")), vec![]))
        .with_types_filter(only(version >= 5, two(text("classic")), vec![]))
}

fn api_versions(_: i16, _: Fill) -> ApiVersionsRequest {
    ApiVersionsRequest::default()
        .with_client_software_name(text("client"))
        .with_client_software_version(text("1.0"))
}

fn create_topics(_: i16, fill: Fill) -> CreateTopicsRequest {
    use create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
    let assignment = CreatableReplicaAssignment::default()
        .with_partition_index(1)
        .with_broker_ids(two(2.into()));
    let config = CreatableTopicConfig::default()
        .with_name(text("config"))
        .with_value(fill.nullable(text("value")));
    let topic = CreatableTopic::default()
        .with_name(text("topic"))
        .with_num_partitions(3)
        .with_replication_factor(4)
        .with_assignments(two(assignment))
        .with_configs(two(config));
    CreateTopicsRequest::default()
        .with_topics(two(topic))
        .with_timeout_ms(5)
        .with_validate_only(true)
}

fn delete_topics(version: i16, fill: Fill) -> DeleteTopicsRequest {
    use delete_topics_request::DeleteTopicState;
    let topic = DeleteTopicState::default()
        .with_name(fill.nullable(text("topic")))
        .with_topic_id(Uuid::from_u128(7));
    DeleteTopicsRequest::default()
        .with_topics(only(version >= 6, two(topic), vec![]))
        .with_topic_names(only(version < 6, two(text("topic")), vec![]))
        .with_timeout_ms(1)
}

fn delete_records(_: i16, _: Fill) -> DeleteRecordsRequest {
    use delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
    let partition = DeleteRecordsPartition::default().with_partition_index(1).with_offset(2);
    let topic =
        DeleteRecordsTopic::default().with_name(text("topic")).with_partitions(two(partition));
    DeleteRecordsRequest::default().with_topics(two(topic)).with_timeout_ms(3)
}

fn init_producer_id(version: i16, fill: Fill) -> InitProducerIdRequest {
    InitProducerIdRequest::default()
        .with_transactional_id(fill.nullable(text("transaction")))
        .with_transaction_timeout_ms(1)
        .with_producer_id(only(version >= 3, 2, -1).into())
        .with_producer_epoch(only(version >= 3, 3, -1))
}

fn offset_for_leader_epoch(_: i16, _: Fill) -> OffsetForLeaderEpochRequest {
    use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    let partition = OffsetForLeaderPartition::default()
        .with_partition(1)
        .with_current_leader_epoch(2)
        .with_leader_epoch(3);
    let topic =
        OffsetForLeaderTopic::default().with_topic(text("topic")).with_partitions(two(partition));
    OffsetForLeaderEpochRequest::default().with_replica_id(4.into()).with_topics(two(topic))
}

fn describe_configs(version: i16, fill: Fill) -> DescribeConfigsRequest {
    use describe_configs_request::DescribeConfigsResource;
    let resource = DescribeConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("topic"))
        .with_configuration_keys(fill.nullable(two(text("config"))));
    DescribeConfigsRequest::default()
        .with_resources(two(resource))
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3)
}

fn alter_configs(_: i16, fill: Fill) -> AlterConfigsRequest {
    use alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config = AlterableConfig::default()
        .with_name(text("config"))
        .with_value(fill.nullable(text("value")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("topic"))
        .with_configs(two(config));
    AlterConfigsRequest::default().with_resources(two(resource)).with_validate_only(true)
}

fn describe_log_dirs(_: i16, fill: Fill) -> DescribeLogDirsRequest {
    use describe_log_dirs_request::DescribableLogDirTopic;
    let topic =
        DescribableLogDirTopic::default().with_topic(text("topic")).with_partitions(vec![1, 2]);
    DescribeLogDirsRequest::default().with_topics(fill.nullable(two(topic)))
}

fn create_partitions(_: i16, fill: Fill) -> CreatePartitionsRequest {
    use create_partitions_request::{CreatePartitionsAssignment, CreatePartitionsTopic};
    let assignment = CreatePartitionsAssignment::default().with_broker_ids(two(1.into()));
    let topic = CreatePartitionsTopic::default()
        .with_name(text("topic"))
        .with_count(2)
        .with_assignments(fill.nullable(two(assignment)));
    CreatePartitionsRequest::default()
        .with_topics(two(topic))
        .with_timeout_ms(3)
        .with_validate_only(true)
}

fn delete_groups(_: i16, _: Fill) -> DeleteGroupsRequest {
    DeleteGroupsRequest::default().with_groups_names(two(text("group")))
}

fn elect_leaders(version: i16, fill: Fill) -> ElectLeadersRequest {
    use elect_leaders_request::TopicPartitions;
    let topic = TopicPartitions::default().with_topic(text("topic")).with_partitions(vec![1, 2]);
    ElectLeadersRequest::default()
        .with_election_type(only(version >= 1, 1, 0))
        .with_topic_partitions(fill.nullable(two(topic)))
        .with_timeout_ms(3)
}

fn incremental_alter_configs(_: i16, fill: Fill) -> IncrementalAlterConfigsRequest {
    use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config = AlterableConfig::default()
        .with_name(text("config"))
        .with_config_operation(1)
        .with_value(fill.nullable(text("value")));
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text("topic"))
        .with_configs(two(config));
    IncrementalAlterConfigsRequest::default().with_resources(two(resource)).with_validate_only(true)
}

fn alter_partition_reassignments(_: i16, fill: Fill) -> AlterPartitionReassignmentsRequest {
    use alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    let partition = ReassignablePartition::default()
        .with_partition_index(1)
        .with_replicas(fill.nullable(two(2.into())));
    let topic =
        ReassignableTopic::default().with_name(text("topic")).with_partitions(two(partition));
    AlterPartitionReassignmentsRequest::default().with_timeout_ms(3).with_topics(two(topic))
}

fn list_partition_reassignments(_: i16, fill: Fill) -> ListPartitionReassignmentsRequest {
    use list_partition_reassignments_request::ListPartitionReassignmentsTopics;
    let topic = ListPartitionReassignmentsTopics::default()
        .with_name(text("topic"))
        .with_partition_indexes(vec![1, 2]);
    ListPartitionReassignmentsRequest::default()
        .with_timeout_ms(3)
        .with_topics(fill.nullable(two(topic)))
}

fn offset_delete(_: i16, _: Fill) -> OffsetDeleteRequest {
    use offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    let partition = OffsetDeleteRequestPartition::default().with_partition_index(1);
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(text("topic"))
        .with_partitions(two(partition));
    OffsetDeleteRequest::default().with_group_id(text("group")).with_topics(two(topic))
}

fn describe_cluster(version: i16, _: Fill) -> DescribeClusterRequest {
    DescribeClusterRequest::default()
        .with_include_cluster_authorized_operations(true)
        .with_endpoint_type(only(version >= 1, 2, 1))
}

fn consumer_group_heartbeat(version: i16, fill: Fill) -> ConsumerGroupHeartbeatRequest {
    use consumer_group_heartbeat_request::TopicPartitions;
    let topic =
        TopicPartitions::default().with_topic_id(Uuid::from_u128(7)).with_partitions(vec![1, 2]);
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(text("group"))
        .with_member_id(text("member"))
        .with_member_epoch(1)
        .with_instance_id(fill.nullable(text("instance")))
        .with_rack_id(fill.nullable(text("rack")))
        .with_rebalance_timeout_ms(2)
        .with_subscribed_topic_names(fill.nullable(two(text("topic"))))
        .with_subscribed_topic_regex(fill.nullable(text("t.*")).filter(|_| version >= 1))
        .with_server_assignor(fill.nullable(text("uniform")))
        .with_topic_partitions(fill.nullable(two(topic)))
}

fn consumer_group_describe(_: i16, _: Fill) -> ConsumerGroupDescribeRequest {
    ConsumerGroupDescribeRequest::default()
        .with_group_ids(two(text("group")))
        .with_include_authorized_operations(true)
}
