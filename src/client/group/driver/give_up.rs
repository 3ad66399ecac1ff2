//! Gives partitions up that go to others.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tracing::info;

use super::{Driver, Event};

/// So long before others would begin with it a member lets go of what it is not done with.
const MARGIN: u32 = 5;

impl Driver {
    /// Gives up what goes to others, once the program is done with it, or was not for too long.
    pub(super) fn give_up(&mut self, under_way: &mut JoinSet<Event>) {
        let release = self.membership.to_release();
        // Until the coordinator is heard of again, what was to be given up is so still.
        if self.membership.is_told() {
            self.leaving.retain(|id, _| release.contains(id));
        }
        let (now, patience) = (Instant::now(), self.patience());
        let mut released = BTreeSet::new();
        let mut must_commit = false;
        for id in release {
            let Some(name) = self.names.get(&id.0) else { continue };
            let key = (name.clone(), id.1);
            let since = *self.leaving.entry(id).or_insert(now);
            let mut ledger = self.ledger.lock();
            ledger.leave(&key);
            if !ledger.is_done(&key) && now < since + patience {
                continue;
            }
            if ledger.is_due(&key) {
                must_commit = true;
                continue;
            }
            ledger.end(&key);
            drop(ledger);
            // A consumer that has ended reads nothing.
            let _ = self.steering.end(key);
            released.insert(id);
        }
        if must_commit {
            self.commit(under_way);
        }
        if !released.is_empty() {
            let numbers: Vec<u32> = released.iter().map(|id| id.1).collect();
            info!(group = self.settings.group, member = self.member, ?numbers, "given up");
            self.membership.released(&released);
            self.speak(under_way);
        }
    }

    /// So long the program may take with what it has of a partition that goes to another.
    pub(super) fn patience(&self) -> Duration {
        self.settings.rebalance_timeout - self.settings.rebalance_timeout / MARGIN
    }
}
