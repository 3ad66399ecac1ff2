//! What the inspector makes of compacted logs, and of compactions that were interrupted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use common::*;
use mk_storage::batch::Compression;
use mk_storage::directory::{DataDirectory, Identity};
use mk_storage::disk::{Disk, MappedDisk, MemoryDisk};
use mk_storage::log::{Compacted, Log, LogSettings};
use mk_tools::find::{look as look_at, partitions};
use mk_tools::{list, stats, verify};
use serde_json::Value;

const INTERRUPTED: &str = "a compaction was interrupted; the next start of the broker finishes it";

/// Names and contents of a partition's files.
type State = Vec<(String, Vec<u8>)>;

fn state(disk: &MemoryDisk, dir: &Path) -> State {
    let names = disk.list(dir).unwrap().into_iter().map(|entry| entry.name);
    names.map(|name| (name.clone(), disk.bytes(&dir.join(name)).unwrap())).collect()
}

/// Appends up to `end` and compacts, several segments into one of at most so many bytes.
fn fill_and_compact(log: &Arc<Log>, end: u64, segment_bytes: u64) -> Compacted {
    log.set_settings(SETTINGS);
    fill(log, end, Compression::None);
    log.flush().unwrap();
    log.checkpoint().unwrap();
    seal_all(log);
    log.set_settings(LogSettings { segment_bytes, ..SETTINGS });
    compact(log, ENOUGH)
}

/// The folder of a partition after each step of two compactions: what a killed broker may leave.
fn states_of_compactions() -> Vec<State> {
    let (disk, dir) = (MemoryDisk::new(), Path::new("p"));
    let log = try_open_on(Arc::new(disk.clone()), dir).unwrap();
    let states = Arc::new(Mutex::new(Vec::new()));
    let seen = states.clone();
    disk.watch(move |disk| {
        let now = state(disk, dir);
        let mut seen = seen.lock().unwrap();
        // Appends alone leave nothing that is of interest here.
        let of_compaction = |name: &str| name.ends_with(".swap") || name.ends_with(".cleaned");
        if now.iter().any(|(name, _)| of_compaction(name)) && seen.last() != Some(&now) {
            seen.push(now);
        }
    });
    for (end, segment_bytes) in [(120, 1500), (180, 4000)] {
        let done = fill_and_compact(&log, end, segment_bytes);
        let is_merged = done.segments_after < done.segments_before;
        assert_eq!(is_merged, segment_bytes > 1500, "{done:?}");
    }
    disk.watch(|_| ());
    std::mem::take(&mut states.lock().unwrap())
}

fn put(state: &State, dir: &Path) {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir).unwrap();
    for (name, bytes) in state {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

fn has(state: &State, ending: &str) -> bool {
    state.iter().any(|(name, _)| name.ends_with(ending))
}

fn records_after_a_start(state: &State, dir: &Path) -> Vec<(u64, Option<String>)> {
    put(state, dir);
    contents(&open(dir))
}

/// In each of these states a partition is in order. Only the words "interrupted" and "ignored" tell
/// of it, and `repair` leaves what a start does.
#[test]
fn an_interrupted_compaction_is_no_damage_and_is_finished() {
    let root = tempfile::tempdir().unwrap();
    let (dir, other) = (root.path().join("topics/t/0"), root.path().join("other"));
    let path = dir.to_str().unwrap();
    let states = states_of_compactions();
    sealed_log(&other);
    let (mut swaps, mut unbuilt, mut leftovers) = (0, 0, 0);
    for (at, state) in states.iter().enumerate() {
        let expected = records_after_a_start(state, &dir);
        put(state, &dir);
        look(&dir, &other);
        let before = files(&dir);
        let (code, printed, told) = mkinspect(&["verify", path]);
        assert_eq!(code, 0, "{at}: {printed}{told}");
        let is_swap = has(state, ".log.swap");
        let is_unbuilt = has(state, "index.cleaned") && !has(state, "log.cleaned") && !is_swap;
        assert_eq!(printed.contains(INTERRUPTED), is_swap, "{at}: {printed}");
        let is_told = printed.contains("the next start of the broker makes it anew");
        assert_eq!(is_told, is_swap || is_unbuilt, "{at}: {printed}");
        assert_eq!(printed.contains("ignored"), has(state, ".cleaned"), "{at}: {printed}");
        assert_eq!(mkinspect(&["verify", "-q", path]).1.lines().count(), 1);
        let (code, shown, _) = mkinspect(&["map", "--verify", path]);
        assert!(code == 0 && !shown.contains("DAMAGED"), "{at}: {shown}");
        let (code, listed, _) = mkinspect(&["ls", path]);
        assert_eq!((code, listed.contains(INTERRUPTED)), (0, is_swap), "{at}: {listed}");
        assert_eq!(listed.contains(".log.swap  "), is_swap, "{at}: {listed}");
        let (_, counted, _) = mkinspect(&["stats", "-J", path]);
        let counted: Value = serde_json::from_str(&counted).unwrap();
        assert_eq!(counted["records"], expected.len(), "{at}");
        let (code, would, _) = mkinspect(&["repair", "--dry-run", path]);
        let is_left = is_swap || has(state, ".cleaned");
        assert!(code == 4 || !is_left, "{at}: {would}");
        assert_eq!(would.contains("finish      "), is_swap, "{at}: {would}");
        assert_eq!(files(&dir), before, "{at}: nothing was changed so far");

        let (code, done, told) = mkinspect(&["repair", "-y", path]);
        assert_eq!(code, 0, "{at}: {done}{told}");
        assert_eq!(mkinspect(&["repair", path]).1, "nothing to do: 1 partitions are in order\n");
        let names: Vec<_> = files(&dir).into_iter().map(|(path, _)| path).collect();
        let is_over = |path: &Path| {
            path.extension().is_none_or(|ending| ending != "cleaned" && ending != "swap")
        };
        assert!(names.iter().all(|path| is_over(path)), "{at}: {names:?}");
        assert_eq!(damage(&dir), [""; 0], "{at}");
        assert_eq!(contents(&open(&dir)), expected, "{at}");
        swaps += usize::from(is_swap);
        unbuilt += usize::from(is_unbuilt);
        leftovers += usize::from(has(state, ".cleaned"));
    }
    assert!(swaps >= 10 && unbuilt >= 2 && leftovers > swaps, "{swaps} {unbuilt} {leftovers}");
}

/// It was made anew from the segment whose place another one takes.
#[test]
fn an_index_is_rebuilt_of_the_segment_that_there_will_be() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    for state in states_of_compactions().iter().filter(|state| has(state, ".log.swap")) {
        put(state, &dir);
        let (code, printed, _) = mkinspect(&["index", "rebuild", dir.to_str().unwrap()]);
        assert_eq!(code, 0, "{printed}");
        assert_eq!(damage(&dir), [""; 0]);
    }
}

/// A segment that should be whole and is not takes nobody's place, and may have what is nowhere else.
#[test]
fn a_broken_swap_is_damage_and_is_set_aside() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    let path = dir.to_str().unwrap();
    let states = states_of_compactions();
    let first = states.iter().position(|state| has(state, ".log.swap")).unwrap();
    let before = records_after_a_start(&states[first - 1], &dir);
    put(&states[first], &dir);
    let swap = files(&dir).into_iter().find(|(path, _)| path.ends_with(SWAP)).unwrap();
    let mut broken = swap.1.clone();
    broken[80] ^= 1;
    std::fs::write(&swap.0, &broken).unwrap();
    let found = damage(&dir);
    assert!(found.len() == 1 && found[0].contains("log.swap: byte 0, offset 0: CRC"), "{found:?}");
    for command in ["ls", "dump", "stats", "map"] {
        assert_eq!(mkinspect(&[command, path]).0, 0, "{command}");
    }
    assert!(mkinspect(&["ls", path]).1.contains("log.swap: DAMAGED at byte 0"));
    assert_eq!(mkinspect(&["map", "--verify", path]).0, 4);
    let (code, printed, _) = mkinspect(&["repair", "-y", path]);
    assert!(
        code == 0 && printed.contains("set aside   00000000000000000000.log.swap"),
        "{printed}"
    );
    assert_eq!(damage(&dir), [""; 0]);
    assert_eq!(contents(&open(&dir)), before);
    let folders = std::fs::read_dir(dir.parent().unwrap()).unwrap();
    let backup = folders.map(|entry| entry.unwrap().path()).find(|path| *path != dir).unwrap();
    assert_eq!(std::fs::read(backup.join(SWAP)).unwrap(), broken);
}

const SWAP: &str = "00000000000000000000.log.swap";

#[test]
fn compacted_segments_are_told_from_those_that_are_sealed_alone() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    let path = dir.to_str().unwrap();
    sealed_log(&dir);
    let log = open(&dir);
    // Room for 7 keys: the 4 of the first step, and no more than a part of the log.
    while compact(&log, 8 * 25).clean_to.0 < 20 {}
    log.close().unwrap();
    let clean: Vec<_> = log
        .segments()
        .iter()
        .map(|segment| segment.seal().map(|seal| seal.cleaned_to >= seal.next))
        .collect();
    drop(log);
    let (_, printed, _) = mkinspect(&["map", "-c", path]);
    let signs: String = clean
        .iter()
        .map(|clean| match clean {
            Some(true) => '◆',
            Some(false) => '■',
            None => '▷',
        })
        .collect();
    assert_eq!(printed.lines().nth(1).unwrap().trim(), signs, "{printed}");
    assert!(printed.contains("◆ compacted"), "{printed}");
    let (_, printed, _) = mkinspect(&["map", path]);
    let compacted = clean.iter().filter(|clean| **clean == Some(true)).count();
    assert!(compacted > 0, "{clean:?}");
    let rows: Vec<_> = printed.lines().filter(|line| line.starts_with("  ")).collect();
    assert_eq!(rows.iter().filter(|row| row.contains("  compacted")).count(), compacted);
    assert!(rows[0].contains('▓') && !rows[rows.len() - 1].contains('▓'), "{printed}");
    assert!(rows.iter().all(|row| row.chars().count() <= 80), "{printed}");
    let (_, printed, _) = mkinspect(&["ls", path]);
    assert_eq!(printed.matches(" compacted ").count(), compacted, "{printed}");
}

#[test]
fn dump_and_stats_tell_what_compaction_left() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    let path = dir.to_str().unwrap();
    compacted_log(&dir);
    let kept = contents(&open(&dir)).len();
    let (_, printed, _) = mkinspect(&["stats", "-J", path]);
    let counted: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((&counted["records"], &counted["nextOffset"]), (&kept.into(), &120.into()));
    assert_eq!(counted["missingOffsets"], 120 - kept);
    assert!(counted["compacted"].as_u64().unwrap() > 0);
    // A delete horizon is nobody's time.
    let first = counted["firstTime"].as_i64().unwrap();
    assert!((1_700_000_000_000..1_700_000_001_200).contains(&first), "{first}");
    let (_, printed, _) = mkinspect(&["stats", path]);
    let missing = format!("0..120, {} without a record: ", 120 - kept);
    assert!(printed.contains(&missing) && printed.contains("of these compacted"), "{printed}");

    let (_, printed, _) = mkinspect(&["dump", path]);
    // 1000 ms behind the compaction.
    assert!(printed.contains("delete-horizon 2027-01-15T08:00:01.000Z"), "{printed}");
    assert!(printed.contains("  cleaned-to "), "{printed}");
    let (_, printed, _) = mkinspect(&["dump", "-J", path]);
    let lines = || printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let horizons: BTreeSet<_> =
        lines().filter_map(|line| line["deleteHorizonMs"].as_i64()).collect();
    assert_eq!(horizons, BTreeSet::from([LATER_MS + 1000]));
    assert!(lines().any(|line| line["seal"]["cleanedTo"].as_u64().is_some_and(|to| to > 0)));

    // The files of a compaction under their own names.
    for (path, _) in
        files(&dir).iter().filter(|(path, _)| path.extension().is_some_and(|it| it == "log"))
    {
        let swap = path.with_extension("log.swap");
        std::fs::copy(path, &swap).unwrap();
        let (code, printed, _) = mkinspect(&["dump", swap.to_str().unwrap()]);
        assert!(code == 0 && printed.contains("  offset "), "{printed}");
        std::fs::remove_file(swap).unwrap();
    }
}

/// Files were listed, and then gone, while a broker compacted: `verify` ended with an error.
#[test]
fn a_broker_may_compact_what_is_looked_at() {
    let root = tempfile::tempdir().unwrap();
    let disk = MappedDisk::start().unwrap();
    let identity = || Identity { cluster_id: "c".to_owned(), broker_id: 1 };
    let broker = DataDirectory::open(&disk, root.path(), identity).unwrap();
    let dir = root.path().join("topics/t/0");
    sealed_log(&dir);
    let log = open(&dir);
    fill_and_compact(&log, 130, 1500);
    let stale = partitions(&disk, root.path()).unwrap().remove(0);
    let done = fill_and_compact(&log, 180, 4000);
    assert!(done.segments_after < done.segments_before);
    let is_sound = |reports: &[verify::FileReport]| {
        let damage: Vec<_> = reports.iter().flat_map(|report| &report.damage).collect();
        assert!(damage.is_empty(), "{damage:?}");
    };
    is_sound(&verify::partition(&disk, &stale).unwrap());
    list::print(&mut std::io::sink(), &disk, &stale).unwrap();
    look_at(&disk, &stale, |files| stats::partition(&disk, files)).unwrap();

    // And while it is at it.
    let compacting = thread::spawn(move || {
        for end in (210..1500).step_by(30) {
            fill_and_compact(&log, end, 4000);
        }
    });
    let mut looks = 0;
    while !compacting.is_finished() {
        for files in partitions(&disk, root.path()).unwrap() {
            is_sound(&verify::partition(&disk, &files).unwrap());
            look_at(&disk, &files, |files| stats::partition(&disk, files)).unwrap();
        }
        looks += 1;
    }
    compacting.join().unwrap();
    assert!(looks > 3, "{looks}");
    drop(broker);
}
