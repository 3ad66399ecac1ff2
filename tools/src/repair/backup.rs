//! Where files go before they are changed.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use mk_storage::error::DiskError;

use crate::InspectError;
use crate::find::{backup_name, data_directory};

/// A folder for what a repair of one partition changes; made with the first file.
#[derive(Debug)]
pub struct Backup {
    path: PathBuf,
    made: bool,
}

impl Backup {
    /// A folder of a name that there is not yet: beside the partition, or in `parent`.
    pub fn new(partition: &Path, parent: Option<&Path>) -> Result<Backup, InspectError> {
        let full = fs::canonicalize(partition).map_err(DiskError::at("find", partition))?;
        let name =
            |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name(&full);
        let (parent, number) = match parent {
            Some(parent) => {
                refuse_live(parent, &full)?;
                let topic = full.parent().map(name).unwrap_or_default();
                (parent.to_owned(), format!("{topic}-{number}"))
            }
            None => (full.parent().unwrap_or(&full).to_owned(), number),
        };
        let time = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let names = (1..).map(|count| match count {
            1 => backup_name(&number, &time),
            _ => backup_name(&number, &format!("{time}-{count}")),
        });
        let mut paths = names.map(|name| parent.join(name));
        let path = paths.find(|path| !path.exists()).unwrap_or(parent);
        Ok(Backup { path, made: false })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if something was put there.
    pub fn is_used(&self) -> bool {
        self.made
    }

    /// Copies a file, if it is there, and has the copy on the disk.
    pub fn copy(&mut self, file: &Path) -> Result<(), InspectError> {
        let Some(to) = self.place(file)? else { return Ok(()) };
        let copied = fs::copy(file, &to).and_then(|_| File::open(&to)?.sync_all());
        copied.map_err(DiskError::at("copy to the backup", file))?;
        self.sync()
    }

    /// Moves a file, if it is there.
    pub fn take(&mut self, file: &Path) -> Result<(), InspectError> {
        let Some(to) = self.place(file)? else { return Ok(()) };
        // Another file system takes a copy.
        if fs::rename(file, &to).is_err() {
            self.copy(file)?;
            fs::remove_file(file).map_err(DiskError::at("remove", file))?;
        }
        self.sync()
    }

    /// Where a file goes; `None` if there is none.
    fn place(&mut self, file: &Path) -> Result<Option<PathBuf>, InspectError> {
        match fs::symlink_metadata(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(DiskError::at("find", file))?,
        };
        if !self.made {
            fs::create_dir_all(&self.path).map_err(DiskError::at("make", &self.path))?;
            self.made = true;
        }
        Ok(file.file_name().map(|name| self.path.join(name)))
    }

    fn sync(&self) -> Result<(), InspectError> {
        let parent = self.path.parent().unwrap_or(&self.path);
        for dir in [self.path.as_path(), parent] {
            let synced = File::open(dir).and_then(|dir| dir.sync_all());
            synced.map_err(DiskError::at("sync", dir))?;
        }
        Ok(())
    }
}

/// A folder among the topics would be taken for a topic that was never finished, and removed.
fn refuse_live(parent: &Path, partition: &Path) -> Result<(), InspectError> {
    // It is made when it is needed; where it will be, the folders above it tell.
    let parent_full = std::path::absolute(parent).map_err(DiskError::at("find", parent))?;
    let mut above = parent_full.ancestors();
    let full = above.find_map(|dir| fs::canonicalize(dir).ok()).unwrap_or_default();
    let in_data = data_directory(partition).is_some_and(|data| full.starts_with(data));
    if in_data || full.starts_with(partition) {
        let what = "the broker may remove it there".to_owned();
        return Err(InspectError::Backup { path: parent.to_owned(), what });
    }
    Ok(())
}
