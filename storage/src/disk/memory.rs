//! A disk in memory that knows what has been synced, and can crash.
//!
//! [`MemoryDisk::crash`] answers what a machine might find after losing its power: all that was
//! synced, and of the rest any part, page by page and name by name, in any order, with pages torn
//! at 512-byte sectors. The same seed gives the same disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Appender, Disk, Entry, Pace, View};

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// A file system in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    dirs: BTreeSet<PathBuf>,
    /// The names as they are on the disk for certain.
    durable_files: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    /// What has happened to names since their folder was synced, oldest first.
    pending: Vec<NameChange>,
    faults: Faults,
}

#[derive(Clone, Debug)]
enum NameChange {
    Link(PathBuf, Arc<Mutex<Inode>>),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

/// Contents now, and contents on the disk for certain.
#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    dirty_pages: BTreeSet<usize>,
    sync_fails: bool,
}

#[derive(Clone, Debug, Default)]
struct Faults {
    /// Bytes that all files together may still grow by; `None`: without limit.
    room: Option<u64>,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// The disk that a machine may find after a power failure at this moment. `self` stays as it
    /// is, so that many crashes of one moment can be looked at.
    pub fn crash(&self, seed: u64) -> MemoryDisk {
        let mut chance = Chance(seed);
        let state = self.state.lock();
        let mut files = state.durable_files.clone();
        for change in &state.pending {
            if chance.one_in(2) {
                change.apply(&mut files);
            }
        }
        let files: BTreeMap<_, _> = files
            .into_iter()
            .map(|(path, inode)| (path, Arc::new(Mutex::new(inode.lock().crash(&mut chance)))))
            .collect();
        let after = State {
            durable_files: files.clone(),
            files,
            dirs: state.dirs.clone(),
            ..State::default()
        };
        MemoryDisk { state: Arc::new(Mutex::new(after)) }
    }

    /// From now on files can grow by `bytes` in all; then the disk is full.
    pub fn fill_up(&self, bytes: u64) {
        self.state.lock().faults.room = Some(bytes);
    }

    /// Makes every sync of the file at `path` fail from now on.
    pub fn fail_syncs(&self, path: &Path) -> io::Result<()> {
        self.inode(path)?.lock().sync_fails = true;
        Ok(())
    }

    /// The file's bytes as they are now.
    pub fn bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        Ok(self.inode(path)?.lock().now.clone())
    }

    /// Changes a file behind the engine's back: for tests of damage.
    pub fn tamper(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let inode = self.inode(path)?;
        let mut inode = inode.lock();
        change(&mut inode.now);
        inode.durable = inode.now.clone();
        inode.dirty_pages.clear();
        Ok(())
    }

    fn inode(&self, path: &Path) -> io::Result<Arc<Mutex<Inode>>> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, path.display().to_string());
        self.state.lock().files.get(path).cloned().ok_or_else(missing)
    }

    fn file(&self, inode: Arc<Mutex<Inode>>) -> MemoryFile {
        MemoryFile { disk: self.clone(), inode }
    }
}

impl Disk for MemoryDisk {
    fn create(&self, path: &Path, _pace: Pace) -> io::Result<Box<dyn Appender>> {
        let mut state = self.state.lock();
        if state.files.contains_key(path) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, path.display().to_string()));
        }
        let inode = Arc::new(Mutex::new(Inode::default()));
        state.apply(NameChange::Link(path.to_owned(), inode.clone()));
        drop(state);
        Ok(Box::new(self.file(inode)))
    }

    fn append_to(&self, path: &Path, end: u64, _pace: Pace) -> io::Result<Box<dyn Appender>> {
        let inode = self.inode(path)?;
        if (inode.lock().now.len() as u64) < end {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, path.display().to_string()));
        }
        let mut file = self.file(inode);
        file.truncate(end)?;
        Ok(Box::new(file))
    }

    fn view(&self, path: &Path) -> io::Result<Arc<dyn View>> {
        Ok(Arc::new(self.file(self.inode(path)?)))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.state.lock().take_room(bytes.len() as u64)?;
        let inode = Inode { now: bytes.to_vec(), durable: bytes.to_vec(), ..Inode::default() };
        let link = NameChange::Link(path.to_owned(), Arc::new(Mutex::new(inode)));
        self.state.lock().apply(link);
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state.lock();
        if !state.dirs.contains(dir) {
            return Err(io::Error::new(io::ErrorKind::NotFound, dir.display().to_string()));
        }
        let entry = |path: &PathBuf, is_dir| {
            let name = path.file_name()?.to_string_lossy().into_owned();
            (path.parent() == Some(dir)).then_some(Entry { name, is_dir })
        };
        let files = state.files.keys().filter_map(|path| entry(path, false));
        let dirs = state.dirs.iter().filter_map(|path| entry(path, true));
        let mut entries: Vec<_> = files.chain(dirs).collect();
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.dirs.extend(dir.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.files.contains_key(from) {
            return Err(io::Error::new(io::ErrorKind::NotFound, from.display().to_string()));
        }
        state.apply(NameChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inode(path)?;
        self.state.lock().apply(NameChange::Unlink(path.to_owned()));
        Ok(())
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let inside: Vec<_> =
            state.files.keys().filter(|path| path.starts_with(dir)).cloned().collect();
        for path in inside {
            state.apply(NameChange::Unlink(path));
        }
        state.dirs.retain(|path| !path.starts_with(dir));
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        let pending = std::mem::take(&mut state.pending);
        for change in pending {
            if change.dir() == Some(dir) {
                change.apply(&mut state.durable_files);
            } else {
                state.pending.push(change);
            }
        }
        Ok(())
    }
}

impl State {
    fn apply(&mut self, change: NameChange) {
        change.apply(&mut self.files);
        self.pending.push(change);
    }

    fn take_room(&mut self, bytes: u64) -> io::Result<()> {
        match &mut self.faults.room {
            Some(room) if *room < bytes => Err(io::ErrorKind::StorageFull.into()),
            Some(room) => {
                *room -= bytes;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl NameChange {
    fn apply(&self, files: &mut BTreeMap<PathBuf, Arc<Mutex<Inode>>>) {
        match self {
            NameChange::Link(path, inode) => {
                files.insert(path.clone(), inode.clone());
            }
            NameChange::Unlink(path) => {
                files.remove(path);
            }
            NameChange::Rename(from, to) => {
                if let Some(inode) = files.remove(from) {
                    files.insert(to.clone(), inode);
                }
            }
        }
    }

    fn dir(&self) -> Option<&Path> {
        match self {
            NameChange::Link(path, _) | NameChange::Unlink(path) => path.parent(),
            NameChange::Rename(_, to) => to.parent(),
        }
    }
}

impl Inode {
    /// Writes at `position`, growing the file with zeroes where needed.
    fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        if self.now.len() < end {
            self.now.resize(end, 0);
        }
        self.now[position..end].copy_from_slice(bytes);
        self.dirty_pages.extend(position / PAGE..end.div_ceil(PAGE));
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.sync_fails {
            return Err(io::Error::other("the disk failed to write"));
        }
        self.durable.clone_from(&self.now);
        self.dirty_pages.clear();
        Ok(())
    }

    fn crash(&self, chance: &mut Chance) -> Inode {
        let mut found = self.durable.clone();
        if chance.one_in(2) {
            found.resize(self.now.len(), 0);
        }
        for &page in &self.dirty_pages {
            for sector in self.sectors_that_arrived(page, chance) {
                let end = (sector + SECTOR).min(self.now.len()).min(found.len());
                if sector < end {
                    found[sector..end].copy_from_slice(&self.now[sector..end]);
                }
            }
        }
        Inode { durable: found.clone(), now: found, ..Inode::default() }
    }

    /// Byte positions of the page's sectors that the disk wrote: mostly all or none of them.
    fn sectors_that_arrived(&self, page: usize, chance: &mut Chance) -> Vec<usize> {
        let all = (0..PAGE / SECTOR).map(|sector| page * PAGE + sector * SECTOR);
        if chance.one_in(8) {
            all.filter(|_| chance.one_in(2)).collect()
        } else if chance.one_in(2) {
            all.collect()
        } else {
            Vec::new()
        }
    }
}

/// An open file; reads and appends.
#[derive(Clone, Debug)]
struct MemoryFile {
    disk: MemoryDisk,
    inode: Arc<Mutex<Inode>>,
}

impl View for MemoryFile {
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        let inode = self.inode.lock();
        let rest = inode.now.get(position as usize..).unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inode.lock().now.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        self.inode.lock().sync()
    }

    fn file(&self) -> Option<&Arc<File>> {
        None
    }
}

impl Appender for MemoryFile {
    fn end(&self) -> u64 {
        self.inode.lock().now.len() as u64
    }

    fn reserve(&mut self, bytes: usize) -> io::Result<()> {
        let room = self.disk.state.lock().faults.room;
        match room {
            Some(room) if room < bytes as u64 => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }

    fn append(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        self.disk.state.lock().take_room(bytes as u64)?;
        let mut inode = self.inode.lock();
        for part in parts {
            let end = inode.now.len();
            inode.write(end, part);
        }
        Ok(())
    }

    fn truncate(&mut self, end: u64) -> io::Result<()> {
        let mut inode = self.inode.lock();
        inode.now.truncate(end as usize);
        inode.sync()
    }

    fn trim(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn view(&self) -> Arc<dyn View> {
        Arc::new(self.clone())
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same seed, the same choices.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    fn one_in(&mut self, n: u64) -> bool {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)).is_multiple_of(n)
    }
}
