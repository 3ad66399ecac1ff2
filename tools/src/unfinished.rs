//! What a compaction that did not come to its end has left in a partition's folder: see
//! `docs/format.md`, "Compaction".

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use mk_storage::disk::{Disk, Entry};
use mk_storage::error::DiskError;
use mk_storage::recover::{ScanFrom, Tail, scan};
use mk_storage::segment::{base_of, file_name};
use mk_storage::{Epoch, Offset, Position};

/// Ending of a segment that takes the place of those whose offsets it has.
const SWAP: &str = "log.swap";
/// Endings of what is of no worth without the process that writes it.
const CLEANED_ENDINGS: [&str; 3] = ["log.cleaned", "index.cleaned", "timeindex.cleaned"];

/// What is to be said of a segment that has not got its name yet.
pub const INTERRUPTED: &str =
    "a compaction was interrupted; the next start of the broker finishes it";
/// What is to be said of a file that was being written.
pub const LEFT_OVER: &str = "being written, or left over by a compaction; harmless, the next start of the broker removes it";

/// What is left of interrupted compactions. While a broker runs, it may be at it just now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Segments that are whole, and have not got their names yet: the next start gives them.
    pub swaps: Vec<Swap>,
    /// Segments that are not whole, though they should be: nobody reads them.
    pub broken: Vec<Broken>,
    /// Names of files that nobody reads, and the next start removes.
    pub cleaned: Vec<String>,
}

/// A segment that takes the place of all whose offsets, `base..next`, it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Swap {
    /// First offset.
    pub base: Offset,
    /// Offset that follows its last batch.
    pub next: Offset,
}

/// A file by the name of such a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// First offset, by its name.
    pub base: Offset,
    /// Its path.
    pub path: PathBuf,
    /// Where it is not whole.
    pub position: Position,
    /// Why.
    pub what: String,
}

/// The name that a file of a compaction is to have, once it has come to its end.
pub fn name_of(name: &str) -> &str {
    name.strip_suffix(".cleaned").or_else(|| name.strip_suffix(".swap")).unwrap_or(name)
}

impl Swap {
    /// Its file, in the partition's folder.
    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join(file_name(self.base, SWAP))
    }
}

impl Unfinished {
    /// What there is of it among these names.
    pub fn of(disk: &dyn Disk, dir: &Path, entries: &[Entry]) -> Result<Unfinished, DiskError> {
        let mut found = Unfinished::default();
        for Entry { name, is_dir } in entries {
            if *is_dir {
                continue;
            }
            if CLEANED_ENDINGS.iter().any(|ending| base_of(name, ending).is_some()) {
                found.cleaned.push(name.clone());
            }
            if let Some(base) = base_of(name, SWAP) {
                found.judge(disk, base, dir.join(name))?;
            }
        }
        Ok(found)
    }

    /// Whole or not, by the rule of a start.
    fn judge(&mut self, disk: &dyn Disk, base: Offset, path: PathBuf) -> Result<(), DiskError> {
        let view = match disk.view(&path) {
            // A broker that runs has given it its name meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            view => view.map_err(DiskError::at("open", &path))?,
        };
        let from = ScanFrom { position: Position(0), offset: base, epoch: Epoch(i32::MIN) };
        let found = scan(view.as_ref(), from, |_, _, _| ());
        let found = found.map_err(DiskError::at("read", &path))?;
        let what = match found.tail {
            Tail::Clean if found.next > base => {
                self.swaps.push(Swap { base, next: found.next });
                return Ok(());
            }
            Tail::Clean => "no batch".to_owned(),
            Tail::Broken { reason, .. } => reason,
        };
        self.broken.push(Broken { base, path, position: found.end, what });
        Ok(())
    }

    /// The segment at `base`, if it is one that has not got its name yet.
    pub fn swap(&self, base: Offset) -> Option<&Swap> {
        self.swaps.iter().find(|swap| swap.base == base)
    }

    /// Names what there is, a line each, below what is printed of the partition.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        for swap in &self.swaps {
            writeln!(out, "  {}: {INTERRUPTED}", file_name(swap.base, SWAP))?;
        }
        for broken in &self.broken {
            let Broken { base, position, what, .. } = broken;
            writeln!(out, "  {}: DAMAGED at byte {position}: {what}", file_name(*base, SWAP))?;
        }
        for name in &self.cleaned {
            writeln!(out, "  {name}: {LEFT_OVER}")?;
        }
        Ok(())
    }

    /// True if an index of the segment at `base` has not got its name yet.
    pub fn has_cleaned(&self, base: Offset, ending: &str) -> bool {
        let name = file_name(base, ending);
        self.cleaned.iter().any(|cleaned| name_of(cleaned) == name)
    }

    /// True if there is nothing.
    pub fn is_empty(&self) -> bool {
        self.swaps.is_empty() && self.broken.is_empty() && self.cleaned.is_empty()
    }

    /// The segments that there will be, of those that there are.
    pub fn finish(&self, mut bases: Vec<Offset>) -> Vec<Offset> {
        for Swap { base, next } in &self.swaps {
            bases.retain(|other| other < base || other >= next);
            bases.insert(bases.partition_point(|other| other < base), *base);
        }
        bases
    }
}
