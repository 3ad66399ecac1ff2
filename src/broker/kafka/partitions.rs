//! Topics grow.

use std::sync::Arc;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::AddPartitions;

use super::NoAnswer;
use super::assignment;
use super::place::{Place, code_of};
use super::results::{each_once, message_of};
use crate::broker::control;
use crate::broker::shared::Shared;

/// Lets topics grow.
pub fn create(shared: &Arc<Shared>, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: CreatePartitionsRequest = place.read(fields)?;
    let for_worker = shared.clone();
    shared.admin.run(move || {
        let named = request.topics.into_iter().map(|topic| (topic.name.clone(), topic));
        let results = each_once(named).into_iter().map(|(name, topic)| {
            let result = topic.and_then(|topic| grow(&for_worker, &topic, request.validate_only));
            CreatePartitionsTopicResult::default()
                .with_name(name)
                .with_error_code(code_of(&result))
                .with_error_message(message_of(&result))
        });
        let response = CreatePartitionsResponse::default().with_results(results.collect());
        place.send(&for_worker, &response);
    });
    Ok(())
}

fn grow(
    shared: &Arc<Shared>,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), Fault> {
    let total = u32::try_from(topic.count).map_err(|_| {
        Fault::new(ErrorCode::INVALID_PARTITIONS, format!("{} partitions", topic.count))
    })?;
    if let Some(assignments) = &topic.assignments {
        let now = shared.known_topic(&topic.name, |topic| topic.partitions.len())?;
        if now + assignments.len() != total as usize {
            let what = format!("brokers are chosen for {} new partitions", assignments.len());
            return Err(assignment::refused(format!("{what}, and {now} are to become {total}")));
        }
        assignments.iter().try_for_each(|a| assignment::check(shared, &a.broker_ids))?;
    }
    let request = AddPartitions { name: topic.name.to_string(), total, validate_only };
    control::add_partitions(shared, request).map(drop)
}
