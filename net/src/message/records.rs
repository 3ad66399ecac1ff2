//! Records in and out.

use uuid::Uuid;

use super::{choice, message};
use crate::codec::{self, DecodeError, Wire};
use crate::fault::Fault;

message! {
    /// Appends batches. The payload has one batch a part, one behind the other.
    pub struct Produce {
        /// 0: no answer; 1: once the leader has it in memory; -1: once it is as safe as the topic
        /// asks for.
        pub acks: i8,
        /// How long to wait for that, in milliseconds.
        pub timeout_ms: u32,
        /// The parts.
        pub parts: Vec<ProducePart>,
    }

    /// A batch for a partition.
    pub struct ProducePart {
        /// Which topic.
        pub topic: String,
        /// Its id, so that nothing goes to another topic of that name; nil: not known.
        pub topic_id: Uuid,
        /// Which partition.
        pub partition: u32,
        /// Bytes of the batch in the payload.
        pub length: u32,
    }

    /// One result a part, in the same order.
    pub struct ProduceResponse {
        /// The results.
        pub parts: Vec<Result<Appended, Fault>>,
    }

    /// Where a batch is now.
    pub struct Appended {
        /// Offset of its first record; the others follow without a hole.
        pub base_offset: u64,
        /// When it was appended, where the broker sets timestamps; -1 where the producer does.
        pub log_append_time_ms: i64,
        /// First offset of the log.
        pub log_start_offset: u64,
        /// How safe it was when this was said.
        pub durability: Durability,
    }

    /// Makes an idempotent producer (KIP-98).
    pub struct InitProducerId {
        /// What the client calls itself, for people.
        pub client_id: String,
    }

    /// Who it is.
    pub struct InitProducerIdResponse {
        /// 0 or more, and no other producer's.
        pub producer_id: i64,
        /// The first of its epochs.
        pub producer_epoch: i16,
    }

    /// Asks for batches; waits for them if there are none.
    pub struct Fetch {
        /// How long to wait, in milliseconds.
        pub max_wait_ms: u32,
        /// Answer as soon as there are so many bytes in all parts.
        pub min_bytes: u32,
        /// Most bytes in all parts; the first batch comes even if it is larger.
        pub max_bytes: u32,
        /// The consumer's rack; empty: none.
        pub rack: String,
        /// The follower that fetches, if it is none of the consumers.
        pub replica: Option<ReplicaLife>,
        /// The consumer that fetches, if it says who it is.
        pub reader: Option<Reader>,
        /// The parts.
        pub parts: Vec<FetchPart>,
    }

    /// A consumer. By it brokers tell who has read what.
    pub struct Reader {
        /// The name of its client (`client.id`).
        pub client_id: String,
        /// Its group; empty: none.
        pub group: String,
        /// Its id: as a member of the group, or one that it has made itself.
        pub member: String,
    }

    /// A follower in one of its lives.
    pub struct ReplicaLife {
        /// Its id.
        pub broker: u32,
        /// The epoch that the mini-zookeeper has given to this life of it.
        pub epoch: u64,
    }

    /// Where to read a partition.
    pub struct FetchPart {
        /// Which topic.
        pub topic: String,
        /// Its id; nil: not known.
        pub topic_id: Uuid,
        /// Which partition.
        pub partition: u32,
        /// From this offset on; the first batch may begin before it. A follower says with it that it
        /// has all that lies before, as safely as the topic asks for.
        pub offset: u64,
        /// Most bytes of this part.
        pub max_bytes: u32,
        /// The leader's epoch as the client knows it; -1: not known.
        pub leader_epoch: i32,
        /// The epoch of a follower's last record; -1: it has none.
        pub last_epoch: i32,
        /// Up to where a follower knows records to be committed: it is told soon if there are more.
        pub high_watermark: u64,
    }

    /// One result a part, in the same order. The payload has the batches of the parts, in the same
    /// order too.
    pub struct FetchResponse {
        /// The results.
        pub parts: Vec<Result<Fetched, Fault>>,
    }

    /// What was read of a partition.
    pub struct Fetched {
        /// Consumers see records below.
        pub high_watermark: u64,
        /// First offset of the log.
        pub log_start_offset: u64,
        /// Offset that the next record gets.
        pub log_end_offset: u64,
        /// Bytes of its batches in the payload.
        pub length: u32,
        /// For a follower whose log is no beginning of the leader's: where they part, as far as the
        /// leader can tell.
        pub diverging: Option<EpochEnd>,
        /// For a consumer: a replica that is nearer to it.
        pub preferred_replica: Option<u32>,
    }

    /// A leader epoch, and the offset behind its last record.
    pub struct EpochEnd {
        /// The epoch.
        pub epoch: i32,
        /// The offset.
        pub end: u64,
    }

    /// Asks which offsets belong to a time, or to the ends of a log.
    pub struct ListOffsets {
        /// The parts.
        pub parts: Vec<ListOffsetsPart>,
    }

    /// A time in a partition.
    pub struct ListOffsetsPart {
        /// Which topic.
        pub topic: String,
        /// Which partition.
        pub partition: u32,
        /// The leader's epoch as the client knows it; -1: not known.
        pub leader_epoch: i32,
        /// Which time.
        pub at: At,
    }

    /// One result a part, in the same order.
    pub struct ListOffsetsResponse {
        /// The results.
        pub parts: Vec<Result<FoundOffset, Fault>>,
    }

    /// An offset.
    pub struct FoundOffset {
        /// The offset; `None` if no record is that young.
        pub offset: Option<u64>,
        /// The record's timestamp; -1 if no record was looked at.
        pub timestamp_ms: i64,
        /// Epoch of the leader that answers.
        pub leader_epoch: i32,
    }

    /// Takes records away from the start of logs.
    pub struct TrimTopic {
        /// The parts.
        pub parts: Vec<TrimPart>,
    }

    /// What to take away.
    pub struct TrimPart {
        /// Which topic.
        pub topic: String,
        /// Which partition.
        pub partition: u32,
        /// Everything below this offset; the largest number: everything there is.
        pub before: u64,
    }

    /// One result a part, in the same order.
    pub struct TrimTopicResponse {
        /// First offset of each log now.
        pub parts: Vec<Result<u64, Fault>>,
    }
}

choice! {
    /// How safe a record is.
    pub enum Durability {
        /// On its way (acks=0).
        None = 0,
        /// In the leader's memory: survives the end of its process, not of its machine.
        Memory = 1,
        /// On the leader's disk.
        Disk = 2,
        /// On the disks of all replicas that are in sync, which are as many as the topic asks for.
        Quorum = 3,
    }
}

impl Durability {
    /// A word for it.
    pub fn name(self) -> &'static str {
        match self {
            Durability::None => "none",
            Durability::Memory => "memory",
            Durability::Disk => "disk",
            Durability::Quorum => "quorum",
        }
    }
}

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// First offset that is served.
    Earliest,
    /// Offset behind the last record that consumers see.
    Latest,
    /// First record whose timestamp, in milliseconds since 1970, is this or later.
    Timestamp(i64),
    /// The record with the largest timestamp.
    MaxTimestamp,
}

impl Wire for At {
    const MIN_SIZE: usize = 1;

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            At::Earliest => out.push(0),
            At::Latest => out.push(1),
            At::Timestamp(millis) => {
                out.push(2);
                millis.encode(out);
            }
            At::MaxTimestamp => out.push(3),
        }
    }

    fn decode(reader: &mut codec::Reader<'_>) -> Result<At, DecodeError> {
        let at = reader.position();
        match u8::decode(reader)? {
            0 => Ok(At::Earliest),
            1 => Ok(At::Latest),
            2 => Ok(At::Timestamp(i64::decode(reader)?)),
            3 => Ok(At::MaxTimestamp),
            found => Err(reader.invalid("place in a log", at, found.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};

    #[test]
    fn messages_come_back_and_wrong_ones_do_not() {
        let part = |at| ListOffsetsPart { topic: "t".into(), partition: 3, leader_epoch: 4, at };
        let places = [At::Earliest, At::Latest, At::Timestamp(-5), At::MaxTimestamp];
        let message = ListOffsets { parts: places.map(part).to_vec() };
        let bytes = encode(&message);
        assert_eq!(decode::<ListOffsets>(&bytes), Ok(message));
        assert!(decode::<ListOffsets>(&bytes[..bytes.len() - 1]).is_err());
        assert!(decode::<Durability>(&[4]).is_err());
        assert!(decode::<At>(&[4]).is_err());
    }
}
