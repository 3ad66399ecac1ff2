//! Append against memcpy into a map whose pages are there.

use std::sync::Arc;

use memmap2::MmapOptions;
use mk_storage::Epoch;
use mk_storage::batch::CheckedBatch;
use mk_storage::disk::{Disk, MappedDisk};
use mk_storage::log::{Log, LogSettings};

use crate::common::batch_of;
use crate::{Goal, Plan, Row, timed};

pub fn rows(plan: Plan) -> Vec<Row> {
    [(16 << 10, None), (64 << 10, Some(0.8)), (1 << 20, None)]
        .map(|(size, goal)| row(plan, size, goal))
        .into()
}

fn row(plan: Plan, size: usize, goal: Option<f64>) -> Row {
    let bytes = batch_of(size);
    let batch = CheckedBatch::check(&bytes, 2 << 20).unwrap();
    let mut map = MmapOptions::new().len(plan.bytes as usize).populate().map_anon().unwrap();
    let limit = |_| {
        timed(|| {
            let chunks = map.chunks_exact_mut(bytes.len());
            let copy = |chunk: &mut [u8]| {
                chunk.copy_from_slice(&bytes);
                bytes.len() as u64
            };
            chunks.map(copy).sum()
        })
    };
    let disk: Arc<dyn Disk> = Arc::new(MappedDisk::start().unwrap());
    let ours = |goal: u64| {
        let root = tempfile::tempdir().unwrap();
        let log = Log::open(disk.clone(), root.path(), LogSettings::default(), 0).unwrap().0;
        timed(|| {
            while log.size_bytes() < goal {
                log.append(&batch, Epoch(0), 0).unwrap();
            }
            log.size_bytes()
        })
    };
    let (limit, ours) = plan.compare(limit, ours);
    let name = format!("append {} KiB batches vs memcpy into a populated map", size >> 10);
    Row { name, limit, ours, unit: "GB/s", goal: goal.map(Goal::AtLeast) }
}
