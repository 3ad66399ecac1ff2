//! Sealing closed segments, and checking those that are sealed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use crate::disk::{self, View};
use crate::error::{Corruption, DiskError, SealError};
use crate::recover::{ScanFrom, Tail, scan};
use crate::seal::{Seal, whole_crc};
use crate::segment::Segment;
use crate::{Epoch, Position};

/// Told how many bytes were read, so that it can wait before more are.
pub type Pace<'a> = &'a mut dyn FnMut(usize);

impl Log {
    /// The oldest segment that is closed, synced and not sealed.
    pub fn unsealed(&self) -> Option<Arc<Segment>> {
        if self.damaged {
            return None;
        }
        let segments = self.segments.load();
        let synced = self.synced();
        let may_be = |pair: &&[Arc<Segment>]| {
            pair[1].base() <= synced && pair[0].seal().is_none() && !pair[0].is_damaged()
        };
        let found = segments.windows(2).find(may_be)?[0].clone();
        // It may have been synced before it was closed; then it holds its reservations still.
        let unsynced = &self.writer.lock().unsynced;
        unsynced.iter().all(|other| other.segment.base() != found.base()).then_some(found)
    }

    /// Checks every batch of a closed segment and seals it. An error if it is damaged; it is then
    /// not tried again. False if the segment is not in the log any more.
    pub fn seal(&self, segment: &Arc<Segment>, pace: Pace<'_>) -> Result<bool, SealError> {
        let seal = match examine(segment, pace) {
            Err(SealError::Corrupt(_) | SealError::Disk(_)) if segment.is_retired() => {
                return Ok(false);
            }
            done => done.inspect_err(|error| {
                if let SealError::Corrupt(_) = error {
                    segment.set_damaged();
                }
            })?,
        };
        // Nobody cuts the log while this is held.
        let _turn = self.flushing.lock();
        let segments = self.segments.load();
        let at = segments.iter().position(|other| Arc::ptr_eq(other, segment));
        let next = at.and_then(|at| segments.get(at + 1)).map(|next| next.base());
        if next != Some(seal.next) || self.retired.load(Ordering::Acquire) {
            return Ok(false);
        }
        let store = self.store();
        seal.write(store.disk(), &self.dir)
            .map_err(DiskError::at("write the seal of", segment.path()))?;
        segment.set_seal(seal);
        Ok(true)
    }

    /// Checks the files of a sealed segment against their seal.
    pub fn check_seal(&self, segment: &Arc<Segment>, pace: Pace<'_>) -> Result<(), SealError> {
        let Some(seal) = segment.seal() else { return Ok(()) };
        match compare(segment, &seal, pace) {
            // Taken out of the log meanwhile.
            Err(_) if segment.is_retired() => Ok(()),
            Err(SealError::Corrupt(corruption)) => {
                segment.set_damaged();
                Err(SealError::Corrupt(corruption))
            }
            done => done,
        }
    }
}

/// Reads the whole segment; what is found is a seal if every batch is whole.
fn examine(segment: &Segment, pace: Pace<'_>) -> Result<Seal, SealError> {
    let view = segment.log()?;
    let (mut log_crc, mut records, mut batches) = (crc32fast::Hasher::new(), 0, 0);
    let from = ScanFrom { position: Position(0), offset: segment.base(), epoch: Epoch(i32::MIN) };
    let found = scan(view.as_ref(), from, |_, header, bytes| {
        log_crc.update(bytes);
        records += u64::from(header.record_count);
        batches += 1;
        pace(bytes.len());
    });
    let found = found.map_err(DiskError::at("read", segment.path()))?;
    if let Tail::Broken { reason, .. } = found.tail {
        return Err(segment.corruption(found.end, found.next, reason).into());
    }
    if found.end != segment.end() {
        let what = format!("it ends here, not at byte {}", segment.end());
        return Err(segment.corruption(found.end, found.next, what).into());
    }
    let crc = |view: Arc<dyn View>, length: u64| -> std::io::Result<u32> {
        let mut bytes = vec![0; length as usize];
        let read = disk::read_fully(view.as_ref(), 0, &mut bytes)?;
        bytes.truncate(read);
        Ok(crc32fast::hash(&bytes))
    };
    let (offsets, times) = segment.indexes();
    let crcs = offsets.file().view().and_then(|offsets_view| {
        let times_view = times.file().view()?;
        Ok((crc(offsets_view, offsets.bytes())?, crc(times_view, times.bytes())?))
    });
    let (offsets_crc, times_crc) =
        crcs.map_err(DiskError::at("read the indexes of", segment.path()))?;
    Ok(Seal {
        base: segment.base(),
        next: found.next,
        length: found.end,
        records,
        batches,
        max_timestamp: segment.max_timestamp(),
        epoch: found.epoch,
        offset_entries: offsets.count(),
        time_entries: times.count(),
        log_crc: log_crc.finalize(),
        offsets_crc,
        times_crc,
    })
}

fn compare(segment: &Segment, seal: &Seal, pace: Pace<'_>) -> Result<(), SealError> {
    let (offsets, times) = segment.indexes();
    let indexes = [(offsets.file(), seal.offsets_crc), (times.file(), seal.times_crc)];
    for (file, expected) in indexes {
        let found = file.view().and_then(|view| whole_crc(view.as_ref(), pace));
        let found = found.map_err(DiskError::at("read", file.path()))?;
        if found != expected {
            let what = format!("CRC-32 of the file is {found:#010x}, sealed as {expected:#010x}");
            let (position, offset) = (Position(0), segment.base());
            return Err(Corruption { file: file.path().to_owned(), position, offset, what }.into());
        }
    }
    let found = whole_crc(segment.log()?.as_ref(), pace);
    let found = found.map_err(DiskError::at("read", segment.path()))?;
    if found == seal.log_crc {
        return Ok(());
    }
    // Where it is damaged, a scan tells; unless the bytes changed together with their checksums.
    examine(segment, pace)?;
    let what = format!("CRC-32 of the file is {found:#010x}, sealed as {:#010x}", seal.log_crc);
    Err(segment.corruption(Position(0), segment.base(), what).into())
}
