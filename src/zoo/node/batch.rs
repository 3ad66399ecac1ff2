//! What is done in one commit.

use crate::zoo::events::{FenceReason, What, of_changes};
use crate::zoo::heartbeat::Key;
use crate::zoo::message::Response;
use crate::zoo::state::{BrokerEpoch, Change, ClusterState, Command, Delta, Refused};

/// The state, and what was done to it since the last commit.
#[derive(Debug)]
pub(super) struct Batch {
    pub state: ClusterState,
    /// The same one command ago: what it was before, for the timeline.
    before: ClusterState,
    /// The version at the last commit.
    after: u64,
    changes: Vec<Change>,
    /// What each command has changed.
    pub entries: Vec<Delta>,
    pub happened: Vec<What>,
    pub answers: Vec<(u64, u32, Answer)>,
}

/// An answer that is given once the commit is done.
#[derive(Debug)]
pub(super) enum Answer {
    Ready(Response),
    /// With the state as it is then.
    Registered {
        id: u32,
        epoch: BrokerEpoch,
        key: Key,
    },
    Events {
        after: u64,
        most: u32,
    },
    Description,
}

impl Batch {
    pub fn new(state: ClusterState) -> Batch {
        Batch {
            before: state.clone(),
            after: state.version,
            state,
            changes: Vec::new(),
            entries: Vec::new(),
            happened: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Does what the command says; `fenced` is why a broker is, and how long it was silent.
    pub fn apply(
        &mut self,
        command: &Command,
        fenced: (FenceReason, Option<u64>),
    ) -> Result<(), Refused> {
        let changes = self.state.apply(command)?;
        if changes.is_empty() {
            return Ok(());
        }
        self.happened.extend(of_changes(&self.before, &self.state, &changes, fenced));
        let delta = Delta::of(self.before.version, &self.state, &changes);
        if let Err(gap) = self.before.follow(&delta) {
            unreachable!("a command leads from one state to the next: {gap}");
        }
        self.entries.push(delta);
        self.changes.extend(changes);
        Ok(())
    }

    /// After the commit: what everybody is told, if anything. The next batch begins.
    pub fn committed(&mut self) -> Option<Delta> {
        self.entries.clear();
        let changes = std::mem::take(&mut self.changes);
        let after = std::mem::replace(&mut self.after, self.state.version);
        (!changes.is_empty()).then(|| Delta::of(after, &self.state, &changes))
    }
}
