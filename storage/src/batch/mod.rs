//! Kafka's RecordBatch v2 (magic 2): the unit that is produced, stored, replicated and fetched.
//!
//! The bytes on the wire are the bytes on disk. A broker rewrites only the base offset and the
//! leader epoch, which the batch's checksum leaves out for just this reason; everything else is
//! the producer's, but for the time of a batch where the topic says that it is the broker's
//! ([`CheckedBatch::stamped`]). Compaction alone writes batches of its own ([`rewrite`]). Layout: [`header`] and
//! `docs/format.md`.

mod build;
mod check;
mod compression;
mod header;
mod record;
mod rewrite;
mod varint;

pub use build::{BatchBuilder, RecordFields, number};
pub use check::{CheckedBatch, RejectedBatch};
pub use compression::{Compression, CompressionError};
pub use header::{
    ATTRIBUTE_CONTROL, ATTRIBUTE_DELETE_HORIZON, ATTRIBUTE_LOG_APPEND_TIME,
    ATTRIBUTE_TRANSACTIONAL, HEADER_LEN, Header, HeaderError, LENGTH_OVERHEAD, MAGIC,
    TimestampType, checksum,
};
pub use record::{HeaderField, Record, RecordError, Records, records};
pub use rewrite::{emptied, empty, extend, rewrite};
