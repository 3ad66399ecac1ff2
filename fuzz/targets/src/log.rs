//! A small log in memory, as files, and what a consumer gets of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use mk_storage::batch::{BatchBuilder, CheckedBatch, Compression, Header, RecordFields, records};
use mk_storage::checkpoint::{CHECKPOINT_FILE, Checkpoint};
use mk_storage::disk::{Disk, MemoryDisk};
use mk_storage::error::OpenError;
use mk_storage::log::{Log, LogSettings, Recovery};
use mk_storage::store::{OpenLimits, Store};
use mk_storage::{Epoch, Offset, Timestamp};

use crate::input::Input;

const DIR: &str = "p";

/// The files of a partition's folder, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A record as it was written: its offset, its time, its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Written {
    pub offset: u64,
    pub timestamp: i64,
    pub value: Bytes,
}

/// Where a batch lies.
#[derive(Clone, Debug)]
pub struct Place {
    pub file: String,
    /// First byte, and the one behind the last.
    pub bytes: (usize, usize),
    /// First offset, and the one behind the last.
    pub offsets: (u64, u64),
}

/// A log that was written and left, and what is known of it.
#[derive(Clone, Debug)]
pub struct Sample {
    pub files: Files,
    pub records: Vec<Written>,
    pub batches: Vec<Place>,
    pub start: u64,
}

/// Small enough that a handful of batches crosses every boundary.
pub fn settings() -> LogSettings {
    LogSettings { segment_bytes: 2000, index_interval_bytes: 300, ..LogSettings::default() }
}

pub fn open(files: &Files) -> (MemoryDisk, Result<(Arc<Log>, Recovery), OpenError>) {
    let disk = MemoryDisk::new();
    let dir = Path::new(DIR);
    let made = disk.create_dir(dir).and_then(|()| {
        files.iter().try_for_each(|(name, bytes)| disk.write(&dir.join(name), bytes))?;
        disk.sync_dir(dir)
    });
    made.expect("memory does not fail");
    let log = reopen(&disk);
    (disk, log)
}

/// Opens the log; one that is only to be read up to some damage counts as refused.
pub fn reopen(disk: &MemoryDisk) -> Result<(Arc<Log>, Recovery), OpenError> {
    let store = Store::new(Arc::new(disk.clone()), OpenLimits::default());
    let (log, mut recovery) = Log::open(&store, Path::new(DIR), settings(), 0)?;
    match recovery.damage.take() {
        Some(damage) => Err(damage.into()),
        None => Ok((log, recovery)),
    }
}

/// What to write.
#[derive(Clone, Debug)]
pub struct Shape {
    /// For each batch its epoch, and for each record its time and the size of its value.
    pub batches: Vec<(Epoch, Vec<(i64, usize)>)>,
    /// How many of them are synced and checkpointed before the next comes.
    pub flushed: usize,
    pub trimmed: Option<Offset>,
    /// Closed segments are sealed.
    pub sealed: bool,
    /// Closed in good order; otherwise left as a process leaves it that is killed.
    pub closed: bool,
}

pub fn some_shape(input: &mut Input<'_>) -> Shape {
    let mut epoch = Epoch(0);
    let mut batch = |input: &mut Input<'_>| {
        epoch.0 += i32::from(input.one_in(6));
        let size = input.below(250);
        let record = |_| (1000 + i64::from(input.byte()), size);
        (epoch, (0..=size % 4).map(record).collect())
    };
    let batches: Vec<_> = (0..3 + input.below(22)).map(|_| batch(input)).collect();
    Shape {
        flushed: input.below(batches.len() + 1),
        trimmed: input.one_in(4).then(|| Offset(input.below(batches.len()) as u64)),
        sealed: input.one_in(2),
        closed: input.one_in(3),
        batches,
    }
}

/// Writes a log.
pub fn written(shape: &Shape) -> Sample {
    let (disk, log) = open(&Files::new());
    let (log, _) = log.expect("an empty folder");
    let mut records = Vec::new();
    for (at, (epoch, batch)) in shape.batches.iter().enumerate() {
        if at == shape.flushed {
            log.flush().expect("memory does not fail");
            log.checkpoint().expect("memory does not fail");
        }
        let first = records.len();
        for (timestamp, size) in batch {
            let offset = records.len() as u64;
            let value = format!("{offset} {}", "x".repeat(*size)).into();
            records.push(Written { offset, timestamp: *timestamp, value });
        }
        append(&log, *epoch, &records[first..]);
    }
    if let Some(start) = shape.trimmed {
        log.trim(start, None).expect("within the log");
    }
    while let Some(segment) = log.unsealed().filter(|_| shape.sealed) {
        assert!(log.seal(&segment, &mut |_| {}).expect("memory does not fail"));
    }
    if shape.closed {
        log.close().expect("memory does not fail");
    }
    let files = files(&disk);
    let batches = files.iter().flat_map(|(name, bytes)| places(name, bytes)).collect();
    Sample { files, records, batches, start: log.start().0 }
}

pub fn append(log: &Arc<Log>, epoch: Epoch, records: &[Written]) {
    let mut builder = BatchBuilder::new(Compression::None);
    for record in records {
        let fields = RecordFields { value: Some(&record.value), ..RecordFields::default() };
        builder.push(Timestamp(record.timestamp), &fields);
    }
    let batch = builder.finish().expect("memory does not fail");
    let batch = CheckedBatch::check(&batch, batch.len()).expect("sound");
    log.append(&batch, epoch, 0).expect("memory does not fail");
}

/// The bytes of a checkpoint file.
pub fn encoded(checkpoint: &Checkpoint) -> Vec<u8> {
    let disk = MemoryDisk::new();
    let dir = Path::new(DIR);
    checkpoint.write(&disk, dir).expect("memory does not fail");
    disk.bytes(&dir.join(CHECKPOINT_FILE)).expect("just written")
}

/// What a consumer gets that reads from the start, `most` bytes at once, checks every batch as it
/// should, and stops at what is wrong; and what that was.
pub fn consume(log: &Log, most: u64) -> (Vec<Written>, Option<String>) {
    let mut got: Vec<Written> = Vec::new();
    let mut at = log.start();
    while at < log.end() {
        match read(log, at, most) {
            // Only the first batch may begin before what was asked for.
            Ok((_, read)) if !got.is_empty() && read.first().is_none_or(|r| r.offset != at.0) => {
                return (got, Some(format!("no batch begins at {at}")));
            }
            Ok((next, read)) => {
                got.extend(read.into_iter().filter(|record| record.offset >= at.0));
                at = next;
            }
            Err(wrong) => return (got, Some(wrong)),
        }
    }
    (got, None)
}

/// The records of one read at `at`, and the offset that follows them.
pub fn read(log: &Log, at: Offset, most: u64) -> Result<(Offset, Vec<Written>), String> {
    let slice = log.read(at, most).map_err(|error| error.to_string())?;
    let range = slice.range.ok_or("nothing below the end")?;
    let mut bytes = Bytes::from(range.read().map_err(|error| error.to_string())?);
    assert!(!bytes.is_empty() && bytes.len() as u64 == range.length, "what is promised is there");
    let mut got = Vec::new();
    let mut next = None;
    while !bytes.is_empty() {
        let size = Header::parse(&bytes).map_err(|error| error.to_string())?.size;
        let batch = bytes.split_to(size.min(bytes.len()));
        let checked =
            CheckedBatch::check(&batch, batch.len()).map_err(|error| error.to_string())?;
        let header = checked.header();
        let follows = next.map_or(header.base_offset <= at, |next| header.base_offset == next);
        if !follows || header.last_offset() < at {
            return Err(format!("offset {} where {next:?} or {at} follows", header.base_offset));
        }
        next = Some(header.next_offset());
        for record in records(&batch, 1 << 20).map_err(|error| error.to_string())? {
            let record = record.map_err(|error| error.to_string())?;
            let (offset, timestamp) = (record.offset.0, record.timestamp.0);
            got.push(Written { offset, timestamp, value: record.value.unwrap_or_default() });
        }
    }
    Ok((next.ok_or("no batch")?, got))
}

/// A file's bytes, if it is there.
pub fn file(disk: &MemoryDisk, name: &str) -> Option<Vec<u8>> {
    disk.bytes(&Path::new(DIR).join(name)).ok()
}

fn files(disk: &MemoryDisk) -> Files {
    let entries = disk.list(Path::new(DIR)).expect("the folder");
    entries
        .into_iter()
        .filter_map(|entry| Some((entry.name.clone(), file(disk, &entry.name)?)))
        .collect()
}

/// The batches of a log file.
fn places(name: &str, bytes: &[u8]) -> Vec<Place> {
    let mut places = Vec::new();
    let mut at = 0;
    while let (true, Ok(header)) = (name.ends_with(".log"), Header::parse(&bytes[at..])) {
        let offsets = (header.base_offset.0, header.next_offset().0);
        places.push(Place { file: name.to_owned(), bytes: (at, at + header.size), offsets });
        at += header.size;
    }
    places
}
