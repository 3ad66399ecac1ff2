//! A thread that does one thing after the other, for what would hold up an event loop.

use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use tracing::error;

type Job = Box<dyn FnOnce() + Send>;

/// Hands work to a worker thread. Clones lead to the same thread.
#[derive(Clone, Debug)]
pub struct Worker {
    jobs: Sender<Option<Job>>,
}

/// The thread; [`WorkerThread::stop`] ends it.
#[derive(Debug)]
pub struct WorkerThread {
    jobs: Sender<Option<Job>>,
    thread: JoinHandle<()>,
}

impl WorkerThread {
    /// Starts a thread of this name.
    pub fn start(name: &str) -> std::io::Result<(Worker, WorkerThread)> {
        let (jobs, queue) = mpsc::channel::<Option<Job>>();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            while let Ok(Some(job)) = queue.recv() {
                job();
            }
        })?;
        Ok((Worker { jobs: jobs.clone() }, WorkerThread { jobs, thread }))
    }

    /// Ends the thread once it has done all that it was given before.
    pub fn stop(self) {
        let _ = self.jobs.send(None);
        if self.thread.join().is_err() {
            error!("a worker thread has panicked");
        }
    }
}

impl Worker {
    /// Lets the thread do `job` after what it was given before. Does not block.
    pub fn run(&self, job: impl FnOnce() + Send + 'static) {
        // A worker that has ended is that of a broker that has stopped: nobody waits any more.
        let _ = self.jobs.send(Some(Box::new(job)));
    }
}
