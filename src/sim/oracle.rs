//! What must hold whatever happens. It sees all: every log, every answer.

use std::collections::BTreeMap;
use std::time::Duration;

use mk_storage::Offset;
use mk_storage::batch::{Header, records};
use mk_storage::log::Log;

use super::TOPIC;
use crate::zoo::state::{BrokerEpoch, ClusterState, LeaderEpoch, Member};

/// A record as the oracle knows it: its leader's epoch and its value.
pub type Known = (i32, u64);

/// What is known of everybody's doing.
#[derive(Debug, Default)]
pub struct Oracle {
    /// Committed records by partition and offset.
    committed: BTreeMap<(u32, u64), Known>,
    /// Where a value was committed.
    places: BTreeMap<u64, (u32, u64)>,
    /// Values of producers that were told that they are committed.
    acknowledged: BTreeMap<u64, (u32, u64)>,
    /// Values that were refused, and that nobody may see.
    refused: BTreeMap<u64, u32>,
    /// Who leads a partition in an epoch.
    leaders: BTreeMap<(u32, LeaderEpoch), Member>,
    /// Where logs begin, as far as they were trimmed.
    starts: BTreeMap<u32, u64>,
    /// Where each client was told that a log ends.
    ends: BTreeMap<(u32, u32), u64>,
    /// True where records may be lost: nothing but the end is looked at.
    pub loss_allowed: bool,
    /// The first thing that went wrong.
    pub violation: Option<String>,
    pub version: u64,
    pub elections: u64,
}

impl Oracle {
    fn violated(&mut self, now: Duration, what: impl FnOnce() -> String) {
        if self.violation.is_none() && !self.loss_allowed {
            self.violation = Some(format!("at {:.3} ms: {}", now.as_secs_f64() * 1e3, what()));
        }
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// How many acknowledged records a log does not have where they were, though nobody deleted them.
    pub fn lost(&self, partition: u32, log: &Log) -> u64 {
        let there = read(log, log.start(), log.end());
        let there: BTreeMap<u64, u64> = there.map(|(offset, (_, value))| (offset, value)).collect();
        let start = self.start(partition);
        let kept = |at: &(u32, u64)| at.0 == partition && at.1 >= start;
        let of_partition = self.acknowledged.iter().filter(|(_, at)| kept(at));
        of_partition.filter(|(value, at)| there.get(&at.1) != Some(*value)).count() as u64
    }

    /// The mini-zookeeper has written this down.
    pub fn decided(&mut self, now: Duration, state: &ClusterState) {
        if state.version < self.version {
            self.violated(now, || "the cluster's state goes back".to_owned());
        }
        self.version = state.version;
    }

    /// Something that must not happen did.
    pub fn broken(&mut self, now: Duration, what: &str) {
        self.violated(now, || what.to_owned());
    }

    /// A broker leads.
    pub fn leads(&mut self, now: Duration, partition: u32, epoch: LeaderEpoch, who: Member) {
        let fresh = !self.leaders.contains_key(&(partition, epoch));
        self.elections += u64::from(fresh);
        let known = *self.leaders.entry((partition, epoch)).or_insert(who);
        if known != who {
            self.violated(now, || format!("{known:?} and {who:?} lead {partition} in {epoch:?}"));
        }
    }

    /// A log was trimmed: what lay before may be gone.
    pub fn trimmed(&mut self, partition: u32, to: u64) {
        let start = self.starts.entry(partition).or_default();
        *start = to.max(*start);
    }

    /// Where a log begins at most.
    pub fn start(&self, partition: u32) -> u64 {
        self.starts.get(&partition).copied().unwrap_or(0)
    }

    /// A replica says that its records in this range are committed.
    pub fn committed(&mut self, now: Duration, who: u32, partition: u32, log: &Log, from: Offset) {
        for (offset, found) in read(log, from, log.high_watermark()) {
            let known = *self.committed.entry((partition, offset)).or_insert(found);
            if known != found {
                self.violated(now, || {
                    format!(
                        "partition {partition}, offset {offset}: broker {who} takes {found:?} for \
                         committed, which was {known:?} (epoch, value)"
                    )
                });
            }
            let place = *self.places.entry(found.1).or_insert((partition, offset));
            // A replica that was made anew does not know who sent what was deleted by then.
            let deleted = place.1 < self.start(place.0);
            if place != (partition, offset) && !deleted {
                self.violated(now, || {
                    format!(
                        "{} is committed at {place:?} and at {:?}",
                        found.1,
                        (partition, offset)
                    )
                });
            }
        }
    }

    /// A producer was told that its record is committed.
    pub fn acknowledge(&mut self, now: Duration, value: u64, partition: u32, offset: u64) {
        self.acknowledged.insert(value, (partition, offset));
        let known = self.committed.get(&(partition, offset)).copied();
        if known.map(|(_, value)| value) != Some(value) {
            self.violated(now, || {
                format!("{value} was acknowledged at {partition}:{offset}, where {known:?} is")
            });
        }
    }

    /// A record was refused before it was appended, and not tried again.
    pub fn refuse(&mut self, value: u64, partition: u32) {
        self.refused.insert(value, partition);
    }

    /// A consumer has read a record.
    pub fn seen(&mut self, now: Duration, partition: u32, offset: u64, found: Known) {
        let known = self.committed.get(&(partition, offset)).copied();
        if known != Some(found) {
            self.violated(now, || {
                format!(
                    "a consumer reads {found:?} at {partition}:{offset}, committed is {known:?}"
                )
            });
        }
        if self.refused.contains_key(&found.1) {
            self.violated(now, || format!("a consumer reads {}, which was refused", found.1));
        }
    }

    /// A consumer has gone on past records that it was not given.
    pub fn skipped(&mut self, now: Duration, partition: u32, from: u64, to: u64) {
        let start = self.start(partition);
        if to > from.max(start) {
            self.violated(now, || {
                format!(
                    "a consumer of {partition} gets {to} behind {from}, the log begins at {start}"
                )
            });
        }
    }

    /// A client was told where a log ends.
    pub fn told_end(&mut self, now: Duration, client: u32, partition: u32, end: u64) {
        let known = self.ends.entry((client, partition)).or_default();
        let before = std::mem::replace(known, end.max(*known));
        if end < before {
            self.violated(now, || {
                format!("partition {partition} ends at {end}, a client was told {before} before")
            });
        }
    }

    /// Everything has come to rest: each replica has all that was ever committed.
    pub fn at_rest(&mut self, now: Duration, who: u32, partition: u32, log: &Log) {
        let (start, high_watermark) = (log.start().0, log.high_watermark().0);
        let there: BTreeMap<u64, Known> = read(log, log.start(), log.high_watermark()).collect();
        let committed = self.committed.range((partition, 0)..(partition + 1, 0));
        let of_log = committed.map(|((_, offset), known)| (*offset, *known));
        let missing = of_log
            .filter(|(offset, _)| *offset >= start)
            .find(|(offset, known)| there.get(offset) != Some(known));
        if let Some((offset, known)) = missing {
            let found = there.get(&offset).copied();
            self.violated(now, || {
                format!(
                    "at rest, broker {who} has {found:?} at {partition}:{offset}, committed was \
                     {known:?}; its log is committed up to {high_watermark}"
                )
            });
        }
        let trimmed = self.start(partition);
        if start > trimmed {
            self.violated(now, || {
                format!("the log of {partition} begins at {start} on broker {who}, not {trimmed}")
            });
        }
    }
}

/// The records of a log in a range, each with its offset.
pub fn read(log: &Log, from: Offset, to: Offset) -> impl Iterator<Item = (u64, Known)> {
    let first = from.max(log.start());
    let mut found: Vec<(u64, Known)> = Vec::new();
    let mut next = first;
    // An answer has batches of one segment.
    while next < to
        && let Ok(slice) = log.read_below(to, next, u64::MAX)
        && let Some(bytes) = slice.range.and_then(|range| range.read().ok())
    {
        found.extend(records_of(&bytes));
        let last = found.last().map_or(next.0, |(offset, _)| *offset);
        next = Offset(last + 1).max(Offset(next.0 + 1));
    }
    found.into_iter().filter(move |(offset, _)| (first.0..to.0).contains(offset))
}

/// The records of batches, each with its offset.
pub fn records_of(bytes: &[u8]) -> Vec<(u64, Known)> {
    let mut found = Vec::new();
    let mut rest = bytes;
    while let Ok(header) = Header::parse(rest) {
        let Some((batch, behind)) = rest.split_at_checked(header.size) else { break };
        rest = behind;
        let batch = bytes::Bytes::copy_from_slice(batch);
        let Ok(records) = records(&batch, 1 << 20) else { break };
        for record in records.flatten() {
            let value = record.value.as_deref().and_then(|value| value.try_into().ok());
            let value = value.map_or(u64::MAX, u64::from_le_bytes);
            found.push((record.offset.0, (header.leader_epoch.0, value)));
        }
    }
    found
}

/// The epoch of a broker, for those who do not know.
pub fn life(state: &ClusterState, id: u32) -> BrokerEpoch {
    state.brokers.get(&id).map_or(BrokerEpoch::NONE, |broker| broker.epoch)
}

/// The partitions of the one topic.
pub fn partitions(state: &ClusterState) -> &[crate::zoo::state::Partition] {
    state.topics.get(TOPIC).map_or(&[], |topic| &topic.partitions)
}
