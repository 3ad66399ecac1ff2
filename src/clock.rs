//! What time it is.

use std::time::{Duration, Instant, SystemTime};

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    since_1970().as_millis() as i64
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The time of day for those who know the time since some moment already, and ask often.
#[derive(Debug)]
pub struct TimeOfDay {
    /// When it was asked for last.
    asked: Instant,
    then: Duration,
}

/// So long it goes on from when it was asked for last.
const ASK_EVERY: Duration = Duration::from_millis(10);

impl TimeOfDay {
    /// Asks for it.
    pub fn new() -> TimeOfDay {
        TimeOfDay { asked: Instant::now(), then: since_1970() }
    }

    /// Milliseconds since 1970 at `now`.
    pub fn ms(&mut self, now: Instant) -> i64 {
        if now.saturating_duration_since(self.asked) >= ASK_EVERY {
            *self = TimeOfDay::new();
        }
        (self.then + now.saturating_duration_since(self.asked)).as_millis() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_what_the_system_says() {
        let mut time = TimeOfDay::new();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(30) {
            let (before, told) = (now_ms(), time.ms(Instant::now()));
            assert!((before - 1..=now_ms() + 1).contains(&told), "{before} {told}");
        }
    }
}
