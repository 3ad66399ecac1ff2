//! Compares two logs from the first offset that both have.

use std::cmp::Ordering;
use std::collections::VecDeque;

use mk_storage::batch::{Header, Record, checksum, records};
use mk_storage::disk::Disk;
use mk_storage::{Epoch, Offset};

use super::fields;
use super::reader::{LogReader, Next, Place, start};
use crate::InspectError;
use crate::batches::Batch;
use crate::find::PartitionFiles;

/// Most bytes that one batch may unpack to.
const MOST_UNPACKED: usize = 512 << 20;

/// How two logs compare.
#[derive(Debug)]
pub struct Comparison {
    /// Where each starts.
    pub starts: [Offset; 2],
    /// The first offset that was compared.
    pub from: Offset,
    /// Records below are equal.
    pub equal_to: Offset,
    /// Batches of the first log that were compared and are equal.
    pub batches: u64,
    /// Stretches of equal records in batches that differ: recompressed, or cut otherwise. How many,
    /// and where the first is.
    pub repacked: Option<(u64, Offset, [Place; 2])>,
    /// Records that one of the logs has, where the other has a batch with fewer records than
    /// offsets, as compaction leaves it: how many only the first has, how many only the second, and
    /// the offset of the first of each.
    pub only_in: [Option<(u64, Offset)>; 2],
    /// What ended the comparison.
    pub outcome: Outcome,
}

/// What ended a comparison.
#[derive(Debug)]
pub enum Outcome {
    /// Both logs.
    Equal,
    /// One log: 0 or 1. The other goes on to this offset.
    Prefix { shorter: usize, longer_end: Offset },
    /// A difference.
    Differ { offset: Offset, fields: Vec<String>, places: [Place; 2] },
    /// Damage in one of them.
    Damaged { which: usize, place: Place, what: String },
}

/// Compares two partitions.
pub fn compare(disk: &dyn Disk, files: [&PartitionFiles; 2]) -> Result<Comparison, InspectError> {
    let starts = files.map(|files| start(disk, files));
    let from = starts[0].max(starts[1]);
    let mut compared = Comparison {
        starts,
        from,
        equal_to: from,
        batches: 0,
        repacked: None,
        only_in: [None, None],
        outcome: Outcome::Equal,
    };
    let mut sides = files.map(|files| Side {
        reader: LogReader::new(disk, files, from),
        from,
        waiting: VecDeque::new(),
    });
    while let Outcome::Equal = compared.outcome {
        let [a, b] = &mut sides;
        match (a.reader.next()?, b.reader.next()?) {
            (Next::Damaged(place, what), _) => compared.damaged(0, place, what),
            (_, Next::Damaged(place, what)) => compared.damaged(1, place, what),
            (Next::End, Next::End) => break,
            (Next::Batch(place, batch), Next::End) => {
                compared.ended(1, Some((place, batch)), &mut sides)?;
                break;
            }
            (Next::End, Next::Batch(place, batch)) => {
                compared.ended(0, Some((place, batch)), &mut sides)?;
                break;
            }
            (Next::Batch(place_a, batch_a), Next::Batch(place_b, batch_b)) => {
                let pair = [(place_a, batch_a), (place_b, batch_b)];
                compared.batches(pair, &mut sides)?;
            }
        }
    }
    Ok(compared)
}

/// One of two logs.
struct Side<'a> {
    reader: LogReader<'a>,
    /// Records below are not compared.
    from: Offset,
    /// Records of batches whose counterpart was not read yet.
    waiting: VecDeque<Placed>,
}

/// A record with what its batch says of it.
struct Placed {
    record: Record,
    epoch: Epoch,
    producer: (i64, i16),
    place: Place,
}

impl Comparison {
    fn damaged(&mut self, which: usize, place: Place, what: String) {
        self.outcome = Outcome::Damaged { which, place, what };
    }

    /// One log is at its end; reads the other, of which `batch` was read, to its own.
    fn ended(
        &mut self,
        shorter: usize,
        mut batch: Option<(Place, Batch)>,
        sides: &mut [Side<'_>; 2],
    ) -> Result<(), InspectError> {
        let end = sides[shorter].reader.end;
        let which = 1 - shorter;
        let longer = &mut sides[which];
        loop {
            // The shorter log has these offsets, and no record for them.
            while longer.waiting.front().is_some_and(|placed| placed.record.offset < end) {
                let placed = longer.waiting.pop_front();
                placed.into_iter().for_each(|placed| self.note_only_in(which, &placed));
            }
            if let Some((place, batch)) = batch.take().filter(|(_, b)| b.header.base_offset < end)
                && let Err(what) = longer.unpack(&place, &batch)
            {
                self.damaged(which, place, what);
                return Ok(());
            }
            if longer.waiting.front().is_some_and(|placed| placed.record.offset < end) {
                continue;
            }
            match longer.reader.next()? {
                Next::Batch(place, found) => batch = Some((place, found)),
                Next::End | Next::Damaged(..) => break,
            }
        }
        self.equal_to = end.max(self.from);
        let longer_end = longer.reader.end;
        if longer_end > end {
            self.outcome = Outcome::Prefix { shorter, longer_end };
        }
        Ok(())
    }

    fn note_only_in(&mut self, which: usize, placed: &Placed) {
        self.only_in[which].get_or_insert((0, placed.record.offset)).0 += 1;
    }

    /// Compares two batches, and what follows until both logs are at the end of a batch again.
    fn batches(
        &mut self,
        pair: [(Place, Batch); 2],
        sides: &mut [Side<'_>; 2],
    ) -> Result<(), InspectError> {
        let [(_, a), (_, b)] = &pair;
        if a.bytes == b.bytes {
            self.equal_to = a.header.next_offset();
            self.batches += 1;
            return Ok(());
        }
        let offset = a.header.base_offset.min(b.header.base_offset).max(self.from);
        let byte = fields::first_byte(&a.bytes, &b.bytes);
        let at = pair
            .each_ref()
            .map(|(place, _)| Place { file: place.file.clone(), byte: place.byte + byte });
        let damage = pair.each_ref().map(|(_, batch)| damage(batch));
        let range = |header: &Header| (header.base_offset, header.last_offset_delta);
        // Of a batch that was compacted the records alone can be compared.
        let same_range = range(&a.header) == range(&b.header);
        let mut differing = match same_range && !is_compacted(a) && !is_compacted(b) {
            true => fields::headers(&a.header, &b.header),
            false => Vec::new(),
        };
        if damage.iter().any(Option::is_some) {
            let damage = super::SIDES.iter().zip(damage);
            differing.extend(damage.filter_map(|(side, what)| Some(format!("{side}: {}", what?))));
        }
        if !differing.is_empty() {
            self.outcome = Outcome::Differ { offset, fields: differing, places: at };
            return Ok(());
        }
        for (side, (place, batch)) in sides.iter_mut().zip(pair) {
            if let Err(what) = side.unpack(&place, &batch) {
                self.outcome = Outcome::Differ { offset, fields: vec![what], places: at };
                return Ok(());
            }
        }
        let only_in = self.only_in;
        self.records(sides, &at)?;
        if let Outcome::Equal = self.outcome {
            self.batches += 1;
        }
        if matches!(self.outcome, Outcome::Equal) && self.only_in == only_in {
            self.repacked.get_or_insert((0, offset, at)).0 += 1;
        }
        Ok(())
    }

    /// Compares records until none waits for its counterpart. `at` is where the batches differ.
    fn records(&mut self, sides: &mut [Side<'_>; 2], at: &[Place; 2]) -> Result<(), InspectError> {
        loop {
            match sides.each_ref().map(|side| side.waiting.is_empty()) {
                [true, true] => return Ok(()),
                [false, false] => {}
                [a_is_behind, _] => {
                    if !self.fill(usize::from(!a_is_behind), sides)? {
                        return Ok(());
                    }
                    continue;
                }
            }
            let [a, b] = &mut *sides;
            if let Some(which) = lone(&a.waiting, &b.waiting) {
                // The other has this offset in a batch that was compacted.
                let placed = sides[which].waiting.pop_front();
                placed.into_iter().for_each(|placed| self.note_only_in(which, &placed));
                continue;
            }
            let (Some(a), Some(b)) = (a.waiting.pop_front(), b.waiting.pop_front()) else {
                return Ok(());
            };
            let fields = a.differing(&b);
            if !fields.is_empty() {
                let offset = a.record.offset.min(b.record.offset);
                // In batches packed alike the first byte that differs is worth more than the
                // batches' first.
                let known = a.place.file == at[0].file && b.place.file == at[1].file;
                let begin = |place: &Place, at: &Place| {
                    if known && place.byte <= at.byte { at.clone() } else { place.clone() }
                };
                let places = [begin(&a.place, &at[0]), begin(&b.place, &at[1])];
                self.outcome = Outcome::Differ { offset, fields, places };
                return Ok(());
            }
            self.equal_to = a.record.offset.plus(1);
        }
    }

    /// Reads the next batch of the side that is behind; false if that ends the comparison.
    fn fill(&mut self, behind: usize, sides: &mut [Side<'_>; 2]) -> Result<bool, InspectError> {
        match sides[behind].reader.next()? {
            Next::Batch(place, batch) => match sides[behind].unpack(&place, &batch) {
                Ok(()) => return Ok(true),
                Err(what) => self.damaged(behind, place, what),
            },
            Next::Damaged(place, what) => self.damaged(behind, place, what),
            Next::End => self.ended(behind, None, sides)?,
        }
        Ok(false)
    }
}

impl Side<'_> {
    fn unpack(&mut self, place: &Place, batch: &Batch) -> Result<(), String> {
        let header = &batch.header;
        let found = records(&batch.bytes, MOST_UNPACKED).map_err(|error| error.to_string())?;
        let mut next = header.base_offset;
        for record in found {
            let record = record.map_err(|error| error.to_string())?;
            if record.offset < next || record.offset > header.last_offset() {
                return Err(format!("a record of offset {} where {next} follows", record.offset));
            }
            next = record.offset.plus(1);
            if record.offset < self.from {
                continue;
            }
            let (epoch, place) = (header.leader_epoch, place.clone());
            let producer = (header.producer_id, header.producer_epoch);
            self.waiting.push_back(Placed { record, epoch, producer, place });
        }
        Ok(())
    }
}

impl Placed {
    fn differing(&self, other: &Placed) -> Vec<String> {
        let mut found = fields::record(&self.record, &other.record);
        if self.epoch != other.epoch {
            found.push(format!("leader epoch {} | {}", self.epoch, other.epoch));
        }
        if self.producer != other.producer {
            let ((a, a_epoch), (b, b_epoch)) = (self.producer, other.producer);
            found.push(format!("producer id and epoch {a} {a_epoch} | {b} {b_epoch}"));
        }
        found
    }
}

/// True if a batch has fewer records than offsets, or the delete horizon that only compaction sets.
fn is_compacted(batch: &Batch) -> bool {
    let header = &batch.header;
    header.record_count <= header.last_offset_delta || header.delete_horizon().is_some()
}

/// The log that has the next record, if the other has none of its offset.
fn lone(a: &VecDeque<Placed>, b: &VecDeque<Placed>) -> Option<usize> {
    let (a, b) = (a.front()?.record.offset, b.front()?.record.offset);
    match a.cmp(&b) {
        Ordering::Less => Some(0),
        Ordering::Equal => None,
        Ordering::Greater => Some(1),
    }
}

/// What is wrong with a batch's checksum.
fn damage(batch: &Batch) -> Option<String> {
    let (found, computed) = (batch.header.crc, checksum(&batch.bytes));
    let what = || format!("CRC-32C is {found:#010x}, computed {computed:#010x}: damaged");
    (found != computed).then(what)
}
