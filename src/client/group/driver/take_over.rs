//! Takes over partitions: looks up where they begin, and reads on from there.

use std::collections::BTreeSet;
use std::time::Instant;

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{FetchOffsets, PartitionOf};
use tokio::task::JoinSet;
use tracing::{debug, info};
use uuid::Uuid;

use super::{Driver, Event, PartitionId};
use crate::client::backoff::Backoff;
use crate::client::cluster::{Cluster, PartitionKey};
use crate::client::consumer::{OffsetReset, StartAt, find_starts};
use crate::client::error::ClientError;
use crate::client::group::coordination::Coordination;
use crate::clock::now_ms;

/// Where a partition is to be read from.
pub(super) struct Begin {
    id: PartitionId,
    key: PartitionKey,
    /// The offset, and whether the group has committed it; none: it is not known yet.
    offset: Option<(u64, bool)>,
    epoch: i32,
}

impl Driver {
    /// Looks up where partitions begin that are to be read: where the group is, and where it has not been,
    /// each by itself, so that one whose leader is away does not hold up the others.
    pub(super) fn take_over(&mut self, under_way: &mut JoinSet<Event>) {
        let wanted = self.membership.to_take();
        self.taking.retain(|id, _| wanted.contains(id));
        if self.retry_at.is_some() || self.take_at.is_some() {
            return;
        }
        let fresh = wanted.into_iter().filter(|id| !self.taking.contains_key(id));
        let named = |id: PartitionId| Some((id, (self.names.get(&id.0)?.clone(), id.1)));
        let keys: Vec<(PartitionId, PartitionKey)> = fresh.filter_map(named).collect();
        if keys.is_empty() {
            return;
        }
        self.lookups += 1;
        let number = self.lookups;
        let taking: Vec<_> = keys.iter().map(|(id, _)| (*id, number)).collect();
        self.taking.extend(taking.iter().copied());
        let (coordination, group) = (self.coordination.clone(), self.settings.group.clone());
        let cluster = self.cluster.clone();
        under_way.spawn(async move {
            let result = find_offsets(&cluster, &coordination, group, keys).await;
            Event::Found { taking, result }
        });
    }

    /// Where the group is was found, or where it has not been; begins, or looks on.
    pub(super) fn found(
        &mut self,
        taking: Vec<(PartitionId, u64)>,
        result: Result<Vec<Begin>, ClientError>,
        under_way: &mut JoinSet<Event>,
    ) -> Result<(), ClientError> {
        // What was looked up for an earlier assignment says nothing of this one.
        let current: BTreeSet<PartitionId> = taking
            .into_iter()
            .filter(|(id, number)| self.taking.get(id) == Some(number))
            .map(|(id, _)| id)
            .collect();
        let begins = match result {
            Ok(begins) => begins.into_iter().filter(|begin| current.contains(&begin.id)),
            Err(error) => {
                self.taking.retain(|id, _| !current.contains(id));
                if !error.is_retriable() {
                    return Err(error);
                }
                debug!(group = self.settings.group, %error, "cannot begin yet");
                self.take_at = Some(Instant::now() + self.take_backoff.failed());
                return Ok(());
            }
        };
        let (known, unknown): (Vec<Begin>, Vec<Begin>) =
            begins.partition(|begin| begin.offset.is_some());
        let is_found = |id: &PartitionId| known.iter().chain(&unknown).any(|begin| begin.id == *id);
        if let Some(missing) = current.iter().find(|id| !is_found(id)) {
            debug!(
                group = self.settings.group,
                partition = missing.1,
                "what is known is not of now"
            );
            self.taking.retain(|id, _| !current.contains(id) || is_found(id));
            self.take_at = Some(Instant::now() + self.take_backoff.failed());
        }
        for begin in unknown {
            let taking = vec![(begin.id, self.taking.get(&begin.id).copied().unwrap_or_default())];
            let (cluster, reset) = (self.cluster.clone(), self.settings.consumer.offset_reset);
            under_way.spawn(async move {
                let offset = beginning(&cluster, &begin.key, begin.id.0, reset).await;
                let result = offset.map(|offset| vec![Begin { offset: Some(offset), ..begin }]);
                Event::Found { taking, result }
            });
        }
        self.begin(known, under_way)
    }

    fn begin(
        &mut self,
        begins: Vec<Begin>,
        under_way: &mut JoinSet<Event>,
    ) -> Result<(), ClientError> {
        let mut taken = BTreeSet::new();
        let mut is_first = false;
        for Begin { id, key, offset, epoch } in begins {
            self.taking.remove(&id);
            let (Some(at), true) = (offset, self.membership.to_take().contains(&id)) else {
                continue;
            };
            // Before anything of it can come.
            let mut ledger = self.ledger.lock();
            let assignment = self.steering.begin(key.clone(), at.0, epoch)?;
            ledger.begin(key, (id.0, assignment), at.0, at.1);
            is_first |= !at.1;
            taken.insert(id);
        }
        if taken.is_empty() {
            return Ok(());
        }
        self.take_backoff = Backoff::new(self.cluster.seed());
        let numbers: Vec<u32> = taken.iter().map(|id| id.1).collect();
        info!(group = self.settings.group, member = self.member, ?numbers, "taken over");
        self.membership.taken(&taken);
        if is_first {
            // Whoever comes next begins there, too, and skips nothing that has come since.
            self.commit(under_way);
        }
        Ok(())
    }
}

/// Where the group is in partitions. Those of a topic of which something else is known than the coordinator
/// says are left out: one of the two is behind.
async fn find_offsets(
    cluster: &Cluster,
    coordination: &Coordination,
    group: String,
    keys: Vec<(PartitionId, PartitionKey)>,
) -> Result<Vec<Begin>, ClientError> {
    let names =
        keys.iter().map(|(_, key)| PartitionOf { topic: key.0.to_string(), partition: key.1 });
    let request = FetchOffsets { group, partitions: Some(names.collect()) };
    let offsets = coordination.insist(&request).await?.parts;
    let known = |(id, key): &(PartitionId, PartitionKey)| cluster.known_id(&key.0) == id.0;
    let mut unknown: Vec<String> =
        keys.iter().filter(|of| !known(of)).map(|(_, key)| key.0.to_string()).collect();
    unknown.sort();
    unknown.dedup();
    if !unknown.is_empty() {
        // So that the consumer knows which topic of the name it reads; one that is gone is not made anew.
        cluster.metadata_once(unknown, false).await?;
    }
    let begins =
        keys.into_iter().zip(offsets).filter(|(of, _)| known(of)).map(|((id, key), known)| {
            let epoch = known.committed.as_ref().map_or(-1, |committed| committed.leader_epoch);
            Begin { id, key, offset: known.committed.map(|c| (c.offset, true)), epoch }
        });
    Ok(begins.collect())
}

/// Where a partition begins in which the group has not been, by the rule for that.
async fn beginning(
    cluster: &Cluster,
    key: &PartitionKey,
    topic_id: Uuid,
    reset: OffsetReset,
) -> Result<(u64, bool), ClientError> {
    let start = match reset {
        OffsetReset::Earliest => StartAt::Earliest,
        OffsetReset::Latest => StartAt::Latest,
        OffsetReset::ByDuration(age) => StartAt::Timestamp(now_ms() - age.as_millis() as i64),
        OffsetReset::None => {
            let (topic, partition) = key;
            let what = format!("the group has no offset of partition {partition} of '{topic}'");
            return Err(Fault::new(ErrorCode::OFFSET_OUT_OF_RANGE, what).into());
        }
    };
    if cluster.known_id(&key.0) != topic_id {
        let what = format!("what is known of '{}' is not of now", key.0);
        return Err(Fault::new(ErrorCode::INCONSISTENT_TOPIC_ID, what).into());
    }
    let starts = find_starts(cluster, &key.0, &[key.1], start).await?;
    let found = starts.first().map(|(_, offset)| (*offset, false));
    found.ok_or_else(|| ClientError::Invalid(format!("nobody knows where '{}' begins", key.0)))
}
