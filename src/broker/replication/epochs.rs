//! Where two logs part: found by leader epochs, never by the high watermark (KIP-101, KIP-279).

use mk_storage::{Epoch, Offset};

/// An epoch, and the offset behind its last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch.
    pub epoch: Epoch,
    /// Where the next one begins, or the log ends.
    pub end: Offset,
}

/// The largest epoch up to `asked` that a log has, and where it ends there; none if the log has none
/// so old. `epochs` tells where each epoch begins, increasing, in a log that ends at `log_end`.
pub fn epoch_end(epochs: &[(Epoch, Offset)], log_end: Offset, asked: Epoch) -> Option<EpochEnd> {
    let after = epochs.partition_point(|(epoch, _)| *epoch <= asked);
    let (epoch, _) = *epochs.get(after.checked_sub(1)?)?;
    let end = epochs.get(after).map_or(log_end, |(_, next)| *next);
    Some(EpochEnd { epoch, end })
}

/// The same in a log from `start` to `end`; an epoch of which the log has nothing any more ends at the start. One that
/// ended before the start says nothing else: perhaps none of its records was ever committed.
pub fn end_from(
    epochs: &[(Epoch, Offset)],
    (start, end): (Offset, Offset),
    asked: Epoch,
) -> EpochEnd {
    let gone = EpochEnd { epoch: asked, end: start };
    epoch_end(epochs, end, asked).filter(|ours| ours.end > start).unwrap_or(gone)
}

/// What a leader with this log, from `start` to `end`, answers to a follower whose log ends at `offset`
/// with a record of `last_epoch`: none if all that the follower has from the leader's start on is the
/// leader's; else where the leader's log parts from it, as far as the leader can tell.
pub fn divergence(
    epochs: &[(Epoch, Offset)],
    (start, end): (Offset, Offset),
    offset: Offset,
    last_epoch: Epoch,
) -> Option<EpochEnd> {
    // Where the leader has nothing so old any more, they have nothing in common behind its start.
    let ours = end_from(epochs, (start, end), last_epoch);
    let same = ours.epoch == last_epoch && offset <= ours.end;
    (!same).then_some(ours)
}

/// Where a follower with this log cuts it, told where the leader's parts from it: never below what
/// both have, and so far that asking again comes to an end.
pub fn cut_to(epochs: &[(Epoch, Offset)], log_end: Offset, leader: EpochEnd) -> Offset {
    match epoch_end(epochs, log_end, leader.epoch) {
        // Both have the epoch: up to where the first of them ends they have the same.
        Some(ours) if ours.epoch == leader.epoch => ours.end.min(leader.end),
        // All that this log has of older epochs may be the leader's; it asks again from there.
        Some(ours) => ours.end,
        None => epochs.first().map_or(log_end, |(_, first)| *first).min(leader.end),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(entries: &[(i32, u64)]) -> Vec<(Epoch, Offset)> {
        entries.iter().map(|(epoch, start)| (Epoch(*epoch), Offset(*start))).collect()
    }

    fn end(epoch: i32, end: u64) -> Option<EpochEnd> {
        Some(EpochEnd { epoch: Epoch(epoch), end: Offset(end) })
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let epochs = table(&[(1, 0), (3, 10), (4, 15)]);
        let cases = [(0, None), (1, end(1, 10)), (2, end(1, 10)), (3, end(3, 15)), (9, end(4, 20))];
        for (asked, expected) in cases {
            assert_eq!(epoch_end(&epochs, Offset(20), Epoch(asked)), expected, "{asked}");
        }
    }

    /// Records of two replicas by their epochs, after some leaders: of each, which of the two led, how
    /// many records it took, and how many of its own the other fetched, if it fetched at all; and how
    /// many of what both have the last leader has deleted.
    fn logs() -> impl Strategy<Value = (Vec<i32>, Vec<i32>, usize)> {
        let leader = (any::<bool>(), 0usize..4, prop::option::of(0usize..20));
        let leaders = prop::collection::vec(leader, 1..10);
        (leaders, 0usize..20).prop_map(|(leaders, deleted)| {
            let (mut leader, mut other) = (Vec::new(), Vec::new());
            for (epoch, (swap, appended, fetched)) in (0..).zip(leaders) {
                if swap {
                    std::mem::swap(&mut leader, &mut other);
                }
                leader.extend(std::iter::repeat_n(epoch, appended));
                if let Some(fetched) = fetched {
                    let common = in_common(&leader, &other);
                    other = leader[..fetched.clamp(common, leader.len())].to_vec();
                }
            }
            let deleted = deleted.min(in_common(&leader, &other));
            (leader, other, deleted)
        })
    }

    fn in_common(one: &[i32], other: &[i32]) -> usize {
        one.iter().zip(other).take_while(|(a, b)| a == b).count()
    }

    /// Where the epochs of a log begin that has lost its first records.
    fn epochs_of(log: &[i32], start: usize) -> Vec<(Epoch, Offset)> {
        let mut epochs: Vec<(Epoch, Offset)> = Vec::new();
        for (offset, epoch) in (0..).zip(log).skip(start) {
            if epochs.last().is_none_or(|(last, _)| last.0 < *epoch) {
                epochs.push((Epoch(*epoch), Offset(offset)));
            }
        }
        epochs
    }

    /// All of a leader's records had been deleted but none of a follower's, which had two more that
    /// were never committed. The leader had no epoch to compare, and took the follower in.
    #[test]
    fn a_leader_without_old_records_has_no_more_in_common() {
        let at = |offset| Offset(offset);
        let empty = divergence(&[], (at(136), at(136)), at(138), Epoch(2));
        assert_eq!(empty, end(2, 136));
        assert_eq!(cut_to(&table(&[(1, 0), (2, 17)]), at(138), empty.unwrap()), at(136));
        let younger = table(&[(4, 136)]);
        assert_eq!(divergence(&younger, (at(136), at(140)), at(138), Epoch(2)), end(2, 136));
        assert_eq!(divergence(&younger, (at(136), at(140)), at(136), Epoch(2)), None);
        assert_eq!(divergence(&younger, (at(136), at(140)), at(20), Epoch(2)), None);
    }

    /// A replica whose records were never committed was given the leader's start, for all records before it
    /// had been deleted, and led later. It compared by the epoch of what it had had, and had a follower
    /// cut all of its own. Found by the simulator, seed 11699.
    #[test]
    fn an_epoch_that_ended_before_the_start_says_nothing() {
        let leader = table(&[(1, 0), (3, 2), (4, 12)]);
        let told = divergence(&leader, (Offset(2), Offset(13)), Offset(4), Epoch(2));
        assert_eq!(told, end(2, 2));
        assert_eq!(cut_to(&table(&[(2, 0)]), Offset(4), told.unwrap()), Offset(2));
    }

    proptest! {
        /// An epoch has one leader, so a record is known by epoch and offset: two logs are the same
        /// up to the last record that both have.
        #[test]
        fn a_follower_ends_with_a_beginning_of_the_leaders_log(
            (leader, follower, deleted) in logs(),
        ) {
            let mut follower = follower;
            let before = follower.clone();
            let leader_epochs = epochs_of(&leader, deleted);
            let bounds = (Offset(deleted as u64), Offset(leader.len() as u64));
            for round in 0.. {
                prop_assert!(round < 50, "it comes to an end");
                let end = Offset(follower.len() as u64);
                let Some(last) = follower.last() else { break };
                let told = divergence(&leader_epochs, bounds, end, Epoch(*last));
                let Some(told) = told else { break };
                let cut = cut_to(&epochs_of(&follower, 0), end, told);
                prop_assert!(cut < end, "{told:?} cuts nothing of {follower:?}");
                follower.truncate(cut.0 as usize);
            }
            prop_assert!(leader.starts_with(&follower), "{follower:?} of {leader:?}");
            let common = in_common(&leader, &before);
            prop_assert_eq!(follower.len(), common, "no more is cut than differs");
        }
    }
}
