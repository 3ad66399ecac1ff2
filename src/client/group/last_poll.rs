//! When the program has last asked for records: a program that hangs keeps its partitions, for the driver
//! goes on without it, and whoever looks at the group is to see that.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// When that was.
#[derive(Debug)]
pub struct LastPoll(Mutex<State>);

#[derive(Debug)]
struct State {
    /// It waits for records now.
    asking: bool,
    /// When it has last begun or ended to wait.
    at: Instant,
}

/// While this lives the program waits for records.
#[derive(Debug)]
pub struct Asking<'a>(&'a LastPoll);

impl Default for LastPoll {
    fn default() -> LastPoll {
        LastPoll(Mutex::new(State { asking: false, at: Instant::now() }))
    }
}

impl LastPoll {
    /// The program begins to wait.
    pub fn begin(&self) -> Asking<'_> {
        self.0.lock().asking = true;
        Asking(self)
    }

    /// How long ago it has last waited; zero: it does.
    pub fn age(&self) -> Duration {
        let State { asking, at } = *self.0.lock();
        if asking { Duration::ZERO } else { at.elapsed() }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        *self.0.0.lock() = State { asking: false, at: Instant::now() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_asks_now() {
        let poll = LastPoll::default();
        let before = Instant::now();
        let asking = poll.begin();
        assert_eq!(poll.age(), Duration::ZERO);
        drop(asking);
        assert!(poll.age() <= before.elapsed());
        assert!(!poll.0.lock().asking);
    }
}
