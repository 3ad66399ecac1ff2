//! Topics come, grow, change and go.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::command::{Change, Refused};
use super::model::{Partition, Topic};
use super::{ClusterState, Electorate};

/// The topic settings that the state itself goes by.
pub(super) struct Rules {
    min_isr: usize,
    unclean: bool,
    /// True if records are synced before they are acknowledged.
    pub flush_before_ack: bool,
}

impl ClusterState {
    /// `min.insync.replicas` of a topic.
    pub fn min_insync_replicas(&self, topic: &Topic) -> usize {
        Rules::of(&topic.settings, &self.defaults).min_isr
    }

    pub(super) fn topic(&self, name: &str) -> Result<&Topic, Refused> {
        self.topics.get(name).ok_or_else(|| Refused::UnknownTopic(name.to_owned()))
    }

    pub(super) fn partition(&self, name: &str, number: u32) -> Result<&Partition, Refused> {
        let unknown = || Refused::UnknownPartition(name.to_owned(), number);
        self.topic(name)?.partition(number).ok_or_else(unknown)
    }

    pub(super) fn create_topic(
        &mut self,
        name: &str,
        id: Uuid,
        partitions: u32,
        replication_factor: u32,
        settings: &BTreeMap<String, String>,
    ) -> Result<Vec<Change>, Refused> {
        if self.topics.contains_key(name) {
            return Err(Refused::TopicExists(name.to_owned()));
        }
        if partitions == 0 {
            return Err(Refused::PartitionCount { now: 0, asked: 0 });
        }
        let places = self.places(partitions, replication_factor)?;
        let settings = settings.clone();
        self.topics.insert(name.to_owned(), Topic { id, settings, partitions: Vec::new() });
        let mut changes = vec![Change::Topic { name: name.to_owned() }];
        changes.extend(self.place_partitions(name, places));
        Ok(changes)
    }

    pub(super) fn add_partitions(
        &mut self,
        name: &str,
        total: u32,
    ) -> Result<Vec<Change>, Refused> {
        let partitions = &self.topic(name)?.partitions;
        let now = partitions.len() as u32;
        if total <= now {
            return Err(Refused::PartitionCount { now, asked: total });
        }
        let factor = partitions.first().map_or(1, |first| first.target().len() as u32);
        let places = self.places(total - now, factor)?;
        let mut changes = vec![Change::Topic { name: name.to_owned() }];
        changes.extend(self.place_partitions(name, places));
        Ok(changes)
    }

    fn place_partitions(&mut self, name: &str, places: Vec<Vec<u32>>) -> Vec<Change> {
        self.next_place += places.len() as u64;
        let Some(topic) = self.topics.get_mut(name) else { return Vec::new() };
        let version = self.version + 1;
        let alive = |id: &u32| self.brokers.get(id).is_some_and(|broker| !broker.fenced);
        topic.partitions.extend(places.into_iter().map(|replicas| {
            let mut fresh = Partition::new(replicas, version);
            fresh.isr.retain(alive);
            fresh
        }));
        self.update_partitions(|electorate, _, partition| electorate.elect(partition))
    }

    pub(super) fn alter_topic(
        &mut self,
        name: &str,
        settings: &BTreeMap<String, String>,
    ) -> Result<Vec<Change>, Refused> {
        if self.topic(name)?.settings == *settings {
            return Ok(Vec::new());
        }
        if let Some(topic) = self.topics.get_mut(name) {
            topic.settings = settings.clone();
        }
        let mut changes = vec![Change::Topic { name: name.to_owned() }];
        changes.extend(self.follow_rules());
        Ok(changes)
    }

    pub(super) fn set_defaults(&mut self, defaults: &BTreeMap<String, String>) -> Vec<Change> {
        if self.defaults == *defaults {
            return Vec::new();
        }
        self.defaults = defaults.clone();
        let mut changes = vec![Change::Defaults];
        changes.extend(self.follow_rules());
        changes
    }

    fn follow_rules(&mut self) -> Vec<Change> {
        self.update_partitions(|electorate, _, partition| electorate.elect(partition))
    }

    pub(super) fn delete_topic(&mut self, name: &str, id: Uuid) -> Result<Vec<Change>, Refused> {
        self.same_topic(name, id)?;
        self.topics.remove(name);
        Ok(vec![Change::TopicDeleted { name: name.to_owned(), id }])
    }

    /// An error if the topic has another id.
    pub(super) fn same_topic(&self, name: &str, id: Uuid) -> Result<&Topic, Refused> {
        let topic = self.topic(name)?;
        if topic.id != id {
            return Err(Refused::OtherTopic { name: name.to_owned(), known: topic.id, found: id });
        }
        Ok(topic)
    }

    /// Shows every partition to `change`; answers what it changed.
    pub(super) fn update_partitions(
        &mut self,
        change: impl Fn(&Electorate<'_>, &Rules, &mut Partition),
    ) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, topic) in &mut self.topics {
            let rules = Rules::of(&topic.settings, &self.defaults);
            for (number, partition) in (0..).zip(&mut topic.partitions) {
                let electorate = rules.electorate(&self.brokers);
                let before = partition.clone();
                change(&electorate, &rules, partition);
                changes.extend(settle(name, number, &before, partition, &electorate));
            }
        }
        changes
    }

    /// The same for one partition, which there must be.
    pub(super) fn update_partition(
        &mut self,
        name: &str,
        number: u32,
        change: impl FnOnce(&Electorate<'_>, &mut Partition),
    ) -> Vec<Change> {
        let Some(topic) = self.topics.get_mut(name) else { return Vec::new() };
        let rules = Rules::of(&topic.settings, &self.defaults);
        let Some(partition) = topic.partitions.get_mut(number as usize) else { return Vec::new() };
        let electorate = rules.electorate(&self.brokers);
        let before = partition.clone();
        change(&electorate, partition);
        settle(name, number, &before, partition, &electorate)
    }
}

/// Gives a partition that has changed its next epoch, and says what changed.
fn settle(
    name: &str,
    number: u32,
    before: &Partition,
    partition: &mut Partition,
    electorate: &Electorate<'_>,
) -> Vec<Change> {
    // Whatever it is that lets records be committed: who has left may miss some from now on.
    if electorate.commits(partition) {
        partition.eligible.clear();
    }
    if before == partition {
        return Vec::new();
    }
    partition.changed();
    let topic = name.to_owned();
    let mut changes = vec![Change::Partition { topic: topic.clone(), partition: number }];
    let instead_of: Vec<u32> = before.isr.iter().chain(&before.eligible).copied().collect();
    if let Some(leader) = partition.leader
        && partition.recovering
        && partition.leader_epoch != before.leader_epoch
        && !instead_of.contains(&leader)
    {
        changes.push(Change::UncleanElection { topic, partition: number, leader, instead_of });
    }
    changes
}

impl Rules {
    fn of(own: &BTreeMap<String, String>, defaults: &BTreeMap<String, String>) -> Rules {
        let value = |name: &str| own.get(name).or_else(|| defaults.get(name)).map(String::as_str);
        Rules {
            min_isr: value("min.insync.replicas").and_then(|text| text.parse().ok()).unwrap_or(1),
            unclean: value("unclean.leader.election.enable") == Some("true"),
            flush_before_ack: value("flush").is_none_or(|flush| flush == "ack"),
        }
    }

    fn electorate<'a>(&self, brokers: &'a BTreeMap<u32, super::Broker>) -> Electorate<'a> {
        Electorate { brokers, min_isr: self.min_isr, unclean: self.unclean }
    }
}
