//! What a segment's indexes and headers tell of it, before any checksum is computed.

use std::path::Path;

use super::LogSettings;
use crate::batch::Header;
use crate::disk::{self, Disk, Pace};
use crate::error::{DiskError, ReadError};
use crate::index::{Entry, OffsetEntry, TimeEntry, entries};
use crate::recover::{ScanFrom, Tail, scan};
use crate::segment::{Headers, Indexer, LOG, OFFSET_INDEX, SegmentState, TIME_INDEX, file_name};
use crate::{Epoch, Offset, Position, Timestamp};

/// The part of a segment that is known: everything before `end`.
#[derive(Clone, Debug)]
pub(super) struct Survey {
    pub offsets: Vec<OffsetEntry>,
    pub times: Vec<TimeEntry>,
    pub indexer: Indexer,
    pub end: Position,
    /// Offset that follows `end`.
    pub next: Offset,
    /// Leader epoch of the batch before `end`.
    pub epoch: Epoch,
    pub first_timestamp: Option<Timestamp>,
}

/// What to do about a batch that should have an index entry and has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entries {
    Required,
    Made,
}

/// The index of a 2 GiB segment with an entry for every 32 bytes is below this.
const MOST_INDEX_BYTES: usize = 512 << 20;

impl Survey {
    /// Nothing is known yet.
    pub fn nothing(base: Offset, settings: &LogSettings) -> Survey {
        Survey {
            offsets: Vec::new(),
            times: Vec::new(),
            indexer: Indexer::new(base, settings.index_interval_bytes),
            end: Position(0),
            next: base,
            epoch: Epoch(i32::MIN),
            first_timestamp: None,
        }
    }

    /// Everything before offset `until`, where a batch must begin; `None` if the indexes and
    /// headers do not lead there.
    pub fn before(
        disk: &dyn Disk,
        dir: &Path,
        base: Offset,
        settings: &LogSettings,
        until: Offset,
    ) -> Result<Option<Survey>, DiskError> {
        let mut survey = Survey::nothing(base, settings);
        survey.offsets = index_below(disk, dir, base, OFFSET_INDEX, until)?;
        survey.times = index_below(disk, dir, base, TIME_INDEX, until)?;
        // The first entry of one index comes with the first of the other, unless there are no times.
        let fit = survey.offsets.is_empty() || !survey.times.is_empty();
        let arrived = fit && survey.walk(disk, dir, base, until, Entries::Required)?;
        Ok(arrived.then_some(survey))
    }

    /// The same by headers alone, for an index that cannot be trusted.
    pub fn before_by_headers(
        disk: &dyn Disk,
        dir: &Path,
        base: Offset,
        settings: &LogSettings,
        until: Offset,
    ) -> Result<Option<Survey>, DiskError> {
        let mut survey = Survey::nothing(base, settings);
        let arrived = survey.walk(disk, dir, base, until, Entries::Made)?;
        Ok(arrived.then_some(survey))
    }

    /// Writes the index files where they do not begin with the entries that are known; answers how
    /// many it wrote.
    pub fn mend_indexes(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        base: Offset,
    ) -> Result<u32, DiskError> {
        let offsets = mend_index(disk, dir, base, OFFSET_INDEX, &self.offsets)?;
        Ok(offsets + mend_index(disk, dir, base, TIME_INDEX, &self.times)?)
    }

    /// The bytes of the two index files of a segment at `base`.
    pub fn encoded(&self, base: Offset) -> [Vec<u8>; 2] {
        [encoded(base, &self.offsets), encoded(base, &self.times)]
    }

    /// How many of the entries the index files begin with: all, or none if one differs.
    pub fn counts_in_files(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        base: Offset,
    ) -> Result<(u32, u32), DiskError> {
        let offsets: Vec<OffsetEntry> = index_below(disk, dir, base, OFFSET_INDEX, self.next)?;
        let times: Vec<TimeEntry> = index_below(disk, dir, base, TIME_INDEX, self.next)?;
        let count = |same: bool, count: usize| if same { count as u32 } else { 0 };
        Ok((count(offsets == self.offsets, offsets.len()), count(times == self.times, times.len())))
    }

    /// Gives back what is reserved behind the end of a closed segment's indexes, and of its log if
    /// that is all there is, when a process was killed before it did.
    pub fn cut_reserved(
        &self,
        disk: &dyn Disk,
        dir: &Path,
        base: Offset,
        log: bool,
    ) -> Result<(), DiskError> {
        let lengths = [
            (OFFSET_INDEX, (self.offsets.len() * OffsetEntry::SIZE) as u64),
            (TIME_INDEX, (self.times.len() * TimeEntry::SIZE) as u64),
            (LOG, self.end.0),
        ];
        for (ending, length) in lengths.into_iter().take(if log { 3 } else { 2 }) {
            let path = dir.join(file_name(base, ending));
            if disk.length(&path).map_err(DiskError::at("read", &path))? > length {
                cut(disk, &path, length)?;
            }
        }
        Ok(())
    }

    /// Takes note of a batch whose index entries are not there yet.
    pub fn add(&mut self, position: Position, header: &Header) {
        let (offset, time) = self.indexer.note(position, header.last_offset(), header);
        self.offsets.extend(offset);
        self.times.extend(time);
        self.first_timestamp.get_or_insert(header.max_timestamp);
        self.end = position.plus(header.size as u64);
        self.next = header.next_offset();
        self.epoch = header.leader_epoch;
    }

    /// What a writer needs to go on here at `now_ms`.
    pub fn state(&self, now_ms: i64) -> SegmentState {
        SegmentState {
            end: self.end,
            indexer: self.indexer.clone(),
            first_append_ms: self.first_timestamp.map(|first| first.0.min(now_ms)),
        }
    }

    /// True if the time index tells the largest timestamp, as it does once a segment is closed.
    pub fn times_are_complete(&self) -> bool {
        self.indexer.clone().last_time_entry().is_none()
    }

    /// How many entries the indexes have.
    pub fn counts(&self) -> (u32, u32) {
        (self.offsets.len() as u32, self.times.len() as u32)
    }

    /// Walks over the headers from the last index entry on; true if they lead to `until` and need
    /// no entry that is not there.
    fn walk(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        base: Offset,
        until: Offset,
        missing: Entries,
    ) -> Result<bool, DiskError> {
        if until == base {
            return Ok(true);
        }
        let path = dir.join(file_name(base, LOG));
        let view = disk.view(&path).map_err(DiskError::at("open", &path))?;
        let length = Position(view.len().map_err(DiskError::at("read", &path))?);
        let first = Headers::new(view.clone(), &path, Position(0), length).next();
        self.first_timestamp = match first {
            Some(Ok((_, header))) => Some(header.max_timestamp),
            _ => None,
        };
        self.indexer = self.indexer.clone().resume(0, self.times.last().copied());
        let last_entry = self.offsets.last().copied();
        let from = last_entry.map_or(Position(0), |entry| entry.position);
        let mut expected = if last_entry.is_some() { None } else { Some(base) };
        for item in Headers::new(view, &path, from, length) {
            let (position, header) = match item {
                Ok(item) => item,
                Err(ReadError::Disk(error)) => return Err(error),
                Err(_) => return Ok(false),
            };
            match (expected, last_entry) {
                (Some(expected), _) if header.base_offset != expected => return Ok(false),
                (None, Some(entry)) if header.last_offset() != entry.offset => return Ok(false),
                (None, Some(_)) => {
                    self.indexer = self.indexer.clone().resume(header.size as u64, None);
                    self.indexer.note_time(header.last_offset(), &header);
                    self.end = position.plus(header.size as u64);
                    self.next = header.next_offset();
                    self.epoch = header.leader_epoch;
                }
                _ if self.indexer.is_due() && missing == Entries::Required => return Ok(false),
                _ => self.add(position, &header),
            }
            if self.next >= until {
                break;
            }
            expected = Some(self.next);
        }
        Ok(self.next == until)
    }
}

/// The entries of an index file that speak of offsets below `until`; none if there is no file.
fn index_below<E: Entry>(
    disk: &dyn Disk,
    dir: &Path,
    base: Offset,
    ending: &str,
    until: Offset,
) -> Result<Vec<E>, DiskError> {
    let path = dir.join(file_name(base, ending));
    let bytes = match disk::read(disk, &path, MOST_INDEX_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(DiskError::at("read", &path)(error)),
    };
    let mut found: Vec<E> = entries(&bytes, base);
    found.truncate(found.partition_point(|entry| entry.offset() < until));
    Ok(found)
}

/// What was written for a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebuiltIndexes {
    /// Entries of the offset index.
    pub offsets: usize,
    /// Entries of the time index.
    pub times: usize,
    /// Where and why the indexes end before the segment does, if it is damaged.
    pub broken: Option<(Position, String)>,
}

/// Writes both indexes of a segment anew from its batches, for a log that nobody has open. `closed` tells that it is not the last segment of the log.
pub fn rebuild_indexes(
    disk: &dyn Disk,
    dir: &Path,
    base: Offset,
    settings: &LogSettings,
    closed: bool,
) -> Result<RebuiltIndexes, DiskError> {
    let mut survey = Survey::nothing(base, settings);
    let path = dir.join(file_name(base, LOG));
    let view = disk.view(&path).map_err(DiskError::at("open", &path))?;
    let from = ScanFrom { position: Position(0), offset: base, epoch: Epoch(i32::MIN) };
    let found = scan(view.as_ref(), from, |position, header, _| survey.add(position, header))
        .map_err(DiskError::at("scan", &path))?;
    let broken = match found.tail {
        Tail::Clean => None,
        Tail::Broken { reason, .. } => Some((found.end, reason)),
    };
    if closed {
        survey.times.extend(survey.indexer.last_time_entry());
    }
    write_index(disk, dir, base, OFFSET_INDEX, &survey.offsets)?;
    write_index(disk, dir, base, TIME_INDEX, &survey.times)?;
    Ok(RebuiltIndexes { offsets: survey.offsets.len(), times: survey.times.len(), broken })
}

fn mend_index<E: Entry>(
    disk: &dyn Disk,
    dir: &Path,
    base: Offset,
    ending: &str,
    entries: &[E],
) -> Result<u32, DiskError> {
    let path = dir.join(file_name(base, ending));
    let wanted = encoded(base, entries);
    if let Ok(found) = disk::read(disk, &path, MOST_INDEX_BYTES)
        && found.starts_with(&wanted)
    {
        if found.len() > wanted.len() {
            // Reserved, and not given back by a process that was killed.
            cut(disk, &path, wanted.len() as u64)?;
        }
        return Ok(0);
    }
    write_index(disk, dir, base, ending, entries)?;
    Ok(1)
}

fn cut(disk: &dyn Disk, path: &Path, length: u64) -> Result<(), DiskError> {
    disk.append_to(path, length, Pace::NONE).map_err(DiskError::at("cut", path)).map(drop)
}

fn write_index<E: Entry>(
    disk: &dyn Disk,
    dir: &Path,
    base: Offset,
    ending: &str,
    entries: &[E],
) -> Result<(), DiskError> {
    let path = dir.join(file_name(base, ending));
    disk.write(&path, &encoded(base, entries)).map_err(DiskError::at("write", &path))
}

fn encoded<E: Entry>(base: Offset, entries: &[E]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * E::SIZE);
    for entry in entries {
        entry.encode(base, &mut bytes);
    }
    bytes
}
