//! What is too old or too much.

use super::Log;
use crate::{Offset, Timestamp};

/// How much of a log is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// `retention.bytes`: the oldest segment goes if so many bytes are left without it.
    pub bytes: Option<u64>,
    /// `retention.ms`: a segment goes when its newest record is so old, in milliseconds.
    pub age_ms: Option<u64>,
}

/// What a retention takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired {
    /// First offset that stays.
    pub start: Offset,
    /// Segments that go.
    pub segments: u32,
    /// Bytes of their batches.
    pub bytes: u64,
}

impl Log {
    /// What this retention takes away at `now_ms` (milliseconds since 1970): whole segments, from
    /// the oldest on. By age the last segment goes, too; by size it stays. Records without a
    /// timestamp do not age, and those that are not committed do not go.
    pub fn expired(&self, retention: Retention, now_ms: i64) -> Expired {
        let segments = self.segments.load();
        let mut left: u64 = segments.iter().map(|segment| segment.end().0).sum();
        let mut expired = Expired { start: self.start(), segments: 0, bytes: 0 };
        for (at, segment) in segments.iter().enumerate() {
            let bytes = segment.end().0;
            let next_base = segments.get(at + 1).map(|next| next.base());
            let too_much = retention.bytes.is_some_and(|most| left - bytes >= most);
            let newest = segment.max_timestamp();
            // Compaction may have left a segment without a record.
            let is_empty = segment.seal().is_some_and(|seal| seal.records == 0);
            let too_old = retention.age_ms.is_some_and(|age| {
                let old = newest.0 < now_ms.saturating_sub_unsigned(age);
                is_empty || newest != Timestamp::NONE && old
            });
            let next = next_base.unwrap_or(self.end());
            let committed = next <= self.high_watermark();
            if bytes == 0 || !committed || !(too_old || too_much && next_base.is_some()) {
                break;
            }
            left -= bytes;
            expired.start = expired.start.max(next);
            expired.segments += 1;
            expired.bytes += bytes;
        }
        expired
    }
}
