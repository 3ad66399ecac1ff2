//! Clients that wait for partitions to be added to topics.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mk_net::event_loop::{ConnectionId, Context};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{WatchTopics, WatchTopicsResponse};

use super::reply::Reply;
use super::shared::{LONGEST_WAIT, Shared};
use super::waiting::{Ticket, Waiting};

/// The clients of one loop that wait.
pub struct Watches {
    shared: Arc<Shared>,
    waiting: Waiting<Watch>,
    /// A connection has one at most.
    by_connection: HashMap<ConnectionId, Ticket>,
}

struct Watch {
    reply: Reply<WatchTopicsResponse>,
    request: WatchTopics,
}

/// Most topics that a client watches: each change of topics looks at all.
const MOST_TOPICS: usize = 1000;

impl Watches {
    pub fn new(shared: Arc<Shared>) -> Watches {
        Watches { shared, waiting: Waiting::default(), by_connection: HashMap::new() }
    }

    /// Answers at once if a topic has more partitions than the client knows, or when one has. What the
    /// connection has waited for before is answered.
    pub fn request(
        &mut self,
        context: &mut Context,
        reply: Reply<WatchTopicsResponse>,
        request: WatchTopics,
    ) {
        if request.topics.len() > MOST_TOPICS {
            let what =
                format!("{} topics, {MOST_TOPICS} at most are watched", request.topics.len());
            return reply.answer(context, Err(Fault::new(ErrorCode::INVALID_REQUEST, what)));
        }
        let connection = reply.to().connection;
        self.answer_of(context, connection);
        let wait = Duration::from_millis(request.max_wait_ms.into()).min(LONGEST_WAIT);
        let watch = Watch { reply, request };
        let grown = self.grown(&watch.request);
        if !grown.is_empty() || wait.is_zero() {
            return watch.answer(context, grown);
        }
        let ticket = self.waiting.park(watch, Vec::new(), context.now() + wait);
        self.by_connection.insert(connection, ticket);
    }

    /// Topics have changed.
    pub fn on_change(&mut self, context: &mut Context) {
        let tickets: Vec<Ticket> = self.by_connection.values().copied().collect();
        for ticket in tickets {
            let Some(watch) = self.waiting.request(ticket) else { continue };
            let grown = self.grown(&watch.request);
            if !grown.is_empty()
                && let Some(watch) = self.waiting.take(ticket)
            {
                self.by_connection.remove(&watch.reply.to().connection);
                watch.answer(context, grown);
            }
        }
    }

    /// Answers those that have waited long enough.
    pub fn on_deadline(&mut self, context: &mut Context) {
        while let Some(watch) = self.waiting.take_expired(context.now()) {
            self.by_connection.remove(&watch.reply.to().connection);
            watch.answer(context, Vec::new());
        }
    }

    /// Answers all that wait.
    pub fn answer_all(&mut self, context: &mut Context) {
        while let Some(watch) = self.waiting.take_first() {
            let grown = self.grown(&watch.request);
            watch.answer(context, grown);
        }
        self.by_connection.clear();
    }

    /// Answers what a connection waits for.
    pub fn answer_of(&mut self, context: &mut Context, connection: ConnectionId) {
        if let Some(ticket) = self.by_connection.remove(&connection) {
            self.end(context, ticket);
        }
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.next_deadline()
    }

    pub fn forget(&mut self, connection: ConnectionId) {
        if let Some(ticket) = self.by_connection.remove(&connection) {
            self.waiting.take(ticket);
        }
    }

    fn end(&mut self, context: &mut Context, ticket: Ticket) {
        if let Some(watch) = self.waiting.take(ticket) {
            let grown = self.grown(&watch.request);
            watch.answer(context, grown);
        }
    }

    /// The topics that are others by now, or have more partitions. Of one that is not there nothing is said:
    /// this broker may not have heard of it yet.
    fn grown(&self, request: &WatchTopics) -> Vec<String> {
        let state = self.shared.cluster.state();
        let grown = request.topics.iter().filter(|known| {
            state.topics.get(&known.topic).is_some_and(|topic| {
                topic.id != known.topic_id || topic.partitions.len() > known.partitions as usize
            })
        });
        grown.map(|known| known.topic.clone()).collect()
    }
}

impl Watch {
    fn answer(self, context: &mut Context, grown: Vec<String>) {
        self.reply.answer(context, Ok(WatchTopicsResponse { grown }));
    }
}
