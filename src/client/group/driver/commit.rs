//! Commits what is done, and lets be handed out what had to be committed first.

use std::time::Instant;

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{CommitOffsets, CommitOffsetsResponse, CommitPart, PartitionOf};
use tokio::task::JoinSet;
use tracing::warn;

use super::{Answer, Driver, Event};
use crate::client::error::ClientError;
use crate::client::group::ledger::Due;

impl Driver {
    /// Commits what is due, unless a commit is under way: then behind it.
    pub(super) fn commit(&mut self, under_way: &mut JoinSet<Event>) {
        if self.is_committing {
            return;
        }
        let dues = self.ledger.lock().due();
        let waiting = std::mem::take(&mut self.waiters[1]);
        if dues.is_empty() {
            self.answer(waiting, &Ok(()));
            self.hand_out(&Ok(()));
            return;
        }
        self.waiters[0] = waiting;
        self.is_committing = true;
        let (coordination, request) = (self.coordination.clone(), self.commit_of(&dues));
        under_way.spawn(async move {
            let result = coordination.insist(&request).await;
            Event::Committed { dues, result }
        });
    }

    /// Lets be handed out what is committed; what is refused, or has gone, is not. What is neither waits for
    /// the next commit, unless this one has failed.
    fn hand_out(&mut self, result: &Result<(), ClientError>) {
        let ledger = self.ledger.lock();
        for (assigned, next, answer) in std::mem::take(&mut self.to_hand_out) {
            let (key, assignment) = &assigned;
            if ledger.is_committed(key, *assignment, next) {
                let _ = answer.send(Ok(true));
            } else if !ledger.is_due(key) {
                let _ = answer.send(Ok(false));
            } else if let Err(error) = result {
                let _ = answer.send(Err(error.clone()));
            } else {
                self.to_hand_out.push((assigned, next, answer));
            }
        }
    }

    /// Tells those who wait what has become of all that is done.
    fn answer(&mut self, waiting: Vec<Answer>, result: &Result<(), ClientError>) {
        for answer in waiting {
            let _ = answer.send(result.clone().and_then(|()| self.tell_lost()));
        }
    }

    /// An error, once, if something that was done will never be committed.
    pub(super) fn tell_lost(&mut self) -> Result<(), ClientError> {
        if !std::mem::take(&mut self.has_lost) {
            return Ok(());
        }
        let what =
            "the member's session ended before all that was done was committed: that is read again";
        Err(Fault::new(ErrorCode::UNKNOWN_MEMBER_ID, what).into())
    }

    /// A commit has come to its end.
    pub(super) fn settle(
        &mut self,
        dues: &[Due],
        result: Result<CommitOffsetsResponse, ClientError>,
        under_way: &mut JoinSet<Event>,
    ) {
        self.is_committing = false;
        let result = self.committed(dues, result);
        if result.is_err() {
            let interval = self.settings.commit_interval;
            self.commit_at.get_or_insert_with(|| Instant::now() + interval);
        }
        self.hand_out(&result);
        let waiting = std::mem::take(&mut self.waiters[0]);
        self.answer(waiting, &result);
        if !self.waiters[1].is_empty() || !self.to_hand_out.is_empty() {
            self.commit(under_way);
        }
    }

    /// What is due, as it is told to the coordinator.
    pub(super) fn commit_of(&mut self, dues: &[Due]) -> CommitOffsets {
        let parts = dues.iter().map(|due| CommitPart {
            partition: PartitionOf { topic: due.key.0.to_string(), partition: due.key.1 },
            topic_id: due.topic_id,
            offset: due.offset,
            leader_epoch: due.epoch,
            metadata: String::new(),
        });
        self.commits += 1;
        CommitOffsets {
            group: self.settings.group.clone(),
            member: self.member.clone(),
            epoch: self.membership.epoch(),
            number: self.commits,
            parts: parts.collect(),
        }
    }

    /// Takes note of what the coordinator says of a commit.
    pub(super) fn committed(
        &mut self,
        dues: &[Due],
        result: Result<CommitOffsetsResponse, ClientError>,
    ) -> Result<(), ClientError> {
        let parts = result?.parts;
        let mut outcome = Ok(());
        let mut ledger = self.ledger.lock();
        for (due, part) in dues.iter().zip(parts) {
            let taken = part.is_ok();
            if let Err(fault) = part {
                let (topic, partition) = (&due.key.0, due.key.1);
                warn!(%topic, partition, offset = due.offset, %fault, "not committed");
                outcome = Err(ClientError::Broker(fault));
            }
            ledger.settled(due, taken);
        }
        outcome
    }
}
