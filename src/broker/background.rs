//! Threads that do something now and then, until they are told to end.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::error;

/// A thread in the background. [`Background::stop`] ends it.
pub struct Background {
    end: Sender<()>,
    thread: JoinHandle<()>,
}

/// Tells a thread when it is to end.
pub struct Ending {
    end: Receiver<()>,
    near: bool,
}

/// Holds work to so many bytes a second.
pub struct Throttle {
    /// Bytes a second; none: as many as there are.
    rate: Option<u64>,
    /// Bytes since the last pause.
    bytes: u64,
}

/// Work is paused whenever it has done what it may in this time.
const SLICE: Duration = Duration::from_millis(50);

/// By so much a thread in the background stands back behind those that serve, where the system
/// knows priorities of threads: it gets a tenth of a core that others want, and all that they leave.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

impl Background {
    /// Starts a thread of this name.
    pub fn start(
        name: &str,
        work: impl FnOnce(Ending) + Send + 'static,
    ) -> std::io::Result<Background> {
        let (end, ended) = mpsc::channel();
        let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
            stand_back();
            work(Ending { end: ended, near: false });
        })?;
        Ok(Background { end, thread })
    }

    /// Ends the thread as soon as it looks whether it is to end.
    pub fn stop(self) {
        drop(self.end);
        let name = self.thread.thread().name().unwrap_or_default().to_owned();
        if self.thread.join().is_err() {
            error!(name, "a thread in the background has panicked");
        }
    }
}

impl Ending {
    /// Waits so long, or until the thread is to end; true if it is.
    pub fn wait(&mut self, time: Duration) -> bool {
        if !self.near {
            self.near = self.end.recv_timeout(time) == Err(RecvTimeoutError::Disconnected);
        }
        self.near
    }

    /// True if the thread is to end.
    pub fn is_near(&mut self) -> bool {
        self.wait(Duration::ZERO)
    }
}

impl Throttle {
    /// So many bytes a second, or as many as there are.
    pub fn new(rate: Option<u64>) -> Throttle {
        Throttle { rate, bytes: 0 }
    }

    /// Takes note of bytes; how long to wait before there are more.
    pub fn pause(&mut self, bytes: usize) -> Duration {
        let Some(rate) = self.rate else { return Duration::ZERO };
        self.bytes += bytes as u64;
        let time = Duration::from_secs_f64(self.bytes as f64 / rate.max(1) as f64);
        if time < SLICE {
            return Duration::ZERO;
        }
        self.bytes = 0;
        time
    }
}

/// Lowers the priority of this thread.
pub fn stand_back() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::debug!(%error, "a thread in the background keeps its priority");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_held_to_its_rate() {
        let mut throttle = Throttle::new(Some(1000));
        let waits: Vec<_> = (0..10).map(|_| throttle.pause(10).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 50, 0, 0, 0, 0, 50]);
        assert_eq!(throttle.pause(3000), Duration::from_secs(3));
        assert_eq!(Throttle::new(None).pause(usize::MAX), Duration::ZERO);
    }

    #[test]
    fn a_thread_ends_in_the_middle_of_a_wait() {
        let thread = Background::start("test", |mut ending| {
            assert!(!ending.is_near());
            assert!(ending.wait(Duration::from_secs(600)));
            assert!(ending.is_near());
        });
        thread.unwrap().stop();
    }
}
