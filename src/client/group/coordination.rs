//! Requests to the coordinator of a group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mk_net::fault::ErrorCode;
use mk_net::message::{FindCoordinator, Request};
use parking_lot::Mutex;

use crate::client::backoff::Backoff;
use crate::client::cluster::{Cluster, Lane};
use crate::client::error::ClientError;

/// The way to the coordinator of a group. Clones share what is known of it.
#[derive(Clone, Debug)]
pub struct Coordination {
    cluster: Cluster,
    group: Arc<str>,
    coordinator: Arc<Mutex<Option<u32>>>,
}

/// What a coordinator may take for an answer beyond the time that it may wait.
const PATIENCE: Duration = Duration::from_secs(2);

impl Coordination {
    /// To a group that nobody was asked for yet.
    pub fn new(cluster: Cluster, group: &str) -> Coordination {
        Coordination { cluster, group: group.into(), coordinator: Arc::default() }
    }

    /// Asks the coordinator once. Where it does not answer, or is none any more, the next question goes to
    /// whoever is.
    pub async fn ask<R: Request>(
        &self,
        request: &R,
        wait: Duration,
    ) -> Result<R::Response, ClientError> {
        let known = *self.coordinator.lock();
        let broker = match known {
            Some(broker) => broker,
            None => self.find().await?,
        };
        let answer = tokio::time::timeout(wait + PATIENCE, async {
            let connection = self.cluster.connection_to(broker, Lane::Control).await?;
            Ok(connection.call(request, Bytes::new(), wait + PATIENCE).await?.0)
        });
        let answer = answer.await.unwrap_or_else(|_| {
            let what = format!("{} to broker {broker}", R::KIND);
            Err(ClientError::TimedOut { what, after: wait + PATIENCE, last: None })
        });
        answer.inspect_err(|error| {
            let is_elsewhere = error.code() == Some(ErrorCode::NOT_COORDINATOR)
                || error.code() == Some(ErrorCode::COORDINATOR_NOT_AVAILABLE)
                || error.is_unreachable();
            if is_elsewhere {
                self.cluster.turn_away();
                *self.coordinator.lock() = None;
            }
        })
    }

    /// Asks until there is an answer that is no passing failure, or until the API timeout. Only for what
    /// may be done twice.
    pub async fn insist<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        let timeout = self.cluster.settings().api_timeout;
        let deadline = Instant::now() + timeout;
        let mut backoff = Backoff::new(self.cluster.seed());
        loop {
            let error = match self.ask(request, Duration::ZERO).await {
                Err(error) if error.is_retriable() => error,
                done => return done,
            };
            let wait = backoff.failed();
            if Instant::now() + wait >= deadline {
                let (what, last) = (R::KIND.to_string(), Some(Box::new(error)));
                return Err(ClientError::TimedOut { what, after: timeout, last });
            }
            tokio::time::sleep(wait).await;
        }
    }

    async fn find(&self) -> Result<u32, ClientError> {
        let request = FindCoordinator { group: self.group.to_string() };
        let coordinator = self.cluster.call_any(&request, true).await?.coordinator;
        let id = coordinator.id;
        self.cluster.remember_broker(coordinator);
        *self.coordinator.lock() = Some(id);
        Ok(id)
    }
}
