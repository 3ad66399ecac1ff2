//! What a log is told.

use crate::batch::TimestampType;

/// Settings of a log, under Kafka's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    /// `segment.bytes`: a segment is closed before it would grow beyond. At most 2^31 - 1.
    pub segment_bytes: u64,
    /// `segment.ms`: a segment is closed when its first batch is that old, in milliseconds.
    pub segment_ms: i64,
    /// `index.interval.bytes`: about this many bytes of log have one index entry.
    pub index_interval_bytes: u64,
    /// `message.timestamp.type`: with `LogAppendTime` a leader gives all records of a batch the time of
    /// the append.
    pub timestamp_type: TimestampType,
}

impl Default for LogSettings {
    fn default() -> LogSettings {
        LogSettings {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3600 * 1000,
            index_interval_bytes: 4096,
            timestamp_type: TimestampType::CreateTime,
        }
    }
}
