//! Stories of compactions.

use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use super::*;
use crate::batch::records;

const RULES: Compaction =
    Compaction { min_dirty_ratio: 0.0, min_lag_ms: 0, delete_retention_ms: 100 };

fn put(log: &Arc<Log>, key: &str, value: &str, timestamp: i64) {
    let mut builder = BatchBuilder::new(Compression::None);
    let (key, value) = (Some(key.as_bytes()), Some(value.as_bytes()));
    builder.push(Timestamp(timestamp), &RecordFields { key, value, headers: &[] });
    let bytes = builder.finish().unwrap();
    log.append(&CheckedBatch::check(&bytes, 1 << 20).unwrap(), Epoch(0), timestamp).unwrap();
}

/// So many records, each key's at 5 offsets in a row, 100 bytes each; synced.
fn fill(log: &Arc<Log>, records: u64, timestamp: i64) {
    for n in 0..records {
        put(log, &format!("key {}", n / 5), &"x".repeat(100), timestamp);
    }
    log.flush().unwrap();
}

fn compact(log: &Log, now_ms: i64) -> Result<Compacted, CompactError> {
    let job =
        Job { rules: &RULES, limit: log.synced(), now_ms, keys_bytes: 1 << 20, seed: &[1; 16] };
    log.compact(job, &mut |_| ControlFlow::Continue(()))
}

/// A disk that was full when the second segment was written counted as a broken off compaction, since
/// the first had taken a segment out of the log, and nobody was told.
#[test]
fn a_full_disk_in_the_middle_is_told() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, SMALL).unwrap();
    fill(&log, 200, 0);
    let full = AtomicBool::new(false);
    let job =
        Job { rules: &RULES, limit: log.synced(), now_ms: 0, keys_bytes: 1 << 20, seed: &[1; 16] };
    let first = log.segments()[0].clone();
    let result = log.compact(job, &mut |_| {
        if first.is_retired() && !full.swap(true, Ordering::Relaxed) {
            disk.fill_up(0);
        }
        ControlFlow::Continue(())
    });
    assert!(matches!(&result, Err(CompactError::Disk(error)) if error.is_full()), "{result:?}");
    assert!(log.poisoned().is_none(), "nothing is lost by it");
    disk.fill_up(1 << 20);
    let dirt = log.dirt(&RULES, log.synced(), 0);
    assert!(dirt.clean_bytes > 0 && dirt.dirty_bytes > 0, "what was done is done: {dirt:?}");
    assert_eq!(compact(&log, 0).unwrap().clean_to, dirt.to);
}

/// The sealer found a segment that was about to be sealed by the compaction, waited for its turn, and
/// sealed it as one that was never compacted.
#[test]
fn a_seal_is_not_replaced_by_one_that_says_less() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, SMALL).unwrap();
    fill(&log, 100, 0);
    compact(&log, 0).unwrap();
    let segment = log.segments()[0].clone();
    let seal = segment.seal().unwrap();
    assert!(seal.cleaned_to > Offset(0));
    assert!(!log.seal(&segment, &mut |_| {}).unwrap());
    assert_eq!(segment.seal(), Some(seal));
}

/// A record with a time to come kept all behind it from being compacted until then.
#[test]
fn without_a_lag_a_time_to_come_does_not_matter() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, SMALL).unwrap();
    fill(&log, 100, 1_000_000);
    assert!(log.dirt(&RULES, log.synced(), 0).dirty_bytes > 0);
    let lag = Compaction { min_lag_ms: 1, ..RULES };
    assert_eq!(log.dirt(&lag, log.synced(), 1_000_000).dirty_bytes, 0);
    assert!(log.dirt(&lag, log.synced(), 1_000_001).dirty_bytes > 0);
}

/// Segments with a batch of which no record was left were written anew with every compaction.
#[test]
fn what_is_clean_stays_as_it_is() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, SMALL).unwrap();
    fill(&log, 100, 0);
    fill(&log, 100, 0);
    // Small segments become one; then there is nothing left to do.
    for _ in 0..3 {
        compact(&log, 0).unwrap();
    }
    let before = log.segments();
    let done = compact(&log, 0).unwrap();
    assert!(done.segments_before > 1 && done.bytes_after == done.bytes_before, "{done:?}");
    let same = before.iter().zip(log.segments().iter()).filter(|(a, b)| Arc::ptr_eq(a, b)).count();
    assert_eq!(same, before.len());
}

/// A search by time met a segment that was replaced meanwhile, and failed.
#[test]
fn readers_go_on_while_a_log_is_compacted() {
    let device = Device::mapped();
    let (log, _) = device.open();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                compact(&log, 0).unwrap();
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                log.find_time(Timestamp(500)).unwrap();
                log.find_max_time().unwrap();
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let end = log.end();
                let mut at = Offset(0);
                while at < end {
                    let range = log.read(at, 4000).unwrap().range.unwrap();
                    let bytes = Bytes::from(range.read().unwrap());
                    at = records(&bytes, 1 << 20).unwrap().header().next_offset();
                }
            }
        });
        for n in 0..6000 {
            put(&log, &format!("key {}", n % 50), &"x".repeat(100), n);
            if n % 20 == 0 {
                log.flush().unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    log.flush().unwrap();
    compact(&log, 0).unwrap();
    assert!(log.size_bytes() < 6000 * 100 / 4, "{} bytes are left", log.size_bytes());
}
