//! Connections to brokers, and who leads what.

mod topics;
mod watcher;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{BrokerAddress, Metadata, RegisterClient, Request};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use super::backoff::Backoff;
use super::connection::Connection;
use super::error::ClientError;
use topics::Known;
pub use topics::TopicInfo;
use watcher::Watcher;

/// A topic and a partition of it.
pub(super) type PartitionKey = (Arc<str>, u32);

/// How a client behaves towards the brokers.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// What the program calls itself (`client.id`): brokers tell others of it.
    pub client_id: String,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a broker may take to answer (`request.timeout.ms`).
    pub request_timeout: Duration,
    /// How long something is tried before it fails (`default.api.timeout.ms`).
    pub api_timeout: Duration,
    /// Metadata that are older are asked for again (`metadata.max.age.ms`), so that added
    /// partitions are noticed.
    pub metadata_max_age: Duration,
}

impl Default for ClusterSettings {
    fn default() -> ClusterSettings {
        ClusterSettings {
            client_id: "mk".to_owned(),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            api_timeout: Duration::from_secs(60),
            metadata_max_age: Duration::from_secs(30),
        }
    }
}

/// A cluster as a client sees it. Clones share connections and metadata.
#[derive(Clone, Debug)]
pub struct Cluster {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    bootstrap: Vec<String>,
    settings: ClusterSettings,
    connections: Mutex<HashMap<(String, Lane), Arc<Slot>>>,
    brokers: Mutex<HashMap<u32, BrokerAddress>>,
    topics: Mutex<HashMap<String, Known>>,
    /// Told when other topics are known, or more of them.
    known: Arc<Notify>,
    /// Changes each time when a topic has more partitions than were known.
    grown: watch::Sender<()>,
    watcher: OnceLock<Watcher>,
    /// The address that has answered last is asked first.
    last_answer: Mutex<Option<String>>,
    /// One that could not do what it was asked is asked last.
    avoided: Mutex<Option<String>>,
    seed: u64,
    /// Names this client to brokers.
    instance: Uuid,
}

/// So long a broker that may be held up has to answer what is quick to answer.
const QUICK: Duration = Duration::from_secs(1);
/// So long after a request others are asked whether its leader leads still; then twice as long.
const FIRST_DOUBT: Duration = Duration::from_millis(100);
const LONGEST_DOUBT: Duration = Duration::from_secs(5);

/// What a connection is for. Records have their own: they take long, and a broker reads no further from a
/// client that is over its quota, while a member must be heard and whoever leads must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    /// Produce and Fetch.
    Records,
    /// All else.
    Control,
}

/// Connections to one address for one purpose: at most one, made by whoever comes first.
type Slot = tokio::sync::Mutex<Option<Arc<Connection>>>;

impl Cluster {
    /// A cluster of which some addresses (HOST:PORT) are known. Connects when it must.
    pub fn new(bootstrap: Vec<String>, settings: ClusterSettings) -> Cluster {
        let instance = Uuid::new_v4();
        let inner = Inner {
            bootstrap,
            settings,
            connections: Mutex::new(HashMap::new()),
            brokers: Mutex::new(HashMap::new()),
            topics: Mutex::new(HashMap::new()),
            known: Arc::default(),
            grown: watch::Sender::new(()),
            watcher: OnceLock::new(),
            last_answer: Mutex::new(None),
            avoided: Mutex::new(None),
            seed: instance.as_u64_pair().0,
            instance,
        };
        Cluster { inner: Arc::new(inner) }
    }

    /// The same cluster, over connections of its own.
    pub fn another(&self) -> Cluster {
        Cluster::new(self.inner.bootstrap.clone(), self.inner.settings.clone())
    }

    /// Its settings.
    pub fn settings(&self) -> &ClusterSettings {
        &self.inner.settings
    }

    /// A number that tells this client from others.
    pub(super) fn seed(&self) -> u64 {
        self.inner.seed
    }

    /// Sends a request to any broker. Tries again until the API timeout if nobody can be reached,
    /// and, where the request `may_repeat` without harm, after any failure that may pass.
    pub async fn call_any<R: Request>(
        &self,
        request: &R,
        may_repeat: bool,
    ) -> Result<R::Response, ClientError> {
        let ClusterSettings { request_timeout, api_timeout, .. } = self.inner.settings;
        let patience = request_timeout.min(api_timeout);
        let deadline = Instant::now() + api_timeout;
        let mut backoff = Backoff::new(self.inner.seed);
        loop {
            let error = match self.call_once(request, patience, None).await {
                Ok(response) => return Ok(response),
                Err(error @ (ClientError::Unreachable { .. } | ClientError::TurnedAway { .. })) => {
                    error
                }
                Err(error) if error.code() == Some(ErrorCode::LEADER_NOT_AVAILABLE) => error,
                Err(error) if may_repeat && error.is_retriable() => error,
                Err(error) => return Err(error),
            };
            if error.code() == Some(ErrorCode::COORDINATOR_NOT_AVAILABLE) {
                // Another may have heard of one.
                self.turn_away();
            }
            let wait = backoff.failed();
            if Instant::now() + wait >= deadline {
                let what = format!("{}", R::KIND);
                let last = Some(Box::new(error));
                return Err(ClientError::TimedOut { what, after: api_timeout, last });
            }
            tracing::debug!(%error, "trying again");
            tokio::time::sleep(wait).await;
        }
    }

    /// Sends a request to a broker that can be reached, but not to this one.
    async fn call_once<R: Request>(
        &self,
        request: &R,
        patience: Duration,
        not: Option<u32>,
    ) -> Result<R::Response, ClientError> {
        let mut last = ClientError::Invalid("no address of a broker is given".to_owned());
        for address in self.addresses(not) {
            let connection = match self.connect(&address, Lane::Control, patience).await {
                Ok(connection) => connection,
                Err(error) => {
                    last = error;
                    continue;
                }
            };
            let answer = connection.call(request, Bytes::new(), patience).await;
            if let Err(error @ ClientError::TurnedAway { .. }) = answer {
                last = error;
                continue;
            }
            if let Err(ClientError::Broker(fault)) = &answer
                && fault.code == ErrorCode::LEADER_NOT_AVAILABLE
            {
                // It has just started, and has done nothing.
                last = ClientError::Broker(fault.clone());
                continue;
            }
            let is_up = !answer.as_ref().is_err_and(ClientError::is_unreachable);
            *self.inner.last_answer.lock() = is_up.then_some(address);
            return Ok(answer?.0);
        }
        Err(last)
    }

    /// A connection to any broker that can be reached.
    async fn any_connection(&self) -> Result<Arc<Connection>, ClientError> {
        let mut last = ClientError::Invalid("no address of a broker is given".to_owned());
        for address in self.addresses(None) {
            let timeout = self.inner.settings.connect_timeout;
            match self.connect(&address, Lane::Control, timeout).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// All addresses that are known, but not this broker's: the one that has answered last, those given
    /// at first, those of the brokers.
    fn addresses(&self, not: Option<u32>) -> Vec<String> {
        let brokers = self.inner.brokers.lock();
        let not = not.and_then(|id| brokers.get(&id)).map(address_of);
        let last = self.inner.last_answer.lock().clone();
        let first = last.into_iter().chain(self.inner.bootstrap.iter().cloned());
        let mut addresses: Vec<String> = Vec::new();
        for address in first.chain(brokers.values().map(address_of)) {
            if Some(&address) != not.as_ref() && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let avoided = self.inner.avoided.lock();
        addresses.sort_by_key(|address| Some(address) == avoided.as_ref());
        addresses
    }

    /// Has others asked before the one that would be asked first.
    fn avoid_first(&self) {
        let first = self.addresses(None).into_iter().next();
        *self.inner.avoided.lock() = first;
    }

    /// Has others asked before the one that has answered last.
    pub(super) fn turn_away(&self) {
        if let Some(last) = self.inner.last_answer.lock().take() {
            *self.inner.avoided.lock() = Some(last);
        }
    }

    /// The connection to a broker.
    pub(super) async fn connection_to(
        &self,
        broker: u32,
        lane: Lane,
    ) -> Result<Arc<Connection>, ClientError> {
        let address = self.inner.brokers.lock().get(&broker).map(address_of);
        let address = address.ok_or_else(|| {
            let what = format!("broker {broker} is not known");
            ClientError::Broker(Fault::new(ErrorCode::LEADER_NOT_AVAILABLE, what))
        })?;
        self.connect(&address, lane, self.inner.settings.connect_timeout).await
    }

    /// Sends a request to this broker, once.
    pub(super) async fn call_broker<R: Request>(
        &self,
        broker: u32,
        request: &R,
    ) -> Result<R::Response, ClientError> {
        let connection = self.connection_to(broker, Lane::Control).await?;
        Ok(connection.call(request, Bytes::new(), self.inner.settings.request_timeout).await?.0)
    }

    /// Waits until others say that one of these partitions has another leader than this one, which is
    /// asked and does not answer: a broker that stands still does not refuse anything.
    pub(super) async fn other_leader(&self, leader: u32, partitions: &[PartitionKey]) -> Fault {
        let mut names: Vec<String> = partitions.iter().map(|key| key.0.to_string()).collect();
        names.sort();
        names.dedup();
        let mut doubt = FIRST_DOUBT;
        loop {
            tokio::time::sleep(doubt).await;
            doubt = (doubt * 2).min(LONGEST_DOUBT);
            let topics = Some(names.clone());
            let request = Metadata { topics, allow_auto_topic_creation: false };
            let Ok(metadata) = self.call_once(&request, QUICK, Some(leader)).await else {
                continue;
            };
            self.remember(&metadata);
            let moved = partitions.iter().find(|key| {
                let known = self.known_info(&key.0);
                known.is_some_and(|info| info.leader(key.1) != Some(leader))
            });
            if let Some((topic, partition)) = moved {
                let what =
                    format!("broker {leader} does not lead partition {partition} of '{topic}'");
                return Fault::new(ErrorCode::NOT_LEADER_OR_FOLLOWER, what);
            }
        }
    }

    async fn connect(
        &self,
        address: &str,
        lane: Lane,
        patience: Duration,
    ) -> Result<Arc<Connection>, ClientError> {
        let connecting = self.connection_in_slot(address, lane, patience);
        tokio::time::timeout(patience, connecting).await.unwrap_or_else(|_| {
            let source = Arc::new(std::io::ErrorKind::TimedOut.into());
            Err(ClientError::Unreachable { address: address.to_owned(), source })
        })
    }

    async fn connection_in_slot(
        &self,
        address: &str,
        lane: Lane,
        patience: Duration,
    ) -> Result<Arc<Connection>, ClientError> {
        let key = (address.to_owned(), lane);
        let slot = self.inner.connections.lock().entry(key).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let timeout = self.inner.settings.connect_timeout.min(patience);
        let connection = Connection::open(address, timeout).await?;
        let connection = Arc::new(connection);
        *slot = Some(connection.clone());
        self.register(&connection, lane).await;
        Ok(connection)
    }

    /// Says to a broker who is there, before anything else. It does not matter if it fails.
    async fn register(&self, connection: &Connection, lane: Lane) {
        let ClusterSettings { client_id, request_timeout, .. } = &self.inner.settings;
        let request = RegisterClient {
            client_id: client_id.clone(),
            software_name: "mk".to_owned(),
            software_version: env!("CARGO_PKG_VERSION").to_owned(),
            instance: self.inner.instance,
            carries_records: lane == Lane::Records,
        };
        let _ = connection.send_only(&request, Bytes::new(), *request_timeout).await;
    }

    /// Takes note where a broker is.
    pub(super) fn remember_broker(&self, broker: BrokerAddress) {
        self.inner.brokers.lock().insert(broker.id, broker);
    }
}

fn address_of(broker: &BrokerAddress) -> String {
    let BrokerAddress { host, port, .. } = broker;
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A producer asked the same broker again and again, which did not reach the mini-zookeeper.
    #[test]
    fn who_could_not_do_it_is_asked_last() {
        let all = ["a:1", "b:1", "c:1"].map(str::to_owned).to_vec();
        let cluster = Cluster::new(all, ClusterSettings::default());
        *cluster.inner.last_answer.lock() = Some("a:1".to_owned());
        assert_eq!(cluster.addresses(None), ["a:1", "b:1", "c:1"]);
        cluster.turn_away();
        assert_eq!(cluster.addresses(None), ["b:1", "c:1", "a:1"]);
    }
}
