//! The groups of a partition that this broker leads, and its log.

use std::collections::BTreeSet;
use std::sync::Arc;

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{GroupHeartbeat, GroupHeartbeatResponse};
use mk_storage::batch::CheckedBatch;
use regex::bytes::Regex;
use uuid::Uuid;

use super::group::{Answer, GroupLimits, KnownTopics, Now, Topics};
use super::member::JOIN;
use super::rounds::Rounds;
use super::serve::{self, Rhythm};
use super::shard::Shard;
use super::{OFFSETS_TOPIC, journal, refuse_internal};
use crate::broker::note::Note;
use crate::broker::partition::Partition;
use crate::broker::produce::Uncommitted;
use crate::broker::promise::Promise;
use crate::broker::reply::{Kept, Reply};
use crate::broker::shared::{Shared, replica_of};
use crate::zoo::state::LeaderEpoch;

/// A partition that this broker leads, with its groups.
pub struct Held {
    /// The partition of the offsets topic.
    pub partition: Arc<Partition>,
    /// What it knows holds in this epoch only.
    pub epoch: LeaderEpoch,
    /// The groups.
    pub shard: Shard<Reply<GroupHeartbeatResponse>>,
    /// Members of groups that are led, who wait.
    pub rounds: Rounds,
    /// What is to be answered once all that was done is committed.
    pub answers: Vec<Kept>,
}

/// What became of a heartbeat.
pub enum Heard {
    /// What is to be answered, at once if it is news.
    Now(Answer),
    /// A later one has come before it; that one may wait on.
    Overtaken(Answer),
}

impl Held {
    /// One whose groups were read from its log.
    pub fn new(
        partition: Arc<Partition>,
        epoch: LeaderEpoch,
        shard: Shard<Reply<GroupHeartbeatResponse>>,
    ) -> Held {
        Held { partition, epoch, shard, rounds: Rounds::default(), answers: Vec::new() }
    }

    /// True if this broker leads it still, since that time.
    pub fn leads(&self) -> bool {
        self.partition.replica().is_ok_and(|replica| replica.leads_in(self.epoch))
            && !self.partition.is_deleted()
    }

    /// An error if what is to be written down cannot be: better to refuse one request than to forget what
    /// is known, and to read it anew.
    pub fn require_enough(&self) -> Result<(), Fault> {
        match replica_of(&self.partition)?.in_sync() {
            Some((in_sync, needed)) if in_sync < needed => {
                let what = format!(
                    "{in_sync} replicas of the offsets topic are in sync, min.insync.replicas is {needed}"
                );
                Err(Fault::new(ErrorCode::NOT_ENOUGH_REPLICAS, what))
            }
            _ => Ok(()),
        }
    }

    /// Lets nothing change while that cannot be written down.
    pub fn freeze(&mut self) {
        let is_frozen = self.require_enough().is_err();
        self.shard.freeze(is_frozen);
    }

    /// A member says that it is there.
    pub fn hear(
        &mut self,
        request: GroupHeartbeat,
        host: String,
        now: Now,
        topics: Topics<'_>,
        (limits, rhythm): (&GroupLimits, Rhythm),
    ) -> Result<Heard, Fault> {
        let (group, member) = (request.group.clone(), request.member.clone());
        let said = request.epoch;
        if said == JOIN {
            self.require_enough()?;
        }
        let epoch_of = |shard: &Shard<_>| {
            let known = shard.group(&group).and_then(|group| group.members().get(&member));
            known.map_or(said, |member| member.state.epoch)
        };
        let known = self.shard.group(&group);
        if known.is_some_and(|known| !known.is_newest(&member, request.beat)) {
            let answer = Answer { epoch: epoch_of(&self.shard), assigned: None };
            return Ok(Heard::Overtaken(answer));
        }
        let heartbeat = serve::heartbeat(request, host)?;
        if let Some(earlier) = self.shard.take_waiting(&group, &member) {
            let answer = Answer { epoch: epoch_of(&self.shard), assigned: None };
            self.answer(earlier, answer, &group, rhythm);
        }
        let answer = self.shard.group_mut(&group).heartbeat(heartbeat, now, topics, limits);
        answer.map(Heard::Now).map_err(|error| serve::refused(&error))
    }

    /// Answers a member when what was done is committed.
    pub fn answer(
        &mut self,
        reply: Reply<GroupHeartbeatResponse>,
        answer: Answer,
        group: &str,
        rhythm: Rhythm,
    ) {
        let answer = serve::answer_of(self.shard.group(group), answer, rhythm);
        self.answers.push(reply.keep(answer));
    }

    /// Tells those who wait in groups that are led what has come of it.
    pub fn tell_led(&mut self, shared: &Shared) {
        for (group, told) in self.shard.told_led() {
            self.rounds.tell(group, told, shared, &mut self.answers);
        }
    }

    /// Nobody waits any more, and nothing that was done is known to hold.
    pub fn turn_away(mut self, shared: &Shared, fault: &Fault) {
        for reply in self.shard.take_all() {
            reply.send(shared, Err(fault.clone()));
        }
        self.rounds.turn_away(shared, fault);
        for answer in self.answers {
            answer.send(shared, Err(fault.clone()));
        }
    }

    /// Appends what has changed, and hands the answers to the event loops.
    pub fn write(&mut self, shared: &Arc<Shared>, now_ms: i64) -> Result<(), Fault> {
        let changes = self.shard.take_changes();
        if changes.is_empty() && self.answers.is_empty() {
            return Ok(());
        }
        let replica = replica_of(&self.partition)?;
        let settings = shared.topic(OFFSETS_TOPIC)?.effective();
        let unwritten = |error: String| Fault::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, error);
        let most = settings.max_message_bytes;
        let batches = journal::batches(&changes, most, now_ms);
        for bytes in batches.map_err(|error| unwritten(error.to_string()))? {
            let batch =
                CheckedBatch::check(&bytes, most).map_err(|error| unwritten(error.to_string()))?;
            let appended = replica.append_in(self.epoch, &batch, now_ms);
            let appended = appended.map_err(|error| unwritten(error.to_string()))?;
            shared.appended(&self.partition, settings.flush, appended.rolled);
        }
        // All that was done before is committed when this is.
        let end = replica.log().end();
        for answer in self.answers.drain(..) {
            let (partition, epoch) = (self.partition.clone(), self.epoch);
            let uncommitted = Uncommitted { partition, end, epoch };
            let index = answer.index();
            let promise = Box::new(Promise { answer, uncommitted });
            shared.mailboxes[index].send(Note::Promise(promise));
        }
        Ok(())
    }
}

/// The topics as the broker knows them.
pub struct TopicsOf<'a>(pub &'a Shared);

impl KnownTopics for TopicsOf<'_> {
    fn find(&self, name: &str) -> Option<(Uuid, u32)> {
        let state = self.0.cluster.state();
        state.topics.get(name).map(|topic| (topic.id, topic.partitions.len() as u32))
    }

    fn matching(&self, pattern: &Regex) -> BTreeSet<String> {
        // With the state let go: a pattern may take its time.
        let names: Vec<String> = self.0.cluster.state().topics.keys().cloned().collect();
        let mut names = names.into_iter().collect::<BTreeSet<String>>();
        names.retain(|name| refuse_internal(name).is_ok() && pattern.is_match(name.as_bytes()));
        names
    }

    fn racks(&self, name: &str) -> Vec<BTreeSet<String>> {
        let state = self.0.cluster.state();
        let rack = |id: &u32| state.brokers.get(id)?.rack.clone();
        let partitions = state.topics.get(name).map_or(&[][..], |topic| &topic.partitions);
        partitions.iter().map(|at| at.target().iter().filter_map(rack).collect()).collect()
    }
}
