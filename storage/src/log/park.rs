//! A log that nobody appends to gives back its files, maps and reservations, and takes them again
//! with the next append.

use std::sync::atomic::Ordering;

use super::{Active, Log, LogSettings, Writer};
use crate::error::DiskError;
use crate::segment::{Segment, SegmentWriter};
use crate::store::{Effort, Reopens};

impl Log {
    /// True if it holds no file and no map to append to.
    pub fn is_parked(&self) -> bool {
        matches!(self.writer.lock().active, Active::Parked(_))
    }

    /// The writing side of the active segment, opened if it is not.
    pub(super) fn writing<'a>(
        &self,
        writer: &'a mut Writer,
        segment: &Segment,
        settings: &LogSettings,
    ) -> Result<&'a mut SegmentWriter, DiskError> {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        if let Active::Parked(state) = &writer.active {
            writer.active = Active::Open(segment.writer(state.clone(), settings)?);
        }
        match &mut writer.active {
            Active::Open(open) => Ok(open),
            Active::Parked(_) => unreachable!("it was opened above"),
        }
    }

    /// Closes the writing side if all is synced; answers whether it is closed.
    pub(super) fn park(&self, writer: &mut Writer) -> Result<bool, DiskError> {
        let Active::Open(open) = &mut writer.active else { return Ok(true) };
        // The error of a write that fails while no file is open might never be told.
        if self.synced() < self.end() || !writer.unsynced.is_empty() {
            return Ok(false);
        }
        let segment = self.active();
        writer.active = Active::Parked(open.trim(&segment)?);
        segment.take_back();
        Ok(true)
    }
}

impl Reopens for Log {
    fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    fn close(&self, effort: Effort) -> bool {
        // Whoever opens another log is not to wait for one that is in use.
        match self.writer.try_lock() {
            Some(writer) if matches!(writer.active, Active::Parked(_)) => return true,
            Some(_) => {}
            None => return false,
        }
        if effort == Effort::Sync && self.flush().is_err() {
            return false;
        }
        // A log that is being appended to is in use; so is one that opens another at this moment.
        let Some(mut writer) = self.writer.try_lock() else { return false };
        self.park(&mut writer).unwrap_or(false)
    }
}
