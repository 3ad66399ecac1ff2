//! What is to be sent on a connection, in order: bytes from memory, and pieces of files.

use std::collections::VecDeque;
use std::fs::File;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::{Buf, Bytes};

/// A piece of a file.
#[derive(Clone, Debug)]
pub struct FileRange {
    /// The file; kept open until the piece is sent.
    pub file: Arc<File>,
    /// First byte.
    pub position: u64,
    /// How many bytes. More than 0.
    pub length: u64,
}

/// Something to send.
#[derive(Clone, Debug)]
pub enum Chunk {
    /// Bytes from memory.
    Bytes(Bytes),
    /// Bytes from a file, which leave it without passing through this process.
    File(FileRange),
}

/// What is to be sent next.
#[derive(Debug)]
pub enum Transmit<'a> {
    /// These bytes. `more`: a piece of a file follows, so let the kernel wait for it.
    Bytes {
        /// The bytes.
        slices: Vec<IoSlice<'a>>,
        /// See above.
        more: bool,
    },
    /// This piece of a file.
    File(&'a FileRange),
}

/// A queue of chunks. Invariant: no chunk is empty; `length` is the sum of theirs.
#[derive(Debug, Default)]
pub struct Outgoing {
    chunks: VecDeque<Chunk>,
    length: u64,
}

/// Most slices of one `sendmsg`; the system's limit is 1024.
const MOST_SLICES: usize = 64;

impl Outgoing {
    /// Puts a chunk at the end.
    pub fn push(&mut self, chunk: Chunk) {
        let length = chunk.len();
        if length > 0 {
            self.length += length;
            self.chunks.push_back(chunk);
        }
    }

    /// What to send next; `None` if there is nothing.
    pub fn next(&self) -> Option<Transmit<'_>> {
        match self.chunks.front()? {
            Chunk::File(range) => Some(Transmit::File(range)),
            Chunk::Bytes(_) => {
                let mut slices = Vec::with_capacity(self.chunks.len().min(MOST_SLICES));
                for chunk in self.chunks.iter().take(MOST_SLICES) {
                    match chunk {
                        Chunk::Bytes(bytes) => slices.push(IoSlice::new(bytes)),
                        Chunk::File(_) => return Some(Transmit::Bytes { slices, more: true }),
                    }
                }
                Some(Transmit::Bytes { slices, more: false })
            }
        }
    }

    /// Takes note that `count` bytes of what [`Outgoing::next`] answered were sent.
    pub fn sent(&mut self, count: u64) {
        debug_assert!(count <= self.length);
        self.length -= count;
        let mut left = count;
        while left > 0
            && let Some(chunk) = self.chunks.front_mut()
        {
            let of_chunk = left.min(chunk.len());
            chunk.advance(of_chunk);
            left -= of_chunk;
            if chunk.len() == 0 {
                self.chunks.pop_front();
            }
        }
    }

    /// Bytes to send in all.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// True if there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Chunk {
    /// How many bytes.
    #[expect(clippy::len_without_is_empty, reason = "an empty one is nobody's business")]
    pub fn len(&self) -> u64 {
        match self {
            Chunk::Bytes(bytes) => bytes.len() as u64,
            Chunk::File(range) => range.length,
        }
    }

    fn advance(&mut self, count: u64) {
        match self {
            Chunk::Bytes(bytes) => bytes.advance(count as usize),
            Chunk::File(range) => {
                range.position += count;
                range.length -= count;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However little is sent at a time, everything is, in order.
        #[test]
        fn everything_is_sent_in_order(
            chunks in prop::collection::vec((any::<bool>(), 0u64..40), 0..20),
            steps in prop::collection::vec(1u64..30, 1..20),
        ) {
            let file = Arc::new(tempfile::tempfile().unwrap());
            let mut outgoing = Outgoing::default();
            let mut expected = Vec::new();
            let mut number = 0u64;
            for (in_file, length) in chunks {
                let range = number..number + length;
                number += length;
                expected.extend(range.clone());
                outgoing.push(if in_file {
                    Chunk::File(FileRange { file: file.clone(), position: range.start, length })
                } else {
                    Chunk::Bytes(range.map(|n| n as u8).collect())
                });
            }
            let mut sent = Vec::new();
            for step in steps.iter().cycle() {
                let (available, first) = match outgoing.next() {
                    None => break,
                    Some(Transmit::File(range)) => {
                        let numbers = range.position..range.position + range.length;
                        (numbers.map(|n| n as u8).collect::<Vec<_>>(), false)
                    }
                    Some(Transmit::Bytes { slices, .. }) => {
                        (slices.iter().flat_map(|slice| slice.to_vec()).collect(), true)
                    }
                };
                prop_assert!(first || !available.is_empty());
                let count = (*step).min(available.len() as u64);
                sent.extend_from_slice(&available[..count as usize]);
                outgoing.sent(count);
            }
            let expected: Vec<u8> = expected.into_iter().map(|n| n as u8).collect();
            prop_assert_eq!(sent, expected);
            prop_assert!(outgoing.is_empty());
        }
    }
}
