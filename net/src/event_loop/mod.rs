//! Sockets on mio: some loops, each a thread, each with its own connections.
//!
//! The first loop accepts and hands connections out in turn. Sockets are edge-triggered: a loop
//! goes on with one until the kernel says `WouldBlock`, or until its share of the turn is used up,
//! so that no connection starves the others. Loops talk to each other, and threads outside talk to
//! them, through [`Mailbox`]es; nothing else is shared but the [`Counters`].

mod acceptor;
mod mailbox;
mod run;
mod socket;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use tracing::error;

pub use mailbox::Mailbox;

use crate::connection::ConnectionLimits;
use crate::frame::Frame;
use crate::outgoing::Chunk;
use mailbox::{Inbox, Message};
use run::EventLoop;

/// What answers requests, one a loop. Nothing in it may block: every connection of the loop waits.
pub trait Service {
    /// What threads, and other loops, tell it.
    type Note: Send + 'static;

    /// A request came. It must be answered, or declared to have no answer, now or later.
    fn on_request(&mut self, context: &mut Context, from: RequestId, frame: Frame<'_>);
    /// A request of Kafka's protocol came, here without its length. It must be answered, or declared to have no
    /// answer, now or later; answers go out in the order of the requests.
    fn on_kafka_request(&mut self, context: &mut Context, from: RequestId, request: &[u8]);
    /// A note came.
    fn on_note(&mut self, context: &mut Context, note: Self::Note);
    /// The time it asked for with [`Service::next_deadline`] has come.
    fn on_deadline(&mut self, context: &mut Context);
    /// When it wants to be woken at the latest.
    fn next_deadline(&self) -> Option<Instant>;
    /// A client sends no more. It may be gone, or wait for its answers: what waits for more to come is to be
    /// answered with what there is.
    fn on_ended(&mut self, context: &mut Context, connection: ConnectionId);
    /// A connection has ended; answers to it go nowhere.
    fn on_closed(&mut self, connection: ConnectionId);
    /// The server is about to stop: whatever need not wait is to be answered now.
    fn on_stop(&mut self, context: &mut Context);
}

/// Names a connection of a loop; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnectionId {
    index: usize,
    generation: u64,
}

/// Names a request, for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestId {
    /// The connection that it came over.
    pub connection: ConnectionId,
    number: u64,
}

/// What a service says while it handles something.
#[derive(Debug)]
pub struct Context {
    now: Instant,
    peer: Option<SocketAddr>,
    outputs: Vec<(ConnectionId, Output)>,
}

#[derive(Debug)]
enum Output {
    /// A part of the answer to the request of this number.
    Chunk(u64, Chunk),
    Answered(u64),
    Hold(Instant),
    End(String),
}

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of each connection.
    pub connection: ConnectionLimits,
    /// Connections at once; further ones are told so, and closed.
    pub max_connections: usize,
    /// A connection on which nothing happens for so long is closed.
    pub idle: Duration,
}

/// What has happened, over all loops, since the start. Cheap to count, free to read.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections now.
    pub connections: AtomicUsize,
    /// Connections accepted.
    pub accepted: AtomicU64,
    /// Connections closed for the limit of connections.
    pub turned_away: AtomicU64,
    /// Those of them that are being told so now.
    pub surplus: AtomicUsize,
    /// Connections closed because nothing happened on them.
    pub idle_closed: AtomicU64,
    /// Connections closed because what came is no frame.
    pub refused: AtomicU64,
    /// Requests handed to services.
    pub requests: AtomicU64,
    /// Bytes received.
    pub bytes_in: AtomicU64,
    /// Bytes sent from memory.
    pub bytes_out_memory: AtomicU64,
    /// Bytes sent from files.
    pub bytes_out_file: AtomicU64,
}

/// A server that is bound, and not started yet.
#[derive(Debug)]
pub struct Prepared<N> {
    listener: TcpListener,
    address: SocketAddr,
    limits: Limits,
    inboxes: Vec<Inbox<N>>,
    mailboxes: Arc<[Mailbox<N>]>,
}

/// A running server.
#[derive(Debug)]
pub struct Server<N> {
    address: SocketAddr,
    mailboxes: Arc<[Mailbox<N>]>,
    counters: Arc<Counters>,
    threads: Vec<JoinHandle<()>>,
}

impl Context {
    fn new() -> Context {
        Context { now: Instant::now(), peer: None, outputs: Vec::new() }
    }

    /// When the loop woke.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Where the request comes from that is handled; none if the other end was gone at once.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Answers a request.
    pub fn respond(&mut self, to: RequestId, answer: impl IntoIterator<Item = Chunk>) {
        let RequestId { connection, number } = to;
        let chunks = answer.into_iter().map(|chunk| (connection, Output::Chunk(number, chunk)));
        self.outputs.extend(chunks);
        self.no_response(to);
    }

    /// Ends a connection once what is queued for it is sent: a request cannot be answered, for this reason.
    pub fn end(&mut self, connection: ConnectionId, why: String) {
        self.outputs.push((connection, Output::End(why)));
    }

    /// Takes no further request of a connection until then; what it sends meanwhile waits in its socket.
    /// What it was to be answered it is answered.
    pub fn hold(&mut self, connection: ConnectionId, until: Instant) {
        self.outputs.push((connection, Output::Hold(until)));
    }

    /// Says that a request has no answer.
    pub fn no_response(&mut self, to: RequestId) {
        self.outputs.push((to.connection, Output::Answered(to.number)));
    }
}

impl<N: Send + 'static> Prepared<N> {
    /// Binds `loops` event loops to an address. Connections wait in the system's queue from now on.
    pub fn bind(address: SocketAddr, loops: usize, limits: Limits) -> io::Result<Prepared<N>> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let pairs = (0..loops.max(1)).map(|_| mailbox::mailbox());
        let pairs = pairs.collect::<io::Result<Vec<_>>>()?;
        let (mailboxes, inboxes): (Vec<_>, _) = pairs.into_iter().unzip();
        Ok(Prepared { listener, address, limits, inboxes, mailboxes: mailboxes.into() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The loops' mailboxes.
    pub fn mailboxes(&self) -> Arc<[Mailbox<N>]> {
        self.mailboxes.clone()
    }

    /// Starts the loops, each with a service of its own.
    pub fn start<S: Service<Note = N> + Send + 'static>(
        self,
        mut service: impl FnMut(usize) -> S,
    ) -> io::Result<Server<N>> {
        let Prepared { listener, address, limits, inboxes, mailboxes } = self;
        let counters = Arc::new(Counters::default());
        let mut listener = Some(listener);
        let mut threads = Vec::with_capacity(inboxes.len());
        for (index, inbox) in inboxes.into_iter().enumerate() {
            let service = service(index);
            let acceptor = listener.take().map(|listener| (listener, mailboxes.clone()));
            let event_loop = EventLoop::new(service, inbox, acceptor, limits, counters.clone())?;
            let thread = thread::Builder::new().name(format!("mk-loop-{index}"));
            threads.push(thread.spawn(move || event_loop.run())?);
        }
        Ok(Server { address, mailboxes, counters, threads })
    }
}

impl<N: Send + 'static> Server<N> {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has happened.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Stops: takes no more, lets what is being answered be answered for at most `grace`.
    pub fn stop(self, grace: Duration) {
        let deadline = Instant::now() + grace;
        for mailbox in self.mailboxes.iter() {
            mailbox.post(Message::Stop(deadline));
        }
        for thread in self.threads {
            if thread.join().is_err() {
                error!("an event loop has panicked");
            }
        }
    }
}
