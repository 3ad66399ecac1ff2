//! How far groups have come: OffsetCommit, OffsetFetch, OffsetDelete.

use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    OffsetFetchRequest, OffsetFetchResponse, TopicName,
};
use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    CommitOffsets, CommitOffsetsResponse, CommitPart, DeleteGroup, DeleteGroupResponse,
    FetchOffsets, FetchOffsetsResponse, GroupOffset, PartitionOf,
};
use uuid::Uuid;

use super::gather::{Gather, each_group};
use crate::broker::groups::ask::Ask;
use crate::broker::kafka::NoAnswer;
use crate::broker::kafka::offsets::number;
use crate::broker::kafka::place::{Place, group_code_of, text};
use crate::broker::kafka::results::Results;
use crate::broker::shared::Shared;

/// From this version on offsets of many groups are asked for (KIP-709).
const MANY_GROUPS: i16 = 8;

/// Takes commits.
pub fn commit(shared: &Shared, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: OffsetCommitRequest = place.read(fields)?;
    let mut parts = Vec::new();
    for topic in &request.topics {
        // An offset below 0 is none, and no record's.
        for partition in topic.partitions.iter().filter(|partition| partition.committed_offset >= 0)
        {
            parts.push(CommitPart {
                partition: PartitionOf {
                    topic: topic.name.to_string(),
                    partition: number(partition.partition_index),
                },
                topic_id: Uuid::nil(),
                offset: partition.committed_offset as u64,
                leader_epoch: partition.committed_leader_epoch,
                metadata: partition
                    .committed_metadata
                    .as_ref()
                    .map_or_else(String::new, |m| m.to_string()),
            });
        }
    }
    let commit = CommitOffsets {
        group: request.group_id.to_string(),
        member: request.member_id.to_string(),
        epoch: request.generation_id_or_member_epoch,
        number: 0,
        parts,
    };
    let instance = request.group_instance_id.as_ref().map(|id| id.to_string());
    let reply = place.reply(move |answer: Result<CommitOffsetsResponse, Fault>| {
        let mut results = Results::of(answer.map(|answer| answer.parts));
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|partition| {
                let result = match partition.committed_offset {
                    0.. => results.take(),
                    offset => {
                        Err(Fault::new(ErrorCode::INVALID_REQUEST, format!("offset {offset}")))
                    }
                };
                OffsetCommitResponsePartition::default()
                    .with_partition_index(partition.partition_index)
                    .with_error_code(code_of_commit(&result))
            });
            let partitions = partitions.collect();
            OffsetCommitResponseTopic::default().with_name(topic.name).with_partitions(partitions)
        });
        OffsetCommitResponse::default().with_topics(topics.collect())
    });
    shared.groups.ask(Ask::KafkaCommit(reply, commit, instance));
    Ok(())
}

/// Whoever commits from outside while the group has members is none of them.
fn code_of_commit(result: &Result<(), Fault>) -> i16 {
    match ErrorCode(group_code_of(result)) {
        ErrorCode::NON_EMPTY_GROUP => ErrorCode::UNKNOWN_MEMBER_ID.0,
        code => code.0,
    }
}

/// Tells how far groups have come.
pub fn fetch(
    shared: &Shared,
    context: &mut Context,
    place: Place,
    fields: &[u8],
) -> Result<(), NoAnswer> {
    let request: OffsetFetchRequest = place.read(fields)?;
    if place.version < MANY_GROUPS {
        let wanted = request.topics.map(|topics| {
            topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
        });
        let partitions = partitions_of(wanted.as_ref());
        let reply = place.reply(move |answer: Result<FetchOffsetsResponse, Fault>| {
            let code = group_code_of(&answer);
            let offsets = answer.map_or_else(|_| Vec::new(), |answer| answer.parts);
            // Before version 2 there is no place for an error but with each partition.
            let of_each = if place.version < 2 { code } else { 0 };
            let topics = by_topic(wanted, offsets).into_iter().map(|(name, offsets)| {
                let partitions = offsets.into_iter().map(|(index, found)| {
                    let (offset, epoch, metadata) = found.unwrap_or((-1, -1, String::new()));
                    OffsetFetchResponsePartition::default()
                        .with_partition_index(index)
                        .with_committed_offset(offset)
                        .with_committed_leader_epoch(epoch)
                        .with_metadata(Some(text(metadata)))
                        .with_error_code(of_each)
                });
                let partitions = partitions.collect();
                OffsetFetchResponseTopic::default().with_name(name).with_partitions(partitions)
            });
            let response = OffsetFetchResponse::default().with_topics(topics.collect());
            response.with_error_code(if place.version < 2 { 0 } else { code })
        });
        let group = request.group_id.to_string();
        shared.groups.ask(Ask::Offsets(reply, FetchOffsets { group, partitions }));
        return Ok(());
    }
    if request.groups.is_empty() {
        place.answer(context, &OffsetFetchResponse::default());
        return Ok(());
    }
    let groups = each_group(request.groups, |group| group.group_id.clone())?;
    let gather = Gather::new(place, groups.len());
    for (index, group) in groups.into_iter().enumerate() {
        let wanted = group.topics.map(|topics| {
            topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
        });
        let partitions = partitions_of(wanted.as_ref());
        let name = group.group_id.clone();
        let reply = gather.reply(index, move |answer| of_group(name, wanted, answer), all_groups);
        let member = group.member_id.filter(|_| group.member_epoch >= 0);
        let reader = member.map(|member| (member.to_string(), group.member_epoch));
        let group = group.group_id.to_string();
        let request = FetchOffsets { group, partitions };
        shared.groups.ask(Ask::KafkaOffsets(reply, request, reader));
    }
    Ok(())
}

/// Topics and partitions as they were asked for; none: all there are.
type Wanted = Option<Vec<(TopicName, Vec<i32>)>>;

fn partitions_of(wanted: Option<&Vec<(TopicName, Vec<i32>)>>) -> Option<Vec<PartitionOf>> {
    let each = wanted?.iter().flat_map(|(name, indexes)| {
        indexes
            .iter()
            .map(move |index| PartitionOf { topic: name.to_string(), partition: number(*index) })
    });
    Some(each.collect())
}

/// An offset, the epoch of its leader, and what was written beside it.
type Found = Option<(i64, i32, String)>;

/// Offsets by their topics, in the order asked for.
fn by_topic(wanted: Wanted, offsets: Vec<GroupOffset>) -> Vec<(TopicName, Vec<(i32, Found)>)> {
    let found = |offset: GroupOffset| {
        offset.committed.map(|at| (at.offset as i64, at.leader_epoch, at.metadata))
    };
    match wanted {
        Some(topics) => {
            let mut offsets = offsets.into_iter();
            let each = topics.into_iter().map(|(name, indexes)| {
                let each = indexes.into_iter().map(|index| (index, offsets.next().and_then(found)));
                (name, each.collect())
            });
            each.collect()
        }
        None => {
            let mut topics: Vec<(TopicName, Vec<(i32, Found)>)> = Vec::new();
            for offset in offsets {
                let (name, index) =
                    (offset.partition.topic.clone(), offset.partition.partition as i32);
                let Some(found) = found(offset) else { continue };
                match topics.last_mut().filter(|(last, _)| last.0.as_str() == name) {
                    Some((_, of_topic)) => of_topic.push((index, Some(found))),
                    None => topics.push((TopicName(text(name)), vec![(index, Some(found))])),
                }
            }
            topics
        }
    }
}

fn of_group(
    name: GroupId,
    wanted: Wanted,
    answer: Result<FetchOffsetsResponse, Fault>,
) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default()
        .with_group_id(name)
        .with_error_code(group_code_of(&answer));
    let Ok(answer) = answer else { return response };
    let topics = by_topic(wanted, answer.parts).into_iter().map(|(name, offsets)| {
        let partitions = offsets.into_iter().map(|(index, found)| {
            let (offset, epoch, metadata) = found.unwrap_or((-1, -1, String::new()));
            OffsetFetchResponsePartitions::default()
                .with_partition_index(index)
                .with_committed_offset(offset)
                .with_committed_leader_epoch(epoch)
                .with_metadata(Some(text(metadata)))
        });
        let partitions = partitions.collect();
        OffsetFetchResponseTopics::default().with_name(name).with_partitions(partitions)
    });
    response.with_topics(topics.collect())
}

fn all_groups(groups: Vec<OffsetFetchResponseGroup>) -> OffsetFetchResponse {
    OffsetFetchResponse::default().with_groups(groups)
}

/// Forgets offsets.
pub fn delete(shared: &Shared, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: OffsetDeleteRequest = place.read(fields)?;
    let wanted = request.topics.iter().map(|topic| {
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
        (topic.name.clone(), indexes.collect())
    });
    let partitions = partitions_of(Some(&wanted.collect()));
    let group = request.group_id.to_string();
    let reply = place.reply(move |answer: Result<DeleteGroupResponse, Fault>| {
        let response = OffsetDeleteResponse::default().with_error_code(group_code_of(&answer));
        if answer.is_err() {
            return response;
        }
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                OffsetDeleteResponsePartition::default()
                    .with_partition_index(partition.partition_index)
            });
            OffsetDeleteResponseTopic::default()
                .with_name(topic.name)
                .with_partitions(partitions.collect())
        });
        response.with_topics(topics.collect())
    });
    shared.groups.ask(Ask::Delete(reply, DeleteGroup { group, partitions }));
    Ok(())
}
