//! What changed of the state, for those who keep a copy.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ClusterState;
use super::command::Change;
use super::model::{Broker, Partition, Topic};

/// What one or more commands have changed: everything that did, as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// The version that it follows.
    pub after: u64,
    /// The version that it leads to.
    pub version: u64,
    /// Brokers.
    pub brokers: Vec<(u32, Broker)>,
    /// Topics that are gone. One that was made anew since is among the topics as well.
    pub deleted: Vec<(String, Uuid)>,
    /// Topics that are new or have changed, or a partition of which has.
    pub topics: Vec<TopicDelta>,
    /// What holds for topics that do not say, if that has changed.
    pub defaults: Option<BTreeMap<String, String>>,
    next_place: u64,
}

/// A topic, and those of its partitions that have changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDelta {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: Uuid,
    /// Its own settings, all of them.
    pub settings: BTreeMap<String, String>,
    /// How many partitions it has.
    pub total: u32,
    /// Those that are new or have changed, by number, in order.
    pub partitions: Vec<(u32, Partition)>,
}

/// A delta that does not follow the copy's state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the copy is at version {at}, the delta goes from {after} to {version}")]
pub struct Gap {
    /// The copy's version.
    pub at: u64,
    /// What the delta follows.
    pub after: u64,
    /// What it leads to.
    pub version: u64,
}

impl Delta {
    /// What led from version `after` to this state: all changes in between.
    pub fn of(after: u64, state: &ClusterState, changes: &[Change]) -> Delta {
        let mut brokers = BTreeSet::new();
        let mut topics: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        let mut deleted = Vec::new();
        let mut defaults = None;
        for change in changes {
            match change {
                Change::Broker { id } => _ = brokers.insert(*id),
                Change::Defaults => defaults = Some(state.defaults.clone()),
                Change::Topic { name } => _ = topics.entry(name).or_default(),
                Change::TopicDeleted { name, id } => {
                    // What was said of it before says nothing about one that has its name now.
                    topics.remove(name.as_str());
                    deleted.push((name.clone(), *id));
                }
                Change::Partition { topic, partition } => {
                    topics.entry(topic).or_default().insert(*partition);
                }
                // Its partition has changed, which is told as well.
                Change::UncleanElection { .. } => {}
            }
        }
        let broker = |id: u32| Some((id, state.brokers.get(&id)?.clone()));
        let topic = |(name, numbers): (&str, BTreeSet<u32>)| {
            Some(TopicDelta::of(name, state.topics.get(name)?, &numbers))
        };
        Delta {
            after,
            version: state.version,
            brokers: brokers.into_iter().filter_map(broker).collect(),
            deleted,
            topics: topics.into_iter().filter_map(topic).collect(),
            defaults,
            next_place: state.next_place,
        }
    }
}

impl Delta {
    /// The names of all topics of which it says something.
    pub fn topic_names(&self) -> BTreeSet<&str> {
        let changed = self.topics.iter().map(|topic| topic.name.as_str());
        changed.chain(self.deleted.iter().map(|(name, _)| name.as_str())).collect()
    }
}

impl TopicDelta {
    fn of(name: &str, topic: &Topic, numbers: &BTreeSet<u32>) -> TopicDelta {
        let partition = |number: &u32| Some((*number, topic.partition(*number)?.clone()));
        TopicDelta {
            name: name.to_owned(),
            id: topic.id,
            settings: topic.settings.clone(),
            total: topic.partitions.len() as u32,
            partitions: numbers.iter().filter_map(partition).collect(),
        }
    }

    /// True if it says of every partition that is new how it is.
    fn is_whole(&self, known: usize) -> bool {
        let numbers = self.partitions.iter().map(|(number, _)| *number);
        numbers.filter(|number| *number as usize >= known).eq(known as u32..self.total)
    }
}

impl ClusterState {
    /// Does to a copy what was done to the state. Refused, it has changed nothing.
    pub fn follow(&mut self, delta: &Delta) -> Result<(), Gap> {
        let known = |topic: &TopicDelta| {
            let same = self.topics.get(&topic.name).filter(|known| known.id == topic.id);
            same.map_or(0, |known| known.partitions.len())
        };
        let follows = delta.after == self.version && delta.version > delta.after;
        if !follows || !delta.topics.iter().all(|topic| topic.is_whole(known(topic))) {
            let (after, version) = (delta.after, delta.version);
            return Err(Gap { at: self.version, after, version });
        }
        for (name, id) in &delta.deleted {
            if self.topics.get(name).is_some_and(|topic| topic.id == *id) {
                self.topics.remove(name);
            }
        }
        for topic in &delta.topics {
            self.follow_topic(topic);
        }
        self.brokers.extend(delta.brokers.iter().cloned());
        if let Some(defaults) = &delta.defaults {
            self.defaults.clone_from(defaults);
        }
        self.next_place = delta.next_place;
        self.version = delta.version;
        Ok(())
    }

    fn follow_topic(&mut self, delta: &TopicDelta) {
        let TopicDelta { name, id, settings, partitions, .. } = delta;
        let fresh = || Topic { id: *id, settings: BTreeMap::new(), partitions: Vec::new() };
        let topic = self.topics.entry(name.clone()).or_insert_with(fresh);
        topic.settings.clone_from(settings);
        for (number, partition) in partitions {
            match topic.partitions.get_mut(*number as usize) {
                Some(known) => known.clone_from(partition),
                None => topic.partitions.push(partition.clone()),
            }
        }
    }
}
