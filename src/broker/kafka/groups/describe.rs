//! What is known of groups: ListGroups, DescribeGroups, ConsumerGroupDescribe; and DeleteGroups.

use kafka_protocol::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup as ConsumerGroup, Member, TopicPartitions,
};
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, DeleteGroupsRequest,
    DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    ListGroupsRequest, ListGroupsResponse, TopicName,
};
use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{self, DeleteGroup, DescribeGroup, DescribedMember};

use super::gather::{Gather, each_group};
use crate::broker::groups::ask::Ask;
use crate::broker::groups::kafka::{Described, Said};
use crate::broker::groups::serve::CLASSIC;
use crate::broker::kafka::NoAnswer;
use crate::broker::kafka::metadata::NOT_ASKED;
use crate::broker::kafka::place::{Place, group_code_of, text};
use crate::broker::shared::Shared;

/// What may be done with a group, where nobody is forbidden anything: a bit for each of Kafka's `AclOperation`s READ,
/// DELETE, DESCRIBE.
const OF_GROUP: i32 = 1 << 3 | 1 << 6 | 1 << 8;
/// From this version on the state of groups is told, and can be asked for (KIP-518).
const WITH_STATES: i16 = 4;
/// From this version on their type is (KIP-848).
const WITH_TYPES: i16 = 5;
/// From this version on it is told that there is no such group (KIP-1043).
const NO_SUCH_GROUP: i16 = 6;

/// The groups that this broker coordinates.
pub fn list(shared: &Shared, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: ListGroupsRequest = place.read(fields)?;
    let reply = place.reply(move |answer: Result<message::ListGroupsResponse, Fault>| {
        let response = ListGroupsResponse::default().with_error_code(group_code_of(&answer));
        let is_wanted = |wanted: &[kafka_protocol::protocol::StrBytes], name: &str| {
            wanted.is_empty() || wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let groups = answer.into_iter().flat_map(|answer| answer.groups).filter(|group| {
            is_wanted(&request.states_filter, &group.state)
                && is_wanted(&request.types_filter, &group.group_type)
        });
        let groups = groups.map(|group| {
            let listed = ListedGroup::default()
                .with_group_id(GroupId(text(group.group)))
                .with_protocol_type(text(group.protocol_type));
            let (state, kind) = (text(group.state), text(group.group_type));
            let listed =
                if place.version >= WITH_STATES { listed.with_group_state(state) } else { listed };
            if place.version >= WITH_TYPES { listed.with_group_type(kind) } else { listed }
        });
        response.with_groups(groups.collect())
    });
    shared.groups.ask(Ask::List(reply));
    Ok(())
}

/// Describes groups as those of the classic protocol.
pub fn classic(
    shared: &Shared,
    context: &mut Context,
    place: Place,
    fields: &[u8],
) -> Result<(), NoAnswer> {
    let request: DescribeGroupsRequest = place.read(fields)?;
    let operations = if request.include_authorized_operations { OF_GROUP } else { NOT_ASKED };
    if request.groups.is_empty() {
        place.answer(context, &DescribeGroupsResponse::default());
        return Ok(());
    }
    let groups = each_group(request.groups, GroupId::clone)?;
    let gather = Gather::new(place, groups.len());
    for (index, id) in groups.into_iter().enumerate() {
        let group = id.to_string();
        let translate = move |answer| classic_of(id, answer, place.version, operations);
        let whole = |groups| DescribeGroupsResponse::default().with_groups(groups);
        let reply = gather.reply(index, translate, whole);
        shared.groups.ask(Ask::KafkaDescribe(reply, DescribeGroup { group }));
    }
    Ok(())
}

fn classic_of(
    id: GroupId,
    answer: Result<Described, Fault>,
    version: i16,
    operations: i32,
) -> DescribedGroup {
    let described =
        DescribedGroup::default().with_group_id(id).with_authorized_operations(operations);
    match answer {
        Ok(Described { group, said }) => {
            let members = group.members.into_iter().zip(said);
            let members = members.map(|(member, said)| {
                DescribedGroupMember::default()
                    .with_member_id(text(member.member))
                    .with_group_instance_id(
                        member.profile.instance_id.filter(|_| version >= 4).map(text),
                    )
                    .with_client_id(text(member.profile.client_id))
                    .with_client_host(text(member.client_host))
                    .with_member_metadata(said.metadata)
                    .with_member_assignment(said.assignment)
            });
            described
                .with_group_state(text(classic_state(&group.state)))
                .with_protocol_type(text(group.protocol_type))
                .with_protocol_data(text(group.assignor))
                .with_members(members.collect())
        }
        // To clients that are older a group that there is not is a dead one.
        Err(fault) if fault.code == ErrorCode::GROUP_ID_NOT_FOUND && version < NO_SUCH_GROUP => {
            described.with_group_state(text("Dead"))
        }
        Err(fault) => described.with_error_code(group_code_of::<()>(&Err(fault))),
    }
}

/// A state by the name that it has in the classic protocol.
fn classic_state(state: &str) -> &str {
    if state == "Reconciling" { "PreparingRebalance" } else { state }
}

/// Describes groups as those of KIP-848.
pub fn consumer(
    shared: &Shared,
    context: &mut Context,
    place: Place,
    fields: &[u8],
) -> Result<(), NoAnswer> {
    let request: ConsumerGroupDescribeRequest = place.read(fields)?;
    let operations = if request.include_authorized_operations { OF_GROUP } else { NOT_ASKED };
    if request.group_ids.is_empty() {
        place.answer(context, &ConsumerGroupDescribeResponse::default());
        return Ok(());
    }
    let groups = each_group(request.group_ids, GroupId::clone)?;
    let gather = Gather::new(place, groups.len());
    for (index, id) in groups.into_iter().enumerate() {
        let group = id.to_string();
        let translate = move |answer| consumer_of(id, answer, operations);
        let whole = |groups| ConsumerGroupDescribeResponse::default().with_groups(groups);
        let reply = gather.reply(index, translate, whole);
        shared.groups.ask(Ask::KafkaDescribe(reply, DescribeGroup { group }));
    }
    Ok(())
}

fn consumer_of(id: GroupId, answer: Result<Described, Fault>, operations: i32) -> ConsumerGroup {
    let described =
        ConsumerGroup::default().with_group_id(id).with_authorized_operations(operations);
    match answer {
        // Its members are asked for by DescribeGroups.
        Ok(Described { group, .. }) if group.group_type == CLASSIC => described
            .with_error_code(ErrorCode::GROUP_ID_NOT_FOUND.0)
            .with_error_message(Some(text("one of the group's members leads it".to_owned()))),
        Ok(Described { group, said }) => described
            .with_group_state(text(group.state))
            .with_group_epoch(group.epoch)
            .with_assignment_epoch(group.epoch)
            .with_assignor_name(text(group.assignor))
            .with_members(group.members.into_iter().zip(said).map(member_of).collect()),
        Err(fault) => described
            .with_error_code(group_code_of::<()>(&Err(fault.clone())))
            .with_error_message(Some(text(fault.message))),
    }
}

fn member_of((member, said): (DescribedMember, Said)) -> Member {
    let profile = member.profile;
    let names = profile.topics.into_iter().map(|name| TopicName(text(name)));
    Member::default()
        .with_member_id(text(member.member))
        .with_instance_id(profile.instance_id.map(text))
        .with_rack_id(Some(profile.rack).filter(|rack| !rack.is_empty()).map(text))
        .with_member_epoch(member.epoch)
        .with_client_id(text(profile.client_id))
        .with_client_host(text(member.client_host))
        .with_subscribed_topic_names(names.collect())
        .with_subscribed_topic_regex(member.pattern.map(text))
        .with_member_type(if said.is_classic { 0 } else { 1 })
        .with_assignment(assignment_of(member.assigned))
        .with_target_assignment(assignment_of(member.target))
}

fn assignment_of(topics: Vec<message::TopicPartitions>) -> Assignment {
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|number| number as i32);
        TopicPartitions::default()
            .with_topic_id(topic.topic_id)
            .with_topic_name(TopicName(text(topic.topic)))
            .with_partitions(partitions.collect())
    });
    Assignment::default().with_topic_partitions(topics.collect())
}

/// Forgets groups.
pub fn delete(
    shared: &Shared,
    context: &mut Context,
    place: Place,
    fields: &[u8],
) -> Result<(), NoAnswer> {
    let request: DeleteGroupsRequest = place.read(fields)?;
    if request.groups_names.is_empty() {
        place.answer(context, &DeleteGroupsResponse::default());
        return Ok(());
    }
    let groups = each_group(request.groups_names, GroupId::clone)?;
    let gather = Gather::new(place, groups.len());
    for (index, id) in groups.into_iter().enumerate() {
        let group = id.to_string();
        let translate = move |answer: Result<message::DeleteGroupResponse, Fault>| {
            let code = group_code_of(&answer);
            DeletableGroupResult::default().with_group_id(id).with_error_code(code)
        };
        let whole = |results| DeleteGroupsResponse::default().with_results(results);
        let reply = gather.reply(index, translate, whole);
        shared.groups.ask(Ask::Delete(reply, DeleteGroup { group, partitions: None }));
    }
    Ok(())
}
