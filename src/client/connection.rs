//! A connection to a broker: many requests at once, each with its answer.

use std::collections::HashMap;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mk_net::codec::decode;
use mk_net::deframer::take_frame;
use mk_net::envelope::{ResponseError, parse_response, request};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::frame::{FrameHeader, HEADER_LEN, OwnedFrame};
use mk_net::message::{Kind, Request};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::error::ClientError;

/// A connection. It is closed when this is dropped.
#[derive(Debug)]
pub struct Connection {
    address: Arc<str>,
    shared: Arc<Shared>,
    outgoing: mpsc::Sender<Outgoing>,
    next: AtomicU32,
    tasks: [JoinHandle<()>; 2],
}

/// A request to be written.
#[derive(Debug)]
struct Outgoing {
    head: Bytes,
    payload: Bytes,
    /// Told once it was written, for those who get no answer.
    written: Option<oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Shared {
    address: Arc<str>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Requests whose answers have not come.
    waiting: HashMap<u32, oneshot::Sender<OwnedFrame>>,
    /// How it ended, once it has.
    ended: Option<End>,
}

/// How a connection ended.
#[derive(Clone, Debug)]
enum End {
    Broken(Arc<str>),
    /// The broker has as many connections as it may.
    TurnedAway(Fault),
}

/// Largest frame that is taken from a broker.
const MAX_FRAME: u32 = 256 << 20;
/// Requests that wait to be written.
const QUEUE: usize = 64;
const READ_BYTES: usize = 64 << 10;

impl Connection {
    /// Connects.
    pub async fn open(address: &str, timeout: Duration) -> Result<Connection, ClientError> {
        let unreachable = |error| ClientError::Unreachable {
            address: address.to_owned(),
            source: Arc::new(error),
        };
        let connecting = tokio::time::timeout(timeout, TcpStream::connect(address));
        let stream = connecting.await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let (reader, writer) = stream.into_split();
        let address: Arc<str> = address.into();
        let state = State { waiting: HashMap::new(), ended: None };
        let shared = Arc::new(Shared { address: address.clone(), state: Mutex::new(state) });
        let (outgoing, queue) = mpsc::channel(QUEUE);
        let tasks = [
            tokio::spawn(write_all(writer, queue, shared.clone())),
            tokio::spawn(read_all(reader, shared.clone())),
        ];
        Ok(Connection { address, shared, outgoing, next: AtomicU32::new(1), tasks })
    }

    /// True until it has ended.
    pub fn is_open(&self) -> bool {
        self.shared.state.lock().ended.is_none()
    }

    /// Sends a request and waits for its answer.
    pub async fn call<R: Request>(
        &self,
        message: &R,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<(R::Response, Bytes), ClientError> {
        self.call_in_turn(message, payload, timeout, || ()).await
    }

    /// The same; tells when what is sent from then on comes behind this request.
    pub async fn call_in_turn<R: Request>(
        &self,
        message: &R,
        payload: Bytes,
        timeout: Duration,
        sent: impl FnOnce(),
    ) -> Result<(R::Response, Bytes), ClientError> {
        let (sender, answer) = oneshot::channel();
        let exchange = async {
            self.send(message, payload, Some(sender), None).await?;
            sent();
            answer.await.map_err(|_| self.shared.disconnected())
        };
        let frame = self.within(timeout, R::KIND, exchange).await?;
        let answer =
            parse_response::<R>(&frame.header, &frame.fields).map_err(|error| match error {
                ResponseError::Fault(fault) => ClientError::Broker(fault),
                other => self.shared.protocol(other.to_string()),
            })?;
        Ok((answer, frame.payload))
    }

    /// Sends a request that has no answer, or one that nobody waits for; returns once the system has it.
    pub async fn send_only<R: Request>(
        &self,
        message: &R,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<(), ClientError> {
        let (sender, written) = oneshot::channel();
        let exchange = async {
            self.send(message, payload, None, Some(sender)).await?;
            written.await.map_err(|_| self.shared.disconnected())
        };
        self.within(timeout, R::KIND, exchange).await
    }

    /// A connection on which something was not done in time is not used again: the way to the
    /// broker may be gone without a word, and only a new one shows.
    async fn within<T>(
        &self,
        timeout: Duration,
        kind: Kind,
        exchange: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        tokio::time::timeout(timeout, exchange).await.unwrap_or_else(|_| {
            self.shared.end(End::Broken("no answer in time".into()));
            let what = format!("{kind} to {}", self.address);
            Err(ClientError::TimedOut { what, after: timeout, last: None })
        })
    }

    async fn send<R: Request>(
        &self,
        message: &R,
        payload: Bytes,
        waiter: Option<oneshot::Sender<OwnedFrame>>,
        written: Option<oneshot::Sender<()>>,
    ) -> Result<u32, ClientError> {
        let correlation = self.next.fetch_add(1, Ordering::Relaxed);
        let head = request(correlation, message, payload.len());
        if let Some(waiter) = waiter {
            let mut state = self.shared.state.lock();
            if state.ended.is_none() {
                state.waiting.insert(correlation, waiter);
            }
        }
        if self.outgoing.send(Outgoing { head, payload, written }).await.is_err() {
            self.shared.state.lock().waiting.remove(&correlation);
            return Err(self.shared.disconnected());
        }
        Ok(correlation)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Shared {
    fn end(&self, how: End) {
        let mut state = self.state.lock();
        state.ended.get_or_insert(how);
        // Whoever waits learns of it by the end of the channel.
        state.waiting.clear();
    }

    fn disconnected(&self) -> ClientError {
        let ended = self.state.lock().ended.clone();
        let address = self.address.to_string();
        match ended {
            Some(End::TurnedAway(fault)) => ClientError::TurnedAway { address, fault },
            Some(End::Broken(reason)) => ClientError::Disconnected { address, reason },
            None => ClientError::Disconnected { address, reason: "it is being closed".into() },
        }
    }

    fn protocol(&self, what: String) -> ClientError {
        ClientError::Protocol { address: self.address.to_string(), what }
    }
}

async fn write_all(
    mut writer: OwnedWriteHalf,
    mut queue: mpsc::Receiver<Outgoing>,
    shared: Arc<Shared>,
) {
    while let Some(Outgoing { head, payload, written }) = queue.recv().await {
        if let Err(error) = write_both(&mut writer, &head, &payload).await {
            shared.end(End::Broken(error.to_string().into()));
            return;
        }
        if let Some(written) = written {
            let _ = written.send(());
        }
    }
}

async fn write_both(
    writer: &mut OwnedWriteHalf,
    head: &[u8],
    payload: &[u8],
) -> std::io::Result<()> {
    let mut written = 0;
    while written < head.len() {
        let slices = [IoSlice::new(&head[written..]), IoSlice::new(payload)];
        match writer.write_vectored(&slices).await? {
            0 => return Err(std::io::ErrorKind::WriteZero.into()),
            count => written += count,
        }
    }
    writer.write_all(&payload[written - head.len()..]).await
}

async fn read_all(mut reader: OwnedReadHalf, shared: Arc<Shared>) {
    let end = read_until_end(&mut reader, &shared).await;
    shared.end(end);
}

async fn read_until_end(reader: &mut OwnedReadHalf, shared: &Shared) -> End {
    let mut buffer = BytesMut::new();
    loop {
        match take_frame(&mut buffer, MAX_FRAME) {
            Ok(Some(frame)) if frame.header.response => {
                let waiter = shared.state.lock().waiting.remove(&frame.header.correlation);
                if frame.header.kind == Kind::NONE {
                    // The last word of a broker that could not understand a frame, or has no room; whose
                    // frame it was, if it is known, learns it.
                    let end = last_word(&frame);
                    let _ = waiter.map(|waiter| waiter.send(frame));
                    return end;
                }
                if let Some(waiter) = waiter {
                    let _ = waiter.send(frame);
                }
                continue;
            }
            Ok(Some(_)) => return End::Broken("the broker sent a request".into()),
            Ok(None) => {}
            Err(error) => return End::Broken(error.to_string().into()),
        }
        buffer.reserve(missing(&buffer).max(READ_BYTES));
        match reader.read_buf(&mut buffer).await {
            Ok(0) => return End::Broken("the broker closed it".into()),
            Ok(_) => {}
            Err(error) => return End::Broken(error.to_string().into()),
        }
    }
}

/// Bytes that the frame that has begun still needs; its lengths were checked.
fn missing(buffer: &BytesMut) -> usize {
    let Some(head) = buffer.first_chunk::<HEADER_LEN>() else { return 0 };
    FrameHeader::parse(head, MAX_FRAME)
        .map_or(0, |header| (HEADER_LEN + header.body_len()).saturating_sub(buffer.len()))
}

/// What the broker says before it closes the connection.
fn last_word(frame: &OwnedFrame) -> End {
    match decode::<Fault>(&frame.fields) {
        Ok(fault) if fault.code == ErrorCode::THROTTLING_QUOTA_EXCEEDED => End::TurnedAway(fault),
        Ok(fault) => End::Broken(fault.to_string().into()),
        Err(error) => End::Broken(error.to_string().into()),
    }
}
