//! What happened, as a number and, if somebody reads it, as text.

use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::time::Duration;

/// The trace of a run. Runs of the same seed have the same hash.
#[derive(Debug)]
pub struct Trace {
    hasher: DefaultHasher,
    events: u64,
    prints: bool,
}

impl Trace {
    /// An empty trace; it prints what happens if `prints`.
    pub fn new(prints: bool) -> Trace {
        Trace { hasher: DefaultHasher::new(), events: 0, prints }
    }

    /// Something happened, with numbers that would differ if another thing had.
    pub fn note(&mut self, now: Duration, numbers: [u64; 4], text: impl FnOnce() -> String) {
        self.events += 1;
        self.hasher.write_u64(now.as_nanos() as u64);
        for number in numbers {
            self.hasher.write_u64(number);
        }
        if self.prints {
            self.print(now, format_args!("{}", text()));
        }
    }

    /// Something for readers alone.
    pub fn say(&self, now: Duration, text: impl FnOnce() -> String) {
        if self.prints {
            self.print(now, format_args!("{}", text()));
        }
    }

    #[allow(clippy::print_stdout, reason = "a trace is asked for")]
    fn print(&self, now: Duration, text: fmt::Arguments<'_>) {
        println!("{:>11.3} ms  {text}", now.as_secs_f64() * 1000.0);
    }

    /// How many events there were, and their hash.
    pub fn finish(&self) -> (u64, u64) {
        (self.events, self.hasher.finish())
    }
}
