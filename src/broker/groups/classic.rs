//! Members that speak Kafka's classic group protocol, in a group like any other: the brokers say who reads what, not
//! the member that leads (KIP-848, "classic members"). Such a member does not say what it has given up but by joining
//! again; until then it is told with each heartbeat that it has to.
//!
//! Its generation is its epoch as it was told when it joined. While what it reads stays the same its epoch grows with
//! the group's and its generation does not: nobody stops who need not.

use std::collections::BTreeSet;

use super::PartitionId;
use super::group::{Group, GroupError, GroupLimits, Heartbeat, Now, Topics};
use super::member::{JOIN, Member, Profile, STATIC_LEAVE};

/// A member that joins, or joins again.
#[derive(Clone, Debug)]
pub struct ClassicJoin {
    /// Its id.
    pub member: String,
    /// What it says of itself.
    pub profile: Profile,
    /// What it says that it reads.
    pub owned: BTreeSet<PartitionId>,
}

impl Group {
    /// A member joins, or joins again. Answers its generation.
    pub fn classic_join(
        &mut self,
        join: ClassicJoin,
        now: Now,
        topics: Topics<'_>,
        limits: &GroupLimits,
    ) -> Result<i32, GroupError> {
        let ClassicJoin { member: id, profile, mut owned } = join;
        self.replace_instance(&id, profile.instance_id.as_deref(), now);
        let known = self.members().get(&id).filter(|member| member.state.epoch != STATIC_LEAVE);
        let (epoch, seen, beat) = match known {
            // What it has lost meanwhile it will be told.
            Some(Member { state, told, beat, .. }) => {
                owned.retain(|partition| state.holds(partition));
                (state.epoch, told.count, beat + 1)
            }
            None => {
                owned.clear();
                (JOIN, 0, 1)
            }
        };
        let heartbeat = Heartbeat {
            member: id.clone(),
            epoch,
            profile: Some(profile),
            owned: Some(owned.clone()),
            seen,
            beat,
            ..Heartbeat::default()
        };
        self.heartbeat(heartbeat, now, topics, limits)?;
        // Whoever has given up all before it joins need not be asked to.
        let gives_up = |member: &Member| {
            let revoking = &member.state.revoking;
            !revoking.is_empty() && revoking.keys().all(|partition| !owned.contains(partition))
        };
        if self.members().get(&id).is_some_and(gives_up) {
            self.step(&id, Some(&owned), now.since_start);
        }
        Ok(self.tell(&id, true).epoch)
    }

    /// What a member is to read that has joined.
    pub fn classic_sync(
        &mut self,
        id: &str,
        generation: i32,
        now: Now,
    ) -> Result<BTreeSet<PartitionId>, GroupError> {
        let member = self.hear_classic(id, generation, now)?;
        Ok(member.state.assigned.keys().copied().collect())
    }

    /// A member says that it is there. An error if it is to join again.
    pub fn classic_heartbeat(
        &mut self,
        id: &str,
        generation: i32,
        now: Now,
    ) -> Result<(), GroupError> {
        let group_epoch = self.epoch();
        let state = self.hear_classic(id, generation, now)?.state.clone();
        if self.is_frozen {
            return Ok(());
        }
        let loses = !state.revoking.is_empty()
            || state.assigned.keys().any(|partition| !state.target.contains(partition));
        let others = || self.members().iter().filter(|(other, _)| *other != id);
        let is_free = |partition: &PartitionId| others().all(|(_, m)| !m.state.holds(partition));
        let gains =
            |partition: &PartitionId| !state.assigned.contains_key(partition) && is_free(partition);
        // What it is to get it gets when it joins again: before, it would not know that it has it.
        let to_join = loses || state.target.iter().any(gains);
        if loses || (!to_join && state.epoch < group_epoch) {
            self.step(id, None, now.since_start);
        }
        if to_join { Err(GroupError::JoinAgain) } else { Ok(()) }
    }

    /// A static member whose id is another's than it was: the one before it is out, and is told so. What it was to
    /// read, its successor reads.
    fn replace_instance(&mut self, id: &str, instance: Option<&str>, now: Now) {
        let Some(instance) = instance else { return };
        let before = self.member_of_instance(instance).filter(|before| before != id);
        if let Some(before) = before {
            self.static_leave(&before, now);
        }
    }

    /// Gives a member that is new an id to join with.
    pub fn invite(&mut self, id: &str, now: Now, limits: &GroupLimits) -> Result<(), GroupError> {
        if self.member_count() >= limits.most_members {
            return Err(GroupError::Full(limits.most_members));
        }
        // Of many that do not come the first are forgotten.
        if self.invited.len() >= limits.most_members
            && let Some(first) = self.invited.iter().min_by_key(|(_, since)| **since)
        {
            let first = first.0.clone();
            self.invited.remove(&first);
        }
        self.invited.insert(id.to_owned(), now.since_start);
        Ok(())
    }

    /// An error if a member says an id that it was not given, or is out and does not know it: what it reads it has lost,
    /// and others may have read on.
    pub fn check_known(&mut self, id: &str) -> Result<(), GroupError> {
        let is_led = self.led().is_some_and(|led| led.members().contains_key(id));
        if is_led || self.members().contains_key(id) || self.invited.remove(id).is_some() {
            return Ok(());
        }
        Err(GroupError::UnknownMember(id.to_owned()))
    }

    /// The id of the member that has an instance id.
    pub fn member_of_instance(&self, instance: &str) -> Option<String> {
        if let Some(led) = self.led() {
            return led.member_of_instance(instance);
        }
        let has_it =
            |member: &Member| member.state.profile.instance_id.as_deref() == Some(instance);
        self.members().iter().find(|(_, member)| has_it(member)).map(|(id, _)| id.clone())
    }

    fn hear_classic(&mut self, id: &str, generation: i32, now: Now) -> Result<&Member, GroupError> {
        let member = self.member_mut(id).ok_or_else(|| GroupError::UnknownMember(id.to_owned()))?;
        member.check_generation(generation)?;
        member.heard = now.since_start;
        Ok(member)
    }
}

impl Member {
    /// An error if a classic member names a generation that it was not given, or no more has.
    pub fn check_generation(&self, generation: i32) -> Result<(), GroupError> {
        // A coordinator that has not told it anything knows of no earliest generation.
        let allowed = self.told.epoch.max(1)..=self.state.epoch;
        if allowed.contains(&generation) {
            return Ok(());
        }
        Err(GroupError::OldGeneration { said: generation, actual: self.state.epoch })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use uuid::Uuid;

    use super::super::member::Classic;
    use super::super::offsets::{Committed, PartitionName};
    use super::*;

    const LIMITS: GroupLimits = GroupLimits {
        session_timeout: Duration::from_secs(10),
        most_members: 9,
        most_metadata: 9,
        initial_delay: Duration::ZERO,
    };
    const TOPIC: Uuid = Uuid::from_u128(7);

    fn topics(name: &str) -> Option<(Uuid, u32)> {
        (name == "orders").then_some((TOPIC, 4))
    }

    fn at(seconds: u64) -> Now {
        Now { since_start: Duration::from_secs(seconds), ms: 0 }
    }

    fn ids(partitions: &[u32]) -> BTreeSet<PartitionId> {
        let id = |partition: &u32| PartitionId { topic: TOPIC, partition: *partition };
        partitions.iter().map(id).collect()
    }

    fn profile(instance: Option<&str>) -> Profile {
        Profile {
            instance_id: instance.map(str::to_owned),
            topics: BTreeSet::from(["orders".to_owned()]),
            rebalance_timeout_ms: 5000,
            classic: Some(Classic { session_timeout_ms: 30_000, ..Classic::default() }),
            ..Profile::default()
        }
    }

    /// Joins, and is told what it is to read.
    fn join_as(
        group: &mut Group,
        (id, instance): (&str, Option<&str>),
        owned: &[u32],
        now: u64,
    ) -> (i32, BTreeSet<PartitionId>) {
        let (member, profile) = (id.to_owned(), profile(instance));
        let join = ClassicJoin { member, profile, owned: ids(owned) };
        let generation = group.classic_join(join, at(now), &topics, &LIMITS).unwrap();
        (generation, group.classic_sync(id, generation, at(now)).unwrap())
    }

    fn join(group: &mut Group, id: &str, owned: &[u32]) -> (i32, BTreeSet<PartitionId>) {
        join_as(group, (id, None), owned, 0)
    }

    #[test]
    fn an_eager_member_gives_up_all_and_joins_again_once() {
        let mut group = Group::new("g");
        let (first, all) = join(&mut group, "a", &[]);
        assert_eq!(all, ids(&[0, 1, 2, 3]));
        let (second, nothing) = join(&mut group, "b", &[]);
        assert_eq!((second, nothing), (first + 1, ids(&[])), "a has not given up anything yet");
        assert_eq!(group.classic_heartbeat("b", second, at(1)), Ok(()), "b waits");
        assert_eq!(group.classic_heartbeat("a", first, at(1)), Err(GroupError::JoinAgain));
        let (third, of_a) = join(&mut group, "a", &[]);
        assert_eq!((third, of_a.len()), (second, 2));
        assert_eq!(group.classic_heartbeat("a", third, at(2)), Ok(()));
        assert_eq!(group.classic_heartbeat("b", second, at(2)), Err(GroupError::JoinAgain));
        let (fourth, of_b) = join(&mut group, "b", &[]);
        assert_eq!(of_a.union(&of_b).copied().collect::<BTreeSet<_>>(), ids(&[0, 1, 2, 3]));
        assert_eq!(group.classic_heartbeat("b", fourth, at(3)), Ok(()));
        let old = GroupError::OldGeneration { said: first, actual: third };
        assert_eq!(group.classic_sync("a", first, at(3)), Err(old));
    }

    /// A cooperative member says what it still reads, and keeps it while it gives up the rest.
    #[test]
    fn a_cooperative_member_reads_on_what_stays_with_it() {
        let mut group = Group::new("g");
        let (first, _) = join(&mut group, "a", &[]);
        join(&mut group, "b", &[]);
        assert_eq!(group.classic_heartbeat("a", first, at(1)), Err(GroupError::JoinAgain));
        let (still, kept) = join(&mut group, "a", &[0, 1, 2, 3]);
        assert_eq!(
            (still, kept.len()),
            (first, 2),
            "it is told what to give up, and no new generation"
        );
        assert_eq!(group.classic_heartbeat("a", first, at(1)), Err(GroupError::JoinAgain));
        let owned: Vec<u32> = kept.iter().map(|id| id.partition).collect();
        assert_eq!(join(&mut group, "a", &owned), (first + 1, kept));
    }

    #[test]
    fn nobody_joins_again_who_reads_the_same_as_before() {
        let mut group = Group::new("g");
        let (first, _) = join(&mut group, "a", &[]);
        let nobody = Profile { topics: BTreeSet::from(["other".to_owned()]), ..profile(None) };
        let other = ClassicJoin { member: "b".to_owned(), profile: nobody, owned: ids(&[]) };
        let second = group.classic_join(other, at(0), &topics, &LIMITS).unwrap();
        assert_eq!(second, first + 1);
        assert_eq!(group.classic_heartbeat("a", first, at(1)), Ok(()));
        assert_eq!(group.members()["a"].state.epoch, second, "it has come there without a word");
        assert_eq!(group.classic_heartbeat("a", first, at(2)), Ok(()));
        let early = GroupError::OldGeneration { said: second + 1, actual: second };
        assert_eq!(group.classic_heartbeat("a", second + 1, at(2)), Err(early));
    }

    #[test]
    fn a_member_may_be_silent_for_as_long_as_it_has_said() {
        let mut group = Group::new("g");
        let (first, _) = join(&mut group, "a", &[]);
        assert_eq!(group.expire(at(29), &topics, &LIMITS), []);
        assert_eq!(group.next_deadline(&LIMITS), Some(Duration::from_secs(30)));
        assert_eq!(group.classic_heartbeat("a", first, at(29)), Ok(()));
        assert_eq!(group.expire(at(59), &topics, &LIMITS), []);
        assert_eq!(group.expire(at(60), &topics, &LIMITS).len(), 1);
        let gone = GroupError::UnknownMember("a".to_owned());
        assert_eq!(group.classic_heartbeat("a", first, at(61)), Err(gone));
    }

    /// One that does not come again when it is told to is out when its time is over, though its heartbeats come.
    #[test]
    fn who_does_not_join_again_in_time_is_out() {
        let mut group = Group::new("g");
        let (first, _) = join(&mut group, "a", &[]);
        let (second, _) = join(&mut group, "b", &[]);
        for second in 1..=6 {
            assert_eq!(group.classic_heartbeat("a", first, at(second)), Err(GroupError::JoinAgain));
        }
        assert_eq!(group.expire(at(6), &topics, &LIMITS), []);
        assert_eq!(group.expire(at(7), &topics, &LIMITS).len(), 1);
        assert_eq!(group.classic_heartbeat("b", second, at(7)), Err(GroupError::JoinAgain));
        assert_eq!(join(&mut group, "b", &[]).1, ids(&[0, 1, 2, 3]));
    }

    #[test]
    fn who_comes_under_an_instance_id_reads_what_was_read_under_it() {
        let mut group = Group::new("g");
        let (_, of_a) = join_as(&mut group, ("a-1", Some("a")), &[], 0);
        let (epoch, again) = join_as(&mut group, ("a-2", Some("a")), &[], 1);
        assert_eq!((again, group.members().len()), (of_a, 1));
        assert_eq!(group.member_of_instance("a").as_deref(), Some("a-2"));
        let gone = GroupError::UnknownMember("a-1".to_owned());
        assert_eq!(group.classic_heartbeat("a-1", epoch, at(1)), Err(gone));
    }

    /// One that was put out read on where it had been, and with its next commit took the group back there.
    #[test]
    fn who_was_put_out_and_does_not_know_it_begins_anew() {
        let mut group = Group::new("g");
        group.invite("a", at(0), &LIMITS).unwrap();
        assert_eq!(group.check_known("a"), Ok(()));
        join(&mut group, "a", &[]);
        assert_eq!(group.check_known("a"), Ok(()));
        assert_eq!(group.expire(at(31), &topics, &LIMITS).len(), 1);
        assert_eq!(group.check_known("a"), Err(GroupError::UnknownMember("a".to_owned())));
    }

    #[test]
    fn who_was_given_an_id_joins_with_it_soon() {
        let mut group = Group::new("g");
        group.invite("a", at(0), &LIMITS).unwrap();
        group.expire(at(60), &topics, &LIMITS);
        assert_eq!(group.next_deadline(&LIMITS), Some(Duration::from_secs(70)));
        group.expire(at(61), &topics, &LIMITS);
        assert_eq!(group.check_known("a"), Err(GroupError::UnknownMember("a".to_owned())));
        for number in 0..9 {
            group.invite(&number.to_string(), at(61), &LIMITS).unwrap();
        }
        group.invite("more", at(62), &LIMITS).unwrap();
        assert_eq!(group.invited.len(), 9, "the first is forgotten");
        assert_eq!(group.check_known("more"), Ok(()));
    }

    /// A commit that was long on its way took the group back while nobody had the partition.
    #[test]
    fn a_commit_of_an_earlier_generation_does_not_count() {
        let mut group = Group::new("g");
        let (first, _) = join(&mut group, "a", &[]);
        let name = PartitionName { topic: "orders".to_owned(), partition: 0 };
        let commit = |group: &mut Group, generation, topic_id| {
            let committed = Committed {
                offset: 5,
                leader_epoch: -1,
                metadata: String::new(),
                topic_id,
                committed_ms: 0,
            };
            group.commit(("a", generation), name.clone(), committed, &LIMITS)
        };
        assert_eq!(commit(&mut group, first, TOPIC), Ok(()));
        // Of a topic that nobody reads.
        assert_eq!(commit(&mut group, first, Uuid::from_u128(9)), Ok(()));
        join(&mut group, "b", &[]);
        let (second, _) = join(&mut group, "a", &[]);
        let old = |said| Err(GroupError::OldGeneration { said, actual: second });
        assert_eq!(commit(&mut group, first, Uuid::from_u128(9)), old(first));
        assert_eq!(commit(&mut group, -1, Uuid::from_u128(9)), old(-1));
        assert_eq!(commit(&mut group, second, Uuid::from_u128(9)), Ok(()));
    }

    /// What a member of the classic protocol has, the others wait for, whatever they speak.
    #[test]
    fn one_that_sends_heartbeats_of_its_own_waits_for_what_a_classic_one_has() {
        let mut group = Group::new("g");
        let (first, _) = join(&mut group, "a", &[]);
        let profile = Profile { classic: None, ..profile(None) };
        let new = Heartbeat {
            member: "b".to_owned(),
            profile: Some(profile),
            owned: Some(ids(&[])),
            beat: 1,
            ..Heartbeat::default()
        };
        let answer = group.heartbeat(new, at(0), &topics, &LIMITS).unwrap();
        assert_eq!(answer.assigned.map(|(_, partitions)| partitions), Some(ids(&[])));
        assert_eq!(group.classic_heartbeat("a", first, at(1)), Err(GroupError::JoinAgain));
        let (_, of_a) = join(&mut group, "a", &[]);
        let (_, of_b) = group.news("b", at(1).since_start).unwrap().assigned.unwrap();
        assert!(of_a.len() == 2 && of_b.len() == 2 && of_a.is_disjoint(&of_b));
    }
}
