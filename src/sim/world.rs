//! The machines, the network between them, and the time: one event after the other.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::time::Duration;

use mk_storage::disk::Chance;
use uuid::Uuid;

use super::client::Client;
use super::context::{Action, Context, Wake};
use super::faults::Fault;
use super::host::Host;
use super::message::{Class, Message, Place};
use super::network::Network;
use super::oracle::{Oracle, life, partitions};
use super::trace::Trace;
use super::zoo::Zoo;
use super::{Flush, Plan, TOPIC};
use crate::zoo::state::{ClusterState, Command, Member, Partition};

/// All there is.
pub struct World {
    pub now: Duration,
    plan: Plan,
    chance: Chance,
    queue: BinaryHeap<Reverse<Scheduled>>,
    sequence: u64,
    /// True when nothing is to go wrong any more.
    calm: bool,
    numbers: u64,
    zoo: Zoo,
    pub hosts: BTreeMap<u32, Host>,
    clients: BTreeMap<u32, Client>,
    network: Network,
    /// Counts up with each start of a process.
    lives: BTreeMap<Place, u64>,
    paused: BTreeMap<Place, Duration>,
    /// How far whose time of day is off.
    skews_ms: BTreeMap<Place, i64>,
    /// What has come meanwhile, in its order.
    deferred: BTreeMap<Place, Vec<Event>>,
    /// Requests that were sent and not answered.
    requests: BTreeMap<u64, (Place, Place)>,
    /// Sessions that have broken: nothing of them comes any more.
    broken: BTreeSet<u64>,
    pub oracle: Oracle,
    pub trace: Trace,
    /// Who has lost what it had, in which life, and does not have all again as far as anybody knows.
    bereft: Vec<Member>,
    pub injected: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
enum Event {
    /// To a process in this life.
    Deliver(Place, Place, u64, Message),
    Wake(Place, u64, Wake),
    Start(Place),
    /// A pause may be over.
    Resume(Place),
    /// Anything that chance picks.
    Trouble,
    Fault(Fault),
    Heal,
}

/// An event to come; those of one moment in the order in which they were made.
struct Scheduled {
    at: Duration,
    number: u64,
    event: Box<Event>,
}

/// The clients: producers, consumers, and who asks for ends.
const PRODUCERS: u32 = 2;
const CONSUMERS: u32 = 2;
const OPERATORS_PATIENCE: Duration = Duration::from_secs(5);

impl World {
    pub fn new(plan: &Plan) -> World {
        let mut state = ClusterState::new(Uuid::from_u128(1));
        let flush = if plan.flush == Flush::Ack { "ack" } else { "os" };
        let defaults = [("min.insync.replicas", "2"), ("flush", flush)];
        let defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        // Nothing about it can be refused.
        let _ = state.apply(&Command::SetDefaults { defaults });
        let hosts = (1..=plan.brokers).map(|id| (id, Host::new(id))).collect();
        let mut clients = BTreeMap::new();
        for id in 0..PRODUCERS {
            clients.insert(id, Client::producer(id));
        }
        for id in PRODUCERS..PRODUCERS + CONSUMERS {
            clients.insert(id, Client::consumer(id, plan.partitions));
        }
        let asker = PRODUCERS + CONSUMERS;
        clients.insert(asker, Client::asker(asker));
        World {
            now: Duration::ZERO,
            plan: plan.clone(),
            chance: Chance::new(plan.seed),
            queue: BinaryHeap::new(),
            sequence: 0,
            calm: false,
            numbers: 0,
            zoo: Zoo::new(state),
            hosts,
            clients,
            network: Network::default(),
            lives: BTreeMap::new(),
            paused: BTreeMap::new(),
            skews_ms: BTreeMap::new(),
            deferred: BTreeMap::new(),
            requests: BTreeMap::new(),
            broken: BTreeSet::new(),
            oracle: Oracle::default(),
            trace: Trace::new(plan.prints),
            bereft: Vec::new(),
            injected: BTreeMap::new(),
        }
    }

    /// Starts everybody, and waits until the topic has its leaders.
    pub fn begin(&mut self) {
        self.start(Place::Zoo);
        for id in 1..=self.plan.brokers {
            self.start(Place::Broker(id));
        }
        let all = self.plan.brokers as usize;
        self.run_until(Duration::from_secs(5), |world| {
            let state = world.zoo.committed();
            state.brokers.values().filter(|broker| !broker.fenced).count() == all
        });
        let (partitions, replication_factor) = (self.plan.partitions, 3);
        let settings = BTreeMap::new();
        let (name, id) = (TOPIC.to_owned(), Uuid::from_u128(7));
        self.command(Command::CreateTopic { name, id, partitions, replication_factor, settings });
        self.run_until(Duration::from_secs(10), World::is_well);
        for id in self.clients.keys().copied().collect::<Vec<_>>() {
            self.schedule(Duration::ZERO, Event::Wake(Place::Client(id), 0, Wake::Next));
        }
    }

    /// Lets things go wrong until then.
    pub fn trouble(&mut self, until: Duration) {
        self.schedule(Duration::from_millis(100), Event::Trouble);
        self.run_until(until, |world| world.oracle.violation.is_some());
        self.calm = true;
    }

    /// Puts everything right and waits until all is well; false if it does not become so.
    pub fn mend(&mut self, until: Duration) -> bool {
        self.heal();
        for client in self.clients.values_mut() {
            client.finish();
        }
        while self.now < until && self.oracle.violation.is_none() && !self.is_at_rest() {
            let next_look = self.now + OPERATORS_PATIENCE;
            self.run_until(next_look.min(until), |world| {
                world.oracle.violation.is_some() || world.is_at_rest()
            });
            self.restart_sick_brokers();
        }
        self.is_at_rest()
    }

    /// What an operator does about a log that takes nothing since a sync failed.
    fn restart_sick_brokers(&mut self) {
        let is_sick = |host: &Host| host.process.as_ref().is_some_and(|process| process.is_sick());
        let sick = self.hosts.values().filter(|host| is_sick(host)).map(|host| host.id);
        for id in sick.collect::<Vec<_>>() {
            self.kill(id, Duration::from_millis(50));
        }
    }

    /// Has somebody lead partitions that nobody leads though all brokers live.
    pub fn elect_unclean(&mut self) {
        for partition in 0..self.plan.partitions {
            self.command(Command::ElectUnclean { topic: TOPIC.to_owned(), partition });
        }
    }

    /// Stops everybody's machines at once, and starts them again.
    pub fn lose_all_power(&mut self, back_after: Duration) {
        for id in 1..=self.plan.brokers {
            self.lose_power(id, back_after);
        }
    }

    pub fn run_until(&mut self, until: Duration, done: impl Fn(&World) -> bool) {
        while self.now < until && !done(self) {
            let Some(Reverse(next)) = self.queue.pop() else { return };
            self.now = next.at.max(self.now);
            self.happen(*next.event);
        }
    }

    fn schedule(&mut self, after: Duration, event: Event) {
        self.sequence += 1;
        let (at, number, event) = (self.now + after, self.sequence, Box::new(event));
        self.queue.push(Reverse(Scheduled { at, number, event }));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver(from, to, life, message) => self.deliver(from, to, life, message),
            Event::Wake(place, life, wake) => {
                if self.life(place) != life {
                    return;
                }
                if self.is_paused(place) {
                    return self.defer(place, Event::Wake(place, life, wake));
                }
                if let (Wake::Stop, Place::Broker(id)) = (&wake, place) {
                    return self.stop_now(id);
                }
                self.act(place, |actor, context| actor.wake(context, &wake));
            }
            Event::Start(place) => self.start(place),
            Event::Resume(place) => self.resume(place),
            Event::Trouble | Event::Fault(_) if self.calm => {}
            Event::Fault(fault) => self.inject(fault),
            Event::Trouble => {
                let fault = Fault::any(&self.plan, &mut self.chance);
                self.inject(fault);
                let after = 1 + self.chance.below(2 * self.plan.pace_ms);
                self.schedule(Duration::from_millis(after), Event::Trouble);
            }
            Event::Heal => self.network.heal(),
        }
    }

    fn life(&self, place: Place) -> u64 {
        self.lives.get(&place).copied().unwrap_or(0)
    }

    fn is_paused(&self, place: Place) -> bool {
        self.paused.contains_key(&place)
    }

    fn defer(&mut self, place: Place, event: Event) {
        self.deferred.entry(place).or_default().push(event);
    }

    fn resume(&mut self, place: Place) {
        let until = self.paused.get(&place).copied();
        match until.filter(|until| *until > self.now) {
            Some(until) => self.schedule(until - self.now, Event::Resume(place)),
            None => self.end_pause(place),
        }
    }

    /// What has come meanwhile comes now; what is for a process that has died, to nobody.
    fn end_pause(&mut self, place: Place) {
        self.paused.remove(&place);
        for event in self.deferred.remove(&place).unwrap_or_default() {
            self.happen(event);
        }
    }

    fn is_up(&self, place: Place) -> bool {
        match place {
            Place::Zoo => self.zoo.is_up(),
            Place::Broker(id) => self.hosts[&id].process.is_some(),
            Place::Client(_) => true,
        }
    }

    fn deliver(&mut self, from: Place, to: Place, life: u64, message: Message) {
        if self.is_paused(to) {
            return self.defer(to, Event::Deliver(from, to, life, message));
        }
        if let Message::ToZoo { session, .. } | Message::FromZoo { session, .. } = &message
            && self.broken.contains(session)
        {
            return;
        }
        if !self.is_up(to) || (self.life(to) != life && !matches!(message, Message::Beat(_))) {
            return self.nobody_there(from, to, &message);
        }
        if let Message::Response { number, .. } | Message::NoResponse { number } = &message {
            self.requests.remove(number);
        }
        self.act(to, |actor, context| actor.receive(context, from, message));
    }

    /// The machine answers that nobody listens, if it is on.
    fn nobody_there(&mut self, from: Place, to: Place, message: &Message) {
        match message {
            Message::Request { number, .. } => self.reset(*number),
            Message::ToZoo { session, .. } => {
                let message = Message::SessionOver { session: *session };
                self.send(to, from, Class::Session, message);
            }
            Message::Probe => {
                if let Place::Broker(id) = to {
                    self.send(to, from, Class::Datagram, Message::Unreachable(id));
                }
            }
            _ => {}
        }
    }

    fn reset(&mut self, number: u64) {
        if let Some((from, to)) = self.requests.remove(&number) {
            self.send(to, from, Class::Request, Message::NoResponse { number });
        }
    }

    fn act(&mut self, place: Place, act: impl FnOnce(&mut Actor<'_>, &mut Context<'_>)) {
        let mut context = Context {
            now: self.now,
            plan: &self.plan,
            chance: &mut self.chance,
            oracle: &mut self.oracle,
            trace: &mut self.trace,
            numbers: &mut self.numbers,
            skew_ms: self.skews_ms.get(&place).copied().unwrap_or(0),
            out: Vec::new(),
        };
        let mut actor = match place {
            Place::Zoo => Actor::Zoo(&mut self.zoo),
            Place::Broker(id) => match self.hosts.get_mut(&id) {
                Some(host) => Actor::Broker(host),
                None => return,
            },
            Place::Client(id) => match self.clients.get_mut(&id) {
                Some(client) => Actor::Client(client),
                None => return,
            },
        };
        act(&mut actor, &mut context);
        let out = context.out;
        let life = self.life(place);
        for action in out {
            match action {
                Action::Send(to, class, message) => self.send(place, to, class, message),
                Action::Wake(after, wake) => self.schedule(after, Event::Wake(place, life, wake)),
            }
        }
    }

    fn send(&mut self, from: Place, to: Place, class: Class, message: Message) {
        if let Message::Request { number, .. } = &message {
            self.requests.insert(*number, (from, to));
        }
        let mut arrivals = self.network.send(self.now, (from, to), class, &mut self.chance);
        if arrivals.is_empty() && matches!(message, Message::SessionOver { .. }) {
            // Whoever hears nothing for long takes the connection for broken.
            arrivals.push(self.now + Duration::from_secs(1));
        }
        if arrivals.is_empty()
            && let Message::ToZoo { session, .. } | Message::FromZoo { session, .. } = &message
        {
            self.break_session(*session, from, to);
        }
        let life = self.life(to);
        for at in arrivals {
            self.schedule(at - self.now, Event::Deliver(from, to, life, message.clone()));
        }
    }

    /// Both ends notice before long, each for itself.
    fn break_session(&mut self, session: u64, one: Place, other: Place) {
        if !self.broken.insert(session) {
            return;
        }
        for (to, from) in [(one, other), (other, one)] {
            let after = Duration::from_millis(1 + self.chance.below(800));
            let message = Message::SessionOver { session };
            self.schedule(after, Event::Deliver(from, to, self.life(to), message));
        }
    }

    fn start(&mut self, place: Place) {
        if self.is_up(place) {
            return;
        }
        *self.lives.entry(place).or_default() += 1;
        self.act(place, |actor, context| match actor {
            Actor::Zoo(zoo) => zoo.start(context),
            Actor::Broker(host) => host.start(context),
            Actor::Client(_) => {}
        });
    }

    fn command(&mut self, command: Command) {
        if self.zoo.is_up() {
            self.act(Place::Zoo, |actor, context| {
                if let Actor::Zoo(zoo) = actor {
                    zoo.command(context, command);
                }
            });
        }
    }

    fn heal(&mut self) {
        self.network.heal();
        for place in (1..=self.plan.brokers).map(Place::Broker).chain([Place::Zoo]) {
            self.start(place);
        }
        for host in self.hosts.values_mut() {
            host.disk.leave_room(u64::MAX);
            if let Some(process) = &mut host.process {
                process.slow_until = Duration::ZERO;
            }
        }
    }

    /// True if everything that a broker is to have is in sync.
    fn is_well(&self) -> bool {
        let found = partitions(self.zoo.committed());
        !found.is_empty()
            && found.iter().all(|partition| {
                let all = partition.replicas.iter().all(|id| partition.isr.contains(id));
                partition.leader.is_some() && partition.moving.is_none() && all
            })
    }

    fn is_at_rest(&self) -> bool {
        let known = partitions(self.zoo.committed());
        let mut ends = Vec::new();
        for (number, partition) in (0..).zip(known) {
            let logs = partition.replicas.iter().filter_map(|id| {
                let replica = self.hosts[id].process.as_ref()?.replica(number)?;
                Some((replica.log().end(), replica.log().high_watermark()))
            });
            let logs: Vec<_> = logs.collect();
            let Some((end, _)) = logs.first().copied() else { return false };
            if logs.len() < partition.replicas.len() || logs.iter().any(|log| *log != (end, end)) {
                return false;
            }
            ends.push(end.0);
        }
        let whole =
            |host: &Host| host.process.as_ref().is_some_and(super::process::Process::is_whole);
        self.is_well()
            && self.hosts.values().all(whole)
            && self.clients.values().all(|client| client.is_finished(&ends))
    }

    /// What is not as it should be at rest, for people.
    pub fn unrest(&self) -> String {
        let mut lines = Vec::new();
        for (number, partition) in (0..).zip(partitions(self.zoo.committed())) {
            lines.push(format!("{number}: {partition:?}"));
            for (id, host) in &self.hosts {
                let replica = host.process.as_ref().and_then(|process| process.replica(number));
                lines.push(match replica {
                    Some(replica) => {
                        let log = replica.log();
                        let (end, committed) = (log.end(), log.high_watermark());
                        let (standing, poisoned) = (replica.standing(), log.poisoned());
                        format!("  {id}: {end:?} {committed:?} {standing:?} {poisoned:?}")
                    }
                    None => format!("  {id}: none"),
                });
            }
        }
        for (id, client) in &self.clients {
            lines.push(format!("client {id}: {client:?}"));
        }
        lines.join("\n")
    }

    /// Compares all logs with what was ever committed.
    pub fn look_at_rest(&mut self) {
        for (number, partition) in (0..).zip(partitions(self.zoo.committed())) {
            for id in &partition.replicas {
                let process = self.hosts[id].process.as_ref();
                if let Some(replica) = process.and_then(|process| process.replica(number)) {
                    self.oracle.at_rest(self.now, *id, number, replica.log());
                }
            }
        }
    }

    /// How many acknowledged records the logs do not have.
    pub fn lost(&self) -> u64 {
        let found = (0..).zip(partitions(self.zoo.committed()));
        found
            .filter_map(|(number, partition)| {
                let process = self.hosts[&partition.leader?].process.as_ref()?;
                Some(self.oracle.lost(number, process.replica(number)?.log()))
            })
            .sum()
    }
}

/// Faults.
impl World {
    fn inject(&mut self, fault: Fault) {
        self.trace.say(self.now, || format!("---- {fault:?}"));
        let kind = match fault {
            Fault::Kill(id, back) => {
                self.kill(id, back);
                "kill -9"
            }
            Fault::LosePower(id, back) => {
                if self.may_bereave(id, self.plan.flush == Flush::Os) {
                    self.lose_power(id, back);
                }
                "power loss"
            }
            Fault::LoseAllPower(back) => {
                self.lose_all_power(back);
                "power loss everywhere"
            }
            Fault::Wipe(id, back) => {
                if self.may_bereave(id, true) {
                    self.lose_power(id, back);
                    if let Some(host) = self.hosts.get_mut(&id) {
                        host.wipe();
                    }
                }
                "wiped disk"
            }
            Fault::Stop(id) => {
                self.hand_over(id);
                "stop"
            }
            Fault::Pause(place, time) => {
                let until = self.paused.entry(place).or_default();
                *until = (self.now + time).max(*until);
                self.schedule(time, Event::Resume(place));
                "pause"
            }
            Fault::Cut { from, to, both_ways, datagrams, heals } => {
                self.network.cut(from, to, false);
                if datagrams {
                    self.network.cut(from, to, true);
                }
                if both_ways {
                    self.network.cut(to, from, false);
                    if datagrams {
                        self.network.cut(to, from, true);
                    }
                }
                self.schedule(heals, Event::Heal);
                "cut"
            }
            Fault::Loss(percent) => {
                self.network.loss = percent;
                "datagrams lost"
            }
            Fault::Slow(one_in) => {
                self.network.slow = one_in;
                "slow network"
            }
            Fault::SlowDisk(id, time) => {
                let until = self.now + time;
                if let Some(process) = self.hosts.get_mut(&id).and_then(|h| h.process.as_mut()) {
                    process.slow_until = until;
                }
                "slow disk"
            }
            Fault::FailSync(id, partition) => {
                if self.may_bereave(id, true) && self.is_up(Place::Broker(id)) {
                    self.act(Place::Broker(id), |actor, context| {
                        if let Actor::Broker(host) = actor {
                            host.fail_sync(context, partition);
                        }
                    });
                    // Somebody looks at the machine.
                    let restart = Event::Fault(Fault::Kill(id, Duration::from_millis(50)));
                    self.schedule(Duration::from_millis(1500), restart);
                }
                "failed sync"
            }
            Fault::FullDisk(id, room, time) => {
                if self.may_bereave(id, true) {
                    if let Some(host) = self.hosts.get(&id) {
                        host.disk.leave_room(room);
                    }
                    // Somebody makes room, and starts it anew.
                    self.schedule(time, Event::Fault(Fault::Kill(id, Duration::from_millis(50))));
                }
                "full disk"
            }
            Fault::ClockJump(id, by_ms) => {
                self.skews_ms.insert(Place::Broker(id), by_ms);
                "clock jump"
            }
            Fault::KillZoo(back) => {
                self.kill_zoo(back);
                "kill -9 of mkzoo"
            }
            Fault::Trim(partition) => {
                self.trim(partition);
                "records deleted"
            }
            Fault::ElectPreferred(partition) => {
                self.command(Command::ElectPreferred { topic: TOPIC.to_owned(), partition });
                "election"
            }
            Fault::Move(partition, replicas) => {
                let (topic, throttle) = (TOPIC.to_owned(), None);
                self.command(Command::Move { topic, partition, replicas, throttle });
                "move"
            }
        };
        *self.injected.entry(kind).or_default() += 1;
    }

    /// True if a broker may lose records that were acknowledged, because others have them: all are in
    /// sync, and who lost some before has them again; or nobody counts on it, and of those that are
    /// counted on somebody has lost nothing. Only the first may be about to be counted on. `loses` tells
    /// whether it is about to.
    fn may_bereave(&mut self, id: u32, loses: bool) -> bool {
        if !loses {
            return true;
        }
        let is_well = self.is_well();
        let state = self.zoo.committed();
        if is_well {
            self.bereft.retain(|before| life(state, before.id) <= before.epoch);
        }
        let counted = |partition: &Partition, id: u32| {
            partition.isr.contains(&id) || partition.eligible.contains(&id)
        };
        // What is about to be committed may come to nothing if the mini-zookeeper dies.
        let is_counted_on = [state, self.zoo.newest()]
            .into_iter()
            .flat_map(partitions)
            .any(|partition| counted(partition, id));
        let whole = |id: &u32| self.bereft.iter().all(|before| before.id != *id);
        let have_others = partitions(state).iter().all(|partition| {
            partition.replicas.iter().filter(|id| whole(id)).any(|id| counted(partition, *id))
        });
        let first = self.bereft.is_empty();
        let spared = is_counted_on || !have_others || (!first && self.is_asked_for(id));
        if spared && !(is_well && first) {
            return false;
        }
        self.bereft.push(Member { id, epoch: life(state, id) });
        true
    }

    /// True if somebody has asked for the broker to be taken into the in-sync replicas, and it may be
    /// done yet: a process that lives, or one that has died since.
    fn is_asked_for(&self, id: u32) -> bool {
        let scheduled = self.queue.iter().map(|Reverse(scheduled)| &*scheduled.event);
        let mut to_come = scheduled.chain(self.deferred.values().flatten());
        let mut processes = self.hosts.values().filter_map(|host| host.process.as_ref());
        processes.any(|process| process.asks_for(id))
            || to_come.any(|event| match event {
                Event::Deliver(_, _, _, Message::ToZoo { ask, .. }) => ask.names(id),
                _ => false,
            })
    }

    fn kill(&mut self, id: u32, back: Duration) {
        let Some(host) = self.hosts.get_mut(&id) else { return };
        if host.process.is_some() {
            let session = host.kill();
            self.has_ended(Place::Broker(id), session);
        }
        self.schedule(back, Event::Start(Place::Broker(id)));
    }

    /// The system closes what the process had open.
    fn has_ended(&mut self, place: Place, session: Option<u64>) {
        *self.lives.entry(place).or_default() += 1;
        self.end_pause(place);
        if let Some(session) = session {
            let message = Message::SessionOver { session };
            self.send(place, Place::Zoo, Class::Session, message);
        }
        let asked = self.requests.iter().filter(|(_, (_, to))| *to == place);
        for number in asked.map(|(number, _)| *number).collect::<Vec<_>>() {
            self.reset(number);
        }
    }

    fn lose_power(&mut self, id: u32, back: Duration) {
        let place = Place::Broker(id);
        *self.lives.entry(place).or_default() += 1;
        self.act(place, |actor, context| {
            if let Actor::Broker(host) = actor {
                host.lose_power(context);
            }
        });
        self.end_pause(place);
        self.schedule(back, Event::Start(place));
    }

    fn hand_over(&mut self, id: u32) {
        if self.is_paused(Place::Broker(id)) {
            return;
        }
        self.act(Place::Broker(id), |actor, context| {
            if let Actor::Broker(Host { process: Some(process), .. }) = actor {
                process.hand_over(context);
            }
        });
    }

    fn stop_now(&mut self, id: u32) {
        let mut session = None;
        self.act(Place::Broker(id), |actor, context| {
            if let Actor::Broker(host) = actor {
                session = host.stop(context);
            }
        });
        self.has_ended(Place::Broker(id), session);
        let back = Duration::from_millis(1 + self.chance.below(500));
        self.schedule(back, Event::Start(Place::Broker(id)));
    }

    fn kill_zoo(&mut self, back: Duration) {
        let sessions = self.zoo.kill();
        *self.lives.entry(Place::Zoo).or_default() += 1;
        self.end_pause(Place::Zoo);
        for (session, place) in sessions {
            let message = Message::SessionOver { session };
            self.send(Place::Zoo, place, Class::Session, message);
        }
        self.schedule(back, Event::Start(Place::Zoo));
    }

    fn trim(&mut self, number: u32) {
        let known = partitions(self.zoo.committed()).get(number as usize);
        let Some(leader) = known.and_then(|partition| partition.leader) else { return };
        self.act(Place::Broker(leader), |actor, context| {
            if let Actor::Broker(Host { process: Some(process), .. }) = actor {
                process.trim(context, number);
            }
        });
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Scheduled {}

enum Actor<'a> {
    Zoo(&'a mut Zoo),
    Broker(&'a mut Host),
    Client(&'a mut Client),
}

impl Actor<'_> {
    fn receive(&mut self, context: &mut Context<'_>, from: Place, message: Message) {
        match self {
            Actor::Zoo(zoo) => zoo.receive(context, from, message),
            Actor::Broker(host) => host.receive(context, from, message),
            Actor::Client(client) => client.receive(context, message),
        }
    }

    fn wake(&mut self, context: &mut Context<'_>, wake: &Wake) {
        match self {
            Actor::Zoo(zoo) => zoo.wake(context, wake),
            Actor::Broker(host) => host.wake(context, wake),
            Actor::Client(client) => client.wake(context, wake),
        }
    }
}
