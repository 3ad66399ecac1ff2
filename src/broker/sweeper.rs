//! A thread that closes what nobody has used for a while.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mk_storage::store::Store;
use tracing::error;

/// The thread; [`Sweeper::stop`] ends it.
pub struct Sweeper {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

impl Sweeper {
    /// Starts the thread, which sweeps once in every `interval`.
    pub fn start(store: Arc<Store>, interval: Duration) -> std::io::Result<Sweeper> {
        let (end, ended) = mpsc::channel();
        let thread = thread::Builder::new().name("mk-sweeper".into()).spawn(move || {
            while ended.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                store.sweep();
            }
        })?;
        Ok(Sweeper { end, thread })
    }

    /// Ends the thread once a sweep that it has begun is done.
    pub fn stop(self) {
        drop(self.end);
        if self.thread.join().is_err() {
            error!("the sweeper has panicked");
        }
    }
}
