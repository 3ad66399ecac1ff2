//! Where a leader's epoch ends in a log: so a consumer finds out whether what it has read is still there (KIP-320).

use std::sync::Arc;

use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use mk_net::event_loop::Context;

use super::NoAnswer;
use super::offsets::number;
use super::place::{Place, code_of};
use crate::broker::offsets;
use crate::broker::shared::Shared;

/// Answers for the partitions that this broker leads.
pub fn end(
    shared: &Arc<Shared>,
    context: &mut Context,
    place: Place,
    fields: &[u8],
) -> Result<(), NoAnswer> {
    let request: OffsetForLeaderEpochRequest = place.read(fields)?;
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|part| end_of(shared, &topic.topic, part));
        let partitions = partitions.collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(partitions)
    });
    let response = OffsetForLeaderEpochResponse::default().with_topics(topics.collect());
    place.answer(context, &response);
    Ok(())
}

fn end_of(shared: &Shared, topic: &str, part: &OffsetForLeaderPartition) -> EpochEndOffset {
    let (current, asked) = (part.current_leader_epoch, part.leader_epoch);
    let found = offsets::epoch_end(shared, (topic, number(part.partition)), current, asked);
    let answer =
        EpochEndOffset::default().with_partition(part.partition).with_error_code(code_of(&found));
    match found {
        Ok(Some(found)) => {
            answer.with_leader_epoch(found.epoch.0).with_end_offset(found.end.0 as i64)
        }
        Ok(None) | Err(_) => answer,
    }
}
