//! Topics come, grow, change and go. All of it on one thread, so that changes never meet; loops
//! see each change whole, by the swap of a pointer.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::{iter, thread};

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    AddPartitions, AddPartitionsResponse, AlterTopic, AlterTopicResponse, CreateTopics,
    CreateTopicsResponse, CreatedTopic, DeleteTopics, DeleteTopicsResponse, NewTopic, Removal,
    Setting, TopicResult, TrimPart, TrimTopic, TrimTopicResponse,
};
use mk_storage::Offset;
use mk_storage::log::{Expired, LogSettings, Retention};
use tracing::{error, info};
use uuid::Uuid;

use super::catalog::{self, CatalogError, Topic, TopicFile};
use super::note::Note;
use super::partition::Partition;
use super::shared::{Shared, log_of};
use super::{cleaner, trash};
use crate::clock::now_ms;
use crate::settings::TopicSettings;

/// Most partitions of a topic. Each costs some files and maps.
const MOST_PARTITIONS: u32 = 10_000;

/// Threads that make the partitions of a topic.
const MAKING_THREADS: usize = 16;

/// Creates topics.
pub fn create(shared: &Arc<Shared>, request: CreateTopics) -> Result<CreateTopicsResponse, Fault> {
    let topics = request.topics.into_iter().map(|new| {
        let result = create_one(shared, &new, request.validate_only);
        CreatedTopic { name: new.name, result }
    });
    Ok(CreateTopicsResponse { topics: topics.collect() })
}

/// The topic of this name, created if there is none.
pub fn topic_or_new(shared: &Arc<Shared>, name: &str) -> Result<Arc<Topic>, Fault> {
    if let Ok(topic) = shared.topic(name) {
        return Ok(topic);
    }
    let new = NewTopic {
        name: name.to_owned(),
        partitions: None,
        replication_factor: None,
        settings: Vec::new(),
    };
    create_one(shared, &new, false)?;
    shared.topic(name)
}

fn create_one(
    shared: &Arc<Shared>,
    new: &NewTopic,
    validate_only: bool,
) -> Result<(Uuid, u32), Fault> {
    let name = &new.name;
    catalog::check_name(name)
        .map_err(|what| Fault::new(ErrorCode::INVALID_TOPIC_EXCEPTION, what))?;
    if shared.topics.load().contains_key(name) {
        let what = format!("topic '{name}' is there already");
        return Err(Fault::new(ErrorCode::TOPIC_ALREADY_EXISTS, what));
    }
    let default = shared.settings.number("num.partitions") as u32;
    let partitions = check_count(new.partitions.unwrap_or(default))?;
    if let Some(factor) = new.replication_factor
        && factor != 1
    {
        let what = format!("{factor} replicas are asked for; there is one broker");
        return Err(Fault::new(ErrorCode::INVALID_REPLICATION_FACTOR, what));
    }
    let own = new.settings.iter().map(|s| (s.name.clone(), s.value.clone())).collect();
    check_settings(&own)?;
    let file = TopicFile::new(name, partitions, own, now_ms());
    if validate_only {
        return Ok((Uuid::nil(), partitions));
    }
    let topic = make(shared, &file).inspect_err(|_| {
        // Whatever was made is no topic without its file; the next start takes it away otherwise.
        let _ = discard(shared, name);
    })?;
    publish(shared, |topics| {
        topics.insert(name.clone(), Arc::new(topic));
    });
    info!(topic = name, partitions, id = %file.id, "a topic was created");
    Ok((file.id, partitions))
}

fn make(shared: &Shared, file: &TopicFile) -> Result<Topic, Fault> {
    let dir = shared.topics_dir.join(&file.name);
    let disk = shared.store.disk();
    // Left there by a broker that died while it made a topic of that name.
    if disk.list(&dir).is_ok_and(|entries| !entries.is_empty()) {
        discard(shared, &file.name).map_err(storage)?;
    }
    disk.create_dir(&dir).map_err(storage)?;
    let settings = TopicSettings::effective(&file.settings, &shared.settings).log;
    let partitions = make_partitions(shared, &dir, file, 0, settings)?;
    // With its file the topic is there; so what it needs must be there before.
    disk.sync_dir(&dir).map_err(storage)?;
    file.write(disk, &dir).map_err(storage)?;
    disk.sync_dir(&shared.topics_dir).map_err(storage)?;
    Ok(Topic::new(file, &shared.settings, partitions))
}

fn make_partitions(
    shared: &Shared,
    dir: &Path,
    file: &TopicFile,
    first: u32,
    settings: LogSettings,
) -> Result<Vec<Arc<Partition>>, Fault> {
    let make_one = |number| {
        let dir = catalog::make_partition_dir(shared.store.disk(), dir, number, file.id)
            .map_err(storage)?;
        let (partition, recovery) =
            Partition::open(&shared.store, &dir, &file.name, number, settings, now_ms());
        recovery.map_err(storage)?;
        Ok(Arc::new(partition))
    };
    // Each waits for several syncs of small files; side by side the file system does them together.
    let next = AtomicU32::new(first);
    let made = thread::scope(|scope| {
        let work = || {
            let numbers = iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)));
            numbers.take_while(|number| *number < file.partitions).map(make_one).collect::<Vec<_>>()
        };
        let threads = MAKING_THREADS.min((file.partitions - first) as usize);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Result<Vec<_>, _>>()
    });
    let made = made.map_err(|_| storage("a thread that made partitions has panicked"))?;
    let made: Result<Vec<Arc<Partition>>, Fault> = made.into_iter().flatten().collect();
    let mut made = made?;
    made.sort_by_key(|partition| partition.number());
    Ok(made)
}

/// Deletes topics.
pub fn delete(shared: &Arc<Shared>, request: DeleteTopics) -> Result<DeleteTopicsResponse, Fault> {
    let topics = request.names.into_iter().map(|name| {
        let result = delete_one(shared, &name);
        TopicResult { name, result }
    });
    Ok(DeleteTopicsResponse { topics: topics.collect() })
}

fn delete_one(shared: &Arc<Shared>, name: &str) -> Result<(), Fault> {
    let topic = shared.topic(name)?;
    for partition in topic.partitions().iter() {
        partition.set_deleted(true);
    }
    discard(shared, name).map_err(|error| {
        for partition in topic.partitions().iter() {
            partition.set_deleted(false);
        }
        storage(error)
    })?;
    // Before there can be another topic of the name.
    for log in topic.partitions().iter().filter_map(|partition| partition.log().ok()) {
        log.retire();
    }
    publish(shared, |topics| {
        topics.remove(name);
    });
    // Whoever waits for one of its partitions is told now.
    for partition in topic.partitions().iter() {
        for mailbox in shared.mailboxes.iter() {
            mailbox.send(Note::Appended(partition.serial()));
            mailbox.send(Note::Flushed(partition.serial()));
        }
    }
    info!(topic = name, id = %topic.id, "a topic was deleted");
    Ok(())
}

/// Moves a topic's folder into the trash.
fn discard(shared: &Shared, name: &str) -> std::io::Result<()> {
    let trashed = trash::place(&shared.trash_dir, name);
    shared.store.disk().create_dir(&shared.trash_dir)?;
    shared.store.disk().rename(&shared.topics_dir.join(name), &trashed)?;
    // It is gone for everybody from now on, whatever the disk says to the sync.
    if let Err(error) = shared.store.disk().sync_dir(&shared.topics_dir) {
        error!(topic = name, %error, "a deletion may come undone if the machine fails now");
    }
    Ok(())
}

/// Changes a topic's own settings.
pub fn alter(shared: &Arc<Shared>, request: AlterTopic) -> Result<AlterTopicResponse, Fault> {
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
        let file = TopicFile { settings: own.clone(), ..topic.file() };
        write(shared, &file)?;
        topic.set_settings(own.clone(), &shared.settings);
        info!(topic = request.name, settings = ?own, "a topic's settings were changed");
    }
    let retention = TopicSettings::effective(&own, &shared.settings).retention;
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
    let topic = shared.topic(&request.name)?;
    let now = topic.partitions().len() as u32;
    let partitions = check_count(request.total)?;
    if partitions <= now {
        let name = &request.name;
        let what = format!("topic '{name}' has {now} partitions, {partitions} are asked for");
        return Err(Fault::new(ErrorCode::INVALID_PARTITIONS, what));
    }
    if !request.validate_only {
        let file = TopicFile { partitions, ..topic.file() };
        let dir = shared.topics_dir.join(&file.name);
        let fresh = make_partitions(shared, &dir, &file, now, topic.effective().log)?;
        shared.store.disk().sync_dir(&dir).map_err(storage)?;
        write(shared, &file)?;
        topic.add_partitions(fresh);
        info!(topic = request.name, partitions, "a topic has grown");
    }
    Ok(AddPartitionsResponse { partitions })
}

/// Takes records away from the start of logs.
pub fn trim(shared: &Arc<Shared>, request: TrimTopic) -> Result<TrimTopicResponse, Fault> {
    let parts = request.parts.iter().map(|part| trim_one(shared, part));
    Ok(TrimTopicResponse { parts: parts.collect() })
}

fn trim_one(shared: &Shared, part: &TrimPart) -> Result<u64, Fault> {
    let (_, partition) = shared.partition(&part.topic, Uuid::nil(), part.partition)?;
    let log = log_of(&partition)?;
    let end = log.end();
    let to = if part.before == u64::MAX { end } else { Offset(part.before) };
    if to > end {
        let what = format!("offset {to} is beyond the end, {end}");
        return Err(Fault::new(ErrorCode::OFFSET_OUT_OF_RANGE, what));
    }
    let grave = cleaner::grave(shared, &partition);
    log.trim(to, Some(&grave)).map(|start| start.0).map_err(storage)
}

fn publish(shared: &Shared, change: impl FnOnce(&mut BTreeMap<String, Arc<Topic>>)) {
    let mut topics = BTreeMap::clone(&shared.topics.load());
    change(&mut topics);
    shared.topics.store(Arc::new(topics));
}

fn write(shared: &Shared, file: &TopicFile) -> Result<(), Fault> {
    let dir = shared.topics_dir.join(&file.name);
    file.write(shared.store.disk(), &dir).map_err(|error: CatalogError| storage(error))
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
