//! A file that is open while it is read.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::RwLock;

use super::{Effort, Reopens, Store};
use crate::disk::View;

/// A file that is opened when somebody reads it, and closed when it is not needed. Whoever has its
/// view reads on.
#[derive(Debug)]
pub(crate) struct SharedFile {
    store: Arc<Store>,
    path: PathBuf,
    view: RwLock<Option<Arc<dyn View>>>,
    used: AtomicBool,
    /// True once the name may belong to another file or to none.
    retired: AtomicBool,
}

impl SharedFile {
    /// The file at `path`, not opened yet.
    pub fn new(store: &Arc<Store>, path: PathBuf) -> Arc<SharedFile> {
        Arc::new(SharedFile {
            store: store.clone(),
            path,
            view: RwLock::new(None),
            used: AtomicBool::new(false),
            retired: AtomicBool::new(false),
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The file, opened if it is not.
    pub fn view(self: &Arc<SharedFile>) -> io::Result<Arc<dyn View>> {
        if let Some(view) = self.view.read().clone() {
            if !self.used.load(Ordering::Relaxed) {
                self.used.store(true, Ordering::Relaxed);
            }
            return Ok(view);
        }
        let view = self.store.disk().view(&self.path)?;
        // Asked after the file was opened: had the name passed to another file before, it would
        // have been retired before.
        if self.retired.load(Ordering::SeqCst) {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it was removed from the log"));
        }
        *self.view.write() = Some(view.clone());
        self.used.store(true, Ordering::Relaxed);
        self.store.file_opened(self);
        Ok(view)
    }

    /// Lends it the view of whoever has the file open to write, until [`SharedFile::take_back`].
    pub fn lend(&self, view: Arc<dyn View>) {
        *self.view.write() = Some(view);
    }

    pub fn take_back(&self) {
        *self.view.write() = None;
    }

    /// To be called before the file is removed or another gets its name.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }
}

impl Reopens for SharedFile {
    fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    fn close(&self, _: Effort) -> bool {
        self.take_back();
        true
    }
}
