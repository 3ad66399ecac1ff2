//! Producers, which number their records and send each until it is acknowledged, and consumers, which read on from any
//! replica.

use std::collections::BTreeMap;
use std::time::Duration;

use mk_storage::batch::{self, BatchBuilder, Compression, RecordFields};
use mk_storage::{Offset, Timestamp};

use super::context::{Context, Wake};
use super::message::{Class, Failure, FetchPart, Message, Place, Request, Response};
use super::oracle::records_of;
use crate::client::Number;
use crate::rule::{Rule, holds};
use crate::zoo::state::LeaderEpoch;

/// A client. It has one request under way at a time.
#[derive(Debug)]
pub struct Client {
    id: u32,
    role: Role,
    /// Of each partition its leader, as far as was heard.
    leaders: Vec<(Option<u32>, LeaderEpoch)>,
    /// The number of the next record for each partition, as of an idempotent producer.
    numbers: BTreeMap<u32, Number>,
    /// True if somebody did not answer, and nobody has said yet who leads.
    unsure: bool,
    waits_for: Option<(u64, What)>,
}

#[derive(Debug)]
enum Role {
    Producer {
        next: u64,
        sending: Option<Sending>,
        done: bool,
    },
    Consumer {
        offsets: Vec<u64>,
    },
    /// Asks where logs end.
    Asker,
}

#[derive(Clone, Copy, Debug)]
struct Sending {
    value: u64,
    partition: u32,
    acks: i8,
    number: Number,
    until: Duration,
    /// True if an attempt may have been written.
    perhaps: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Metadata,
    Produce,
    Fetch(u32),
    End(u32),
}

/// A request that takes longer is given up.
const PATIENCE: Duration = Duration::from_millis(700);
/// A record that takes longer is given up.
const DELIVERY: Duration = Duration::from_secs(4);

impl Client {
    pub fn producer(id: u32) -> Client {
        Client::new(id, Role::Producer { next: u64::from(id) << 32, sending: None, done: false })
    }

    pub fn consumer(id: u32, partitions: u32) -> Client {
        Client::new(id, Role::Consumer { offsets: vec![0; partitions as usize] })
    }

    pub fn asker(id: u32) -> Client {
        Client::new(id, Role::Asker)
    }

    fn new(id: u32, role: Role) -> Client {
        let (leaders, numbers) = (Vec::new(), BTreeMap::new());
        Client { id, role, leaders, numbers, unsure: false, waits_for: None }
    }

    /// Begins nothing new.
    pub fn finish(&mut self) {
        if let Role::Producer { done, .. } = &mut self.role {
            *done = true;
        }
    }

    /// True if it has nothing under way that is to be waited for, and has read up to these ends.
    pub fn is_finished(&self, ends: &[u64]) -> bool {
        match &self.role {
            Role::Producer { sending, done, .. } => *done && sending.is_none(),
            Role::Consumer { offsets } => offsets.iter().zip(ends).all(|(at, end)| at >= end),
            Role::Asker => true,
        }
    }

    pub fn wake(&mut self, context: &mut Context<'_>, wake: &Wake) {
        match wake {
            Wake::Next if self.waits_for.is_none() => self.go_on(context),
            Wake::GiveUp(number) => self.failed(context, *number),
            _ => {}
        }
    }

    pub fn receive(&mut self, context: &mut Context<'_>, message: Message) {
        match message {
            Message::Response { number, response } => {
                if let Some((_, what)) = self.waits_for.take_if(|(known, _)| *known == number) {
                    self.answered(context, what, response);
                }
            }
            Message::NoResponse { number } => self.failed(context, number),
            _ => {}
        }
    }

    fn failed(&mut self, context: &mut Context<'_>, number: u64) {
        if let Some((_, what)) = self.waits_for.take_if(|(known, _)| *known == number) {
            if let (What::Produce, Role::Producer { sending: Some(sending), .. }) =
                (what, &mut self.role)
            {
                sending.perhaps = true;
            }
            self.unsure = true;
            match what {
                What::Metadata => self.later(context, 1_000, 20_000),
                _ => self.ask_who_leads(context),
            }
        }
    }

    fn ask(&mut self, context: &mut Context<'_>, to: u32, what: What, request: Request) {
        let number = context.number();
        self.waits_for = Some((number, what));
        let message = Message::Request { number, request };
        context.send(Place::Broker(to), Class::Request, message);
        context.wake(PATIENCE, Wake::GiveUp(number));
    }

    fn ask_who_leads(&mut self, context: &mut Context<'_>) {
        let any = 1 + context.chance.below(u64::from(context.plan.brokers)) as u32;
        self.ask(context, any, What::Metadata, Request::Metadata);
    }

    fn later(&mut self, context: &mut Context<'_>, from_us: u64, to_us: u64) {
        let after = context.between(from_us, to_us);
        context.wake(after, Wake::Next);
    }

    fn go_on(&mut self, context: &mut Context<'_>) {
        let partitions = context.plan.partitions;
        if self.leaders.is_empty() || self.unsure {
            return self.ask_who_leads(context);
        }
        let any = context.chance.below(u64::from(partitions)) as u32;
        match &mut self.role {
            Role::Producer { next, sending, done } => {
                let Some(sending) = sending else {
                    if *done {
                        return;
                    }
                    let value = *next;
                    *next += 1;
                    let acks = if context.chance.one_in(8) { 1 } else { -1 };
                    let (until, perhaps) = (context.now + DELIVERY, false);
                    let number = self.numbers.entry(any).or_default().take(1);
                    let partition = any;
                    *sending = Some(Sending { value, partition, acks, number, until, perhaps });
                    return self.send(context);
                };
                if context.now > sending.until {
                    if !sending.perhaps {
                        context.oracle.refuse(sending.value, sending.partition);
                    }
                    self.role = Role::Producer { next: *next, sending: None, done: *done };
                    return self.later(context, 0, 1000);
                }
                self.send(context);
            }
            Role::Consumer { offsets } => {
                let offset = Offset(offsets[any as usize]);
                self.fetch(context, any, offset);
            }
            Role::Asker => match self.leaders[any as usize].0 {
                Some(leader) => self.ask(context, leader, What::End(any), Request::End(any)),
                None => self.ask_who_leads(context),
            },
        }
    }

    fn send(&mut self, context: &mut Context<'_>) {
        let Role::Producer { sending: Some(sending), .. } = &self.role else { return };
        let Sending { value, partition, acks, number, .. } = *sending;
        let Some(leader) = self.leaders[partition as usize].0 else {
            return self.ask_who_leads(context);
        };
        let batch = batch(value, self.id, number, context.now_ms());
        self.ask(context, leader, What::Produce, Request::Produce { partition, acks, batch });
    }

    /// Of the leader or any other; with the leader's epoch or without.
    fn fetch(&mut self, context: &mut Context<'_>, partition: u32, offset: Offset) {
        let (leader, epoch) = self.leaders[partition as usize];
        let any = 1 + context.chance.below(u64::from(context.plan.brokers)) as u32;
        let to = leader.filter(|_| context.chance.one_in(2)).unwrap_or(any);
        let leader_epoch = if context.chance.one_in(2) { epoch } else { LeaderEpoch(-1) };
        let high_watermark = Offset(0);
        let part = FetchPart { partition, offset, leader_epoch, last_epoch: None, high_watermark };
        let wait = Duration::from_millis(context.chance.below(50));
        let request = Request::Fetch { replica: None, wait, parts: vec![part] };
        self.ask(context, to, What::Fetch(partition), request);
    }

    fn answered(&mut self, context: &mut Context<'_>, what: What, response: Response) {
        match response {
            Response::Metadata(leaders) => {
                self.unsure = false;
                if self.leaders.is_empty() {
                    self.leaders = vec![(None, LeaderEpoch(-1)); context.plan.partitions as usize];
                }
                for (known, heard) in self.leaders.iter_mut().zip(leaders) {
                    // What an older epoch knows is over.
                    if heard.1 >= known.1 {
                        *known = heard;
                    }
                }
                self.later(context, 500, 20_000);
            }
            Response::Produced(result) => self.produced(context, result),
            Response::Fetched(parts) => {
                let What::Fetch(partition) = what else { return };
                match parts.into_iter().next() {
                    Some(Ok(fetched)) => {
                        let start = fetched.start.0;
                        self.read(context, partition, start, &fetched.batches);
                        self.later(context, 0, 20_000);
                    }
                    Some(Err(Failure::OutOfRange)) => {
                        let Role::Consumer { offsets } = &mut self.role else { return };
                        let trimmed = context.oracle.start(partition);
                        let offset = &mut offsets[partition as usize];
                        if trimmed > *offset {
                            *offset = trimmed;
                        }
                        self.ask_who_leads(context);
                    }
                    _ => self.ask_who_leads(context),
                }
            }
            Response::End(Ok(end)) => {
                if let What::End(partition) = what {
                    context.oracle.told_end(context.now, self.id, partition, end.0);
                }
                self.later(context, 1000, 30_000);
            }
            Response::End(Err(_)) => self.ask_who_leads(context),
        }
    }

    fn produced(&mut self, context: &mut Context<'_>, result: Result<Offset, Failure>) {
        let Role::Producer { next, sending: Some(sending), done } = &mut self.role else { return };
        match result {
            Ok(offset) => {
                let Sending { value, partition, acks, .. } = *sending;
                context.trace.note(context.now, [1, value, offset.0, acks as u64], || {
                    format!("client {}: {value} is at {partition}:{offset}, acks {acks}", self.id)
                });
                if acks == -1 {
                    context.oracle.acknowledge(context.now, value, partition, offset.0);
                }
                self.role = Role::Producer { next: *next, sending: None, done: *done };
                self.later(context, 0, 20_000);
            }
            Err(Failure::OutOfOrder) => {
                // One before it is missing, so it is not in the log, either.
                let numbers = self.numbers.entry(sending.partition).or_default();
                numbers.begin_epoch();
                sending.number = numbers.take(1);
                self.later(context, 0, 1000);
            }
            Err(failure) => {
                sending.perhaps |= failure != Failure::NotEnough;
                self.ask_who_leads(context);
            }
        }
    }

    fn read(&mut self, context: &mut Context<'_>, partition: u32, start: u64, batches: &[u8]) {
        let Role::Consumer { offsets } = &mut self.role else { return };
        let at = &mut offsets[partition as usize];
        for (offset, found) in records_of(batches) {
            if offset < *at {
                continue;
            }
            if offset > *at {
                context.oracle.skipped(context.now, partition, *at, offset);
            }
            context.oracle.seen(context.now, partition, offset, found);
            *at = offset + 1;
        }
        context.trace.note(context.now, [2, u64::from(partition), *at, start], || {
            format!("client {}: has read {partition} up to {at}", self.id)
        });
    }
}

/// A batch of one record with this value.
fn batch(value: u64, producer: u32, number: Number, now_ms: i64) -> Vec<u8> {
    let mut batch = BatchBuilder::new(Compression::None);
    let value = value.to_le_bytes();
    batch.push(Timestamp(now_ms), &RecordFields { value: Some(&value), ..RecordFields::default() });
    let mut bytes = batch.finish().unwrap_or_default();
    if holds(Rule::NumberBatches) {
        let Number { epoch, first, .. } = number;
        let _ = batch::number(&mut bytes, producer.into(), epoch, first);
    }
    bytes
}
