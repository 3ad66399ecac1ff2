//! Kafka's own protocol on the port of ours. Requests are turned into ours and go to the same handlers, whose
//! answers are turned back: whoever handles a request does not know in which protocol it came.
//!
//! A request that cannot be read, or whose version is not served, ends its connection, as Kafka does: there is no
//! answer that its client could read.

mod assignment;
mod cluster;
mod configs;
mod coordinator;
mod elect;
mod fetch;
mod groups;
mod leader_epoch;
mod log_dirs;
mod metadata;
mod offsets;
mod partitions;
mod place;
mod produce;
mod producer_id;
mod reassign;
mod records;
mod results;
mod topics;
mod versions;

use std::sync::Arc;

use mk_net::event_loop::{Context, RequestId};
use mk_net::kafka::api::ApiKey;
use mk_net::kafka::frame::RequestHeader;
use mk_net::message::RegisterClient;

use super::clients;
use super::service::BrokerService;
use super::shared::Shared;
use place::Place;

/// Why a request has no answer: for the broker's log.
type NoAnswer = String;

/// Most bytes of a request that is no Produce: what waits is kept decoded, so this bounds it.
const MOST_FIELDS: usize = 1 << 20;
/// As long may be what the leader of a group says of all.
const MOST_OF_LEADER: usize = 16 << 20;

impl BrokerService {
    /// Answers a request of Kafka's protocol, or says why it cannot be answered.
    pub(super) fn dispatch_kafka(
        &mut self,
        context: &mut Context,
        from: RequestId,
        request: &[u8],
    ) -> Result<(), NoAnswer> {
        let parsed = RequestHeader::parse(request).map_err(|error| error.to_string())?;
        let (RequestHeader { key, version, correlation, client_id }, fields) = parsed;
        let client_id = client_id.unwrap_or_default();
        let who = || RegisterClient { client_id: client_id.to_owned(), ..clients::nobody() };
        let client = self.connected(context, from.connection, who);
        client.asked(context.now());
        let served = key.served().filter(|api| (api.min..=api.max).contains(&version));
        let Some(api) = served else {
            if key == ApiKey::API_VERSIONS {
                versions::refuse(context, from, correlation);
                return Ok(());
            }
            return Err(format!("{key} in version {version} is not served"));
        };
        let most = match key {
            ApiKey::PRODUCE => usize::MAX,
            ApiKey::SYNC_GROUP => MOST_OF_LEADER,
            _ => MOST_FIELDS,
        };
        if fields.len() > most {
            return Err(format!("{} bytes of {key}, {most} are allowed", fields.len()));
        }
        if key != ApiKey::FETCH
            && let Some(until) = client.charge_request(context.now())
        {
            context.hold(from.connection, until);
        }
        let place = Place { index: self.index, to: from, api, version, correlation };
        match key {
            ApiKey::API_VERSIONS => {
                let software = versions::answer(context, place, fields)?;
                if let Some((software_name, software_version)) = software {
                    let who = RegisterClient { software_name, software_version, ..who() };
                    self.register(context, from.connection, &who);
                }
                return Ok(());
            }
            ApiKey::PRODUCE => return self.kafka_produce(context, (place, &client), fields),
            ApiKey::FETCH => return self.kafka_fetch(context, (place, &client), fields),
            ApiKey::INIT_PRODUCER_ID => return producer_id::init(context, place, fields),
            _ => {}
        }
        self.shared.cluster.require_known().map_err(|fault| fault.message)?;
        route(&self.shared, context, place, (client_id, fields))
    }
}

/// Hands a request to those who answer it.
fn route(
    shared: &Arc<Shared>,
    context: &mut Context,
    place: Place,
    (client_id, fields): (&str, &[u8]),
) -> Result<(), NoAnswer> {
    match place.api.key {
        ApiKey::METADATA => metadata::metadata(shared, context, place, fields),
        ApiKey::LIST_OFFSETS => offsets::list(shared, context, place, fields),
        ApiKey::FIND_COORDINATOR => coordinator::find(shared, context, place, fields),
        ApiKey::JOIN_GROUP => groups::classic::join(shared, context, place, (client_id, fields)),
        ApiKey::SYNC_GROUP => groups::classic::sync(shared, place, fields),
        ApiKey::HEARTBEAT => groups::classic::heartbeat(shared, place, fields),
        ApiKey::LEAVE_GROUP => groups::classic::leave(shared, place, fields),
        ApiKey::CONSUMER_GROUP_HEARTBEAT => {
            groups::consumer::heartbeat(shared, context, place, (client_id, fields))
        }
        ApiKey::OFFSET_COMMIT => groups::commits::commit(shared, place, fields),
        ApiKey::OFFSET_FETCH => groups::commits::fetch(shared, context, place, fields),
        ApiKey::OFFSET_DELETE => groups::commits::delete(shared, place, fields),
        ApiKey::LIST_GROUPS => groups::describe::list(shared, place, fields),
        ApiKey::DESCRIBE_GROUPS => groups::describe::classic(shared, context, place, fields),
        ApiKey::CONSUMER_GROUP_DESCRIBE => {
            groups::describe::consumer(shared, context, place, fields)
        }
        ApiKey::DELETE_GROUPS => groups::describe::delete(shared, context, place, fields),
        ApiKey::CREATE_TOPICS => topics::create(shared, place, fields),
        ApiKey::DELETE_TOPICS => topics::delete(shared, place, fields),
        ApiKey::CREATE_PARTITIONS => partitions::create(shared, place, fields),
        ApiKey::DELETE_RECORDS => records::delete(shared, place, fields),
        ApiKey::DESCRIBE_CONFIGS => configs::describe(shared, place, fields),
        ApiKey::ALTER_CONFIGS => configs::alter(shared, place, fields),
        ApiKey::INCREMENTAL_ALTER_CONFIGS => configs::alter_incrementally(shared, place, fields),
        ApiKey::DESCRIBE_LOG_DIRS => log_dirs::describe(shared, place, fields),
        ApiKey::ELECT_LEADERS => elect::elect(shared, context, place, fields),
        ApiKey::ALTER_PARTITION_REASSIGNMENTS => reassign::alter(shared, place, fields),
        ApiKey::LIST_PARTITION_REASSIGNMENTS => reassign::list(shared, place, fields),
        ApiKey::DESCRIBE_CLUSTER => cluster::describe(shared, context, place, fields),
        ApiKey::OFFSET_FOR_LEADER_EPOCH => leader_epoch::end(shared, context, place, fields),
        other => Err(format!("{other} is not served")),
    }
}
