//! A broker's process, as far as replication goes: [`Replica`]s with their logs, a [`Fetcher`], a copy of
//! the cluster's state. What it does between them is what [`crate::broker::cluster`] does, without
//! threads and sockets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mk_storage::Offset;
use mk_storage::log::Log;
use mk_storage::store::Store;
use uuid::Uuid;

use super::context::{Context, Wake};
use super::follow::Fetches;
use super::host::Machine;
use super::message::{Ask, Class, Message, Place, Told};
use super::oracle::{life, partitions};
use super::serve::Waiting;
use super::{Flush, TOPIC};
use crate::broker::replication::leader::Proposal;
use crate::broker::replication::replica::{Circumstances, Replica, Standing};
use crate::zoo::detector::Beat;
use crate::zoo::state::{
    AlterPartition, BrokerEpoch, ClusterState, Command, Delta, Member, Restart,
};

/// A broker's process.
pub struct Process {
    pub me: Member,
    incarnation: Uuid,
    restart: Restart,
    pub state: ClusterState,
    pub store: Arc<Store>,
    pub parts: BTreeMap<u32, Part>,
    pub fetches: Fetches,
    pub waiting: Waiting,
    session: Option<u64>,
    registered: bool,
    /// What the mini-zookeeper was asked and has not answered.
    asks: BTreeMap<u64, Asked>,
    /// It beats once its disk follows the state.
    ready: bool,
    beats: u64,
    /// The version that the disk had followed when the process began.
    followed_before: u64,
    /// True if there was no room for a partition that it is to have; it is tried again.
    unmade: bool,
    last_look: Duration,
    pub slow_until: Duration,
    stopping: Option<u64>,
}

/// A partition that this broker has.
pub struct Part {
    /// None: it is offline.
    pub replica: Option<Replica>,
    /// True while a sync is under way.
    pub flushing: bool,
    /// Up to where the oracle has been told what is committed.
    told: Offset,
}

enum Asked {
    Proposal(u32, Proposal),
    Change(Command),
}

const BEAT: Duration = Duration::from_millis(25);
/// `replica.lag.time.max.ms`
const MOST_LAG: Duration = Duration::from_millis(800);
const LOOK: Duration = Duration::from_millis(200);

impl Process {
    pub fn start(
        context: &mut Context<'_>,
        id: u32,
        restart: Restart,
        disk: &mut Machine,
    ) -> Process {
        let store = disk.store();
        let mut parts = BTreeMap::new();
        for number in disk.partitions.clone() {
            let log = match disk.has(number) {
                true => disk.open(&store, number, context.now_ms()),
                false => Err("it is gone".to_owned()),
            };
            parts.insert(number, Part::new(context, id, number, log));
        }
        let after = context.between(100, 20_000);
        context.wake(after, Wake::Register);
        context.wake(LOOK, Wake::Shrink);
        Process {
            me: Member { id, epoch: BrokerEpoch::NONE },
            incarnation: Uuid::from_u128(u128::from(context.number())),
            restart,
            state: ClusterState::new(Uuid::nil()),
            store,
            parts,
            fetches: Fetches::default(),
            waiting: Waiting::default(),
            session: None,
            registered: false,
            asks: BTreeMap::new(),
            ready: false,
            beats: 0,
            followed_before: disk.followed,
            unmade: false,
            last_look: context.now,
            slow_until: Duration::ZERO,
            stopping: None,
        }
    }

    pub fn session(&self) -> Option<u64> {
        self.session
    }

    /// A stop in good order: all is synced.
    pub fn close(&self) {
        for part in self.parts.values() {
            if let Some(replica) = &part.replica {
                // What cannot be synced is found out at the next start.
                let _ = replica.log().close();
            }
        }
    }

    pub fn receive(
        &mut self,
        context: &mut Context<'_>,
        disk: &mut Machine,
        from: Place,
        message: Message,
    ) {
        match message {
            Message::FromZoo { session, told } if self.session == Some(session) => {
                self.told(context, told);
            }
            Message::SessionOver { session } if self.session == Some(session) => {
                self.session = None;
                self.registered = false;
                for number in self.asks.keys().copied().collect::<Vec<_>>() {
                    self.ask_later(context, number);
                }
                let after = context.between(1_000, 60_000);
                context.wake(after, Wake::Register);
            }
            Message::Probe if self.ready => self.beat(context),
            Message::Request { number, request } => self.serve(context, from, number, request),
            Message::Response { number, response } => self.fetched(context, number, response),
            Message::NoResponse { number } => self.not_fetched(context, number),
            _ => {}
        }
        self.settle(context, disk);
    }

    pub fn wake(&mut self, context: &mut Context<'_>, disk: &mut Machine, wake: &Wake) {
        match wake {
            Wake::Register if self.session.is_none() => self.register(context, disk.followed),
            Wake::Beat => {
                self.beat(context);
                context.wake(BEAT, Wake::Beat);
            }
            Wake::Reconcile(version) => self.reconcile(context, disk, *version),
            Wake::Flush(number) => self.flush(*number),
            Wake::Shrink => self.shrink(context),
            Wake::AskAgain(number) => {
                let again = self.renumber(context, *number);
                self.ask_again(context, again);
            }
            Wake::GiveUp(number) => self.not_fetched(context, *number),
            Wake::Landed(number) => self.landed(context, *number),
            _ => {}
        }
        self.settle(context, disk);
    }

    /// True once what it was stopping for is done.
    pub fn has_handed_over(&self) -> bool {
        self.stopping.is_some_and(|number| !self.asks.contains_key(&number))
    }

    /// True if it has asked for the broker to be taken into the in-sync replicas, and does not know
    /// whether it is.
    pub fn asks_for(&self, id: u32) -> bool {
        self.asks.values().any(|asked| match asked {
            Asked::Proposal(_, proposal) => proposal.isr.iter().any(|member| member.id == id),
            Asked::Change(_) => false,
        })
    }

    /// Begins to stop: its leaderships go to others first.
    pub fn hand_over(&mut self, context: &mut Context<'_>) {
        let Member { id, epoch } = self.me;
        self.stopping =
            Some(self.ask(context, Asked::Change(Command::BeginShutdown { id, epoch })));
    }

    fn register(&mut self, context: &mut Context<'_>, seen: u64) {
        let session = context.number();
        self.session = Some(session);
        let address = format!("broker-{}:9092", self.me.id);
        let (id, incarnation, restart) = (self.me.id, self.incarnation, self.restart);
        let register = Command::Register { id, incarnation, address, rack: None, restart };
        let ask = Ask::Register(seen, register);
        context.send(Place::Zoo, Class::Session, Message::ToZoo { session, number: 0, ask });
    }

    fn beat(&mut self, context: &mut Context<'_>) {
        self.beats += 1;
        let Member { id, epoch } = self.me;
        let beat = Beat { id, epoch, number: self.beats, stalled: Duration::ZERO };
        context.send(Place::Zoo, Class::Datagram, Message::Beat(beat));
    }

    fn told(&mut self, context: &mut Context<'_>, told: Told) {
        match told {
            Told::Registered(epoch, state) => {
                self.me.epoch = epoch;
                self.state = *state;
                self.registered = true;
                self.assign_known(context);
                self.soon_reconcile(context);
            }
            Told::SentAway => {
                self.session = None;
                let after = context.between(1_000, 20_000);
                context.wake(after, Wake::Register);
            }
            Told::Push(delta) => self.follow_state(context, &delta),
            Told::Answer(number, result) => {
                if let Some(Asked::Proposal(part, proposal)) = self.asks.remove(&number)
                    && let Err(refused) = result
                    && let Some(replica) = self.replica(part)
                {
                    replica.refused(&proposal, &refused, context.now);
                }
            }
        }
    }

    fn follow_state(&mut self, context: &mut Context<'_>, delta: &Delta) {
        if let Err(gap) = self.state.follow(delta) {
            context.oracle.broken(context.now, &format!("broker {}: {gap}", self.me.id));
            return;
        }
        if delta.topic_names().contains(&TOPIC) {
            self.assign_known(context);
        }
        self.soon_reconcile(context);
    }

    fn assign_known(&mut self, context: &mut Context<'_>) {
        let numbers: Vec<u32> = self.parts.keys().copied().collect();
        for number in numbers {
            self.assign(context, number);
        }
    }

    /// The control thread is not the fastest, and may have much to do.
    fn soon_reconcile(&mut self, context: &mut Context<'_>) {
        let after = match context.chance.one_in(10) {
            true => context.between(10_000, 1_000_000),
            false => context.between(100, 10_000),
        };
        context.wake(after, Wake::Reconcile(self.state.version));
    }

    /// Makes the disk as the state has it, and writes down that it is.
    fn reconcile(&mut self, context: &mut Context<'_>, disk: &mut Machine, version: u64) {
        let wanted = partitions(&self.state).to_vec();
        self.unmade = false;
        for (number, partition) in (0..).zip(&wanted) {
            let mine = partition.replicas.contains(&self.me.id);
            if mine && !self.parts.contains_key(&number) {
                let gone = partition.placed <= self.followed_before;
                let log = match gone {
                    true => Err("it was here, and is gone".to_owned()),
                    false => disk.open(&self.store, number, context.now_ms()),
                };
                if log.is_err() && !gone {
                    self.unmade = true;
                    continue;
                }
                let part = Part::new(context, self.me.id, number, log);
                self.parts.insert(number, part);
            } else if !mine && let Some(part) = self.parts.remove(&number) {
                disk.remove(number, context.now);
                if let Some(replica) = part.replica {
                    replica.log().retire();
                }
                self.fetches.leave(number);
            }
        }
        disk.sync_names();
        disk.partitions = self.parts.keys().copied().collect();
        if self.unmade {
            context.wake(LOOK, Wake::Reconcile(version));
        } else {
            disk.followed = disk.followed.max(version);
        }
        disk.restart = Restart::Kept;
        self.assign_known(context);
        self.report_lost(context);
        if self.registered && !self.ready {
            self.ready = true;
            context.wake(Duration::ZERO, Wake::Beat);
        }
    }

    /// Tells of replicas that cannot be used, so that nobody counts on them.
    fn report_lost(&mut self, context: &mut Context<'_>) {
        let Some(topic) = self.state.topics.get(TOPIC) else { return };
        let Member { id, epoch } = self.me;
        let lost = (0..).zip(&topic.partitions).filter(|(number, wanted)| {
            let members = || wanted.isr.iter().chain(&wanted.eligible);
            let others = members().any(|other| *other != id);
            let broken = match self.parts.get(number).map(|part| &part.replica) {
                None => others && self.unmade,
                Some(None) => true,
                Some(Some(replica)) => others && replica.log().poisoned().is_some(),
            };
            broken && members().any(|member| *member == id)
        });
        let lost: Vec<_> = lost.map(|(number, _)| (topic.id, number)).collect();
        if !lost.is_empty() {
            self.ask(context, Asked::Change(Command::LoseReplicas { id, epoch, partitions: lost }));
        }
    }

    /// Takes the part in a partition that the state gives.
    fn assign(&mut self, context: &mut Context<'_>, number: u32) {
        let Some(topic) = self.state.topics.get(TOPIC) else { return };
        let Some(wanted) = topic.partition(number) else { return };
        let Some(replica) = self.parts.get(&number).and_then(|part| part.replica.as_ref()) else {
            return;
        };
        let (me, now) = (self.me, context.now);
        let min_isr = self.state.min_insync_replicas(topic);
        let lives = |id| life(&self.state, id);
        let sync_first = context.plan.flush == Flush::Ack;
        let before = replica.standing();
        replica.assign(wanted, &Circumstances { me, lives: &lives, min_isr, sync_first, now });
        let after = replica.standing();
        if let Standing::Leader(epoch) = after {
            context.oracle.leads(now, number, epoch, me);
        }
        if before != after {
            let log = replica.log();
            let at = [3, u64::from(number), u64::from(me.id), log.end().0];
            context.trace.note(now, at, || {
                let (end, committed) = (log.end(), log.high_watermark());
                format!("broker {}: {number} is {after:?}, {end:?}, committed {committed:?}", me.id)
            });
        }
        match after {
            Standing::Follower { leader: Some(leader), epoch } => {
                self.fetches.follow(number, leader, epoch, wanted.isr.contains(&me.id));
                self.look_if_synced(context, number);
            }
            _ => self.fetches.leave(number),
        }
    }

    pub fn replica(&self, number: u32) -> Option<&Replica> {
        self.parts.get(&number)?.replica.as_ref()
    }

    pub fn propose(&mut self, context: &mut Context<'_>, number: u32, proposal: Proposal) {
        self.ask(context, Asked::Proposal(number, proposal));
    }

    fn ask(&mut self, context: &mut Context<'_>, asked: Asked) -> u64 {
        let number = context.number();
        self.asks.insert(number, asked);
        self.ask_again(context, number);
        number
    }

    /// What is asked again: the answer to what was asked before does not count any more.
    fn renumber(&mut self, context: &mut Context<'_>, number: u64) -> u64 {
        let again = context.number();
        if let Some(asked) = self.asks.remove(&number) {
            self.asks.insert(again, asked);
        }
        if self.stopping == Some(number) {
            self.stopping = Some(again);
        }
        again
    }

    /// Asks until there is an answer, or another leader.
    fn ask_again(&mut self, context: &mut Context<'_>, number: u64) {
        let command = match self.asks.get(&number) {
            None => return,
            Some(Asked::Change(command)) => command.clone(),
            Some(Asked::Proposal(part, proposal)) => {
                let leads = self.replica(*part).is_some_and(|r| r.leads_in(proposal.leader_epoch));
                let topic = self.state.topics.get(TOPIC).filter(|_| leads);
                let Some(topic) = topic else {
                    self.asks.remove(&number);
                    return;
                };
                Command::AlterPartition(AlterPartition {
                    topic: TOPIC.to_owned(),
                    topic_id: topic.id,
                    partition: *part,
                    leader: self.me,
                    leader_epoch: proposal.leader_epoch,
                    epoch: proposal.epoch,
                    isr: proposal.isr.clone(),
                    recovering: false,
                })
            }
        };
        match self.session.filter(|_| self.registered) {
            Some(session) => {
                let ask = Ask::Change(command);
                context.send(Place::Zoo, Class::Session, Message::ToZoo { session, number, ask });
                // Nobody waits for an answer without end.
                if context.chance.one_in(4) {
                    self.ask_later(context, number);
                }
            }
            None => self.ask_later(context, number),
        }
    }

    /// Soon or within a while: it may be done already, and much else may happen until then.
    fn ask_later(&self, context: &mut Context<'_>, number: u64) {
        let after = match context.chance.one_in(2) {
            true => context.between(1_000, 50_000),
            false => context.between(20_000, 1_000_000),
        };
        context.wake(after, Wake::AskAgain(number));
    }

    fn shrink(&mut self, context: &mut Context<'_>) {
        // A broker that was held up does not know who has fallen behind.
        if context.now - self.last_look < MOST_LAG / 2 {
            let numbers: Vec<u32> = self.parts.keys().copied().collect();
            for number in numbers {
                let replica = self.replica(number);
                let proposal = replica.and_then(|r| r.propose_shrink(MOST_LAG, context.now));
                if let Some(proposal) = proposal {
                    self.propose(context, number, proposal);
                }
            }
        }
        self.last_look = context.now;
        if self.registered {
            self.report_lost(context);
        }
        context.wake(LOOK, Wake::Shrink);
    }

    /// Something was appended: it is synced before long.
    pub fn appended(&mut self, context: &mut Context<'_>, number: u32) {
        let slow = context.now < self.slow_until;
        let after = match (context.plan.flush, slow) {
            (Flush::Ack, false) => context.between(100, 4_000),
            (Flush::Ack, true) => context.between(50_000, 900_000),
            (Flush::Os, _) => context.between(50_000, 1_000_000),
        };
        if let Some(part) = self.parts.get_mut(&number)
            && !std::mem::replace(&mut part.flushing, true)
        {
            context.wake(after, Wake::Flush(number));
        }
    }

    fn flush(&mut self, number: u32) {
        let Some(part) = self.parts.get_mut(&number) else { return };
        part.flushing = false;
        if let Some(replica) = &part.replica {
            // A log whose sync fails takes nothing more, and says so.
            let _ = replica.log().flush();
        }
    }

    /// Does all that has become possible, and tells the oracle what is committed.
    fn settle(&mut self, context: &mut Context<'_>, disk: &mut Machine) {
        let sync_first = context.plan.flush == Flush::Ack;
        let numbers: Vec<u32> = self.parts.keys().copied().collect();
        for number in &numbers {
            if let Some(replica) = self.replica(*number) {
                replica.progressed(sync_first);
            }
            self.look_if_synced(context, *number);
        }
        self.fetch_more(context);
        let me = self.me.id;
        for (number, part) in &mut self.parts {
            part.tell(context, me, *number);
        }
        self.answer_waiting(context);
        if self.has_handed_over() {
            context.wake(Duration::ZERO, Wake::Stop);
        }
        debug_assert!(disk.followed <= self.state.version || !self.registered);
    }

    /// True if a log is of no use until the next start.
    pub fn is_sick(&self) -> bool {
        self.parts.values().any(|part| {
            part.replica.as_ref().is_none_or(|replica| replica.log().poisoned().is_some())
        })
    }

    /// True if this broker has a replica of each partition that it is to have, at rest.
    pub fn is_whole(&self) -> bool {
        let wanted = (0..).zip(partitions(&self.state));
        let mut mine = wanted.filter(|(_, partition)| partition.replicas.contains(&self.me.id));
        mine.all(|(number, _)| self.replica(number).is_some())
    }
}

impl Part {
    fn new(
        context: &mut Context<'_>,
        broker: u32,
        number: u32,
        log: Result<Arc<Log>, String>,
    ) -> Part {
        let log = log.inspect_err(|why| {
            context
                .trace
                .say(context.now, || format!("broker {broker}: {number} is offline: {why}"));
        });
        let replica = log.ok().map(Replica::new);
        let told = replica.as_ref().map_or(Offset(0), |replica| replica.log().high_watermark());
        Part { replica, flushing: false, told }
    }

    fn tell(&mut self, context: &mut Context<'_>, broker: u32, number: u32) {
        let Some(replica) = &self.replica else { return };
        let log = replica.log();
        let committed = log.high_watermark();
        self.told = self.told.min(committed);
        if committed > self.told {
            context.oracle.committed(context.now, broker, number, log, self.told);
            self.told = committed;
            let at = [4, u64::from(number), u64::from(broker), committed.0];
            context.trace.note(context.now, at, || {
                format!("broker {broker}: {number} is committed up to {committed:?}")
            });
        }
    }
}
