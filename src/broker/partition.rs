//! A partition as the broker serves it: its replica, if it has one, and who is to be told when it moves.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use mk_storage::error::OpenError;
use mk_storage::log::{Log, LogSettings, Recovery};
use mk_storage::store::Store;
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use super::rate::Rate;
use super::readers::Readers;
use super::replication::replica::Replica;
use crate::zoo::state::LeaderEpoch;

/// A partition. Event loops and flush threads share it.
#[derive(Debug)]
pub struct Partition {
    /// Distinguishes it from every other that this process has had.
    serial: u64,
    topic: String,
    number: u32,
    state: State,
    deleted: AtomicBool,
    /// What the scrubber found, the first of it.
    damage: OnceLock<String>,
    /// True if what is acknowledged must be synced (`flush=ack`).
    sync_first: AtomicBool,
    /// Loops (by bit) with a fetch of a follower that waits for an append.
    pub(super) followers: LoopSet,
    /// Loops with a fetch of a consumer that waits for a commit.
    pub(super) fetchers: LoopSet,
    /// Loops with a produce that waits for a commit.
    pub(super) producers: LoopSet,
    /// Told of syncs, by the serial number, while this broker follows: the fetch from the leader.
    pub(super) fetching: ArcSwapOption<UnboundedSender<u64>>,
    /// True if the last answer of its leader could not be taken in, which is told once.
    pub(super) refuses: AtomicBool,
    /// True while a flush is queued.
    pub(super) flush_queued: AtomicBool,
    /// True while a flush is timed.
    pub(super) flush_timed: AtomicBool,
    /// True while a checkpoint is timed.
    pub(super) checkpoint_timed: AtomicBool,
    /// The last leader epoch in which a record was acknowledged that everybody in sync has.
    acknowledged_in: AtomicI32,
    /// Who reads it from here.
    pub readers: Readers,
    created: Instant,
    /// Records that producers have appended.
    appended: Mutex<Rate>,
}

#[derive(Debug)]
enum State {
    Here(Replica),
    /// Other brokers have it.
    Elsewhere,
    /// Its log cannot be opened; the others are served.
    Offline(String),
}

/// Why a partition is not served by this broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent<'a> {
    /// Other brokers have it.
    Elsewhere,
    /// Its log cannot be opened, for this reason.
    Offline(&'a str),
}

/// A set of event loops, of which there are at most 64.
#[derive(Debug, Default)]
pub struct LoopSet(AtomicU64);

static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1);

impl Partition {
    /// Opens the partition in the folder `dir`. If its log cannot be opened the partition is there,
    /// but offline.
    pub fn open(
        store: &Arc<Store>,
        dir: &Path,
        topic: &str,
        number: u32,
        settings: LogSettings,
        now_ms: i64,
    ) -> (Partition, Result<Recovery, OpenError>) {
        match Log::open(store, dir, settings, now_ms) {
            Ok((log, recovery)) => {
                (Partition::new(topic, number, State::Here(Replica::new(log))), Ok(recovery))
            }
            Err(error) => (Partition::offline(topic, number, error.to_string()), Err(error)),
        }
    }

    /// A partition that cannot be served.
    pub fn offline(topic: &str, number: u32, reason: String) -> Partition {
        Partition::new(topic, number, State::Offline(reason))
    }

    /// A partition that other brokers have.
    pub fn elsewhere(topic: &str, number: u32) -> Partition {
        Partition::new(topic, number, State::Elsewhere)
    }

    /// Producers have appended so many records.
    pub fn count_appended(&self, records: u64) {
        self.appended.lock().add(self.created.elapsed().as_secs(), records);
    }

    /// Records that producers have appended, a second, over the last ten.
    pub fn appended_per_second(&self) -> u64 {
        self.appended.lock().per_second(self.created.elapsed().as_secs())
    }

    fn new(topic: &str, number: u32, state: State) -> Partition {
        Partition {
            serial: NEXT_SERIAL.fetch_add(1, Ordering::Relaxed),
            topic: topic.to_owned(),
            number,
            state,
            deleted: AtomicBool::new(false),
            damage: OnceLock::new(),
            sync_first: AtomicBool::new(true),
            followers: LoopSet::default(),
            fetchers: LoopSet::default(),
            producers: LoopSet::default(),
            fetching: ArcSwapOption::empty(),
            refuses: AtomicBool::new(false),
            flush_queued: AtomicBool::new(false),
            flush_timed: AtomicBool::new(false),
            checkpoint_timed: AtomicBool::new(false),
            acknowledged_in: AtomicI32::new(-1),
            readers: Readers::default(),
            created: Instant::now(),
            appended: Mutex::default(),
        }
    }

    /// Says whether its topic is deleted: its files are about to go, and need no care any more.
    pub fn set_deleted(&self, deleted: bool) {
        self.deleted.store(deleted, Ordering::Release);
    }

    /// True if its topic is deleted.
    pub fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Takes note that it was found damaged.
    pub fn report_damage(&self, what: String) {
        // The first is told; the log has them all.
        let _ = self.damage.set(what);
    }

    /// What was found damaged since the broker started, if anything was.
    pub fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Distinguishes it from every other partition that this process has had.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// Its topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Its number in the topic, from 0.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its replica here, or why there is none.
    pub fn replica(&self) -> Result<&Replica, Absent<'_>> {
        match &self.state {
            State::Here(replica) => Ok(replica),
            State::Elsewhere => Err(Absent::Elsewhere),
            State::Offline(reason) => Err(Absent::Offline(reason)),
        }
    }

    /// Its log, or why there is none.
    pub fn log(&self) -> Result<&Arc<Log>, Absent<'_>> {
        self.replica().map(Replica::log)
    }

    /// True if no record was acknowledged in this epoch before, since the broker started.
    pub fn is_first_in(&self, epoch: LeaderEpoch) -> bool {
        // The plain load keeps the line shared, which it is for all records but the first.
        self.acknowledged_in.load(Ordering::Relaxed) != epoch.0
            && self.acknowledged_in.swap(epoch.0, Ordering::Relaxed) != epoch.0
    }

    /// Says whether what is acknowledged must be synced.
    pub fn set_sync_first(&self, sync_first: bool) {
        self.sync_first.store(sync_first, Ordering::Release);
    }

    /// True if what is acknowledged must be synced.
    pub fn sync_first(&self) -> bool {
        self.sync_first.load(Ordering::Acquire)
    }
}

impl LoopSet {
    /// How many loops there can be.
    pub const MOST: usize = 64;

    /// Enters a loop. Whoever does must look at what it waits for once more afterwards.
    pub fn enter(&self, index: usize) {
        debug_assert!(index < LoopSet::MOST);
        self.0.fetch_or(1 << index, Ordering::SeqCst);
    }

    /// Empties the set and answers the loops that were in it.
    pub fn take(&self) -> impl Iterator<Item = usize> + use<> {
        // The plain load keeps appends off the bus where nobody waits, which is mostly.
        let waiting = match self.0.load(Ordering::SeqCst) {
            0 => 0,
            _ => self.0.swap(0, Ordering::SeqCst),
        };
        (0..LoopSet::MOST).filter(move |index| waiting & (1 << index) != 0)
    }
}
