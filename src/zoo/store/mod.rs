//! The log of changes on the disk: what was answered is there after any crash.
//!
//! `zoo.redb` holds a snapshot of the state, the changes behind it by the version that each led to,
//! and the newest events. It is redb's file: copy-on-write, each commit checked and synced.
//!
//! What a command has led to is kept, not the command: a later mk may decide otherwise, and must not
//! do so of what was told to brokers already.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::events::{Event, KEPT};
use super::state::{ClusterState, Delta};

/// Where changes are kept. The second one to come is a quorum's.
pub trait StateLog: Send {
    /// What was committed last; `None` if nothing ever was.
    fn load(&mut self) -> Result<Option<Saved>, StoreError>;

    /// Keeps these changes, each of which follows the one before, and these events. When this returns
    /// they are on the disk, all or none of them.
    fn append(&mut self, entries: &[Delta], events: &[Event]) -> Result<(), StoreError>;

    /// True if it has become so long that a snapshot should replace it.
    fn is_long(&self) -> bool;

    /// Replaces all changes by the state that they have led to.
    fn compact(&mut self, state: &ClusterState) -> Result<(), StoreError>;
}

/// What a log holds.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The state.
    pub state: ClusterState,
    /// The newest events, in order.
    pub events: Vec<Event>,
}

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error(
        "{} is in use by another process\n\
         hint: a data directory belongs to one mkzoo; stop the other, or use --data", path.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It was written by another mk.
    #[error(
        "{} has format {found}, this mk knows {FORMAT}\n\
         hint: start the mk that wrote it", path.display()
    )]
    OtherFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// It cannot be read or written.
    #[error("{}: {source}", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What it says.
        source: Box<redb::Error>,
    },
    /// What it holds makes no sense.
    #[error(
        "{}: {what}\n\
         hint: keep the file; a copy of it from before may be readable", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        what: String,
    },
    /// The directory cannot be made.
    #[error("{}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// The log in a file of redb.
#[derive(Debug)]
pub struct RedbLog {
    path: PathBuf,
    database: Database,
    /// Changes behind the snapshot, and their bytes.
    entries: u64,
    bytes: u64,
}

/// The file's name.
pub const FILE: &str = "zoo.redb";

/// Format 1 kept commands.
const FORMAT: u64 = 2;
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");
const FORMAT_KEY: &str = "format";
const SNAPSHOT: TableDefinition<'_, (), &[u8]> = TableDefinition::new("snapshot");
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
/// A start follows no more changes than these, which takes a fraction of a second.
const MOST_ENTRIES: u64 = 5_000;
const MOST_BYTES: u64 = 8 << 20;

impl RedbLog {
    /// Opens the log of a data directory, making both if need be.
    pub fn open(dir: &Path) -> Result<RedbLog, StoreError> {
        let made = std::fs::create_dir_all(dir);
        made.map_err(|source| StoreError::Directory { path: dir.to_owned(), source })?;
        let path = dir.join(FILE);
        let database = Database::create(&path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path: path.clone() },
            other => wrong(&path)(other.into()),
        })?;
        let found = first_steps(&database).map_err(wrong(&path))?;
        if found != FORMAT {
            return Err(StoreError::OtherFormat { path, found });
        }
        Ok(RedbLog { path, database, entries: 0, bytes: 0 })
    }

    fn wrong(&self) -> impl Fn(redb::Error) -> StoreError {
        wrong(&self.path)
    }

    fn decode<T: DeserializeOwned>(&self, what: &str, bytes: &[u8]) -> Result<T, StoreError> {
        serde_json::from_slice(bytes).map_err(|error| self.damaged(format!("{what}: {error}")))
    }

    /// JSON: any tool reads it for years to come, and the disk is what is waited for anyway.
    fn encode(&self, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
        serde_json::to_vec(value).map_err(|error| self.damaged(error.to_string()))
    }

    fn damaged(&self, what: String) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what }
    }

    fn read(&self) -> Result<Rows, redb::Error> {
        let read = self.database.begin_read()?;
        let snapshot = read.open_table(SNAPSHOT)?.get(())?.map(|found| found.value().to_vec());
        let rows = |definition: TableDefinition<'_, u64, &[u8]>| -> Result<Vec<Row>, redb::Error> {
            let table = read.open_table(definition)?;
            let rows = table.iter()?.map(|row| row.map(|(k, v)| (k.value(), v.value().to_vec())));
            Ok(rows.collect::<Result<_, _>>()?)
        };
        Ok(Rows { snapshot, entries: rows(ENTRIES)?, events: rows(EVENTS)? })
    }

    fn write(&self, entries: &[Row], events: &[Row]) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let mut table = write.open_table(ENTRIES)?;
            for (version, change) in entries {
                table.insert(version, change.as_slice())?;
            }
            let mut table = write.open_table(EVENTS)?;
            for (id, event) in events {
                table.insert(id, event.as_slice())?;
            }
            if let Some((newest, _)) = events.last() {
                table.retain_in(..(newest + 1).saturating_sub(KEPT as u64), |_, _| false)?;
            }
        }
        Ok(write.commit()?)
    }

    fn replace(&self, snapshot: &[u8]) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        write.open_table(SNAPSHOT)?.insert((), snapshot)?;
        write.open_table(ENTRIES)?.retain(|_, _| false)?;
        Ok(write.commit()?)
    }
}

/// What stands under a number.
type Row = (u64, Vec<u8>);

/// What the tables hold.
struct Rows {
    snapshot: Option<Vec<u8>>,
    entries: Vec<Row>,
    events: Vec<Row>,
}

impl StateLog for RedbLog {
    fn load(&mut self) -> Result<Option<Saved>, StoreError> {
        let rows = self.read().map_err(self.wrong())?;
        let Some(snapshot) = rows.snapshot else { return Ok(None) };
        let mut state: ClusterState = self.decode("the snapshot", &snapshot)?;
        for (version, bytes) in &rows.entries {
            let what = format!("the change that led to version {version}");
            let delta: Delta = self.decode(&what, bytes)?;
            state.follow(&delta).map_err(|gap| self.damaged(format!("{what}: {gap}")))?;
            if state.version != *version {
                return Err(self.damaged(format!("{what}: it leads to version {}", state.version)));
            }
        }
        self.entries = rows.entries.len() as u64;
        self.bytes = rows.entries.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let event = |(id, bytes): &Row| self.decode(&format!("event {id}"), bytes);
        let events = rows.events.iter().map(event).collect::<Result<_, _>>()?;
        Ok(Some(Saved { state, events }))
    }

    fn append(&mut self, entries: &[Delta], events: &[Event]) -> Result<(), StoreError> {
        let entry = |delta: &Delta| Ok((delta.version, self.encode(delta)?));
        let entries = entries.iter().map(entry).collect::<Result<Vec<Row>, StoreError>>()?;
        let event = |event: &Event| Ok((event.id, self.encode(event)?));
        let events = events.iter().map(event).collect::<Result<Vec<Row>, StoreError>>()?;
        self.write(&entries, &events).map_err(self.wrong())?;
        self.entries += entries.len() as u64;
        self.bytes += entries.iter().map(|(_, bytes)| bytes.len() as u64).sum::<u64>();
        Ok(())
    }

    fn is_long(&self) -> bool {
        self.entries >= MOST_ENTRIES || self.bytes >= MOST_BYTES
    }

    fn compact(&mut self, state: &ClusterState) -> Result<(), StoreError> {
        self.replace(&self.encode(state)?).map_err(self.wrong())?;
        (self.entries, self.bytes) = (0, 0);
        Ok(())
    }
}

/// Makes the tables that are missing; answers the file's format.
fn first_steps(database: &Database) -> Result<u64, redb::Error> {
    let write = database.begin_write()?;
    let found = write.open_table(NUMBERS)?.get(FORMAT_KEY)?.map(|format| format.value());
    if let Some(found) = found {
        write.abort()?;
        return Ok(found);
    }
    write.open_table(NUMBERS)?.insert(FORMAT_KEY, FORMAT)?;
    write.open_table(SNAPSHOT)?;
    write.open_table(ENTRIES)?;
    write.open_table(EVENTS)?;
    write.commit()?;
    Ok(FORMAT)
}

fn wrong(path: &Path) -> impl Fn(redb::Error) -> StoreError {
    move |source| StoreError::Database { path: path.to_owned(), source: Box::new(source) }
}
