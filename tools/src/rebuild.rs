//! `mkinspect index rebuild`: writes the indexes anew from the batches.

use mk_storage::Offset;
use mk_storage::directory;
use mk_storage::disk::Disk;
use mk_storage::error::DiskError;
use mk_storage::log::{LogSettings, RebuiltIndexes, rebuild_indexes};
use mk_storage::mend;
use mk_storage::seal::Seal;
use mk_storage::segment::{LOG, SEAL, file_name};

use crate::InspectError;
use crate::find::{PartitionFiles, data_directory};

/// A segment whose indexes were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebuilt {
    /// First offset of the segment.
    pub base: Offset,
    /// What they have now.
    pub indexes: RebuiltIndexes,
}

/// Writes all indexes of a partition. Refuses if a broker runs on its data directory.
pub fn partition(
    disk: &dyn Disk,
    files: &PartitionFiles,
    index_interval_bytes: u64,
) -> Result<Vec<Rebuilt>, InspectError> {
    if let Some(data) = data_directory(&files.dir)
        && directory::is_locked(&data)
    {
        return Err(InspectError::Locked { path: data });
    }
    // Their segments are to be indexed, and not those whose place they take.
    mend::finish_swaps(disk, &files.dir)?;
    let files = &files.again(disk)?;
    let settings = LogSettings { index_interval_bytes, ..LogSettings::default() };
    let last = files.bases.len().saturating_sub(1);
    let rebuilt = files.bases.iter().enumerate().map(|(at, &base)| {
        let indexes = rebuild_indexes(disk, &files.dir, base, &settings, at < last)?;
        unseal_if_other(disk, files, base)?;
        Ok(Rebuilt { base, indexes })
    });
    rebuilt.collect()
}

/// Removes the seal of a segment whose indexes are not those that were sealed; the broker seals it
/// again. One that speaks of another log stays, for `verify` to tell of.
fn unseal_if_other(
    disk: &dyn Disk,
    files: &PartitionFiles,
    base: Offset,
) -> Result<(), InspectError> {
    let path = files.dir.join(file_name(base, SEAL));
    let seal = Seal::read(disk, &files.dir, base).map_err(DiskError::at("read", &path))?;
    let Some(seal) = seal else { return Ok(()) };
    match seal.mismatch(disk, &files.dir)? {
        Some(found) if found.file != files.dir.join(file_name(base, LOG)) => {
            Ok(mend::remove(disk, &path)?)
        }
        _ => Ok(()),
    }
}
