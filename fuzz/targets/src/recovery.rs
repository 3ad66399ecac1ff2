//! Recovery: a scan takes whole batches and nothing else; a log whose files were damaged is
//! refused, or serves what was written.

use std::path::Path;
use std::sync::Arc;

use mk_storage::batch::{HEADER_LEN, Header, checksum};
use mk_storage::checkpoint::{CHECKPOINT_FILE, Checkpoint};
use mk_storage::disk::{Disk, MemoryDisk};
use mk_storage::log::Log;
use mk_storage::recover::{ScanFrom, Tail, scan};
use mk_storage::segment::{LOG, base_of};
use mk_storage::{Epoch, Offset, Position};

use crate::edit::{edit, edit_head};
use crate::input::Input;
use crate::log::{
    Files, Sample, Written, append, consume, encoded, file, open, read, reopen, some_shape, written,
};

/// Where a checkpoint's version is.
const VERSION: std::ops::Range<usize> = 4..8;

pub fn recovery(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    if input.one_in(3) {
        a_scan_takes_whole_batches(&mut input);
    } else {
        a_log_is_refused_or_serves_what_was_written(&mut input);
    }
}

fn a_scan_takes_whole_batches(input: &mut Input<'_>) {
    let file = if input.one_in(8) { input.rest().to_vec() } else { some_segment(input) };
    let offset = input.pick([Offset(0), Offset(1), Offset(i64::MAX as u64)]);
    let from = ScanFrom { position: Position(0), offset, epoch: Epoch(input.pick([i32::MIN, 1])) };
    let disk = MemoryDisk::new();
    let path = Path::new("segment");
    let view = disk.write(path, &file).and_then(|()| disk.view(path)).expect("memory");
    let (mut end, mut next, mut epoch) = (0, from.offset, from.epoch);
    let found = scan(view.as_ref(), from, |position, header, bytes| {
        assert_eq!(position.0 as usize, end, "batches lie back to back");
        assert_eq!(bytes, &file[end..end + header.size]);
        assert_eq!(header.crc, checksum(bytes));
        assert_eq!(header.base_offset, next, "offsets are dense");
        assert!(header.leader_epoch >= epoch, "epochs do not fall");
        (end, next, epoch) = (end + header.size, header.next_offset(), header.leader_epoch);
    });
    let found = found.expect("memory does not fail");
    assert_eq!((found.end.0 as usize, found.next, found.epoch), (end, next, epoch));
    let behind = &file[end..];
    assert!(!is_batch(behind, next, epoch), "a whole batch at {end} was left out");
    let used = behind.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
    match found.tail {
        Tail::Clean => assert_eq!(used, 0, "bytes behind the end were overlooked"),
        Tail::Broken { used: told, .. } => assert_eq!(told, used),
    }
}

/// The batches of a log in one file, some of them damaged, some of those with a right checksum.
fn some_segment(input: &mut Input<'_>) -> Vec<u8> {
    let sample = written(&some_shape(input));
    let mut file = Vec::new();
    for place in &sample.batches {
        let mut batch = sample.files[&place.file][place.bytes.0..place.bytes.1].to_vec();
        if input.one_in(8) {
            edit_head(input, &mut batch, HEADER_LEN);
            let crc = checksum(&batch);
            if let (Some(field), true) = (batch.get_mut(17..21), input.one_in(2)) {
                field.copy_from_slice(&crc.to_be_bytes());
            }
        }
        file.extend(batch);
    }
    for _ in 0..input.below(2) {
        edit(input, &mut file);
    }
    file
}

/// The five conditions of a batch that counts.
fn is_batch(bytes: &[u8], next: Offset, epoch: Epoch) -> bool {
    let Ok(header) = Header::parse(bytes) else { return false };
    let Some(batch) = bytes.get(..header.size) else { return false };
    header.crc == checksum(batch) && header.base_offset == next && header.leader_epoch >= epoch
}

/// What was done to a log behind its back.
#[derive(Debug)]
struct Damage {
    /// The checkpoint is as it was.
    checkpoint_is_sound: bool,
    /// The checkpoint that there is, if it can be read.
    checkpoint: Option<Checkpoint>,
    /// Whole batches, or whole files, are where they do not belong or are gone.
    moved: bool,
    /// Records below are where they were, in every file that has some.
    intact_below: u64,
    /// The checkpoint says that the log starts before its first segment, and that nothing of it was
    /// synced: then what there is lies behind a hole, and was never promised.
    hole_at_start: bool,
}

fn a_log_is_refused_or_serves_what_was_written(input: &mut Input<'_>) {
    let sample = written(&some_shape(input));
    let mut files = sample.files.clone();
    let damage = damage(input, &sample, &mut files);
    if has_foreign_batch(&sample, &files) {
        return;
    }
    let recovery_point = damage.checkpoint.as_ref().map_or(0, |found| found.recovery_point.0);
    let (disk, log) = open(&files);
    let (log, _) = match log {
        Ok(log) => log,
        Err(error) => {
            let torn = damage.intact_below >= recovery_point && damage.checkpoint_is_sound;
            assert!(!torn || damage.moved, "{error}, though only a tail was torn: {damage:?}");
            nothing_was_cut(&files, &disk, &damage);
            return;
        }
    };
    let (start, end) = (log.start().0, log.end().0);
    assert!(end >= recovery_point, "records {end} to {recovery_point} are gone: {damage:?}");
    let intact = damage.intact_below.min(sample.records.len() as u64);
    assert!(end >= intact || damage.hole_at_start, "{end}: {damage:?}");
    // A checkpoint may say that more was trimmed than was ever there.
    assert!(end <= sample.records.len() as u64 || end == start, "records were invented");
    assert!(!damage.checkpoint_is_sound || start == sample.start, "{start}: {damage:?}");
    what_is_served_was_written(&log, &sample, &damage, recovery_point);
    drop(log);
    let (log, again) = reopen(&disk).expect("what was opened can be opened again");
    assert_eq!((log.start().0, log.end().0, again.bytes_cut), (start, end, 0));
    if start <= end {
        a_log_goes_on_at_its_end(&log);
    }
}

fn damage(input: &mut Input<'_>, sample: &Sample, files: &mut Files) -> Damage {
    let names: Vec<String> = sample.files.keys().cloned().collect();
    let mut moved = false;
    for _ in 0..input.below(4) {
        let name = &names[input.below(names.len())];
        let Some(file) = files.get_mut(name) else { continue };
        if input.one_in(8) {
            files.remove(name);
            moved |= name.ends_with(".log");
        } else if name == CHECKPOINT_FILE && input.one_in(2) {
            *file = some_checkpoint(input, sample);
        } else {
            moved |= edit(input, file);
        }
    }
    let checkpoint = checkpoint_in(files);
    let first = files.keys().filter_map(|name| base_of(name, LOG)).min();
    let hole_at_start = checkpoint.as_ref().is_some_and(|found| {
        found.recovery_point <= found.log_start && first.is_none_or(|first| first > found.log_start)
    });
    Damage {
        checkpoint_is_sound: files.get(CHECKPOINT_FILE) == sample.files.get(CHECKPOINT_FILE),
        checkpoint,
        hole_at_start,
        moved,
        intact_below: intact_below(sample, files),
    }
}

/// True if the damage has made a whole batch that was not written: libFuzzer sees what a checksum
/// should be and may guess it, and then nobody could tell.
fn has_foreign_batch(sample: &Sample, files: &Files) -> bool {
    let written: Vec<&[u8]> = sample
        .batches
        .iter()
        .map(|place| &sample.files[&place.file][place.bytes.0 + 16..place.bytes.1])
        .collect();
    let logs = files.iter().filter(|(name, _)| name.ends_with(".log"));
    logs.flat_map(|(_, file)| (0..file.len()).map(|at| &file[at..])).any(|bytes| {
        let Ok(header) = Header::parse(bytes) else { return false };
        let Some(batch) = bytes.get(..header.size) else { return false };
        checksum(batch) == header.crc && !written.contains(&&batch[16..])
    })
}

/// A checkpoint that says anything, with a right checksum.
fn some_checkpoint(input: &mut Input<'_>, sample: &Sample) -> Vec<u8> {
    let most = sample.records.len() + 2;
    let mut offset = || Offset(input.below(most) as u64);
    let (recovery_point, log_start, high_watermark) = (offset(), offset(), offset());
    let epochs = (0..3).map(|epoch| (Epoch(epoch), offset())).collect();
    let mut bytes = encoded(&Checkpoint { recovery_point, log_start, high_watermark, epochs });
    if input.one_in(8) {
        bytes[VERSION].copy_from_slice(&2u32.to_le_bytes());
        let covered = bytes.len() - 4;
        let crc = crc32fast::hash(&bytes[..covered]);
        bytes[covered..].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

fn checkpoint_in(files: &Files) -> Option<Checkpoint> {
    let bytes = files.get(CHECKPOINT_FILE)?;
    let disk = MemoryDisk::new();
    disk.write(Path::new(CHECKPOINT_FILE), bytes).expect("memory does not fail");
    let checkpoint = Checkpoint::read(&disk, Path::new("")).ok().flatten()?;
    let (covered, crc) = bytes.split_last_chunk().expect("a checkpoint ends with its CRC-32");
    assert_eq!(u32::from_le_bytes(*crc), crc32fast::hash(covered), "believed without a checksum");
    Some(checkpoint)
}

/// The offset behind the last batch that nothing has changed in or before, in the file of which
/// that is the lowest.
fn intact_below(sample: &Sample, files: &Files) -> u64 {
    let mut intact = u64::MAX;
    for (name, old) in sample.files.iter().filter(|(name, _)| name.ends_with(".log")) {
        let new = files.get(name);
        if new == Some(old) {
            continue;
        }
        let same = new.map_or(0, |new| old.iter().zip(new).take_while(|(a, b)| a == b).count());
        let mut places = sample.batches.iter().filter(|place| place.file == *name);
        let first = places.clone().map(|place| place.offsets.0).next();
        let last = places.rfind(|place| place.bytes.1 <= same).map(|place| place.offsets.1);
        intact = intact.min(last.or(first).unwrap_or(sample.records.len() as u64));
    }
    intact
}

/// A log that is refused is left for somebody to look at: nothing is gone but what was reserved,
/// and what was trimmed before.
fn nothing_was_cut(files: &Files, disk: &MemoryDisk, damage: &Damage) {
    let used = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    for (name, before) in files.iter().filter(|(name, _)| name.ends_with(".log")) {
        match file(disk, name) {
            Some(after) => assert_eq!(after[..used(&after)], before[..used(before)], "{name}"),
            None => assert!(damage.checkpoint.as_ref().is_some_and(|found| found.log_start.0 > 0)),
        }
    }
}

/// Every record that is served is one that was written, at its offset, none left out; but where a
/// batch below the recovery point was damaged, which a start need not see, a reader does.
fn what_is_served_was_written(log: &Log, sample: &Sample, damage: &Damage, recovery_point: u64) {
    // No checksum covers a batch's offset; that it is wrong is seen by the batch before, which a
    // trimmed log need not have.
    if log.start() > Offset(0) && damage.intact_below <= log.start().0 {
        return;
    }
    let (got, wrong) = consume(log, 1);
    let start = log.start().0 as usize;
    let written: &[Written] = sample.records.get(start..log.end().0 as usize).unwrap_or_default();
    let Some(wrong) = wrong else {
        assert_eq!(got, written);
        return;
    };
    assert!(written.starts_with(&got));
    let reached = log.start().0 + got.len() as u64;
    assert!(damage.intact_below < recovery_point, "{wrong}, above {recovery_point}: {damage:?}");
    assert!(damage.intact_below <= reached, "{wrong} at {reached}: {damage:?}");
}

fn a_log_goes_on_at_its_end(log: &Arc<Log>) {
    let end = log.end();
    let record = Written { offset: end.0, timestamp: 5000, value: "next".into() };
    append(log, Epoch(i32::MAX), std::slice::from_ref(&record));
    assert_eq!(read(log, end, 1), Ok((end.plus(1), vec![record])));
}
