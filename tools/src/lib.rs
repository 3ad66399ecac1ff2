//! mkinspect: look into an mk data directory.
//!
//! Knows the storage crate and nothing of the network. Everything but `index rebuild` and `repair`
//! only reads, and may be used on the directory of a running broker.

#![forbid(unsafe_code)]

pub mod batches;
pub mod diff;
pub mod dump;
pub mod find;
pub mod list;
pub mod map;
pub mod rebuild;
pub mod repair;
pub mod stats;
pub mod text;
pub mod unfinished;
pub mod verify;

use std::io;
use std::path::PathBuf;

use mk_storage::error::DiskError;

/// Why a command could not do its work; what it found is no error.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There is nothing of mk's at the path.
    #[error("{}: {what}", path.display())]
    NotOurs {
        /// The path.
        path: PathBuf,
        /// What was expected there.
        what: &'static str,
    },
    /// A broker runs on the directory.
    #[error("{}: a broker runs here; stop it first", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
    },
    /// A later mk has written it.
    #[error("{}: {what}", path.display())]
    TooNew {
        /// The file.
        path: PathBuf,
        /// What it says.
        what: String,
    },
    /// A backup cannot go there.
    #[error("no backup can go to {}: {what}", path.display())]
    Backup {
        /// The folder.
        path: PathBuf,
        /// Why.
        what: String,
    },
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

impl InspectError {
    /// True if a file is not there.
    pub fn is_missing_file(&self) -> bool {
        matches!(self, InspectError::Disk(error) if error.source.kind() == io::ErrorKind::NotFound)
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            InspectError::Locked { .. } => {
                Some("stop the broker with SIGTERM, and wait until its process has ended")
            }
            InspectError::TooNew { .. } => Some("use the mkinspect of the mk that wrote it"),
            InspectError::Backup { .. } => {
                Some("give --backup a folder outside of the data directory")
            }
            InspectError::NotOurs { .. } | InspectError::Disk(_) | InspectError::Output(_) => None,
        }
    }
}
