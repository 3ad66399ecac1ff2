//! What stays of a batch.

use std::collections::HashMap;

use bytes::Bytes;

use super::keys::Keys;
use crate::batch::{ATTRIBUTE_CONTROL, Header, Record, records, rewrite};
use crate::log::read::UNPACK_LIMIT;
use crate::safeguard::{Safeguard, holds};
use crate::{Offset, Timestamp};

/// Decides what stays.
pub(super) struct Filter<'a> {
    pub keys: &'a Keys,
    /// Where the last batch of each idempotent producer begins.
    pub lasts: &'a HashMap<i64, Offset>,
    /// Records from here on are not among the keys yet, and stay.
    pub end: Offset,
    pub now_ms: i64,
    /// How long a tombstone stays once it is clear of older records.
    pub delete_retention_ms: u64,
}

/// What stays of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// All, as it is.
    All,
    /// Some records, in a batch of its own.
    Some(Header, Vec<u8>),
    /// No record.
    None,
}

impl Filter<'_> {
    /// What stays of the batch, of which `bytes` are all. With a time from which its tombstones may go
    /// a batch grows by some bytes a record; if it may not, they stay until a later compaction.
    pub fn judge(&self, header: &Header, bytes: &[u8], may_grow: bool) -> Kept {
        if header.attributes & ATTRIBUTE_CONTROL != 0 {
            return Kept::All;
        }
        // A batch that lies about its records is its producer's: nobody can read it, and nobody
        // knows what it replaces.
        let Some(all) = all_records(bytes) else { return Kept::All };
        let count = all.len();
        let kept: Vec<_> = all.into_iter().filter(|record| self.keeps(header, record)).collect();
        if kept.is_empty() {
            return Kept::None;
        }
        let horizon = if may_grow { self.horizon(header, &kept) } else { None };
        if kept.len() == count && horizon.is_none() {
            return Kept::All;
        }
        // What was packed by a codec can be packed again.
        let rewritten = rewrite(header, &kept, horizon);
        rewritten.map_or(Kept::All, |(header, bytes)| Kept::Some(header, bytes))
    }

    /// True if the batch is to stay even without a record: from it whoever reads the log later knows which
    /// number its producer sends next.
    pub fn is_last(&self, header: &Header) -> bool {
        let last = self.lasts.get(&header.producer_id);
        last == Some(&header.base_offset) && holds(Safeguard::KeepLastOfProducer)
    }

    fn keeps(&self, header: &Header, record: &Record) -> bool {
        // A record without a key replaces nothing, and nothing replaces it.
        let Some(key) = &record.key else { return true };
        if record.offset >= self.end {
            return true;
        }
        let newest = self.keys.newest(key).is_none_or(|newest| newest <= record.offset);
        let horizon = header.delete_horizon();
        let gone = record.value.is_none() && horizon.is_some_and(|at| at.0 <= self.now_ms);
        newest && !gone
    }

    /// From when on the tombstones of this batch may go, if nobody has said so yet. What they
    /// delete is gone with this compaction, since older segments come first.
    fn horizon(&self, header: &Header, kept: &[Record]) -> Option<Timestamp> {
        let has_tombstone = || kept.iter().any(is_tombstone);
        let first = header.delete_horizon().is_none() && header.last_offset() < self.end;
        let at = self.now_ms.saturating_add_unsigned(self.delete_retention_ms);
        (first && has_tombstone()).then_some(Timestamp(at))
    }
}

/// The records of a batch, if all can be read.
pub(super) fn all_records(bytes: &[u8]) -> Option<Vec<Record>> {
    records(&Bytes::copy_from_slice(bytes), UNPACK_LIMIT).ok()?.collect::<Result<_, _>>().ok()
}

fn is_tombstone(record: &Record) -> bool {
    record.key.is_some() && record.value.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Compression, RecordFields};

    fn batch(fields: &[(Option<&str>, Option<&str>)]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Compression::None);
        for (key, value) in fields {
            let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
            builder.push(Timestamp(5), &RecordFields { key, value, headers: &[] });
        }
        builder.finish().unwrap()
    }

    fn judge(filter: &Filter<'_>, bytes: &[u8]) -> Kept {
        filter.judge(&Header::parse(bytes).unwrap(), bytes, true)
    }

    fn offsets(kept: &Kept) -> Vec<u64> {
        let Kept::Some(_, bytes) = kept else { panic!("{kept:?}") };
        all_records(bytes).unwrap().iter().map(|record| record.offset.0).collect()
    }

    #[test]
    fn the_newest_of_a_key_stays() {
        let mut keys = Keys::new(1 << 10, 10, &[0; 16]);
        for (key, offset) in [("a", 3), ("b", 1), ("c", 9)] {
            assert!(keys.note(key.as_bytes(), Offset(offset)));
        }
        let lasts = HashMap::new();
        let filter = Filter {
            keys: &keys,
            lasts: &lasts,
            end: Offset(4),
            now_ms: 0,
            delete_retention_ms: 10,
        };
        let one = |key| (Some(key), Some("1"));
        let kept = judge(&filter, &batch(&[one("a"), one("b"), one("x"), one("a"), one("c")]));
        assert_eq!(offsets(&kept), [1, 2, 3, 4], "the last is behind the end of what is known");
        let kept = judge(&filter, &batch(&[(None, Some("1")), one("a")]));
        assert_eq!(offsets(&kept), [0], "without a key");
        assert_eq!(judge(&filter, &batch(&[one("x"), one("b")])), Kept::All);
        assert_eq!(judge(&filter, &batch(&[one("a"), one("c")])), Kept::None);
    }

    #[test]
    fn a_tombstone_goes_when_its_time_has_come() {
        let mut keys = Keys::new(1 << 10, 10, &[0; 16]);
        assert!(keys.note(b"a", Offset(0)));
        let lasts = HashMap::new();
        let mut filter = Filter {
            keys: &keys,
            lasts: &lasts,
            end: Offset(9),
            now_ms: 100,
            delete_retention_ms: 10,
        };
        let tombstone = batch(&[(Some("a"), None)]);
        let header = Header::parse(&tombstone).unwrap();
        assert_eq!(filter.judge(&header, &tombstone, false), Kept::All, "it would grow");
        let marked = judge(&filter, &batch(&[(Some("a"), None)]));
        let Kept::Some(header, marked) = marked else { panic!("{marked:?}") };
        assert_eq!(header.delete_horizon(), Some(Timestamp(110)));
        assert_eq!(all_records(&marked).unwrap()[0].timestamp, Timestamp(5));
        filter.now_ms = 109;
        assert_eq!(judge(&filter, &marked), Kept::All);
        filter.now_ms = 110;
        assert_eq!(judge(&filter, &marked), Kept::None);
        filter.end = Offset(0);
        assert_eq!(judge(&filter, &batch(&[(Some("a"), None)])), Kept::All, "not clear of others");
    }

    #[test]
    fn a_batch_that_cannot_be_read_stays() {
        let keys = Keys::new(1 << 10, 10, &[0; 16]);
        let lasts = HashMap::new();
        let filter = Filter {
            keys: &keys,
            lasts: &lasts,
            end: Offset(9),
            now_ms: 0,
            delete_retention_ms: 0,
        };
        let mut bytes = batch(&[(Some("a"), Some("1"))]);
        bytes[57..61].copy_from_slice(&7u32.to_be_bytes());
        assert_eq!(judge(&filter, &bytes), Kept::All);
    }
}
