//! What clients wrote and read, and what must hold of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is at this offset.
    Acknowledged(u64),
    /// It was refused before anybody could append it.
    Refused,
    /// It may be there or not.
    Unknown,
}

/// A record with a number that no other has.
#[derive(Clone, Copy, Debug)]
pub struct Written {
    pub writer: u32,
    pub partition: u32,
    pub number: u64,
    pub outcome: Outcome,
}

/// A record that a consumer was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub partition: u32,
    pub offset: u64,
    pub number: u64,
}

/// All that a consumer was given, in this order; it began at offset 0 of each partition.
#[derive(Clone, Debug, Default)]
pub struct Reading {
    pub name: String,
    pub seen: Vec<Seen>,
    /// It was to read up to the end. Others were broken off.
    pub is_whole: bool,
}

/// A run.
#[derive(Default)]
pub struct History {
    pub written: Vec<Written>,
    pub readings: Vec<Reading>,
}

/// What must not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// Acknowledged, and nowhere in what whole readings have.
    Lost {
        number: u64,
        partition: u32,
        offset: u64,
    },
    /// Acknowledged, and not read by one who was given what others have there.
    Unread {
        number: u64,
        partition: u32,
        offset: u64,
        reader: String,
    },
    /// One offset, two values: across readers and acknowledgements, and over time.
    TwoValues {
        partition: u32,
        offset: u64,
        one: u64,
        other: u64,
    },
    /// One value, two offsets.
    Doubled {
        number: u64,
        offsets: Vec<u64>,
    },
    /// Refused, and read.
    RefusedButRead {
        number: u64,
        partition: u32,
        offset: u64,
    },
    /// Read, and never written to this partition.
    Invented {
        number: u64,
        partition: u32,
        offset: u64,
    },
    /// A consumer was given something else than the next offset.
    Skipped {
        reader: String,
        partition: u32,
        expected: u64,
        found: u64,
    },
    Backward {
        reader: String,
        partition: u32,
        expected: u64,
        found: u64,
    },
    /// A writer's record is before one that it wrote after that was acknowledged.
    Misordered {
        writer: u32,
        partition: u32,
        first: u64,
        second: u64,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    pub violations: BTreeSet<Violation>,
    pub acknowledged: usize,
    pub refused: usize,
    pub unknown: usize,
    /// Of those of which nobody knew, so many are there.
    pub unknown_but_there: usize,
}

impl History {
    pub fn check(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let found = &mut verdict.violations;
        for reading in &self.readings {
            check_order(reading, found);
        }
        let places = self.check_values(found);
        self.check_writes(&places, &mut verdict);
        self.check_doubles(&places, &mut verdict);
        self.check_writers(&mut verdict.violations);
        verdict
    }

    /// One value an offset. Answers the offsets of each number.
    fn check_values(&self, found: &mut BTreeSet<Violation>) -> Places {
        let seen = self.readings.iter().flat_map(|reading| reading.seen.iter().copied());
        let acknowledged = self.written.iter().filter_map(|written| {
            let Outcome::Acknowledged(offset) = written.outcome else { return None };
            Some(Seen { partition: written.partition, offset, number: written.number })
        });
        let mut values: BTreeMap<(u32, u64), u64> = BTreeMap::new();
        for Seen { partition, offset, number } in acknowledged.chain(seen) {
            let one = *values.entry((partition, offset)).or_insert(number);
            if one != number {
                found.insert(Violation::TwoValues { partition, offset, one, other: number });
            }
        }
        let mut places = Places::new();
        for reading in &self.readings {
            for seen in &reading.seen {
                places.entry(seen.number).or_default().insert((seen.partition, seen.offset));
            }
        }
        places
    }

    fn check_writes(&self, places: &Places, verdict: &mut Verdict) {
        let whole: Vec<(&str, BTreeSet<u64>)> = self
            .readings
            .iter()
            .filter(|reading| reading.is_whole)
            .map(|reading| (&*reading.name, reading.seen.iter().map(|s| s.number).collect()))
            .collect();
        let by_number: BTreeMap<u64, &Written> =
            self.written.iter().map(|written| (written.number, written)).collect();
        for &Written { number, partition, outcome, .. } in &self.written {
            match outcome {
                Outcome::Acknowledged(offset) => {
                    verdict.acknowledged += 1;
                    let missed: Vec<_> =
                        whole.iter().filter(|(_, read)| !read.contains(&number)).collect();
                    if !whole.is_empty() && missed.len() == whole.len() {
                        verdict.violations.insert(Violation::Lost { number, partition, offset });
                        continue;
                    }
                    verdict.violations.extend(missed.into_iter().map(|(reader, _)| {
                        let reader = reader.to_string();
                        Violation::Unread { number, partition, offset, reader }
                    }));
                }
                Outcome::Refused => verdict.refused += 1,
                Outcome::Unknown => {
                    verdict.unknown += 1;
                    verdict.unknown_but_there += usize::from(places.contains_key(&number));
                }
            }
        }
        for (&number, found) in places {
            for &(partition, offset) in found {
                let written = by_number.get(&number);
                if written.is_none_or(|written| written.partition != partition) {
                    verdict.violations.insert(Violation::Invented { number, partition, offset });
                } else if written.is_some_and(|written| written.outcome == Outcome::Refused) {
                    let violation = Violation::RefusedButRead { number, partition, offset };
                    verdict.violations.insert(violation);
                }
            }
        }
    }

    /// A value is there once, however often it was sent.
    fn check_doubles(&self, places: &Places, verdict: &mut Verdict) {
        for written in &self.written {
            let Some(found) = places.get(&written.number).filter(|found| found.len() > 1) else {
                continue;
            };
            let offsets = found.iter().map(|(_, offset)| *offset).collect();
            let number = written.number;
            verdict.violations.insert(Violation::Doubled { number, offsets });
        }
    }

    /// A writer's acknowledged records are in its order; numbers grow with each.
    fn check_writers(&self, found: &mut BTreeSet<Violation>) {
        let mut last: BTreeMap<(u32, u32), (u64, u64)> = BTreeMap::new();
        let mut in_order: Vec<&Written> = self.written.iter().collect();
        in_order.sort_by_key(|written| written.number);
        for written in in_order {
            let Written { writer, partition, number, outcome, .. } = *written;
            let Outcome::Acknowledged(offset) = outcome else { continue };
            let before = last.insert((writer, partition), (number, offset));
            if let Some((first, _)) = before.filter(|before| before.1 >= offset) {
                found.insert(Violation::Misordered { writer, partition, first, second: number });
            }
        }
    }
}

/// For each number where it was read: partition and offset.
type Places = BTreeMap<u64, BTreeSet<(u32, u64)>>;

/// Offsets are dense.
fn check_order(reading: &Reading, found: &mut BTreeSet<Violation>) {
    let mut next: BTreeMap<u32, u64> = BTreeMap::new();
    for seen in &reading.seen {
        let (partition, offset) = (seen.partition, seen.offset);
        let expected = next.insert(partition, offset + 1).unwrap_or(0);
        let reader = reading.name.clone();
        if offset > expected {
            found.insert(Violation::Skipped { reader, partition, expected, found: offset });
        } else if offset < expected {
            found.insert(Violation::Backward { reader, partition, expected, found: offset });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(number: u64, outcome: Outcome) -> Written {
        Written { writer: 1, partition: 0, number, outcome }
    }

    fn reading(name: &str, numbers: &[(u64, u64)]) -> Reading {
        let seen = numbers.iter().map(|&(offset, number)| Seen { partition: 0, offset, number });
        Reading { name: name.to_owned(), seen: seen.collect(), is_whole: true }
    }

    /// Three records, of which one is unknown; two readers.
    fn good() -> History {
        use Outcome::{Acknowledged, Refused, Unknown};
        let outcomes = [Acknowledged(0), Unknown, Acknowledged(2), Refused];
        let written = (10..).zip(outcomes).map(|(number, outcome)| written(number, outcome));
        let log = [(0, 10), (1, 11), (2, 12)];
        let readings = vec![reading("a", &log), reading("b", &log)];
        History { written: written.collect(), readings }
    }

    fn violations(change: impl FnOnce(&mut History)) -> Vec<Violation> {
        let mut history = good();
        change(&mut history);
        history.check().violations.into_iter().collect()
    }

    #[test]
    fn a_good_history_has_no_violation_and_is_counted() {
        let verdict = good().check();
        assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
        assert_eq!((verdict.acknowledged, verdict.refused, verdict.unknown), (2, 1, 1));
        assert_eq!(verdict.unknown_but_there, 1);
    }

    #[test]
    fn what_nobody_has_read_is_lost_and_what_one_has_not_read_is_unread() {
        let lost = violations(|history| {
            history.readings.iter_mut().for_each(|reading| reading.seen.truncate(2));
        });
        assert_eq!(lost, [Violation::Lost { number: 12, partition: 0, offset: 2 }]);
        let unread = violations(|history| history.readings[1].seen.truncate(2));
        let reader = "b".to_owned();
        assert_eq!(unread, [Violation::Unread { number: 12, partition: 0, offset: 2, reader }]);
        let broken_off = violations(|history| {
            history.readings[1].seen.truncate(2);
            history.readings[1].is_whole = false;
        });
        assert_eq!(broken_off, []);
    }

    #[test]
    fn what_only_one_who_was_broken_off_has_read_is_lost() {
        let lost = violations(|history| {
            history.readings[0].is_whole = false;
            history.readings[1].seen.truncate(2);
        });
        assert_eq!(lost, [Violation::Lost { number: 12, partition: 0, offset: 2 }]);
    }

    #[test]
    fn two_values_at_an_offset_are_found_across_readers_and_acknowledgements() {
        let two = |one, other| Violation::TwoValues { partition: 0, offset: 2, one, other };
        let readers = violations(|history| {
            history.written.push(written(14, Outcome::Unknown));
            history.readings[1].seen[2].number = 14;
        });
        assert!(readers.contains(&two(12, 14)), "{readers:?}");
        let receipts =
            violations(|history| history.written.push(written(14, Outcome::Acknowledged(2))));
        assert!(receipts.contains(&two(12, 14)), "{receipts:?}");
    }

    #[test]
    fn a_value_is_there_once() {
        let twice = |history: &mut History| {
            for reading in &mut history.readings {
                reading.seen.push(Seen { partition: 0, offset: 3, number: 12 });
            }
        };
        assert_eq!(violations(twice), [Violation::Doubled { number: 12, offsets: vec![2, 3] }]);
    }

    #[test]
    fn what_was_refused_or_never_written_must_not_be_read() {
        let add = |number| {
            violations(|history| {
                for reading in &mut history.readings {
                    reading.seen.push(Seen { partition: 0, offset: 3, number });
                }
            })
        };
        let (partition, offset) = (0, 3);
        assert_eq!(add(13), [Violation::RefusedButRead { number: 13, partition, offset }]);
        assert_eq!(add(99), [Violation::Invented { number: 99, partition, offset }]);
        let elsewhere = violations(|history| history.written[1].partition = 1);
        assert_eq!(elsewhere, [Violation::Invented { number: 11, partition, offset: 1 }]);
    }

    #[test]
    fn a_reader_that_skips_or_goes_back_is_found() {
        let skipped = violations(|history| {
            history.readings[1].seen.remove(1);
        });
        let (reader, partition) = ("b".to_owned(), 0);
        let expected =
            Violation::Skipped { reader: reader.clone(), partition, expected: 1, found: 2 };
        assert_eq!(skipped, [expected]);
        let back = violations(|history| {
            let again = history.readings[1].seen[1];
            history.readings[1].seen.push(again);
        });
        assert_eq!(back, [Violation::Backward { reader, partition, expected: 3, found: 1 }]);
    }

    #[test]
    fn a_writers_records_are_in_its_order() {
        let found = violations(|history| {
            history.written[0].outcome = Outcome::Acknowledged(2);
            history.written[2].outcome = Outcome::Acknowledged(0);
            for reading in &mut history.readings {
                (reading.seen[0].number, reading.seen[2].number) = (12, 10);
            }
        });
        let misordered = Violation::Misordered { writer: 1, partition: 0, first: 10, second: 12 };
        assert_eq!(found, [misordered]);
    }
}
