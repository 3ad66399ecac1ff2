//! How other threads reach a loop.

use std::io;
use std::sync::Arc;

use mio::net::TcpStream;
use mio::{Poll, Token, Waker};
use parking_lot::Mutex;
use std::time::Instant;

/// Puts notes before a loop. Clones lead to the same loop.
#[derive(Debug)]
pub struct Mailbox<N> {
    shared: Arc<Shared<N>>,
}

/// The loop's end.
#[derive(Debug)]
pub(super) struct Inbox<N> {
    pub poll: Poll,
    shared: Arc<Shared<N>>,
}

#[derive(Debug)]
struct Shared<N> {
    waker: Waker,
    messages: Mutex<Vec<Message<N>>>,
}

#[derive(Debug)]
pub(super) enum Message<N> {
    Note(N),
    Connection(TcpStream),
    /// One beyond the limit: it is told so.
    Surplus(TcpStream),
    Stop(Instant),
}

pub(super) const WAKE: Token = Token(0);

pub(super) fn mailbox<N>() -> io::Result<(Mailbox<N>, Inbox<N>)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    let shared = Arc::new(Shared { waker, messages: Mutex::new(Vec::new()) });
    Ok((Mailbox { shared: shared.clone() }, Inbox { poll, shared }))
}

impl<N> Clone for Mailbox<N> {
    fn clone(&self) -> Mailbox<N> {
        Mailbox { shared: self.shared.clone() }
    }
}

impl<N> Mailbox<N> {
    /// Sends a note. Does not block. A loop that has ended does not read it.
    pub fn send(&self, note: N) {
        self.post(Message::Note(note));
    }

    pub(super) fn post(&self, message: Message<N>) {
        let mut messages = self.shared.messages.lock();
        let first = messages.is_empty();
        messages.push(message);
        drop(messages);
        // Whoever found it empty wakes the loop; the loop empties it whole each time.
        if first && let Err(error) = self.shared.waker.wake() {
            tracing::error!(%error, "an event loop cannot be woken");
        }
    }
}

impl<N> Inbox<N> {
    /// Takes all messages.
    pub fn take(&self, into: &mut Vec<Message<N>>) {
        std::mem::swap(&mut *self.shared.messages.lock(), into);
    }
}
