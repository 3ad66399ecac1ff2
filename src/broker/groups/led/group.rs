//! A group comes to be led by one of its members, and hands them on what they ask.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::round::{nothing_in_common, shared};
use super::{Led, LedJoin, LedMemberState, Protocol};
use crate::broker::groups::error::GroupError;
use crate::broker::groups::group::{Group, GroupLimits, Now};
use crate::broker::groups::member::Member;
use crate::broker::groups::record::{Change, GroupState};

impl Group {
    /// A member joins a group that one of its members leads, or is to lead from now on.
    pub fn led_join(
        &mut self,
        join: LedJoin,
        now: Now,
        limits: &GroupLimits,
    ) -> Result<(), GroupError> {
        if !self.members().is_empty() {
            self.let_members_lead(&join, now, limits)?;
        }
        if self.led.is_none() {
            let delay = limits.initial_delay;
            let led = Led::new(self.epoch(), &join.protocol_type, now.since_start, delay);
            self.led = Some(led);
        }
        self.with_led(now, |led| led.join(join, now.since_start, limits))
    }

    /// Members of the classic protocol whom the brokers have told what to read are to do it by themselves: one has come
    /// whose assignor no broker knows, and which all of them know.
    fn let_members_lead(
        &mut self,
        join: &LedJoin,
        now: Now,
        limits: &GroupLimits,
    ) -> Result<(), GroupError> {
        let is_new = !self.members().contains_key(&join.member);
        if is_new && self.member_count() >= limits.most_members {
            return Err(GroupError::Full(limits.most_members));
        }
        let members: Option<BTreeMap<String, LedMemberState>> =
            self.members().iter().map(|(id, member)| Some((id.clone(), led_of(member)?))).collect();
        let members = members.filter(|members| {
            let (shared, _) = shared(members.values());
            join.protocol_type == CONSUMER && !shared.is_disjoint(&join.state.names())
        });
        let Some(members) = members else {
            return Err(nothing_in_common(&join.protocol_type, &join.state, CONSUMER));
        };
        let epoch = self.epoch();
        self.forget_members();
        self.led = Some(Led::take_over(epoch, CONSUMER, members, now.since_start));
        Ok(())
    }

    /// Does something with a group that is led, and takes over what has come of it.
    pub(in crate::broker::groups) fn with_led<T>(
        &mut self,
        now: Now,
        work: impl FnOnce(&mut Led) -> Result<T, GroupError>,
    ) -> Result<T, GroupError> {
        let Some(led) = &mut self.led else { return Err(GroupError::NotLed) };
        let result = work(led);
        self.told.extend(led.take_told());
        let of_members = led
            .take_changed()
            .into_iter()
            .map(|(id, state)| Change::LedMember(self.name.clone(), id, state.map(Box::new)));
        self.changes.extend(of_members);
        let has_members = !led.members().is_empty();
        if !has_members && led.generation() == 0 {
            // It never had a generation, and is as if it had not been.
            self.led = None;
            if std::mem::take(&mut self.state).led.is_some() {
                self.changes.push(Change::Group(self.name.clone(), None));
            }
            return result;
        }
        let state = GroupState {
            epoch: led.generation(),
            emptied_ms: if has_members { 0 } else { now.ms },
            led: has_members.then(|| led.state().clone()),
        };
        if !has_members {
            self.led = None;
        }
        self.over = self.over && !has_members;
        if self.state != state && (has_members || self.state.led.is_some()) {
            self.state = state;
            self.changes.push(Change::Group(self.name.clone(), Some(self.state.clone())));
        }
        result
    }
}

/// The only type of members that the brokers tell what to read.
pub const CONSUMER: &str = "consumer";

/// A member that was told by the brokers what to read, as one that is led; none if it does not speak the classic
/// protocol. Under its instance id it is looked for when it has joined: what it says to a leader is not known.
fn led_of(member: &Member) -> Option<LedMemberState> {
    let profile = &member.state.profile;
    let classic = profile.classic.as_ref()?;
    let protocol = |name: &String| Protocol { name: name.clone(), metadata: Bytes::new() };
    Some(LedMemberState {
        instance_id: None,
        client_id: profile.client_id.clone(),
        client_host: profile.client_host.clone(),
        session_timeout_ms: classic.session_timeout_ms,
        rebalance_timeout_ms: profile.rebalance_timeout_ms,
        protocols: classic.protocols.iter().map(protocol).collect(),
        generation: member.state.epoch,
        since: member.told.epoch.max(1),
        assignment: Bytes::new(),
    })
}
