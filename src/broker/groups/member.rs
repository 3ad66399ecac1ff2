//! A member of a group, and how it comes to read what it is to read: it gives up what goes to another
//! first, and takes nothing that another has not given up (KIP-848, "reconciliation").

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::PartitionId;
use super::assignor::Assignor;
use super::group::GroupLimits;

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Its name that outlives its process; none if it has none (`group.instance.id`).
    pub instance_id: Option<String>,
    /// The name of its client (`client.id`).
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Its rack; empty if it has none.
    pub rack: String,
    /// How long it may take to give up what goes to another (`max.poll.interval.ms`).
    pub rebalance_timeout_ms: u32,
    /// The topics that it wants to read, there or not.
    pub topics: BTreeSet<String>,
    /// Of which pattern it wants to read all topics, too ([`super::pattern`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Which assignor it wants; none: it does not mind.
    pub assignor: Option<Assignor>,
    /// Set for one that speaks Kafka's classic protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classic: Option<Classic>,
}

/// What a member of Kafka's classic protocol says of itself besides.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classic {
    /// How long it may be silent (`session.timeout.ms`).
    pub session_timeout_ms: u32,
    /// The assignor that it was told to be used, of those that it knows.
    pub protocol: String,
    /// All that it knows, with those that no broker does.
    #[serde(default)]
    pub protocols: Vec<String>,
}

/// A member as the log has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// What it says of itself.
    pub profile: Profile,
    /// The epoch of the group up to which it has come. [`STATIC_LEAVE`]: it has left, and comes back under
    /// its instance id.
    pub epoch: i32,
    /// What it reads, each since the epoch in which it got it.
    #[serde(with = "pairs")]
    pub assigned: BTreeMap<PartitionId, i32>,
    /// What it must stop to read and has not yet said that it does, each since when it had it.
    #[serde(with = "pairs")]
    pub revoking: BTreeMap<PartitionId, i32>,
    /// What it is to read by the last assignment.
    pub target: BTreeSet<PartitionId>,
}

/// The epoch of a member that was not in the group before.
pub const JOIN: i32 = 0;
/// The epoch of one that leaves and is to come back, for which its partitions are kept.
pub const STATIC_LEAVE: i32 = -2;

/// A member, and what only the coordinator that serves now knows of it.
#[derive(Clone, Debug)]
pub struct Member {
    /// What the log has.
    pub state: MemberState,
    /// When it was last heard of.
    pub heard: Duration,
    /// How long ago its program had asked for records then.
    pub polled: Duration,
    /// What it has paused.
    pub paused: BTreeSet<PartitionId>,
    /// Since when it is to give something up, if it is.
    pub revoking_since: Option<Duration>,
    /// What it was told last.
    pub told: Told,
    /// The number of what it has said last.
    pub beat: u32,
    /// The number of its last commit.
    pub commit: u32,
}

/// What a member was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How often it was told what it is to read, since it said all of itself: what it says of an earlier
    /// time it says of less than it has been given by now.
    pub count: u32,
    /// Its epoch.
    pub epoch: i32,
    /// What it is to read.
    pub assigned: BTreeSet<PartitionId>,
}

impl Member {
    /// One that was heard of now.
    pub fn new(state: MemberState, now: Duration) -> Member {
        let revoking_since = (!state.revoking.is_empty()).then_some(now);
        Member {
            state,
            heard: now,
            polled: Duration::ZERO,
            paused: BTreeSet::new(),
            revoking_since,
            told: Told::default(),
            beat: 0,
            commit: 0,
        }
    }

    /// How long it may be silent.
    pub fn session_timeout(&self, limits: &GroupLimits) -> Duration {
        let own = self.state.profile.classic.as_ref().map(|classic| classic.session_timeout_ms);
        own.map_or(limits.session_timeout, |own| Duration::from_millis(own.into()))
    }
}

impl MemberState {
    /// True if it holds a partition, or has not said yet that it does not any more.
    pub fn holds(&self, partition: &PartitionId) -> bool {
        self.assigned.contains_key(partition) || self.revoking.contains_key(partition)
    }

    /// True if a member of this epoch may speak for a partition: it has had it since then at least.
    pub fn may_commit(&self, partition: &PartitionId, epoch: i32) -> bool {
        let since = self.assigned.get(partition).or_else(|| self.revoking.get(partition));
        since.is_some_and(|since| (*since..=self.epoch).contains(&epoch))
    }

    /// Takes the next step towards `target`, which is of `group_epoch`. `owned` is what the member says that
    /// it reads; none if it says nothing new. `is_free` tells whether no other member holds a
    /// partition.
    pub fn reconcile(
        &mut self,
        group_epoch: i32,
        owned: Option<&BTreeSet<PartitionId>>,
        is_free: impl Fn(&PartitionId) -> bool,
    ) {
        if owned.is_some_and(|owned| self.revoking.keys().all(|gone| !owned.contains(gone))) {
            self.revoking.clear();
        }
        if !self.revoking.is_empty() {
            return;
        }
        self.revoking =
            self.assigned.extract_if(.., |partition, _| !self.target.contains(partition)).collect();
        if !self.revoking.is_empty() {
            return;
        }
        self.epoch = group_epoch;
        for partition in &self.target {
            if !self.assigned.contains_key(partition) && is_free(partition) {
                self.assigned.insert(*partition, group_epoch);
            }
        }
    }

    /// True if it has all that it is to have, and nothing else.
    pub fn is_settled(&self, group_epoch: i32) -> bool {
        self.epoch == group_epoch
            && self.revoking.is_empty()
            && self.assigned.len() == self.target.len()
    }
}

/// Maps whose keys are no texts, as lists of pairs.
mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::PartitionId;

    pub fn serialize<S: Serializer>(
        map: &BTreeMap<PartitionId, i32>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<BTreeMap<PartitionId, i32>, D::Error> {
        Ok(Vec::<(PartitionId, i32)>::deserialize(from)?.into_iter().collect())
    }
}
