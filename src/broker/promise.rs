//! Answers that hold once what was appended for them is committed.

use std::time::{Duration, Instant};

use mk_net::event_loop::{ConnectionId, Context};
use mk_net::fault::{ErrorCode, Fault};

use super::produce::Uncommitted;
use super::reply::Kept;
use super::waiting::Waiting;

/// An answer that holds once a partition is committed up to some offset.
#[derive(Debug)]
pub struct Promise {
    /// The answer.
    pub answer: Kept,
    /// What it waits for.
    pub uncommitted: Uncommitted,
}

/// The promises of one loop.
pub struct Promises {
    index: usize,
    waiting: Waiting<Promise>,
}

/// So long a promise waits (Kafka's `offsets.commit.timeout.ms`).
const PATIENCE: Duration = Duration::from_secs(5);

impl Promises {
    pub fn new(index: usize) -> Promises {
        Promises { index, waiting: Waiting::default() }
    }

    /// Answers at once, or when more is committed.
    pub fn promise(&mut self, context: &mut Context, promise: Promise) {
        match self.look(&promise) {
            Some(holds) => promise.answer.answer(context, holds),
            None => {
                let serial = promise.uncommitted.partition.serial();
                self.waiting.park(promise, vec![serial], context.now() + PATIENCE);
            }
        }
    }

    /// Whether the answer holds, if that is known by now.
    fn look(&self, promise: &Promise) -> Option<Result<(), Fault>> {
        // Entered before it is looked at, so that no commit goes unnoticed.
        promise.uncommitted.partition.producers.enter(self.index);
        match promise.uncommitted.look() {
            Ok(None) => None,
            Ok(Some(_)) => Some(Ok(())),
            Err(fault) => Some(Err(Fault::new(ErrorCode::NOT_COORDINATOR, fault.message))),
        }
    }

    /// More of a partition is committed, or it will not be.
    pub fn on_committed(&mut self, context: &mut Context, serial: u64) {
        for ticket in self.waiting.waiting_for(serial) {
            let holds = self.waiting.request(ticket).and_then(|promise| self.look(promise));
            if let Some(holds) = holds
                && let Some(promise) = self.waiting.take(ticket)
            {
                promise.answer.answer(context, holds);
            }
        }
    }

    /// Answers those that have waited long enough.
    pub fn on_deadline(&mut self, context: &mut Context) {
        while let Some(promise) = self.waiting.take_expired(context.now()) {
            let holds = self.look(&promise).unwrap_or_else(|| {
                let what = "the offsets topic does not commit: too few replicas are in sync";
                Err(Fault::new(ErrorCode::COORDINATOR_NOT_AVAILABLE, what))
            });
            promise.answer.answer(context, holds);
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.next_deadline()
    }

    pub fn forget(&mut self, connection: ConnectionId) {
        drop(self.waiting.take_all(|promise| promise.answer.to().connection == connection));
    }
}
