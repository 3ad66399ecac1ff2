//! Who leads, and who is in sync when a broker goes.

use std::collections::BTreeMap;

use super::model::{Broker, Partition};
use crate::rule::{Rule, holds};

/// What an election goes by: which brokers live, and the topic's rules.
pub(super) struct Electorate<'a> {
    pub brokers: &'a BTreeMap<u32, Broker>,
    /// `min.insync.replicas`.
    pub min_isr: usize,
    /// `unclean.leader.election.enable`.
    pub unclean: bool,
}

impl Electorate<'_> {
    /// True if the broker may lead and be in sync.
    pub fn is_alive(&self, id: u32) -> bool {
        self.brokers.get(&id).is_some_and(|broker| !broker.fenced)
    }

    /// True if the broker may get a leadership, or become in sync.
    pub fn is_staying(&self, id: u32) -> bool {
        self.brokers.get(&id).is_some_and(|broker| !broker.fenced && !broker.stopping)
    }

    /// True if so many are in sync that records are committed. No more need be than there are to be
    /// replicas.
    pub fn commits(&self, partition: &Partition) -> bool {
        partition.isr.len() >= self.min_isr.min(partition.target().len())
    }

    /// Gives a partition that has no leader one, if somebody can be.
    pub fn elect(&self, partition: &mut Partition) {
        if partition.leader.is_some() {
            return;
        }
        let of = |group: &[u32], may: &dyn Fn(u32) -> bool| {
            // In the order of the replicas: the preferred one first.
            partition.replicas.iter().copied().find(|id| group.contains(id) && may(*id))
        };
        let (staying, alive) = (|id| self.is_staying(id), |id| self.is_alive(id));
        let in_sync = of(&partition.isr, &staying).or_else(|| of(&partition.isr, &alive));
        if in_sync.is_some() {
            partition.set_leader(in_sync);
        } else if let Some(leader) = of(&partition.eligible, &alive) {
            partition.eligible.retain(|id| *id != leader);
            partition.isr = vec![leader];
            partition.set_leader(Some(leader));
        } else if self.unclean {
            self.elect_unclean(partition);
        }
    }

    /// Lets any replica that lives lead a partition without a leader. Nobody else counts as having
    /// its records from then on.
    pub fn elect_unclean(&self, partition: &mut Partition) {
        let leader = partition.replicas.iter().copied().find(|id| self.is_alive(*id));
        if let (Some(leader), None) = (leader, partition.leader) {
            partition.isr = vec![leader];
            partition.eligible.clear();
            partition.recovering = true;
            partition.set_leader(Some(leader));
            partition.unclean_epoch = Some(partition.leader_epoch);
        }
    }

    /// Takes a broker out of the in-sync replicas; another leads if it did.
    pub fn leave(&self, partition: &mut Partition, id: u32) {
        if !partition.isr.contains(&id) {
            return;
        }
        partition.isr.retain(|member| *member != id);
        if !self.commits(partition) && holds(Rule::EligibleLeavers) {
            // Nothing more is committed as long as it is so: what it has is all there is.
            partition.eligible.push(id);
        }
        self.keep_leader(partition);
    }

    /// Lets another lead if the leader is not in sync any more.
    pub fn keep_leader(&self, partition: &mut Partition) {
        if partition.leader.is_none_or(|leader| partition.isr.contains(&leader)) {
            return;
        }
        partition.leader = None;
        self.elect(partition);
        if partition.leader.is_none() {
            partition.set_leader(None);
        }
    }
}
