//! The thread that coordinates the groups of the partitions which this broker leads. It takes what has come
//! together, writes down once what follows from it, and lets the event loops answer when that is
//! committed: so nobody is told what a later coordinator would not know.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    CommitOffsets, CommitOffsetsResponse, DeleteGroup, DeleteGroupResponse, DescribeGroup,
    DescribeGroupResponse, FetchOffsets, FetchOffsetsResponse, GroupHeartbeat,
    GroupHeartbeatResponse, LeaveGroup, LeaveGroupResponse, ListGroupsResponse, TopicPartitions,
};
use mk_storage::batch::CheckedBatch;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::group::{Answer, Group, GroupError, GroupLimits, KnownTopics, Now, Topics};
use super::kafka;
use super::member::JOIN;
use super::serve::{self, Rhythm};
use super::shard::Shard;
use super::{OFFSETS_TOPIC, journal, partition_of_group};
use crate::broker::note::Note;
use crate::broker::partition::Partition;
use crate::broker::produce::Uncommitted;
use crate::broker::promise::Promise;
use crate::broker::replication::replica::{Replica, Standing};
use crate::broker::reply::{Kept, Reply};
use crate::broker::shared::{Shared, replica_of};
use crate::clock::now_ms;
use crate::settings::BrokerSettings;
use crate::zoo::state::LeaderEpoch;

/// What a client wants of a group.
#[derive(Debug)]
pub enum Ask {
    /// It is there; where it connects from.
    Heartbeat(Reply<GroupHeartbeatResponse>, GroupHeartbeat, String),
    /// It leaves.
    Leave(Reply<LeaveGroupResponse>, LeaveGroup),
    /// It has come so far.
    Commit(Reply<CommitOffsetsResponse>, CommitOffsets),
    /// How far has the group come?
    Offsets(Reply<FetchOffsetsResponse>, FetchOffsets),
    /// What is known of it?
    Describe(Reply<DescribeGroupResponse>, DescribeGroup),
    /// It is to be forgotten.
    Delete(Reply<DeleteGroupResponse>, DeleteGroup),
    /// A classic member of Kafka's joins a group: its generation.
    Join(Reply<i32>, String, Box<kafka::JoinAsk>),
    /// What is a classic member of a group to read, in a generation?
    Sync(Reply<Vec<TopicPartitions>>, String, kafka::Caller, i32),
    /// A classic member of a group is there, in a generation.
    Beat(Reply<()>, String, kafka::Caller, i32),
    /// Members leave a group; a result for each.
    LeaveEach(Reply<Vec<Result<(), Fault>>>, String, Vec<kafka::Caller>),
    /// A client of Kafka's asks how far the group has come: as this member in this epoch, or from outside.
    KafkaOffsets(Reply<FetchOffsetsResponse>, FetchOffsets, Option<(String, i32)>),
    /// A client of Kafka's has come so far; its instance id, if it has one.
    KafkaCommit(Reply<CommitOffsetsResponse>, CommitOffsets, Option<String>),
    /// A member of KIP-848 is there.
    Consumer(Reply<kafka::ConsumerAnswer>, String, Box<kafka::ConsumerAsk>),
    /// Which groups are there?
    List(Reply<ListGroupsResponse>),
}

/// What the thread is told.
#[derive(Debug)]
enum Job {
    Ask(Box<Ask>),
    /// The state of the cluster has changed.
    Changed,
    /// The broker is about to stop: nobody is to wait any more.
    Close,
    Stop,
}

/// Hands work to the thread.
#[derive(Clone, Debug)]
pub struct Coordinator {
    jobs: Sender<Job>,
}

/// What a thread that is to be started will be told.
#[derive(Debug)]
pub struct Inbox {
    jobs: Receiver<Job>,
    sender: Sender<Job>,
}

/// The thread; [`CoordinatorThread::stop`] ends it.
#[derive(Debug)]
pub struct CoordinatorThread {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

/// Jobs that are done before what follows from them is written down.
const AT_ONCE: usize = 1000;

impl Coordinator {
    /// A coordinator whose thread is started later.
    pub fn new() -> (Coordinator, Inbox) {
        let (sender, jobs) = channel();
        (Coordinator { jobs: sender.clone() }, Inbox { jobs, sender })
    }

    /// Lets the thread answer.
    pub fn ask(&self, ask: Ask) {
        // A thread that has ended is that of a broker that stops: its clients turn to another.
        let _ = self.jobs.send(Job::Ask(Box::new(ask)));
    }

    /// The broker is about to stop: who waits is answered.
    pub fn close(&self) {
        let _ = self.jobs.send(Job::Close);
    }

    /// The state of the cluster has changed.
    pub fn changed(&self) {
        let _ = self.jobs.send(Job::Changed);
    }
}

impl CoordinatorThread {
    /// Starts the thread.
    pub fn start(shared: Arc<Shared>, inbox: Inbox) -> std::io::Result<CoordinatorThread> {
        let Inbox { jobs: queue, sender: jobs } = inbox;
        let serving = Serving::new(shared);
        let thread = thread::Builder::new()
            .name("mk-groups".to_owned())
            .spawn(move || serving.run(&queue))?;
        Ok(CoordinatorThread { jobs, thread })
    }

    /// Ends the thread.
    pub fn stop(self) {
        let _ = self.jobs.send(Job::Stop);
        if self.thread.join().is_err() {
            error!("the thread that coordinates groups has panicked");
        }
    }
}

struct Serving {
    shared: Arc<Shared>,
    limits: GroupLimits,
    rhythm: Rhythm,
    retention_ms: i64,
    /// So often it is looked for offsets that are too old.
    look_interval: Duration,
    next_look: Duration,
    /// True once nobody is to wait any more.
    closing: bool,
    /// By the number of the partition.
    held: BTreeMap<u32, Held>,
}

/// A partition that this broker leads, with its groups.
struct Held {
    partition: Arc<Partition>,
    /// What it knows holds in this epoch only.
    epoch: LeaderEpoch,
    shard: Shard<Reply<GroupHeartbeatResponse>>,
    /// What is to be answered once all that was done is committed.
    answers: Vec<Kept>,
}

/// What became of a heartbeat.
enum Heard {
    /// What is to be answered, at once if it is news.
    Now(Answer),
    /// A later one has come before it; that one may wait on.
    Overtaken(Answer),
}

impl Serving {
    fn new(shared: Arc<Shared>) -> Serving {
        let settings: &BrokerSettings = &shared.settings;
        let session_ms = settings.number("group.consumer.session.timeout.ms");
        let limits = GroupLimits {
            session_timeout: Duration::from_millis(session_ms),
            most_members: settings.number("group.consumer.max.size") as usize,
            most_metadata: settings.number("offset.metadata.max.bytes") as usize,
        };
        let rhythm = Rhythm {
            heartbeat_interval_ms: settings.number("group.consumer.heartbeat.interval.ms") as u32,
            session_timeout_ms: session_ms as u32,
        };
        let retention_ms = settings.number("offsets.retention.minutes") as i64 * 60_000;
        let look_ms = settings.number("offsets.retention.check.interval.ms");
        Serving {
            shared,
            limits,
            rhythm,
            retention_ms,
            look_interval: Duration::from_millis(look_ms),
            next_look: Duration::ZERO,
            closing: false,
            held: BTreeMap::new(),
        }
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let job = match self.next_deadline() {
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => jobs.recv_timeout(at.saturating_sub(self.shared.cluster.now())),
            };
            let first = match job {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for job in first.into_iter().chain(jobs.try_iter()).take(AT_ONCE) {
                match job {
                    Job::Ask(ask) => self.obey(*ask),
                    Job::Changed => self.follow(),
                    Job::Close => self.closing = true,
                    Job::Stop => return,
                }
            }
            self.finish();
        }
    }

    fn next_deadline(&self) -> Option<Duration> {
        let of = |held: &Held| held.shard.next_deadline();
        let look = (!self.held.is_empty()).then_some(self.next_look);
        self.held.values().filter_map(of).chain(look).min()
    }

    fn now(&self) -> Now {
        Now { since_start: self.shared.cluster.now(), ms: now_ms() }
    }

    fn obey(&mut self, ask: Ask) {
        match ask {
            Ask::List(reply) => {
                let answer = self.list();
                reply.send(&self.shared, answer);
            }
            Ask::Heartbeat(reply, request, host) => self.heartbeat(reply, request, host),
            Ask::Leave(reply, request) => self.leave(reply, &request),
            Ask::Join(reply, group, ask) => {
                self.change(&group, reply, |group, topics, (now, limits)| {
                    kafka::join(group, *ask, now, topics, limits)
                })
            }
            Ask::Sync(reply, group, caller, generation) => {
                self.with(&group, reply, |held, _, now| {
                    kafka::sync(held.shard.group_mut(&group), &caller, generation, now)
                })
            }
            Ask::Beat(reply, group, caller, generation) => {
                self.with(&group, reply, |held, _, now| {
                    kafka::beat(held.shard.group_mut(&group), &caller, generation, now)
                })
            }
            Ask::KafkaOffsets(reply, request, reader) => {
                self.with(&request.group, reply, |held, topics, now| {
                    kafka::check_reader(held.shard.group(&request.group), reader.as_ref())?;
                    Ok(serve::offsets(&held.shard, &request, topics, now))
                });
            }
            Ask::KafkaCommit(reply, commit, instance) => {
                let (group, limits) = (commit.group.clone(), self.limits);
                self.with(&group, reply, |held, topics, now| {
                    held.require_enough()?;
                    let (shard, instance) = (&mut held.shard, instance.as_deref());
                    kafka::commit(shard, commit, instance, now, topics, &limits)
                });
            }
            Ask::LeaveEach(reply, group, callers) => {
                self.change(&group, reply, |group, topics, (now, _)| {
                    let leave = |caller| kafka::leave(group, caller, now, topics);
                    Ok(callers.iter().map(leave).collect())
                });
            }
            Ask::Consumer(reply, group, ask) => {
                self.change(&group, reply, |group, topics, (now, limits)| {
                    kafka::consumer(group, *ask, now, topics, limits)
                });
            }
            Ask::Commit(reply, request) => self.commit(reply, request),
            Ask::Offsets(reply, request) => {
                self.with(&request.group, reply, |held, topics, now| {
                    Ok(serve::offsets(&held.shard, &request, topics, now))
                })
            }
            Ask::Describe(reply, request) => self.with(&request.group, reply, |held, _, now| {
                serve::describe(&held.shard, &request, now)
            }),
            Ask::Delete(reply, request) => self.with(&request.group, reply, |held, _, _| {
                held.require_enough()?;
                serve::delete(&mut held.shard, &request)
            }),
        }
    }

    /// Does something with the groups of a partition; what comes of it is answered when it is committed.
    fn with<A: Send + 'static>(
        &mut self,
        group: &str,
        reply: Reply<A>,
        work: impl FnOnce(&mut Held, Topics<'_>, Now) -> Result<A, Fault>,
    ) {
        let (now, shared) = (self.now(), self.shared.clone());
        let held = self.hold_for(group);
        match held.and_then(|held| Ok((work(held, &TopicsOf(&shared), now)?, held))) {
            Ok((answer, held)) => held.answers.push(reply.keep(answer)),
            Err(fault) => reply.send(&shared, Err(fault)),
        }
    }

    /// Changes a group; what comes of it is answered when it is committed.
    fn change<A: Send + 'static>(
        &mut self,
        name: &str,
        reply: Reply<A>,
        work: impl FnOnce(&mut Group, Topics<'_>, (Now, &GroupLimits)) -> Result<A, Fault>,
    ) {
        let limits = self.limits;
        self.with(name, reply, |held, topics, now| {
            held.require_enough()?;
            work(held.shard.group_mut(name), topics, (now, &limits))
        });
    }

    fn heartbeat(
        &mut self,
        reply: Reply<GroupHeartbeatResponse>,
        request: GroupHeartbeat,
        host: String,
    ) {
        let (now, limits, rhythm) = (self.now(), self.limits, self.rhythm);
        let shared = self.shared.clone();
        let most = if self.closing { 0 } else { rhythm.heartbeat_interval_ms };
        let wait = Duration::from_millis(request.max_wait_ms.min(most).into());
        let (group, member, said) = (request.group.clone(), request.member.clone(), request.epoch);
        let held = self.hold_for(&group);
        let heard = held.and_then(|held| {
            Ok((held.hear(request, host, now, &TopicsOf(&shared), (&limits, rhythm))?, held))
        });
        match heard {
            Ok((Heard::Now(answer), held))
                if answer.assigned.is_none() && answer.epoch == said && !wait.is_zero() =>
            {
                held.shard.wait(&group, &member, reply, now.since_start + wait);
            }
            Ok((Heard::Now(answer) | Heard::Overtaken(answer), held)) => {
                held.answer(reply, answer, &group, rhythm);
            }
            Err(fault) => reply.send(&shared, Err(fault)),
        }
    }

    fn leave(&mut self, reply: Reply<LeaveGroupResponse>, request: &LeaveGroup) {
        let LeaveGroup { group, member, comes_back } = request;
        self.with(group, reply, |held, topics, now| {
            held.require_enough()?;
            held.shard
                .group_mut(group)
                .leave(member, *comes_back, now, topics)
                .map_err(|error| serve::refused(&error))?;
            Ok(LeaveGroupResponse {})
        });
    }

    fn commit(&mut self, reply: Reply<CommitOffsetsResponse>, request: CommitOffsets) {
        let (group, limits) = (request.group.clone(), self.limits);
        self.with(&group, reply, |held, topics, now| {
            held.require_enough()?;
            Ok(serve::commit(&mut held.shard, request, now, topics, &limits))
        });
    }

    /// All groups that this broker coordinates.
    fn list(&mut self) -> Result<ListGroupsResponse, Fault> {
        let count = self.shared.topic(OFFSETS_TOPIC).map_or(0, |topic| topic.partitions().len());
        let mut groups = Vec::new();
        for number in 0..count as u32 {
            match self.hold(number) {
                Ok(held) => {
                    let known = held.shard.groups().filter(|group| !group.is_nothing());
                    groups.extend(known.map(serve::listed));
                }
                Err(fault) if fault.code == ErrorCode::NOT_COORDINATOR => {}
                Err(fault) => return Err(fault),
            }
        }
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(ListGroupsResponse { groups })
    }

    fn hold_for(&mut self, group: &str) -> Result<&mut Held, Fault> {
        if group.is_empty() || group.chars().count() > 249 {
            let what = format!("a group's name of {} characters", group.chars().count());
            return Err(Fault::new(ErrorCode::INVALID_GROUP_ID, what));
        }
        let not_here = |fault: Fault| Fault::new(ErrorCode::NOT_COORDINATOR, fault.message);
        let topic = self.shared.topic(OFFSETS_TOPIC).map_err(not_here)?;
        self.hold(partition_of_group(group, topic.partitions().len() as u32))
    }

    /// The groups of a partition that this broker leads, read from its log if it does so since a moment
    /// ago.
    fn hold(&mut self, number: u32) -> Result<&mut Held, Fault> {
        let not_here = |fault: Fault| Fault::new(ErrorCode::NOT_COORDINATOR, fault.message);
        let found = self.shared.partition(OFFSETS_TOPIC, Uuid::nil(), number);
        let (_, partition) = found.map_err(not_here)?;
        let replica = replica_of(&partition).map_err(not_here)?;
        let Standing::Leader(epoch) = replica.standing() else {
            let leads = "this broker does not lead the group's partition of the offsets topic";
            return Err(Fault::new(ErrorCode::NOT_COORDINATOR, leads));
        };
        let is_held = self.held.get(&number).is_some_and(|held| {
            held.epoch == epoch && held.partition.serial() == partition.serial()
        });
        if !is_held {
            self.let_go(number);
            let held = self.load(partition.clone(), replica, epoch)?;
            self.held.insert(number, held);
        }
        self.held.get_mut(&number).ok_or_else(|| {
            Fault::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, "the groups cannot be read")
        })
    }

    fn load(
        &self,
        partition: Arc<Partition>,
        replica: &Replica,
        epoch: LeaderEpoch,
    ) -> Result<Held, Fault> {
        if replica.known_high_watermark().is_none() {
            let what = "the new coordinator does not know yet what is committed";
            return Err(Fault::new(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, what));
        }
        let (begin, number) = (std::time::Instant::now(), partition.number());
        let mut shard = Shard::default();
        let now = self.shared.cluster.now();
        journal::replay(replica.log(), |change| shard.replay(change, now)).map_err(|error| {
            error!(partition = number, %error, "the groups of a partition cannot be read");
            Fault::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, error.to_string())
        })?;
        shard.replayed(&TopicsOf(&self.shared));
        let (groups, took) = (shard.groups().count(), begin.elapsed());
        info!(partition = number, groups, ?took, "coordinates the groups of a partition");
        Ok(Held { partition, epoch, shard, answers: Vec::new() })
    }

    /// Does not coordinate a partition's groups any more: who waits is to turn to another.
    fn let_go(&mut self, number: u32) {
        let Some(mut held) = self.held.remove(&number) else { return };
        let fault = Fault::new(ErrorCode::NOT_COORDINATOR, "another broker coordinates the group");
        for reply in held.shard.take_all() {
            reply.send(&self.shared, Err(fault.clone()));
        }
        for answer in held.answers {
            answer.send(&self.shared, Err(fault.clone()));
        }
    }

    /// The cluster has changed: partitions have other leaders, topics have come, gone or grown.
    fn follow(&mut self) {
        let lost = self.held.iter().filter(|(_, held)| !held.leads());
        let lost: Vec<u32> = lost.map(|(number, _)| *number).collect();
        lost.into_iter().for_each(|number| self.let_go(number));
        for held in self.held.values_mut() {
            held.shard.topics_changed(&TopicsOf(&self.shared));
        }
    }

    /// Tells members the news, writes down what has changed, and has all of it answered once it is
    /// committed.
    fn finish(&mut self) {
        let (now, rhythm) = (self.now(), self.rhythm);
        let shared = self.shared.clone();
        let topics = TopicsOf(&shared);
        let looks_at_offsets = now.since_start >= self.next_look;
        if looks_at_offsets {
            self.next_look = now.since_start + self.look_interval;
        }
        let mut broken = Vec::new();
        for (number, held) in &mut self.held {
            for (group, member, why) in held.shard.expire(now, &topics, &self.limits) {
                warn!(group, member, why, "a member is out of its group");
            }
            if looks_at_offsets {
                held.shard.expire_offsets(now.ms, self.retention_ms);
            }
            let until = if self.closing { Duration::MAX } else { now.since_start };
            let (told, orphans) = held.shard.told(now.since_start, until);
            for ((member, reply), ()) in orphans {
                let fault = serve::refused(&GroupError::UnknownMember(member));
                reply.send(&self.shared, Err(fault));
            }
            for ((group, reply), answer) in told {
                held.answer(reply, answer, &group, rhythm);
            }
            if let Err(fault) = held.write(&self.shared, now.ms) {
                warn!(partition = number, %fault, "what groups do cannot be written down");
                broken.push(*number);
            }
        }
        // What was done and is not written down is not known to anybody: it is read anew.
        broken.into_iter().for_each(|number| self.let_go(number));
    }
}

impl Held {
    fn leads(&self) -> bool {
        self.partition.replica().is_ok_and(|replica| replica.leads_in(self.epoch))
            && !self.partition.is_deleted()
    }

    /// An error if what is to be written down cannot be: better to refuse one request than to forget what
    /// is known, and to read it anew.
    fn require_enough(&self) -> Result<(), Fault> {
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

    /// A member says that it is there.
    fn hear(
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

    fn answer(
        &mut self,
        reply: Reply<GroupHeartbeatResponse>,
        answer: Answer,
        group: &str,
        rhythm: Rhythm,
    ) {
        let answer = serve::answer_of(self.shard.group(group), answer, rhythm);
        self.answers.push(reply.keep(answer));
    }

    /// Appends what has changed, and hands the answers to the event loops.
    fn write(&mut self, shared: &Arc<Shared>, now_ms: i64) -> Result<(), Fault> {
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
struct TopicsOf<'a>(&'a Shared);

impl KnownTopics for TopicsOf<'_> {
    fn find(&self, name: &str) -> Option<(Uuid, u32)> {
        let state = self.0.cluster.state();
        state.topics.get(name).map(|topic| (topic.id, topic.partitions.len() as u32))
    }

    fn racks(&self, name: &str) -> Vec<BTreeSet<String>> {
        let state = self.0.cluster.state();
        let rack = |id: &u32| state.brokers.get(id)?.rack.clone();
        let partitions = state.topics.get(name).map_or(&[][..], |topic| &topic.partitions);
        partitions.iter().map(|at| at.target().iter().filter_map(rack).collect()).collect()
    }
}
