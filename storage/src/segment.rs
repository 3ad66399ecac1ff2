//! A segment: one `.log` file of batches, its offset index and its time index.
//!
//! [`Segment`] is what readers share, without a lock; [`SegmentWriter`] is the writing end, of
//! which the active segment has one. The only bridge between them is the published end.

use std::io;
use std::iter::Peekable;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::batch::{HEADER_LEN, Header};
use crate::disk::{Appender, Disk, Pace, View, read_fully};
use crate::error::{Corruption, DiskError, ReadError};
use crate::index::{Entry, Index, OffsetEntry, OffsetIndex, TimeEntry, TimeIndex};
use crate::log::settings::LogSettings;
use crate::recent::Recent;
use crate::seal::Seal;
use crate::store::{SharedFile, Store};
use crate::{Epoch, Offset, Position, Timestamp};

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

/// Reservation of a `.log` file: quiet partitions hold 64 KiB, busy ones get 16 MiB at a time.
fn log_pace(segment_bytes: u64) -> Pace {
    Pace { first: 64 << 10, most: 16 << 20, limit: segment_bytes }
}

/// Reservation of an index: a page first.
const INDEX_PACE: Pace = Pace { first: 4 << 10, most: 256 << 10, limit: 1 << 30 };

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
    /// Set once it is closed and checked.
    seal: OnceLock<Seal>,
    /// True if it was found damaged since it was opened.
    damaged: AtomicBool,
}

/// The writing side of the active segment.
#[derive(Debug)]
pub(crate) struct SegmentWriter {
    log: Box<dyn Appender>,
    /// Opened with the first entry; a small segment has none.
    indexes: Option<IndexWriters>,
    indexer: Indexer,
    /// When the first batch came, by the clock of whoever appends.
    first_append_ms: Option<i64>,
}

#[derive(Debug)]
struct IndexWriters {
    offsets: Box<dyn Appender>,
    times: Box<dyn Appender>,
}

/// What is known of a segment when it is opened.
#[derive(Clone, Debug)]
pub(crate) struct SegmentState {
    pub end: Position,
    pub indexer: Indexer,
    pub first_append_ms: Option<i64>,
}

/// Decides which batches get index entries: the writer and recovery ask it alike, so that an
/// index built anew is the one that was lost.
#[derive(Clone, Debug)]
pub(crate) struct Indexer {
    interval_bytes: u64,
    /// Bytes since the start of the last indexed batch.
    unindexed: u64,
    /// Largest timestamp so far and the last offset of the batch that has it.
    max: TimeEntry,
    /// Timestamp of the last time index entry.
    last_time: Timestamp,
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
        let log = make(LOG, log_pace(settings.segment_bytes))?;
        make(OFFSET_INDEX, INDEX_PACE)?;
        make(TIME_INDEX, INDEX_PACE)?;
        let indexer = Indexer::new(base, settings.index_interval_bytes);
        let state = SegmentState { end: Position(0), indexer, first_append_ms: None };
        let segment = Segment::open(store, dir, base, &state, (0, 0));
        segment.log.lend(log.view());
        let SegmentState { indexer, first_append_ms, .. } = state;
        Ok((segment, SegmentWriter { log, indexes: None, indexer, first_append_ms }))
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
            max_timestamp: AtomicI64::new(state.indexer.max.timestamp.0),
            recent: Recent::new(),
            seal: OnceLock::new(),
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

    /// Opens the writing side of this segment; cuts its log behind what the state tells.
    pub(crate) fn writer(
        &self,
        state: SegmentState,
        settings: &LogSettings,
    ) -> Result<SegmentWriter, DiskError> {
        let log = append_to(&self.log, state.end.0, log_pace(settings.segment_bytes))?;
        let SegmentState { indexer, first_append_ms, .. } = state;
        Ok(SegmentWriter { log, indexes: None, indexer, first_append_ms })
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
        self.seal.get().copied()
    }

    pub(crate) fn set_seal(&self, seal: Seal) {
        // Two threads that seal it at once found the same.
        let _ = self.seal.set(seal);
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
        let hint = self.offsets.last_where(|entry| entry.offset <= offset);
        let hint = hint.map_err(|error| self.disk_error(error))?;
        first_where(self.headers_at(hint, Position(0))?, holds)
    }

    /// The first batch whose largest timestamp is `at_least` or more.
    pub fn find_time(&self, at_least: Timestamp) -> Result<Option<(Position, Header)>, ReadError> {
        let hint = self.times.last_where(|entry| entry.timestamp < at_least);
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
        let hint = self.offsets.last_where(|entry| entry.position <= limit);
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

    /// Closes what its writing side has lent it.
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

/// Walks over the headers of a segment's batches, each with its position. Ends after an error.
#[derive(Debug)]
pub struct Headers<'a> {
    view: Arc<dyn View>,
    path: &'a Path,
    position: Position,
    end: Position,
    /// The file's bytes from `at` on.
    buffer: Vec<u8>,
    at: Position,
}

/// Bytes read at once when walking: about what lies between two index entries.
const WALK_CHUNK: usize = 4096;

impl<'a> Headers<'a> {
    /// The headers in the file `path` from byte `from`, where a batch must begin, to byte `end`.
    pub fn new(view: Arc<dyn View>, path: &'a Path, from: Position, end: Position) -> Headers<'a> {
        Headers { view, path, position: from, end, buffer: Vec::new(), at: from }
    }

    fn step(&mut self) -> Result<(Position, Header), ReadError> {
        let position = self.position;
        let path = self.path;
        let damaged = |offset, what| Corruption { file: path.to_owned(), position, offset, what };
        let bytes = self.bytes_here().map_err(DiskError::at("read", path))?;
        let header = Header::parse(bytes).map_err(|error| damaged(Offset(0), error.to_string()))?;
        let next = position.plus(header.size as u64);
        if next > self.end {
            let what = format!("a batch of {} bytes beyond the end {}", header.size, self.end);
            return Err(damaged(header.base_offset, what).into());
        }
        self.position = next;
        Ok((position, header))
    }

    /// The bytes at the walk's place, a header's worth if the file has it.
    fn bytes_here(&mut self) -> io::Result<&[u8]> {
        let skipped = (self.position.0 - self.at.0) as usize;
        if self.buffer.len() < skipped + HEADER_LEN {
            let left = (self.end.0 - self.position.0) as usize;
            self.buffer.resize(WALK_CHUNK.min(left), 0);
            self.at = self.position;
            let read = read_fully(self.view.as_ref(), self.position.0, &mut self.buffer)?;
            self.buffer.truncate(read);
            return Ok(&self.buffer);
        }
        Ok(&self.buffer[skipped..])
    }
}

impl Iterator for Headers<'_> {
    type Item = Result<(Position, Header), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.end {
            return None;
        }
        let item = self.step();
        if item.is_err() {
            self.position = self.end;
        }
        Some(item)
    }
}

impl SegmentWriter {
    /// Where the next batch goes.
    pub fn end(&self) -> Position {
        Position(self.log.end())
    }

    /// When the first batch came.
    pub fn first_append_ms(&self) -> Option<i64> {
        self.first_append_ms
    }

    /// Appends a batch at `base_offset`; all or, with an error, nothing.
    pub fn append(
        &mut self,
        segment: &Segment,
        batch: PlacedBatch<'_>,
        now_ms: i64,
    ) -> Result<(), DiskError> {
        let PlacedBatch { header, base_offset, epoch, bytes } = batch;
        let position = self.end();
        if self.indexer.is_due() {
            self.reserve_entries(segment)?;
        }
        let placed = header.placed(base_offset, epoch);
        self.log
            .append(&[&placed, &bytes[placed.len()..]])
            .map_err(DiskError::at("append to", segment.path()))?;
        let last_offset = base_offset.plus(header.last_offset_delta.into());
        let (offset_entry, time_entry) = self.indexer.note(position, last_offset, header);
        if let (Some(entry), Some(indexes)) = (offset_entry, &mut self.indexes) {
            let pushed = segment.offsets.push(indexes.offsets.as_mut(), &entry);
            pushed.map_err(DiskError::at("index", segment.path()))?;
        }
        self.push_time_entry(segment, time_entry)?;
        self.first_append_ms.get_or_insert(now_ms);
        segment.recent.note(base_offset.0 - segment.base.0, position);
        segment.max_timestamp.store(self.indexer.max.timestamp.0, Ordering::Release);
        segment.end.store(self.log.end(), Ordering::Release);
        Ok(())
    }

    /// Writes the last time index entry, by which a reopened segment knows its largest timestamp.
    pub fn finish(&mut self, segment: &Segment) -> Result<(), DiskError> {
        if self.indexer.clone().last_time_entry().is_some() {
            self.reserve_entries(segment)?;
        }
        let entry = self.indexer.last_time_entry();
        self.push_time_entry(segment, entry)
    }

    /// Gives back what is reserved beyond the end of each file, and tells what is needed to go on.
    pub fn trim(&mut self, segment: &Segment) -> Result<SegmentState, DiskError> {
        let indexes = self.indexes.iter_mut().flat_map(|indexes| {
            let IndexWriters { offsets, times } = indexes;
            [offsets, times]
        });
        for file in [&mut self.log].into_iter().chain(indexes) {
            file.trim().map_err(DiskError::at("trim", segment.path()))?;
        }
        Ok(SegmentState {
            end: self.end(),
            indexer: self.indexer.clone(),
            first_append_ms: self.first_append_ms,
        })
    }

    fn reserve_entries(&mut self, segment: &Segment) -> Result<(), DiskError> {
        let indexes = match &mut self.indexes {
            Some(indexes) => indexes,
            none => none.insert(IndexWriters::open(segment)?),
        };
        let offsets = indexes.offsets.reserve(OffsetEntry::SIZE);
        let reserved = offsets.and_then(|()| indexes.times.reserve(TimeEntry::SIZE));
        reserved.map_err(DiskError::at("reserve index space of", segment.path()))
    }

    fn push_time_entry(
        &mut self,
        segment: &Segment,
        entry: Option<TimeEntry>,
    ) -> Result<(), DiskError> {
        let (Some(entry), Some(indexes)) = (entry, &mut self.indexes) else { return Ok(()) };
        let pushed = segment.times.push(indexes.times.as_mut(), &entry);
        pushed.map_err(DiskError::at("index", segment.path()))
    }
}

impl IndexWriters {
    fn open(segment: &Segment) -> Result<IndexWriters, DiskError> {
        let Segment { offsets, times, .. } = segment;
        Ok(IndexWriters {
            offsets: append_to(offsets.file(), offsets.bytes(), INDEX_PACE)?,
            times: append_to(times.file(), times.bytes(), INDEX_PACE)?,
        })
    }
}

/// Opens a file to append to at `end`, and lends its readers what is open.
fn append_to(file: &SharedFile, end: u64, pace: Pace) -> Result<Box<dyn Appender>, DiskError> {
    let opened = file.store().disk().append_to(file.path(), end, pace);
    let appender = opened.map_err(DiskError::at("open", file.path()))?;
    file.lend(appender.view());
    Ok(appender)
}

impl Indexer {
    pub fn new(base: Offset, interval_bytes: u64) -> Indexer {
        let max = TimeEntry { timestamp: Timestamp::NONE, offset: base };
        // An entry of time 0 and relative offset 0 would look like the zeroes behind the last one;
        // so times up to 0, which stand for "none" anyway, get no entry.
        Indexer { interval_bytes, unindexed: 0, max, last_time: Timestamp(0) }
    }

    /// Goes on behind these index entries, the last of which begins `unindexed` bytes before the
    /// place to go on at.
    pub fn resume(mut self, unindexed: u64, last_time: Option<TimeEntry>) -> Indexer {
        self.unindexed = unindexed;
        if let Some(entry) = last_time {
            self.max = entry;
            self.last_time = entry.timestamp;
        }
        self
    }

    /// True if the next batch gets an entry.
    pub fn is_due(&self) -> bool {
        self.unindexed > self.interval_bytes
    }

    /// Takes note of the batch at `position`; answers the entries that it gets.
    pub fn note(
        &mut self,
        position: Position,
        last_offset: Offset,
        header: &Header,
    ) -> (Option<OffsetEntry>, Option<TimeEntry>) {
        let due = self.is_due();
        self.note_time(last_offset, header);
        if !due {
            self.unindexed += header.size as u64;
            return (None, None);
        }
        self.unindexed = header.size as u64;
        (Some(OffsetEntry { offset: last_offset, position }), self.last_time_entry())
    }

    /// Takes note of the times of a batch whose entries are there already.
    pub fn note_time(&mut self, last_offset: Offset, header: &Header) {
        if header.max_timestamp > self.max.timestamp {
            self.max = TimeEntry { timestamp: header.max_timestamp, offset: last_offset };
        }
    }

    /// The entry that tells the largest timestamp so far, unless there is one.
    pub fn last_time_entry(&mut self) -> Option<TimeEntry> {
        let new = self.max.timestamp > self.last_time;
        self.last_time = self.last_time.max(self.max.timestamp);
        new.then_some(self.max)
    }
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

/// A batch with the offset and epoch that it gets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlacedBatch<'a> {
    pub header: &'a Header,
    pub base_offset: Offset,
    pub epoch: Epoch,
    pub bytes: &'a [u8],
}
