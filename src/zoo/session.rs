//! A broker's session with the zookeeper, over TCP or in process: registers, follows the state, asks.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::heartbeat::Key;
use super::link::Route;
use super::message::{Rejected, Request, Response};
use super::node::NodeHandle;
use super::registrar::Registrar;
use super::state::{BrokerEpoch, ClusterState, Delta, Refused, Restart};

/// A broker's session; clones are the same. It ends with the last one.
#[derive(Clone, Debug)]
pub struct Session {
    asks: mpsc::UnboundedSender<Ask>,
    status: Arc<Mutex<Status>>,
}

/// Who a broker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Its id.
    pub id: u32,
    /// Its process; another one after each start.
    pub incarnation: Uuid,
    /// HOST:PORT for clients and other brokers.
    pub address: String,
    /// Where it stands.
    pub rack: Option<String>,
    /// What it lost since its last life.
    pub restart: Restart,
    /// The cluster that its data belongs to, if it does already.
    pub cluster_id: Option<Uuid>,
    /// The newest state that it has seen in earlier lives; 0 if it does not know.
    pub seen_version: u64,
}

/// What follows the cluster's state. Called from one thread, in order.
pub trait Follower: Send {
    /// The broker is registered, or is again; this is the state.
    fn registered(&mut self, epoch: BrokerEpoch, state: &ClusterState);

    /// The state has changed to this one.
    fn changed(&mut self, state: &ClusterState, delta: &Delta);

    /// The zookeeper cannot be reached. The broker serves on.
    fn lost(&mut self);
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nobody was asked.
    #[error("there is no zookeeper at the moment")]
    Disconnected,
    /// The connection has ended before the answer: it may be done or not.
    #[error("the connection to the zookeeper has ended before it answered")]
    Lost,
    /// It may be done or not.
    #[error("the zookeeper has not answered in {0:?}")]
    TimedOut(Duration),
    /// Too many questions wait for their answers. Nobody was asked.
    #[error("{0} questions wait for the zookeeper already")]
    Overloaded(usize),
    /// A request that is too large. Nobody was asked.
    #[error("the request is too large for the zookeeper: {0}")]
    Unsendable(String),
}

/// Why a broker is not registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Nobody is there, or not any more.
    #[error("the zookeeper {address} cannot be reached: {what}")]
    Unreachable {
        /// Where.
        address: String,
        /// What happened.
        what: String,
    },
    /// The two do not belong together.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// Mostly: another process has the id.
    #[error("the zookeeper does not register the broker: {0}")]
    Refused(#[from] Refused),
    /// What came was no answer, or does not follow the state.
    #[error("the zookeeper cannot be understood: {0}")]
    Nonsense(String),
}

/// How a session stands.
#[derive(Debug, Default)]
pub(super) struct Status {
    /// Of the last registration, which is good until the next.
    pub credentials: Option<Credentials>,
    pub trouble: Option<Trouble>,
}

/// What heartbeats are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Credentials {
    pub id: u32,
    pub epoch: BrokerEpoch,
    pub cluster_id: Uuid,
    pub key: Key,
    pub interval: Duration,
}

/// A question on its way.
pub(super) struct Ask {
    pub request: Request,
    pub answer: Box<dyn FnOnce(Result<Response, AskError>) + Send>,
}

impl Session {
    /// Registers with the zookeeper at HOST:PORT, again and again if need be.
    pub fn remote(
        address: String,
        me: Me,
        follower: Box<dyn Follower>,
    ) -> std::io::Result<Session> {
        Session::start(Route::Remote(address), me, follower)
    }

    /// Registers with a node in this process.
    pub fn local(
        node: &NodeHandle,
        me: Me,
        follower: Box<dyn Follower>,
    ) -> std::io::Result<Session> {
        Session::start(Route::Local(node.clone()), me, follower)
    }

    fn start(route: Route, me: Me, follower: Box<dyn Follower>) -> std::io::Result<Session> {
        let (asks, queue) = mpsc::unbounded_channel();
        let status = Arc::new(Mutex::new(Status::default()));
        let registrar = Registrar::new(route, me, follower, queue, status.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("mk-session".to_owned());
        thread.spawn(move || runtime.block_on(registrar.run()))?;
        Ok(Session { asks, status })
    }

    /// Asks the zookeeper. When the answer to a command is there, the follower has been told of what
    /// the command has changed. Within a tokio runtime.
    pub async fn ask(&self, request: Request, deadline: Duration) -> Result<Response, AskError> {
        let (sender, answer) = oneshot::channel();
        self.send(request, move |answer| _ = sender.send(answer));
        match tokio::time::timeout(deadline, answer).await {
            Ok(answer) => answer.unwrap_or(Err(AskError::Lost)),
            Err(_) => Err(AskError::TimedOut(deadline)),
        }
    }

    /// As [`Session::ask`], for threads. Not for the follower, which would wait for itself.
    pub fn ask_blocking(&self, request: Request, deadline: Duration) -> Result<Response, AskError> {
        let (sender, answer) = std::sync::mpsc::sync_channel(1);
        self.send(request, move |answer| _ = sender.try_send(answer));
        match answer.recv_timeout(deadline) {
            Ok(answer) => answer,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Err(AskError::TimedOut(deadline)),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(AskError::Lost),
        }
    }

    fn send(
        &self,
        request: Request,
        answer: impl FnOnce(Result<Response, AskError>) + Send + 'static,
    ) {
        let ask = Ask { request, answer: Box::new(answer) };
        if let Err(mpsc::error::SendError(ask)) = self.asks.send(ask) {
            (ask.answer)(Err(AskError::Disconnected));
        }
    }

    /// Why the broker is not registered at the moment; `None` if it is, or has not tried yet.
    pub fn trouble(&self) -> Option<Trouble> {
        self.status.lock().trouble.clone()
    }

    /// What its heartbeats are to bear; they do not keep the session alive.
    pub(super) fn status(&self) -> Arc<Mutex<Status>> {
        self.status.clone()
    }
}
