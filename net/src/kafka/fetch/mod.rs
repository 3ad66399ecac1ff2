//! Fetch: where a client wants to read on, and what is there. The records of a response are pieces of files that do
//! not pass through this process: the response is written around them.

use bytes::Bytes;

use super::api::Api;
use super::frame;
use super::wire::{KafkaReader, KafkaWriter};
use crate::codec::DecodeError;
use crate::fault::ErrorCode;

/// Most bytes of records in a response. As much again is left for the fields of partitions, so that the whole is less
/// than the 2 GiB that a length can say.
pub const MAX_RECORDS_LEN: u64 = 1 << 30;

/// From this version on there are fetch sessions (KIP-227).
const SESSIONS_SINCE: i16 = 7;

/// From this version on clients read from the nearest replica (KIP-392).
const RACKS_SINCE: i16 = 11;

/// From this version on logs that part are told of (KIP-595).
const DIVERGENCE_SINCE: i16 = 12;

/// Fewest bytes of a topic, in either form: an empty name, no partitions, no tags.
const TOPIC_MIN_SIZE: usize = 3;

/// Fewest bytes of a partition: its number, its offset and its limit in version 4.
const PARTITION_MIN_SIZE: usize = 16;

/// Where a client wants to read on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest<'a> {
    /// The broker that asks; -1: a consumer.
    pub replica_id: i32,
    /// How long to wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// Answer as soon as this many bytes are there.
    pub min_bytes: i32,
    /// Answer at most this many bytes, though the first batch is answered whole.
    pub max_bytes: i32,
    /// 1: only what was committed in transactions is read. 0: everything.
    pub isolation_level: i8,
    /// Which session; 0 before version 7, and if there is none.
    pub session_id: i32,
    /// How far the session is; -1 before version 7, and if there is to be none.
    pub session_epoch: i32,
    /// What to read; in a session only what changed.
    pub topics: Vec<FetchTopic<'a>>,
    /// What of the session is no longer read: a topic, and its partitions. Empty before version 7.
    pub forgotten: Vec<(&'a str, Vec<i32>)>,
    /// Where the client stands; empty before version 11, and if it does not tell.
    pub rack_id: &'a str,
    /// The cluster for which the request is meant. Consumers never tell.
    pub cluster_id: Option<&'a str>,
}

/// Partitions of a topic to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic<'a> {
    /// Its name, as the client wrote it.
    pub name: &'a str,
    /// In the order in which they are to be read; one may be there twice.
    pub partitions: Vec<FetchPartition>,
}

/// Where a partition is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// Its number in the topic. Negative ones can arrive, too.
    pub index: i32,
    /// The epoch that the client knows; -1 before version 9, and if it knows none.
    pub current_leader_epoch: i32,
    /// First offset to read.
    pub fetch_offset: i64,
    /// The epoch of the record before it; -1 before version 12, and for consumers.
    pub last_fetched_epoch: i32,
    /// First offset of the replica that asks; -1 before version 5, and for consumers.
    pub log_start_offset: i64,
    /// Answer at most this many bytes, though a first batch is answered whole.
    pub max_bytes: i32,
}

/// What is there to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchResponse {
    /// How long the client is to wait before its next request, in milliseconds.
    pub throttle_ms: i32,
    /// An error of the whole request. Not sent before version 7.
    pub error: ErrorCode,
    /// The session; 0: none. Not sent before version 7.
    pub session_id: i32,
    /// As the request asked. There are no aborted transactions: then they are told of as an empty list, else as null.
    /// That is how Kafka's broker does it.
    pub read_committed: bool,
    /// By topic.
    pub topics: Vec<FetchedTopic>,
}

/// What is there of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedTopic {
    /// Its name.
    pub name: String,
    /// By partition.
    pub partitions: Vec<FetchedPartition>,
}

/// What is there of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedPartition {
    /// Its number in the topic.
    pub index: i32,
    /// [`ErrorCode::NONE`] if it could be read.
    pub error: ErrorCode,
    /// End of what all in-sync replicas have; -1 after an error.
    pub high_watermark: i64,
    /// End of what is committed of transactions, too; -1 after an error.
    pub last_stable_offset: i64,
    /// First offset of the log; -1 if it is not known. Not sent before version 5.
    pub log_start_offset: i64,
    /// The greatest epoch that both logs have, and where it ends here, if they part before the offset that was asked
    /// for. Not sent before version 12.
    pub diverging_epoch: Option<(i32, i64)>,
    /// Who leads the partition now, and in which epoch, if this broker does not. Not sent before version 12.
    pub current_leader: Option<(i32, i32)>,
    /// The broker to read from instead; -1: this one. Not sent before version 11.
    pub preferred_read_replica: i32,
    /// Bytes of records; all partitions together at most [`MAX_RECORDS_LEN`].
    pub records_len: u64,
}

/// A piece of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes. Never empty.
    Bytes(Bytes),
    /// The records of a partition: of the first, second, and so on (from 0) that the response has, counted over all
    /// topics. Those without records are counted, but have no piece.
    Records(usize),
}

/// Reads a request's fields, in a version of [`Api::FETCH`]. Copies no bytes. What is behind the fields
/// Kafka's brokers do not look at either.
pub fn parse(fields: &[u8], version: i16) -> Result<FetchRequest<'_>, DecodeError> {
    if !(Api::FETCH.min..=Api::FETCH.max).contains(&version) {
        return Err(DecodeError::Invalid { what: "api version", at: 0, found: version as u64 });
    }
    let mut reader = KafkaReader::new(fields, Api::FETCH.is_flexible(version));
    let has_sessions = version >= SESSIONS_SINCE;
    let mut request = FetchRequest {
        replica_id: reader.i32("replica id")?,
        max_wait_ms: reader.i32("longest wait")?,
        min_bytes: reader.i32("fewest bytes")?,
        max_bytes: reader.i32("most bytes")?,
        isolation_level: reader.i8("isolation level")?,
        session_id: if has_sessions { reader.i32("session id")? } else { 0 },
        session_epoch: if has_sessions { reader.i32("session epoch")? } else { -1 },
        topics: reader.list("topics", TOPIC_MIN_SIZE, |reader| topic(reader, version))?,
        forgotten: Vec::new(),
        rack_id: "",
        cluster_id: None,
    };
    if has_sessions {
        request.forgotten = reader.list("forgotten topics", TOPIC_MIN_SIZE, forgotten)?;
    }
    if version >= RACKS_SINCE {
        request.rack_id = reader.string("rack id")?;
    }
    reader.tags(|tag, bytes| {
        if tag == 0 {
            let mut reader = KafkaReader::new(bytes, true);
            request.cluster_id = reader.nullable_string("cluster id")?;
            reader.finish()?;
        }
        Ok(())
    })?;
    Ok(request)
}

fn topic<'a>(reader: &mut KafkaReader<'a>, version: i16) -> Result<FetchTopic<'a>, DecodeError> {
    let name = reader.string("topic")?;
    let partitions =
        reader.list("partitions", PARTITION_MIN_SIZE, |reader| partition(reader, version))?;
    reader.skip_tags()?;
    Ok(FetchTopic { name, partitions })
}

fn partition(reader: &mut KafkaReader<'_>, version: i16) -> Result<FetchPartition, DecodeError> {
    let has_divergence = version >= DIVERGENCE_SINCE;
    let partition = FetchPartition {
        index: reader.i32("partition")?,
        current_leader_epoch: if version >= 9 { reader.i32("leader epoch")? } else { -1 },
        fetch_offset: reader.i64("fetch offset")?,
        last_fetched_epoch: if has_divergence { reader.i32("last fetched epoch")? } else { -1 },
        log_start_offset: if version >= 5 { reader.i64("log start offset")? } else { -1 },
        max_bytes: reader.i32("most bytes of a partition")?,
    };
    reader.skip_tags()?;
    Ok(partition)
}

fn forgotten<'a>(reader: &mut KafkaReader<'a>) -> Result<(&'a str, Vec<i32>), DecodeError> {
    let name = reader.string("forgotten topic")?;
    let partitions =
        reader.list("forgotten partitions", 4, |reader| reader.i32("forgotten partition"))?;
    reader.skip_tags()?;
    Ok((name, partitions))
}

/// Writes a response in pieces, in a version of [`Api::FETCH`]. The length at its beginning counts the records, too.
/// Records that are not there have the length 0, never -1: librdkafka stumbles over null (KAFKA-18646).
///
/// # Panics
///
/// If there are more bytes of records than [`MAX_RECORDS_LEN`], or if the whole is longer than 2 GiB. For that, the
/// fields would have to be longer than 1 GiB; those that answer what [`parse`] lets through take at most 70 bytes a
/// partition, of at most [`MAX_LIST`](crate::codec::MAX_LIST), and for names as many as the request.
pub fn respond(correlation: i32, version: i16, response: &FetchResponse) -> Vec<Piece> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let records_len =
        partitions.fold(0u64, |sum, partition| sum.saturating_add(partition.records_len));
    assert!(records_len <= MAX_RECORDS_LEN, "a response with {records_len} bytes of records");
    let mut writer = frame::response(&Api::FETCH, version, correlation);
    let mut cuts = Cuts::default();
    writer.i32(response.throttle_ms);
    if version >= SESSIONS_SINCE {
        writer.i16(response.error.0);
        writer.i32(response.session_id);
    }
    writer.list(&response.topics, |writer, topic| {
        writer.string(&topic.name);
        writer.list(&topic.partitions, |writer, partition| {
            before_records(writer, version, response.read_committed, partition);
            cuts.records(writer.len(), partition.records_len);
            after_records(writer, version, partition);
        });
        writer.no_tags();
    });
    writer.no_tags();
    cuts.pieces(frame::finish(writer, records_len).into())
}

fn before_records(
    writer: &mut KafkaWriter,
    version: i16,
    read_committed: bool,
    partition: &FetchedPartition,
) {
    writer.i32(partition.index);
    writer.i16(partition.error.0);
    writer.i64(partition.high_watermark);
    writer.i64(partition.last_stable_offset);
    if version >= 5 {
        writer.i64(partition.log_start_offset);
    }
    writer.length(read_committed.then_some(0));
    if version >= RACKS_SINCE {
        writer.i32(partition.preferred_read_replica);
    }
    writer.length(Some(partition.records_len as usize));
}

fn after_records(writer: &mut KafkaWriter, version: i16, partition: &FetchedPartition) {
    if version < DIVERGENCE_SINCE {
        return;
    }
    let (diverging, leader) = (partition.diverging_epoch, partition.current_leader);
    writer.varint(u32::from(diverging.is_some()) + u32::from(leader.is_some()));
    if let Some((epoch, end_offset)) = diverging {
        writer.tag(0, |writer| {
            writer.i32(epoch);
            writer.i64(end_offset);
            writer.no_tags();
        });
    }
    if let Some((id, epoch)) = leader {
        writer.tag(1, |writer| {
            writer.i32(id);
            writer.i32(epoch);
            writer.no_tags();
        });
    }
}

/// Where records are to stand between the bytes of a response.
#[derive(Default)]
struct Cuts {
    /// Partitions until now.
    partitions: usize,
    /// How many bytes are before the records of which partition; ascending.
    places: Vec<(usize, usize)>,
}

impl Cuts {
    /// Takes note of the next partition, whose records are to stand behind the first `at` bytes.
    fn records(&mut self, at: usize, length: u64) {
        if length > 0 {
            self.places.push((at, self.partitions));
        }
        self.partitions += 1;
    }

    /// Cuts the bytes. There are always some before records: their length. Behind the last ones there may be none.
    fn pieces(self, mut bytes: Bytes) -> Vec<Piece> {
        let mut pieces = Vec::with_capacity(2 * self.places.len() + 1);
        let mut cut = 0;
        for (at, partition) in self.places {
            pieces.push(Piece::Bytes(bytes.split_to(at - cut)));
            pieces.push(Piece::Records(partition));
            cut = at;
        }
        if !bytes.is_empty() {
            pieces.push(Piece::Bytes(bytes));
        }
        pieces
    }
}

#[cfg(test)]
mod tests;
