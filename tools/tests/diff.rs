//! `mkinspect diff` tells where two replicas differ first, and how.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::path::{Path, PathBuf};

use common::*;
use mk_storage::batch::{BatchBuilder, CheckedBatch, Compression, checksum};
use mk_storage::{Epoch, Offset, Timestamp};

/// Two copies of a log.
fn replicas(root: &Path) -> (PathBuf, PathBuf) {
    let (a, b) = (root.join("a/topics/t/0"), root.join("b/topics/t/0"));
    sealed_log(&a);
    copy(&a, &b);
    (a, b)
}

fn diff(a: &Path, b: &Path) -> (i32, String) {
    let (code, printed, _) = mkinspect(&["diff", a.to_str().unwrap(), b.to_str().unwrap()]);
    (code, printed)
}

/// Changes the first segment's second batch, and makes its checksum right again.
fn change(dir: &Path, change: impl Fn(&mut [u8])) -> usize {
    let path = dir.join("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let size =
        |at: usize| 12 + u32::from_be_bytes(*bytes[at + 8..].first_chunk().unwrap()) as usize;
    let second = size(0);
    let end = second + size(second);
    let batch = &mut bytes[second..end];
    change(batch);
    let crc = checksum(batch);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    std::fs::write(&path, &bytes).unwrap();
    second
}

#[test]
fn copies_are_equal() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = replicas(root.path());
    let (code, printed) = diff(&a, &b);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.starts_with("equal") && printed.contains("0..120, 40 batches"), "{printed}");
    let (code, printed) = diff(&root.path().join("a"), &root.path().join("b"));
    assert_eq!(code, 0, "by name: {printed}");
    std::fs::rename(root.path().join("b/topics/t/0"), root.path().join("b/topics/t/1")).unwrap();
    let (code, printed) = diff(&root.path().join("a"), &root.path().join("b"));
    let both = printed.contains("only in A") && printed.contains("only in B");
    assert!(code == 1 && both, "{printed}");
}

#[test]
fn the_first_record_that_differs_is_named_with_its_field_and_place() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = replicas(root.path());
    let at = change(&b, |batch| {
        let end = batch.len() - 2;
        batch[end] ^= 1;
    });
    let (code, printed) = diff(&a, &b);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("equal records 0..5, 1 batches"), "{printed}");
    assert!(printed.contains("first difference at offset 5"), "{printed}");
    assert!(printed.contains("value \"value 5, of some length\" | \"value 5, of some lengti\""));
    // The checksum differs first.
    let byte = format!("00000000000000000000.log byte {}", at + 17);
    assert_eq!(printed.matches(&byte).count(), 2, "{printed}");
}

#[test]
fn header_fields_are_named_leader_epochs_too() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = replicas(root.path());
    let at = change(&b, |batch| batch[15] = 9);
    let (code, printed) = diff(&a, &b);
    assert!(code == 1 && printed.contains("leader epoch 0 | 9"), "{printed}");
    assert!(printed.contains(&format!("byte {}", at + 15)), "{printed}");
}

#[test]
fn damage_is_not_taken_for_other_records() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = replicas(root.path());
    let path = b.join("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[80] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (code, printed) = diff(&a, &b);
    assert!(code == 1 && printed.contains("B: CRC-32C is"), "{printed}");
    bytes[16] = 7;
    std::fs::write(&path, &bytes).unwrap();
    let (code, printed) = diff(&a, &b);
    assert!(code == 4 && printed.contains("B is damaged"), "{printed}");
}

#[test]
fn a_replica_that_lags_is_a_prefix() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = replicas(root.path());
    let log = open(&b);
    log.truncate(Offset(61)).unwrap();
    log.close().unwrap();
    let (code, printed) = diff(&a, &b);
    assert!(code == 1 && printed.starts_with("prefix"), "{printed}");
    assert!(printed.contains("B ends at 60; A goes on to 120"), "{printed}");
    open(&a).trim(Offset(100), None).unwrap();
    let (code, printed) = diff(&b, &a);
    assert!(code == 1 && printed.contains("A has nothing from 100 on; B goes on to 120"));
}

#[test]
fn a_later_log_start_leaves_the_rest_to_be_compared() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = replicas(root.path());
    open(&b).trim(Offset(50), None).unwrap();
    let (code, printed) = diff(&a, &b);
    assert_eq!(code, 0, "{printed}");
    assert!(printed.contains("A starts at 0, B at 50: compared from 50 on"), "{printed}");
}

#[test]
fn equal_records_that_are_packed_otherwise_are_told_from_others() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = (root.path().join("a"), root.path().join("b"));
    for (dir, codec) in [(&a, Compression::None), (&b, Compression::Zstd)] {
        let log = open(dir);
        fill(&log, 30, Compression::Lz4);
        fill(&log, 59, codec);
        log.close().unwrap();
    }
    let (code, printed) = diff(&a, &b);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("10 batches are packed otherwise"), "{printed}");
    assert!(printed.contains("the first at offset 30"), "{printed}");

    // Batches of other sizes.
    let c = root.path().join("c");
    let log = open(&c);
    for end in (2..59).step_by(2).chain([59]) {
        fill(&log, end, Compression::Zstd);
    }
    log.close().unwrap();
    let (code, printed) = diff(&a, &c);
    assert!(code == 1 && printed.contains("equal records 0..59"), "{printed}");
    assert!(!printed.contains("first difference"), "{printed}");
}

#[test]
fn of_a_compacted_replica_what_both_have_is_compared() {
    let root = tempfile::tempdir().unwrap();
    let (a, b) = (root.path().join("a"), root.path().join("b"));
    sealed_log(&a);
    compacted_log(&b);
    let gone = 120 - contents(&open(&b)).len();
    for (a, b, has, lacks) in [(&a, &b, "A", "B"), (&b, &a, "B", "A")] {
        let (code, printed) = diff(a, b);
        assert!(code == 1 && printed.starts_with("compacted  A "), "{printed}");
        assert!(printed.contains("what both have of 0..120 is equal"), "{printed}");
        let only = format!(
            "{gone} records are in {has} only, from offset 0 on: compacted away in {lacks}"
        );
        assert!(printed.contains(&only), "{printed}");
        assert!(!printed.contains("first difference"), "{printed}");
    }
    assert_eq!(diff(&b, &b).0, 0);

    // One that is shorter, and one whose record differs.
    let log = open(&a);
    log.truncate(Offset(100)).unwrap();
    let end = log.end();
    log.close().unwrap();
    let (code, printed) = diff(&a, &b);
    let ends = format!("A ends at {end}; B goes on to 120");
    assert!(code == 1 && printed.starts_with("prefix") && printed.contains(&ends), "{printed}");
    sealed_log(&root.path().join("c"));
    let other = open(&root.path().join("d"));
    fill(&other, 119, Compression::None);
    let mut builder = BatchBuilder::new(Compression::None);
    builder.push(Timestamp(1), &Default::default());
    let bytes = builder.finish().unwrap();
    let batch = CheckedBatch::check(&bytes, 1000).unwrap();
    other.append(&batch, Epoch(1), 0).unwrap();
    other.close().unwrap();
    let (code, printed) = diff(&root.path().join("d"), &b);
    assert!(code == 1 && printed.contains("first difference at offset 119"), "{printed}");
    assert!(printed.contains(" are in A only"), "{printed}");

    // What is lost is not taken for compacted.
    let second = open(&b).segments()[1].base();
    let hole = root.path().join("hole");
    copy(&b, &hole);
    std::fs::remove_file(hole.join(format!("{:020}.log", second.0))).unwrap();
    let (code, printed) = diff(&root.path().join("c"), &hole);
    assert!(code == 1 || code == 4, "{printed}");
    assert!(!printed.starts_with("compacted"), "{printed}");
}
