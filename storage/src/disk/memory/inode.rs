//! The contents of a file: as they are, and what of them is on the disk for certain.

use std::collections::BTreeSet;
use std::io;

use super::SYNC_FAILED;
use super::chance::Chance;

const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// Contents now, and contents on the disk for certain.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Pages written to since the last sync.
    dirty: BTreeSet<usize>,
    /// Lengths that the file had since the last sync.
    lengths: Vec<usize>,
    /// Where each write since the last sync ended: a page may have gone to the disk as it was then.
    ends: Vec<usize>,
    syncs: Syncs,
}

/// What syncs of a file do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Syncs {
    #[default]
    Succeed,
    FailOnce,
    Fail,
}

impl Inode {
    /// A file with these bytes, all of them on the disk.
    pub fn durable(bytes: Vec<u8>) -> Inode {
        Inode { now: bytes.clone(), durable: bytes, ..Inode::default() }
    }

    /// The bytes as they are now.
    pub fn bytes(&self) -> &[u8] {
        &self.now
    }

    /// Writes at `position`, where the file must have room.
    pub fn write(&mut self, position: usize, bytes: &[u8]) {
        let end = position + bytes.len();
        self.now[position..end].copy_from_slice(bytes);
        self.dirty.extend(position / PAGE..end.div_ceil(PAGE));
        self.ends.push(end);
    }

    /// Makes the file this long; what is new is zeroes.
    pub fn set_len(&mut self, length: usize) {
        self.lengths.push(self.now.len());
        // Were it to grow again, what was cut off would be zeroes.
        self.dirty.extend((length / PAGE)..self.now.len().div_ceil(PAGE));
        self.now.resize(length, 0);
    }

    /// Makes the contents of a range be written to the disk again.
    pub fn rewrite(&mut self, from: usize, to: usize) {
        self.dirty.extend(from / PAGE..to.min(self.now.len()).div_ceil(PAGE));
    }

    pub fn fail_next_sync(&mut self) {
        self.syncs = Syncs::FailOnce;
    }

    pub fn succeed_syncs(&mut self) {
        self.syncs = Syncs::Succeed;
    }

    pub fn fail_syncs(&mut self) {
        self.syncs = Syncs::Fail;
    }

    /// As Linux does it: when a write fails, the pages count as clean all the same, though the disk
    /// does not have them; only the first sync afterwards is told.
    pub fn sync(&mut self) -> io::Result<()> {
        let result = match self.syncs {
            Syncs::Succeed => Ok(()),
            Syncs::FailOnce | Syncs::Fail => Err(io::Error::other(SYNC_FAILED)),
        };
        if result.is_ok() {
            self.durable.resize(self.now.len(), 0);
            for page in &self.dirty {
                let end = (page * PAGE + PAGE).min(self.now.len());
                let start = (page * PAGE).min(end);
                self.durable[start..end].copy_from_slice(&self.now[start..end]);
            }
        }
        if self.syncs == Syncs::FailOnce {
            self.syncs = Syncs::Succeed;
        }
        self.dirty.clear();
        self.lengths.clear();
        self.ends.clear();
        result
    }

    /// What a machine may find of the file after losing its power.
    pub fn crash(&self, chance: &mut Chance) -> Inode {
        let mut found = self.durable.clone();
        for &page in &self.dirty {
            let written = self.written_before(chance);
            for sector in sectors_that_arrived(page, chance) {
                let end = (sector + SECTOR).min(self.now.len()).min(written);
                if sector < end {
                    found.resize(found.len().max(end), 0);
                    found[sector..end].copy_from_slice(&self.now[sector..end]);
                }
            }
        }
        let lengths = self.lengths.iter().copied();
        let lengths: Vec<_> = lengths.chain([self.durable.len(), self.now.len()]).collect();
        found.resize(chance.pick(&lengths), 0);
        Inode::durable(found)
    }

    /// The moment at which a page was written, as the end of the file's writes at that time.
    fn written_before(&self, chance: &mut Chance) -> usize {
        if self.ends.is_empty() || chance.one_in(2) {
            return usize::MAX;
        }
        chance.pick(&self.ends)
    }
}

/// Byte positions of the page's sectors that the disk wrote: mostly all or none of them.
fn sectors_that_arrived(page: usize, chance: &mut Chance) -> Vec<usize> {
    let all = (0..PAGE / SECTOR).map(|sector| page * PAGE + sector * SECTOR);
    if chance.one_in(8) {
        all.filter(|_| chance.one_in(2)).collect()
    } else if chance.one_in(2) {
        all.collect()
    } else {
        Vec::new()
    }
}
