//! The scan that finds where a log's whole batches end.
//!
//! A batch counts if and only if (1) its header is one, (2) all its bytes are there, (3) its
//! checksum is right, (4) its base offset is the one that follows, (5) its leader epoch is not
//! below the one before. A length of zero ends the log; that is how a reserved tail begins.

use std::convert::Infallible;
use std::io;
use std::ops::ControlFlow;

use crate::batch::{HEADER_LEN, Header, LENGTH_OVERHEAD, checksum};
use crate::disk::{View, read_fully};
use crate::safeguard::{Safeguard, holds};
use crate::{Epoch, Offset, Position};

/// Where a scan begins, and what must hold there.
#[derive(Clone, Copy, Debug)]
pub struct ScanFrom {
    /// First byte to look at, the start of a batch.
    pub position: Position,
    /// Offset of the first record there.
    pub offset: Offset,
    /// Leader epoch of the batch before.
    pub epoch: Epoch,
}

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Where the whole batches end.
    pub end: Position,
    /// Offset that follows the last whole batch.
    pub next: Offset,
    /// Leader epoch of the last whole batch.
    pub epoch: Epoch,
    /// What is behind them.
    pub tail: Tail,
}

/// What is behind the whole batches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The end of the file, or nothing but zeroes.
    Clean,
    /// Bytes that are no batch, `used` of them up to the last that is not zero.
    Broken {
        /// Why the scan went no further.
        reason: String,
        /// Bytes up to the last that is not zero.
        used: u64,
    },
}

/// Bytes read at once: large enough that a call costs little, and small enough that they are still
/// in the processor's cache when they are checked.
const CHUNK: usize = 128 << 10;

/// A page, or a part of one: what reads begin and end at.
const ALIGNED: usize = 4096;

/// Scans a segment file from `from` to its end and hands every whole batch to `each`.
pub fn scan(
    view: &dyn View,
    from: ScanFrom,
    mut each: impl FnMut(Position, &Header, &[u8]),
) -> io::Result<Scan> {
    let found = scan_until(view, from, |position, header, bytes| {
        each(position, header, bytes);
        ControlFlow::<Infallible>::Continue(())
    })?;
    match found {
        ControlFlow::Continue(found) => Ok(found),
        ControlFlow::Break(never) => match never {},
    }
}

/// The same, but `each` may break it off.
pub fn scan_until<B>(
    view: &dyn View,
    from: ScanFrom,
    mut each: impl FnMut(Position, &Header, &[u8]) -> ControlFlow<B>,
) -> io::Result<ControlFlow<B, Scan>> {
    let mut reader = ChunkReader::new(view, from.position.0)?;
    let mut found =
        Scan { end: from.position, next: from.offset, epoch: from.epoch, tail: Tail::Clean };
    loop {
        match next_batch(&mut reader, &found)? {
            Next::Batch(header) => {
                let seen = each(found.end, &header, reader.bytes(header.size)?);
                if let ControlFlow::Break(why) = seen {
                    return Ok(ControlFlow::Break(why));
                }
                reader.skip(header.size);
                found.end = found.end.plus(header.size as u64);
                found.next = header.next_offset();
                found.epoch = header.leader_epoch;
            }
            Next::Nothing => {
                let used = reader.used_bytes()?;
                if used > 0 {
                    let reason = "data behind a length of zero".to_owned();
                    found.tail = Tail::Broken { reason, used };
                }
                return Ok(ControlFlow::Continue(found));
            }
            Next::Broken(reason) => {
                found.tail = Tail::Broken { reason, used: reader.used_bytes()? };
                return Ok(ControlFlow::Continue(found));
            }
        }
    }
}

/// Bytes of a file from `from` to its last that is not zero.
pub fn used_bytes(view: &dyn View, from: Position) -> io::Result<u64> {
    ChunkReader::new(view, from.0)?.used_bytes()
}

/// True if a whole batch that may follow `next` begins anywhere from `from` on.
pub fn has_batch_from(view: &dyn View, from: Position, next: Offset) -> io::Result<bool> {
    let length = view.len()?;
    let mut chunk = vec![0; CHUNK];
    let mut at = from.0;
    while at + (HEADER_LEN as u64) <= length {
        let read = read_fully(view, at, &mut chunk)?;
        for (index, head) in chunk[..read].windows(HEADER_LEN).enumerate() {
            if is_batch(view, at + index as u64, head, next)? {
                return Ok(true);
            }
        }
        // The last header's worth is looked at again with what follows it.
        at += (read.saturating_sub(HEADER_LEN - 1)).max(1) as u64;
    }
    Ok(false)
}

fn is_batch(view: &dyn View, position: u64, head: &[u8], next: Offset) -> io::Result<bool> {
    let Ok(header) = Header::parse(head) else { return Ok(false) };
    if header.base_offset < next || header.size as u64 > view.len()?.saturating_sub(position) {
        return Ok(false);
    }
    let mut bytes = vec![0; header.size];
    let read = read_fully(view, position, &mut bytes)?;
    Ok(read == header.size && checksum(&bytes) == header.crc)
}

enum Next {
    Batch(Header),
    Nothing,
    Broken(String),
}

/// Judges the bytes at the reader's place by the five conditions.
fn next_batch(reader: &mut ChunkReader<'_>, before: &Scan) -> io::Result<Next> {
    let head = reader.bytes(HEADER_LEN)?;
    let length = head.get(8..LENGTH_OVERHEAD).unwrap_or(head);
    if length.iter().all(|byte| *byte == 0) {
        return Ok(Next::Nothing);
    }
    let header = match Header::parse(head) {
        Ok(header) => header,
        Err(error) => return Ok(Next::Broken(error.to_string())),
    };
    if header.size as u64 > reader.left() {
        let what = format!("a batch of {} bytes where the file has {}", header.size, reader.left());
        return Ok(Next::Broken(what));
    }
    let computed = checksum(reader.bytes(header.size)?);
    if computed != header.crc {
        let what = format!("CRC-32C is {:#010x}, computed {computed:#010x}", header.crc);
        return Ok(Next::Broken(what));
    }
    if header.base_offset != before.next && holds(Safeguard::Contiguity) {
        let what = format!("offset {} where {} follows", header.base_offset, before.next);
        return Ok(Next::Broken(what));
    }
    if header.leader_epoch < before.epoch {
        let what = format!("leader epoch {} behind {}", header.leader_epoch, before.epoch);
        return Ok(Next::Broken(what));
    }
    Ok(Next::Batch(header))
}

/// Reads a file in chunks and shows it piece by piece.
struct ChunkReader<'a> {
    view: &'a dyn View,
    length: u64,
    /// Position in the file of the first byte of `buffer[start..]`.
    position: u64,
    /// Invariant: `start <= end <= buffer.len()`, and `start..end` is what has been read and not
    /// yet skipped. The buffer grows to the largest piece and is cleared only then: clearing it
    /// for every chunk would cost as much as reading does.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl<'a> ChunkReader<'a> {
    fn new(view: &'a dyn View, position: u64) -> io::Result<ChunkReader<'a>> {
        let length = view.len()?;
        Ok(ChunkReader { view, length, position, buffer: Vec::new(), start: 0, end: 0 })
    }

    /// Bytes of the file not yet skipped.
    fn left(&self) -> u64 {
        self.length.saturating_sub(self.position)
    }

    /// The next `wanted` bytes, fewer only where the file ends.
    fn bytes(&mut self, wanted: usize) -> io::Result<&[u8]> {
        let wanted = (wanted as u64).min(self.left()) as usize;
        if self.end - self.start < wanted {
            self.fill(wanted)?;
        }
        let end = (self.start + wanted).min(self.end);
        Ok(&self.buffer[self.start..end])
    }

    /// Reads on, so that `wanted` bytes are there if the file has them. Reads end where pages of
    /// the file do and go to aligned addresses, as the kernel's copy is slower otherwise.
    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let have = self.end - self.start;
        let at = self.position + have as u64;
        let until = (at + CHUNK.max(wanted - have) as u64).next_multiple_of(ALIGNED as u64);
        let more = (until.min(self.length) - at) as usize;
        let most = have.next_multiple_of(ALIGNED) + more + ALIGNED;
        if self.buffer.len() < most {
            self.buffer.resize(most, 0);
        }
        let into = have.next_multiple_of(ALIGNED) + self.buffer.as_ptr().align_offset(ALIGNED);
        self.buffer.copy_within(self.start..self.end, into - have);
        self.start = into - have;
        self.end = into;
        self.end += read_fully(self.view, at, &mut self.buffer[into..into + more])?;
        Ok(())
    }

    fn skip(&mut self, bytes: usize) {
        self.start += bytes;
        self.position += bytes as u64;
        debug_assert!(self.start <= self.end && self.end <= self.buffer.len());
    }

    /// Bytes from here to the last that is not zero.
    fn used_bytes(&mut self) -> io::Result<u64> {
        let from = self.position;
        let mut used = 0;
        while self.left() > 0 {
            let chunk = self.bytes(CHUNK)?;
            let length = chunk.len();
            let last = chunk.iter().rposition(|byte| *byte != 0);
            if length == 0 {
                break;
            }
            if let Some(last) = last {
                used = self.position - from + last as u64 + 1;
            }
            self.skip(length);
        }
        Ok(used)
    }
}
