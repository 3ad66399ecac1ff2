//! Fetch: answer with pieces of files, or wait until there are some.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mk_net::envelope::response;
use mk_net::event_loop::{ConnectionId, Context};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{Fetch, FetchPart, FetchResponse, Fetched};
use mk_net::outgoing::{self, Chunk};
use mk_storage::Offset;
use mk_storage::error::ReadError;
use mk_storage::log::FileRange;

use super::partition::Partition;
use super::reply::Reply;
use super::shared::{LONGEST_WAIT, STANDALONE_EPOCH, Shared, log_of};
use super::waiting::Waiting;

/// The fetch requests of one loop.
pub struct Fetches {
    index: usize,
    shared: Arc<Shared>,
    waiting: Waiting<WaitingFetch>,
}

/// A fetch that found too little.
struct WaitingFetch {
    reply: Reply,
    request: Fetch,
}

/// What a fetch found.
struct Found {
    parts: Vec<Result<Fetched, Fault>>,
    payload: Vec<Chunk>,
    bytes: u64,
    /// True if a part has more than it was given: to wait would not bring more into this answer.
    limited: bool,
    /// The partitions that were read; appends to them may change the answer.
    partitions: Vec<Arc<Partition>>,
}

/// Most bytes of one answer, whatever is asked for.
const MOST_BYTES: u64 = 64 << 20;

impl Fetches {
    pub fn new(index: usize, shared: Arc<Shared>) -> Fetches {
        Fetches { index, shared, waiting: Waiting::default() }
    }

    /// Answers at once if enough is there, or parks the request.
    pub fn request(&mut self, context: &mut Context, reply: Reply, request: Fetch) {
        let wait = Duration::from_millis(request.max_wait_ms.into()).min(LONGEST_WAIT);
        let mut found = self.read(&request);
        if !found.suffices(&request) && !wait.is_zero() {
            self.watch(&found);
            found = self.read(&request);
            if !found.suffices(&request) {
                let serials = found.partitions.iter().map(|p| p.serial()).collect();
                let deadline = context.now() + wait;
                self.waiting.park(WaitingFetch { reply, request }, serials, deadline);
                return;
            }
        }
        found.answer(context, reply);
    }

    /// Enters the partitions' lists of loops to be told. To be called before they are read.
    fn watch(&self, found: &Found) {
        for partition in &found.partitions {
            partition.fetchers.enter(self.index);
        }
    }

    /// Something was appended to a partition, or it is gone.
    pub fn on_appended(&mut self, context: &mut Context, serial: u64) {
        for ticket in self.waiting.waiting_for(serial) {
            let Some(fetch) = self.waiting.request(ticket) else { continue };
            // The list of loops was emptied to tell this one.
            let found = self.read(&fetch.request);
            self.watch(&found);
            let found =
                if found.suffices(&fetch.request) { found } else { self.read(&fetch.request) };
            if found.suffices(&fetch.request)
                && let Some(fetch) = self.waiting.take(ticket)
            {
                found.answer(context, fetch.reply);
            }
        }
    }

    /// Answers those that have waited long enough.
    pub fn on_deadline(&mut self, context: &mut Context) {
        while let Some(fetch) = self.waiting.take_expired(context.now()) {
            self.read(&fetch.request).answer(context, fetch.reply);
        }
    }

    /// Answers all that wait with what there is.
    pub fn answer_all(&mut self, context: &mut Context) {
        while let Some(fetch) = self.waiting.take_first() {
            self.read(&fetch.request).answer(context, fetch.reply);
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.next_deadline()
    }

    pub fn forget(&mut self, connection: ConnectionId) {
        self.waiting.forget(|fetch| fetch.reply.to == connection);
    }

    fn read(&self, request: &Fetch) -> Found {
        let mut found = Found {
            parts: Vec::with_capacity(request.parts.len()),
            payload: Vec::new(),
            bytes: 0,
            limited: false,
            partitions: Vec::with_capacity(request.parts.len()),
        };
        let most = u64::from(request.max_bytes).min(MOST_BYTES);
        for part in &request.parts {
            let result = self.read_part(part, most, &mut found);
            found.parts.push(result);
        }
        found
    }

    fn read_part(&self, part: &FetchPart, most: u64, found: &mut Found) -> Result<Fetched, Fault> {
        let (_, partition) = self.shared.partition(&part.topic, part.topic_id, part.partition)?;
        check_epoch(part.leader_epoch)?;
        let log = log_of(&partition)?;
        let left = most.saturating_sub(found.bytes);
        let slice = log.read(Offset(part.offset), left.min(part.max_bytes.into()));
        found.partitions.push(partition.clone());
        let slice = slice.map_err(|error| cannot_read(&partition, error))?;
        let mut length = 0;
        // The first batch of an answer comes even if it is larger than was asked for; a consumer
        // could not go on otherwise.
        let fits = |range: &FileRange| range.length <= left || found.bytes == 0;
        found.limited |= slice.range.as_ref().is_some_and(|range| !fits(range));
        if let Some(range) = slice.range.filter(fits) {
            length = range.length;
            found.limited |= slice.more;
            found.bytes += length;
            let chunk = chunk(range).map_err(|error| {
                Fault::new(ErrorCode::KAFKA_STORAGE_ERROR, format!("cannot read: {error}"))
            })?;
            found.payload.push(chunk);
        }
        Ok(Fetched {
            high_watermark: slice.end.0,
            log_start_offset: slice.start.0,
            log_end_offset: slice.end.0,
            length: length as u32,
        })
    }
}

impl Found {
    /// True if there is nothing to wait for: enough bytes, or something to say.
    fn suffices(&self, request: &Fetch) -> bool {
        self.bytes >= u64::from(request.min_bytes)
            || self.limited
            || self.parts.iter().any(Result::is_err)
    }

    fn answer(self, context: &mut Context, reply: Reply) {
        let fields = FetchResponse { parts: self.parts };
        let message = response(&reply.header, &fields, self.bytes as usize);
        context.respond_with(reply.to, message, self.payload.into_iter());
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

fn check_epoch(asked: i32) -> Result<(), Fault> {
    let ours = STANDALONE_EPOCH.0;
    if asked == -1 || asked == ours {
        Ok(())
    } else if asked < ours {
        let what = format!("the leader's epoch is {ours}, {asked} is over");
        Err(Fault::new(ErrorCode::FENCED_LEADER_EPOCH, what))
    } else {
        let what = format!("the leader's epoch is {ours}, {asked} is not known");
        Err(Fault::new(ErrorCode::UNKNOWN_LEADER_EPOCH, what))
    }
}

fn cannot_read(partition: &Partition, error: ReadError) -> Fault {
    match error {
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
