//! Making the log survive a power failure, and writing down how far it does.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use crate::checkpoint::Checkpoint;
use crate::error::{AppendError, DiskError, Poisoned};
use crate::segment::{Segment, SegmentWriter};
use crate::{Epoch, Offset};

impl Log {
    /// Syncs all that was appended before the call and answers the offset below which the log is
    /// now safe. One call at a time does the work; it blocks, so it belongs on a thread of its own.
    ///
    /// If the disk fails, the log is poisoned: the kernel may have dropped what it could not
    /// write, so a later sync that succeeds would prove nothing.
    pub fn flush(&self) -> Result<Offset, AppendError> {
        let _turn = self.flushing.lock();
        let (target, rolled, names_unsynced, active) = {
            let mut writer = self.writer.lock();
            if let Some(poisoned) = &writer.poisoned {
                return Err(poisoned.clone().into());
            }
            let rolled = std::mem::take(&mut writer.rolled);
            let names_unsynced = std::mem::take(&mut writer.names_unsynced);
            (self.end(), rolled, names_unsynced, self.active())
        };
        if target <= self.synced() && rolled.is_empty() && !names_unsynced {
            return Ok(self.synced());
        }
        if let Err(error) = self.sync_files(rolled, names_unsynced, &active) {
            self.poison(&error);
            return Err(error.into());
        }
        self.synced.fetch_max(target.0, Ordering::Release);
        Ok(self.synced())
    }

    /// Writes the checkpoint: recovery starts at what is synced now.
    pub fn checkpoint(&self) -> Result<(), DiskError> {
        let _turn = self.flushing.lock();
        let recovery_point = self.synced();
        // So that the next start finds the entries below the recovery point; what is missing it
        // makes anew, by a scan.
        self.active().sync_indexes()?;
        self.write_checkpoint(recovery_point, self.epochs())
    }

    /// Ends the log in good order: all synced, reservations given back, nothing left to scan.
    pub fn close(&self) -> Result<(), AppendError> {
        {
            let mut writer = self.writer.lock();
            if let Some(poisoned) = &writer.poisoned {
                return Err(poisoned.clone().into());
            }
            let active = self.active();
            writer.active.trim(&active)?;
            writer.names_unsynced = true;
        }
        self.flush()?;
        self.checkpoint()?;
        Ok(())
    }

    pub(super) fn write_checkpoint(
        &self,
        recovery_point: Offset,
        epochs: Vec<(Epoch, Offset)>,
    ) -> Result<(), DiskError> {
        let log_start = self.start();
        let checkpoint =
            Checkpoint { recovery_point, log_start, high_watermark: recovery_point, epochs };
        checkpoint
            .write(self.disk.as_ref(), &self.dir)
            .map_err(DiskError::at("write the checkpoint in", &self.dir))
    }

    pub(super) fn sync_files(
        &self,
        rolled: Vec<(Arc<Segment>, SegmentWriter)>,
        names_unsynced: bool,
        active: &Segment,
    ) -> Result<(), DiskError> {
        for (segment, mut writer) in rolled {
            writer.trim(&segment)?;
            segment.sync()?;
            segment.sync_indexes()?;
        }
        active.sync()?;
        if names_unsynced {
            self.disk.sync_dir(&self.dir).map_err(DiskError::at("sync", &self.dir))?;
        }
        Ok(())
    }

    fn poison(&self, error: &DiskError) {
        let poisoned = Poisoned { reason: error.to_string().into() };
        self.writer.lock().poisoned.get_or_insert(poisoned);
    }
}
