//! Finds partitions: in a data directory, a topic's folder, a partition's folder.

use std::path::{Path, PathBuf};

use mk_storage::Offset;
use mk_storage::directory::{LOCK_FILE, META_FILE, PARTITION_FILE};
use mk_storage::disk::{Disk, Entry};
use mk_storage::error::DiskError;
use mk_storage::segment::{LOG, base_of};

use crate::InspectError;

/// A partition's folder and its segments, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFiles {
    /// The folder.
    pub dir: PathBuf,
    /// Base offsets of its segments, increasing. A sound partition has at least one.
    pub bases: Vec<Offset>,
}

/// The partitions at and below `path`, in the order of their paths; partition 2 before 10.
pub fn partitions(disk: &dyn Disk, path: &Path) -> Result<Vec<PartitionFiles>, InspectError> {
    let mut found = Vec::new();
    collect(disk, path, 0, &mut found)?;
    if found.is_empty() {
        let what = "no partition is here; give a data directory, a topic's or a partition's folder";
        return Err(InspectError::NotOurs { path: path.to_owned(), what });
    }
    found.sort_by_key(|partition| sort_key(&partition.dir));
    Ok(found)
}

/// The data directory that `path` is in, if it is in one.
pub fn data_directory(path: &Path) -> Option<PathBuf> {
    let path = path.canonicalize().ok()?;
    // Either tells, should the other be lost.
    let is_data = |dir: &&Path| {
        let is_ours = dir.join(META_FILE).is_file() || dir.join("topics").is_dir();
        is_ours && dir.join(LOCK_FILE).is_file()
    };
    path.ancestors().find(is_data).map(Path::to_owned)
}

/// data / topics / topic / partition is as deep as it goes.
const MOST_DEPTH: usize = 4;

fn collect(
    disk: &dyn Disk,
    dir: &Path,
    depth: usize,
    found: &mut Vec<PartitionFiles>,
) -> Result<(), InspectError> {
    let entries = disk.list(dir).map_err(DiskError::at("list", dir))?;
    let bases: Vec<_> = entries.iter().filter_map(|entry| base_of(&entry.name, LOG)).collect();
    // A folder that says to which topic it belongs is a partition even if its segments are gone.
    if !bases.is_empty() || entries.iter().any(|entry| entry.name == PARTITION_FILE) {
        found.push(PartitionFiles { dir: dir.to_owned(), bases });
        return Ok(());
    }
    let is_data = entries.iter().any(|entry| entry.name == META_FILE);
    let is_trash = |entry: &&Entry| is_data && entry.name == "trash";
    let is_live = |entry: &&Entry| entry.is_dir && !is_trash(entry) && !is_backup(&entry.name);
    for entry in entries.iter().filter(is_live) {
        if depth < MOST_DEPTH {
            collect(disk, &dir.join(&entry.name), depth + 1, found)?;
        }
    }
    Ok(())
}

/// What `repair` calls a partition's backup: beside the partition, where the broker looks for numbers
/// alone.
pub fn backup_name(partition: &str, time: &str) -> String {
    format!("{partition}{BACKUP}{time}")
}

const BACKUP: &str = ".backup-";

fn is_backup(name: &str) -> bool {
    name.split_once(BACKUP).is_some_and(|(partition, _)| !partition.is_empty())
}

fn sort_key(dir: &Path) -> (PathBuf, u64, PathBuf) {
    let number = dir.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    let parent = dir.parent().unwrap_or(dir).to_owned();
    (parent, number.unwrap_or(u64::MAX), dir.to_owned())
}
