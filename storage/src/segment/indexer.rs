//! Which batches get index entries.

use crate::batch::Header;
use crate::index::{OffsetEntry, TimeEntry};
use crate::{Offset, Position, Timestamp};

/// Decides which batches get index entries: the writer and recovery ask it alike, so that an
/// index built anew is the one that was lost.
#[derive(Clone, Debug)]
pub(crate) struct Indexer {
    interval_bytes: u64,
    /// Bytes since the start of the last indexed batch.
    unindexed: u64,
    /// Largest timestamp so far and the last offset of the batch that has it.
    max: TimeEntry,
    /// Timestamp of the last time index entry.
    last_time: Timestamp,
}

impl Indexer {
    pub fn new(base: Offset, interval_bytes: u64) -> Indexer {
        let max = TimeEntry { timestamp: Timestamp::NONE, offset: base };
        // An entry of time 0 and relative offset 0 would look like the zeroes behind the last one;
        // so times up to 0, which stand for "none" anyway, get no entry.
        Indexer { interval_bytes, unindexed: 0, max, last_time: Timestamp(0) }
    }

    /// Goes on behind these index entries, the last of which begins `unindexed` bytes before the
    /// place to go on at.
    pub fn resume(mut self, unindexed: u64, last_time: Option<TimeEntry>) -> Indexer {
        self.unindexed = unindexed;
        if let Some(entry) = last_time {
            self.max = entry;
            self.last_time = entry.timestamp;
        }
        self
    }

    /// Largest timestamp so far.
    pub fn max_timestamp(&self) -> Timestamp {
        self.max.timestamp
    }

    /// True if the next batch gets an entry.
    pub fn is_due(&self) -> bool {
        self.unindexed > self.interval_bytes
    }

    /// Takes note of the batch at `position`; answers the entries that it gets.
    pub fn note(
        &mut self,
        position: Position,
        last_offset: Offset,
        header: &Header,
    ) -> (Option<OffsetEntry>, Option<TimeEntry>) {
        let due = self.is_due();
        self.note_time(last_offset, header);
        if !due {
            self.unindexed += header.size as u64;
            return (None, None);
        }
        self.unindexed = header.size as u64;
        (Some(OffsetEntry { offset: last_offset, position }), self.last_time_entry())
    }

    /// Takes note of the times of a batch whose entries are there already.
    pub fn note_time(&mut self, last_offset: Offset, header: &Header) {
        if header.max_timestamp > self.max.timestamp {
            self.max = TimeEntry { timestamp: header.max_timestamp, offset: last_offset };
        }
    }

    /// The entry that tells the largest timestamp so far, unless there is one.
    pub fn last_time_entry(&mut self) -> Option<TimeEntry> {
        let new = self.max.timestamp > self.last_time;
        self.last_time = self.last_time.max(self.max.timestamp);
        new.then_some(self.max)
    }
}
