//! Brokers come, are heard of or not, and go.

use uuid::Uuid;

use super::ClusterState;
use super::command::{Change, Refused, Restart};
use super::model::{Broker, BrokerEpoch};
use crate::rule::{Rule, holds};

impl ClusterState {
    /// The broker, if it lives the life of this epoch.
    pub(super) fn broker(&self, id: u32, epoch: BrokerEpoch) -> Result<&Broker, Refused> {
        let broker = self.brokers.get(&id).ok_or(Refused::UnknownBroker(id))?;
        if broker.epoch != epoch {
            return Err(Refused::StaleBroker { id, known: broker.epoch, found: epoch });
        }
        Ok(broker)
    }

    /// A process that was registered before keeps its epoch. Another one must wait until the one
    /// before it is fenced: a start in between must not go unseen.
    pub(super) fn register(
        &mut self,
        id: u32,
        incarnation: Uuid,
        address: &str,
        rack: Option<&str>,
        restart: Restart,
    ) -> Result<Vec<Change>, Refused> {
        let (address, rack) = (address.to_owned(), rack.map(str::to_owned));
        match self.brokers.get_mut(&id) {
            Some(known) if known.incarnation == incarnation => {
                if (&known.address, &known.rack) == (&address, &rack) {
                    return Ok(Vec::new());
                }
                (known.address, known.rack) = (address, rack);
                return Ok(vec![Change::Broker { id }]);
            }
            Some(known) if !known.fenced && holds(Rule::SeeRestarts) => {
                return Err(Refused::DuplicateBroker(id));
            }
            _ => {}
        }
        let epoch = BrokerEpoch(self.version + 1);
        let before = self.brokers.get(&id);
        let (fenced, stopping) = (before.is_none_or(|before| before.fenced), false);
        let broker = Broker { incarnation, epoch, address, rack, fenced, stopping };
        self.brokers.insert(id, broker);
        let mut changes = vec![Change::Broker { id }];
        changes.extend(self.update_partitions(|_, rules, partition| {
            let lost = match restart {
                Restart::Kept => false,
                // What such a topic acknowledges is synced; and of a single replica there is no other
                // to be elected instead.
                Restart::LostUnsynced => !rules.flush_before_ack && partition.replicas.len() > 1,
                Restart::LostAll => true,
            };
            if lost && holds(Rule::LostIsLost) {
                partition.eligible.retain(|member| *member != id);
            }
        }));
        Ok(changes)
    }

    /// The broker may lead and be in sync again; partitions that waited for it have a leader.
    pub(super) fn unfence(&mut self, id: u32, epoch: BrokerEpoch) -> Result<Vec<Change>, Refused> {
        if !self.broker(id, epoch)?.fenced {
            return Ok(Vec::new());
        }
        let mut changes = self.set_broker(id, |broker| broker.fenced = false);
        changes.extend(self.update_partitions(|electorate, _, partition| {
            if partition.replicas.contains(&id) {
                electorate.elect(partition);
            }
        }));
        Ok(changes)
    }

    /// The broker leads nothing any more and is in sync nowhere.
    pub(super) fn fence(&mut self, id: u32, epoch: BrokerEpoch) -> Result<Vec<Change>, Refused> {
        if self.broker(id, epoch)?.fenced {
            return Ok(Vec::new());
        }
        let mut changes = self.set_broker(id, |broker| broker.fenced = true);
        changes.extend(self.update_partitions(|electorate, _, partition| {
            electorate.leave(partition, id);
        }));
        Ok(changes)
    }

    /// The broker gives its leaderships to others, and leaves where others stay. What it alone has
    /// it keeps until it is fenced.
    pub(super) fn begin_shutdown(
        &mut self,
        id: u32,
        epoch: BrokerEpoch,
    ) -> Result<Vec<Change>, Refused> {
        if self.broker(id, epoch)?.stopping {
            return Ok(Vec::new());
        }
        let mut changes = self.set_broker(id, |broker| broker.stopping = true);
        changes.extend(self.update_partitions(|electorate, _, partition| {
            if partition.isr.iter().any(|other| electorate.is_staying(*other)) {
                electorate.leave(partition, id);
            }
        }));
        Ok(changes)
    }

    fn set_broker(&mut self, id: u32, change: impl FnOnce(&mut Broker)) -> Vec<Change> {
        self.brokers.get_mut(&id).map(change);
        vec![Change::Broker { id }]
    }
}
