//! The state with its log, on a thread of its own: one command after the other, many in one commit.
//!
//! Nobody sees anything of a state that is not on the disk: a commit that fails ends the node, without
//! an answer to anybody.

mod batch;
mod describe;
mod rebalance;
mod run;
mod sessions;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use self::run::Machine;
use super::message::{Request, Response};
use super::state::Delta;
use super::store::{StateLog, StoreError};
use super::watch::{Finding, Watch};

/// A zookeeper's inside: the state and its log.
#[derive(Debug)]
pub struct Node {
    handle: NodeHandle,
    thread: Option<JoinHandle<Result<(), NodeError>>>,
    ended: watch::Receiver<()>,
    start: Summary,
}

/// How a node is to be.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// Who knows which brokers live.
    pub liveness: Liveness,
    /// The id of a cluster that is new; none: any.
    pub cluster_id: Option<Uuid>,
    /// What holds for topics that do not say, by the topic setting's name.
    pub defaults: BTreeMap<String, String>,
    /// Brokers are to beat so often.
    pub beat_interval: Duration,
    /// They are fenced when they are silent for so long.
    pub session_timeout: Duration,
    /// A preferred leader gets its partition back when nothing has happened to it for so long; none:
    /// when somebody asks for it.
    pub rebalance_after: Option<Duration>,
}

/// Who knows which brokers live.
#[derive(Clone, Debug)]
pub enum Liveness {
    /// The one broker that carries the node inside: it says itself when it is ready, and when the node
    /// begins nobody can be alive.
    Embedded,
    /// Heartbeats.
    Watched(Arc<Watch>),
}

/// What a node has begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The cluster.
    pub cluster_id: Uuid,
    /// How many brokers have ever registered.
    pub brokers: usize,
    /// How many topics there are.
    pub topics: usize,
}

/// Why a node cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Its log does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The system refuses a thread.
    #[error("the system refuses a thread: {0}")]
    Thread(#[from] std::io::Error),
    /// It was wrong about itself.
    #[error("the zookeeper has panicked; what was answered is on the disk")]
    Panicked,
}

/// The node has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the zookeeper has stopped")]
pub struct Stopped;

/// Asks a node, from anywhere.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    inputs: mpsc::UnboundedSender<Input>,
    next: Arc<AtomicU64>,
}

/// A conversation with a node: requests in, [`Outputs`] out. It ends when this is dropped.
///
/// Whoever has one bounds what it has asked and not got: the node's queue does not.
#[derive(Debug)]
pub struct NodeSession {
    id: u64,
    inputs: mpsc::UnboundedSender<Input>,
}

/// What comes of a session, in order. It ends with the node, and when nobody takes what comes.
pub type Outputs = mpsc::Receiver<Output>;

/// What comes of a session.
#[derive(Clone, Debug)]
pub enum Output {
    /// The answer to the request of this number.
    Answer(u32, Response),
    /// A change of the state, for a session that has registered a broker. It comes before the answer
    /// to the command that has made it.
    Push(Arc<Delta>),
}

/// What a node takes.
#[derive(Debug)]
enum Input {
    Opened {
        session: u64,
        outputs: mpsc::Sender<Output>,
    },
    Asked {
        session: u64,
        number: u32,
        request: Request,
    },
    Closed {
        session: u64,
    },
    Found(Finding),
    /// Some time has gone by.
    Tick,
    Stop,
}

/// What waits for somebody who does not take it; with more the session is closed.
const MOST_WAITING: usize = 1024;

impl Node {
    /// Reads the log, and begins.
    pub fn start(log: Box<dyn StateLog>, settings: NodeSettings) -> Result<Node, NodeError> {
        let machine = Machine::load(log, settings)?;
        let start = machine.summary();
        let (inputs, queue) = mpsc::unbounded_channel();
        let (alive, ended) = watch::channel(());
        let thread = std::thread::Builder::new().name("mk-zoo".to_owned());
        let thread = thread.spawn(move || {
            let _alive = alive;
            machine.run(queue)
        })?;
        let handle = NodeHandle { inputs, next: Arc::new(AtomicU64::new(1)) };
        Ok(Node { handle, thread: Some(thread), ended, start })
    }

    /// Whom to ask.
    pub fn handle(&self) -> &NodeHandle {
        &self.handle
    }

    /// What it has begun with.
    pub fn summary(&self) -> Summary {
        self.start
    }

    /// Waits until it has ended; [`Node::stop`] says why.
    pub async fn ended(&self) {
        let _ = self.ended.clone().changed().await;
    }

    /// Ends it when all that was asked before is done; why it had ended, if it had.
    pub fn stop(mut self) -> Result<(), NodeError> {
        self.join()
    }

    fn join(&mut self) -> Result<(), NodeError> {
        let _ = self.handle.inputs.send(Input::Stop);
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().unwrap_or(Err(NodeError::Panicked))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.join();
    }
}

impl NodeHandle {
    /// Begins a conversation.
    pub fn session(&self) -> Result<(NodeSession, Outputs), Stopped> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, outputs) = mpsc::channel(MOST_WAITING);
        let opened = Input::Opened { session: id, outputs: sender };
        self.inputs.send(opened).map_err(|_| Stopped)?;
        Ok((NodeSession { id, inputs: self.inputs.clone() }, outputs))
    }

    /// Some time has gone by. A node that has ended does not mind.
    pub(super) fn tick(&self) {
        let _ = self.inputs.send(Input::Tick);
    }

    /// The detector has found something. A node that has ended does not mind.
    pub(super) fn found(&self, finding: Finding) {
        let _ = self.inputs.send(Input::Found(finding));
    }
}

impl NodeSession {
    /// Asks something; the answer has its number. Never waits.
    pub fn ask(&self, number: u32, request: Request) -> Result<(), Stopped> {
        let asked = Input::Asked { session: self.id, number, request };
        self.inputs.send(asked).map_err(|_| Stopped)
    }
}

impl Drop for NodeSession {
    fn drop(&mut self) {
        let _ = self.inputs.send(Input::Closed { session: self.id });
    }
}
