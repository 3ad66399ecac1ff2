//! Who reads a partition, and how far each has come: what a consumer asks for says that it has been given
//! all before.

use std::collections::HashMap;
use std::sync::Arc;

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    DescribeProgress, DescribeProgressResponse, DescribedReader, PartitionProgress, ProgressPart,
    Reader, Redelivered,
};
use mk_storage::Offset;
use parking_lot::Mutex;
use uuid::Uuid;

use super::shared::{Shared, replica_of};
use crate::clock::now_ms;

/// The consumers of a partition.
#[derive(Debug, Default)]
pub struct Readers(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// By their ids, which nobody else has.
    seen: HashMap<String, Seen>,
    /// Where those of a group have begun last.
    begun: HashMap<String, Begun>,
}

/// A record that somebody has begun with.
#[derive(Clone, Copy, Debug)]
struct Begun {
    offset: u64,
    /// How often in a row.
    times: u32,
}

/// A consumer, as it was seen last.
#[derive(Debug)]
struct Seen {
    reader: Reader,
    host: String,
    delivered: u64,
    asked_ms: i64,
}

/// Most consumers of a partition that are remembered: whoever has not asked for longest goes.
const MOST: usize = 1000;
/// Characters of what a consumer says of itself that are kept.
const MOST_TEXT: usize = 249;
/// Partitions that are told of at once.
const MOST_PARTS: usize = 5000;
/// Who has not asked for so long reads no more.
const FORGET_MS: i64 = 10 * 60_000;

fn short(text: &str) -> String {
    text.chars().take(MOST_TEXT).collect()
}

impl Readers {
    /// A consumer asks for records from `offset` on; the partition ends at `end`.
    pub fn note(&self, reader: &Reader, host: &str, (offset, end): (u64, u64), now_ms: i64) {
        let member: String = short(&reader.member);
        let mut known = self.0.lock();
        let begins = known.seen.get(&member).is_none_or(|seen| offset < seen.delivered);
        // Who waits for what is not there yet is not given it again.
        if begins && offset < end && !reader.group.is_empty() {
            known.begins(&short(&reader.group), offset);
        }
        if let Some(seen) = known.seen.get_mut(&member) {
            (seen.delivered, seen.asked_ms) = (offset, now_ms);
            return;
        }
        known.make_room();
        let reader = Reader {
            client_id: short(&reader.client_id),
            group: short(&reader.group),
            member: member.clone(),
        };
        let seen = Seen { reader, host: host.to_owned(), delivered: offset, asked_ms: now_ms };
        known.seen.insert(member, seen);
    }

    /// The record that a group has begun with last, and how often in a row.
    pub fn redelivered(&self, group: &str) -> Option<Redelivered> {
        let known = self.0.lock();
        let begun = known.begun.get(group).filter(|begun| begun.times > 1)?;
        Some(Redelivered { offset: begun.offset, times: begun.times })
    }

    /// Those of a group, or all if it is empty, that have asked in the last minutes.
    pub fn of(&self, group: &str, now_ms: i64) -> Vec<DescribedReader> {
        let mut known = self.0.lock();
        known.seen.retain(|_, seen| now_ms - seen.asked_ms < FORGET_MS);
        let all = known.seen.values();
        let wanted = all.filter(|seen| group.is_empty() || seen.reader.group == group);
        let mut readers: Vec<DescribedReader> = wanted
            .map(|seen| DescribedReader {
                reader: seen.reader.clone(),
                host: seen.host.clone(),
                delivered: seen.delivered,
                asked_ms: now_ms.saturating_sub(seen.asked_ms).max(0) as u64,
            })
            .collect();
        readers.sort_by(|a, b| {
            (&a.reader.group, &a.reader.member).cmp(&(&b.reader.group, &b.reader.member))
        });
        readers
    }
}

impl Known {
    /// Somebody of a group begins with a record.
    fn begins(&mut self, group: &str, offset: u64) {
        match self.begun.get_mut(group) {
            Some(begun) if begun.offset == offset => begun.times += 1,
            Some(begun) => *begun = Begun { offset, times: 1 },
            None => {
                if self.begun.len() >= MOST {
                    self.begun.clear();
                }
                self.begun.insert(group.to_owned(), Begun { offset, times: 1 });
            }
        }
    }

    fn make_room(&mut self) {
        if self.seen.len() < MOST {
            return;
        }
        let oldest = self.seen.iter().min_by_key(|(_, seen)| seen.asked_ms);
        if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
            self.seen.remove(&oldest);
        }
    }
}

/// How far the readers of partitions have come. May read from the disk.
pub fn describe(
    shared: &Arc<Shared>,
    request: &DescribeProgress,
) -> Result<DescribeProgressResponse, Fault> {
    if request.parts.len() > MOST_PARTS {
        let what = format!("{} partitions, at most {MOST_PARTS} at once", request.parts.len());
        return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
    }
    let parts = request.parts.iter().map(|part| describe_one(shared, &request.group, part));
    Ok(DescribeProgressResponse { parts: parts.collect() })
}

fn describe_one(
    shared: &Shared,
    group: &str,
    part: &ProgressPart,
) -> Result<PartitionProgress, Fault> {
    let of = &part.partition;
    let (_, partition) = shared.partition(&of.topic, Uuid::nil(), of.partition)?;
    let log = replica_of(&partition)?.log();
    let (now, end) = (now_ms(), log.high_watermark());
    let found = match part.offset.filter(|offset| Offset(*offset) < end) {
        Some(offset) => log.find_record(Offset(offset)).map_err(|error| {
            Fault::new(ErrorCode::KAFKA_STORAGE_ERROR, format!("cannot read: {error}"))
        })?,
        None => None,
    };
    let found = found.filter(|found| found.offset < end);
    Ok(PartitionProgress {
        start: log.start().0,
        end: end.0,
        age_ms: found.map(|found| now.saturating_sub(found.timestamp.0).max(0) as u64),
        in_per_second: partition.appended_per_second(),
        redelivered: partition.readers.redelivered(group),
        readers: partition.readers.of(group, now),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(group: &str, member: &str) -> Reader {
        let client_id = "c".to_owned();
        Reader { client_id, group: group.to_owned(), member: member.to_owned() }
    }

    #[test]
    fn readers_are_told_by_group_and_forgotten_when_they_are_silent() {
        let readers = Readers::default();
        readers.note(&reader("g", "a"), "h", (5, 100), 1000);
        readers.note(&reader("g", "b"), "h", (6, 100), 2000);
        readers.note(&reader("", "c"), "h", (7, 100), 3000);
        readers.note(&reader("g", "a"), "h", (9, 100), 4000);
        let told = |group: &str, now| {
            let all = readers.of(group, now).into_iter();
            all.map(|r| (r.reader.member, r.delivered, r.asked_ms)).collect::<Vec<_>>()
        };
        let (a, b) = (("a".to_owned(), 9, 1000), ("b".to_owned(), 6, 3000));
        assert_eq!(told("g", 5000), [a, b]);
        assert_eq!(told("", 5000).len(), 3);
        assert_eq!(told("", 3500 + FORGET_MS).len(), 1);
    }

    /// Names of any length were kept for each partition.
    #[test]
    fn long_names_are_kept_short() {
        let readers = Readers::default();
        let long = "x".repeat(60_000);
        readers.note(&reader(&long, &long), "h", (1, 100), 0);
        readers.note(&reader(&long, &long), "h", (2, 100), 0);
        let told = readers.of("", 1);
        assert_eq!((told.len(), told[0].delivered), (1, 2));
        assert_eq!((told[0].reader.group.len(), told[0].reader.member.len()), (249, 249));
    }

    #[test]
    fn it_is_told_what_a_group_is_given_again_and_again() {
        let readers = Readers::default();
        let begins = |member: &str, at| readers.note(&reader("g", member), "h", at, 0);
        let told = || readers.redelivered("g").map(|again| (again.offset, again.times));
        begins("a", (5, 9));
        assert_eq!(told(), None);
        begins("b", (5, 9));
        begins("b", (7, 9));
        assert_eq!(told(), Some((5, 2)));
        // It goes back by itself.
        begins("b", (5, 9));
        assert_eq!(told(), Some((5, 3)));
        begins("c", (7, 9));
        assert_eq!((told(), readers.redelivered("other")), (None, None));
        // Nothing was there to be given.
        begins("d", (9, 9));
        begins("e", (9, 9));
        assert_eq!(told(), None);
    }

    #[test]
    fn there_is_an_end_to_how_many_are_remembered() {
        let readers = Readers::default();
        for n in 0..2000 {
            readers.note(&reader("g", &n.to_string()), "h", (n, 100), n as i64);
        }
        let told = readers.of("g", 2000);
        assert_eq!(told.len(), MOST);
        assert!(told.iter().all(|reader| reader.delivered >= 1000), "the oldest have gone");
    }
}
