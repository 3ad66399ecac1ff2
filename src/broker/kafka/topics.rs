//! Topics are made and deleted.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest, DeleteTopicsResponse, TopicName,
};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{self, CreateTopics, NewTopic, Setting};
use uuid::Uuid;

use super::NoAnswer;
use super::assignment;
use super::configs;
use super::metadata::names_of;
use super::place::{Place, code_of, text};
use super::results::{Results, each_once, message_of};
use crate::broker::control;
use crate::broker::shared::Shared;

/// As a number of partitions or replicas: the broker's default (KIP-464).
const DEFAULT: i32 = -1;
/// From this version on topics to delete are named in another list, by name or by id (KIP-516).
const BY_ID: i16 = 6;

/// Most topics that are made at once: what is said of each is much longer than its name.
const MOST_TOPICS: usize = 10_000;

/// Makes topics.
pub fn create(shared: &Arc<Shared>, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: CreateTopicsRequest = place.read(fields)?;
    if request.topics.len() > MOST_TOPICS {
        return Err(format!("{} topics, {MOST_TOPICS} are allowed at once", request.topics.len()));
    }
    let named = request.topics.into_iter().map(|topic| (topic.name.to_string(), topic));
    let planned = each_once(named).into_iter().map(|(name, topic)| {
        let new = topic.and_then(|topic| new_topic(shared, &topic));
        (name, new)
    });
    let plan: Vec<(String, Result<NewTopic, Fault>)> = planned.collect();
    let tried = plan.iter().filter_map(|(_, new)| new.as_ref().ok()).cloned();
    let tried = CreateTopics { topics: tried.collect(), validate_only: request.validate_only };
    let for_answer = shared.clone();
    let reply = place.reply(move |answer: Result<message::CreateTopicsResponse, Fault>| {
        let results = answer.map(|answer| answer.topics.into_iter().map(|t| t.result).collect());
        let mut results = Results::of(results);
        let topics = plan.into_iter().map(|(name, new)| {
            let result = new.and_then(|new| results.take().map(|made| (new, made)));
            created(&for_answer, name, result)
        });
        CreateTopicsResponse::default().with_topics(topics.collect())
    });
    reply.later(shared, tried, control::create);
    Ok(())
}

fn new_topic(shared: &Shared, topic: &CreatableTopic) -> Result<NewTopic, Fault> {
    let partitions = match &topic.assignments[..] {
        [] => topic.num_partitions,
        _ => assigned(shared, topic)?,
    };
    let settings = topic.configs.iter().map(|config| {
        let name = config.name.to_string();
        match &config.value {
            Some(value) => Ok(Setting { name, value: value.to_string() }),
            None => {
                let what = format!("{name} is to be set to nothing");
                Err(Fault::new(ErrorCode::INVALID_CONFIG, what))
            }
        }
    });
    Ok(NewTopic {
        name: topic.name.to_string(),
        partitions: count(partitions, ErrorCode::INVALID_PARTITIONS, "partitions")?,
        replication_factor: count(
            topic.replication_factor.into(),
            ErrorCode::INVALID_REPLICATION_FACTOR,
            "replicas",
        )?,
        settings: settings.collect::<Result<_, _>>()?,
    })
}

/// The number of partitions for which brokers were chosen, if the number is all that matters.
fn assigned(shared: &Shared, topic: &CreatableTopic) -> Result<i32, Fault> {
    if topic.num_partitions != DEFAULT || i32::from(topic.replication_factor) != DEFAULT {
        let what = "whoever chooses brokers leaves the numbers of partitions and replicas at -1";
        return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
    }
    let mut numbers: Vec<i32> = topic.assignments.iter().map(|a| a.partition_index).collect();
    numbers.sort_unstable();
    if !(0..).zip(&numbers).all(|(expected, number)| expected == *number) {
        return Err(assignment::refused("the partitions are not numbered from 0 on, each once"));
    }
    topic.assignments.iter().try_for_each(|a| assignment::check(shared, &a.broker_ids))?;
    Ok(numbers.len() as i32)
}

fn count<N: TryFrom<i32>>(found: i32, code: ErrorCode, of: &str) -> Result<Option<N>, Fault> {
    match N::try_from(found) {
        Ok(count) => Ok(Some(count)),
        Err(_) if found == DEFAULT => Ok(None),
        Err(_) => Err(Fault::new(code, format!("{found} {of}; -1 is the broker's default"))),
    }
}

fn created(
    shared: &Shared,
    name: String,
    result: Result<(NewTopic, (Uuid, u32)), Fault>,
) -> CreatableTopicResult {
    let response = CreatableTopicResult::default()
        .with_name(TopicName(text(name)))
        .with_error_code(code_of(&result))
        .with_error_message(message_of(&result));
    let Ok((new, (id, partitions))) = result else { return response };
    let replicas = control::replication_factor(shared, new.replication_factor);
    let own: BTreeMap<String, String> =
        new.settings.into_iter().map(|setting| (setting.name, setting.value)).collect();
    response
        .with_topic_id(id)
        .with_num_partitions(partitions as i32)
        .with_replication_factor(i16::try_from(replicas).unwrap_or(i16::MAX))
        .with_configs(Some(configs::of_new_topic(shared, &own)))
}

/// Deletes topics.
pub fn delete(shared: &Arc<Shared>, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: DeleteTopicsRequest = place.read(fields)?;
    let named: Vec<(Option<String>, Uuid)> = match place.version {
        BY_ID.. => {
            let topics = request.topics.into_iter();
            topics.map(|topic| (topic.name.map(|name| name.to_string()), topic.topic_id)).collect()
        }
        _ => {
            let names = request.topic_names.into_iter();
            names.map(|name| (Some(name.to_string()), Uuid::nil())).collect()
        }
    };
    let for_worker = shared.clone();
    shared.admin.run(move || {
        let named = each_once(named.into_iter().map(|key| (key, ())));
        let ids = named.iter().map(|((_, id), _)| *id).filter(|id| !id.is_nil()).collect();
        let names = names_of(&for_worker.cluster.state(), &ids);
        let results = named.into_iter().map(|((name, id), once)| match once {
            Ok(()) => delete_one(&for_worker, (name, id), &names),
            Err(fault) => deleted(name, id, Err(fault)),
        });
        let response = DeleteTopicsResponse::default().with_responses(results.collect());
        place.send(&for_worker, &response);
    });
    Ok(())
}

fn delete_one(
    shared: &Arc<Shared>,
    (name, id): (Option<String>, Uuid),
    names: &HashMap<Uuid, String>,
) -> DeletableTopicResult {
    let id_of =
        |name: &str| shared.cluster.state().topics.get(name).map_or(Uuid::nil(), |topic| topic.id);
    match (name, id) {
        (Some(name), id) if id.is_nil() => {
            let id = id_of(&name);
            let result = control::delete_one(shared, &name, None);
            deleted(Some(name), id, result)
        }
        (None, id) if !id.is_nil() => {
            let name = names.get(&id).cloned();
            let result = match &name {
                Some(name) => control::delete_one(shared, name, Some(id)),
                None => {
                    let what = format!("there is no topic with id {id}");
                    Err(Fault::new(ErrorCode::UNKNOWN_TOPIC_ID, what))
                }
            };
            deleted(name, id, result)
        }
        (name, id) => {
            let what = "a topic to delete is named by its name or by its id, one of them";
            deleted(name, id, Err(Fault::new(ErrorCode::INVALID_REQUEST, what)))
        }
    }
}

fn deleted(name: Option<String>, id: Uuid, result: Result<(), Fault>) -> DeletableTopicResult {
    DeletableTopicResult::default()
        .with_name(name.map(|name| TopicName(text(name))))
        .with_topic_id(id)
        .with_error_code(code_of(&result))
        .with_error_message(message_of(&result))
}
