//! What is to be done, from what `verify` finds.

use std::collections::BTreeMap;
use std::path::Path;

use mk_storage::checkpoint::{CHECKPOINT_FILE, Checkpoint, CheckpointError};
use mk_storage::directory::PARTITION_FILE;
use mk_storage::disk::Disk;
use mk_storage::error::DiskError;
use mk_storage::segment::{LOG, OFFSET_INDEX, SEAL, TIME_INDEX, base_of, file_name};
use mk_storage::{Offset, Position};

use super::{Loss, Mend, Plan};
use crate::InspectError;
use crate::find::PartitionFiles;
use crate::verify::{Examined, FileReport, Note, Part, Sound, examine};

/// What is to be done about a partition that no broker has open. With `cut`, the plan is that of a log
/// whose loss is accepted.
pub fn plan(disk: &dyn Disk, files: &PartitionFiles, cut: bool) -> Result<Plan, InspectError> {
    let dir = &files.dir;
    if let Err(error @ CheckpointError::Version { .. }) = Checkpoint::read(disk, dir) {
        let path = dir.join(CHECKPOINT_FILE);
        return Err(InspectError::TooNew { path, what: error.to_string() });
    }
    let found = examine(disk, files, false)?;
    let loss = loss(&found, files);
    let mut bases = files.bases.clone();
    let mut rewritten = None;
    if let Some(loss) = loss.as_ref().filter(|_| cut) {
        bases.retain(|base| !loss.aside.contains(base));
        bases.extend(loss.begin);
        rewritten = loss.end.map(|(base, ..)| base);
    }
    let mut mends = mends_of_segments(disk, dir, &found, &bases, rewritten);
    mends.extend(leftovers(files));
    mends.extend(strays(disk, dir, &[&files.bases, &bases])?);
    let mut checkpoint = None;
    if found.checkpoint.is_none() && !bases.is_empty() && (cut || loss.is_none()) {
        let rebuilt = rebuilt(&found, &bases, loss.as_ref());
        let why =
            format!("recovery point {}, log start {}", rebuilt.recovery_point, rebuilt.log_start);
        let damaged = found.files.iter().find(|report| report.part == Part::Checkpoint);
        let state = if damaged.is_some() { "it is damaged" } else { "it is missing" };
        let damaged = damaged.map(|report| report.file.clone());
        mends.push(Mend::Checkpoint { why: format!("{state}; {why}"), damaged });
        checkpoint = Some(rebuilt);
    }
    mends.extend(broken_snapshots(&found));
    let swaps = files.unfinished.swaps.iter().map(|swap| swap.path(dir)).collect();
    Ok(Plan { dir: dir.clone(), swaps, bases, mends, loss, checkpoint })
}

/// Indexes and seals of the segments that stay, but of the one that is `rewritten` anyway.
fn mends_of_segments(
    disk: &dyn Disk,
    dir: &Path,
    found: &Examined,
    bases: &[Offset],
    rewritten: Option<Offset>,
) -> Vec<Mend> {
    let stays = |base: &Offset| bases.contains(base) && rewritten != Some(*base);
    // The first problem of each is reason enough.
    let (mut indexes, mut seals) = (BTreeMap::new(), BTreeMap::new());
    for report in &found.files {
        match report.part {
            Part::Index(base) if stays(&base) => {
                if let Some(why) = why_rebuilt(report) {
                    indexes.entry(base).or_insert(why);
                }
            }
            Part::Seal(base) if stays(&base) => {
                if let Some(damage) = report.damage.first() {
                    seals.entry(base).or_insert(damage.what.clone());
                }
            }
            _ => {}
        }
    }
    let seal = |base: &Offset| dir.join(file_name(*base, SEAL));
    let mut mends = Vec::new();
    // A seal goes before what it speaks of is changed.
    for base in indexes.keys().filter(|base| disk.length(&seal(base)).is_ok()) {
        // It has the checksums of the indexes as they were.
        seals.remove(base);
        let why = "its indexes are made anew; the broker seals the segment again".to_owned();
        mends.push(Mend::Remove { path: seal(base), why });
    }
    let aside = seals.into_iter().map(|(base, why)| Mend::SetAside { path: seal(&base), why });
    mends.extend(aside);
    let last = bases.last().copied();
    mends.extend(indexes.into_iter().map(|(base, why)| {
        let closed = Some(base) != last;
        Mend::Rebuild { base, closed, why }
    }));
    mends
}

/// Snapshots of producers that are none.
fn broken_snapshots(found: &Examined) -> impl Iterator<Item = Mend> {
    let snapshots = found.files.iter().filter(|report| matches!(report.part, Part::Snapshot(_)));
    snapshots.filter(|report| !report.damage.is_empty()).map(|report| {
        let why = "it is damaged; the next start reads the headers of the batches".to_owned();
        Mend::Remove { path: report.file.clone(), why }
    })
}

/// Why an index is made anew, if it is.
fn why_rebuilt(report: &FileReport) -> Option<String> {
    let name = report.file.file_name().unwrap_or_default().to_string_lossy();
    if report.note == Some(Note::Interrupted) {
        return Some(format!("{name}: an interrupted compaction did not come to it"));
    }
    let damage = report.damage.first()?;
    Some(format!("{name}, byte {}: {}", damage.byte, damage.what))
}

/// What an interrupted compaction has left of no use. A segment that is not whole may have records
/// that are nowhere else.
fn leftovers(files: &PartitionFiles) -> Vec<Mend> {
    let cleaned = files.unfinished.cleaned.iter().map(|name| {
        let why = "left over by a compaction that did not come to its end".to_owned();
        Mend::Remove { path: files.dir.join(name), why }
    });
    let broken = files.unfinished.broken.iter().map(|broken| {
        let why = format!("not a whole segment: byte {}: {}", broken.position, broken.what);
        Mend::SetAside { path: broken.path.clone(), why }
    });
    cleaned.chain(broken).collect()
}

/// Files that nobody reads: they belong to none of these segments, or to no name.
fn strays(disk: &dyn Disk, dir: &Path, bases: &[&Vec<Offset>]) -> Result<Vec<Mend>, InspectError> {
    let mut found = Vec::new();
    for entry in disk.list(dir).map_err(DiskError::at("list", dir))? {
        let of_segment = |name: &str| {
            [OFFSET_INDEX, TIME_INDEX, SEAL].iter().find_map(|ending| base_of(name, ending))
        };
        let is_ours = |name: &str| {
            let is_segment = of_segment(name).or(base_of(name, LOG)).is_some();
            is_segment || [CHECKPOINT_FILE, PARTITION_FILE].contains(&name)
        };
        let why = if entry.name.strip_suffix(".tmp").is_some_and(is_ours) {
            "left over by a replacement that did not come to its end"
        } else if of_segment(&entry.name)
            .is_some_and(|base| !bases.iter().any(|bases| bases.contains(&base)))
        {
            "there is no segment of this number"
        } else {
            continue;
        };
        if !entry.is_dir {
            let path = dir.join(&entry.name);
            found.push(Mend::Remove { path, why: why.to_owned() });
        }
    }
    Ok(found)
}

/// What has to be given up for the log to be sound.
fn loss(found: &Examined, files: &PartitionFiles) -> Option<Loss> {
    let mut loss = given_up(found)?;
    let mut checkpoint = found.checkpoint.clone().unwrap_or_default();
    match files.bases.first() {
        None => {
            let at = checkpoint.recovery_point.max(checkpoint.log_start);
            loss.begin = Some(at);
            checkpoint.begin_at(at);
        }
        Some(first) if found.checkpoint.is_some() && *first > checkpoint.log_start => {
            loss.start = Some(*first);
            checkpoint.begin_at(*first);
        }
        Some(_) => {}
    }
    if let Some((_, _, end)) = loss.end {
        checkpoint = checkpoint.cut_to(end);
    }
    loss.lowered = found.checkpoint.as_ref().map(|_| checkpoint);
    Some(loss)
}

/// Where the log ends for want of sound records, and the segments behind; `None` if it is whole.
fn given_up(found: &Examined) -> Option<Loss> {
    let mut loss = Loss {
        why: String::new(),
        end: None,
        start: None,
        begin: None,
        aside: Vec::new(),
        lowered: None,
    };
    let mut whole: Option<(Offset, Position)> = None;
    for report in &found.files {
        let Part::Log(base, sound) = report.part else {
            if report.part == Part::Folder {
                loss.note(report);
            }
            continue;
        };
        if sound != Sound::Whole {
            loss.note(report);
        }
        match sound {
            _ if loss.end.is_some() => loss.aside.push(base),
            Sound::Whole => whole = Some((base, Position(report.bytes))),
            Sound::Until(position, next) => loss.end = Some((base, position, next)),
            Sound::Beside => loss.aside.push(base),
            Sound::Nothing => {
                let next = report.damage.first().map_or(base, |damage| Offset(damage.offset));
                loss.end = whole.map(|(base, position)| (base, position, next));
                loss.aside.push(base);
            }
        }
    }
    (!loss.why.is_empty()).then_some(loss)
}

impl Loss {
    /// The first reason is told.
    fn note(&mut self, report: &FileReport) {
        if let Some(damage) = report.damage.first().filter(|_| self.why.is_empty()) {
            self.why = damage.to_string();
        }
    }
}

/// The checkpoint of a log that is sound, or cut.
fn rebuilt(found: &Examined, bases: &[Offset], loss: Option<&Loss>) -> Checkpoint {
    let start = bases.first().copied().unwrap_or_default();
    let cut = loss.and_then(|loss| loss.end).map(|(_, _, end)| end);
    let end = cut.unwrap_or(found.end).max(start);
    let mut epochs = found.epochs.clone();
    epochs.retain(|(_, first)| *first < end);
    Checkpoint { recovery_point: end, log_start: start, high_watermark: end, epochs }
}
