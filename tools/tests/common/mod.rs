//! Logs to look at.

#![allow(dead_code, reason = "each test uses what it needs")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use mk_storage::batch::{
    BatchBuilder, CheckedBatch, Compression, RecordFields, TimestampType, records,
};
use mk_storage::disk::{Disk, MappedDisk};
use mk_storage::log::{Compacted, Compaction, Job, Log, LogSettings};
use mk_storage::store::{OpenLimits, Store};
use mk_storage::{Epoch, Offset, Timestamp};

pub const SETTINGS: LogSettings = LogSettings {
    segment_bytes: 1500,
    segment_ms: i64::MAX,
    index_interval_bytes: 200,
    timestamp_type: TimestampType::CreateTime,
};

/// Records of each batch.
pub const EACH: u64 = 3;

pub fn open(dir: &Path) -> Arc<Log> {
    try_open(dir).unwrap()
}

pub fn try_open(dir: &Path) -> Result<Arc<Log>, mk_storage::error::OpenError> {
    try_open_on(Arc::new(MappedDisk::start().unwrap()), dir)
}

pub fn try_open_on(
    disk: Arc<dyn Disk>,
    dir: &Path,
) -> Result<Arc<Log>, mk_storage::error::OpenError> {
    let store = Store::new(disk, OpenLimits::default());
    let (log, recovery) = Log::open(&store, dir, SETTINGS, 0)?;
    // One that is only to be read up to some damage does not count as open.
    recovery.damage.map_or(Ok(log), |damage| Err(damage.into()))
}

pub fn value(offset: u64) -> String {
    format!("value {offset}, of some length")
}

/// Appends batches until the log ends at `end`; the leader changes at offset 60.
pub fn fill(log: &Arc<Log>, end: u64, codec: Compression) {
    while log.end().0 < end {
        let base = log.end().0;
        let mut builder = BatchBuilder::new(codec);
        for offset in base..end.min(base + EACH) {
            let (key, value) = (format!("k{}", offset % 7), value(offset));
            let value = (offset % 10 != 8).then_some(value.as_bytes());
            let key = (offset % 2 == 0).then_some(key.as_bytes());
            builder.push(
                Timestamp(1_700_000_000_000 + offset as i64 * 10),
                &RecordFields { key, value, headers: &[] },
            );
        }
        let bytes = builder.finish().unwrap();
        let batch = CheckedBatch::check(&bytes, 1 << 20).unwrap();
        log.append(&batch, Epoch(i32::from(base >= 60)), 0).unwrap();
    }
}

pub fn seal_all(log: &Arc<Log>) {
    while let Some(segment) = log.unsealed() {
        assert!(log.seal(&segment, &mut |_| ()).unwrap());
    }
}

/// A log of offsets 0 to 119 in some sealed segments and an open one, closed in good order.
pub fn sealed_log(dir: &Path) {
    let log = open(dir);
    fill(&log, 120, Compression::None);
    log.flush().unwrap();
    seal_all(&log);
    log.close().unwrap();
    assert!(log.segments().len() >= 4, "{}", log.segments().len());
}

/// A time when all records are old.
pub const LATER_MS: i64 = 1_800_000_000_000;

/// Compacts all segments but the last, as far as memory for so many keys goes.
pub fn compact(log: &Log, keys_bytes: u64) -> Compacted {
    let rules = Compaction { min_dirty_ratio: 0.0, min_lag_ms: 0, delete_retention_ms: 1000 };
    let (limit, seed) = (log.synced(), &[7; 16]);
    let job = Job { rules: &rules, limit, now_ms: LATER_MS, keys_bytes, seed };
    log.compact(job, &mut |_| ControlFlow::Continue(())).unwrap()
}

/// Memory for more keys than there are.
pub const ENOUGH: u64 = 1 << 20;

/// The same log as `sealed_log` makes, compacted.
pub fn compacted_log(dir: &Path) {
    sealed_log(dir);
    let log = open(dir);
    assert!(compact(&log, ENOUGH).bytes_after > 0);
    log.close().unwrap();
}

/// Offsets and values of all records.
pub fn contents(log: &Log) -> Vec<(u64, Option<String>)> {
    let mut found = Vec::new();
    for segment in log.segments().iter() {
        for item in segment.headers(mk_storage::Position(0)).unwrap() {
            let (position, header) = item.unwrap();
            let mut bytes = vec![0; header.size];
            let view = segment.log().unwrap();
            mk_storage::disk::read_fully(view.as_ref(), position.0, &mut bytes).unwrap();
            for record in records(&Bytes::from(bytes), 1 << 20).unwrap() {
                let record = record.unwrap();
                let value = record.value.map(|value| String::from_utf8(value.to_vec()).unwrap());
                found.push((record.offset.0, value));
            }
        }
    }
    found.retain(|(offset, _)| Offset(*offset) >= log.start());
    found
}

/// All damage that `verify` finds.
pub fn damage(dir: &Path) -> Vec<String> {
    let disk = MappedDisk::start().unwrap();
    let mut found = Vec::new();
    for partition in mk_tools::find::partitions(&disk, dir).unwrap() {
        for file in mk_tools::verify::partition(&disk, &partition).unwrap() {
            found.extend(file.damage.iter().map(ToString::to_string));
        }
    }
    found
}

/// Names and contents of a folder's files.
pub fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.is_file()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for (path, bytes) in files(from) {
        std::fs::write(to.join(path.file_name().unwrap()), bytes).unwrap();
    }
}

/// Exit code, standard output and standard error of mkinspect.
pub fn mkinspect(arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mkinspect")).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs all that only reads; what it finds is no matter, as long as it comes to an end.
pub fn look(dir: &Path, other: &Path) {
    use mk_tools::{diff, dump, find, list, map, stats};
    let disk = MappedDisk::start().unwrap();
    let out = &mut std::io::sink();
    for json in [true, false] {
        dump::path(out, &disk, dir, dump::Style { json, records: true }).unwrap();
        for (path, _) in files(dir) {
            // Some are nothing that can be dumped.
            let _ = dump::path(out, &disk, &path, dump::Style { json, records: true });
        }
    }
    for files in find::partitions(&disk, dir).unwrap() {
        list::print(out, &disk, &files).unwrap();
        for verify in [true, false] {
            let style = map::Style { width: 40, colour: true, compact: verify, verify };
            map::print(out, &disk, &files, style).unwrap();
        }
        let found = stats::partition(&disk, &files).unwrap();
        stats::print_text(out, "", &found).unwrap();
        stats::print_json(out, "", &found).unwrap();
    }
    diff::print(out, &disk, [dir, other]).unwrap();
    diff::print(out, &disk, [other, dir]).unwrap();
}
