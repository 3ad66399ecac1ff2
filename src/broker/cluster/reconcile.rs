//! Makes the disk, and what is served, follow the cluster's state. On the control thread alone, so that
//! changes never meet; loops see each change whole, by the swap of a pointer.
//!
//! What is to be done is found by comparing; so it may be done twice, or for several changes at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use mk_net::fault::{ErrorCode, Fault};
use mk_storage::log::LogSettings;
use tracing::{error, info};
use uuid::Uuid;

use super::super::catalog::{self, Topic, TopicFile};
use super::super::membership::Membership;
use super::super::note::Note;
use super::super::partition::{Absent, Partition};
use super::super::shared::Shared;
use super::super::trash;
use super::{Cluster, follow};
use crate::clock::now_ms;
use crate::settings::{FlushPolicy, TopicSettings};
use crate::zoo::state::{self, ClusterState, Command};

/// Threads that make the partitions of a topic.
const MAKING_THREADS: usize = 16;

/// Makes all topics as the state has them.
pub fn all(shared: &Arc<Shared>) {
    let mut names: Vec<String> = shared.cluster.state().topics.keys().cloned().collect();
    names.extend(shared.topics.load().keys().cloned());
    names.sort();
    names.dedup();
    for name in names {
        topic_or_report(shared, &name);
    }
}

/// Makes a topic as the state has it; whoever asked for the change does not wait.
pub fn topic_or_report(shared: &Arc<Shared>, name: &str) {
    let known = shared.cluster.unmade.lock().contains(name);
    if let Err(fault) = topic(shared, name)
        && !known
    {
        let error = fault.message;
        error!(topic = name, error, "a topic is not as the cluster has it; it is tried again");
    }
}

/// Tries again to make what could not be made, on the control thread.
pub fn try_again(shared: &Arc<Shared>) {
    let Cluster { unmade, trying, .. } = &shared.cluster;
    if unmade.lock().is_empty() || trying.swap(true, Ordering::Relaxed) {
        return;
    }
    let for_worker = shared.clone();
    shared.control.run(move || {
        let names = for_worker.cluster.unmade.lock().clone();
        names.iter().for_each(|name| topic_or_report(&for_worker, name));
        for_worker.cluster.trying.store(false, Ordering::Relaxed);
    });
}

/// Writes down that the disk follows this version of the state, if it does.
pub fn write_down(shared: &Shared, version: u64) {
    if !shared.cluster.unmade.lock().is_empty() {
        return;
    }
    let now = Membership::now(version, !shared.cluster.is_alone());
    if let Err(error) = now.write(shared.store.disk(), &shared.data) {
        error!(%error, "the state that the disk follows could not be written down");
    }
}

/// Tells the mini-zookeeper of replicas that cannot be used, so that nobody counts on them: those that
/// were here and are broken or gone, and those that could not be made. False if it could not be told.
pub fn report_lost(shared: &Shared) -> bool {
    let state::Member { id, epoch } = shared.cluster.me();
    let lost = lost_replicas(shared, id);
    if lost.is_empty() {
        return true;
    }
    let told = shared.cluster.change(Command::LoseReplicas { id, epoch, partitions: lost });
    if let Err(fault) = &told {
        error!(error = fault.message, "the mini-zookeeper does not know of replicas that are lost");
    }
    told.is_ok()
}

fn lost_replicas(shared: &Shared, me: u32) -> Vec<(Uuid, u32)> {
    let lost = counted_on(shared, me).into_iter().filter(|place| {
        let topics = shared.topics.load();
        let known = topics.get(&place.topic).filter(|known| known.id == place.id);
        let partition = known.and_then(|known| known.partition(place.number));
        place.is_lost(partition.as_deref(), shared.cluster.unmade.lock().contains(&place.topic))
    });
    lost.map(|place| (place.id, place.number)).collect()
}

/// A replica that this broker is counted on for.
struct Counted {
    topic: String,
    id: Uuid,
    number: u32,
    /// True if others are counted on as well.
    others: bool,
}

/// What this broker is counted on for. The state is let go of before the disk may be waited for.
fn counted_on(shared: &Shared, me: u32) -> Vec<Counted> {
    let state = shared.cluster.state();
    let of_topic = |(name, topic): (&String, &state::Topic)| {
        let counted = (0..).zip(&topic.partitions).filter_map(|(number, wanted)| {
            let members = || wanted.isr.iter().chain(&wanted.eligible);
            let others = members().any(|id| *id != me);
            let counted = Counted { topic: name.clone(), id: topic.id, number, others };
            members().any(|id| *id == me).then_some(counted)
        });
        counted.collect::<Vec<_>>()
    };
    state.topics.iter().flat_map(of_topic).collect()
}

impl Counted {
    /// True if the replica is of no use. One that is damaged is read all the same where there is no other,
    /// and one that could not be made (`is_unmade`) is as good as any while nobody else has records.
    fn is_lost(&self, partition: Option<&Partition>, is_unmade: bool) -> bool {
        match partition.map(Partition::log) {
            Some(Ok(log)) => self.others && log.poisoned().is_some(),
            Some(Err(Absent::Offline(_))) => true,
            Some(Err(Absent::Elsewhere)) | None => self.others && is_unmade,
        }
    }
}

/// True if the topic is not as the state has it.
pub fn is_due(shared: &Shared, name: &str) -> bool {
    let state = shared.cluster.state();
    let topics = shared.topics.load();
    match (topics.get(name), state.topics.get(name)) {
        (Some(known), Some(wanted)) => {
            let me = shared.cluster.me().id;
            let partitions = known.partitions();
            known.id != wanted.id
                || known.settings().own != wanted.settings
                || partitions.len() != wanted.partitions.len()
                || partitions
                    .iter()
                    .zip(&wanted.partitions)
                    .any(|(known, wanted)| is_elsewhere(known) == wanted.replicas.contains(&me))
        }
        (known, wanted) => known.is_some() || wanted.is_some(),
    }
}

/// Makes a topic as the state has it. What fails is tried again before long.
pub fn topic(shared: &Arc<Shared>, name: &str) -> Result<(), Fault> {
    let made = follow_topic(shared, name);
    let mut unmade = shared.cluster.unmade.lock();
    match made {
        Ok(()) => _ = unmade.remove(name),
        Err(_) => _ = unmade.insert(name.to_owned()),
    }
    made
}

fn follow_topic(shared: &Arc<Shared>, name: &str) -> Result<(), Fault> {
    loop {
        let (wanted, defaults) = {
            let state: &ClusterState = &shared.cluster.state();
            (state.topics.get(name).cloned(), state.defaults.clone())
        };
        make_as(shared, name, wanted.clone(), &defaults)?;
        // What has changed meanwhile was compared with what was here before, and may have looked as if
        // nothing was due.
        if shared.cluster.state().topics.get(name) == wanted.as_ref() {
            return Ok(());
        }
    }
}

fn make_as(
    shared: &Arc<Shared>,
    name: &str,
    wanted: Option<state::Topic>,
    defaults: &BTreeMap<String, String>,
) -> Result<(), Fault> {
    let mut known = shared.topics.load().get(name).cloned();
    if let Some(topic) = known.take_if(|known| wanted.as_ref().is_none_or(|w| w.id != known.id)) {
        remove(shared, &topic)?;
    }
    let Some(wanted) = wanted else { return Ok(()) };
    let topic = match known {
        Some(topic) => {
            let changed = change(shared, &topic, &wanted, defaults);
            // What is here already has its part to play, whatever could not be done.
            follow::assign(shared, &topic);
            return changed;
        }
        None => create(shared, name, &wanted, defaults)?,
    };
    follow::assign(shared, &topic);
    Ok(())
}

fn create(
    shared: &Arc<Shared>,
    name: &str,
    wanted: &state::Topic,
    defaults: &BTreeMap<String, String>,
) -> Result<Arc<Topic>, Fault> {
    let file = file_of(shared, name, wanted, now_ms());
    let placed = |number: &u32| wanted.partition(*number).map_or(0, |partition| partition.placed);
    let gone = |number: &u32| placed(number) <= shared.cluster.followed_before();
    let gone: Vec<u32> = (0..file.partitions).filter(gone).collect();
    let topic = make(shared, &file, &gone, defaults).inspect_err(|_| {
        // Whatever was made is no topic without its file; the next start takes it away otherwise.
        let _ = discard(shared, name);
    })?;
    let topic = Arc::new(topic);
    publish(shared, |topics| {
        topics.insert(name.to_owned(), topic.clone());
    });
    info!(topic = name, partitions = file.partitions, id = %file.id, "a topic was created");
    Ok(topic)
}

/// What this broker writes down of a topic.
fn file_of(shared: &Shared, name: &str, wanted: &state::Topic, created_ms: i64) -> TopicFile {
    let me = shared.cluster.me().id;
    let here = (0..).zip(&wanted.partitions).filter(|(_, p)| p.replicas.contains(&me));
    let here: Vec<u32> = here.map(|(number, _)| number).collect();
    let partitions = wanted.partitions.len() as u32;
    let all_here = here.len() == wanted.partitions.len();
    TopicFile {
        replicas: (!all_here).then_some(here),
        ..TopicFile::new(name, wanted.id, partitions, wanted.settings.clone(), created_ms)
    }
}

fn make(
    shared: &Shared,
    file: &TopicFile,
    gone: &[u32],
    defaults: &BTreeMap<String, String>,
) -> Result<Topic, Fault> {
    let dir = shared.topics_dir.join(&file.name);
    let disk = shared.store.disk();
    // Left there by a broker that died while it made a topic of that name.
    if disk.list(&dir).is_ok_and(|entries| !entries.is_empty()) {
        discard(shared, &file.name).map_err(storage)?;
    }
    disk.create_dir(&dir).map_err(storage)?;
    let settings = TopicSettings::effective(&file.settings, defaults, &shared.settings).log;
    let numbers: Vec<u32> = (0..file.partitions).collect();
    let partitions = make_partitions(shared, &dir, file, &numbers, gone, settings)?;
    // With its file the topic is there; so what it needs must be there before.
    disk.sync_dir(&dir).map_err(storage)?;
    file.write(disk, &dir).map_err(storage)?;
    disk.sync_dir(&shared.topics_dir).map_err(storage)?;
    Ok(Topic::new(file, defaults, &shared.settings, partitions))
}

/// Makes these partitions, as far as this broker is to have them.
fn make_partitions(
    shared: &Shared,
    dir: &Path,
    file: &TopicFile,
    numbers: &[u32],
    gone: &[u32],
    settings: LogSettings,
) -> Result<Vec<Arc<Partition>>, Fault> {
    let make_one = |number: u32| {
        if !file.has_here(number) {
            return Ok(Arc::new(Partition::elsewhere(&file.name, number)));
        }
        if gone.contains(&number) {
            let reason = "it was here, and is gone".to_owned();
            error!(topic = file.name, partition = number, reason, "a partition is offline");
            return Ok(Arc::new(Partition::offline(&file.name, number, reason)));
        }
        let dir = catalog::make_partition_dir(shared.store.disk(), dir, number, file.id)
            .map_err(storage)?;
        let (partition, recovery) =
            Partition::open(&shared.store, &dir, &file.name, number, settings, now_ms());
        recovery.map_err(storage)?;
        Ok(Arc::new(partition))
    };
    // Each waits for several syncs of small files; side by side the file system does them together.
    let next = AtomicUsize::new(0);
    let made = thread::scope(|scope| {
        let work = || {
            let mine = std::iter::from_fn(|| numbers.get(next.fetch_add(1, Ordering::Relaxed)));
            mine.map(|number| make_one(*number)).collect::<Vec<_>>()
        };
        let threads = MAKING_THREADS.min(numbers.len());
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join()).collect::<Result<Vec<_>, _>>()
    });
    let made = made.map_err(|_| storage("a thread that made partitions has panicked"))?;
    let made: Result<Vec<Arc<Partition>>, Fault> = made.into_iter().flatten().collect();
    let mut made = made?;
    made.sort_by_key(|partition| partition.number());
    Ok(made)
}

/// Settings, partitions that were added, replicas that come and go.
fn change(
    shared: &Shared,
    topic: &Topic,
    wanted: &state::Topic,
    defaults: &BTreeMap<String, String>,
) -> Result<(), Fault> {
    let file = file_of(shared, &topic.name, wanted, topic.created_ms);
    let before = topic.file();
    let numbers: Vec<u32> = (0..file.partitions)
        .filter(|number| match topic.partition(*number) {
            Some(known) => is_elsewhere(&known) && file.has_here(*number),
            None => true,
        })
        .collect();
    let dir = shared.topics_dir.join(&file.name);
    let settings = TopicSettings::effective(&file.settings, defaults, &shared.settings);
    let mut fresh = make_partitions(shared, &dir, &file, &numbers, &[], settings.log)?;
    let gone: Vec<u32> = topic
        .partitions()
        .iter()
        .filter(|known| !is_elsewhere(known) && !file.has_here(known.number()))
        .map(|known| known.number())
        .collect();
    fresh.extend(gone.iter().map(|number| Arc::new(Partition::elsewhere(&file.name, *number))));
    if file != before {
        shared.store.disk().sync_dir(&dir).map_err(storage)?;
        file.write(shared.store.disk(), &dir).map_err(storage)?;
    }
    if file.settings != before.settings {
        info!(topic = file.name, settings = ?file.settings, "a topic's settings were changed");
    }
    if file.partitions != before.partitions {
        info!(topic = file.name, partitions = file.partitions, "a topic has grown");
    }
    let synced_first = topic.effective().flush == FlushPolicy::Ack;
    topic.set_settings(file.settings.clone(), defaults, &shared.settings);
    let replaced: Vec<Arc<Partition>> =
        gone.iter().filter_map(|number| topic.partition(*number)).collect();
    topic.put_partitions(fresh, settings);
    if settings.flush == FlushPolicy::Ack && !synced_first {
        // What was acknowledged without is to be as safe as the topic says from now on.
        for partition in topic.partitions().iter().filter(|partition| partition.log().is_ok()) {
            shared.flusher.flush_now(partition);
        }
    }
    for partition in replaced {
        take_away(shared, &dir, &partition).map_err(storage)?;
    }
    Ok(())
}

/// A replica that other brokers have now goes into the trash.
fn take_away(shared: &Shared, dir: &Path, partition: &Partition) -> std::io::Result<()> {
    let (topic, number) = (partition.topic(), partition.number());
    partition.set_deleted(true);
    let name = format!("{topic}-{number}");
    let trashed = trash::place(&shared.trash_dir, &name);
    let disk = shared.store.disk();
    disk.create_dir(&shared.trash_dir)?;
    match disk.rename(&dir.join(number.to_string()), &trashed) {
        // A replica that was lost before.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        done => done?,
    }
    sync_both(shared, dir)?;
    if let Ok(log) = partition.log() {
        log.retire();
    }
    shared.cluster.fetch(super::replicate::Change::Leave(partition.serial()));
    tell_all(shared, partition);
    info!(topic, partition = number, "other brokers have the partition now");
    Ok(())
}

fn remove(shared: &Arc<Shared>, topic: &Topic) -> Result<(), Fault> {
    let name = &topic.name;
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
    for partition in topic.partitions().iter() {
        shared.cluster.fetch(super::replicate::Change::Leave(partition.serial()));
        tell_all(shared, partition);
    }
    info!(topic = name, id = %topic.id, "a topic was deleted");
    Ok(())
}

/// Whoever waits for the partition is told now that it is gone.
fn tell_all(shared: &Shared, partition: &Partition) {
    for mailbox in shared.mailboxes.iter() {
        mailbox.send(Note::Readable(partition.serial()));
        mailbox.send(Note::Committed(partition.serial()));
    }
}

/// Moves a topic's folder into the trash.
fn discard(shared: &Shared, name: &str) -> std::io::Result<()> {
    let trashed = trash::place(&shared.trash_dir, name);
    shared.store.disk().create_dir(&shared.trash_dir)?;
    shared.store.disk().rename(&shared.topics_dir.join(name), &trashed)?;
    // It is gone for everybody from now on, whatever the disk says to the sync.
    if let Err(error) = sync_both(shared, &shared.topics_dir) {
        error!(topic = name, %error, "a deletion may come undone if the machine fails now");
    }
    Ok(())
}

/// A move into the trash is sure when both folders are: were it done late, after a power failure, it
/// would take what has the same name by then.
fn sync_both(shared: &Shared, dir: &Path) -> std::io::Result<()> {
    shared.store.disk().sync_dir(&shared.trash_dir)?;
    shared.store.disk().sync_dir(dir)
}

fn publish(shared: &Shared, change: impl FnOnce(&mut BTreeMap<String, Arc<Topic>>)) {
    let mut topics = BTreeMap::clone(&shared.topics.load());
    change(&mut topics);
    shared.topics.store(Arc::new(topics));
}

fn is_elsewhere(partition: &Partition) -> bool {
    matches!(partition.replica(), Err(Absent::Elsewhere))
}

fn storage(error: impl std::fmt::Display) -> Fault {
    Fault::new(ErrorCode::KAFKA_STORAGE_ERROR, error.to_string())
}
