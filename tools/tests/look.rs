//! `mkinspect stats` and `mkinspect map`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use common::*;
use mk_storage::batch::{Compression, TimestampType};
use mk_storage::log::LogSettings;
use serde_json::Value;

#[test]
fn stats_count_what_was_written() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    sealed_log(&dir);
    let log = open(&dir);
    fill(&log, 150, Compression::Zstd);
    let sealed = log.segments().iter().filter(|segment| segment.seal().is_some()).count();
    log.close().unwrap();
    let other = open(&root.path().join("topics/t/1"));
    fill(&other, 10, Compression::Lz4);
    other.close().unwrap();
    let path = root.path().to_str().unwrap();
    let (code, printed, _) = mkinspect(&["stats", "-J", path]);
    assert_eq!(code, 0);
    let lines: Vec<Value> =
        printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [first, second, all] = lines.as_slice() else { panic!("{printed}") };
    assert_eq!(first["records"], 150);
    assert_eq!((&first["firstOffset"], &first["nextOffset"]), (&0.into(), &150.into()));
    assert_eq!(first["batches"], 50);
    assert_eq!(first["sealed"], sealed);
    assert_eq!(first["codecs"]["none"]["batches"], 40);
    assert_eq!(first["codecs"]["zstd"]["batches"], 10);
    let none = &first["codecs"]["none"];
    assert_eq!(none["stored"], none["unpacked"]);
    assert_eq!((&first["keyed"], &first["tombstones"]), (&75.into(), &15.into()));
    assert_eq!(first["missingOffsets"], 0);
    assert_eq!(first["recordsPerBatch"]["median"], EACH);
    // 1490 ms from the first record to the last.
    let rate = first["recordsPerSecond"].as_f64().unwrap();
    assert!((rate - 150.0 / 1.49).abs() < 0.01, "{rate}");
    assert_eq!(second["codecs"]["lz4"]["batches"], 4);
    assert_eq!((&all["records"], &all["partitions"]), (&160.into(), &2.into()));
    let (code, printed, _) = mkinspect(&["stats", path]);
    assert!(code == 0 && printed.contains("in all") && printed.contains("tombstones 10.0 %"));
}

/// Any bytes are input: a segment of nonsense, and a batch that lies about its records.
#[test]
fn stats_tell_of_damage_and_go_on() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    sealed_log(&dir);
    let segment = dir.join("00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&segment, &bytes).unwrap();
    let (code, printed, _) = mkinspect(&["stats", dir.to_str().unwrap()]);
    assert_eq!(code, 4);
    assert!(printed.contains("DAMAGED     1 places") && printed.contains("batches     39"));
    std::fs::write(&segment, vec![0xff; 1000]).unwrap();
    let (code, printed, _) = mkinspect(&["stats", dir.to_str().unwrap()]);
    assert!(code == 4 && printed.contains("DAMAGED     1 places"), "{printed}");
    for command in ["ls", "dump", "map", "verify"] {
        let (code, ..) = mkinspect(&[command, dir.to_str().unwrap()]);
        assert!([0, 4].contains(&code), "{command}");
    }
}

#[test]
fn the_map_shows_each_segment_and_fits_its_width() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    sealed_log(&dir);
    let path = dir.to_str().unwrap();
    let segments = open(&dir).segments().len();
    let (code, printed, _) = mkinspect(&["map", path]);
    assert_eq!(code, 0, "{printed}");
    let rows: Vec<_> = printed.lines().filter(|line| line.starts_with("  ")).collect();
    assert_eq!(rows.len(), segments, "{printed}");
    assert!(rows.iter().all(|row| row.chars().count() <= 80), "{printed}");
    assert!(rows[0].contains("sealed  start 0"), "{printed}");
    assert!(rows[segments - 1].contains("open  recovery-point 120  end 120"), "{printed}");
    assert!(!printed.contains('\x1b'), "no colours into a pipe");
    let (_, printed, _) = mkinspect(&["map", "--compact", path]);
    let strip = printed.lines().nth(1).unwrap().trim();
    assert_eq!(strip, format!("{}▷", "■".repeat(segments - 1)));

    // A length tells at once; a bit takes a look at every byte.
    let log = dir.join("00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&log, &bytes).unwrap();
    assert_eq!(mkinspect(&["map", path]).0, 0);
    let (code, printed, _) = mkinspect(&["map", "--verify", path]);
    assert!(code == 4 && printed.lines().nth(1).unwrap().contains("DAMAGED"), "{printed}");
    std::fs::write(&log, &bytes[..bytes.len() - 1]).unwrap();
    let (code, printed, _) = mkinspect(&["map", path]);
    assert!(code == 4 && printed.lines().nth(1).unwrap().contains("DAMAGED"), "{printed}");
}

/// The time that a leader has given is told from one of a producer.
#[test]
fn a_dump_tells_whose_a_time_is() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("topics/t/0");
    let log = open(&dir);
    fill(&log, 3, Compression::None);
    let timestamp_type = TimestampType::LogAppendTime;
    log.set_settings(LogSettings { timestamp_type, ..SETTINGS });
    // At time 0.
    fill(&log, 6, Compression::None);
    log.close().unwrap();
    let path = dir.to_str().unwrap();
    let (_, printed, _) = mkinspect(&["dump", "--records", path]);
    let created = printed.lines().filter(|line| line.contains("  time 2023-11-14T22:13:20."));
    let appended =
        printed.lines().filter(|line| line.contains("  append-time 1970-01-01T00:00:00."));
    assert_eq!((created.count(), appended.count()), (4, 4), "{printed}");
    let (_, printed, _) = mkinspect(&["dump", "-J", "--records", path]);
    let created = printed.lines().filter(|line| line.contains("\"CreateTime\":17000000000"));
    let appended = printed.lines().filter(|line| line.contains("\"LogAppendTime\":0"));
    assert_eq!((created.count(), appended.count()), (4, 4), "{printed}");
    let (_, printed, _) = mkinspect(&["stats", path]);
    assert!(printed.contains("1970-01-01T00:00:00.000Z to 2023-11-14T22:13:20.020Z"), "{printed}");
}

/// The files of a running broker end in zeroes, and its directory is locked.
#[test]
fn a_running_broker_may_be_looked_at() {
    let root = tempfile::tempdir().unwrap();
    let disk = mk_storage::disk::MappedDisk::start().unwrap();
    let identity = || mk_storage::directory::Identity { cluster_id: "c".to_owned(), broker_id: 1 };
    let broker = mk_storage::directory::DataDirectory::open(&disk, root.path(), identity).unwrap();
    let dir = root.path().join("topics/t/0");
    sealed_log(&dir);
    let log = open(&dir);
    fill(&log, 150, Compression::Gzip);
    let path = root.path().to_str().unwrap();
    for arguments in [
        ["ls", path].as_slice(),
        &["dump", path],
        &["verify", path],
        &["stats", path],
        &["map", path],
        &["map", "--verify", path],
        &["diff", path, path],
    ] {
        let (code, printed, told) = mkinspect(arguments);
        assert_eq!(code, 0, "{arguments:?}: {printed}{told}");
    }
    assert!(mkinspect(&["map", path]).1.contains('░'));
    let (code, _, told) = mkinspect(&["repair", "-y", path]);
    assert!(code == 1 && told.contains("a broker runs here"), "{told}");
    drop(broker);
}
