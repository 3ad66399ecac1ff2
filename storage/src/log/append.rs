//! Appending, and closing a segment to begin the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Active, Log, LogSettings, ProducersAt, Unsynced, Writer, WrittenDown};
use crate::batch::{CheckedBatch, Header, TimestampType};
use crate::error::{AppendError, DiskError};
use crate::producers::Verdict;
use crate::segment::{PlacedBatch, Segment};
use crate::{Epoch, Offset, Position, Timestamp};

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset that follows its last: once [`Log::synced`] has reached it, the batch is safe.
    pub next_offset: Offset,
    /// True if a segment was closed, which the next [`Log::flush`] trims and syncs.
    pub rolled: bool,
    /// True if its producer had sent it before: it is in the log once, where it was.
    pub duplicate: bool,
    /// The time of its records, if the log is one of `LogAppendTime`.
    pub log_append_time: Timestamp,
}

impl Log {
    /// Appends a batch as the leader of `epoch` at `now_ms` (milliseconds since 1970): gives it
    /// the next offsets, and the time where the settings say so, and publishes it to readers. On error
    /// nothing was appended. A batch of an idempotent producer that is in the log already is not appended
    /// again.
    pub fn append(
        self: &Arc<Log>,
        batch: &CheckedBatch<'_>,
        epoch: Epoch,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let is_stamped = self.settings().timestamp_type == TimestampType::LogAppendTime;
        // Before the lock is taken: the checksum is over all its bytes.
        let (header, log_append_time) = match is_stamped {
            true => (batch.stamped(Timestamp(now_ms)), Timestamp(now_ms)),
            false => (*batch.header(), Timestamp::NONE),
        };
        let mut appended = self.writing_with(|writer| {
            let base_offset = self.end();
            let header = Header { base_offset, leader_epoch: epoch, ..header };
            if let Verdict::Duplicate(before) = writer.producers.judge(&header)? {
                return Ok(Appended {
                    base_offset: before.base,
                    next_offset: before.next_offset(),
                    rolled: false,
                    duplicate: true,
                    log_append_time: Timestamp::NONE,
                });
            }
            let placed = PlacedBatch { header: &header, bytes: batch.bytes() };
            Ok(Appended {
                base_offset,
                next_offset: header.next_offset(),
                rolled: self.place(writer, placed, now_ms)?,
                duplicate: false,
                log_append_time,
            })
        })?;
        if appended.duplicate && is_stamped {
            appended.log_append_time = self.log_append_time(appended.base_offset);
        }
        Ok(appended)
    }

    /// The time that the batch at `base` got when it was appended; none if it got none, or if that cannot be
    /// said any more.
    fn log_append_time(&self, base: Offset) -> Timestamp {
        let header = self.find_header(base).ok().flatten();
        let stamped = header.filter(|header| {
            header.base_offset == base && header.timestamp_type() == TimestampType::LogAppendTime
        });
        stamped.map_or(Timestamp::NONE, |header| header.max_timestamp)
    }

    /// Does something with the append lock held. A disk that fails on the way poisons the log.
    pub(super) fn writing_with<T>(
        self: &Arc<Log>,
        work: impl FnOnce(&mut Writer) -> Result<T, AppendError>,
    ) -> Result<T, AppendError> {
        let mut writer = self.writer.lock();
        if let Some(poisoned) = &writer.poisoned {
            return Err(poisoned.clone().into());
        }
        let was_parked = matches!(writer.active, Active::Parked(_));
        let result = work(&mut writer);
        if let Err(AppendError::Disk(error)) = &result
            && !error.is_full()
        {
            // A disk that refuses for any other reason is not to be trusted with the next record.
            writer.poison(error);
        }
        let was_opened = was_parked && matches!(writer.active, Active::Open(_));
        drop(writer);
        if was_opened {
            // Another log may be closed for it, which takes that one's lock.
            self.store.log_opened(self);
        }
        result
    }

    /// Appends a batch at the end of the log and publishes it, in a new segment if it must be. True
    /// if one was closed for it.
    pub(super) fn place(
        &self,
        writer: &mut Writer,
        batch: PlacedBatch<'_>,
        now_ms: i64,
    ) -> Result<bool, AppendError> {
        let settings = self.settings();
        let header = batch.header;
        let mut active = self.active();
        let rolled = must_roll(writer, &active, header, &settings, now_ms);
        if rolled {
            active = self.roll(writer, active, &settings)?;
        }
        self.writing(writer, &active, &settings)?.append(&active, batch, now_ms)?;
        note_epoch(&mut writer.epochs, header.leader_epoch, header.base_offset);
        writer.producers.note(header, header.base_offset, now_ms);
        self.end.store(header.next_offset().0, Ordering::Release);
        Ok(rolled)
    }

    pub(super) fn roll(
        &self,
        writer: &mut Writer,
        old: Arc<Segment>,
        settings: &LogSettings,
    ) -> Result<Arc<Segment>, DiskError> {
        self.writing(writer, &old, settings)?.finish(&old)?;
        let (segment, fresh) = Segment::create(&self.store, &self.dir, self.end(), settings)?;
        let segment = Arc::new(segment);
        if let Active::Open(full) = std::mem::replace(&mut writer.active, Active::Open(fresh)) {
            let at = ProducersAt { offset: self.end(), producers: writer.producers.clone() };
            writer.written_down = WrittenDown { offset: at.offset, position: Position(0) };
            let closed = Unsynced { segment: old, writer: Some(full), producers: Some(at) };
            writer.unsynced.push(closed);
        }
        writer.names_unsynced = true;
        let mut segments = self.segments.load().to_vec();
        segments.push(segment.clone());
        self.publish_segments(segments);
        Ok(segment)
    }
}

/// True if the batch of this header must open a new segment.
fn must_roll(
    writer: &Writer,
    active: &Segment,
    header: &Header,
    settings: &LogSettings,
    now_ms: i64,
) -> bool {
    let first_append_ms = match &writer.active {
        Active::Open(open) => open.first_append_ms(),
        Active::Parked(state) => state.first_append_ms,
    };
    // One that was cut to nothing stays: the next would have its name.
    let Some(first_append_ms) = first_append_ms.filter(|_| active.end() > Position(0)) else {
        return false;
    };
    // Index entries hold offsets and positions of 31 bits.
    let most_bytes = settings.segment_bytes.min(i32::MAX as u64);
    active.end().0 + header.size as u64 > most_bytes
        || header.next_offset().0 - active.base().0 > i32::MAX as u64
        || now_ms.saturating_sub(first_append_ms) >= settings.segment_ms
}

/// Enters an epoch that begins at `offset`, if it is a new one.
pub(super) fn note_epoch(epochs: &mut Vec<(Epoch, Offset)>, epoch: Epoch, offset: Offset) {
    if epochs.last().is_none_or(|(last, _)| *last < epoch) {
        epochs.push((epoch, offset));
    }
}
