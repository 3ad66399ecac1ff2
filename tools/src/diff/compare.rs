//! Compares two logs from the first offset that both have.

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
            (Next::Batch(..), Next::End) => compared.prefix(1, &mut sides)?,
            (Next::End, Next::Batch(..)) => compared.prefix(0, &mut sides)?,
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

    /// One log is at its end; reads the other to its own.
    fn prefix(&mut self, shorter: usize, sides: &mut [Side<'_>; 2]) -> Result<(), InspectError> {
        let longer = &mut sides[1 - shorter].reader;
        while let Next::Batch(..) = longer.next()? {}
        self.outcome = Outcome::Prefix { shorter, longer_end: longer.end };
        Ok(())
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
        let mut differing = match range(&a.header) == range(&b.header) {
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
        self.records(sides, &at)?;
        if let Outcome::Equal = self.outcome {
            self.batches += 1;
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
            Next::End => self.prefix(behind, sides)?,
        }
        Ok(false)
    }
}

impl Side<'_> {
    fn unpack(&mut self, place: &Place, batch: &Batch) -> Result<(), String> {
        let header = &batch.header;
        let found = records(&batch.bytes, MOST_UNPACKED).map_err(|error| error.to_string())?;
        for record in found {
            let record = record.map_err(|error| error.to_string())?;
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

/// What is wrong with a batch's checksum.
fn damage(batch: &Batch) -> Option<String> {
    let (found, computed) = (batch.header.crc, checksum(&batch.bytes));
    let what = || format!("CRC-32C is {found:#010x}, computed {computed:#010x}: damaged");
    (found != computed).then(what)
}
