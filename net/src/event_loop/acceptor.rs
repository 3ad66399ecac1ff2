//! Accepts connections and hands them to the loops in turn.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};
use tracing::warn;

use super::mailbox::{Mailbox, Message};
use super::{Counters, Limits};

pub(super) const LISTENER: Token = Token(1);

/// So many connections beyond the limit are told so at once, which takes each a second at most; more are closed
/// without a word.
const MOST_SURPLUS: usize = 64;

/// How long to leave the listener alone when the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Acceptor<N> {
    listener: TcpListener,
    mailboxes: Arc<[Mailbox<N>]>,
    next: usize,
    /// Until when it pauses; it must then be called, since the edge has been seen.
    pub paused_until: Option<Instant>,
}

impl<N> Acceptor<N> {
    pub fn new(
        mut listener: TcpListener,
        mailboxes: Arc<[Mailbox<N>]>,
        registry: &Registry,
    ) -> io::Result<Acceptor<N>> {
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Acceptor { listener, mailboxes, next: 0, paused_until: None })
    }

    /// Accepts all that wait.
    pub fn accept(&mut self, now: Instant, limits: &Limits, counters: &Counters) {
        self.paused_until = None;
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let others = counters.connections.fetch_add(1, Ordering::Relaxed);
                    if others >= limits.max_connections {
                        counters.connections.fetch_sub(1, Ordering::Relaxed);
                        self.turn_away(stream, limits, counters);
                        continue;
                    }
                    counters.accepted.fetch_add(1, Ordering::Relaxed);
                    self.hand_out(Message::Connection(stream));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Most likely EMFILE: what waits stays in the system's queue meanwhile.
                    warn!(%error, "cannot accept connections; trying again shortly");
                    self.paused_until = Some(now + PAUSE);
                    return;
                }
            }
        }
    }

    fn hand_out(&mut self, message: Message<N>) {
        self.mailboxes[self.next].post(message);
        self.next = (self.next + 1) % self.mailboxes.len();
    }

    fn turn_away(&mut self, stream: TcpStream, limits: &Limits, counters: &Counters) {
        let before = counters.turned_away.fetch_add(1, Ordering::Relaxed);
        if before.is_power_of_two() || before == 0 {
            let limit = limits.max_connections;
            warn!(limit, turned_away = before + 1, "too many connections");
        }
        if counters.surplus.fetch_add(1, Ordering::Relaxed) < MOST_SURPLUS {
            self.hand_out(Message::Surplus(stream));
        } else {
            counters.surplus.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Errors that accept(2) passes on from the connection that it would have accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
