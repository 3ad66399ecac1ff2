//! Appending, and closing a segment to begin the next.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Active, Log, LogSettings, ProducersAt, Unsynced, Writer, WrittenDown};
use crate::batch::CheckedBatch;
use crate::error::{AppendError, DiskError};
use crate::producers::Verdict;
use crate::segment::{PlacedBatch, Segment};
use crate::{Epoch, Offset, Position};

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
}

impl Log {
    /// Appends a batch as the leader of `epoch` at `now_ms` (milliseconds since 1970): gives it
    /// the next offsets, and publishes it to readers. On error nothing was appended. A batch of an
    /// idempotent producer that is in the log already is not appended again.
    pub fn append(
        self: &Arc<Log>,
        batch: &CheckedBatch<'_>,
        epoch: Epoch,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let next_offset = |base: Offset| base.plus(batch.header().record_count.into());
        self.writing_with(|writer| {
            if let Verdict::Duplicate(before) = writer.producers.judge(batch.header())? {
                let (base_offset, next_offset) = (before.base, before.next_offset());
                return Ok(Appended { base_offset, next_offset, rolled: false, duplicate: true });
            }
            let base_offset = self.end();
            let next_offset = next_offset(base_offset);
            let placed =
                PlacedBatch { header: batch.header(), base_offset, epoch, bytes: batch.bytes() };
            let rolled = self.place(writer, placed, next_offset, now_ms)?;
            Ok(Appended { base_offset, next_offset, rolled, duplicate: false })
        })
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
        next_offset: Offset,
        now_ms: i64,
    ) -> Result<bool, AppendError> {
        let settings = self.settings();
        let PlacedBatch { header, base_offset, epoch, .. } = batch;
        let mut active = self.active();
        let rolled = must_roll(writer, &active, next_offset, header.size as u64, &settings, now_ms);
        if rolled {
            active = self.roll(writer, active, &settings)?;
        }
        self.writing(writer, &active, &settings)?.append(&active, batch, now_ms)?;
        note_epoch(&mut writer.epochs, epoch, base_offset);
        writer.producers.note(header, base_offset, now_ms);
        self.end.store(next_offset.0, Ordering::Release);
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

/// True if a batch of `size` bytes that ends before `next_offset` must open a new segment.
fn must_roll(
    writer: &Writer,
    active: &Segment,
    next_offset: Offset,
    size: u64,
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
    active.end().0 + size > most_bytes
        || next_offset.0 - active.base().0 > i32::MAX as u64
        || now_ms.saturating_sub(first_append_ms) >= settings.segment_ms
}

/// Enters an epoch that begins at `offset`, if it is a new one.
pub(super) fn note_epoch(epochs: &mut Vec<(Epoch, Offset)>, epoch: Epoch, offset: Offset) {
    if epochs.last().is_none_or(|(last, _)| *last < epoch) {
        epochs.push((epoch, offset));
    }
}
