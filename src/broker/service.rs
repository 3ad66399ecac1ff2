//! From a frame to whoever answers it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use mk_net::codec::decode;
use mk_net::envelope::failure;
use mk_net::event_loop::{ConnectionId, Context, RequestId, Service};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::frame::{Frame, FrameHeader};
use mk_net::message::{
    ApiVersions, ApiVersionsResponse, DescribeProgress, Fetch, InitProducerId, Kind, KindVersions,
    ListClients, ListGroups, RegisterClient, RegisterClientResponse, Request,
};
use mk_net::outgoing::Chunk;

use super::clients::{self, Client};
use super::fetch::Fetches;
use super::groups::ask::Ask;
use super::groups::find;
use super::note::Note;
use super::produce::Produces;
use super::promise::Promises;
use super::reply::{Reply, give};
use super::shared::Shared;
use super::watches::Watches;
use super::{control, describe, offsets, operate, produce, readers};

/// Answers the requests of one event loop.
pub struct BrokerService {
    pub(super) index: usize,
    pub(super) shared: Arc<Shared>,
    pub(super) fetches: Fetches,
    pub(super) produces: Produces,
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
        from: RequestId,
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
        let to = from.connection;
        let client = self.connected(context, to, clients::nobody);
        let shared = self.shared.clone();
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
        let asked = Asked { index: self.index, from, header, fields };
        match header.kind {
            Kind::PRODUCE => {
                self.carry(context, to)?;
                let (reply, request) = asked.parse()?;
                let batches = produce::split(&request, payload)?;
                self.produces.request(context, (reply, &client), &request, &batches);
            }
            Kind::FETCH => {
                let (reply, request) = asked.parse::<Fetch>()?;
                if request.replica.is_none() {
                    self.carry(context, to)?;
                }
                self.fetches.request(context, (reply, &client), request);
            }
            Kind::LIST_OFFSETS => {
                let (reply, request) = asked.parse()?;
                offsets::list(&shared, context, reply, request);
            }
            Kind::METADATA => {
                let (reply, request) = asked.parse()?;
                describe::metadata(&shared, context, reply, request);
            }
            Kind::WATCH_TOPICS => {
                let (reply, request) = asked.parse()?;
                self.watches.request(context, reply, request);
            }
            Kind::API_VERSIONS => {
                let (reply, request) = asked.parse::<ApiVersions>()?;
                tracing::debug!(
                    client = request.client_software_name,
                    version = request.client_software_version,
                    "a client says who it is"
                );
                reply.answer(context, Ok(self.api_versions()));
            }
            Kind::INIT_PRODUCER_ID => {
                let (reply, request) = asked.parse::<InitProducerId>()?;
                reply.answer(context, produce::init_producer(&request));
            }
            Kind::DESCRIBE_TOPICS => {
                let (reply, request) = asked.parse()?;
                reply.answer(context, Ok(describe::topics(&shared, request)));
            }
            Kind::CREATE_TOPICS => asked.later(&shared, control::create)?,
            Kind::DELETE_TOPICS => asked.later(&shared, control::delete)?,
            Kind::ALTER_TOPIC => asked.later(&shared, control::alter)?,
            Kind::ADD_PARTITIONS => asked.later(&shared, control::add_partitions)?,
            Kind::TRIM_TOPIC => asked.later(&shared, control::trim)?,
            Kind::DESCRIBE_CLUSTER => asked.later(&shared, operate::describe)?,
            Kind::ELECT_LEADERS => asked.later(&shared, operate::elect)?,
            Kind::MOVE_PARTITIONS => asked.later(&shared, operate::move_partitions)?,
            Kind::CLUSTER_EVENTS => asked.later(&shared, operate::events)?,
            Kind::FIND_COORDINATOR => {
                let (reply, request) = asked.parse()?;
                find::find(&shared, context, reply, request);
            }
            Kind::GROUP_HEARTBEAT => {
                let host = context.peer().map_or_else(String::new, |peer| peer.ip().to_string());
                let (reply, request) = asked.parse()?;
                shared.groups.ask(Ask::Heartbeat(reply, request, host));
            }
            Kind::LEAVE_GROUP => asked.of_groups(&shared, Ask::Leave)?,
            Kind::COMMIT_OFFSETS => asked.of_groups(&shared, Ask::Commit)?,
            Kind::FETCH_OFFSETS => asked.of_groups(&shared, Ask::Offsets)?,
            Kind::DESCRIBE_GROUP => asked.of_groups(&shared, Ask::Describe)?,
            Kind::DELETE_GROUP => asked.of_groups(&shared, Ask::Delete)?,
            Kind::LIST_GROUPS => {
                asked.of_groups(&shared, |reply, ListGroups {}| Ask::List(reply))?
            }
            Kind::REGISTER_CLIENT => {
                let (reply, who) = asked.parse::<RegisterClient>()?;
                let owes = self.register(context, to, &who).owes(context.now());
                if let Some(until) = owes.filter(|_| who.carries_records) {
                    context.hold(to, until);
                }
                reply.answer(context, Ok(RegisterClientResponse {}));
            }
            Kind::LIST_CLIENTS => {
                let (reply, ListClients {}) = asked.parse()?;
                reply.answer(context, Ok(shared.clients.list()));
            }
            Kind::DESCRIBE_PROGRESS => {
                let (reply, request) = asked.parse::<DescribeProgress>()?;
                let for_worker = shared.clone();
                shared.lookup.run(move || {
                    let answer = readers::describe(&for_worker, &request);
                    reply.send(&for_worker, answer);
                });
            }
            // `Kind::check` has refused all others.
            other => {
                let what = format!("{other} is not served");
                return Err(Fault::new(ErrorCode::UNSUPPORTED_VERSION, what));
            }
        }
        Ok(())
    }

    /// The client at the other end; at its first request, it is this one.
    pub(super) fn connected(
        &mut self,
        context: &mut Context,
        connection: ConnectionId,
        who: impl FnOnce() -> RegisterClient,
    ) -> Arc<Client> {
        match self.clients.get(&connection) {
            Some(connected) => connected.client.clone(),
            None => self.register(context, connection, &who()),
        }
    }

    /// The client at the other end says who it is.
    pub(super) fn register(
        &mut self,
        context: &mut Context,
        connection: ConnectionId,
        who: &RegisterClient,
    ) -> Arc<Client> {
        let (place, quotas) = ((self.index, connection), &self.shared.quotas);
        let client = self.shared.clients.register(place, who, context.peer(), quotas);
        let connected = self
            .clients
            .entry(connection)
            .or_insert_with(|| Connected { client: client.clone(), has_carried: false });
        connected.client = client.clone();
        client
    }

    /// Records are to go over a connection. Whoever owes for some does not get round that by a new one.
    pub(super) fn carry(
        &mut self,
        context: &mut Context,
        connection: ConnectionId,
    ) -> Result<(), Fault> {
        let Some(connected) = self.clients.get_mut(&connection) else { return Ok(()) };
        if !std::mem::replace(&mut connected.has_carried, true)
            && let Some(until) = connected.client.owes(context.now())
        {
            context.hold(connection, until);
            let what = "the client has not paid for what it did on an earlier connection";
            return Err(Fault::new(ErrorCode::THROTTLING_QUOTA_EXCEEDED, what));
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

/// A request that is not read yet.
struct Asked<'a> {
    index: usize,
    from: RequestId,
    header: FrameHeader,
    fields: &'a [u8],
}

impl Asked<'_> {
    /// Reads it.
    fn parse<R: Request>(self) -> Result<(Reply<R::Response>, R), Fault> {
        let request = decode(self.fields).map_err(|error| {
            let what = format!("{} cannot be read: {error}", R::KIND);
            Fault::new(ErrorCode::INVALID_REQUEST, what)
        })?;
        Ok((Reply::own(self.index, self.from, self.header), request))
    }

    /// Lets the thread answer that may wait for the mini-zookeeper.
    fn later<R: Request>(
        self,
        shared: &Arc<Shared>,
        handle: impl FnOnce(&Arc<Shared>, R) -> Result<R::Response, Fault> + Send + 'static,
    ) -> Result<(), Fault> {
        let (reply, request) = self.parse()?;
        reply.later(shared, request, handle);
        Ok(())
    }

    /// Lets the coordinator answer.
    fn of_groups<R: Request>(
        self,
        shared: &Shared,
        ask: impl FnOnce(Reply<R::Response>, R) -> Ask,
    ) -> Result<(), Fault> {
        let (reply, request) = self.parse()?;
        shared.groups.ask(ask(reply, request));
        Ok(())
    }
}

impl Service for BrokerService {
    type Note = Note;

    fn on_request(&mut self, context: &mut Context, from: RequestId, frame: Frame<'_>) {
        if let Err(fault) = self.dispatch(context, from, frame) {
            context.respond(from, [Chunk::Bytes(failure(&frame.header, &fault))]);
        }
    }

    fn on_kafka_request(&mut self, context: &mut Context, from: RequestId, request: &[u8]) {
        if let Err(why) = self.dispatch_kafka(context, from, request) {
            context.end(from.connection, why);
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
            Note::Reply { to, message } => give(context, to, message),
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
