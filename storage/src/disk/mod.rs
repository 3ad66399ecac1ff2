//! What the engine asks of a file system, and no more.
//!
//! Two disks answer: [`MappedDisk`], the real one, writes through memory maps; [`MemoryDisk`] keeps
//! everything in memory, knows what has been synced, and can crash as a machine does that loses
//! its power. Every rule of the engine is tested on both.
//!
//! Durability follows POSIX: a file's bytes survive a power failure after [`View::sync`], its name
//! after [`Disk::sync_dir`] of the folder that holds it. After [`View::sync`] has failed once, the
//! file's unsynced bytes must be taken for lost, even if a later sync succeeds.

mod guard;
mod map;
pub(crate) mod memory;
mod room;

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use map::MappedDisk;
pub use memory::{Chance, MemoryDisk};

/// A file system, as far as the engine needs one.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Makes an empty file to append to. An error if there is one of that name.
    fn create(&self, path: &Path, pace: Pace) -> io::Result<Box<dyn Appender>>;
    /// Opens a file to append to from byte `end` on; cuts off what lies beyond, and syncs the cut.
    fn append_to(&self, path: &Path, end: u64, pace: Pace) -> io::Result<Box<dyn Appender>>;
    /// Opens a file to read.
    fn view(&self, path: &Path) -> io::Result<Arc<dyn View>>;
    /// Bytes of a file.
    fn length(&self, path: &Path) -> io::Result<u64>;
    /// Makes a file of these bytes, in place of one that may be there, and syncs it (its name not).
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Has bytes `from..to` of a file written to the disk by its next sync, though they count as
    /// clean. After a failed sync they do so on Linux, whether the disk has them or not.
    fn rewrite(&self, path: &Path, from: u64, to: u64) -> io::Result<()>;
    /// The names in a folder, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Makes a folder and those above it; fine if it is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Renames a file or folder, replacing a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Whoever has it open reads on.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all that is in it.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a folder survive a power failure.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// The writing end of a file that only grows at its end.
pub trait Appender: Send + fmt::Debug {
    /// Where the next byte goes.
    fn end(&self) -> u64;
    /// Makes sure that the next `bytes` appended cannot fail for want of space.
    fn reserve(&mut self, bytes: usize) -> io::Result<()>;
    /// Appends the parts, one behind the other; all or, with an error, none of them.
    fn append(&mut self, parts: &[&[u8]]) -> io::Result<()>;
    /// Cuts the file to `end` bytes, gives back what was reserved beyond, and syncs the cut.
    fn truncate(&mut self, end: u64) -> io::Result<()>;
    /// Gives back what was reserved beyond the end. Not synced.
    fn trim(&mut self) -> io::Result<()>;
    /// The reading end of the same file.
    fn view(&self) -> Arc<dyn View>;
}

/// The reading end of a file, good for many threads at once.
pub trait View: Send + Sync + fmt::Debug {
    /// Reads up to `into.len()` bytes at `position`; fewer only at the end of the file.
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Bytes in the file, those reserved and not yet written included.
    fn len(&self) -> io::Result<u64>;
    /// True if there is no byte.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Makes what was appended before the call survive a power failure.
    fn sync(&self) -> io::Result<()>;
    /// The operating system's file behind it, if there is one, for whoever can send from it.
    fn file(&self) -> Option<&Arc<File>>;
}

/// How fast a file's reservation may grow: `first <= most`, doubling between.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes of the first reservation.
    pub first: u64,
    /// Bytes of the largest.
    pub most: u64,
    /// Size of the file beyond which no more is reserved than is asked for.
    pub limit: u64,
}

impl Pace {
    /// Nothing is reserved: for files that are only cut.
    pub const NONE: Pace = Pace { first: 0, most: 0, limit: 0 };
}

/// One name in a folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// The name, without the folder.
    pub name: String,
    /// True for a folder.
    pub is_dir: bool,
}

/// Puts `bytes` in the place of the file at `path`, so that after a crash at any moment the file
/// has its old contents or the new, whole.
pub fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = temporary(path);
    disk.write(&fresh, bytes)?;
    disk.rename(&fresh, path)?;
    disk.sync_dir(parent(path))
}

/// Reads a whole file of at most `limit` bytes.
pub fn read(disk: &dyn Disk, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let view = disk.view(path)?;
    let length = view.len()?;
    if length > limit as u64 {
        let what = format!("{} has {length} bytes, at most {limit} are expected", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let mut bytes = vec![0; length as usize];
    let read = read_fully(view.as_ref(), 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Reads until `into` is full or the file ends; answers how many bytes that were.
pub fn read_fully(view: &dyn View, position: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match view.read_at(position + done as u64, &mut into[done..])? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

/// True if the disk, or what may be used of it, has no room left.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or(OsStr::new("file")).to_owned();
    name.push(".tmp");
    path.with_file_name(name)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
