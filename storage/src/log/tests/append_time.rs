//! `LogAppendTime`: the leader says when the records of a batch were appended.

use std::ops::ControlFlow;

use super::*;
use crate::batch::{Header, Record, checksum, number};
use crate::log::Retention;

const STAMPED: LogSettings = LogSettings { timestamp_type: TimestampType::LogAppendTime, ..SMALL };

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// A batch of three records that were made at 10, 30 and 20.
fn three(codec: Compression) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for (key, created) in [("a", 10), ("b", 30), ("c", 20)] {
        let (key, value) = (Some(key.as_bytes()), Some("value".as_bytes()));
        builder.push(Timestamp(created), &RecordFields { key, value, headers: &[] });
    }
    builder.finish().unwrap()
}

fn append_at(log: &Arc<Log>, bytes: &[u8], now_ms: i64) -> Appended {
    log.append(&CheckedBatch::check(bytes, 1 << 20).unwrap(), Epoch(4), now_ms).unwrap()
}

/// All bytes of the log.
fn bytes_of(log: &Log) -> Vec<u8> {
    let mut found = Vec::new();
    for segment in log.segments().iter() {
        let range = log.read(segment.base(), u64::MAX).unwrap().range;
        found.extend(range.map(|range| range.read().unwrap()).unwrap_or_default());
    }
    found
}

/// Each batch of the log with its records, its checksum checked.
fn batches_of(log: &Log) -> Vec<(Header, Vec<Record>)> {
    let mut rest = Bytes::from(bytes_of(log));
    let mut found = Vec::new();
    while !rest.is_empty() {
        let header = Header::parse(&rest).unwrap();
        assert_eq!(header.crc, checksum(&rest[..header.size]));
        let all = records(&rest, 1 << 20).unwrap().map(Result::unwrap).collect();
        found.push((header, all));
        rest = rest.slice(header.size..);
    }
    found
}

fn compact(log: &Arc<Log>, now_ms: i64) {
    log.flush().unwrap();
    log.raise_high_watermark(log.end());
    let rules = Compaction { min_dirty_ratio: 0.0, min_lag_ms: 0, delete_retention_ms: 1_000_000 };
    let limit = log.synced();
    let job = Job { rules: &rules, limit, now_ms, keys_bytes: 1 << 20, seed: &[1; 16] };
    log.compact(job, &mut |_| ControlFlow::Continue(())).unwrap();
}

#[test]
fn records_have_the_time_of_the_append_and_are_otherwise_as_they_were() {
    for codec in CODECS {
        let (log, _) = open(&MemoryDisk::new(), STAMPED).unwrap();
        let sent = three(codec);
        let appended = append_at(&log, &sent, 5000);
        assert_eq!(appended.log_append_time, Timestamp(5000));
        append_at(&log, &sent, 6000);
        let bytes = bytes_of(&log);
        assert_eq!(bytes[HEADER_LEN..sent.len()], sent[HEADER_LEN..], "{codec}");
        for ((header, all), time) in batches_of(&log).into_iter().zip([5000, 6000]) {
            let created = Header::parse(&sent).unwrap();
            let expected = Header {
                base_offset: header.base_offset,
                leader_epoch: Epoch(4),
                crc: header.crc,
                attributes: created.attributes | 8,
                max_timestamp: Timestamp(time),
                ..created
            };
            assert_eq!(header, expected);
            assert_eq!(all.len(), 3);
            assert!(all.iter().all(|record| record.timestamp == Timestamp(time)), "{codec}");
        }
        let found = |at_least| {
            log.find_time(Timestamp(at_least)).unwrap().map(|f| (f.offset.0, f.timestamp.0))
        };
        assert_eq!((found(0), found(5000)), (Some((0, 5000)), Some((0, 5000))));
        assert_eq!((found(5001), found(6001)), (Some((3, 6000)), None));
        assert_eq!(log.find_max_time().unwrap().unwrap().offset, Offset(3));
    }
}

/// Whatever their own settings and clocks say.
#[test]
fn followers_have_the_leaders_times() {
    let (leader, _) = open(&MemoryDisk::new(), STAMPED).unwrap();
    for n in 0..40 {
        append_at(&leader, &three(CODECS[n % 5]), 5000 + n as i64);
    }
    assert!(leader.segments().len() > 2);
    for settings in [SMALL, STAMPED] {
        let (follower, _) = open(&MemoryDisk::new(), settings).unwrap();
        follower.append_copies(&bytes_of(&leader), Epoch(4), 9999).unwrap();
        assert!(bytes_of(&follower) == bytes_of(&leader));
    }
}

#[test]
fn the_setting_holds_from_the_next_append_on() {
    let (log, _) = open(&MemoryDisk::new(), SMALL).unwrap();
    let mut expected = Vec::new();
    for (n, settings) in [SMALL, STAMPED, SMALL].into_iter().enumerate() {
        log.set_settings(settings);
        let appended = append_at(&log, &three(Compression::None), 5000);
        let times = match settings.timestamp_type {
            TimestampType::CreateTime => [10, 30, 20],
            TimestampType::LogAppendTime => [5000; 3],
        };
        assert_eq!(appended.log_append_time, Timestamp(if n == 1 { 5000 } else { -1 }));
        expected.extend(times);
    }
    let all = batches_of(&log).into_iter().flat_map(|(_, all)| all);
    assert_eq!(all.map(|record| record.timestamp.0).collect::<Vec<_>>(), expected);
}

/// A batch that is sent again is told the time that it got the first time, of which consumers are told.
#[test]
fn a_batch_sent_again_keeps_its_time() {
    let disk = MemoryDisk::new();
    let (mut log, _) = open(&disk, STAMPED).unwrap();
    let send = |log: &Arc<Log>, first: i32, now_ms| {
        let mut bytes = three(Compression::None);
        number(&mut bytes, 7, 0, first).unwrap();
        let appended = append_at(log, &bytes, now_ms);
        (appended.duplicate, appended.log_append_time.0)
    };
    for n in 0..5 {
        assert_eq!(send(&log, n * 3, 100 + i64::from(n)), (false, 100 + i64::from(n)));
    }
    for _ in 0..2 {
        for n in 0..5 {
            assert_eq!(send(&log, n * 3, 900), (true, 100 + i64::from(n)));
        }
        log.close().unwrap();
        log = open(&disk, STAMPED).unwrap().0;
    }
    log.set_settings(SMALL);
    assert_eq!(send(&log, 12, 900), (true, -1), "the topic's times are the producers'");
    assert_eq!(send(&log, 15, 900), (false, -1));
    log.set_settings(STAMPED);
    assert_eq!(send(&log, 15, 901), (true, -1), "it has the times of its producer");
    assert_eq!(log.end(), Offset(18));
}

/// Another batch stands for the offsets of one that was compacted away: that one's time is not its.
#[test]
fn a_batch_sent_again_that_was_compacted_away_has_no_time() {
    let (log, _) = open(&MemoryDisk::new(), STAMPED).unwrap();
    let send = |first: i32| {
        let mut batch = three(Compression::None);
        number(&mut batch, 7, 0, first * 3).unwrap();
        append_at(&log, &batch, 100 + i64::from(first))
    };
    append_at(&log, &batch(&values(0, 1), 0), 50);
    for first in 0..5 {
        assert!(!send(first).duplicate);
    }
    for _ in 0..40 {
        append_at(&log, &three(Compression::None), 500);
    }
    compact(&log, 500);
    let kept: Vec<_> = batches_of(&log).iter().map(|(header, _)| header.base_offset.0).collect();
    assert!(kept.starts_with(&[0, 13]), "{kept:?}");
    let told = |first| (send(first).duplicate, send(first).log_append_time);
    assert_eq!(told(3), (true, Timestamp::NONE));
    assert_eq!(log.end(), Offset(136));
}

#[test]
fn retention_goes_by_the_time_of_the_append() {
    for (settings, left) in [(STAMPED, true), (SMALL, false)] {
        let (log, _) = open(&MemoryDisk::new(), settings).unwrap();
        for _ in 0..40 {
            append_at(&log, &three(Compression::None), 100_000);
        }
        log.flush().unwrap();
        log.raise_high_watermark(log.end());
        let retention = Retention { bytes: None, age_ms: Some(50_000) };
        let expired = |now_ms| log.expired(retention, now_ms).segments;
        assert_eq!(expired(140_000) == 0, left, "{settings:?}");
        assert!(expired(160_000) > 0);
    }
}

/// What a compaction writes anew has the same times; and though those of producers lie far before, no batch
/// grows, for which there might be no room.
#[test]
fn a_compaction_keeps_the_times() {
    for codec in CODECS {
        let disk = MemoryDisk::new();
        let (log, _) = open(&disk, STAMPED).unwrap();
        for n in 0..60 {
            // All stay but one, and in the end the tombstone that every second has.
            let mut batch = BatchBuilder::new(codec);
            for (at, key) in (0..10).map(|at| (at, format!("key {n} {at}"))) {
                let key = if at == 5 { "the same" } else { &key };
                let value = (at != 8 || n % 2 == 0).then_some("value".as_bytes());
                let fields = RecordFields { key: Some(key.as_bytes()), value, headers: &[] };
                batch.push(Timestamp(1), &fields);
            }
            append_at(&log, &batch.finish().unwrap(), 1_700_000_000_000 + n);
        }
        let before = batches_of(&log);
        for now_ms in [1_700_000_000_100, 1_700_000_100_000] {
            compact(&log, now_ms);
            let after = batches_of(&log);
            let mut rewritten = 0;
            for (header, all) in after.iter().filter(|(_, all)| !all.is_empty()) {
                let (old, _) =
                    before.iter().find(|(old, _)| old.base_offset == header.base_offset).unwrap();
                assert_eq!(header.timestamp_type(), TimestampType::LogAppendTime);
                assert_eq!(header.max_timestamp, old.max_timestamp);
                assert!(all.iter().all(|record| record.timestamp == old.max_timestamp));
                let has_horizon = header.delete_horizon().is_some();
                assert!(header.size <= old.size || has_horizon, "{codec}: {old:?} {header:?}");
                rewritten += usize::from(header.record_count != old.record_count);
            }
            assert!(rewritten > 0);
        }
    }
}
