//! A seal is checked, shown, and told from one that is not there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use common::*;

#[test]
fn a_seal_that_does_not_fit_or_is_not_whole_is_damage_and_a_missing_one_is_nothing() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    sealed_log(&dir);
    assert_eq!(damage(&dir), [""; 0]);
    let seal = dir.join("00000000000000000000.seal");
    let sound = std::fs::read(&seal).unwrap();
    for byte in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[byte] ^= 1 << (byte % 8);
        std::fs::write(&seal, &bytes).unwrap();
        let found = damage(&dir);
        assert!(found.len() == 1 && found[0].contains(".seal: byte 0"), "{byte}: {found:?}");
    }
    // Whole, but another segment's.
    let second = open(&dir).segments()[1].base();
    std::fs::copy(dir.join(format!("{:020}.seal", second.0)), &seal).unwrap();
    assert_eq!(damage(&dir).len(), 1);
    std::fs::remove_file(&seal).unwrap();
    assert_eq!(damage(&dir), [""; 0]);
    std::fs::write(&seal, &sound).unwrap();

    // An index that is whole, but shorter than it was sealed.
    let index = dir.join("00000000000000000000.index");
    let bytes = std::fs::read(&index).unwrap();
    std::fs::write(&index, &bytes[..bytes.len() - 8]).unwrap();
    let found = damage(&dir);
    assert!(found.len() == 1 && found[0].contains("bytes, sealed with"), "{found:?}");
}

/// Batches without a checksum over their leader epoch: only the seal tells that one was changed, if
/// the checkpoint is gone.
#[test]
fn a_seal_knows_what_no_checksum_of_a_batch_covers() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    sealed_log(&dir);
    std::fs::remove_file(dir.join("checkpoint")).unwrap();
    let log = dir.join("00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let mut at = 0;
    while at < bytes.len() {
        bytes[at + 12..at + 16].copy_from_slice(&(-7i32).to_be_bytes());
        at += 12 + u32::from_be_bytes(*bytes[at + 8..].first_chunk().unwrap()) as usize;
    }
    std::fs::write(&log, &bytes).unwrap();
    let found = damage(&dir);
    assert!(found.len() == 1 && found[0].contains("sealed as"), "{found:?}");
}

/// `index rebuild` with another interval left seals that no longer fitted, and so damage.
#[test]
fn a_rebuilt_index_keeps_its_seal_only_if_it_is_the_one_that_was_sealed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    sealed_log(&dir);
    let (path, seal) = (dir.to_str().unwrap(), dir.join("00000000000000000000.seal"));
    for (interval, kept) in [("200", true), ("100", false)] {
        assert_eq!(mkinspect(&["index", "rebuild", "--interval-bytes", interval, path]).0, 0);
        assert_eq!(seal.exists(), kept, "{interval}");
        assert_eq!(damage(&dir), [""; 0]);
    }
}

#[test]
fn ls_and_dump_show_seals() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    sealed_log(&dir);
    let path = dir.to_str().unwrap();
    let (_, printed, _) = mkinspect(&["ls", path]);
    let line = |number: &str| {
        printed.lines().find(|line| line.contains(number)).unwrap().split_whitespace().nth(5)
    };
    assert_eq!(line("00000000000000000000.log"), Some("yes"), "{printed}");
    let last = printed.lines().last().unwrap();
    assert_eq!(last.split_whitespace().nth(5), Some("-"), "{printed}");
    let seal = dir.join("00000000000000000000.seal");
    let (code, printed, _) = mkinspect(&["dump", seal.to_str().unwrap()]);
    assert!(code == 0 && printed.contains("seal 0.."), "{printed}");
    let (_, printed, _) = mkinspect(&["dump", "-J", seal.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!(json["seal"]["baseOffset"], 0);
    assert!(mkinspect(&["dump", path]).1.contains("seal 0.."));
    std::fs::write(&seal, "nonsense").unwrap();
    assert!(mkinspect(&["dump", path]).1.contains("DAMAGED at byte 0: no seal"));
    assert!(mkinspect(&["ls", path]).1.contains("broken"));
}
