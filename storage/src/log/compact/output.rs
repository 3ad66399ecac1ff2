//! The segment that a compaction writes: whole, synced, and not yet in the log.

use std::path::PathBuf;

use super::CompactError;
use super::swap::{CLEANED_LOG, CLEANED_OFFSETS, CLEANED_TIMES};
use crate::batch::{Header, emptied, empty, extend};
use crate::disk::{Appender, Pace};
use crate::error::DiskError;
use crate::log::survey::Survey;
use crate::log::{Log, LogSettings};
use crate::mend::remove;
use crate::safeguard::{Safeguard, holds};
use crate::seal::Seal;
use crate::segment::{SegmentState, file_name};
use crate::{Epoch, Offset, Position};

/// Takes the batches of some segments, one behind the other, without a hole between them.
pub(super) struct Output<'a> {
    log: &'a Log,
    base: Offset,
    file: Box<dyn Appender>,
    path: PathBuf,
    survey: Survey,
    crc: crc32fast::Hasher,
    records: u64,
    batches: u64,
    /// The last batch, which may come to stand for offsets behind it.
    pending: Option<Pending>,
    /// True if it is not the batches that were read.
    changed: bool,
}

struct Pending {
    header: Header,
    bytes: Vec<u8>,
    /// Last offset that it stands for.
    last: Offset,
}

/// A segment that is whole and on the disk, under other names than its own.
pub(super) struct Cleaned {
    pub seal: Seal,
    pub state: SegmentState,
}

/// As much is reserved at a time as a busy log reserves; what is too much is given back.
fn pace(settings: &LogSettings) -> Pace {
    Pace { first: 64 << 10, most: 16 << 20, limit: settings.segment_bytes }
}

impl<'a> Output<'a> {
    /// Begins a segment at `base`.
    pub fn create(log: &'a Log, base: Offset) -> Result<Output<'a>, DiskError> {
        remove_cleaned(log, base)?;
        let settings = log.settings();
        let path = log.dir.join(file_name(base, CLEANED_LOG));
        let file = log.store.disk().create(&path, pace(&settings));
        let file = file.map_err(DiskError::at("create", &path))?;
        Ok(Output {
            log,
            base,
            file,
            path,
            survey: Survey::nothing(base, &settings),
            crc: crc32fast::Hasher::new(),
            records: 0,
            batches: 0,
            pending: None,
            changed: false,
        })
    }

    /// Where the next batch goes, at least.
    pub fn end(&self) -> Position {
        Position(self.file.end())
    }

    /// True if a record was left out, or a batch written anew.
    pub fn is_changed(&self) -> bool {
        self.changed
    }

    /// Takes what stays of a batch.
    pub fn replace(&mut self, header: Header, bytes: &[u8]) -> Result<(), CompactError> {
        self.changed = true;
        self.keep(header, bytes)
    }

    /// Takes a batch as it is.
    pub fn keep(&mut self, header: Header, bytes: &[u8]) -> Result<(), CompactError> {
        let mut buffer = self.write_pending()?.unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(bytes);
        self.pending = Some(Pending { last: header.last_offset(), header, bytes: buffer });
        Ok(())
    }

    /// Takes a batch without its records.
    pub fn empty(&mut self, header: &Header) -> Result<(), CompactError> {
        // An earlier compaction may have left just this.
        self.changed |= header.record_count > 0;
        let (header, bytes) = emptied(header);
        self.keep(header, &bytes)
    }

    /// Takes the offsets of a batch of which no record stays: the batch before stands for them. A
    /// producer's last sequence number is told by the offsets of its batch, and an epoch's start by
    /// that of its first: then it is an empty batch that does.
    pub fn leave_out(&mut self, header: &Header) -> Result<(), CompactError> {
        let epoch = header.leader_epoch;
        match &mut self.pending {
            Some(before) if before.may_stand_for_more(epoch) => {
                self.changed = true;
                before.last = header.last_offset();
            }
            _ => {
                // An earlier compaction may have left just this.
                self.changed |= header.record_count > 0;
                let (header, bytes) = empty(header.base_offset, header.last_offset(), epoch);
                self.keep(header, &bytes)?;
            }
        }
        Ok(())
    }

    /// Ends the segment, of which the records below `cleaned_to` are clean, and has it on the disk.
    pub fn finish(mut self, cleaned_to: Offset) -> Result<Cleaned, CompactError> {
        self.write_pending()?;
        self.survey.times.extend(self.survey.indexer.last_time_entry());
        let synced = self.file.trim().and_then(|()| match holds(Safeguard::SyncCleaned) {
            true => self.file.view().sync(),
            false => Ok(()),
        });
        synced.map_err(DiskError::at("sync", &self.path))?;
        let disk = self.log.store.disk();
        let [offsets, times] = self.survey.encoded(self.base);
        for (ending, bytes) in [(CLEANED_OFFSETS, &offsets), (CLEANED_TIMES, &times)] {
            let path = self.log.dir.join(file_name(self.base, ending));
            disk.write(&path, bytes).map_err(DiskError::at("write", &path))?;
        }
        let state = self.survey.state(i64::MAX);
        let (offset_entries, time_entries) = self.survey.counts();
        let seal = Seal {
            base: self.base,
            next: self.survey.next,
            length: self.survey.end,
            records: self.records,
            batches: self.batches,
            max_timestamp: state.indexer.max_timestamp(),
            epoch: self.survey.epoch,
            cleaned_to: cleaned_to.min(self.survey.next),
            offset_entries,
            time_entries,
            log_crc: self.crc.finalize(),
            offsets_crc: crc32fast::hash(&offsets),
            times_crc: crc32fast::hash(&times),
        };
        Ok(Cleaned { seal, state })
    }

    /// Writes the batch that was held back; answers its buffer.
    fn write_pending(&mut self) -> Result<Option<Vec<u8>>, CompactError> {
        let Some(Pending { header, mut bytes, last }) = self.pending.take() else {
            return Ok(None);
        };
        let position = Position(self.file.end());
        if position.0 + bytes.len() as u64 > i32::MAX as u64 {
            return Err(CompactError::TooLarge { file: self.path.clone() });
        }
        if last != header.last_offset() {
            extend(&mut bytes, &header, last);
        }
        self.file.append(&[&bytes]).map_err(DiskError::at("write", &self.path))?;
        self.crc.update(&bytes);
        self.records += u64::from(header.record_count);
        self.batches += 1;
        let last_offset_delta = (last.0 - header.base_offset.0) as u32;
        self.survey.add(position, &Header { last_offset_delta, ..header });
        Ok(Some(bytes))
    }
}

impl Pending {
    fn may_stand_for_more(&self, epoch: Epoch) -> bool {
        self.header.producer_id == -1 && self.header.leader_epoch == epoch
    }
}

/// Removes what a compaction that came to nothing has left.
pub(super) fn remove_cleaned(log: &Log, base: Offset) -> Result<(), DiskError> {
    for ending in [CLEANED_LOG, CLEANED_OFFSETS, CLEANED_TIMES] {
        remove(log.store.disk(), &log.dir.join(file_name(base, ending)))?;
    }
    Ok(())
}
