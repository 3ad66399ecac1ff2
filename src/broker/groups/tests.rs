//! Groups: one story each, and members that come, go, fall silent and lose answers in any order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use mk_net::fault::ErrorCode;
use mk_net::message::{CommitOffsets, CommitPart, PartitionOf};
use proptest::prelude::*;
use uuid::Uuid;

use super::PartitionId;
use super::error::GroupError;
use super::group::{Answer, Group, GroupLimits, Heartbeat, Now};
use super::member::{JOIN, Profile};
use super::offsets::{Committed, PartitionName};
use super::record::Change;
use super::serve;
use super::shard::Shard;
use crate::client::{Membership, Says};

const LIMITS: GroupLimits = GroupLimits {
    session_timeout: Duration::from_secs(10),
    most_members: 5,
    most_metadata: 8,
    initial_delay: Duration::ZERO,
};

fn topic() -> Uuid {
    Uuid::from_u128(7)
}

fn topics(count: u32) -> impl Fn(&str) -> Option<(Uuid, u32)> {
    move |name| (name == "orders").then_some((topic(), count))
}

fn profile() -> Profile {
    Profile {
        rebalance_timeout_ms: 30_000,
        topics: BTreeSet::from(["orders".to_owned()]),
        ..Profile::default()
    }
}

fn at(seconds: u64) -> Now {
    Now { since_start: Duration::from_secs(seconds), ms: seconds as i64 * 1000 }
}

fn partitions(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<PartitionId> {
    numbers.into_iter().map(|partition| PartitionId { topic: topic(), partition }).collect()
}

fn join(group: &mut Group, member: &str, profile: Profile) -> Result<Answer, GroupError> {
    let heartbeat = Heartbeat {
        member: member.to_owned(),
        epoch: JOIN,
        profile: Some(profile),
        owned: Some(BTreeSet::new()),
        seen: 0,
        beat: 1,
        ..Heartbeat::default()
    };
    group.heartbeat(heartbeat, at(0), &topics(4), &LIMITS)
}

fn beat(
    group: &mut Group,
    member: &str,
    epoch: i32,
    (seen, owned): (u32, BTreeSet<PartitionId>),
) -> Result<Answer, GroupError> {
    let beat = group.members().get(member).map_or(1, |member| member.beat + 1);
    let (member, owned) = (member.to_owned(), Some(owned));
    let heartbeat =
        Heartbeat { member, epoch, profile: None, owned, seen, beat, ..Heartbeat::default() };
    group.heartbeat(heartbeat, at(1), &topics(4), &LIMITS)
}

fn committed(offset: u64) -> Committed {
    Committed {
        offset,
        leader_epoch: -1,
        metadata: String::new(),
        topic_id: topic(),
        committed_ms: 0,
    }
}

fn orders(partition: u32) -> PartitionName {
    PartitionName { topic: "orders".to_owned(), partition }
}

#[test]
fn a_partition_goes_to_another_only_when_it_was_given_up() {
    let mut group = Group::new("g");
    let a = join(&mut group, "a", profile()).unwrap();
    assert_eq!(a, Answer { epoch: 1, assigned: Some((1, partitions(0..4))) });
    let b = join(&mut group, "b", profile()).unwrap();
    assert_eq!(b, Answer { epoch: 2, assigned: Some((1, partitions([]))) }, "nothing is free");
    let news = group.news("a", Duration::ZERO).unwrap();
    assert_eq!(news, Answer { epoch: 1, assigned: Some((2, partitions(0..2))) });
    assert_eq!(group.news("b", Duration::ZERO), None);
    let a = beat(&mut group, "a", 1, (2, partitions(0..2))).unwrap();
    assert_eq!(a.epoch, 2);
    let b = group.news("b", Duration::ZERO).unwrap();
    assert_eq!(b, Answer { epoch: 2, assigned: Some((2, partitions(2..4))) });
}

/// What a member said before it had heard what it is to read was taken for a word about that: a partition
/// that it was about to begin with went to another.
#[test]
fn what_was_said_before_an_answer_gives_nothing_up_of_it() {
    let mut group = Group::new("g");
    join(&mut group, "b", profile()).unwrap();
    join(&mut group, "a", profile()).unwrap();
    group.news("b", Duration::ZERO).unwrap();
    beat(&mut group, "b", 1, (2, partitions(0..2))).unwrap();
    let told = group.news("a", Duration::ZERO).unwrap();
    assert_eq!(told.assigned, Some((2, partitions(2..4))));
    // A third one is to have one of them, which `a` is told; what it says meanwhile it says while it begins.
    join(&mut group, "c", profile()).unwrap();
    assert_eq!(group.news("a", Duration::ZERO).unwrap().assigned, Some((3, partitions(2..3))));
    beat(&mut group, "a", 2, (2, partitions([]))).unwrap();
    assert_eq!(group.members()["a"].state.revoking.len(), 1);
    assert_eq!(group.news("c", Duration::ZERO), None);
    beat(&mut group, "a", 2, (3, partitions(2..3))).unwrap();
    assert_eq!(group.news("c", Duration::ZERO).unwrap().assigned.unwrap().1, partitions(3..4));
}

/// A coordinator died with two answers on their way. The next one took the member for another's, who lost
/// what it had done since its last commit.
#[test]
fn lost_answers_do_not_matter_and_who_reads_what_is_not_its_own_is_fenced() {
    let mut group = Group::new("g");
    join(&mut group, "a", profile()).unwrap();
    join(&mut group, "b", profile()).unwrap();
    beat(&mut group, "a", 1, (1, partitions(0..4))).unwrap();
    assert_eq!(beat(&mut group, "a", 1, (2, partitions(0..2))).unwrap().epoch, 2);
    join(&mut group, "c", profile()).unwrap();
    group.leave("b", false, at(1), &topics(4)).unwrap();
    group.news("a", Duration::ZERO);
    group.news("a", Duration::ZERO);
    beat(&mut group, "a", 1, (0, partitions(0..2))).unwrap();
    let not_held = GroupError::NotHeld(PartitionId { topic: topic(), partition: 2 });
    assert_eq!(beat(&mut group, "a", 1, (0, partitions(0..4))), Err(not_held));
    let actual = group.members()["a"].state.epoch;
    let fenced = Err(GroupError::FencedEpoch { said: 9, actual });
    assert_eq!(beat(&mut group, "a", 9, (0, partitions([]))), fenced);
    let unknown = Err(GroupError::UnknownMember("z".to_owned()));
    assert_eq!(beat(&mut group, "z", 1, (0, partitions([]))), unknown);
}

/// Two heartbeats came in the other order, and the first one was taken for a claim.
#[test]
fn what_was_overtaken_is_no_claim() {
    let mut group = Group::new("g");
    join(&mut group, "a", profile()).unwrap();
    join(&mut group, "b", profile()).unwrap();
    group.news("a", Duration::ZERO).unwrap();
    beat(&mut group, "a", 1, (2, partitions(0..2))).unwrap();
    let late = Heartbeat {
        member: "a".to_owned(),
        epoch: 1,
        owned: Some(partitions(0..4)),
        seen: 2,
        beat: group.members()["a"].beat - 1,
        ..Heartbeat::default()
    };
    group.heartbeat(late, at(1), &topics(4), &LIMITS).unwrap();
}

#[test]
fn who_is_silent_or_holds_on_is_removed() {
    let mut group = Group::new("g");
    join(&mut group, "a", profile()).unwrap();
    join(&mut group, "b", profile()).unwrap();
    group.news("a", Duration::ZERO).unwrap();
    assert_eq!(group.next_deadline(&LIMITS), Some(Duration::from_secs(10)));
    assert_eq!(group.expire(at(10), &topics(4), &LIMITS), []);
    for (seconds, member) in [(9, "a"), (9, "b"), (18, "b"), (18, "a"), (27, "a")] {
        let heartbeat = Heartbeat {
            member: member.to_owned(),
            epoch: group.members()[member].state.epoch,
            ..Heartbeat::default()
        };
        group.heartbeat(heartbeat, at(seconds), &topics(4), &LIMITS).unwrap();
    }
    let silent = ("b".to_owned(), "was not heard of");
    assert_eq!(group.expire(at(29), &topics(4), &LIMITS), [silent]);
    let holds_on = ("a".to_owned(), "did not give up what goes to another");
    assert_eq!(group.expire(at(31), &topics(4), &LIMITS), [holds_on]);
    assert!(group.members().is_empty());
    assert_eq!(group.emptied_ms(), 31_000);
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut group = Group::new("g");
    let named = |name: &str| Profile { instance_id: Some(name.to_owned()), ..profile() };
    join(&mut group, "a1", named("a")).unwrap();
    join(&mut group, "b1", named("b")).unwrap();
    group.news("a1", Duration::ZERO);
    beat(&mut group, "a1", 1, (2, partitions(0..2))).unwrap();
    let (instance, member) = ("a".to_owned(), "a1".to_owned());
    let taken = Err(GroupError::InstanceInUse { instance, member });
    assert_eq!(join(&mut group, "a2", named("a")), taken);
    group.leave("a1", true, at(1), &topics(4)).unwrap();
    assert_eq!(group.news("b1", Duration::ZERO).unwrap().assigned.unwrap().1, partitions(2..4));
    let back = join(&mut group, "a2", named("a")).unwrap();
    assert_eq!(back.assigned.unwrap().1, partitions(0..2));
    assert_eq!(group.members().len(), 2);
}

#[test]
fn only_who_has_a_partition_commits_and_others_only_while_nobody_is_there() {
    let mut group = Group::new("g");
    let commit = |group: &mut Group, who: (&str, i32), offset| {
        group.commit(who, orders(0), committed(offset), &LIMITS)
    };
    commit(&mut group, ("", -1), 3).unwrap();
    join(&mut group, "a", profile()).unwrap();
    assert_eq!(commit(&mut group, ("", -1), 4), Err(GroupError::HasMembers));
    commit(&mut group, ("a", 1), 5).unwrap();
    assert_eq!(commit(&mut group, ("a", 2), 6), Err(GroupError::NotOwner(2)));
    group.leave("a", false, at(1), &topics(4)).unwrap();
    let unknown = Err(GroupError::UnknownMember("a".to_owned()));
    assert_eq!(commit(&mut group, ("a", 1), 7), unknown);
    // It is back, and what it sent before does not count.
    join(&mut group, "a", profile()).unwrap();
    assert_eq!(commit(&mut group, ("a", 1), 7), Err(GroupError::NotOwner(1)));
    let long = Committed { metadata: "x".repeat(9), ..committed(1) };
    let refused = group.commit(("a", 3), orders(0), long, &LIMITS);
    assert_eq!(refused, Err(GroupError::MetadataTooLarge(9, 8)));
    assert_eq!(group.offsets()[&orders(0)].offset, 5);
}

/// A commit on a connection that had been given up arrived behind later ones on another. The group went back, and
/// whoever came next was handed again what was done.
#[test]
fn a_commit_that_a_later_one_has_overtaken_does_not_count() {
    let mut shard: Shard<()> = Shard::default();
    join(shard.group_mut("g"), "a", profile()).unwrap();
    let commit = |shard: &mut Shard<()>, number, offset| {
        let part = CommitPart {
            partition: PartitionOf { topic: "orders".to_owned(), partition: 0 },
            topic_id: topic(),
            offset,
            leader_epoch: -1,
            metadata: String::new(),
        };
        let (group, member) = ("g".to_owned(), "a".to_owned());
        let request = CommitOffsets { group, member, epoch: 1, number, parts: vec![part] };
        let answer = serve::commit(shard, request, at(1), &topics(4), &LIMITS).parts.remove(0);
        let offset = shard.group("g").unwrap().offsets()[&orders(0)].offset;
        (answer.map_err(|fault| fault.code), offset)
    };
    assert_eq!(commit(&mut shard, 1, 5), (Ok(()), 5));
    assert_eq!(commit(&mut shard, 1, 5), (Ok(()), 5), "it was sent again");
    assert_eq!(commit(&mut shard, 3, 7), (Ok(()), 7));
    assert_eq!(commit(&mut shard, 2, 6), (Err(ErrorCode::STALE_MEMBER_EPOCH), 7));
    // A program may go back.
    assert_eq!(commit(&mut shard, 4, 3), (Ok(()), 3));
}

#[test]
fn a_topic_that_grows_or_comes_is_read_and_one_that_goes_is_not() {
    let mut group = Group::new("g");
    let none = |_: &str| None;
    let heartbeat = Heartbeat {
        member: "a".to_owned(),
        profile: Some(profile()),
        owned: Some(BTreeSet::new()),
        ..Heartbeat::default()
    };
    let first = group.heartbeat(heartbeat, at(0), &none, &LIMITS).unwrap();
    assert_eq!(first.assigned.unwrap().1, partitions([]));
    assert!(group.topics_changed(&topics(2)));
    assert_eq!(group.news("a", Duration::ZERO).unwrap().assigned.unwrap().1, partitions(0..2));
    assert!(!group.topics_changed(&topics(2)));
    assert!(group.topics_changed(&topics(3)));
    assert_eq!(group.news("a", Duration::ZERO).unwrap().assigned.unwrap().1, partitions(0..3));
    assert!(group.topics_changed(&none));
    assert_eq!(group.news("a", Duration::ZERO).unwrap().assigned.unwrap().1, partitions([]));
}

/// A member was told what it is to read in an answer that nobody heard. It said nothing new after that, was
/// told nothing new, and nobody read those partitions for good.
#[test]
fn what_was_not_heard_is_told_again() {
    let mut group = Group::new("g");
    join(&mut group, "a", profile()).unwrap();
    join(&mut group, "b", profile()).unwrap();
    group.news("a", Duration::ZERO).unwrap();
    beat(&mut group, "a", 1, (2, partitions(0..2))).unwrap();
    let lost = group.news("b", Duration::ZERO).unwrap();
    let heartbeat = |seen, beat| Heartbeat {
        member: "b".to_owned(),
        epoch: 2,
        seen,
        beat,
        ..Heartbeat::default()
    };
    let told = group.heartbeat(heartbeat(1, 2), at(1), &topics(4), &LIMITS).unwrap();
    assert_eq!(told, lost);
    // Nor does an answer to what was overtaken count as heard.
    let late = group.heartbeat(heartbeat(1, 1), at(1), &topics(4), &LIMITS).unwrap();
    assert_eq!(late.assigned, None);
    let heard = group.heartbeat(heartbeat(2, 3), at(1), &topics(4), &LIMITS).unwrap();
    assert_eq!(heard.assigned, None);
}

/// A word to join that was late had a member join that had joined since: what it read went to others.
#[test]
fn a_late_word_to_join_changes_nothing() {
    let mut group = Group::new("g");
    let heartbeat = |beat| Heartbeat {
        member: "a".to_owned(),
        profile: Some(profile()),
        owned: Some(BTreeSet::new()),
        beat,
        ..Heartbeat::default()
    };
    group.heartbeat(heartbeat(2), at(0), &topics(4), &LIMITS).unwrap();
    group.heartbeat(heartbeat(1), at(0), &topics(4), &LIMITS).unwrap();
    let member = &group.members()["a"];
    assert_eq!((member.state.epoch, member.state.assigned.len(), group.epoch()), (1, 4, 1));
}

/// Answers to two heartbeats came in the other order: the member went back to the epoch before, was fenced
/// for it, and read again what it had done since its last commit.
#[test]
fn an_answer_that_was_overtaken_changes_nothing() {
    let mut membership = Membership::default();
    membership.next().unwrap();
    membership.answered(2, Some((1, partitions(0..2))));
    membership.answered(4, Some((3, partitions(1..2))));
    membership.answered(3, Some((2, partitions(0..3))));
    assert_eq!((membership.epoch(), membership.to_take()), (4, partitions(1..2)));
}

/// A member with the answers that are on their way to it.
#[derive(Default)]
struct Client {
    membership: Membership<PartitionId>,
    answers: VecDeque<Result<Answer, GroupError>>,
    asked: VecDeque<Heartbeat>,
    /// What was on its way on a connection that has broken, and arrives all the same.
    ghosts: VecDeque<Heartbeat>,
    gone: bool,
}

/// A group with its clients, and what was written down of it.
struct World {
    group: Group,
    clients: BTreeMap<String, Client>,
    log: Vec<Change>,
    now: Now,
    partitions: u32,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A client that is there, or comes, says what is to be said.
    Speak(u8),
    /// What a client has said arrives.
    Arrive(u8),
    /// An answer arrives.
    Hear(u8),
    /// An answer overtakes the one before, and so does what is said.
    Overtake(u8),
    /// A client that waits is told the news.
    Tell(u8),
    /// It gives up and takes what it is to.
    Obey(u8),
    Leave(u8),
    /// It does not say anything any more, and reads on.
    Vanish(u8),
    /// Its connection breaks: answers are lost, what it has said may arrive later, or never.
    Disconnect(u8),
    Haunt(u8),
    /// Another broker coordinates.
    Failover,
    Grow,
    Later(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let client = 0..4u8;
    prop_oneof![
        8 => client.clone().prop_map(Step::Speak),
        8 => client.clone().prop_map(Step::Arrive),
        8 => client.clone().prop_map(Step::Hear),
        2 => client.clone().prop_map(Step::Overtake),
        6 => client.clone().prop_map(Step::Tell),
        8 => client.clone().prop_map(Step::Obey),
        1 => client.clone().prop_map(Step::Leave),
        1 => client.clone().prop_map(Step::Vanish),
        1 => client.clone().prop_map(Step::Disconnect),
        2 => client.prop_map(Step::Haunt),
        1 => Just(Step::Failover),
        1 => Just(Step::Grow),
        1 => (0..9u8).prop_map(Step::Later),
    ]
}

impl World {
    fn new() -> World {
        let (clients, log) = (BTreeMap::new(), Vec::new());
        World { group: Group::new("g"), clients, log, now: Now::default(), partitions: 3 }
    }

    fn name(number: u8) -> String {
        format!("m{number}")
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Speak(n) => {
                let member = World::name(n);
                let client = self.clients.entry(member.clone()).or_default();
                if let Some(says) = client.membership.next() {
                    let profile = says.whole.then(profile);
                    let Says { epoch, owned, seen, beat, .. } = says;
                    let heartbeat = Heartbeat {
                        member,
                        epoch,
                        profile,
                        owned,
                        seen,
                        beat,
                        ..Heartbeat::default()
                    };
                    client.asked.push_back(heartbeat);
                }
            }
            Step::Arrive(n) => {
                let Some(client) = self.clients.get_mut(&World::name(n)) else { return };
                let Some(heartbeat) = client.asked.pop_front() else { return };
                let (now, count) = (self.now, self.partitions);
                let answer = self.group.heartbeat(heartbeat, now, &topics(count), &LIMITS);
                client.answers.push_back(answer);
            }
            Step::Hear(n) => self.hear(&World::name(n)),
            Step::Overtake(n) => {
                let Some(client) = self.clients.get_mut(&World::name(n)) else { return };
                if client.answers.len() > 1 && client.answers.iter().all(Result::is_ok) {
                    client.answers.swap(0, 1);
                }
                if client.asked.len() > 1 {
                    client.asked.swap(0, 1);
                }
            }
            Step::Tell(n) => {
                let member = World::name(n);
                let Some(client) = self.clients.get_mut(&member) else { return };
                // A coordinator tells news as the answer to what waits: the last one that has come.
                let waits = client.answers.back().is_some_and(|answer| {
                    answer.as_ref().is_ok_and(|answer| answer.assigned.is_none())
                });
                if waits && let Some(news) = self.group.news(&member, self.now.since_start) {
                    client.answers.pop_back();
                    client.answers.push_back(Ok(news));
                }
            }
            Step::Obey(n) => {
                let Some(client) = self.clients.get_mut(&World::name(n)) else { return };
                let membership = &mut client.membership;
                let (release, take) = (membership.to_release(), membership.to_take());
                membership.released(&release);
                membership.taken(&take);
            }
            Step::Leave(n) => {
                let member = World::name(n);
                if self.clients.remove(&member).is_some() {
                    let _ = self.group.leave(&member, false, self.now, &topics(self.partitions));
                }
            }
            Step::Vanish(n) => {
                if let Some(client) = self.clients.get_mut(&World::name(n)) {
                    client.gone = true;
                }
            }
            Step::Disconnect(n) => {
                if let Some(client) = self.clients.get_mut(&World::name(n)) {
                    client.ghosts.append(&mut client.asked);
                    client.answers.clear();
                    client.membership.disconnected();
                }
            }
            Step::Haunt(n) => {
                let Some(client) = self.clients.get_mut(&World::name(n)) else { return };
                let Some(heartbeat) = client.ghosts.pop_front() else { return };
                let (now, count) = (self.now, self.partitions);
                let _ = self.group.heartbeat(heartbeat, now, &topics(count), &LIMITS);
            }
            Step::Failover => {
                self.write();
                self.group = Group::new("g");
                for change in &self.log {
                    self.group.replay(change.clone(), self.now.since_start);
                }
                self.group.topics_changed(&topics(self.partitions));
                for client in self.clients.values_mut() {
                    client.asked.clear();
                    client.ghosts.clear();
                    client.answers.clear();
                    client.membership.disconnected();
                }
            }
            Step::Grow => self.partitions = (self.partitions + 1).min(6),
            Step::Later(seconds) => {
                let seconds = self.now.since_start.as_secs() + u64::from(seconds);
                self.now = at(seconds);
                let gone = self.group.expire(self.now, &topics(self.partitions), &LIMITS);
                self.group.topics_changed(&topics(self.partitions));
                // Who was silent for so long finds that out by its own clock.
                for (member, _) in gone {
                    if self.clients.get(&member).is_some_and(|client| client.gone) {
                        self.clients.remove(&member);
                    } else if let Some(client) = self.clients.get_mut(&member) {
                        client.membership.expelled();
                        client.ghosts.append(&mut client.asked);
                        client.answers.clear();
                    }
                }
            }
        }
        self.write();
        self.check();
    }

    fn hear(&mut self, member: &str) {
        let Some(client) = self.clients.get_mut(member) else { return };
        match client.answers.pop_front() {
            Some(Ok(answer)) => client.membership.answered(answer.epoch, answer.assigned),
            Some(Err(_)) => {
                client.membership.expelled();
                client.ghosts.append(&mut client.asked);
                client.answers.clear();
            }
            None => {}
        }
    }

    fn write(&mut self) {
        self.log.extend(self.group.take_changes());
    }

    /// Nothing is read by two.
    fn check(&self) {
        let mut readers = BTreeMap::new();
        for (member, client) in &self.clients {
            for partition in client.membership.owned() {
                let other = readers.insert(*partition, member);
                assert_eq!(other, None, "{partition:?} is read by {member}, too");
            }
        }
    }

    /// Lets all that is on its way arrive, until nothing changes any more.
    fn come_to_rest(&mut self) {
        self.clients.retain(|_, client| !client.gone);
        for _ in 0..60 {
            self.take(Step::Later(1));
            let names: Vec<String> = self.clients.keys().cloned().collect();
            for name in names {
                let number: u8 = name[1..].parse().unwrap();
                let steps = [Step::Speak(number), Step::Arrive(number), Step::Tell(number)];
                steps.into_iter().for_each(|step| self.take(step));
                self.take(Step::Hear(number));
                self.take(Step::Obey(number));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn nothing_is_read_by_two_and_all_is_read_in_the_end(
        steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut world = World::new();
        steps.into_iter().for_each(|step| world.take(step));
        world.come_to_rest();
        let read: BTreeSet<PartitionId> =
            world.clients.values().flat_map(|client| client.membership.owned().clone()).collect();
        let expected = if world.clients.is_empty() { 0 } else { world.partitions };
        prop_assert_eq!(read, partitions(0..expected));
    }
}
