//! Putting a compacted segment in the place of those that it was made of, so that a crash at any
//! moment leaves the old ones or the new one.
//!
//! The new one is on the disk as `<base>.log.cleaned`. Renamed to `<base>.log.swap` it is valid: from
//! then on a start finishes what was begun. The old ones are removed, the newest first, and only
//! when their names are gone for good the new one gets the name of the first of them.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::CompactError;
use super::output::Cleaned;
use crate::disk::{Disk, Entry};
use crate::error::DiskError;
use crate::log::Log;
use crate::mend::remove;
use crate::recover::{ScanFrom, Tail, scan};
use crate::safeguard::{Safeguard, holds};
use crate::seal::Seal;
use crate::segment::{ENDINGS, LOG, OFFSET_INDEX, SEAL, Segment, TIME_INDEX, base_of, file_name};
use crate::{Epoch, Offset, Position};

/// Endings of the files of a segment that is being written: of no worth after a crash.
pub(super) const CLEANED_LOG: &str = "log.cleaned";
pub(super) const CLEANED_OFFSETS: &str = "index.cleaned";
pub(super) const CLEANED_TIMES: &str = "timeindex.cleaned";
/// Ending of a segment that is whole, and takes the place of those whose offsets it has.
const SWAP_LOG: &str = "log.swap";

impl Log {
    /// Puts the segment in the place of the group that it was made of, unless that is not in the log
    /// any more, and answers whether to go on.
    ///
    /// If the disk fails half way the log takes nothing more: a start knows what to do.
    pub(super) fn swap(
        &self,
        group: &[Arc<Segment>],
        cleaned: Cleaned,
    ) -> Result<ControlFlow<()>, CompactError> {
        // Nobody cuts, trims or seals the log while this is held.
        let _turn = self.changing.lock();
        if !self.has(group, cleaned.seal.next) {
            return Ok(ControlFlow::Break(()));
        }
        self.put_in_place(group, cleaned).map(ControlFlow::Continue).map_err(|error| {
            self.writer.lock().poison(&format_args!("a compaction failed: {error}"));
            error.into()
        })
    }

    /// Seals a segment of which nothing had to go, and answers whether to go on.
    pub(super) fn reseal(
        &self,
        segment: &Arc<Segment>,
        seal: Seal,
    ) -> Result<ControlFlow<()>, CompactError> {
        let _turn = self.changing.lock();
        if !self.has(std::slice::from_ref(segment), seal.next) {
            return Ok(ControlFlow::Break(()));
        }
        let written = seal.write(self.store.disk(), &self.dir);
        written.map_err(DiskError::at("write the seal of", segment.path()))?;
        segment.set_seal(seal);
        Ok(ControlFlow::Continue(()))
    }

    /// True if these neighbours are in the log still, followed by the segment at `next`.
    fn has(&self, group: &[Arc<Segment>], next: Offset) -> bool {
        let segments = self.segments.load();
        let first = group.first();
        let at = segments.iter().position(|there| first.is_some_and(|it| Arc::ptr_eq(it, there)));
        let follows = at.is_some_and(|at| {
            let there = segments.iter().skip(at).zip(group);
            let same = there.filter(|(there, it)| Arc::ptr_eq(there, it)).count() == group.len();
            same && segments.get(at + group.len()).is_some_and(|behind| behind.base() == next)
        });
        follows && !self.retired.load(Ordering::Acquire)
    }

    fn put_in_place(&self, group: &[Arc<Segment>], cleaned: Cleaned) -> Result<(), DiskError> {
        let Cleaned { seal, state } = cleaned;
        let (disk, dir, base) = (self.store.disk(), self.dir.as_path(), seal.base);
        let name = |ending| dir.join(file_name(base, ending));
        let rename = |from, to| {
            disk.rename(&name(from), &name(to)).map_err(DiskError::at("rename", &name(from)))
        };
        rename(CLEANED_LOG, SWAP_LOG)?;
        if holds(Safeguard::SyncSwap) {
            sync_names(disk, dir)?;
        }
        let entries = (seal.offset_entries, seal.time_entries);
        let fresh = Arc::new(Segment::open(&self.store, dir, base, &state, entries));
        // Readers have it before it has its name.
        fresh.lend([name(SWAP_LOG), name(CLEANED_OFFSETS), name(CLEANED_TIMES)])?;
        {
            // The lock keeps a roll from publishing a list in between.
            let _writer = self.writer.lock();
            let segments = self.segments();
            let others =
                |segment: &&Arc<Segment>| segment.base() < base || segment.base() >= seal.next;
            let mut segments: Vec<_> = segments.iter().filter(others).cloned().collect();
            let at = segments.partition_point(|segment| segment.base() < base);
            segments.insert(at, fresh.clone());
            self.publish_segments(segments);
        }
        group.iter().for_each(|segment| segment.retire());
        settle(disk, dir, base, seal.next)?;
        rename(CLEANED_OFFSETS, OFFSET_INDEX)?;
        rename(CLEANED_TIMES, TIME_INDEX)?;
        // Syncs the names of the indexes, too; what is in them was synced when they were written.
        seal.write(disk, dir).map_err(DiskError::at("write the seal of", fresh.path()))?;
        fresh.set_seal(seal);
        fresh.take_back();
        Ok(())
    }
}

/// Finishes what a crash has interrupted, and removes what came to nothing; answers what is in the
/// folder then. A segment that is not whole takes nobody's place, and stays to be looked at.
pub(crate) fn finish_swaps(disk: &dyn Disk, dir: &Path) -> Result<Vec<Entry>, DiskError> {
    let list = || disk.list(dir).map_err(DiskError::at("list", dir));
    let found = list()?;
    let mut changed = false;
    for name in found.iter().map(|entry| entry.name.as_str()) {
        if let Some(base) = base_of(name, SWAP_LOG) {
            changed = true;
            finish_swap(disk, dir, base)?;
        }
        let cleaned = [CLEANED_LOG, CLEANED_OFFSETS, CLEANED_TIMES];
        if cleaned.iter().any(|ending| base_of(name, ending).is_some()) {
            remove(disk, &dir.join(name))?;
        }
    }
    if changed { list() } else { Ok(found) }
}

fn finish_swap(disk: &dyn Disk, dir: &Path, base: Offset) -> Result<(), DiskError> {
    let path = dir.join(file_name(base, SWAP_LOG));
    let view = disk.view(&path).map_err(DiskError::at("open", &path))?;
    let from = ScanFrom { position: Position(0), offset: base, epoch: Epoch(i32::MIN) };
    let found = scan(view.as_ref(), from, |_, _, _| {}).map_err(DiskError::at("read", &path))?;
    match found.tail {
        Tail::Clean if found.next > base => settle(disk, dir, base, found.next),
        _ => Ok(()),
    }
}

/// Removes the segments whose offsets `base..next` the new one has, and gives it its name.
fn settle(disk: &dyn Disk, dir: &Path, base: Offset, next: Offset) -> Result<(), DiskError> {
    let names = disk.list(dir).map_err(DiskError::at("list", dir))?;
    let bases = names.iter().filter_map(|entry| base_of(&entry.name, LOG));
    let replaced: Vec<_> = bases.filter(|other| *other > base && *other < next).collect();
    // The names are sorted, and the last goes first.
    for other in replaced.into_iter().rev() {
        for ending in ENDINGS {
            remove(disk, &dir.join(file_name(other, ending)))?;
        }
    }
    for ending in [SEAL, OFFSET_INDEX, TIME_INDEX] {
        remove(disk, &dir.join(file_name(base, ending)))?;
    }
    if holds(Safeguard::SyncRemovals) {
        sync_names(disk, dir)?;
    }
    let from = dir.join(file_name(base, SWAP_LOG));
    let renamed = disk.rename(&from, &dir.join(file_name(base, LOG)));
    renamed.map_err(DiskError::at("rename", &from))?;
    sync_names(disk, dir)
}

fn sync_names(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    disk.sync_dir(dir).map_err(DiskError::at("sync", dir))
}
