//! Making the log survive a power failure, and writing down how far it does.

use std::fmt::Display;
use std::sync::atomic::Ordering;

use super::{Log, ProducersAt, Unsynced, Writer};
use crate::checkpoint::Checkpoint;
use crate::error::{AppendError, DiskError, Poisoned};
use crate::safeguard::{Safeguard, holds};
use crate::segment::Segment;
use crate::{Epoch, Offset};

impl Log {
    /// Syncs all that was appended before the call and answers the offset below which the log is
    /// now safe. One call at a time does the work; it blocks, so it belongs on a thread of its own.
    ///
    /// If the disk fails, the log is poisoned: the kernel may have dropped what it could not
    /// write, so a later sync that succeeds would prove nothing.
    pub fn flush(&self) -> Result<Offset, AppendError> {
        let _turn = self.flushing.lock();
        let (target, unsynced, names_unsynced, active) = {
            let mut writer = self.writer.lock();
            if let Some(poisoned) = &writer.poisoned {
                return Err(poisoned.clone().into());
            }
            let unsynced = std::mem::take(&mut writer.unsynced);
            let names_unsynced = std::mem::take(&mut writer.names_unsynced);
            (self.end(), unsynced, names_unsynced, self.active())
        };
        if target <= self.synced() && unsynced.is_empty() && !names_unsynced {
            return Ok(self.synced());
        }
        let mut producers = Vec::new();
        if holds(Safeguard::SyncBeforeAck) {
            match self.sync_files(unsynced, names_unsynced, &active) {
                Ok(closed) => producers = closed,
                Err(error) => {
                    if holds(Safeguard::Poison) {
                        self.writer.lock().poison(&format_args!("a sync failed: {error}"));
                    }
                    return Err(error.into());
                }
            }
        }
        self.synced.fetch_max(target.0, Ordering::Release);
        producers.iter().for_each(|at| self.write_snapshot(at));
        Ok(self.synced())
    }

    /// Writes the checkpoint: recovery starts at what is synced now.
    pub fn checkpoint(&self) -> Result<(), DiskError> {
        let mut written = self.flushing.lock();
        // Of a damaged log it would vouch for less than was safe, and the next start would cut the
        // rest.
        if self.damaged || self.retired.load(Ordering::Acquire) {
            return Ok(());
        }
        let vouched =
            if holds(Safeguard::CheckpointAfterSync) { self.synced() } else { self.end() };
        self.write_checkpoint(&mut written, vouched, self.epochs())?;
        self.snapshot_producers(false);
        Ok(())
    }

    /// Ends the log in good order: all synced, reservations given back, nothing left to scan.
    pub fn close(&self) -> Result<(), AppendError> {
        if self.damaged || self.retired.load(Ordering::Acquire) {
            return Ok(());
        }
        self.flush()?;
        let was_parked = self.is_parked();
        self.park(&mut self.writer.lock())?;
        if !was_parked {
            self.active().sync()?;
        }
        self.checkpoint()?;
        let _turn = self.flushing.lock();
        self.snapshot_producers(true);
        Ok(())
    }

    /// Writes the checkpoint unless it says so already.
    pub(super) fn write_checkpoint(
        &self,
        written: &mut Option<Checkpoint>,
        recovery_point: Offset,
        epochs: Vec<(Epoch, Offset)>,
    ) -> Result<(), DiskError> {
        let log_start = self.start();
        // What a start finds may end at the recovery point.
        let high_watermark = self.high_watermark().min(recovery_point);
        let checkpoint = Checkpoint { recovery_point, log_start, high_watermark, epochs };
        if written.as_ref() == Some(&checkpoint) {
            return Ok(());
        }
        *written = None;
        // A start takes the entries below the recovery point as they are.
        self.active().sync_indexes()?;
        checkpoint
            .write(self.store.disk(), &self.dir)
            .map_err(DiskError::at("write the checkpoint in", &self.dir))?;
        *written = Some(checkpoint);
        Ok(())
    }

    /// Syncs closed segments and the active one; answers what is to be written down of the producers.
    pub(super) fn sync_files(
        &self,
        unsynced: Vec<Unsynced>,
        names_unsynced: bool,
        active: &Segment,
    ) -> Result<Vec<ProducersAt>, DiskError> {
        let mut closed = Vec::new();
        for Unsynced { segment, writer, producers } in unsynced {
            if let Some(mut writer) = writer {
                writer.trim(&segment)?;
            }
            segment.sync()?;
            segment.sync_indexes()?;
            segment.take_back();
            closed.extend(producers);
        }
        active.sync()?;
        if names_unsynced && holds(Safeguard::SyncNames) {
            self.store.disk().sync_dir(&self.dir).map_err(DiskError::at("sync", &self.dir))?;
        }
        Ok(closed)
    }
}

impl Writer {
    /// Takes and acknowledges nothing more.
    pub(super) fn poison(&mut self, error: &dyn Display) {
        self.poisoned.get_or_insert(Poisoned { reason: error.to_string().into() });
    }
}
