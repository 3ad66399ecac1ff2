//! Members of a group that is led, as Kafka's clients are: they come, go, fall silent and lose answers in any order, and
//! coordinators die.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::broker::groups::group::{Group, GroupLimits, Now};
use crate::broker::groups::offsets::{Committed, PartitionName};
use crate::broker::groups::record::Change;

const LIMITS: GroupLimits = GroupLimits {
    session_timeout: Duration::from_secs(10),
    most_members: 100,
    most_metadata: 9,
    initial_delay: Duration::from_secs(2),
};

/// What there is to do, a partition each.
const WORK: std::ops::Range<u8> = 0..5;

/// What a member is about.
#[derive(Clone, Debug, Default, PartialEq)]
enum About {
    /// It is to join.
    #[default]
    Out,
    /// It waits for the others.
    Joins,
    /// It has joined, and is to ask what it is to do; if it leads, it was told the members.
    Joined(Vec<String>),
    /// It waits for the leader.
    Asks,
    /// It does its work.
    Works,
}

#[derive(Debug, Default)]
struct Worker {
    /// Where its program is started for the first, the second time.
    start: u32,
    is_static: bool,
    about: About,
    generation: i32,
    work: BTreeSet<u8>,
    /// It is silent from now on.
    is_gone: bool,
}

struct World {
    group: Group,
    log: Vec<Change>,
    now: Now,
    workers: BTreeMap<u8, Worker>,
    /// What the leader of each generation has given out, and to whom.
    given: BTreeMap<i32, BTreeMap<String, BTreeSet<u8>>>,
    leaders: BTreeMap<i32, String>,
}

#[derive(Clone, Debug)]
enum Step {
    Speak(u8),
    Commit(u8),
    /// An answer is lost, and the connection with it.
    Lose(u8),
    Leave(u8),
    Vanish(u8),
    /// Its program is started anew, under its instance id if it has one.
    Restart(u8),
    Failover,
    Later(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let worker = 0..4u8;
    prop_oneof![
        16 => worker.clone().prop_map(Step::Speak),
        6 => worker.clone().prop_map(Step::Commit),
        2 => worker.clone().prop_map(Step::Lose),
        1 => worker.clone().prop_map(Step::Leave),
        1 => worker.clone().prop_map(Step::Vanish),
        1 => worker.prop_map(Step::Restart),
        1 => Just(Step::Failover),
        4 => (0..9u8).prop_map(Step::Later),
    ]
}

impl World {
    fn new() -> World {
        World {
            group: Group::new("g"),
            log: Vec::new(),
            now: Now::default(),
            workers: BTreeMap::new(),
            given: BTreeMap::new(),
            leaders: BTreeMap::new(),
        }
    }

    fn id(&self, n: u8) -> String {
        format!("w{n}-{}", self.workers[&n].start)
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Speak(n) => self.speak(n),
            Step::Commit(n) => self.commit(n),
            Step::Lose(n) => {
                if let Some(worker) = self.workers.get_mut(&n)
                    && matches!(worker.about, About::Joins | About::Asks)
                {
                    worker.about = About::Out;
                }
            }
            Step::Leave(n) => {
                if self.workers.contains_key(&n) {
                    let (id, now) = (self.id(n), self.now);
                    let _ = self.group.with_led(now, |led| led.leave(&id, now.since_start));
                    self.workers.remove(&n);
                }
            }
            Step::Vanish(n) => {
                if let Some(worker) = self.workers.get_mut(&n) {
                    worker.is_gone = true;
                }
            }
            Step::Restart(n) => {
                if let Some(worker) = self.workers.get_mut(&n) {
                    let (start, is_static) = (worker.start + 1, worker.is_static);
                    *worker = Worker { start, is_static, ..Worker::default() };
                }
            }
            Step::Failover => {
                self.write();
                self.group = Group::new("g");
                for change in &self.log {
                    self.group.replay(change.clone(), self.now.since_start);
                }
                self.group.replayed(self.now.since_start);
                for worker in self.workers.values_mut() {
                    if matches!(worker.about, About::Joins | About::Asks) {
                        worker.about = About::Out;
                    }
                }
            }
            Step::Later(seconds) => self.later(seconds),
        }
        self.hear();
        self.write();
    }

    fn later(&mut self, seconds: u8) {
        let until = self.now.since_start + Duration::from_secs(seconds.into());
        // As the coordinator's thread does: at each moment when there is something to be done.
        for _ in 0..1000 {
            let next = self.group.next_deadline(&LIMITS).filter(|next| *next <= until);
            let at = next.map_or(until, |next| next.max(self.now.since_start));
            // What is due at a moment is done behind it at the latest.
            let at = at + Duration::from_nanos(u64::from(next.is_some()));
            self.now = Now { since_start: at, ms: at.as_millis() as i64 };
            self.group.expire(self.now, &|_: &str| None, &LIMITS);
            self.hear();
            self.write();
            if next.is_none() {
                return;
            }
        }
        panic!("there is always something to be done at once: {:?}", self.group);
    }

    fn speak(&mut self, n: u8) {
        let worker = self
            .workers
            .entry(n)
            .or_insert_with(|| Worker { is_static: n == 3, ..Worker::default() });
        if worker.is_gone {
            return;
        }
        let (about, generation, is_static) =
            (worker.about.clone(), worker.generation, worker.is_static);
        let (id, now) = (self.id(n), self.now);
        let at = now.since_start;
        let result = match about {
            About::Out => {
                self.workers.get_mut(&n).unwrap().about = About::Joins;
                let state = LedMemberState {
                    instance_id: is_static.then(|| format!("static-{n}")),
                    session_timeout_ms: 10_000,
                    rebalance_timeout_ms: 15_000,
                    protocols: vec![Protocol { name: "own".to_owned(), metadata: Bytes::new() }],
                    ..LedMemberState::default()
                };
                let protocol_type = "connect".to_owned();
                let join = LedJoin { member: id, protocol_type, state, can_skip: true };
                self.group.led_join(join, now, &LIMITS)
            }
            About::Joined(members) => {
                self.workers.get_mut(&n).unwrap().about = About::Asks;
                let count = members.len();
                let share = |index| WORK.filter(|n| usize::from(*n) % count == index).collect();
                let given: BTreeMap<String, BTreeSet<u8>> =
                    members.iter().enumerate().map(|(i, id)| (id.clone(), share(i))).collect();
                let assignments = given
                    .iter()
                    .map(|(id, work)| (id.clone(), work.iter().copied().collect::<Bytes>()));
                let assignments = assignments.collect();
                let before = self.group.led().is_some_and(|led| led.state().is_settled);
                let synced =
                    self.group.with_led(now, |led| led.sync(&id, generation, assignments, at));
                if synced.is_ok() && !members.is_empty() && !before {
                    self.given.insert(generation, given);
                }
                synced
            }
            About::Works => self.group.with_led(now, |led| led.heartbeat(&id, generation, at)),
            About::Joins | About::Asks => return,
        };
        if let Err(error) = result {
            self.fail(n, &error);
        }
    }

    /// An error: it joins again, under another id if it is in the group no more.
    fn fail(&mut self, n: u8, error: &GroupError) {
        let Some(worker) = self.workers.get_mut(&n) else { return };
        worker.about = About::Out;
        match error {
            GroupError::JoinAgain => {}
            GroupError::UnknownMember(_) | GroupError::NotLed | GroupError::FencedInstance(_) => {
                worker.start += 1;
            }
            GroupError::OldGeneration { .. } => worker.generation = -1,
            other => panic!("{other}"),
        }
    }

    /// Only who has been given work in the generation that counts says that it is done.
    fn commit(&mut self, n: u8) {
        let Some(worker) = self.workers.get(&n).filter(|worker| worker.about == About::Works)
        else {
            return;
        };
        let (id, generation, work) = (self.id(n), worker.generation, worker.work.clone());
        for work in work {
            let name = PartitionName { topic: "t".to_owned(), partition: work.into() };
            let committed = Committed {
                offset: 1,
                leader_epoch: -1,
                metadata: String::new(),
                topic_id: Uuid::nil(),
                committed_ms: 0,
            };
            if self.group.commit((&id, generation), name, committed, &LIMITS).is_ok() {
                assert_eq!(generation, self.group.epoch(), "{id} is of an earlier generation");
                let given = &self.given[&generation];
                let of = given.iter().find(|(_, all)| all.contains(&work)).unwrap().0;
                assert!(is_same(of, &id), "{of} was given {work}, not {id}");
            }
        }
    }

    /// Members are told what has come of what they have asked for.
    fn hear(&mut self) {
        for told in std::mem::take(&mut self.group.told) {
            let id = match &told {
                Told::Joined(id, _) | Told::Synced(id, _) => id.clone(),
            };
            let n: u8 = id[1..2].parse().unwrap();
            if !self.workers.contains_key(&n) || self.id(n) != id {
                continue;
            }
            let worker = self.workers.get_mut(&n).unwrap();
            match (told, &worker.about) {
                (Told::Joined(_, Ok(joined)), About::Joins) => {
                    worker.generation = joined.generation;
                    let members = joined.members.into_iter().map(|member| member.member);
                    let members = members.filter(|_| !joined.skips_assignment);
                    worker.about = About::Joined(members.collect());
                    let leader =
                        self.leaders.entry(joined.generation).or_insert(joined.leader.clone());
                    // One that was started anew leads in its own place.
                    assert!(is_same(leader, &joined.leader), "{leader} and {}", joined.leader);
                }
                (Told::Synced(_, Ok(work)), About::Asks) => {
                    worker.work = work.iter().copied().collect();
                    worker.about = About::Works;
                    let given = &self.given[&worker.generation];
                    let of = given.iter().find(|(of, _)| is_same(of, &id));
                    assert_eq!(
                        of.map(|(_, work)| work),
                        Some(&worker.work).filter(|_| of.is_some())
                    );
                }
                (Told::Joined(_, Err(error)), About::Joins)
                | (Told::Synced(_, Err(error)), About::Asks) => self.fail(n, &error),
                _ => {}
            }
        }
    }

    fn write(&mut self) {
        self.log.extend(self.group.take_changes());
    }

    /// In the end all do their work, in one generation.
    fn come_to_rest(&mut self) {
        self.workers.retain(|_, worker| !worker.is_gone);
        for _ in 0..80 {
            self.take(Step::Later(1));
            for n in self.workers.keys().copied().collect::<Vec<_>>() {
                self.take(Step::Speak(n));
            }
        }
        let mut all: Vec<u8> = Vec::new();
        for worker in self.workers.values() {
            assert_eq!(worker.about, About::Works, "{:?} {:?}", self.workers, self.group);
            assert_eq!(worker.generation, self.group.epoch());
            all.extend(&worker.work);
        }
        all.sort_unstable();
        let due: Vec<u8> = if self.workers.is_empty() { vec![] } else { WORK.collect() };
        assert_eq!(all, due);
        let members = self.group.led().map_or(0, |led| led.members().len());
        assert_eq!(members, self.workers.len());
    }
}

/// True if both are the ids of one member; a static one has another whenever its program is started.
fn is_same(a: &str, b: &str) -> bool {
    a == b || (a.starts_with("w3-") && b.starts_with("w3-"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn no_work_is_done_by_two_and_all_is_done_in_the_end(
        steps in prop::collection::vec(step(), 0..150),
    ) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.take(step));
        world.come_to_rest();
    }
}
