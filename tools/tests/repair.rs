//! `mkinspect repair` leaves a log that verifies and opens, whatever was done to its files, and keeps
//! what it takes away.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::path::{Path, PathBuf};

use common::*;
use mk_storage::batch::Compression;
use mk_storage::disk::MappedDisk;
use mk_tools::find::partitions;
use mk_tools::repair::{Options, Plan, plan, run};
use proptest::prelude::*;

fn planned(dir: &Path, cut: bool) -> Plan {
    let disk = MappedDisk::start().unwrap();
    let files = partitions(&disk, dir).unwrap().remove(0);
    plan(&disk, &files, cut).unwrap()
}

fn repair(dir: &Path, cut: bool) {
    let options = Options { cut, backup: None, interval_bytes: 200 };
    let disk = MappedDisk::start().unwrap();
    run(&disk, &planned(dir, cut), &options, |_| Ok(())).unwrap();
}

/// Something bad. Numbers are taken modulo what there is.
#[derive(Clone, Debug)]
enum Harm {
    Flip { file: usize, bit: usize },
    Truncate { file: usize, length: usize },
    Delete { file: usize },
    Garbage { file: usize, at: usize, bytes: Vec<u8> },
    Append { file: usize, bytes: Vec<u8> },
    Stray { name: &'static str, bytes: Vec<u8> },
    CopySegment { file: usize, base: u64 },
}

const STRAYS: [&str; 11] = [
    "checkpoint.tmp",
    "00000000000000000000.seal.tmp",
    "00000000000000000031.log",
    "00000000000000000031.index",
    "99999999999999999999.log",
    "09223372036854775807.log",
    "00000000000000000500.seal",
    "00000000000000000000.log.swap",
    "00000000000000000033.log.swap",
    "00000000000000000000.log.cleaned",
    "00000000000000000000.timeindex.cleaned",
];

fn harm() -> impl Strategy<Value = Harm> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..100);
    let any = any::<usize>;
    prop_oneof![
        4 => (any(), any()).prop_map(|(file, bit)| Harm::Flip { file, bit }),
        2 => (any(), any()).prop_map(|(file, length)| Harm::Truncate { file, length }),
        2 => any().prop_map(|file| Harm::Delete { file }),
        2 => (any(), any(), bytes())
            .prop_map(|(file, at, bytes)| Harm::Garbage { file, at, bytes }),
        1 => (any(), bytes()).prop_map(|(file, bytes)| Harm::Append { file, bytes }),
        2 => (0..STRAYS.len(), bytes())
            .prop_map(|(at, bytes)| Harm::Stray { name: STRAYS[at], bytes }),
        1 => (any(), 0..200u64).prop_map(|(file, base)| Harm::CopySegment { file, base }),
    ]
}

fn do_harm(dir: &Path, harm: &Harm) {
    let files = files(dir);
    let at = |file: &usize| files.get(file % files.len().max(1)).cloned();
    let write = |path: PathBuf, bytes: &[u8]| std::fs::write(path, bytes).unwrap();
    match harm {
        Harm::Flip { file, bit } => {
            if let Some((path, mut bytes)) = at(file).filter(|(_, bytes)| !bytes.is_empty()) {
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                write(path, &bytes);
            }
        }
        Harm::Truncate { file, length } => {
            if let Some((path, bytes)) = at(file) {
                write(path, &bytes[..length % (bytes.len() + 1)]);
            }
        }
        Harm::Delete { file } => {
            if let Some((path, _)) = at(file) {
                std::fs::remove_file(path).unwrap();
            }
        }
        Harm::Garbage { file, at: place, bytes: garbage } => {
            if let Some((path, mut bytes)) = at(file) {
                let place = place % (bytes.len() + 1);
                for (byte, garbage) in bytes[place..].iter_mut().zip(garbage) {
                    *byte = *garbage;
                }
                write(path, &bytes);
            }
        }
        Harm::Append { file, bytes: more } => {
            if let Some((path, bytes)) = at(file) {
                write(path, &[bytes, more.clone()].concat());
            }
        }
        Harm::Stray { name, bytes } => write(dir.join(name), bytes),
        Harm::CopySegment { file, base } => {
            let logs: Vec<_> = files
                .iter()
                .filter(|(path, _)| path.extension().is_some_and(|ending| ending == "log"))
                .collect();
            if let Some((_, bytes)) = logs.get(file % logs.len().max(1)) {
                write(dir.join(format!("{base:020}.log")), bytes);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 96, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default()
    })]
    #[test]
    fn after_a_repair_the_log_verifies_and_opens_and_has_nothing_that_was_not_in_it(
        closed: bool,
        trimmed in prop_oneof![Just(0u64), Just(40)],
        harms in prop::collection::vec(harm(), 1..4),
    ) {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("topics/t/0");
        sealed_log(&dir);
        let log = open(&dir);
        log.trim(mk_storage::Offset(trimmed), None).unwrap();
        fill(&log, 135, Compression::Lz4);
        log.checkpoint().unwrap();
        fill(&log, 150, Compression::Zstd);
        if closed {
            log.close().unwrap();
        }
        let before = contents(&log);
        drop(log);
        let other = root.path().join("other");
        copy(&dir, &other);
        std::fs::write(dir.join("partition.metadata"), "version: 0\ntopic_id: x\n").unwrap();
        for harm in &harms {
            do_harm(&dir, harm);
        }
        std::fs::write(dir.join("partition.metadata"), "version: 0\ntopic_id: x\n").unwrap();
        look(&dir, &other);
        let harmed = files(&dir);

        repair(&dir, false);
        let logs = |dir: &Path| {
            let mut found = files(dir);
            found.retain(|(path, _)| path.extension().is_some_and(|ending| ending == "log"));
            found
        };
        let is_log = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "log");
        let harmed_logs: Vec<_> =
            harmed.iter().filter(|(path, _)| is_log(path)).cloned().collect();
        prop_assert_eq!(logs(&dir), harmed_logs.clone(), "without --cut no batch is touched");
        let rest = planned(&dir, false);
        prop_assert!(rest.mends.is_empty(), "{:?}", rest.mends);

        repair(&dir, true);
        let rest = planned(&dir, true);
        prop_assert!(rest.is_empty(), "{rest:?}");
        prop_assert_eq!(damage(&dir), Vec::<String>::new());
        for (path, bytes) in harmed_logs {
            let kept = std::fs::read(&path).is_ok_and(|found| found == bytes);
            let topic = std::fs::read_dir(dir.parent().unwrap()).unwrap();
            let mut backups = topic.map(|entry| entry.unwrap().path()).filter(|path| *path != dir);
            let name = path.file_name().unwrap();
            let saved = backups
                .any(|backup| std::fs::read(backup.join(name)).is_ok_and(|found| found == bytes));
            prop_assert!(kept || saved, "{}", path.display());
        }
        let log = try_open(&dir).unwrap();
        let after = contents(&log);
        for (offset, value) in &after {
            // Records below the log start come back if the checkpoint is lost; a segment's copy under
            // the number that follows is told by its first batch.
            let was = before.iter().find(|(other, _)| other == offset);
            prop_assert!(was.is_none_or(|(_, old)| old == value), "{offset}: {value:?}");
        }
        // Without the checkpoint nothing tells that a leader epoch was changed.
        if log.epochs().last().is_none_or(|(epoch, _)| epoch.0 <= 1) {
            fill(&log, log.end().0.max(60) + 10, Compression::None);
        }
        log.close().unwrap();
        drop(log);
        prop_assert_eq!(damage(&dir), Vec::<String>::new());
    }
}

/// Damage in the middle: the plan says what it takes, the cut takes just that, the rest is in the
/// backup, and the broker's folder has no other partition in it.
#[test]
fn a_cut_is_planned_then_done_and_the_backup_has_what_was_cut() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    sealed_log(&dir);
    std::fs::write(dir.join("partition.metadata"), "version: 0\ntopic_id: x\n").unwrap();
    let path = dir.to_str().unwrap();
    assert_eq!(mkinspect(&["repair", "-y", path]).0, 0);
    let segments: Vec<_> = open(&dir).segments().iter().map(|segment| segment.base()).collect();
    let second = dir.join(format!("{:020}.log", segments[1].0));
    let sound = std::fs::read(&second).unwrap();
    let mut bytes = sound.clone();
    let batch = 12 + u32::from_be_bytes(*bytes[8..].first_chunk().unwrap()) as usize;
    bytes[batch + 70] ^= 1;
    std::fs::write(&second, &bytes).unwrap();
    let end = segments[1].0 + EACH;

    let before = files(&dir);
    let (code, printed, _) = mkinspect(&["repair", "--dry-run", "--cut", path]);
    assert_eq!(code, 4, "{printed}");
    let cut = format!("{:020}.log at byte {batch}: the log ends at offset {end}", segments[1].0);
    assert!(printed.contains(&cut), "{printed}");
    let (code, _, told) = mkinspect(&["repair", "--cut", path]);
    assert!(code == 2 && told.contains("-y does it"), "{told}");
    let (code, printed, _) = mkinspect(&["repair", "-y", path]);
    assert!(code == 4 && printed.contains("damage is left"), "{printed}");
    assert_eq!(files(&dir), before, "nothing was changed so far");

    let (code, printed, _) = mkinspect(&["repair", "-y", "--cut", path]);
    assert!(code == 0 && printed.contains(&cut), "{printed}");
    let topic = root.path().join("topics");
    let (code, printed, _) = mkinspect(&["verify", topic.to_str().unwrap()]);
    assert!(code == 0 && printed.contains("clean"), "the backup is no partition: {printed}");
    let (code, printed, _) = mkinspect(&["repair", topic.to_str().unwrap()]);
    assert!(code == 0 && printed.contains("nothing to do: 1 partitions"), "{printed}");
    let log = open(&dir);
    assert_eq!(log.end().0, end);
    assert_eq!(contents(&log).len() as u64, end);

    let entries = std::fs::read_dir(dir.parent().unwrap()).unwrap();
    let backup = entries.map(|entry| entry.unwrap().path()).find(|path| *path != dir).unwrap();
    assert!(backup.file_name().unwrap().to_str().unwrap().starts_with("0.backup-"));
    let saved = files(&backup);
    // Snapshots follow from the log; the start has removed those of more than it has.
    for (path, bytes) in
        before.into_iter().filter(|(path, _)| path.extension() != Some("snapshot".as_ref()))
    {
        let name = path.file_name().unwrap();
        let digits = name.to_str().unwrap().get(..20);
        let number = digits.map_or(0, |digits| digits.parse::<u64>().unwrap());
        let changed = number >= segments[1].0 || name == "checkpoint";
        let found = saved.iter().find(|(saved, _)| saved.file_name() == Some(name));
        assert_eq!(found.map(|(_, bytes)| bytes), changed.then_some(&bytes), "{name:?}");
    }
}

/// A checkpoint that vouched for a log's first segment kept the partition offline for ever.
#[test]
fn a_log_whose_first_segment_is_lost_begins_behind_it() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    sealed_log(&dir);
    let second = open(&dir).segments()[1].base();
    std::fs::remove_file(dir.join("00000000000000000000.log")).unwrap();
    assert!(damage(&dir)[0].contains("its first segment at"), "{:?}", damage(&dir));
    assert!(try_open(&dir).is_err());
    repair(&dir, true);
    let log = open(&dir);
    assert_eq!((log.start(), log.end().0), (second, 120));
    assert_eq!(contents(&log).first().unwrap().0, second.0);
}

/// Offsets that consumers have seen are not given out a second time.
#[test]
fn a_log_of_which_nothing_is_left_goes_on_at_its_recovery_point() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    sealed_log(&dir);
    std::fs::write(dir.join("partition.metadata"), "version: 0\ntopic_id: x\n").unwrap();
    for (path, _) in files(&dir) {
        if path.extension().is_some_and(|ending| ending != "metadata") {
            std::fs::remove_file(path).unwrap();
        }
    }
    repair(&dir, true);
    assert_eq!(damage(&dir), [""; 0]);
    let log = open(&dir);
    assert_eq!((log.start().0, log.end().0), (120, 120));
}

#[test]
fn a_directory_in_use_is_refused_and_so_is_a_backup_among_the_topics() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let disk = MappedDisk::start().unwrap();
    let identity = || mk_storage::directory::Identity { cluster_id: "c".to_owned(), broker_id: 1 };
    let broker = mk_storage::directory::DataDirectory::open(&disk, &data, identity).unwrap();
    let dir = data.join("topics/t/0");
    sealed_log(&dir);
    std::fs::write(dir.join("checkpoint.tmp"), "x").unwrap();
    std::fs::write(dir.join("00000000000000000000.log"), "x").unwrap();
    let path = data.to_str().unwrap();
    for arguments in [["repair", "--dry-run", path], ["repair", "-y", path]] {
        let (code, _, told) = mkinspect(&arguments);
        assert!(
            code == 1 && told.contains("a broker runs here") && told.contains("hint:"),
            "{told}"
        );
    }
    drop(broker);
    let among = data.join("topics/b");
    let (code, _, told) =
        mkinspect(&["repair", "-y", "--cut", "--backup", among.to_str().unwrap(), path]);
    assert!(code == 1 && told.contains("no backup can go to"), "{told}");
    assert!(!among.exists(), "the broker would take it for a topic");
    let outside = root.path().join("backups");
    let (code, printed, told) =
        mkinspect(&["repair", "-y", "--cut", "--backup", outside.to_str().unwrap(), path]);
    assert_eq!(code, 0, "{printed}{told}");
    let name = std::fs::read_dir(&outside).unwrap().next().unwrap().unwrap().file_name();
    assert!(name.to_str().unwrap().starts_with("t-0.backup-"), "{name:?}");
    assert_eq!(mkinspect(&["verify", path]).0, 0);
}
