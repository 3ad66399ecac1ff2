//! The log engine: append, read, find, reopen. `cargo bench --bench storage`.

#![allow(clippy::unwrap_used, reason = "a bench that cannot go on must fail")]

mod common;

use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;

use common::{batch_of, random_offsets};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mk_storage::batch::CheckedBatch;
use mk_storage::disk::MappedDisk;
use mk_storage::log::{Log, LogSettings};
use mk_storage::store::{OpenLimits, Store};
use mk_storage::{Epoch, Offset};

/// Bytes that a log grows to before it is begun anew, so that the disk does not fill.
const MOST_BYTES: u64 = 512 << 20;

struct Place {
    store: Arc<Store>,
    root: tempfile::TempDir,
    count: u32,
}

impl Place {
    fn new() -> Place {
        let disk = Arc::new(MappedDisk::start().unwrap());
        let store = Store::new(disk, OpenLimits::default());
        Place { store, root: tempfile::tempdir().unwrap(), count: 0 }
    }

    /// A new log in place of the one before.
    fn fresh(&mut self) -> Arc<Log> {
        if self.count > 0 {
            std::fs::remove_dir_all(self.dir()).unwrap();
        }
        self.count += 1;
        self.open()
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join(self.count.to_string())
    }

    fn open(&self) -> Arc<Log> {
        Log::open(&self.store, &self.dir(), LogSettings::default(), 0).unwrap().0
    }
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for size in [100, 16 << 10, 64 << 10, 1 << 20] {
        let bytes = batch_of(size);
        let batch = CheckedBatch::check(&bytes, 2 << 20).unwrap();
        let mut place = Place::new();
        let mut log = place.fresh();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                if log.size_bytes() > MOST_BYTES {
                    log = place.fresh();
                }
                log.append(&batch, Epoch(0), 0).unwrap()
            });
        });
    }
    group.finish();
}

/// What a produce does: checksum, then append.
fn check_and_append(c: &mut Criterion) {
    let mut group = c.benchmark_group("check and append");
    for size in [100, 64 << 10] {
        let bytes = batch_of(size);
        let mut place = Place::new();
        let mut log = place.fresh();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |b| {
            b.iter(|| {
                if log.size_bytes() > MOST_BYTES {
                    log = place.fresh();
                }
                let batch = CheckedBatch::check(&bytes, 2 << 20).unwrap();
                log.append(&batch, Epoch(0), 0).unwrap()
            });
        });
    }
    group.finish();
}

fn filled(place: &mut Place, size: usize, bytes: u64) -> Arc<Log> {
    let log = place.fresh();
    let batch_bytes = batch_of(size);
    let batch = CheckedBatch::check(&batch_bytes, 2 << 20).unwrap();
    while log.size_bytes() < bytes {
        log.append(&batch, Epoch(0), 0).unwrap();
    }
    log
}

/// Finding a piece of a file is all that a read is; the bytes go out by sendfile.
fn read(c: &mut Criterion) {
    let mut place = Place::new();
    let log = filled(&mut place, 1000, 256 << 20);
    let offsets = random_offsets(log.end().0);
    let mut group = c.benchmark_group("read");
    for max_bytes in [4 << 10, 1 << 20] {
        let mut at = offsets.iter().cycle();
        group.bench_function(BenchmarkId::new("range", max_bytes), |b| {
            b.iter(|| log.read(Offset(*at.next().unwrap()), max_bytes).unwrap());
        });
    }
    let mut at = offsets.iter().cycle();
    group.bench_function("index lookup", |b| {
        b.iter(|| black_box(log.read(Offset(*at.next().unwrap()), 1).unwrap()));
    });
    group.finish();
}

fn reopen(c: &mut Criterion) {
    let mut group = c.benchmark_group("reopen");
    group.sample_size(10);
    let mut place = Place::new();
    for closed in [true, false] {
        let log = filled(&mut place, 16 << 10, 256 << 20);
        if closed {
            log.close().unwrap();
        }
        drop(log);
        let name = if closed { "after a clean stop, 256 MiB" } else { "after a crash, 256 MiB" };
        // Without a checkpoint every batch is checked.
        let forget = || {
            if !closed {
                let _ = std::fs::remove_file(place.dir().join("checkpoint"));
            }
        };
        group.bench_function(name, |b| {
            b.iter_batched(forget, |()| place.open(), BatchSize::PerIteration)
        });
    }
    group.finish();
}

criterion_group!(benches, append, check_and_append, read, reopen);
criterion_main!(benches);
