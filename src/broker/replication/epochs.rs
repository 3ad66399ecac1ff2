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

/// What a leader with this log answers to a follower whose log ends at `offset` with a record of
/// `last_epoch`: none if its log is a beginning of the leader's; else where the leader's log parts
/// from it, as far as the leader can tell.
pub fn divergence(
    epochs: &[(Epoch, Offset)],
    log_end: Offset,
    offset: Offset,
    last_epoch: Epoch,
) -> Option<EpochEnd> {
    // A follower without a record has nothing that could differ.
    let ours = epoch_end(epochs, log_end, last_epoch)?;
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
    /// many records it took, and how many of its own the other fetched, if it fetched at all.
    fn logs() -> impl Strategy<Value = (Vec<i32>, Vec<i32>)> {
        let leader = (any::<bool>(), 0usize..4, prop::option::of(0usize..20));
        prop::collection::vec(leader, 1..10).prop_map(|leaders| {
            let (mut leader, mut other) = (Vec::new(), Vec::new());
            for (epoch, (swap, appended, fetched)) in (0..).zip(leaders) {
                if swap {
                    std::mem::swap(&mut leader, &mut other);
                }
                leader.extend(std::iter::repeat_n(epoch, appended));
                if let Some(fetched) = fetched {
                    let common = leader.iter().zip(&other).take_while(|(a, b)| a == b).count();
                    other = leader[..fetched.clamp(common, leader.len())].to_vec();
                }
            }
            (leader, other)
        })
    }

    fn epochs_of(log: &[i32]) -> Vec<(Epoch, Offset)> {
        let mut epochs: Vec<(Epoch, Offset)> = Vec::new();
        for (offset, epoch) in (0..).zip(log) {
            if epochs.last().is_none_or(|(last, _)| last.0 < *epoch) {
                epochs.push((Epoch(*epoch), Offset(offset)));
            }
        }
        epochs
    }

    proptest! {
        /// An epoch has one leader, so a record is known by epoch and offset: two logs are the same
        /// up to the last record that both have.
        #[test]
        fn a_follower_ends_with_a_beginning_of_the_leaders_log(
            (leader, follower) in logs(),
        ) {
            let mut follower = follower;
            let before = follower.clone();
            let leader_epochs = epochs_of(&leader);
            let leader_end = Offset(leader.len() as u64);
            for round in 0.. {
                prop_assert!(round < 50, "it comes to an end");
                let end = Offset(follower.len() as u64);
                let Some(last) = follower.last() else { break };
                let told = divergence(&leader_epochs, leader_end, end, Epoch(*last));
                let told = match told {
                    Some(told) => told,
                    // The leader has no epoch so old: nothing of this log is in its own.
                    None if leader_epochs.first().is_none_or(|(first, _)| first.0 > *last) => {
                        follower.clear();
                        break;
                    }
                    None => break,
                };
                let cut = cut_to(&epochs_of(&follower), end, told);
                prop_assert!(cut < end, "{told:?} cuts nothing of {follower:?}");
                follower.truncate(cut.0 as usize);
            }
            prop_assert!(leader.starts_with(&follower), "{follower:?} of {leader:?}");
            let common = leader.iter().zip(&before).take_while(|(a, b)| a == b).count();
            prop_assert_eq!(follower.len(), common, "no more is cut than differs");
        }
    }
}
