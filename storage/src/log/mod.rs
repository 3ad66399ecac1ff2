//! The log of one partition.
//!
//! Appends take one short lock. Readers take none: they load the published end, then the list of
//! segments, then a segment's published end, each with acquire, while an append stores them in
//! the opposite order with release; so whatever a reader sees of the log is whole.

mod append;
mod compact;
mod flush;
mod open;
mod park;
mod producers;
mod read;
mod replica;
mod retention;
mod sealing;
pub(crate) mod settings;
mod survey;
#[cfg(test)]
mod tests;
mod truncate;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

pub use append::Appended;
pub(crate) use compact::finish_swaps;
pub use compact::{CompactError, Compacted, Compaction, Dirt, Job, Tick};
pub use open::Recovery;
use producers::{ProducersAt, WrittenDown};
pub use read::{FileRange, FoundTime, NO_LIMIT, Slice};
pub use replica::{Copied, CopyError};
pub use retention::{Expired, Retention};
pub use sealing::Pace;
pub use settings::LogSettings;
pub use survey::{RebuiltIndexes, rebuild_indexes};
pub use truncate::TruncateError;

use crate::checkpoint::Checkpoint;
use crate::error::Poisoned;
use crate::producers::Producers;
use crate::segment::{Segment, SegmentState, SegmentWriter};
use crate::store::Store;
use crate::{Epoch, Offset};

/// The log of one partition. All methods may be called from any thread.
///
/// Invariants: `start <= synced <= end`, but for a log that was trimmed to its end before a sync;
/// `high_watermark <= end`.
#[derive(Debug)]
pub struct Log {
    store: Arc<Store>,
    dir: PathBuf,
    settings: ArcSwap<LogSettings>,
    segments: ArcSwap<Vec<Arc<Segment>>>,
    start: AtomicU64,
    end: AtomicU64,
    synced: AtomicU64,
    high_watermark: AtomicU64,
    writer: Mutex<Writer>,
    /// Held by whoever compacts: one at a time.
    compacting: Mutex<()>,
    /// Held by whoever removes, replaces or seals segments. Taken before the two locks around it.
    changing: Mutex<()>,
    /// Held by whoever syncs: one sync at a time. Guards the checkpoint as it was last written.
    flushing: Mutex<Option<Checkpoint>>,
    /// True if something was appended since the store last looked.
    used: AtomicBool,
    /// True if records that were safe are gone: what is left is to be read, and not to be changed.
    damaged: bool,
    /// True if its folder is gone. Set while `flushing` and `writer` are held.
    retired: AtomicBool,
}

/// What the append lock guards.
#[derive(Debug)]
struct Writer {
    active: Active,
    /// Closed segments that are not synced yet, oldest first.
    unsynced: Vec<Unsynced>,
    /// True if files were made whose names are not yet safe.
    names_unsynced: bool,
    epochs: Vec<(Epoch, Offset)>,
    /// What follows from the headers of all batches.
    producers: Producers,
    written_down: WrittenDown,
    poisoned: Option<Poisoned>,
}

/// The writing side of the last segment.
#[derive(Debug)]
enum Active {
    Open(SegmentWriter),
    /// Its files are closed and hold no reservation: nobody has appended for a while.
    Parked(SegmentState),
}

/// A closed segment that is not synced yet.
#[derive(Debug)]
struct Unsynced {
    segment: Arc<Segment>,
    /// Its writing side, which holds what is to be given back of its reservations. None if it was
    /// found when the log was opened.
    writer: Option<SegmentWriter>,
    /// The producers behind it. None if it was found when the log was opened.
    producers: Option<ProducersAt>,
}

impl Log {
    /// The folder of its files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it shares with other logs.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// First offset that is served.
    pub fn start(&self) -> Offset {
        Offset(self.start.load(Ordering::Acquire))
    }

    /// Offset that the next record gets. Records below are whole in memory, and on the disk as far
    /// as [`Log::synced`] goes.
    pub fn end(&self) -> Offset {
        Offset(self.end.load(Ordering::Acquire))
    }

    /// Records below this offset survive a power failure.
    pub fn synced(&self) -> Offset {
        Offset(self.synced.load(Ordering::Acquire))
    }

    /// Records below are committed, as far as is known here: no leader will ask for them to be cut.
    /// Only such records are removed by age and size, and compacted.
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// Says that records below `offset` are committed, as far as the log has them. Never moves back;
    /// checkpoints write it down.
    pub fn raise_high_watermark(&self, offset: Offset) -> Offset {
        let offset = offset.min(self.end());
        Offset(self.high_watermark.fetch_max(offset.0, Ordering::AcqRel)).max(offset)
    }

    /// The epoch of its last record, if a record has one.
    pub fn last_epoch(&self) -> Option<Epoch> {
        self.writer.lock().epochs.last().map(|(epoch, _)| *epoch)
    }

    /// Its segments, oldest first; the last one is being appended to. Never empty.
    pub fn segments(&self) -> Arc<Vec<Arc<Segment>>> {
        self.segments.load_full()
    }

    /// Bytes of its batches.
    pub fn size_bytes(&self) -> u64 {
        self.segments.load().iter().map(|segment| segment.end().0).sum()
    }

    /// Leader epochs and where each began, both increasing.
    pub fn epochs(&self) -> Vec<(Epoch, Offset)> {
        self.writer.lock().epochs.clone()
    }

    /// Why it takes no records any more, if a sync failed or it is damaged.
    pub fn poisoned(&self) -> Option<Poisoned> {
        self.writer.lock().poisoned.clone()
    }

    /// Its settings.
    pub fn settings(&self) -> LogSettings {
        **self.settings.load()
    }

    /// Changes its settings from the next append on.
    pub fn set_settings(&self, settings: LogSettings) {
        self.settings.store(Arc::new(settings));
    }

    fn publish_segments(&self, segments: Vec<Arc<Segment>>) {
        debug_assert!(!segments.is_empty());
        debug_assert!(segments.windows(2).all(|pair| pair[0].base() < pair[1].base()));
        self.segments.store(Arc::new(segments));
    }

    fn active(&self) -> Arc<Segment> {
        let segments = self.segments.load();
        segments.last().expect("a log has an active segment").clone()
    }
}
