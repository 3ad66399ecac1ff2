//! Indexes: entries are read as far as they make sense, and what a log serves does not depend on
//! them.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::OnceLock;

use mk_storage::checkpoint::{CHECKPOINT_FILE, Checkpoint};
use mk_storage::index::{Entry, OffsetEntry, TimeEntry, entries};
use mk_storage::log::Log;
use mk_storage::{Epoch, Offset, Timestamp};

use crate::edit::edit;
use crate::input::Input;
use crate::log::{Files, Sample, Shape, consume, encoded, open, read, written};

pub fn index(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let base = Offset(input.pick([0, 5, 1 << 40, i64::MAX as u64 - 10]));
    let sample = fixed();
    let mut files = sample.files.clone();
    match input.below(3) {
        0 => set_recovery_point(&mut files, input.below(sample.records.len()) as u64),
        1 => drop(files.remove(CHECKPOINT_FILE)),
        _ => {}
    }
    for (name, file) in files.iter_mut().filter(|(name, _)| name.ends_with("index")) {
        match input.below(4) {
            0 => {}
            1 => *file = input.piece(100).to_vec(),
            2 => {
                edit(&mut input, file);
            }
            _ => rewrite(&mut input, name, file),
        }
        entries_increase_and_are_the_files_first::<OffsetEntry>(file, base);
        entries_increase_and_are_the_files_first::<TimeEntry>(file, base);
    }
    if input.one_in(4) {
        files.retain(|name, _| !name.ends_with("index") || input.one_in(2));
    }
    let log = every_record_is_served(&files, sample);
    // A closed segment's largest time is taken from the end of its time index.
    let is_same = |name: &String| files.get(name) == sample.files.get(name);
    if sample.files.keys().filter(|name| name.ends_with("timeindex")).all(is_same) {
        every_time_is_found(&log, sample, &mut input);
    }
}

/// A log of several segments, each with some entries in its indexes, in good order.
fn fixed() -> &'static Sample {
    static FIXED: OnceLock<Sample> = OnceLock::new();
    FIXED.get_or_init(|| {
        let records = |at: i64| vec![(1000 + at * 37 % 101, 100); 1 + at as usize % 3];
        let batches = (0..30).map(|at| (Epoch(at as i32 / 10), records(at))).collect();
        let sample =
            written(&Shape { batches, flushed: 30, trimmed: None, sealed: false, closed: true });
        assert!(sample.files.len() > 9, "more than three segments");
        let indexes = sample.files.iter().filter(|(name, _)| name.ends_with("index"));
        assert!(indexes.clone().filter(|(_, file)| file.len() > 16).count() > 6, "some entries");
        sample
    })
}

fn set_recovery_point(files: &mut Files, offset: u64) {
    let recovery_point = Offset(offset);
    let checkpoint = Checkpoint { recovery_point, ..Checkpoint::default() };
    files.insert(CHECKPOINT_FILE.to_owned(), encoded(&checkpoint));
}

/// Changes a number of an entry so that entries still increase, or nearly: what damage does that
/// is hard to see.
fn rewrite(input: &mut Input<'_>, name: &str, file: &mut [u8]) {
    let size = if name.ends_with("timeindex") { TimeEntry::SIZE } else { OffsetEntry::SIZE };
    for _ in 0..=input.below(2) {
        let field = input.below(file.len() / 4) * 4;
        let change = input.below(400) as i32 - 200;
        if let Some(field) = file.get_mut(field..).and_then(|rest| rest.first_chunk_mut()) {
            *field = i32::from_be_bytes(*field).wrapping_add(change).to_be_bytes();
        }
        let gone = input.below(file.len() / size + 1) * size;
        if input.one_in(8) && gone < file.len() {
            file.copy_within(gone.., 0);
        }
    }
}

fn entries_increase_and_are_the_files_first<E: Entry + PartialEq + Debug>(
    file: &[u8],
    base: Offset,
) {
    let found = entries::<E>(file, base);
    assert!(found.windows(2).all(|pair| pair[1].follows(&pair[0]) && !pair[0].follows(&pair[1])));
    assert!(found.windows(2).all(|pair| pair[1].offset() > pair[0].offset()));
    let mut bytes = Vec::new();
    found.iter().for_each(|entry| entry.encode(base, &mut bytes));
    assert!(file.starts_with(&bytes));
    assert_eq!(entries::<E>(&bytes, base), found);
}

fn every_record_is_served(files: &Files, sample: &Sample) -> Arc<Log> {
    let (_, log) = open(files);
    let (log, recovery) = log.expect("the log is sound, and it is the authority");
    assert_eq!((recovery.bytes_cut, recovery.cut_because), (0, None));
    assert_eq!((log.start().0, log.end().0), (0, sample.records.len() as u64));
    for most in [1, 500, 1 << 20] {
        let (got, wrong) = consume(&log, most);
        assert_eq!(wrong, None, "reading {most} bytes at once");
        assert_eq!(got, sample.records);
    }
    for place in &sample.batches {
        for offset in place.offsets.0..place.offsets.1 {
            let (next, got) = read(&log, Offset(offset), 1).expect("a record below the end");
            assert_eq!(next.0, place.offsets.1, "one batch, that of {offset}");
            assert_eq!(got, sample.records[place.offsets.0 as usize..place.offsets.1 as usize]);
        }
    }
    log
}

fn every_time_is_found(log: &Log, sample: &Sample, input: &mut Input<'_>) {
    let first = input.below(8) as i64;
    for time in (990 + first..1110).step_by(8) {
        let found = log.find_time(Timestamp(time)).expect("a sound log");
        let expected = sample.records.iter().find(|record| record.timestamp >= time);
        let expected = expected.map(|record| (record.offset, record.timestamp));
        assert_eq!(found.map(|found| (found.offset.0, found.timestamp.0)), expected, "{time}");
    }
}
