//! Cuts a stream of bytes into frames: ours, or Kafka's requests, as its first byte says.

use bytes::{Buf, BytesMut};

use crate::frame::{
    FIRST_BYTE, Frame, FrameError, FrameHeader, HEADER_LEN, KAFKA_HEADER_LEN, OwnedFrame,
};
use crate::kafka::frame::LENGTH_LEN;

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
    /// Known once something has arrived.
    protocol: Option<Protocol>,
}

/// What the other end speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Our frames.
    Own,
    /// Kafka's requests, each behind its length.
    Kafka,
}

/// What comes next, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// A frame of ours.
    Own(FrameHeader),
    /// A request of Kafka's protocol of so many bytes, its length not counted.
    Kafka(usize),
}

/// What came.
#[derive(Clone, Copy, Debug)]
pub enum Incoming<'a> {
    /// A frame of ours.
    Own(Frame<'a>),
    /// A request of Kafka's protocol, without its length.
    Kafka(&'a [u8]),
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
        Deframer { buffer: Vec::new(), processed: 0, filled: 0, max_frame, protocol: None }
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
        if self.protocol.is_none()
            && let Some(first) = self.buffer[..self.filled].first()
        {
            let is_ours = *first == FIRST_BYTE;
            self.protocol = Some(if is_ours { Protocol::Own } else { Protocol::Kafka });
        }
    }

    /// What the other end speaks; `None` before it has sent anything.
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// What comes next, if it is whole; `None` if more bytes must come first.
    pub fn peek(&self) -> Result<Option<Next>, FrameError> {
        let arrived = &self.buffer[self.processed..self.filled];
        match self.protocol {
            None => Ok(None),
            Some(Protocol::Own) => self.peek_own(arrived),
            Some(Protocol::Kafka) => self.peek_kafka(arrived),
        }
    }

    fn peek_own(&self, arrived: &[u8]) -> Result<Option<Next>, FrameError> {
        let Some(head) = arrived.first_chunk::<HEADER_LEN>() else {
            reject_early(arrived)?;
            return Ok(None);
        };
        let header = FrameHeader::parse(head, self.max_frame)?;
        let is_whole = arrived.len() >= HEADER_LEN + header.body_len();
        Ok(is_whole.then_some(Next::Own(header)))
    }

    fn peek_kafka(&self, arrived: &[u8]) -> Result<Option<Next>, FrameError> {
        // No length within the limit begins so.
        if let [first, rest @ ..] = arrived
            && u32::from(*first) > self.max_frame >> 24
        {
            return Err(FrameError::Magic { found: [*first, rest.first().copied().unwrap_or(0)] });
        }
        let Some(head) = arrived.first_chunk::<LENGTH_LEN>() else { return Ok(None) };
        let claimed = i32::from_be_bytes(*head);
        let allowed = KAFKA_HEADER_LEN as u32..=self.max_frame;
        match u32::try_from(claimed) {
            Ok(length) if allowed.contains(&length) => {
                let is_whole = arrived.len() >= LENGTH_LEN + length as usize;
                Ok(is_whole.then_some(Next::Kafka(length as usize)))
            }
            _ => Err(FrameError::KafkaLength { claimed, limit: self.max_frame }),
        }
    }

    /// What comes next; `None` if more bytes must come first.
    pub fn take_next(&mut self) -> Result<Option<Incoming<'_>>, FrameError> {
        let Some(next) = self.peek()? else { return Ok(None) };
        let (head_len, body_len) = match &next {
            Next::Own(header) => (HEADER_LEN, header.body_len()),
            Next::Kafka(length) => (LENGTH_LEN, *length),
        };
        let from = self.processed + head_len;
        self.processed = from + body_len;
        let body = &self.buffer[from..self.processed];
        Ok(Some(match next {
            Next::Kafka(_) => Incoming::Kafka(body),
            Next::Own(header) => {
                let (fields, payload) = body.split_at(header.fields_len as usize);
                Incoming::Own(Frame { header, fields, payload })
            }
        }))
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
                while let Some(Incoming::Own(frame)) = deframer.take_next().unwrap() {
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
                if deframer.take_next().is_err() {
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
            let result = deframer.take_next().map(|next| next.is_some());
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
            assert_eq!(deframer.take_next().is_err(), byte != b'M' && byte != 0, "{byte}");
        }
    }

    fn feed(max_frame: u32, bytes: &[u8]) -> Deframer {
        let mut deframer = Deframer::new(max_frame);
        deframer.space()[..bytes.len()].copy_from_slice(bytes);
        deframer.filled(bytes.len());
        deframer
    }

    #[test]
    fn requests_of_kafka_are_known_by_their_first_byte() {
        let one = [0, 0, 0, 9, 0, 18, 0, 3, 0, 0, 0, 1, b'x'];
        let mut deframer = feed(100, &[&one[..], &one, &one[..5]].concat());
        for _ in 0..2 {
            assert!(
                matches!(deframer.take_next(), Ok(Some(Incoming::Kafka(body))) if body == &one[4..])
            );
        }
        assert!(matches!(deframer.take_next(), Ok(None)));
        assert_eq!(deframer.protocol(), Some(Protocol::Kafka));
        // Whoever has begun in one protocol goes on in it.
        let mut mixed = feed(100, &[&one[..], &frame(b"", b"")].concat());
        assert!(mixed.take_next().unwrap().is_some());
        assert!(matches!(mixed.take_next(), Err(FrameError::Magic { found: [b'M', b'K'] })));
    }

    #[test]
    fn lengths_that_no_request_has_are_refused_before_the_request_comes() {
        let of = |length: i32| {
            feed(1 << 20, &length.to_be_bytes()).take_next().map(|next| next.is_some())
        };
        assert_eq!((of(8), of(1 << 20)), (Ok(false), Ok(false)));
        for length in [0, 7, (1 << 20) + 1] {
            assert!(
                matches!(of(length), Err(FrameError::KafkaLength { claimed, .. }) if claimed == length)
            );
        }
        assert!(of(-1).is_err() && of(i32::MAX).is_err() && of(i32::MIN).is_err());
        let tls = feed(100 << 20, &[0x16, 3, 1, 2, 0]).take_next().unwrap_err();
        assert!(tls.to_string().contains("looks like TLS"), "{tls}");
    }
}
