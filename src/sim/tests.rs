//! Thousands of runs.

use super::*;

#[test]
fn a_few_seeds_lose_nothing() {
    let from: u64 = std::env::var("SEED").ok().and_then(|t| t.parse().ok()).unwrap_or(0);
    let n: u64 = std::env::var("SEEDS").ok().and_then(|t| t.parse().ok()).unwrap_or(200);
    let start = std::time::Instant::now();
    for seed in from..from + n {
        let prints = std::env::var("TRACE").is_ok();
        let outcome = run(&Plan { prints, ..Plan::of(seed) });
        if outcome.violation.is_some() || n < 5 {
            println!("seed {seed}: {}\n{outcome:?}", outcome.violation.clone().unwrap_or_default());
        }
    }
    println!("{:?}", start.elapsed());
}
