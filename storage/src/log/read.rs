//! Reading: by offset, by time. What is answered is a piece of a file.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::Log;
use crate::batch::{Header, Record, records};
use crate::disk::{View, read_fully};
use crate::error::ReadError;
use crate::segment::Segment;
use crate::{Offset, Position, Timestamp};

/// A piece of a file: whole batches.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The file. Stays readable when the log removes it.
    pub view: Arc<dyn View>,
    /// First byte.
    pub position: u64,
    /// How many bytes.
    pub length: u64,
}

/// Answer to a read.
#[derive(Clone, Debug)]
pub struct Slice {
    /// The batches, from the one that holds the offset on; `None` at the end of the log.
    pub range: Option<FileRange>,
    /// True if more batches follow them in the log.
    pub more: bool,
    /// First offset of the log when it was read.
    pub start: Offset,
    /// End of the log when it was read.
    pub end: Offset,
}

/// A record found by its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTime {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

/// All that there is may be read.
pub const NO_LIMIT: Offset = Offset(u64::MAX);
/// Bytes that one batch may unpack to when its records are looked at.
pub(super) const UNPACK_LIMIT: usize = 256 << 20;

impl FileRange {
    /// Copies the bytes out; for those who cannot send from the file.
    pub fn read(&self) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; self.length as usize];
        let read = read_fully(self.view.as_ref(), self.position, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }
}

impl Log {
    /// The batches from `offset` on: as many whole ones of one segment as `max_bytes` holds, at
    /// least one. The first may begin before `offset`.
    pub fn read(&self, offset: Offset, max_bytes: u64) -> Result<Slice, ReadError> {
        self.read_below(NO_LIMIT, offset, max_bytes)
    }

    /// The same, of the batches that end at or before `limit`, whatever is appended meanwhile.
    pub fn read_below(
        &self,
        limit: Offset,
        offset: Offset,
        max_bytes: u64,
    ) -> Result<Slice, ReadError> {
        self.look(|segments, bounds| read_from(segments, bounds, limit, offset, max_bytes))
    }

    /// Looks at the segments, once more if one of them was taken out of the log meanwhile: it is not
    /// there any more, or another has its records.
    fn look<T>(
        &self,
        look: impl Fn(&[Arc<Segment>], Range<Offset>) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        loop {
            // In this order: the segments of a later moment hold everything below the end.
            let (start, end) = (self.start(), self.end());
            let segments = self.segments.load();
            match look(&segments, start..end) {
                Err(ReadError::Disk(_)) if has_changed(&segments) => {}
                done => return done,
            }
        }
    }

    /// The header of the batch that holds `offset`, if there is one.
    pub(super) fn find_header(&self, offset: Offset) -> Result<Option<Header>, ReadError> {
        self.look(|segments, _| {
            let after = segments.partition_point(|segment| segment.base() <= offset);
            let Some(segment) = segments[..after].last() else { return Ok(None) };
            Ok(segment.find(offset)?.map(|(_, header)| header))
        })
    }

    /// The first record, by offset, whose timestamp is `at_least` or more.
    pub fn find_time(&self, at_least: Timestamp) -> Result<Option<FoundTime>, ReadError> {
        self.look(|segments, bounds| find_time(segments, bounds.start, at_least))
    }

    /// The first record from `offset` on: where compaction has left gaps, it may be a later one.
    pub fn find_record(&self, offset: Offset) -> Result<Option<FoundTime>, ReadError> {
        self.look(|segments, bounds| find_record(segments, offset.max(bounds.start)))
    }

    /// The first record with the largest timestamp of all.
    pub fn find_max_time(&self) -> Result<Option<FoundTime>, ReadError> {
        self.look(|segments, bounds| find_max_time(segments, bounds.start))
    }
}

pub(super) fn read_from(
    segments: &[Arc<Segment>],
    Range { start, end }: Range<Offset>,
    limit: Offset,
    offset: Offset,
    max_bytes: u64,
) -> Result<Slice, ReadError> {
    if offset < start || offset > end {
        return Err(ReadError::OutOfRange { requested: offset, start, end });
    }
    // What is appended meanwhile is not given to anybody: who has it would ask for what lies behind the end.
    let limit = limit.min(end);
    if offset >= limit {
        return Ok(Slice { range: None, more: false, start, end });
    }
    let after = segments.partition_point(|segment| segment.base() <= offset);
    // Trimmed meanwhile, if it lies before the first segment.
    let first = after.checked_sub(1).unwrap_or(segments.len());
    for (at, segment) in segments.iter().enumerate().skip(first) {
        if let Some((position, _)) = segment.find(offset)? {
            let cut = segment.cut(position, position.plus(max_bytes))?;
            // Looked for after the cut: what has been appended since `end` was read may be in it.
            let is_below = segments.get(at + 1).is_some_and(|next| next.base() <= limit);
            let bound = if is_below { None } else { segment.find(limit)? };
            let bound = bound.map(|(position, _)| position);
            let cut = bound.map_or(cut, |bound| cut.min(bound));
            if cut <= position {
                return Ok(Slice { range: None, more: false, start, end });
            }
            let length = cut.0 - position.0;
            let range = FileRange { view: segment.log()?, position: position.0, length };
            let more = match bound {
                Some(bound) => cut < bound,
                None => {
                    let next = segments.get(at + 1);
                    cut < segment.end() || next.is_some_and(|next| next.base() < limit)
                }
            };
            return Ok(Slice { range: Some(range), more, start, end });
        }
    }
    // The log was cut while it was read.
    Err(ReadError::OutOfRange { requested: offset, start, end })
}

fn find_record(
    segments: &[Arc<Segment>],
    mut offset: Offset,
) -> Result<Option<FoundTime>, ReadError> {
    let after = segments.partition_point(|segment| segment.base() <= offset);
    for segment in &segments[after.saturating_sub(1)..] {
        while let Some((position, header)) = segment.find(offset)? {
            let any = Timestamp(i64::MIN);
            if let Some(found) = first_in_batch(segment, position, &header, any, offset)? {
                return Ok(Some(found));
            }
            // Compaction has emptied the batch.
            offset = header.next_offset();
        }
    }
    Ok(None)
}

fn find_time(
    segments: &[Arc<Segment>],
    start: Offset,
    at_least: Timestamp,
) -> Result<Option<FoundTime>, ReadError> {
    for segment in segments {
        if segment.max_timestamp() < at_least {
            continue;
        }
        if let Some((position, header)) = segment.find_time(at_least)? {
            let found = first_in_batch(segment, position, &header, at_least, start)?;
            if found.is_some() {
                return Ok(found);
            }
            // Only in a trimmed log, or where a header claims a time that no record has.
            return find_time_slowly(segments, start, at_least);
        }
    }
    Ok(None)
}

fn find_max_time(segments: &[Arc<Segment>], start: Offset) -> Result<Option<FoundTime>, ReadError> {
    let max = segments.iter().map(|segment| segment.max_timestamp()).max();
    match max {
        Some(max) if max > Timestamp::NONE => match find_time(segments, start, max)? {
            Some(found) => Ok(Some(found)),
            // The record that has it was trimmed; its segment is there still.
            None => find_max_time_slowly(segments, start),
        },
        _ => Ok(None),
    }
}

fn find_max_time_slowly(
    segments: &[Arc<Segment>],
    start: Offset,
) -> Result<Option<FoundTime>, ReadError> {
    let mut max = FoundTime { offset: start, timestamp: Timestamp::NONE };
    for segment in segments {
        for item in segment.headers(Position(0))? {
            let (position, header) = item?;
            if header.last_offset() < start || header.max_timestamp <= max.timestamp {
                continue;
            }
            each_in_batch(segment, position, &header, |record| {
                if record.offset >= start && record.timestamp > max.timestamp {
                    max = FoundTime { offset: record.offset, timestamp: record.timestamp };
                }
                true
            })?;
        }
    }
    Ok((max.timestamp > Timestamp::NONE).then_some(max))
}

fn find_time_slowly(
    segments: &[Arc<Segment>],
    start: Offset,
    at_least: Timestamp,
) -> Result<Option<FoundTime>, ReadError> {
    for segment in segments {
        for item in segment.headers(Position(0))? {
            let (position, header) = item?;
            if header.max_timestamp < at_least || header.last_offset() < start {
                continue;
            }
            let found = first_in_batch(segment, position, &header, at_least, start)?;
            if found.is_some() {
                return Ok(found);
            }
        }
    }
    Ok(None)
}

/// True if one of these segments is not in the log any more.
fn has_changed(segments: &[Arc<Segment>]) -> bool {
    segments.iter().any(|segment| segment.is_retired())
}

fn first_in_batch(
    segment: &Segment,
    position: Position,
    header: &Header,
    at_least: Timestamp,
    start: Offset,
) -> Result<Option<FoundTime>, ReadError> {
    let mut found = None;
    each_in_batch(segment, position, header, |record| {
        if record.timestamp >= at_least && record.offset >= start {
            found = Some(FoundTime { offset: record.offset, timestamp: record.timestamp });
        }
        found.is_none()
    })?;
    Ok(found)
}

/// Hands the records of a batch to `each`, until it says that it has seen enough.
fn each_in_batch(
    segment: &Segment,
    position: Position,
    header: &Header,
    mut each: impl FnMut(Record) -> bool,
) -> Result<(), ReadError> {
    let range =
        FileRange { view: segment.log()?, position: position.0, length: header.size as u64 };
    let bytes = Bytes::from(range.read().map_err(|error| segment.disk_error(error))?);
    let damaged = |error: crate::batch::RecordError| {
        segment.corruption(position, header.base_offset, error.to_string())
    };
    for record in records(&bytes, UNPACK_LIMIT).map_err(damaged)? {
        if !each(record.map_err(damaged)?) {
            break;
        }
    }
    Ok(())
}
