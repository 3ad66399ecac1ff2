//! Idempotent producers (KIP-98): what a log knows of each, so that a batch that is sent twice is in it
//! once. Pure: it holds no file and no clock.
//!
//! A producer numbers the records that it sends to a partition. Its last five batches are remembered:
//! so many may be on their way at once, and any of them may be sent again. A producer that is not known
//! may begin with any number: it was idle for so long that it was forgotten, or its records are gone.
//!
//! What is known follows from the headers of the log's batches and nothing else, so that a follower
//! knows the same as its leader, and a cut takes back what it cuts ([`snapshot`] spares the reading).

pub mod snapshot;

use std::collections::HashMap;

use crate::Offset;
use crate::batch::Header;

/// Batches of a producer that are remembered: Kafka's clients have at most so many on their way.
pub const BATCHES: usize = 5;

/// Producers of a partition that are remembered. Beyond, those that have been idle longest are
/// forgotten, a tenth of them at once.
pub const MOST_PRODUCERS: usize = 10_000;

/// The producers of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    known: HashMap<i64, Producer>,
}

/// What is known of a producer.
///
/// Invariant: `1 <= count <= BATCHES`; the first `count` batches are in the order of the log, of one
/// epoch, and their numbers follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    epoch: i16,
    /// When it appended last, in milliseconds since 1970; or when the log was opened.
    last_ms: i64,
    count: u8,
    batches: [NumberedBatch; BATCHES],
}

/// A batch of a producer in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumberedBatch {
    /// Number of its first record: `0 <= first`.
    pub first: i32,
    /// Its offsets, less one: what is added to `first` and `base` for the last record.
    pub last_delta: u32,
    /// Offset of its first record.
    pub base: Offset,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It follows: it is to be appended.
    Next,
    /// It is in the log.
    Duplicate(NumberedBatch),
}

/// Why a batch of an idempotent producer is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// The batch does not follow the last one of its producer.
    #[error(
        "producer {producer} sent sequence {found} in epoch {epoch}, where {expected} follows: a batch \
         before it is missing"
    )]
    OutOfOrder {
        /// The producer's id.
        producer: i64,
        /// Its epoch.
        epoch: i16,
        /// Number of the first record.
        found: i32,
        /// The number that follows.
        expected: i32,
    },
    /// The batch is of an epoch that is over.
    #[error("producer {producer} sent a batch of epoch {found}; its epoch is {current}")]
    Fenced {
        /// The producer's id.
        producer: i64,
        /// Of the batch.
        found: i16,
        /// Of the last batch in the log.
        current: i16,
    },
}

impl Producers {
    /// What is to be done with the batch of this header as the next of the log.
    pub fn judge(&self, header: &Header) -> Result<Verdict, SequenceError> {
        let producer = header.producer_id;
        let Some(known) = self.known.get(&producer).filter(|_| producer >= 0) else {
            return Ok(Verdict::Next);
        };
        let (epoch, found) = (header.producer_epoch, header.base_sequence);
        if epoch < known.epoch {
            return Err(SequenceError::Fenced { producer, found: epoch, current: known.epoch });
        }
        let expected = if epoch > known.epoch { 0 } else { known.next() };
        if found == expected {
            return Ok(Verdict::Next);
        }
        let same = |batch: &&NumberedBatch| {
            batch.first == found && batch.last_delta == header.last_offset_delta
        };
        match known.batches().iter().find(same) {
            Some(batch) if epoch == known.epoch => Ok(Verdict::Duplicate(*batch)),
            _ => Err(SequenceError::OutOfOrder { producer, epoch, found, expected }),
        }
    }

    /// Takes note of a batch that is in the log at `base`; batches come in the order of the log. What a
    /// leader took, a follower takes without judging it.
    pub fn note(&mut self, header: &Header, base: Offset, now_ms: i64) {
        if header.producer_id < 0 {
            return;
        }
        let batch = NumberedBatch {
            first: header.base_sequence,
            last_delta: header.last_offset_delta,
            base,
        };
        let epoch = header.producer_epoch;
        match self.known.get_mut(&header.producer_id) {
            Some(known) if known.epoch == epoch && known.next() == batch.first => {
                known.push(batch, now_ms);
            }
            _ => {
                self.make_room();
                self.known.insert(header.producer_id, Producer::new(epoch, batch, now_ms));
            }
        }
    }

    /// Forgets those that have appended nothing since `before_ms`; answers how many those were.
    pub fn forget_idle(&mut self, before_ms: i64) -> usize {
        let before = self.known.len();
        self.known.retain(|_, producer| producer.last_ms >= before_ms);
        before - self.known.len()
    }

    /// True if a batch at `end` or behind it is remembered.
    pub fn reaches(&self, end: Offset) -> bool {
        self.known.values().any(|producer| producer.last().next_offset() > end)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// All of them with their ids, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &Producer)> {
        self.known.iter().map(|(id, producer)| (*id, producer))
    }

    /// What is known of one.
    pub fn find(&self, id: i64) -> Option<&Producer> {
        self.known.get(&id)
    }

    fn make_room(&mut self) {
        if self.known.len() < MOST_PRODUCERS {
            return;
        }
        // Of those found when the log was opened, the log's order tells.
        let age = |producer: &Producer| (producer.last_ms, producer.last().base);
        let mut ages: Vec<(i64, Offset)> = self.known.values().map(age).collect();
        let (_, oldest, _) = ages.select_nth_unstable(MOST_PRODUCERS / 10 - 1);
        let oldest = *oldest;
        self.known.retain(|_, producer| age(producer) > oldest);
    }
}

impl Producer {
    fn new(epoch: i16, batch: NumberedBatch, now_ms: i64) -> Producer {
        let mut batches = [NumberedBatch::default(); BATCHES];
        batches[0] = batch;
        Producer { epoch, last_ms: now_ms, count: 1, batches }
    }

    fn push(&mut self, batch: NumberedBatch, now_ms: i64) {
        if usize::from(self.count) == BATCHES {
            self.batches.rotate_left(1);
        } else {
            self.count += 1;
        }
        self.batches[usize::from(self.count) - 1] = batch;
        self.last_ms = now_ms;
    }

    /// Its epoch.
    pub fn epoch(&self) -> i16 {
        self.epoch
    }

    /// When it appended last, in milliseconds since 1970.
    pub fn last_ms(&self) -> i64 {
        self.last_ms
    }

    /// Its last batches, oldest first; at least one.
    pub fn batches(&self) -> &[NumberedBatch] {
        &self.batches[..usize::from(self.count)]
    }

    /// Its last batch.
    pub fn last(&self) -> NumberedBatch {
        self.batches[usize::from(self.count) - 1]
    }

    /// The number of the record that follows.
    pub fn next(&self) -> i32 {
        self.last().next()
    }
}

impl NumberedBatch {
    /// The number that follows its last record. Numbers begin at 0 again behind [`i32::MAX`].
    pub fn next(&self) -> i32 {
        sequence_after(self.first, self.last_delta.wrapping_add(1))
    }

    /// The offset that follows its last record.
    pub fn next_offset(&self) -> Offset {
        self.base.plus(u64::from(self.last_delta) + 1)
    }
}

/// The sequence number `records` behind `sequence`: numbers begin at 0 again behind [`i32::MAX`].
pub fn sequence_after(sequence: i32, records: u32) -> i32 {
    (sequence as u32).wrapping_add(records) as i32 & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Compression, RecordFields};
    use crate::{Timestamp, batch};

    fn header(producer: i64, epoch: i16, first: i32, records: u32) -> Header {
        let mut builder = batch::BatchBuilder::new(Compression::None);
        for _ in 0..records {
            builder.push(Timestamp(1), &RecordFields::default());
        }
        let header = Header::parse(&builder.finish().unwrap()).unwrap();
        Header { producer_id: producer, producer_epoch: epoch, base_sequence: first, ..header }
    }

    /// The log of one partition: what is appended is noted.
    #[derive(Default)]
    struct Appending {
        producers: Producers,
        end: u64,
    }

    impl Appending {
        fn append(&mut self, epoch: i16, first: i32, records: u32) -> Result<u64, SequenceError> {
            let header = header(7, epoch, first, records);
            match self.producers.judge(&header)? {
                Verdict::Duplicate(batch) => Ok(batch.base.0),
                Verdict::Next => {
                    let base = self.end;
                    self.producers.note(&header, Offset(base), 0);
                    self.end += u64::from(records);
                    Ok(base)
                }
            }
        }
    }

    fn out_of_order(epoch: i16, found: i32, expected: i32) -> SequenceError {
        SequenceError::OutOfOrder { producer: 7, epoch, found, expected }
    }

    #[test]
    fn a_batch_that_is_sent_again_keeps_its_offset() {
        let mut log = Appending::default();
        for n in 0..7 {
            assert_eq!(log.append(0, n * 3, 3), Ok(n as u64 * 3));
        }
        for n in 2..7 {
            assert_eq!(log.append(0, n * 3, 3), Ok(n as u64 * 3), "one of the last five");
        }
        assert_eq!(log.append(0, 3, 3), Err(out_of_order(0, 3, 21)), "forgotten");
        assert_eq!(log.append(0, 18, 2), Err(out_of_order(0, 18, 21)), "not the same batch");
        assert_eq!(log.append(0, 22, 1), Err(out_of_order(0, 22, 21)), "one is missing");
        assert_eq!(log.append(0, 21, 1), Ok(21));
    }

    #[test]
    fn a_new_epoch_begins_at_nothing_and_ends_the_one_before() {
        let mut log = Appending::default();
        assert_eq!(log.append(3, 500, 2), Ok(0), "nobody knows what came before");
        assert_eq!(log.append(5, 1, 1), Err(out_of_order(5, 1, 0)));
        assert_eq!(log.append(5, 500, 2), Err(out_of_order(5, 500, 0)), "of another epoch");
        assert_eq!(log.append(5, 0, 1), Ok(2));
        let fenced = SequenceError::Fenced { producer: 7, found: 3, current: 5 };
        assert_eq!(log.append(3, 502, 1), Err(fenced));
        assert_eq!(log.append(3, 500, 2), Err(fenced));
        assert_eq!(log.append(5, 0, 1), Ok(2));
    }

    #[test]
    fn numbers_begin_again_behind_the_largest() {
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 5), 3);
        assert_eq!(sequence_after(0, 1 << 31), 0);
        let mut log = Appending::default();
        assert_eq!(log.append(0, i32::MAX - 1, 3), Ok(0));
        assert_eq!(log.append(0, 1, 1), Ok(3));
        assert_eq!(log.append(0, i32::MAX - 1, 3), Ok(0));
    }

    #[test]
    fn others_are_not_looked_at() {
        let mut producers = Producers::default();
        let none = header(-1, -1, -1, 1);
        producers.note(&none, Offset(0), 0);
        producers.note(&header(8, 0, 0, 1), Offset(1), 0);
        assert_eq!(producers.len(), 1);
        assert_eq!(producers.judge(&none), Ok(Verdict::Next));
        assert_eq!(producers.judge(&header(7, 0, 9, 1)), Ok(Verdict::Next));
    }

    #[test]
    fn the_idle_are_forgotten() {
        let mut producers = Producers::default();
        for n in 0..=MOST_PRODUCERS as i64 {
            producers.note(&header(n, 0, 0, 1), Offset(n as u64), n);
            assert!(producers.len() <= MOST_PRODUCERS);
        }
        assert_eq!(producers.len(), MOST_PRODUCERS - MOST_PRODUCERS / 10 + 1);
        assert!(producers.find(MOST_PRODUCERS as i64 / 10 - 1).is_none());
        assert!(producers.find(MOST_PRODUCERS as i64 / 10).is_some());
        let kept = producers.len();
        assert_eq!(producers.forget_idle(MOST_PRODUCERS as i64), kept - 1);
        for n in 0..=MOST_PRODUCERS as i64 {
            producers.note(&header(n, 0, 0, 1), Offset(n as u64), 0);
        }
        assert!(producers.find(0).is_none(), "of one time the first in the log goes");
        assert!(producers.find(MOST_PRODUCERS as i64).is_some());
        assert!(producers.reaches(Offset(0)) && !producers.reaches(Offset(20_000)));
    }
}
