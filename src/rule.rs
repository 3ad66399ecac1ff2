//! The rules that keep acknowledged records, by name, so that the simulator can leave one out and
//! show what is lost without it. `docs/replication.md` has the table. Outside of tests and the
//! simulator all hold, and asking costs nothing.

/// A rule that keeps acknowledged records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A record is committed when everybody has it who is in sync, or may be by now.
    MaximalIsr,
    /// Nothing is committed while fewer than `min.insync.replicas` are in sync.
    EnoughInSync,
    /// Who joins the in-sync replicas has all that a predecessor of the leader may have committed.
    JoinBeyondElection,
    /// Logs are cut where their epochs part, not at the follower's own high watermark (KIP-101).
    TruncateByEpoch,
    /// A fetch of another leader epoch is refused (KIP-320), and so is the answer of a leader that is
    /// none any more.
    FenceFetches,
    /// A follower fetches on only when what it has is synced, where the topic says so.
    SyncBeforeFetch,
    /// Consumers see committed records only.
    ReadCommitted,
    /// A leader does not tell where the log ends before it knows what its predecessor had committed
    /// (KIP-207).
    KnowBeforeTelling,
    /// A member of the in-sync replicas is named with its broker epoch (KIP-903).
    NameLives,
    /// A change of the in-sync replicas is made from the state that there is (KIP-497).
    CompareAndSet,
    /// Who left when too few were in sync stays electable (KIP-966).
    EligibleLeavers,
    /// Who lost records with its machine is not electable by what it had.
    LostIsLost,
    /// A restart of a broker is seen: it leaves the in-sync replicas before it comes back.
    SeeRestarts,
    /// A producer numbers what it sends, so that it is taken once (KIP-98).
    NumberBatches,
    /// A leader tells a producer that a batch before is missing only when no later leader can have it.
    KnowBeforeRefusing,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 15] = [
        Rule::MaximalIsr,
        Rule::EnoughInSync,
        Rule::JoinBeyondElection,
        Rule::TruncateByEpoch,
        Rule::FenceFetches,
        Rule::SyncBeforeFetch,
        Rule::ReadCommitted,
        Rule::KnowBeforeTelling,
        Rule::NameLives,
        Rule::CompareAndSet,
        Rule::EligibleLeavers,
        Rule::LostIsLost,
        Rule::SeeRestarts,
        Rule::NumberBatches,
        Rule::KnowBeforeRefusing,
    ];
}

/// True if the rule is kept.
#[cfg(not(any(test, feature = "simulation")))]
pub const fn holds(_: Rule) -> bool {
    true
}

#[cfg(any(test, feature = "simulation"))]
pub use self::switch::{holds, without};

#[cfg(any(test, feature = "simulation"))]
mod switch {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        static LEFT_OUT: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    /// True unless this thread leaves the rule out.
    pub fn holds(rule: Rule) -> bool {
        LEFT_OUT.get() != Some(rule)
    }

    /// Runs `work` on this thread without the rule.
    pub fn without<T>(rule: Option<Rule>, work: impl FnOnce() -> T) -> T {
        let before = LEFT_OUT.replace(rule);
        let done = work();
        LEFT_OUT.set(before);
        done
    }
}
