//! The checkpoint of a partition: what need not be scanned again, and what the log's bytes alone
//! do not tell. All numbers little-endian:
//!
//! ```text
//!  0  4  magic            "MKCP"
//!  4  4  version          u32   1
//!  8  8  recovery point   u64   every record below is synced
//! 16  8  log start        u64   first offset that is served
//! 24  8  high watermark   u64
//! 32  4  epoch count n    u32
//! 36  …  n times: leader epoch i32, its first offset u64
//!  …  4  CRC-32           u32   over all bytes before
//! ```
//!
//! It is replaced as a whole, and only after the sync that it tells of. If it is missing or
//! damaged the whole log is scanned instead, and the log starts at its first segment.

use std::io;
use std::path::Path;

use crate::disk::{self, Disk};
use crate::{Epoch, Offset};

/// Name of the file in the partition's folder.
pub const CHECKPOINT_FILE: &str = "checkpoint";

const MAGIC: [u8; 4] = *b"MKCP";
const VERSION: u32 = 1;
const EPOCHS_AT: usize = 36;
const EPOCH_LEN: usize = 12;
/// A partition that changed its leader ten times a day for a century has 365,000 epochs.
const MOST_BYTES: usize = 8 << 20;

/// What a checkpoint file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checkpoint {
    /// Every record below this offset is synced.
    pub recovery_point: Offset,
    /// First offset that is served; records below may be on the disk still.
    pub log_start: Offset,
    /// Offset below which records were known to be replicated.
    pub high_watermark: Offset,
    /// Leader epochs and the offset at which each began, both increasing.
    pub epochs: Vec<(Epoch, Offset)>,
}

/// Why a file is not a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its bytes are not those of a checkpoint.
    #[error("the checkpoint is damaged: {0}")]
    Damaged(&'static str),
    /// Written by a later mk.
    #[error("the checkpoint has version {found}, this mk reads {VERSION}")]
    Version {
        /// The version found.
        found: u32,
    },
}

impl Checkpoint {
    /// Reads the checkpoint in `dir`; `None` if there is none.
    pub fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Checkpoint>, CheckpointError> {
        match disk::read(disk, &dir.join(CHECKPOINT_FILE), MOST_BYTES) {
            Ok(bytes) => Checkpoint::decode(&bytes).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Puts this checkpoint in the place of the one in `dir`.
    pub fn write(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        disk::replace(disk, &dir.join(CHECKPOINT_FILE), &self.encode())
    }

    /// The epoch that a record at `offset` must have; `None` if the table does not reach so far
    /// back.
    pub fn epoch_at(&self, offset: Offset) -> Option<Epoch> {
        let after = self.epochs.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).and_then(|at| self.epochs.get(at)).map(|(epoch, _)| *epoch)
    }

    /// What the checkpoint must say before a log that nobody has open is cut at `end`: then a log that
    /// is cut only half is one with a torn tail.
    pub fn cut_to(&self, end: Offset) -> Checkpoint {
        let mut epochs = self.epochs.clone();
        epochs.retain(|(_, start)| *start < end);
        Checkpoint {
            recovery_point: self.recovery_point.min(end),
            log_start: self.log_start.min(end),
            high_watermark: self.high_watermark.min(end),
            epochs,
        }
    }

    /// Makes the log begin at `start`, of which nothing below is left.
    pub fn begin_at(&mut self, start: Offset) {
        self.log_start = start;
        self.recovery_point = self.recovery_point.max(start);
        self.high_watermark = self.high_watermark.max(start);
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(EPOCHS_AT + self.epochs.len() * EPOCH_LEN + 4);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.recovery_point.0.to_le_bytes());
        bytes.extend_from_slice(&self.log_start.0.to_le_bytes());
        bytes.extend_from_slice(&self.high_watermark.0.to_le_bytes());
        bytes.extend_from_slice(&(self.epochs.len() as u32).to_le_bytes());
        for (epoch, start) in &self.epochs {
            bytes.extend_from_slice(&epoch.0.to_le_bytes());
            bytes.extend_from_slice(&start.0.to_le_bytes());
        }
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
        let damaged = CheckpointError::Damaged;
        let (covered, crc) = bytes.split_last_chunk::<4>().ok_or(damaged("too short"))?;
        if covered.first_chunk() != Some(&MAGIC) {
            return Err(damaged("no magic"));
        }
        if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
            return Err(damaged("wrong CRC-32"));
        }
        let version = u32::from_le_bytes(number(covered, 4)?);
        if version != VERSION {
            return Err(CheckpointError::Version { found: version });
        }
        let count = u32::from_le_bytes(number(covered, 32)?) as usize;
        let epochs = covered.get(EPOCHS_AT..).ok_or(damaged("too short"))?;
        if epochs.len() != count.saturating_mul(EPOCH_LEN) {
            return Err(damaged("wrong length"));
        }
        let epochs = epochs
            .chunks_exact(EPOCH_LEN)
            .map(|entry| {
                let epoch = Epoch(i32::from_le_bytes(number(entry, 0)?));
                Ok((epoch, Offset(u64::from_le_bytes(number(entry, 4)?))))
            })
            .collect::<Result<_, CheckpointError>>()?;
        let recovery_point = Offset(u64::from_le_bytes(number(covered, 8)?));
        let log_start = Offset(u64::from_le_bytes(number(covered, 16)?));
        if log_start > recovery_point {
            // A log is synced before it is trimmed.
            return Err(damaged("the log starts behind its recovery point"));
        }
        Ok(Checkpoint {
            recovery_point,
            log_start,
            high_watermark: Offset(u64::from_le_bytes(number(covered, 24)?)),
            epochs,
        })
    }
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], CheckpointError> {
    let field = bytes.get(at..).and_then(|rest| rest.first_chunk());
    field.copied().ok_or(CheckpointError::Damaged("too short"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    fn sample() -> Checkpoint {
        Checkpoint {
            recovery_point: Offset(1000),
            log_start: Offset(10),
            high_watermark: Offset(999),
            epochs: vec![(Epoch(0), Offset(0)), (Epoch(3), Offset(500))],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let disk = MemoryDisk::new();
        let dir = Path::new("p");
        assert!(Checkpoint::read(&disk, dir).unwrap().is_none());
        sample().write(&disk, dir).unwrap();
        assert_eq!(Checkpoint::read(&disk, dir).unwrap(), Some(sample()));
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let bytes = sample().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Checkpoint::decode(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(Checkpoint::decode(&bytes[..length]).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn epochs_are_found_by_offset() {
        let expected = [(0, Some(0)), (499, Some(0)), (500, Some(3)), (9999, Some(3))];
        for (offset, epoch) in expected {
            assert_eq!(sample().epoch_at(Offset(offset)), epoch.map(Epoch));
        }
        assert_eq!(Checkpoint::default().epoch_at(Offset(5)), None);
    }
}
