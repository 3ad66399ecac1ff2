//! How long to wait before the next try.

use std::time::{Duration, Instant};

/// Doubles from `retry.backoff.ms` to `retry.backoff.max.ms`, less up to a fifth, so that clients
/// that failed together do not come back together (KIP-580). The first is less than Kafka's 100 ms: a
/// failed leader is replaced in less.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    tries: u32,
    seed: u64,
}

const FIRST: Duration = Duration::from_millis(20);
const MOST: Duration = Duration::from_secs(1);

impl Backoff {
    /// No try has failed yet. `seed` tells clients apart.
    pub fn new(seed: u64) -> Backoff {
        Backoff { tries: 0, seed }
    }

    /// Takes note of a failure and answers how long to wait.
    pub fn failed(&mut self) -> Duration {
        let doubled = FIRST.saturating_mul(1 << self.tries.min(10)).min(MOST);
        self.tries = self.tries.saturating_add(1);
        // A step of splitmix64.
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.seed ^ (self.seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let per_mille = 800 + (mixed >> 32) % 201;
        doubled.mul_f64(per_mille as f64 / 1000.0)
    }
}

/// Waits until then; for ever, if there is no then.
pub async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_a_second() {
        let mut backoff = Backoff::new(7);
        let waits: Vec<_> = (0..20).map(|_| backoff.failed()).collect();
        assert!(waits[0] <= FIRST && waits[0] >= FIRST * 4 / 5);
        assert!(waits[1] >= FIRST * 8 / 5);
        assert!(waits[6..].iter().all(|wait| *wait <= MOST && *wait >= MOST * 4 / 5));
        assert!(waits[7..].windows(2).any(|pair| pair[0] != pair[1]));
    }
}
