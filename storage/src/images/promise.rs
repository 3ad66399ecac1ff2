//! What an image must hold.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{
    self, BatchBuilder, CheckedBatch, Compression, Header, RecordFields, TimestampType, checksum,
    records,
};
use crate::disk::MemoryDisk;
use crate::error::AppendError;
use crate::log::{Appended, CompactError, Compaction, Job, Log, LogSettings};
use crate::producers::{Producers, sequence_after};
use crate::store::{OpenLimits, Store};
use crate::{Epoch, Offset, Timestamp};

/// Small enough that a handful of batches crosses every boundary.
pub const SETTINGS: LogSettings = LogSettings {
    segment_bytes: 2000,
    segment_ms: 1_000_000,
    index_interval_bytes: 300,
    timestamp_type: TimestampType::CreateTime,
};

/// Tombstones go with the next compaction but one.
const RULES: Compaction =
    Compaction { min_dirty_ratio: 0.0, min_lag_ms: 0, delete_retention_ms: 1 };

/// What was written at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    pub key: u8,
    /// None for a tombstone.
    pub value: Option<String>,
}

/// A batch that was appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Offset of its first record.
    pub base: u64,
    /// How many records it had.
    pub records: u32,
    pub number: Number,
}

/// Whose a batch is, and the number of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number {
    /// The producer's id; -1: it is not idempotent.
    pub producer: i64,
    pub epoch: i16,
    pub first: i32,
}

impl Number {
    pub const NONE: Number = Number { producer: -1, epoch: -1, first: -1 };
}

/// Invariant: `clean_to <= at_least <= records.len()`, `start.0 <= start.1`.
#[derive(Clone, Debug, Default)]
pub struct Promise {
    /// Each record by its offset, as far as anything was ever appended.
    pub records: Vec<Written>,
    pub batches: Vec<Batch>,
    /// Leader epochs and where they begin.
    pub epochs: Vec<(Epoch, Offset)>,
    /// Records below were acknowledged.
    pub at_least: u64,
    /// Of the records below, those may be gone that a newer one below replaces, and tombstones.
    pub clean_to: u64,
    /// The log starts between these.
    pub start: (u64, u64),
}

impl Promise {
    pub fn end(&self) -> u64 {
        self.records.len() as u64
    }

    /// Takes note of records that may be on the disk from now on.
    pub fn append(&mut self, records: &[Written], number: Number, epoch: Epoch) {
        let base = self.end();
        self.batches.push(Batch { base, records: records.len() as u32, number });
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.push((epoch, Offset(base)));
        }
        self.records.extend_from_slice(records);
    }

    /// Forgets the records from `end` on.
    pub fn cut(&mut self, end: u64) {
        self.records.truncate(end as usize);
        self.batches.retain(|batch| batch.base < end);
        self.epochs.retain(|(_, base)| base.0 < end);
        self.at_least = self.at_least.min(end);
    }

    /// The last batch of a producer before `end`.
    fn last_of(&self, producer: i64, end: u64) -> Option<&Batch> {
        let mut before = self.batches.iter().rev().filter(|batch| batch.base < end);
        before.find(|batch| batch.number.producer == producer)
    }

    /// What follows for a producer, in its epoch or in a new one.
    pub fn next_number(&self, producer: i64, new_epoch: bool) -> Number {
        let last = self.last_of(producer, self.end());
        let epoch = last.map_or(0, |last| last.number.epoch);
        match last {
            Some(last) if !new_epoch => {
                Number { producer, epoch, first: sequence_after(last.number.first, last.records) }
            }
            _ => Number { producer, epoch: epoch + i16::from(new_epoch), first: 0 },
        }
    }

    /// The end of the log if a truncation asks for `to`.
    pub fn end_if_cut_to(&self, to: u64) -> u64 {
        if to >= self.end() {
            return self.end();
        }
        self.batches.iter().rfind(|batch| batch.base <= to).map_or(0, |batch| batch.base)
    }

    /// Opens the log and compares it with the promise.
    pub fn open(&self, disk: &MemoryDisk) -> Result<Arc<Log>, String> {
        let store = Store::new(Arc::new(disk.clone()), OpenLimits { files: 3, logs: 1 });
        let (log, recovery) = Log::open(&store, &dir(), SETTINGS, 0)
            .map_err(|error| format!("it does not open: {error}"))?;
        if let Some(damage) = recovery.damage {
            return Err(format!("it does not open: {damage}"));
        }
        self.check(&log)?;
        Ok(log)
    }

    pub fn check(&self, log: &Log) -> Result<(), String> {
        let (start, end) = (log.start().0, log.end().0);
        if end < self.at_least {
            return Err(format!("{} records were acknowledged, {end} are there", self.at_least));
        }
        if end > self.end()
            || (end != self.end() && !self.batches.iter().any(|batch| batch.base == end))
        {
            return Err(format!("the log ends at {end}, in the middle of a batch or beyond all"));
        }
        if start < self.start.0 || start > self.start.1 {
            return Err(format!("the log starts at {start}, not within {:?}", self.start));
        }
        self.check_records(&read_all(log)?, start, end)?;
        let epochs: Vec<_> = self.epochs.iter().filter(|(_, base)| base.0 < end).copied().collect();
        if log.epochs() != epochs {
            return Err(format!("epochs are {:?}, not {epochs:?}", log.epochs()));
        }
        self.check_producers(&log.producers(), end)
    }

    /// What is known of a producer is what it did. Of one all of whose batches were trimmed nothing need be
    /// known.
    fn check_producers(&self, found: &Producers, end: u64) -> Result<(), String> {
        for (id, producer) in found.iter() {
            let last = self.last_of(id, end);
            let next = last.map(|last| sequence_after(last.number.first, last.records));
            if next != Some(producer.next()) {
                return Err(format!(
                    "producer {id} is known as {producer:?}, its last is {last:?}"
                ));
            }
            for batch in producer.batches() {
                let number = Number { producer: id, epoch: producer.epoch(), first: batch.first };
                let (base, records) = (batch.base.0, batch.last_delta + 1);
                if !self.batches.contains(&Batch { base, records, number }) {
                    return Err(format!("producer {id} has sent no {batch:?}"));
                }
            }
        }
        let needed = self.batches.iter().filter(|batch| (self.start.1..end).contains(&batch.base));
        let mut ids = needed.map(|batch| batch.number.producer).filter(|id| *id >= 0);
        match ids.find(|id| found.find(*id).is_none()) {
            Some(id) => Err(format!("producer {id} is not known")),
            None => Ok(()),
        }
    }

    fn check_records(&self, found: &[(u64, Written)], start: u64, end: u64) -> Result<(), String> {
        let written = |offset: u64| self.records.get(offset as usize);
        if let Some((offset, it)) = found.iter().find(|(offset, it)| written(*offset) != Some(it)) {
            return Err(format!(
                "found {it:?} at {offset}, where {:?} was written",
                written(*offset)
            ));
        }
        let mut newest = [None; 256];
        for (offset, record) in (0..self.clean_to.min(end)).zip(&self.records) {
            newest[usize::from(record.key)] = Some(offset);
        }
        let is_there = |offset: u64| found.binary_search_by_key(&offset, |(at, _)| *at).is_ok();
        for (offset, record) in (start..end).zip(self.records.iter().skip(start as usize)) {
            let newest = newest[usize::from(record.key)];
            let deleted = newest.is_some_and(|newest| {
                self.records[newest as usize].value.is_none() && !is_there(newest)
            });
            let replaced = newest.is_some_and(|newest| newest > offset);
            let may_be_gone = replaced || newest == Some(offset) && record.value.is_none();
            match is_there(offset) {
                true if deleted && replaced => {
                    return Err(format!("{offset} was deleted and is there again"));
                }
                false if !may_be_gone => {
                    return Err(format!("record {offset} is gone: {record:?}"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

pub fn dir() -> PathBuf {
    Path::new("topics/t/0").to_owned()
}

/// Appends a batch of these records.
pub fn append(
    log: &Arc<Log>,
    records: &[Written],
    number: Number,
    epoch: Epoch,
) -> Result<Appended, AppendError> {
    let mut builder = BatchBuilder::new(Compression::None);
    for Written { key, value } in records {
        let value = value.as_ref().map(|value| value.as_bytes());
        builder.push(Timestamp(1), &RecordFields { key: Some(&[*key]), value, headers: &[] });
    }
    let mut bytes = builder.finish().expect("records without compression make a batch");
    let Number { producer, epoch: producer_epoch, first } = number;
    batch::number(&mut bytes, producer, producer_epoch, first).expect("it is a batch");
    let checked = CheckedBatch::check(&bytes, 1 << 20).expect("a batch just built is one");
    log.append(&checked, epoch, 1)
}

/// Compacts the log; the last compaction's time was below `now_ms`.
pub fn compact(log: &Log, keys_bytes: u64, now_ms: i64) -> Result<(), CompactError> {
    let job = Job { rules: &RULES, limit: log.synced(), now_ms, keys_bytes, seed: &[7; 16] };
    log.compact(job, &mut |_| ControlFlow::Continue(())).map(drop)
}

/// Every record of the log with its offset.
fn read_all(log: &Log) -> Result<Vec<(u64, Written)>, String> {
    let mut found = Vec::new();
    let mut at = log.start();
    while let Some(range) = log.read(at, 1500).map_err(|error| error.to_string())?.range {
        let bytes = Bytes::from(range.read().map_err(|error| error.to_string())?);
        let mut position = 0;
        while position < bytes.len() {
            let rest = bytes.slice(position..);
            let header = Header::parse(&rest).map_err(|error| error.to_string())?;
            if header.base_offset > at || checksum(&rest[..header.size]) != header.crc {
                return Err(format!("{header:?} where {at} follows"));
            }
            for record in records(&rest, 1 << 20).map_err(|error| error.to_string())? {
                let record = record.map_err(|error| error.to_string())?;
                let text = |value: Bytes| String::from_utf8_lossy(&value).into_owned();
                let key = record.key.and_then(|key| key.first().copied()).unwrap_or_default();
                let written = Written { key, value: record.value.map(text) };
                if record.offset >= log.start() {
                    found.push((record.offset.0, written));
                }
            }
            position += header.size;
            at = header.next_offset();
        }
    }
    Ok(found)
}
