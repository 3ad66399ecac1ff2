//! What a broker answers producers, consumers and followers, as in [`crate::broker::produce`] and
//! [`crate::broker::fetch`].

use std::time::Duration;

use mk_storage::Offset;
use mk_storage::batch::CheckedBatch;
use mk_storage::error::{AppendError, ReadError};
use mk_storage::log::NO_LIMIT;
use mk_storage::producers::SequenceError;

use super::Flush;
use super::context::{Context, Wake};
use super::message::{Class, Failure, FetchPart, Fetched, Message, Place, Request, Response};
use super::oracle::partitions;
use super::process::Process;
use crate::broker::replication::epochs::EpochEnd;
use crate::broker::replication::leader::FollowerFetch;
use crate::broker::replication::replica::{NotAppended, Replica, Standing};
use crate::rule::{Rule, holds};
use crate::zoo::state::{LeaderEpoch, Member};

/// Requests that wait.
#[derive(Default)]
pub struct Waiting {
    produces: Vec<Produce>,
    fetches: Vec<Fetch>,
}

struct Produce {
    to: (Place, u64),
    partition: u32,
    base: Offset,
    end: Offset,
    epoch: LeaderEpoch,
    deadline: Duration,
}

struct Fetch {
    to: (Place, u64),
    replica: Option<Member>,
    parts: Vec<FetchPart>,
    deadline: Duration,
}

/// What a fetch finds.
struct Found {
    parts: Vec<Result<Fetched, Failure>>,
    suffices: bool,
    /// A follower does not know how much is committed.
    news: bool,
}

const PRODUCE_TIMEOUT: Duration = Duration::from_millis(500);
const NEWS_DELAY: Duration = Duration::from_millis(10);
const MOST_BYTES: u64 = 1024;

impl Process {
    pub fn serve(&mut self, context: &mut Context<'_>, from: Place, number: u64, request: Request) {
        let to = (from, number);
        match request {
            Request::Metadata => {
                let leaders = partitions(&self.state).iter();
                let leaders = leaders.map(|p| (p.leader, p.leader_epoch)).collect();
                // A broker that is not registered yet does not know.
                if self.me.epoch.0 > 0 {
                    respond(context, to, Response::Metadata(leaders));
                } else {
                    let (place, number) = to;
                    context.send(place, Class::Request, Message::NoResponse { number });
                }
            }
            Request::Produce { partition, acks, batch } => {
                self.produce(context, to, partition, acks, &batch);
            }
            Request::Fetch { replica, wait, parts } => {
                let found = self.read(context, replica, &parts, true);
                if found.suffices || wait.is_zero() {
                    respond(context, to, Response::Fetched(found.parts));
                    return;
                }
                let wait = if found.news { wait.min(NEWS_DELAY) } else { wait };
                let deadline = context.now + wait;
                self.waiting.fetches.push(Fetch { to, replica, parts, deadline });
                context.wake(wait, Wake::Look);
            }
            Request::End(partition) => {
                let end = match self.replica(partition) {
                    Some(replica) if matches!(replica.standing(), Standing::Leader(_)) => {
                        replica.known_high_watermark().ok_or(Failure::NotAvailable)
                    }
                    _ => Err(Failure::NotLeader),
                };
                respond(context, to, Response::End(end));
            }
        }
    }

    fn produce(
        &mut self,
        context: &mut Context<'_>,
        to: (Place, u64),
        partition: u32,
        acks: i8,
        batch: &[u8],
    ) {
        let appended = match (self.replica(partition), CheckedBatch::check(batch, 1 << 20)) {
            (Some(replica), Ok(batch)) => replica.append(&batch, acks == -1, context.now_ms()),
            _ => Err(NotAppended::NotLeader),
        };
        let (appended, epoch) = match appended {
            Ok(appended) => appended,
            Err(error) => {
                let failure = match error {
                    NotAppended::NotLeader => Failure::NotLeader,
                    NotAppended::NotEnoughReplicas { .. } => Failure::NotEnough,
                    NotAppended::PerhapsElsewhere(_) => Failure::NotAvailable,
                    NotAppended::Log(AppendError::Sequence(SequenceError::OutOfOrder {
                        ..
                    })) => Failure::OutOfOrder,
                    NotAppended::Log(_) => Failure::Storage,
                };
                return respond(context, to, Response::Produced(Err(failure)));
            }
        };
        self.appended(context, partition);
        let (base, end) = (appended.base_offset, appended.next_offset);
        context.trace.note(context.now, [5, u64::from(partition), base.0, end.0], || {
            format!("broker {}: {partition}:{base:?} appended in {epoch:?}", self.me.id)
        });
        if acks != -1 {
            return respond(context, to, Response::Produced(Ok(base)));
        }
        let deadline = context.now + PRODUCE_TIMEOUT;
        context.wake(PRODUCE_TIMEOUT, Wake::Look);
        self.waiting.produces.push(Produce { to, partition, base, end, epoch, deadline });
    }

    /// Answers whoever has what it waits for, and whoever has waited long enough.
    pub fn answer_waiting(&mut self, context: &mut Context<'_>) {
        for produce in std::mem::take(&mut self.waiting.produces) {
            match self.look(&produce) {
                Some(result) => respond(context, produce.to, Response::Produced(result)),
                None if context.now >= produce.deadline => {
                    respond(context, produce.to, Response::Produced(Err(Failure::TimedOut)));
                }
                None => self.waiting.produces.push(produce),
            }
        }
        for mut fetch in std::mem::take(&mut self.waiting.fetches) {
            let found = self.read(context, fetch.replica, &fetch.parts, false);
            if found.suffices || context.now >= fetch.deadline {
                respond(context, fetch.to, Response::Fetched(found.parts));
                continue;
            }
            if found.news && fetch.deadline > context.now + NEWS_DELAY {
                fetch.deadline = context.now + NEWS_DELAY;
                context.wake(NEWS_DELAY, Wake::Look);
            }
            self.waiting.fetches.push(fetch);
        }
    }

    fn look(&self, produce: &Produce) -> Option<Result<Offset, Failure>> {
        let Some(replica) = self.replica(produce.partition) else {
            return Some(Err(Failure::NotLeader));
        };
        let committed = replica.log().high_watermark() >= produce.end;
        if !replica.leads_in(produce.epoch) {
            return Some(Err(Failure::NotLeader));
        }
        if committed {
            return Some(Ok(produce.base));
        }
        replica.log().poisoned().map(|_| Err(Failure::Storage))
    }

    fn read(
        &mut self,
        context: &mut Context<'_>,
        follower: Option<Member>,
        parts: &[FetchPart],
        fresh: bool,
    ) -> Found {
        let mut found =
            Found { parts: Vec::with_capacity(parts.len()), suffices: false, news: false };
        for part in parts {
            let result = match follower {
                Some(member) => self.read_as_follower(context, member, part, fresh, &mut found),
                None => self.read_as_consumer(part),
            };
            found.suffices |= match &result {
                Ok(fetched) => !fetched.batches.is_empty(),
                Err(_) => true,
            };
            found.parts.push(result);
        }
        found
    }

    fn read_as_follower(
        &mut self,
        context: &mut Context<'_>,
        follower: Member,
        part: &FetchPart,
        fresh: bool,
        found: &mut Found,
    ) -> Result<Fetched, Failure> {
        let &FetchPart { partition, offset, leader_epoch, last_epoch, high_watermark } = part;
        let replica = self.replica(partition).ok_or(Failure::NotLeader)?;
        let mut proposal = None;
        if fresh {
            let fetch = FollowerFetch { follower, leader_epoch, offset };
            let heard = replica.serve(fetch, last_epoch, context.now);
            let heard = heard.map_err(|_| Failure::NotLeader)?;
            if heard.diverging.is_some() {
                found.suffices = true;
                return Ok(fetched(replica, heard.diverging, Vec::new()));
            }
            proposal = heard.proposal;
        }
        let said = replica.as_leader(leader_epoch, || fetched(replica, None, Vec::new()));
        let said = said.map_err(|_| Failure::NotLeader)?;
        // One that begins before the leader's log begins anew.
        let result = if offset < said.start {
            found.suffices = true;
            Ok(said)
        } else {
            found.news |= high_watermark < said.high_watermark;
            batches(replica, offset, NO_LIMIT).map(|batches| Fetched { batches, ..said })
        };
        if let Some(proposal) = proposal {
            self.propose(context, partition, proposal);
        }
        result
    }

    fn read_as_consumer(&self, part: &FetchPart) -> Result<Fetched, Failure> {
        let replica = self.replica(part.partition).ok_or(Failure::NotLeader)?;
        let log = replica.log();
        let (epoch, leads) = match replica.standing() {
            Standing::None => return Err(Failure::NotLeader),
            Standing::Leader(epoch) => (epoch, true),
            Standing::Follower { epoch, .. } => (epoch, false),
        };
        if !leads && part.offset > log.high_watermark() {
            return Err(Failure::NotAvailable);
        }
        if part.leader_epoch.0 >= 0 && part.leader_epoch != epoch {
            return Err(Failure::NotLeader);
        }
        let limit = match holds(Rule::ReadCommitted) {
            true => log.high_watermark(),
            false => NO_LIMIT,
        };
        match batches(replica, part.offset, limit) {
            Err(Failure::OutOfRange) if !leads => Err(Failure::NotAvailable),
            result => result.map(|batches| fetched(replica, None, batches)),
        }
    }

    /// An operator deletes the oldest committed records of a partition that is led here.
    pub fn trim(&self, context: &mut Context<'_>, number: u32) {
        let Some(replica) = self.replica(number) else { return };
        let (start, committed) = (replica.log().start(), replica.log().high_watermark());
        if matches!(replica.standing(), Standing::Leader(_)) && start < committed {
            let to = Offset(start.0 + 1 + context.chance.below(committed.0 - start.0));
            context.oracle.trimmed(number, to.0);
            let trimmed = replica.log().trim(to, None);
            context.trace.say(context.now, || format!("partition {number} trimmed: {trimmed:?}"));
        }
    }

    /// What is acknowledged must be synced.
    pub fn sync_first(context: &Context<'_>) -> bool {
        context.plan.flush == Flush::Ack
    }
}

fn respond(context: &mut Context<'_>, (place, number): (Place, u64), response: Response) {
    context.send(place, Class::Request, Message::Response { number, response });
}

fn fetched(replica: &Replica, diverging: Option<EpochEnd>, batches: Vec<u8>) -> Fetched {
    let log = replica.log();
    let (high_watermark, start) = (log.high_watermark(), log.start());
    Fetched { high_watermark, start, diverging, batches }
}

fn batches(replica: &Replica, offset: Offset, limit: Offset) -> Result<Vec<u8>, Failure> {
    let slice =
        replica.log().read_below(limit, offset, MOST_BYTES).map_err(|error| match error {
            ReadError::OutOfRange { .. } => Failure::OutOfRange,
            ReadError::Disk(_) | ReadError::Corrupt(_) => Failure::Storage,
        })?;
    let Some(range) = slice.range else { return Ok(Vec::new()) };
    range.read().map_err(|_| Failure::Storage)
}
