//! The log against a plain model, on both disks, with restarts and crashes between any two steps.

use std::ops::ControlFlow;

use super::*;
use crate::batch::{Header, Record, checksum};

#[derive(Clone, Debug)]
enum Operation {
    Append {
        /// Key of each record, and whether it has a value.
        records: Vec<(Option<u8>, bool)>,
        size: usize,
        timestamp: i64,
        /// The time of the append, if that is the records'.
        append_time: Option<i64>,
    },
    Flush,
    Checkpoint,
    /// Files that were not used lately are closed.
    Sweep,
    /// Closed segments are sealed.
    Seal,
    /// As far as so much memory for keys allows.
    Compact {
        keys_bytes: u64,
    },
    /// Time goes by.
    Wait(i64),
    Truncate(prop::sample::Index),
    Trim(prop::sample::Index),
    FindTime(i64),
    /// Closed in good order and opened again.
    Reopen,
    /// The process dies; the kernel lives.
    Kill,
    /// The machine loses its power. On a disk that cannot do that, the same as `Kill`.
    Crash(u64),
    /// Indexes, seals or the checkpoint vanish while the log is closed.
    Forget {
        indexes: bool,
        seals: bool,
        checkpoint: bool,
    },
}

/// Tombstones stay so long.
const DELETE_RETENTION_MS: u64 = 100;
const RULES: Compaction =
    Compaction { min_dirty_ratio: 0.0, min_lag_ms: 0, delete_retention_ms: DELETE_RETENTION_MS };

fn operation() -> impl Strategy<Value = Operation> {
    let key = prop::option::weighted(0.9, 0u8..12);
    let records = prop::collection::vec((key, prop::bool::weighted(0.8)), 1..5);
    prop_oneof![
        12 => (records, 0usize..300, 1i64..1000, prop::option::weighted(0.3, 1i64..1000)).prop_map(
            |(records, size, timestamp, append_time)| {
                Operation::Append { records, size, timestamp, append_time }
            }
        ),
        3 => Just(Operation::Flush),
        2 => Just(Operation::Checkpoint),
        2 => Just(Operation::Sweep),
        2 => Just(Operation::Seal),
        3 => prop_oneof![Just(200u64), Just(1 << 20)]
            .prop_map(|keys_bytes| Operation::Compact { keys_bytes }),
        1 => (0i64..150).prop_map(Operation::Wait),
        1 => any::<prop::sample::Index>().prop_map(Operation::Truncate),
        1 => any::<prop::sample::Index>().prop_map(Operation::Trim),
        2 => (0i64..1001).prop_map(Operation::FindTime),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::Kill),
        2 => any::<u64>().prop_map(Operation::Crash),
        1 => any::<(bool, bool, bool)>().prop_map(|(indexes, seals, checkpoint)| {
            Operation::Forget { indexes, seals, checkpoint }
        }),
    ]
}

/// A record as the model has it.
#[derive(Clone, Debug)]
struct Entry {
    key: Option<u8>,
    value: Option<String>,
    timestamp: i64,
    /// First offset of its batch.
    batch: u64,
    /// True if a compaction took it away.
    gone: bool,
    /// From when on a compaction takes it away, if it is a tombstone that one has seen.
    horizon: Option<i64>,
}

/// What the log should have: every record that was appended, by its offset.
#[derive(Clone, Debug, Default)]
struct Model {
    entries: Vec<Entry>,
    start: u64,
    synced: u64,
    /// Records below were compacted: the log is not cut there any more.
    clean_to: u64,
    now_ms: i64,
}

impl Model {
    fn end(&self) -> u64 {
        self.entries.len() as u64
    }

    fn cut(&mut self, end: u64) {
        self.entries.truncate(end as usize);
        self.synced = self.synced.min(end);
    }

    fn is_batch(&self, offset: u64) -> bool {
        self.entries.get(offset as usize).is_none_or(|entry| entry.batch == offset)
    }

    /// The records that are served, each with its offset.
    fn served(&self) -> impl Iterator<Item = (u64, &Entry)> {
        let entries = (0..).zip(&self.entries).skip(self.start as usize);
        entries.filter(|(_, entry)| !entry.gone)
    }

    fn find_time(&self, at_least: i64) -> Option<u64> {
        self.served().find(|(_, entry)| entry.timestamp >= at_least).map(|(offset, _)| offset)
    }

    /// Takes note of the records of a batch; they are made at `created`.
    fn append(
        &mut self,
        records: &[(Option<u8>, bool)],
        size: usize,
        created: i64,
        timestamp: i64,
    ) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        let batch = self.end();
        for (key, has_value) in records {
            let value = format!("value {} {}", self.end(), "x".repeat(size));
            let value = has_value.then_some(value);
            let key_bytes = key.map(|key| [key]);
            let fields = RecordFields {
                key: key_bytes.as_ref().map(|key| key.as_slice()),
                value: value.as_ref().map(|value| value.as_bytes()),
                headers: &[],
            };
            builder.push(Timestamp(created), &fields);
            let (key, gone, horizon) = (*key, false, None);
            self.entries.push(Entry { key, value, timestamp, batch, gone, horizon });
        }
        builder.finish().unwrap()
    }

    /// A compaction that read the keys in `from..end`.
    fn compact(&mut self, from: u64, end: u64) {
        let mut newest = [None; 256];
        for (offset, entry) in (0..end).zip(&self.entries).skip(from as usize) {
            if let (Some(key), false) = (entry.key, entry.gone) {
                newest[usize::from(key)] = Some(offset);
            }
        }
        let now = self.now_ms;
        for (offset, entry) in (0..end).zip(&mut self.entries) {
            let Some(key) = entry.key else { continue };
            let replaced = newest[usize::from(key)].is_some_and(|newest| newest > offset);
            entry.gone |= replaced || entry.horizon.is_some_and(|horizon| horizon <= now);
        }
        // A batch's tombstones get their time once all of the batch was looked at.
        let half = self.entries.get(end as usize).map_or(u64::MAX, |entry| entry.batch);
        let whole = self.entries.iter_mut().take(end as usize).filter(|entry| entry.batch < half);
        for entry in whole {
            if entry.key.is_some() && entry.value.is_none() && !entry.gone {
                entry.horizon.get_or_insert(now + DELETE_RETENTION_MS as i64);
            }
        }
        self.clean_to = self.clean_to.max(end);
    }

    fn check(&self, log: &Log) {
        assert_eq!(log.end().0, self.end());
        assert_eq!(log.start().0, self.start);
        let found = read_whole(log);
        let found: Vec<_> = found.iter().map(|record| (record.offset.0, fields(record))).collect();
        let expected = |(offset, entry): (u64, &Entry)| {
            (offset, (entry.key, entry.value.clone(), entry.timestamp))
        };
        let expected: Vec<_> = self.served().map(expected).collect();
        let differs = found.iter().zip(&expected).find(|(found, expected)| found != expected);
        assert_eq!(differs, None, "found and expected");
        assert_eq!(found.len(), expected.len());
        let beyond = log.read(Offset(self.end() + 1), 1);
        assert!(matches!(beyond, Err(ReadError::OutOfRange { .. })));
    }
}

fn fields(record: &Record) -> (Option<u8>, Option<String>, i64) {
    let value = record.value.as_ref().map(|value| String::from_utf8(value.to_vec()).unwrap());
    (record.key.as_ref().map(|key| key[0]), value, record.timestamp.0)
}

/// Everything that the log serves, read batch by batch, each following the one before.
fn read_whole(log: &Log) -> Vec<Record> {
    let mut found = Vec::new();
    let mut at = log.start();
    while let Some(range) = log.read(at, 700).unwrap().range {
        let mut bytes = Bytes::from(range.read().unwrap());
        assert_eq!(bytes.len() as u64, range.length);
        while !bytes.is_empty() {
            let header = Header::parse(&bytes).unwrap();
            assert_eq!(header.crc, checksum(&bytes[..header.size]));
            assert!(header.base_offset == at || at == log.start() && header.base_offset < at);
            let all = records(&bytes, 1 << 20).unwrap().map(Result::unwrap);
            found.extend(all.filter(|record| record.offset >= log.start()));
            bytes = bytes.slice(header.size..);
            at = header.next_offset();
        }
    }
    assert_eq!(at, log.end());
    found
}

pub(super) enum Device {
    Memory(MemoryDisk),
    Mapped(MappedDisk, tempfile::TempDir),
}

impl Device {
    pub fn mapped() -> Device {
        Device::Mapped(MappedDisk::start().unwrap(), tempfile::tempdir().unwrap())
    }

    pub fn disk(&self) -> Arc<dyn Disk> {
        match self {
            Device::Memory(disk) => Arc::new(disk.clone()),
            Device::Mapped(disk, _) => Arc::new(disk.clone()),
        }
    }

    pub fn dir(&self) -> PathBuf {
        match self {
            Device::Memory(_) => dir(),
            Device::Mapped(_, root) => root.path().join(dir()),
        }
    }

    pub fn store(&self) -> Arc<Store> {
        store(self.disk())
    }

    pub fn open(&self) -> (Arc<Log>, Recovery) {
        Log::open(&self.store(), &self.dir(), SMALL, 0).unwrap()
    }

    /// After a crash the log may have lost what was not synced, and nothing else.
    fn crash(&mut self, seed: u64, model: &mut Model) -> Arc<Log> {
        let Device::Memory(disk) = self else { return self.open().0 };
        *disk = disk.crash(seed);
        let log = self.open().0;
        let end = log.end().0;
        assert!(end >= model.synced, "{} records were synced, {end} are there", model.synced);
        assert!(end <= model.end(), "records were invented");
        assert!(model.is_batch(end), "half a batch at {end}");
        model.cut(end);
        log
    }

    fn forget(&self, indexes: bool, seals: bool, checkpoint: bool) {
        for entry in self.disk().list(&self.dir()).unwrap() {
            let name = entry.name.as_str();
            let goes = name.ends_with("index") && indexes
                || name.ends_with("seal") && seals
                || name == "checkpoint" && checkpoint;
            if goes {
                self.disk().remove(&self.dir().join(name)).unwrap();
            }
        }
        self.disk().sync_dir(&self.dir()).unwrap();
    }
}

/// Compacts the log and the model alike.
fn compact(log: &Log, model: &mut Model, keys_bytes: u64) {
    let dirt = log.dirt(&RULES, log.synced(), model.now_ms);
    let job = Job {
        rules: &RULES,
        limit: log.synced(),
        now_ms: model.now_ms,
        keys_bytes,
        seed: &[7; 16],
    };
    let done = log.compact(job, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(!done.broken_off);
    assert!(done.segments_after <= done.segments_before);
    // Where all that is dirty lies below the start of the log, there is nothing to come through.
    assert!(done.clean_to > dirt.from || dirt.from == dirt.to, "it came no further");
    if done.segments_before > 0 {
        model.compact(dirt.from.0, done.clean_to.0);
    }
    let left = log.dirt(&RULES, log.synced(), model.now_ms);
    assert!(left.from >= done.clean_to, "what was done is known");
    for segment in log.segments().iter() {
        log.check_seal(segment, &mut |_| {}).unwrap();
    }
}

fn run(mut device: Device, operations: Vec<Operation>) {
    let mut model = Model::default();
    let mut log = device.open().0;
    for operation in operations {
        match operation {
            Operation::Append { records, size, timestamp, append_time } => {
                let timestamp_type = match append_time {
                    Some(_) => TimestampType::LogAppendTime,
                    None => TimestampType::CreateTime,
                };
                log.set_settings(LogSettings { timestamp_type, ..SMALL });
                let now_ms = append_time.unwrap_or(timestamp);
                let base = model.end();
                let bytes = model.append(&records, size, timestamp, now_ms);
                let checked = CheckedBatch::check(&bytes, 1 << 20).unwrap();
                let appended = log.append(&checked, Epoch(0), now_ms).unwrap();
                assert_eq!(appended.base_offset.0, base);
                assert_eq!(appended.next_offset.0, model.end());
            }
            Operation::Flush => model.synced = log.flush().unwrap().0,
            Operation::Checkpoint => log.checkpoint().unwrap(),
            Operation::Seal => {
                while let Some(segment) = log.unsealed() {
                    assert!(log.seal(&segment, &mut |_| {}).unwrap());
                }
                let segments = log.segments();
                segments.iter().for_each(|segment| log.check_seal(segment, &mut |_| {}).unwrap());
            }
            Operation::Compact { keys_bytes } => compact(&log, &mut model, keys_bytes),
            Operation::Wait(time) => model.now_ms += time,
            Operation::Sweep => {
                // The first finds it used; the second closes it, and opens files to sync them.
                for _ in 0..4 {
                    log.store.sweep();
                }
                assert!(log.is_parked());
                assert_eq!(log.store.open_now().files, 0);
                model.synced = log.synced().0;
            }
            Operation::Truncate(to) => {
                let from = model.start.max(model.clean_to);
                let to = from + to.index((model.end() - from + 1) as usize) as u64;
                let expected = model.entries.get(to as usize).map_or(to, |entry| entry.batch);
                if expected >= from {
                    assert_eq!(log.truncate(Offset(to)).unwrap().0, expected);
                    model.cut(expected);
                }
            }
            Operation::Trim(to) => {
                let to = to.index(model.end() as usize + 1) as u64;
                model.start = model.start.max(to);
                assert_eq!(log.trim(Offset(to), None).unwrap().0, model.start);
                model.synced = model.end();
            }
            Operation::FindTime(at_least) => {
                let found = log.find_time(Timestamp(at_least)).unwrap();
                assert_eq!(found.map(|found| found.offset.0), model.find_time(at_least));
            }
            Operation::Reopen => {
                log.close().unwrap();
                drop(log);
                model.synced = model.end();
                let (reopened, recovery) = device.open();
                assert_eq!(recovery, Recovery::default(), "a clean stop leaves nothing to do");
                log = reopened;
            }
            Operation::Kill => {
                drop(log);
                log = device.open().0;
            }
            Operation::Crash(seed) => {
                drop(log);
                log = device.crash(seed, &mut model);
            }
            Operation::Forget { indexes, seals, checkpoint } => {
                log.close().unwrap();
                drop(log);
                model.synced = model.end();
                device.forget(indexes, seals, checkpoint);
                log = device.open().0;
                // Without a checkpoint the log starts where its first segment does.
                model.start = log.start().0;
            }
        }
        model.check(&log);
    }
}

/// So many runs, or `MK_MODEL_CASES` times as many.
fn cases(usual: u32) -> ProptestConfig {
    let times = std::env::var("MK_MODEL_CASES").ok().and_then(|text| text.parse().ok());
    ProptestConfig::with_cases(usual * times.unwrap_or(1))
}

proptest! {
    #![proptest_config(cases(1500))]
    #[test]
    fn the_log_is_as_the_model_on_a_disk_that_crashes(
        operations in prop::collection::vec(operation(), 1..60),
    ) {
        run(Device::Memory(MemoryDisk::new()), operations);
    }
}

proptest! {
    #![proptest_config(cases(150))]
    #[test]
    fn the_log_is_as_the_model_on_the_mapped_disk(
        operations in prop::collection::vec(operation(), 1..40),
    ) {
        run(Device::mapped(), operations);
    }
}
