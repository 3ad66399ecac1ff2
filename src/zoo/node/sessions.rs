//! Who is connected, and what they are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use super::Output;
use crate::zoo::message::Response;
use crate::zoo::state::Delta;

/// The sessions of a node.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: BTreeMap<u64, Open>,
}

#[derive(Debug)]
struct Open {
    outputs: mpsc::Sender<Output>,
    /// The broker that it has registered: it gets every change.
    broker: Option<u32>,
}

impl Sessions {
    pub fn open(&mut self, session: u64, outputs: mpsc::Sender<Output>) {
        self.open.insert(session, Open { outputs, broker: None });
    }

    /// The broker whose session it was.
    pub fn close(&mut self, session: u64) -> Option<u32> {
        self.open.remove(&session)?.broker
    }

    /// False once it is over: what still comes over it is not to be done.
    pub fn is_open(&self, session: u64) -> bool {
        self.open.contains_key(&session)
    }

    /// The broker registers over this session: an earlier one of it is over.
    pub fn supersede(&mut self, session: u64, broker: u32) {
        self.open.retain(|id, open| *id == session || open.broker != Some(broker));
    }

    /// The session is this broker's from now on.
    pub fn follow(&mut self, session: u64, broker: u32) {
        self.supersede(session, broker);
        if let Some(open) = self.open.get_mut(&session) {
            open.broker = Some(broker);
        }
    }

    /// Tells all brokers; answers those whose queue is full, whose sessions are over.
    pub fn push(&mut self, delta: Delta) -> Vec<u32> {
        let delta = Arc::new(delta);
        let registered = self.open.iter().filter(|(_, open)| open.broker.is_some());
        let full = registered
            .filter(|(_, open)| open.outputs.try_send(Output::Push(delta.clone())).is_err());
        let full: Vec<u64> = full.map(|(session, _)| *session).collect();
        full.into_iter().filter_map(|session| self.close(session)).collect()
    }

    /// Answers a request; the broker whose session is over because its queue is full.
    pub fn answer(&mut self, session: u64, number: u32, response: Response) -> Option<u32> {
        let open = self.open.get(&session)?;
        let sent = open.outputs.try_send(Output::Answer(number, response));
        sent.is_err().then(|| self.close(session))?
    }
}
