//! Partitions are given other brokers (KIP-455).

use std::sync::Arc;

use kafka_protocol::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use kafka_protocol::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, BrokerId,
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, TopicName,
};
use mk_net::fault::Fault;
use mk_net::message::{
    self, DescribeCluster, DescribedMove, MovePartitions, PartitionMove, PartitionOf,
};

use super::NoAnswer;
use super::offsets::number;
use super::place::{Place, code_of, text};
use super::results::{Results, by_topic, message_of, partitions};
use crate::broker::operate;
use crate::broker::shared::Shared;

/// Begins to move partitions, or calls that off.
pub fn alter(shared: &Arc<Shared>, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: AlterPartitionReassignmentsRequest = place.read(fields)?;
    let mut moves = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let replicas = partition.replicas.as_ref();
            moves.push(PartitionMove {
                partition: PartitionOf {
                    topic: topic.name.to_string(),
                    partition: number(partition.partition_index),
                },
                // No broker has an id that is negative, nor the one that stands for it.
                replicas: replicas.map(|ids| ids.iter().map(|id| number(id.0)).collect()),
                throttle: None,
            });
        }
    }
    let reply = place.reply(move |answer: Result<message::MovePartitionsResponse, Fault>| {
        let mut results = Results::of(answer.map(|answer| answer.moves));
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                let result = results.take();
                ReassignablePartitionResponse::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code_of(&result))
                    .with_error_message(message_of(&result))
            });
            ReassignableTopicResponse::default()
                .with_name(topic.name)
                .with_partitions(partitions.collect())
        });
        AlterPartitionReassignmentsResponse::default()
            .with_error_message(None)
            .with_responses(topics.collect())
    });
    reply.later(shared, MovePartitions { moves }, operate::move_partitions);
    Ok(())
}

/// Tells which partitions are being moved.
pub fn list(shared: &Arc<Shared>, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: ListPartitionReassignmentsRequest = place.read(fields)?;
    let wanted = request.topics.map(|topics| {
        partitions(topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)))
    });
    let reply = place.reply(move |answer: Result<message::DescribeClusterResponse, Fault>| {
        let response = ListPartitionReassignmentsResponse::default()
            .with_error_code(code_of(&answer))
            .with_error_message(message_of(&answer));
        let moves = answer.map(|answer| answer.moves).unwrap_or_default().into_iter();
        let moves = moves.filter(|moving| match &wanted {
            Some(wanted) => {
                wanted.get(&moving.topic).is_some_and(|p| p.contains(&moving.partition))
            }
            None => true,
        });
        let topics = by_topic(moves.map(ongoing)).into_iter().map(|(topic, partitions)| {
            OngoingTopicReassignment::default()
                .with_name(TopicName(text(topic)))
                .with_partitions(partitions)
        });
        response.with_topics(topics.collect())
    });
    reply.later(shared, DescribeCluster { ask_zookeeper: false }, operate::describe);
    Ok(())
}

fn ongoing(moving: DescribedMove) -> (String, OngoingPartitionReassignment) {
    let DescribedMove { topic, partition, from, to, .. } = moving;
    let without = |these: &[u32], others: &[u32]| -> Vec<BrokerId> {
        let left = these.iter().filter(|id| !others.contains(id));
        left.map(|id| BrokerId(*id as i32)).collect()
    };
    let removing = without(&from, &to);
    let all = without(&to, &[]).into_iter().chain(removing.iter().copied());
    let ongoing = OngoingPartitionReassignment::default()
        .with_partition_index(partition as i32)
        .with_replicas(all.collect())
        .with_adding_replicas(without(&to, &from))
        .with_removing_replicas(removing);
    (topic, ongoing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_it_is_moved_a_partition_has_the_replicas_of_both() {
        let moving = DescribedMove {
            topic: "t".to_owned(),
            partition: 3,
            from: vec![1, 2],
            to: vec![3, 2],
            arrived: Vec::new(),
            throttle: None,
        };
        let (topic, ongoing) = ongoing(moving);
        let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect::<Vec<_>>();
        assert_eq!((topic.as_str(), ongoing.partition_index), ("t", 3));
        assert_eq!(ids(&ongoing.replicas), [3, 2, 1]);
        assert_eq!(ids(&ongoing.adding_replicas), [3]);
        assert_eq!(ids(&ongoing.removing_replicas), [1]);
    }
}
