//! Whether the broker gets on: a broker that beats and does not work is no better than a dead one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mk_net::event_loop::Mailbox;

use super::flusher::Flusher;
use super::note::Note;
use super::shared::Shared;

/// Asks the event loops for a sign of life, and looks how long a sync takes.
pub struct Progress {
    shared: Arc<Shared>,
}

/// What an event loop owes: when it was asked, until it answers. In microseconds since the start; 0:
/// nothing.
#[derive(Debug, Default)]
pub struct Owed(AtomicU64);

impl Progress {
    /// Of this broker.
    pub fn new(shared: &Arc<Shared>) -> Progress {
        Progress { shared: shared.clone() }
    }

    /// How long the slowest event loop has owed an answer, or a sync has taken so far.
    pub fn stalled(&self) -> Duration {
        let Shared { mailboxes, owed, cluster, flusher, .. } = &*self.shared;
        let now = cluster.now();
        let loops = mailboxes.iter().zip(owed.iter()).map(|(mailbox, owed)| owed.ask(mailbox, now));
        loops.chain([Flusher::longest_sync(flusher)]).max().unwrap_or_default()
    }
}

impl Owed {
    /// Asks if nothing is owed; how long it has been owed.
    fn ask(&self, mailbox: &Mailbox<Note>, now: Duration) -> Duration {
        let now_us = (now.as_micros() as u64).max(1);
        match self.0.load(Ordering::Acquire) {
            0 => {
                self.0.store(now_us, Ordering::Release);
                mailbox.send(Note::Ping);
                Duration::ZERO
            }
            asked => Duration::from_micros(now_us.saturating_sub(asked)),
        }
    }

    /// The event loop answers.
    pub fn answer(&self) {
        self.0.store(0, Ordering::Release);
    }
}
