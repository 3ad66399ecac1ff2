//! The 61 bytes before a batch's records, all big-endian, as Kafka lays them out:
//!
//! ```text
//!  0  8  base offset        i64   rewritten by the broker
//!  8  4  batch length       i32   bytes after this field
//! 12  4  leader epoch       i32   rewritten by the broker
//! 16  1  magic              i8    2
//! 17  4  CRC-32C            u32   over byte 21 to the end of the batch
//! 21  2  attributes         i16   0-2 compression, 3 append time, 4 transactional, 5 control,
//!                                 6 the base timestamp is a delete horizon
//! 23  4  last offset delta  i32
//! 27  8  base timestamp     i64
//! 35  8  max timestamp      i64
//! 43  8  producer id        i64   -1: none
//! 51  2  producer epoch     i16
//! 53  4  base sequence      i32
//! 57  4  record count       i32
//! 61  …  records
//! ```
//!
//! Source: <https://kafka.apache.org/documentation/#recordbatch>, KIP-98.

use crate::{Epoch, Offset, Timestamp};

/// Bytes from the start of a batch to its first record.
pub const HEADER_LEN: usize = 61;
/// Bytes that the batch length does not count: the base offset and the length itself.
pub const LENGTH_OVERHEAD: usize = 12;
/// The only batch format that mk reads or writes.
pub const MAGIC: u8 = 2;
/// Attribute bit: `max timestamp` is the broker's append time, and that of each record (KIP-32).
pub const ATTRIBUTE_LOG_APPEND_TIME: u16 = 1 << 3;
/// Attribute bit: the batch belongs to a transaction (KIP-98).
pub const ATTRIBUTE_TRANSACTIONAL: u16 = 1 << 4;
/// Attribute bit: the batch holds control records and no data (KIP-98).
pub const ATTRIBUTE_CONTROL: u16 = 1 << 5;
/// Attribute bit: the base timestamp is the time from which on tombstones may be removed (KIP-534).
pub const ATTRIBUTE_DELETE_HORIZON: u16 = 1 << 6;

const CRC_AT: usize = 17;
/// First byte that the checksum covers.
const CHECKED_FROM: usize = 21;
const CRC_32C: crc_fast::CrcAlgorithm = crc_fast::CrcAlgorithm::Crc32Iscsi;

/// A batch's header, parsed. Fields are as found; only the relations that every reader needs
/// (length, magic, sign of counts) hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Bytes of the whole batch, header included: `>= HEADER_LEN`.
    pub size: usize,
    /// Epoch of the leader that appended it.
    pub leader_epoch: Epoch,
    /// CRC-32C as stored.
    pub crc: u32,
    /// Raw attribute bits.
    pub attributes: u16,
    /// Offset of the last record less the base offset: `0 <= last_offset_delta`.
    pub last_offset_delta: u32,
    /// Timestamp that the records' deltas count from.
    pub base_timestamp: Timestamp,
    /// Largest timestamp of the batch.
    pub max_timestamp: Timestamp,
    /// Idempotent producer, or -1.
    pub producer_id: i64,
    /// Its epoch, or -1.
    pub producer_epoch: i16,
    /// Sequence of the first record, or -1.
    pub base_sequence: i32,
    /// How many records: `0 <= record_count`.
    pub record_count: u32,
}

/// What the times of records are (KIP-32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimestampType {
    /// When the producer says that each was made.
    #[default]
    CreateTime,
    /// When the leader appended the batch that they are in.
    LogAppendTime,
}

/// Why bytes are not a batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("{have} bytes where a batch header takes {HEADER_LEN}")]
    Short {
        /// Bytes at hand.
        have: usize,
    },
    /// The length cannot be one.
    #[error("batch length {found}, which must be at least {}", HEADER_LEN - LENGTH_OVERHEAD)]
    Length {
        /// The field's value.
        found: i32,
    },
    /// A format that mk does not read.
    #[error("magic {found}, only {MAGIC} is known")]
    Magic {
        /// The field's value.
        found: u8,
    },
    /// A negative offset, delta or count.
    #[error("negative {field}: {found}")]
    Negative {
        /// Which field.
        field: &'static str,
        /// Its value.
        found: i64,
    },
}

impl Header {
    /// Reads the header at the start of `bytes`, which may go on beyond it.
    pub fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let Some(fixed) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(HeaderError::Short { have: bytes.len() });
        };
        let length = i32::from_be_bytes(field(fixed, 8));
        if length < (HEADER_LEN - LENGTH_OVERHEAD) as i32 {
            return Err(HeaderError::Length { found: length });
        }
        let [magic] = field(fixed, 16);
        if magic != MAGIC {
            return Err(HeaderError::Magic { found: magic });
        }
        let base_offset = i64::from_be_bytes(field(fixed, 0));
        let last_offset_delta = i32::from_be_bytes(field(fixed, 23));
        let record_count = i32::from_be_bytes(field(fixed, 57));
        not_negative("base offset", base_offset)?;
        not_negative("last offset delta", last_offset_delta.into())?;
        not_negative("record count", record_count.into())?;
        Ok(Header {
            base_offset: Offset(base_offset as u64),
            size: length as usize + LENGTH_OVERHEAD,
            leader_epoch: Epoch(i32::from_be_bytes(field(fixed, 12))),
            crc: u32::from_be_bytes(field(fixed, CRC_AT)),
            attributes: u16::from_be_bytes(field(fixed, 21)),
            last_offset_delta: last_offset_delta as u32,
            base_timestamp: Timestamp(i64::from_be_bytes(field(fixed, 27))),
            max_timestamp: Timestamp(i64::from_be_bytes(field(fixed, 35))),
            producer_id: i64::from_be_bytes(field(fixed, 43)),
            producer_epoch: i16::from_be_bytes(field(fixed, 51)),
            base_sequence: i32::from_be_bytes(field(fixed, 53)),
            record_count: record_count as u32,
        })
    }

    /// Offset of the last record.
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta.into())
    }

    /// Offset that follows the batch.
    pub fn next_offset(&self) -> Offset {
        self.base_offset.plus(u64::from(self.last_offset_delta) + 1)
    }

    /// From when on its tombstones may be removed, if compaction has said so.
    pub fn delete_horizon(&self) -> Option<Timestamp> {
        (self.attributes & ATTRIBUTE_DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// What the times of its records are.
    pub fn timestamp_type(&self) -> TimestampType {
        match self.attributes & ATTRIBUTE_LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// The header of the same batch when `time` is that of all its records, of which `records` are the
    /// bytes: they stay as they are, compressed or not.
    pub(super) fn stamped(&self, time: Timestamp, records: &[u8]) -> Header {
        let attributes = self.attributes | ATTRIBUTE_LOG_APPEND_TIME;
        let stamped = Header { attributes, max_timestamp: time, ..*self };
        let mut digest = crc_fast::Digest::new(CRC_32C);
        digest.update(&stamped.bytes()[CHECKED_FROM..]);
        digest.update(records);
        Header { crc: digest.finalize() as u32, ..stamped }
    }

    /// The bytes that [`Header::parse`] reads.
    pub fn bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..8].copy_from_slice(&(self.base_offset.0 as i64).to_be_bytes());
        bytes[8..12].copy_from_slice(&((self.size - LENGTH_OVERHEAD) as i32).to_be_bytes());
        bytes[12..16].copy_from_slice(&self.leader_epoch.0.to_be_bytes());
        bytes[16] = MAGIC;
        bytes[CRC_AT..CHECKED_FROM].copy_from_slice(&self.crc.to_be_bytes());
        bytes[21..23].copy_from_slice(&self.attributes.to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp.0.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp.0.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..].copy_from_slice(&self.record_count.to_be_bytes());
        bytes
    }

    /// Writes the header into the first [`HEADER_LEN`] bytes, its checksum computed over what
    /// follows in `batch`, which must be the whole batch.
    pub(super) fn write(&self, batch: &mut [u8]) {
        debug_assert_eq!(batch.len(), self.size);
        batch[..HEADER_LEN].copy_from_slice(&self.bytes());
        let crc = checksum(batch);
        batch[CRC_AT..CHECKED_FROM].copy_from_slice(&crc.to_be_bytes());
    }
}

impl TimestampType {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            TimestampType::CreateTime => "CreateTime",
            TimestampType::LogAppendTime => "LogAppendTime",
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<TimestampType> {
        let all = [TimestampType::CreateTime, TimestampType::LogAppendTime];
        all.into_iter().find(|one| one.name() == name)
    }
}

/// CRC-32C of what a batch's checksum covers: attributes to end. `batch` is the whole batch.
pub fn checksum(batch: &[u8]) -> u32 {
    crc_fast::checksum(CRC_32C, batch.get(CHECKED_FROM..).unwrap_or_default()) as u32
}

fn field<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}

fn not_negative(field: &'static str, found: i64) -> Result<(), HeaderError> {
    if found < 0 { Err(HeaderError::Negative { field, found }) } else { Ok(()) }
}
