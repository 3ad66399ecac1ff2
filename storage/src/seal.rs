//! The seal of a closed segment: what is in it, so that a start need not look, and the checksums of
//! its three files, so that somebody can. All numbers little-endian:
//!
//! ```text
//!  0  4  magic              "MKSL"
//!  4  4  version            u32   2
//!  8  8  base offset        u64   the segment's name
//! 16  8  next offset        u64   base offset of the segment behind it
//! 24  8  length             u64   bytes of the .log file
//! 32  8  records            u64
//! 40  8  batches            u64
//! 48  8  largest timestamp  i64   -1: no record has one
//! 56  8  cleaned to         u64   records below this offset were compacted; 0: none
//! 64  4  leader epoch       i32   of the last batch
//! 68  4  offset entries     u32   in the .index file
//! 72  4  time entries       u32   in the .timeindex file
//! 76  4  CRC-32             u32   of the .log file
//! 80  4  CRC-32             u32   of the .index file
//! 84  4  CRC-32             u32   of the .timeindex file
//! 88  4  CRC-32             u32   over all bytes before
//! ```
//!
//! It is written once every batch of the segment has been checked and is on the disk. It can be
//! deleted; the segment is then looked at as one that was never sealed nor compacted, and sealed again.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{self, Disk, View};
use crate::error::DiskError;
use crate::index::{Entry as _, OffsetEntry, TimeEntry};
use crate::segment::{LOG, OFFSET_INDEX, SEAL, TIME_INDEX, file_name};
use crate::{Epoch, Offset, Position, Timestamp};

const MAGIC: [u8; 4] = *b"MKSL";
const VERSION: u32 = 2;
/// Bytes of a seal.
pub const SEAL_LEN: usize = 92;

/// Bytes read at once when a sealed file is checked.
const CHUNK: usize = 256 << 10;

/// What lies where a segment's seal would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundSeal {
    /// No file.
    None,
    /// A file that is no seal, or another segment's.
    Broken,
    /// A seal that is whole; whether it fits its segment, [`Seal::mismatch`] tells.
    Whole(Seal),
}

/// A file that is not as its seal says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealMismatch {
    /// Which file.
    pub file: PathBuf,
    /// What differs.
    pub what: String,
}

/// What a seal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The segment's name.
    pub base: Offset,
    /// Base offset of the segment behind it.
    pub next: Offset,
    /// Bytes of the `.log` file.
    pub length: Position,
    /// How many records it has.
    pub records: u64,
    /// How many batches.
    pub batches: u64,
    /// Largest timestamp of its records.
    pub max_timestamp: Timestamp,
    /// Records below this offset were compacted: no newer one below it has the key of one of them.
    /// 0 if none were.
    pub cleaned_to: Offset,
    /// Leader epoch of its last batch.
    pub epoch: Epoch,
    /// Entries of the offset index.
    pub offset_entries: u32,
    /// Entries of the time index.
    pub time_entries: u32,
    /// CRC-32 of the `.log` file.
    pub log_crc: u32,
    /// CRC-32 of the `.index` file.
    pub offsets_crc: u32,
    /// CRC-32 of the `.timeindex` file.
    pub times_crc: u32,
}

impl Seal {
    /// The seal of the segment at `base`, if it has one that is whole.
    pub fn read(disk: &dyn Disk, dir: &Path, base: Offset) -> io::Result<Option<Seal>> {
        match Seal::find(disk, dir, base)? {
            FoundSeal::Whole(seal) => Ok(Some(seal)),
            FoundSeal::None | FoundSeal::Broken => Ok(None),
        }
    }

    /// The same, but tells a seal that is not whole from one that is not there.
    pub fn find(disk: &dyn Disk, dir: &Path, base: Offset) -> io::Result<FoundSeal> {
        match disk::read(disk, &dir.join(file_name(base, SEAL)), SEAL_LEN) {
            Ok(bytes) => match Seal::decode(&bytes).filter(|seal| seal.base == base) {
                Some(seal) => Ok(FoundSeal::Whole(seal)),
                None => Ok(FoundSeal::Broken),
            },
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound => Ok(FoundSeal::None),
                // Too long is no seal, either.
                io::ErrorKind::InvalidData => Ok(FoundSeal::Broken),
                _ => Err(error),
            },
        }
    }

    /// How long each file of the segment must be.
    pub fn lengths(&self) -> [(&'static str, u64); 3] {
        let offsets = u64::from(self.offset_entries) * OffsetEntry::SIZE as u64;
        let times = u64::from(self.time_entries) * TimeEntry::SIZE as u64;
        [(LOG, self.length.0), (OFFSET_INDEX, offsets), (TIME_INDEX, times)]
    }

    /// Reads the segment's three files; the first that is not as the seal says, if there is one.
    pub fn mismatch(&self, disk: &dyn Disk, dir: &Path) -> Result<Option<SealMismatch>, DiskError> {
        let crcs = [self.log_crc, self.offsets_crc, self.times_crc];
        for ((ending, length), crc) in self.lengths().into_iter().zip(crcs) {
            let file = dir.join(file_name(self.base, ending));
            let view = match disk.view(&file) {
                Ok(view) => view,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let what = "sealed, and missing".to_owned();
                    return Ok(Some(SealMismatch { file, what }));
                }
                Err(error) => return Err(DiskError::at("read", &file)(error)),
            };
            let found = view.len().and_then(|found| match found == length {
                true => Ok((found, whole_crc(view.as_ref(), &mut |_| ())?)),
                false => Ok((found, crc)),
            });
            let what = match found.map_err(DiskError::at("read", &file))? {
                (found, _) if found != length => format!("{found} bytes, sealed with {length}"),
                (_, found) if found != crc => {
                    format!("CRC-32 of the file is {found:#010x}, sealed as {crc:#010x}")
                }
                _ => continue,
            };
            return Ok(Some(SealMismatch { file, what }));
        }
        Ok(None)
    }

    /// Writes it beside its segment.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        disk::replace(disk, &dir.join(file_name(self.base, SEAL)), &self.encode())
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(SEAL_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        for number in [self.base.0, self.next.0, self.length.0, self.records, self.batches] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&self.max_timestamp.0.to_le_bytes());
        bytes.extend_from_slice(&self.cleaned_to.0.to_le_bytes());
        bytes.extend_from_slice(&self.epoch.0.to_le_bytes());
        let Seal { offset_entries, time_entries, log_crc, offsets_crc, times_crc, .. } = *self;
        for number in [offset_entries, time_entries, log_crc, offsets_crc, times_crc] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Seal> {
        let (covered, crc) = bytes.split_last_chunk::<4>()?;
        if bytes.len() != SEAL_LEN || crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
            return None;
        }
        let rest = covered.strip_prefix(&MAGIC)?.strip_prefix(&VERSION.to_le_bytes())?;
        let long = |at: usize| Some(u64::from_le_bytes(*rest.get(at..)?.first_chunk()?));
        let short = |at: usize| Some(u32::from_le_bytes(*rest.get(at..)?.first_chunk()?));
        Some(Seal {
            base: Offset(long(0)?),
            next: Offset(long(8)?),
            length: Position(long(16)?),
            records: long(24)?,
            batches: long(32)?,
            max_timestamp: Timestamp(long(40)? as i64),
            cleaned_to: Offset(long(48)?),
            epoch: Epoch(short(56)? as i32),
            offset_entries: short(60)?,
            time_entries: short(64)?,
            log_crc: short(68)?,
            offsets_crc: short(72)?,
            times_crc: short(76)?,
        })
    }
}

/// The CRC-32 of a whole file; `pace` is told how many bytes were read.
pub(crate) fn whole_crc(view: &dyn View, pace: &mut dyn FnMut(usize)) -> io::Result<u32> {
    let mut crc = crc32fast::Hasher::new();
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let read = disk::read_fully(view, at, &mut chunk)?;
        if read == 0 {
            return Ok(crc.finalize());
        }
        crc.update(&chunk[..read]);
        at += read as u64;
        pace(read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    fn sample() -> Seal {
        Seal {
            base: Offset(1000),
            next: Offset(2000),
            length: Position(70_000),
            records: 1000,
            batches: 100,
            max_timestamp: Timestamp(1_700_000_000_000),
            cleaned_to: Offset(1500),
            epoch: Epoch(3),
            offset_entries: 16,
            time_entries: 15,
            log_crc: 1,
            offsets_crc: 2,
            times_crc: 3,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let disk = MemoryDisk::new();
        let dir = Path::new("p");
        assert_eq!(Seal::read(&disk, dir, Offset(1000)).unwrap(), None);
        sample().write(&disk, dir).unwrap();
        assert_eq!(Seal::read(&disk, dir, Offset(1000)).unwrap(), Some(sample()));
        let other = dir.join(file_name(Offset(5), SEAL));
        disk.rename(&dir.join(file_name(Offset(1000), SEAL)), &other).unwrap();
        assert_eq!(Seal::read(&disk, dir, Offset(5)).unwrap(), None, "another segment's");
        disk.tamper(&other, |bytes| bytes.push(0)).unwrap();
        assert_eq!(Seal::read(&disk, dir, Offset(5)).unwrap(), None);
        assert_eq!(Seal::find(&disk, dir, Offset(5)).unwrap(), FoundSeal::Broken);
        assert_eq!(Seal::find(&disk, dir, Offset(6)).unwrap(), FoundSeal::None);
    }

    #[test]
    fn a_seal_fits_its_files_and_no_others() {
        let disk = MemoryDisk::new();
        let dir = Path::new("p");
        let contents: [(&str, &[u8]); 3] =
            [(LOG, b"batches"), (OFFSET_INDEX, b"8 bytes."), (TIME_INDEX, b"twelve bytes")];
        let crcs = contents.map(|(ending, bytes)| {
            disk.write(&dir.join(file_name(Offset(1000), ending)), bytes).unwrap();
            crc32fast::hash(bytes)
        });
        let seal = Seal {
            length: Position(7),
            offset_entries: 1,
            time_entries: 1,
            log_crc: crcs[0],
            offsets_crc: crcs[1],
            times_crc: crcs[2],
            ..sample()
        };
        assert_eq!(seal.mismatch(&disk, dir).unwrap(), None);
        for (ending, bytes) in contents {
            let file = dir.join(file_name(Offset(1000), ending));
            let mismatch = || seal.mismatch(&disk, dir).unwrap().map(|found| found.file);
            disk.tamper(&file, |bytes| bytes[3] ^= 1).unwrap();
            assert_eq!(mismatch().as_ref(), Some(&file), "a bit");
            disk.tamper(&file, Vec::clear).unwrap();
            assert_eq!(mismatch().as_ref(), Some(&file), "its length");
            disk.remove(&file).unwrap();
            assert_eq!(mismatch().as_ref(), Some(&file), "gone");
            disk.write(&file, bytes).unwrap();
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let bytes = sample().encode();
        assert_eq!(bytes.len(), SEAL_LEN);
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Seal::decode(&damaged), None, "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert_eq!(Seal::decode(&bytes[..length]), None, "{length} bytes");
        }
    }
}
