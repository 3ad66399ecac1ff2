//! The consumer: fetches ahead, hands out batches without copying them.

mod batches;
mod driver;
mod nearest;
mod reading;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::At;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use batches::FetchedBatches;
pub use settings::{ConsumerSettings, OffsetReset, StartAt};

use super::admin::offsets;
use super::cluster::{Cluster, PartitionKey};
use super::error::ClientError;
pub(crate) use driver::Failed;
use driver::{Command, Driver, Start};
use reading::Reading;

/// Reads partitions.
#[derive(Debug)]
pub struct Consumer {
    steering: Steering,
    reading: Mutex<Reading>,
    fetched: mpsc::Receiver<Result<FetchedBatches, Failed>>,
    driver: JoinHandle<()>,
}

/// Tells a consumer what to read. Clones steer the same one.
#[derive(Clone, Debug)]
pub(crate) struct Steering {
    cluster: Cluster,
    commands: mpsc::UnboundedSender<Command>,
    assigned: Arc<AtomicU64>,
}

impl Consumer {
    /// Starts a consumer. To be called inside a tokio runtime.
    pub fn new(cluster: Cluster, settings: ConsumerSettings) -> Consumer {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (outbox, fetched) = mpsc::channel(1);
        let assigned = Arc::new(AtomicU64::new(0));
        let driver = Driver::new(cluster.clone(), settings, assigned.clone());
        let driver = tokio::spawn(driver.run(inbox, outbox));
        let steering = Steering { cluster, commands, assigned };
        Consumer { steering, reading: Mutex::default(), fetched, driver }
    }

    /// Reads all partitions of a topic, those that are added later included, from their start on.
    /// Answers where each begins.
    pub async fn subscribe(
        &self,
        topic: &str,
        start: StartAt,
    ) -> Result<Vec<(u32, u64)>, ClientError> {
        let count = self.steering.cluster.topic(topic).await?.count();
        let partitions: Vec<u32> = (0..count).collect();
        let starts = self.assign(topic, &partitions, start).await?;
        self.steering.command(Command::Subscribe(topic.into(), count))?;
        Ok(starts)
    }

    /// Reads partitions of a topic. Answers where each begins. One that is being read already
    /// begins anew, from there.
    pub async fn assign(
        &self,
        topic: &str,
        partitions: &[u32],
        start: StartAt,
    ) -> Result<Vec<(u32, u64)>, ClientError> {
        let cluster = &self.steering.cluster;
        let info = cluster.topic(topic).await?;
        if let Some(missing) = partitions.iter().find(|partition| **partition >= info.count()) {
            let what = format!("topic '{topic}' has no partition {missing}");
            return Err(Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what).into());
        }
        let starts = find_starts(cluster, topic, partitions, start).await?;
        for (partition, offset) in &starts {
            self.begin(&mut self.reading.lock(), (info.name.clone(), *partition), *offset)?;
        }
        Ok(starts)
    }

    fn begin(
        &self,
        reading: &mut Reading,
        key: PartitionKey,
        offset: u64,
    ) -> Result<(), ClientError> {
        let assignment = self.steering.begin(key.clone(), offset, -1)?;
        reading.begin(key, assignment, offset);
        Ok(())
    }

    /// Reads a partition no longer.
    pub fn unassign(&self, topic: &str, partition: u32) -> Result<(), ClientError> {
        let key: PartitionKey = (topic.into(), partition);
        let mut reading = self.reading.lock();
        reading.end(key.clone());
        self.steering.end(key)
    }

    /// Goes on with a partition at this offset, back or forth. One that is paused stays so. False if it is not
    /// read.
    pub fn seek(&self, topic: &str, partition: u32, offset: u64) -> Result<bool, ClientError> {
        let key: PartitionKey = (topic.into(), partition);
        let mut reading = self.reading.lock();
        if !reading.has(&key) {
            return Ok(false);
        }
        self.begin(&mut reading, key, offset)?;
        Ok(true)
    }

    /// The offset of the next record of a partition that is handed out; none: it is not read, or was added and
    /// nothing of it has come yet.
    pub fn position(&self, topic: &str, partition: u32) -> Option<u64> {
        self.reading.lock().position(&(topic.into(), partition))
    }

    /// Fetches no more of a partition until it is resumed. What was fetched already may still come.
    pub fn pause(&self, topic: &str, partition: u32) -> Result<(), ClientError> {
        self.steering.pause((topic.into(), partition), true)
    }

    /// Fetches a partition again.
    pub fn resume(&self, topic: &str, partition: u32) -> Result<(), ClientError> {
        self.steering.pause((topic.into(), partition), false)
    }

    /// The next batches, of any partition. An error says that a partition, or everything, cannot
    /// be read any more.
    pub async fn next(&mut self) -> Result<FetchedBatches, ClientError> {
        loop {
            let fetched = self.fetched.recv().await.ok_or(ClientError::Closed)?;
            let mut reading = self.reading.lock();
            match fetched {
                Ok(batches) => {
                    let key = (batches.topic.clone(), batches.partition);
                    if reading.deliver(&key, batches.assignment, batches.next_offset) {
                        return Ok(batches);
                    }
                }
                Err(failed) if reading.fail(&failed.key, failed.assignment) => {
                    return Err(failed.error);
                }
                Err(_) => {}
            }
        }
    }

    /// The same, for whoever knows what it has assigned; none: it has ended.
    pub(crate) async fn next_of_assigned(&mut self) -> Option<Result<FetchedBatches, Failed>> {
        self.fetched.recv().await
    }

    /// What steers it.
    pub(crate) fn steering(&self) -> Steering {
        self.steering.clone()
    }
}

impl Steering {
    /// Reads a partition from an offset on, behind a record of this leader epoch. Answers which assignment
    /// this is.
    pub fn begin(&self, key: PartitionKey, offset: u64, epoch: i32) -> Result<u64, ClientError> {
        let assignment = self.assigned.fetch_add(1, Ordering::Relaxed);
        self.command(Command::Assign(vec![Start { key, offset, epoch, assignment }]))?;
        Ok(assignment)
    }

    /// Reads a partition no longer.
    pub fn end(&self, key: PartitionKey) -> Result<(), ClientError> {
        self.command(Command::Unassign(key))
    }

    /// Fetches no more of a partition, or again.
    pub fn pause(&self, key: PartitionKey, paused: bool) -> Result<(), ClientError> {
        self.command(Command::Pause(key, paused))
    }

    fn command(&self, command: Command) -> Result<(), ClientError> {
        self.commands.send(command).map_err(|_| ClientError::Closed)
    }
}

/// Where partitions begin, each with its number.
pub(crate) async fn find_starts(
    cluster: &Cluster,
    topic: &str,
    partitions: &[u32],
    start: StartAt,
) -> Result<Vec<(u32, u64)>, ClientError> {
    let find = |at| offsets(cluster, topic, partitions, at);
    let starts: Vec<u64> = match start {
        StartAt::Offset(offset) => vec![offset; partitions.len()],
        StartAt::Earliest => find(At::Earliest).await?.into_iter().flatten().collect(),
        StartAt::Latest => find(At::Latest).await?.into_iter().flatten().collect(),
        StartAt::Last(count) => {
            let (starts, ends) = (find(At::Earliest).await?, find(At::Latest).await?);
            let pairs = starts.into_iter().flatten().zip(ends.into_iter().flatten());
            pairs.map(|(start, end)| end.saturating_sub(count).max(start)).collect()
        }
        StartAt::Timestamp(millis) => {
            // The ends first: a record that comes in between is not to be skipped.
            let ends = find(At::Latest).await?.into_iter().flatten();
            let found = find(At::Timestamp(millis)).await?;
            found.into_iter().zip(ends).map(|(found, end)| found.unwrap_or(end)).collect()
        }
    };
    Ok(partitions.iter().copied().zip(starts).collect())
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
