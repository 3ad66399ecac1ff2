//! The scan after a crash against the checksum alone, over the same bytes in memory.
//!
//! The file is in the page cache: how fast the disk is, is another matter.

use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use mk_storage::batch::{CheckedBatch, checksum};
use mk_storage::disk::{Disk, MappedDisk, View};
use mk_storage::recover::{ScanFrom, Tail, scan};
use mk_storage::{Epoch, Offset, Position};

use crate::common::batch_of;
use crate::files::FreshLog;
use crate::{Goal, Plan, Row};

pub fn rows(plan: Plan) -> Vec<Row> {
    let disk: Arc<dyn Disk> = Arc::new(MappedDisk::start().unwrap());
    let sizes = [("16 KiB", 16 << 10), ("1 MiB", 1 << 20)];
    let rows = sizes.into_iter().map(|(size, batch_bytes)| {
        let fresh = filled(&disk, batch_bytes, plan.bytes);
        let path = fresh.root.path().join("00000000000000000000.log");
        let bytes = contents(&path);
        let view = disk.view(&path).unwrap();
        let batch_bytes = batch_of(batch_bytes).len();
        let (limit, ours) = plan.compare(
            |_| crate::timed(|| check_all(&bytes, batch_bytes)),
            |_| crate::timed(|| scan_all(view.as_ref())),
        );
        let name = format!("recovery scan of {size} batches vs CRC-32C alone");
        Row { name, limit, ours, unit: "GB/s", goal: Some(Goal::AtLeast(0.8)) }
    });
    rows.collect()
}

/// A log of one segment, without a reserved tail.
fn filled(disk: &Arc<dyn Disk>, batch_bytes: usize, bytes: u64) -> FreshLog {
    let fresh = FreshLog::new(disk);
    let batch = batch_of(batch_bytes);
    let batch = CheckedBatch::check(&batch, 2 << 20).unwrap();
    let most = bytes.min((1 << 30) - batch.bytes().len() as u64);
    while fresh.log.size_bytes() < most {
        fresh.log.append(&batch, Epoch(0), 0).unwrap();
    }
    fresh.log.close().unwrap();
    fresh
}

fn contents(path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut bytes).unwrap();
    bytes
}

fn check_all(bytes: &[u8], batch_bytes: usize) -> u64 {
    for batch in bytes.chunks(batch_bytes) {
        black_box(checksum(batch));
    }
    bytes.len() as u64
}

fn scan_all(view: &dyn View) -> u64 {
    let from = ScanFrom { position: Position(0), offset: Offset(0), epoch: Epoch(0) };
    let found = scan(view, from, |_, _, _| {}).unwrap();
    assert_eq!(found.tail, Tail::Clean);
    found.end.0
}
