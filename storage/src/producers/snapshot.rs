//! What is known of a partition's producers at an offset, in a file of that name
//! (`00000000000000000123.snapshot`, as Kafka calls it), so that a start need not read the headers of all
//! batches before. All numbers little-endian:
//!
//! ```text
//!  0  4  magic            "MKPS"
//!  4  4  version          u32   1
//!  8  8  offset           u64   as in the name: batches before it are taken into account
//! 16  4  producers        u32   how many follow, by increasing ids
//!        for each:
//!     0  8  id            i64   0 or more
//!     8  8  last append   i64   milliseconds since 1970
//!    16  2  epoch         i16
//!    18  2  batches       u16   1 to 5; then for each, oldest first:
//!        0  4  sequence   i32   of its first record
//!        4  4  more       u32   its offsets, less one
//!        8  8  offset     u64   of its first record
//! end 4  CRC-32           u32   over all bytes before
//! ```
//!
//! It can be deleted; the headers are read instead.

use std::io;
use std::path::{Path, PathBuf};

use super::{BATCHES, MOST_PRODUCERS, NumberedBatch, Producer, Producers};
use crate::Offset;
use crate::disk::{self, Disk};
use crate::segment::{base_of, file_name};

/// How such a file's name ends.
pub const SNAPSHOT: &str = "snapshot";

const MAGIC: [u8; 4] = *b"MKPS";
const VERSION: u32 = 1;
const PRODUCERS_AT: usize = 20;
const PRODUCER_LEN: usize = 20;
const BATCH_LEN: usize = 16;
/// Bytes of the largest.
const MOST_BYTES: usize = PRODUCERS_AT + MOST_PRODUCERS * (PRODUCER_LEN + BATCHES * BATCH_LEN) + 4;

/// The file of a snapshot at `offset`.
pub fn path(dir: &Path, offset: Offset) -> PathBuf {
    dir.join(file_name(offset, SNAPSHOT))
}

/// The offsets of the snapshots in a folder, whole or not, increasing.
pub fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<Offset>> {
    let entries = disk.list(dir)?;
    let mut offsets: Vec<Offset> =
        entries.iter().filter_map(|entry| base_of(&entry.name, SNAPSHOT)).collect();
    offsets.sort();
    Ok(offsets)
}

/// Reads the snapshot at `offset`; `None` if there is none that is whole.
pub fn read(disk: &dyn Disk, dir: &Path, offset: Offset) -> io::Result<Option<Producers>> {
    match disk::read(disk, &path(dir, offset), MOST_BYTES) {
        Ok(bytes) => Ok(decode(&bytes).filter(|(at, _)| *at == offset).map(|(_, known)| known)),
        Err(error) => match error.kind() {
            // Too long is no snapshot, either.
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => Ok(None),
            _ => Err(error),
        },
    }
}

/// Writes a snapshot; after a crash it is whole, or not there.
pub fn write(disk: &dyn Disk, dir: &Path, offset: Offset, known: &Producers) -> io::Result<()> {
    disk::replace(disk, &path(dir, offset), &encode(offset, known))
}

fn encode(offset: Offset, producers: &Producers) -> Vec<u8> {
    let mut known: Vec<(i64, &Producer)> = producers.iter().collect();
    known.sort_unstable_by_key(|(id, _)| *id);
    let mut bytes = Vec::with_capacity(PRODUCERS_AT + known.len() * PRODUCER_LEN + 4);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&offset.0.to_le_bytes());
    bytes.extend_from_slice(&(known.len() as u32).to_le_bytes());
    for (id, producer) in known {
        bytes.extend_from_slice(&id.to_le_bytes());
        bytes.extend_from_slice(&producer.last_ms.to_le_bytes());
        bytes.extend_from_slice(&producer.epoch.to_le_bytes());
        bytes.extend_from_slice(&u16::from(producer.count).to_le_bytes());
        for batch in producer.batches() {
            bytes.extend_from_slice(&batch.first.to_le_bytes());
            bytes.extend_from_slice(&batch.last_delta.to_le_bytes());
            bytes.extend_from_slice(&batch.base.0.to_le_bytes());
        }
    }
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

/// The offset and the producers of a file that is whole.
pub fn decode(bytes: &[u8]) -> Option<(Offset, Producers)> {
    let (covered, crc) = bytes.split_last_chunk::<4>()?;
    if crc32fast::hash(covered) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut rest = covered;
    if take(&mut rest)? != MAGIC || u32::from_le_bytes(take(&mut rest)?) != VERSION {
        return None;
    }
    let offset = Offset(u64::from_le_bytes(take(&mut rest)?));
    let count = u32::from_le_bytes(take(&mut rest)?) as usize;
    if count > MOST_PRODUCERS {
        return None;
    }
    let mut producers = Producers::default();
    for _ in 0..count {
        let id = i64::from_le_bytes(take(&mut rest)?);
        producers.known.insert(id, decode_producer(&mut rest)?);
    }
    (rest.is_empty() && producers.len() == count).then_some((offset, producers))
}

fn decode_producer(rest: &mut &[u8]) -> Option<Producer> {
    let last_ms = i64::from_le_bytes(take(rest)?);
    let epoch = i16::from_le_bytes(take(rest)?);
    let count = u16::from_le_bytes(take(rest)?);
    if !(1..=BATCHES as u16).contains(&count) {
        return None;
    }
    let mut batches = [NumberedBatch::default(); BATCHES];
    for batch in &mut batches[..usize::from(count)] {
        let first = i32::from_le_bytes(take(rest)?);
        let last_delta = u32::from_le_bytes(take(rest)?);
        *batch = NumberedBatch { first, last_delta, base: Offset(u64::from_le_bytes(take(rest)?)) };
    }
    Some(Producer { epoch, last_ms, count: count as u8, batches })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (field, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    fn sample() -> Producers {
        let mut producers = Producers::default();
        for (id, count) in [(0, 1), (7, 3), (i64::MAX, 5)] {
            let mut batches = [NumberedBatch::default(); BATCHES];
            for (n, batch) in batches[..count].iter_mut().enumerate() {
                *batch =
                    NumberedBatch { first: n as i32 * 9, last_delta: 8, base: Offset(n as u64) };
            }
            let producer = Producer { epoch: 4, last_ms: 77, count: count as u8, batches };
            producers.known.insert(id, producer);
        }
        producers
    }

    #[test]
    fn what_is_written_is_read() {
        let (disk, dir) = (MemoryDisk::new(), Path::new("p"));
        disk.create_dir(dir).unwrap();
        write(&disk, dir, Offset(50), &sample()).unwrap();
        write(&disk, dir, Offset(5), &Producers::default()).unwrap();
        assert_eq!(list(&disk, dir).unwrap(), [Offset(5), Offset(50)]);
        assert_eq!(read(&disk, dir, Offset(50)).unwrap(), Some(sample()));
        assert_eq!(read(&disk, dir, Offset(5)).unwrap(), Some(Producers::default()));
        assert_eq!(read(&disk, dir, Offset(6)).unwrap(), None);
        disk.rename(&path(dir, Offset(50)), &path(dir, Offset(51))).unwrap();
        assert_eq!(read(&disk, dir, Offset(51)).unwrap(), None, "it is another offset's");
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let bytes = encode(Offset(50), &sample());
        assert!(decode(&bytes).is_some());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).is_none(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_none(), "{length} bytes");
        }
    }

    #[test]
    fn what_no_producer_can_be_is_no_snapshot() {
        for (at, wrong) in [(38, 0u8), (38, 6), (4, 2), (16, 4), (0, b'X')] {
            let mut bytes = encode(Offset(50), &sample());
            bytes[at] = wrong;
            let covered = bytes.len() - 4;
            let crc = crc32fast::hash(&bytes[..covered]);
            bytes[covered..].copy_from_slice(&crc.to_le_bytes());
            assert!(decode(&bytes).is_none(), "byte {at}");
        }
    }
}
