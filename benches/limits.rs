//! How near the machine's limits mk is: each row measures the limit and ours in turns, in this
//! very run, and prints the ratio of the medians. `cargo bench --bench limits`.
//!
//! Numbers of one run only can be compared: on a shared machine the limit itself moves.
//! Every trial has a fresh log, which is removed before it must reach the disk: what is compared
//! is the way into the page cache, not the disk behind it (but in durable and append-tail).
//! `cargo bench --bench limits -- append` measures some of append, append-tail, durable, recover,
//! produce, consume, round-trip, end-to-end.
//! MK_LIMITS_BYTES is how much each trial moves (default 512 MiB), MK_LIMITS_TRIALS how many.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on must fail")]

#[path = "limits/append.rs"]
mod append;
#[path = "limits/append_tail.rs"]
mod append_tail;
mod common;
#[path = "limits/consume.rs"]
mod consume;
#[path = "limits/durable.rs"]
mod durable;
#[path = "limits/end_to_end.rs"]
mod end_to_end;
#[path = "limits/files.rs"]
mod files;
#[path = "limits/produce.rs"]
mod produce;
#[path = "limits/recover.rs"]
mod recover;
#[path = "limits/round_trip.rs"]
mod round_trip;

use std::time::{Duration, Instant};

/// A comparison. Larger is better, but for a time.
pub struct Row {
    name: String,
    limit: f64,
    ours: f64,
    unit: &'static str,
    goal: Option<Goal>,
}

enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

fn main() {
    // Cargo runs benches as tests, too, with this flag: then once, and little.
    let quick = std::env::args().any(|arg| arg == "--test");
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let bytes = number("MK_LIMITS_BYTES", if quick { 16 << 20 } else { 512 << 20 });
    let trials = number("MK_LIMITS_TRIALS", if quick { 1 } else { 7 }) as usize;
    let plan = Plan { bytes, trials };
    let groups: [(&str, Group); 8] = [
        ("append", append::rows),
        ("append-tail", append_tail::rows),
        ("durable", durable::rows),
        ("recover", recover::rows),
        ("produce", produce::rows),
        ("consume", consume::rows),
        ("round-trip", round_trip::rows),
        ("end-to-end", end_to_end::rows),
    ];
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let chosen = groups.into_iter().filter(|(name, _)| wanted(name));
    let rows: Vec<Row> = chosen.flat_map(|(_, rows)| rows(plan)).collect();
    println!("{:<76} {:>14} {:>14} {:>7} {:>9}", "", "limit", "ours", "ratio", "goal");
    for row in rows {
        let ratio = row.ours / row.limit;
        let (goal, reached) = match row.goal {
            Some(Goal::AtLeast(goal)) => (format!(">= {goal}"), ratio >= goal),
            Some(Goal::AtMost(goal)) => (format!("<= {goal}"), ratio <= goal),
            None => ("-".to_owned(), true),
        };
        let below = if reached { "" } else { "  below" };
        let number = |value: f64| format!("{value:.2} {}", row.unit);
        println!(
            "{:<76} {:>14} {:>14} {ratio:>7.2} {goal:>9}{below}",
            row.name,
            number(row.limit),
            number(row.ours)
        );
    }
}

/// Measures some rows.
type Group = fn(Plan) -> Vec<Row>;

/// How much is measured.
#[derive(Clone, Copy)]
pub struct Plan {
    pub bytes: u64,
    pub trials: usize,
}

impl Plan {
    /// GB/s of the limit and of ours, measured in turns: medians.
    pub fn compare(
        self,
        mut limit: impl FnMut(u64) -> Moved,
        mut ours: impl FnMut(u64) -> Moved,
    ) -> (f64, f64) {
        let all = self.in_turns([&mut || limit(self.bytes), &mut || ours(self.bytes)]);
        let [limit, ours] = all.map(|moved| median_of(&moved, Moved::rate));
        (limit, ours)
    }

    /// What each answers in each trial, one after the other in every trial.
    pub fn in_turns<T, const N: usize>(self, mut sides: [&mut dyn FnMut() -> T; N]) -> [Vec<T>; N] {
        let mut answers = [const { Vec::new() }; N];
        for _ in 0..self.trials {
            for (side, answers) in sides.iter_mut().zip(&mut answers) {
                answers.push(side());
            }
        }
        answers
    }
}

/// So many bytes in so much time.
pub struct Moved {
    pub bytes: u64,
    time: Duration,
}

/// Times what answers how many bytes it moved.
pub fn timed(run: impl FnOnce() -> u64) -> Moved {
    let start = Instant::now();
    let bytes = run();
    Moved { bytes, time: start.elapsed() }
}

impl std::iter::Sum for Moved {
    fn sum<I: Iterator<Item = Moved>>(all: I) -> Moved {
        let nothing = Moved { bytes: 0, time: Duration::ZERO };
        all.fold(nothing, |a, b| Moved { bytes: a.bytes + b.bytes, time: a.time + b.time })
    }
}

impl Moved {
    /// GB/s.
    pub fn rate(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64() / 1e9
    }
}

pub fn median_of<T>(trials: &[T], value: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = trials.iter().map(value).collect();
    median(&mut values)
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
