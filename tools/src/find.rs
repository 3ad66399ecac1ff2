//! Finds partitions: in a data directory, a topic's folder, a partition's folder.

use std::path::{Path, PathBuf};

use mk_storage::Offset;
use mk_storage::directory::{LOCK_FILE, META_FILE, PARTITION_FILE};
use mk_storage::disk::{Disk, Entry};
use mk_storage::error::DiskError;
use mk_storage::segment::{LOG, base_of, file_name};

use crate::InspectError;
use crate::unfinished::Unfinished;

/// A partition's folder and its segments, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionFiles {
    /// The folder.
    pub dir: PathBuf,
    /// Base offsets of its segments, increasing, as they are once an interrupted compaction is
    /// finished. A sound partition has at least one.
    pub bases: Vec<Offset>,
    /// What an interrupted compaction has left.
    pub unfinished: Unfinished,
}

impl PartitionFiles {
    /// The file that has the batches of the segment at `base`.
    pub fn log(&self, base: Offset) -> PathBuf {
        let swap = self.unfinished.swap(base).map(|swap| swap.path(&self.dir));
        swap.unwrap_or_else(|| self.dir.join(file_name(base, LOG)))
    }

    /// True if the segment's indexes and seal speak of it, and not of one whose place it takes.
    pub fn has_indexes(&self, base: Offset) -> bool {
        self.unfinished.swap(base).is_none()
    }

    /// The partition as it is now.
    pub fn again(&self, disk: &dyn Disk) -> Result<PartitionFiles, InspectError> {
        let entries = disk.list(&self.dir).map_err(DiskError::at("list", &self.dir))?;
        Ok(PartitionFiles::of(disk, &self.dir, &entries)?)
    }

    /// What these names in its folder are.
    fn of(disk: &dyn Disk, dir: &Path, entries: &[Entry]) -> Result<PartitionFiles, DiskError> {
        let unfinished = Unfinished::of(disk, dir, entries)?;
        let bases = entries.iter().filter_map(|entry| base_of(&entry.name, LOG)).collect();
        let bases = unfinished.finish(bases);
        Ok(PartitionFiles { dir: dir.to_owned(), bases, unfinished })
    }
}

/// Looks at a partition, and at what has become of it if a file was gone: a broker that runs takes
/// segments away, and puts compacted ones in their place.
pub fn look<T>(
    disk: &dyn Disk,
    files: &PartitionFiles,
    look: impl Fn(&PartitionFiles) -> Result<T, InspectError>,
) -> Result<T, InspectError> {
    let mut found = look(files);
    for _ in 1..MOST_LOOKS {
        match found {
            Err(error) if error.is_missing_file() => found = look(&files.again(disk)?),
            done => return done,
        }
    }
    found
}

/// Most often that the folder of a broker that runs is looked at.
const MOST_LOOKS: usize = 5;

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
    // A folder that says to which topic it belongs is a partition even if its segments are gone.
    let is_ours =
        |entry: &Entry| entry.name == PARTITION_FILE || base_of(&entry.name, LOG).is_some();
    if entries.iter().any(is_ours) {
        found.push(PartitionFiles::of(disk, dir, &entries)?);
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
