//! Tests of the log: one story each here, anything in any order in `model`.

mod append_time;
mod compaction;
mod model;
mod producers;
mod reads;
mod replica;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use self::model::Device;

use super::*;
use crate::batch::{
    BatchBuilder, CheckedBatch, Compression, HEADER_LEN, RecordFields, TimestampType, records,
};
use crate::disk::{Disk, MappedDisk, MemoryDisk};
use crate::error::{AppendError, OpenError, ReadError};
use crate::store::OpenLimits;
use crate::{Position, Timestamp};

/// Small enough that a handful of batches crosses every boundary.
const SMALL: LogSettings = LogSettings {
    segment_bytes: 2000,
    segment_ms: 1_000_000,
    index_interval_bytes: 300,
    timestamp_type: TimestampType::CreateTime,
};

fn dir() -> PathBuf {
    PathBuf::from("topics/t/0")
}

fn open(disk: &MemoryDisk, settings: LogSettings) -> Result<(Arc<Log>, Recovery), OpenError> {
    Log::open(&store(Arc::new(disk.clone())), &dir(), settings, 0)
}

/// So few files may be open that they are closed and opened all the time.
fn store(disk: Arc<dyn Disk>) -> Arc<Store> {
    Store::new(disk, OpenLimits { files: 3, logs: 1 })
}

fn batch(values: &[String], timestamp: i64) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        let record = RecordFields { value: Some(value.as_bytes()), ..RecordFields::default() };
        builder.push(Timestamp(timestamp), &record);
    }
    builder.finish().unwrap()
}

fn append(log: &Arc<Log>, values: &[String], timestamp: i64) -> Result<Appended, AppendError> {
    let bytes = batch(values, timestamp);
    log.append(&CheckedBatch::check(&bytes, 1 << 20).unwrap(), Epoch(0), timestamp)
}

fn values(from: u64, count: u64) -> Vec<String> {
    (from..from + count).map(|n| format!("value {n}")).collect()
}

/// Everything that the log has, read from `from` on, with its checksums checked.
fn read_all(log: &Log, from: Offset) -> Vec<(u64, String)> {
    let mut found = Vec::new();
    let mut at = from;
    while let Some(range) = log.read(at, 700).unwrap().range {
        let mut bytes = Bytes::from(range.read().unwrap());
        assert_eq!(bytes.len() as u64, range.length);
        while !bytes.is_empty() {
            let checked = CheckedBatch::check(&bytes[..batch_size(&bytes)], 1 << 20).unwrap();
            let next = checked.header().next_offset();
            for record in records(&bytes, 1 << 20).unwrap() {
                let record = record.unwrap();
                let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                if record.offset >= from {
                    found.push((record.offset.0, value));
                }
            }
            bytes = bytes.slice(batch_size(&bytes)..);
            at = next;
        }
    }
    assert_eq!(at, log.end());
    found
}

fn batch_size(bytes: &[u8]) -> usize {
    crate::batch::Header::parse(bytes).unwrap().size
}

/// Windows of the mapped disk grow and change under appends that are larger than they are.
#[test]
fn large_batches_cross_windows() {
    let device = Device::mapped();
    let (log, _) = Log::open(&device.store(), &device.dir(), LogSettings::default(), 0).unwrap();
    let mut expected = Vec::new();
    for n in 0..60u64 {
        let value = n.to_string().repeat(1 + (n as usize * 7919) % 200_000);
        append(&log, std::slice::from_ref(&value), 0).unwrap();
        expected.push((n, value));
    }
    assert_eq!(read_all(&log, Offset(0)), expected);
    drop(log);
    let (log, recovery) =
        Log::open(&device.store(), &device.dir(), LogSettings::default(), 0).unwrap();
    assert_eq!(read_all(&log, Offset(0)), expected);
    assert_eq!(recovery.bytes_scanned, log.size_bytes());
    assert_eq!(recovery.bytes_cut, 0);
}

/// The record with the largest time was trimmed, its segment not: the answer was "none" though
/// records were left.
#[test]
fn the_largest_time_is_that_of_a_record_that_is_left() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, LogSettings::default()).unwrap();
    for (n, time) in [(0, 50), (1, 90), (2, 30), (3, 70), (4, 70)] {
        append(&log, &values(n, 1), time).unwrap();
    }
    let newest = |log: &Log| log.find_max_time().unwrap().map(|f| (f.offset.0, f.timestamp.0));
    assert_eq!(newest(&log), Some((1, 90)));
    log.trim(Offset(2), None).unwrap();
    assert_eq!(newest(&log), Some((3, 70)));
    log.trim(Offset(5), None).unwrap();
    assert_eq!(newest(&log), None);
}

/// A log that was trimmed to the middle of a batch, and cut there, started behind its end.
#[test]
fn a_cut_in_the_first_batch_that_is_served_takes_the_start_along() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, LogSettings::default()).unwrap();
    append(&log, &values(0, 3), 0).unwrap();
    append(&log, &values(3, 3), 0).unwrap();
    log.trim(Offset(4), None).unwrap();
    assert_eq!(log.truncate(Offset(5)).unwrap(), Offset(3));
    assert_eq!((log.start(), log.end()), (Offset(3), Offset(3)));
    append(&log, &values(3, 1), 0).unwrap();
    drop(log);
    let (log, _) = open(&disk, LogSettings::default()).unwrap();
    assert_eq!(read_all(&log, log.start()), [(3, "value 3".to_owned())]);
}

/// A broker was killed when it had closed a segment and not synced it. The next one synced the last
/// segment alone, and vouched for both: a power failure took acknowledged records.
#[test]
fn segments_closed_before_a_kill_are_synced_after_it() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, SMALL).unwrap();
    log.flush().unwrap();
    for n in 0..60 {
        append(&log, &values(n, 1), 0).unwrap();
    }
    assert!(log.segments().len() > 2);
    drop(log);
    let (log, _) = open(&disk, SMALL).unwrap();
    assert_eq!(log.flush().unwrap(), Offset(60));
    for seed in 0..20 {
        let (log, _) = open(&disk.crash(seed), SMALL).unwrap();
        assert_eq!(log.end(), Offset(60));
    }
}

/// A trim moved the recovery point beyond index entries that were not on the disk. Of those that a power
/// failure took, the ones for offsets were missed, the ones for times were not: a record was not found
/// by its time.
#[test]
fn a_trim_vouches_for_the_indexes_too() {
    let settings = LogSettings { segment_bytes: 1 << 20, ..SMALL };
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, settings).unwrap();
    for time in 1..40 {
        append(&log, &["x".repeat(100)], if time == 20 { 500 } else { time }).unwrap();
    }
    log.trim(Offset(1), None).unwrap();
    for seed in 0..200 {
        let (log, _) = open(&disk.crash(seed), settings).unwrap();
        let found = log.find_time(Timestamp(100)).unwrap();
        assert_eq!(found.map(|found| found.offset), Some(Offset(19)), "seed {seed}");
    }
}

/// A killed process leaves a reserved tail of zeroes; a batch half copied into it is cut, and the
/// next append takes its place.
#[test]
fn a_torn_tail_is_cut_and_reported() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, LogSettings::default()).unwrap();
    append(&log, &values(0, 3), 0).unwrap();
    let path = log.segments()[0].path().to_owned();
    let end = log.size_bytes();
    drop(log);
    let torn = batch(&values(3, 3), 0);
    let mut placed = torn.clone();
    placed[7] = 3;
    disk.tamper(&path, |bytes| {
        bytes.truncate(end as usize);
        bytes.extend_from_slice(&placed[..placed.len() - 5]);
        bytes.extend([0; 4096]);
    })
    .unwrap();
    let (log, recovery) = open(&disk, LogSettings::default()).unwrap();
    assert_eq!(log.end(), Offset(3));
    assert_eq!(recovery.bytes_cut, torn.len() as u64 - 5);
    assert!(recovery.cut_because.is_some());
    append(&log, &values(3, 1), 0).unwrap();
    assert_eq!(read_all(&log, Offset(0)).len(), 4);
}

/// What was synced is never cut: a break below the recovery point refuses to open, and leaves the
/// files as they are.
#[test]
fn damage_below_the_recovery_point_is_refused_not_cut() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, SMALL).unwrap();
    for n in 0..40 {
        append(&log, &values(n, 1), 0).unwrap();
    }
    let paths: Vec<_> = log.segments().iter().map(|s| s.path().to_owned()).collect();
    assert!(paths.len() > 1);
    log.close().unwrap();
    drop(log);
    // The last segment is gone, emptied, or shortened; the first is gone.
    type Harm = fn(&MemoryDisk, &[PathBuf]);
    let harms: [Harm; 5] = [
        |disk, paths| disk.remove(paths.last().unwrap()).unwrap(),
        |disk, paths| disk.tamper(paths.last().unwrap(), |bytes| bytes.clear()).unwrap(),
        |disk, paths| {
            disk.tamper(&paths[0], |bytes| bytes.truncate(bytes.len() - 1)).unwrap();
        },
        |disk, paths| disk.remove(&paths[0]).unwrap(),
        // A copy that somebody put there for later: by its name it is a segment. It and all
        // segments behind it were removed once, and the loss was reported after that.
        |disk, paths| {
            let copy = paths[0].with_file_name("00000000000000000002.log");
            disk.write(&copy, &disk.bytes(&paths[0]).unwrap()).unwrap();
        },
    ];
    for harm in harms {
        let damaged = disk.crash(0);
        harm(&damaged, &paths);
        let before: Vec<_> = paths.iter().map(|path| damaged.bytes(path).ok()).collect();
        assert_set_aside(&damaged, SMALL);
        let after: Vec<_> = paths.iter().map(|path| damaged.bytes(path).ok()).collect();
        assert!(before == after, "a refused log is left as it is");
    }
}

/// A producer that tried a poisoned log again and again, whose files were closed, left an entry
/// among the open logs each time, and no sweep took one out.
#[test]
fn a_refused_append_leaves_nothing_open() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, SMALL).unwrap();
    log.retire();
    for n in 0..10 {
        assert!(append(&log, &values(n, 1), 0).is_err());
    }
    assert_eq!(log.store.open_now().logs, 0);
}

/// The log does not open, or opens up to the damage, to be read.
fn assert_set_aside(disk: &MemoryDisk, settings: LogSettings) {
    match open(disk, settings) {
        Err(OpenError::Corrupt(_)) => {}
        Ok((log, Recovery { damage: Some(damage), .. })) => {
            assert_eq!(damage.offset, log.end());
            let expected: Vec<_> = (0..log.end().0).map(|n| (n, format!("value {n}"))).collect();
            assert_eq!(read_all(&log, Offset(0)), expected);
            let error = append(&log, &values(0, 1), 0).unwrap_err();
            assert!(error.to_string().contains("damaged at byte"), "{error}");
            assert!(log.flush().is_err() && log.trim(log.end(), None).is_err());
            assert!(log.truncate(Offset(0)).is_err());
            log.checkpoint().unwrap();
            log.store.sweep();
            log.close().unwrap();
        }
        done => panic!("{done:?}"),
    }
}

/// Without its checkpoint a log had a recovery point of 0, so one flipped bit in its first segment
/// counted as a torn tail: 473 of 474 acknowledged records were cut, and nobody was told but the
/// log file. With records behind the break it is damage, unless a checkpoint says otherwise.
#[test]
fn without_its_checkpoint_a_log_is_not_cut_in_the_middle() {
    for settings in [SMALL, LogSettings::default()] {
        let disk = MemoryDisk::new();
        let (log, _) = open(&disk, settings).unwrap();
        let checkpoint = dir().join(crate::checkpoint::CHECKPOINT_FILE);
        assert!(disk.bytes(&checkpoint).is_ok(), "a log has one from its first moment");
        for n in 0..40 {
            append(&log, &values(n, 1), 0).unwrap();
        }
        let first = log.segments()[0].path().to_owned();
        let last = log.segments().last().unwrap().path().to_owned();
        log.close().unwrap();
        drop(log);
        disk.remove(&checkpoint).unwrap();
        let before = disk.bytes(&first).unwrap();
        disk.tamper(&first, |bytes| bytes[batch(&values(0, 1), 0).len() + 70] ^= 1).unwrap();
        assert_set_aside(&disk, settings);
        disk.tamper(&first, |bytes| bytes.clone_from(&before)).unwrap();
        // The last batch has nothing behind it: that may well be a torn tail.
        disk.tamper(&last, |bytes| *bytes.last_mut().unwrap() ^= 1).unwrap();
        let (log, recovery) = open(&disk, settings).unwrap();
        assert!(recovery.checkpoint_rebuilt && recovery.bytes_cut > 0);
        assert_eq!(log.end(), Offset(39));
    }
}

/// A failed sync may have dropped pages; were the log to go on, a later sync would vouch for them.
#[test]
fn a_failed_sync_poisons_the_log() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, SMALL).unwrap();
    append(&log, &values(0, 1), 0).unwrap();
    log.flush().unwrap();
    append(&log, &values(1, 1), 0).unwrap();
    disk.fail_syncs(log.segments()[0].path()).unwrap();
    assert!(log.flush().is_err());
    assert_eq!(log.synced(), Offset(1));
    assert!(matches!(append(&log, &values(2, 1), 0), Err(AppendError::Poisoned(_))));
    assert!(matches!(log.flush(), Err(AppendError::Poisoned(_))));
    assert_eq!(read_all(&log, Offset(0)).len(), 2, "what is there can still be read");
}

/// A full disk refuses an append whole; with room again the next one succeeds.
#[test]
fn a_full_disk_is_an_error_and_nothing_is_appended() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, SMALL).unwrap();
    disk.fill_up(10);
    let mut there = 0;
    let error = loop {
        match append(&log, &values(there, 2), 0) {
            Ok(_) => there += 2,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::Disk(ref disk) if disk.is_full()), "{error}");
    assert_eq!(read_all(&log, Offset(0)).len() as u64, there);
    disk.fill_up(1 << 20);
    append(&log, &values(there, 2), 0).unwrap();
    assert_eq!(read_all(&log, Offset(0)).len() as u64, there + 2);
}

#[test]
fn segments_are_closed_by_age() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, LogSettings { segment_ms: 100, ..LogSettings::default() }).unwrap();
    append(&log, &values(0, 1), 1000).unwrap();
    assert!(!append(&log, &values(1, 1), 1099).unwrap().rolled);
    assert!(append(&log, &values(2, 1), 1100).unwrap().rolled);
    assert_eq!(log.segments().len(), 2);
}

/// A read is at least one batch, at most what was asked for, always whole batches.
#[test]
fn reads_are_cut_at_batches() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, LogSettings::default()).unwrap();
    let size = batch(&values(10, 1), 0).len() as u64;
    for n in 10..60 {
        append(&log, &values(n, 1), 0).unwrap();
    }
    let length =
        |offset, max_bytes| log.read(Offset(offset), max_bytes).unwrap().range.unwrap().length;
    assert_eq!(length(0, 0), size);
    assert_eq!(length(5, size - 1), size);
    assert_eq!(length(5, 2 * size - 1), size);
    assert_eq!(length(5, 2 * size), 2 * size);
    assert_eq!(length(5, u64::MAX), 45 * size);
    assert!(log.read(Offset(50), 1).unwrap().range.is_none());
}

/// Readers see whole batches only, in order, while a writer appends and rolls.
#[test]
fn readers_follow_a_writer_without_a_lock() {
    let device = Device::mapped();
    let settings = LogSettings { segment_bytes: 50_000, ..SMALL };
    let (log, _) = Log::open(&device.store(), &device.dir(), settings, 0).unwrap();
    const RECORDS: u64 = 3000;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut next = 0;
                while next < RECORDS {
                    for (offset, value) in read_all_once(&log, Offset(next)) {
                        assert_eq!((offset, value), (next, format!("value {next}")));
                        next += 1;
                    }
                }
            });
        }
        for n in 0..RECORDS {
            append(&log, &values(n, 1), 0).unwrap();
        }
    });
}

fn read_all_once(log: &Log, from: Offset) -> Vec<(u64, String)> {
    let Some(range) = log.read(from, 5000).unwrap().range else { return Vec::new() };
    let bytes = Bytes::from(range.read().unwrap());
    let mut found = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let size = batch_size(&bytes[at..]);
        CheckedBatch::check(&bytes[at..at + size], 1 << 20).unwrap();
        for record in records(&bytes.slice(at..), 1 << 20).unwrap() {
            let record = record.unwrap();
            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
            found.push((record.offset.0, value));
        }
        at += size;
    }
    found.retain(|(offset, _)| *offset >= from.0);
    found
}

/// Kafka's index has an entry about every 4 KiB; a rebuilt one is the same, byte for byte.
#[test]
fn a_rebuilt_index_is_the_one_that_was_lost() {
    let disk = MemoryDisk::new();
    let (log, _) =
        open(&disk, LogSettings { index_interval_bytes: 300, ..Default::default() }).unwrap();
    for n in 0..200 {
        append(&log, &values(n, 1), n as i64 % 50).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let base = Path::new("topics/t/0");
    let paths = ["00000000000000000000.index", "00000000000000000000.timeindex"];
    let paths = paths.map(|name| base.join(name));
    let before: Vec<_> = paths.iter().map(|path| disk.bytes(path).unwrap()).collect();
    assert!(before[0].len() > 100);
    for path in &paths {
        disk.remove(path).unwrap();
    }
    let settings = LogSettings { index_interval_bytes: 300, ..Default::default() };
    let (log, recovery) = open(&disk, settings).unwrap();
    assert_eq!(recovery.indexes_rebuilt, 2);
    log.close().unwrap();
    let after: Vec<_> = paths.iter().map(|path| disk.bytes(path).unwrap()).collect();
    assert!(before == after);
    assert_eq!(log.segments()[0].end(), Position(log.size_bytes()));
}

/// A broker was killed between closing a segment and the sync that would have given back the
/// closed segment's reservations. The next start took the index for good, since its entries were,
/// and left the reserved zeroes behind them, which `mkinspect verify` rightly calls no entries.
#[test]
fn a_closed_segment_keeps_no_reserved_tail() {
    let device = Device::mapped();
    let (log, _) = device.open();
    for n in 0..60 {
        append(&log, &values(n, 1), 0).unwrap();
    }
    assert!(log.segments().len() > 2);
    drop(log);
    let (log, _) = device.open();
    let segments = log.segments();
    for segment in &segments[..segments.len() - 1] {
        for ending in [crate::segment::OFFSET_INDEX, crate::segment::TIME_INDEX] {
            let path = device.dir().join(crate::segment::file_name(segment.base(), ending));
            let bytes = std::fs::read(&path).unwrap();
            let entry = if ending == crate::segment::OFFSET_INDEX { 8 } else { 12 };
            let is_entry = |bytes: &[u8]| bytes.iter().any(|byte| *byte != 0);
            assert!(bytes.chunks(entry).last().is_none_or(is_entry), "{}", path.display());
        }
    }
}

/// A start looks at the last entry of an index only. Damage in the middle of one that still
/// increased was believed by every read: from an entry that pointed too far records were skipped
/// without a word, from one that pointed into a batch a sound log was called damaged. Found by the
/// fuzz targets `index` and `recovery`.
#[test]
fn a_wrong_entry_in_the_middle_of_an_index_hides_no_record() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, SMALL).unwrap();
    for n in 0..60 {
        append(&log, &values(n, 1), 1 + n as i64).unwrap();
    }
    log.close().unwrap();
    drop(log);
    let sound: Vec<_> = (0..).zip(values(0, 60)).collect();
    for (ending, entry, field) in [("index", 8, 4), ("timeindex", 12, 8)] {
        let path = dir().join(crate::segment::file_name(Offset(0), ending));
        let before = disk.bytes(&path).unwrap();
        assert!(before.len() >= 3 * entry, "a first, a middle and a last entry");
        // Before the next entry's, and so still in order.
        for nearer in [1, 2, 90] {
            disk.tamper(&path, |bytes| {
                let next = u32::from_be_bytes(*bytes[entry + field..].first_chunk().unwrap());
                let wrong = next.saturating_sub(nearer).to_be_bytes();
                bytes[field..field + 4].copy_from_slice(&wrong);
            })
            .unwrap();
            let (log, _) = open(&disk, SMALL).unwrap();
            assert_eq!(read_all(&log, Offset(0)), sound);
            for n in 0..60 {
                assert_eq!(read_all(&log, Offset(n)), sound[n as usize..]);
                let found = log.find_time(Timestamp(1 + n as i64)).unwrap().unwrap();
                assert_eq!(found.offset, Offset(n));
            }
            disk.tamper(&path, |bytes| bytes.clone_from(&before)).unwrap();
        }
    }
}
