//! A stream of frames: what is read of it does not depend on how it is cut, and is bounded.

use bytes::BytesMut;
use mk_net::deframer::{Deframer, Incoming, take_frame};
use mk_net::frame::{FIRST_BYTE, FrameError, FrameHeader, HEADER_LEN, Kind};
use mk_net::kafka::frame::LENGTH_LEN;

use crate::edit::{edit, edit_head};
use crate::input::Input;

/// Bytes of a stream that is made, about.
const MOST_STREAM: usize = 100_000;

/// What came out of a stream, in the end: frames, or requests of Kafka's protocol.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    frames: Vec<(FrameHeader, Vec<u8>, Vec<u8>)>,
    requests: Vec<Vec<u8>>,
    error: Option<FrameError>,
}

pub fn frame(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let limit = input.pick([0, 10, 300, 70_000, u32::MAX]);
    let pieces: Vec<usize> = (0..=input.below(6)).map(|_| piece(&mut input)).collect();
    let stream = if input.one_in(4) { input.rest().to_vec() } else { stream(&mut input) };
    for head in stream.windows(HEADER_LEN).step_by(7).chain(stream.windows(HEADER_LEN).take(1)) {
        a_header_that_parses_encodes_to_its_bytes(head, limit);
    }
    if stream.first().is_some_and(|first| *first != FIRST_BYTE) {
        let at_once = served(&stream, &[usize::MAX], limit);
        assert_eq!(served(&stream, &pieces, limit), at_once, "Kafka's requests, cut {pieces:?}");
        return;
    }
    let whole = whole(&stream, limit);
    assert_eq!(served(&stream, &pieces, limit), whole, "the server's side, cut {pieces:?}");
    assert_eq!(taken(&stream, &pieces, limit), whole, "the client's side, cut {pieces:?}");
}

fn piece(input: &mut Input<'_>) -> usize {
    let most = input.pick([2, 30, 1000, 70_000]);
    1 + input.below(most)
}

/// Frames back to back, some of them damaged.
fn stream(input: &mut Input<'_>) -> Vec<u8> {
    let mut stream = Vec::new();
    while !input.is_empty() && stream.len() < MOST_STREAM {
        let mut frame = one_frame(input);
        match input.below(8) {
            0 => {
                edit(input, &mut frame);
            }
            1 => edit_head(input, &mut frame, HEADER_LEN),
            _ => {}
        }
        if input.one_in(2) {
            fix_checksum(&mut frame);
        }
        stream.extend(frame);
    }
    stream
}

fn one_frame(input: &mut Input<'_>) -> Vec<u8> {
    let fields = input.piece(40);
    // Pieces of the input are too short to make a buffer grow.
    let payload_len = if input.one_in(32) { input.below(100_000) } else { input.below(50) };
    let response = input.one_in(2);
    let header = FrameHeader {
        response,
        failed: response && input.one_in(2),
        kind: Kind(u16::from_le_bytes(input.array())),
        version: u16::from_le_bytes(input.array()),
        correlation: u32::from_le_bytes(input.array()),
        fields_len: fields.len() as u32,
        payload_len: payload_len as u32,
    };
    let payload = (0..payload_len).map(|at| (at % 251) as u8);
    header.encode().into_iter().chain(fields.iter().copied()).chain(payload).collect()
}

fn fix_checksum(frame: &mut [u8]) {
    if let Some((head, crc)) = frame.first_chunk_mut::<HEADER_LEN>().map(|h| h.split_at_mut(20)) {
        crc.copy_from_slice(&crc32fast::hash(head).to_le_bytes());
    }
}

fn a_header_that_parses_encodes_to_its_bytes(head: &[u8], limit: u32) {
    let head = head.first_chunk().expect("a header's worth");
    if let Ok(header) = FrameHeader::parse(head, limit) {
        assert_eq!(header.encode(), *head);
        assert!(header.body_len() <= limit as usize, "{header:?}");
    }
}

/// What the stream is, looked at as a whole.
fn whole(stream: &[u8], limit: u32) -> Outcome {
    let (mut frames, mut rest) = (Vec::new(), stream);
    let error = loop {
        let Some((head, body)) = rest.split_first_chunk::<HEADER_LEN>() else {
            let begun = b"MK".starts_with(&rest[..rest.len().min(2)]);
            break (!begun).then(|| FrameError::Magic { found: [rest[0], 0] });
        };
        let header = match FrameHeader::parse(head, limit) {
            Ok(header) => header,
            Err(error) => break Some(alike(error)),
        };
        let Some((body, behind)) = body.split_at_checked(header.body_len()) else { break None };
        let (fields, payload) = body.split_at(header.fields_len as usize);
        frames.push((header, fields.to_vec(), payload.to_vec()));
        rest = behind;
    };
    Outcome { frames, error, ..Outcome::default() }
}

/// The second byte of a wrong magic may not have come when the first is refused.
fn alike(error: FrameError) -> FrameError {
    match error {
        FrameError::Magic { found: [first, _] } => FrameError::Magic { found: [first, 0] },
        other => other,
    }
}

fn served(stream: &[u8], pieces: &[usize], limit: u32) -> Outcome {
    let mut deframer = Deframer::new(limit);
    let (mut frames, mut requests, mut error) = (Vec::new(), Vec::new(), None);
    let (mut rest, mut pieces) = (stream, pieces.iter().cycle());
    while !rest.is_empty() {
        let space = deframer.space();
        let wanted = *pieces.next().expect("one piece at least");
        let count = wanted.min(space.len()).min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        deframer.filled(count);
        rest = &rest[count..];
        if error.is_none() {
            while let Ok(Some(incoming)) = deframer.take_next() {
                match incoming {
                    Incoming::Own(frame) => {
                        frames.push((frame.header, frame.fields.to_vec(), frame.payload.to_vec()));
                    }
                    Incoming::Kafka(request) => requests.push(request.to_vec()),
                }
            }
            let waiting = (HEADER_LEN as u64 + u64::from(limit)).min(stream.len() as u64);
            assert!(deframer.capacity() as u64 <= 4 * waiting + (64 << 10), "holds too much");
        }
        let now = deframer.take_next().err().map(alike);
        assert!(error.is_none() || now == error, "{error:?} was not the last word, {now:?}");
        error = now;
        deframer.shrink();
    }
    let outcome = Outcome { frames, requests, error };
    assert!(outcome.error.is_some() || deframer.is_mid_frame() == outcome.is_mid_frame(stream));
    outcome
}

impl Outcome {
    fn is_mid_frame(&self, stream: &[u8]) -> bool {
        let frames = self.frames.iter().map(|(header, ..)| HEADER_LEN + header.body_len());
        let requests = self.requests.iter().map(|request| LENGTH_LEN + request.len());
        frames.chain(requests).sum::<usize>() < stream.len()
    }
}

fn taken(stream: &[u8], pieces: &[usize], limit: u32) -> Outcome {
    let mut arrived = BytesMut::new();
    let (mut frames, mut error) = (Vec::new(), None);
    let (mut rest, mut pieces) = (stream, pieces.iter().cycle());
    while !rest.is_empty() {
        let count = (*pieces.next().expect("one piece at least")).min(rest.len());
        arrived.extend_from_slice(&rest[..count]);
        rest = &rest[count..];
        let now = loop {
            match take_frame(&mut arrived, limit) {
                Ok(Some(frame)) => {
                    frames.push((frame.header, frame.fields.to_vec(), frame.payload.to_vec()));
                }
                Ok(None) => break None,
                Err(error) => break Some(alike(error)),
            }
        };
        assert!(error.is_none() || now == error, "{error:?} was not the last word, {now:?}");
        error = now;
    }
    Outcome { frames, error, ..Outcome::default() }
}
