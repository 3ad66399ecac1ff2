//! A broker's machine: its disk, and its process, if it runs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mk_storage::batch::TimestampType;
use mk_storage::disk::{Disk, MemoryDisk};
use mk_storage::log::{Log, LogSettings};
use mk_storage::store::{OpenLimits, Store};

use super::context::{Context, Wake};
use super::message::{Message, Place};
use super::process::Process;
use crate::zoo::state::Restart;

/// A broker's machine.
pub struct Host {
    pub id: u32,
    pub disk: Machine,
    pub process: Option<Process>,
}

/// What of a machine outlives its processes.
pub struct Machine {
    files: MemoryDisk,
    /// The partitions that its topic's file names.
    pub partitions: BTreeSet<u32>,
    /// The version of the cluster's state that the disk follows, as it is written down.
    pub followed: u64,
    /// What is missing, until the mini-zookeeper has been told.
    pub restart: Restart,
}

impl Host {
    /// A machine with an empty disk.
    pub fn new(id: u32) -> Host {
        Host { id, disk: Machine::empty(), process: None }
    }

    pub fn start(&mut self, context: &mut Context<'_>) {
        let restart = self.disk.restart;
        self.disk.leave_room(u64::MAX);
        context.trace.say(context.now, || format!("broker {}: starts, {restart:?}", self.id));
        self.process = Some(Process::start(context, self.id, restart, &mut self.disk));
    }

    /// `kill -9`: what was written is there. Answers its session with the mini-zookeeper.
    pub fn kill(&mut self) -> Option<u64> {
        self.process.take()?.session()
    }

    /// A stop in good order.
    pub fn stop(&mut self, context: &mut Context<'_>) -> Option<u64> {
        let process = self.process.take()?;
        process.close();
        context.trace.say(context.now, || format!("broker {}: has stopped", self.id));
        process.session()
    }

    /// The power fails: of what was not synced anything may be gone.
    pub fn lose_power(&mut self, context: &mut Context<'_>) {
        self.process = None;
        self.disk.files = self.disk.files.crash(context.chance.number());
        if self.disk.restart == Restart::Kept {
            self.disk.restart = Restart::LostUnsynced;
        }
    }

    /// Somebody puts an empty disk in.
    pub fn wipe(&mut self) {
        self.process = None;
        self.disk = Machine::empty();
    }

    /// A sync of a partition's last segment fails, if there is anything to sync.
    pub fn fail_sync(&mut self, context: &mut Context<'_>, partition: u32) {
        let Some(path) = self.disk.last_segment(partition) else { return };
        // There is such a file.
        let _ = self.disk.files.fail_next_sync(&path);
        self.wake(context, &Wake::Flush(partition));
        let _ = self.disk.files.succeed_syncs(&path);
    }

    pub fn receive(&mut self, context: &mut Context<'_>, from: Place, message: Message) {
        if let Some(process) = &mut self.process {
            process.receive(context, &mut self.disk, from, message);
        }
    }

    pub fn wake(&mut self, context: &mut Context<'_>, wake: &Wake) {
        if let Some(process) = &mut self.process {
            process.wake(context, &mut self.disk, wake);
        }
    }
}

impl Machine {
    fn empty() -> Machine {
        let (files, partitions) = (MemoryDisk::new(), BTreeSet::new());
        Machine { files, partitions, followed: 0, restart: Restart::LostAll }
    }

    /// Lets its files grow by so much and no more.
    pub fn leave_room(&self, bytes: u64) {
        self.files.fill_up(bytes);
    }

    /// A store on its disk, for one process.
    pub fn store(&self) -> Arc<Store> {
        Store::new(Arc::new(self.files.clone()), OpenLimits { files: 64, logs: 64 })
    }

    pub fn has(&self, partition: u32) -> bool {
        self.files.list(&dir(partition)).is_ok_and(|files| !files.is_empty())
    }

    /// Opens a partition's log, or makes it.
    pub fn open(
        &self,
        store: &Arc<Store>,
        partition: u32,
        now_ms: i64,
    ) -> Result<Arc<Log>, String> {
        let dir = dir(partition);
        self.files.create_dir(&dir).map_err(|error| error.to_string())?;
        let opened = Log::open(store, &dir, settings(partition), now_ms);
        opened.map(|(log, _)| log).map_err(|error| error.to_string())
    }

    /// Takes a partition's files away.
    pub fn remove(&self, partition: u32, now: Duration) {
        let grave = Path::new("/trash");
        let name = format!("{partition}-{}", now.as_nanos());
        let moved = self
            .files
            .create_dir(grave)
            .and_then(|()| self.files.rename(&dir(partition), &grave.join(name)))
            .and_then(|()| self.files.sync_dir(grave))
            .and_then(|()| self.files.sync_dir(Path::new("/")));
        debug_assert!(moved.is_ok() || !self.has(partition), "{moved:?}");
    }

    /// Makes sure that the partitions' folders are there after a power failure.
    pub fn sync_names(&self) {
        let _ = self.files.sync_dir(Path::new("/"));
    }

    /// The file of a partition's last segment.
    fn last_segment(&self, partition: u32) -> Option<PathBuf> {
        let files = self.files.list(&dir(partition)).unwrap_or_default();
        let paths = files.into_iter().map(|entry| dir(partition).join(entry.name));
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "log")).max()
    }
}

/// Segments are small, so that there are many. Every second partition's records have the time of their append.
fn settings(partition: u32) -> LogSettings {
    LogSettings {
        segment_bytes: 4096,
        segment_ms: 60_000,
        index_interval_bytes: 256,
        timestamp_type: match partition % 2 {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        },
    }
}

fn dir(partition: u32) -> PathBuf {
    Path::new("/").join(partition.to_string())
}
