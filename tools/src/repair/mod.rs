//! `mkinspect repair`: rebuilds what can be rebuilt, and cuts what cannot, if it is told to.
//!
//! The log is the authority. Indexes, seals and checkpoints come from it, so they are made anew, or
//! left to the broker, without asking. Records that are damaged or missing cannot be made anew: the
//! log ends before them, or begins behind them, and everything that is changed for that is copied away
//! first.

mod act;
mod backup;
mod plan;

use std::fmt;
use std::path::{Path, PathBuf};

use mk_storage::checkpoint::Checkpoint;
use mk_storage::{Offset, Position};

pub use self::act::run;
pub use self::plan::plan;

/// How to repair.
#[derive(Clone, Debug)]
pub struct Options {
    /// Give up records that are damaged or missing.
    pub cut: bool,
    /// Where backups go, if not beside their partitions.
    pub backup: Option<PathBuf>,
    /// Bytes of log for each index entry.
    pub interval_bytes: u64,
}

/// What is to be done about a partition.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its folder.
    pub dir: PathBuf,
    /// Segments of an interrupted compaction that take their places first of all.
    pub swaps: Vec<PathBuf>,
    /// Segments that it has, when all is done.
    pub bases: Vec<Offset>,
    /// What takes no records away.
    pub mends: Vec<Mend>,
    /// What does.
    pub loss: Option<Loss>,
    /// The checkpoint to write last, after a sync of all segments.
    pub checkpoint: Option<Checkpoint>,
}

/// Something that is done without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mend {
    /// A file is removed.
    Remove { path: PathBuf, why: String },
    /// A seal goes to the backup: it may be the only witness of a change in bytes that no batch's
    /// checksum covers, the leader epochs.
    SetAside { path: PathBuf, why: String },
    /// Both indexes of a segment are made anew.
    Rebuild { base: Offset, closed: bool, why: String },
    /// The checkpoint is made anew. A damaged one goes to the backup, for what only it says.
    Checkpoint { why: String, damaged: Option<PathBuf> },
}

/// Records that are given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// What is wrong, as `verify` says it.
    pub why: String,
    /// The segment in which the log ends from now on, where in it, and the offset that follows.
    pub end: Option<(Offset, Position, Offset)>,
    /// The log begins here from now on.
    pub start: Option<Offset>,
    /// An empty segment is made here, since there is none.
    pub begin: Option<Offset>,
    /// Segments that go to the backup, oldest first.
    pub aside: Vec<Offset>,
    /// Written before anything is cut, if there was a checkpoint.
    pub lowered: Option<Checkpoint>,
}

impl Plan {
    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        !self.is_doable(true)
    }

    /// True if there is something to do for whom gives up records, if `cut`, or not.
    pub fn is_doable(&self, cut: bool) -> bool {
        !self.swaps.is_empty() || !self.mends.is_empty() || (cut && self.loss.is_some())
    }

    /// What is done first, a line for each segment.
    pub fn swap_lines(&self) -> impl Iterator<Item = String> {
        self.swaps.iter().map(|swap| {
            let name = swap.file_name().unwrap_or_default().to_string_lossy();
            format!("finish      {name}: takes the place of what an interrupted compaction read")
        })
    }
}

impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match self {
            Mend::Remove { path, why } => write!(f, "remove      {}: {why}", name(path)),
            Mend::SetAside { path, why } => write!(f, "set aside   {}: {why}", name(path)),
            Mend::Rebuild { base, why, .. } => {
                write!(f, "rebuild     {:020}.index, .timeindex: {why}", base.0)
            }
            Mend::Checkpoint { why, .. } => write!(f, "write       checkpoint: {why}"),
        }
    }
}
