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

    /// The id of the member that has an instance id.
    pub fn member_of_instance(&self, instance: &str) -> Option<String> {
        let has_it =
            |member: &Member| member.state.profile.instance_id.as_deref() == Some(instance);
        self.members().iter().find(|(_, member)| has_it(member)).map(|(id, _)| id.clone())
    }

    fn hear_classic(&mut self, id: &str, generation: i32, now: Now) -> Result<&Member, GroupError> {
        let member = self.member_mut(id).ok_or_else(|| GroupError::UnknownMember(id.to_owned()))?;
        // A coordinator that has not told it anything knows of no earliest generation.
        let allowed = member.told.epoch.max(1)..=member.state.epoch;
        if !allowed.contains(&generation) {
            let actual = member.state.epoch;
            return Err(GroupError::OldGeneration { said: generation, actual });
        }
        member.heard = now.since_start;
        Ok(member)
    }
}
