//! One append while another thread syncs the same log without pause, against a pwrite while
//! another thread syncs the same file.
//!
//! Both are paced: what is asked is how long one of them may take on a busy disk, not how much
//! goes through.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mk_storage::Epoch;
use mk_storage::batch::CheckedBatch;
use mk_storage::disk::{Disk, MappedDisk};

use crate::common::batch_of;
use crate::files::{FreshLog, Reserved};
use crate::{Goal, Plan, Row, median_of};

const BATCH: usize = 16 << 10;
const BYTES_PER_SECOND: u64 = 100_000_000;

pub fn rows(plan: Plan) -> Vec<Row> {
    let disk: Arc<dyn Disk> = Arc::new(MappedDisk::start().unwrap());
    let bytes = batch_of(BATCH);
    let batch = CheckedBatch::check(&bytes, 2 << 20).unwrap();
    // Half of what others move: at this pace the whole takes long.
    let count = plan.bytes / 2 / bytes.len() as u64;
    let (mut limit, mut ours) = (
        || {
            let file = Reserved::new(plan.bytes);
            let step = |n| file.file.write_all_at(&bytes, n * bytes.len() as u64).unwrap();
            while_syncing(|| file.file.sync_data().unwrap(), || paced(count, &bytes, step))
        },
        || {
            let fresh = FreshLog::new(&disk);
            let step = |_| {
                fresh.log.append(&batch, Epoch(0), 0).unwrap();
            };
            let sync = || {
                fresh.log.flush().unwrap();
            };
            while_syncing(sync, || paced(count, &bytes, step))
        },
    );
    let [limits, all_ours] = plan.in_turns([&mut limit, &mut ours]);
    let ranks = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];
    let rows = ranks.into_iter().map(|(rank, part)| {
        let [limit, ours] =
            [&limits, &all_ours].map(|trials| median_of(trials, |times| at_rank(times, part)));
        let name = format!("append 16 KiB while syncing, 100 MB/s, {rank}, vs pwrite");
        Row { name, limit, ours, unit: "us", goal: Some(Goal::AtMost(1.0)) }
    });
    rows.collect()
}

/// Runs one beside a thread that does the other over and over.
fn while_syncing<T>(sync: impl Fn() + Sync, run: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                sync();
            }
        });
        let result = run();
        done.store(true, Ordering::Relaxed);
        result
    })
}

/// Takes `count` steps at the pace, and answers how long each took, in microseconds, sorted.
fn paced(count: u64, bytes: &[u8], step: impl Fn(u64)) -> Vec<f64> {
    let nanos_per_step = bytes.len() as u64 * 1_000_000_000 / BYTES_PER_SECOND;
    let begin = Instant::now();
    let times = (0..count).map(|n| {
        let due = begin + Duration::from_nanos(n * nanos_per_step);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let start = Instant::now();
        step(n);
        start.elapsed().as_secs_f64() * 1e6
    });
    let mut times: Vec<f64> = times.collect();
    times.sort_by(f64::total_cmp);
    times
}

fn at_rank(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() as f64 * part) as usize).min(sorted.len() - 1)]
}
