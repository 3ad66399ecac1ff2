//! Mending the files of a log that nobody has open, one step at a time. Which steps, and whether
//! records may be given up, is for the caller to know; a step that is done twice does no harm.
//!
//! To cut a log, write [`Checkpoint::cut_to`] first, then take the segments behind the cut away, the
//! last first, then cut: so whatever a crash leaves is a log with a torn tail.

use std::path::Path;

use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, Pace};
use crate::error::DiskError;
use crate::log::{self, LogSettings, RebuiltIndexes, rebuild_indexes};
use crate::segment::{LOG, OFFSET_INDEX, SEAL, TIME_INDEX, file_name};
use crate::{Offset, Position};

/// Finishes what an interrupted compaction has begun, as a start does: a whole `.log.swap` takes the
/// place of the segments whose offsets it has, without indexes and seal; leftovers are removed.
pub fn finish_swaps(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    log::finish_swaps(disk, dir).map(drop)
}

/// Makes the segment at `base` the last one, which ends at byte `end`: it has no seal, and indexes of
/// what is left.
pub fn end_in(
    disk: &dyn Disk,
    dir: &Path,
    base: Offset,
    end: Position,
    settings: &LogSettings,
) -> Result<RebuiltIndexes, DiskError> {
    remove(disk, &dir.join(file_name(base, SEAL)))?;
    let path = dir.join(file_name(base, LOG));
    disk.append_to(&path, end.0, Pace::NONE).map_err(DiskError::at("cut", &path))?;
    let rebuilt = rebuild_indexes(disk, dir, base, settings, false)?;
    sync_names(disk, dir)?;
    Ok(rebuilt)
}

/// Makes an empty segment at `base`, for a log of which none is left.
pub fn begin_at(disk: &dyn Disk, dir: &Path, base: Offset) -> Result<(), DiskError> {
    remove(disk, &dir.join(file_name(base, SEAL)))?;
    for ending in [OFFSET_INDEX, TIME_INDEX, LOG] {
        let path = dir.join(file_name(base, ending));
        disk.write(&path, b"").map_err(DiskError::at("make", &path))?;
    }
    sync_names(disk, dir)
}

/// Removes a file, if it is there.
pub fn remove(disk: &dyn Disk, path: &Path) -> Result<(), DiskError> {
    match disk.remove(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(DiskError::at("remove", path)),
    }
}

/// Syncs all segments and then writes the checkpoint that vouches for them. They must have been
/// checked.
pub fn vouch(
    disk: &dyn Disk,
    dir: &Path,
    bases: &[Offset],
    checkpoint: &Checkpoint,
) -> Result<(), DiskError> {
    for &base in bases {
        for ending in [LOG, OFFSET_INDEX, TIME_INDEX] {
            let path = dir.join(file_name(base, ending));
            // A read may have come from pages that an earlier, failed sync left marked as clean.
            let length = disk.length(&path).map_err(DiskError::at("read", &path))?;
            disk.rewrite(&path, 0, length).map_err(DiskError::at("write again", &path))?;
            let view = disk.view(&path).map_err(DiskError::at("open", &path))?;
            view.sync().map_err(DiskError::at("sync", &path))?;
        }
    }
    sync_names(disk, dir)?;
    write_checkpoint(disk, dir, checkpoint)
}

/// Puts this checkpoint in the place of the one in `dir`.
pub fn write_checkpoint(
    disk: &dyn Disk,
    dir: &Path,
    checkpoint: &Checkpoint,
) -> Result<(), DiskError> {
    checkpoint.write(disk, dir).map_err(DiskError::at("write the checkpoint in", dir))
}

fn sync_names(disk: &dyn Disk, dir: &Path) -> Result<(), DiskError> {
    disk.sync_dir(dir).map_err(DiskError::at("sync", dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;
    use crate::batch::{BatchBuilder, CheckedBatch, Compression, RecordFields, TimestampType};
    use crate::disk::MemoryDisk;
    use crate::log::Log;
    use crate::store::{OpenLimits, Store};
    use std::sync::Arc;

    const SETTINGS: LogSettings = LogSettings {
        segment_bytes: 1000,
        segment_ms: i64::MAX,
        index_interval_bytes: 200,
        timestamp_type: TimestampType::CreateTime,
    };

    fn reopened(disk: &MemoryDisk) -> Arc<Log> {
        let store = Store::new(Arc::new(disk.clone()), OpenLimits::default());
        Log::open(&store, Path::new("p"), SETTINGS, 0).unwrap().0
    }

    #[test]
    fn a_synced_log_that_is_cut_by_these_steps_opens_and_so_it_does_after_each() {
        let disk = MemoryDisk::new();
        let log = reopened(&disk);
        for n in 0..20 {
            let mut builder = BatchBuilder::new(Compression::None);
            let value = [b'v'; 100];
            let fields = RecordFields { value: Some(&value), ..Default::default() };
            builder.push(crate::Timestamp(n), &fields);
            let bytes = builder.finish().unwrap();
            log.append(&CheckedBatch::check(&bytes, 1 << 20).unwrap(), Epoch(0), 0).unwrap();
        }
        log.close().unwrap();
        let bases: Vec<_> = log.segments().iter().map(|segment| segment.base()).collect();
        let size = log.segments()[0].end().0 / (bases[1].0 - bases[0].0);
        drop(log);
        let dir = Path::new("p");
        let keep = bases[1];
        let end = keep.plus(2);
        let lowered = Checkpoint::read(&disk, dir).unwrap().unwrap().cut_to(end);
        assert_eq!(lowered.recovery_point, end);
        write_checkpoint(&disk, dir, &lowered).unwrap();
        assert_eq!(reopened(&disk).end(), Offset(20), "whole records are not cut by a start");
        write_checkpoint(&disk, dir, &lowered).unwrap();
        for base in bases[2..].iter().rev() {
            for ending in crate::segment::ENDINGS {
                remove(&disk, &dir.join(file_name(*base, ending))).unwrap();
            }
        }
        assert_eq!(reopened(&disk).end(), bases[2]);
        end_in(&disk, dir, keep, Position(2 * size), &SETTINGS).unwrap();
        assert_eq!(reopened(&disk).end(), end);
    }

    #[test]
    fn a_log_without_a_segment_begins_where_it_is_told_to() {
        let disk = MemoryDisk::new();
        let dir = Path::new("p");
        begin_at(&disk, dir, Offset(77)).unwrap();
        let at = Offset(77);
        let checkpoint =
            Checkpoint { recovery_point: at, log_start: at, high_watermark: at, epochs: vec![] };
        vouch(&disk, dir, &[at], &checkpoint).unwrap();
        let log = reopened(&disk);
        assert_eq!((log.start(), log.end()), (at, at));
    }
}
