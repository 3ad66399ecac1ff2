use std::collections::BTreeMap;

use uuid::Uuid;

use super::*;
use crate::zoo::events::What;
use crate::zoo::state::Command;

/// What the next command changes, which leads to this version.
fn change(state: &mut ClusterState, version: u64) -> Delta {
    let defaults = [("min.insync.replicas".to_owned(), version.to_string())].into();
    let changes = state.apply(&Command::SetDefaults { defaults }).unwrap();
    assert_eq!(state.version, version);
    Delta::of(version - 1, state, &changes)
}

fn event(id: u64) -> Event {
    Event { id, at_ms: 0, what: What::TopicAltered { topic: id.to_string() } }
}

#[test]
fn what_was_appended_is_there_with_and_without_a_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = RedbLog::open(dir.path()).unwrap();
    assert!(log.load().unwrap().is_none());
    let mut state = ClusterState::new(Uuid::from_u128(1));
    log.compact(&state).unwrap();
    for version in 1..=30 {
        let delta = change(&mut state, version);
        log.append(&[delta], &[event(version)]).unwrap();
        if version % 10 == 0 {
            drop(log);
            log = RedbLog::open(dir.path()).unwrap();
            let saved = log.load().unwrap().unwrap();
            assert_eq!(saved.state, state);
            assert_eq!(saved.events, (1..=version).map(event).collect::<Vec<_>>());
        }
        if version == 15 {
            log.compact(&state).unwrap();
        }
    }
}

#[test]
fn a_long_log_asks_for_a_snapshot_and_only_the_newest_events_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = RedbLog::open(dir.path()).unwrap();
    let mut state = ClusterState::new(Uuid::from_u128(1));
    log.compact(&state).unwrap();
    let changes: Vec<_> = (1..=MOST_ENTRIES).map(|version| change(&mut state, version)).collect();
    let events: Vec<_> = (1..=KEPT as u64 + 100).map(event).collect();
    log.append(&changes, &events).unwrap();
    assert!(log.is_long());
    log.compact(&state).unwrap();
    assert!(!log.is_long());
    let saved = log.load().unwrap().unwrap();
    assert_eq!(saved.state, state);
    assert_eq!((saved.events.len(), saved.events[0].id), (KEPT, 101));
}

#[test]
fn a_second_process_another_format_and_nonsense_are_clear_errors() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = RedbLog::open(dir.path()).unwrap();
    assert!(matches!(RedbLog::open(dir.path()), Err(StoreError::Locked { .. })));
    let mut state = ClusterState::new(Uuid::from_u128(1));
    log.compact(&state).unwrap();
    // One is missing between them.
    let [first, _, third] = [1, 2, 3].map(|version| change(&mut state, version));
    log.append(&[first, third], &[]).unwrap();
    let error = log.load().unwrap_err().to_string();
    assert!(error.contains("version 3: the copy is at version 1"), "{error}");

    for format in [FORMAT + 1, FORMAT - 1] {
        let write = log.database.begin_write().unwrap();
        write.open_table(NUMBERS).unwrap().insert(FORMAT_KEY, format).unwrap();
        write.commit().unwrap();
        drop(log);
        let opened = RedbLog::open(dir.path());
        assert!(matches!(opened, Err(StoreError::OtherFormat { found, .. }) if found == format));
        let path = dir.path().join(FILE);
        log = RedbLog { database: Database::create(&path).unwrap(), path, entries: 0, bytes: 0 };
    }
    drop(log);

    std::fs::write(dir.path().join(FILE), "no database".repeat(1000)).unwrap();
    assert!(matches!(RedbLog::open(dir.path()), Err(StoreError::Database { .. })));
}

/// Each version's state must come out of JSON as it went in, numbers as keys included.
#[test]
fn a_state_is_the_same_after_json() {
    let mut state = ClusterState::new(Uuid::from_u128(1));
    let (id, incarnation, address) = (7, Uuid::from_u128(2), "a:1".to_owned());
    let restart = crate::zoo::state::Restart::Kept;
    let register = Command::Register { id, incarnation, address, rack: None, restart };
    state.apply(&register).unwrap();
    state.apply(&Command::Unfence { id, epoch: state.brokers[&id].epoch }).unwrap();
    let (name, settings) = ("t".to_owned(), BTreeMap::new());
    let (partitions, replication_factor) = (3, 1);
    let create =
        Command::CreateTopic { name, id: incarnation, partitions, replication_factor, settings };
    state.apply(&create).unwrap();
    let text = serde_json::to_string(&state).unwrap();
    assert_eq!(serde_json::from_str::<ClusterState>(&text).unwrap(), state);
}
