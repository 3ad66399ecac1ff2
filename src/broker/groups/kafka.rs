//! What members that speak Kafka's protocols ask of a group, the classic one and that of KIP-848.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    CommitOffsets, CommitOffsetsResponse, DescribeGroup, DescribeGroupResponse, TopicPartitions,
};

use super::PartitionId;
use super::assignor::Assignor;
use super::classic::ClassicJoin;
use super::group::{Group, GroupError, GroupLimits, Heartbeat, Now, Topics};
use super::led::{Joined, LedJoin};
use super::member::{JOIN, Profile, STATIC_LEAVE};
use super::serve::{self, MOST_MEMBER, refused, topics_of};
use super::shard::Shard;
use super::subscription;

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
    /// It had its id before; if not, it has been given one.
    pub is_known: bool,
    /// If it is new, it is told its id, and joins with it.
    pub id_first: bool,
    /// As a member of a group that one of them leads.
    pub join: LedJoin,
    /// As one of a group whose members the brokers tell what to read; none: no broker knows how.
    pub served: Option<ServedJoin>,
    /// True if it would rather be in a group that one of its members leads.
    pub wants_leader: bool,
}

/// A classic member joins a group whose members the brokers tell what to read.
#[derive(Debug)]
pub struct ServedJoin {
    /// What it says of itself.
    pub profile: Profile,
    /// What it says that it reads, by the names of topics.
    pub owned: Vec<(String, Vec<u32>)>,
}

/// A classic member asks what it is to do.
#[derive(Debug)]
pub struct SyncAsk {
    /// Who.
    pub caller: Caller,
    /// Its generation.
    pub generation: i32,
    /// What it takes the group's members to be, and to go by; older clients do not say it.
    pub goes_by: (Option<String>, Option<String>),
    /// If it leads, what each is to do.
    pub assignments: Vec<(String, Bytes)>,
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
    /// See [`Profile::pattern`]; empty: none any more.
    pub pattern: Option<String>,
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

/// A classic member joins. Answers nothing if it waits for others.
pub fn join(
    group: &mut Group,
    ask: JoinAsk,
    now: Now,
    topics: Topics<'_>,
    limits: &GroupLimits,
) -> Result<Option<Joined>, Fault> {
    let JoinAsk { is_known, id_first, join, served, wants_leader } = ask;
    let (member, instance) = (join.member.clone(), join.state.instance_id.clone());
    check_names(&member, instance.as_deref())?;
    if is_known {
        check_instance(group, &member, instance.as_deref())?;
        group.check_known(&member).map_err(|error| refused(&error))?;
    } else if id_first {
        group.invite(&member, now, limits).map_err(|error| refused(&error))?;
        return Err(refused(&GroupError::IdFirst));
    }
    let is_served = group.led().is_none() && (group.member_count() > 0 || !wants_leader);
    match served.filter(|_| is_served) {
        Some(served) => serve_member(group, member, served, now, topics, limits).map(Some),
        None => {
            group.led_join(join, now, limits).map_err(|error| refused(&error))?;
            Ok(None)
        }
    }
}

fn serve_member(
    group: &mut Group,
    member: String,
    served: ServedJoin,
    now: Now,
    topics: Topics<'_>,
    limits: &GroupLimits,
) -> Result<Joined, Fault> {
    let ServedJoin { profile, owned } = served;
    let protocol = profile.classic.as_ref().map(|classic| classic.protocol.clone());
    let ids = owned.iter().filter_map(|(name, numbers)| Some((topics.find(name)?.0, numbers)));
    let owned = ids.flat_map(|(topic, numbers)| {
        numbers.iter().map(move |partition| PartitionId { topic, partition: *partition })
    });
    let join = ClassicJoin { member, profile, owned: owned.collect() };
    let generation =
        group.classic_join(join, now, topics, limits).map_err(|error| refused(&error))?;
    Ok(Joined { generation, protocol: protocol.unwrap_or_default(), ..Joined::default() })
}

/// What a classic member is to do. Answers nothing if it waits for the leader.
pub fn sync(group: &mut Group, ask: SyncAsk, now: Now) -> Result<Option<Bytes>, Fault> {
    let SyncAsk { caller, generation, goes_by, assignments } = ask;
    check_instance(group, &caller.member, caller.instance.as_deref())?;
    if group.led().is_none() {
        let assigned = group.classic_sync(&caller.member, generation, now);
        let assigned = assigned.map_err(|error| refused(&error))?;
        let topics = topics_of(Some(group), assigned.iter());
        return Ok(Some(Bytes::from(subscription::assignment(&topics))));
    }
    let synced = group.with_led(now, |led| {
        led.check_sync(&caller.member, generation, &goes_by)?;
        led.sync(&caller.member, generation, assignments, now.since_start)
    });
    synced.map_err(|error| refused(&error)).map(|()| None)
}

/// A classic member is there.
pub fn beat(group: &mut Group, caller: &Caller, generation: i32, now: Now) -> Result<(), Fault> {
    check_instance(group, &caller.member, caller.instance.as_deref())?;
    let result = match group.led() {
        Some(_) => {
            group.with_led(now, |led| led.heartbeat(&caller.member, generation, now.since_start))
        }
        None => group.classic_heartbeat(&caller.member, generation, now),
    };
    result.map_err(|error| refused(&error))
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
    if group.invited.remove(&member).is_some() {
        return Ok(());
    }
    let result = match group.led() {
        Some(_) => group.with_led(now, |led| led.leave(&member, now.since_start)),
        None => group.leave(&member, false, now, topics),
    };
    result.map_err(|error| refused(&error))
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
    // Who is in a group that is led hears of it when it joins again; what its epoch is it does not know.
    if group.is_some_and(|group| group.led().is_some()) {
        return Ok(());
    }
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

/// A group, with what its members say to each other by way of the brokers.
#[derive(Debug)]
pub struct Described {
    /// What our own clients are told.
    pub group: DescribeGroupResponse,
    /// What each of its members says.
    pub said: Vec<Said>,
}

/// What a member says to the one that leads the group, and is told by it.
#[derive(Debug)]
pub struct Said {
    /// It speaks the classic protocol.
    pub is_classic: bool,
    /// What it says.
    pub metadata: Bytes,
    /// What it is told.
    pub assignment: Bytes,
}

/// All that is known of a group.
pub fn describe<R>(
    shard: &Shard<R>,
    request: &DescribeGroup,
    now: Now,
    topics: Topics<'_>,
) -> Result<Described, Fault> {
    let group = serve::describe(shard, request, now, topics)?;
    let known = shard.group(&request.group);
    let said = match known.and_then(Group::led) {
        Some(led) => {
            let protocol = &led.state().protocol;
            let each = led.members().values().map(|member| Said {
                is_classic: true,
                metadata: member.state.metadata(protocol),
                assignment: member.state.assignment.clone(),
            });
            each.collect()
        }
        // What they would say if one of them led.
        None => {
            let members = known.into_iter().flat_map(|group| group.members().values());
            let each = group.members.iter().zip(members).map(|(described, member)| Said {
                is_classic: member.state.profile.classic.is_some(),
                metadata: subscription::subscription(&described.profile.topics).into(),
                assignment: subscription::assignment(&described.assigned).into(),
            });
            each.collect()
        }
    };
    Ok(Described { group, said })
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
    if group.led().is_some() {
        return Err(Fault::new(ErrorCode::GROUP_ID_NOT_FOUND, GroupError::IsLed.to_string()));
    }
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
    let says_what = changes.topics.is_some() || changes.pattern.is_some();
    let says_all = says_what && changes.rebalance_timeout_ms.is_some();
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

impl ConsumerAsk {
    /// True if it joins or leaves.
    pub fn comes_or_goes(&self) -> bool {
        self.epoch <= JOIN
    }
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
            pattern: self.pattern.or(before.pattern).filter(|pattern| !pattern.is_empty()),
            assignor: self.assignor.or(before.assignor),
            classic: None,
        }
    }
}
