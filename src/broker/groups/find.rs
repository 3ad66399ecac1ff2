//! Who coordinates a group: the leader of the group's partition of the offsets topic, which is made when
//! somebody asks for the first time.

use std::sync::Arc;

use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{BrokerAddress, FindCoordinator, FindCoordinatorResponse, NewTopic, Setting};

use super::{OFFSETS_TOPIC, partition_of_group};
use crate::broker::reply::Reply;
use crate::broker::shared::Shared;
use crate::broker::{control, describe};

/// Largest batch of the offsets topic: a member that reads ten thousand partitions is one record.
const MOST_BYTES: &str = "16MiB";

/// Answers at once, or when the offsets topic is made.
pub fn find(
    shared: &Arc<Shared>,
    context: &mut Context,
    reply: Reply<FindCoordinatorResponse>,
    request: FindCoordinator,
) {
    let found = |shared: &Shared, request: &FindCoordinator| {
        let coordinator = coordinator(shared, &request.group)?;
        Ok(FindCoordinatorResponse { coordinator })
    };
    if has_topic(shared) {
        reply.answer(context, found(shared, &request));
    } else {
        reply.later(shared, request, move |shared, request| {
            make_topic(shared)?;
            found(shared, &request)
        });
    }
}

/// True if the offsets topic is there.
pub fn has_topic(shared: &Shared) -> bool {
    shared.cluster.state().topics.contains_key(OFFSETS_TOPIC)
}

/// Makes the offsets topic, if there is none.
pub fn make_topic(shared: &Arc<Shared>) -> Result<(), Fault> {
    let setting =
        |name: &str, value: &str| Setting { name: name.to_owned(), value: value.to_owned() };
    let new = NewTopic {
        name: OFFSETS_TOPIC.to_owned(),
        partitions: Some(shared.settings.number("offsets.topic.num.partitions") as u32),
        replication_factor: None,
        settings: vec![
            setting("cleanup.policy", "compact"),
            setting("max.message.bytes", MOST_BYTES),
        ],
    };
    control::make(shared, &new).map_err(|fault| match fault.code {
        // The other brokers of the cluster have not come yet.
        ErrorCode::INVALID_REPLICATION_FACTOR => {
            Fault::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, fault.message)
        }
        _ => fault,
    })
}

/// The coordinator of a group.
pub fn coordinator(shared: &Shared, group: &str) -> Result<BrokerAddress, Fault> {
    let state = shared.cluster.state();
    let not_available = |what: String| Fault::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, what);
    let topic = state.topics.get(OFFSETS_TOPIC);
    let topic = topic.ok_or_else(|| not_available("there is no offsets topic yet".to_owned()))?;
    let number = partition_of_group(group, topic.partitions.len() as u32);
    let leader = topic.partition(number).and_then(|partition| partition.leader);
    let broker = leader.and_then(|id| Some((id, state.brokers.get(&id)?)));
    let address = broker.and_then(|(id, broker)| describe::address_of(id, broker));
    address.ok_or_else(|| {
        not_available(format!("partition {number} of the offsets topic has no leader"))
    })
}
