//! Changes of groups in the log of a partition of the offsets topic.

use bytes::Bytes;
use mk_storage::batch::{BatchBuilder, Compression, Header, RecordFields, records};
use mk_storage::error::ReadError;
use mk_storage::log::Log;
use mk_storage::{Offset, Timestamp};

use super::record::{Change, Unreadable};

/// Why the log of a partition of the offsets topic cannot be taken in.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The log cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was read are no batches.
    #[error("what is at offset {0} is no batch: {1}")]
    Batch(Offset, String),
}

/// Bytes that are read at once.
const PIECE: u64 = 1 << 20;
/// Bytes that a batch may unpack to.
const UNPACK_LIMIT: usize = 256 << 20;

/// Hands over each change in the log, oldest first. A record that cannot be read says nothing, and is told
/// of: one that somebody has put there by hand must not keep the groups away.
pub fn replay(log: &Log, mut take: impl FnMut(Change)) -> Result<(), JournalError> {
    let mut next = log.start();
    while let Some(range) = log.read(next, PIECE)?.range {
        let bytes = range.read().map_err(|error| JournalError::Batch(next, error.to_string()))?;
        let mut rest = Bytes::from(bytes);
        while !rest.is_empty() {
            let damaged = |what: String| JournalError::Batch(next, what);
            let header = Header::parse(&rest).map_err(|error| damaged(error.to_string()))?;
            let batch = rest.split_to(header.size.min(rest.len()));
            for record in records(&batch, UNPACK_LIMIT).map_err(|e| damaged(e.to_string()))? {
                let record = record.map_err(|error| damaged(error.to_string()))?;
                let Some(key) = &record.key else { continue };
                match Change::decode(key, record.value.as_ref()) {
                    Ok(change) => take(change),
                    Err(error) => {
                        let offset = record.offset.0;
                        tracing::error!(offset, %error, "a record of the offsets topic is skipped");
                    }
                }
            }
            next = header.next_offset();
        }
    }
    Ok(())
}

/// Changes as batches of at most so many bytes, but for a record that is larger by itself.
pub fn batches(changes: &[Change], most: usize, now_ms: i64) -> Result<Vec<Vec<u8>>, Unreadable> {
    let mut batches = Vec::new();
    let mut builder = BatchBuilder::new(Compression::None);
    for change in changes {
        let (key, value) = change.encode()?;
        let fields =
            RecordFields { key: Some(&key), value: value.as_deref(), ..RecordFields::default() };
        if builder.records() > 0 && builder.size() + BatchBuilder::size_of_one(&fields) > most {
            let full = std::mem::replace(&mut builder, BatchBuilder::new(Compression::None));
            batches.extend(finish(full));
        }
        builder.push(Timestamp(now_ms), &fields);
    }
    batches.extend(finish(builder));
    Ok(batches)
}

fn finish(builder: BatchBuilder) -> Option<Vec<u8>> {
    // Without compression nothing can fail.
    if builder.records() > 0 { builder.finish().ok() } else { None }
}
