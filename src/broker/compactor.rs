//! A thread that compacts the logs of topics whose `cleanup.policy` says so, the dirtiest first.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mk_storage::Offset;
use mk_storage::log::{CompactError, Compacted, Compaction, Dirt, Job, Log};
use tracing::{error, info};
use uuid::Uuid;

use super::background::{Background, Ending, Throttle};
use super::partition::Partition;
use super::shared::Shared;
use crate::clock::now_ms;
use crate::settings::NO_LIMIT;

/// What the compactor has done since the broker started.
#[derive(Debug, Default)]
pub struct CompactCounters {
    /// Compactions that came to their end.
    pub compactions: AtomicU64,
    /// Bytes of segments that were read and replaced.
    pub bytes_before: AtomicU64,
    /// Bytes of the segments in their place.
    pub bytes_after: AtomicU64,
    /// Compactions that failed.
    pub failed: AtomicU64,
}

struct Compacting {
    shared: Arc<Shared>,
    ending: Ending,
    throttle: Throttle,
    keys_bytes: u64,
    /// Partitions that failed when they were last tried, which was told.
    failing: HashSet<u64>,
}

/// Starts the thread.
pub fn start(shared: Arc<Shared>) -> std::io::Result<Background> {
    let settings = &shared.settings;
    let backoff = Duration::from_millis(settings.number("log.cleaner.backoff.ms"));
    let rate = settings.number("log.cleaner.io.max.bytes.per.second");
    let keys_bytes = settings.number("log.cleaner.dedupe.buffer.size");
    Background::start("mk-compactor", move |ending| {
        let throttle = Throttle::new((rate != NO_LIMIT).then_some(rate));
        let failing = HashSet::new();
        let mut compacting = Compacting { shared, ending, throttle, keys_bytes, failing };
        while !compacting.ending.wait(backoff) {
            compacting.compact_all();
        }
    })
}

impl Compacting {
    /// Compacts what is due, each log as often as it helps.
    fn compact_all(&mut self) {
        let mut done = HashSet::new();
        while !self.ending.is_near()
            && let Some((partition, rules, dirt)) = self.dirtiest(&done)
        {
            if !self.compact(&partition, &rules, dirt.from) {
                done.insert(partition.serial());
            }
        }
    }

    /// The partition with the largest part that is dirty, of those that are due and not `done`.
    fn dirtiest(&self, done: &HashSet<u64>) -> Option<(Arc<Partition>, Compaction, Dirt)> {
        let topics = self.shared.topics.load();
        let compacted = topics.values().filter_map(|topic| {
            let rules = topic.effective().compaction?;
            Some(topic.partitions().to_vec().into_iter().map(move |partition| (partition, rules)))
        });
        let due = compacted.flatten().filter_map(|(partition, rules)| {
            let log = partition.log().ok()?;
            if partition.is_deleted() || done.contains(&partition.serial()) {
                return None;
            }
            let dirt = log.dirt(&rules, log.synced(), now_ms());
            let due = dirt.is_due(&rules) && log.poisoned().is_none();
            due.then_some((partition, rules, dirt))
        });
        due.max_by(|a, b| a.2.ratio().total_cmp(&b.2.ratio()))
    }

    /// Compacts a log, which is dirty from `from` on, once; true if there may be more to do.
    fn compact(&mut self, partition: &Partition, rules: &Compaction, from: Offset) -> bool {
        let Ok(log) = partition.log() else { return false };
        let begin = Instant::now();
        match self.compact_log(partition, log, rules) {
            Ok(done) if done.segments_before == 0 => false,
            Ok(done) => {
                self.failing.remove(&partition.serial());
                self.report(partition, &done, begin.elapsed());
                !done.broken_off && done.clean_to > from
            }
            Err(_) if partition.is_deleted() => false,
            Err(error) => {
                self.report_failure(partition, &error);
                false
            }
        }
    }

    fn compact_log(
        &mut self,
        partition: &Partition,
        log: &Log,
        rules: &Compaction,
    ) -> Result<Compacted, CompactError> {
        let seed = Uuid::new_v4().into_bytes();
        let job = Job {
            rules,
            // One broker alone has nobody who could make it take records back.
            limit: log.synced().min(log.high_watermark()),
            now_ms: now_ms(),
            keys_bytes: self.keys_bytes,
            seed: &seed,
        };
        let (throttle, ending) = (&mut self.throttle, &mut self.ending);
        log.compact(job, &mut |bytes| {
            let pause = throttle.pause(bytes);
            if ending.wait(pause) || partition.is_deleted() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
    }

    fn report(&self, partition: &Partition, done: &Compacted, took: Duration) {
        let counters = &self.shared.compacted;
        if !done.broken_off {
            counters.compactions.fetch_add(1, Ordering::Relaxed);
        }
        counters.bytes_before.fetch_add(done.bytes_before, Ordering::Relaxed);
        counters.bytes_after.fetch_add(done.bytes_after, Ordering::Relaxed);
        let (topic, number) = (partition.topic(), partition.number());
        let Compacted { clean_to, keys, bytes_before, bytes_after, broken_off, .. } = *done;
        info!(
            topic,
            partition = number,
            %clean_to,
            keys,
            segments_before = done.segments_before,
            segments_after = done.segments_after,
            bytes_before,
            bytes_after,
            broken_off,
            ?took,
            "a log was compacted"
        );
    }

    fn report_failure(&mut self, partition: &Partition, error: &CompactError) {
        self.shared.compacted.failed.fetch_add(1, Ordering::Relaxed);
        if let CompactError::Corrupt(corruption) = error {
            partition.report_damage(corruption.to_string());
        }
        let (topic, number) = (partition.topic(), partition.number());
        // It is tried again and again; a full disk is told of once.
        if self.failing.insert(partition.serial()) {
            error!(topic, partition = number, %error, "a log cannot be compacted");
        }
    }
}
