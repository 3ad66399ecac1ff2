//! `mkinspect ls`: partitions and their segments.

use std::io::Write;
use std::path::PathBuf;

use mk_storage::batch::Header;
use mk_storage::checkpoint::Checkpoint;
use mk_storage::disk::{self, Disk};
use mk_storage::error::DiskError;
use mk_storage::index::{OffsetEntry, entries};
use mk_storage::seal::{FoundSeal, Seal};
use mk_storage::segment::{Headers, OFFSET_INDEX, TIME_INDEX, file_name};
use mk_storage::{Offset, Position};

use crate::InspectError;
use crate::find::{PartitionFiles, look};
use crate::text::time_text;

/// One segment, as far as its headers and index tell.
#[derive(Clone, Debug)]
pub struct SegmentLine {
    /// The file of its batches.
    pub file: PathBuf,
    /// First offset.
    pub base: Offset,
    /// Offset that follows its last batch.
    pub next: Offset,
    /// Bytes of batches.
    pub bytes: u64,
    /// Bytes of the file, reserved ones included.
    pub file_bytes: u64,
    /// Bytes of both indexes.
    pub index_bytes: u64,
    /// Timestamp of the last batch, in milliseconds since 1970.
    pub last_timestamp: Option<i64>,
    /// Its seal.
    pub seal: FoundSeal,
    /// True if the seal, if there is one, has the lengths of the segment's files, as far as is known.
    pub seal_fits: bool,
}

const MOST_INDEX_BYTES: usize = 512 << 20;

/// Looks at each segment of a partition: its last index entry, and the headers behind.
pub fn segments(disk: &dyn Disk, files: &PartitionFiles) -> Result<Vec<SegmentLine>, InspectError> {
    let lines = files.bases.iter().map(|&base| segment(disk, files, base));
    lines.collect()
}

fn segment(
    disk: &dyn Disk,
    files: &PartitionFiles,
    base: Offset,
) -> Result<SegmentLine, InspectError> {
    let path = files.log(base);
    let view = disk.view(&path).map_err(DiskError::at("open", &path))?;
    let file_bytes = view.len().map_err(DiskError::at("read", &path))?;
    let index_path = files.dir.join(file_name(base, OFFSET_INDEX));
    let index = match files.has_indexes(base) {
        true => disk::read(disk, &index_path, MOST_INDEX_BYTES).unwrap_or_default(),
        false => Vec::new(),
    };
    let from = entries::<OffsetEntry>(&index, base).last().map_or(Position(0), |e| e.position);
    let mut last: Option<(Position, Header)> = None;
    for item in Headers::new(view.clone(), &path, from, Position(file_bytes)) {
        match item {
            Ok(found) => last = Some(found),
            // Where a reserved tail begins; `verify` tells damage from it.
            Err(_) => break,
        }
    }
    let (mut time_bytes, mut seal) = (0, FoundSeal::None);
    if files.has_indexes(base) {
        time_bytes = disk.length(&files.dir.join(file_name(base, TIME_INDEX))).unwrap_or(0);
        seal = Seal::find(disk, &files.dir, base).map_err(DiskError::at("read", &path))?;
    }
    Ok(SegmentLine {
        base,
        next: last.map_or(base, |(_, header)| header.next_offset()),
        bytes: last.map_or(0, |(position, header)| position.0 + header.size as u64),
        file_bytes,
        index_bytes: index.len() as u64 + time_bytes,
        last_timestamp: last.map(|(_, header)| header.max_timestamp.0),
        seal,
        seal_fits: seal_fits(disk, files, seal),
        file: path,
    })
}

/// False if a seal is none, or its files do not have its lengths; `verify` compares checksums too.
fn seal_fits(disk: &dyn Disk, files: &PartitionFiles, seal: FoundSeal) -> bool {
    let seal = match seal {
        FoundSeal::None => return true,
        FoundSeal::Broken => return false,
        FoundSeal::Whole(seal) => seal,
    };
    seal.lengths().into_iter().all(|(ending, length)| {
        let path = files.dir.join(file_name(seal.base, ending));
        disk.length(&path).is_ok_and(|found| found == length)
    })
}

impl SegmentLine {
    /// True if all of it was compacted; where that is so of a part, the rest is compacted later.
    pub fn is_compacted(&self) -> bool {
        matches!(self.seal, FoundSeal::Whole(seal) if self.seal_fits && seal.cleaned_to >= seal.next)
    }

    fn seal_text(&self) -> &'static str {
        match self.seal {
            FoundSeal::None => "-",
            FoundSeal::Whole(_) if self.is_compacted() => "compacted",
            FoundSeal::Whole(_) if self.seal_fits => "yes",
            FoundSeal::Whole(_) | FoundSeal::Broken => "broken",
        }
    }
}

/// Prints a partition's segments as a table.
pub fn print(
    out: &mut impl Write,
    disk: &dyn Disk,
    files: &PartitionFiles,
) -> Result<(), InspectError> {
    let (files, lines) = look(disk, files, |files| Ok((files.clone(), segments(disk, files)?)))?;
    let checkpoint = Checkpoint::read(disk, &files.dir).ok().flatten().unwrap_or_default();
    let end = lines.last().map_or(Offset(0), |line| line.next);
    writeln!(
        out,
        "{}  segments {}  start {}  end {end}  recovery-point {}  bytes {}",
        files.dir.display(),
        lines.len(),
        checkpoint.log_start.max(files.bases.first().copied().unwrap_or_default()),
        checkpoint.recovery_point,
        lines.iter().map(|line| line.bytes).sum::<u64>(),
    )?;
    writeln!(
        out,
        "  {:<26} {:>12} {:>12} {:>12} {:>10} {:>9}  LAST-TIMESTAMP",
        "SEGMENT", "NEXT", "BYTES", "RESERVED", "INDEX", "SEAL"
    )?;
    for line in lines {
        let time = line.last_timestamp.map(time_text).unwrap_or_default();
        writeln!(
            out,
            "  {:<26} {:>12} {:>12} {:>12} {:>10} {:>9}  {time}",
            line.file.file_name().unwrap_or_default().to_string_lossy(),
            line.next,
            line.bytes,
            line.file_bytes.saturating_sub(line.bytes),
            line.index_bytes,
            line.seal_text(),
        )?;
    }
    Ok(files.unfinished.print(out)?)
}
