//! The timeline: what has happened in the cluster, for people.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::detector::Reason;
use super::message::Report;
use super::state::{Broker, BrokerEpoch, Change, ClusterState, Partition, Topic};

/// Something that has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Larger than that of the event before.
    pub id: u64,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What.
    pub what: What,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names of the fields say it, and the variants what happened")]
pub enum What {
    /// A broker has begun a life.
    Registered { broker: u32, epoch: BrokerEpoch, address: String },
    /// It is heard of, and works: it may lead.
    Ready { broker: u32, epoch: BrokerEpoch },
    /// Its process seems to be gone.
    Suspected { broker: u32, why: Suspicion },
    /// It is not to lead any more.
    Fenced { broker: u32, epoch: BrokerEpoch, why: FenceReason, heard_ago_ms: Option<u64> },
    /// It wants to stop.
    ShutdownBegun { broker: u32 },
    /// Another leads.
    Elected { topic: String, partition: u32, leader: u32, leader_epoch: i32, before: Option<u32> },
    /// Nobody leads.
    NoLeader { topic: String, partition: u32, before: Option<u32> },
    /// Others are in sync.
    IsrChanged { topic: String, partition: u32, before: Vec<u32>, after: Vec<u32> },
    /// One leads that may not have all that was acknowledged.
    UncleanElection { topic: String, partition: u32, leader: u32, instead_of: Vec<u32> },
    /// A topic is new.
    TopicCreated { topic: String, partitions: u32 },
    /// A topic has more partitions.
    TopicGrown { topic: String, from: u32, to: u32 },
    /// A topic has other settings.
    TopicAltered { topic: String },
    /// A topic is gone.
    TopicDeleted { topic: String },
    /// What holds for topics that do not say has changed.
    DefaultsAltered,
    /// A partition is to go to other brokers.
    MoveBegun { topic: String, partition: u32, from: Vec<u32>, to: Vec<u32> },
    /// It is there.
    MoveDone { topic: String, partition: u32, replicas: Vec<u32> },
    /// It stays.
    MoveCancelled { topic: String, partition: u32, replicas: Vec<u32> },
    /// What a broker has told.
    Reported(Report),
}

/// Why a broker seems to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Suspicion {
    /// Its connection has ended.
    Disconnected,
    /// Another process wants to register as it.
    AnotherProcess,
}

/// Why a broker was fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FenceReason {
    /// By what was heard of it.
    Detector(Reason),
    /// The process that carried the zookeeper had ended, and every broker with it.
    Restarted,
    /// Somebody has asked for it.
    Asked,
}

/// The newest events.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    events: VecDeque<Event>,
    last: u64,
}

/// So many events are kept.
pub const KEPT: usize = 10_000;

impl Timeline {
    /// One that begins with these, in order.
    pub fn new(events: Vec<Event>) -> Timeline {
        let last = events.last().map_or(0, |event| event.id);
        Timeline { events: events.into(), last }
    }

    /// Takes these up; answers them as the events that they have become.
    pub fn add(&mut self, at_ms: i64, happened: Vec<What>) -> Vec<Event> {
        let first = self.last + 1;
        let events: Vec<Event> =
            (first..).zip(happened).map(|(id, what)| Event { id, at_ms, what }).collect();
        self.last += events.len() as u64;
        self.events.extend(events.iter().cloned());
        self.events.drain(..self.events.len().saturating_sub(KEPT));
        events
    }

    /// The id of the oldest one that is kept.
    pub fn oldest(&self) -> u64 {
        self.events.front().map_or(self.last + 1, |event| event.id)
    }

    /// The first ones behind an id.
    pub fn after(&self, after: u64, most: usize) -> Vec<Event> {
        let from = self.events.partition_point(|event| event.id <= after);
        self.events.range(from..).take(most).cloned().collect()
    }
}

/// What the changes from one state to the next were, for people. Why a broker was fenced only the
/// caller knows.
pub fn of_changes(
    before: &ClusterState,
    after: &ClusterState,
    changes: &[Change],
    fenced: (FenceReason, Option<u64>),
) -> Vec<What> {
    let mut happened = Vec::new();
    for change in changes {
        match change {
            Change::Broker { id } => {
                if let Some(broker) = after.brokers.get(id) {
                    of_broker(*id, before.brokers.get(id), broker, fenced, &mut happened);
                }
            }
            Change::Defaults => happened.push(What::DefaultsAltered),
            Change::Topic { name } => {
                if let Some(topic) = after.topics.get(name) {
                    of_topic(name, before.topics.get(name), topic, &mut happened);
                }
            }
            Change::TopicDeleted { name, .. } => {
                happened.push(What::TopicDeleted { topic: name.clone() });
            }
            Change::Partition { topic, partition } => {
                let find =
                    |state: &ClusterState| state.topics.get(topic)?.partition(*partition).cloned();
                // Of a new one its topic's creation tells.
                if let (Some(before), Some(after)) = (find(before), find(after)) {
                    of_partition(topic, *partition, &before, &after, &mut happened);
                }
            }
            Change::UncleanElection { topic, partition, leader, instead_of } => {
                let (topic, partition) = (topic.clone(), *partition);
                let (leader, instead_of) = (*leader, instead_of.clone());
                happened.push(What::UncleanElection { topic, partition, leader, instead_of });
            }
        }
    }
    happened
}

fn of_broker(
    broker: u32,
    before: Option<&Broker>,
    after: &Broker,
    (why, heard_ago_ms): (FenceReason, Option<u64>),
    happened: &mut Vec<What>,
) {
    let epoch = after.epoch;
    let Some(before) = before.filter(|before| before.epoch == epoch) else {
        let address = after.address.clone();
        happened.push(What::Registered { broker, epoch, address });
        return;
    };
    match (before.fenced, after.fenced) {
        (true, false) => happened.push(What::Ready { broker, epoch }),
        (false, true) => happened.push(What::Fenced { broker, epoch, why, heard_ago_ms }),
        _ => {}
    }
    if after.stopping && !before.stopping {
        happened.push(What::ShutdownBegun { broker });
    }
}

fn of_topic(name: &str, before: Option<&Topic>, after: &Topic, happened: &mut Vec<What>) {
    let (topic, to) = (name.to_owned(), after.partitions.len() as u32);
    let Some(before) = before else {
        happened.push(What::TopicCreated { topic, partitions: to });
        return;
    };
    let from = before.partitions.len() as u32;
    if to > from {
        happened.push(What::TopicGrown { topic: topic.clone(), from, to });
    }
    if before.settings != after.settings {
        happened.push(What::TopicAltered { topic });
    }
}

fn of_partition(
    topic: &str,
    partition: u32,
    before: &Partition,
    after: &Partition,
    happened: &mut Vec<What>,
) {
    let topic = || topic.to_owned();
    if before.leader_epoch != after.leader_epoch {
        let before = before.leader;
        happened.push(match after.leader {
            Some(leader) => {
                let leader_epoch = after.leader_epoch.0;
                What::Elected { topic: topic(), partition, leader, leader_epoch, before }
            }
            None => What::NoLeader { topic: topic(), partition, before },
        });
    }
    if before.isr != after.isr {
        let (before, after) = (before.isr.clone(), after.isr.clone());
        happened.push(What::IsrChanged { topic: topic(), partition, before, after });
    }
    let replicas = after.replicas.clone();
    match (&before.moving, &after.moving) {
        (before, Some(now)) if before.as_ref() != Some(now) => {
            let (from, to) = (now.from.clone(), now.to.clone());
            happened.push(What::MoveBegun { topic: topic(), partition, from, to });
        }
        (Some(moving), None) if moving.to == replicas => {
            happened.push(What::MoveDone { topic: topic(), partition, replicas });
        }
        (Some(_), None) => {
            happened.push(What::MoveCancelled { topic: topic(), partition, replicas });
        }
        _ => {}
    }
}
