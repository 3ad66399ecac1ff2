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
    /// The same, before anything of this partition is handed out: false if it has gone meanwhile.
    CommitOne(PartitionKey, oneshot::Sender<Result<bool, ClientError>>),
    /// It is to commit and leave.
    Close(oneshot::Sender<Result<(), ClientError>>),
}

/// A topic's id and a partition's number.
type PartitionId = (Uuid, u32);

/// What has come to its end.
enum Event {
    Beat { generation: u64, sent: Instant, result: Result<GroupHeartbeatResponse, ClientError> },
    Begun { partitions: Vec<PartitionId>, result: Result<Vec<Begin>, ClientError> },
    Committed { dues: Vec<Due>, result: Result<CommitOffsetsResponse, ClientError> },
}

/// Where a partition is to be read from.
struct Begin {
    id: PartitionId,
    key: PartitionKey,
    offset: u64,
    epoch: i32,
    committed: bool,
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
    /// Partitions whose beginning is being looked up.
    taking: BTreeSet<PartitionId>,
    /// Since when partitions are to be given up.
    leaving: BTreeMap<PartitionId, Instant>,
    commit_at: Option<Instant>,
    is_committing: bool,
    /// Who waits for the commit that is under way, and for the one behind it.
    waiters: [Vec<Answer>; 2],
}

impl Driver {
    /// A driver of this member.
    pub fn new(
        cluster: Cluster,
        settings: GroupSettings,
        member: String,
        topics: &[&str],
        steering: Steering,
        ledger: Arc<Mutex<Ledger>>,
        fail: mpsc::UnboundedSender<ClientError>,
    ) -> Driver {
        let coordination = Coordination::new(cluster.clone(), &settings.group);
        Driver {
            backoff: Backoff::new(cluster.seed()),
            cluster,
            settings,
            topics: topics.iter().map(|topic| topic.to_string()).collect(),
            steering,
            ledger,
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
            taking: BTreeSet::new(),
            leaving: BTreeMap::new(),
            commit_at: None,
            is_committing: false,
            waiters: [Vec::new(), Vec::new()],
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
        [self.retry_at, self.commit_at, session_end].into_iter().flatten().chain(leaving).min()
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
        if self.commit_at.is_some_and(|at| at <= now) {
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
        let GroupSettings { instance_id, client_id, assignor, rebalance_timeout, consumer, .. } =
            &self.settings;
        let profile = says.whole.then(|| MemberProfile {
            instance_id: instance_id.clone(),
            client_id: client_id.clone(),
            rack: consumer.rack.clone(),
            rebalance_timeout_ms: rebalance_timeout.as_millis() as u32,
            topics: self.topics.clone(),
            assignor: assignor.clone(),
        });
        let owned = says.owned.map(|owned| {
            let mut topics: Vec<TopicPartitions> = Vec::new();
            for (topic_id, partition) in owned {
                match topics.last_mut().filter(|last| last.topic_id == topic_id) {
                    Some(last) => last.partitions.push(partition),
                    None => {
                        let topic = self.names.get(&topic_id).map(|n| n.to_string());
                        let topic = topic.unwrap_or_default();
                        topics.push(TopicPartitions {
                            topic_id,
                            topic,
                            partitions: vec![partition],
                        });
                    }
                }
            }
            topics
        });
        GroupHeartbeat {
            group: self.settings.group.clone(),
            member: self.member.clone(),
            epoch: says.epoch,
            profile,
            owned,
            seen: says.seen,
            beat: says.beat,
            max_wait_ms: self.interval.as_millis() as u32,
        }
    }

    /// Looks up where partitions begin that are to be read.
    fn take_over(&mut self, under_way: &mut JoinSet<Event>) {
        if self.retry_at.is_some() {
            return;
        }
        let partitions: Vec<PartitionId> =
            self.membership.to_take().difference(&self.taking).copied().collect();
        if partitions.is_empty() {
            return;
        }
        self.taking.extend(&partitions);
        let named = |id: &PartitionId| Some((*id, (self.names.get(&id.0)?.clone(), id.1)));
        let keys: Vec<(PartitionId, PartitionKey)> = partitions.iter().filter_map(named).collect();
        let (cluster, coordination) = (self.cluster.clone(), self.coordination.clone());
        let (group, reset) = (self.settings.group.clone(), self.settings.consumer.offset_reset);
        under_way.spawn(async move {
            let result = find_beginnings(&cluster, &coordination, group, keys, reset).await;
            Event::Begun { partitions, result }
        });
    }

    /// Gives up what goes to others, once the program is done with it, or was not for too long.
    fn give_up(&mut self, under_way: &mut JoinSet<Event>) {
        let release = self.membership.to_release();
        self.leaving.retain(|id, _| release.contains(id));
        let (now, patience) = (Instant::now(), self.patience());
        let mut released = BTreeSet::new();
        let mut must_commit = false;
        for id in release {
            let Some(name) = self.names.get(&id.0) else { continue };
            let key = (name.clone(), id.1);
            let since = *self.leaving.entry(id).or_insert(now);
            let mut ledger = self.ledger.lock();
            ledger.leave(&BTreeSet::from([key.clone()]));
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
            Word::CommitOne(key, answer) => {
                let (done, committed) = oneshot::channel();
                self.waiters[1].push(done);
                self.commit(under_way);
                let ledger = self.ledger.clone();
                tokio::spawn(async move {
                    let result = committed.await.unwrap_or(Err(ClientError::Closed));
                    let here = !ledger.lock().is_due(&key);
                    let _ = answer.send(result.map(|()| here));
                });
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
            Event::Begun { partitions, result } => {
                self.taking.retain(|id| !partitions.contains(id));
                match result {
                    Ok(begins) => self.begin(begins)?,
                    Err(error) if error.is_retriable() => self.try_again(&error),
                    Err(error) => return Err(error),
                }
            }
            Event::Committed { dues, result } => {
                self.is_committing = false;
                let result = self.committed(&dues, result);
                for answer in std::mem::take(&mut self.waiters[0]) {
                    let _ = answer.send(result.clone());
                }
                if !self.waiters[1].is_empty() {
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
            // It ends when its predecessor's session does.
            Some(ErrorCode::UNRELEASED_INSTANCE_ID) => {
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
        for id in self.membership.expelled() {
            let Some(name) = self.names.get(&id.0) else { continue };
            let key = (name.clone(), id.1);
            self.ledger.lock().end(&key);
            let _ = self.steering.end(key);
        }
    }

    fn begin(&mut self, begins: Vec<Begin>) -> Result<(), ClientError> {
        let wanted = self.membership.to_take();
        let mut taken = BTreeSet::new();
        for Begin { id, key, offset, epoch, committed } in begins {
            if !wanted.contains(&id) {
                continue;
            }
            // Before anything of it can come.
            let mut ledger = self.ledger.lock();
            let assignment = self.steering.begin(key.clone(), offset, epoch)?;
            ledger.begin(key, (id.0, assignment), offset, committed);
            taken.insert(id);
        }
        let numbers: Vec<u32> = taken.iter().map(|id| id.1).collect();
        info!(group = self.settings.group, member = self.member, ?numbers, "taken over");
        self.membership.taken(&taken);
        let interval = self.settings.commit_interval;
        self.commit_at.get_or_insert_with(|| Instant::now() + interval);
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
            if let Err(fault) = part {
                let (topic, partition) = (&due.key.0, due.key.1);
                warn!(%topic, partition, offset = due.offset, %fault, "not committed");
                outcome = Err(ClientError::Broker(fault));
            }
            // What the group does not take of this member it will not take later either.
            ledger.settled(due);
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

/// Where partitions begin: where the group has come to, or else by the rule for that.
async fn find_beginnings(
    cluster: &Cluster,
    coordination: &Coordination,
    group: String,
    keys: Vec<(PartitionId, PartitionKey)>,
    reset: OffsetReset,
) -> Result<Vec<Begin>, ClientError> {
    let names =
        keys.iter().map(|(_, key)| PartitionOf { topic: key.0.to_string(), partition: key.1 });
    let request = FetchOffsets { group, partitions: Some(names.collect()) };
    let offsets = coordination.insist(&request).await?.parts;
    let mut begins = Vec::with_capacity(keys.len());
    for ((id, key), known) in keys.into_iter().zip(offsets) {
        // So that the consumer knows which topic of the name it reads.
        let info = cluster.topic(&key.0).await?;
        if info.id != id.0 || key.1 >= info.count() {
            cluster.forget(&key.0);
            let what = format!("what is known of '{}' is not of now", key.0);
            return Err(Fault::new(ErrorCode::INCONSISTENT_TOPIC_ID, what).into());
        }
        let (offset, epoch, committed) = match known.committed {
            Some(committed) => (committed.offset, committed.leader_epoch, true),
            None => (beginning(cluster, &key, reset).await?, -1, false),
        };
        begins.push(Begin { id, key, offset, epoch, committed });
    }
    Ok(begins)
}

async fn beginning(
    cluster: &Cluster,
    key: &PartitionKey,
    reset: OffsetReset,
) -> Result<u64, ClientError> {
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
    let starts = find_starts(cluster, &key.0, &[key.1], start).await?;
    let found = starts.first().map(|(_, offset)| *offset);
    found.ok_or_else(|| ClientError::Invalid(format!("nobody knows where '{}' begins", key.0)))
}
