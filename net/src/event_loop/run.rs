//! The loop itself.

use std::collections::{BTreeSet, VecDeque};
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Token};
use tracing::{debug, error, warn};

use super::acceptor::{Acceptor, LISTENER};
use super::mailbox::{Inbox, Mailbox, Message, WAKE};
use super::socket::{Sent, Socket, Step};
use super::{ConnectionId, Context, Counters, Limits, Output, RequestId, Service};
use crate::deframer::Incoming;
use crate::fault::{ErrorCode, Fault};

pub(super) struct EventLoop<S: Service> {
    service: S,
    inbox: Inbox<S::Note>,
    acceptor: Option<Acceptor<S::Note>>,
    limits: Limits,
    counters: Arc<Counters>,
    context: Context,
    sockets: Vec<Option<Socket>>,
    free: Vec<usize>,
    next_generation: u64,
    /// Sockets with work that the kernel will not tell of again.
    ready: VecDeque<usize>,
    lingering: VecDeque<ConnectionId>,
    /// Connections that are held, by when they are let go: index and generation.
    held: BTreeSet<(Instant, usize, u64)>,
    next_sweep: Instant,
    /// Set when the server stops: when the loop ends at the latest.
    stopping: Option<Instant>,
}

/// What the loop that accepts is given.
pub(super) type Listening<N> = (TcpListener, Arc<[Mailbox<N>]>);

/// The first token of a socket.
const FIRST_SOCKET: usize = 2;
/// Most that is read from one socket before the others have their turn.
const READ_SHARE: usize = 2 << 20;

impl<S: Service> EventLoop<S> {
    pub fn new(
        service: S,
        inbox: Inbox<S::Note>,
        acceptor: Option<Listening<S::Note>>,
        limits: Limits,
        counters: Arc<Counters>,
    ) -> io::Result<EventLoop<S>> {
        let acceptor = acceptor
            .map(|(listener, mailboxes)| Acceptor::new(listener, mailboxes, inbox.poll.registry()));
        Ok(EventLoop {
            service,
            inbox,
            acceptor: acceptor.transpose()?,
            limits,
            counters,
            context: Context::new(),
            sockets: Vec::new(),
            free: Vec::new(),
            next_generation: 0,
            ready: VecDeque::new(),
            lingering: VecDeque::new(),
            held: BTreeSet::new(),
            next_sweep: Instant::now() + sweep_interval(limits.idle),
            stopping: None,
        })
    }

    pub fn run(mut self) {
        let mut events = Events::with_capacity(1024);
        let mut messages = Vec::new();
        while !self.is_over() {
            let timeout = self.timeout();
            if let Err(error) = self.inbox.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                error!(%error, "an event loop cannot wait for its sockets and ends");
                return;
            }
            self.context.now = Instant::now();
            for event in &events {
                match event.token() {
                    WAKE => {}
                    LISTENER => self.accept(),
                    Token(token) => self.note_readiness(token - FIRST_SOCKET, event),
                }
            }
            // Read each time, not only when woken: it is one uncontended lock.
            self.inbox.take(&mut messages);
            for message in messages.drain(..) {
                self.on_message(message);
            }
            self.apply_outputs();
            for _ in 0..self.ready.len() {
                if let Some(index) = self.ready.pop_front() {
                    self.serve(index);
                }
            }
            self.keep_time();
        }
    }

    /// How long to wait for events.
    fn timeout(&self) -> Option<Duration> {
        if !self.ready.is_empty() {
            return Some(Duration::ZERO);
        }
        let sweep = (self.sockets.len() > self.free.len()).then_some(self.next_sweep);
        let linger = self.lingering.front().and_then(|id| self.socket(*id)?.linger_deadline());
        let pause = self.acceptor.as_ref().and_then(|acceptor| acceptor.paused_until);
        let held = self.held.first().map(|(until, _, _)| *until);
        let times = [self.service.next_deadline(), sweep, linger, pause, held, self.stopping];
        let next = times.into_iter().flatten().min()?;
        // Rounded up: to wake just before the time is to spin until it.
        let wait = next.saturating_duration_since(Instant::now());
        Some(wait + Duration::from_micros(u64::from(!wait.is_zero()) * 999))
    }

    fn accept(&mut self) {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.accept(self.context.now, &self.limits, &self.counters);
        }
    }

    fn on_message(&mut self, message: Message<S::Note>) {
        match message {
            Message::Note(note) => self.service.on_note(&mut self.context, note),
            Message::Connection(stream) => drop(self.add(stream, false)),
            Message::Surplus(stream) => self.turn_away(stream),
            Message::Stop(deadline) => {
                self.acceptor = None;
                self.stopping = Some(deadline);
                self.service.on_stop(&mut self.context);
            }
        }
    }

    /// Takes a connection; one that is `surplus` is not counted among those that are served.
    fn add(&mut self, mut stream: TcpStream, surplus: bool) -> Option<usize> {
        let index = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(None);
            self.sockets.len() - 1
        });
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registry = self.inbox.poll.registry();
        let registered = stream
            .set_nodelay(true)
            .and_then(|()| registry.register(&mut stream, Token(index + FIRST_SOCKET), interest));
        if let Err(error) = registered {
            debug!(%error, "a connection ended before it was looked at");
            self.forget(surplus);
            self.free.push(index);
            return None;
        }
        let generation = self.next_generation;
        self.next_generation += 1;
        let limits = self.limits.connection;
        let socket = Socket::new(stream, limits, generation, self.context.now);
        self.sockets[index] = Some(Socket { surplus, ..socket });
        Some(index)
    }

    /// A connection is no more.
    fn forget(&self, surplus: bool) {
        let Counters { surplus: others, connections, .. } = &*self.counters;
        (if surplus { others } else { connections }).fetch_sub(1, Relaxed);
    }

    /// Tells a connection that there are too many.
    fn turn_away(&mut self, stream: TcpStream) {
        let Some(index) = self.add(stream, true) else { return };
        if let Some(socket) = &mut self.sockets[index] {
            let most = self.limits.max_connections;
            let what = format!("{most} connections are served, as many as max.connections allows");
            socket.connection.turn_away(Fault::new(ErrorCode::THROTTLING_QUOTA_EXCEEDED, what));
        }
        self.enqueue(index);
    }

    fn note_readiness(&mut self, index: usize, event: &Event) {
        let Some(socket) = self.sockets.get_mut(index).and_then(Option::as_mut) else { return };
        socket.read_closed |= event.is_read_closed() || event.is_error();
        socket.readable |= event.is_readable() || socket.read_closed;
        socket.writable |= event.is_writable();
        self.enqueue(index);
    }

    fn enqueue(&mut self, index: usize) {
        if let Some(socket) = &mut self.sockets[index]
            && !socket.queued
        {
            socket.queued = true;
            self.ready.push_back(index);
        }
    }

    fn socket(&self, id: ConnectionId) -> Option<&Socket> {
        let socket = self.sockets.get(id.index)?.as_ref()?;
        (socket.generation == id.generation).then_some(socket)
    }

    /// One socket's turn. It counts as queued until the end, so that its own answers do not queue
    /// it once more.
    fn serve(&mut self, index: usize) {
        let Some(socket) = &mut self.sockets[index] else { return };
        let id = ConnectionId { index, generation: socket.generation };
        let again = if socket.lingering.is_some() {
            let step = socket.linger(self.context.now);
            if step == Step::Over {
                self.close(index);
            }
            step == Step::Again
        } else {
            self.converse(id)
        };
        if let Some(socket) = &mut self.sockets[index] {
            socket.queued = false;
            if again {
                self.enqueue(index);
            }
        }
    }

    /// Sends, answers and reads until the socket blocks or its share is used up. True if there is
    /// more to do that the kernel will not tell of.
    fn converse(&mut self, id: ConnectionId) -> bool {
        let mut share = READ_SHARE;
        loop {
            let sent = self.flush(id.index);
            if sent == Step::Over || !self.answer(id) {
                break;
            }
            let Some(socket) = &mut self.sockets[id.index] else { return false };
            if !socket.readable || !socket.connection.wants_read() || self.stopping.is_some() {
                break;
            }
            if share == 0 {
                return true;
            }
            let (step, count) = socket.read();
            share = share.saturating_sub(count);
            if count > 0 {
                socket.last_active = self.context.now;
                self.counters.bytes_in.fetch_add(count as u64, Relaxed);
            }
            if step == Step::Over {
                self.close(id.index);
                return false;
            }
        }
        self.tell_end(id);
        let sent = self.flush(id.index);
        let Some(socket) = &mut self.sockets[id.index] else { return false };
        if socket.connection.is_finished() {
            if !socket.connection.is_refused() {
                self.close(id.index);
                return false;
            }
            socket.begin_linger(self.context.now);
            self.lingering.push_back(id);
            return true;
        }
        socket.connection.shrink();
        // What was held back while the connection was congested is taken up again.
        let readable = socket.readable && socket.connection.wants_read();
        let held_back = socket.connection.has_request() || readable;
        sent == Step::Again || (held_back && self.stopping.is_none())
    }

    /// Tells the service once that the client sends no more.
    fn tell_end(&mut self, id: ConnectionId) {
        let Some(socket) = &mut self.sockets[id.index] else { return };
        if !socket.end_told && socket.connection.has_ended() {
            socket.end_told = true;
            self.service.on_ended(&mut self.context, id);
            self.apply_outputs();
        }
    }

    /// Hands all requests that are there to the service. False if the connection is refused.
    fn answer(&mut self, id: ConnectionId) -> bool {
        loop {
            let Some(socket) = &mut self.sockets[id.index] else { return false };
            match socket.connection.next_request() {
                Ok(Some((number, incoming))) => {
                    self.counters.requests.fetch_add(1, Relaxed);
                    self.context.peer = socket.peer;
                    let (from, context) = (RequestId { connection: id, number }, &mut self.context);
                    match incoming {
                        Incoming::Own(frame) => self.service.on_request(context, from, frame),
                        Incoming::Kafka(request) => {
                            self.service.on_kafka_request(context, from, request);
                        }
                    }
                }
                Ok(None) => return !socket.connection.is_refused(),
                Err(error) => {
                    tell_refused(&self.counters, socket.peer, &error);
                    return false;
                }
            }
            self.apply_outputs();
        }
    }

    /// Moves what the service said to the connections.
    fn apply_outputs(&mut self) {
        let mut outputs = std::mem::take(&mut self.context.outputs);
        for (id, output) in outputs.drain(..) {
            let socket = self.sockets.get_mut(id.index).and_then(Option::as_mut);
            let Some(socket) = socket.filter(|socket| socket.generation == id.generation) else {
                continue;
            };
            match output {
                Output::Chunk(number, chunk) => socket.connection.send(number, chunk),
                Output::Answered(number) => {
                    socket.connection.answered(number);
                    self.enqueue(id.index);
                }
                Output::End(why) => {
                    tell_refused(&self.counters, socket.peer, &why);
                    socket.connection.end();
                    self.enqueue(id.index);
                }
                Output::Hold(until) => {
                    let until = socket.held_until.map_or(until, |known| known.max(until));
                    socket.held_until = Some(until);
                    socket.connection.hold(true);
                    self.held.insert((until, id.index, id.generation));
                }
            }
        }
        self.context.outputs = outputs;
    }

    fn flush(&mut self, index: usize) -> Step {
        let Some(socket) = &mut self.sockets[index] else { return Step::Over };
        let mut sent = Sent::default();
        let step = socket.flush(&mut sent).unwrap_or_else(|error| {
            error!(%error, "a response cannot be sent");
            Step::Over
        });
        if sent.memory + sent.file > 0 {
            socket.last_active = self.context.now;
            self.counters.bytes_out_memory.fetch_add(sent.memory, Relaxed);
            self.counters.bytes_out_file.fetch_add(sent.file, Relaxed);
        }
        if step == Step::Over {
            self.close(index);
        }
        step
    }

    fn close(&mut self, index: usize) {
        let Some(mut socket) = self.sockets[index].take() else { return };
        if let Err(error) = self.inbox.poll.registry().deregister(&mut socket.stream) {
            debug!(%error, "a socket was not deregistered");
        }
        self.forget(socket.surplus);
        self.free.push(index);
        self.service.on_closed(ConnectionId { index, generation: socket.generation });
    }

    /// Does what is due.
    fn keep_time(&mut self) {
        let now = self.context.now;
        if self.service.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.service.on_deadline(&mut self.context);
            self.apply_outputs();
        }
        let paused = self.acceptor.as_ref().and_then(|acceptor| acceptor.paused_until);
        if paused.is_some_and(|until| until <= now) {
            self.accept();
        }
        while let Some(id) = self.lingering.front().copied() {
            match self.socket(id).and_then(Socket::linger_deadline) {
                Some(until) if until > now => break,
                Some(_) => self.close(id.index),
                None => {}
            }
            self.lingering.pop_front();
        }
        while let Some((_, index, generation)) =
            self.held.first().copied().filter(|(until, ..)| *until <= now)
        {
            self.held.pop_first();
            let socket = self.sockets.get_mut(index).and_then(Option::as_mut);
            let over = |socket: &&mut Socket| {
                socket.generation == generation
                    && socket.held_until.is_some_and(|until| until <= now)
            };
            if let Some(socket) = socket.filter(over) {
                socket.held_until = None;
                socket.connection.hold(false);
                self.enqueue(index);
            }
        }
        if self.next_sweep <= now {
            self.next_sweep = now + sweep_interval(self.limits.idle);
            self.sweep();
        }
    }

    /// Closes what is idle; takes unused memory back from what is quiet.
    fn sweep(&mut self) {
        for index in 0..self.sockets.len() {
            let Some(socket) = &mut self.sockets[index] else { continue };
            let quiet = self.context.now.saturating_duration_since(socket.last_active);
            let waits_for_us = socket.held_until.is_some()
                || socket.connection.pending() > 0 && socket.connection.outgoing_bytes() == 0;
            if quiet >= self.limits.idle && !waits_for_us {
                self.counters.idle_closed.fetch_add(1, Relaxed);
                self.close(index);
            } else if quiet >= sweep_interval(self.limits.idle) {
                socket.connection.release();
            }
        }
    }

    fn is_over(&self) -> bool {
        let Some(deadline) = self.stopping else { return false };
        let busy = |socket: &Socket| {
            socket.connection.pending() > 0 || socket.connection.outgoing_bytes() > 0
        };
        Instant::now() >= deadline || !self.sockets.iter().flatten().any(busy)
    }
}

/// Whoever knocks at the wrong door all day shall not fill the log.
fn tell_refused(counters: &Counters, peer: Option<SocketAddr>, error: &dyn Display) {
    let before = counters.refused.fetch_add(1, Relaxed);
    if before < 10 || before.is_power_of_two() {
        warn!(?peer, %error, refused = before + 1, "a connection is refused");
    }
}

fn sweep_interval(idle: Duration) -> Duration {
    (idle / 4).clamp(Duration::from_millis(10), Duration::from_secs(60))
}
