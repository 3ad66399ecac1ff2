//! Room that records may not take: what a broker with a full disk needs to go on: checkpoints,
//! topic files, deletions and a clean stop.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{error, info};

/// Watches over the room that is left on a disk.
#[derive(Debug, Default)]
pub(super) struct Room {
    reserve_bytes: u64,
    /// True from the first refusal until there is a little more room than is needed: a disk at its
    /// limit would be full and not full many times a second otherwise.
    full: AtomicBool,
}

impl Room {
    pub fn keeping(reserve_bytes: u64) -> Room {
        Room { reserve_bytes, full: AtomicBool::new(false) }
    }

    /// An error if `bytes` more in this file would leave less than the reserve.
    pub fn take(&self, file: &File, bytes: u64) -> io::Result<()> {
        if self.reserve_bytes == 0 {
            return Ok(());
        }
        let stat = rustix::fs::fstatvfs(file)?;
        self.decide(stat.f_bavail.saturating_mul(stat.f_frsize), bytes)
    }

    fn decide(&self, free: u64, bytes: u64) -> io::Result<()> {
        let was_full = self.full.load(Ordering::Relaxed);
        let margin = if was_full { self.reserve_bytes / 8 } else { 0 };
        let needed = self.reserve_bytes.saturating_add(margin).saturating_add(bytes);
        let is_full = free < needed;
        if is_full != was_full && self.full.swap(is_full, Ordering::Relaxed) != is_full {
            let kept = self.reserve_bytes;
            match is_full {
                true => error!(free, kept, "the disk is full: no more records are taken"),
                false => info!(free, kept, "the disk has room again: records are taken"),
            }
        }
        if !is_full {
            return Ok(());
        }
        let what = format!(
            "{free} bytes are free on the disk, of which {} are kept (log.disk.reserve.bytes)",
            self.reserve_bytes
        );
        Err(io::Error::new(io::ErrorKind::StorageFull, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_full_until_there_is_some_more_room() {
        let room = Room::keeping(800);
        room.decide(1000, 200).unwrap();
        let error = room.decide(999, 200).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("999 bytes are free"), "{error}");
        assert!(room.decide(1000, 200).is_err(), "only just");
        room.decide(1100, 200).unwrap();
        room.decide(1000, 200).unwrap();
    }
}
