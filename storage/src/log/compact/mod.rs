//! Compaction: of the records of a key the newest stays (Kafka's `cleanup.policy=compact`).
//!
//! The log has a clean part and, behind it, a dirty one, which was not compacted yet. First the keys
//! of the dirty part are read, as many as memory allows; then all segments up to there are written
//! anew, without the records that a newer one of the same key replaces, several small segments into
//! one. Offsets stay as they are. Each segment that is ready takes the place of those that it was
//! made of (`swap`), oldest first: a tombstone may go only when all that it deletes is gone.
//!
//! Offsets without a record belong to the batch before them, so that a log has no hole: what is
//! missing is lost, compacted or not.

mod filter;
mod keys;
mod output;
mod swap;

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use self::filter::{Filter, Kept, all_records};
use self::keys::Keys;
use self::output::{Output, remove_cleaned};
pub(crate) use self::swap::finish_swaps;
use super::Log;
use super::sealing::each_batch;
use crate::batch::{ATTRIBUTE_CONTROL, HEADER_LEN};
use crate::error::{Corruption, DiskError, Poisoned, SealError};
use crate::safeguard::{Safeguard, holds};
use crate::seal::Seal;
use crate::segment::Segment;
use crate::{Offset, Position, Timestamp};

/// How a log is compacted, under Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compaction {
    /// `min.cleanable.dirty.ratio`: a log is compacted when this part of its bytes is dirty. 0 to 1.
    pub min_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: a segment with a record that is younger is left alone.
    pub min_lag_ms: u64,
    /// `delete.retention.ms`: a tombstone stays so long behind the compaction that removed what it
    /// deletes.
    pub delete_retention_ms: u64,
}

/// What there is to compact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dirt {
    /// Bytes of the segments that are clean.
    pub clean_bytes: u64,
    /// Bytes of those behind them, as far as they may be compacted.
    pub dirty_bytes: u64,
    /// First offset that was not compacted yet.
    pub from: Offset,
    /// First offset that is left alone.
    pub to: Offset,
}

/// One compaction.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// How.
    pub rules: &'a Compaction,
    /// Records from here on are left alone: they may have to be cut.
    pub limit: Offset,
    /// The time, in milliseconds since 1970.
    pub now_ms: i64,
    /// `log.cleaner.dedupe.buffer.size`: memory for keys, in bytes, 28 to 57 for each.
    pub keys_bytes: u64,
    /// Random bytes, by which keys are told apart.
    pub seed: &'a [u8; 16],
}

/// What a compaction did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Where the clean part ends now.
    pub clean_to: Offset,
    /// Distinct keys of the part that was dirty.
    pub keys: u64,
    /// Segments that were read.
    pub segments_before: u32,
    /// Segments that stand for them.
    pub segments_after: u32,
    /// Bytes that were read.
    pub bytes_before: u64,
    /// Bytes that stand for them.
    pub bytes_after: u64,
    /// True if it was broken off, or the segments were taken out of the log meanwhile.
    pub broken_off: bool,
}

/// Told how many bytes were read, so that it can wait before more are, or break the work off.
pub type Tick<'a> = &'a mut dyn FnMut(usize) -> ControlFlow<()>;

/// A segment is not made larger than it was beyond this size: by the times from which its tombstones
/// may go, in the unusual case that it is full of them.
const ROOM_TO_GROW: u64 = (2 << 30) - (128 << 20);

/// A closed segment, and the offset behind it.
type Closed = (Arc<Segment>, Offset);

/// Why a log was not compacted. It is as it was, or as far compacted as it came.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The disk failed, or is full: see [`DiskError::is_full`].
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A segment is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corruption),
    /// The log takes no changes.
    #[error(transparent)]
    Poisoned(#[from] Poisoned),
    /// What stays of a segment does not fit into one, since its codec packed it better than ours.
    #[error("{} would be larger than 2 GiB", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
}

impl Dirt {
    /// True if enough of the log is dirty.
    pub fn is_due(&self, rules: &Compaction) -> bool {
        self.dirty_bytes > 0 && self.ratio() >= rules.min_dirty_ratio
    }

    /// The dirty part of all bytes that may be compacted: 0 to 1.
    pub fn ratio(&self) -> f64 {
        self.dirty_bytes as f64 / (self.clean_bytes + self.dirty_bytes).max(1) as f64
    }
}

impl Log {
    /// What there is to compact below `limit` at `now_ms` (milliseconds since 1970).
    pub fn dirt(&self, rules: &Compaction, limit: Offset, now_ms: i64) -> Dirt {
        dirt_of(&self.compactable(rules, limit, now_ms), self.start())
    }

    /// Compacts what is dirty, as far as the keys fit into memory; then some is left, and another
    /// compaction goes on there. One at a time does anything.
    pub fn compact(&self, job: Job<'_>, tick: Tick<'_>) -> Result<Compacted, CompactError> {
        let Some(_alone) = self.compacting.try_lock() else { return Ok(Compacted::default()) };
        if let Some(poisoned) = self.poisoned() {
            return Err(poisoned.into());
        }
        let segments = self.compactable(job.rules, job.limit, job.now_ms);
        let mut done = Compacted::default();
        let result = self.compact_segments(&segments, job, tick, &mut done);
        // Those that were to come next may have been taken out of the log meanwhile.
        let replaced = done.segments_before as usize;
        let gone = || segments.iter().skip(replaced).any(|(segment, _)| segment.is_retired());
        match result {
            Err(CompactError::Disk(_)) if self.poisoned().is_none() && gone() => {
                Ok(Compacted { broken_off: true, ..done })
            }
            Err(error) => Err(error),
            Ok(flow) => Ok(Compacted { broken_off: flow.is_break(), ..done }),
        }
    }

    fn compact_segments(
        &self,
        segments: &[Closed],
        job: Job<'_>,
        tick: Tick<'_>,
        done: &mut Compacted,
    ) -> Result<ControlFlow<()>, CompactError> {
        let dirt = dirt_of(segments, self.start());
        done.clean_to = dirt.from;
        let mut keys = Keys::new(job.keys_bytes, dirt.to.0 - dirt.from.0, job.seed);
        let ControlFlow::Continue(end) = note_keys(segments, &dirt, &mut keys, tick)? else {
            return Ok(ControlFlow::Break(()));
        };
        let known = segments.partition_point(|(segment, _)| segment.base() < end);
        let ControlFlow::Continue(lasts) = self.last_batches(&segments[..known], tick)? else {
            return Ok(ControlFlow::Break(()));
        };
        let filter = Filter {
            keys: &keys,
            lasts: &lasts,
            end,
            now_ms: job.now_ms,
            delete_retention_ms: job.rules.delete_retention_ms,
        };
        done.keys = keys.len() as u64;
        let mut groups = groups(&segments[..known], self.settings().segment_bytes);
        if !holds(Safeguard::OldestFirst) {
            groups.reverse();
        }
        for group in groups {
            if self.compact_group(&group, &filter, done, tick)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        done.clean_to = end;
        Ok(ControlFlow::Continue(()))
    }

    /// Where the last batch of each idempotent producer in these segments begins, of those that are not
    /// forgotten.
    fn last_batches(
        &self,
        segments: &[Closed],
        tick: Tick<'_>,
    ) -> Result<ControlFlow<(), HashMap<i64, Offset>>, DiskError> {
        let (producers, mut lasts) = (self.producers(), HashMap::new());
        for (segment, _) in segments.iter().filter(|_| !producers.is_empty()) {
            // Whether all of it can be read shows when it is written anew.
            for (_, header) in segment.headers(Position(0))?.map_while(Result::ok) {
                if producers.find(header.producer_id).is_some() {
                    lasts.insert(header.producer_id, header.base_offset);
                }
                if tick(HEADER_LEN).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(lasts))
    }

    /// The segments that may be compacted, oldest first.
    fn compactable(&self, rules: &Compaction, limit: Offset, now_ms: i64) -> Vec<Closed> {
        let mut closed = self.closed();
        let youngest = now_ms.saturating_sub_unsigned(rules.min_lag_ms);
        let may = |(segment, next): &Closed| {
            let newest = segment.max_timestamp();
            let old = rules.min_lag_ms == 0 || newest == Timestamp::NONE || newest.0 <= youngest;
            *next <= limit && !segment.is_damaged() && old
        };
        closed.truncate(closed.iter().take_while(|closed| may(closed)).count());
        closed
    }

    /// Writes one segment of what stays of these, and puts it in their place.
    fn compact_group(
        &self,
        group: &[Arc<Segment>],
        filter: &Filter<'_>,
        done: &mut Compacted,
        tick: Tick<'_>,
    ) -> Result<ControlFlow<()>, CompactError> {
        let bytes = group.iter().map(|segment| segment.end().0).sum::<u64>();
        let mut length = bytes;
        let result = self.write_group(group, filter, tick).and_then(|written| {
            let ControlFlow::Continue(output) = written else { return Ok(ControlFlow::Break(())) };
            if let ([segment], false) = (group, output.is_changed())
                && let Some(seal) = segment.seal()
            {
                return self
                    .reseal(segment, Seal { cleaned_to: filter.end.min(seal.next), ..seal });
            }
            let cleaned = output.finish(filter.end)?;
            length = cleaned.seal.length.0;
            self.swap(group, cleaned)
        });
        // What is left of a compaction that came to nothing; the next start removes what cannot be
        // removed now.
        let removed = remove_cleaned(self, group[0].base());
        if matches!(result, Ok(ControlFlow::Continue(()))) {
            removed?;
            done.segments_before += group.len() as u32;
            done.segments_after += 1;
            done.bytes_before += bytes;
            done.bytes_after += length;
        }
        result
    }

    /// Writes what stays of these segments.
    fn write_group(
        &self,
        group: &[Arc<Segment>],
        filter: &Filter<'_>,
        tick: Tick<'_>,
    ) -> Result<ControlFlow<(), Output<'_>>, CompactError> {
        let mut output = Output::create(self, group[0].base())?;
        let mut left = group.iter().map(|segment| segment.end().0).sum::<u64>();
        for segment in group {
            let walked = each_batch(segment, |header, bytes| {
                left -= bytes.len() as u64;
                let may_grow = output.end().0 + left < ROOM_TO_GROW;
                let kept = match filter.judge(header, bytes, may_grow) {
                    Kept::All => output.keep(*header, bytes),
                    Kept::Some(header, bytes) => output.replace(header, &bytes),
                    Kept::None if filter.is_last(header) => output.empty(header),
                    Kept::None => output.leave_out(header),
                };
                match kept {
                    Ok(()) => tick(bytes.len()).map_break(Ok),
                    Err(error) => ControlFlow::Break(Err(error)),
                }
            })?;
            if let ControlFlow::Break(why) = walked {
                return why.map(ControlFlow::Break);
            }
        }
        Ok(ControlFlow::Continue(output))
    }
}

fn dirt_of(segments: &[Closed], start: Offset) -> Dirt {
    let mut dirt = Dirt { clean_bytes: 0, dirty_bytes: 0, from: start, to: start };
    let mut clean = true;
    for (segment, next) in segments {
        if clean {
            let cleaned_to = segment.seal().map_or(Offset(0), |seal| seal.cleaned_to);
            dirt.from = cleaned_to.max(segment.base()).max(start);
            clean = cleaned_to >= *next;
        }
        dirt.to = (*next).max(start);
        let bytes = if clean { &mut dirt.clean_bytes } else { &mut dirt.dirty_bytes };
        *bytes += segment.end().0;
    }
    dirt
}

/// Neighbours that fit into one segment of `segment_bytes` together.
fn groups(segments: &[Closed], segment_bytes: u64) -> Vec<Vec<Arc<Segment>>> {
    // Index entries hold offsets and positions of 31 bits.
    let most = segment_bytes.min(i32::MAX as u64);
    let mut groups: Vec<Vec<Arc<Segment>>> = Vec::new();
    let (mut bytes, mut base) = (0, Offset(0));
    for (segment, next) in segments {
        let fits = bytes + segment.end().0 <= most && next.0 - base.0 <= i32::MAX as u64;
        match groups.last_mut() {
            Some(group) if fits => group.push(segment.clone()),
            _ => {
                (bytes, base) = (0, segment.base());
                groups.push(vec![segment.clone()]);
            }
        }
        bytes += segment.end().0;
    }
    groups
}

/// Takes note of the keys of the dirty part; answers the offset behind the last that fit.
fn note_keys(
    segments: &[Closed],
    dirt: &Dirt,
    keys: &mut Keys,
    tick: Tick<'_>,
) -> Result<ControlFlow<(), Offset>, CompactError> {
    let dirty = segments.iter().filter(|(_, next)| *next > dirt.from);
    for (segment, _) in dirty {
        let walked = each_batch(segment, |header, bytes| {
            if header.last_offset() < dirt.from || header.attributes & ATTRIBUTE_CONTROL != 0 {
                return tick(bytes.len()).map_break(|()| None);
            }
            for record in all_records(bytes).unwrap_or_default() {
                let Some(key) = &record.key else { continue };
                if record.offset >= dirt.from && !keys.note(key, record.offset) {
                    return ControlFlow::Break(Some(record.offset));
                }
            }
            tick(bytes.len()).map_break(|()| None)
        })?;
        match walked {
            ControlFlow::Continue(_) => {}
            ControlFlow::Break(Some(full_at)) => return Ok(ControlFlow::Continue(full_at)),
            ControlFlow::Break(None) => return Ok(ControlFlow::Break(())),
        }
    }
    Ok(ControlFlow::Continue(dirt.to))
}

impl From<SealError> for CompactError {
    fn from(error: SealError) -> CompactError {
        match error {
            SealError::Disk(error) => CompactError::Disk(error),
            SealError::Corrupt(corruption) => CompactError::Corrupt(corruption),
        }
    }
}
