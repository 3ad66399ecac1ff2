//! A small volume of its own, for tests of full and failing disks. Needs root.

#![allow(dead_code, reason = "each test file uses a part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An ext4 file system in a file, mounted. Unmounted when this is dropped.
pub struct Volume {
    root: tempfile::TempDir,
}

impl Volume {
    /// Mounts one of so many MiB; none, and a printed reason, where that cannot be done.
    pub fn mount(mebibytes: u64) -> Option<Volume> {
        let volume = Volume { root: tempfile::tempdir().unwrap() };
        let image = volume.root.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        std::fs::create_dir(volume.path()).unwrap();
        let done = rustix::process::geteuid().is_root()
            && run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))
            && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(volume.path()));
        if !done {
            println!(
                "skipped: a small volume cannot be mounted here; that takes root and mkfs.ext4"
            );
            return None;
        }
        Some(volume)
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.root.path().join("mounted")
    }

    /// Bytes that are free.
    pub fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.path()).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Makes every further write fail, as ext4 does after an error of its journal.
    pub fn turn_read_only(&self) {
        assert!(run(Command::new("mount").args(["-o", "remount,abort"]).arg(self.path())));
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        run(Command::new("umount").arg("-l").arg(self.path()));
    }
}

/// Takes all room that is left but these bytes, in a file.
pub fn fill(volume: &Volume, but: u64) -> PathBuf {
    let path = volume.path().join("filler");
    let zeros = vec![0; 1 << 20];
    let mut file = std::fs::File::create(&path).unwrap();
    loop {
        let more = volume.free().saturating_sub(but).min(zeros.len() as u64) as usize;
        if more < 4096 || std::io::Write::write_all(&mut file, &zeros[..more]).is_err() {
            file.sync_all().unwrap();
            return path;
        }
        file.sync_all().unwrap();
    }
}

fn run(command: &mut Command) -> bool {
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Removes a file, and waits until its room is free.
pub fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
    rustix::fs::sync();
}
