//! Names of files and folders: as they are, and what of them is on the disk for certain.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::chance::Chance;
use super::inode::Inode;

/// Which names there are.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    pub files: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    pub dirs: BTreeSet<PathBuf>,
}

/// What happens to a name. Until its folder is synced a power failure may undo it.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Link(PathBuf, Arc<Mutex<Inode>>),
    MakeDir(PathBuf),
    /// A file, or a folder with all that is in it.
    Remove(PathBuf),
    /// A file, or a folder with all that is in it.
    Rename(PathBuf, PathBuf),
}

impl Names {
    pub fn apply(&mut self, change: &Change) {
        match change {
            Change::Link(path, inode) => {
                self.files.insert(path.clone(), inode.clone());
            }
            Change::MakeDir(path) => {
                self.dirs.insert(path.clone());
            }
            Change::Remove(path) => {
                self.take(path);
            }
            Change::Rename(from, to) => {
                let moved = self.take(from);
                let place = |path: PathBuf| match path.strip_prefix(from) {
                    Ok(rest) if !rest.as_os_str().is_empty() => to.join(rest),
                    _ => to.clone(),
                };
                self.files
                    .extend(moved.files.into_iter().map(|(path, inode)| (place(path), inode)));
                self.dirs.extend(moved.dirs.into_iter().map(place));
            }
        }
    }

    /// What a machine may find after losing its power, if these changes were not synced. Each of
    /// them may have happened or not, but a name is nowhere without the folder that it is in.
    pub fn crash(&self, pending: &[Change], chance: &mut Chance) -> Names {
        let mut found = self.clone();
        for change in pending {
            let happened = chance.one_in(2);
            if happened && change.dir().is_none_or(|dir| found.has_dir(dir, pending)) {
                found.apply(change);
            }
        }
        let inode = |inode: &Arc<Mutex<Inode>>, chance: &mut Chance| {
            Arc::new(Mutex::new(inode.lock().crash(chance)))
        };
        for file in found.files.values_mut() {
            *file = inode(file, chance);
        }
        found
    }

    /// True unless the folder was made by a change that has not happened.
    fn has_dir(&self, dir: &Path, pending: &[Change]) -> bool {
        self.dirs.contains(dir)
            || !pending.iter().any(|change| matches!(change, Change::MakeDir(made) if made == dir))
    }

    /// Takes out the file of this name, or the folder with all that is in it.
    fn take(&mut self, path: &Path) -> Names {
        let inside = |candidate: &PathBuf| candidate.starts_with(path);
        let files = self.files.keys().filter(|path| inside(path)).cloned().collect::<Vec<_>>();
        let dirs = self.dirs.iter().filter(|path| inside(path)).cloned().collect::<BTreeSet<_>>();
        self.dirs.retain(|path| !dirs.contains(path));
        let files = files.into_iter().filter_map(|path| self.files.remove_entry(&path)).collect();
        Names { files, dirs }
    }
}

impl Change {
    /// The same change, of a name that has gone into another folder with its own.
    pub fn moved(&mut self, from: &Path, to: &Path) {
        let place = |path: &mut PathBuf| {
            if let Ok(rest) = path.strip_prefix(from)
                && !rest.as_os_str().is_empty()
            {
                *path = to.join(rest);
            }
        };
        match self {
            Change::Link(path, _) | Change::MakeDir(path) | Change::Remove(path) => place(path),
            Change::Rename(before, after) => [before, after].into_iter().for_each(place),
        }
    }

    /// The folder whose sync makes the change last.
    pub fn dir(&self) -> Option<&Path> {
        match self {
            Change::Link(path, _)
            | Change::MakeDir(path)
            | Change::Remove(path)
            | Change::Rename(_, path) => path.parent(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::disk::{Disk, MemoryDisk, Pace};

    use super::*;

    /// A folder was moved away and another made in its place; after a power failure the other had
    /// files of the first.
    #[test]
    fn what_is_not_sure_of_a_folder_goes_where_the_folder_goes() {
        let disk = MemoryDisk::new();
        let [root, old, grave] = ["/", "/0", "/trash"].map(Path::new);
        for dir in [old, grave] {
            disk.create_dir(dir).unwrap();
        }
        disk.sync_dir(root).unwrap();
        drop(disk.create(&old.join("a"), Pace::NONE).unwrap());
        disk.rename(old, &grave.join("0")).unwrap();
        disk.sync_dir(grave).unwrap();
        disk.create_dir(old).unwrap();
        disk.sync_dir(root).unwrap();
        let found = |seed| {
            let crashed = disk.crash(seed);
            (crashed.list(old).unwrap().len(), crashed.list(&grave.join("0")).unwrap().len())
        };
        let found: BTreeSet<_> = (0..50).map(found).collect();
        assert_eq!(found, [(0, 0), (0, 1)].into());
    }
}
