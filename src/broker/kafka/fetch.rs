//! Fetch: the records of an answer are pieces of files, as in our own protocol.

use std::collections::VecDeque;
use std::sync::Arc;

use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::kafka::fetch::{
    FetchRequest, FetchResponse, FetchedPartition, FetchedTopic, Piece, parse, respond,
};
use mk_net::message::{self, Fetch, FetchPart, Fetched};
use mk_net::outgoing::Chunk;
use uuid::Uuid;

use super::NoAnswer;
use super::offsets::number;
use super::place::Place;
use super::results::Results;
use crate::broker::clients::Client;
use crate::broker::reply::Reply;
use crate::broker::service::BrokerService;

/// As [`FetchRequest::isolation_level`]: nothing of open transactions. There are none.
const READ_COMMITTED: i8 = 1;
/// As [`FetchRequest::session_epoch`]: the first request of a session, or of none.
const FIRST: i32 = 0;
/// The same: no session is wanted.
const NO_SESSION: i32 = -1;

/// From this version on there is a place for an error of the whole request; before, each partition tells it.
const TELLS_ERRORS: i16 = 7;

/// From this version on clients know KAFKA_STORAGE_ERROR.
const KNOWS_DISKS: i16 = 6;

/// The partitions that were asked for, by topic.
type Asked = Vec<(String, Vec<i32>)>;

impl BrokerService {
    /// Reads what a request asks for.
    pub(super) fn kafka_fetch(
        &mut self,
        context: &mut Context,
        (place, client): (Place, &Arc<Client>),
        fields: &[u8],
    ) -> Result<(), NoAnswer> {
        let request = parse(fields, place.version).map_err(|error| {
            format!("Fetch in version {} cannot be read: {error}", place.version)
        })?;
        let (asked, fetch) = translate(&request);
        let read_committed = request.isolation_level == READ_COMMITTED;
        let reply = Reply::kafka(place.index, place.to, move |answer, payload| {
            Some(Ok(write(
                place,
                &answer_of(place.version, asked, answer, read_committed),
                payload.into(),
            )))
        });
        if let Err(fault) = check_session(&request) {
            reply.answer(context, Err(fault));
            return Ok(());
        }
        // Kafka's brokers answer whoever owes, and take nothing more of it for a while (KIP-219).
        let _ = self.carry(context, place.to.connection);
        self.fetches.request(context, (reply, client), fetch);
        Ok(())
    }
}

/// No session is ever made: each request says all, and its answer has session id 0 (KIP-227). One that says all may
/// name a session that it ends; kafka-go names -1.
fn check_session(request: &FetchRequest<'_>) -> Result<(), Fault> {
    match (request.session_id, request.session_epoch) {
        (_, FIRST | NO_SESSION) => Ok(()),
        (0, epoch) => {
            let what = format!("epoch {epoch} of no fetch session");
            Err(Fault::new(ErrorCode::INVALID_FETCH_SESSION_EPOCH, what))
        }
        (id, _) => {
            let what = format!("there is no fetch session {id}");
            Err(Fault::new(ErrorCode::FETCH_SESSION_ID_NOT_FOUND, what))
        }
    }
}

fn translate(request: &FetchRequest<'_>) -> (Asked, Fetch) {
    let (mut asked, mut parts) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        for partition in &topic.partitions {
            parts.push(FetchPart {
                topic: topic.name.to_owned(),
                topic_id: Uuid::nil(),
                partition: number(partition.index),
                // No log has an offset that is negative, nor this one.
                offset: u64::try_from(partition.fetch_offset).unwrap_or(u64::MAX),
                max_bytes: u32::try_from(partition.max_bytes).unwrap_or(0),
                leader_epoch: partition.current_leader_epoch,
                last_epoch: -1,
                high_watermark: 0,
            });
        }
        let indexes = topic.partitions.iter().map(|partition| partition.index);
        asked.push((topic.name.to_owned(), indexes.collect()));
    }
    let positive = |number: i32| u32::try_from(number).unwrap_or(0);
    let fetch = Fetch {
        max_wait_ms: positive(request.max_wait_ms),
        min_bytes: positive(request.min_bytes),
        max_bytes: positive(request.max_bytes),
        rack: request.rack_id.to_owned(),
        replica: None,
        reader: None,
        parts,
    };
    (asked, fetch)
}

fn answer_of(
    version: i16,
    asked: Asked,
    answer: Result<message::FetchResponse, Fault>,
    read_committed: bool,
) -> FetchResponse {
    let (error, topics) = match &answer {
        Err(fault) if version >= TELLS_ERRORS => (fault.code, Vec::new()),
        _ => (ErrorCode::NONE, asked),
    };
    let mut results = Results::of(answer.map(|answer| answer.parts));
    let topics = topics.into_iter().map(|(name, indexes)| {
        let partitions = indexes.into_iter().map(|index| fetched(version, index, &results.take()));
        FetchedTopic { name, partitions: partitions.collect() }
    });
    let topics = topics.collect();
    FetchResponse { throttle_ms: 0, error, session_id: 0, read_committed, topics }
}

fn fetched(version: i16, index: i32, result: &Result<Fetched, Fault>) -> FetchedPartition {
    let known = |of: fn(&Fetched) -> u64| result.as_ref().map_or(-1, |fetched| of(fetched) as i64);
    let preferred = result.as_ref().ok().and_then(|fetched| fetched.preferred_replica);
    FetchedPartition {
        index,
        error: result.as_ref().err().map_or(ErrorCode::NONE, |fault| code_of(version, fault)),
        high_watermark: known(|fetched| fetched.high_watermark),
        // Without transactions all that is committed is stable.
        last_stable_offset: known(|fetched| fetched.high_watermark),
        log_start_offset: known(|fetched| fetched.log_start_offset),
        diverging_epoch: None,
        current_leader: None,
        preferred_read_replica: preferred.map_or(-1, |id| id as i32),
        records_len: result.as_ref().map_or(0, |fetched| fetched.length.into()),
    }
}

/// Older clients do not know of disks that fail (KIP-112): to them the leader is another, or will be.
fn code_of(version: i16, fault: &Fault) -> ErrorCode {
    match fault.code {
        ErrorCode::KAFKA_STORAGE_ERROR if version < KNOWS_DISKS => {
            ErrorCode::NOT_LEADER_OR_FOLLOWER
        }
        code => code,
    }
}

/// The answer, with the records of each partition, which come in the same order, in their places.
fn write(place: Place, response: &FetchResponse, mut payload: VecDeque<Chunk>) -> Vec<Chunk> {
    let pieces = respond(place.correlation, place.version, response).into_iter();
    let chunks = pieces.filter_map(|piece| match piece {
        Piece::Bytes(bytes) => Some(Chunk::Bytes(bytes)),
        Piece::Records(_) => payload.pop_front(),
    });
    chunks.collect()
}
