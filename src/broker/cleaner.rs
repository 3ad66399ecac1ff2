//! A thread that takes away what is too old or too much, forgets idle producers, and empties the trash.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mk_storage::log::{Expired, Retention};
use tracing::{error, info};

use super::background::Background;
use super::partition::Partition;
use super::shared::Shared;
use super::trash;
use crate::clock::now_ms;

/// When it looks for the first time; whoever started the broker with a wrong setting can still stop
/// it.
const FIRST_CHECK: Duration = Duration::from_secs(30);

/// Starts the thread.
pub fn start(shared: Arc<Shared>) -> std::io::Result<Background> {
    let interval = shared.settings.number("log.retention.check.interval.ms");
    let interval = Duration::from_millis(interval);
    let delay_ms = shared.settings.number("log.segment.delete.delay.ms");
    // Nothing lies in the trash for much longer than it was to.
    let look = Duration::from_millis((delay_ms / 4).clamp(50, 10_000)).min(interval);
    Background::start("mk-cleaner", move |mut ending| {
        let mut next_check = Instant::now() + FIRST_CHECK.min(interval);
        loop {
            if Instant::now() >= next_check {
                next_check = Instant::now() + interval;
                remove_expired(&shared);
            }
            trash::empty(shared.store.disk(), &shared.trash_dir, delay_ms);
            if ending.wait(look) {
                break;
            }
        }
    })
}

fn remove_expired(shared: &Shared) {
    let topics = shared.topics.load();
    let idle_ms = shared.settings.number("producer.id.expiration.ms");
    let idle_before = now_ms().saturating_sub_unsigned(idle_ms);
    for topic in topics.values() {
        let retention = topic.effective().retention;
        for partition in topic.partitions().iter() {
            if !partition.is_deleted() {
                expire(shared, partition, retention);
                forget_idle_producers(partition, idle_before);
            }
        }
    }
}

fn forget_idle_producers(partition: &Partition, before_ms: i64) {
    let Ok(log) = partition.log() else { return };
    let forgotten = log.forget_idle_producers(before_ms);
    if forgotten > 0 {
        let (topic, number) = (partition.topic(), partition.number());
        info!(topic, partition = number, forgotten, "idle producers are forgotten");
    }
}

fn expire(shared: &Shared, partition: &Partition, retention: Retention) {
    let Ok(log) = partition.log() else { return };
    let Expired { start, segments, bytes } = log.expired(retention, now_ms());
    if segments == 0 || log.poisoned().is_some() {
        return;
    }
    let (topic, number) = (partition.topic(), partition.number());
    match log.trim(start, Some(&grave(shared, partition))) {
        Ok(_) => {
            info!(topic, partition = number, %start, segments, bytes, "expired segments go");
        }
        Err(_) if partition.is_deleted() => {}
        Err(error) => error!(topic, partition = number, %error, "expired segments cannot go"),
    }
}

/// Where segments of this partition go that are deleted now.
pub fn grave(shared: &Shared, partition: &Partition) -> std::path::PathBuf {
    let name = format!("{}-{}", partition.topic(), partition.number());
    trash::place(&shared.trash_dir, &name)
}
