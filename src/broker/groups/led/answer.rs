//! What members of a group that is led are answered.

use bytes::Bytes;

use super::{Led, Waits};
use crate::broker::groups::error::GroupError;

/// A member that has waited is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// One that has joined.
    Joined(String, Result<Joined, GroupError>),
    /// One that has asked what it is to do.
    Synced(String, Result<Bytes, GroupError>),
}

/// What a member is told that has joined a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Joined {
    /// Its generation.
    pub generation: i32,
    /// What it goes by.
    pub protocol: String,
    /// The id of the leader; empty: no member leads, the brokers do.
    pub leader: String,
    /// True if it leads and has nothing to give out: all know what they are to do (KIP-814).
    pub skips_assignment: bool,
    /// If it leads, all members.
    pub members: Vec<JoinedMember>,
}

/// What the leader is told of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member: String,
    /// Its instance id, if it has one.
    pub instance_id: Option<String>,
    /// What it says to the leader.
    pub metadata: Bytes,
}

impl Led {
    /// Tells a member that has joined what has come of it.
    pub(super) fn tell_joined(&mut self, id: &str, skips_assignment: bool) {
        let leads = self.state.leader == id;
        let joined = Joined {
            generation: self.generation,
            protocol: self.state.protocol.clone(),
            leader: self.state.leader.clone(),
            skips_assignment: skips_assignment && leads,
            members: if leads { self.all() } else { Vec::new() },
        };
        self.answer_join(id, Ok(joined));
    }

    /// Tells the one that has come in the place of the leader, while all know what they are to do, that another leads:
    /// an older client that leads gives out work in any case, and nobody would wait for it.
    pub(super) fn tell_follower(&mut self, id: &str, leader: &str) {
        let joined = Joined {
            generation: self.generation,
            protocol: self.state.protocol.clone(),
            leader: leader.to_owned(),
            ..Joined::default()
        };
        self.answer_join(id, Ok(joined));
    }

    pub(super) fn answer_join(&mut self, id: &str, answer: Result<Joined, GroupError>) {
        self.told.push(Told::Joined(id.to_owned(), answer));
        self.waits_no_more(id);
    }

    pub(super) fn answer_sync(&mut self, id: &str, answer: Result<Bytes, GroupError>) {
        self.told.push(Told::Synced(id.to_owned(), answer));
        self.waits_no_more(id);
    }

    fn waits_no_more(&mut self, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.waits = Waits::Nothing;
        }
    }

    /// Answers a member that waits, for it is in the group no more, or another has its place.
    pub(super) fn turn_away(&mut self, id: &str, waits: Waits, error: GroupError) {
        match waits {
            Waits::Nothing => {}
            Waits::Others => self.answer_join(id, Err(error)),
            Waits::Leader => self.answer_sync(id, Err(error)),
        }
    }

    fn all(&self) -> Vec<JoinedMember> {
        let each = self.members.iter().map(|(id, member)| JoinedMember {
            member: id.clone(),
            instance_id: member.state.instance_id.clone(),
            metadata: member.state.metadata(&self.state.protocol),
        });
        each.collect()
    }
}
