//! How much there was of something lately.

/// Seconds that a rate is over.
const WINDOW: usize = 10;

/// How much there was in each of the last seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    seconds: [u64; WINDOW],
    /// The second that was counted last.
    last: u64,
}

impl Rate {
    /// There was so much of it in this second.
    pub fn add(&mut self, second: u64, amount: u64) {
        self.pass(second);
        self.seconds[second as usize % WINDOW] += amount;
    }

    /// Forgets what is out of the window by now.
    fn pass(&mut self, second: u64) {
        let passed = second.saturating_sub(self.last).min(WINDOW as u64);
        for gone in 0..passed {
            self.seconds[(second - gone) as usize % WINDOW] = 0;
        }
        self.last = self.last.max(second);
    }

    /// A second's share of what is in the window; of a connection that is younger, of its age.
    pub fn per_second(&self, second: u64) -> u64 {
        let mut now = *self;
        now.pass(second);
        now.seconds.iter().sum::<u64>() / (second + 1).min(WINDOW as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let mut rate = Rate::default();
        assert_eq!(rate.per_second(0), 0);
        rate.add(0, 50);
        rate.add(0, 50);
        assert_eq!(rate.per_second(0), 100, "of the first second");
        assert_eq!(rate.per_second(3), 25, "of four");
        for second in 4..20 {
            rate.add(second, 10);
        }
        assert_eq!(rate.per_second(19), 10);
        assert_eq!(rate.per_second(24), 5);
        assert_eq!(rate.per_second(40), 0);
        rate.add(1000, 70);
        assert_eq!(rate.per_second(1000), 7);
    }
}
