//! The idempotent producers of the log: found again when it is opened or cut, written down when a segment
//! is closed, when much was appended since, and when the log is closed.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::{Log, Writer};
use crate::error::{DiskError, ReadError};
use crate::mend::remove;
use crate::producers::{Producers, snapshot};
use crate::safeguard::{Safeguard, holds};
use crate::segment::Segment;
use crate::{Offset, Position};

/// Headers of so many bytes of batches are read at a start, at most, on top of those of the segment that
/// was appended to between two checkpoints.
const SNAPSHOT_EVERY: u64 = 16 << 20;

/// Up to where the producers were last written down.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WrittenDown {
    pub offset: Offset,
    /// The end of the active segment then, unless it is a later one by now.
    pub position: Position,
}

/// The producers before an offset, to be written down.
#[derive(Debug)]
pub(super) struct ProducersAt {
    pub offset: Offset,
    pub producers: Producers,
}

impl Log {
    /// What is known of its idempotent producers.
    pub fn producers(&self) -> Producers {
        self.writer.lock().producers.clone()
    }

    /// Forgets the producers that have appended nothing since `before_ms` (milliseconds since 1970);
    /// answers how many those were. When one comes back, it may go on with any number.
    pub fn forget_idle_producers(&self, before_ms: i64) -> usize {
        self.writer.lock().producers.forget_idle(before_ms)
    }

    /// Finds what is known of the producers when the log is opened at `now_ms`.
    pub(super) fn load_producers(&self, now_ms: i64) -> Result<(), DiskError> {
        let mut writer = self.writer.lock();
        if self.remove_snapshots_behind(self.end())? {
            // What is appended next must not be judged by what was there before.
            self.sync_names()?;
        }
        self.find_producers(&mut writer, |_| now_ms)
    }

    /// Finds again what is known of the producers, when the end of the log was cut and what lay behind it
    /// is gone.
    pub(super) fn cut_producers(&self, writer: &mut Writer) -> Result<(), DiskError> {
        if !writer.producers.reaches(self.end()) {
            let known = &mut writer.written_down;
            known.position = known.position.min(self.active().end());
            known.offset = known.offset.min(self.end());
            return Ok(());
        }
        let before = std::mem::take(&mut writer.producers);
        // One that had been forgotten is idle still.
        let last_ms = |id| before.find(id).map_or(i64::MIN, |producer| producer.last_ms());
        self.find_producers(writer, last_ms)
    }

    /// Forgets all producers, on the disk as well.
    pub(super) fn forget_producers(&self, writer: &mut Writer) -> Result<(), DiskError> {
        let disk = self.store.disk();
        for offset in self.snapshots()? {
            remove(disk, &snapshot::path(&self.dir, offset))?;
        }
        self.sync_names()?;
        writer.producers = Producers::default();
        writer.written_down = WrittenDown { offset: self.end(), position: self.active().end() };
        Ok(())
    }

    /// Reads the last snapshot, and the headers of all batches behind it.
    fn find_producers(
        &self,
        writer: &mut Writer,
        last_ms: impl Fn(i64) -> i64,
    ) -> Result<(), DiskError> {
        let segments = self.segments();
        let (first, end) = (segments[0].base(), self.end());
        // Behind one that is older than the first segment, some batches are gone, and nobody knows how
        // far their producers had come.
        let covers = |at: &Offset| *at >= first || !holds(Safeguard::SnapshotsInside);
        let mut found = (first, Producers::default());
        for at in self.snapshots()?.into_iter().rev().filter(|at| *at <= end).filter(covers) {
            let read = snapshot::read(self.store.disk(), &self.dir, at);
            if let Some(known) = read.map_err(DiskError::at("read a snapshot in", &self.dir))? {
                found = (at, known);
                break;
            }
        }
        let (from, mut producers) = found;
        let mut position = Position(0);
        for (at, segment) in segments.iter().enumerate() {
            let next = segments.get(at + 1).map_or(end, |next| next.base());
            if next <= from {
                continue;
            }
            match replay(segment, from, &mut producers, &last_ms) {
                Ok(begun) => position = begun,
                Err(ReadError::Disk(error)) => return Err(error),
                // Whoever reads it is told; here, nobody knows how far its producers had come.
                Err(_) => producers = Producers::default(),
            }
        }
        writer.producers = producers;
        let position = if from < self.active().base() { Position(0) } else { position };
        writer.written_down = WrittenDown { offset: from, position };
        Ok(())
    }

    /// Removes the snapshots that tell of more than the log has before `end`; true if there were some.
    pub(super) fn remove_snapshots_behind(&self, end: Offset) -> Result<bool, DiskError> {
        if !holds(Safeguard::CutSnapshots) {
            return Ok(false);
        }
        let behind: Vec<Offset> = self.snapshots()?.into_iter().filter(|at| *at > end).collect();
        for at in &behind {
            remove(self.store.disk(), &snapshot::path(&self.dir, *at))?;
        }
        Ok(!behind.is_empty())
    }

    /// Writes down what is known if much was appended since that was done last; `all` if anything was.
    pub(super) fn snapshot_producers(&self, all: bool) {
        if self.retired.load(Ordering::Acquire) {
            return;
        }
        let at = {
            let mut writer = self.writer.lock();
            let (end, position) = (self.end(), self.active().end());
            let WrittenDown { offset, position: before } = writer.written_down;
            let much = position.0.saturating_sub(before.0) >= SNAPSHOT_EVERY;
            if !(much || all && end > offset) {
                return;
            }
            writer.written_down = WrittenDown { offset: end, position };
            ProducersAt { offset: end, producers: writer.producers.clone() }
        };
        self.write_snapshot(&at);
    }

    /// Writes a snapshot, and removes those that are not needed any more.
    pub(super) fn write_snapshot(&self, at: &ProducersAt) {
        // One that is not written, or not whole, costs the reading of some headers at a start; a disk that
        // fails for good shows with the next batch.
        let _ = snapshot::write(self.store.disk(), &self.dir, at.offset, &at.producers)
            .map_err(DiskError::at("write a snapshot in", &self.dir))
            .and_then(|()| self.remove_old_snapshots());
    }

    /// Keeps the newest one of those that no cut will make useless, and all behind it.
    fn remove_old_snapshots(&self) -> Result<(), DiskError> {
        let safe = self.synced().min(self.high_watermark());
        let offsets = self.snapshots()?;
        let needed = offsets.partition_point(|at| *at <= safe).saturating_sub(1);
        for old in &offsets[..needed] {
            remove(self.store.disk(), &snapshot::path(&self.dir, *old))?;
        }
        Ok(())
    }

    fn snapshots(&self) -> Result<Vec<Offset>, DiskError> {
        let listed = snapshot::list(self.store.disk(), &self.dir);
        listed.map_err(DiskError::at("list", &self.dir))
    }

    fn sync_names(&self) -> Result<(), DiskError> {
        let dir: &Path = &self.dir;
        self.store.disk().sync_dir(dir).map_err(DiskError::at("sync", dir))
    }
}

/// Takes note of the batches of a segment from offset `from` on; answers where the first of them begins.
fn replay(
    segment: &Segment,
    from: Offset,
    producers: &mut Producers,
    last_ms: impl Fn(i64) -> i64,
) -> Result<Position, ReadError> {
    let begun = match segment.find(from.max(segment.base()))? {
        Some((position, _)) => position,
        None => return Ok(segment.end()),
    };
    for item in segment.headers(begun)? {
        let (_, header) = item?;
        if header.base_offset >= from {
            producers.note(&header, header.base_offset, last_ms(header.producer_id));
        }
    }
    Ok(begun)
}
