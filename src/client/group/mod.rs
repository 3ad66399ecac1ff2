//! Consumers that share the partitions of topics among them.
//!
//! The rules are pure: [`membership`] knows what is said to the coordinator, [`ledger`] what was read, done
//! and committed. A task, the [`driver`], keeps both going; the program takes batches and says when it is
//! done with them.

mod admin;
mod coordination;
mod driver;
mod last_poll;
mod ledger;
pub(crate) mod membership;
mod settings;

use std::sync::Arc;
use std::time::Duration;

use mk_net::fault::ErrorCode;
use mk_net::message::Reader;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use uuid::Uuid;

pub use settings::{Acknowledge, GroupSettings};

use super::cluster::{Cluster, PartitionKey};
use super::consumer::{Consumer, ConsumerSettings, Failed, FetchedBatches};
use super::error::ClientError;
use driver::{Driver, Word};
use last_poll::LastPoll;
use ledger::Ledger;

/// A member of a group.
///
/// It reads what the group's coordinator gives to it, from where the group has come to. [`GroupConsumer::next`]
/// is to be called again and again, or the records wait; what other members need of it is given to them
/// meanwhile, once the program is done with what it was handed.
#[derive(Debug)]
pub struct GroupConsumer {
    consumer: Consumer,
    acknowledge: Acknowledge,
    /// What is to be handed out once it is committed.
    pending: Option<FetchedBatches>,
    ledger: Arc<Mutex<Ledger>>,
    last_poll: Arc<LastPoll>,
    words: mpsc::UnboundedSender<Word>,
    failures: mpsc::UnboundedReceiver<ClientError>,
    driver: JoinHandle<()>,
}

impl GroupConsumer {
    /// Joins a group to read topics, those included that are made later. To be called inside a tokio
    /// runtime.
    pub fn join(cluster: Cluster, settings: GroupSettings, topics: &[&str]) -> GroupConsumer {
        let member = Uuid::new_v4().to_string();
        let (client_id, group) = (cluster.settings().client_id.clone(), settings.group.clone());
        let reader = Some(Reader { client_id, group, member: member.clone() });
        // A leader that is away is waited for as long as the partition is this member's.
        let give_up_after = Duration::MAX;
        let how = ConsumerSettings { reader, give_up_after, ..settings.consumer.clone() };
        let consumer = Consumer::new(cluster.clone(), how);
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let (words, inbox) = mpsc::unbounded_channel();
        let (fail, failures) = mpsc::unbounded_channel();
        let acknowledge = settings.acknowledge;
        let steering = consumer.steering();
        let last_poll = Arc::new(LastPoll::default());
        let shared = (ledger.clone(), last_poll.clone());
        let driver = Driver::new(cluster, settings, member, topics, steering, shared, fail);
        let driver = tokio::spawn(driver.run(inbox));
        GroupConsumer {
            consumer,
            acknowledge,
            pending: None,
            ledger,
            last_poll,
            words,
            failures,
            driver,
        }
    }

    /// The next batches, of any partition. An error says that the group does not have this member, or that
    /// a partition cannot be read: it is tried again from the same record on. May be given up and called
    /// again.
    pub async fn next(&mut self) -> Result<FetchedBatches, ClientError> {
        if self.acknowledge == Acknowledge::Automatically {
            self.ledger.lock().done_with_all();
            self.say(Word::Done);
        }
        let last_poll = self.last_poll.clone();
        let _asking = last_poll.begin();
        loop {
            if let Some(batches) = &self.pending {
                let key = (batches.topic.clone(), batches.partition);
                let committed =
                    self.commit_one((key, batches.assignment), batches.next_offset).await?;
                // What is not committed is another's to hand out.
                match self.pending.take().filter(|_| committed) {
                    Some(batches) => return Ok(batches),
                    None => continue,
                }
            }
            let batches = tokio::select! {
                biased;
                error = self.failures.recv() => return Err(error.unwrap_or(ClientError::Closed)),
                batches = self.consumer.next_of_assigned() => batches.ok_or(ClientError::Closed)?,
            };
            let batches = match batches {
                Ok(batches) => batches,
                Err(failed) => match self.begin_again(failed)? {
                    Some(error) => return Err(error),
                    None => continue,
                },
            };
            let key = (batches.topic.clone(), batches.partition);
            let range = (batches.from, batches.next_offset);
            let epoch = batches.leader_epoch;
            if !self.ledger.lock().deliver(&key, batches.assignment, range, epoch) {
                // It goes to another, or has gone: that one reads it.
                continue;
            }
            if self.acknowledge != Acknowledge::BeforeDelivery {
                return Ok(batches);
            }
            self.pending = Some(batches);
        }
    }

    /// Reads a partition once more, from where it was. Answers what is wrong with it, if it is to be told:
    /// a topic that is gone is taken away by the coordinator before long.
    fn begin_again(&self, failed: Failed) -> Result<Option<ClientError>, ClientError> {
        let Failed { key, assignment, error } = failed;
        let mut ledger = self.ledger.lock();
        let Some((offset, epoch)) = ledger.is_current(&key, assignment) else { return Ok(None) };
        let assignment = self.assign(&ledger, &key, (offset, epoch))?;
        ledger.begin_again(&key, assignment);
        let is_gone = matches!(
            error.code(),
            Some(
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                    | ErrorCode::UNKNOWN_TOPIC_ID
                    | ErrorCode::INCONSISTENT_TOPIC_ID
            )
        );
        Ok((!is_gone).then_some(error))
    }

    /// All records of these batches are done.
    pub fn acknowledge(&self, batches: &FetchedBatches) {
        self.acknowledge_before(&batches.topic, batches.partition, batches.next_offset);
    }

    /// All records of a partition before an offset are done. False if this member does not read the
    /// partition any more, or was not handed them: whoever reads it begins with what was committed.
    pub fn acknowledge_before(&self, topic: &str, partition: u32, offset: u64) -> bool {
        let taken = self.ledger.lock().done(&(topic.into(), partition), offset);
        self.say(Word::Done);
        taken
    }

    /// Commits all that is done, now. What is not is committed after the commit interval, and when a
    /// partition goes to another. An error, too, if some of it never is: this member's session has ended before,
    /// and others read that again.
    pub async fn commit(&self) -> Result<(), ClientError> {
        let (answer, done) = oneshot::channel();
        self.say(Word::Commit(answer));
        done.await.unwrap_or(Err(ClientError::Closed))
    }

    /// The partitions that it reads now.
    pub fn assignment(&self) -> Vec<(Arc<str>, u32)> {
        self.ledger.lock().partitions().cloned().collect()
    }

    /// Hands out nothing more of a partition until it is resumed. What was fetched already may still
    /// come. A partition that comes anew is not paused. False if this member does not read it.
    pub fn pause(&self, topic: &str, partition: u32) -> Result<bool, ClientError> {
        self.set_paused((topic.into(), partition), true)
    }

    /// Hands out what comes of a partition again.
    pub fn resume(&self, topic: &str, partition: u32) -> Result<bool, ClientError> {
        self.set_paused((topic.into(), partition), false)
    }

    fn set_paused(&self, key: PartitionKey, paused: bool) -> Result<bool, ClientError> {
        let mut ledger = self.ledger.lock();
        let known = ledger.pause(&key, paused);
        if known {
            self.consumer.steering().pause(key, paused)?;
        }
        Ok(known)
    }

    /// Reads a partition by another assignment, paused if it was.
    fn assign(
        &self,
        ledger: &Ledger,
        key: &PartitionKey,
        (offset, epoch): (u64, i32),
    ) -> Result<u64, ClientError> {
        let steering = self.consumer.steering();
        let assignment = steering.begin(key.clone(), offset, epoch)?;
        if ledger.is_paused(key) {
            steering.pause(key.clone(), true)?;
        }
        Ok(assignment)
    }

    /// Goes on with a partition at this offset, back or forth; what was handed out counts as done up to
    /// there. False if this member does not read it.
    pub fn seek(&self, topic: &str, partition: u32, offset: u64) -> Result<bool, ClientError> {
        let key: PartitionKey = (topic.into(), partition);
        let mut ledger = self.ledger.lock();
        if !ledger.partitions().any(|known| *known == key) {
            return Ok(false);
        }
        let assignment = self.assign(&ledger, &key, (offset, -1))?;
        ledger.seek(&key, assignment, offset);
        self.say(Word::Done);
        Ok(true)
    }

    /// Commits what is done and leaves the group: what it reads goes to others at once. Errors are those of
    /// [`GroupConsumer::commit`].
    pub async fn close(self) -> Result<(), ClientError> {
        if self.acknowledge == Acknowledge::Automatically {
            self.ledger.lock().done_with_all();
        }
        let (answer, done) = oneshot::channel();
        self.say(Word::Close(answer));
        done.await.unwrap_or(Err(ClientError::Closed))
    }

    /// Commits an assigned partition up to `next`; false if it is another's by now.
    async fn commit_one(
        &self,
        assigned: (PartitionKey, u64),
        next: u64,
    ) -> Result<bool, ClientError> {
        let (answer, done) = oneshot::channel();
        self.say(Word::CommitOne { assigned, next, answer });
        done.await.unwrap_or(Err(ClientError::Closed))
    }

    fn say(&self, word: Word) {
        // A driver that has ended has said why.
        let _ = self.words.send(word);
    }
}

impl Drop for GroupConsumer {
    fn drop(&mut self) {
        self.driver.abort();
    }
}
