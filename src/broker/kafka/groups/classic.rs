//! The classic group protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup. Who reads what the brokers decide; no
//! member leads.

use bytes::Bytes;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::TopicPartitions;
use uuid::Uuid;

use super::subscription;
use crate::broker::clients::MOST_TEXT;
use crate::broker::groups::assignor::Assignor;
use crate::broker::groups::coordinator::Ask;
use crate::broker::groups::kafka::{Caller, JoinAsk};
use crate::broker::groups::member::{Classic, Profile};
use crate::broker::groups::serve::MOST_TOPICS;
use crate::broker::kafka::NoAnswer;
use crate::broker::kafka::place::{Place, group_code_of, text};
use crate::broker::shared::Shared;

/// The only type of groups that there is.
pub const CONSUMER: &str = "consumer";
/// From this version on a member that joins first is told its id, and joins with it (KIP-394).
const ID_FIRST: i16 = 4;
/// From this version on a member says how long it may take to join again.
const WITH_REBALANCE_TIMEOUT: i16 = 1;
/// From this version on many members leave at once (KIP-345).
const MANY_LEAVE: i16 = 3;
/// Assignors that do what a client's leader would do with the usual ones: their names with several clients. Others
/// could be run by the members alone.
const KNOWN: [(&str, Assignor); 7] = [
    ("range", Assignor::Range),
    ("RangeAssigner", Assignor::Range),
    ("roundrobin", Assignor::Uniform),
    ("RoundRobinAssigner", Assignor::Uniform),
    ("sticky", Assignor::Uniform),
    ("cooperative-sticky", Assignor::Uniform),
    ("uniform", Assignor::Uniform),
];
/// Characters of its client's id that a member's id begins with.
const MOST_PREFIX: usize = 50;

/// A member joins, or joins again.
pub fn join(
    shared: &Shared,
    context: &mut Context,
    place: Place,
    (client_id, fields): (&str, &[u8]),
) -> Result<(), NoAnswer> {
    let request: JoinGroupRequest = place.read(fields)?;
    let group = request.group_id.to_string();
    let is_known = !request.member_id.is_empty();
    let member = match is_known {
        true => request.member_id.to_string(),
        false => {
            let name: String = client_id.chars().take(MOST_PREFIX).collect();
            format!("{name}-{}", Uuid::new_v4())
        }
    };
    let (protocol, told) = match choose(shared, &request) {
        Ok(protocol) => (protocol, Ok(())),
        Err(fault) => (String::new(), Err(fault)),
    };
    let is_static = request.group_instance_id.is_some();
    let told = told.and_then(|()| match is_known || is_static || place.version < ID_FIRST {
        true => Ok(()),
        false => Err(Fault::new(ErrorCode::MEMBER_ID_REQUIRED, "join with this id")),
    });
    let response = {
        let (member, protocol) = (member.clone(), protocol.clone());
        move |answer: Result<i32, Fault>| {
            let response = JoinGroupResponse::default()
                .with_error_code(group_code_of(&answer))
                .with_member_id(text(member));
            match answer {
                Ok(generation) => response
                    .with_generation_id(generation)
                    .with_protocol_type(Some(text(CONSUMER)))
                    .with_protocol_name(Some(text(protocol))),
                Err(_) => response.with_generation_id(-1).with_protocol_name(Some(text(""))),
            }
        }
    };
    if let Err(fault) = told {
        place.answer(context, &response(Err(fault)));
        return Ok(());
    }
    let host = context.peer().map_or_else(String::new, |peer| peer.ip().to_string());
    match profile(&request, place.version, protocol, (client_id, host)) {
        Ok((profile, owned)) => {
            let ask = Box::new(JoinAsk { member, is_known, profile, owned });
            shared.groups.ask(Ask::Join(place.reply(response), group, ask));
        }
        Err(fault) => place.answer(context, &response(Err(fault))),
    }
    Ok(())
}

/// The assignor of a member, of those that it knows: the first one that the brokers know, too.
fn choose(shared: &Shared, request: &JoinGroupRequest) -> Result<String, Fault> {
    let least = shared.settings.number("group.min.session.timeout.ms");
    let most = shared.settings.number("group.max.session.timeout.ms");
    let session = u64::try_from(request.session_timeout_ms).unwrap_or(0);
    if !(least..=most).contains(&session) {
        let what = format!("a session timeout of {session} ms; {least} to {most} are allowed");
        return Err(Fault::new(ErrorCode::INVALID_SESSION_TIMEOUT, what));
    }
    let is_known = |name: &StrBytes| KNOWN.iter().any(|(known, _)| *known == name.as_str());
    let chosen =
        request.protocols.iter().map(|protocol| &protocol.name).find(|name| is_known(name));
    match chosen {
        Some(name) if request.protocol_type.as_str() == CONSUMER => Ok(name.to_string()),
        _ => {
            let names: Vec<&str> = request.protocols.iter().map(|p| p.name.as_str()).collect();
            let what = format!(
                "members of type '{}' with {names:?}; groups have consumers whose assignor the brokers know",
                request.protocol_type.as_str().escape_debug()
            );
            Err(Fault::new(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, what))
        }
    }
}

type Owned = Vec<(String, Vec<u32>)>;

/// What a member says of itself, and that it reads.
fn profile(
    request: &JoinGroupRequest,
    version: i16,
    protocol: String,
    (client_id, client_host): (&str, String),
) -> Result<(Profile, Owned), Fault> {
    let invalid = |what: String| Fault::new(ErrorCode::INVALID_REQUEST, what);
    let metadata = request.protocols.iter().find(|p| p.name.as_str() == protocol);
    let metadata = metadata.map(|protocol| protocol.metadata.clone()).unwrap_or_default();
    let wants = subscription::parse(&metadata).map_err(|error| {
        invalid(format!("the subscription of protocol '{protocol}' cannot be read: {error}"))
    })?;
    if wants.topics.len() > MOST_TOPICS {
        let count = wants.topics.len();
        return Err(invalid(format!("{count} topics, a member reads {MOST_TOPICS} at most")));
    }
    let positive = |ms: i32| u32::try_from(ms).unwrap_or(0);
    let session_timeout_ms = positive(request.session_timeout_ms);
    let rebalance_timeout_ms = match request.rebalance_timeout_ms {
        0.. if version >= WITH_REBALANCE_TIMEOUT => positive(request.rebalance_timeout_ms),
        _ => session_timeout_ms,
    };
    let profile = Profile {
        instance_id: request.group_instance_id.as_ref().map(StrBytes::to_string),
        client_id: client_id.chars().take(MOST_TEXT).collect(),
        client_host,
        rack: wants.rack,
        rebalance_timeout_ms,
        topics: wants.topics.into_iter().collect(),
        assignor: KNOWN.iter().find(|(name, _)| *name == protocol).map(|(_, assignor)| *assignor),
        classic: Some(Classic { session_timeout_ms, protocol }),
    };
    Ok((profile, wants.owned))
}

/// What a member is to read.
pub fn sync(shared: &Shared, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: SyncGroupRequest = place.read(fields)?;
    let (protocol_type, protocol) = (request.protocol_type, request.protocol_name);
    let reply = place.reply(move |answer: Result<Vec<TopicPartitions>, Fault>| {
        let response = SyncGroupResponse::default().with_error_code(group_code_of(&answer));
        let Ok(topics) = answer else { return response };
        response
            .with_assignment(Bytes::from(subscription::assignment(&topics)))
            .with_protocol_type(protocol_type)
            .with_protocol_name(protocol)
    });
    let caller = caller(&request.member_id, request.group_instance_id);
    let group = request.group_id.to_string();
    shared.groups.ask(Ask::Sync(reply, group, caller, request.generation_id));
    Ok(())
}

/// A member is there.
pub fn heartbeat(shared: &Shared, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: HeartbeatRequest = place.read(fields)?;
    let reply = place.reply(|answer: Result<(), Fault>| {
        HeartbeatResponse::default().with_error_code(group_code_of(&answer))
    });
    let caller = caller(&request.member_id, request.group_instance_id);
    let group = request.group_id.to_string();
    shared.groups.ask(Ask::Beat(reply, group, caller, request.generation_id));
    Ok(())
}

/// Members leave.
pub fn leave(shared: &Shared, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: LeaveGroupRequest = place.read(fields)?;
    let group = request.group_id.to_string();
    if place.version < MANY_LEAVE {
        let reply = place.reply(|answer: Result<Vec<Result<(), Fault>>, Fault>| {
            let answer = answer.and_then(|each| each.into_iter().collect::<Result<Vec<()>, _>>());
            LeaveGroupResponse::default().with_error_code(group_code_of(&answer))
        });
        let callers = vec![caller(&request.member_id, None)];
        shared.groups.ask(Ask::LeaveEach(reply, group, callers));
        return Ok(());
    }
    let callers = request.members.iter();
    let callers = callers.map(|who| caller(&who.member_id, who.group_instance_id.clone()));
    let callers: Vec<Caller> = callers.collect();
    let members = request.members;
    let reply = place.reply(move |answer: Result<Vec<Result<(), Fault>>, Fault>| {
        let response = LeaveGroupResponse::default().with_error_code(group_code_of(&answer));
        let each = members.into_iter().zip(answer.into_iter().flatten());
        let each = each.map(|(who, result)| {
            MemberResponse::default()
                .with_member_id(who.member_id)
                .with_group_instance_id(who.group_instance_id)
                .with_error_code(group_code_of(&result))
        });
        response.with_members(each.collect())
    });
    shared.groups.ask(Ask::LeaveEach(reply, group, callers));
    Ok(())
}

/// A member, as a request names it.
pub fn caller(member: &StrBytes, instance: Option<StrBytes>) -> Caller {
    Caller { member: member.to_string(), instance: instance.map(|id| id.to_string()) }
}
