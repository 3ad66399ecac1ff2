//! What leaders and operators change of a partition.

use uuid::Uuid;

use super::ClusterState;
use super::command::{Adopted, AlterPartition, Change, Member, Refused};
use super::model::{BrokerEpoch, LeaderEpoch, Move, Partition, Topic};
use crate::rule::{Rule, holds};

impl ClusterState {
    /// A leader's word on who is in sync counts if it is made from the state there is, and every
    /// member lives the life that the leader has seen.
    pub(super) fn alter_partition(
        &mut self,
        alter: &AlterPartition,
    ) -> Result<Vec<Change>, Refused> {
        let Member { id: leader, epoch } = alter.leader;
        self.same_topic(&alter.topic, alter.topic_id)?;
        let partition = self.partition(&alter.topic, alter.partition)?;
        self.broker(leader, epoch)?;
        if partition.leader != Some(leader) {
            return Err(Refused::NotLeader(leader));
        }
        let known = (partition.leader_epoch, partition.epoch);
        if known != (alter.leader_epoch, alter.epoch) && holds(Rule::CompareAndSet) {
            let (leader_epoch, epoch) = (partition.leader_epoch, partition.epoch);
            return Err(Refused::StalePartition { leader_epoch, epoch });
        }
        let isr: Vec<u32> = alter.isr.iter().map(|member| member.id).collect();
        if !is_subset(&isr, &partition.replicas) || !isr.contains(&leader) {
            return Err(Refused::Replicas(isr));
        }
        for member in &alter.isr {
            let broker = match holds(Rule::NameLives) {
                true => self.broker(member.id, member.epoch).ok(),
                false => self.brokers.get(&member.id),
            };
            let lives = broker.is_some_and(|broker| {
                // Who is in sync already stays so while it stops.
                !broker.fenced && (!broker.stopping || partition.isr.contains(&member.id))
            });
            if !lives {
                return Err(Refused::Ineligible(member.id));
            }
        }
        let recovering = partition.recovering && alter.recovering;
        let version = self.version + 1;
        Ok(self.update_partition(&alter.topic, alter.partition, |electorate, partition| {
            let before = std::mem::replace(&mut partition.isr, isr);
            partition.recovering = recovering;
            if !electorate.commits(partition) && holds(Rule::EligibleLeavers) {
                let left = before.iter().filter(|id| !partition.isr.contains(id));
                partition.eligible.extend(left);
                partition.eligible.retain(|id| !partition.isr.contains(id));
            }
            partition.finish_move(version);
            electorate.keep_leader(partition);
        }))
    }

    /// The preferred leader of a partition, if it does not lead and could.
    pub fn preferred_instead(&self, partition: &Partition) -> Option<u32> {
        partition.preferred().filter(|preferred| {
            let stays = self.brokers.get(preferred).is_some_and(|b| !b.fenced && !b.stopping);
            partition.isr.contains(preferred) && stays && partition.leader != Some(*preferred)
        })
    }

    /// The first of the replicas leads, if it is in sync.
    pub(super) fn elect_preferred(
        &mut self,
        topic: &str,
        number: u32,
    ) -> Result<Vec<Change>, Refused> {
        let partition = self.partition(topic, number)?;
        let preferred = partition.preferred().ok_or(Refused::NobodyToElect)?;
        if partition.leader == Some(preferred) {
            return Err(Refused::LeadsAlready(preferred));
        }
        if self.preferred_instead(partition).is_none() {
            return Err(Refused::PreferredAway(preferred));
        }
        Ok(self.update_partition(topic, number, |_, partition| {
            partition.set_leader(Some(preferred));
        }))
    }

    /// Any replica that lives leads, if nobody does.
    pub(super) fn elect_unclean(
        &mut self,
        topic: &str,
        number: u32,
    ) -> Result<Vec<Change>, Refused> {
        let partition = self.partition(topic, number)?;
        let lives = |id: &u32| self.brokers.get(id).is_some_and(|broker| !broker.fenced);
        if let Some(leader) = partition.leader {
            return Err(Refused::LeadsAlready(leader));
        }
        if !partition.replicas.iter().any(lives) {
            return Err(Refused::NobodyToElect);
        }
        Ok(self.update_partition(topic, number, |electorate, partition| {
            electorate.elect(partition);
            electorate.elect_unclean(partition);
        }))
    }

    /// The partition gets other replicas. The new ones are added first; those that had it go once all
    /// new ones are in sync.
    pub(super) fn move_partition(
        &mut self,
        topic: &str,
        number: u32,
        replicas: &[u32],
        throttle: Option<u64>,
    ) -> Result<Vec<Change>, Refused> {
        let partition = self.partition(topic, number)?;
        if replicas.is_empty() || has_doubles(replicas) {
            return Err(Refused::Replicas(replicas.to_vec()));
        }
        if let Some(unknown) = replicas.iter().find(|id| !self.brokers.contains_key(id)) {
            return Err(Refused::UnknownBroker(*unknown));
        }
        let from = partition.origin().to_vec();
        let others = from.iter().filter(|id| !replicas.contains(id));
        let all: Vec<u32> = replicas.iter().chain(others).copied().collect();
        self.keeps_records(topic, partition, &all)?;
        let version = self.version + 1;
        Ok(self.update_partition(topic, number, |electorate, partition| {
            let moving = Move { from: from.clone(), to: replicas.to_vec(), throttle };
            partition.set_replicas(all, Some(moving), version);
            partition.finish_move(version);
            electorate.keep_leader(partition);
        }))
    }

    /// The partition stays with the replicas that it had, if enough of them have all records.
    pub(super) fn cancel_move(&mut self, topic: &str, number: u32) -> Result<Vec<Change>, Refused> {
        let partition = self.partition(topic, number)?;
        let Some(Move { from, .. }) = partition.moving.clone() else {
            return Err(Refused::NotMoving);
        };
        self.keeps_records(topic, partition, &from)?;
        let version = self.version + 1;
        Ok(self.update_partition(topic, number, |electorate, partition| {
            partition.set_replicas(from, None, version);
            electorate.keep_leader(partition);
        }))
    }

    /// A move that is called off, or followed by another, takes replicas away that may be the only ones
    /// to have what was committed since. As many as a commit needs must stay.
    fn keeps_records(
        &self,
        topic: &str,
        partition: &Partition,
        replicas: &[u32],
    ) -> Result<(), Refused> {
        let have_all = || partition.isr.iter().chain(&partition.eligible);
        let stay: Vec<u32> = have_all().copied().filter(|id| replicas.contains(id)).collect();
        let min_isr = self.min_insync_replicas(self.topic(topic)?).max(1);
        let needed = min_isr.min(replicas.len()).min(have_all().count());
        if stay.len() < needed {
            return Err(Refused::TooFewStay { stay, needed });
        }
        Ok(())
    }
}

impl ClusterState {
    /// What the broker had of these partitions is gone: it is not in sync, nor electable.
    pub(super) fn lose_replicas(
        &mut self,
        id: u32,
        epoch: BrokerEpoch,
        lost: &[(Uuid, u32)],
    ) -> Result<Vec<Change>, Refused> {
        self.broker(id, epoch)?;
        let places: Vec<(String, u32)> = self
            .topics
            .iter()
            .flat_map(|(name, topic)| {
                let of_topic = lost.iter().filter(|(lost, _)| *lost == topic.id);
                of_topic.map(|(_, number)| (name.clone(), *number))
            })
            .collect();
        let lose = |(name, number): (String, u32)| {
            self.update_partition(&name, number, |electorate, partition| {
                partition.isr.retain(|member| *member != id);
                partition.eligible.retain(|member| *member != id);
                electorate.keep_leader(partition);
            })
        };
        Ok(places.into_iter().flat_map(lose).collect())
    }

    /// A broker that stands alone brings a topic that it has on its disk.
    pub(super) fn adopt_topic(
        &mut self,
        name: &str,
        topic: &Adopted,
    ) -> Result<Vec<Change>, Refused> {
        if self.topics.contains_key(name) {
            return Err(Refused::TopicExists(name.to_owned()));
        }
        // It is there already, so that it is not to be made.
        let partition = |epoch: &LeaderEpoch| Partition {
            leader_epoch: *epoch,
            ..Partition::new(vec![topic.broker], 0)
        };
        let (id, settings) = (topic.id, topic.settings.clone());
        let partitions: Vec<_> = topic.leader_epochs.iter().map(partition).collect();
        let changed = (0..partitions.len() as u32)
            .map(|partition| Change::Partition { topic: name.to_owned(), partition });
        let mut changes = vec![Change::Topic { name: name.to_owned() }];
        changes.extend(changed);
        self.topics.insert(name.to_owned(), Topic { id, settings, partitions });
        Ok(changes)
    }
}

fn is_subset(some: &[u32], all: &[u32]) -> bool {
    !has_doubles(some) && some.iter().all(|id| all.contains(id))
}

fn has_doubles(ids: &[u32]) -> bool {
    ids.iter().enumerate().any(|(at, id)| ids.iter().skip(at + 1).any(|other| other == id))
}
