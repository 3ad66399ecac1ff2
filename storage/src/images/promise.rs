//! What an image must hold.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::{BatchBuilder, CheckedBatch, Compression, Header, RecordFields, records};
use crate::disk::MemoryDisk;
use crate::error::AppendError;
use crate::log::{Appended, Log, LogSettings};
use crate::store::{OpenLimits, Store};
use crate::{Epoch, Offset, Timestamp};

/// Small enough that a handful of batches crosses every boundary.
pub const SETTINGS: LogSettings =
    LogSettings { segment_bytes: 2000, segment_ms: 1_000_000, index_interval_bytes: 300 };

/// Invariant: `at_least <= records.len()`, `start.0 <= start.1`.
#[derive(Clone, Debug, Default)]
pub struct Promise {
    /// The value of each record by its offset, as far as anything was ever appended.
    pub records: Vec<String>,
    /// Where batches begin.
    pub batches: Vec<u64>,
    /// Leader epochs and where they begin.
    pub epochs: Vec<(Epoch, Offset)>,
    /// Records below were acknowledged.
    pub at_least: u64,
    /// The log starts between these.
    pub start: (u64, u64),
}

impl Promise {
    pub fn end(&self) -> u64 {
        self.records.len() as u64
    }

    /// Takes note of records that may be on the disk from now on.
    pub fn append(&mut self, values: &[String], epoch: Epoch) {
        let base = self.end();
        self.batches.push(base);
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.push((epoch, Offset(base)));
        }
        self.records.extend_from_slice(values);
    }

    /// Forgets the records from `end` on.
    pub fn cut(&mut self, end: u64) {
        self.records.truncate(end as usize);
        self.batches.retain(|base| *base < end);
        self.epochs.retain(|(_, base)| base.0 < end);
        self.at_least = self.at_least.min(end);
    }

    /// The end of the log if a truncation asks for `to`.
    pub fn end_if_cut_to(&self, to: u64) -> u64 {
        if to >= self.end() {
            return self.end();
        }
        self.batches.iter().rfind(|base| **base <= to).copied().unwrap_or(0)
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

    fn check(&self, log: &Log) -> Result<(), String> {
        let (start, end) = (log.start().0, log.end().0);
        if end < self.at_least {
            return Err(format!("{} records were acknowledged, {end} are there", self.at_least));
        }
        if end > self.end() || (end != self.end() && !self.batches.contains(&end)) {
            return Err(format!("the log ends at {end}, in the middle of a batch or beyond all"));
        }
        if start < self.start.0 || start > self.start.1 {
            return Err(format!("the log starts at {start}, not within {:?}", self.start));
        }
        let found = read_all(log)?;
        let expected = (start..end).zip(self.records[start as usize..end as usize].iter());
        let expected: Vec<_> = expected.map(|(offset, value)| (offset, value.clone())).collect();
        if let Some((found, expected)) = found.iter().zip(&expected).find(|(a, b)| a != b) {
            return Err(format!("found {found:?} where {expected:?} was written"));
        }
        if found.len() != expected.len() {
            return Err(format!("{} records of {} can be read", found.len(), expected.len()));
        }
        let epochs: Vec<_> = self.epochs.iter().filter(|(_, base)| base.0 < end).copied().collect();
        if log.epochs() != epochs {
            return Err(format!("epochs are {:?}, not {epochs:?}", log.epochs()));
        }
        Ok(())
    }
}

pub fn dir() -> PathBuf {
    Path::new("topics/t/0").to_owned()
}

/// Appends a batch of these values.
pub fn append(log: &Arc<Log>, values: &[String], epoch: Epoch) -> Result<Appended, AppendError> {
    let mut builder = BatchBuilder::new(Compression::None);
    for value in values {
        let record = RecordFields { value: Some(value.as_bytes()), ..RecordFields::default() };
        builder.push(Timestamp(1), &record);
    }
    let bytes = builder.finish().expect("records without compression make a batch");
    let checked = CheckedBatch::check(&bytes, 1 << 20).expect("a batch just built is one");
    log.append(&checked, epoch, 1)
}

/// Every record of the log with its offset.
fn read_all(log: &Log) -> Result<Vec<(u64, String)>, String> {
    let mut found = Vec::new();
    let mut at = log.start();
    while let Some(range) = log.read(at, 1500).map_err(|error| error.to_string())?.range {
        let bytes = Bytes::from(range.read().map_err(|error| error.to_string())?);
        let mut position = 0;
        while position < bytes.len() {
            let rest = bytes.slice(position..);
            let header = Header::parse(&rest).map_err(|error| error.to_string())?;
            CheckedBatch::check(&rest[..header.size], 1 << 20).map_err(|e| e.to_string())?;
            for record in records(&rest, 1 << 20).map_err(|error| error.to_string())? {
                let record = record.map_err(|error| error.to_string())?;
                let value = record.value.unwrap_or_default();
                if record.offset >= at {
                    found.push((record.offset.0, String::from_utf8_lossy(&value).into_owned()));
                }
            }
            position += header.size;
            at = header.next_offset();
        }
    }
    Ok(found)
}
