//! The groups of one partition of the offsets topic, and those of their members that wait for news. Pure:
//! answers and changes for the log go out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::group::{Answer, Group, GroupLimits, Now, Topics};
use super::led;
use super::offsets::expired;
use super::record::Change;

/// The groups of a partition; `R` is how a member that waits is answered.
///
/// What is done costs as much as what it changes: others are looked at only where somebody has come to have
/// something else.
#[derive(Debug)]
pub struct Shard<R> {
    groups: BTreeMap<String, Group>,
    waiting: BTreeMap<Place, Waiting<R>>,
    /// By when those who wait have waited long enough.
    deadlines: BTreeSet<(Duration, Place)>,
    /// Groups that something was done with since changes were taken.
    touched: BTreeSet<String>,
    /// Nobody is to be removed before.
    expires_at: Duration,
    /// True while nothing that changes can be written down.
    is_frozen: bool,
}

/// A group and a member of it.
type Place = (String, String);

/// A member that waits.
#[derive(Debug)]
struct Waiting<R> {
    reply: R,
    until: Duration,
}

/// Somebody who is to be answered, with the name of the group; or, for one who is none any more, of the member.
pub type Told<R, A = Answer> = ((String, R), A);

impl<R> Default for Shard<R> {
    fn default() -> Shard<R> {
        Shard {
            groups: BTreeMap::new(),
            waiting: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            touched: BTreeSet::new(),
            expires_at: Duration::ZERO,
            is_frozen: false,
        }
    }
}

impl<R> Shard<R> {
    /// Takes in a change that the log has.
    pub fn replay(&mut self, change: Change, now: Duration) {
        let name = match &change {
            Change::Group(name, _)
            | Change::Member(name, ..)
            | Change::LedMember(name, ..)
            | Change::Offset(name, ..) => name,
        };
        let group = self.groups.entry(name.clone()).or_insert_with(|| Group::new(name));
        group.replay(change, now);
    }

    /// All of the log was taken in.
    pub fn replayed(&mut self, topics: Topics<'_>, now: Duration) {
        self.groups.values_mut().for_each(|group| group.replayed(now));
        self.groups.retain(|_, group| !group.is_nothing());
        self.topics_changed(topics);
    }

    /// A group, if there is one.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// A group that something is to be done with; a new one if there is none.
    pub fn group_mut(&mut self, name: &str) -> &mut Group {
        self.touched.insert(name.to_owned());
        let group = self.groups.entry(name.to_owned()).or_insert_with(|| Group::new(name));
        group.is_frozen = self.is_frozen;
        group
    }

    /// While nothing that changes can be written down, nobody is removed, and members stay what they are: all that is
    /// known would have to be read anew from the log.
    pub fn freeze(&mut self, is_frozen: bool) {
        self.is_frozen = is_frozen;
    }

    /// Lets a member wait for news until then.
    pub fn wait(&mut self, group: &str, member: &str, reply: R, until: Duration) {
        let place = (group.to_owned(), member.to_owned());
        self.deadlines.insert((until, place.clone()));
        self.waiting.insert(place, Waiting { reply, until });
    }

    /// A member that waits does not any more. Answers how it is answered.
    pub fn take_waiting(&mut self, group: &str, member: &str) -> Option<R> {
        let place = (group.to_owned(), member.to_owned());
        let Waiting { reply, until } = self.waiting.remove(&place)?;
        self.deadlines.remove(&(until, place));
        Some(reply)
    }

    /// Those who wait and for whom there is news, and those who were to wait `until` then at most; with those who are
    /// members no more, and are to find that out.
    pub fn told(&mut self, now: Duration, until: Duration) -> (Vec<Told<R>>, Vec<Told<R, ()>>) {
        let (mut told, mut orphans) = (Vec::new(), Vec::new());
        let mut moved = Vec::new();
        for name in &self.touched {
            if self.groups.get_mut(name).is_some_and(Group::take_moved) {
                let first = (name.clone(), String::new());
                let of = self.waiting.range(first..).map(|(place, _)| place);
                moved.extend(of.take_while(|(group, _)| group == name).cloned());
            }
        }
        let late = self.deadlines.iter().take_while(|(at, _)| *at <= until);
        let late: BTreeSet<Place> = late.map(|(_, place)| place.clone()).collect();
        for (name, member) in moved.into_iter().chain(late.iter().cloned()) {
            let mut group = self.groups.get_mut(&name);
            if let Some(group) = &mut group {
                group.is_frozen = self.is_frozen;
            }
            let Some(known) = group.as_ref().and_then(|group| group.members().get(&member)) else {
                let waiting = self.take_waiting(&name, &member);
                orphans.extend(waiting.map(|reply| ((member, reply), ())));
                continue;
            };
            let epoch = known.state.epoch;
            let is_late = late.contains(&(name.clone(), member.clone()));
            let news = group.and_then(|group| group.news(&member, now));
            let answer = news.or(is_late.then_some(Answer { epoch, assigned: None }));
            if let Some(answer) = answer
                && let Some(reply) = self.take_waiting(&name, &member)
            {
                self.touched.insert(name.clone());
                told.push(((name, reply), answer));
            }
        }
        (told, orphans)
    }

    /// Members of groups that are led and are to be told something, each with the name of its group.
    pub fn told_led(&mut self) -> Vec<(String, led::Told)> {
        let mut all = Vec::new();
        for name in &self.touched {
            let told = self.groups.get_mut(name).map(|group| std::mem::take(&mut group.told));
            all.extend(told.into_iter().flatten().map(|told| (name.clone(), told)));
        }
        all
    }

    /// Topics may have changed.
    pub fn topics_changed(&mut self, topics: Topics<'_>) {
        if self.is_frozen {
            // That enough are in sync again is a change, too.
            return;
        }
        for (name, group) in &mut self.groups {
            let mut deleted = Vec::new();
            for (partition, committed) in group.offsets() {
                if topics.find(&partition.topic).is_none_or(|(id, _)| id != committed.topic_id) {
                    deleted.push(partition.clone());
                }
            }
            group.forget(&deleted);
            if group.topics_changed(topics) || !deleted.is_empty() {
                self.touched.insert(name.clone());
            }
        }
    }

    /// Removes who is silent for too long. Answers who, with the name of the group, and why.
    pub fn expire(
        &mut self,
        now: Now,
        topics: Topics<'_>,
        limits: &GroupLimits,
    ) -> Vec<(String, String, &'static str)> {
        let mut gone = Vec::new();
        if self.is_frozen {
            return gone;
        }
        // Who has come, or is to give something up, may be due before all that were known.
        let touched = self.touched.iter().filter_map(|name| self.groups.get(name));
        let sooner = touched.filter_map(|group| group.next_deadline(limits)).min();
        self.expires_at = self.expires_at.min(sooner.unwrap_or(Duration::MAX));
        if now.since_start < self.expires_at {
            return gone;
        }
        for (name, group) in &mut self.groups {
            let out = group.expire(now, topics, limits);
            gone.extend(out.into_iter().map(|(member, why)| (name.clone(), member, why)));
            if group.has_changed() || (group.is_nothing() && group.invited.is_empty()) {
                self.touched.insert(name.clone());
            }
        }
        let next = self.groups.values().filter_map(|group| group.next_deadline(limits)).min();
        self.expires_at = next.unwrap_or(Duration::MAX);
        gone
    }

    /// Forgets offsets of groups without members that are older than `retention_ms`, and groups that have none.
    pub fn expire_offsets(&mut self, now_ms: i64, retention_ms: i64) {
        if self.is_frozen {
            return;
        }
        let empty = self.groups.iter_mut().filter(|(_, group)| group.member_count() == 0);
        for (name, group) in empty {
            let old = expired(group.offsets(), group.emptied_ms(), now_ms, retention_ms);
            group.forget(&old);
            if group.offsets().is_empty() {
                group.end();
            }
            if !old.is_empty() || group.is_nothing() {
                self.touched.insert(name.clone());
            }
        }
    }

    /// When somebody may have to be removed or answered.
    pub fn next_deadline(&self) -> Option<Duration> {
        let expires = Some(self.expires_at).filter(|at| *at < Duration::MAX && !self.is_frozen);
        expires.into_iter().chain(self.deadlines.first().map(|(until, _)| *until)).min()
    }

    /// What is to be written down.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for name in std::mem::take(&mut self.touched) {
            let Some(group) = self.groups.get_mut(&name) else { continue };
            // One that was only asked for was never written down.
            if group.is_nothing() && group.epoch() > 0 {
                group.dissolve();
            }
            changes.extend(group.take_changes());
            if group.is_nothing() && group.invited.is_empty() {
                self.groups.remove(&name);
            }
        }
        changes
    }

    /// Everybody who waits: the partition is another's now.
    pub fn take_all(&mut self) -> Vec<R> {
        self.deadlines.clear();
        std::mem::take(&mut self.waiting).into_values().map(|waiting| waiting.reply).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use uuid::Uuid;

    use super::super::group::{GroupError, Heartbeat};
    use super::super::member::Profile;
    use super::super::offsets::{Committed, PartitionName};
    use super::*;

    const LIMITS: GroupLimits = GroupLimits {
        session_timeout: Duration::from_secs(10),
        most_members: 9,
        most_metadata: 9,
        initial_delay: Duration::ZERO,
    };

    fn topics(name: &str) -> Option<(Uuid, u32)> {
        (name == "orders").then_some((Uuid::from_u128(7), 4))
    }

    fn at(seconds: u64) -> Now {
        Now { since_start: Duration::from_secs(seconds), ms: 0 }
    }

    fn join(shard: &mut Shard<u32>, group: &str, member: &str) {
        let profile =
            Profile { topics: BTreeSet::from(["orders".to_owned()]), ..Profile::default() };
        let heartbeat = Heartbeat {
            member: member.to_owned(),
            profile: Some(profile),
            owned: Some(BTreeSet::new()),
            beat: 1,
            ..Heartbeat::default()
        };
        shard.group_mut(group).heartbeat(heartbeat, at(0), &topics, &LIMITS).unwrap();
        assert_eq!(shard.expire(at(0), &topics, &LIMITS), []);
        shard.take_changes();
    }

    /// Nobody was told that all had joined, until something else was done with the group.
    #[test]
    fn who_waits_for_the_first_members_is_told_when_that_is_over() {
        let mut shard: Shard<u32> = Shard::default();
        let limits = GroupLimits { initial_delay: Duration::from_secs(3), ..LIMITS };
        let state = led::LedMemberState {
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 10_000,
            protocols: vec![led::Protocol { name: "own".to_owned(), metadata: Bytes::new() }],
            ..led::LedMemberState::default()
        };
        let (member, protocol_type) = ("a".to_owned(), "connect".to_owned());
        let join = led::LedJoin { member, protocol_type, state, can_skip: false };
        shard.group_mut("g").led_join(join, at(0), &limits).unwrap();
        shard.expire(at(0), &topics, &limits);
        assert_eq!((shard.told_led().len(), shard.take_changes().len()), (0, 2));
        assert_eq!(shard.next_deadline(), Some(at(3).since_start));
        assert_eq!(shard.expire(at(3), &topics, &limits), []);
        assert_eq!((shard.told_led().len(), shard.take_changes().len()), (1, 2));
    }

    /// Of whoever asked for an id and never came something stayed, until offsets were looked at.
    #[test]
    fn a_group_that_nobody_came_to_is_no_more() {
        let mut shard: Shard<u32> = Shard::default();
        shard.group_mut("g").invite("a", at(0), &LIMITS).unwrap();
        shard.expire(at(0), &topics, &LIMITS);
        assert_eq!((shard.take_changes(), shard.groups().count()), (vec![], 1));
        assert_eq!(shard.next_deadline(), Some(at(70).since_start));
        shard.expire(at(70), &topics, &LIMITS);
        assert_eq!((shard.take_changes(), shard.groups().count()), (vec![], 0));
    }

    /// With each silent member all groups of the partition were read anew from the log, as long as too few replicas were
    /// in sync.
    #[test]
    fn nobody_is_out_while_that_cannot_be_written_down() {
        let mut shard: Shard<u32> = Shard::default();
        join(&mut shard, "g", "a");
        join(&mut shard, "g", "b");
        shard.freeze(true);
        let quiet = |beat| Heartbeat {
            member: "a".to_owned(),
            epoch: 1,
            beat,
            seen: 1,
            ..Heartbeat::default()
        };
        let told = shard.group_mut("g").heartbeat(quiet(2), at(1), &topics, &LIMITS).unwrap();
        assert_eq!((told.epoch, told.assigned), (1, None), "it is not told to give up anything");
        let gives_up = Heartbeat { profile: Some(Profile::default()), ..quiet(3) };
        let refused = shard.group_mut("g").heartbeat(gives_up, at(19), &topics, &LIMITS);
        assert_eq!(refused, Err(GroupError::Frozen));
        assert_eq!((shard.expire(at(20), &topics, &LIMITS), shard.next_deadline()), (vec![], None));
        assert_eq!(shard.take_changes(), []);
        shard.freeze(false);
        let out = shard.expire(at(20), &topics, &LIMITS);
        assert_eq!(out.iter().map(|(_, member, _)| member.as_str()).collect::<Vec<_>>(), ["b"]);
    }

    fn replies(shard: &mut Shard<u32>, seconds: u64) -> (Vec<u32>, Vec<u32>) {
        let (told, orphans) = shard.told(at(seconds).since_start, at(seconds).since_start);
        let told = told.into_iter().map(|((_, reply), _)| reply).collect();
        shard.take_changes();
        (told, orphans.into_iter().map(|((_, reply), ())| reply).collect())
    }

    /// Whoever asked for a group that there is not had the log grow.
    #[test]
    fn a_group_that_is_only_asked_for_leaves_nothing() {
        let mut shard: Shard<u32> = Shard::default();
        let heartbeat = Heartbeat { member: "a".to_owned(), epoch: 3, ..Heartbeat::default() };
        shard.group_mut("g").heartbeat(heartbeat, at(0), &topics, &LIMITS).unwrap_err();
        assert_eq!((shard.take_changes(), shard.groups().count()), (vec![], 0));
        join(&mut shard, "g", "a");
        shard.group_mut("g").leave("a", false, at(1), &topics).unwrap();
        shard.take_changes();
        assert_eq!(shard.groups().count(), 1, "it is empty, until somebody looks");
        shard.expire_offsets(0, 0);
        assert_eq!(shard.take_changes().last(), Some(&Change::Group("g".to_owned(), None)));
    }

    #[test]
    fn who_waits_is_told_news_of_its_group_or_that_time_is_up_or_that_it_is_out() {
        let mut shard = Shard::default();
        for (group, member) in [("g", "a"), ("g", "b"), ("other", "a")] {
            join(&mut shard, group, member);
        }
        replies(&mut shard, 0);
        for (reply, group, member) in [(1, "g", "a"), (2, "g", "b"), (3, "other", "a")] {
            shard.wait(group, member, reply, at(5).since_start);
        }
        // A third one comes: those of its group are told what it is to have, or the new epoch.
        join(&mut shard, "g", "c");
        shard.group_mut("g");
        assert_eq!(replies(&mut shard, 1), (vec![1, 2], vec![]));
        shard.wait("g", "b", 2, at(9).since_start);
        shard.group_mut("g");
        assert_eq!(replies(&mut shard, 1), (vec![], vec![]), "nothing has changed");
        assert_eq!(shard.next_deadline(), Some(at(5).since_start));
        shard.group_mut("g").leave("b", false, at(2), &topics).unwrap();
        assert_eq!(replies(&mut shard, 2), (vec![], vec![2]));
        assert_eq!(replies(&mut shard, 4), (vec![], vec![]));
        assert_eq!(replies(&mut shard, 5), (vec![3], vec![]));
        assert_eq!(shard.next_deadline(), Some(at(10).since_start), "then they are silent");
        assert_eq!(shard.expire(at(11), &topics, &LIMITS).len(), 3);
        shard.expire_offsets(0, 0);
        shard.take_changes();
        assert_eq!((shard.groups().count(), shard.next_deadline()), (0, None));
    }

    fn name(partition: u32) -> PartitionName {
        PartitionName { topic: "orders".to_owned(), partition }
    }

    /// Commits, from outside if `member` is empty. Answers what is written down.
    fn commit(
        shard: &mut Shard<u32>,
        (member, epoch): (&str, i32),
        partition: u32,
        committed_ms: i64,
    ) -> Vec<Change> {
        let committed = Committed {
            offset: 5,
            leader_epoch: -1,
            metadata: String::new(),
            topic_id: Uuid::from_u128(7),
            committed_ms,
        };
        let group = shard.group_mut("g");
        group.commit((member, epoch), name(partition), committed, &LIMITS).unwrap();
        shard.take_changes()
    }

    /// The last member leaves. Answers what is written down.
    fn leave(shard: &mut Shard<u32>, ms: i64) -> Vec<Change> {
        let now = Now { since_start: Duration::from_secs(1), ms };
        shard.group_mut("g").leave("a", false, now, &topics).unwrap();
        shard.take_changes()
    }

    fn known(shard: &Shard<u32>) -> Vec<u32> {
        let offsets = shard.group("g").into_iter().flat_map(|group| group.offsets().keys());
        offsets.map(|name| name.partition).collect()
    }

    #[test]
    fn offsets_expire_when_they_are_old_and_the_group_has_long_been_left() {
        let mut shard = Shard::default();
        join(&mut shard, "g", "a");
        commit(&mut shard, ("a", 1), 0, 1000);
        shard.expire_offsets(i64::MAX, 100);
        assert_eq!((shard.take_changes(), known(&shard)), (vec![], vec![0]), "it has a member");

        leave(&mut shard, 2000);
        commit(&mut shard, ("", -1), 1, 2050);
        shard.expire_offsets(2100, 100);
        assert_eq!((shard.take_changes(), known(&shard)), (vec![], vec![0, 1]));

        // What is forgotten is written down, or the next coordinator would know it.
        let forgotten = |partition| Change::Offset("g".to_owned(), name(partition), None);
        shard.expire_offsets(2101, 100);
        assert_eq!(shard.take_changes(), [forgotten(0)]);
        assert_eq!(known(&shard), [1]);
        shard.expire_offsets(2151, 100);
        assert_eq!(shard.take_changes(), [forgotten(1), Change::Group("g".to_owned(), None)]);
        assert_eq!(shard.groups().count(), 0);
    }

    /// When the last member has left is in the log: the next coordinator counts from then, too.
    #[test]
    fn who_coordinates_next_counts_from_the_same_time() {
        let mut shard = Shard::default();
        join(&mut shard, "g", "a");
        let mut log = commit(&mut shard, ("a", 1), 0, 1000);
        log.extend(leave(&mut shard, 2000));
        let mut next: Shard<u32> = Shard::default();
        log.into_iter().for_each(|change| next.replay(change, Duration::ZERO));
        next.replayed(&topics, Duration::ZERO);
        next.expire_offsets(2100, 100);
        assert_eq!(known(&next), [0]);
        next.expire_offsets(2101, 100);
        assert_eq!(known(&next), [0; 0]);
    }
}
