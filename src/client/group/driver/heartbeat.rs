//! What is said to the coordinator, and what follows from its answers.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mk_net::fault::ErrorCode;
use mk_net::message::{GroupHeartbeat, GroupHeartbeatResponse, MemberProfile, TopicPartitions};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::{Driver, Event, PartitionId};
use crate::client::backoff::Backoff;
use crate::client::error::ClientError;
use crate::client::group::membership::Says;
use crate::client::group::settings::{Acknowledge, GroupSettings};

impl Driver {
    /// Says what is to be said to the coordinator.
    pub(super) fn speak(&mut self, under_way: &mut JoinSet<Event>) {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        while let Some(says) = self.membership.next() {
            let request = self.heartbeat(says);
            let (coordination, generation) = (self.coordination.clone(), self.generation);
            let wait = self.interval;
            under_way.spawn(async move {
                let sent = Instant::now();
                let result = coordination.ask(&request, wait).await;
                Event::Beat { generation, sent, result }
            });
        }
    }

    fn heartbeat(&self, says: Says<PartitionId>) -> GroupHeartbeat {
        let GroupSettings { instance_id, assignor, rebalance_timeout, consumer, .. } =
            &self.settings;
        let profile = says.whole.then(|| MemberProfile {
            instance_id: instance_id.clone(),
            client_id: self.cluster.settings().client_id.clone(),
            rack: consumer.rack.clone(),
            rebalance_timeout_ms: rebalance_timeout.as_millis() as u32,
            topics: self.topics.clone(),
            assignor: assignor.clone(),
        });
        let owned = says.owned.map(|owned| self.by_topic(owned));
        let paused = self.by_topic(self.ledger.lock().paused());
        GroupHeartbeat {
            group: self.settings.group.clone(),
            member: self.member.clone(),
            epoch: says.epoch,
            profile,
            owned,
            seen: says.seen,
            beat: says.beat,
            max_wait_ms: self.interval.as_millis() as u32,
            polled_ms: self.last_poll.age().as_millis() as u64,
            paused,
        }
    }

    /// Partitions as they are told to the coordinator.
    fn by_topic(&self, ids: impl IntoIterator<Item = PartitionId>) -> Vec<TopicPartitions> {
        let mut topics: Vec<TopicPartitions> = Vec::new();
        for (topic_id, partition) in ids {
            match topics.last_mut().filter(|last| last.topic_id == topic_id) {
                Some(last) => last.partitions.push(partition),
                None => {
                    let topic = self.names.get(&topic_id).map(|name| name.to_string());
                    let topic = topic.unwrap_or_default();
                    topics.push(TopicPartitions { topic_id, topic, partitions: vec![partition] });
                }
            }
        }
        topics
    }

    pub(super) fn heard(
        &mut self,
        sent: Instant,
        result: Result<GroupHeartbeatResponse, ClientError>,
    ) -> Result<(), ClientError> {
        let answer = match result {
            Ok(answer) => answer,
            Err(error) => return self.refused(error),
        };
        self.backoff = Backoff::new(self.cluster.seed());
        self.refused_since = None;
        self.heard = self.heard.max(sent);
        self.interval = Duration::from_millis(answer.heartbeat_interval_ms.into());
        self.session_timeout = Duration::from_millis(answer.session_timeout_ms.into());
        let assigned = answer.assignment.map(|assignment| {
            let topics = assignment.topics.into_iter();
            let mut partitions = BTreeSet::new();
            for TopicPartitions { topic_id, topic, partitions: numbers } in topics {
                self.names.insert(topic_id, topic.into());
                partitions.extend(numbers.into_iter().map(|number| (topic_id, number)));
            }
            (assignment.count, partitions)
        });
        self.membership.answered(answer.epoch, assigned);
        Ok(())
    }

    fn refused(&mut self, error: ClientError) -> Result<(), ClientError> {
        match error.code() {
            Some(ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_MEMBER_EPOCH) => {
                warn!(group = self.settings.group, %error, "joining anew");
                self.expelled();
                self.try_again(&error);
                Ok(())
            }
            // It ends when its predecessor's session does; or there are two that live.
            Some(ErrorCode::UNRELEASED_INSTANCE_ID) => {
                let since = *self.refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() > 2 * self.session_timeout {
                    return Err(error);
                }
                self.try_again(&error);
                Ok(())
            }
            _ if error.is_retriable() => {
                self.try_again(&error);
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Says all anew in a moment.
    fn try_again(&mut self, error: &ClientError) {
        debug!(group = self.settings.group, %error, "trying again");
        self.membership.disconnected();
        self.generation += 1;
        self.retry_at = Some(Instant::now() + self.backoff.failed());
    }

    /// Others may read by now what it has read.
    pub(super) fn expelled(&mut self) {
        self.generation += 1;
        self.leaving.clear();
        self.taking.clear();
        for id in self.membership.expelled() {
            let Some(name) = self.names.get(&id.0) else { continue };
            let key = (name.clone(), id.1);
            let mut ledger = self.ledger.lock();
            // What was to be committed before it is handed out is not handed out.
            let was_handed_out = self.settings.acknowledge != Acknowledge::BeforeDelivery;
            self.has_lost |= was_handed_out && ledger.is_due(&key);
            ledger.end(&key);
            drop(ledger);
            let _ = self.steering.end(key);
        }
    }
}
