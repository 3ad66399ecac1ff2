//! A thread that seals closed segments, and checks sealed ones against their seals, slowly and for
//! ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mk_storage::error::SealError;
use mk_storage::log::Log;
use mk_storage::segment::Segment;
use tracing::{debug, error};

use super::background::{Background, Ending, Throttle};
use super::partition::Partition;
use super::shared::Shared;

/// What the scrubber has done since the broker started.
#[derive(Debug, Default)]
pub struct ScrubCounters {
    /// Segments that were sealed.
    pub sealed: AtomicU64,
    /// Segments that were checked against their seal.
    pub checked: AtomicU64,
    /// Bytes that were checked against a seal.
    pub checked_bytes: AtomicU64,
    /// Segments that were found damaged.
    pub damaged: AtomicU64,
}

struct Scrubbing {
    shared: Arc<Shared>,
    ending: Ending,
    throttle: Throttle,
    /// True if sealed segments are checked.
    checks: bool,
    /// From the start of one round through all segments to the start of the next.
    interval: Duration,
}

/// How often it looks for segments to seal.
const LOOK: Duration = Duration::from_secs(1);

/// Starts the thread. When it is to end it goes through a segment that it has begun as fast as it
/// can.
pub fn start(shared: Arc<Shared>) -> std::io::Result<Background> {
    let rate = shared.settings.number("log.scrub.bytes.per.second");
    let interval = Duration::from_millis(shared.settings.number("log.scrub.interval.ms"));
    Background::start("mk-scrubber", move |ending| {
        let throttle = Throttle::new(Some(rate));
        Scrubbing { shared, ending, throttle, checks: rate > 0, interval }.run();
    })
}

impl Scrubbing {
    fn run(&mut self) {
        let mut next_round = Instant::now();
        while !self.ending.is_near() {
            if Instant::now() >= next_round && self.checks {
                next_round = Instant::now() + self.interval;
                self.check_all();
            }
            self.seal_all();
            self.ending.wait(LOOK);
        }
    }

    fn partitions(&self) -> Vec<Arc<Partition>> {
        let topics = self.shared.topics.load();
        topics.values().flat_map(|topic| topic.partitions().to_vec()).collect()
    }

    fn seal_all(&mut self) {
        for partition in self.partitions() {
            let Ok(log) = partition.log() else { continue };
            while !self.ending.is_near()
                && !partition.is_deleted()
                && let Some(segment) = log.unsealed()
            {
                match log.seal(&segment, &mut |_| {}) {
                    Ok(_) => count(&self.shared.scrubbed.sealed, 1),
                    Err(error) => {
                        self.report(&partition, error);
                        break;
                    }
                }
            }
        }
    }

    /// One round through all sealed segments; new ones are sealed meanwhile.
    fn check_all(&mut self) {
        let begin = Instant::now();
        let mut last_look = begin;
        for partition in self.partitions() {
            let Ok(log) = partition.log() else { continue };
            for segment in log.segments().iter() {
                if self.ending.is_near() || partition.is_deleted() {
                    break;
                }
                if segment.seal().is_some() && !segment.is_damaged() {
                    self.check(&partition, log, segment);
                }
                if last_look.elapsed() >= LOOK {
                    self.seal_all();
                    last_look = Instant::now();
                }
            }
        }
        debug!(took = ?begin.elapsed(), "all sealed segments were checked");
    }

    fn check(&mut self, partition: &Partition, log: &Log, segment: &Arc<Segment>) {
        let mut checked = 0;
        let (throttle, ending) = (&mut self.throttle, &mut self.ending);
        let result = log.check_seal(segment, &mut |bytes| {
            checked += bytes as u64;
            ending.wait(throttle.pause(bytes));
        });
        count(&self.shared.scrubbed.checked, 1);
        count(&self.shared.scrubbed.checked_bytes, checked);
        if let Err(error) = result {
            self.report(partition, error);
        }
    }

    fn report(&self, partition: &Partition, error: SealError) {
        let (topic, number) = (partition.topic(), partition.number());
        match error {
            // Its folder is on its way to the trash.
            SealError::Disk(_) if partition.is_deleted() => {}
            SealError::Disk(error) => {
                error!(topic, partition = number, %error, "a segment cannot be checked");
            }
            SealError::Corrupt(corruption) => {
                error!(topic, partition = number, %corruption, "a segment is damaged");
                count(&self.shared.scrubbed.damaged, 1);
                partition.report_damage(corruption.to_string());
            }
        }
    }
}

fn count(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
