//! What members that speak Kafka's protocols ask of a group, the classic one and that of KIP-848.

use std::collections::BTreeSet;
use std::time::Duration;

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{CommitOffsets, CommitOffsetsResponse, TopicPartitions};

use super::PartitionId;
use super::assignor::Assignor;
use super::classic::ClassicJoin;
use super::group::{Group, GroupError, GroupLimits, Heartbeat, Now, Topics};
use super::member::{JOIN, Profile, STATIC_LEAVE};
use super::serve::{self, MOST_MEMBER, refused, topics_of};
use super::shard::Shard;

/// A member, as it names itself with each request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its id; empty: only the instance id names it.
    pub member: String,
    /// Its instance id, if it has one.
    pub instance: Option<String>,
}

/// A classic member joins.
#[derive(Debug)]
pub struct JoinAsk {
    /// Who; a new member has been given an id.
    pub member: String,
    /// It had an id before.
    pub is_known: bool,
    /// What it says of itself.
    pub profile: Profile,
    /// What it says that it reads, by the names of topics.
    pub owned: Vec<(String, Vec<u32>)>,
}

/// A member of KIP-848 says that it is there.
#[derive(Debug)]
pub struct ConsumerAsk {
    /// Its id.
    pub member: String,
    /// Its epoch: 0 joins, -1 leaves, -2 leaves and comes back.
    pub epoch: i32,
    /// What it says of itself, as far as that is new.
    pub changes: Changes,
    /// What it reads, if that is new.
    pub owned: Option<BTreeSet<PartitionId>>,
}

/// What a member says of itself, as far as that is new.
#[derive(Debug)]
pub struct Changes {
    /// See [`Profile::instance_id`].
    pub instance_id: Option<String>,
    /// See [`Profile::client_id`].
    pub client_id: String,
    /// See [`Profile::client_host`].
    pub client_host: String,
    /// See [`Profile::rack`].
    pub rack: Option<String>,
    /// See [`Profile::rebalance_timeout_ms`].
    pub rebalance_timeout_ms: Option<u32>,
    /// See [`Profile::topics`].
    pub topics: Option<Vec<String>>,
    /// See [`Profile::assignor`].
    pub assignor: Option<Assignor>,
}

/// What it is answered.
#[derive(Debug)]
pub struct ConsumerAnswer {
    /// Its epoch.
    pub epoch: i32,
    /// What it is to read, if that is to be told.
    pub assigned: Option<Vec<TopicPartitions>>,
}

/// It leaves.
const LEAVES: i32 = -1;

/// A classic member joins. Answers its generation.
pub fn join(
    group: &mut Group,
    ask: JoinAsk,
    now: Now,
    topics: Topics<'_>,
    limits: &GroupLimits,
) -> Result<i32, Fault> {
    let JoinAsk { member, is_known, profile, owned } = ask;
    check_names(&member, profile.instance_id.as_deref())?;
    if is_known {
        check_instance(group, &member, profile.instance_id.as_deref())?;
    }
    let ids = owned.iter().filter_map(|(name, numbers)| Some((topics.find(name)?.0, numbers)));
    let owned = ids.flat_map(|(topic, numbers)| {
        numbers.iter().map(move |partition| PartitionId { topic, partition: *partition })
    });
    let join = ClassicJoin { member, is_known, profile, owned: owned.collect() };
    group.classic_join(join, now, topics, limits).map_err(|error| refused(&error))
}

/// What a classic member is to read.
pub fn sync(
    group: &mut Group,
    caller: &Caller,
    generation: i32,
    now: Now,
) -> Result<Vec<TopicPartitions>, Fault> {
    check_instance(group, &caller.member, caller.instance.as_deref())?;
    let assigned = group.classic_sync(&caller.member, generation, now);
    let assigned = assigned.map_err(|error| refused(&error))?;
    Ok(topics_of(Some(group), assigned.iter()))
}

/// A classic member is there.
pub fn beat(group: &mut Group, caller: &Caller, generation: i32, now: Now) -> Result<(), Fault> {
    check_instance(group, &caller.member, caller.instance.as_deref())?;
    group.classic_heartbeat(&caller.member, generation, now).map_err(|error| refused(&error))
}

/// A member leaves, or is sent away by its instance id.
pub fn leave(
    group: &mut Group,
    caller: &Caller,
    now: Now,
    topics: Topics<'_>,
) -> Result<(), Fault> {
    let by_instance = caller.instance.as_deref().and_then(|id| group.member_of_instance(id));
    let member = match (caller.member.as_str(), by_instance) {
        ("", Some(member)) => member,
        (member, _) => {
            check_instance(group, member, caller.instance.as_deref())?;
            member.to_owned()
        }
    };
    group.leave(&member, false, now, topics).map_err(|error| refused(&error))
}

fn check_names(member: &str, instance: Option<&str>) -> Result<(), Fault> {
    let longest = member.len().max(instance.unwrap_or_default().len());
    if member.is_empty() || longest > MOST_MEMBER {
        let what = format!("an id of {longest} bytes; a member's has 1 to {MOST_MEMBER}");
        return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
    }
    Ok(())
}

/// An error if another member has the instance id by now.
pub fn check_instance(group: &Group, member: &str, instance: Option<&str>) -> Result<(), Fault> {
    let holder = instance.and_then(|instance| group.member_of_instance(instance));
    match (instance, holder) {
        (Some(instance), Some(holder)) if holder != member => {
            Err(refused(&GroupError::FencedInstance(instance.to_owned())))
        }
        _ => Ok(()),
    }
}

/// An error if a member that asks how far its group has come is none, or has another epoch by now: it may have lost what
/// it asks for, and is to hear of that first. Whoever names no member asks from outside.
pub fn check_reader(group: Option<&Group>, reader: Option<&(String, i32)>) -> Result<(), Fault> {
    let Some((id, epoch)) = reader else { return Ok(()) };
    let unknown = || refused(&GroupError::UnknownMember(id.clone()));
    let member = group.and_then(|group| group.members().get(id)).ok_or_else(unknown)?;
    if member.state.epoch == *epoch {
        return Ok(());
    }
    let what = format!("the member's epoch is {}, not {epoch}", member.state.epoch);
    Err(Fault::new(ErrorCode::STALE_MEMBER_EPOCH, what))
}

/// Takes the commits of a client of Kafka's. A classic member knows generations, and no epochs: if a partition went to
/// another it is to join again.
pub fn commit<R>(
    shard: &mut Shard<R>,
    commit: CommitOffsets,
    instance: Option<&str>,
    now: Now,
    topics: Topics<'_>,
    limits: &GroupLimits,
) -> Result<CommitOffsetsResponse, Fault> {
    let group = shard.group_mut(&commit.group);
    check_instance(group, &commit.member, instance)?;
    let member = group.members().get(&commit.member);
    let is_classic = member.is_some_and(|member| member.state.profile.classic.is_some());
    let mut answer = serve::commit(shard, commit, now, topics, limits);
    for fault in answer.parts.iter_mut().filter_map(|part| part.as_mut().err()) {
        if is_classic && fault.code == ErrorCode::STALE_MEMBER_EPOCH {
            fault.code = ErrorCode::REBALANCE_IN_PROGRESS;
        }
    }
    Ok(answer)
}

/// A member of KIP-848 says that it is there, or that it leaves.
pub fn consumer(
    group: &mut Group,
    ask: ConsumerAsk,
    now: Now,
    topics: Topics<'_>,
    limits: &GroupLimits,
) -> Result<ConsumerAnswer, Fault> {
    let ConsumerAsk { member, epoch, changes, owned } = ask;
    check_names(&member, changes.instance_id.as_deref())?;
    if matches!(epoch, LEAVES | STATIC_LEAVE) {
        let left = group.leave(&member, epoch == STATIC_LEAVE, now, topics);
        left.map_err(|error| refused(&error))?;
        return Ok(ConsumerAnswer { epoch, assigned: None });
    }
    if epoch < JOIN {
        return Err(Fault::new(ErrorCode::INVALID_REQUEST, format!("a member epoch of {epoch}")));
    }
    let known = group.members().get(&member);
    let before = known.filter(|_| epoch != JOIN).map(|member| member.state.profile.clone());
    let says_all = changes.topics.is_some() && changes.rebalance_timeout_ms.is_some();
    if epoch == JOIN && !says_all {
        return Err(refused(&GroupError::NoProfile));
    }
    // It sends nothing before it has heard the answer to what it has sent.
    let (seen, beat) = known.map_or((0, 1), |member| (member.told.count, member.beat + 1));
    let heartbeat = Heartbeat {
        member: member.clone(),
        epoch,
        profile: Some(changes.apply(before.unwrap_or_default())),
        owned,
        seen: if epoch == JOIN { 0 } else { seen },
        beat,
        polled: Duration::ZERO,
        paused: BTreeSet::new(),
    };
    let answer = group.heartbeat(heartbeat, now, topics, limits);
    let answer = answer.map_err(|error| refused(&error))?;
    let assigned = answer.assigned.map(|(_, partitions)| topics_of(Some(group), partitions.iter()));
    Ok(ConsumerAnswer { epoch: answer.epoch, assigned })
}

impl Changes {
    fn apply(self, before: Profile) -> Profile {
        Profile {
            instance_id: self.instance_id.or(before.instance_id),
            client_id: self.client_id,
            client_host: self.client_host,
            rack: self.rack.unwrap_or(before.rack),
            rebalance_timeout_ms: self.rebalance_timeout_ms.unwrap_or(before.rebalance_timeout_ms),
            topics: self.topics.map_or(before.topics, |topics| topics.into_iter().collect()),
            assignor: self.assignor.or(before.assignor),
            classic: None,
        }
    }
}
