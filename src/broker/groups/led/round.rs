//! How a group that is led comes to its next generation: all join, one leads, it says what each is to do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

use super::{Led, LedMember, LedMemberState, Phase, Waits};
use crate::broker::groups::error::GroupError;
use crate::broker::groups::group::GroupLimits;

/// Most bytes that all members of a group say of themselves: their leader is told all of it at once.
const MOST_SAID_BY_ALL: usize = 16 << 20;

/// Members that say less are given so long to join, and to ask what they are to do.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// A member that joins, or joins again.
#[derive(Clone, Debug)]
pub struct LedJoin {
    /// Its id.
    pub member: String,
    /// What kind of members it looks for.
    pub protocol_type: String,
    /// What it says of itself.
    pub state: LedMemberState,
    /// True if it can be told that it leads and has nothing to give out (KIP-814).
    pub can_skip: bool,
}

impl Led {
    /// A member joins. It waits until it is told what has come of it.
    pub fn join(
        &mut self,
        join: LedJoin,
        now: Duration,
        limits: &GroupLimits,
    ) -> Result<(), GroupError> {
        let LedJoin { member: id, protocol_type, mut state, can_skip } = join;
        self.check_protocols(&id, &protocol_type, &state)?;
        let before = state.instance_id.as_deref().and_then(|name| self.member_of_instance(name));
        let predecessor = before.filter(|before| *before != id);
        if let Some(before) = &predecessor {
            self.replace(before, &id, now);
        }
        let is_new = !self.members.contains_key(&id);
        if is_new && self.members.len() >= limits.most_members {
            return Err(GroupError::Full(limits.most_members));
        }
        self.check_room(&id, &state)?;
        let known = self.members.get(&id).map(|member| &member.state);
        let says_the_same = known.is_some_and(|known| known.protocols == state.protocols);
        let known = self.members.get(&id).cloned();
        if let Some(LedMember { state: known, .. }) = &known {
            (state.since, state.generation) = (known.since, known.generation);
            state.assignment = known.assignment.clone();
        }
        if known.as_ref().is_some_and(|known| known.waits == Waits::Leader) {
            // It has given that up.
            self.answer_sync(&id, Err(GroupError::JoinAgain));
        }
        let has_asked = known.is_some_and(|known| known.has_asked);
        self.members.insert(id.clone(), LedMember { has_asked, ..LedMember::new(state, now) });
        self.changed.insert(id.clone());
        self.state.protocol_type = protocol_type;
        let leads = self.state.leader == id;
        match (self.phase, predecessor) {
            (Phase::Joining { .. }, _) => {}
            // It comes back in the place of one that knows what to do; what it says to the leader may have changed (KIP-345).
            (Phase::Stable, Some(before)) if self.vote() == self.state.protocol => {
                match leads && !can_skip {
                    true => self.tell_follower(&id, &before),
                    false => self.tell_joined(&id, true),
                }
                return Ok(());
            }
            // The answer was lost.
            (Phase::Syncing, None) if says_the_same => {
                self.tell_joined(&id, false);
                return Ok(());
            }
            // A leader that joins again wants to give out work anew.
            (Phase::Stable, None) if says_the_same && !leads => {
                self.tell_joined(&id, false);
                return Ok(());
            }
            (Phase::Stable | Phase::Syncing, _) => self.begin(now),
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.waits = Waits::Others;
        }
        if is_new {
            self.hold_on(now, limits.initial_delay);
        }
        self.complete_if_all_joined(now);
        Ok(())
    }

    /// An error if the others are of another kind, or know nothing that the one who joins knows.
    fn check_protocols(
        &self,
        id: &str,
        protocol_type: &str,
        state: &LedMemberState,
    ) -> Result<(), GroupError> {
        let is_same = |other: &LedMemberState| {
            other.instance_id.is_some() && other.instance_id == state.instance_id
        };
        let others = || {
            let others = self.members.iter().filter(|(other, _)| *other != id);
            others.map(|(_, member)| &member.state).filter(|other| !is_same(other))
        };
        let (shared, count) = shared(others());
        let is_of_kind = count == 0 || self.state.protocol_type == protocol_type;
        let has_any = if count == 0 {
            !state.protocols.is_empty()
        } else {
            !shared.is_disjoint(&state.names())
        };
        if is_of_kind && has_any {
            return Ok(());
        }
        Err(nothing_in_common(protocol_type, state, &self.state.protocol_type))
    }

    /// An error if the leader would be told too much of all.
    fn check_room(&self, id: &str, state: &LedMemberState) -> Result<(), GroupError> {
        let others = self.members.iter().filter(|(other, _)| *other != id);
        let bytes: usize = others.map(|(_, member)| member.state.said()).sum();
        match bytes + state.said() {
            0..=MOST_SAID_BY_ALL => Ok(()),
            bytes => Err(GroupError::SaysTooMuch(bytes, MOST_SAID_BY_ALL)),
        }
    }

    /// A member has come under the instance id of another: it takes its place, and that one is out.
    fn replace(&mut self, before: &str, id: &str, now: Duration) {
        let Some(mut member) = self.members.remove(before) else { return };
        let instance = member.state.instance_id.clone().unwrap_or_default();
        self.turn_away(before, member.waits, GroupError::FencedInstance(instance));
        if self.state.leader == before {
            self.state.leader = id.to_owned();
        }
        (member.heard, member.waits) = (now, Waits::Nothing);
        self.members.insert(id.to_owned(), member);
        self.changed.extend([before.to_owned(), id.to_owned()]);
    }

    /// Lets all join.
    pub(super) fn begin(&mut self, now: Duration) {
        let waiting: Vec<String> = self.waiting(Waits::Leader).collect();
        for id in waiting {
            self.answer_sync(&id, Err(GroupError::JoinAgain));
        }
        self.state.is_settled = false;
        self.asks_until = Duration::MAX;
        self.phase = Phase::Joining { since: now, hold: None, until: now + self.patience() };
    }

    /// The first members of a group are waited for a while: so they need not join again for each that starts.
    fn hold_on(&mut self, now: Duration, delay: Duration) {
        let patience = self.patience();
        if let Phase::Joining { since, hold: Some(hold), until } = &mut self.phase {
            *until = *since + patience.max(delay);
            *hold = (*hold).max(now + delay).min(*until);
        }
    }

    fn waiting(&self, waits: Waits) -> impl Iterator<Item = String> {
        let of = self.members.iter().filter(move |(_, member)| member.waits == waits);
        of.map(|(id, _)| id.clone())
    }

    /// How long the slowest may take to join.
    fn patience(&self) -> Duration {
        let each = self.members.values().map(|member| member.state.rebalance_timeout_ms);
        Duration::from_millis(each.max().unwrap_or(0).into()).max(LEAST_PATIENCE)
    }

    fn complete_if_all_joined(&mut self, now: Duration) {
        let Phase::Joining { hold, .. } = self.phase else { return };
        let have_all = self.members.values().all(|member| member.waits == Waits::Others);
        if have_all && hold.is_none_or(|hold| now >= hold) {
            self.complete(now);
        }
    }

    /// Whoever has not joined is out, but for those who come back under their instance ids. The others have a new
    /// generation. Answers who is out.
    fn complete(&mut self, now: Duration) -> Vec<String> {
        let gone = self
            .members
            .iter()
            .filter(|(_, member)| member.waits != Waits::Others && !member.state.is_static());
        let gone: Vec<String> = gone.map(|(id, _)| id.clone()).collect();
        for id in &gone {
            self.members.remove(id);
            self.changed.insert(id.clone());
        }
        let joined: Vec<String> = self.waiting(Waits::Others).collect();
        let Some(first) = joined.first() else {
            // Until the sessions of those end who may come back.
            self.begin(now);
            return gone;
        };
        if !joined.contains(&self.state.leader) {
            self.state.leader = first.clone();
        }
        self.generation += 1;
        self.state.protocol = self.vote();
        self.phase = Phase::Syncing;
        self.asks_until = now + self.patience();
        for (id, member) in &mut self.members {
            (member.state.since, member.state.generation) = (self.generation, self.generation);
            member.has_asked = false;
            member.state.assignment = Bytes::new();
            member.heard = now;
            self.changed.insert(id.clone());
        }
        for id in joined {
            self.tell_joined(&id, false);
        }
        gone
    }

    /// What most members like best of what all know.
    fn vote(&self) -> String {
        let all = || self.members.values().map(|member| &member.state);
        let (shared, _) = shared(all());
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in all() {
            let best = member.protocols.iter().find(|known| shared.contains(&*known.name));
            if let Some(protocol) = best {
                *votes.entry(&protocol.name).or_default() += 1;
            }
        }
        let most = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        most.map_or_else(String::new, |(name, _)| name.to_owned())
    }

    /// A member asks what it is to do; the leader says it of all. It waits until it is told.
    pub fn sync(
        &mut self,
        id: &str,
        generation: i32,
        assignments: Vec<(String, Bytes)>,
        now: Duration,
    ) -> Result<(), GroupError> {
        self.hear(id, generation, now)?;
        match self.phase {
            Phase::Joining { .. } => return Err(GroupError::JoinAgain),
            Phase::Stable => {
                if let Some(member) = self.members.get_mut(id) {
                    member.has_asked = true;
                }
                let assignment = self.members.get(id).map(|m| m.state.assignment.clone());
                self.answer_sync(id, Ok(assignment.unwrap_or_default()));
                return Ok(());
            }
            Phase::Syncing => {}
        }
        if let Some(member) = self.members.get_mut(id) {
            (member.waits, member.has_asked) = (Waits::Leader, true);
        }
        if self.state.leader == id {
            self.settle(assignments);
        }
        Ok(())
    }

    /// The leader has said what each is to do.
    fn settle(&mut self, assignments: Vec<(String, Bytes)>) {
        for (id, assignment) in assignments {
            if let Some(member) = self.members.get_mut(&id) {
                member.state.assignment = assignment;
                self.changed.insert(id);
            }
        }
        self.phase = Phase::Stable;
        self.state.is_settled = true;
        let waiting: Vec<String> = self.waiting(Waits::Leader).collect();
        for id in waiting {
            let assignment = self.members[&id].state.assignment.clone();
            self.answer_sync(&id, Ok(assignment));
        }
    }

    /// A member says that it is there. An error if it is to join again.
    pub fn heartbeat(
        &mut self,
        id: &str,
        generation: i32,
        now: Duration,
    ) -> Result<(), GroupError> {
        self.hear(id, generation, now)?;
        match self.phase {
            Phase::Joining { .. } => Err(GroupError::JoinAgain),
            Phase::Syncing | Phase::Stable => Ok(()),
        }
    }

    fn hear(&mut self, id: &str, generation: i32, now: Duration) -> Result<(), GroupError> {
        self.check_generation(id, generation)?;
        if let Some(member) = self.members.get_mut(id) {
            member.heard = now;
        }
        Ok(())
    }

    /// A member leaves.
    pub fn leave(&mut self, id: &str, now: Duration) -> Result<(), GroupError> {
        let unknown = || GroupError::UnknownMember(id.to_owned());
        let member = self.members.get(id).ok_or_else(unknown)?;
        self.turn_away(id, member.waits, unknown());
        self.remove(id);
        self.go_on(now);
        Ok(())
    }

    fn remove(&mut self, id: &str) {
        self.members.remove(id);
        self.changed.insert(id.to_owned());
    }

    /// Somebody is in the group no more.
    fn go_on(&mut self, now: Duration) {
        match self.phase {
            Phase::Joining { .. } => self.complete_if_all_joined(now),
            Phase::Syncing | Phase::Stable => self.begin(now),
        }
    }

    /// Removes who is silent for too long, or has not done in time what all wait for; goes on when time is up. Answers who
    /// is out, and why.
    pub fn expire(&mut self, now: Duration) -> Vec<(String, &'static str)> {
        let is_silent = |member: &LedMember| member.deadline().is_some_and(|at| now > at);
        let silent = self.members.iter().filter(|(_, member)| is_silent(member));
        let mut gone: Vec<(String, &str)> =
            silent.map(|(id, _)| (id.clone(), "was not heard of")).collect();
        if now > self.asks_until {
            self.asks_until = Duration::MAX;
            let late = self.members.iter().filter(|(_, m)| !m.has_asked && !is_silent(m));
            gone.extend(late.map(|(id, _)| (id.clone(), "did not ask what it is to do")));
        }
        for (id, _) in &gone {
            self.remove(id);
        }
        if !gone.is_empty() {
            self.go_on(now);
        }
        let Phase::Joining { hold, until, .. } = &mut self.phase else { return gone };
        if now > *until {
            let late = self.complete(now).into_iter();
            gone.extend(late.map(|id| (id, "did not join again")));
        } else if hold.is_some_and(|hold| now >= hold) {
            *hold = None;
            self.complete_if_all_joined(now);
        }
        gone
    }

    /// When [`Led::expire`] has something to do at the earliest.
    pub fn next_deadline(&self) -> Option<Duration> {
        let sessions = self.members.values().filter_map(LedMember::deadline);
        let of_phase = match self.phase {
            Phase::Joining { hold, until, .. } => hold.unwrap_or(until).min(until),
            Phase::Syncing | Phase::Stable => self.asks_until,
        };
        sessions.chain([of_phase]).filter(|at| *at < Duration::MAX).min()
    }
}

/// Why members of this kind do not take one.
pub(super) fn nothing_in_common(
    protocol_type: &str,
    state: &LedMemberState,
    kind: &str,
) -> GroupError {
    let said = format!("'{protocol_type}' with {:?}", state.names());
    GroupError::NothingInCommon { said, kind: kind.to_owned() }
}

/// What all of these members know, and how many they are.
pub(super) fn shared<'a>(
    members: impl Iterator<Item = &'a LedMemberState>,
) -> (BTreeSet<&'a str>, usize) {
    let (mut known, mut count) = (BTreeMap::new(), 0);
    for member in members {
        count += 1;
        for name in member.names() {
            *known.entry(name).or_insert(0) += 1;
        }
    }
    (known.into_iter().filter(|(_, knows)| *knows == count).map(|(name, _)| name).collect(), count)
}
