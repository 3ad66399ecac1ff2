//! What becomes of a batch. Its records look at it together, so that one costs little more than its bytes.

use std::sync::{Arc, OnceLock};

use mk_net::message::{Appended, Durability};
use tokio::sync::Notify;

use super::cluster::PartitionKey;
use super::error::ClientError;

/// What became of a batch.
pub(super) type Outcome = Result<Placed, ClientError>;

/// Where a batch is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub base_offset: Option<u64>,
    pub durability: Durability,
}

/// Where a batch lands.
#[derive(Debug)]
pub(super) struct Landing {
    pub key: PartitionKey,
    outcome: OnceLock<Outcome>,
    landed: Notify,
}

impl Landing {
    /// What became of the batch, if that is known.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.get()
    }

    /// Waits until that is known.
    pub async fn wait(&self) -> &Outcome {
        loop {
            // Asked to be told before it is looked at, so that it is not missed.
            let landed = self.landed.notified();
            if let Some(outcome) = self.outcome.get() {
                return outcome;
            }
            landed.await;
        }
    }

    fn settle(&self, outcome: Outcome) {
        // Only the first counts.
        let _ = self.outcome.set(outcome);
        self.landed.notify_waiters();
    }
}

/// Has a batch land. If it is dropped before, the producer is gone, and its records with it.
#[derive(Debug)]
pub(super) struct Lander(Arc<Landing>);

impl Lander {
    /// For a batch of this partition.
    pub fn new(key: PartitionKey) -> Lander {
        let (outcome, landed) = (OnceLock::new(), Notify::new());
        Lander(Arc::new(Landing { key, outcome, landed }))
    }

    /// Where its records look.
    pub fn landing(&self) -> &Arc<Landing> {
        &self.0
    }

    /// It is in the log; with acks=0 it was sent.
    pub fn succeed(&self, appended: Option<&Appended>) {
        let base_offset = appended.map(|appended| appended.base_offset);
        let durability = appended.map_or(Durability::None, |appended| appended.durability);
        self.0.settle(Ok(Placed { base_offset, durability }));
    }

    /// It failed.
    pub fn fail(&self, error: ClientError) {
        self.0.settle(Err(error));
    }
}

impl Drop for Lander {
    fn drop(&mut self) {
        if self.0.outcome.get().is_none() {
            self.0.settle(Err(ClientError::Closed));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waits_is_told_once_it_has_landed_or_its_producer_is_gone() {
        let lander = Lander::new(("t".into(), 0));
        let landing = lander.landing().clone();
        let waiting = tokio::spawn({
            let landing = landing.clone();
            async move { landing.wait().await.clone() }
        });
        tokio::task::yield_now().await;
        assert!(landing.outcome().is_none());
        lander.succeed(None);
        drop(lander);
        assert!(waiting.await.unwrap().is_ok());
        assert!(landing.wait().await.is_ok(), "it stays so");
        let lost = Lander::new(("t".into(), 0)).landing().clone();
        assert!(matches!(lost.wait().await, Err(ClientError::Closed)));
    }
}
