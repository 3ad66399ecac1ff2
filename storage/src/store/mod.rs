//! What the logs of a data directory share: the disk, and how much of it is open at once.
//!
//! A broker has thousands of partitions, and most of them are quiet. A quiet one holds no file and
//! no map: its files are opened when somebody reads or appends, and closed when nobody has for a
//! while, or when others need their place. Callers see nothing of it.

mod file;
mod ring;

use std::sync::Arc;

pub(crate) use file::SharedFile;
pub(crate) use ring::{Effort, Reopens, Ring};

use crate::disk::Disk;
use crate::log::Log;

/// What the logs of a data directory share.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    files: Ring<SharedFile>,
    logs: Ring<Log>,
}

/// How much may be open at once. Both may be exceeded for moments, by what is in use.
#[derive(Clone, Copy, Debug)]
pub struct OpenLimits {
    /// Files that are open for reading.
    pub files: usize,
    /// Logs that are open for appending: up to three files and four maps each.
    pub logs: usize,
}

impl Store {
    /// A store on this disk.
    pub fn new(disk: Arc<dyn Disk>, limits: OpenLimits) -> Arc<Store> {
        let (files, logs) = (Ring::new(limits.files), Ring::new(limits.logs));
        Arc::new(Store { disk, files, logs })
    }

    /// The disk.
    pub fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Closes what has not been used since the last sweep. Blocks while logs are synced, so it
    /// belongs on a thread of its own.
    pub fn sweep(&self) {
        self.files.sweep();
        self.logs.sweep();
    }

    /// How much is open now.
    pub fn open_now(&self) -> OpenLimits {
        OpenLimits { files: self.files.len(), logs: self.logs.len() }
    }

    pub(crate) fn file_opened(&self, file: &Arc<SharedFile>) {
        self.files.opened(file);
    }

    pub(crate) fn log_opened(&self, log: &Arc<Log>) {
        self.logs.opened(log);
    }
}

impl Default for OpenLimits {
    fn default() -> OpenLimits {
        OpenLimits { files: 4000, logs: 3000 }
    }
}
