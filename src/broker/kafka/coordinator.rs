//! Who coordinates a group.

use std::sync::Arc;

use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use kafka_protocol::protocol::StrBytes;
use mk_net::event_loop::Context;
use mk_net::fault::Fault;
use mk_net::message::BrokerAddress;

use super::NoAnswer;
use super::groups::gather::each_group;
use super::place::{Place, code_of, text};
use super::producer_id::no_transactions;
use crate::broker::groups::find;
use crate::broker::shared::Shared;

/// The kind of key that names a group; the other kinds name transactions and share groups.
const GROUP: i8 = 0;
/// From this version on a request has many keys (KIP-699).
const BATCHED: i16 = 4;

/// Answers at once, or when the offsets topic is made.
pub fn find(
    shared: &Arc<Shared>,
    context: &mut Context,
    place: Place,
    fields: &[u8],
) -> Result<(), NoAnswer> {
    let mut request: FindCoordinatorRequest = place.read(fields)?;
    request.coordinator_keys = each_group(request.coordinator_keys, StrBytes::clone)?;
    if request.key_type != GROUP {
        place.answer(context, &answer(place.version, request, |_| Err(no_transactions())));
    } else if find::has_topic(shared) {
        let found = answer(place.version, request, |group| find::coordinator(shared, group));
        place.answer(context, &found);
    } else {
        let for_worker = shared.clone();
        shared.admin.run(move || {
            let made = find::make_topic(&for_worker);
            let found = answer(place.version, request, |group| {
                made.clone()?;
                find::coordinator(&for_worker, group)
            });
            place.send(&for_worker, &found);
        });
    }
    Ok(())
}

fn answer(
    version: i16,
    request: FindCoordinatorRequest,
    find: impl Fn(&str) -> Result<BrokerAddress, Fault>,
) -> FindCoordinatorResponse {
    let response = FindCoordinatorResponse::default();
    if version >= BATCHED {
        let keys = request.coordinator_keys.into_iter();
        let found = keys.map(|key| {
            let result = find(&key);
            let code = code_of(&result);
            let (id, host, port, message) = place_of(result);
            Coordinator::default()
                .with_key(key)
                .with_error_code(code)
                .with_error_message(message.map(text))
                .with_node_id(id.into())
                .with_host(text(host))
                .with_port(port)
        });
        return response.with_coordinators(found.collect());
    }
    let result = find(&request.key);
    let code = code_of(&result);
    let (id, host, port, message) = place_of(result);
    response
        .with_error_code(code)
        .with_error_message(message.map(text))
        .with_node_id(id.into())
        .with_host(text(host))
        .with_port(port)
}

/// The coordinator's id, host and port; or that there is none, and why.
fn place_of(result: Result<BrokerAddress, Fault>) -> (i32, String, i32, Option<String>) {
    match result {
        Ok(found) => (found.id as i32, found.host, found.port.into(), None),
        Err(fault) => (-1, String::new(), -1, Some(fault.message)),
    }
}
