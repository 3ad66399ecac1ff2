//! How a consumer works, and where it begins.

use std::time::Duration;

use mk_net::message::Reader;

/// What to do when the log no longer has the next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// Go on with the first that it has.
    Earliest,
    /// Go on with the next that comes.
    Latest,
    /// Go on with the first that is younger than this (KIP-1106).
    ByDuration(Duration),
    /// Fail.
    None,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the first record that there is.
    Earliest,
    /// Behind the last one.
    Latest,
    /// At this offset.
    Offset(u64),
    /// So many records before the end.
    Last(u64),
    /// At the first record of this time, in milliseconds since 1970, or later.
    Timestamp(i64),
}

/// How a consumer works; Kafka's names.
#[derive(Clone, Debug)]
pub struct ConsumerSettings {
    /// `fetch.max.wait.ms`: how long the broker holds a fetch that finds nothing. 10 s.
    pub max_wait: Duration,
    /// `fetch.min.bytes`. 1.
    pub min_bytes: u32,
    /// `fetch.max.bytes`: of one answer. 16 MiB.
    pub max_bytes: u32,
    /// `max.partition.fetch.bytes`. 4 MiB.
    pub partition_max_bytes: u32,
    /// `client.rack`: where the consumer stands; it reads from a replica there, if there is one in
    /// sync. Empty: from the leader.
    pub rack: String,
    /// Who reads, for brokers to tell of it: the name of the client (`client.id`), its group and its id.
    pub reader: Option<Reader>,
    /// `auto.offset.reset`. The first that there is: nothing that is there is skipped.
    pub offset_reset: OffsetReset,
    /// `check.crcs`: check each batch's checksum when its records are read. On.
    pub check_crcs: bool,
    /// A partition whose broker does not answer for so long fails.
    pub give_up_after: Duration,
}

impl Default for ConsumerSettings {
    fn default() -> ConsumerSettings {
        ConsumerSettings {
            max_wait: Duration::from_secs(10),
            min_bytes: 1,
            max_bytes: 16 << 20,
            partition_max_bytes: 4 << 20,
            rack: String::new(),
            reader: None,
            offset_reset: OffsetReset::Earliest,
            check_crcs: true,
            give_up_after: Duration::from_secs(120),
        }
    }
}
