//! What a broker fetches from leaders, as in [`crate::broker::cluster::replicate`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::context::{Context, Wake};
use super::message::{Class, Failure, FetchPart, Fetched, Message, Place, Request, Response};
use super::process::Process;
use crate::broker::replication::fetcher::{Fetcher, Lane, Order, Outcome};
use crate::broker::replication::replica::{FetchedFrom, LeaderLog, NotFollowed, Replica};
use crate::zoo::state::LeaderEpoch;

/// What is fetched, and the requests that are under way.
#[derive(Default)]
pub struct Fetches {
    fetcher: Fetcher,
    under_way: BTreeMap<u64, (Order, Vec<(u64, FetchedFrom)>)>,
    /// What was taken in of requests that do not count as done yet.
    landing: BTreeMap<u64, Landing>,
    /// When it is to be woken, if it is.
    wakes: Option<Duration>,
}

/// What became of each part of a request.
struct Landing {
    order: Order,
    outcomes: Vec<(u64, LeaderEpoch, Outcome)>,
}

const IDLE_WAIT: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_millis(1500);

impl Fetches {
    pub fn follow(&mut self, number: u32, leader: u32, epoch: LeaderEpoch, in_sync: bool) {
        self.fetcher.follow(u64::from(number), leader, epoch, in_sync);
    }

    pub fn leave(&mut self, number: u32) {
        self.fetcher.leave(u64::from(number));
    }
}

impl Process {
    /// Lets a partition be asked for once what it has is synced; sees to it that it is.
    pub fn look_if_synced(&mut self, context: &mut Context<'_>, number: u32) {
        let Some(replica) = self.replica(number) else { return };
        if replica.fetch_from(Process::sync_first(context)).is_some() {
            self.fetches.fetcher.synced(u64::from(number));
        } else if replica.log().poisoned().is_none() {
            self.fetches.fetcher.syncs(u64::from(number));
            self.appended(context, number);
        }
    }

    /// Makes the requests that can be made now.
    pub fn fetch_more(&mut self, context: &mut Context<'_>) {
        while let Some(order) = self.fetches.fetcher.next(context.now) {
            let mut asked = Vec::new();
            let mut parts = Vec::new();
            for (serial, epoch) in &order.parts {
                let number = *serial as u32;
                let Some(replica) = self.replica(number) else { continue };
                let from = replica.fetch_from(Process::sync_first(context));
                let Some((offset, last_epoch)) = from else { continue };
                let high_watermark = replica.log().high_watermark();
                let (partition, leader_epoch) = (number, *epoch);
                asked.push((*serial, FetchedFrom { epoch: *epoch, offset }));
                parts.push(FetchPart {
                    partition,
                    offset,
                    leader_epoch,
                    last_epoch,
                    high_watermark,
                });
            }
            let wait = order.lane.max_wait(IDLE_WAIT);
            let number = context.number();
            let request = Request::Fetch { replica: Some(self.me), wait, parts };
            let message = Message::Request { number, request };
            context.send(Place::Broker(order.leader), Class::Request, message);
            context.wake(wait + PATIENCE, Wake::GiveUp(number));
            self.fetches.under_way.insert(number, (order, asked));
        }
        let deadline = self.fetches.fetcher.next_deadline(context.now);
        if let Some(at) = deadline.filter(|at| self.fetches.wakes != Some(*at)) {
            self.fetches.wakes = Some(at);
            let after = at.saturating_sub(context.now).max(Duration::from_millis(1));
            context.wake(after, Wake::Look);
        }
    }

    pub fn not_fetched(&mut self, context: &mut Context<'_>, number: u64) {
        let Some((order, _)) = self.fetches.under_way.remove(&number) else { return };
        self.fetches.fetcher.landed(&order);
        for (serial, epoch) in order.parts {
            self.fetches.fetcher.came(serial, epoch, Outcome::Failed, context.now);
        }
    }

    pub fn fetched(&mut self, context: &mut Context<'_>, number: u64, response: Response) {
        let Response::Fetched(parts) = response else { return };
        let Some((order, asked)) = self.fetches.under_way.remove(&number) else { return };
        let is_asked = |serial: &u64| asked.iter().any(|(asked, _)| asked == serial);
        let mut outcomes = Vec::with_capacity(order.parts.len());
        for (serial, epoch) in order.parts.iter().filter(|(serial, _)| !is_asked(serial)) {
            let replica = self.replica(*serial as u32);
            let outcome = replica.map_or(Outcome::Failed, Replica::not_asked);
            outcomes.push((*serial, *epoch, outcome));
        }
        for ((serial, from), part) in asked.into_iter().zip(parts) {
            let outcome = self.take_part(context, serial as u32, from, part);
            outcomes.push((serial, from.epoch, outcome));
        }
        let is_much = order.lane == Lane::CatchUp;
        self.fetches.landing.insert(number, Landing { order, outcomes });
        if is_much {
            // Another thread has taken it in.
            let after = context.between(10, 5_000);
            context.wake(after, Wake::Landed(number));
        } else {
            self.landed(context, number);
        }
    }

    pub fn landed(&mut self, context: &mut Context<'_>, number: u64) {
        let Some(Landing { order, outcomes }) = self.fetches.landing.remove(&number) else {
            return;
        };
        self.fetches.fetcher.landed(&order);
        for (serial, epoch, outcome) in outcomes {
            self.fetches.fetcher.came(serial, epoch, outcome, context.now);
            if outcome == Outcome::Moved {
                self.look_if_synced(context, serial as u32);
            }
        }
    }

    /// Does to the log what the leader has said.
    fn take_part(
        &mut self,
        context: &mut Context<'_>,
        number: u32,
        from: FetchedFrom,
        part: Result<Fetched, Failure>,
    ) -> Outcome {
        let Some(replica) = self.replica(number) else { return Outcome::Broken };
        let Ok(fetched) = part else { return Outcome::Failed };
        let log = replica.log();
        let before = log.end();
        let result = match fetched.diverging {
            Some(end) => replica.cut(from, end, fetched.start).map(|(end, committed)| {
                context.trace.note(context.now, [6, u64::from(number), before.0, end.0], || {
                    format!("broker {}: {number} cut from {before:?} to {end:?}", self.me.id)
                });
                if committed > 0 {
                    context.oracle.broken(context.now, "a follower cut committed records");
                }
                Outcome::Moved
            }),
            None => {
                let theirs =
                    LeaderLog { high_watermark: fetched.high_watermark, start: fetched.start };
                let copied = replica.copy(from, &fetched.batches, theirs, context.now_ms());
                copied.and_then(|copied| {
                    if theirs.start > log.start() {
                        log.trim(theirs.start.min(log.end()), None)?;
                    }
                    let quiet = copied.end == before;
                    Ok(if quiet { Outcome::Quiet } else { Outcome::Moved })
                })
            }
        };
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(NotFollowed::Superseded) => Outcome::Failed,
            Err(error) => {
                context.trace.say(context.now, || {
                    format!("broker {}: {number} does not follow: {error}", self.me.id)
                });
                if log.poisoned().is_some() { Outcome::Broken } else { Outcome::Failed }
            }
        };
        if outcome == Outcome::Moved {
            self.appended(context, number);
        }
        outcome
    }
}
