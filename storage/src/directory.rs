//! The data directory: one process at a time, with an identity.
//!
//! ```text
//! data/
//!   lock                 held by the running broker; its process id for people to read
//!   meta.properties      version, cluster id and broker id, in the format of Kafka's file
//!   clean-shutdown       there while no broker runs, if the last one ended in good order
//!   topics/<topic>/topic.toml
//!   topics/<topic>/<partition>/…
//!   trash/               what was deleted and is about to be removed
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::disk::{self, Disk};
use crate::error::DiskError;

/// The file whose lock the running broker holds.
pub const LOCK_FILE: &str = "lock";
/// The file with the directory's identity.
pub const META_FILE: &str = "meta.properties";
/// The mark of a stop in good order.
pub const CLEAN_SHUTDOWN_FILE: &str = "clean-shutdown";
/// The file in a partition's folder that tells which topic it belongs to, as Kafka's does.
pub const PARTITION_FILE: &str = "partition.metadata";

const VERSION: &str = "1";
const MOST_BYTES: usize = 64 << 10;

/// Who the data belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Id of the cluster.
    pub cluster_id: String,
    /// Id of the broker in it.
    pub broker_id: u32,
}

/// A data directory, locked for as long as this lives.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    identity: Identity,
    stopped_clean: bool,
    _lock: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another process uses it.
    #[error("{} is in use by another broker{}", path.display(), holder(.process))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// What the lock file says of the other process.
        process: String,
    },
    /// Its identity cannot be read.
    #[error("{}: {what}", path.display())]
    Meta {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

fn holder(process: &str) -> String {
    if process.is_empty() { String::new() } else { format!(" (process {process})") }
}

impl DataDirectory {
    /// Locks the directory, making it, with `fresh` as its identity, if there is none. Takes the
    /// clean-shutdown mark away: from now on only [`DataDirectory::mark_clean`] gives it back.
    pub fn open(
        disk: &dyn Disk,
        path: &Path,
        fresh: impl FnOnce() -> Identity,
    ) -> Result<DataDirectory, DirectoryError> {
        disk.create_dir(&path.join("topics")).map_err(DiskError::at("make", path))?;
        let lock = lock(path)?;
        let identity = match read_identity(disk, path)? {
            Some(identity) => identity,
            None => {
                let file = path.join(META_FILE);
                let topics = path.join("topics");
                let topics = disk.list(&topics).map_err(DiskError::at("list", &topics))?;
                if !topics.is_empty() {
                    let what = "it is missing, but there are topics; put it back, with the lines \
                                version=1, cluster.id=… and broker.id=…";
                    return Err(DirectoryError::Meta { path: file, what: what.to_owned() });
                }
                let identity = fresh();
                disk::replace(disk, &file, identity.encode().as_bytes())
                    .map_err(DiskError::at("write", &file))?;
                identity
            }
        };
        let mark = path.join(CLEAN_SHUTDOWN_FILE);
        let stopped_clean = mark.exists();
        if stopped_clean {
            disk.remove(&mark)
                .and_then(|()| disk.sync_dir(path))
                .map_err(DiskError::at("remove", &mark))?;
        }
        Ok(DataDirectory { path: path.to_owned(), identity, stopped_clean, _lock: lock })
    }

    /// The directory itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who the data belongs to.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// True if the last broker here ended in good order.
    pub fn stopped_clean(&self) -> bool {
        self.stopped_clean
    }

    /// The folder of all topics.
    pub fn topics(&self) -> PathBuf {
        self.path.join("topics")
    }

    /// The folder of what was deleted.
    pub fn trash(&self) -> PathBuf {
        self.path.join("trash")
    }

    /// Says that everything was closed in good order, and unlocks.
    pub fn mark_clean(self, disk: &dyn Disk) -> Result<(), DiskError> {
        let mark = self.path.join(CLEAN_SHUTDOWN_FILE);
        disk.write(&mark, b"")
            .and_then(|()| disk.sync_dir(&self.path))
            .map_err(DiskError::at("write", &mark))
    }
}

/// True if a broker runs on the directory now.
pub fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path.join(LOCK_FILE)) else { return false };
    // Shared, so that two that ask at the same time do not take each other for a broker.
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Keeps brokers off a data directory for as long as the answer lives, and changes nothing in it;
/// `None` if one runs there.
pub fn keep_out(path: &Path) -> Result<Option<File>, DiskError> {
    let name = path.join(LOCK_FILE);
    let file = OpenOptions::new().read(true).write(true).open(&name);
    let file = file.map_err(DiskError::at("open", &name))?;
    match try_lock(&file) {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(DiskError::at("lock", &name)(error)),
    }
}

/// Reads who a data directory belongs to; `None` if it has no identity yet.
pub fn read_identity(disk: &dyn Disk, path: &Path) -> Result<Option<Identity>, DirectoryError> {
    let file = path.join(META_FILE);
    let bytes = match disk::read(disk, &file, MOST_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DiskError::at("read", &file)(error).into()),
    };
    let identity = Identity::decode(&String::from_utf8_lossy(&bytes));
    identity.map(Some).map_err(|what| DirectoryError::Meta { path: file, what })
}

/// Writes down to which cluster a data directory belongs that did not belong to any.
pub fn join_cluster(
    disk: &dyn Disk,
    path: &Path,
    identity: &Identity,
    cluster_id: &str,
) -> Result<(), DiskError> {
    let identity = Identity { cluster_id: cluster_id.to_owned(), ..identity.clone() };
    let file = path.join(META_FILE);
    disk::replace(disk, &file, identity.encode().as_bytes()).map_err(DiskError::at("write", &file))
}

/// Writes into a partition's folder which topic it belongs to.
pub fn write_topic_id(disk: &dyn Disk, dir: &Path, topic_id: &str) -> Result<(), DiskError> {
    let file = dir.join(PARTITION_FILE);
    let text = format!("version: 0\ntopic_id: {topic_id}\n");
    disk::replace(disk, &file, text.as_bytes()).map_err(DiskError::at("write", &file))
}

/// Reads which topic a partition's folder belongs to; `None` if it does not say.
pub fn read_topic_id(disk: &dyn Disk, dir: &Path) -> Result<Option<String>, DiskError> {
    let file = dir.join(PARTITION_FILE);
    match disk::read(disk, &file, MOST_BYTES) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let id = text.lines().find_map(|line| line.strip_prefix("topic_id: "));
            Ok(id.map(|id| id.trim().to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(DiskError::at("read", &file)(error)),
    }
}

impl Identity {
    fn encode(&self) -> String {
        let Identity { cluster_id, broker_id } = self;
        format!("version={VERSION}\ncluster.id={cluster_id}\nbroker.id={broker_id}\n")
    }

    fn decode(text: &str) -> Result<Identity, String> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let values: BTreeMap<_, _> = lines.filter_map(|line| line.split_once('=')).collect();
        let value = |key| values.get(key).copied().ok_or_else(|| format!("it has no {key}"));
        let version = value("version")?;
        if version != VERSION {
            return Err(format!("version {version}, this mk reads version {VERSION}"));
        }
        let broker_id = value("broker.id")?;
        let broker_id = broker_id.parse().map_err(|_| format!("broker.id is '{broker_id}'"))?;
        Ok(Identity { cluster_id: value("cluster.id")?.to_owned(), broker_id })
    }
}

fn lock(path: &Path) -> Result<File, DirectoryError> {
    let name = path.join(LOCK_FILE);
    let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&name);
    let mut file = open.map_err(DiskError::at("open", &name))?;
    match try_lock(&file) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut process = String::new();
            let _ = file.read_to_string(&mut process);
            let (path, process) = (path.to_owned(), process.trim().to_owned());
            return Err(DirectoryError::Locked { path, process });
        }
        Err(TryLockError::Error(error)) => return Err(DiskError::at("lock", &name)(error).into()),
    }
    let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    written.map_err(DiskError::at("write", &name))?;
    // The name of a folder made just now must survive as well as what goes into it.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let synced = fs::canonicalize(parent.unwrap_or(Path::new("."))).and_then(File::open);
    let synced = synced.and_then(|parent| parent.sync_all()).and_then(|()| File::open(path));
    synced.and_then(|dir| dir.sync_all()).map_err(DiskError::at("sync", path))?;
    Ok(file)
}

/// Tries for a moment: whoever asks [`is_locked`] holds the lock for as long as that takes.
fn try_lock(file: &File) -> Result<(), TryLockError> {
    for _ in 0..10 {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
            done => return done,
        }
    }
    file.try_lock()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MappedDisk;

    fn fresh() -> Identity {
        Identity { cluster_id: "c".into(), broker_id: 7 }
    }

    #[test]
    fn one_process_at_a_time_and_a_lasting_identity() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("data");
        let disk = MappedDisk::start().unwrap();
        assert!(!is_locked(&path));
        let first = DataDirectory::open(&disk, &path, fresh).unwrap();
        assert!(is_locked(&path));
        assert!(!first.stopped_clean());
        let second = DataDirectory::open(&disk, &path, fresh).unwrap_err();
        let own = format!("process {}", std::process::id());
        assert!(second.to_string().contains(&own), "{second}");
        assert!(keep_out(&path).unwrap().is_none());
        first.mark_clean(&disk).unwrap();
        assert!(!is_locked(&path));
        let kept = keep_out(&path).unwrap();
        assert!(kept.is_some() && DataDirectory::open(&disk, &path, fresh).is_err());
        drop(kept);
        let again = DataDirectory::open(&disk, &path, || unreachable!()).unwrap();
        assert!(again.stopped_clean());
        assert_eq!(again.identity(), &fresh());
        drop(again);
        let killed = DataDirectory::open(&disk, &path, fresh).unwrap();
        assert!(!killed.stopped_clean(), "only a clean stop leaves the mark");
    }

    /// Data whose identity was lost got a new one without a word.
    #[test]
    fn data_without_an_identity_gets_none() {
        let root = tempfile::tempdir().unwrap();
        let disk = MappedDisk::start().unwrap();
        drop(DataDirectory::open(&disk, root.path(), fresh).unwrap());
        fs::create_dir(root.path().join("topics/t")).unwrap();
        fs::remove_file(root.path().join(META_FILE)).unwrap();
        let error = DataDirectory::open(&disk, root.path(), fresh).unwrap_err();
        assert!(error.to_string().contains("it is missing, but there are topics"), "{error}");
    }

    #[test]
    fn what_is_no_identity_is_refused() {
        for text in ["", "version=2\ncluster.id=c\nbroker.id=1", "version=1\nbroker.id=x"] {
            assert!(Identity::decode(text).is_err(), "{text}");
        }
        assert_eq!(Identity::decode(&fresh().encode()), Ok(fresh()));
    }
}
