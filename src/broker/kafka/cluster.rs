//! The brokers, for those who run the cluster (KIP-700).

use std::sync::Arc;

use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::{BrokerId, DescribeClusterRequest, DescribeClusterResponse};
use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{self, BrokerAddress, Metadata};

use super::NoAnswer;
use super::metadata::{NOT_ASKED, OF_CLUSTER};
use super::place::{Place, code_of, text};
use super::results::message_of;
use crate::broker::describe;
use crate::broker::shared::Shared;

/// As `endpoint_type`: brokers.
const BROKERS: i8 = 1;
/// The same: controllers, which a broker does not know.
const CONTROLLERS: i8 = 2;

/// Answers with the brokers that are there.
pub fn describe(
    shared: &Arc<Shared>,
    context: &mut Context,
    place: Place,
    fields: &[u8],
) -> Result<(), NoAnswer> {
    let request: DescribeClusterRequest = place.read(fields)?;
    if let Err(fault) = check_endpoint(request.endpoint_type) {
        place.answer(context, &response(Err(fault)));
        return Ok(());
    }
    let operations =
        if request.include_cluster_authorized_operations { OF_CLUSTER } else { NOT_ASKED };
    let controller = BrokerId(shared.cluster.me().id as i32);
    let reply = place.reply(move |answer: Result<message::MetadataResponse, Fault>| {
        let found = answer.map(|answer| (answer.cluster_id, answer.brokers));
        response(found)
            .with_controller_id(controller)
            .with_cluster_authorized_operations(operations)
    });
    let nothing = Metadata { topics: Some(Vec::new()), allow_auto_topic_creation: false };
    describe::metadata(shared, context, reply, nothing);
    Ok(())
}

fn check_endpoint(kind: i8) -> Result<(), Fault> {
    match kind {
        BROKERS => Ok(()),
        CONTROLLERS => {
            let what = "this is a broker, not a controller";
            Err(Fault::new(ErrorCode::MISMATCHED_ENDPOINT_TYPE, what))
        }
        kind => {
            let what = format!("endpoint type {kind}: 1 is brokers");
            Err(Fault::new(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, what))
        }
    }
}

fn response(found: Result<(String, Vec<BrokerAddress>), Fault>) -> DescribeClusterResponse {
    let response = DescribeClusterResponse::default()
        .with_error_code(code_of(&found))
        .with_error_message(message_of(&found));
    let Ok((cluster_id, brokers)) = found else { return response };
    let brokers = brokers.into_iter().map(|broker| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(broker.id as i32))
            .with_host(text(broker.host))
            .with_port(broker.port.into())
            .with_rack(broker.rack.map(text))
    });
    response.with_cluster_id(text(cluster_id)).with_brokers(brokers.collect())
}
