//! What followers do to their logs, and how far consumers read.

use parking_lot::Mutex;

use super::*;
use crate::log::read::read_from;
use crate::log::{CopyError, NO_LIMIT};

/// A leader's log of three epochs, in several segments.
fn leader() -> Arc<Log> {
    let (log, _) = open(&MemoryDisk::new(), SMALL).unwrap();
    for n in 0..30 {
        let bytes = batch(&values(n * 3, 3), n as i64);
        let checked = CheckedBatch::check(&bytes, 1 << 20).unwrap();
        log.append(&checked, Epoch((n / 10) as i32), 0).unwrap();
    }
    log
}

fn copy(from: &Log, to: &Arc<Log>, most: u64) -> Result<(), CopyError> {
    while let Some(range) = from.read(to.end(), most).unwrap().range {
        let copied = to.append_copies(&range.read().unwrap(), Epoch(9), 0)?;
        assert_eq!(copied.end, to.end());
    }
    Ok(())
}

#[test]
fn a_copy_has_the_same_bytes_offsets_and_epochs() {
    let leader = leader();
    let disk = MemoryDisk::new();
    let (follower, _) = open(&disk, SMALL).unwrap();
    copy(&leader, &follower, 700).unwrap();
    let bytes = |log: &Log| {
        let mut bytes = Vec::new();
        let mut at = Offset(0);
        while let Some(range) = log.read(at, 1).unwrap().range {
            bytes.extend(range.read().unwrap());
            at = crate::batch::Header::parse(&range.read().unwrap()).unwrap().next_offset();
        }
        bytes
    };
    assert_eq!(bytes(&follower), bytes(&leader));
    assert_eq!(follower.epochs(), leader.epochs());
    assert_eq!(follower.last_epoch(), Some(Epoch(2)));
    follower.close().unwrap();
    let (follower, recovery) = open(&disk, SMALL).unwrap();
    assert_eq!((bytes(&follower), recovery.bytes_cut), (bytes(&leader), 0));
}

#[test]
fn what_does_not_follow_is_not_taken() {
    let leader = leader();
    let (follower, _) = open(&MemoryDisk::new(), SMALL).unwrap();
    let bytes_at = |at| leader.read(Offset(at), 1).unwrap().range.unwrap().read().unwrap();
    let refused = |bytes: &[u8]| follower.append_copies(bytes, Epoch(9), 0).unwrap_err();
    assert!(matches!(refused(&bytes_at(3)), CopyError::NotNext { .. }));
    assert!(matches!(refused(&bytes_at(0)[..70]), CopyError::Incomplete { .. }));
    assert!(matches!(refused(&bytes_at(0)[..7]), CopyError::Header(_)));
    let mut flipped = bytes_at(0);
    flipped[65] ^= 1;
    assert!(matches!(refused(&flipped), CopyError::Checksum { .. }));
    assert_eq!(follower.end(), Offset(0));
    follower.append_copies(&[bytes_at(0), bytes_at(3)].concat(), Epoch(0), 0).unwrap();
    assert!(matches!(refused(&bytes_at(0)), CopyError::NotNext { .. }));
    let newer = batch(&values(6, 1), 0);
    follower.append(&CheckedBatch::check(&newer, 1 << 20).unwrap(), Epoch(5), 0).unwrap();
    let mut old = batch(&values(7, 1), 0);
    let header = crate::batch::Header::parse(&old).unwrap();
    let placed = crate::batch::Header { base_offset: Offset(7), leader_epoch: Epoch(4), ..header };
    old[..HEADER_LEN].copy_from_slice(&placed.bytes());
    assert!(matches!(refused(&old), CopyError::OldEpoch { .. }));
}

/// A follower cut its log to the beginning of its last segment, of which the first record was old. The next
/// one opened another segment of the same name, for that one's time had passed; and when the records before
/// were deleted, so were those behind them. Found by the simulator, seed 2541.
#[test]
fn a_segment_that_was_cut_to_nothing_is_not_closed_for_its_age() {
    let disk = MemoryDisk::new();
    let settings = LogSettings { segment_ms: 1000, ..SMALL };
    let (log, _) = open(&disk, settings).unwrap();
    let append = |now_ms| {
        let batch = batch(&values(0, 1), 10);
        log.append(&CheckedBatch::check(&batch, 1 << 20).unwrap(), Epoch(1), now_ms).unwrap()
    };
    append(10);
    log.truncate(Offset(0)).unwrap();
    assert!(!append(5000).rolled);
    append(5000);
    assert_eq!(log.segments().len(), 1);
    log.trim(Offset(1), None).unwrap();
    log.close().unwrap();
    let (log, _) = open(&disk, settings).unwrap();
    assert_eq!(read_all(&log, Offset(1)).len(), 1);
}

/// A leader that was none any more had cut its log and copied its successor's batches into the same file
/// before `sendfile` came to what it had answered. The follower appended a batch of the successor
/// behind records that the successor did not have, and nobody saw that their logs had parted.
#[test]
fn what_is_of_a_later_leader_than_the_one_asked_is_not_taken() {
    let leader = leader();
    let (follower, _) = open(&MemoryDisk::new(), SMALL).unwrap();
    let all = leader.read(Offset(0), u64::MAX).unwrap().range.unwrap().read().unwrap();
    let error = follower.append_copies(&all, Epoch(-1), 0).unwrap_err();
    assert!(matches!(error, CopyError::LaterEpoch { found: Epoch(0), .. }), "{error}");
    assert_eq!(follower.end(), Offset(0));
}

/// Wherever the machine loses its power while a log begins anew, it opens: as it was, or empty.
#[test]
fn a_log_that_begins_anew_does_so_wherever_the_power_fails() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, SMALL).unwrap();
    copy(&leader(), &log, 700).unwrap();
    log.close().unwrap();
    let images = Arc::new(Mutex::new(Vec::new()));
    let taken = images.clone();
    disk.watch(move |disk| {
        let mut images = taken.lock();
        let seed = images.len() as u64;
        images.extend([disk.crash(seed), disk.crash(seed + 1)]);
    });
    begin_anew_everywhere(&log, Offset(1000), &images);
    // And back: another leader, elected uncleanly, has nothing of that.
    let bytes = batch(&values(1000, 60), 0);
    log.append(&CheckedBatch::check(&bytes, 1 << 20).unwrap(), Epoch(7), 0).unwrap();
    log.flush().unwrap();
    images.lock().clear();
    begin_anew_everywhere(&log, Offset(30), &images);
}

fn begin_anew_everywhere(log: &Arc<Log>, start: Offset, images: &Mutex<Vec<MemoryDisk>>) {
    let before = log.end();
    log.begin_anew(start).unwrap();
    assert_eq!((log.start(), log.end(), log.synced()), (start, start, start));
    assert_eq!((log.high_watermark(), log.last_epoch()), (start, None));
    let images = std::mem::take(&mut *images.lock());
    assert!(images.len() > 10);
    for disk in images {
        let (log, recovery) = open(&disk, SMALL).unwrap();
        assert_eq!(recovery.damage, None);
        assert!([before, start].contains(&log.end()), "{}", log.end());
        assert_eq!(log.start() == log.end(), read_all(&log, log.start()).is_empty());
        log.begin_anew(start).unwrap();
        let bytes = batch(&values(start.0, 2), 0);
        log.append(&CheckedBatch::check(&bytes, 1 << 20).unwrap(), Epoch(7), 0).unwrap();
        log.close().unwrap();
        let (log, _) = open(&disk, SMALL).unwrap();
        assert_eq!(read_all(&log, start).len(), 2);
    }
}

#[test]
fn nothing_is_read_beyond_the_limit() {
    let log = leader();
    for limit in (0..=90).step_by(3) {
        for offset in 0..90 {
            let slice = log.read_below(Offset(limit), Offset(offset), 700).unwrap();
            let Some(range) = slice.range else {
                assert!(offset >= limit && !slice.more, "{offset} below {limit}");
                continue;
            };
            let mut bytes = Bytes::from(range.read().unwrap());
            let mut next = Offset(0);
            while !bytes.is_empty() {
                next = crate::batch::Header::parse(&bytes).unwrap().next_offset();
                bytes = bytes.slice(batch_size(&bytes)..);
            }
            assert!(Offset(offset) < next && next <= Offset(limit), "{offset} to {next}");
            assert_eq!(slice.more, next < Offset(limit), "{offset} to {next} below {limit}");
        }
    }
}

/// A consumer of a leader that had just committed all that it had was given a batch that was appended
/// while its request was read: nobody else had it, the leader was killed, and the next one had other
/// records there. A follower was given such a batch, asked for the one behind it, and was told to cut its
/// log, for the leader's seemed to end before.
#[test]
fn what_is_appended_meanwhile_is_not_read() {
    let log = leader();
    for end in (3..90).step_by(3).map(Offset) {
        for limit in [end, NO_LIMIT] {
            let from = Offset(end.0 - 3);
            let slice = read_from(&log.segments(), Offset(0)..end, limit, from, 700).unwrap();
            let bytes = slice.range.unwrap().read().unwrap();
            assert_eq!(crate::batch::Header::parse(&bytes).unwrap().next_offset(), end);
            assert_eq!(bytes.len(), batch_size(&bytes), "below {end}");
        }
    }
}

#[test]
fn a_record_is_found_by_its_offset() {
    let log = leader();
    for offset in 0..90 {
        let found = log.find_record(Offset(offset)).unwrap().unwrap();
        assert_eq!((found.offset, found.timestamp), (Offset(offset), Timestamp(offset as i64 / 3)));
    }
    assert_eq!(log.find_record(Offset(90)).unwrap(), None);
    log.trim(Offset(40), None).unwrap();
    assert_eq!(log.find_record(Offset(0)).unwrap().unwrap().offset, Offset(40));
}

/// What is not committed may have to be cut, and a leader may ask for it: it does not expire.
#[test]
fn what_is_not_committed_does_not_expire() {
    let disk = MemoryDisk::new();
    let (log, _) = open(&disk, SMALL).unwrap();
    copy(&leader(), &log, 700).unwrap();
    let second = log.segments()[1].base();
    let all = Retention { bytes: None, age_ms: Some(0) };
    assert_eq!(log.expired(all, 1_000_000).segments, 0);
    log.raise_high_watermark(Offset(second.0 + 1));
    let expired = log.expired(all, 1_000_000);
    assert_eq!((expired.segments, expired.start), (1, second));
    log.raise_high_watermark(Offset(5000));
    assert_eq!(log.high_watermark(), Offset(90), "as far as the log goes");
    assert_eq!(log.expired(all, 1_000_000).start, Offset(90));
    log.close().unwrap();
    let (log, _) = open(&disk, SMALL).unwrap();
    assert_eq!(log.high_watermark(), Offset(90), "it was written down");
    log.truncate(Offset(30)).unwrap();
    assert_eq!(log.high_watermark(), Offset(30));
}
