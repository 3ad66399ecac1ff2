//! Batches that compaction writes: with fewer records than they had, or with none.
//!
//! A batch keeps its offsets, its producer and its sequence numbers whatever becomes of its records, so
//! that nobody sees a hole: offsets without a record belong to the batch before them.

use super::compression::{Compression, CompressionError};
use super::header::{ATTRIBUTE_DELETE_HORIZON, HEADER_LEN, Header, TimestampType, checksum};
use super::record::{EncodedRecord, Record};
use crate::{Epoch, Offset, Timestamp};

/// The batch of `header` with these of its records alone, each at its offset and with its time.
///
/// If there is a `horizon`, the batch carries it: the time from which on its tombstones may go
/// (KIP-534). It takes the place of the base timestamp, from which the records' times count.
pub fn rewrite(
    header: &Header,
    records: &[Record],
    horizon: Option<Timestamp>,
) -> Result<(Header, Vec<u8>), CompressionError> {
    let mut fresh = Header { record_count: records.len() as u32, ..*header };
    match fresh.timestamp_type() {
        TimestampType::CreateTime => {
            let newest = records.iter().map(|record| record.timestamp).max();
            fresh.max_timestamp = newest.unwrap_or(Timestamp::NONE);
        }
        // From old times of producers the append would be far away: the records would grow.
        TimestampType::LogAppendTime if fresh.delete_horizon().is_none() => {
            fresh.base_timestamp = fresh.max_timestamp;
        }
        TimestampType::LogAppendTime => {}
    }
    if let Some(horizon) = horizon {
        fresh.attributes |= ATTRIBUTE_DELETE_HORIZON;
        fresh.base_timestamp = horizon;
    }
    let mut plain = vec![0; HEADER_LEN];
    for record in records {
        let headers = record.headers.iter();
        let encoded = EncodedRecord {
            timestamp_delta: record.timestamp.0.wrapping_sub(fresh.base_timestamp.0),
            offset_delta: (record.offset.0 - header.base_offset.0) as i64,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: headers.map(|field| (field.name.as_ref(), field.value.as_deref())),
        };
        encoded.write(&mut plain);
    }
    let mut bytes = match Compression::from_attributes(fresh.attributes)? {
        Compression::None => plain,
        codec => {
            let mut packed = vec![0; HEADER_LEN];
            codec.compress(&plain[HEADER_LEN..], &mut packed)?;
            packed
        }
    };
    fresh.size = bytes.len();
    fresh.write(&mut bytes);
    fresh.crc = checksum(&bytes);
    Ok((fresh, bytes))
}

/// A batch without a record that stands for the offsets `base..=last`.
pub fn empty(base: Offset, last: Offset, epoch: Epoch) -> (Header, Vec<u8>) {
    emptied(&Header {
        base_offset: base,
        size: HEADER_LEN,
        leader_epoch: epoch,
        crc: 0,
        attributes: 0,
        last_offset_delta: (last.0 - base.0) as u32,
        base_timestamp: Timestamp::NONE,
        max_timestamp: Timestamp::NONE,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count: 0,
    })
}

/// A batch with the offsets, the producer and the sequence numbers of this one, and no record.
pub fn emptied(header: &Header) -> (Header, Vec<u8>) {
    let mut bytes = vec![0; HEADER_LEN];
    let mut header = Header {
        size: HEADER_LEN,
        attributes: 0,
        base_timestamp: Timestamp::NONE,
        max_timestamp: Timestamp::NONE,
        record_count: 0,
        ..*header
    };
    header.write(&mut bytes);
    header.crc = checksum(&bytes);
    (header, bytes)
}

/// Lets the batch, of which `bytes` are all, stand for the offsets up to `last` as well.
pub fn extend(bytes: &mut [u8], header: &Header, last: Offset) {
    let last_offset_delta = (last.0 - header.base_offset.0) as u32;
    Header { last_offset_delta, ..*header }.write(bytes);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::{BatchBuilder, RecordFields, records};
    use super::*;

    fn batch(codec: Compression) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for n in 0..5 {
            let key = format!("key {n}");
            let value = vec![b'x'; n * 10];
            let record = RecordFields {
                key: Some(key.as_bytes()),
                value: (n != 3).then_some(value.as_slice()),
                headers: &[("a", Some(b"1")), ("b", None)],
            };
            builder.push(Timestamp(1000 + n as i64), &record);
        }
        let mut bytes = builder.finish().unwrap();
        let header = Header::parse(&bytes).unwrap();
        let placed = Header { base_offset: Offset(100), leader_epoch: Epoch(7), ..header };
        bytes[..HEADER_LEN].copy_from_slice(&placed.bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> (Header, Vec<Record>) {
        let header = Header::parse(bytes).unwrap();
        assert_eq!(header.size, bytes.len());
        assert_eq!(header.crc, checksum(bytes));
        let found = records(&Bytes::copy_from_slice(bytes), 1 << 20).unwrap();
        (header, found.map(Result::unwrap).collect())
    }

    proptest! {
        #[test]
        fn what_is_kept_is_as_it_was(
            kept in prop::collection::vec(any::<bool>(), 5),
            codec in 0u16..5,
            horizon in prop::option::of(0i64..1 << 50),
            append_time in prop::option::of(0i64..1 << 50),
        ) {
            let codec = Compression::from_attributes(codec).unwrap();
            let mut sent = batch(codec);
            if let Some(time) = append_time {
                let header = Header::parse(&sent).unwrap();
                let stamped = header.stamped(Timestamp(time), &sent[HEADER_LEN..]);
                sent[..HEADER_LEN].copy_from_slice(&stamped.bytes());
            }
            let (header, mut all) = parse(&sent);
            let mut kept = kept.into_iter();
            all.retain(|_| kept.next().unwrap());
            let (expected, bytes) = rewrite(&header, &all, horizon.map(Timestamp)).unwrap();
            let (fresh, found) = parse(&bytes);
            prop_assert_eq!(fresh, expected);
            prop_assert_eq!(&found, &all);
            prop_assert_eq!(fresh.base_offset, header.base_offset);
            prop_assert_eq!(fresh.last_offset(), header.last_offset());
            prop_assert_eq!(fresh.leader_epoch, header.leader_epoch);
            prop_assert_eq!(fresh.timestamp_type(), header.timestamp_type());
            let newest = all.iter().map(|record| record.timestamp).max();
            let newest = append_time.map(Timestamp).or(newest);
            prop_assert_eq!(fresh.max_timestamp, newest.unwrap_or(Timestamp::NONE));
            prop_assert_eq!(fresh.delete_horizon(), horizon.map(Timestamp));
            // And once more, as a later compaction does.
            let (_, again) = parse(&rewrite(&fresh, &found, None).unwrap().1);
            prop_assert_eq!(again, all);
        }
    }

    #[test]
    fn a_batch_stands_for_more_offsets() {
        let (_, all) = parse(&batch(Compression::Zstd));
        let mut bytes = batch(Compression::Zstd);
        let header = Header::parse(&bytes).unwrap();
        extend(&mut bytes, &header, Offset(5000));
        let (header, found) = parse(&bytes);
        assert_eq!((header.base_offset, header.next_offset()), (Offset(100), Offset(5001)));
        assert_eq!(found, all);
        let (expected, bytes) = empty(Offset(7), Offset(7), Epoch(2));
        let (header, found) = parse(&bytes);
        assert_eq!(header, expected);
        assert_eq!((header.next_offset(), header.leader_epoch), (Offset(8), Epoch(2)));
        assert_eq!((found, header.max_timestamp), (Vec::new(), Timestamp::NONE));
    }
}
