//! Append against memcpy into a map whose pages are there, and against pwrite.
//!
//! Appends go into windows that a helper thread has reserved and populated ahead. In bursts, with
//! pauses in which the helper keeps ahead, what is measured is the append itself, and the goals
//! hold for it. Without a pause, the kernel's supply of fresh pages is what limits it; memcpy into
//! a file that faults, and pwrite into a new file, are fed by the same supply.

use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use memmap2::MmapOptions;
use mk_storage::Epoch;
use mk_storage::batch::CheckedBatch;
use mk_storage::disk::{Disk, MappedDisk};
use mk_storage::log::Log;

use crate::common::batch_of;
use crate::files::{FreshLog, Reserved};
use crate::{Goal, Moved, Plan, Row, median_of, timed};

/// Half of the largest window: when it is used the next window is asked for.
const BURST: u64 = 8 << 20;
const PAUSE: Duration = Duration::from_millis(25);
/// What a log must have taken before its windows are as large as they get.
const WARM_UP: u64 = 64 << 20;

const SIZES: [(&str, usize); 7] = [
    ("100 B", 100),
    ("1 KiB", 1 << 10),
    ("4 KiB", 4 << 10),
    ("16 KiB", 16 << 10),
    ("64 KiB", 64 << 10),
    ("256 KiB", 256 << 10),
    ("1 MiB", 1 << 20),
];

pub fn rows(plan: Plan) -> Vec<Row> {
    let disk: Arc<dyn Disk> = Arc::new(MappedDisk::start().unwrap());
    let rows = SIZES.iter().map(|(name, size)| rows_of(plan, &disk, name, *size));
    rows.flatten().collect()
}

fn rows_of(plan: Plan, disk: &Arc<dyn Disk>, name: &str, size: usize) -> Vec<Row> {
    let bytes = &batch_of(size)[..];
    let batch = CheckedBatch::check(bytes, 2 << 20).unwrap();
    let what = format!("append {name} batches");
    // A call costs more than the copy of a small batch.
    let of_memcpy = (size >= 16 << 10).then_some(Goal::AtLeast(0.8));

    let (mut memcpy, mut pwrite, mut ours) = (
        || copy_in_bursts(bytes, plan.bytes).rate(),
        || write_in_bursts(bytes, plan.bytes).rate(),
        || append_in_bursts(disk, &batch, plan.bytes).rate(),
    );
    let [memcpy, pwrite, ours] =
        plan.in_turns([&mut memcpy, &mut pwrite, &mut ours]).map(|rates| median_of(&rates, |r| *r));
    let row = |name, limit, goal| Row { name, limit, ours, unit: "GB/s", goal };
    let mut rows = vec![
        row(format!("{what} vs memcpy into a populated map"), memcpy, of_memcpy),
        row(format!("{what} vs pwrite"), pwrite, Some(Goal::AtLeast(1.5))),
    ];

    let (mut faulting, mut pwrite, mut ours) = (
        || copy_into_file(bytes, plan.bytes),
        || write_without_pause(bytes, plan.bytes),
        || append_without_pause(disk, &batch, plan.bytes),
    );
    let all = plan.in_turns([&mut faulting, &mut pwrite, &mut ours]);
    let [faulting, pwrite, ours] = all.each_ref().map(|trials| median_of(trials, Sustained::rate));
    let row = |name, limit| Row { name, limit, ours, unit: "GB/s", goal: None };
    rows.push(row(format!("{what} without pause vs memcpy into a faulting file"), faulting));
    rows.push(row(format!("{what} without pause vs pwrite"), pwrite));
    let [limit, _, ours] = all.each_ref().map(|trials| median_of(trials, Sustained::faults));
    let name = format!("{what} without pause, page faults a MiB, vs a faulting file");
    rows.push(Row { name, limit, ours, unit: "/MiB", goal: Some(Goal::AtMost(0.01)) });
    rows
}

/// What went without a pause, and the page faults that the thread had meanwhile.
struct Sustained {
    moved: Moved,
    faults: u64,
}

impl Sustained {
    fn measure(run: impl FnOnce() -> u64) -> Sustained {
        let before = faults_so_far();
        let moved = timed(run);
        Sustained { moved, faults: faults_so_far() - before }
    }

    fn rate(&self) -> f64 {
        self.moved.rate()
    }

    /// Page faults a MiB.
    fn faults(&self) -> f64 {
        self.faults as f64 / (self.moved.bytes as f64 / (1 << 20) as f64)
    }
}

/// Page faults of this thread since it began.
#[cfg(target_os = "linux")]
fn faults_so_far() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    // The name, in brackets, may hold spaces; minflt is the eighth field behind it (proc(5)).
    let (_, behind_name) = stat.rsplit_once(')').unwrap();
    behind_name.split_whitespace().nth(7).unwrap().parse().unwrap()
}

/// Where there is no such count, none is seen.
#[cfg(not(target_os = "linux"))]
fn faults_so_far() -> u64 {
    0
}

fn copy(map: &mut [u8], bytes: &[u8]) -> u64 {
    let mut copied = 0;
    for chunk in map.chunks_exact_mut(bytes.len()) {
        chunk.copy_from_slice(bytes);
        copied += bytes.len() as u64;
    }
    copied
}

/// Into a map that is as fresh as the windows of a log: one that was written to before may still
/// be in the processor's cache.
fn copy_in_bursts(bytes: &[u8], in_all: u64) -> Moved {
    let mut map = MmapOptions::new().len(in_all as usize).populate().map_anon().unwrap();
    let bursts = map.chunks_mut(BURST as usize).map(|piece| {
        thread::sleep(PAUSE);
        timed(|| copy(piece, bytes))
    });
    bursts.sum()
}

fn write(file: &Reserved, bytes: &[u8], from: u64, in_all: u64) -> u64 {
    let count = in_all / bytes.len() as u64;
    for n in 0..count {
        file.file.write_all_at(bytes, from + n * bytes.len() as u64).unwrap();
    }
    count * bytes.len() as u64
}

fn write_in_bursts(bytes: &[u8], in_all: u64) -> Moved {
    let file = Reserved::new(in_all);
    let mut end = 0;
    let bursts = (0..in_all / BURST).map(|_| {
        thread::sleep(PAUSE);
        let moved = timed(|| write(&file, bytes, end, BURST));
        end += moved.bytes;
        moved
    });
    bursts.sum()
}

fn append(log: &Arc<Log>, batch: &CheckedBatch<'_>, bytes: u64) -> u64 {
    let count = bytes / batch.bytes().len() as u64;
    for _ in 0..count {
        log.append(batch, Epoch(0), 0).unwrap();
    }
    count * batch.bytes().len() as u64
}

fn append_in_bursts(disk: &Arc<dyn Disk>, batch: &CheckedBatch<'_>, in_all: u64) -> Moved {
    let fresh = FreshLog::new(disk);
    append(&fresh.log, batch, WARM_UP);
    let bursts = (0..in_all / BURST).map(|_| {
        thread::sleep(PAUSE);
        timed(|| append(&fresh.log, batch, BURST))
    });
    bursts.sum()
}

fn append_without_pause(disk: &Arc<dyn Disk>, batch: &CheckedBatch<'_>, in_all: u64) -> Sustained {
    let fresh = FreshLog::new(disk);
    Sustained::measure(|| append(&fresh.log, batch, in_all))
}

fn write_without_pause(bytes: &[u8], in_all: u64) -> Sustained {
    let file = Reserved::new(in_all);
    Sustained::measure(|| write(&file, bytes, 0, in_all))
}

fn copy_into_file(bytes: &[u8], in_all: u64) -> Sustained {
    let file = Reserved::new(in_all);
    let mut map = file.map();
    Sustained::measure(|| copy(&mut map, bytes))
}
