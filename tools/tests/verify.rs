//! `mkinspect verify` calls a sound log clean, and finds any flipped bit in it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::path::{Path, PathBuf};

use common::*;
use mk_storage::batch::Compression;

/// A log of some segments with batches of two codecs, closed in good order; its folder.
fn log(root: &Path) -> PathBuf {
    let dir = root.join("topics/t/0");
    let log = open(&dir);
    fill(&log, 30, Compression::Lz4);
    fill(&log, 75, Compression::None);
    log.close().unwrap();
    assert!(log.segments().len() >= 3);
    dir
}

#[test]
fn every_flipped_bit_of_every_file_is_found() {
    let root = tempfile::tempdir().unwrap();
    let dir = log(root.path());
    assert_eq!(damage(&dir), [""; 0]);
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let sound = std::fs::read(&path).unwrap();
        // All bits of the headers of the first batches, then one of each byte in turn.
        for byte in 0..sound.len() {
            let bits = if byte < 200 { 0..8 } else { byte as u32 % 8..byte as u32 % 8 + 1 };
            for bit in bits {
                let mut flipped = sound.clone();
                flipped[byte] ^= 1 << bit;
                std::fs::write(&path, &flipped).unwrap();
                assert!(!damage(&dir).is_empty(), "{} byte {byte} bit {bit}", path.display());
            }
        }
        std::fs::write(&path, &sound).unwrap();
    }
    assert_eq!(damage(&dir), [""; 0]);
}

/// A folder without a segment was passed over, and the directory called clean.
#[test]
fn a_partition_without_a_segment_is_damaged_and_a_topic_may_be_called_trash() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/trash/0");
    std::fs::create_dir_all(root.path().join("trash/deleted/0")).unwrap();
    std::fs::write(root.path().join("meta.properties"), "version=1\n").unwrap();
    std::fs::rename(log(&root.path().join("elsewhere")), {
        std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
        &dir
    })
    .unwrap();
    std::fs::write(dir.join("partition.metadata"), "version: 0\ntopic_id: x\n").unwrap();
    assert_eq!(damage(root.path()), [""; 0]);
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "log") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let found = damage(root.path());
    assert!(found[0].contains("no segment"), "{found:?}");
}

#[test]
fn the_program_names_the_place_and_ends_with_4() {
    let root = tempfile::tempdir().unwrap();
    let dir = log(root.path());
    let run = |arguments: &[&str]| {
        let (code, printed, _) = mkinspect(arguments);
        (code, printed)
    };
    let path = dir.to_str().unwrap();
    let (code, printed) = run(&["verify", path]);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("clean: 25 batches, 75 records"), "{printed}");
    let (code, printed) = run(&["ls", path]);
    assert!(code == 0 && printed.contains("00000000000000000000.log"), "{printed}");
    let (code, printed) = run(&["dump", "--records", path]);
    assert!(code == 0 && printed.contains("value 74, of some length"), "{printed}");
    let (code, printed) = run(&["dump", "-J", path]);
    assert_eq!(code, 0);
    for line in printed.lines() {
        let _: serde_json::Value = serde_json::from_str(line).unwrap();
    }

    // An index that is gone is built anew, the same.
    let index = dir.join("00000000000000000000.index");
    let before = std::fs::read(&index).unwrap();
    std::fs::remove_file(&index).unwrap();
    assert_eq!(run(&["verify", path]).0, 4);
    let interval = ["index", "rebuild", "--interval-bytes", "200", path];
    assert_eq!(run(&interval).0, 0);
    assert_eq!(std::fs::read(&index).unwrap(), before);

    let segment = dir.join("00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 4;
    std::fs::write(&segment, bytes).unwrap();
    let (code, printed) = run(&["verify", path]);
    assert_eq!(code, 4);
    assert!(printed.contains("00000000000000000000.log: byte 0, offset 0"), "{printed}");
    // Each damaged batch is told, not the first alone.
    let mut bytes = std::fs::read(&segment).unwrap();
    let second = 12 + u32::from_be_bytes(*bytes[8..].first_chunk().unwrap()) as usize;
    let third =
        second + 12 + u32::from_be_bytes(*bytes[second + 8..].first_chunk().unwrap()) as usize;
    bytes[third + 100] ^= 4;
    std::fs::write(&segment, bytes).unwrap();
    let (_, printed) = run(&["verify", "-q", path]);
    assert!(printed.contains("log: byte 0, offset 0"), "{printed}");
    assert!(printed.contains(&format!("log: byte {third}, offset 6")), "{printed}");
    assert!(printed.contains("2 DAMAGED"), "{printed}");
    let (code, printed) = run(&["index", "rebuild", path]);
    assert!(code == 4 && printed.contains("indexed up to there"), "{printed}");
    assert_eq!(run(&["verify", "/nowhere"]).0, 1);
    assert_eq!(run(&["verify"]).0, 2);
}
