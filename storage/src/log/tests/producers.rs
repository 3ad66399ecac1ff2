//! Idempotent producers: what is sent twice is in the log once, whatever happens in between.

use super::*;
use crate::batch::number;
use crate::producers::{SequenceError, snapshot};

/// A batch of so many records of a producer, from sequence `first` on.
fn numbered(producer: i64, first: i32, records: u64) -> Vec<u8> {
    let mut bytes = batch(&values(0, records), 0);
    number(&mut bytes, producer, 0, first).unwrap();
    bytes
}

fn send(log: &Arc<Log>, producer: i64, first: i32, records: u64) -> Result<u64, AppendError> {
    let bytes = numbered(producer, first, records);
    let appended = log.append(&CheckedBatch::check(&bytes, 1 << 20).unwrap(), Epoch(0), 50)?;
    Ok(appended.base_offset.0)
}

fn is_out_of_order(sent: Result<u64, AppendError>) -> bool {
    matches!(sent, Err(AppendError::Sequence(SequenceError::OutOfOrder { .. })))
}

fn snapshots(disk: &MemoryDisk) -> Vec<u64> {
    snapshot::list(disk, &dir()).unwrap().into_iter().map(|at| at.0).collect()
}

/// A log with 40 batches of three records of two producers in turn, in many segments.
fn filled(disk: &MemoryDisk) -> Arc<Log> {
    let log = open(disk, SMALL).unwrap().0;
    for n in 0..40 {
        assert_eq!(send(&log, n % 2, (n / 2) as i32 * 3, 3).unwrap(), n as u64 * 3);
    }
    log.flush().unwrap();
    log
}

#[test]
fn a_batch_sent_again_is_found_whatever_has_happened() {
    let disk = MemoryDisk::new();
    let mut log = filled(&disk);
    log.raise_high_watermark(log.end());
    for way in ["open", "killed", "closed", "crashed", "without snapshots"] {
        match way {
            "killed" => log = open(&disk, SMALL).unwrap().0,
            "closed" => {
                log.close().unwrap();
                log = open(&disk, SMALL).unwrap().0;
            }
            "crashed" => log = open(&disk.crash(7), SMALL).unwrap().0,
            "without snapshots" => {
                for at in snapshots(&disk) {
                    disk.remove(&snapshot::path(&dir(), Offset(at))).unwrap();
                }
                log = open(&disk, SMALL).unwrap().0;
            }
            _ => {}
        }
        for n in 30..40 {
            let offset = send(&log, n % 2, (n / 2) as i32 * 3, 3).unwrap();
            assert_eq!(offset, n as u64 * 3, "{way}");
        }
        assert_eq!(log.end(), Offset(120), "{way}");
        assert!(is_out_of_order(send(&log, 0, 61, 1)) && is_out_of_order(send(&log, 0, 3, 3)));
    }
    assert_eq!(send(&log, 0, 60, 1).unwrap(), 120);
}

#[test]
fn what_is_cut_may_be_sent_again() {
    let disk = MemoryDisk::new();
    let log = filled(&disk);
    // Batch 33, which is in the middle of a segment.
    assert_eq!(log.truncate(Offset(100)).unwrap(), Offset(99));
    assert!(snapshots(&disk).iter().all(|at| *at <= 99));
    assert_eq!(send(&log, 1, 45, 3).unwrap(), 93, "it was not cut");
    assert!(is_out_of_order(send(&log, 0, 54, 3)), "one before it was cut");
    assert_eq!(send(&log, 1, 48, 3).unwrap(), 99);
    // Batches of both were cut, and the one behind them is not what it was.
    let log = open(&disk, SMALL).unwrap().0;
    assert_eq!(send(&log, 0, 51, 3).unwrap(), 102);
    assert_eq!(send(&log, 1, 48, 3).unwrap(), 99);
}

#[test]
fn a_follower_knows_what_its_leader_knows() {
    let (leader, follower) = (filled(&MemoryDisk::new()), MemoryDisk::new());
    let follower = open(&follower, SMALL).unwrap().0;
    while follower.end() < leader.end() {
        let range = leader.read(follower.end(), 700).unwrap().range.unwrap();
        follower.append_copies(&range.read().unwrap(), Epoch(0), 50).unwrap();
    }
    assert_eq!(follower.producers(), leader.producers());
    assert_eq!(send(&follower, 1, 57, 3).unwrap(), 117);
    // It begins anew where the leader's log begins: what it knew it knows no more.
    follower.begin_anew(Offset(500)).unwrap();
    assert!(follower.producers().is_empty());
    assert_eq!(send(&follower, 1, 9, 1).unwrap(), 500);
}

/// A log that began anew knew the producers of the records that it had thrown away, if the power failed
/// before it had forgotten them: what they had sent was refused, or taken for sent.
#[test]
fn whoever_begins_anew_knows_no_producers_whenever_the_power_fails() {
    // Nothing is committed, so that there is a snapshot of each segment's beginning.
    let starts = |disk: &MemoryDisk| snapshots(disk).into_iter().rev().skip(1).take(3);
    let disk = MemoryDisk::new();
    drop(filled(&disk));
    for start in starts(&disk).chain([500]) {
        let disk = MemoryDisk::new();
        let log = filled(&disk);
        let images = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let seen = images.clone();
        disk.watch(move |disk| {
            let mut seen = seen.lock();
            let seed = seen.len() as u64;
            seen.extend([disk.crash(seed), disk.crash(seed + 1)]);
        });
        log.begin_anew(Offset(start)).unwrap();
        let images = std::mem::take(&mut *images.lock());
        assert!(images.len() > 10);
        for image in images {
            let log = open(&image, SMALL).unwrap().0;
            if log.end() != Offset(120) {
                assert_eq!((log.start(), log.end()), (Offset(start), Offset(start)));
                assert!(log.producers().is_empty(), "{:?}", log.producers());
            }
        }
    }
}

#[test]
fn the_idle_are_forgotten_and_may_go_on_anywhere() {
    let log = filled(&MemoryDisk::new());
    assert_eq!(log.forget_idle_producers(50), 0);
    assert_eq!(log.forget_idle_producers(51), 2);
    assert_eq!(send(&log, 0, 1000, 1).unwrap(), 120);
    assert!(is_out_of_order(send(&log, 0, 1002, 1)));
}

#[test]
fn a_log_that_was_trimmed_to_its_end_still_knows() {
    let disk = MemoryDisk::new();
    let log = filled(&disk);
    log.trim(log.end(), None).unwrap();
    drop(log);
    let log = open(&disk, SMALL).unwrap().0;
    assert_eq!((log.start(), log.end()), (Offset(120), Offset(120)));
    assert_eq!(send(&log, 0, 57, 3).unwrap(), 114);
}

#[test]
fn snapshots_are_few_and_made_when_there_is_something_new() {
    let disk = MemoryDisk::new();
    let log = filled(&disk);
    assert!(snapshots(&disk).len() > 1, "a cut may need them: {:?}", snapshots(&disk));
    log.raise_high_watermark(log.end());
    log.close().unwrap();
    assert_eq!(snapshots(&disk), [120]);
}
