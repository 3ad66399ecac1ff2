//! Thousands of runs, and the proof that they would find something.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::rule::{Rule, without};

/// For each rule a seed that fails without it. When what is simulated changes another seed may be
/// needed: `mksim --without RULE` finds one.
const CAUGHT: [(Rule, u64); Rule::ALL.len()] = [
    (Rule::MaximalIsr, 487),
    (Rule::EnoughInSync, 0),
    (Rule::JoinBeyondElection, 210),
    (Rule::TruncateByEpoch, 0),
    (Rule::FenceFetches, 110),
    (Rule::SyncBeforeFetch, 23),
    (Rule::ReadCommitted, 0),
    (Rule::KnowBeforeTelling, 1),
    (Rule::NameLives, 144482),
    (Rule::CompareAndSet, 835),
    (Rule::EligibleLeavers, 0),
    (Rule::LostIsLost, 16),
    (Rule::SeeRestarts, 0),
    (Rule::NumberBatches, 0),
    (Rule::KnowBeforeRefusing, 0),
];

/// As many seeds as `MK_SIM_SEEDS` says.
#[test]
fn thousands_of_seeds_lose_nothing() {
    let seeds = std::env::var("MK_SIM_SEEDS").ok().and_then(|text| text.parse().ok());
    let seeds: u64 = seeds.unwrap_or(5000);
    let (next, acknowledged, faults) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let outcome = run(&Plan::of(seed));
            assert_eq!(outcome.violation, None, "again: mksim --seed {seed} --trace");
            acknowledged.fetch_add(outcome.acknowledged, Ordering::Relaxed);
            faults.fetch_add(outcome.faults.values().sum(), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let (acknowledged, faults) = (acknowledged.into_inner(), faults.into_inner());
    println!("{seeds} seeds, {faults} faults, {acknowledged} records acknowledged");
    assert!(acknowledged > 100 * seeds && faults > 30 * seeds);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..20 {
        let (once, again) = (run(&Plan::of(seed)), run(&Plan::of(seed)));
        assert_eq!(once, again);
    }
    assert_ne!(run(&Plan::of(1)).trace_hash, run(&Plan::of(2)).trace_hash);
}

#[test]
fn each_rule_is_needed() {
    let page = include_str!("../../docs/replication.md");
    for (rule, seed) in CAUGHT {
        let outcome = without(Some(rule), || run(&Plan::of(seed)));
        let violation = outcome.violation.expect("the rule is needed");
        println!("without {rule:?} seed {seed} fails {}", violation.lines().next().unwrap_or(""));
        assert_eq!(run(&Plan::of(seed)).violation, None, "{rule:?}");
        let row = format!("`{rule:?}`");
        let row = page.lines().find(|line| line.contains(&row) && line.starts_with('|'));
        let row = row.unwrap_or_else(|| panic!("docs/replication.md has no row for {rule:?}"));
        assert!(row.contains(&format!("seed {seed} ")), "the page names another seed: {row}");
    }
}

/// All machines lose their power at once. With `flush=ack` nothing that was acknowledged is gone; with
/// `flush=os` something is, and it is counted.
#[test]
fn what_was_synced_outlives_a_power_failure_everywhere() {
    let lost = |flush| {
        let plans = (0..40).map(|seed| Plan { flush, ..Plan::of(seed) });
        let outcomes: Vec<Outcome> = plans.map(|plan| lose_power_everywhere(&plan)).collect();
        for outcome in &outcomes {
            assert_eq!(outcome.violation, None);
        }
        let sum = |of: fn(&Outcome) -> u64| outcomes.iter().map(of).sum::<u64>();
        let (acknowledged, lost) = (sum(|o| o.acknowledged), sum(|o| o.lost));
        println!("{flush:?}: {acknowledged} records acknowledged, {lost} lost");
        assert!(acknowledged > 20_000);
        lost
    };
    assert_eq!(lost(Flush::Ack), 0);
    assert!(lost(Flush::Os) > 0, "the disks of the simulation lose nothing");
}
