//! Records are taken away from the start of logs.

use std::sync::Arc;

use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{TrimPart, TrimTopic, TrimTopicResponse};

use super::NoAnswer;
use super::offsets::number;
use super::place::{Place, code_of};
use super::results::Results;
use crate::broker::control;
use crate::broker::shared::Shared;

/// As an offset: where the log ends for consumers.
const HIGH_WATERMARK: i64 = -1;

/// Takes records away.
pub fn delete(shared: &Arc<Shared>, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: DeleteRecordsRequest = place.read(fields)?;
    let mut parts = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            if let Ok(before) = before(partition.offset) {
                let partition = number(partition.partition_index);
                parts.push(TrimPart { topic: topic.name.to_string(), partition, before });
            }
        }
    }
    let reply = place.reply(move |answer| response(&request, answer));
    reply.later(shared, TrimTopic { parts }, control::trim);
    Ok(())
}

/// The first offset that stays; `u64::MAX` is the high watermark.
fn before(offset: i64) -> Result<u64, Fault> {
    match offset {
        HIGH_WATERMARK => Ok(u64::MAX),
        offset => u64::try_from(offset).map_err(|_| {
            Fault::new(ErrorCode::OFFSET_OUT_OF_RANGE, format!("offset {offset} is negative"))
        }),
    }
}

fn response(
    request: &DeleteRecordsRequest,
    answer: Result<TrimTopicResponse, Fault>,
) -> DeleteRecordsResponse {
    let mut results = Results::of(answer.map(|answer| answer.parts));
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let start = before(partition.offset).and_then(|_| results.take());
            DeleteRecordsPartitionResult::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(code_of(&start))
                .with_low_watermark(start.map_or(-1, |start| start as i64))
        });
        DeleteRecordsTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}
