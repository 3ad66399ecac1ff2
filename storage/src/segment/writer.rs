//! The writing side of the active segment.

use std::sync::atomic::Ordering;

use super::{Indexer, Segment, SegmentState};
use crate::Position;
use crate::batch::{HEADER_LEN, Header};
use crate::disk::{Appender, Pace};
use crate::error::DiskError;
use crate::index::{Entry, OffsetEntry, TimeEntry};
use crate::log::settings::LogSettings;
use crate::store::SharedFile;

/// Reservation of a `.log` file: quiet partitions hold 64 KiB, busy ones get 16 MiB at a time.
pub(super) fn log_pace(segment_bytes: u64) -> Pace {
    Pace { first: 64 << 10, most: 16 << 20, limit: segment_bytes }
}

/// Reservation of an index: a page first.
pub(super) const INDEX_PACE: Pace = Pace { first: 4 << 10, most: 256 << 10, limit: 1 << 30 };

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

/// A batch as it goes into the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PlacedBatch<'a> {
    /// Its header there.
    pub header: &'a Header,
    /// Its bytes as they came. Those of the header are not looked at.
    pub bytes: &'a [u8],
}

impl Segment {
    /// Opens the writing side of this segment; cuts its log behind what the state tells.
    pub(crate) fn writer(
        &self,
        state: SegmentState,
        settings: &LogSettings,
    ) -> Result<SegmentWriter, DiskError> {
        let log = append_to(&self.log, state.end.0, log_pace(settings.segment_bytes))?;
        Ok(SegmentWriter::new(log, state))
    }
}

impl SegmentWriter {
    pub(super) fn new(log: Box<dyn Appender>, state: SegmentState) -> SegmentWriter {
        let SegmentState { indexer, first_append_ms, .. } = state;
        SegmentWriter { log, indexes: None, indexer, first_append_ms }
    }

    /// Where the next batch goes.
    pub fn end(&self) -> Position {
        Position(self.log.end())
    }

    /// When the first batch came.
    pub fn first_append_ms(&self) -> Option<i64> {
        self.first_append_ms
    }

    /// Appends a batch; all or, with an error, nothing.
    pub fn append(
        &mut self,
        segment: &Segment,
        batch: PlacedBatch<'_>,
        now_ms: i64,
    ) -> Result<(), DiskError> {
        let PlacedBatch { header, bytes } = batch;
        let position = self.end();
        if self.indexer.is_due() {
            self.reserve_entries(segment)?;
        }
        self.log
            .append(&[&header.bytes(), &bytes[HEADER_LEN..]])
            .map_err(DiskError::at("append to", segment.path()))?;
        let (offset_entry, time_entry) = self.indexer.note(position, header.last_offset(), header);
        if let (Some(entry), Some(indexes)) = (offset_entry, &mut self.indexes) {
            let pushed = segment.offsets.push(indexes.offsets.as_mut(), &entry);
            pushed.map_err(DiskError::at("index", segment.path()))?;
        }
        self.push_time_entry(segment, time_entry)?;
        self.first_append_ms.get_or_insert(now_ms);
        segment.recent.note(header.base_offset.0 - segment.base.0, position);
        segment.max_timestamp.store(self.indexer.max_timestamp().0, Ordering::Release);
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
