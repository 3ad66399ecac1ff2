//! Produce: the batches of a request go to the log as they lie in it.

use std::sync::Arc;

use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::kafka::produce::{
    NodeEndpoint, ProduceRequest, ProduceResponse, ProducedPartition, ProducedTopic, parse, respond,
};
use mk_net::message::{self, Appended, BrokerAddress, Produce, ProducePart};
use mk_net::outgoing::Chunk;
use mk_storage::batch::{Compression, Header};
use uuid::Uuid;

use super::NoAnswer;
use super::offsets::number;
use super::place::Place;
use super::producer_id::no_transactions;
use super::results::Results;
use crate::broker::clients::Client;
use crate::broker::describe;
use crate::broker::reply::Reply;
use crate::broker::service::BrokerService;
use crate::broker::shared::Shared;

/// From this version on batches may be compressed by zstd (KIP-110): older clients cannot read them.
const ZSTD: i16 = 7;
/// From this version on an answer tells who leads (KIP-951).
const TELLS_LEADERS: i16 = 10;

/// What was asked for, by topic and partition; an error: it was not tried.
type Plan = Vec<(String, Vec<(i32, Result<(), Fault>)>)>;

impl BrokerService {
    /// Appends the batches of a request.
    pub(super) fn kafka_produce(
        &mut self,
        context: &mut Context,
        (place, client): (Place, &Client),
        fields: &[u8],
    ) -> Result<(), NoAnswer> {
        let request = parse(fields, place.version).map_err(|error| {
            format!("Produce in version {} cannot be read: {error}", place.version)
        })?;
        // Kafka's brokers answer whoever owes, and take nothing more of it for a while (KIP-219).
        let _ = self.carry(context, place.to.connection);
        let refused = match request.transactional_id {
            Some(_) => Err(no_transactions()),
            None => Ok(()),
        };
        let (plan, parts, batches) = plan(&request, place.version, refused);
        let failed = plan.iter().flat_map(|(_, parts)| parts).find_map(|(_, part)| {
            let fault = part.as_ref().err()?;
            Some(format!("a Produce with acks=0 failed: {fault}"))
        });
        if request.acks == 0
            && let Some(failed) = failed
        {
            return Err(failed);
        }
        let (for_answer, version) = (self.shared.clone(), place.version);
        let reply = Reply::kafka(place.index, place.to, move |answer, _| {
            let response = response(&for_answer, version, plan, answer);
            Some(Ok(vec![Chunk::Bytes(respond(place.correlation, version, &response).into())]))
        });
        let produce = Produce {
            acks: i8::try_from(request.acks).unwrap_or(i8::MAX),
            timeout_ms: u32::try_from(request.timeout_ms).unwrap_or(0),
            parts,
        };
        self.produces.request(context, (reply, client), &produce, &batches);
        Ok(())
    }
}

/// What of a request is tried.
fn plan<'a>(
    request: &ProduceRequest<'a>,
    version: i16,
    refused: Result<(), Fault>,
) -> (Plan, Vec<ProducePart>, Vec<&'a [u8]>) {
    let (mut plan, mut parts, mut batches) = (Vec::new(), Vec::new(), Vec::new());
    for topic in &request.topics {
        let mut of_topic = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let batch = partition.records.unwrap_or_default();
            let tried = refused.clone().and_then(|()| check_zstd(version, batch));
            if tried.is_ok() {
                parts.push(ProducePart {
                    topic: topic.name.to_owned(),
                    topic_id: Uuid::nil(),
                    partition: number(partition.index),
                    length: batch.len() as u32,
                });
                batches.push(batch);
            }
            of_topic.push((partition.index, tried));
        }
        plan.push((topic.name.to_owned(), of_topic));
    }
    (plan, parts, batches)
}

fn check_zstd(version: i16, batch: &[u8]) -> Result<(), Fault> {
    let is_zstd = |header: Header| {
        Compression::from_attributes(header.attributes)
            .is_ok_and(|codec| codec == Compression::Zstd)
    };
    if version < ZSTD && Header::parse(batch).is_ok_and(is_zstd) {
        let what = format!("zstd needs version {ZSTD} of Produce, this is version {version}");
        return Err(Fault::new(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, what));
    }
    Ok(())
}

fn response(
    shared: &Arc<Shared>,
    version: i16,
    plan: Plan,
    answer: Result<message::ProduceResponse, Fault>,
) -> ProduceResponse {
    let mut results = Results::of(answer.map(|answer| answer.parts));
    let mut response = ProduceResponse::default();
    for (name, partitions) in plan {
        let partitions = partitions.into_iter().map(|(index, tried)| {
            let result = tried.and_then(|()| results.take());
            let mut produced = produced(index, result);
            if version >= TELLS_LEADERS && produced.error == ErrorCode::NOT_LEADER_OR_FOLLOWER {
                produced.current_leader = tell_leader(shared, &name, index, &mut response.nodes);
            }
            produced
        });
        let partitions = partitions.collect();
        response.topics.push(ProducedTopic { name, partitions });
    }
    response
}

fn produced(index: i32, result: Result<Appended, Fault>) -> ProducedPartition {
    let (error, message, appended) = match result {
        Ok(appended) => (ErrorCode::NONE, None, Some(appended)),
        // That a batch is perhaps in the log of another leader is no word of Kafka's.
        Err(fault) if fault.code == ErrorCode::OFFSET_NOT_AVAILABLE => {
            (ErrorCode::NOT_LEADER_OR_FOLLOWER, Some(fault.message), None)
        }
        Err(fault) => (fault.code, Some(fault.message), None),
    };
    let offset = |of: fn(&Appended) -> i64| appended.as_ref().map_or(-1, of);
    ProducedPartition {
        index,
        error,
        base_offset: offset(|appended| appended.base_offset as i64),
        log_append_time_ms: offset(|appended| appended.log_append_time_ms),
        log_start_offset: offset(|appended| appended.log_start_offset as i64),
        record_errors: Vec::new(),
        error_message: message,
        current_leader: None,
    }
}

/// Who leads a partition, and in which epoch; where that broker is found goes to the others.
fn tell_leader(
    shared: &Shared,
    topic: &str,
    index: i32,
    nodes: &mut Vec<NodeEndpoint>,
) -> Option<(i32, i32)> {
    let state = shared.cluster.state();
    let partition = state.topics.get(topic)?.partition(number(index))?;
    let leader = partition.leader?;
    let BrokerAddress { id, host, port, rack } =
        describe::address_of(leader, state.brokers.get(&leader)?)?;
    if nodes.iter().all(|node| node.id != id as i32) {
        nodes.push(NodeEndpoint { id: id as i32, host, port: port.into(), rack });
    }
    Some((leader as i32, partition.leader_epoch.0))
}
