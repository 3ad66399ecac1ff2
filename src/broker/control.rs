//! What clients ask to be changed of topics. The mini-zookeeper decides; the broker that was asked
//! answers when it has done its own part. On a thread of its own, as it waits for both.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    AddPartitions, AddPartitionsResponse, AlterTopic, AlterTopicResponse, CreateTopics,
    CreateTopicsResponse, CreatedTopic, DeleteTopics, DeleteTopicsResponse, NewTopic, Removal,
    Setting, TopicResult, TrimPart, TrimTopic, TrimTopicResponse,
};
use mk_storage::Offset;
use mk_storage::log::{Expired, Retention};
use uuid::Uuid;

use super::catalog::{self, Topic};
use super::cleaner;
use super::cluster::{fault_of, reconcile};
use super::groups::refuse_internal;
use super::replication::replica::Standing;
use super::shared::{Shared, not_leader, replica_of};
use crate::clock::now_ms;
use crate::settings::TopicSettings;
use crate::zoo::state::Command;

/// Most partitions of a topic. Each costs some files and maps.
const MOST_PARTITIONS: u32 = 10_000;

/// Creates topics.
pub fn create(shared: &Arc<Shared>, request: CreateTopics) -> Result<CreateTopicsResponse, Fault> {
    let topics = request.topics.into_iter().map(|new| {
        let allowed = refuse_internal(&new.name);
        let result = allowed.and_then(|()| create_one(shared, &new, request.validate_only));
        CreatedTopic { name: new.name, result }
    });
    Ok(CreateTopicsResponse { topics: topics.collect() })
}

/// The topic of this name, created if there is none.
pub fn topic_or_new(shared: &Arc<Shared>, name: &str) -> Result<Arc<Topic>, Fault> {
    if let Ok(topic) = shared.topic(name) {
        return Ok(topic);
    }
    refuse_internal(name)?;
    let new = NewTopic {
        name: name.to_owned(),
        partitions: None,
        replication_factor: None,
        settings: Vec::new(),
    };
    make(shared, &new)?;
    shared.topic(name)
}

/// Makes a topic, if there is none of its name.
pub fn make(shared: &Arc<Shared>, new: &NewTopic) -> Result<(), Fault> {
    match create_one(shared, new, false) {
        // Somebody else was quicker, by another broker.
        Err(fault) if fault.code == ErrorCode::TOPIC_ALREADY_EXISTS => on_disk(shared, &new.name),
        done => done.map(drop),
    }
}

fn create_one(
    shared: &Arc<Shared>,
    new: &NewTopic,
    validate_only: bool,
) -> Result<(Uuid, u32), Fault> {
    let name = &new.name;
    catalog::check_name(name)
        .map_err(|what| Fault::new(ErrorCode::INVALID_TOPIC_EXCEPTION, what))?;
    if shared.cluster.state().topics.contains_key(name) {
        let what = format!("topic '{name}' is there already");
        return Err(Fault::new(ErrorCode::TOPIC_ALREADY_EXISTS, what));
    }
    let default = shared.settings.number("num.partitions") as u32;
    let partitions = check_count(new.partitions.unwrap_or(default))?;
    let replication_factor = replication_factor(shared, new.replication_factor);
    let settings = new.settings.iter().map(|s| (s.name.clone(), s.value.clone())).collect();
    check_settings(&settings)?;
    if validate_only {
        let places = shared.cluster.state().places(partitions, replication_factor);
        return places.map(|_| (Uuid::nil(), partitions)).map_err(|refused| fault_of(&refused));
    }
    let (id, name) = (Uuid::new_v4(), name.clone());
    let create =
        Command::CreateTopic { name: name.clone(), id, partitions, replication_factor, settings };
    shared.cluster.change(create)?;
    on_disk(shared, &name).inspect_err(|_| {
        // A topic that a broker cannot keep is none; whatever comes of this, the first error is told.
        let _ = shared.cluster.change(Command::DeleteTopic { name, id });
    })?;
    Ok((id, partitions))
}

/// As many as are asked for; else `default.replication.factor`, which is 1 for a broker alone. A
/// cluster whose brokers have not all come yet makes no topic with fewer replicas than it is to have:
/// nobody would notice until a disk dies.
pub fn replication_factor(shared: &Shared, asked: Option<u16>) -> u32 {
    match (asked, shared.cluster.is_alone()) {
        (Some(asked), _) => u32::from(asked),
        (None, true) => 1,
        (None, false) => shared.settings.number("default.replication.factor") as u32,
    }
}

/// Waits until this broker has done what the cluster says of a topic.
fn on_disk(shared: &Arc<Shared>, name: &str) -> Result<(), Fault> {
    let (sender, done) = mpsc::channel();
    let (for_worker, name) = (shared.clone(), name.to_owned());
    shared.control.run(move || {
        // Whoever asks waits for the answer.
        let _ = sender.send(reconcile::topic(&for_worker, &name));
    });
    let stopping = |_| Fault::new(ErrorCode::NOT_CONTROLLER, "the broker stops");
    done.recv().map_err(stopping)?
}

/// Deletes topics.
pub fn delete(shared: &Arc<Shared>, request: DeleteTopics) -> Result<DeleteTopicsResponse, Fault> {
    let topics = request.names.into_iter().map(|name| {
        let result = delete_one(shared, &name, None);
        TopicResult { name, result }
    });
    Ok(DeleteTopicsResponse { topics: topics.collect() })
}

/// Deletes the topic of this name; only that with the id, if one is given.
pub fn delete_one(shared: &Arc<Shared>, name: &str, id: Option<Uuid>) -> Result<(), Fault> {
    refuse_internal(name)?;
    let id = id.map_or_else(|| known_id(shared, name), Ok)?;
    shared.cluster.change(Command::DeleteTopic { name: name.to_owned(), id })?;
    on_disk(shared, name)
}

fn known_id(shared: &Shared, name: &str) -> Result<Uuid, Fault> {
    let state = shared.cluster.state();
    state.topics.get(name).map(|topic| topic.id).ok_or_else(|| shared.unknown_topic(name, &state))
}

/// Changes a topic's own settings.
pub fn alter(shared: &Arc<Shared>, request: AlterTopic) -> Result<AlterTopicResponse, Fault> {
    refuse_internal(&request.name)?;
    let topic = shared.topic(&request.name)?;
    let mut own = topic.settings().own.clone();
    for name in &request.unset {
        let known = crate::settings::definition(name, true);
        known.map_err(|error| Fault::new(ErrorCode::INVALID_CONFIG, error.to_string()))?;
        own.remove(name);
    }
    own.extend(request.set.into_iter().map(|setting| (setting.name, setting.value)));
    check_settings(&own)?;
    if !request.validate_only {
        let (name, settings) = (request.name.clone(), own.clone());
        shared.cluster.change(Command::AlterTopic { name, settings })?;
        on_disk(shared, &request.name)?;
    }
    let defaults = shared.cluster.state().defaults.clone();
    let retention = TopicSettings::effective(&own, &defaults, &shared.settings).retention;
    let settings = own.into_iter().map(|(name, value)| Setting { name, value });
    Ok(AlterTopicResponse {
        settings: settings.collect(),
        removals: removals(&topic, retention).collect(),
    })
}

/// What a retention takes away from a topic, by partition.
fn removals(topic: &Topic, retention: Retention) -> impl Iterator<Item = Removal> {
    let partitions = topic.partitions().to_vec();
    partitions.into_iter().filter_map(move |partition| {
        let Expired { start, segments, bytes } = partition.log().ok()?.expired(retention, now_ms());
        let partition = partition.number();
        (segments > 0).then_some(Removal { partition, segments, bytes, start: start.0 })
    })
}

/// Lets a topic grow.
pub fn add_partitions(
    shared: &Arc<Shared>,
    request: AddPartitions,
) -> Result<AddPartitionsResponse, Fault> {
    refuse_internal(&request.name)?;
    let topic = shared.topic(&request.name)?;
    let now = topic.partitions().len() as u32;
    let total = check_count(request.total)?;
    if total <= now {
        let name = &request.name;
        let what = format!("topic '{name}' has {now} partitions, {total} are asked for");
        return Err(Fault::new(ErrorCode::INVALID_PARTITIONS, what));
    }
    if !request.validate_only {
        let name = request.name.clone();
        shared.cluster.change(Command::AddPartitions { name, total })?;
        on_disk(shared, &request.name)?;
    }
    Ok(AddPartitionsResponse { partitions: total })
}

/// Takes records away from the start of logs that this broker leads; followers do the same.
pub fn trim(shared: &Arc<Shared>, request: TrimTopic) -> Result<TrimTopicResponse, Fault> {
    let parts = request.parts.iter().map(|part| trim_one(shared, part));
    Ok(TrimTopicResponse { parts: parts.collect() })
}

fn trim_one(shared: &Shared, part: &TrimPart) -> Result<u64, Fault> {
    refuse_internal(&part.topic)?;
    let (_, partition) = shared.partition(&part.topic, Uuid::nil(), part.partition)?;
    let replica = replica_of(&partition)?;
    if !matches!(replica.standing(), Standing::Leader(_)) {
        return Err(not_leader(&partition));
    }
    let log = replica.log();
    let committed = log.high_watermark();
    let to = if part.before == u64::MAX { committed } else { Offset(part.before) };
    if to > committed {
        let what = format!("offset {to} is beyond what is committed, {committed}");
        return Err(Fault::new(ErrorCode::OFFSET_OUT_OF_RANGE, what));
    }
    let grave = cleaner::grave(shared, &partition);
    log.trim(to, Some(&grave)).map(|start| start.0).map_err(storage)
}

fn check_count(partitions: u32) -> Result<u32, Fault> {
    if (1..=MOST_PARTITIONS).contains(&partitions) {
        return Ok(partitions);
    }
    let what = format!("{partitions} partitions; 1 to {MOST_PARTITIONS} are possible");
    Err(Fault::new(ErrorCode::INVALID_PARTITIONS, what))
}

fn check_settings(own: &BTreeMap<String, String>) -> Result<(), Fault> {
    TopicSettings::check(own)
        .map_err(|error| Fault::new(ErrorCode::INVALID_CONFIG, error.to_string()))
}

fn storage(error: impl std::fmt::Display) -> Fault {
    Fault::new(ErrorCode::KAFKA_STORAGE_ERROR, error.to_string())
}
