//! What a client knows of topics: how many partitions they have, and who leads them.

use std::sync::Arc;
use std::time::Instant;

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{Metadata, MetadataResponse, PartitionMetadata, TopicMetadata, WatchedTopic};
use tokio::sync::watch;
use uuid::Uuid;

use super::watcher::Watcher;
use super::{Cluster, QUICK};
use crate::client::backoff::Backoff;
use crate::client::error::ClientError;

/// Most topics whose growth is watched; that of others is found when what is known of them is too old.
const MOST_WATCHED: usize = 1000;

/// What is known of a topic.
#[derive(Clone, Debug)]
pub(super) struct Known {
    info: Arc<TopicInfo>,
    /// Set when a leader did not answer, or was none: it is asked for again before the next
    /// request. Until then the rest is still good enough to choose partitions by, so that a
    /// producer can fill its buffer while no broker is there.
    suspect: bool,
}

/// A topic as it was when the metadata were asked for.
#[derive(Clone, Debug)]
pub struct TopicInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: Uuid,
    /// Its partitions, from 0 on.
    pub partitions: Vec<PartitionMetadata>,
    asked_at: Instant,
}

impl Cluster {
    /// A topic, created if there is none and the broker allows it. Remembered for a while.
    pub async fn topic(&self, name: &str) -> Result<Arc<TopicInfo>, ClientError> {
        if let Some(info) = self.young_topic(name, Instant::now()) {
            return Ok(info);
        }
        let Some(info) = self.known_info(name) else { return self.refresh(name).await };
        match self.metadata_once(vec![name.to_owned()], true).await {
            Ok(_) => self.known(name),
            Err(error) if error.is_unreachable() => {
                self.suspect(name);
                Ok(info)
            }
            Err(error) => Err(error),
        }
    }

    /// A topic of which is known enough to go on with.
    pub(in crate::client) fn young_topic(
        &self,
        name: &str,
        now: Instant,
    ) -> Option<Arc<TopicInfo>> {
        let topics = self.inner.topics.lock();
        let Known { info, suspect } = topics.get(name)?;
        let age = now.saturating_duration_since(info.asked_at);
        (*suspect || age < self.inner.settings.metadata_max_age).then(|| info.clone())
    }

    async fn refresh(&self, name: &str) -> Result<Arc<TopicInfo>, ClientError> {
        let deadline = Instant::now() + self.inner.settings.api_timeout;
        let mut backoff = Backoff::new(self.inner.seed);
        loop {
            let topics = self.metadata(Some(vec![name.to_owned()]), true).await?.topics;
            let topic = topics.into_iter().find(|topic| topic.name == name);
            match topic.map(|topic| topic.result) {
                Some(Ok(_)) => return self.known(name),
                // The broker has just started, or does not reach the mini-zookeeper; another may.
                Some(Err(fault)) if is_not_able(&fault) => {
                    let wait = backoff.failed();
                    if Instant::now() + wait >= deadline {
                        return Err(fault.into());
                    }
                    self.turn_away();
                    tokio::time::sleep(wait).await;
                }
                Some(Err(fault)) => return Err(fault.into()),
                None => {
                    let what = format!("the broker says nothing of '{name}'");
                    return Err(ClientError::Invalid(what));
                }
            }
        }
    }

    fn known(&self, name: &str) -> Result<Arc<TopicInfo>, ClientError> {
        self.known_info(name).ok_or_else(|| {
            let what = format!("there is no topic '{name}' any more");
            Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what).into()
        })
    }

    /// The leader of a partition as far as is known.
    pub(in crate::client) fn known_leader(&self, topic: &str, partition: u32) -> Option<u32> {
        let topics = self.inner.topics.lock();
        topics.get(topic).filter(|known| !known.suspect)?.info.leader(partition)
    }

    /// The epoch of the leader that is known; -1: none is.
    pub(in crate::client) fn known_epoch(&self, topic: &str, partition: u32) -> i32 {
        let topics = self.inner.topics.lock();
        let known =
            topics.get(topic).and_then(|known| known.info.partitions.get(partition as usize));
        known.map_or(-1, |partition| partition.leader_epoch)
    }

    /// How many partitions a topic has, as far as is known.
    pub(in crate::client) fn known_count(&self, topic: &str) -> Option<u32> {
        Some(self.known_info(topic)?.count())
    }

    /// What is known of a topic, be it still so or not.
    pub(super) fn known_info(&self, topic: &str) -> Option<Arc<TopicInfo>> {
        self.inner.topics.lock().get(topic).map(|known| known.info.clone())
    }

    /// The id of a topic, nil if it is not known.
    pub(in crate::client) fn known_id(&self, topic: &str) -> Uuid {
        self.inner.topics.lock().get(topic).map_or(Uuid::nil(), |known| known.info.id)
    }

    /// Takes note that a topic's leader may be another by now.
    pub(in crate::client) fn suspect(&self, name: &str) {
        if let Some(known) = self.inner.topics.lock().get_mut(name) {
            known.suspect = true;
        }
    }

    /// Forgets what is known of a topic: the next [`Cluster::topic`] asks.
    pub(in crate::client) fn forget(&self, name: &str) {
        self.inner.topics.lock().remove(name);
    }

    /// Asks for brokers and topics, and remembers the answer.
    pub async fn metadata(
        &self,
        topics: Option<Vec<String>>,
        create: bool,
    ) -> Result<MetadataResponse, ClientError> {
        let request = Metadata { topics, allow_auto_topic_creation: create };
        let metadata = self.call_any(&request, true).await?;
        self.remember(&metadata);
        Ok(metadata)
    }

    /// Asks for topics once; whoever asks tries again himself.
    pub(in crate::client) async fn metadata_once(
        &self,
        topics: Vec<String>,
        create: bool,
    ) -> Result<MetadataResponse, ClientError> {
        let request = Metadata { topics: Some(topics), allow_auto_topic_creation: create };
        let patience = self.inner.settings.request_timeout;
        let patience = if create { patience } else { patience.min(QUICK) };
        let metadata = self.call_once(&request, patience, None).await?;
        self.remember(&metadata);
        Ok(metadata)
    }

    /// What is to be watched.
    pub(super) fn watched(&self) -> Vec<WatchedTopic> {
        let topics = self.inner.topics.lock();
        let watched = topics.values().take(MOST_WATCHED).map(|known| WatchedTopic {
            topic: known.info.name.to_string(),
            topic_id: known.info.id,
            partitions: known.info.count(),
        });
        watched.collect()
    }

    /// Changes each time when a topic has more partitions than were known.
    pub(in crate::client) fn grown(&self) -> watch::Receiver<()> {
        self.inner.grown.subscribe()
    }

    /// Takes in what a broker says; it may be behind, and know less than another has said.
    pub(super) fn remember(&self, metadata: &MetadataResponse) {
        let brokers = metadata.brokers.iter().map(|broker| (broker.id, broker.clone()));
        self.inner.brokers.lock().extend(brokers);
        let asked_at = Instant::now();
        let mut has_grown = false;
        let mut known = self.inner.topics.lock();
        for TopicMetadata { name, result } in &metadata.topics {
            match result {
                Ok(places) if !places.partitions.is_empty() => {
                    let id = places.topic_id;
                    let before = known.get(name).map(|known| known.info.clone());
                    let before = before.filter(|before| before.id == id);
                    let newest = |found: &PartitionMetadata| {
                        let before = before.as_ref();
                        let before =
                            before.and_then(|b| b.partitions.get(found.partition as usize));
                        before
                            .filter(|b| b.leader_epoch > found.leader_epoch)
                            .unwrap_or(found)
                            .clone()
                    };
                    let partitions = places.partitions.iter().map(newest).collect();
                    let info = TopicInfo { name: name.as_str().into(), id, partitions, asked_at };
                    has_grown |= before.is_none_or(|before| before.count() < info.count());
                    let info = Arc::new(info);
                    known.insert(name.clone(), Known { info, suspect: false });
                }
                // A broker that has just started, or cannot ask: that says nothing of the topic.
                Err(fault) if is_passing(fault) => {
                    if let Some(known) = known.get_mut(name) {
                        known.suspect = true;
                    }
                }
                _ => {
                    known.remove(name);
                }
            }
        }
        drop(known);
        if has_grown {
            self.inner.watcher.get_or_init(|| Watcher::start(Arc::downgrade(&self.inner)));
            self.inner.known.notify_one();
            self.inner.grown.send_replace(());
        }
    }
}

/// True if the broker could not make a topic, or say what it is, and another one may.
fn is_not_able(fault: &Fault) -> bool {
    matches!(
        fault.code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::NOT_CONTROLLER
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::REQUEST_TIMED_OUT
    )
}

/// True if a fault of a topic may pass; false if there is no such topic.
fn is_passing(fault: &Fault) -> bool {
    fault.code.is_retriable() && fault.code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
}

impl TopicInfo {
    /// The leader of a partition, if it has one.
    pub fn leader(&self, partition: u32) -> Option<u32> {
        self.partitions.get(partition as usize)?.leader
    }

    /// How many partitions it has.
    pub fn count(&self) -> u32 {
        self.partitions.len() as u32
    }
}
