//! Checks every batch, every index entry, every seal and every checkpoint, and tells what is damaged
//! and where.
//!
//! Together the checks leave no bit of a batch out: the checksum covers all from the attributes
//! on; the base offset must be the one that follows; a wrong length makes the checksum wrong; the
//! magic is 2; the leader epoch is the one that the checkpoint's table has for the offset.

mod indexes;
mod seals;
mod walk;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use mk_storage::checkpoint::{CHECKPOINT_FILE, Checkpoint, CheckpointError};
use mk_storage::directory;
use mk_storage::disk::Disk;
use mk_storage::error::DiskError;
use mk_storage::producers::snapshot;
use mk_storage::seal::{FoundSeal, Seal};
use mk_storage::segment::{OFFSET_INDEX, TIME_INDEX, file_name};
use mk_storage::{Epoch, Offset, Position};

use self::walk::LogCheck;
use crate::InspectError;
use crate::find::{PartitionFiles, data_directory};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file.
    pub file: PathBuf,
    /// Where in it.
    pub byte: u64,
    /// The offset that was expected there.
    pub offset: u64,
    /// What was found.
    pub what: String,
}

/// Which part of a partition a report is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Part {
    /// Which files there are.
    #[default]
    Folder,
    /// The checkpoint.
    Checkpoint,
    /// Batches of the segment at this offset, and how much of them is sound.
    Log(Offset, Sound),
    /// An index of the segment at this offset.
    Index(Offset),
    /// The seal of the segment at this offset.
    Seal(Offset),
    /// What is known of the producers before this offset.
    Snapshot(Offset),
    /// A segment that is not whole, which an interrupted compaction has left at this offset.
    Swap(Offset),
}

/// How much of a segment can be kept of a log that is sound up to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sound {
    /// All of it, as far as it goes.
    Whole,
    /// Bytes below the position, which are the records below the offset.
    Until(Position, Offset),
    /// Nothing: it does not begin where the log goes on.
    Nothing,
    /// Nothing, and nobody needs it: the log goes on from the segment before to the one behind.
    Beside,
}

/// What checking one file found.
#[derive(Clone, Debug, Default)]
pub struct FileReport {
    /// Which file.
    pub file: PathBuf,
    /// Which part of the partition that is.
    pub part: Part,
    /// Bytes that were checked.
    pub bytes: u64,
    /// Whole batches.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// What else is to be said of it.
    pub note: Option<Note>,
}

/// Something that is no damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// A broker is writing the bytes behind the last whole batch just now.
    BeingWritten,
    /// The file is as an interrupted compaction left it, and the next start makes it what it is to be.
    Interrupted,
    /// A compaction writes it, or has left it over: nobody reads it.
    LeftOver,
}

/// What checking a partition found.
#[derive(Clone, Debug)]
pub struct Examined {
    /// Its checkpoint, if it has one that is whole.
    pub checkpoint: Option<Checkpoint>,
    /// A report for each of its files.
    pub files: Vec<FileReport>,
    /// Leader epochs of its batches, and where each began.
    pub epochs: Vec<(Epoch, Offset)>,
    /// Where its last segment ends.
    pub end: Offset,
}

/// What looks damaged while a broker runs must look so again so many times.
const LOOKS_AT_THE_SAME: u32 = 5;
/// And so often at most, while it goes on changing.
const LOOKS_AT_ALL: u32 = 20;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Checks a partition: a report for each of its files.
pub fn partition(disk: &dyn Disk, files: &PartitionFiles) -> Result<Vec<FileReport>, InspectError> {
    let running = data_directory(&files.dir).is_some_and(|data| directory::is_locked(&data));
    let mut files = files.clone();
    let mut same = 0;
    for _ in 0..LOOKS_AT_ALL {
        let seals = find_seals(disk, &files)?;
        let found = examine(disk, &files, running);
        let is_sound = |found: &Examined| found.files.iter().all(|file| file.damage.is_empty());
        let is_suspect = match &found {
            Ok(found) => !is_sound(found),
            Err(error) => error.is_missing_file(),
        };
        if !running || !is_suspect {
            return Ok(found?.files);
        }
        // Segments that a broker makes, compacts or removes meanwhile look damaged, or are gone. In
        // the end there is another list of segments, or another seal. Where there is not, a broker may
        // be between two files of a segment that it makes, for as long as it gets no time.
        let now = files.again(disk)?;
        let is_same = now == files && find_seals(disk, &now)? == seals;
        same = if is_same && now.unfinished.is_empty() { same + 1 } else { 0 };
        if same > LOOKS_AT_THE_SAME {
            return Ok(found?.files);
        }
        if same > 0 {
            thread::sleep(BETWEEN_LOOKS);
        }
        files = now;
    }
    Ok(examine(disk, &files, running)?.files)
}

fn find_seals(disk: &dyn Disk, files: &PartitionFiles) -> Result<Vec<FoundSeal>, InspectError> {
    let find = |base: &Offset| Seal::find(disk, &files.dir, *base);
    let found = files.bases.iter().map(find).collect::<Result<_, _>>();
    Ok(found.map_err(DiskError::at("read the seals in", &files.dir))?)
}

/// The same for a partition at one moment, with what is needed to mend it; `running` tells that a
/// broker may be writing to it.
pub fn examine(
    disk: &dyn Disk,
    files: &PartitionFiles,
    running: bool,
) -> Result<Examined, InspectError> {
    let mut reports = Vec::new();
    let checkpoint = check_checkpoint(disk, &files.dir, &mut reports)?;
    reports.extend(check_folder(files, &checkpoint));
    reports.extend(check_unfinished(files));
    reports.extend(check_snapshots(disk, &files.dir)?);
    let mut log = LogCheck::new(disk, files, &checkpoint, running);
    for (at, &base) in files.bases.iter().enumerate() {
        let behind = files.bases.get(at + 1..).unwrap_or_default();
        let last = behind.is_empty();
        let (report, batches) = log.segment(base, behind)?;
        let whole = report.damage.is_empty().then_some(report.clone());
        reports.push(report);
        let Some(segment) = whole else { continue };
        if !files.has_indexes(base) {
            reports.extend(to_be_built(files, base));
            continue;
        }
        reports.push(log.offset_index(base, &batches, last)?);
        reports.push(log.time_index(base, &batches, last)?);
        // One that was the last a moment ago may have been closed and sealed meanwhile.
        if !(last && running) {
            reports.extend(log.seal(base, &segment)?);
        }
    }
    let (epochs, end) = (log.epochs.clone(), log.expected);
    if let Some(checkpoint) = &checkpoint {
        check_end(&mut reports, end, checkpoint.recovery_point);
    }
    Ok(Examined { checkpoint, files: reports, epochs, end })
}

/// What an interrupted compaction has left, but for segments that are whole.
fn check_unfinished(files: &PartitionFiles) -> Vec<FileReport> {
    let broken = files.unfinished.broken.iter().map(|broken| {
        let mut report = FileReport::new(broken.path.clone(), Part::Swap(broken.base));
        let what = format!("{}; a compaction left it, and nobody reads it", broken.what);
        report.add(broken.position.0, broken.base, what);
        report
    });
    let cleaned = files.unfinished.cleaned.iter().map(|name| FileReport {
        file: files.dir.join(name),
        note: Some(Note::LeftOver),
        ..FileReport::default()
    });
    broken.chain(cleaned).collect()
}

/// Are the snapshots of producers whole?
fn check_snapshots(disk: &dyn Disk, dir: &Path) -> Result<Vec<FileReport>, InspectError> {
    let offsets = snapshot::list(disk, dir).map_err(DiskError::at("list", dir))?;
    let mut reports = Vec::new();
    for offset in offsets {
        let file = snapshot::path(dir, offset);
        let known = snapshot::read(disk, dir, offset).map_err(DiskError::at("read", &file))?;
        // A broker that runs removes old ones.
        let length = match disk.length(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            length => length.map_err(DiskError::at("read", &file))?,
        };
        let mut report = FileReport::new(file, Part::Snapshot(offset));
        report.bytes = length;
        if known.is_none() {
            let what = "no snapshot of this offset; the next start reads the headers of the batches instead";
            report.add(0, offset, what.to_owned());
        }
        reports.push(report);
    }
    Ok(reports)
}

/// The indexes that a segment gets once an interrupted compaction is finished.
fn to_be_built(files: &PartitionFiles, base: Offset) -> [FileReport; 2] {
    [OFFSET_INDEX, TIME_INDEX].map(|ending| {
        let file = files.dir.join(file_name(base, ending));
        let mut report = FileReport::new(file, Part::Index(base));
        report.note = Some(Note::Interrupted);
        report
    })
}

fn check_checkpoint(
    disk: &dyn Disk,
    dir: &Path,
    reports: &mut Vec<FileReport>,
) -> Result<Option<Checkpoint>, InspectError> {
    let file = dir.join(CHECKPOINT_FILE);
    let what = match Checkpoint::read(disk, dir) {
        Ok(checkpoint) => return Ok(checkpoint),
        Err(CheckpointError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            // Larger than any checkpoint.
            format!("{error}; the partition is offline")
        }
        Err(CheckpointError::Io(error)) => return Err(DiskError::at("read", &file)(error).into()),
        Err(error @ CheckpointError::Version { .. }) => {
            format!("{error}; the partition is offline")
        }
        Err(error) => format!("{error}; the next start scans the whole log instead"),
    };
    let mut report = FileReport::new(file, Part::Checkpoint);
    report.add(0, Offset(0), what);
    reports.push(report);
    Ok(None)
}

/// Are the segments there that the checkpoint speaks of?
fn check_folder(files: &PartitionFiles, checkpoint: &Option<Checkpoint>) -> Option<FileReport> {
    let mut report = FileReport::new(files.dir.clone(), Part::Folder);
    let start = checkpoint.as_ref().map(|found| found.log_start);
    match (files.bases.first(), start) {
        (None, _) => report.add(0, Offset(0), "the partition has no segment".into()),
        (Some(first), Some(start)) if *first > start => {
            let what = format!("the log starts at {start}, its first segment at {first}");
            report.add(0, start, what);
        }
        _ => return None,
    }
    Some(report)
}

/// A log that is whole and ends too early.
fn check_end(reports: &mut [FileReport], end: Offset, recovery_point: Offset) {
    let broken = |report: &FileReport| {
        matches!(report.part, Part::Log(_, Sound::Until(..) | Sound::Nothing))
    };
    if end >= recovery_point || reports.iter().any(broken) {
        return;
    }
    let is_last = |report: &&mut FileReport| matches!(report.part, Part::Log(_, Sound::Whole));
    if let Some(report) = reports.iter_mut().rev().find(is_last) {
        let what = format!("the log ends at {end}, but records below {recovery_point} were synced");
        report.add(report.bytes, end, what);
        report.ends_at(Position(report.bytes), end);
    }
}

impl FileReport {
    fn new(file: PathBuf, part: Part) -> FileReport {
        FileReport { file, part, ..FileReport::default() }
    }

    fn add(&mut self, byte: u64, offset: Offset, what: String) {
        self.damage.push(Damage { file: self.file.clone(), byte, offset: offset.0, what });
    }

    /// Says where its sound part ends; the first word counts.
    fn ends_at(&mut self, position: Position, offset: Offset) {
        if let Part::Log(base, Sound::Whole) = self.part {
            self.part = Part::Log(base, Sound::Until(position, offset));
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { file, byte, offset, what } = self;
        write!(f, "{}: byte {byte}, offset {offset}: {what}", file.display())
    }
}
