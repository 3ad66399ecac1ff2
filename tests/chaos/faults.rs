//! What is broken, when, and how it is made whole again: all by a seed.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::datagrams::Weather;
use super::links::{Links, Node, Way};
use super::random::Random;
use crate::machines::Machines;

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    Kill,
    Pause,
    Terminate,
    /// What one broker sends to another, or to mkzoo, does not come.
    SilenceOneWay,
    /// Neither way.
    SilenceBothWays,
    /// Connections between two end, and no new ones are made.
    Refuse,
    /// A broker is cut off from all, clients too.
    Isolate,
    LossyBeats,
    ShuffledBeats,
    ForgedBeats,
    /// A broker loses its disk.
    Wipe,
    KillZoo,
    PauseZoo,
    KillAll,
}

const ALL: [Fault; 14] = [
    Fault::Kill,
    Fault::Pause,
    Fault::Terminate,
    Fault::SilenceOneWay,
    Fault::SilenceBothWays,
    Fault::Refuse,
    Fault::Isolate,
    Fault::LossyBeats,
    Fault::ShuffledBeats,
    Fault::ForgedBeats,
    Fault::Wipe,
    Fault::KillZoo,
    Fault::PauseZoo,
    Fault::KillAll,
];

/// How something is made whole.
#[derive(Clone, Debug)]
enum Repair {
    StartBroker(u32),
    ContinueBroker(u32),
    Heal(Vec<Way>),
    ClearWeather,
    StartZoo,
    ContinueZoo,
}

/// A repair that is due, and since when it is needed.
struct Due {
    at: Instant,
    broken_ms: u64,
    repair: Repair,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Condition {
    Up,
    Paused,
    /// It was told to end.
    Ending,
    Down,
}

/// How fast and how long.
#[derive(Clone, Copy)]
pub struct Pace {
    /// Most time between two faults.
    pub between: Duration,
    /// Most time that one lasts.
    pub lasting: Duration,
}

/// So many things are broken at once.
const AT_ONCE: usize = 3;
/// So long a broker that was told to end may take.
const ENDING: Duration = Duration::from_secs(60);

/// Breaks things.
pub struct Chaos<'a> {
    pub machines: &'a mut Machines,
    links: Arc<Links>,
    random: Random,
    pace: Pace,
    origin: Instant,
    due: Vec<Due>,
    conditions: BTreeMap<u32, Condition>,
    zoo: Condition,
    pub injected: BTreeMap<Fault, usize>,
    /// What happened that nobody asked for.
    pub complaints: Vec<String>,
}

impl<'a> Chaos<'a> {
    pub fn new(
        machines: &'a mut Machines,
        links: Arc<Links>,
        random: Random,
        pace: Pace,
        origin: Instant,
    ) -> Chaos<'a> {
        let conditions = machines.brokers.keys().map(|id| (*id, Condition::Up)).collect();
        Chaos {
            machines,
            links,
            random,
            pace,
            origin,
            due: Vec::new(),
            conditions,
            zoo: Condition::Up,
            injected: BTreeMap::new(),
            complaints: Vec::new(),
        }
    }

    /// Breaks one thing after the other until that time, then repairs all. `settle` waits until
    /// all replicas are in sync.
    pub fn run(&mut self, until: Instant, settle: impl Fn()) {
        let mut deck = Vec::new();
        while Instant::now() < until {
            let Some(fault) = deck.pop() else {
                deck = ALL.to_vec();
                self.random.shuffle(&mut deck);
                self.repair_all();
                settle();
                continue;
            };
            while self.due.len() >= AT_ONCE {
                self.pass(Duration::from_millis(10));
            }
            if fault == Fault::Wipe {
                self.repair_all();
                settle();
                self.wipe();
                settle();
            } else {
                self.inject(fault);
            }
            let wait = self.random.below(self.pace.between.as_millis() as u64);
            self.pass(Duration::from_millis(wait));
        }
        self.repair_all();
    }

    fn now_ms(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }

    fn say(&self, what: &str) {
        println!("{:>8} ms  {what}", self.now_ms());
    }

    /// Lets time pass, and does what is due meanwhile.
    fn pass(&mut self, time: Duration) {
        let until = Instant::now() + time;
        loop {
            self.look_after_brokers();
            let now = Instant::now();
            while let Some(place) = self.due.iter().position(|due| due.at <= now) {
                let due = self.due.swap_remove(place);
                self.repair(due);
            }
            if now >= until {
                return;
            }
            let next = self.due.iter().map(|due| due.at).min().unwrap_or(until).min(until);
            // Not longer than so, to see soon when a process ends by itself.
            let pause = next.saturating_duration_since(now).min(Duration::from_millis(20));
            std::thread::sleep(pause);
        }
    }

    fn repair_all(&mut self) {
        let now = Instant::now();
        self.due.iter_mut().for_each(|due| due.at = now);
        while !self.due.is_empty() {
            self.pass(Duration::from_millis(5));
        }
    }

    /// A broker that ends by itself has done something wrong.
    fn look_after_brokers(&mut self) {
        let up = self.in_condition(Condition::Up);
        for id in up {
            if let Some(status) = self.machines.brokers.get_mut(&id).and_then(|b| b.ended()) {
                let what = format!("broker {id} has ended by itself: {status}");
                self.say(&what);
                self.complaints.push(what);
                self.conditions.insert(id, Condition::Down);
                self.later(Duration::from_millis(100), Repair::StartBroker(id));
            }
        }
    }

    fn in_condition(&self, wanted: Condition) -> Vec<u32> {
        let matching = self.conditions.iter().filter(|(_, condition)| **condition == wanted);
        matching.map(|(id, _)| *id).collect()
    }

    /// One of the brokers that run.
    fn any_up(&mut self) -> Option<u32> {
        let up = self.in_condition(Condition::Up);
        if up.is_empty() { None } else { Some(up[self.random.below(up.len() as u64) as usize]) }
    }

    fn any_broker(&mut self) -> u32 {
        let ids: Vec<u32> = self.conditions.keys().copied().collect();
        ids[self.random.below(ids.len() as u64) as usize]
    }

    /// How long a fault lasts: 0.1 s at least, mostly much less than the most.
    fn duration(&mut self) -> Duration {
        let most = self.pace.lasting.as_millis() as u64;
        let most = if self.random.chance(25) { most } else { (most / 4).max(600) };
        Duration::from_millis(100 + self.random.below(most.saturating_sub(100).max(1)))
    }

    fn later(&mut self, after: Duration, repair: Repair) {
        let broken_ms = self.now_ms();
        self.due.push(Due { at: Instant::now() + after, broken_ms, repair });
    }

    fn inject(&mut self, fault: Fault) {
        let lasting = self.duration();
        let what = match fault {
            Fault::Kill | Fault::Pause | Fault::Terminate => match self.any_up() {
                Some(id) => self.break_broker(fault, id, lasting),
                None => return,
            },
            Fault::KillAll => {
                let up = self.in_condition(Condition::Up);
                for id in &up {
                    // Not all come back at the same time.
                    let lasting = self.duration();
                    self.break_broker(Fault::Kill, *id, lasting);
                }
                format!("brokers {up:?}")
            }
            Fault::SilenceOneWay | Fault::SilenceBothWays | Fault::Refuse => {
                let ways = self.any_ways(fault);
                self.cut(fault, ways, lasting)
            }
            Fault::Isolate => {
                let broker = self.any_broker();
                let others = self.conditions.keys().filter(|id| **id != broker);
                let others = others.map(|id| Node::Broker(*id)).chain([Node::Zoo, Node::Client]);
                let me = Node::Broker(broker);
                let ways = others.flat_map(|other| [(me, other), (other, me)]).collect();
                self.cut(fault, ways, lasting);
                format!("broker {broker}")
            }
            Fault::LossyBeats | Fault::ShuffledBeats | Fault::ForgedBeats => {
                self.links.set_weather(match fault {
                    Fault::LossyBeats => Weather::Lossy,
                    Fault::ShuffledBeats => Weather::Shuffled,
                    _ => Weather::Forged,
                });
                self.later(lasting, Repair::ClearWeather);
                String::new()
            }
            Fault::KillZoo | Fault::PauseZoo => {
                if self.zoo != Condition::Up {
                    return;
                }
                if fault == Fault::KillZoo {
                    self.machines.zoo.take().unwrap().kill();
                    self.zoo = Condition::Down;
                    self.later(lasting, Repair::StartZoo);
                } else {
                    self.machines.zoo.as_ref().unwrap().signal(Signal::STOP);
                    self.zoo = Condition::Paused;
                    self.later(lasting, Repair::ContinueZoo);
                }
                String::new()
            }
            Fault::Wipe => unreachable!("it waits until all is well"),
        };
        *self.injected.entry(fault).or_default() += 1;
        self.say(&format!("{fault:?} {what}, for {lasting:?}"));
    }

    fn break_broker(&mut self, fault: Fault, id: u32, lasting: Duration) -> String {
        let condition = match fault {
            Fault::Pause => {
                self.machines.brokers[&id].signal(Signal::STOP);
                self.later(lasting, Repair::ContinueBroker(id));
                Condition::Paused
            }
            Fault::Terminate => {
                self.machines.brokers[&id].signal(Signal::TERM);
                self.later(lasting, Repair::StartBroker(id));
                Condition::Ending
            }
            _ => {
                self.machines.kill_broker(id);
                self.later(lasting, Repair::StartBroker(id));
                Condition::Down
            }
        };
        self.conditions.insert(id, condition);
        format!("broker {id}")
    }

    /// Between two brokers, or a broker and mkzoo.
    fn any_ways(&mut self, fault: Fault) -> Vec<Way> {
        let one = self.any_broker();
        let other = match self.any_broker() {
            other if other == one => Node::Zoo,
            other => Node::Broker(other),
        };
        let way = (Node::Broker(one), other);
        let back = (way.1, way.0);
        match fault {
            Fault::SilenceOneWay if self.random.chance(50) => vec![back],
            Fault::SilenceOneWay => vec![way],
            _ => vec![way, back],
        }
    }

    fn cut(&mut self, fault: Fault, ways: Vec<Way>, lasting: Duration) -> String {
        for way in &ways {
            if fault == Fault::Refuse {
                self.links.refuse(*way);
            } else {
                self.links.silence(*way);
            }
        }
        let what = format!("{ways:?}");
        self.later(lasting, Repair::Heal(ways));
        what
    }

    fn wipe(&mut self) {
        let Some(id) = self.any_up() else { return };
        *self.injected.entry(Fault::Wipe).or_default() += 1;
        self.say(&format!("Wipe broker {id}"));
        self.machines.kill_broker(id);
        std::fs::remove_dir_all(self.machines.data(id)).unwrap();
        // Ready: mkzoo knows what it has lost, and no longer counts it among the in-sync replicas.
        self.machines.start_broker(id);
        self.links.set_process(id, self.machines.brokers[&id].id());
    }

    fn launch(&mut self, id: u32) {
        self.machines.launch_broker(id);
        self.links.set_process(id, self.machines.brokers[&id].id());
        self.conditions.insert(id, Condition::Up);
    }

    fn repair(&mut self, due: Due) {
        match due.repair.clone() {
            Repair::StartBroker(id) => {
                if self.conditions[&id] == Condition::Ending && !self.has_ended(id, &due) {
                    let at = Instant::now() + Duration::from_millis(20);
                    self.due.push(Due { at, ..due });
                    return;
                }
                self.launch(id);
            }
            Repair::ContinueBroker(id) => {
                self.machines.brokers[&id].signal(Signal::CONT);
                self.conditions.insert(id, Condition::Up);
            }
            Repair::Heal(ways) => ways.into_iter().for_each(|way| self.links.heal(way)),
            Repair::ClearWeather => self.links.set_weather(Weather::Fair),
            Repair::StartZoo => {
                self.machines.restart_zoo();
                self.zoo = Condition::Up;
            }
            Repair::ContinueZoo => {
                self.machines.zoo.as_ref().unwrap().signal(Signal::CONT);
                self.zoo = Condition::Up;
            }
        }
        self.say(&format!("    {:?}", due.repair));
    }

    /// True if a broker that was told to end has done so, or was made to.
    fn has_ended(&mut self, id: u32, due: &Due) -> bool {
        let Some(broker) = self.machines.brokers.get_mut(&id) else { return true };
        let took = Duration::from_millis(self.origin.elapsed().as_millis() as u64 - due.broken_ms);
        match broker.ended() {
            // One that has just begun does not watch for signals yet.
            Some(status) if status.success() || status.signal() == Some(Signal::TERM.as_raw()) => {
                true
            }
            Some(status) => {
                self.complaints.push(format!("broker {id} was told to end: {status}"));
                true
            }
            None if took > ENDING => {
                self.complaints.push(format!("broker {id} was told to end {took:?} ago"));
                self.machines.kill_broker(id);
                true
            }
            None => false,
        }
    }
}
