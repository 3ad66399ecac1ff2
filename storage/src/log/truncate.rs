//! Cutting the log: its end (a replica that must forget) and its start (records no longer wanted).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::survey::Survey;
use super::{Active, Log, Unsynced, Writer};
use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, Pace};
use crate::error::{AppendError, DiskError, OpenError, ReadError};
use crate::mend::remove;
use crate::safeguard::{Safeguard, holds};
use crate::segment::{self, Segment};
use crate::{Offset, Position};

/// Why a log was not cut.
#[derive(Debug, thiserror::Error)]
pub enum TruncateError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log could not be read where it is to be cut.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The log cannot be opened behind the cut.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log takes no changes.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The offset lies outside of the log.
    #[error("offset {requested} is outside of {start}..={end}")]
    OutOfRange {
        /// What was asked for.
        requested: Offset,
        /// First offset of the log.
        start: Offset,
        /// Its end.
        end: Offset,
    },
}

impl Log {
    /// Removes the records from `to` on; where `to` is inside a batch, the whole batch. When it
    /// returns, the cut is on the disk and cannot come undone. Answers the new end.
    ///
    /// If the disk fails the log is poisoned: how much of it is left shows when it is opened anew.
    pub fn truncate(&self, to: Offset) -> Result<Offset, TruncateError> {
        let _turn = self.changing.lock();
        let mut written = self.flushing.lock();
        let mut writer = self.writer.lock();
        if let Some(poisoned) = &writer.poisoned {
            return Err(AppendError::from(poisoned.clone()).into());
        }
        let (start, end) = (self.start(), self.end());
        if to >= end {
            return Ok(end);
        }
        if to < start {
            return Err(TruncateError::OutOfRange { requested: to, start, end });
        }
        let cut = self.cut_at(&mut writer, &mut written, to);
        cut.inspect_err(|error| writer.poison(&format_args!("a cut failed: {error}")))
    }

    fn cut_at(
        &self,
        writer: &mut Writer,
        written: &mut Option<Checkpoint>,
        to: Offset,
    ) -> Result<Offset, TruncateError> {
        let unsynced = std::mem::take(&mut writer.unsynced);
        let closed = self.sync_files(unsynced, true, &self.active())?;
        closed.iter().for_each(|at| self.write_snapshot(at));
        let segments = self.segments();
        let after = segments.partition_point(|segment| segment.base() <= to);
        let kept = &segments[..after];
        let last = kept[after - 1].clone();
        let (cut, new_end) = match last.find(to)? {
            Some((position, header)) => (position, header.base_offset),
            None => (last.end(), to),
        };
        // Readers first: nobody may look for what is removed next.
        self.end.store(new_end.0, Ordering::Release);
        self.publish_segments(kept.to_vec());
        // Then the recovery point: were the cut to happen alone, recovery would miss what lies
        // between and call it lost.
        writer.epochs.retain(|(_, first)| *first < new_end);
        self.synced.fetch_min(new_end.0, Ordering::AcqRel);
        self.high_watermark.fetch_min(new_end.0, Ordering::AcqRel);
        // The log may start in the middle of the batch that was cut.
        self.start.fetch_min(new_end.0, Ordering::AcqRel);
        if holds(Safeguard::CheckpointBeforeCut) {
            self.write_checkpoint(written, self.synced(), writer.epochs.clone())?;
        }
        for gone in segments[after..].iter().rev() {
            self.remove_segment(gone)?;
        }
        self.remove_snapshots_behind(new_end)?;
        // A segment that is appended to has no seal.
        remove(self.store.disk(), &self.dir.join(segment::file_name(last.base(), segment::SEAL)))?;
        self.store.disk().sync_dir(&self.dir).map_err(DiskError::at("sync", &self.dir))?;
        self.cut_segment(writer, kept, &last, cut, new_end)?;
        self.cut_producers(writer)?;
        Ok(new_end)
    }

    /// Moves the first offset that is served to `to`, at most the end, and removes the segments
    /// that are wholly below: into the folder `grave`, if there is one. Never moves it back. Answers
    /// the new start.
    pub fn trim(&self, to: Offset, grave: Option<&Path>) -> Result<Offset, TruncateError> {
        let end = self.end();
        if to > end {
            return Err(TruncateError::OutOfRange { requested: to, start: self.start(), end });
        }
        // What is removed or no longer served must not be all that the recovery point vouches for.
        self.flush()?;
        let _turn = self.changing.lock();
        let mut written = self.flushing.lock();
        self.start.fetch_max(to.0, Ordering::AcqRel);
        self.write_checkpoint(&mut written, self.synced(), self.epochs())?;
        let mut closed = Vec::new();
        let gone = {
            // The lock keeps a roll from publishing a list in between.
            let mut writer = self.writer.lock();
            let start = self.start();
            let active = self.active();
            let emptied = start == self.end() && active.end() > Position(0);
            if emptied {
                // So that nothing that was trimmed stays on the disk.
                match self.roll(&mut writer, active, &self.settings()) {
                    // It goes when other segments have given their room back.
                    Err(error) if error.is_full() => {}
                    done => done.map(drop)?,
                }
            }
            let segments = self.segments();
            let below = segments.windows(2).take_while(|pair| pair[1].base() <= start).count();
            self.publish_segments(segments[below..].to_vec());
            let first = segments[below].base();
            for Unsynced { producers, .. } in
                writer.unsynced.extract_if(.., |unsynced| unsynced.segment.base() < first)
            {
                closed.extend(producers.filter(|at| at.offset >= first));
            }
            if emptied {
                // The store does not know that the new segment is open.
                self.park(&mut writer)?;
            }
            segments[..below].to_vec()
        };
        closed.iter().for_each(|at| self.write_snapshot(at));
        match grave {
            Some(grave) if !gone.is_empty() => self.bury(&gone, grave)?,
            _ => gone.iter().try_for_each(|segment| self.remove_segment(segment))?,
        }
        Ok(self.start())
    }

    /// Cuts the last kept segment and makes it the active one.
    fn cut_segment(
        &self,
        writer: &mut Writer,
        kept: &[Arc<Segment>],
        last: &Segment,
        cut: Position,
        new_end: Offset,
    ) -> Result<(), TruncateError> {
        let settings = self.settings();
        let base = last.base();
        let disk = self.store.disk();
        let survey = match Survey::before(disk, &self.dir, base, &settings, new_end)? {
            None => Survey::before_by_headers(disk, &self.dir, base, &settings, new_end)?,
            found => found,
        };
        let Some(survey) = survey.filter(|survey| survey.end == cut) else {
            let what = "its headers do not lead to the cut".to_owned();
            return Err(OpenError::from(last.corruption(cut, new_end, what)).into());
        };
        let state = survey.state(i64::MAX);
        // The old writer holds maps of a file that is about to be shortened: they go first.
        if let Active::Open(open) = &mut writer.active {
            open.trim(last)?;
        }
        survey.mend_indexes(disk, &self.dir, base)?;
        cut_log(disk, last, cut)?;
        let fresh = Arc::new(Segment::open(&self.store, &self.dir, base, &state, survey.counts()));
        writer.active = Active::Parked(state);
        let mut segments = kept[..kept.len() - 1].to_vec();
        segments.push(fresh);
        self.publish_segments(segments);
        Ok(())
    }

    /// Moves the files of segments into a folder.
    fn bury(&self, segments: &[Arc<Segment>], grave: &Path) -> Result<(), DiskError> {
        let disk = self.store.disk();
        disk.create_dir(grave).map_err(DiskError::at("make", grave))?;
        for segment in segments {
            segment.retire();
            for ending in segment::ENDINGS {
                let name = segment::file_name(segment.base(), ending);
                match disk.rename(&self.dir.join(&name), &grave.join(&name)) {
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    done => done.map_err(DiskError::at("move", &self.dir.join(&name)))?,
                }
            }
        }
        Ok(())
    }

    /// Ends the life of a log whose folder is gone: nothing is appended, opened or written any more,
    /// whatever the name of the folder comes to mean.
    pub fn retire(&self) {
        let _turns = (self.changing.lock(), self.flushing.lock());
        let mut writer = self.writer.lock();
        writer.poison(&"it was deleted");
        self.retired.store(true, Ordering::Release);
        for segment in self.segments.load().iter() {
            segment.retire();
        }
    }

    pub(super) fn remove_segment(&self, segment: &Segment) -> Result<(), DiskError> {
        segment.retire();
        for ending in segment::ENDINGS {
            remove(self.store.disk(), &self.dir.join(segment::file_name(segment.base(), ending)))?;
        }
        Ok(())
    }
}

/// Cuts a segment's log at `end`, and has the cut on the disk.
fn cut_log(disk: &dyn Disk, segment: &Segment, end: Position) -> Result<(), DiskError> {
    let cut = disk.append_to(segment.path(), end.0, Pace::NONE);
    cut.map_err(DiskError::at("cut", segment.path())).map(drop)
}
