//! The records inside a batch.
//!
//! ```text
//! length            varint   bytes after this field
//! attributes        i8       0
//! timestamp delta   varlong  from the batch's base timestamp
//! offset delta      varint   from the batch's base offset
//! key length        varint   -1: no key
//! key
//! value length      varint   -1: no value
//! value
//! header count      varint
//!   name length     varint
//!   name            UTF-8
//!   value length    varint   -1: no value
//!   value
//! ```

use std::borrow::Cow;

use bytes::Bytes;

use super::compression::{Compression, CompressionError};
use super::header::{HEADER_LEN, Header, HeaderError, TimestampType};
use super::varint;
use crate::{Offset, Timestamp};

/// One record. Key, value and header values are views of the batch, not copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: Offset,
    /// When it was created, or appended where the topic says so.
    pub timestamp: Timestamp,
    /// The key; `None` and empty are two things.
    pub key: Option<Bytes>,
    /// The value; `None` (a tombstone) and empty are two things.
    pub value: Option<Bytes>,
    /// The headers, in order, names possibly more than once.
    pub headers: Vec<HeaderField>,
}

/// One header of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderField {
    /// Its name, UTF-8 by Kafka's rules.
    pub name: Bytes,
    /// Its value.
    pub value: Option<Bytes>,
}

/// Why a batch's records cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// There is no batch to begin with.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The batch ends before its length says.
    #[error("a batch of {size} bytes of which {have} are at hand")]
    Incomplete {
        /// What the header says.
        size: usize,
        /// Bytes at hand.
        have: usize,
    },
    /// The codec failed.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// A record's fields do not fit its length, or the batch's.
    #[error("record {number} of {count}: {what} does not fit")]
    Malformed {
        /// Which record, from 0.
        number: u32,
        /// How many the batch says it has.
        count: u32,
        /// Which field.
        what: &'static str,
    },
}

/// Most headers of one record: without a bound a small batch could unpack to a record that takes
/// gigabytes.
const MAX_HEADERS: usize = 1 << 16;

/// The records of the batch at the start of `batch`, unpacking at most `limit` bytes.
///
/// Trusts the header's word that the bytes are whole; see [`super::checksum`] for the proof.
pub fn records(batch: &Bytes, limit: usize) -> Result<Records, RecordError> {
    let header = Header::parse(batch)?;
    if header.size > batch.len() {
        return Err(RecordError::Incomplete { size: header.size, have: batch.len() });
    }
    let body = batch.slice(HEADER_LEN..header.size);
    let rest = match Compression::from_attributes(header.attributes)? {
        Compression::None => body,
        codec => {
            let mut plain = Vec::new();
            codec.decompress(&body, &mut plain, limit)?;
            Bytes::from(plain)
        }
    };
    Ok(Records { header, rest, number: 0 })
}

/// Iterator over a batch's records. Ends after the first error.
#[derive(Debug)]
pub struct Records {
    header: Header,
    rest: Bytes,
    number: u32,
}

impl Records {
    /// The header of the batch that they are in.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Bytes of the records that were not taken yet, unpacked.
    pub fn bytes_left(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self) -> Result<Record, &'static str> {
        let mut cursor: &[u8] = &self.rest;
        let length = length(&mut cursor, "record length")?.ok_or("record length")?;
        let body = cursor.get(..length).ok_or("record length")?;
        let body = self.rest.slice_ref(body);
        let record = self.parse(&body)?;
        let taken = self.rest.len() - cursor.len() + length;
        self.rest = self.rest.slice(taken..);
        Ok(record)
    }

    fn parse(&self, body: &Bytes) -> Result<Record, &'static str> {
        let mut cursor: &[u8] = body.get(1..).ok_or("attributes")?;
        let timestamp_delta = varint::read(&mut cursor).ok_or("timestamp delta")?;
        let offset_delta = varint::read(&mut cursor).ok_or("offset delta")?;
        if !(0..=i64::from(self.header.last_offset_delta)).contains(&offset_delta) {
            return Err("offset delta");
        }
        let key = field(body, &mut cursor, "key")?;
        let value = field(body, &mut cursor, "value")?;
        let headers = headers(body, &mut cursor)?;
        if !cursor.is_empty() {
            return Err("end of record");
        }
        let timestamp = match self.header.timestamp_type() {
            TimestampType::LogAppendTime => self.header.max_timestamp,
            // Deltas wrap around, as the builder's and Kafka's do.
            TimestampType::CreateTime => {
                Timestamp(self.header.base_timestamp.0.wrapping_add(timestamp_delta))
            }
        };
        let offset = self.header.base_offset.plus(offset_delta as u64);
        Ok(Record { offset, timestamp, key, value, headers })
    }
}

impl Iterator for Records {
    type Item = Result<Record, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let count = self.header.record_count;
        if self.number >= count {
            return None;
        }
        let number = self.number;
        self.number += 1;
        Some(self.take().map_err(|what| {
            self.number = count;
            RecordError::Malformed { number, count, what }
        }))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // A record takes 7 bytes or more, so a claimed count cannot make a caller reserve much.
        let most = (self.header.record_count - self.number) as usize;
        (0, Some(most.min(self.rest.len() / 7 + 1)))
    }
}

impl HeaderField {
    /// The name as text, damaged UTF-8 replaced.
    pub fn name_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }
}

fn headers(body: &Bytes, cursor: &mut &[u8]) -> Result<Vec<HeaderField>, &'static str> {
    let count = length(cursor, "header count")?.ok_or("header count")?;
    // A header takes two bytes at least, and thirty times that in memory.
    if count > MAX_HEADERS.min(cursor.len() / 2) {
        return Err("header count");
    }
    let mut headers = Vec::with_capacity(count);
    for _ in 0..count {
        let name = field(body, cursor, "header name")?.ok_or("header name")?;
        let value = field(body, cursor, "header value")?;
        headers.push(HeaderField { name, value });
    }
    Ok(headers)
}

/// A length-prefixed field as a view of `body`; a length of -1 is `None`.
fn field(
    body: &Bytes,
    cursor: &mut &[u8],
    what: &'static str,
) -> Result<Option<Bytes>, &'static str> {
    let Some(length) = length(cursor, what)? else { return Ok(None) };
    let (bytes, rest) = cursor.split_at_checked(length).ok_or(what)?;
    *cursor = rest;
    Ok(Some(body.slice_ref(bytes)))
}

/// A length or count: -1 is `None`, anything below an error.
fn length(cursor: &mut &[u8], what: &'static str) -> Result<Option<usize>, &'static str> {
    match varint::read(cursor).ok_or(what)? {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| what),
    }
}

/// What becomes the bytes of one record.
pub(super) struct EncodedRecord<'a, H> {
    pub timestamp_delta: i64,
    pub offset_delta: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// Name and value of each.
    pub headers: H,
}

impl<'a, H> EncodedRecord<'a, H>
where
    H: ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
{
    /// Appends the record.
    pub fn write(self, out: &mut Vec<u8>) {
        let EncodedRecord { timestamp_delta, offset_delta, key, value, headers } = self;
        let fields = fields_size(key, value, headers.clone());
        let body = 1 + varint::size(timestamp_delta) + varint::size(offset_delta) + fields;
        varint::write(out, body as i64);
        let start = out.len();
        out.push(0);
        varint::write(out, timestamp_delta);
        varint::write(out, offset_delta);
        write_field(out, key);
        write_field(out, value);
        varint::write(out, headers.len() as i64);
        for (name, value) in headers {
            write_field(out, Some(name));
            write_field(out, value);
        }
        debug_assert_eq!(out.len() - start, body);
    }
}

/// Bytes of a record's key, value and headers.
pub(super) fn fields_size<'a>(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: impl ExactSizeIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
) -> usize {
    let count = varint::size(headers.len() as i64);
    let headers: usize =
        headers.map(|(name, value)| field_size(Some(name)) + field_size(value)).sum();
    field_size(key) + field_size(value) + count + headers
}

fn field_size(field: Option<&[u8]>) -> usize {
    field.map_or(1, |bytes| varint::size(bytes.len() as i64) + bytes.len())
}

fn write_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => varint::write(out, -1),
        Some(bytes) => {
            varint::write(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, RecordFields};

    /// A batch of some kilobytes could unpack to a record with a hundred million empty headers,
    /// which takes gigabytes.
    #[test]
    fn headers_are_bounded() {
        let batch = |count: usize| {
            let headers = vec![("", None); count];
            let mut builder = BatchBuilder::new(Compression::Zstd);
            builder.push(Timestamp(1), &RecordFields { headers: &headers, ..Default::default() });
            Bytes::from(builder.finish().unwrap())
        };
        let first = |batch: &Bytes| records(batch, 1 << 30).unwrap().next().unwrap();
        assert_eq!(first(&batch(MAX_HEADERS)).unwrap().headers.len(), MAX_HEADERS);
        let bomb = batch(MAX_HEADERS + 1);
        assert!(bomb.len() < 1000, "{}", bomb.len());
        assert!(matches!(first(&bomb), Err(RecordError::Malformed { what: "header count", .. })));
    }
}
