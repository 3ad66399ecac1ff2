//! One connection of a session, over TCP or in process.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::message::{Push, Request};
use super::node::{NodeHandle, NodeSession, Output, Outputs, Stopped};
use super::wire::{
    Frames, MAX_REQUEST, MAX_RESPONSE, PUSH, REQUEST, RESPONSE, WireError, decode, encode, tune,
    unknown,
};

/// Where the zookeeper is.
#[derive(Clone, Debug)]
pub(super) enum Route {
    Remote(String),
    Local(NodeHandle),
}

/// A connection. It is closed when this is dropped.
#[derive(Debug)]
pub(super) enum Link {
    Remote {
        frames: Frames<OwnedReadHalf>,
        /// Requests are written by a task: who waits to write would not read, and the other side may
        /// wait to write as well.
        writes: mpsc::UnboundedSender<Bytes>,
        writer: JoinHandle<()>,
    },
    Local {
        session: NodeSession,
        outputs: Outputs,
    },
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error("no connection in {0:?}")]
    TimedOut(Duration),
}

const CONNECT: Duration = Duration::from_secs(5);

impl Route {
    /// The address, for people.
    pub fn name(&self) -> &str {
        match self {
            Route::Remote(address) => address,
            Route::Local(_) => "in this process",
        }
    }

    pub async fn connect(&self) -> Result<Link, LinkError> {
        let address = match self {
            Route::Remote(address) => address,
            Route::Local(node) => {
                let (session, outputs) = node.session()?;
                return Ok(Link::Local { session, outputs });
            }
        };
        let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
        let stream = connecting.map_err(|_| LinkError::TimedOut(CONNECT))?;
        let stream = stream.map_err(WireError::from)?;
        tune(&stream);
        let (reader, writer) = stream.into_split();
        let (writes, queue) = mpsc::unbounded_channel();
        let writer = tokio::spawn(write_all(writer, queue));
        Ok(Link::Remote { frames: Frames::new(reader, MAX_RESPONSE), writes, writer })
    }
}

impl Link {
    /// Sends a request. Whether it has come shows its answer only.
    pub fn send(&self, number: u32, request: Request) -> Result<(), LinkError> {
        match self {
            Link::Remote { writes, .. } => {
                let bytes = encode(REQUEST, number, &request, MAX_REQUEST)?;
                Ok(writes.send(bytes).map_err(|_| WireError::Closed)?)
            }
            Link::Local { session, .. } => Ok(session.ask(number, request)?),
        }
    }

    /// What comes next. Can be given up at any time: nothing is lost.
    pub async fn next(&mut self) -> Result<Output, LinkError> {
        match self {
            Link::Remote { frames, .. } => {
                let frame = frames.next().await?;
                match frame.header.kind {
                    RESPONSE => Ok(Output::Answer(frame.header.correlation, decode(&frame)?)),
                    PUSH => {
                        let Push::Delta(delta) = decode(&frame)?;
                        Ok(Output::Push(Arc::new(delta)))
                    }
                    _ => Err(unknown(&frame).into()),
                }
            }
            Link::Local { outputs, .. } => Ok(outputs.recv().await.ok_or(Stopped)?),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Link::Remote { writer, .. } = self {
            writer.abort();
        }
    }
}

async fn write_all(mut writer: OwnedWriteHalf, mut queue: mpsc::UnboundedReceiver<Bytes>) {
    while let Some(bytes) = queue.recv().await {
        // The reader learns of it as well.
        if writer.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
