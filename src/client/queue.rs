//! The batches of one partition on their way to its leader: in order, each once. Pure: time is passed in,
//! nothing is sent.
//!
//! Each batch gets a number when it is sent for the first time, and keeps it ([KIP-98]): a leader that has
//! it already does not take it again, and one that lacks a batch before it refuses it. Up to five are on
//! their way at once, counted from the oldest that is not acknowledged: a leader remembers as many, so that
//! it knows each that may be sent again, in whatever order answers come. What must be sent again is sent
//! before all else, and alone until something is acknowledged.
//!
//! A batch is sent alone, too, while nothing was acknowledged for a while: a leader that does not know the
//! producer (any more) takes any number, and so would take a second batch though it refused the first.
//!
//! If a batch is given up that is not in the log, its number is missing, and the leader refuses the next
//! one; it says so only when no other replica can have the one that is missing and lead after it. So the
//! next one is not in the log, nor any behind it, and all of them begin an epoch in which numbers begin at 0
//! again; copies with the old ones that are still on their way somewhere are refused then.
//!
//! [KIP-98]: https://cwiki.apache.org/confluence/display/KAFKA/KIP-98

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mk_net::fault::ErrorCode;
use mk_net::message::Appended;
use mk_storage::producers::BATCHES;

use super::accumulator::BatchSettings;
use super::batch::{Batch, Number};
use super::cluster::PartitionKey;
use super::error::ClientError;
use super::landing::Landing;
use super::retry::{Retry, RetryDecision, RetryInterceptor};

/// Behind so long a time without an acknowledgement a batch is sent alone first.
const QUIET: Duration = Duration::from_secs(1);

/// So many times `batch.size` a batch may take while none can be sent.
const GROWTH: usize = 4;

/// What a leader said of a batch; nothing with acks=0.
pub(super) type Answer = Result<Option<Appended>, ClientError>;

/// What leaders said of batches of a partition, and who is asked before one is sent again.
#[derive(Debug)]
pub(super) struct Landed<'a> {
    pub answers: Vec<(Batch, Answer)>,
    pub interceptor: Option<&'a RetryInterceptor>,
}

#[cfg(test)]
impl Landed<'_> {
    pub fn of(answers: Vec<(Batch, Answer)>) -> Landed<'static> {
        Landed { answers, interceptor: None }
    }
}

/// Batches of a partition. Invariant: by their serials, those that wait are in order; none has a number
/// behind one that has none.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Batch>,
    /// Those on their way, by their serials.
    under_way: BTreeMap<u64, Arc<Landing>>,
    next_serial: u64,
    /// Bytes of the last batch that was sent: those behind it will have as many.
    usual: usize,
    /// Of the next batch.
    number: Number,
    /// `max.message.bytes` of the topic, once it is known.
    pub limit: Option<usize>,
    /// True if several may be on their way.
    open: bool,
    acknowledged_at: Option<Instant>,
    /// Not before.
    retry_at: Option<Instant>,
    /// Why it failed last.
    last_error: Option<ClientError>,
}

impl Queue {
    /// The batch that takes a record of so many bytes, a fresh one if it must be; true if it is one.
    pub fn open_batch(
        &mut self,
        key: &PartitionKey,
        now: Instant,
        added: usize,
        settings: &BatchSettings,
    ) -> (&mut Batch, bool) {
        let fits = self.has_room(added, settings);
        if !fits {
            let serial = self.next_serial;
            let content = (settings.compression, self.usual);
            let batch = Batch::new(key.clone(), now, serial, content);
            self.waiting.push_back(batch);
            self.next_serial += 1;
        }
        (self.waiting.back_mut().expect("one was pushed if there was none"), !fits)
    }

    /// True if the last batch takes a record of so many bytes.
    pub fn has_room(&self, added: usize, settings: &BatchSettings) -> bool {
        // What cannot be sent yet may as well take more: fewer batches carry as much. Only what the topic
        // surely takes, though: a batch that is refused for its size is lost to its records.
        let limit = self.limit.map(|limit| limit.min(settings.max_request_size));
        let most = match limit {
            Some(limit) if self.window(settings) == 0 => {
                settings.batch_size.saturating_mul(GROWTH).min(limit)
            }
            Some(limit) => settings.batch_size.min(limit),
            None => settings.batch_size,
        };
        self.waiting.back().is_some_and(|batch| batch.has_room(added, most))
    }

    /// Takes the batches that are to be sent now, at most `left` bytes of them; one in any case if the request
    /// has none yet (`is_first`).
    pub fn take(
        &mut self,
        now: Instant,
        settings: &BatchSettings,
        flushing: bool,
        (left, is_first): (usize, bool),
    ) -> Vec<Batch> {
        let mut run: Vec<Batch> = Vec::new();
        if !self.is_ready(now, settings, flushing) {
            return run;
        }
        self.settle_order(now, settings);
        let (window, mut size) = (self.window(settings), 0);
        let behind = self.oldest() + BATCHES as u64;
        while run.len() < window
            && let Some(batch) = self.waiting.front()
        {
            size += batch.size();
            let lingers = !batch.is_due(now, settings) && self.waiting.len() == 1;
            let waits = lingers && !flushing && !run.is_empty();
            // Between those that wait there may be some that are acknowledged, and remembered.
            let too_far = settings.numbered && batch.serial >= behind;
            let has_room = size <= left || is_first && run.is_empty();
            if waits || too_far || !has_room {
                break;
            }
            let Some(mut batch) = self.waiting.pop_front() else { break };
            if settings.numbered && batch.number.is_none() {
                batch.number = Some(self.number.take(batch.records));
            }
            self.usual = batch.size();
            batch.attempts += 1;
            self.under_way.insert(batch.serial, batch.landing().clone());
            run.push(batch);
        }
        run
    }

    /// With nothing on its way, what the first batch was told decides.
    fn settle_order(&mut self, now: Instant, settings: &BatchSettings) {
        if !self.under_way.is_empty() || !settings.numbered {
            return;
        }
        if self.acknowledged_at.is_none_or(|at| now >= at + QUIET) {
            self.open = false;
        }
        // The batch before the first is missing for good, so the first is not in the log, nor any behind
        // it: they were refused, or would have been.
        if self.waiting.front().is_some_and(|first| first.out_of_order) {
            for batch in &mut self.waiting {
                batch.number = None;
                batch.out_of_order = false;
            }
            self.number.begin_epoch();
            self.open = false;
        }
    }

    /// How many batches may be sent now.
    fn window(&self, settings: &BatchSettings) -> usize {
        match (settings.numbered, self.open) {
            (true, true) => {
                let next = self.waiting.front().map_or(self.next_serial, |first| first.serial);
                let left = (self.oldest() + BATCHES as u64).saturating_sub(next) as usize;
                left.min(BATCHES.saturating_sub(self.under_way.len()))
            }
            (true, false) => usize::from(self.under_way.is_empty()),
            // Nothing else keeps their order.
            (false, _) if self.under_way.is_empty() => usize::MAX,
            (false, _) => 0,
        }
    }

    /// The serial of the oldest batch that is not acknowledged.
    fn oldest(&self) -> u64 {
        let waiting = self.waiting.front().map(|first| first.serial);
        let under_way = self.under_way.first_key_value().map(|(serial, _)| *serial);
        waiting.into_iter().chain(under_way).min().unwrap_or(self.next_serial)
    }

    /// True if the next batch is to be sent now.
    fn is_ready(&self, now: Instant, settings: &BatchSettings, flushing: bool) -> bool {
        let Some(first) = self.waiting.front() else { return false };
        if self.window(settings) == 0 || self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        flushing || self.waiting.len() > 1 || first.is_due(now, settings)
    }

    /// Takes in what leaders said of batches: those that may succeed later wait again, for `pause` at
    /// least. Answers the bytes that the others give back.
    pub fn landed(
        &mut self,
        key: &PartitionKey,
        landed: Landed<'_>,
        now: Instant,
        pause: Duration,
    ) -> usize {
        let mut freed = 0;
        for (mut batch, answer) in landed.answers {
            self.under_way.remove(&batch.serial);
            match answer {
                Ok(appended) => {
                    self.acknowledged(now);
                    freed += batch.succeed(appended.as_ref());
                }
                Err(error) if is_order(&error) || error.is_retriable() => {
                    batch.out_of_order = is_order(&error);
                    batch.may_be_written &= !batch.out_of_order;
                    batch.may_be_written |= error.may_be_done();
                    match landed.interceptor {
                        Some(asked) if gives_up(asked, key, &batch, &error, now) => {
                            // Those behind it may be refused for want of it: one at a time, then.
                            self.open = false;
                            self.retry_at = Some(now + pause);
                            freed += batch.give_up(now, Some(error));
                        }
                        _ => self.wait_again(batch, error, now + pause),
                    }
                }
                Err(error) => freed += batch.fail(error),
            }
        }
        freed
    }

    fn acknowledged(&mut self, now: Instant) {
        self.acknowledged_at = Some(now);
        // What those behind it missed may have been this one: they are judged anew.
        self.waiting.iter_mut().for_each(|batch| batch.out_of_order = false);
        self.open = true;
        self.retry_at = None;
        self.last_error = None;
    }

    fn wait_again(&mut self, batch: Batch, error: ClientError, retry_at: Instant) {
        let place = self.waiting.partition_point(|other| other.serial < batch.serial);
        self.waiting.insert(place, batch);
        self.open = false;
        if matches!(error, ClientError::LeaderFound) {
            return;
        }
        self.retry_at = Some(retry_at);
        // That one is missing follows from what became of it.
        if self.last_error.is_none() || !is_order(&error) {
            self.last_error = Some(error);
        }
    }

    /// Fails batches that were not delivered in time; answers the bytes that they gave back. Those
    /// that are on their way are waited for.
    pub fn expire(&mut self, now: Instant, timeout: Duration) -> usize {
        let mut freed = 0;
        let is_late = |batch: &Batch| now >= batch.created + timeout;
        while self.under_way.is_empty() && self.waiting.front().is_some_and(is_late) {
            let Some(batch) = self.waiting.pop_front() else { break };
            freed += batch.give_up(now, self.last_error.clone());
        }
        freed
    }

    /// When [`Queue::take`] or [`Queue::expire`] will have something to do.
    pub fn next_due(
        &self,
        now: Instant,
        settings: &BatchSettings,
        flushing: bool,
    ) -> Option<Instant> {
        let first = self.waiting.front().filter(|_| self.window(settings) > 0)?;
        let ready = match self.retry_at {
            Some(retry_at) if retry_at > now => retry_at,
            _ if self.is_ready(now, settings, flushing) => now,
            _ => first.created + settings.linger,
        };
        // What is late while something is on its way fails when that has landed.
        match self.under_way.is_empty() {
            true => Some(ready.min(first.created + settings.delivery_timeout)),
            false => Some(ready),
        }
    }

    #[cfg(test)]
    pub fn sizes(&self) -> impl Iterator<Item = usize> + '_ {
        self.waiting.iter().map(Batch::size)
    }

    /// Where all batches land that there are, those on their way included.
    pub fn landings(&self) -> impl Iterator<Item = &Arc<Landing>> {
        self.under_way.values().chain(self.waiting.iter().map(Batch::landing))
    }
}

/// True if the program does not want a batch to be sent again. Where the leader was found nothing has failed,
/// and what lacks a batch before it is mended by the producer itself.
fn gives_up(
    asked: &RetryInterceptor,
    (topic, partition): &PartitionKey,
    batch: &Batch,
    error: &ClientError,
    now: Instant,
) -> bool {
    let retry = Retry {
        topic,
        partition: *partition,
        records: batch.records,
        attempts: batch.attempts,
        age: now.saturating_duration_since(batch.created),
        error,
    };
    let is_asked = !matches!(error, ClientError::LeaderFound) && !is_order(error);
    is_asked && asked.decide(&retry) == RetryDecision::GiveUp
}

/// True if the leader lacks a batch before.
fn is_order(error: &ClientError) -> bool {
    error.code() == Some(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
}

#[cfg(test)]
mod tests;
