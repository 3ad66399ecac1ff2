//! How often a disk is asked for what a reader is given.

use super::*;
use crate::batch::Header;

/// A log of one closed segment and some batches behind it, all of the same size.
fn closed(value: usize, batches: u64, index_interval_bytes: u64) -> (MemoryDisk, Arc<Log>) {
    let disk = MemoryDisk::new();
    let settings = LogSettings { index_interval_bytes, ..LogSettings::default() };
    let (log, _) = open(&disk, settings).unwrap();
    let bytes = batch(&["x".repeat(value)], 0);
    let checked = CheckedBatch::check(&bytes, 1 << 20).unwrap();
    for n in 0..=batches {
        if n == batches {
            log.set_settings(LogSettings { segment_bytes: 4096, ..settings });
        }
        log.append(&checked, Epoch(0), n as i64).unwrap();
    }
    assert_eq!(log.segments().len(), 2);
    log.close().unwrap();
    drop(log);
    (disk.clone(), open(&disk, settings).unwrap().0)
}

/// The reads that a fetch takes, of so many bytes: on average, and at most. From the start of the closed
/// segment to its end, as one who comes late reads it.
fn reads_of_a_fetch(disk: &MemoryDisk, log: &Log, max_bytes: u64) -> (f64, u64) {
    let (mut at, mut fetches, mut all, mut most) = (Offset(0), 0, 0, 0);
    while at < log.segments()[1].base() {
        let before = disk.reads();
        let range = log.read(at, max_bytes).unwrap().range.unwrap();
        let reads = disk.reads() - before;
        (fetches, all, most) = (fetches + 1, all + reads, most.max(reads));
        let mut rest = Bytes::from(range.read().unwrap());
        while !rest.is_empty() {
            let header = Header::parse(&rest).unwrap();
            at = header.next_offset();
            rest = rest.slice(header.size..);
        }
    }
    (all as f64 / f64::from(fetches), most)
}

/// Each step of a binary search in an index was a system call, and a fetch searches twice: of a segment of
/// 1 GiB that were about 40, to find a range of which sendfile sends a megabyte by one.
#[test]
fn a_fetch_of_a_closed_segment_reads_few_times() {
    for (value, batches, interval) in [(10, 100_000, 4096), (16 << 10, 2000, 4096), (16, 50_000, 0)]
    {
        let (disk, log) = closed(value, batches, interval);
        for max_bytes in [4 << 10, 64 << 10, 1 << 20] {
            let (usual, most) = reads_of_a_fetch(&disk, &log, max_bytes);
            assert!(usual < 6.0 && most < 9, "{value} {max_bytes}: {usual}, at most {most}");
        }
    }
}
