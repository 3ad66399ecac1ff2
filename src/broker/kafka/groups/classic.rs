//! The classic group protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup. Who reads what the brokers decide if they
//! know how, and the member that leads if they do not.

use bytes::Bytes;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;
use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use uuid::Uuid;

use crate::broker::clients::MOST_TEXT;
use crate::broker::groups::ask::Ask;
use crate::broker::groups::assignor::Assignor;
use crate::broker::groups::kafka::{Caller, JoinAsk, ServedJoin, SyncAsk};
use crate::broker::groups::led::group::CONSUMER;
use crate::broker::groups::led::{Joined, LedJoin, LedMemberState, Protocol};
use crate::broker::groups::member::{Classic, Profile};
use crate::broker::groups::serve::MOST_TOPICS;
use crate::broker::groups::subscription;
use crate::broker::kafka::NoAnswer;
use crate::broker::kafka::place::{Place, group_code_of, text};
use crate::broker::shared::Shared;

/// From this version on a member that joins first is told its id, and joins with it (KIP-394).
const ID_FIRST: i16 = 4;
/// From this version on a member says how long it may take to join again.
const WITH_REBALANCE_TIMEOUT: i16 = 1;
/// From this version on many members leave at once (KIP-345).
const MANY_LEAVE: i16 = 3;
/// From this version on a member can be told that it leads and has nothing to give out (KIP-814).
const CAN_SKIP: i16 = 9;
/// Most bytes that a member says of itself to its leader, and it to a member: one record holds both.
const MOST_SAID: usize = 256 << 10;
/// Most ways of giving out work that a member knows.
const MOST_PROTOCOLS: usize = 100;
/// Assignors that do what a client's leader would do with the usual ones: their names with several clients. Others
/// are run by the member that leads alone.
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
    let is_known = !request.member_id.is_empty();
    let member = match is_known {
        true => request.member_id.to_string(),
        false => {
            let name: String = client_id.chars().take(MOST_PREFIX).collect();
            format!("{name}-{}", Uuid::new_v4())
        }
    };
    let response = response(member.clone(), request.protocol_type.to_string());
    let host = context.peer().map_or_else(String::new, |peer| peer.ip().to_string());
    let client = (client_id.chars().take(MOST_TEXT).collect(), host);
    let asked = check_session(shared, &request)
        .and_then(|()| Ok((state_of(&request, place.version, client)?, request)))
        .and_then(|(state, request)| Ok((served(&request, &state)?, state, request)));
    let (served, state, request) = match asked {
        Ok(asked) => asked,
        Err(fault) => {
            place.answer(context, &response(Err(fault)));
            return Ok(());
        }
    };
    let ask = JoinAsk {
        is_known,
        id_first: request.group_instance_id.is_none() && place.version >= ID_FIRST,
        wants_leader: served.is_none() || known(&request.protocols[0].name).is_none(),
        served,
        join: LedJoin {
            member,
            protocol_type: request.protocol_type.to_string(),
            state,
            can_skip: place.version >= CAN_SKIP,
        },
    };
    let group = request.group_id.to_string();
    shared.groups.ask(Ask::Join(place.reply(response), group, Box::new(ask)));
    Ok(())
}

/// What a member is told that has joined, or has not.
fn response(
    member: String,
    protocol_type: String,
) -> impl FnOnce(Result<Joined, Fault>) -> JoinGroupResponse + Send + 'static {
    move |answer| {
        let response = JoinGroupResponse::default()
            .with_error_code(group_code_of(&answer))
            .with_member_id(text(member));
        let Ok(joined) = answer else {
            return response.with_generation_id(-1).with_protocol_name(Some(text("")));
        };
        let members = joined.members.into_iter().map(|member| {
            JoinGroupResponseMember::default()
                .with_member_id(text(member.member))
                .with_group_instance_id(member.instance_id.map(text))
                .with_metadata(member.metadata)
        });
        response
            .with_generation_id(joined.generation)
            .with_protocol_type(Some(text(protocol_type)))
            .with_protocol_name(Some(text(joined.protocol)))
            .with_leader(text(joined.leader))
            .with_skip_assignment(joined.skips_assignment)
            .with_members(members.collect())
    }
}

fn check_session(shared: &Shared, request: &JoinGroupRequest) -> Result<(), Fault> {
    let least = shared.settings.number("group.min.session.timeout.ms");
    let most = shared.settings.number("group.max.session.timeout.ms");
    let session = u64::try_from(request.session_timeout_ms).unwrap_or(0);
    if (least..=most).contains(&session) {
        return Ok(());
    }
    let what = format!("a session timeout of {session} ms; {least} to {most} are allowed");
    Err(Fault::new(ErrorCode::INVALID_SESSION_TIMEOUT, what))
}

/// The assignor that brokers run under a name.
fn known(name: &StrBytes) -> Option<Assignor> {
    KNOWN.iter().find(|(known, _)| *known == name.as_str()).map(|(_, assignor)| *assignor)
}

/// What a member says of itself.
fn state_of(
    request: &JoinGroupRequest,
    version: i16,
    (client_id, client_host): (String, String),
) -> Result<LedMemberState, Fault> {
    if request.protocols.is_empty() || request.protocol_type.is_empty() {
        let what = "a member says what it is, and by what it can go";
        return Err(Fault::new(ErrorCode::INCONSISTENT_GROUP_PROTOCOL, what));
    }
    if request.protocols.len() > MOST_PROTOCOLS {
        let what = format!("{} protocols; {MOST_PROTOCOLS} are allowed", request.protocols.len());
        return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
    }
    let positive = |ms: i32| u32::try_from(ms).unwrap_or(0);
    let session_timeout_ms = positive(request.session_timeout_ms);
    let rebalance_timeout_ms = match request.rebalance_timeout_ms {
        0.. if version >= WITH_REBALANCE_TIMEOUT => positive(request.rebalance_timeout_ms),
        _ => session_timeout_ms,
    };
    let protocols = request.protocols.iter().map(|protocol| Protocol {
        name: protocol.name.to_string(),
        metadata: protocol.metadata.clone(),
    });
    let state = LedMemberState {
        instance_id: request.group_instance_id.as_ref().map(StrBytes::to_string),
        client_id,
        client_host,
        session_timeout_ms,
        rebalance_timeout_ms,
        protocols: protocols.collect(),
        ..LedMemberState::default()
    };
    let bytes = state.said() + request.protocol_type.len();
    if bytes > MOST_SAID {
        let what = format!("a member that says {bytes} bytes of itself; {MOST_SAID} are allowed");
        return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
    }
    Ok(state)
}

/// What it says in a group whose members the brokers tell what to read; nothing, if no broker knows its assignors.
fn served(request: &JoinGroupRequest, state: &LedMemberState) -> Result<Option<ServedJoin>, Fault> {
    let chosen = request.protocols.iter().find_map(|p| Some((p, known(&p.name)?)));
    let Some((protocol, assignor)) = chosen.filter(|_| request.protocol_type.as_str() == CONSUMER)
    else {
        return Ok(None);
    };
    let invalid = |what: String| Fault::new(ErrorCode::INVALID_REQUEST, what);
    let name = protocol.name.to_string();
    let wants = subscription::parse(&protocol.metadata).map_err(|error| {
        invalid(format!("the subscription of protocol '{name}' cannot be read: {error}"))
    })?;
    if wants.topics.len() > MOST_TOPICS {
        let count = wants.topics.len();
        return Err(invalid(format!("{count} topics, a member reads {MOST_TOPICS} at most")));
    }
    let profile = Profile {
        instance_id: state.instance_id.clone(),
        client_id: state.client_id.clone(),
        client_host: state.client_host.clone(),
        rack: wants.rack,
        rebalance_timeout_ms: state.rebalance_timeout_ms,
        topics: wants.topics.into_iter().collect(),
        pattern: None,
        assignor: Some(assignor),
        classic: Some(Classic {
            session_timeout_ms: state.session_timeout_ms,
            protocol: name,
            protocols: state.protocols.iter().map(|protocol| protocol.name.clone()).collect(),
        }),
    };
    Ok(Some(ServedJoin { profile, owned: wants.owned }))
}

/// What a member is to do.
pub fn sync(shared: &Shared, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: SyncGroupRequest = place.read(fields)?;
    let (protocol_type, protocol) = (request.protocol_type, request.protocol_name);
    let said = |text: &Option<StrBytes>| text.as_ref().map(StrBytes::to_string);
    let goes_by = (said(&protocol_type), said(&protocol));
    let reply = place.reply(move |answer: Result<Bytes, Fault>| {
        let response = SyncGroupResponse::default().with_error_code(group_code_of(&answer));
        let Ok(assignment) = answer else { return response };
        response
            .with_assignment(assignment)
            .with_protocol_type(protocol_type)
            .with_protocol_name(protocol)
    });
    let too_long =
        request.assignments.iter().map(|to| to.assignment.len()).find(|n| *n > MOST_SAID);
    if let Some(bytes) = too_long {
        let what = format!("{bytes} bytes for a member to do; {MOST_SAID} are allowed");
        reply.send(shared, Err(Fault::new(ErrorCode::INVALID_REQUEST, what)));
        return Ok(());
    }
    let assignments = request.assignments.into_iter();
    let ask = SyncAsk {
        caller: caller(&request.member_id, request.group_instance_id),
        generation: request.generation_id,
        goes_by,
        assignments: assignments.map(|to| (to.member_id.to_string(), to.assignment)).collect(),
    };
    let group = request.group_id.to_string();
    shared.groups.ask(Ask::Sync(reply, group, Box::new(ask)));
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
