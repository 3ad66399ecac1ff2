//! A segment: one `.log` file of batches, its offset index and its time index.
//!
//! [`Segment`] is what readers share, without a lock; [`SegmentWriter`] is the writing end, of
//! which the active segment has one. The only bridge between them is the published end.

mod headers;
mod indexer;
mod writer;

use std::io;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
pub use headers::Headers;
pub(crate) use indexer::Indexer;
pub(crate) use writer::{PlacedBatch, SegmentWriter};

use crate::batch::Header;
use crate::disk::{Disk, View};
use crate::error::{Corruption, DiskError, ReadError};
use crate::index::{Index, OffsetEntry, OffsetIndex, TimeEntry, TimeIndex};
use crate::log::settings::LogSettings;
use crate::recent::Recent;
use crate::seal::Seal;
use crate::store::{SharedFile, Store};
use crate::{Offset, Position, Timestamp};

/// Ending of the files that hold batches.
pub const LOG: &str = "log";
/// Ending of the offset indexes.
pub const OFFSET_INDEX: &str = "index";
/// Ending of the time indexes.
pub const TIME_INDEX: &str = "timeindex";
/// Ending of the seals.
pub const SEAL: &str = "seal";
/// All that a segment may consist of, in the order in which to remove it: the log last, since with
/// it the segment is there.
pub const ENDINGS: [&str; 4] = [SEAL, OFFSET_INDEX, TIME_INDEX, LOG];

/// The reading side. Invariant: bytes `0 .. end` are whole batches and never change.
#[derive(Debug)]
pub struct Segment {
    base: Offset,
    log: Arc<SharedFile>,
    offsets: OffsetIndex,
    times: TimeIndex,
    end: AtomicU64,
    max_timestamp: AtomicI64,
    /// The newest batches, if this process has appended them.
    recent: Recent,
    /// Set once it is closed and checked; after a compaction anew.
    seal: ArcSwapOption<Seal>,
    /// True if it was found damaged since it was opened.
    damaged: AtomicBool,
}

/// What is known of a segment when it is opened.
#[derive(Clone, Debug)]
pub(crate) struct SegmentState {
    pub end: Position,
    pub indexer: Indexer,
    pub first_append_ms: Option<i64>,
}

/// The file of a segment: `00000000000000000042.log`.
pub fn file_name(base: Offset, ending: &str) -> String {
    format!("{:020}.{ending}", base.0)
}

/// The base offset that a file name tells, if it has this ending.
pub fn base_of(name: &str, ending: &str) -> Option<Offset> {
    let digits = name.strip_suffix(ending)?.strip_suffix('.')?;
    let all_digits = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits { digits.parse().ok().map(Offset) } else { None }
}

impl Segment {
    /// Makes the files of a new, empty segment.
    pub(crate) fn create(
        store: &Arc<Store>,
        dir: &Path,
        base: Offset,
        settings: &LogSettings,
    ) -> Result<(Segment, SegmentWriter), DiskError> {
        for ending in ENDINGS {
            remove_leftover(store.disk(), &dir.join(file_name(base, ending)), ending)?;
        }
        let make = |ending, pace| {
            let path = dir.join(file_name(base, ending));
            store.disk().create(&path, pace).map_err(DiskError::at("create", &path))
        };
        let log = make(LOG, writer::log_pace(settings.segment_bytes))?;
        make(OFFSET_INDEX, writer::INDEX_PACE)?;
        make(TIME_INDEX, writer::INDEX_PACE)?;
        let indexer = Indexer::new(base, settings.index_interval_bytes);
        let state = SegmentState { end: Position(0), indexer, first_append_ms: None };
        let segment = Segment::open(store, dir, base, &state, (0, 0));
        segment.log.lend(log.view());
        Ok((segment, SegmentWriter::new(log, state)))
    }

    /// A segment of which this is known, with the good entries of its indexes. Opens no file.
    pub(crate) fn open(
        store: &Arc<Store>,
        dir: &Path,
        base: Offset,
        state: &SegmentState,
        entries: (u32, u32),
    ) -> Segment {
        let file = |ending| SharedFile::new(store, dir.join(file_name(base, ending)));
        Segment {
            base,
            log: file(LOG),
            offsets: Index::new(base, file(OFFSET_INDEX), entries.0),
            times: Index::new(base, file(TIME_INDEX), entries.1),
            end: AtomicU64::new(state.end.0),
            max_timestamp: AtomicI64::new(state.indexer.max_timestamp().0),
            recent: Recent::new(),
            seal: ArcSwapOption::empty(),
            damaged: AtomicBool::new(false),
        }
    }

    /// A segment of which its seal tells all. Opens no file.
    pub(crate) fn sealed(
        store: &Arc<Store>,
        dir: &Path,
        seal: Seal,
        settings: &LogSettings,
    ) -> Segment {
        let max = TimeEntry { timestamp: seal.max_timestamp, offset: seal.base };
        let indexer = Indexer::new(seal.base, settings.index_interval_bytes).resume(0, Some(max));
        let state = SegmentState { end: seal.length, indexer, first_append_ms: None };
        let entries = (seal.offset_entries, seal.time_entries);
        let segment = Segment::open(store, dir, seal.base, &state, entries);
        segment.set_seal(seal);
        segment
    }

    /// Offset of its first record, and its name.
    pub fn base(&self) -> Offset {
        self.base
    }

    /// Path of its `.log` file.
    pub fn path(&self) -> &Path {
        self.log.path()
    }

    /// Published end of its batches.
    pub fn end(&self) -> Position {
        Position(self.end.load(Ordering::Acquire))
    }

    /// Largest timestamp in it.
    pub fn max_timestamp(&self) -> Timestamp {
        Timestamp(self.max_timestamp.load(Ordering::Acquire))
    }

    /// Its seal, if it has one.
    pub fn seal(&self) -> Option<Seal> {
        self.seal.load().as_deref().copied()
    }

    pub(crate) fn set_seal(&self, seal: Seal) {
        self.seal.store(Some(Arc::new(seal)));
    }

    /// True if it was found damaged since it was opened.
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Acquire)
    }

    pub(crate) fn set_damaged(&self) {
        self.damaged.store(true, Ordering::Release);
    }

    pub(crate) fn indexes(&self) -> (&OffsetIndex, &TimeIndex) {
        (&self.offsets, &self.times)
    }

    /// The reading end of its `.log` file.
    pub fn log(&self) -> Result<Arc<dyn View>, DiskError> {
        self.log.view().map_err(DiskError::at("open", self.path()))
    }

    /// The batch that holds `offset`, or the first behind it; `None` if there is none.
    pub fn find(&self, offset: Offset) -> Result<Option<(Position, Header)>, ReadError> {
        let holds = |header: &Header| header.last_offset() >= offset;
        let relative = offset.0.saturating_sub(self.base.0);
        if let Some(position) = self.recent.find(relative, self.end()) {
            return first_where(self.headers(position)?, holds);
        }
        let hint = self.offsets.last_up_to(offset.0, self.base.0, |entry| entry.offset.0);
        let hint = hint.map_err(|error| self.disk_error(error))?;
        first_where(self.headers_at(hint, Position(0))?, holds)
    }

    /// The first batch whose largest timestamp is `at_least` or more.
    pub fn find_time(&self, at_least: Timestamp) -> Result<Option<(Position, Header)>, ReadError> {
        let hint = match u64::try_from(at_least.0.saturating_sub(1)) {
            // No entry is of a time before 1970.
            Err(_) => Ok(None),
            Ok(before) => self.times.last_up_to(before, 0, |entry| entry.timestamp.0.max(0) as u64),
        };
        let hint = hint.map_err(|error| self.disk_error(error))?;
        let hinted = match hint {
            Some(entry) => {
                self.find(entry.offset)?.filter(|(_, header)| entry_is_of(&entry, header))
            }
            None => None,
        };
        let from = hinted.map_or(Position(0), |(position, _)| position);
        first_where(self.headers(from)?, |header| header.max_timestamp >= at_least)
    }

    /// The end of the last batch that ends at or before `limit`; at least the end of the batch at
    /// `from`.
    pub fn cut(&self, from: Position, limit: Position) -> Result<Position, ReadError> {
        let end = self.end();
        if limit >= end {
            return Ok(end);
        }
        let hint = self.offsets.last_up_to(limit.0, 0, |entry| entry.position.0);
        let hint = hint.map_err(|error| self.disk_error(error))?;
        let hint = hint.filter(|entry| entry.position > from);
        let mut cut = from;
        for item in self.headers_at(hint, from)? {
            let (position, header) = item?;
            let next = position.plus(header.size as u64);
            if next > limit && position > from {
                cut = position;
                break;
            }
            cut = next;
            if next >= limit {
                break;
            }
        }
        Ok(cut)
    }

    /// The headers of its batches from `from` on, which must be where one begins.
    pub fn headers(&self, from: Position) -> Result<Headers<'_>, DiskError> {
        Ok(Headers::new(self.log()?, self.path(), from, self.end()))
    }

    /// Makes its batches safe.
    pub(crate) fn sync(&self) -> Result<(), DiskError> {
        self.log()?.sync().map_err(DiskError::at("sync", self.path()))
    }

    /// Makes its indexes safe.
    pub(crate) fn sync_indexes(&self) -> Result<(), DiskError> {
        let synced = self.offsets.sync().and_then(|()| self.times.sync());
        synced.map_err(DiskError::at("sync the indexes of", self.path()))
    }

    /// Lends it other files, which are about to get the names of its own.
    pub(crate) fn lend(&self, files: [PathBuf; 3]) -> Result<(), DiskError> {
        let own = [&self.log, self.offsets.file(), self.times.file()];
        for (own, path) in own.into_iter().zip(files) {
            let view = own.store().disk().view(&path).map_err(DiskError::at("open", &path))?;
            own.lend(view);
        }
        Ok(())
    }

    /// Closes what it was lent.
    pub(crate) fn take_back(&self) {
        self.log.take_back();
        self.offsets.file().take_back();
        self.times.file().take_back();
    }

    /// To be called before its files are removed, or others get their names.
    pub(crate) fn retire(&self) {
        self.log.retire();
        self.offsets.file().retire();
        self.times.file().retire();
    }

    /// True if its files are gone, or about to go.
    pub(crate) fn is_retired(&self) -> bool {
        self.log.is_retired()
    }

    /// Says that this segment is damaged at `position`.
    pub(crate) fn corruption(
        &self,
        position: Position,
        offset: Offset,
        what: String,
    ) -> Corruption {
        Corruption { file: self.path().to_owned(), position, offset, what }
    }

    pub(crate) fn disk_error(&self, error: io::Error) -> DiskError {
        DiskError::at("read", self.path())(error)
    }

    /// The headers from the batch of `hint` on, or from `otherwise` on if there is no hint or it is
    /// not that batch's. A start looks at the last entries of an index only; for the others, which
    /// have no checksum either, nobody vouches before they are used.
    fn headers_at(
        &self,
        hint: Option<OffsetEntry>,
        otherwise: Position,
    ) -> Result<Peekable<Headers<'_>>, DiskError> {
        if let Some(entry) = hint {
            let mut headers = self.headers(entry.position)?.peekable();
            if matches!(headers.peek(), Some(Ok((_, header))) if header.last_offset() == entry.offset)
            {
                return Ok(headers);
            }
        }
        Ok(self.headers(otherwise)?.peekable())
    }
}

/// True if the time index entry is that of the batch.
fn entry_is_of(entry: &TimeEntry, header: &Header) -> bool {
    entry.offset == header.last_offset() && entry.timestamp == header.max_timestamp
}

fn first_where(
    headers: impl Iterator<Item = Result<(Position, Header), ReadError>>,
    matches: impl Fn(&Header) -> bool,
) -> Result<Option<(Position, Header)>, ReadError> {
    for item in headers {
        let (position, header) = item?;
        if matches(&header) {
            return Ok(Some((position, header)));
        }
    }
    Ok(None)
}

/// Removes what a crash or an error in the middle of a roll has left under the name of a new
/// segment: a seal, indexes, and a log without a byte.
fn remove_leftover(disk: &dyn Disk, path: &Path, ending: &str) -> Result<(), DiskError> {
    let Ok(view) = disk.view(path) else { return Ok(()) };
    let empty = view.is_empty().map_err(DiskError::at("read", path))?;
    if empty || ending != LOG {
        disk.remove(path).map_err(DiskError::at("remove", path))?;
    }
    Ok(())
}
