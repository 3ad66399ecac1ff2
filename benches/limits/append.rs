//! Append against memcpy into a map whose pages are there.
//!
//! Appends go into windows that a helper thread has reserved and populated ahead. In bursts, with
//! pauses in which the helper keeps ahead, what is measured is the append itself, and the goal
//! holds for it. Without a pause, the kernel's supply of fresh pages is what limits it; the second
//! limit, memcpy into a file that faults, is fed by the same supply.

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use memmap2::{MmapMut, MmapOptions};
use mk_storage::Epoch;
use mk_storage::batch::CheckedBatch;
use mk_storage::disk::{Disk, MappedDisk};
use mk_storage::log::{Log, LogSettings};
use mk_storage::store::{OpenLimits, Store};

use crate::common::batch_of;
use crate::{Goal, Moved, Plan, Row, timed};

/// Half of the largest window: when it is used the next window is asked for.
const BURST: u64 = 8 << 20;
const PAUSE: Duration = Duration::from_millis(25);
/// What a log must have taken before its windows are as large as they get.
const WARM_UP: u64 = 64 << 20;

pub fn rows(plan: Plan) -> Vec<Row> {
    let mut rows = Vec::new();
    for (size, goal) in [(16 << 10, None), (64 << 10, Some(0.8)), (1 << 20, None)] {
        let bytes = batch_of(size);
        let batch = CheckedBatch::check(&bytes, 2 << 20).unwrap();
        let disk: Arc<dyn Disk> = Arc::new(MappedDisk::start().unwrap());
        let what = format!("append {} KiB batches", size >> 10);

        let mut map = MmapOptions::new().len(plan.bytes as usize).populate().map_anon().unwrap();
        let limit = |bytes_in_all| copy_in_bursts(&mut map, &bytes, bytes_in_all);
        let ours = |bytes_in_all| append_in_bursts(disk.clone(), &batch, bytes_in_all);
        let (limit, ours) = plan.compare(limit, ours);
        let name = format!("{what} vs memcpy into a populated map");
        rows.push(Row { name, limit, ours, unit: "GB/s", goal: goal.map(Goal::AtLeast) });

        let limit = |bytes_in_all| copy_into_file(&bytes, bytes_in_all);
        let ours = |bytes_in_all| append_without_pause(disk.clone(), &batch, bytes_in_all);
        let (limit, ours) = plan.compare(limit, ours);
        let name = format!("{what} without pause vs memcpy into a faulting file");
        rows.push(Row { name, limit, ours, unit: "GB/s", goal: None });
    }
    rows
}

fn copy(map: &mut [u8], bytes: &[u8]) -> u64 {
    let mut copied = 0;
    for chunk in map.chunks_exact_mut(bytes.len()) {
        chunk.copy_from_slice(bytes);
        copied += bytes.len() as u64;
    }
    copied
}

fn copy_in_bursts(map: &mut MmapMut, bytes: &[u8], in_all: u64) -> Moved {
    let bursts = map[..in_all as usize].chunks_mut(BURST as usize).map(|piece| {
        thread::sleep(PAUSE);
        timed(|| copy(piece, bytes))
    });
    bursts.sum()
}

fn append_in_bursts(disk: Arc<dyn Disk>, batch: &CheckedBatch<'_>, in_all: u64) -> Moved {
    let root = tempfile::tempdir().unwrap();
    let log =
        Log::open(&Store::new(disk, OpenLimits::default()), root.path(), LogSettings::default(), 0)
            .unwrap()
            .0;
    append(&log, batch, WARM_UP);
    let bursts = (0..in_all / BURST).map(|_| {
        thread::sleep(PAUSE);
        timed(|| append(&log, batch, BURST))
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

fn append_without_pause(disk: Arc<dyn Disk>, batch: &CheckedBatch<'_>, in_all: u64) -> Moved {
    let root = tempfile::tempdir().unwrap();
    let log =
        Log::open(&Store::new(disk, OpenLimits::default()), root.path(), LogSettings::default(), 0)
            .unwrap()
            .0;
    timed(|| append(&log, batch, in_all))
}

fn copy_into_file(bytes: &[u8], in_all: u64) -> Moved {
    let root = tempfile::tempdir().unwrap();
    let mut map = map_of_file(&root.path().join("file"), in_all);
    timed(|| copy(&mut map, bytes))
}

#[allow(unsafe_code, reason = "a bench has to map what storage maps, without storage")]
fn map_of_file(path: &Path, length: u64) -> MmapMut {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, length).unwrap();
    // SAFETY: the file is in a directory of this process's own, and nobody else has it open.
    unsafe { MmapMut::map_mut(&file).unwrap() }
}
