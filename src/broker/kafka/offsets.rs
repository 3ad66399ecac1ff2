//! Which offset belongs to a time, or to an end of a log.

use std::sync::Arc;

use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{self, At, FoundOffset, ListOffsets, ListOffsetsPart};

use super::NoAnswer;
use super::place::{Place, code_of};
use super::results::Results;
use crate::broker::offsets;
use crate::broker::shared::Shared;

/// From this version on an answer tells the leader's epoch (KIP-320).
const WITH_EPOCH: i16 = 4;

/// From this version on clients know OFFSET_NOT_AVAILABLE (KIP-207).
const KNOWS_UNAVAILABLE: i16 = 5;

/// Looks up offsets.
pub fn list(
    shared: &Arc<Shared>,
    context: &mut Context,
    place: Place,
    fields: &[u8],
) -> Result<(), NoAnswer> {
    let request: ListOffsetsRequest = place.read(fields)?;
    let mut parts = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            parts.push(ListOffsetsPart {
                topic: topic.name.to_string(),
                partition: number(partition.partition_index),
                leader_epoch: partition.current_leader_epoch,
                at: at(partition.timestamp),
            });
        }
    }
    let reply = place.reply(move |answer| response(place.version, &request, answer));
    offsets::list(shared, context, reply, ListOffsets { parts });
    Ok(())
}

/// The number of a partition; no topic has one of a negative number, nor of the largest one.
pub fn number(index: i32) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// What is asked for. Negative times are names for places: -1 the end, -2 the start, -3 the record with the largest
/// timestamp (KIP-734), -4 the start of what is on the broker's own disk (KIP-405), which is all.
fn at(timestamp: i64) -> At {
    match timestamp {
        -1 => At::Latest,
        -2 | -4 => At::Earliest,
        -3 => At::MaxTimestamp,
        timestamp => At::Timestamp(timestamp),
    }
}

fn response(
    version: i16,
    request: &ListOffsetsRequest,
    answer: Result<message::ListOffsetsResponse, Fault>,
) -> ListOffsetsResponse {
    let mut results = Results::of(answer.map(|answer| answer.parts));
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|partition| found(version, partition.partition_index, &results.take()));
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn found(
    version: i16,
    index: i32,
    result: &Result<FoundOffset, Fault>,
) -> ListOffsetsPartitionResponse {
    let code = match ErrorCode(code_of(result)) {
        // KIP-207: older clients do not know that the new leader is to be asked again.
        ErrorCode::OFFSET_NOT_AVAILABLE if version < KNOWS_UNAVAILABLE => {
            ErrorCode::LEADER_NOT_AVAILABLE.0
        }
        code => code.0,
    };
    let partition =
        ListOffsetsPartitionResponse::default().with_partition_index(index).with_error_code(code);
    match result {
        Ok(FoundOffset { offset: Some(offset), timestamp_ms, leader_epoch }) => partition
            .with_offset(*offset as i64)
            .with_timestamp(*timestamp_ms)
            .with_leader_epoch(if version >= WITH_EPOCH { *leader_epoch } else { -1 }),
        Ok(FoundOffset { offset: None, .. }) | Err(_) => partition,
    }
}
