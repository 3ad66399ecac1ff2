//! What a broker must know of a producer's bytes before they go into the log.

use super::compression::{Compression, CompressionError};
use super::header::{ATTRIBUTE_CONTROL, HEADER_LEN, Header, HeaderError, TimestampType, checksum};
use crate::Timestamp;

/// One whole batch with its checksum right, fit to be appended.
///
/// Its records are not looked into: a producer that lies about them harms its own consumers, who
/// get a typed error.
#[derive(Clone, Copy, Debug)]
pub struct CheckedBatch<'a> {
    header: Header,
    bytes: &'a [u8],
}

/// Why a producer's bytes are refused.
#[derive(Debug, thiserror::Error)]
pub enum RejectedBatch {
    /// Not a batch.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The bytes end before the batch does.
    #[error("the batch says {size} bytes, {have} are there")]
    Incomplete {
        /// What its header says.
        size: usize,
        /// What is there.
        have: usize,
    },
    /// Bytes behind the batch: a produce takes one batch a partition, as Kafka's does.
    #[error("{extra} bytes behind the batch; send one batch a partition")]
    Extra {
        /// How many bytes.
        extra: usize,
    },
    /// Larger than the topic allows.
    #[error("the batch has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// The checksum says that bytes have changed on the way.
    #[error("the batch says CRC-32C {found:#010x}, its bytes have {computed:#010x}")]
    Checksum {
        /// As stored.
        found: u32,
        /// As computed.
        computed: u32,
    },
    /// Zero records, or offsets with holes: only compaction may leave such batches.
    #[error("the batch has {records} records for {offsets} offsets")]
    Count {
        /// The record count.
        records: u32,
        /// The offsets it spans.
        offsets: u64,
    },
    /// An unknown codec.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// Timestamps by the broker, which a producer's are not.
    #[error(
        "the batch says that its times are those of a broker (LogAppendTime); it came from a producer"
    )]
    AppendTime,
    /// Attribute bits that a producer must not set: transactions, and those without a meaning.
    #[error("attributes {found:#06x}; a producer sets the compression and nothing else")]
    Attributes {
        /// The attributes.
        found: u16,
    },
    /// An idempotent producer whose records have no numbers.
    #[error(
        "producer {producer_id} sent epoch {producer_epoch} and sequence {base_sequence}; both must be 0 or more"
    )]
    Unnumbered {
        /// The producer's id.
        producer_id: i64,
        /// Its epoch.
        producer_epoch: i16,
        /// Number of its first record.
        base_sequence: i32,
    },
    /// Control batches are the broker's to write.
    #[error("a control batch, which only brokers write")]
    Control,
}

const COMPRESSION_BITS: u16 = 0b111;

impl<'a> CheckedBatch<'a> {
    /// Checks what a producer sent: one whole batch of at most `limit` bytes, with a right
    /// checksum, offsets without holes, a known codec.
    pub fn check(bytes: &'a [u8], limit: usize) -> Result<CheckedBatch<'a>, RejectedBatch> {
        let header = Header::parse(bytes)?;
        let size = header.size;
        if size > limit {
            return Err(RejectedBatch::TooLarge { size, limit });
        }
        if size > bytes.len() {
            return Err(RejectedBatch::Incomplete { size, have: bytes.len() });
        }
        if size < bytes.len() {
            return Err(RejectedBatch::Extra { extra: bytes.len() - size });
        }
        let computed = checksum(bytes);
        if computed != header.crc {
            return Err(RejectedBatch::Checksum { found: header.crc, computed });
        }
        let offsets = u64::from(header.last_offset_delta) + 1;
        if u64::from(header.record_count) != offsets {
            return Err(RejectedBatch::Count { records: header.record_count, offsets });
        }
        Compression::from_attributes(header.attributes)?;
        if header.attributes & ATTRIBUTE_CONTROL != 0 {
            return Err(RejectedBatch::Control);
        }
        if header.timestamp_type() == TimestampType::LogAppendTime {
            return Err(RejectedBatch::AppendTime);
        }
        if header.attributes & !COMPRESSION_BITS != 0 {
            return Err(RejectedBatch::Attributes { found: header.attributes });
        }
        let Header { producer_id, producer_epoch, base_sequence, .. } = header;
        if producer_id >= 0 && (producer_epoch < 0 || base_sequence < 0) {
            return Err(RejectedBatch::Unnumbered { producer_id, producer_epoch, base_sequence });
        }
        Ok(CheckedBatch { header, bytes })
    }

    /// Its header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// All its bytes.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The header that it gets instead of its own when the time of all its records is that of the append
    /// (`LogAppendTime`).
    pub fn stamped(&self, append_time: Timestamp) -> Header {
        self.header.stamped(append_time, &self.bytes[HEADER_LEN..])
    }
}
