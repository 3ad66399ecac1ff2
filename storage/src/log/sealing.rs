//! Sealing closed segments, and checking those that are sealed.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Log;
use crate::batch::Header;
use crate::disk::{self, View};
use crate::error::{Corruption, DiskError, SealError};
use crate::recover::{Scan, ScanFrom, Tail, scan_until};
use crate::seal::{Seal, whole_crc};
use crate::segment::Segment;
use crate::{Epoch, Offset, Position};

/// Told how many bytes were read, so that it can wait before more are.
pub type Pace<'a> = &'a mut dyn FnMut(usize);

impl Log {
    /// The segments that are closed and on the disk, oldest first, each with the offset behind it.
    pub(super) fn closed(&self) -> Vec<(Arc<Segment>, Offset)> {
        if self.damaged || self.segments.load().len() < 2 {
            return Vec::new();
        }
        // What a flush has taken to sync it, it has synced, or the log is poisoned.
        let _no_flush = self.flushing.lock();
        let writer = self.writer.lock();
        // One may have been synced before it was closed; then it holds its reservations still.
        let unsynced = writer.unsynced.first().map(|first| first.segment.base());
        let known = |segment: &Segment| unsynced.is_none_or(|first| segment.base() < first);
        let (segments, synced) = (self.segments.load(), self.synced());
        let pairs = segments.windows(2).take_while(|pair| pair[1].base() <= synced);
        let closed = pairs.filter(|pair| known(&pair[0]));
        closed.map(|pair| (pair[0].clone(), pair[1].base())).collect()
    }

    /// The oldest segment that is closed, synced and not sealed.
    pub fn unsealed(&self) -> Option<Arc<Segment>> {
        let mut closed = self.closed().into_iter().map(|(segment, _)| segment);
        closed.find(|segment| segment.seal().is_none() && !segment.is_damaged())
    }

    /// Checks every batch of a closed segment and seals it. An error if it is damaged; it is then
    /// not tried again. False if the segment is not in the log any more, or was sealed meanwhile.
    pub fn seal(&self, segment: &Arc<Segment>, pace: Pace<'_>) -> Result<bool, SealError> {
        let seal = match examine(segment, pace) {
            Err(SealError::Corrupt(_) | SealError::Disk(_)) if segment.is_retired() => {
                return Ok(false);
            }
            done => done?,
        };
        // Nobody cuts the log while this is held.
        let _turn = self.changing.lock();
        let segments = self.segments.load();
        let at = segments.iter().position(|other| Arc::ptr_eq(other, segment));
        let next = at.and_then(|at| segments.get(at + 1)).map(|next| next.base());
        // A compaction's seal says more.
        let sealed = segment.seal().is_some();
        if sealed || next != Some(seal.next) || self.retired.load(Ordering::Acquire) {
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

/// Hands every batch of a closed segment to `each`, which may break it off. An error if one is
/// damaged; the segment is marked as such.
pub(super) fn each_batch<B>(
    segment: &Segment,
    mut each: impl FnMut(&Header, &[u8]) -> ControlFlow<B>,
) -> Result<ControlFlow<B, Scan>, SealError> {
    let view = segment.log()?;
    let from = ScanFrom { position: Position(0), offset: segment.base(), epoch: Epoch(i32::MIN) };
    let found = scan_until(view.as_ref(), from, |_, header, bytes| each(header, bytes));
    let found = match found.map_err(DiskError::at("read", segment.path()))? {
        ControlFlow::Continue(found) => found,
        broken_off => return Ok(broken_off),
    };
    let broken = match &found.tail {
        Tail::Broken { reason, .. } => Some(reason.clone()),
        Tail::Clean if found.end != segment.end() => {
            Some(format!("it ends here, not at byte {}", segment.end()))
        }
        Tail::Clean => None,
    };
    match broken {
        Some(what) => {
            segment.set_damaged();
            Err(segment.corruption(found.end, found.next, what).into())
        }
        None => Ok(ControlFlow::Continue(found)),
    }
}

/// Reads the whole segment; what is found is a seal if every batch is whole.
fn examine(segment: &Segment, pace: Pace<'_>) -> Result<Seal, SealError> {
    let (mut log_crc, mut records, mut batches) = (crc32fast::Hasher::new(), 0, 0);
    let found = each_batch(segment, |header, bytes| {
        log_crc.update(bytes);
        records += u64::from(header.record_count);
        batches += 1;
        pace(bytes.len());
        ControlFlow::<Infallible>::Continue(())
    })?;
    let ControlFlow::Continue(found) = found;
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
        cleaned_to: Offset(0),
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
