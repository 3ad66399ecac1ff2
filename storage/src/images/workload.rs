//! Random work on a log, and images of its disk at every step.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

use super::promise::{Number, Promise, Written, append, compact, dir};
use crate::disk::memory::SYNC_FAILED;
use crate::disk::memory::chance::Chance;
use crate::disk::{Disk, MemoryDisk};
use crate::error::AppendError;
use crate::log::Log;
use crate::{Epoch, Offset};

/// Steps of a workload.
const STEPS: u64 = 60;
/// Distinct keys of the records.
const KEYS: u64 = 12;
/// Distinct idempotent producers.
const PRODUCERS: u64 = 4;
/// Images of each moment.
const IMAGES_EACH: u64 = 3;

/// What a workload has seen.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub operations: usize,
    pub images: usize,
}

/// An image that does not hold what was promised.
#[derive(Clone, Debug)]
pub struct Failure {
    seed: u64,
    operation: usize,
    step: String,
    image: u64,
    what: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, operation, step, image, what } = self;
        write!(f, "seed {seed}, disk operation {operation} ({step}), image {image}: {what}")
    }
}

/// What the workload and whoever watches its disk share.
#[derive(Debug, Default)]
struct Watched {
    promise: Promise,
    chance: u64,
    step: String,
    seen: Seen,
    failed: Option<(u64, String)>,
}

/// Runs the workload of this seed; an error is the first image that fails.
pub fn run(seed: u64) -> Result<Seen, Failure> {
    let watched = Arc::new(Mutex::new(Watched { chance: seed, ..Watched::default() }));
    let result = Workload::new(seed, watched.clone()).and_then(Workload::run);
    let watched = watched.lock();
    let failed = watched.failed.clone().or(result.err().map(|what| (u64::MAX, what)));
    match failed {
        None => Ok(watched.seen),
        Some((image, what)) => Err(Failure {
            seed,
            operation: watched.seen.operations,
            step: watched.step.clone(),
            image,
            what,
        }),
    }
}

struct Workload {
    chance: Chance,
    disk: MemoryDisk,
    log: Arc<Log>,
    epoch: Epoch,
    serial: u64,
    now_ms: i64,
    watched: Arc<Mutex<Watched>>,
}

impl Workload {
    fn new(seed: u64, watched: Arc<Mutex<Watched>>) -> Result<Workload, String> {
        let disk = MemoryDisk::new();
        disk.create_dir(&dir()).map_err(|error| error.to_string())?;
        for above in dir().ancestors() {
            disk.sync_dir(above).map_err(|error| error.to_string())?;
        }
        watched.lock().step = "open".to_owned();
        watch(&disk, &watched);
        let log = Promise::default().open(&disk)?;
        Ok(Workload {
            chance: Chance::new(seed),
            disk,
            log,
            epoch: Epoch(0),
            serial: 0,
            now_ms: 0,
            watched,
        })
    }

    fn run(mut self) -> Result<(), String> {
        for _ in 0..STEPS {
            if self.watched.lock().failed.is_some() {
                return Ok(());
            }
            self.step()?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        match self.chance.below(47) {
            0..20 => self.append(),
            20..28 => self.flush(),
            28..31 => self.checkpoint(),
            31 => self.truncate(),
            32 => self.trim(),
            33 => self.fail_a_sync(),
            39 => self.sweep(),
            40 | 41 => self.seal(),
            42..46 => self.compact(),
            34 => self.stop_and_reopen(),
            35 | 36 => self.kill(),
            37 | 38 => self.lose_power(),
            _ => {
                self.epoch = Epoch(self.epoch.0 + 1);
                Ok(())
            }
        }
    }

    fn append(&mut self) -> Result<(), String> {
        let count = 1 + self.chance.below(4);
        let size = self.chance.below(400) as usize;
        let records: Vec<_> = (0..count).map(|_| self.record(size)).collect();
        let number = self.number();
        let before = {
            let mut watched = self.watched.lock();
            watched.step = format!("append {count}");
            let before = watched.promise.clone();
            watched.promise.append(&records, number, self.epoch);
            before
        };
        if let Err(error) = append(&self.log, &records, number, self.epoch) {
            if let AppendError::Sequence(error) = error {
                return Err(error.to_string());
            }
            // A sync has failed: only a restart helps.
            self.watched.lock().promise = before;
            return self.kill();
        }
        Ok(())
    }

    /// Most batches are of one of a few producers, and follow on what that one has in the log.
    fn number(&mut self) -> Number {
        let producer = self.chance.below(PRODUCERS + 1);
        if producer == PRODUCERS {
            return Number::NONE;
        }
        self.watched.lock().promise.next_number(producer as i64, self.chance.one_in(10))
    }

    fn record(&mut self, size: usize) -> Written {
        self.serial += 1;
        let value = format!("record {} {}", self.serial, "x".repeat(size));
        let value = if self.chance.one_in(5) { None } else { Some(value) };
        Written { key: self.chance.below(KEYS) as u8, value }
    }

    fn flush(&mut self) -> Result<(), String> {
        self.begin("flush");
        match self.log.flush() {
            Ok(synced) => self.acknowledge(synced),
            // A restart is one way on; another is that somebody tries again.
            Err(_) if self.chance.one_in(2) => return self.kill(),
            Err(_) => {}
        }
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<(), String> {
        self.begin("checkpoint");
        self.log.checkpoint().map_err(|error| error.to_string())
    }

    fn truncate(&mut self) -> Result<(), String> {
        let (to, end) = {
            let mut watched = self.watched.lock();
            let promise = &mut watched.promise;
            // Nobody takes back what was replicated, and nothing else is compacted.
            let from = promise.start.1.max(promise.clean_to);
            let to = from + self.chance.below(promise.end() - from + 1);
            let end = promise.end_if_cut_to(to);
            if end < from {
                return Ok(());
            }
            promise.at_least = promise.at_least.min(end);
            watched.step = format!("truncate to {to}");
            (to, end)
        };
        match self.log.truncate(Offset(to)) {
            Ok(cut) if cut.0 == end => {
                self.watched.lock().promise.cut(end);
                Ok(())
            }
            Ok(cut) => Err(format!("cut to {cut}, not to {end}")),
            Err(_) => self.settle_failed_cut(),
        }
    }

    /// A cut that failed may be there or not, and may come undone until the next sync.
    fn settle_failed_cut(&mut self) -> Result<(), String> {
        loop {
            self.reopen_first()?;
            if self.log.flush().is_ok() {
                self.watched.lock().promise.cut(self.log.end().0);
                return Ok(());
            }
        }
    }

    fn trim(&mut self) -> Result<(), String> {
        let to = {
            let mut watched = self.watched.lock();
            let promise = &mut watched.promise;
            let to = promise.start.1 + self.chance.below(promise.end() - promise.start.1 + 1);
            promise.start.1 = to;
            watched.step = format!("trim to {to}");
            to
        };
        match self.log.trim(Offset(to), None) {
            Ok(start) => {
                self.watched.lock().promise.start.0 = start.0;
                Ok(())
            }
            Err(_) => {
                self.kill()?;
                let start = self.log.start().0;
                self.watched.lock().promise.start = (start, start);
                Ok(())
            }
        }
    }

    fn fail_a_sync(&mut self) -> Result<(), String> {
        self.begin("failing sync");
        let segments = self.log.segments();
        let path = segments[segments.len() - 1].path().to_owned();
        self.disk.fail_next_sync(&path).map_err(|error| error.to_string())
    }

    fn stop_and_reopen(&mut self) -> Result<(), String> {
        self.begin("clean stop");
        if self.log.close().is_ok() {
            let end = self.log.end();
            self.acknowledge(end);
        }
        self.reopen()
    }

    /// The log closes its files.
    fn sweep(&mut self) -> Result<(), String> {
        self.begin("sweep");
        for _ in 0..2 {
            self.log.store().sweep();
        }
        Ok(())
    }

    /// Closed segments are sealed.
    fn seal(&mut self) -> Result<(), String> {
        self.begin("seal");
        while let Some(segment) = self.log.unsealed() {
            self.log.seal(&segment, &mut |_| {}).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn compact(&mut self) -> Result<(), String> {
        self.begin("compact");
        {
            let promise = &mut self.watched.lock().promise;
            promise.clean_to = promise.clean_to.max(self.log.synced().0);
        }
        self.now_ms += 1;
        let keys_bytes = if self.chance.one_in(2) { 1 << 10 } else { 0 };
        match compact(&self.log, keys_bytes, self.now_ms) {
            Ok(()) => Ok(()),
            // A sync has failed: only a restart helps.
            Err(_) => self.kill(),
        }
    }

    fn kill(&mut self) -> Result<(), String> {
        self.begin("kill");
        self.reopen()
    }

    /// Goes on with an image: the promise is what it has.
    fn lose_power(&mut self) -> Result<(), String> {
        self.begin("power failure");
        self.disk = self.disk.crash(self.chance.number());
        self.reopen_first()?;
        self.watched.lock().promise.cut(self.log.end().0);
        watch(&self.disk, &self.watched);
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), String> {
        self.reopen_first()?;
        // Records beyond the end can have been cut for good.
        self.watched.lock().promise.cut(self.log.end().0);
        Ok(())
    }

    fn reopen_first(&mut self) -> Result<(), String> {
        let promise = self.watched.lock().promise.clone();
        self.log = loop {
            match promise.open(&self.disk) {
                // One that was to fail does so while the log is opened; the operator tries again.
                Err(what) if what.ends_with(SYNC_FAILED) => {}
                done => break done?,
            }
        };
        let start = self.log.start().0;
        self.watched.lock().promise.start = (start, start);
        Ok(())
    }

    fn begin(&self, step: &str) {
        self.watched.lock().step = step.to_owned();
    }

    fn acknowledge(&self, synced: Offset) {
        let mut watched = self.watched.lock();
        watched.promise.at_least = watched.promise.at_least.max(synced.0);
    }
}

/// Looks at images of the disk after each of its operations.
fn watch(disk: &MemoryDisk, watched: &Arc<Mutex<Watched>>) {
    let watched = watched.clone();
    disk.watch(move |disk| look(disk, &watched));
}

fn look(disk: &MemoryDisk, watched: &Mutex<Watched>) {
    let (promise, mut chance) = {
        let mut watched = watched.lock();
        if watched.failed.is_some() {
            return;
        }
        watched.seen.operations += 1;
        watched.seen.images += IMAGES_EACH as usize;
        watched.chance += 1;
        (watched.promise.clone(), Chance::new(watched.chance.wrapping_mul(0x5851_f42d_4c95_7f2d)))
    };
    for _ in 0..IMAGES_EACH {
        let image = chance.number();
        if let Err(what) = judge(disk.crash(image), image, &promise) {
            watched.lock().failed = Some((image, what));
            return;
        }
    }
}

/// Opens an image, now and then crashing it meanwhile, and going on from it.
fn judge(image: MemoryDisk, seed: u64, promise: &Promise) -> Result<(), String> {
    let mut chance = Chance::new(seed);
    let failed = Arc::new(Mutex::new(None));
    if chance.one_in(16) {
        watch_recovery(&image, promise, chance.number(), &failed);
    }
    let log = promise.open(&image)?;
    if let Some(what) = failed.lock().take() {
        return Err(format!("crashed again while it was opened: {what}"));
    }
    if !chance.one_in(4) {
        return Ok(());
    }
    let mut promise = promise.clone();
    promise.cut(log.end().0);
    promise.start = (log.start().0, log.start().0);
    if chance.one_in(2) {
        return compact_image(&image, log, promise, chance);
    }
    let value = vec![Written { key: 0, value: Some("after the crash".to_owned()) }];
    let epoch = promise.epochs.last().map_or(Epoch(0), |(epoch, _)| *epoch);
    let number = promise.next_number(0, false);
    promise.append(&value, number, epoch);
    append(&log, &value, number, epoch).map_err(|error| format!("it takes no record: {error}"))?;
    log.flush().map_err(|error| format!("it cannot be synced: {error}"))?;
    promise.at_least = promise.end();
    drop(log);
    let again = promise.open(&image.crash(chance.number()));
    again.map(drop).map_err(|what| format!("a record later: {what}"))
}

/// What a compaction has left half done, another one may not take for done.
fn compact_image(
    image: &MemoryDisk,
    log: Arc<Log>,
    mut promise: Promise,
    mut chance: Chance,
) -> Result<(), String> {
    log.flush().map_err(|error| format!("it cannot be synced: {error}"))?;
    promise.at_least = promise.end();
    promise.clean_to = promise.end();
    compact(&log, 1 << 10, i64::MAX).map_err(|error| format!("it is not compacted: {error}"))?;
    promise.check(&log).map_err(|what| format!("compacted: {what}"))?;
    drop(log);
    let again = promise.open(&image.crash(chance.number()));
    again.map(drop).map_err(|what| format!("compacted, and crashed again: {what}"))
}

fn watch_recovery(
    image: &MemoryDisk,
    promise: &Promise,
    seed: u64,
    failed: &Arc<Mutex<Option<String>>>,
) {
    let (promise, failed) = (promise.clone(), failed.clone());
    let chance = Mutex::new(Chance::new(seed));
    image.watch(move |image| {
        let seed = chance.lock().number();
        if let Err(what) = promise.open(&image.crash(seed)) {
            failed.lock().get_or_insert(what);
        }
    });
}
