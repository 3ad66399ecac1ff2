//! The real disk: files appended to through memory maps.
//!
//! An append is a copy into a *window*: a piece of the file whose blocks are reserved (so that a
//! full disk is an error here and not a signal later), mapped, and populated (so that no append
//! waits for a page fault). A helper thread prepares the next window while the present one fills,
//! and takes down those that are full. Windows start small and double, so that a quiet file
//! reserves little and a busy one rarely needs a new window.
//!
//! A page that is populated for writing is dirty: a sync writes it, zeroes though it holds, and
//! protects it again, so that the append faults all the same and waits for the sync's hold on the
//! page table on top. So a file that is synced all the time has its windows populated for reading:
//! its syncs find only what was appended.
//!
//! Nothing is read through a map: readers use the file, which the kernel keeps coherent with its
//! shared maps (mmap(2), MAP_SHARED).
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use memmap2::{MmapMut, MmapOptions};
use parking_lot::{Condvar, Mutex};

use super::guard;
use super::room::Room;
use super::{Appender, Disk, Entry, Pace, View, is_full};

/// Bytes that are written at once where a file system cannot reserve.
const ZEROS: usize = 64 * 1024;

/// Bytes that are read and written back at once: they stay in the processor's cache meanwhile.
const REWRITE_CHUNK: usize = 256 * 1024;

/// The file system, written through memory maps. Cloning it is cheap; all clones share the helper.
#[derive(Clone, Debug)]
pub struct MappedDisk {
    helper: mpsc::Sender<Job>,
    room: Arc<Room>,
}

/// A file that is synced as often while one window fills is synced all the time.
const SYNCS_IN_A_WINDOW: u64 = 3;

#[derive(Debug)]
struct MappedFile {
    file: Arc<File>,
    /// Syncs so far.
    syncs: AtomicU64,
}

/// Invariant: `windows` cover `end ..` without a gap, and what they cover is reserved.
#[derive(Debug)]
struct MappedAppender {
    file: Arc<MappedFile>,
    end: u64,
    windows: VecDeque<Window>,
    ahead: Option<Arc<Slot>>,
    pace: Pace,
    step: u64,
    /// Syncs of the file when the last window was asked for.
    syncs_seen: u64,
    helper: mpsc::Sender<Job>,
    room: Arc<Room>,
    /// True once a write was refused.
    broken: bool,
}

/// A mapped piece of the file: bytes `start .. start + map.len()`.
#[derive(Debug)]
struct Window {
    start: u64,
    map: MmapMut,
}

/// Where the helper puts the window that it was asked for.
#[derive(Debug, Default)]
struct Slot {
    ready: Mutex<Option<io::Result<Window>>>,
    filled: Condvar,
}

#[derive(Debug)]
enum Job {
    Prepare { wanted: Wanted, room: Arc<Room>, slot: Arc<Slot> },
    Retire(Window),
}

/// A window to be prepared.
#[derive(Debug)]
struct Wanted {
    file: Arc<File>,
    start: u64,
    length: u64,
    pages: Pages,
}

/// What pages are populated for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pages {
    Reading,
    Writing,
}

impl MappedDisk {
    /// Starts the helper thread; it ends with the last clone and the last file.
    pub fn start() -> io::Result<MappedDisk> {
        MappedDisk::keeping(0)
    }

    /// The same for a disk on which appends leave `reserve_bytes` free: they fail as on a full disk
    /// otherwise, while all else goes on.
    pub fn keeping(reserve_bytes: u64) -> io::Result<MappedDisk> {
        guard::install();
        let room = Arc::new(Room::keeping(reserve_bytes));
        let (helper, jobs) = mpsc::channel();
        thread::Builder::new().name("mk-windows".into()).spawn(move || serve(&jobs))?;
        Ok(MappedDisk { helper, room })
    }

    fn appender(&self, file: MappedFile, end: u64, pace: Pace) -> MappedAppender {
        MappedAppender {
            file: Arc::new(file),
            end,
            windows: VecDeque::new(),
            ahead: None,
            pace,
            step: pace.first,
            syncs_seen: 0,
            helper: self.helper.clone(),
            room: self.room.clone(),
            broken: false,
        }
    }
}

impl Disk for MappedDisk {
    fn create(&self, path: &Path, pace: Pace) -> io::Result<Box<dyn Appender>> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        Ok(Box::new(self.appender(MappedFile::new(file), 0, pace)))
    }

    fn append_to(&self, path: &Path, end: u64, pace: Pace) -> io::Result<Box<dyn Appender>> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let length = file.metadata()?.len();
        if length < end {
            let what = format!("{} has {length} bytes, {end} are needed", path.display());
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
        }
        if length > end {
            file.set_len(end)?;
            file.sync_all()?;
        }
        Ok(Box::new(self.appender(MappedFile::new(file), end, pace)))
    }

    fn view(&self, path: &Path) -> io::Result<Arc<dyn View>> {
        Ok(Arc::new(MappedFile::new(File::open(path)?)))
    }

    fn length(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()
    }

    fn rewrite(&self, path: &Path, from: u64, to: u64) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut chunk = vec![0; REWRITE_CHUNK.min((to - from) as usize)];
        let mut at = from;
        while at < to {
            let wanted = chunk.len().min((to - at) as usize);
            file.read_exact_at(&mut chunk[..wanted], at)?;
            file.write_all_at(&chunk[..wanted], at)?;
            at += wanted as u64;
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            entries.push(Entry { name, is_dir: entry.file_type()?.is_dir() });
        }
        entries.sort();
        Ok(entries)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl MappedFile {
    fn new(file: File) -> MappedFile {
        MappedFile { file: Arc::new(file), syncs: AtomicU64::new(0) }
    }
}

impl View for MappedFile {
    fn read_at(&self, position: u64, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.file.read_at(into, position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.file.sync_data()
    }

    fn file(&self) -> Option<&Arc<File>> {
        Some(&self.file)
    }
}

impl Appender for MappedAppender {
    fn end(&self) -> u64 {
        self.end
    }

    fn reserve(&mut self, bytes: usize) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write to the mapped file was refused"));
        }
        let needed = self.end + bytes as u64;
        while self.covered() < needed {
            let window = match self.ahead.take() {
                // What was asked for ahead may be more than is needed.
                Some(slot) => match slot.wait() {
                    Err(error) if is_full(&error) => continue,
                    done => done?,
                },
                None => {
                    let start = floor(self.covered());
                    let wanted = self.next_window(start, needed - start);
                    match prepare(&wanted, &self.room) {
                        // There may be room for less.
                        Err(error) if is_full(&error) && self.step > self.pace.first => {
                            self.step = self.pace.first;
                            continue;
                        }
                        done => done?,
                    }
                }
            };
            self.windows.push_back(window);
        }
        Ok(())
    }

    fn append(&mut self, parts: &[&[u8]]) -> io::Result<()> {
        self.reserve(parts.iter().map(|part| part.len()).sum())?;
        let before = self.end;
        for part in parts {
            if let Err(error) = self.copy(part) {
                // Some pages of the windows may not be the file's any more.
                self.broken = true;
                self.end = before;
                return Err(error);
            }
        }
        self.look_ahead();
        Ok(())
    }

    fn truncate(&mut self, end: u64) -> io::Result<()> {
        debug_assert!(end <= self.end);
        self.unmap();
        self.end = end;
        self.file.file.set_len(end)?;
        self.file.file.sync_all()
    }

    fn trim(&mut self) -> io::Result<()> {
        self.unmap();
        self.file.file.set_len(self.end)
    }

    fn view(&self) -> Arc<dyn View> {
        self.file.clone()
    }
}

impl MappedAppender {
    /// First byte that no window covers.
    fn covered(&self) -> u64 {
        self.windows.back().map_or(self.end, Window::end)
    }

    fn copy(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some(window) = self.windows.front_mut() {
            let at = (self.end - window.start) as usize;
            let room = &mut window.map[at..];
            let (now, rest) = bytes.split_at(bytes.len().min(room.len()));
            guard::copy(&mut room[..now.len()], now)?;
            self.end += now.len() as u64;
            if now.len() == room.len() {
                self.retire_front();
            }
            bytes = rest;
            if bytes.is_empty() {
                return Ok(());
            }
        }
        assert!(bytes.is_empty(), "an append goes only where reserve() has been");
        Ok(())
    }

    fn retire_front(&mut self) {
        if let Some(window) = self.windows.pop_front() {
            // Should the helper be gone, the window is taken down here.
            let _ = self.helper.send(Job::Retire(window));
        }
    }

    /// Asks for the next window when half of the present one is used.
    fn look_ahead(&mut self) {
        let covered = self.covered();
        let left = covered - self.end;
        if self.ahead.is_some() || covered >= self.pace.limit || left > self.step / 2 {
            return;
        }
        self.step = (self.step * 2).min(self.pace.most);
        let wanted = self.next_window(floor(covered), 1);
        let slot = Arc::new(Slot::default());
        let job = Job::Prepare { wanted, room: self.room.clone(), slot: slot.clone() };
        if self.helper.send(job).is_ok() {
            self.ahead = Some(slot);
        }
    }

    /// A window from `start` on that holds `least` bytes.
    fn next_window(&mut self, start: u64, least: u64) -> Wanted {
        let length = self.step.min(self.pace.limit.saturating_sub(start)).max(least);
        let length = length.next_multiple_of(page_size());
        let syncs = self.file.syncs.load(Ordering::Relaxed);
        let is_synced_all_the_time = syncs - self.syncs_seen >= SYNCS_IN_A_WINDOW;
        self.syncs_seen = syncs;
        let pages = if is_synced_all_the_time { Pages::Reading } else { Pages::Writing };
        Wanted { file: self.file.file.clone(), start, length, pages }
    }

    fn unmap(&mut self) {
        if let Some(slot) = self.ahead.take() {
            // Waited for, so that the helper does not reserve behind our back; its result is not
            // needed any more.
            drop(slot.wait());
        }
        self.windows.clear();
        self.step = self.pace.first;
    }
}

impl Drop for MappedAppender {
    fn drop(&mut self) {
        // The helper must not reserve any more when somebody else may append to the file.
        self.unmap();
    }
}

impl Window {
    fn end(&self) -> u64 {
        self.start + self.map.len() as u64
    }
}

impl Slot {
    fn wait(&self) -> io::Result<Window> {
        let mut ready = self.ready.lock();
        loop {
            match ready.take() {
                Some(result) => return result,
                None => self.filled.wait(&mut ready),
            }
        }
    }

    fn fill(&self, result: io::Result<Window>) {
        *self.ready.lock() = Some(result);
        self.filled.notify_one();
    }
}

fn serve(jobs: &mpsc::Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Prepare { wanted, room, slot } => slot.fill(prepare(&wanted, &room)),
            Job::Retire(window) => drop(window),
        }
    }
}

/// Reserves, maps and populates a window.
fn prepare(wanted: &Wanted, room: &Room) -> io::Result<Window> {
    let Wanted { ref file, start, length, pages } = *wanted;
    room.take(file, length)?;
    reserve_blocks(file, start, length)?;
    let mut options = MmapOptions::new();
    let options = options.offset(start).len(length as usize);
    // SAFETY: memmap2 asks that nobody else changes the mapped bytes or shortens the file while
    // the map lives. The data directory is locked against other processes; within this one, a
    // file has one appender, which drops its maps before it shortens the file, and readers only
    // read. Blocks were reserved above, so that a store cannot meet a full disk.
    let map = unsafe { options.map_mut(file)? };
    populate(&map, pages)?;
    Ok(Window { start, map })
}

fn reserve_blocks(file: &File, start: u64, length: u64) -> io::Result<()> {
    use rustix::io::Errno;
    let flags = rustix::fs::FallocateFlags::empty();
    match rustix::fs::fallocate(file, flags, start, length) {
        Ok(()) => {}
        Err(Errno::INTR) => return reserve_blocks(file, start, length),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return write_zeros(file, start + length),
        Err(error) => return Err(error.into()),
    }
    if file.metadata()?.len() < start + length {
        // macOS reserves without growing the file.
        file.set_len(start + length)?;
    }
    Ok(())
}

/// Reservation for file systems that cannot do it otherwise.
fn write_zeros(file: &File, until: u64) -> io::Result<()> {
    let zeros = vec![0; ZEROS];
    let mut at = file.metadata()?.len();
    while at < until {
        let now = zeros.len().min((until - at) as usize);
        file.write_all_at(&zeros[..now], at)?;
        at += now as u64;
    }
    Ok(())
}

/// Brings the pages in, and answers an error where a store would have raised a signal.
#[cfg(target_os = "linux")]
fn populate(map: &MmapMut, pages: Pages) -> io::Result<()> {
    let advice = match pages {
        Pages::Reading => memmap2::Advice::PopulateRead,
        Pages::Writing => memmap2::Advice::PopulateWrite,
    };
    match map.advise(advice) {
        // Linux before 5.14 does not know the advice; pages then come in as they are stored to.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        done => done,
    }
}

#[cfg(not(target_os = "linux"))]
fn populate(_map: &MmapMut, _pages: Pages) -> io::Result<()> {
    Ok(())
}

/// The start of the page that holds `position`: maps begin at pages.
fn floor(position: u64) -> u64 {
    position - position % page_size()
}

fn page_size() -> u64 {
    rustix::param::page_size() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_of_a_file_that_is_synced_all_the_time_are_populated_for_reading() {
        let disk = MappedDisk::start().unwrap();
        let pace = Pace { first: 64 << 10, most: 1 << 20, limit: 1 << 20 };
        let file = MappedFile::new(tempfile::tempfile().unwrap());
        let mut appender = disk.appender(file, 0, pace);
        let view = appender.view();
        let mut next = |syncs| {
            (0..syncs).for_each(|_| view.sync().unwrap());
            appender.next_window(0, 1).pages
        };
        assert_eq!(next(0), Pages::Writing);
        assert_eq!(next(1), Pages::Writing, "a checkpoint now and then");
        assert_eq!(next(SYNCS_IN_A_WINDOW), Pages::Reading);
        assert_eq!(next(0), Pages::Writing, "no longer");
        // What is populated for reading can be written to all the same.
        (0..SYNCS_IN_A_WINDOW).for_each(|_| appender.view().sync().unwrap());
        appender.append(&[&[7; 200_000]]).unwrap();
        let mut read = vec![0; 200_000];
        assert_eq!(appender.view().read_at(0, &mut read).unwrap(), 200_000);
        assert!(read.iter().all(|byte| *byte == 7));
    }
}
