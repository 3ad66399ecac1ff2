//! Which replica of a partition a consumer asks (KIP-392): the one that the leader has named, for a while,
//! and the leader again as soon as anything is wrong with that.

use std::time::{Duration, Instant};

/// Whom a consumer asks for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Source {
    /// Its leader, for records.
    Leader,
    /// Its leader, for records or for a replica that is nearer.
    LeaderForNearest,
    /// A replica that the leader has named.
    Replica(u32),
}

impl Source {
    /// The epoch that whoever is asked must know of, -1 for any: the leader of `known_epoch` is known, and
    /// what was read last is of `read_epoch`. A replica may have served records of a later leader than the
    /// one that is known, who does not have them.
    pub fn epoch_to_ask(self, known_epoch: i32, read_epoch: i32) -> i32 {
        match self {
            Source::Leader | Source::LeaderForNearest if known_epoch < read_epoch => read_epoch,
            _ => -1,
        }
    }
}

/// What a consumer knows of the replicas of a partition.
#[derive(Clone, Copy, Debug)]
pub(super) enum Nearest {
    /// Nobody is nearer than the leader, or the leader was not asked yet.
    Unknown,
    /// The leader has named this one.
    Named { replica: u32, until: Instant },
    /// What was named did not serve: until then the leader is not asked for another.
    Failed { until: Instant },
}

/// The leader is asked again so often: a replica that has lost touch with it may not know, and has
/// nothing new for those who read from it.
const LEASE: Duration = Duration::from_secs(5);
/// How long a replica holds a fetch that finds nothing, however long a leader would.
pub(super) const REPLICA_WAIT: Duration = Duration::from_secs(1);
/// A replica that has not answered so much later is left: unlike a leader it is replaced by nobody.
pub(super) const REPLICA_PATIENCE: Duration = Duration::from_secs(2);

impl Nearest {
    /// Whom to ask now.
    pub fn source(self, now: Instant) -> Source {
        match self {
            Nearest::Named { replica, until } if now < until => Source::Replica(replica),
            Nearest::Failed { until } if now < until => Source::Leader,
            _ => Source::LeaderForNearest,
        }
    }

    /// The leader has named a replica.
    pub fn named(replica: u32, now: Instant) -> Nearest {
        Nearest::Named { replica, until: now + LEASE }
    }

    /// The replica that was named does not serve.
    pub fn failed(now: Instant) -> Nearest {
        Nearest::Failed { until: now + LEASE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A consumer had read from a replica what a new leader had taken. It went back to the leader that it knew,
    /// which was cut off and did not know that it led no more; that one said that there was no such
    /// offset.
    #[test]
    fn a_leader_must_know_of_the_epoch_that_was_read() {
        for leader in [Source::Leader, Source::LeaderForNearest] {
            assert_eq!(leader.epoch_to_ask(1, 2), 2);
            assert_eq!(leader.epoch_to_ask(2, 2), -1);
            assert_eq!(leader.epoch_to_ask(3, 2), -1, "old records are read from new leaders");
            assert_eq!(leader.epoch_to_ask(-1, -1), -1);
        }
        assert_eq!(Source::Replica(2).epoch_to_ask(1, 2), -1);
    }

    #[test]
    fn what_is_named_is_asked_for_a_while_and_not_after_it_has_failed() {
        let now = Instant::now();
        assert_eq!(Nearest::Unknown.source(now), Source::LeaderForNearest);
        let named = Nearest::named(7, now);
        assert_eq!(named.source(now), Source::Replica(7));
        assert_eq!(named.source(now + LEASE), Source::LeaderForNearest);
        let failed = Nearest::failed(now);
        assert_eq!(failed.source(now), Source::Leader);
        assert_eq!(failed.source(now + LEASE), Source::LeaderForNearest);
    }
}
