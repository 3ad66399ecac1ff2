//! Files and logs to measure with, each in a directory of its own that goes with it.

use std::fs::{File, OpenOptions};
use std::sync::Arc;

use memmap2::MmapMut;
use mk_storage::disk::Disk;
use mk_storage::log::{Log, LogSettings};
use mk_storage::store::{OpenLimits, Store};
use tempfile::TempDir;

/// An empty file whose blocks are reserved, as those of a log are: a limit must not pay for what
/// ours does not pay for.
pub struct Reserved {
    pub file: File,
    _root: TempDir,
}

impl Reserved {
    pub fn new(bytes: u64) -> Reserved {
        let root = tempfile::tempdir().unwrap();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(root.path().join("file"))
            .unwrap();
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes).unwrap();
        Reserved { file, _root: root }
    }

    /// A map of the file. Its pages come in as they are stored to.
    #[allow(unsafe_code, reason = "a bench has to map what storage maps, without storage")]
    pub fn map(&self) -> MmapMut {
        // SAFETY: the file is in a directory of this process's own, and nobody else has it open.
        unsafe { MmapMut::map_mut(&self.file).unwrap() }
    }
}

/// A new log.
pub struct FreshLog {
    pub log: Arc<Log>,
    pub root: TempDir,
}

impl FreshLog {
    pub fn new(disk: &Arc<dyn Disk>) -> FreshLog {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(disk.clone(), OpenLimits::default());
        let log = Log::open(&store, root.path(), LogSettings::default(), 0).unwrap().0;
        FreshLog { log, root }
    }
}
