//! Counts numbers in buckets, so that a billion of them take as much room as ten.

/// Buckets for each power of two: a bucket's bounds are less than 1/16 apart.
const STEPS: u64 = 16;
const BUCKETS: usize = (STEPS * 61) as usize;

/// How often which numbers came. Least and most are exact, what is between to 1 in 16.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    least: u64,
    most: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], count: 0, least: u64::MAX, most: 0 }
    }
}

impl Histogram {
    /// Counts a number.
    pub fn add(&mut self, number: u64) {
        if let Some(count) = self.counts.get_mut(bucket(number)) {
            *count += 1;
        }
        self.count += 1;
        self.least = self.least.min(number);
        self.most = self.most.max(number);
    }

    /// Counts all that the other has counted.
    pub fn merge(&mut self, other: &Histogram) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }

    /// The number that `percent` of all do not exceed; `None` if there was none.
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let rank = (u128::from(self.count) * u128::from(percent)).div_ceil(100) as u64;
        let mut seen = 0;
        let mut counts = self.counts.iter().enumerate();
        let (at, _) = counts.find(|(_, count)| {
            seen += **count;
            seen >= rank.max(1)
        })?;
        Some(largest(at as u64).clamp(self.least, self.most))
    }

    /// Least, median, 99th percentile and most.
    pub fn summary(&self) -> Option<[u64; 4]> {
        Some([self.least, self.percentile(50)?, self.percentile(99)?, self.most])
    }
}

/// Below [`STEPS`] a bucket for each number; then `STEPS` for each power of two.
fn bucket(number: u64) -> usize {
    if number < STEPS {
        return number as usize;
    }
    let power = u64::from(number.ilog2()) - 4;
    (STEPS * (power + 1) + ((number >> power) - STEPS)) as usize
}

/// The largest number of a bucket.
fn largest(bucket: u64) -> u64 {
    if bucket < STEPS {
        return bucket;
    }
    let (power, step) = (bucket / STEPS - 1, bucket % STEPS);
    ((STEPS + step) << power) | ((1 << power) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_cover_all_numbers_without_gaps() {
        for bits in 0..64 {
            for number in [1u64 << bits, (1 << bits) + (1 << bits) / 3, u64::MAX >> bits] {
                let at = bucket(number);
                assert!(at < BUCKETS, "{number}");
                assert!(largest(at as u64) >= number, "{number}");
                assert!(at == 0 || largest(at as u64 - 1) < number, "{number}");
            }
        }
    }

    #[test]
    fn percentiles_are_right_to_one_in_sixteen() {
        assert_eq!(Histogram::default().summary(), None);
        let mut halves = [Histogram::default(), Histogram::default()];
        for number in 1..=1000 {
            halves[number as usize % 2].add(number);
        }
        let [mut all, odd] = halves;
        all.merge(&odd);
        let [least, median, p99, most] = all.summary().unwrap();
        assert_eq!((least, most), (1, 1000));
        assert!((500..532).contains(&median) && (990..=1000).contains(&p99), "{median} {p99}");
    }
}
