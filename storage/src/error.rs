//! What can go wrong, told apart: the disk failed, the log is damaged, or the caller asked for
//! what is not there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::producers::SequenceError;
use crate::{Offset, Position};

/// The disk refused an operation.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct DiskError {
    /// What was tried.
    pub action: &'static str,
    /// On which file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Bytes that were once safe on the disk are gone or changed. Never cut, never skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} is damaged at byte {position} (offset {offset}): {what}", file.display())]
pub struct Corruption {
    /// Which file.
    pub file: PathBuf,
    /// Where in it.
    pub position: Position,
    /// The offset that was expected there.
    pub offset: Offset,
    /// What was found.
    pub what: String,
}

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log is damaged below its recovery point.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

/// Why a segment was not sealed, or does not match its seal.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

/// Why a batch was not appended. The log is as it was.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The disk failed, or is full: see [`DiskError::is_full`].
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// An earlier sync failed, or records are missing: nothing more is taken.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// The batch of an idempotent producer does not follow those before.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
}

/// Until the log is opened anew nobody can know which of its bytes are safe.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the log takes no more records: {reason}")]
pub struct Poisoned {
    /// What happened: a sync failed, or the log is damaged.
    pub reason: Arc<str>,
}

/// Why a read was not answered.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is not, or no longer, or not yet in the log.
    #[error("offset {requested} is outside of {start}..={end}")]
    OutOfRange {
        /// What was asked for.
        requested: Offset,
        /// First offset of the log.
        start: Offset,
        /// Offset that the next record will have.
        end: Offset,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log is damaged where it was read.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
}

impl DiskError {
    /// Wraps what the system said of `action` on `path`.
    pub fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DiskError {
        let path = path.to_owned();
        move |source| DiskError { action, path, source }
    }

    /// True if the disk has no room left.
    pub fn is_full(&self) -> bool {
        crate::disk::is_full(&self.source)
    }
}
