//! From a frame to whoever answers it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use mk_net::codec::decode;
use mk_net::envelope::{failure, response};
use mk_net::event_loop::{ConnectionId, Context, Service};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::frame::Frame;
use mk_net::message::{
    ApiVersions, ApiVersionsResponse, DescribeProgress, Fetch, InitProducerId, Kind, KindVersions,
    ListClients, ListGroups, RegisterClient, RegisterClientResponse, Request,
};
use uuid::Uuid;

use super::clients::Client;
use super::fetch::Fetches;
use super::groups::coordinator::Ask;
use super::groups::find;
use super::note::Note;
use super::produce::Produces;
use super::promise::Promises;
use super::reply::Reply;
use super::shared::Shared;
use super::watches::Watches;
use super::{control, describe, offsets, operate, produce, readers};

/// Answers the requests of one event loop.
pub struct BrokerService {
    index: usize,
    shared: Arc<Shared>,
    fetches: Fetches,
    produces: Produces,
    promises: Promises,
    watches: Watches,
    /// The clients of this loop.
    clients: HashMap<ConnectionId, Connected>,
}

/// A client at one end of a connection.
struct Connected {
    client: Arc<Client>,
    /// True once records went over this connection.
    has_carried: bool,
}

/// Most bytes of a request's fields: what waits is kept decoded, so this bounds it.
const MOST_FIELDS: usize = 1 << 20;

impl BrokerService {
    pub fn new(index: usize, shared: Arc<Shared>) -> BrokerService {
        let fetches = Fetches::new(index, shared.clone());
        let produces = Produces::new(index, shared.clone());
        let promises = Promises::new(index);
        let watches = Watches::new(shared.clone());
        let clients = HashMap::new();
        BrokerService { index, shared, fetches, produces, promises, watches, clients }
    }

    fn dispatch(
        &mut self,
        context: &mut Context,
        to: ConnectionId,
        frame: Frame<'_>,
    ) -> Result<(), Fault> {
        let Frame { header, fields, payload } = frame;
        header.kind.check(header.version)?;
        if fields.len() > MOST_FIELDS {
            let what = format!("{} bytes of fields, {MOST_FIELDS} are allowed", fields.len());
            return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
        }
        if header.kind != Kind::PRODUCE && !payload.is_empty() {
            let what = format!("{} bytes of payload behind {}", payload.len(), header.kind);
            return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
        }
        let reply = Reply { index: self.index, to, header };
        let shared = &self.shared;
        let connected = self.clients.entry(to).or_insert_with(|| {
            let nobody = RegisterClient {
                client_id: String::new(),
                software_name: String::new(),
                software_version: String::new(),
                instance: Uuid::nil(),
                carries_records: false,
            };
            let place = (self.index, to);
            let client = shared.clients.register(place, &nobody, context.peer(), &shared.quotas);
            Connected { client, has_carried: false }
        });
        let client = connected.client.clone();
        client.asked(context.now());
        // A fetch may be a follower's, which has no quota.
        if header.kind != Kind::FETCH
            && let Some(until) = client.charge_request(context.now())
        {
            context.hold(to, until);
        }
        if !matches!(
            header.kind,
            Kind::PRODUCE
                | Kind::FETCH
                | Kind::API_VERSIONS
                | Kind::INIT_PRODUCER_ID
                | Kind::REGISTER_CLIENT
        ) {
            shared.cluster.require_known()?;
        }
        match header.kind {
            Kind::PRODUCE => {
                connected.carry(context, to)?;
                let request = parse(fields)?;
                return self.produces.request(context, (reply, &client), request, payload);
            }
            Kind::FETCH => {
                let request: Fetch = parse(fields)?;
                if request.replica.is_none() {
                    connected.carry(context, to)?;
                }
                self.fetches.request(context, (reply, &client), request);
            }
            Kind::LIST_OFFSETS => offsets::list(shared, context, reply, parse(fields)?),
            Kind::METADATA => describe::metadata(shared, context, reply, parse(fields)?),
            Kind::WATCH_TOPICS => return self.watches.request(context, reply, parse(fields)?),
            Kind::API_VERSIONS => {
                let request: ApiVersions = parse(fields)?;
                tracing::debug!(
                    client = request.client_software_name,
                    version = request.client_software_version,
                    "a client says who it is"
                );
                context.respond(to, response(&header, &self.api_versions(), 0));
            }
            Kind::INIT_PRODUCER_ID => {
                let answer = produce::init_producer(&parse::<InitProducerId>(fields)?)?;
                context.respond(to, response(&header, &answer, 0));
            }
            Kind::DESCRIBE_TOPICS => {
                let answer = describe::topics(shared, parse(fields)?);
                context.respond(to, response(&header, &answer, 0));
            }
            Kind::CREATE_TOPICS => reply.later(shared, parse(fields)?, control::create),
            Kind::DELETE_TOPICS => reply.later(shared, parse(fields)?, control::delete),
            Kind::ALTER_TOPIC => reply.later(shared, parse(fields)?, control::alter),
            Kind::ADD_PARTITIONS => reply.later(shared, parse(fields)?, control::add_partitions),
            Kind::TRIM_TOPIC => reply.later(shared, parse(fields)?, control::trim),
            Kind::DESCRIBE_CLUSTER => reply.later(shared, parse(fields)?, operate::describe),
            Kind::ELECT_LEADERS => reply.later(shared, parse(fields)?, operate::elect),
            Kind::MOVE_PARTITIONS => reply.later(shared, parse(fields)?, operate::move_partitions),
            Kind::CLUSTER_EVENTS => reply.later(shared, parse(fields)?, operate::events),
            Kind::FIND_COORDINATOR => return find::find(shared, context, reply, parse(fields)?),
            Kind::GROUP_HEARTBEAT => {
                let host = context.peer().map_or_else(String::new, |peer| peer.ip().to_string());
                shared.groups.ask(reply, Ask::Heartbeat(parse(fields)?, host));
            }
            Kind::LEAVE_GROUP => shared.groups.ask(reply, Ask::Leave(parse(fields)?)),
            Kind::COMMIT_OFFSETS => shared.groups.ask(reply, Ask::Commit(parse(fields)?)),
            Kind::FETCH_OFFSETS => shared.groups.ask(reply, Ask::Offsets(parse(fields)?)),
            Kind::DESCRIBE_GROUP => shared.groups.ask(reply, Ask::Describe(parse(fields)?)),
            Kind::DELETE_GROUP => shared.groups.ask(reply, Ask::Delete(parse(fields)?)),
            Kind::REGISTER_CLIENT => {
                let (place, quotas) = ((self.index, to), &shared.quotas);
                let who: RegisterClient = parse(fields)?;
                let client = shared.clients.register(place, &who, context.peer(), quotas);
                let owes = client.owes(context.now());
                connected.client = client;
                if let Some(until) = owes.filter(|_| who.carries_records) {
                    context.hold(to, until);
                }
                context.respond(to, response(&header, &RegisterClientResponse {}, 0));
            }
            Kind::LIST_CLIENTS => {
                let ListClients {} = parse(fields)?;
                context.respond(to, response(&header, &shared.clients.list(), 0));
            }
            Kind::DESCRIBE_PROGRESS => {
                let (for_worker, request) = (shared.clone(), parse::<DescribeProgress>(fields)?);
                shared.lookup.run(move || {
                    let message = match readers::describe(&for_worker, &request) {
                        Ok(answer) => response(&reply.header, &answer, 0),
                        Err(fault) => failure(&reply.header, &fault),
                    };
                    reply.send(&for_worker, message);
                });
            }
            Kind::LIST_GROUPS => {
                let ListGroups {} = parse(fields)?;
                shared.groups.ask(reply, Ask::List);
            }
            // `Kind::check` has refused all others.
            other => {
                let what = format!("{other} is not served");
                return Err(Fault::new(ErrorCode::UNSUPPORTED_VERSION, what));
            }
        }
        Ok(())
    }

    fn api_versions(&self) -> ApiVersionsResponse {
        let kinds = Kind::ALL.iter().map(|(kind, min_version, max_version)| KindVersions {
            kind: kind.0,
            min_version: *min_version,
            max_version: *max_version,
        });
        ApiVersionsResponse {
            software: concat!("mk ", env!("CARGO_PKG_VERSION")).to_owned(),
            kinds: kinds.collect(),
            max_frame_bytes: self.shared.settings.number("socket.request.max.bytes") as u32,
        }
    }
}

impl Connected {
    /// Records are to go over the connection. Whoever owes for some does not get round that by a new one.
    fn carry(&mut self, context: &mut Context, to: ConnectionId) -> Result<(), Fault> {
        if !std::mem::replace(&mut self.has_carried, true)
            && let Some(until) = self.client.owes(context.now())
        {
            context.hold(to, until);
            let what = "the client has not paid for what it did on an earlier connection";
            return Err(Fault::new(ErrorCode::THROTTLING_QUOTA_EXCEEDED, what));
        }
        Ok(())
    }
}

/// Reads the fields of a request.
fn parse<R: Request>(fields: &[u8]) -> Result<R, Fault> {
    decode(fields).map_err(|error| {
        let what = format!("{} cannot be read: {error}", R::KIND);
        Fault::new(ErrorCode::INVALID_REQUEST, what)
    })
}

impl Service for BrokerService {
    type Note = Note;

    fn on_request(&mut self, context: &mut Context, from: ConnectionId, frame: Frame<'_>) {
        if let Err(fault) = self.dispatch(context, from, frame) {
            context.respond(from, failure(&frame.header, &fault));
        }
    }

    fn on_note(&mut self, context: &mut Context, note: Note) {
        match note {
            Note::Readable(serial) => self.fetches.on_readable(context, serial),
            Note::Committed(serial) => {
                self.produces.on_committed(context, serial);
                self.promises.on_committed(context, serial);
            }
            Note::Topics => self.watches.on_change(context),
            Note::Promise(promise) => self.promises.promise(context, *promise),
            Note::Ping => self.shared.owed[self.index].answer(),
            Note::Reply { to, message } => context.respond(to, message),
        }
    }

    fn on_deadline(&mut self, context: &mut Context) {
        self.fetches.on_deadline(context);
        self.produces.on_deadline(context);
        self.promises.on_deadline(context);
        self.watches.on_deadline(context);
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.fetches.next_deadline(),
            self.produces.next_deadline(),
            self.promises.next_deadline(),
            self.watches.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn on_ended(&mut self, context: &mut Context, connection: ConnectionId) {
        self.fetches.answer_all_of(context, connection);
        self.watches.answer_of(context, connection);
    }

    fn on_closed(&mut self, connection: ConnectionId) {
        self.fetches.forget(connection);
        self.produces.forget(connection);
        self.promises.forget(connection);
        self.watches.forget(connection);
        if self.clients.remove(&connection).is_some() {
            self.shared.clients.deregister((self.index, connection));
        }
    }

    fn on_stop(&mut self, context: &mut Context) {
        self.fetches.answer_all(context);
        self.watches.answer_all(context);
    }
}
