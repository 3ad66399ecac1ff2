//! A disk in memory that knows what has been synced, and can crash.
//!
//! [`MemoryDisk::crash`] answers what a machine might find after losing its power: all that was
//! synced, and of the rest any part, page by page and name by name, in any order, with pages torn
//! at 512-byte sectors and as they were at any moment since the last sync. The same seed gives the
//! same disk.

pub(crate) mod chance;
mod inode;
mod names;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

pub use self::chance::Chance;
use self::inode::Inode;
use self::names::{Change, Names};
use super::{Appender, Disk, Entry, Pace, View};
use crate::safeguard::{Safeguard, holds};

/// Files are reserved in pieces of so many bytes.
const RESERVED_AT_ONCE: u64 = 8192;

/// What a sync says that is made to fail.
pub(crate) const SYNC_FAILED: &str = "the disk failed to write";

/// A file system in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
    watcher: Watcher,
    reads: Arc<AtomicU64>,
}

#[derive(Clone, Debug, Default)]
struct State {
    now: Names,
    /// The names as they are on the disk for certain.
    durable: Names,
    /// What has happened to names since their folder was synced, oldest first.
    pending: Vec<Change>,
    /// Bytes that all files together may still grow by; `None`: without limit.
    room: Option<u64>,
}

type Watch = dyn Fn(&MemoryDisk) + Send + Sync;

/// Who is told of every operation.
#[derive(Clone, Default)]
struct Watcher(Arc<Mutex<Option<Arc<Watch>>>>);

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watcher")
    }
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// The disk that a machine may find after a power failure at this moment. `self` stays as it
    /// is, so that many crashes of one moment can be looked at.
    pub fn crash(&self, seed: u64) -> MemoryDisk {
        let mut chance = Chance::new(seed);
        let state = self.state.lock();
        let now = state.durable.crash(&state.pending, &mut chance);
        let after = State { durable: now.clone(), now, ..State::default() };
        MemoryDisk { state: Arc::new(Mutex::new(after)), ..MemoryDisk::default() }
    }

    /// Calls `watch` after every operation that changes what is on the disk, or what of it is there
    /// for certain.
    pub fn watch(&self, watch: impl Fn(&MemoryDisk) + Send + Sync + 'static) {
        *self.watcher.0.lock() = Some(Arc::new(watch));
    }

    /// How often bytes of a file were read: of a real disk, each is a system call.
    pub fn reads(&self) -> u64 {
        self.reads.load(Ordering::Relaxed)
    }

    /// Files can grow by `bytes` in all from now on; then the disk is full.
    pub fn fill_up(&self, bytes: u64) {
        self.state.lock().room = Some(bytes);
    }

    /// Makes every sync of the file at `path` fail from now on.
    pub fn fail_syncs(&self, path: &Path) -> io::Result<()> {
        self.inode(path)?.lock().fail_syncs();
        Ok(())
    }

    /// Makes the next sync of the file at `path` fail, and those behind it succeed, though what the
    /// first was to write is lost: that is how Linux does it.
    pub fn fail_next_sync(&self, path: &Path) -> io::Result<()> {
        self.inode(path)?.lock().fail_next_sync();
        Ok(())
    }

    /// Makes syncs of the file at `path` succeed from now on.
    pub fn succeed_syncs(&self, path: &Path) -> io::Result<()> {
        self.inode(path)?.lock().succeed_syncs();
        Ok(())
    }

    /// The file's bytes as they are now.
    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.inode(path)?.lock().bytes().to_vec())
    }

    /// Changes a file behind the engine's back: for tests of damage.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let inode = self.inode(path)?;
        let mut inode = inode.lock();
        let mut bytes = inode.bytes().to_vec();
        change(&mut bytes);
        *inode = Inode::durable(bytes);
        Ok(())
    }

    fn inode(&self, path: &Path) -> io::Result<Arc<Mutex<Inode>>> {
        self.state.lock().now.files.get(path).cloned().ok_or_else(|| missing(path))
    }

    fn change(&self, change: Change) {
        {
            let mut state = self.state.lock();
            state.now.apply(&change);
            state.pending.push(change);
        }
        self.changed();
    }

    /// Tells whoever watches. No lock may be held.
    fn changed(&self) {
        let watch = self.watcher.0.lock().clone();
        if let Some(watch) = watch {
            watch(self);
        }
    }

    fn take_room(&self, bytes: u64) -> io::Result<()> {
        match &mut self.state.lock().room {
            Some(room) if *room < bytes => Err(io::ErrorKind::StorageFull.into()),
            Some(room) => {
                *room -= bytes;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path, _pace: Pace) -> io::Result<Box<dyn Appender>> {
        if self.inode(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.display().to_string()));
        }
        let inode = Arc::new(Mutex::new(Inode::default()));
        self.change(Change::Link(path.to_owned(), inode.clone()));
        let file = MemoryFile { disk: self.clone(), inode };
        Ok(Box::new(MemoryAppender { file, end: 0 }))
    }

    fn append_to(&self, path: &Path, end: u64, _pace: Pace) -> io::Result<Box<dyn Appender>> {
        let inode = self.inode(path)?;
        let length = inode.lock().bytes().len() as u64;
        if length < end {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, path.display().to_string()));
        }
        let file = MemoryFile { disk: self.clone(), inode };
        let mut appender = MemoryAppender { file, end };
        if length > end {
            appender.truncate(end)?;
        }
        Ok(Box::new(appender))
    }

    fn view(&self, path: &Path) -> io::Result<Arc<dyn View>> {
        Ok(Arc::new(MemoryFile { disk: self.clone(), inode: self.inode(path)? }))
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(self.inode(path)?.lock().bytes().len() as u64)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.take_room(bytes.len() as u64)?;
        let inode = Inode::durable(bytes.to_vec());
        self.change(Change::Link(path.to_owned(), Arc::new(Mutex::new(inode))));
        Ok(())
    }

    fn rewrite(&self, path: &Path, from: u64, to: u64) -> io::Result<()> {
        self.inode(path)?.lock().rewrite(from as usize, to as usize);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let names = &self.state.lock().now;
        if !names.dirs.contains(dir) {
            return Err(missing(dir));
        }
        let entry = |path: &PathBuf, is_dir| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            (path.parent() == Some(dir)).then_some(Entry { name, is_dir })
        };
        let files = names.files.keys().filter_map(|path| entry(path, false));
        let dirs = names.dirs.iter().filter_map(|path| entry(path, true));
        let mut entries: Vec<_> = files.chain(dirs).collect();
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut above: Vec<_> = dir.ancestors().collect();
        above.reverse();
        for dir in above {
            if !self.state.lock().now.dirs.contains(dir) {
                self.change(Change::MakeDir(dir.to_owned()));
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let names = &self.state.lock().now.clone();
        if !names.files.contains_key(from) && !names.dirs.contains(from) {
            return Err(missing(from));
        }
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inode(path)?;
        self.change(Change::Remove(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.change(Change::Remove(dir.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        {
            let mut state = self.state.lock();
            let pending = std::mem::take(&mut state.pending);
            for change in pending {
                if change.dir() == Some(dir) {
                    state.durable.apply(&change);
                    if let Change::Rename(from, to) = &change {
                        // What is not yet sure of a folder is its own wherever it goes.
                        state.pending.iter_mut().for_each(|earlier| earlier.moved(from, to));
                    }
                } else {
                    state.pending.push(change);
                }
            }
        }
        self.changed();
        Ok(())
    }
}

/// An open file.
#[derive(Clone, Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    inode: Arc<Mutex<Inode>>,
}

/// A file that is appended to. Invariant: it has zeroes from `end` on.
#[derive(Debug)]
struct MemoryAppender {
    file: MemoryFile,
    end: u64,
}

impl View for MemoryFile {
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        self.disk.reads.fetch_add(1, Ordering::Relaxed);
        let inode = self.inode.lock();
        let rest = inode.bytes().get(position as usize..).unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inode.lock().bytes().len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let result = self.inode.lock().sync();
        self.disk.changed();
        result
    }

    fn file(&self) -> Option<&Arc<File>> {
        None
    }
}

impl Appender for MemoryAppender {
    fn end(&self) -> u64 {
        self.end
    }

    fn reserve(&mut self, bytes: usize) -> io::Result<()> {
        let needed = self.end + bytes as u64;
        let length = self.file.len()?;
        if needed <= length {
            return Ok(());
        }
        let reserved = needed.next_multiple_of(RESERVED_AT_ONCE);
        self.file.disk.take_room(reserved - length)?;
        self.file.inode.lock().set_len(reserved as usize);
        self.file.disk.changed();
        Ok(())
    }

    fn append(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.reserve(parts.iter().map(|part| part.len()).sum())?;
        for part in parts {
            self.file.inode.lock().write(self.end as usize, part);
            self.end += part.len() as u64;
            self.file.disk.changed();
        }
        Ok(())
    }

    fn truncate(&mut self, end: u64) -> io::Result<()> {
        self.end = end;
        self.trim()?;
        if !holds(Safeguard::SyncCut) {
            return Ok(());
        }
        self.file.sync()
    }

    fn trim(&mut self) -> io::Result<()> {
        self.file.inode.lock().set_len(self.end as usize);
        self.file.disk.changed();
        Ok(())
    }

    fn view(&self) -> Arc<dyn View> {
        Arc::new(self.file.clone())
    }
}
