//! Members of groups that are led, who wait for the others or for their leader.

use std::collections::BTreeMap;

use bytes::Bytes;
use mk_net::fault::Fault;

use super::error::GroupError;
use super::led::{Joined, Told};
use super::serve::refused;
use crate::broker::reply::{Kept, Reply};
use crate::broker::shared::Shared;

/// A group, and a member of it.
pub type Place = (String, String);

/// How those are answered who wait.
#[derive(Debug, Default)]
pub struct Rounds {
    joins: BTreeMap<Place, Reply<Joined>>,
    syncs: BTreeMap<Place, Reply<Bytes>>,
}

impl Rounds {
    /// A member has joined, and waits. If it does so already it has given that up: it is to join again there.
    pub fn joins(&mut self, place: Place, reply: Reply<Joined>, shared: &Shared) {
        if let Some(earlier) = self.joins.insert(place, reply) {
            earlier.send(shared, Err(refused(&GroupError::JoinAgain)));
        }
    }

    /// A member waits for what its leader says; likewise.
    pub fn syncs(&mut self, place: Place, reply: Reply<Bytes>, shared: &Shared) {
        if let Some(earlier) = self.syncs.insert(place, reply) {
            earlier.send(shared, Err(refused(&GroupError::JoinAgain)));
        }
    }

    /// Answers a member: what holds when it is committed with `answers`, an error at once.
    pub fn tell(&mut self, group: String, told: Told, shared: &Shared, answers: &mut Vec<Kept>) {
        match told {
            Told::Joined(member, answer) => {
                let reply = self.joins.remove(&(group, member));
                answers.extend(reply.and_then(|reply| keep(reply, answer, shared)));
            }
            Told::Synced(member, answer) => {
                let reply = self.syncs.remove(&(group, member));
                answers.extend(reply.and_then(|reply| keep(reply, answer, shared)));
            }
        }
    }

    /// Answers all with an error.
    pub fn turn_away(&mut self, shared: &Shared, fault: &Fault) {
        for reply in std::mem::take(&mut self.joins).into_values() {
            reply.send(shared, Err(fault.clone()));
        }
        for reply in std::mem::take(&mut self.syncs).into_values() {
            reply.send(shared, Err(fault.clone()));
        }
    }
}

fn keep<A: Send + 'static>(
    reply: Reply<A>,
    answer: Result<A, GroupError>,
    shared: &Shared,
) -> Option<Kept> {
    match answer {
        Ok(answer) => return Some(reply.keep(answer)),
        Err(error) => reply.send(shared, Err(refused(&error))),
    }
    None
}
