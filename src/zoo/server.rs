//! The zookeeper's side of TCP. Everything is bounded: connections, requests that wait for answers,
//! how long a frame takes, how long a receiver does not receive.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::message::{Push, Request, Response};
use super::node::{NodeHandle, NodeSession, Output, Outputs, Stopped};
use super::wire::{
    Frames, MAX_REQUEST, MAX_RESPONSE, PUSH, REQUEST, RESPONSE, WireError, decode, encode, tune,
    unknown,
};

/// Connections at once; further ones are closed.
const MOST_CONNECTIONS: usize = 1024;
/// Requests of a connection that wait for their answers; more are not read.
const MOST_WAITING: usize = 32;
/// Who has connected has so long to say something.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// A frame that has begun must end in so long.
const WHOLE_FRAME: Duration = Duration::from_secs(10);
/// A connection without a broker is closed when nothing is asked for so long.
const IDLE: Duration = Duration::from_secs(600);
/// What is sent must be received in so long.
const RECEIVED: Duration = Duration::from_secs(30);

/// Serves whoever connects, until it is dropped.
pub(super) async fn serve(listener: TcpListener, node: NodeHandle) {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    // Dropped with this function, and the connections with it.
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "nobody can connect");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            warn!(%from, "too many connections");
            continue;
        };
        let Ok((session, outputs)) = node.session() else { return };
        connections.spawn(async move {
            let _place = place;
            let Err(error) = Connection::new(stream, session, outputs).run().await;
            debug!(%from, %error, "a connection has ended");
        });
    }
}

struct Connection {
    frames: Frames<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    session: NodeSession,
    outputs: Outputs,
    waiting: usize,
    has_asked: bool,
    has_registered: bool,
}

#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Stopped(#[from] Stopped),
    #[error("nothing was said for too long")]
    Idle,
    #[error("a frame took too long")]
    Slow,
    #[error("it does not receive")]
    Deaf,
    #[error("its session is over")]
    Over,
}

enum Never {}

impl Connection {
    fn new(stream: TcpStream, session: NodeSession, outputs: Outputs) -> Connection {
        tune(&stream);
        let (reader, writer) = stream.into_split();
        let frames = Frames::new(reader, MAX_REQUEST);
        let (waiting, has_asked, has_registered) = (0, false, false);
        Connection { frames, writer, session, outputs, waiting, has_asked, has_registered }
    }

    async fn run(mut self) -> Result<Never, End> {
        loop {
            let silence = match (self.has_asked, self.has_registered) {
                (_, true) => None,
                (true, false) => Some(IDLE),
                (false, false) => Some(FIRST_WORD),
            };
            tokio::select! {
                output = self.outputs.recv() => self.send(output.ok_or(End::Over)?).await?,
                request = read(&mut self.frames, silence), if self.waiting < MOST_WAITING => {
                    let (number, request) = request?;
                    self.has_asked = true;
                    self.waiting += 1;
                    self.session.ask(number, request)?;
                }
            }
        }
    }

    async fn send(&mut self, output: Output) -> Result<(), End> {
        let bytes = match output {
            Output::Push(delta) => encode(PUSH, 0, &Push::Delta((*delta).clone()), MAX_RESPONSE)?,
            Output::Answer(number, response) => {
                self.waiting -= 1;
                self.has_registered |= matches!(response, Response::Registered(_));
                encode(RESPONSE, number, &response, MAX_RESPONSE)?
            }
        };
        self.write(bytes).await
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), End> {
        let written = tokio::time::timeout(RECEIVED, self.writer.write_all(&bytes)).await;
        Ok(written.map_err(|_| End::Deaf)?.map_err(WireError::from)?)
    }
}

/// The next request and its number.
async fn read(
    frames: &mut Frames<OwnedReadHalf>,
    silence: Option<Duration>,
) -> Result<(u32, Request), End> {
    match silence {
        Some(most) => tokio::time::timeout(most, frames.begun()).await.map_err(|_| End::Idle)??,
        None => frames.begun().await?,
    }
    let frame = tokio::time::timeout(WHOLE_FRAME, frames.next()).await.map_err(|_| End::Slow)??;
    if frame.header.kind != REQUEST {
        return Err(unknown(&frame).into());
    }
    Ok((frame.header.correlation, decode(&frame)?))
}
