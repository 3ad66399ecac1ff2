//! mkinspect: look into an mk data directory.
//!
//! Knows the storage crate and nothing of the network. Everything but `index rebuild` only reads,
//! and may be used on the directory of a running broker.

#![forbid(unsafe_code)]

pub mod dump;
pub mod find;
pub mod list;
pub mod rebuild;
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
    /// The output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}
