//! Hears of partitions that are added: a request waits at a broker until there are some.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use mk_net::fault::ErrorCode;
use mk_net::message::WatchTopics;
use tokio::task::JoinHandle;

use super::{Cluster, Inner};
use crate::client::backoff::Backoff;
use crate::client::connection::Connection;
use crate::client::error::ClientError;

/// How long a broker holds the request.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// What it may take beyond that.
const PATIENCE: Duration = Duration::from_secs(5);
/// So long after an answer it is asked again: of two brokers one may know more than the other.
const PAUSE: Duration = Duration::from_millis(100);

/// Watches for as long as it lives.
#[derive(Debug)]
pub(super) struct Watcher(JoinHandle<()>);

impl Watcher {
    /// Watches the topics that the client knows. To be called inside a tokio runtime.
    pub fn start(inner: Weak<Inner>) -> Watcher {
        Watcher(tokio::spawn(watch(inner)))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn watch(inner: Weak<Inner>) {
    let Some(known) = inner.upgrade().map(|inner| inner.known.clone()) else { return };
    let mut backoff = Backoff::new(0);
    loop {
        // While it waits nothing of it keeps the client alive.
        let Some(cluster) = inner.upgrade().map(|inner| Cluster { inner }) else { return };
        let topics = cluster.watched();
        let connection = cluster.any_connection().await;
        drop(cluster);
        let request = WatchTopics { topics, max_wait_ms: MAX_WAIT.as_millis() as u32 };
        let answer = tokio::select! {
            answer = ask(connection, &request) => answer,
            // There are others to be watched.
            () = known.notified() => continue,
        };
        match answer {
            Ok(changed) if changed.is_empty() => continue,
            Ok(changed) => {
                backoff = Backoff::new(0);
                let Some(cluster) = inner.upgrade().map(|inner| Cluster { inner }) else { return };
                // If it fails it is asked again.
                let _ = cluster.metadata_once(changed, false).await;
                tokio::time::sleep(PAUSE).await;
            }
            // Of an older version; what is known is asked for anew when it is too old.
            Err(error) if error.code() == Some(ErrorCode::UNSUPPORTED_VERSION) => return,
            Err(_) => {
                // Perhaps it stands still, and takes connections all the same.
                if let Some(inner) = inner.upgrade() {
                    Cluster { inner }.avoid_first();
                }
                tokio::time::sleep(backoff.failed()).await;
            }
        }
    }
}

async fn ask(
    connection: Result<Arc<Connection>, ClientError>,
    request: &WatchTopics,
) -> Result<Vec<String>, ClientError> {
    let (answer, _) = connection?.call(request, Bytes::new(), MAX_WAIT + PATIENCE).await?;
    Ok(answer.grown)
}
