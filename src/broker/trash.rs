//! The folder of what was deleted: topics and segments lie there for a while, for whoever wants them
//! back.

use std::path::{Path, PathBuf};

use mk_storage::disk::Disk;
use tracing::{info, warn};
use uuid::Uuid;

use crate::clock::now_ms;

/// Characters of a topic's name that a name in the trash has: a file system takes 255 bytes, and a
/// topic's name may have 249 of them.
const NAME_CHARS: usize = 180;

/// A place for what is deleted now: `NAME.MILLISECONDS.UUID`, never the same twice.
pub fn place(trash: &Path, name: &str) -> PathBuf {
    let start = &name[..name.floor_char_boundary(NAME_CHARS)];
    trash.join(format!("{start}.{}.{}", now_ms(), Uuid::new_v4().simple()))
}

/// Removes for good what was deleted `delay_ms` ago or longer, and what has no name of ours.
pub fn empty(disk: &dyn Disk, trash: &Path, delay_ms: u64) {
    // Without deletions there is no such folder.
    for entry in disk.list(trash).unwrap_or_default() {
        let deleted_ms = deleted_ms(&entry.name).unwrap_or(0);
        if now_ms().saturating_sub(deleted_ms) < delay_ms as i64 {
            continue;
        }
        let path = trash.join(&entry.name);
        match disk.remove_dir(&path) {
            Ok(()) => info!(path = %path.display(), "what was deleted is removed"),
            Err(error) => {
                warn!(path = %path.display(), %error, "what was deleted could not be removed");
            }
        }
    }
}

fn deleted_ms(name: &str) -> Option<i64> {
    let (rest, _uuid) = name.rsplit_once('.')?;
    rest.rsplit_once('.')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use mk_storage::disk::MemoryDisk;

    use super::*;

    #[test]
    fn what_was_deleted_stays_for_a_while() {
        let disk = MemoryDisk::new();
        let trash = Path::new("trash");
        empty(&disk, trash, 0);
        let fresh = place(trash, &"x".repeat(249));
        assert!(fresh.file_name().unwrap().len() <= 255);
        let long_ago = trash.join("orders.1000.0123");
        for dir in [&fresh, &long_ago, &trash.join("of another name")] {
            disk.create_dir(dir).unwrap();
        }
        empty(&disk, trash, 60_000);
        let left: Vec<_> = disk.list(trash).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(left, [fresh.file_name().unwrap().to_str().unwrap()]);
        empty(&disk, trash, 0);
        assert_eq!(disk.list(trash).unwrap(), []);
    }
}
