//! The seal of a closed segment: what is in it, so that a start need not look, and the checksums of
//! its three files, so that somebody can. All numbers little-endian:
//!
//! ```text
//!  0  4  magic              "MKSL"
//!  4  4  version            u32   1
//!  8  8  base offset        u64   the segment's name
//! 16  8  next offset        u64   base offset of the segment behind it
//! 24  8  length             u64   bytes of the .log file
//! 32  8  records            u64
//! 40  8  batches            u64
//! 48  8  largest timestamp  i64   -1: no record has one
//! 56  4  leader epoch       i32   of the last batch
//! 60  4  offset entries     u32   in the .index file
//! 64  4  time entries       u32   in the .timeindex file
//! 68  4  CRC-32             u32   of the .log file
//! 72  4  CRC-32             u32   of the .index file
//! 76  4  CRC-32             u32   of the .timeindex file
//! 80  4  CRC-32             u32   over all bytes before
//! ```
//!
//! It is written once every batch of the segment has been checked and is on the disk. It can be
//! deleted; the segment is then looked at as one that was never sealed, and sealed again.

use std::io;
use std::path::Path;

use crate::disk::{self, Disk};
use crate::segment::{SEAL, file_name};
use crate::{Epoch, Offset, Position, Timestamp};

const MAGIC: [u8; 4] = *b"MKSL";
const VERSION: u32 = 1;
/// Bytes of a seal.
pub const SEAL_LEN: usize = 84;

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
        match disk::read(disk, &dir.join(file_name(base, SEAL)), SEAL_LEN) {
            Ok(bytes) => Ok(Seal::decode(&bytes).filter(|seal| seal.base == base)),
            Err(error) => match error.kind() {
                // Too long is no seal, either.
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData => Ok(None),
                _ => Err(error),
            },
        }
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
            epoch: Epoch(short(48)? as i32),
            offset_entries: short(52)?,
            time_entries: short(56)?,
            log_crc: short(60)?,
            offsets_crc: short(64)?,
            times_crc: short(68)?,
        })
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
