//! Keeps a membership alive: heartbeats, partitions that come and go, commits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    CommitOffsets, CommitOffsetsResponse, CommitPart, FetchOffsets, GroupHeartbeat,
    GroupHeartbeatResponse, LeaveGroup, MemberProfile, PartitionOf, TopicPartitions,
};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::coordination::Coordination;
use super::last_poll::LastPoll;
use super::ledger::{Due, Ledger};
use super::membership::{Membership, Says};
use super::settings::GroupSettings;
use crate::client::backoff::{Backoff, sleep_until};
use crate::client::cluster::{Cluster, PartitionKey};
use crate::client::consumer::{OffsetReset, StartAt, Steering, find_starts};
use crate::client::error::ClientError;
use crate::clock::now_ms;

/// What the program's side tells the driver.
#[derive(Debug)]
pub enum Word {
    /// Something is done.
    Done,
    /// All that is done is to be committed now.
    Commit(oneshot::Sender<Result<(), ClientError>>),
    /// An assigned partition is done up to `next`, and that is to be committed before any of it is handed
    /// out: false if it is another's by now.
    CommitOne { assigned: (PartitionKey, u64), next: u64, answer: Handed },
    /// It is to commit and leave.
    Close(oneshot::Sender<Result<(), ClientError>>),
}

/// Who waits whether something may be handed out.
type Handed = oneshot::Sender<Result<bool, ClientError>>;

/// A topic's id and a partition's number.
type PartitionId = (Uuid, u32);

/// What has come to its end.
enum Event {
    Beat {
        generation: u64,
        sent: Instant,
        result: Result<GroupHeartbeatResponse, ClientError>,
    },
    /// Where the group is in partitions, each with the number of its lookup.
    Found {
        taking: Vec<(PartitionId, u64)>,
        result: Result<Vec<Begin>, ClientError>,
    },
    Committed {
        dues: Vec<Due>,
        result: Result<CommitOffsetsResponse, ClientError>,
    },
}

/// Where a partition is to be read from.
struct Begin {
    id: PartitionId,
    key: PartitionKey,
    /// The offset, and whether the group has committed it; none: it is not known yet.
    offset: Option<(u64, bool)>,
    epoch: i32,
}

type Answer = oneshot::Sender<Result<(), ClientError>>;

/// So long a member that was not told otherwise may be silent.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
/// So often a member that was not told otherwise is heard of.
const INTERVAL: Duration = Duration::from_secs(2);
/// So long before others would begin with it a member lets go of what it is not done with.
const MARGIN: u32 = 5;
/// So long it tries to say that it leaves; else the group finds out when the session ends.
const LEAVE_PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Driver {
    cluster: Cluster,
    settings: GroupSettings,
    topics: Vec<String>,
    steering: Steering,
    ledger: Arc<Mutex<Ledger>>,
    last_poll: Arc<LastPoll>,
    fail: mpsc::UnboundedSender<ClientError>,
    coordination: Coordination,
    member: String,
    membership: Membership<PartitionId>,
    names: BTreeMap<Uuid, Arc<str>>,
    interval: Duration,
    session_timeout: Duration,
    /// When the last heartbeat was sent that was answered.
    heard: Instant,
    /// Answers to heartbeats of an earlier one do not count.
    generation: u64,
    backoff: Backoff,
    retry_at: Option<Instant>,
    /// Partitions whose beginning is being looked up, and by which lookup.
    taking: BTreeMap<PartitionId, u64>,
    lookups: u64,
    /// A lookup that failed is not made again before.
    take_backoff: Backoff,
    take_at: Option<Instant>,
    /// Since when partitions are to be given up.
    leaving: BTreeMap<PartitionId, Instant>,
    commit_at: Option<Instant>,
    is_committing: bool,
    /// Who waits for the commit that is under way, and for the one behind it.
    waiters: [Vec<Answer>; 2],
    /// What is to be handed out once it is committed.
    to_hand_out: Vec<((PartitionKey, u64), u64, Handed)>,
    /// Since when another process has the instance id.
    refused_since: Option<Instant>,
}

impl Driver {
    /// A driver of this member.
    pub fn new(
        cluster: Cluster,
        settings: GroupSettings,
        member: String,
        topics: &[&str],
        steering: Steering,
        (ledger, last_poll): (Arc<Mutex<Ledger>>, Arc<LastPoll>),
        fail: mpsc::UnboundedSender<ClientError>,
    ) -> Driver {
        let coordination = Coordination::new(cluster.clone(), &settings.group);
        Driver {
            backoff: Backoff::new(cluster.seed()),
            take_backoff: Backoff::new(cluster.seed()),
            cluster,
            settings,
            topics: topics.iter().map(|topic| topic.to_string()).collect(),
            steering,
            ledger,
            last_poll,
            fail,
            coordination,
            member,
            membership: Membership::default(),
            names: BTreeMap::new(),
            interval: INTERVAL,
            session_timeout: SESSION_TIMEOUT,
            heard: Instant::now(),
            generation: 0,
            retry_at: None,
            taking: BTreeMap::new(),
            lookups: 0,
            take_at: None,
            leaving: BTreeMap::new(),
            commit_at: None,
            is_committing: false,
            waiters: [Vec::new(), Vec::new()],
            to_hand_out: Vec::new(),
            refused_since: None,
        }
    }

    /// Runs until the consumer is gone or has left, or the group does not want it.
    pub async fn run(mut self, mut words: mpsc::UnboundedReceiver<Word>) {
        let mut under_way: JoinSet<Event> = JoinSet::new();
        loop {
            self.speak(&mut under_way);
            self.take_over(&mut under_way);
            self.give_up(&mut under_way);
            let wake_at = self.wake_at();
            tokio::select! {
                word = words.recv() => match word {
                    Some(Word::Close(answer)) => {
                        // Nobody minds who has given up waiting.
                        let _ = answer.send(self.leave(&mut under_way).await);
                        return;
                    }
                    Some(word) => self.obey(word, &mut under_way),
                    None => return,
                },
                Some(event) = under_way.join_next() => {
                    let result = match event {
                        Ok(event) => self.take_in(event, &mut under_way),
                        Err(error) => Err(ClientError::Invalid(format!("a task failed: {error}"))),
                    };
                    if let Err(error) = result {
                        let _ = self.fail.send(error);
                        // What is done is done, and others go on with the rest.
                        let _ = self.leave(&mut under_way).await;
                        return;
                    }
                }
                () = sleep_until(wake_at) => self.keep_time(&mut under_way),
            }
        }
    }

    fn wake_at(&self) -> Option<Instant> {
        let session_end = (self.membership.epoch() > 0).then(|| self.heard + self.session_timeout);
        let patience = self.patience();
        let leaving = self.leaving.values().map(|since| *since + patience);
        let now = Instant::now();
        // What is overdue already waits for its commit.
        let leaving = leaving.filter(|at| *at > now);
        // Behind the commit that is under way.
        let commit_at = self.commit_at.filter(|_| !self.is_committing);
        let times = [self.retry_at, self.take_at, commit_at, session_end];
        times.into_iter().flatten().chain(leaving).min()
    }

    /// So long the program may take with what it has of a partition that goes to another.
    fn patience(&self) -> Duration {
        self.settings.rebalance_timeout - self.settings.rebalance_timeout / MARGIN
    }

    fn keep_time(&mut self, under_way: &mut JoinSet<Event>) {
        let now = Instant::now();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.take_at.is_some_and(|at| at <= now) {
            self.take_at = None;
        }
        if !self.is_committing && self.commit_at.is_some_and(|at| at <= now) {
            self.commit_at = None;
            self.commit(under_way);
        }
        if self.membership.epoch() > 0 && now >= self.heard + self.session_timeout {
            warn!(group = self.settings.group, "no coordinator has answered for a whole session");
            self.expelled();
        }
    }

    /// Says what is to be said to the coordinator.
    fn speak(&mut self, under_way: &mut JoinSet<Event>) {
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

    /// Looks up where partitions begin that are to be read: where the group is, and where it has not been,
    /// each by itself, so that one whose leader is away does not hold up the others.
    fn take_over(&mut self, under_way: &mut JoinSet<Event>) {
        let wanted = self.membership.to_take();
        self.taking.retain(|id, _| wanted.contains(id));
        if self.retry_at.is_some() || self.take_at.is_some() {
            return;
        }
        let fresh = wanted.into_iter().filter(|id| !self.taking.contains_key(id));
        let named = |id: PartitionId| Some((id, (self.names.get(&id.0)?.clone(), id.1)));
        let keys: Vec<(PartitionId, PartitionKey)> = fresh.filter_map(named).collect();
        if keys.is_empty() {
            return;
        }
        self.lookups += 1;
        let number = self.lookups;
        let taking: Vec<_> = keys.iter().map(|(id, _)| (*id, number)).collect();
        self.taking.extend(taking.iter().copied());
        let (coordination, group) = (self.coordination.clone(), self.settings.group.clone());
        let cluster = self.cluster.clone();
        under_way.spawn(async move {
            let result = find_offsets(&cluster, &coordination, group, keys).await;
            Event::Found { taking, result }
        });
    }

    /// Where the group is was found, or where it has not been; begins, or looks on.
    fn found(
        &mut self,
        taking: Vec<(PartitionId, u64)>,
        result: Result<Vec<Begin>, ClientError>,
        under_way: &mut JoinSet<Event>,
    ) -> Result<(), ClientError> {
        // What was looked up for an earlier assignment says nothing of this one.
        let current: BTreeSet<PartitionId> = taking
            .into_iter()
            .filter(|(id, number)| self.taking.get(id) == Some(number))
            .map(|(id, _)| id)
            .collect();
        let begins = match result {
            Ok(begins) => begins.into_iter().filter(|begin| current.contains(&begin.id)),
            Err(error) => {
                self.taking.retain(|id, _| !current.contains(id));
                if !error.is_retriable() {
                    return Err(error);
                }
                debug!(group = self.settings.group, %error, "cannot begin yet");
                self.take_at = Some(Instant::now() + self.take_backoff.failed());
                return Ok(());
            }
        };
        let (known, unknown): (Vec<Begin>, Vec<Begin>) =
            begins.partition(|begin| begin.offset.is_some());
        let is_found = |id: &PartitionId| known.iter().chain(&unknown).any(|begin| begin.id == *id);
        if let Some(missing) = current.iter().find(|id| !is_found(id)) {
            debug!(
                group = self.settings.group,
                partition = missing.1,
                "what is known is not of now"
            );
            self.taking.retain(|id, _| !current.contains(id) || is_found(id));
            self.take_at = Some(Instant::now() + self.take_backoff.failed());
        }
        for begin in unknown {
            let taking = vec![(begin.id, self.taking.get(&begin.id).copied().unwrap_or_default())];
            let (cluster, reset) = (self.cluster.clone(), self.settings.consumer.offset_reset);
            under_way.spawn(async move {
                let offset = beginning(&cluster, &begin.key, begin.id.0, reset).await;
                let result = offset.map(|offset| vec![Begin { offset: Some(offset), ..begin }]);
                Event::Found { taking, result }
            });
        }
        self.begin(known, under_way)
    }

    /// Gives up what goes to others, once the program is done with it, or was not for too long.
    fn give_up(&mut self, under_way: &mut JoinSet<Event>) {
        let release = self.membership.to_release();
        // Until the coordinator is heard of again, what was to be given up is so still.
        if self.membership.is_told() {
            self.leaving.retain(|id, _| release.contains(id));
        }
        let (now, patience) = (Instant::now(), self.patience());
        let mut released = BTreeSet::new();
        let mut must_commit = false;
        for id in release {
            let Some(name) = self.names.get(&id.0) else { continue };
            let key = (name.clone(), id.1);
            let since = *self.leaving.entry(id).or_insert(now);
            let mut ledger = self.ledger.lock();
            ledger.leave(&key);
            if !ledger.is_done(&key) && now < since + patience {
                continue;
            }
            if ledger.is_due(&key) {
                must_commit = true;
                continue;
            }
            ledger.end(&key);
            drop(ledger);
            // A consumer that has ended reads nothing.
            let _ = self.steering.end(key);
            released.insert(id);
        }
        if must_commit {
            self.commit(under_way);
        }
        if !released.is_empty() {
            let numbers: Vec<u32> = released.iter().map(|id| id.1).collect();
            info!(group = self.settings.group, member = self.member, ?numbers, "given up");
            self.membership.released(&released);
            self.speak(under_way);
        }
    }

    fn obey(&mut self, word: Word, under_way: &mut JoinSet<Event>) {
        match word {
            Word::Done => {
                let interval = self.settings.commit_interval;
                self.commit_at.get_or_insert_with(|| Instant::now() + interval);
            }
            Word::Commit(answer) => {
                self.waiters[1].push(answer);
                self.commit(under_way);
            }
            Word::CommitOne { assigned, next, answer } => {
                if self.ledger.lock().done_in(&assigned.0, assigned.1, next) {
                    self.to_hand_out.push((assigned, next, answer));
                    self.commit(under_way);
                } else {
                    let _ = answer.send(Ok(false));
                }
            }
            Word::Close(_) => unreachable!("it is obeyed where the loop can end"),
        }
    }

    /// Commits what is due, unless a commit is under way: then behind it.
    fn commit(&mut self, under_way: &mut JoinSet<Event>) {
        if self.is_committing {
            return;
        }
        let dues = self.ledger.lock().due();
        let waiting = std::mem::take(&mut self.waiters[1]);
        if dues.is_empty() {
            for answer in waiting {
                let _ = answer.send(Ok(()));
            }
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

    fn commit_of(&self, dues: &[Due]) -> CommitOffsets {
        let parts = dues.iter().map(|due| CommitPart {
            partition: PartitionOf { topic: due.key.0.to_string(), partition: due.key.1 },
            topic_id: due.topic_id,
            offset: due.offset,
            leader_epoch: due.epoch,
            metadata: String::new(),
        });
        CommitOffsets {
            group: self.settings.group.clone(),
            member: self.member.clone(),
            epoch: self.membership.epoch(),
            parts: parts.collect(),
        }
    }

    /// An error ends the membership.
    fn take_in(&mut self, event: Event, under_way: &mut JoinSet<Event>) -> Result<(), ClientError> {
        match event {
            Event::Beat { generation, .. } if generation != self.generation => {}
            Event::Beat { sent, result, .. } => return self.heard(sent, result),
            Event::Found { taking, result } => return self.found(taking, result, under_way),
            Event::Committed { dues, result } => {
                self.is_committing = false;
                let result = self.committed(&dues, result);
                if result.is_err() {
                    let interval = self.settings.commit_interval;
                    self.commit_at.get_or_insert_with(|| Instant::now() + interval);
                }
                self.hand_out(&result);
                for answer in std::mem::take(&mut self.waiters[0]) {
                    let _ = answer.send(result.clone());
                }
                if !self.waiters[1].is_empty() || !self.to_hand_out.is_empty() {
                    self.commit(under_way);
                }
            }
        }
        Ok(())
    }

    fn heard(
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
    fn expelled(&mut self) {
        self.generation += 1;
        self.leaving.clear();
        self.taking.clear();
        for id in self.membership.expelled() {
            let Some(name) = self.names.get(&id.0) else { continue };
            let key = (name.clone(), id.1);
            self.ledger.lock().end(&key);
            let _ = self.steering.end(key);
        }
    }

    fn begin(
        &mut self,
        begins: Vec<Begin>,
        under_way: &mut JoinSet<Event>,
    ) -> Result<(), ClientError> {
        let mut taken = BTreeSet::new();
        let mut is_first = false;
        for Begin { id, key, offset, epoch } in begins {
            self.taking.remove(&id);
            let (Some(at), true) = (offset, self.membership.to_take().contains(&id)) else {
                continue;
            };
            // Before anything of it can come.
            let mut ledger = self.ledger.lock();
            let assignment = self.steering.begin(key.clone(), at.0, epoch)?;
            ledger.begin(key, (id.0, assignment), at.0, at.1);
            is_first |= !at.1;
            taken.insert(id);
        }
        if taken.is_empty() {
            return Ok(());
        }
        self.take_backoff = Backoff::new(self.cluster.seed());
        let numbers: Vec<u32> = taken.iter().map(|id| id.1).collect();
        info!(group = self.settings.group, member = self.member, ?numbers, "taken over");
        self.membership.taken(&taken);
        if is_first {
            // Whoever comes next begins there, too, and skips nothing that has come since.
            self.commit(under_way);
        }
        Ok(())
    }

    fn committed(
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

    /// Commits what is done, and leaves.
    async fn leave(&mut self, under_way: &mut JoinSet<Event>) -> Result<(), ClientError> {
        // A word to join that arrives behind the word to leave would have it join for good.
        let joined = async {
            while self.membership.epoch() == 0
                && let Some(Ok(event)) = under_way.join_next().await
            {
                let _ = self.take_in(event, under_way);
            }
        };
        let _ = tokio::time::timeout(LEAVE_PATIENCE, joined).await;
        // Nor may an earlier commit arrive behind the last one.
        let settled = async {
            while self.is_committing
                && let Some(Ok(event)) = under_way.join_next().await
            {
                let _ = self.take_in(event, under_way);
            }
        };
        let _ = tokio::time::timeout(LEAVE_PATIENCE, settled).await;
        under_way.abort_all();
        let dues = self.ledger.lock().due();
        let committed = if dues.is_empty() || self.membership.epoch() <= 0 {
            Ok(())
        } else {
            let request = self.commit_of(&dues);
            let result = self.coordination.insist(&request).await;
            self.committed(&dues, result)
        };
        let request = LeaveGroup {
            group: self.settings.group.clone(),
            member: self.member.clone(),
            comes_back: self.settings.instance_id.is_some(),
        };
        let left = tokio::time::timeout(LEAVE_PATIENCE, self.coordination.insist(&request)).await;
        match left {
            Ok(Err(error)) if error.code() != Some(ErrorCode::UNKNOWN_MEMBER_ID) => {
                warn!(group = self.settings.group, %error, "could not say that it leaves");
            }
            Err(_) => warn!(group = self.settings.group, "could not say that it leaves"),
            _ => {}
        }
        committed
    }
}

/// Where the group is in partitions. Those of a topic of which something else is known than the coordinator
/// says are left out: one of the two is behind.
async fn find_offsets(
    cluster: &Cluster,
    coordination: &Coordination,
    group: String,
    keys: Vec<(PartitionId, PartitionKey)>,
) -> Result<Vec<Begin>, ClientError> {
    let names =
        keys.iter().map(|(_, key)| PartitionOf { topic: key.0.to_string(), partition: key.1 });
    let request = FetchOffsets { group, partitions: Some(names.collect()) };
    let offsets = coordination.insist(&request).await?.parts;
    let known = |(id, key): &(PartitionId, PartitionKey)| cluster.known_id(&key.0) == id.0;
    let mut unknown: Vec<String> =
        keys.iter().filter(|of| !known(of)).map(|(_, key)| key.0.to_string()).collect();
    unknown.sort();
    unknown.dedup();
    if !unknown.is_empty() {
        // So that the consumer knows which topic of the name it reads; one that is gone is not made anew.
        cluster.metadata_once(unknown, false).await?;
    }
    let begins =
        keys.into_iter().zip(offsets).filter(|(of, _)| known(of)).map(|((id, key), known)| {
            let epoch = known.committed.as_ref().map_or(-1, |committed| committed.leader_epoch);
            Begin { id, key, offset: known.committed.map(|c| (c.offset, true)), epoch }
        });
    Ok(begins.collect())
}

/// Where a partition begins in which the group has not been, by the rule for that.
async fn beginning(
    cluster: &Cluster,
    key: &PartitionKey,
    topic_id: Uuid,
    reset: OffsetReset,
) -> Result<(u64, bool), ClientError> {
    let start = match reset {
        OffsetReset::Earliest => StartAt::Earliest,
        OffsetReset::Latest => StartAt::Latest,
        OffsetReset::ByDuration(age) => StartAt::Timestamp(now_ms() - age.as_millis() as i64),
        OffsetReset::None => {
            let (topic, partition) = key;
            let what = format!("the group has no offset of partition {partition} of '{topic}'");
            return Err(Fault::new(ErrorCode::OFFSET_OUT_OF_RANGE, what).into());
        }
    };
    if cluster.known_id(&key.0) != topic_id {
        let what = format!("what is known of '{}' is not of now", key.0);
        return Err(Fault::new(ErrorCode::INCONSISTENT_TOPIC_ID, what).into());
    }
    let starts = find_starts(cluster, &key.0, &[key.1], start).await?;
    let found = starts.first().map(|(_, offset)| (*offset, false));
    found.ok_or_else(|| ClientError::Invalid(format!("nobody knows where '{}' begins", key.0)))
}
