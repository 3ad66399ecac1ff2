//! Members of KIP-848.

use std::collections::BTreeSet;

use kafka_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use uuid::Uuid;

use crate::broker::clients::MOST_TEXT;
use crate::broker::groups::PartitionId;
use crate::broker::groups::ask::Ask;
use crate::broker::groups::assignor::Assignor;
use crate::broker::groups::kafka::{Changes, ConsumerAnswer, ConsumerAsk};
use crate::broker::groups::pattern;
use crate::broker::groups::serve::MOST_TOPICS;
use crate::broker::kafka::NoAnswer;
use crate::broker::kafka::place::{Place, group_code_of, text};
use crate::broker::shared::Shared;

/// A member is there, and says what is new with it.
pub fn heartbeat(
    shared: &Shared,
    context: &mut Context,
    place: Place,
    (client_id, fields): (&str, &[u8]),
) -> Result<(), NoAnswer> {
    let request: ConsumerGroupHeartbeatRequest = place.read(fields)?;
    let group = request.group_id.to_string();
    // Version 0 has its first members named by the broker.
    let member = match request.member_id.is_empty() {
        true => Uuid::new_v4().to_string(),
        false => request.member_id.to_string(),
    };
    let interval = shared.settings.number("group.consumer.heartbeat.interval.ms") as i32;
    let response = {
        let member = member.clone();
        move |answer: Result<ConsumerAnswer, Fault>| {
            let response = ConsumerGroupHeartbeatResponse::default()
                .with_error_code(group_code_of(&answer))
                .with_heartbeat_interval_ms(interval);
            match answer {
                Ok(ConsumerAnswer { epoch, assigned }) => response
                    .with_member_id(Some(text(member)))
                    .with_member_epoch(epoch)
                    .with_assignment(assigned.map(assignment_of)),
                Err(fault) => response.with_error_message(Some(text(fault.message))),
            }
        }
    };
    let host = context.peer().map_or_else(String::new, |peer| peer.ip().to_string());
    match changes(&request, (client_id, host)) {
        Ok(changes) => {
            let owned = request.topic_partitions.map(|topics| {
                let ids = topics.into_iter().flat_map(|topic| {
                    let numbers = topic.partitions.into_iter();
                    let numbers = numbers.filter_map(|number| u32::try_from(number).ok());
                    numbers.map(move |partition| PartitionId { topic: topic.topic_id, partition })
                });
                ids.collect::<BTreeSet<_>>()
            });
            let epoch = request.member_epoch;
            let ask = Box::new(ConsumerAsk { member, epoch, changes, owned });
            shared.groups.ask(Ask::Consumer(place.reply(response), group, ask));
        }
        Err(fault) => place.answer(context, &response(Err(fault))),
    }
    Ok(())
}

fn changes(
    request: &ConsumerGroupHeartbeatRequest,
    (client_id, client_host): (&str, String),
) -> Result<Changes, Fault> {
    let topics = request.subscribed_topic_names.as_ref();
    let topics = topics.map(|names| names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
    if topics.as_ref().is_some_and(|topics| topics.len() > MOST_TOPICS) {
        let what = format!("a member reads {MOST_TOPICS} topics at most");
        return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
    }
    let pattern = request.subscribed_topic_regex.as_ref().map(|pattern| pattern.to_string());
    if let Some(Err(why)) = pattern.as_deref().map(pattern::compile) {
        return Err(Fault::new(ErrorCode::INVALID_REGULAR_EXPRESSION, why));
    }
    let assignor = request.server_assignor.as_ref().map(|name| {
        Assignor::by_name(name).ok_or_else(|| {
            let what = format!("there is no assignor '{}'", name.escape_debug());
            Fault::new(ErrorCode::UNSUPPORTED_ASSIGNOR, what)
        })
    });
    Ok(Changes {
        instance_id: request.instance_id.as_ref().map(|id| id.to_string()),
        client_id: client_id.chars().take(MOST_TEXT).collect(),
        client_host,
        rack: request.rack_id.as_ref().map(|rack| rack.to_string()),
        rebalance_timeout_ms: u32::try_from(request.rebalance_timeout_ms).ok(),
        topics,
        pattern,
        assignor: assignor.transpose()?,
    })
}

fn assignment_of(topics: Vec<mk_net::message::TopicPartitions>) -> Assignment {
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|number| number as i32);
        TopicPartitions::default()
            .with_topic_id(topic.topic_id)
            .with_partitions(partitions.collect())
    });
    Assignment::default().with_topic_partitions(topics.collect())
}
