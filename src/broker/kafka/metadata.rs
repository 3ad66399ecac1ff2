//! Brokers and topics.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{BrokerId, MetadataRequest, MetadataResponse, TopicName};
use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{self, Metadata, PartitionMetadata, TopicMetadata};
use uuid::Uuid;

use super::NoAnswer;
use super::place::{Place, text};
use crate::broker::describe;
use crate::broker::groups::OFFSETS_TOPIC;
use crate::broker::shared::Shared;
use crate::zoo::state::ClusterState;

/// What may be done with a topic, where nobody is forbidden anything: a bit for each of Kafka's `AclOperation`s READ,
/// WRITE, CREATE, DELETE, ALTER, DESCRIBE, DESCRIBE_CONFIGS and ALTER_CONFIGS.
const OF_TOPIC: i32 = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// What may be done with the cluster: CREATE, ALTER, DESCRIBE, CLUSTER_ACTION, DESCRIBE_CONFIGS, ALTER_CONFIGS and
/// IDEMPOTENT_WRITE.
pub const OF_CLUSTER: i32 = 1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;
/// Nobody has asked what may be done.
pub const NOT_ASKED: i32 = i32::MIN;

/// From this version on no topics are none; before, all.
const NONE_IS_NONE: i16 = 1;
/// From this version on a topic can be asked for by its id alone (KIP-516).
const BY_ID: i16 = 12;

/// Answers what is known; topics that there are not are made first, if client and broker want it.
pub fn metadata(
    shared: &Arc<Shared>,
    context: &mut Context,
    place: Place,
    fields: &[u8],
) -> Result<(), NoAnswer> {
    let request: MetadataRequest = place.read(fields)?;
    let of_cluster =
        if request.include_cluster_authorized_operations { OF_CLUSTER } else { NOT_ASKED };
    let of_topic = if request.include_topic_authorized_operations { OF_TOPIC } else { NOT_ASKED };
    let mut unknown = Vec::new();
    let mut names = Vec::new();
    let asked = request.topics.filter(|topics| place.version >= NONE_IS_NONE || !topics.is_empty());
    let wants_all = asked.is_none();
    let by_id = asked.iter().flatten().filter(|topic| topic.name.is_none());
    let mut ids: HashSet<Uuid> = by_id.map(|topic| topic.topic_id).collect();
    let known = names_of(&shared.cluster.state(), &ids);
    for topic in asked.into_iter().flatten() {
        match topic.name {
            Some(name) => names.push(name.to_string()),
            None if place.version < BY_ID => return Err("a topic without a name".to_owned()),
            None if !ids.remove(&topic.topic_id) => {}
            None => match known.get(&topic.topic_id) {
                Some(name) => names.push(name.clone()),
                None => unknown.push(unknown_id(topic.topic_id, of_topic)),
            },
        }
    }
    let for_answer = shared.clone();
    let reply = place.reply(move |answer: Result<message::MetadataResponse, Fault>| {
        let state = for_answer.cluster.state();
        let response = MetadataResponse::default()
            .with_controller_id(BrokerId(for_answer.cluster.me().id as i32))
            .with_cluster_authorized_operations(of_cluster);
        match answer {
            Ok(answer) => {
                let known = answer.topics.into_iter().map(|topic| {
                    topic_of(&state, topic).with_topic_authorized_operations(of_topic)
                });
                response
                    .with_cluster_id(Some(text(answer.cluster_id)))
                    .with_brokers(answer.brokers.into_iter().map(broker_of).collect())
                    .with_topics(known.chain(unknown).collect())
            }
            Err(fault) => response.with_error_code(fault.code.0),
        }
    });
    let request = Metadata {
        topics: (!wants_all).then_some(names),
        allow_auto_topic_creation: request.allow_auto_topic_creation,
    };
    describe::metadata(shared, context, reply, request);
    Ok(())
}

/// The names of the topics with these ids.
pub fn names_of(state: &ClusterState, ids: &HashSet<Uuid>) -> HashMap<Uuid, String> {
    if ids.is_empty() {
        return HashMap::new();
    }
    let wanted = state.topics.iter().filter(|(_, topic)| ids.contains(&topic.id));
    wanted.map(|(name, topic)| (topic.id, name.clone())).collect()
}

fn unknown_id(id: Uuid, operations: i32) -> MetadataResponseTopic {
    MetadataResponseTopic::default()
        .with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.0)
        .with_name(None)
        .with_topic_id(id)
        .with_topic_authorized_operations(operations)
}

fn broker_of(broker: message::BrokerAddress) -> MetadataResponseBroker {
    MetadataResponseBroker::default()
        .with_node_id(BrokerId(broker.id as i32))
        .with_host(text(broker.host))
        .with_port(broker.port.into())
        .with_rack(broker.rack.map(text))
}

fn topic_of(state: &ClusterState, topic: TopicMetadata) -> MetadataResponseTopic {
    let response = MetadataResponseTopic::default()
        .with_is_internal(topic.name == OFFSETS_TOPIC)
        .with_name(Some(TopicName(text(topic.name))));
    match topic.result {
        Ok(places) => {
            let partitions = places.partitions.into_iter();
            let partitions = partitions.map(|partition| partition_of(state, partition));
            response.with_topic_id(places.topic_id).with_partitions(partitions.collect())
        }
        Err(fault) => response.with_error_code(code_of_topic(&fault).0),
    }
}

/// A broker that does not know the topic yet is to be asked again, not the topic's leader.
fn code_of_topic(fault: &Fault) -> ErrorCode {
    match fault.code {
        ErrorCode::NOT_LEADER_OR_FOLLOWER => ErrorCode::LEADER_NOT_AVAILABLE,
        code => code,
    }
}

fn partition_of(state: &ClusterState, partition: PartitionMetadata) -> MetadataResponsePartition {
    let ids = |ids: &[u32]| ids.iter().map(|id| BrokerId(*id as i32)).collect::<Vec<_>>();
    let is_offline = |id: &u32| state.brokers.get(id).is_none_or(|broker| broker.fenced);
    let offline: Vec<u32> = partition.replicas.iter().copied().filter(is_offline).collect();
    let error = match partition.leader {
        Some(_) => ErrorCode::NONE,
        None => ErrorCode::LEADER_NOT_AVAILABLE,
    };
    MetadataResponsePartition::default()
        .with_error_code(error.0)
        .with_partition_index(partition.partition as i32)
        .with_leader_id(BrokerId(partition.leader.map_or(-1, |id| id as i32)))
        .with_leader_epoch(partition.leader_epoch)
        .with_replica_nodes(ids(&partition.replicas))
        .with_isr_nodes(ids(&partition.in_sync_replicas))
        .with_offline_replicas(ids(&offline))
}
