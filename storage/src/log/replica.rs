//! What a follower does to its log: it takes the leader's batches as they are, and begins anew where
//! the leader's log begins if the two have nothing in common.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::truncate::TruncateError;
use super::{Active, Log, Writer};
use crate::batch::{Header, HeaderError, checksum};
use crate::checkpoint::Checkpoint;
use crate::error::{AppendError, DiskError};
use crate::segment::{PlacedBatch, Segment};
use crate::{Epoch, Offset};

/// Why a follower did not take what its leader sent. The batches before are appended.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The log takes nothing.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// Not a batch.
    #[error("what the leader sent is no batch: {0}")]
    Header(#[from] HeaderError),
    /// The bytes end before the batch does.
    #[error("the leader's batch at offset {base} has {size} bytes, {have} came")]
    Incomplete {
        /// Its first offset.
        base: Offset,
        /// What its header says.
        size: usize,
        /// What is there.
        have: usize,
    },
    /// The checksum says that bytes have changed on the way, or on the leader's disk.
    #[error(
        "the leader's batch at offset {base} says CRC-32C {found:#010x}, its bytes have {computed:#010x}"
    )]
    Checksum {
        /// Its first offset.
        base: Offset,
        /// As stored.
        found: u32,
        /// As computed.
        computed: u32,
    },
    /// The batch is not the one that follows.
    #[error("the leader's batch begins at {base}, the log ends at {end}")]
    NotNext {
        /// Its first offset.
        base: Offset,
        /// The end of the log.
        end: Offset,
    },
    /// The batch is of an older leader than the one before it.
    #[error("the leader's batch at offset {base} is of epoch {found}, behind one of {last}")]
    OldEpoch {
        /// Its first offset.
        base: Offset,
        /// Its epoch.
        found: Epoch,
        /// The epoch of the last batch in the log.
        last: Epoch,
    },
    /// The batch is of a later leader than the one that was asked: that one has cut its log and follows
    /// another by now, and what it sent is from the file as it is now.
    #[error("the batch at offset {base} is of epoch {found}, the leader that was asked of {asked}")]
    LaterEpoch {
        /// Its first offset.
        base: Offset,
        /// Its epoch.
        found: Epoch,
        /// The epoch of the leader.
        asked: Epoch,
    },
}

/// What a copy brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copied {
    /// The end of the log now.
    pub end: Offset,
    /// True if a segment was closed.
    pub rolled: bool,
}

impl Log {
    /// Appends whole batches as the leader of epoch `asked` has them: their offsets, epochs and all other
    /// bytes stay. Each must follow the one before. `now_ms` is the time in milliseconds since 1970.
    pub fn append_copies(
        self: &Arc<Log>,
        bytes: &[u8],
        asked: Epoch,
        now_ms: i64,
    ) -> Result<Copied, CopyError> {
        let mut rest = bytes;
        let mut copied = Copied { end: self.end(), rolled: false };
        while !rest.is_empty() {
            let header = whole_batch(rest)?;
            let (batch, behind) = rest.split_at(header.size);
            rest = behind;
            if header.leader_epoch > asked {
                let (base, found) = (header.base_offset, header.leader_epoch);
                return Err(CopyError::LaterEpoch { base, found, asked });
            }
            let placed = |writer: &mut Writer| Ok(self.place_copy(writer, &header, batch, now_ms));
            copied.rolled |= self.writing_with(placed)??;
            copied.end = header.next_offset();
        }
        Ok(copied)
    }

    fn place_copy(
        &self,
        writer: &mut Writer,
        header: &Header,
        bytes: &[u8],
        now_ms: i64,
    ) -> Result<bool, CopyError> {
        let (base, end) = (header.base_offset, self.end());
        if base != end {
            return Err(CopyError::NotNext { base, end });
        }
        let found = header.leader_epoch;
        if let Some((last, _)) = writer.epochs.last()
            && found < *last
        {
            return Err(CopyError::OldEpoch { base, found, last: *last });
        }
        Ok(self.place(writer, PlacedBatch { header, bytes }, now_ms)?)
    }

    /// Throws all records away and begins anew at `start`: the leader has none of them, or none before
    /// `start` any more. On the disk when it returns.
    pub fn begin_anew(self: &Arc<Log>, start: Offset) -> Result<(), TruncateError> {
        self.trim(self.end(), None)?;
        let _turn = self.changing.lock();
        let mut written = self.flushing.lock();
        let mut writer = self.writer.lock();
        if let Some(poisoned) = &writer.poisoned {
            return Err(AppendError::from(poisoned.clone()).into());
        }
        let begun = self.begin_anew_at(&mut writer, &mut written, start);
        begun.inspect_err(|error| writer.poison(&format_args!("beginning anew failed: {error}")))
    }

    fn begin_anew_at(
        &self,
        writer: &mut Writer,
        written: &mut Option<Checkpoint>,
        start: Offset,
    ) -> Result<(), TruncateError> {
        // They tell of records that others may come in the place of.
        self.forget_producers(writer)?;
        if start == self.start() && start == self.end() {
            return Ok(());
        }
        // Then the checkpoint: with it, what is left of the old segments is trimmed at a start.
        self.start.store(start.0, Ordering::Release);
        self.end.store(start.0, Ordering::Release);
        self.synced.store(start.0, Ordering::Release);
        self.high_watermark.store(start.0, Ordering::Release);
        // No record is left that could have one.
        writer.epochs.clear();
        self.write_checkpoint(written, start, Vec::new())?;
        let old = self.segments();
        let (segment, fresh) = Segment::create(&self.store, &self.dir, start, &self.settings())?;
        self.publish_segments(vec![Arc::new(segment)]);
        writer.active = Active::Open(fresh);
        writer.unsynced.clear();
        writer.names_unsynced = false;
        self.store.disk().sync_dir(&self.dir).map_err(DiskError::at("sync", &self.dir))?;
        self.park(writer)?;
        old.iter().try_for_each(|segment| self.remove_segment(segment))?;
        Ok(())
    }
}

/// The header of the batch at the start of `bytes`, which is whole and unchanged.
fn whole_batch(bytes: &[u8]) -> Result<Header, CopyError> {
    let header = Header::parse(bytes)?;
    let (base, size) = (header.base_offset, header.size);
    let batch = bytes.get(..size).ok_or(CopyError::Incomplete { base, size, have: bytes.len() })?;
    let computed = checksum(batch);
    if computed != header.crc {
        return Err(CopyError::Checksum { base, found: header.crc, computed });
    }
    Ok(header)
}
