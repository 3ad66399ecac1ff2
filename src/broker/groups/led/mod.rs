//! A group that one of its members leads, as Kafka's were before KIP-848, and as those of Kafka Connect, of Kafka
//! Streams and of consumers with assignors of their own still are. The brokers do not know what the members do: all
//! join, one of them says what each is to do, and whenever one comes or goes all join again.
//!
//! Pure: the time comes in, answers and changes for the log go out. That all is written down before anybody is
//! answered makes a coordinator that comes after this one know each generation that was told.

mod answer;
pub mod group;
mod member;
#[cfg(test)]
mod model;
mod round;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use answer::{Joined, Told};
pub use member::{LedMember, LedMemberState, Protocol, Waits};
pub use round::LedJoin;

use super::group::GroupError;

/// What all members have in common, as the log has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedState {
    /// What kind of members it has: `consumer`, `connect`.
    pub protocol_type: String,
    /// What they go by in this generation; empty: it has none yet.
    pub protocol: String,
    /// The id of its leader.
    pub leader: String,
    /// True if all know what they are to do. If not, whoever coordinates the group next lets all join again.
    pub is_settled: bool,
}

/// What a group is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its members join. That is over when all have, but not before `hold`, if that is set; at `until` whoever has not is out.
    Joining {
        /// When it began.
        since: Duration,
        /// Not before.
        hold: Option<Duration>,
        /// Then at most.
        until: Duration,
    },
    /// The leader is to say what each is to do.
    Syncing,
    /// All know what they are to do.
    Stable,
}

/// A group that is led. One without members is none.
#[derive(Debug)]
pub struct Led {
    generation: i32,
    state: LedState,
    phase: Phase,
    /// Whoever has not asked until then what it is to do is out: nobody does its work.
    asks_until: Duration,
    members: BTreeMap<String, LedMember>,
    told: Vec<Told>,
    /// Members that have changed, or are no more, and are to be written down.
    changed: BTreeSet<String>,
}

impl Led {
    /// One that nobody has joined, behind such a generation. Its first members are waited for so long.
    pub fn new(generation: i32, protocol_type: &str, now: Duration, delay: Duration) -> Led {
        let state = LedState { protocol_type: protocol_type.to_owned(), ..LedState::default() };
        let hold = Some(now + delay);
        Led {
            generation,
            state,
            phase: Phase::Joining { since: now, hold, until: Duration::MAX },
            asks_until: Duration::MAX,
            members: BTreeMap::new(),
            told: Vec::new(),
            changed: BTreeSet::new(),
        }
    }

    /// As the log has it.
    pub fn load(
        generation: i32,
        state: LedState,
        members: BTreeMap<String, LedMemberState>,
        now: Duration,
    ) -> Led {
        // Of what was written down for the next generation only a part is there.
        let newest = members.values().map(|member| member.generation).max().unwrap_or(0);
        let is_whole = newest <= generation;
        let members = members.into_iter().map(|(id, state)| (id, LedMember::new(state, now)));
        let mut led = Led {
            generation: generation.max(newest),
            state,
            phase: Phase::Stable,
            asks_until: Duration::MAX,
            members: members.collect(),
            told: Vec::new(),
            changed: BTreeSet::new(),
        };
        if !led.state.is_settled || !is_whole {
            led.begin(now);
        }
        led
    }

    /// One whose members the brokers have told what to read, until now: all are to join.
    pub fn take_over(
        generation: i32,
        protocol_type: &str,
        members: BTreeMap<String, LedMemberState>,
        now: Duration,
    ) -> Led {
        let changed = members.keys().cloned().collect();
        let state = LedState { protocol_type: protocol_type.to_owned(), ..LedState::default() };
        Led { changed, ..Led::load(generation, state, members, now) }
    }

    /// Its generation.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// What its members have in common.
    pub fn state(&self) -> &LedState {
        &self.state
    }

    /// Its members.
    pub fn members(&self) -> &BTreeMap<String, LedMember> {
        &self.members
    }

    /// What it is about, by the name that Kafka has for it.
    pub fn phase_name(&self) -> &'static str {
        match self.phase {
            Phase::Joining { .. } => "PreparingRebalance",
            Phase::Syncing => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }

    /// The id of the member that has an instance id.
    pub fn member_of_instance(&self, instance: &str) -> Option<String> {
        let has_it = |member: &LedMember| member.state.instance_id.as_deref() == Some(instance);
        self.members.iter().find(|(_, member)| has_it(member)).map(|(id, _)| id.clone())
    }

    /// Members that were to be answered, and how.
    pub fn take_told(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.told)
    }

    /// Members that are to be written down; no state: they are no more.
    pub fn take_changed(&mut self) -> Vec<(String, Option<LedMemberState>)> {
        let changed = std::mem::take(&mut self.changed).into_iter();
        changed.map(|id| (id.clone(), self.members.get(&id).map(|m| m.state.clone()))).collect()
    }

    /// An error if who commits is no member, or one of an earlier generation.
    pub fn check_commit(&self, id: &str, generation: i32) -> Result<(), GroupError> {
        self.check_generation(id, generation)?;
        match self.phase {
            // It does not know yet what it is to do: what it has done was of another generation.
            Phase::Syncing => Err(GroupError::JoinAgain),
            Phase::Joining { .. } | Phase::Stable => Ok(()),
        }
    }

    /// An error if who asks what it is to do is no member, is to join again, or takes the group for another than it is.
    pub fn check_sync(
        &self,
        id: &str,
        generation: i32,
        (kind, protocol): &(Option<String>, Option<String>),
    ) -> Result<(), GroupError> {
        self.check_generation(id, generation)?;
        if matches!(self.phase, Phase::Joining { .. }) {
            return Err(GroupError::JoinAgain);
        }
        let is_same = |said: &Option<String>, own: &str| said.as_deref().is_none_or(|s| s == own);
        let LedState { protocol_type: own, protocol: goes_by, .. } = &self.state;
        if is_same(kind, own) && is_same(protocol, goes_by) {
            return Ok(());
        }
        let said = format!("'{}'", kind.as_deref().unwrap_or_default());
        Err(GroupError::NothingInCommon { said, kind: own.clone() })
    }

    fn check_generation(&self, id: &str, generation: i32) -> Result<(), GroupError> {
        let unknown = || GroupError::UnknownMember(id.to_owned());
        let state = &self.members.get(id).ok_or_else(unknown)?.state;
        if (state.since..=state.generation).contains(&generation) {
            return Ok(());
        }
        Err(GroupError::OldGeneration { said: generation, actual: state.generation })
    }
}
