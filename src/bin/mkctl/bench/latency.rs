//! Latencies, by HDR histogram.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Latencies from 1 µs to 1 h, each within a thousandth.
#[derive(Clone)]
pub struct Latencies(Histogram<u64>);

const MOST_US: u64 = 3_600_000_000;
const SHOWN: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

impl Latencies {
    pub fn new() -> Latencies {
        let histogram = Histogram::new_with_bounds(1, MOST_US, 3);
        Latencies(histogram.expect("the bounds are those of a histogram"))
    }

    pub fn note(&mut self, latency: Duration) {
        self.0.saturating_record((latency.as_micros() as u64).clamp(1, MOST_US));
    }

    pub fn add(&mut self, other: &Latencies) {
        // Both have the same bounds.
        let _ = self.0.add(&other.0);
    }

    /// A line; times in ms.
    pub fn text(&self) -> String {
        let ms = |us: u64| us as f64 / 1e3;
        let shown =
            SHOWN.map(|(name, at)| format!("{name} {:.3}", ms(self.0.value_at_quantile(at))));
        format!("latency ms  {}  max {:.3}", shown.join("  "), ms(self.0.max()))
    }

    /// Times in µs.
    pub fn json(&self) -> Value {
        let shown = SHOWN.map(|(name, at)| (name.to_owned(), self.0.value_at_quantile(at).into()));
        let mut all: serde_json::Map<String, Value> = shown.into_iter().collect();
        all.insert("max".to_owned(), self.0.max().into());
        all.insert("mean".to_owned(), self.0.mean().into());
        json!(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_told_in_their_units() {
        let mut latencies = Latencies::new();
        let mut late = Latencies::new();
        (1..=99).for_each(|_| latencies.note(Duration::from_millis(2)));
        late.note(Duration::from_secs(4));
        latencies.add(&late);
        let text = latencies.text();
        assert!(text.starts_with("latency ms  p50 2.0"), "{text}");
        assert!(text.ends_with("max 4001.791") || text.contains("max 400"), "{text}");
        let json = latencies.json();
        assert_eq!(json["p90"].as_u64().unwrap() / 10, 200);
        assert!(json["max"].as_u64().unwrap() >= 4_000_000);
    }
}
