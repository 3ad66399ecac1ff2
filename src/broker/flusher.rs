//! Group commit: threads that sync partitions, so that no event loop waits for a disk.
//!
//! One sync covers everything that was appended before it began. While it runs, further appends
//! gather and share the next one. A partition is in the queue once, whoever asks for it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mk_storage::error::AppendError;
use parking_lot::{Condvar, Mutex};
use tracing::error;

use super::partition::Partition;
use crate::settings::FlushPolicy;

/// Asks the flush threads for work. Clones share them.
#[derive(Clone)]
pub struct Flusher {
    shared: Arc<Shared>,
}

/// The flush threads; [`FlushThreads::stop`] ends them.
pub struct FlushThreads {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
    checkpoint_interval: Duration,
    /// Told of every partition that was synced, or failed to be.
    flushed: OnFlushed,
    /// The syncs that have begun, one a thread.
    running: Mutex<Vec<Instant>>,
}

type OnFlushed = Box<dyn Fn(&Arc<Partition>) + Send + Sync>;

#[derive(Default)]
struct Queue {
    stopping: bool,
    now: VecDeque<Arc<Partition>>,
    timed: BinaryHeap<Reverse<Timed>>,
}

/// Ordered by time.
struct Timed {
    due: Instant,
    job: Job,
    partition: Arc<Partition>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    Flush,
    /// Sync, and write the recovery point. Even where the policy leaves syncs to the system: a log
    /// whose recovery point stays behind has a long scan before it after a crash, and much that
    /// could be taken for a torn tail.
    Checkpoint,
}

impl FlushThreads {
    /// Starts `threads` threads. `flushed` is called after every sync.
    pub fn start(
        threads: usize,
        checkpoint_interval: Duration,
        flushed: impl Fn(&Arc<Partition>) + Send + Sync + 'static,
    ) -> std::io::Result<(Flusher, FlushThreads)> {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            changed: Condvar::new(),
            checkpoint_interval,
            flushed: Box::new(flushed),
            running: Mutex::new(Vec::new()),
        });
        let threads = (0..threads.max(1)).map(|n| {
            let shared = shared.clone();
            thread::Builder::new().name(format!("mk-flush-{n}")).spawn(move || shared.work())
        });
        let threads = threads.collect::<Result<_, _>>()?;
        Ok((Flusher { shared: shared.clone() }, FlushThreads { shared, threads }))
    }

    /// Ends the threads once they are done with what they have begun. What is queued is left:
    /// whoever stops the broker closes every log, which syncs it.
    pub fn stop(self) {
        self.shared.queue.lock().stopping = true;
        self.shared.changed.notify_all();
        for thread in self.threads {
            if thread.join().is_err() {
                error!("a flush thread has panicked");
            }
        }
    }
}

impl Flusher {
    /// Syncs the partition as soon as a thread is free.
    pub fn flush_now(&self, partition: &Arc<Partition>) {
        if partition.flush_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        self.shared.queue.lock().now.push_back(partition.clone());
        self.shared.changed.notify_one();
    }

    /// How long the slowest sync has taken so far.
    pub fn longest_sync(&self) -> Duration {
        let running = self.shared.running.lock();
        running.iter().map(Instant::elapsed).max().unwrap_or_default()
    }

    /// Syncs what a recovery found, and moves the recovery point behind it, so that the next start
    /// need not scan it again.
    pub fn recovered(&self, partition: &Arc<Partition>) {
        if !partition.checkpoint_timed.swap(true, Ordering::AcqRel) {
            self.shared.schedule(partition, Job::Checkpoint, Duration::ZERO);
        }
    }

    /// Takes note that something was appended under this policy.
    pub fn appended(&self, partition: &Arc<Partition>, policy: FlushPolicy) {
        if let FlushPolicy::Interval(millis) = policy
            && !partition.flush_timed.swap(true, Ordering::AcqRel)
        {
            self.shared.schedule(partition, Job::Flush, Duration::from_millis(millis));
        }
        if !partition.checkpoint_timed.swap(true, Ordering::AcqRel) {
            self.shared.schedule(partition, Job::Checkpoint, self.shared.checkpoint_interval);
        }
    }
}

impl Shared {
    fn schedule(&self, partition: &Arc<Partition>, job: Job, after: Duration) {
        let timed = Timed { due: Instant::now() + after, job, partition: partition.clone() };
        self.queue.lock().timed.push(Reverse(timed));
        self.changed.notify_one();
    }

    fn work(&self) {
        while let Some((partition, job)) = self.next() {
            let begun = Instant::now();
            self.running.lock().push(begun);
            // Whoever waits for a partition that is gone is told all the same.
            self.flush(&partition);
            let mut running = self.running.lock();
            if let Some(at) = running.iter().position(|other| *other == begun) {
                running.swap_remove(at);
            }
            drop(running);
            if job == Job::Checkpoint && !partition.is_deleted() {
                checkpoint(&partition);
            }
        }
    }

    /// Waits for the next job; `None` when the threads are to end. Appends that come after a flag
    /// is lowered here queue the partition again, so none goes unsynced.
    fn next(&self) -> Option<(Arc<Partition>, Job)> {
        let mut queue = self.queue.lock();
        loop {
            if queue.stopping {
                return None;
            }
            // What is due first: a busy partition is in the other queue again as soon as it is taken
            // out, and would keep checkpoints and intervals waiting for ever.
            let next_due = queue.timed.peek().map(|Reverse(timed)| timed.due);
            if next_due.is_some_and(|due| due <= Instant::now())
                && let Some(Reverse(timed)) = queue.timed.pop()
            {
                let flag = match timed.job {
                    Job::Flush => &timed.partition.flush_timed,
                    Job::Checkpoint => &timed.partition.checkpoint_timed,
                };
                flag.store(false, Ordering::Release);
                return Some((timed.partition, timed.job));
            }
            if let Some(partition) = queue.now.pop_front() {
                partition.flush_queued.store(false, Ordering::Release);
                return Some((partition, Job::Flush));
            }
            match next_due {
                Some(due) => {
                    self.changed.wait_until(&mut queue, due);
                }
                None => self.changed.wait(&mut queue),
            }
        }
    }

    fn flush(&self, partition: &Arc<Partition>) {
        if let Ok(log) = partition.log()
            && !partition.is_deleted()
            // Of a poisoned log it was told when it came to be so.
            && let Err(AppendError::Disk(error)) = log.flush()
        {
            let (topic, number) = (partition.topic(), partition.number());
            error!(topic, partition = number, %error, "a sync failed; nothing is acknowledged");
        }
        (self.flushed)(partition);
    }
}

fn checkpoint(partition: &Partition) {
    let Ok(log) = partition.log() else { return };
    if let Err(error) = log.checkpoint()
        && !partition.is_deleted()
    {
        let (topic, number) = (partition.topic(), partition.number());
        error!(topic, partition = number, %error, "the recovery point could not be written");
    }
}

impl PartialEq for Timed {
    fn eq(&self, other: &Timed) -> bool {
        self.due == other.due
    }
}

impl Eq for Timed {}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Timed) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Timed {
    fn cmp(&self, other: &Timed) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition that was asked for without pause kept all checkpoints waiting.
    #[test]
    fn what_is_due_comes_before_what_is_asked_for() {
        let shared = Arc::new(Shared {
            queue: Mutex::new(Queue::default()),
            changed: Condvar::new(),
            checkpoint_interval: Duration::from_secs(3600),
            flushed: Box::new(|_| {}),
            running: Mutex::new(Vec::new()),
        });
        let flusher = Flusher { shared: shared.clone() };
        let partition = |number| Arc::new(Partition::offline("t", number, String::new()));
        let (busy, other, later) = (partition(0), partition(1), partition(2));
        flusher.flush_now(&busy);
        flusher.flush_now(&busy);
        flusher.appended(&later, FlushPolicy::Ack);
        flusher.recovered(&other);
        let next = || shared.next().map(|(partition, job)| (partition.number(), job));
        assert_eq!(next(), Some((1, Job::Checkpoint)));
        assert_eq!(next(), Some((0, Job::Flush)), "once, though asked for twice");
        assert!(!busy.flush_queued.load(Ordering::Acquire));
        shared.queue.lock().stopping = true;
        assert_eq!(next(), None);
    }
}
