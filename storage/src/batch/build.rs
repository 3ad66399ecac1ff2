//! Builds a batch, record by record.

use super::compression::{Compression, CompressionError};
use super::header::{HEADER_LEN, Header, HeaderError};
use super::record::{EncodedRecord, fields_size};
use crate::{Epoch, Offset, Timestamp};

/// What a producer gives for one record.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecordFields<'a> {
    /// The key, if any.
    pub key: Option<&'a [u8]>,
    /// The value, if any.
    pub value: Option<&'a [u8]>,
    /// Name and value of each header.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Collects records and makes a batch of them.
#[derive(Debug)]
pub struct BatchBuilder {
    compression: Compression,
    /// `HEADER_LEN` bytes for the header, then the records, uncompressed.
    bytes: Vec<u8>,
    records: u32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(compression: Compression) -> BatchBuilder {
        BatchBuilder::with_capacity(compression, 0)
    }

    /// An empty batch that takes so many bytes without having to move.
    pub fn with_capacity(compression: Compression, capacity: usize) -> BatchBuilder {
        let mut bytes = Vec::with_capacity(capacity.max(HEADER_LEN));
        bytes.resize(HEADER_LEN, 0);
        BatchBuilder {
            compression,
            bytes,
            records: 0,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
        }
    }

    /// How many records it has.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Bytes that the batch would take uncompressed.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// An upper bound of the bytes that a batch of this one record takes uncompressed.
    pub fn size_of_one(record: &RecordFields<'_>) -> usize {
        HEADER_LEN + record_upper_bound(record)
    }

    /// An upper bound of the bytes that one more record adds.
    pub fn size_added(record: &RecordFields<'_>) -> usize {
        record_upper_bound(record)
    }

    /// Adds a record at the end.
    pub fn push(&mut self, timestamp: Timestamp, record: &RecordFields<'_>) {
        if self.records == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        let timestamp_delta = timestamp.0.wrapping_sub(self.base_timestamp.0);
        let headers = record.headers.iter().map(|(name, value)| (name.as_bytes(), *value));
        let encoded = EncodedRecord {
            timestamp_delta,
            offset_delta: self.records.into(),
            key: record.key,
            value: record.value,
            headers,
        };
        encoded.write(&mut self.bytes);
        self.records += 1;
    }

    /// The finished batch: base offset 0, leader epoch -1, no producer id ([`number`] gives it one). At
    /// least one record must have been pushed.
    pub fn finish(self) -> Result<Vec<u8>, CompressionError> {
        debug_assert!(self.records > 0, "a batch has records");
        let mut bytes = self.bytes;
        if self.compression != Compression::None {
            let mut packed = vec![0; HEADER_LEN];
            self.compression.compress(&bytes[HEADER_LEN..], &mut packed)?;
            bytes = packed;
        }
        let header = Header {
            base_offset: Offset(0),
            size: bytes.len(),
            leader_epoch: Epoch(-1),
            crc: 0,
            attributes: self.compression.attributes(),
            last_offset_delta: self.records.saturating_sub(1),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: self.records,
        };
        header.write(&mut bytes);
        Ok(bytes)
    }
}

/// Says whose the batch is, of which `bytes` are all, in which epoch of its idempotent producer, and the
/// number of its first record.
pub fn number(
    bytes: &mut [u8],
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
) -> Result<(), HeaderError> {
    let header = Header::parse(bytes)?;
    debug_assert_eq!(header.size, bytes.len());
    Header { producer_id, producer_epoch, base_sequence, ..header }.write(bytes);
    Ok(())
}

fn record_upper_bound(record: &RecordFields<'_>) -> usize {
    let headers = record.headers.iter().map(|(name, value)| (name.as_bytes(), *value));
    // Length, timestamp delta and offset delta at their longest, the attributes, then the fields.
    5 + 10 + 5 + 1 + fields_size(record.key, record.value, headers)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::super::{CheckedBatch, RejectedBatch, records};
    use super::*;

    type Fields = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

    fn build(compression: Compression, fields: &[Fields]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(compression);
        for (timestamp, key, value, headers) in fields {
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
            let record =
                RecordFields { key: key.as_deref(), value: value.as_deref(), headers: &headers };
            let before = builder.size();
            builder.push(Timestamp(*timestamp), &record);
            assert!(builder.size() - before <= BatchBuilder::size_added(&record));
        }
        builder.finish().unwrap()
    }

    fn read(batch: &[u8]) -> Vec<Fields> {
        records(&Bytes::copy_from_slice(batch), 1 << 24)
            .unwrap()
            .map(|record| {
                let record = record.unwrap();
                let headers = record
                    .headers
                    .iter()
                    .map(|h| (h.name_text().into_owned(), h.value.as_ref().map(|v| v.to_vec())))
                    .collect();
                let plain = |field: Option<Bytes>| field.map(|bytes| bytes.to_vec());
                (record.timestamp.0, plain(record.key), plain(record.value), headers)
            })
            .collect()
    }

    fn one_record() -> impl Strategy<Value = Fields> {
        let bytes = || prop::option::of(prop::collection::vec(any::<u8>(), 0..200));
        let header = ("[a-zé]{0,8}", bytes());
        (0i64..1 << 50, bytes(), bytes(), prop::collection::vec(header, 0..4))
    }

    fn codec() -> impl Strategy<Value = Compression> {
        (0u16..5).prop_map(|n| Compression::from_attributes(n).unwrap())
    }

    proptest! {
        #[test]
        fn records_come_back(codec in codec(), fields in prop::collection::vec(one_record(), 1..20)) {
            let batch = build(codec, &fields);
            let checked = CheckedBatch::check(&batch, batch.len()).unwrap();
            prop_assert_eq!(checked.header().record_count as usize, fields.len());
            prop_assert_eq!(read(&batch), fields);
        }

        /// Any single flipped bit behind the leader epoch is refused.
        #[test]
        fn a_flipped_bit_is_refused(fields in prop::collection::vec(one_record(), 1..4), at: prop::sample::Index, bit in 0..8) {
            let mut batch = build(Compression::None, &fields);
            let at = 16 + at.index(batch.len() - 16);
            batch[at] ^= 1u8 << bit;
            prop_assert!(CheckedBatch::check(&batch, 1 << 20).is_err());
        }

        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, fields in prop::collection::vec(one_record(), 1..4)) {
            let _ = CheckedBatch::check(&bytes, 1 << 20);
            // Random bytes where the records should be, behind a header that is in order.
            let mut batch = build(Compression::None, &fields);
            let end = batch.len();
            for (place, byte) in batch[HEADER_LEN..end].iter_mut().zip(&bytes) {
                *place = *byte;
            }
            for record in records(&Bytes::from(batch), 1 << 20).unwrap() {
                let _ = record;
            }
        }
    }

    /// What the times of a producer's records are, it cannot say.
    #[test]
    fn a_producer_does_not_say_when_its_records_were_appended() {
        let mut batch = build(Compression::None, &[(1, None, None, vec![])]);
        let header = Header::parse(&batch).unwrap();
        let stamped = header.stamped(Timestamp(7), &batch[HEADER_LEN..]);
        batch[..HEADER_LEN].copy_from_slice(&stamped.bytes());
        let refused = CheckedBatch::check(&batch, 1 << 20).unwrap_err();
        assert!(matches!(refused, RejectedBatch::AppendTime), "{refused}");
    }

    #[test]
    fn limits_and_holes_are_refused() {
        let batch = build(Compression::None, &[(1, None, Some(vec![7; 100]), vec![])]);
        let too_large = CheckedBatch::check(&batch, batch.len() - 1).unwrap_err();
        assert!(matches!(too_large, RejectedBatch::TooLarge { .. }), "{too_large}");
        let cut = CheckedBatch::check(&batch[..batch.len() - 1], 1 << 20).unwrap_err();
        assert!(matches!(cut, RejectedBatch::Incomplete { .. }), "{cut}");
        let two = [batch.clone(), batch.clone()].concat();
        let two = CheckedBatch::check(&two, 1 << 20).unwrap_err();
        assert!(matches!(two, RejectedBatch::Extra { .. }), "{two}");

        let mut header = Header::parse(&batch).unwrap();
        header.last_offset_delta = 5;
        let mut holes = batch.clone();
        header.write(&mut holes);
        let holes = CheckedBatch::check(&holes, 1 << 20).unwrap_err();
        assert!(matches!(holes, RejectedBatch::Count { .. }), "{holes}");
    }

    /// The delta of two timestamps that lie more than 2^63 apart was written wrapped around and read
    /// clamped: records of one batch came back with other times than they were given. Found by the
    /// fuzz target `batch`.
    #[test]
    fn timestamps_that_lie_far_apart_come_back() {
        let times = [i64::MAX, i64::MIN, 0, -1, i64::MIN, i64::MAX];
        let fields = times.map(|time| (time, None, None, vec![]));
        assert_eq!(read(&build(Compression::None, &fields)), fields);
    }

    /// Byte for byte what the format documentation of Kafka gives, not only what we read back:
    /// one record, key "k", value "v", no headers, CreateTime 0.
    #[test]
    fn the_layout_is_kafkas() {
        let mut builder = BatchBuilder::new(Compression::None);
        let record = RecordFields { key: Some(b"k"), value: Some(b"v"), headers: &[] };
        builder.push(Timestamp(0), &record);
        let batch = builder.finish().unwrap();
        let mut expected = vec![0, 0, 0, 0, 0, 0, 0, 0]; // base offset
        expected.extend([0, 0, 0, 58]); // length: 49 of header, 9 of record
        expected.extend([0xff, 0xff, 0xff, 0xff]); // leader epoch
        expected.push(2); // magic
        expected.extend(checksum_of(&batch)); // CRC-32C
        expected.extend([0, 0, 0, 0, 0, 0]); // attributes, last offset delta
        expected.extend([0; 16]); // base and max timestamp
        expected.extend([0xff; 14]); // producer id, epoch, sequence
        expected.extend([0, 0, 0, 1]); // record count
        expected.extend([16, 0, 0, 0, 2, b'k', 2, b'v', 0]); // the record
        assert_eq!(batch, expected);
    }

    fn checksum_of(batch: &[u8]) -> [u8; 4] {
        super::super::checksum(batch).to_be_bytes()
    }

    /// CRC-32C's check value of "123456789" (RFC 3720), so that the polynomial is the right one.
    #[test]
    fn the_checksum_is_castagnolis() {
        let mut bytes = vec![0; 21];
        bytes.extend(b"123456789");
        assert_eq!(super::super::checksum(&bytes), 0xe306_9283);
    }
}
