//! Sparse indexes, in the format of Kafka's `.index` and `.timeindex` files.
//!
//! An offset index entry `(relative offset i32, position i32)` says: the batch whose last offset
//! is `base + relative` begins at `position`. A time index entry `(timestamp i64, relative offset
//! i32)` says: every record with a larger timestamp comes after that offset. Entries are
//! big-endian and strictly increasing. There is one for about every `index.interval.bytes` of log.
//!
//! An index carries no checksum: the log is the authority, and an index that does not fit is
//! built anew from it.

use std::io;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::disk::{Appender, View, read_fully};
use crate::store::SharedFile;
use crate::{Offset, Position, Timestamp};

/// What the two kinds of entry have in common.
pub trait Entry: Copy + std::fmt::Debug {
    /// Bytes of an entry.
    const SIZE: usize;
    /// Reads an entry of exactly [`Entry::SIZE`] bytes.
    fn decode(bytes: &[u8], base: Offset) -> Option<Self>;
    /// Appends the entry's bytes.
    fn encode(&self, base: Offset, out: &mut Vec<u8>);
    /// True if `self` may follow `earlier`.
    fn follows(&self, earlier: &Self) -> bool;
    /// The offset that the entry speaks of.
    fn offset(&self) -> Offset;
}

/// Entry of an offset index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// Last offset of a batch.
    pub offset: Offset,
    /// Where that batch begins.
    pub position: Position,
}

/// Entry of a time index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// Largest timestamp up to the offset.
    pub timestamp: Timestamp,
    /// Last offset of the batch that has it.
    pub offset: Offset,
}

/// The reading side of an index: binary search over the file, no lock. Invariant: the first
/// `count` entries are written and never change.
#[derive(Debug)]
pub struct Index<E> {
    base: Offset,
    file: Arc<SharedFile>,
    count: AtomicU32,
    entry: PhantomData<E>,
}

/// The offset index of a segment.
pub type OffsetIndex = Index<OffsetEntry>;
/// The time index of a segment.
pub type TimeIndex = Index<TimeEntry>;

impl<E: Entry> Index<E> {
    /// An index whose file has `count` good entries.
    pub(crate) fn new(base: Offset, file: Arc<SharedFile>, count: u32) -> Index<E> {
        Index { base, file, count: AtomicU32::new(count), entry: PhantomData }
    }

    pub(crate) fn file(&self) -> &Arc<SharedFile> {
        &self.file
    }

    /// Bytes of the good entries.
    pub fn bytes(&self) -> u64 {
        u64::from(self.count()) * E::SIZE as u64
    }

    /// How many entries there are.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// The last entry whose key is at most `target`. Keys must not fall from entry to entry, and be `least`
    /// or more. None as well if the search meets bytes that are no entry: the log can be read
    /// without an index, and the scrubber tells of one that is damaged.
    ///
    /// Each read is a system call, so a block of entries is read at once, where the target is to be expected:
    /// entries are about as far apart as the log's batches are even.
    pub fn last_up_to(
        &self,
        target: u64,
        least: u64,
        key: impl Fn(&E) -> u64,
    ) -> io::Result<Option<E>> {
        let mut left = 0..self.count();
        if left.is_empty() {
            return Ok(None);
        }
        let view = self.file.view()?;
        // The key of the entry before those that are left, and of the one behind them.
        let (mut below, mut above) = (least, None);
        let mut found = None;
        let mut guesses = 0;
        while !left.is_empty() {
            let guess = match above {
                None => left.end - 1,
                // Where batches are very uneven, halves are better.
                Some(_) if guesses % 2 == 0 => left.start + (left.end - left.start) / 2,
                Some(above) => expected(target, below..above, &left),
            };
            guesses += 1;
            let block = self.block(view.as_ref(), guess, &left)?;
            let (mut low, mut high) = (block.range.start, block.range.end);
            while low < high {
                let middle = low + (high - low) / 2;
                let Some(entry) = block.entry::<E>(middle, self.base) else { return Ok(None) };
                match key(&entry) {
                    key if key <= target => {
                        (below, found, low) = (key, Some(entry), middle + 1);
                    }
                    key => (above, high) = (Some(key), middle),
                }
            }
            if low > block.range.start {
                left.start = low;
            }
            if low < block.range.end {
                left.end = low;
            }
        }
        Ok(found)
    }

    /// The last entry.
    pub fn last(&self) -> io::Result<Option<E>> {
        let last = self.count().checked_sub(1);
        last.map(|at| self.entry(self.file.view()?.as_ref(), at)).transpose()
    }

    /// Appends an entry by way of `appender`, the writing side of the same file, and publishes it.
    /// Room for it must have been reserved.
    pub fn push(&self, appender: &mut dyn Appender, entry: &E) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(E::SIZE);
        entry.encode(self.base, &mut bytes);
        appender.append(&[&bytes])?;
        self.count.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// Makes the file's bytes safe.
    pub fn sync(&self) -> io::Result<()> {
        if self.count() == 0 { Ok(()) } else { self.file.view()?.sync() }
    }

    fn entry(&self, view: &dyn View, at: u32) -> io::Result<E> {
        let entry = self.block(view, at, &(at..at + 1))?.entry(at, self.base);
        entry.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("entry {at}")))
    }

    /// The entries around `guess`, as many as a block holds of those in `left`.
    fn block(&self, view: &dyn View, guess: u32, left: &Range<u32>) -> io::Result<Block> {
        let last = left.end.saturating_sub(BLOCK_ENTRIES).max(left.start);
        let start = guess.saturating_sub(BLOCK_ENTRIES / 2).clamp(left.start, last);
        let range = start..left.end.min(start + BLOCK_ENTRIES);
        let mut block = Block { range, bytes: [0; BLOCK_ENTRIES as usize * MOST_SIZE], read: 0 };
        let length = block.range.len() * E::SIZE;
        block.read =
            read_fully(view, u64::from(start) * E::SIZE as u64, &mut block.bytes[..length])?;
        Ok(block)
    }
}

/// Entries that are read at once: a page of an offset index.
const BLOCK_ENTRIES: u32 = 512;
/// Bytes of the largest kind of entry.
const MOST_SIZE: usize = TimeEntry::SIZE;

/// Some entries as they are in the file. Invariant: of `bytes`, `read` were read.
struct Block {
    range: Range<u32>,
    bytes: [u8; BLOCK_ENTRIES as usize * MOST_SIZE],
    read: usize,
}

impl Block {
    /// The entry of this number, if it is in the file and one.
    fn entry<E: Entry>(&self, at: u32, base: Offset) -> Option<E> {
        let from = at.checked_sub(self.range.start)? as usize * E::SIZE;
        E::decode(self.bytes.get(..self.read)?.get(from..from + E::SIZE)?, base)
    }
}

/// The number of the entry that the target is to be expected at, if the keys rise evenly.
fn expected(target: u64, keys: Range<u64>, numbers: &Range<u32>) -> u32 {
    let part = target.saturating_sub(keys.start) as f64 / keys.end.abs_diff(keys.start) as f64;
    let count = numbers.end - numbers.start;
    numbers.start + ((part.min(1.0) * f64::from(count)) as u32).min(count - 1)
}

/// The entries of an index file from its start, as long as they increase; stops at the zeroes of
/// a reserved tail and at whatever is no entry.
pub fn entries<E: Entry>(file: &[u8], base: Offset) -> Vec<E> {
    let mut found: Vec<E> = Vec::new();
    for bytes in file.chunks_exact(E::SIZE) {
        match E::decode(bytes, base) {
            Some(entry) if found.last().is_none_or(|last| entry.follows(last)) => {
                if bytes.iter().all(|byte| *byte == 0) {
                    break;
                }
                found.push(entry);
            }
            _ => break,
        }
    }
    found
}

impl Entry for OffsetEntry {
    const SIZE: usize = 8;

    fn decode(bytes: &[u8], base: Offset) -> Option<OffsetEntry> {
        let relative = not_negative(bytes.first_chunk()?)?;
        let position = not_negative(bytes.get(4..)?.first_chunk()?)?;
        Some(OffsetEntry { offset: base.plus(relative), position: Position(position) })
    }

    fn encode(&self, base: Offset, out: &mut Vec<u8>) {
        out.extend_from_slice(&((self.offset.0 - base.0) as i32).to_be_bytes());
        out.extend_from_slice(&(self.position.0 as i32).to_be_bytes());
    }

    fn follows(&self, earlier: &OffsetEntry) -> bool {
        self.offset > earlier.offset && self.position > earlier.position
    }

    fn offset(&self) -> Offset {
        self.offset
    }
}

impl Entry for TimeEntry {
    const SIZE: usize = 12;

    fn decode(bytes: &[u8], base: Offset) -> Option<TimeEntry> {
        let timestamp = i64::from_be_bytes(*bytes.first_chunk()?);
        let relative = not_negative(bytes.get(8..)?.first_chunk()?)?;
        Some(TimeEntry { timestamp: Timestamp(timestamp), offset: base.plus(relative) })
    }

    fn encode(&self, base: Offset, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.0.to_be_bytes());
        out.extend_from_slice(&((self.offset.0 - base.0) as i32).to_be_bytes());
    }

    fn follows(&self, earlier: &TimeEntry) -> bool {
        self.timestamp > earlier.timestamp && self.offset > earlier.offset
    }

    fn offset(&self) -> Offset {
        self.offset
    }
}

fn not_negative(bytes: &[u8; 4]) -> Option<u64> {
    u64::try_from(i32::from_be_bytes(*bytes)).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::disk::{Disk, MemoryDisk, Pace};
    use crate::store::{OpenLimits, Store};

    const PACE: Pace = Pace { first: 4096, most: 4096, limit: 1 << 20 };

    #[test]
    fn searches_find_the_last_entry_not_beyond() {
        let disk = MemoryDisk::new();
        let mut appender = disk.create(Path::new("x.index"), PACE).unwrap();
        let store = Store::new(Arc::new(disk.clone()), OpenLimits::default());
        let file = SharedFile::new(&store, "x.index".into());
        let index = OffsetIndex::new(Offset(1000), file, 0);
        assert_eq!(index.last().unwrap(), None);
        for n in 1..=100 {
            let entry = OffsetEntry { offset: Offset(1000 + 10 * n), position: Position(500 * n) };
            index.push(appender.as_mut(), &entry).unwrap();
        }
        for target in 1000..2200 {
            let found = index.last_up_to(target, 1000, |entry| entry.offset.0).unwrap();
            let expected = ((target - 1000) / 10).min(100);
            assert_eq!(found.map_or(0, |entry| entry.position.0 / 500), expected, "{target}");
        }
        let file = disk.bytes(Path::new("x.index")).unwrap();
        assert_eq!(entries::<OffsetEntry>(&file, Offset(1000)).len(), 100);
    }

    /// An index of these positions, each of a batch of one record.
    fn index_of(positions: &[u64]) -> (MemoryDisk, OffsetIndex) {
        let disk = MemoryDisk::new();
        let mut appender = disk.create(Path::new("x.index"), PACE).unwrap();
        let store = Store::new(Arc::new(disk.clone()), OpenLimits::default());
        let index = OffsetIndex::new(Offset(0), SharedFile::new(&store, "x.index".into()), 0);
        for (n, position) in (0..).zip(positions) {
            let entry = OffsetEntry { offset: Offset(n), position: Position(*position) };
            index.push(appender.as_mut(), &entry).unwrap();
        }
        (disk, index)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn a_search_finds_what_a_walk_finds(
            steps in prop::collection::vec(0u64..2_000, 0..3000),
            targets in prop::collection::vec(0u64..3_000_000, 50),
        ) {
            let mut position = 0;
            let positions: Vec<u64> = steps.iter().map(|step| { position += step; position }).collect();
            let (_, index) = index_of(&positions);
            for target in targets.into_iter().chain([0, position, u64::MAX]) {
                let found = index.last_up_to(target, 0, |entry| entry.position.0).unwrap();
                let expected = positions.iter().rposition(|position| *position <= target);
                prop_assert_eq!(found.map(|entry| entry.offset.0), expected.map(|at| at as u64));
            }
        }
    }

    /// Where nothing is as expected, a search takes at most twice the reads of one by halves.
    #[test]
    fn a_search_in_uneven_entries_ends() {
        let entries = 60_000;
        let uneven: [&dyn Fn(u64) -> u64; 4] = [
            &|n| n * n / 2,
            &|n| if n < 50_000 { n } else { n * 30_000 },
            &|n| if n < 10_000 { n * 100_000 } else { 1_000_000_000 + n },
            // Damage: no order at all.
            &|n| n * 7919 % 60_013 * 1000,
        ];
        for positions in uneven {
            let positions: Vec<u64> = (0..entries).map(positions).collect();
            let (disk, index) = index_of(&positions);
            for target in positions.iter().step_by(997) {
                let before = disk.reads();
                index.last_up_to(*target, 0, |entry| entry.position.0).unwrap();
                let reads = disk.reads() - before;
                assert!(
                    reads <= 2 * (entries / u64::from(BLOCK_ENTRIES)).ilog2() as u64 + 4,
                    "{reads}"
                );
            }
        }
    }

    #[test]
    fn entries_that_the_file_does_not_have_are_not_found() {
        let (_, index) = index_of(&[500, 1000, 1500]);
        let longer = OffsetIndex::new(Offset(0), index.file().clone(), 5000);
        assert_eq!(longer.last_up_to(1200, 0, |entry| entry.position.0).unwrap(), None);
        assert!(longer.last().is_err());
    }

    #[test]
    fn entries_end_at_zeroes_and_at_nonsense() {
        let mut file = Vec::new();
        for n in 1..=3u64 {
            let entry = OffsetEntry { offset: Offset(n), position: Position(n * 10) };
            entry.encode(Offset(0), &mut file);
        }
        let good = file.clone();
        file.extend([0; 4096]);
        assert_eq!(entries::<OffsetEntry>(&file, Offset(0)).len(), 3);
        for bad in [[0xff; 8], [0, 0, 0, 2, 0, 0, 0, 99], [0, 0, 0, 9, 0, 0, 0, 1]] {
            let file = [good.as_slice(), &bad].concat();
            assert_eq!(entries::<OffsetEntry>(&file, Offset(0)).len(), 3, "{bad:?}");
        }
        assert!(entries::<TimeEntry>(&[0; 12], Offset(0)).is_empty());
    }
}
