//! Fetch: answer with pieces of files, or wait until there are some. Consumers get what is committed;
//! followers get all there is, and say by what they ask for how much they have.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mk_net::event_loop::{ConnectionId, Context};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{EpochEnd, Fetch, FetchPart, FetchResponse, Fetched, ReplicaLife};
use mk_net::outgoing::{self, Chunk};
use mk_storage::error::ReadError;
use mk_storage::log::{FileRange, NO_LIMIT};
use mk_storage::{Epoch, Offset};

use super::clients::Client;
use super::partition::Partition;
use super::replication::leader::{Fenced, FollowerFetch};
use super::replication::replica::{NotServed, Replica, Standing};
use super::reply::Reply;
use super::shared::{LONGEST_WAIT, Shared, not_leader, replica_of};
use super::waiting::Waiting;
use crate::clock::now_ms;
use crate::rule::{Rule, holds};
use crate::zoo::state::{BrokerEpoch, LeaderEpoch, Member};

/// The fetch requests of one loop.
pub struct Fetches {
    index: usize,
    shared: Arc<Shared>,
    waiting: Waiting<WaitingFetch>,
    /// Where the request comes from that is handled.
    peer: String,
}

/// A fetch that found too little.
struct WaitingFetch {
    reply: Reply<FetchResponse>,
    /// Who asks.
    client: Arc<Client>,
    request: Fetch,
}

/// What a fetch found.
struct Found {
    parts: Vec<Result<Fetched, Fault>>,
    payload: Vec<Chunk>,
    bytes: u64,
    /// True if there is more to say than bytes, or a part has more than it was given: to wait would
    /// not bring more into this answer.
    complete: bool,
    /// True if a follower does not know how much is committed.
    news: bool,
    /// The partitions that were read; appends to them may change the answer.
    partitions: Vec<Arc<Partition>>,
}

/// Most bytes of one answer, whatever is asked for.
const MOST_BYTES: u64 = 64 << 20;
/// A follower that has all records is told so late how much of it is committed: with the next records,
/// if some come before.
const NEWS_DELAY: Duration = Duration::from_millis(10);

impl Fetches {
    pub fn new(index: usize, shared: Arc<Shared>) -> Fetches {
        Fetches { index, shared, waiting: Waiting::default(), peer: String::new() }
    }

    /// Answers at once if enough is there, or parks the request.
    pub fn request(
        &mut self,
        context: &mut Context,
        (reply, client): (Reply<FetchResponse>, &Arc<Client>),
        request: Fetch,
    ) {
        let wait = Duration::from_millis(request.max_wait_ms.into()).min(LONGEST_WAIT);
        if request.reader.is_some() {
            self.peer = context.peer().map_or_else(String::new, |peer| peer.ip().to_string());
        }
        if request.replica.is_none()
            && let Some(until) = client.charge_request(context.now())
        {
            context.hold(reply.to().connection, until);
        }
        let fetch = WaitingFetch { reply, client: client.clone(), request };
        let request = &fetch.request;
        let mut found = self.read(&fetch, true);
        if !found.suffices(request) && !wait.is_zero() {
            self.watch(&found, request);
            found = self.read(&fetch, false);
            if !found.suffices(request) {
                let serials = found.partitions.iter().map(|p| p.serial()).collect();
                let wait = if found.news { wait.min(NEWS_DELAY) } else { wait };
                let deadline = context.now() + wait;
                self.waiting.park(fetch, serials, deadline);
                return;
            }
        }
        found.answer(context, fetch);
    }

    /// Enters the partitions' lists of loops to be told. To be called before they are read.
    fn watch(&self, found: &Found, request: &Fetch) {
        for partition in &found.partitions {
            // A follower waits for commits, too: it is to know of them.
            partition.fetchers.enter(self.index);
            if request.replica.is_some() {
                partition.followers.enter(self.index);
            }
        }
    }

    /// There is more to read of a partition, or it is gone.
    pub fn on_readable(&mut self, context: &mut Context, serial: u64) {
        for ticket in self.waiting.waiting_for(serial) {
            let Some(fetch) = self.waiting.request(ticket) else { continue };
            // The list of loops was emptied to tell this one.
            let found = self.read(fetch, false);
            self.watch(&found, &fetch.request);
            let found =
                if found.suffices(&fetch.request) { found } else { self.read(fetch, false) };
            if !found.suffices(&fetch.request) {
                if found.news {
                    self.waiting.hasten(ticket, context.now() + NEWS_DELAY);
                }
            } else if let Some(fetch) = self.waiting.take(ticket) {
                found.answer(context, fetch);
            }
        }
    }

    /// Answers those that have waited long enough.
    pub fn on_deadline(&mut self, context: &mut Context) {
        while let Some(fetch) = self.waiting.take_expired(context.now()) {
            self.read(&fetch, false).answer(context, fetch);
        }
    }

    /// Answers all that wait with what there is.
    pub fn answer_all(&mut self, context: &mut Context) {
        while let Some(fetch) = self.waiting.take_first() {
            self.read(&fetch, false).answer(context, fetch);
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.next_deadline()
    }

    /// Answers all that wait of a connection with what there is.
    pub fn answer_all_of(&mut self, context: &mut Context, connection: ConnectionId) {
        for fetch in self.waiting.take_all(|fetch| fetch.reply.to().connection == connection) {
            self.read(&fetch, false).answer(context, fetch);
        }
    }

    pub fn forget(&mut self, connection: ConnectionId) {
        drop(self.waiting.take_all(|fetch| fetch.reply.to().connection == connection));
    }

    /// What there is for a request. Only when it has just come does it tell of a follower.
    fn read(&self, fetch: &WaitingFetch, fresh: bool) -> Found {
        let WaitingFetch { client, request, .. } = fetch;
        let mut found = Found {
            parts: Vec::with_capacity(request.parts.len()),
            payload: Vec::new(),
            bytes: 0,
            complete: false,
            news: false,
            partitions: Vec::with_capacity(request.parts.len()),
        };
        let mut most = u64::from(request.max_bytes).min(MOST_BYTES);
        if request.replica.is_none() {
            most = most.min(client.most_at_once());
        }
        for part in &request.parts {
            let result = self.read_part((client, request), part, fresh, most, &mut found);
            found.parts.push(result);
        }
        found
    }

    fn read_part(
        &self,
        (client, request): (&Client, &Fetch),
        part: &FetchPart,
        fresh: bool,
        most: u64,
        found: &mut Found,
    ) -> Result<Fetched, Fault> {
        let (_, partition) = self.shared.partition(&part.topic, part.topic_id, part.partition)?;
        let replica = replica_of(&partition)?;
        found.partitions.push(partition.clone());
        let (said, limit) = match &request.replica {
            Some(life) => {
                let diverging =
                    if fresh { self.hear(&partition, replica, life, part)? } else { None };
                let said = replica
                    .as_leader(LeaderEpoch(part.leader_epoch), || fetched(replica))
                    .map_err(|error| not_served(&partition, error))?;
                // One that begins before the leader's log begins anew.
                if diverging.is_some() || part.offset < said.log_start_offset {
                    found.complete = true;
                    return Ok(Fetched { diverging, ..said });
                }
                found.news |= part.high_watermark < said.high_watermark;
                (said, NO_LIMIT)
            }
            None => {
                check_consumer(&partition, replica, part)?;
                let said = fetched(replica);
                if fresh {
                    client.reads(&part.topic, part.partition, part.offset);
                    if let Some(reader) = &request.reader {
                        let at = (part.offset, said.high_watermark);
                        partition.readers.note(reader, &self.peer, at, now_ms());
                    }
                }
                if let Some(nearest) = self.nearest(replica, &request.rack, part) {
                    found.complete = true;
                    return Ok(Fetched { preferred_replica: Some(nearest), ..said });
                }
                let committed = Offset(said.high_watermark);
                (said, if holds(Rule::ReadCommitted) { committed } else { NO_LIMIT })
            }
        };
        let length = read_log(&partition, replica, part, limit, most, found)?;
        Ok(Fetched { length, ..said })
    }

    /// The replica in a consumer's rack that the leader sends it to, if there is one (KIP-392).
    fn nearest(&self, replica: &Replica, rack: &str, part: &FetchPart) -> Option<u32> {
        if rack.is_empty() {
            return None;
        }
        let state = self.shared.cluster.state();
        let is_there = |id: u32| {
            let broker = state.brokers.get(&id).filter(|broker| !broker.fenced);
            broker.is_some_and(|broker| broker.rack.as_deref() == Some(rack))
        };
        replica.nearest(Offset(part.offset), is_there)
    }

    /// Takes note of what a follower says; where it must cut its log, if it must.
    fn hear(
        &self,
        partition: &Arc<Partition>,
        replica: &Replica,
        life: &ReplicaLife,
        part: &FetchPart,
    ) -> Result<Option<EpochEnd>, Fault> {
        let leader_epoch = LeaderEpoch(part.leader_epoch);
        let follower = Member { id: life.broker, epoch: BrokerEpoch(life.epoch) };
        let fetch = FollowerFetch { follower, leader_epoch, offset: Offset(part.offset) };
        let last_epoch = (part.last_epoch >= 0).then_some(Epoch(part.last_epoch));
        let heard = replica
            .serve(fetch, last_epoch, self.shared.cluster.now())
            .map_err(|error| not_served(partition, error))?;
        if heard.committed {
            self.shared.committed(partition);
        }
        if let Some(proposal) = heard.proposal {
            self.shared.cluster.propose(partition, proposal);
        }
        Ok(heard.diverging.map(|end| EpochEnd { epoch: end.epoch.0, end: end.end.0 }))
    }
}

/// Reads a part within what is left of the answer; how many bytes.
fn read_log(
    partition: &Partition,
    replica: &Replica,
    part: &FetchPart,
    limit: Offset,
    most: u64,
    found: &mut Found,
) -> Result<u32, Fault> {
    let left = most.saturating_sub(found.bytes);
    let most = left.min(part.max_bytes.into());
    let slice = replica.log().read_below(limit, Offset(part.offset), most);
    let slice = slice.map_err(|error| cannot_read(partition, replica, error))?;
    // The first batch of an answer comes even if it is larger than was asked for; a consumer
    // could not go on otherwise.
    let fits = |range: &FileRange| range.length <= left || found.bytes == 0;
    let Some(range) = slice.range else { return Ok(0) };
    if !fits(&range) {
        found.complete = true;
        return Ok(0);
    }
    let length = range.length;
    found.complete |= slice.more;
    found.bytes += length;
    let chunk = chunk(range).map_err(|error| {
        Fault::new(ErrorCode::KAFKA_STORAGE_ERROR, format!("cannot read: {error}"))
    })?;
    found.payload.push(chunk);
    Ok(length as u32)
}

/// What is said of a log beside its batches.
fn fetched(replica: &Replica) -> Fetched {
    let log = replica.log();
    Fetched {
        high_watermark: log.high_watermark().0,
        log_start_offset: log.start().0,
        log_end_offset: log.end().0,
        length: 0,
        diverging: None,
        preferred_replica: None,
    }
}

impl Found {
    /// True if there is nothing to wait for: enough bytes, or something to say.
    fn suffices(&self, request: &Fetch) -> bool {
        // Whom the leader has sent here knows more of what is committed for a moment: the next answer of
        // the leader tells the replica.
        let may_come = |fault: &Fault| {
            fault.code == ErrorCode::OFFSET_NOT_AVAILABLE && !request.rack.is_empty()
        };
        let has_failed = |part: &Result<_, Fault>| part.as_ref().is_err_and(|f| !may_come(f));
        self.bytes >= u64::from(request.min_bytes)
            || self.complete
            || self.parts.iter().any(has_failed)
    }

    fn answer(self, context: &mut Context, fetch: WaitingFetch) {
        let WaitingFetch { reply, client, request } = fetch;
        if request.replica.is_none() {
            let group = request.reader.as_ref().map_or("", |reader| &reader.group);
            for (part, fetched) in request.parts.iter().zip(&self.parts) {
                let length = fetched.as_ref().map_or(0, |fetched| fetched.length);
                if length > 0
                    && let Some(until) =
                        client.consumed(&part.topic, length.into(), group, context.now())
                {
                    context.hold(reply.to().connection, until);
                }
            }
        }
        let answer = FetchResponse { parts: self.parts };
        reply.answer_with(context, answer, self.payload, self.bytes);
    }
}

/// A piece of a file goes out as it is; from a disk without files, as a copy.
fn chunk(range: FileRange) -> std::io::Result<Chunk> {
    match range.view.file() {
        Some(file) => Ok(Chunk::File(outgoing::FileRange {
            file: file.clone(),
            position: range.position,
            length: range.length,
        })),
        None => Ok(Chunk::Bytes(range.read()?.into())),
    }
}

/// A consumer may read from any replica, if it knows of the same leader or of none.
fn check_consumer(partition: &Partition, replica: &Replica, part: &FetchPart) -> Result<(), Fault> {
    let epoch = match replica.standing() {
        Standing::None => return Err(not_leader(partition)),
        Standing::Leader(epoch) => epoch,
        Standing::Follower { epoch, .. } => {
            // Behind what it knows to be committed it cannot tell whether there is such an offset.
            if part.offset > replica.log().high_watermark().0 {
                let what = format!("the follower does not know of offset {} yet", part.offset);
                return Err(Fault::new(ErrorCode::OFFSET_NOT_AVAILABLE, what));
            }
            epoch
        }
    };
    check_epoch(part.leader_epoch, epoch)
}

/// A client that knows of another leader's epoch than this is told so (KIP-320).
pub fn check_epoch(asked: i32, epoch: LeaderEpoch) -> Result<(), Fault> {
    match LeaderEpoch(asked) {
        LeaderEpoch(-1) => Ok(()),
        asked if asked < epoch => Err(fenced(Fenced::Old(asked))),
        asked if asked > epoch => Err(fenced(Fenced::Unknown(asked))),
        _ => Ok(()),
    }
}

fn not_served(partition: &Partition, error: NotServed) -> Fault {
    match error {
        NotServed::NotLeader => not_leader(partition),
        NotServed::Fenced(error) => fenced(error),
    }
}

fn fenced(error: Fenced) -> Fault {
    let code = match error {
        Fenced::Old(_) => ErrorCode::FENCED_LEADER_EPOCH,
        Fenced::Unknown(_) => ErrorCode::UNKNOWN_LEADER_EPOCH,
        Fenced::NoReplica(_) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        Fenced::OldBroker(_) => ErrorCode::STALE_BROKER_EPOCH,
    };
    Fault::new(code, error.to_string())
}

fn cannot_read(partition: &Partition, replica: &Replica, error: ReadError) -> Fault {
    match error {
        // What a follower of the log lacks the leader may have.
        ReadError::OutOfRange { .. } if matches!(replica.standing(), Standing::Follower { .. }) => {
            Fault::new(ErrorCode::OFFSET_NOT_AVAILABLE, error.to_string())
        }
        ReadError::OutOfRange { .. } => {
            Fault::new(ErrorCode::OFFSET_OUT_OF_RANGE, error.to_string())
        }
        ReadError::Disk(_) | ReadError::Corrupt(_) => {
            let (topic, number) = (partition.topic(), partition.number());
            tracing::error!(topic, partition = number, %error, "records cannot be read");
            Fault::new(ErrorCode::KAFKA_STORAGE_ERROR, error.to_string())
        }
    }
}
