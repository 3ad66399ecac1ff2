//! Cuts a stream of bytes into frames.

use bytes::{Buf, BytesMut};

use crate::frame::{Frame, FrameError, FrameHeader, HEADER_LEN, OwnedFrame};

/// The server's side: frames borrow a buffer that is used again and again, so that it stays in the
/// processor's cache. Grows with what has arrived, never with what a length claims.
///
/// Invariant: `processed <= filled <= buffer.len()`; `buffer[processed..filled]` is what has
/// arrived and was not yet handed out.
#[derive(Debug)]
pub struct Deframer {
    buffer: Vec<u8>,
    processed: usize,
    filled: usize,
    max_frame: u32,
}

/// A connection that sends nothing holds nothing; the first read gets this much.
const FIRST_SPACE: usize = 16 << 10;
/// Most that is read at once.
const MOST_SPACE: usize = 256 << 10;
/// An idle buffer above this is given back.
const KEPT: usize = 2 << 20;

impl Deframer {
    /// Cuts frames of at most `max_frame` bytes behind the header.
    pub fn new(max_frame: u32) -> Deframer {
        Deframer { buffer: Vec::new(), processed: 0, filled: 0, max_frame }
    }

    /// Where the next bytes of the stream go: never empty.
    pub fn space(&mut self) -> &mut [u8] {
        debug_assert!(self.processed <= self.filled && self.filled <= self.buffer.len());
        if self.processed == self.filled {
            self.processed = 0;
            self.filled = 0;
        }
        let arrived = self.filled - self.processed;
        // What is waiting to be whole shows how fast the connection is: read as much again.
        let wanted = arrived.clamp(FIRST_SPACE, MOST_SPACE);
        if self.buffer.len() - self.filled < wanted {
            self.buffer.copy_within(self.processed..self.filled, 0);
            self.processed = 0;
            self.filled = arrived;
            if self.buffer.len() < arrived + wanted {
                let doubled = (self.buffer.len() * 2).max(arrived + wanted);
                self.buffer.resize(doubled, 0);
            }
        }
        &mut self.buffer[self.filled..]
    }

    /// Says that `count` bytes were put into the space.
    pub fn filled(&mut self, count: usize) {
        assert!(count <= self.buffer.len() - self.filled, "more than the space holds");
        self.filled += count;
    }

    /// The header of the next whole frame; `None` if more bytes must come first.
    pub fn peek(&self) -> Result<Option<FrameHeader>, FrameError> {
        let arrived = &self.buffer[self.processed..self.filled];
        let Some(head) = arrived.first_chunk::<HEADER_LEN>() else {
            reject_early(arrived)?;
            return Ok(None);
        };
        let header = FrameHeader::parse(head, self.max_frame)?;
        let is_whole = arrived.len() >= HEADER_LEN + header.body_len();
        Ok(is_whole.then_some(header))
    }

    /// The next whole frame; `None` if more bytes must come first.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let Some(header) = self.peek()? else { return Ok(None) };
        let from = self.processed + HEADER_LEN;
        let end = from + header.body_len();
        self.processed = end;
        let (fields, payload) = self.buffer[from..end].split_at(header.fields_len as usize);
        Ok(Some(Frame { header, fields, payload }))
    }

    /// True if a frame has begun and is not whole.
    pub fn is_mid_frame(&self) -> bool {
        self.processed < self.filled
    }

    /// Gives memory back if nothing is waiting and the buffer has become large.
    pub fn shrink(&mut self) {
        if !self.is_mid_frame() && self.buffer.len() > KEPT {
            self.buffer = Vec::new();
            self.processed = 0;
            self.filled = 0;
        }
    }

    /// Gives all memory back if nothing is waiting: for a connection that has gone quiet.
    pub fn release(&mut self) {
        if !self.is_mid_frame() {
            self.buffer = Vec::new();
            self.processed = 0;
            self.filled = 0;
        }
    }

    /// Bytes of memory that it holds.
    pub fn capacity(&self) -> usize {
        self.buffer.capacity()
    }
}

/// The client's side: takes the first whole frame off `stream`, without copying it.
pub fn take_frame(stream: &mut BytesMut, max_frame: u32) -> Result<Option<OwnedFrame>, FrameError> {
    let Some(head) = stream.first_chunk::<HEADER_LEN>() else {
        reject_early(stream)?;
        return Ok(None);
    };
    let header = FrameHeader::parse(head, max_frame)?;
    let end = HEADER_LEN + header.body_len();
    if stream.len() < end {
        return Ok(None);
    }
    stream.advance(HEADER_LEN);
    let fields = stream.split_to(header.fields_len as usize).freeze();
    let payload = stream.split_to(header.payload_len as usize).freeze();
    Ok(Some(OwnedFrame { header, fields, payload }))
}

/// Does not wait for a whole header where the first bytes already show that none will come.
fn reject_early(arrived: &[u8]) -> Result<(), FrameError> {
    match arrived {
        [b'M', b'K', ..] | [b'M'] | [] => Ok(()),
        [first, rest @ ..] => {
            Err(FrameError::Magic { found: [*first, rest.first().copied().unwrap_or(0)] })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::Kind;

    fn frame(fields: &[u8], payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader {
            response: false,
            failed: false,
            kind: Kind::PRODUCE,
            version: 1,
            correlation: 7,
            fields_len: fields.len() as u32,
            payload_len: payload.len() as u32,
        };
        [&header.encode(), fields, payload].concat()
    }

    proptest! {
        /// However the stream is cut, the same frames come out, on both sides.
        #[test]
        fn the_cut_does_not_matter(
            bodies in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), 0usize..200_000), 1..6),
            cuts in prop::collection::vec(1usize..70_000, 1..20),
        ) {
            let bodies: Vec<_> = bodies.into_iter()
                .map(|(fields, n)| (fields, (0..n).map(|i| i as u8).collect::<Vec<_>>())).collect();
            let stream: Vec<u8> = bodies.iter().flat_map(|(f, p)| frame(f, p)).collect();
            let mut deframer = Deframer::new(1 << 20);
            let mut owned = BytesMut::new();
            let (mut found, mut found_owned) = (Vec::new(), Vec::new());
            let (mut at, mut cuts) = (0, cuts.iter().cycle());
            while at < stream.len() {
                let space = deframer.space();
                let count = (*cuts.next().unwrap()).min(space.len()).min(stream.len() - at);
                space[..count].copy_from_slice(&stream[at..at + count]);
                deframer.filled(count);
                owned.extend_from_slice(&stream[at..at + count]);
                at += count;
                while let Some(frame) = deframer.next_frame().unwrap() {
                    found.push((frame.fields.to_vec(), frame.payload.to_vec()));
                }
                while let Some(frame) = take_frame(&mut owned, 1 << 20).unwrap() {
                    found_owned.push((frame.fields.to_vec(), frame.payload.to_vec()));
                }
                deframer.shrink();
            }
            prop_assert!(found == bodies && found_owned == bodies);
            prop_assert!(!deframer.is_mid_frame());
        }

        #[test]
        fn any_bytes_are_survived_in_bounded_memory(bytes: Vec<u8>) {
            let mut deframer = Deframer::new(1 << 30);
            for chunk in bytes.chunks(100) {
                let space = deframer.space();
                let count = chunk.len().min(space.len());
                space[..count].copy_from_slice(&chunk[..count]);
                deframer.filled(count);
                if deframer.next_frame().is_err() {
                    break;
                }
            }
            prop_assert!(deframer.capacity() <= 4 * FIRST_SPACE + 2 * bytes.len());
        }
    }

    #[test]
    fn a_length_of_two_gigabytes_is_refused_and_one_below_the_limit_reserves_nothing() {
        let header = |payload_len| FrameHeader {
            response: false,
            failed: false,
            kind: Kind::PRODUCE,
            version: 1,
            correlation: 0,
            fields_len: 0,
            payload_len,
        };
        let feed = |payload_len| {
            let mut deframer = Deframer::new(100 << 20);
            deframer.space()[..HEADER_LEN].copy_from_slice(&header(payload_len).encode());
            deframer.filled(HEADER_LEN);
            let result = deframer.next_frame().map(|frame| frame.is_some());
            deframer.space();
            (result, deframer.capacity())
        };
        assert!(matches!(feed(1 << 31), (Err(FrameError::TooLarge { .. }), _)));
        assert_eq!(feed(99 << 20).0, Ok(false));
        assert!(feed(99 << 20).1 <= 4 * FIRST_SPACE);
    }

    #[test]
    fn what_is_not_ours_is_refused_at_the_first_byte() {
        for byte in 0..=255u8 {
            let mut deframer = Deframer::new(100);
            deframer.space()[0] = byte;
            deframer.filled(1);
            assert_eq!(deframer.next_frame().is_err(), byte != b'M', "{byte}");
        }
    }
}
