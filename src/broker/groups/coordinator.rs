//! The thread that coordinates the groups of the partitions which this broker leads. It takes what has come
//! together, writes down once what follows from it, and lets the event loops answer when that is
//! committed: so nobody is told what a later coordinator would not know.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    CommitOffsets, CommitOffsetsResponse, GroupHeartbeat, GroupHeartbeatResponse, LeaveGroup,
    LeaveGroupResponse, ListGroupsResponse,
};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::ask::Ask;
use super::group::{Group, GroupError, GroupLimits, Now, Topics};
use super::held::{Heard, Held, TopicsOf};
use super::kafka;
use super::led::Joined;
use super::serve::{self, Rhythm};
use super::shard::Shard;
use super::{OFFSETS_TOPIC, journal, partition_of_group};
use crate::broker::partition::Partition;
use crate::broker::replication::replica::{Replica, Standing};
use crate::broker::reply::Reply;
use crate::broker::shared::{Shared, replica_of};
use crate::clock::now_ms;
use crate::settings::BrokerSettings;
use crate::zoo::state::LeaderEpoch;

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

impl Serving {
    fn new(shared: Arc<Shared>) -> Serving {
        let settings: &BrokerSettings = &shared.settings;
        let session_ms = settings.number("group.consumer.session.timeout.ms");
        let limits = GroupLimits {
            session_timeout: Duration::from_millis(session_ms),
            most_members: settings.number("group.consumer.max.size") as usize,
            most_metadata: settings.number("offset.metadata.max.bytes") as usize,
            initial_delay: Duration::from_millis(
                settings.number("group.initial.rebalance.delay.ms"),
            ),
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
            let mut has_changed = false;
            for job in first.into_iter().chain(jobs.try_iter()).take(AT_ONCE) {
                match job {
                    Job::Ask(ask) => self.obey(*ask),
                    Job::Changed => has_changed = true,
                    Job::Close => self.closing = true,
                    Job::Stop => return,
                }
            }
            if has_changed {
                self.follow();
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
            Ask::Join(reply, group, ask) => self.join(reply, group, *ask),
            Ask::Sync(reply, group, ask) => self.sync(reply, group, *ask),
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
                let limits = self.limits;
                self.with(&group, reply, |held, topics, now| {
                    // As with our own members: who is in the group stays in it.
                    if ask.comes_or_goes() {
                        held.require_enough()?;
                    }
                    kafka::consumer(held.shard.group_mut(&group), *ask, now, topics, &limits)
                });
            }
            Ask::Commit(reply, request) => self.commit(reply, request),
            Ask::Offsets(reply, request) => {
                self.with(&request.group, reply, |held, topics, now| {
                    Ok(serve::offsets(&held.shard, &request, topics, now))
                })
            }
            Ask::Describe(reply, request) => {
                self.with(&request.group, reply, |held, topics, now| {
                    serve::describe(&held.shard, &request, now, topics)
                })
            }
            Ask::KafkaDescribe(reply, request) => {
                self.with(&request.group, reply, |held, topics, now| {
                    kafka::describe(&held.shard, &request, now, topics)
                })
            }
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

    /// A classic member joins a group. One that is led answers when all have.
    fn join(&mut self, reply: Reply<Joined>, group: String, ask: kafka::JoinAsk) {
        let (now, limits, shared) = (self.now(), self.limits, self.shared.clone());
        let member = ask.join.member.clone();
        let joined = self.hold_for(&group).and_then(|held| {
            held.require_enough()?;
            let of = held.shard.group_mut(&group);
            Ok((kafka::join(of, ask, now, &TopicsOf(&shared), &limits)?, held))
        });
        match joined {
            Ok((Some(joined), held)) => held.answers.push(reply.keep(joined)),
            Ok((None, held)) => held.rounds.joins((group, member), reply, &shared),
            Err(fault) => reply.send(&shared, Err(fault)),
        }
    }

    /// What is a classic member to do? A group that is led answers when the leader has said it.
    fn sync(&mut self, reply: Reply<Bytes>, group: String, ask: kafka::SyncAsk) {
        let (now, shared) = (self.now(), self.shared.clone());
        let member = ask.caller.member.clone();
        let synced = self.hold_for(&group).and_then(|held| {
            held.require_enough()?;
            Ok((kafka::sync(held.shard.group_mut(&group), ask, now)?, held))
        });
        match synced {
            Ok((Some(assignment), held)) => held.answers.push(reply.keep(assignment)),
            Ok((None, held)) => held.rounds.syncs((group, member), reply, &shared),
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
        let held = self.held.get_mut(&number).ok_or_else(|| {
            Fault::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, "the groups cannot be read")
        })?;
        held.freeze();
        Ok(held)
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
        shard.replayed(&TopicsOf(&self.shared), now);
        let (groups, took) = (shard.groups().count(), begin.elapsed());
        info!(partition = number, groups, ?took, "coordinates the groups of a partition");
        Ok(Held::new(partition, epoch, shard))
    }

    /// Does not coordinate a partition's groups any more: who waits is to turn to another.
    fn let_go(&mut self, number: u32) {
        let Some(held) = self.held.remove(&number) else { return };
        let fault = Fault::new(ErrorCode::NOT_COORDINATOR, "another broker coordinates the group");
        held.turn_away(&self.shared, &fault);
    }

    /// The cluster has changed: partitions have other leaders, topics have come, gone or grown.
    fn follow(&mut self) {
        let lost = self.held.iter().filter(|(_, held)| !held.leads());
        let lost: Vec<u32> = lost.map(|(number, _)| *number).collect();
        lost.into_iter().for_each(|number| self.let_go(number));
        for held in self.held.values_mut() {
            held.freeze();
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
            held.freeze();
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
            held.tell_led(&shared);
            if self.closing {
                let stops = Fault::new(ErrorCode::NOT_COORDINATOR, "the coordinator stops");
                held.rounds.turn_away(&shared, &stops);
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
