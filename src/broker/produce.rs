//! Produce: append now, answer when it is as safe as was asked for: at once, or when it is committed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mk_net::event_loop::{ConnectionId, Context};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    Appended, Durability, InitProducerId, InitProducerIdResponse, Produce, ProducePart,
    ProduceResponse,
};
use mk_storage::Offset;
use mk_storage::batch::{CheckedBatch, HeaderError, RejectedBatch, records};
use mk_storage::error::AppendError;
use mk_storage::producers::SequenceError;

use super::clients::Client;
use super::cluster::Cluster;
use super::groups::refuse_internal;
use super::partition::Partition;
use super::replication::replica::{NotAppended, Replica};
use super::reply::Reply;
use super::shared::{LONGEST_WAIT, Shared, not_leader, replica_of};
use super::waiting::Waiting;
use crate::clock::now_ms;
use crate::zoo::message::Report;
use crate::zoo::state::LeaderEpoch;

/// The produce requests of one loop.
pub struct Produces {
    index: usize,
    shared: Arc<Shared>,
    waiting: Waiting<WaitingProduce>,
}

/// A request whose records are in the log and not yet committed.
struct WaitingProduce {
    reply: Reply<ProduceResponse>,
    parts: Vec<Result<Part, Fault>>,
}

/// A batch in the log.
struct Part {
    appended: Appended,
    /// Set while it waits to be committed.
    uncommitted: Option<Uncommitted>,
}

/// What a batch waits for.
#[derive(Debug)]
pub struct Uncommitted {
    pub partition: Arc<Partition>,
    /// It is committed when the high watermark is here.
    pub end: Offset,
    /// In this epoch of the leader: behind it, another batch may be there.
    pub epoch: LeaderEpoch,
}

const ACKS_NONE: i8 = 0;
const ACKS_LEADER: i8 = 1;
const ACKS_ALL: i8 = -1;

impl Produces {
    pub fn new(index: usize, shared: Arc<Shared>) -> Produces {
        Produces { index, shared, waiting: Waiting::default() }
    }

    /// Appends a batch for each part; answers at once, or parks the request until it is committed.
    pub fn request(
        &mut self,
        context: &mut Context,
        (reply, client): (Reply<ProduceResponse>, &Client),
        request: &Produce,
        batches: &[&[u8]],
    ) {
        if !matches!(request.acks, ACKS_NONE | ACKS_LEADER | ACKS_ALL) {
            let what = format!("acks is {}; it can be 0, 1 and -1 (all)", request.acks);
            let fault = Fault::new(ErrorCode::INVALID_REQUIRED_ACKS, what);
            return reply.answer(context, Err(fault));
        }
        let parts = self.append_all(request, batches);
        for (part, result) in request.parts.iter().zip(&parts) {
            if result.is_ok()
                && let Some(until) = client.produced(&part.topic, part.length.into(), context.now())
            {
                context.hold(reply.to().connection, until);
            }
        }
        if request.acks == ACKS_NONE {
            let failed = parts.iter().find_map(|part| part.as_ref().err());
            return reply.no_answer(context, failed);
        }
        let mut produce = WaitingProduce { reply, parts };
        if settle(&self.shared, self.index, &mut produce) {
            produce.answer(context);
        } else {
            let timeout = Duration::from_millis(request.timeout_ms.into()).min(LONGEST_WAIT);
            let serials = produce.uncommitted().map(|batch| batch.partition.serial()).collect();
            self.waiting.park(produce, serials, context.now() + timeout);
        }
    }

    /// Appends in order. Behind a batch that failed, none of its partition is tried: it would
    /// overtake the one that its producer is going to send again.
    fn append_all(&self, request: &Produce, batches: &[&[u8]]) -> Vec<Result<Part, Fault>> {
        let mut failed: HashSet<(&str, u32)> = HashSet::new();
        let mut results = Vec::with_capacity(request.parts.len());
        for (part, batch) in request.parts.iter().zip(batches) {
            let place = (part.topic.as_str(), part.partition);
            if failed.contains(&place) {
                let what = "an earlier batch of the partition failed in the same request";
                results.push(Err(Fault::new(ErrorCode::OPERATION_NOT_ATTEMPTED, what)));
                continue;
            }
            let result = self.append(request.acks, part, batch);
            if result.is_err() {
                failed.insert(place);
            }
            results.push(result);
        }
        results
    }

    fn append(&self, acks: i8, part: &ProducePart, bytes: &[u8]) -> Result<Part, Fault> {
        let (topic, partition) =
            self.shared.partition(&part.topic, part.topic_id, part.partition)?;
        refuse_internal(&part.topic)?;
        let replica = replica_of(&partition)?;
        let settings = topic.effective();
        let batch = CheckedBatch::check(bytes, settings.max_message_bytes).map_err(rejected)?;
        if settings.compaction.is_some() {
            self.require_keys(&part.topic, bytes)?;
        }
        let for_all = acks == ACKS_ALL;
        let (appended, epoch) = replica
            .append(&batch, for_all, now_ms())
            .map_err(|error| refused(&partition, error))?;
        partition.count_appended(appended.next_offset.0 - appended.base_offset.0);
        self.shared.appended(&partition, settings.flush, appended.rolled);
        let answer = Appended {
            base_offset: appended.base_offset.0,
            log_append_time_ms: appended.log_append_time.0,
            log_start_offset: replica.log().start().0,
            durability: Durability::Memory,
        };
        let end = appended.next_offset;
        let uncommitted = for_all.then(|| Uncommitted { partition: partition.clone(), end, epoch });
        Ok(Part { appended: answer, uncommitted })
    }

    /// In a compacted topic a record without a key would never go, and a batch that cannot be read
    /// could not be compacted.
    fn require_keys(&self, topic: &str, bytes: &[u8]) -> Result<(), Fault> {
        let invalid = |what: String| {
            let what =
                format!("{what}; topic '{topic}' is compacted, where each record needs a key");
            Fault::new(ErrorCode::INVALID_RECORD, what)
        };
        let limit = self.shared.settings.number("socket.request.max.bytes") as usize;
        let records = records(&Bytes::copy_from_slice(bytes), limit);
        for (number, record) in records.map_err(|error| invalid(error.to_string()))?.enumerate() {
            let record = record.map_err(|error| invalid(error.to_string()))?;
            if record.key.is_none() {
                return Err(invalid(format!("record {number} of the batch has no key")));
            }
        }
        Ok(())
    }

    /// More of a partition is committed, or it will not be.
    pub fn on_committed(&mut self, context: &mut Context, serial: u64) {
        for ticket in self.waiting.waiting_for(serial) {
            let (shared, index) = (&self.shared, self.index);
            let produce = self.waiting.request_mut(ticket);
            let settled = produce.is_some_and(|produce| settle(shared, index, produce));
            if settled && let Some(produce) = self.waiting.take(ticket) {
                produce.answer(context);
            }
        }
    }

    /// Answers requests that have waited long enough.
    pub fn on_deadline(&mut self, context: &mut Context) {
        while let Some(mut produce) = self.waiting.take_expired(context.now()) {
            if !settle(&self.shared, self.index, &mut produce) {
                for result in &mut produce.parts {
                    if let Ok(Part { uncommitted: Some(batch), .. }) = result {
                        *result = Err(too_late(batch));
                    }
                }
            }
            produce.answer(context);
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.next_deadline()
    }

    pub fn forget(&mut self, connection: ConnectionId) {
        drop(self.waiting.take_all(|produce| produce.reply.to().connection == connection));
    }
}

/// Looks at what is committed by now. True if nothing is to be waited for any more.
fn settle(shared: &Arc<Shared>, index: usize, produce: &mut WaitingProduce) -> bool {
    let mut settled = true;
    for result in &mut produce.parts {
        let Ok(Part { appended, uncommitted }) = result else { continue };
        let Some(batch) = uncommitted else { continue };
        // Entered before it is looked at, so that no commit goes unnoticed.
        batch.partition.producers.enter(index);
        match batch.look() {
            Ok(None) => settled = false,
            Ok(Some(durability)) => {
                appended.durability = durability;
                batch.tell_first(shared);
                *uncommitted = None;
            }
            Err(fault) => *result = Err(fault),
        }
    }
    settled
}

impl Uncommitted {
    /// Tells the timeline that a new leader acknowledges.
    fn tell_first(&self, shared: &Arc<Shared>) {
        let Uncommitted { partition, epoch, .. } = self;
        if partition.is_first_in(*epoch) && epoch.0 > 1 {
            let report = Report::FirstAcknowledged {
                topic: partition.topic().to_owned(),
                partition: partition.number(),
                leader_epoch: epoch.0,
                leader: shared.cluster.me().id,
            };
            Cluster::report(shared, report);
        }
    }

    /// How safe it is, once it is committed.
    pub fn look(&self) -> Result<Option<Durability>, Fault> {
        let Uncommitted { partition, end, epoch } = self;
        let replica = replica_of(partition)?;
        let log = replica.log();
        let committed = log.high_watermark() >= *end;
        // Looked at afterwards: it was committed in this epoch, if the epoch is not over.
        let in_sync = replica.in_sync().filter(|_| replica.leads_in(*epoch));
        if partition.is_deleted() {
            let what = "the topic was deleted before the record was committed";
            return Err(Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what));
        }
        let Some((in_sync, _)) = in_sync else { return Err(not_leader(partition)) };
        if committed {
            return Ok(Some(match (partition.sync_first(), in_sync) {
                (false, _) => Durability::Memory,
                (true, 1) => Durability::Disk,
                (true, _) => Durability::Quorum,
            }));
        }
        match log.poisoned() {
            Some(poisoned) => Err(Fault::new(ErrorCode::KAFKA_STORAGE_ERROR, poisoned.to_string())),
            None => Ok(None),
        }
    }
}

/// What is said of a batch that was not committed in time.
fn too_late(batch: &Uncommitted) -> Fault {
    let in_sync = batch.partition.replica().ok().and_then(Replica::in_sync);
    match in_sync {
        Some((in_sync, needed)) if in_sync < needed => {
            let what = format!(
                "the record is in the log, but {in_sync} replicas are in sync and \
                 min.insync.replicas is {needed}"
            );
            Fault::new(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND, what)
        }
        _ => {
            let what = "the record is in the log, but not all replicas in sync have confirmed it";
            Fault::new(ErrorCode::REQUEST_TIMED_OUT, what)
        }
    }
}

impl WaitingProduce {
    fn uncommitted(&self) -> impl Iterator<Item = &Uncommitted> {
        self.parts.iter().flatten().filter_map(|part| part.uncommitted.as_ref())
    }

    fn answer(self, context: &mut Context) {
        let parts = self.parts.into_iter().map(|part| part.map(|part| part.appended)).collect();
        self.reply.answer(context, Ok(ProduceResponse { parts }));
    }
}

/// Makes an idempotent producer. Its id is random: of 63 bits, none comes twice, whatever brokers, their
/// directories and the mini-zookeeper forget; a counter would begin again, and the records of the second
/// producer of an id would be taken for those of the first.
pub fn init_producer(request: &InitProducerId) -> Result<InitProducerIdResponse, Fault> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| {
        Fault::new(ErrorCode::UNKNOWN_SERVER_ERROR, format!("no random numbers: {error}"))
    })?;
    let producer_id = i64::from_le_bytes(bytes) & i64::MAX;
    tracing::debug!(client_id = request.client_id, producer_id, "a producer begins");
    Ok(InitProducerIdResponse { producer_id, producer_epoch: 0 })
}

/// Cuts the payload into the batches of the parts.
pub fn split<'a>(request: &Produce, payload: &'a [u8]) -> Result<Vec<&'a [u8]>, Fault> {
    let invalid = |what: String| Fault::new(ErrorCode::INVALID_REQUEST, what);
    let mut rest = payload;
    let mut batches = Vec::with_capacity(request.parts.len());
    for part in &request.parts {
        let (batch, behind) = rest.split_at_checked(part.length as usize).ok_or_else(|| {
            invalid(format!("a part of {} bytes, {} are left", part.length, rest.len()))
        })?;
        batches.push(batch);
        rest = behind;
    }
    if !rest.is_empty() {
        return Err(invalid(format!("{} bytes of payload belong to no part", rest.len())));
    }
    Ok(batches)
}

fn rejected(error: RejectedBatch) -> Fault {
    let code = match error {
        RejectedBatch::TooLarge { .. } => ErrorCode::MESSAGE_TOO_LARGE,
        RejectedBatch::Checksum { .. } => ErrorCode::CORRUPT_MESSAGE,
        RejectedBatch::Header(HeaderError::Magic { .. }) => {
            ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
        }
        RejectedBatch::Compression(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        RejectedBatch::AppendTime => ErrorCode::INVALID_TIMESTAMP,
        // Whoever builds such a batch builds it again the same.
        RejectedBatch::Header(_)
        | RejectedBatch::Incomplete { .. }
        | RejectedBatch::Extra { .. }
        | RejectedBatch::Count { .. }
        | RejectedBatch::Attributes { .. }
        | RejectedBatch::Unnumbered { .. }
        | RejectedBatch::Control => ErrorCode::INVALID_RECORD,
    };
    Fault::new(code, error.to_string())
}

fn refused(partition: &Partition, error: NotAppended) -> Fault {
    let (topic, number) = (partition.topic(), partition.number());
    let hint = match &error {
        NotAppended::NotLeader => return not_leader(partition),
        NotAppended::NotEnoughReplicas { .. } => {
            return Fault::new(ErrorCode::NOT_ENOUGH_REPLICAS, error.to_string());
        }
        NotAppended::PerhapsElsewhere(_) => {
            return Fault::new(ErrorCode::OFFSET_NOT_AVAILABLE, error.to_string());
        }
        NotAppended::Log(AppendError::Disk(disk)) if disk.is_full() => {
            "; try again when the broker's disk has room"
        }
        NotAppended::Log(AppendError::Disk(_)) => {
            tracing::error!(topic, partition = number, %error, "records could not be appended");
            ""
        }
        NotAppended::Log(AppendError::Poisoned(_)) => "",
        NotAppended::Log(AppendError::Sequence(sequence)) => {
            let code = match sequence {
                SequenceError::OutOfOrder { .. } => ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
                SequenceError::Fenced { .. } => ErrorCode::INVALID_PRODUCER_EPOCH,
            };
            return Fault::new(code, error.to_string());
        }
    };
    // A full disk and a poisoned log were told of when they came to be so.
    Fault::new(ErrorCode::KAFKA_STORAGE_ERROR, format!("{error}{hint}"))
}
