//! The rules that keep acknowledged records, by name, so that a test can leave one out and show
//! that something is lost without it (`images/`). Outside of this crate's tests all hold, and
//! asking costs nothing.

/// A rule that keeps acknowledged records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Safeguard {
    /// `synced` moves only after the files are synced.
    SyncBeforeAck,
    /// A checkpoint tells of what is synced, and of no more.
    CheckpointAfterSync,
    /// The names of new files are synced with what is in them.
    SyncNames,
    /// A cut is on the disk before it is reported.
    SyncCut,
    /// Recovery takes a batch only at the offset that follows.
    Contiguity,
    /// After a failed sync nothing more is taken or acknowledged.
    Poison,
    /// What recovery finds beyond the recovery point is written again before it counts as synced.
    Rewrite,
    /// Before records are cut, the recovery point goes back.
    CheckpointBeforeCut,
    /// A compacted segment is synced before it takes the place of others.
    SyncCleaned,
    /// That it does is on the disk before the others are removed.
    SyncSwap,
    /// That they are removed is on the disk before it has the name of one of them.
    SyncRemovals,
    /// Older segments are compacted first.
    OldestFirst,
    /// What is known of producers behind the end of the log is forgotten.
    CutSnapshots,
    /// What was known of producers before the first segment is not believed.
    SnapshotsInside,
    /// A compaction keeps the last batch of each producer, if without a record.
    KeepLastOfProducer,
}

/// True if the rule is kept.
#[cfg(not(test))]
pub(crate) const fn holds(_: Safeguard) -> bool {
    true
}

#[cfg(test)]
pub(crate) use self::switch::{ALL, holds, without};

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use super::Safeguard;

    pub(crate) const ALL: [Safeguard; 15] = [
        Safeguard::SyncBeforeAck,
        Safeguard::CheckpointAfterSync,
        Safeguard::SyncNames,
        Safeguard::SyncCut,
        Safeguard::Contiguity,
        Safeguard::Poison,
        Safeguard::Rewrite,
        Safeguard::CheckpointBeforeCut,
        Safeguard::SyncCleaned,
        Safeguard::SyncSwap,
        Safeguard::SyncRemovals,
        Safeguard::OldestFirst,
        Safeguard::CutSnapshots,
        Safeguard::SnapshotsInside,
        Safeguard::KeepLastOfProducer,
    ];

    thread_local! {
        static LEFT_OUT: Cell<Option<Safeguard>> = const { Cell::new(None) };
    }

    /// True unless this thread leaves the rule out.
    pub(crate) fn holds(safeguard: Safeguard) -> bool {
        LEFT_OUT.get() != Some(safeguard)
    }

    /// Runs `work` on this thread without the rule.
    pub(crate) fn without<T>(safeguard: Safeguard, work: impl FnOnce() -> T) -> T {
        LEFT_OUT.set(Some(safeguard));
        let done = work();
        LEFT_OUT.set(None);
        done
    }
}
