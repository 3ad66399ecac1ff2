//! Leaders are elected by hand (KIP-460).

use std::sync::Arc;

use kafka_protocol::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use kafka_protocol::messages::{ElectLeadersRequest, ElectLeadersResponse, TopicName};
use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{self, ElectLeaders, Election, PartitionOf};

use super::NoAnswer;
use super::offsets::number;
use super::place::{Place, code_of, text};
use super::results::{by_topic, message_of};
use crate::broker::operate;
use crate::broker::shared::Shared;

/// From this version on the kind of election is chosen, and an answer has an error of its own.
const WITH_KIND: i16 = 1;

/// Elects leaders.
pub fn elect(
    shared: &Arc<Shared>,
    context: &mut Context,
    place: Place,
    fields: &[u8],
) -> Result<(), NoAnswer> {
    let request: ElectLeadersRequest = place.read(fields)?;
    let election = match request.election_type {
        0 => Election::Preferred,
        1 => Election::Unclean,
        other => {
            let what = format!("election {other}: 0 is preferred, 1 is unclean");
            let fault = Fault::new(ErrorCode::INVALID_REQUEST, what);
            place.answer(context, &response(place.version, Err(fault)));
            return Ok(());
        }
    };
    let partitions = request.topic_partitions.map(|topics| {
        let of_topics = topics.into_iter().flat_map(|topic| {
            let name = topic.topic.to_string();
            let partitions = topic.partitions.into_iter();
            partitions
                .map(move |index| PartitionOf { topic: name.clone(), partition: number(index) })
        });
        of_topics.collect()
    });
    let reply = place.reply(move |answer| response(place.version, answer));
    reply.later(shared, ElectLeaders { election, partitions }, operate::elect);
    Ok(())
}

fn response(
    version: i16,
    answer: Result<message::ElectLeadersResponse, Fault>,
) -> ElectLeadersResponse {
    let code = if version >= WITH_KIND { code_of(&answer) } else { 0 };
    let elected = answer.map(|answer| answer.partitions).unwrap_or_default().into_iter();
    let parts = elected.map(|(PartitionOf { topic, partition }, leader)| {
        let result = PartitionResult::default()
            .with_partition_id(partition as i32)
            .with_error_code(code_of(&leader))
            .with_error_message(message_of(&leader));
        (topic, result)
    });
    let topics = by_topic(parts).into_iter().map(|(topic, partitions)| {
        ReplicaElectionResult::default()
            .with_topic(TopicName(text(topic)))
            .with_partition_result(partitions)
    });
    ElectLeadersResponse::default()
        .with_error_code(code)
        .with_replica_election_results(topics.collect())
}
