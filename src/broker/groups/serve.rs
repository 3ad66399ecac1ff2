//! From messages to groups, and back.

use std::collections::BTreeSet;
use std::time::Duration;

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    CommitOffsets, CommitOffsetsResponse, CommitPart, CommittedOffset, DeleteGroup,
    DeleteGroupResponse, DescribeGroup, DescribeGroupResponse, DescribedMember, FetchOffsets,
    FetchOffsetsResponse, GroupHeartbeat, GroupHeartbeatResponse, GroupOffset, ListedGroup,
    MemberAssignment, MemberProfile, PartitionOf, TopicPartitions,
};
use uuid::Uuid;

use super::PartitionId;
use super::assignor::Assignor;
use super::group::{Answer, Group, GroupError, GroupLimits, Heartbeat, Now, Topics};
use super::led::Led;
use super::led::group::CONSUMER;
use super::member::{Member, Profile, STATIC_LEAVE};
use super::offsets::{Committed, PartitionName};
use super::shard::Shard;
use super::subscription;

/// What each answer to a member says of time.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// So often the coordinator wants to hear of a member, in milliseconds.
    pub heartbeat_interval_ms: u32,
    /// So long it may be silent.
    pub session_timeout_ms: u32,
}

/// The type of a group that one of its members leads; of all others it is [`CONSUMER`].
pub const CLASSIC: &str = "classic";

/// Most topics that a member reads.
pub const MOST_TOPICS: usize = 1000;
/// Most bytes of their names: a member is one record of the offsets topic.
const MOST_NAMES: usize = 1 << 20;
/// Most partitions that it is known to have paused.
const MOST_PAUSED: usize = 10_000;
/// Most bytes of its id, and of its instance id: both are told to everybody who asks for the group.
pub const MOST_MEMBER: usize = 249;

/// What a member says, as its group takes it.
pub fn heartbeat(request: GroupHeartbeat, client_host: String) -> Result<Heartbeat, Fault> {
    if request.member.is_empty() || request.member.len() > MOST_MEMBER {
        let what = format!("a member's id of {} bytes", request.member.len());
        return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
    }
    let profile = request.profile.map(|profile| profile_of(profile, client_host)).transpose()?;
    let owned = request.owned.map(|topics| topics.iter().flat_map(ids_of).collect());
    let GroupHeartbeat { member, epoch, seen, beat, polled_ms, .. } = request;
    let polled = Duration::from_millis(polled_ms);
    let paused = request.paused.iter().flat_map(ids_of).take(MOST_PAUSED).collect();
    Ok(Heartbeat { member, epoch, profile, owned, seen, beat, polled, paused })
}

fn profile_of(profile: MemberProfile, client_host: String) -> Result<Profile, Fault> {
    let assignor = |name: String| {
        Assignor::by_name(&name).ok_or_else(|| {
            let what = format!("there is no assignor '{}'", name.escape_debug());
            Fault::new(ErrorCode::UNSUPPORTED_ASSIGNOR, what)
        })
    };
    if profile.topics.len() > MOST_TOPICS {
        let what = format!("{} topics, a member reads {MOST_TOPICS} at most", profile.topics.len());
        return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
    }
    let names = profile.topics.iter().map(String::len).sum::<usize>();
    let own = profile.instance_id.as_ref().map_or(0, String::len);
    if names > MOST_NAMES || own.max(profile.rack.len()) > MOST_MEMBER {
        let what = format!(
            "names of topics of {names} bytes, an instance id of {own} and a rack of {}; \
             {MOST_NAMES}, {MOST_MEMBER} and {MOST_MEMBER} are allowed",
            profile.rack.len()
        );
        return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
    }
    Ok(Profile {
        instance_id: profile.instance_id,
        client_id: profile.client_id,
        client_host,
        rack: profile.rack,
        rebalance_timeout_ms: profile.rebalance_timeout_ms,
        topics: profile.topics.into_iter().collect(),
        pattern: None,
        assignor: profile.assignor.map(assignor).transpose()?,
        classic: None,
    })
}

fn ids_of(topic: &TopicPartitions) -> impl Iterator<Item = PartitionId> + use<> {
    let (topic, numbers) = (topic.topic_id, topic.partitions.clone());
    numbers.into_iter().map(move |partition| PartitionId { topic, partition })
}

/// What a member is answered, as it travels.
pub fn answer_of(group: Option<&Group>, answer: Answer, rhythm: Rhythm) -> GroupHeartbeatResponse {
    let assignment = answer.assigned.map(|(count, partitions)| MemberAssignment {
        count,
        topics: topics_of(group, partitions.iter()),
    });
    let Rhythm { heartbeat_interval_ms, session_timeout_ms } = rhythm;
    let epoch = answer.epoch;
    GroupHeartbeatResponse { epoch, heartbeat_interval_ms, session_timeout_ms, assignment }
}

/// Partitions by their topics; those of topics that are gone are nobody's business any more.
pub fn topics_of<'a>(
    group: Option<&Group>,
    partitions: impl Iterator<Item = &'a PartitionId>,
) -> Vec<TopicPartitions> {
    let mut topics: Vec<TopicPartitions> = Vec::new();
    for PartitionId { topic: topic_id, partition } in partitions.copied() {
        match topics.last_mut().filter(|last| last.topic_id == topic_id) {
            Some(last) => last.partitions.push(partition),
            None => {
                let name = group.and_then(|group| group.topic_name(topic_id));
                let Some(topic) = name.map(str::to_owned) else { continue };
                topics.push(TopicPartitions { topic_id, topic, partitions: vec![partition] });
            }
        }
    }
    topics
}

/// What a client is told when a group refuses.
pub fn refused(error: &GroupError) -> Fault {
    let code = match error {
        GroupError::UnknownMember(_) => ErrorCode::UNKNOWN_MEMBER_ID,
        GroupError::FencedEpoch { .. } | GroupError::NotHeld(_) => ErrorCode::FENCED_MEMBER_EPOCH,
        GroupError::InstanceInUse { .. } => ErrorCode::UNRELEASED_INSTANCE_ID,
        GroupError::Full(_) | GroupError::SaysTooMuch(..) => ErrorCode::GROUP_MAX_SIZE_REACHED,
        GroupError::NoProfile | GroupError::NotLed => ErrorCode::INVALID_REQUEST,
        GroupError::Frozen => ErrorCode::NOT_ENOUGH_REPLICAS,
        GroupError::IdFirst => ErrorCode::MEMBER_ID_REQUIRED,
        GroupError::IsLed | GroupError::NothingInCommon { .. } => {
            ErrorCode::INCONSISTENT_GROUP_PROTOCOL
        }
        GroupError::NotOwner(_) | GroupError::Overtaken { .. } => ErrorCode::STALE_MEMBER_EPOCH,
        GroupError::JoinAgain => ErrorCode::REBALANCE_IN_PROGRESS,
        GroupError::OldGeneration { .. } => ErrorCode::ILLEGAL_GENERATION,
        GroupError::FencedInstance(_) => ErrorCode::FENCED_INSTANCE_ID,
        GroupError::HasMembers => ErrorCode::NON_EMPTY_GROUP,
        GroupError::MetadataTooLarge(..) => ErrorCode::OFFSET_METADATA_TOO_LARGE,
    };
    Fault::new(code, error.to_string())
}

/// Takes commits, each by itself.
pub fn commit<R>(
    shard: &mut Shard<R>,
    request: CommitOffsets,
    now: Now,
    topics: Topics<'_>,
    limits: &GroupLimits,
) -> CommitOffsetsResponse {
    let CommitOffsets { group, member, epoch, number, parts } = request;
    let group = shard.group_mut(&group);
    let begun = group.begin_commit(&member, number).map_err(|error| refused(&error));
    let parts = parts.into_iter().map(|part| {
        begun.clone()?;
        let topic_id = topic_id_of(&part, topics)?;
        let CommitPart { partition, offset, leader_epoch, metadata, .. } = part;
        let name = PartitionName { topic: partition.topic, partition: partition.partition };
        let committed_ms = now.ms;
        let committed = Committed { offset, leader_epoch, metadata, topic_id, committed_ms };
        group.commit((&member, epoch), name, committed, limits).map_err(|error| refused(&error))
    });
    CommitOffsetsResponse { parts: parts.collect() }
}

fn topic_id_of(part: &CommitPart, topics: Topics<'_>) -> Result<Uuid, Fault> {
    let PartitionOf { topic, partition } = &part.partition;
    let (id, count) = topics.find(topic).ok_or_else(|| {
        let what = format!("there is no topic '{}'", topic.escape_debug());
        Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what)
    })?;
    if *partition >= count {
        let what = format!("topic '{topic}' has no partition {partition}");
        return Err(Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what));
    }
    if !part.topic_id.is_nil() && part.topic_id != id {
        let what = format!("topic '{topic}' has id {id}, not {}", part.topic_id);
        return Err(Fault::new(ErrorCode::INCONSISTENT_TOPIC_ID, what));
    }
    Ok(id)
}

/// How far a group has come.
pub fn offsets<R>(
    shard: &Shard<R>,
    request: &FetchOffsets,
    topics: Topics<'_>,
    now: Now,
) -> FetchOffsetsResponse {
    let group = shard.group(&request.group);
    let all = || group.into_iter().flat_map(|group| group.offsets().keys()).map(name_of);
    let names = request.partitions.clone().unwrap_or_else(|| all().collect());
    let parts = names.into_iter().map(|partition| {
        let name = PartitionName { topic: partition.topic.clone(), partition: partition.partition };
        let committed = group.and_then(|group| group.offsets().get(&name));
        let id = topics.find(&name.topic).map(|(id, _)| id);
        let committed = committed.filter(|committed| Some(committed.topic_id) == id);
        let per_second = group.map_or(0, |group| group.per_second(&name, now.ms));
        GroupOffset { partition, committed: committed.map(committed_of), per_second }
    });
    FetchOffsetsResponse { parts: parts.collect() }
}

fn name_of(name: &PartitionName) -> PartitionOf {
    PartitionOf { topic: name.topic.clone(), partition: name.partition }
}

fn committed_of(committed: &Committed) -> CommittedOffset {
    CommittedOffset {
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: committed.metadata.clone(),
        committed_ms: committed.committed_ms,
    }
}

/// A group in short.
pub fn listed(group: &Group) -> ListedGroup {
    ListedGroup {
        group: group.name().to_owned(),
        state: state_of(group).to_owned(),
        group_type: group_type(group).to_owned(),
        protocol_type: protocol_type(group).to_owned(),
        members: group.member_count() as u32,
        offsets: group.offsets().len() as u32,
    }
}

fn group_type(group: &Group) -> &'static str {
    if group.led().is_some() { CLASSIC } else { CONSUMER }
}

fn protocol_type(group: &Group) -> &str {
    group.led().map_or(CONSUMER, |led| &led.state().protocol_type)
}

fn state_of(group: &Group) -> &'static str {
    if let Some(led) = group.led() {
        return led.phase_name();
    }
    let settled = |member: &Member| {
        member.state.epoch == STATIC_LEAVE || member.state.is_settled(group.epoch())
    };
    match group.members().values().all(settled) {
        _ if group.members().is_empty() => "Empty",
        true => "Stable",
        false => "Reconciling",
    }
}

/// All that is known of a group.
pub fn describe<R>(
    shard: &Shard<R>,
    request: &DescribeGroup,
    now: Now,
    topics: Topics<'_>,
) -> Result<DescribeGroupResponse, Fault> {
    let group = shard.group(&request.group).ok_or_else(|| no_group(&request.group))?;
    let served = group.members().iter().map(|(id, member)| {
        let Member { state, heard, polled, paused, .. } = member;
        let of = |partitions: BTreeSet<PartitionId>| topics_of(Some(group), partitions.iter());
        let profile = state.profile.clone();
        DescribedMember {
            member: id.clone(),
            epoch: state.epoch,
            client_host: profile.client_host,
            pattern: profile.pattern,
            profile: MemberProfile {
                instance_id: profile.instance_id,
                client_id: profile.client_id,
                rack: profile.rack,
                rebalance_timeout_ms: profile.rebalance_timeout_ms,
                topics: profile.topics.into_iter().collect(),
                assignor: profile.assignor.map(|assignor| assignor.name().to_owned()),
            },
            heard_ms: now.since_start.saturating_sub(*heard).as_millis() as u64,
            polled_ms: polled.as_millis() as u64,
            paused: of(paused.clone()),
            assigned: of(state.assigned.keys().copied().collect()),
            revoking: of(state.revoking.keys().copied().collect()),
            target: of(state.target.clone()),
        }
    });
    let offsets = group.offsets().iter().map(|(name, committed)| GroupOffset {
        partition: name_of(name),
        committed: Some(committed_of(committed)),
        per_second: group.per_second(name, now.ms),
    });
    let led = group.led().into_iter().flat_map(|led| described_led(led, now, topics));
    let protocol = group.led().map(|led| led.state().protocol.as_str());
    Ok(DescribeGroupResponse {
        state: state_of(group).to_owned(),
        epoch: group.epoch(),
        group_type: group_type(group).to_owned(),
        protocol_type: protocol_type(group).to_owned(),
        assignor: protocol.unwrap_or_else(|| group.assignor().name()).to_owned(),
        members: served.chain(led).collect(),
        offsets: offsets.collect(),
    })
}

/// Members of a group that one of them leads. What they read is known if they say it as Kafka's consumers do.
fn described_led(led: &Led, now: Now, topics: Topics<'_>) -> impl Iterator<Item = DescribedMember> {
    let reads = led.state().protocol_type == CONSUMER;
    led.members().iter().map(move |(id, member)| {
        let state = &member.state;
        let metadata = state.metadata(&led.state().protocol);
        let wants = reads.then(|| subscription::parse(&metadata).ok()).flatten();
        let assigned = reads.then(|| subscription::parse_assignment(&state.assignment).ok());
        let assigned = assigned.flatten().unwrap_or_default().into_iter();
        let assigned = assigned.filter_map(|(topic, partitions)| {
            Some(TopicPartitions { topic_id: topics.find(&topic)?.0, topic, partitions })
        });
        let assigned: Vec<TopicPartitions> = assigned.collect();
        let wants = wants.unwrap_or_default();
        DescribedMember {
            member: id.clone(),
            epoch: state.generation,
            client_host: state.client_host.clone(),
            pattern: None,
            profile: MemberProfile {
                instance_id: state.instance_id.clone(),
                client_id: state.client_id.clone(),
                rack: wants.rack,
                rebalance_timeout_ms: state.rebalance_timeout_ms,
                topics: wants.topics,
                assignor: None,
            },
            heard_ms: now.since_start.saturating_sub(member.heard).as_millis() as u64,
            polled_ms: 0,
            paused: Vec::new(),
            target: assigned.clone(),
            assigned,
            revoking: Vec::new(),
        }
    })
}

fn no_group(name: &str) -> Fault {
    let what = format!("there is no group '{}'", name.escape_debug());
    Fault::new(ErrorCode::GROUP_ID_NOT_FOUND, what)
}

/// Forgets offsets, or the whole group.
pub fn delete<R>(
    shard: &mut Shard<R>,
    request: &DeleteGroup,
) -> Result<DeleteGroupResponse, Fault> {
    let group = shard.group(&request.group).ok_or_else(|| no_group(&request.group))?;
    if group.member_count() > 0 {
        let what = format!("group '{}' has {} members", request.group, group.member_count());
        return Err(Fault::new(ErrorCode::NON_EMPTY_GROUP, what));
    }
    let all = || group.offsets().keys().cloned().collect();
    let named = |partitions: &Vec<PartitionOf>| {
        let name =
            |p: &PartitionOf| PartitionName { topic: p.topic.clone(), partition: p.partition };
        partitions.iter().map(name).collect()
    };
    let names: Vec<PartitionName> = request.partitions.as_ref().map_or_else(all, named);
    let group = shard.group_mut(&request.group);
    group.forget(&names);
    if request.partitions.is_none() {
        group.end();
    }
    Ok(DeleteGroupResponse {})
}
