//! Opens what is in a data directory when the broker starts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mk_storage::batch::HEADER_LEN;
use mk_storage::directory;
use mk_storage::disk::{Disk, Entry};
use mk_storage::error::DiskError;
use mk_storage::store::Store;
use parking_lot::Mutex;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::catalog::{CatalogError, Topic, TopicFile};
use super::partition::Partition;
use super::trash;
use crate::clock::now_ms;
use crate::settings::{BrokerSettings, TopicSettings};

/// What was found, and what had to be done about it.
#[derive(Clone, Debug, Default)]
pub struct RecoverySummary {
    /// True if the last broker here ended in good order.
    pub stopped_clean: bool,
    /// Topics.
    pub topics: usize,
    /// Partitions.
    pub partitions: usize,
    /// Partitions that cannot be served.
    pub offline: usize,
    /// Partitions that are damaged: served up to the damage, closed to records.
    pub damaged: usize,
    /// Bytes that were checked.
    pub bytes_scanned: u64,
    /// Bytes of torn tails that were cut: never acknowledged as being on the disk.
    pub bytes_cut: u64,
    /// Indexes that were written anew.
    pub indexes_rebuilt: u32,
    /// Partitions in which bytes were checked.
    pub scanned: Vec<(String, u32)>,
    /// How long it took.
    pub took: Duration,
}

/// A partition to open.
struct Task<'a> {
    file: &'a TopicFile,
    number: u32,
}

/// Opens all topics, with so many threads as the settings say.
pub fn open_topics(
    store: &Arc<Store>,
    dir: &Path,
    trash_dir: &Path,
    defaults: &BTreeMap<String, String>,
    settings: &BrokerSettings,
) -> Result<(BTreeMap<String, Arc<Topic>>, RecoverySummary), CatalogError> {
    let started = Instant::now();
    let files = topic_files(store.disk(), dir, trash_dir)?;
    let tasks: Vec<Task<'_>> = files.iter().flat_map(tasks_of).collect();
    let (topics, partitions) = (files.len(), tasks.len());
    let summary = Mutex::new(RecoverySummary { topics, partitions, ..RecoverySummary::default() });
    let opened = Mutex::new(tasks.iter().map(|_| None).collect::<Vec<Option<Arc<Partition>>>>());
    let next = AtomicUsize::new(0);
    let work = || loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(task) = tasks.get(index) else { break };
        let partition = open_one(store, dir, task, (defaults, settings), &summary);
        opened.lock()[index] = Some(Arc::new(partition));
    };
    let threads = settings.number("num.recovery.threads.per.data.dir") as usize;
    thread::scope(|scope| {
        for _ in 0..threads.min(tasks.len()) {
            scope.spawn(work);
        }
    });
    let mut opened = opened.into_inner().into_iter().flatten();
    let topics = files.iter().map(|file| {
        let partition = |number| match file.has_here(number) {
            true => opened.next().unwrap_or_else(|| unreachable!("a partition was not opened")),
            false => Arc::new(Partition::elsewhere(&file.name, number)),
        };
        let partitions = (0..file.partitions).map(partition).collect();
        (file.name.clone(), Arc::new(Topic::new(file, defaults, settings, partitions)))
    });
    let topics = topics.collect();
    let mut summary = summary.into_inner();
    summary.took = started.elapsed();
    Ok((topics, summary))
}

/// The partitions of a topic that are here.
fn tasks_of(file: &TopicFile) -> impl Iterator<Item = Task<'_>> {
    let numbers = (0..file.partitions).filter(|number| file.has_here(*number));
    numbers.map(move |number| Task { file, number })
}

/// The files of all topics. A folder without one was left by a broker that died while it made or
/// deleted the topic; it goes into the trash.
fn topic_files(
    disk: &dyn Disk,
    dir: &Path,
    trash_dir: &Path,
) -> Result<Vec<TopicFile>, CatalogError> {
    let list = |dir: &Path| disk.list(dir).map_err(DiskError::at("list", dir));
    let mut files = Vec::new();
    for entry in list(dir)?.into_iter().filter(|entry| entry.is_dir) {
        let topic_dir = dir.join(&entry.name);
        if let Some(file) = TopicFile::read(disk, &topic_dir)? {
            files.push(file);
            continue;
        }
        let holds_records = list(&topic_dir)?.iter().any(|entry| {
            entry.is_dir && {
                disk.list(&topic_dir.join(&entry.name))
                    .is_ok_and(|files| holds_records(disk, &topic_dir.join(&entry.name), &files))
            }
        });
        if holds_records {
            let what = "it is missing, but there are records beside it; put it back or move the \
                        folder away";
            let path = topic_dir.join(super::catalog::TOPIC_FILE);
            return Err(CatalogError::Damaged { path, what: what.to_owned() });
        }
        warn!(folder = %topic_dir.display(), "a topic that was never finished is taken away");
        let trashed = trash::place(trash_dir, &entry.name);
        disk.create_dir(trash_dir).map_err(DiskError::at("make", trash_dir))?;
        disk.rename(&topic_dir, &trashed).map_err(DiskError::at("rename", &topic_dir))?;
    }
    Ok(files)
}

/// True if a partition's folder has a segment that begins with a batch. A topic without its file
/// has never taken a record, so there it would be the file that was lost.
fn holds_records(disk: &dyn Disk, dir: &Path, files: &[Entry]) -> bool {
    let is_segment = |entry: &&Entry| entry.name.ends_with(".log");
    files.iter().filter(is_segment).any(|entry| {
        let mut head = [0; HEADER_LEN];
        disk.view(&dir.join(&entry.name))
            .and_then(|view| mk_storage::disk::read_fully(view.as_ref(), 0, &mut head))
            .is_ok_and(|_| head.iter().any(|byte| *byte != 0))
    })
}

fn open_one(
    store: &Arc<Store>,
    dir: &Path,
    task: &Task<'_>,
    (defaults, settings): (&BTreeMap<String, String>, &BrokerSettings),
    summary: &Mutex<RecoverySummary>,
) -> Partition {
    let (topic, number) = (task.file.name.as_str(), task.number);
    let dir = dir.join(topic).join(number.to_string());
    if let Err(reason) = check_folder(store.disk(), &dir, task.file.id) {
        error!(topic, partition = number, reason, "a partition is offline");
        summary.lock().offline += 1;
        return Partition::offline(topic, number, reason);
    }
    let settings = TopicSettings::effective(&task.file.settings, defaults, settings).log;
    let (partition, recovery) = Partition::open(store, &dir, topic, number, settings, now_ms());
    let mut summary = summary.lock();
    match recovery {
        Ok(recovery) => {
            if recovery.bytes_scanned > 0 && recovery.damage.is_none() {
                summary.scanned.push((topic.to_owned(), number));
            }
            summary.bytes_scanned += recovery.bytes_scanned;
            summary.bytes_cut += recovery.bytes_cut;
            summary.indexes_rebuilt += recovery.indexes_rebuilt;
            if let Some(damage) = &recovery.damage {
                error!(topic, partition = number, %damage, "a partition is served up to its damage");
                partition.report_damage(damage.to_string());
                summary.damaged += 1;
            }
            if let Some(why) = &recovery.cut_because {
                let bytes = recovery.bytes_cut;
                info!(topic, partition = number, bytes, %why, "a torn tail was cut");
            }
        }
        Err(error) => {
            error!(topic, partition = number, %error, "a partition is offline");
            summary.offline += 1;
        }
    }
    partition
}

/// A partition whose folder is gone, or another's, must not begin anew as an empty log.
fn check_folder(disk: &dyn Disk, dir: &Path, topic_id: Uuid) -> Result<(), String> {
    match directory::read_topic_id(disk, dir) {
        Ok(Some(id)) if id == topic_id.to_string() => Ok(()),
        Ok(Some(id)) => Err(format!("{} is of topic id {id}, not {topic_id}", dir.display())),
        Ok(None) => Err(format!("{} is missing, or has no partition.metadata", dir.display())),
        Err(error) => Err(error.to_string()),
    }
}

impl fmt::Display for RecoverySummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecoverySummary { topics, partitions, bytes_scanned, bytes_cut, took, .. } = self;
        write!(f, "{topics} topics, {partitions} partitions")?;
        if self.offline > 0 {
            write!(f, " ({} offline)", self.offline)?;
        }
        if self.damaged > 0 {
            write!(f, " ({} damaged)", self.damaged)?;
        }
        if self.topics == 0 {
            return Ok(());
        }
        let stop = if self.stopped_clean { "a clean stop" } else { "a crash" };
        write!(
            f,
            "; opened after {stop} in {took:.1?}: {bytes_scanned} bytes scanned, {bytes_cut} cut, {} \
             indexes rebuilt",
            self.indexes_rebuilt
        )
    }
}
