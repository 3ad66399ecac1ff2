//! Messages between brokers and the zookeeper in frames of mk: JSON as the fields, no payload.
//!
//! ```text
//! kind 100  a request, with a number
//! kind 101  its response, with the same number
//! kind 102  a push
//! ```

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use mk_net::deframer::take_frame;
use mk_net::frame::{FrameError, FrameHeader, HEADER_LEN, Kind, OwnedFrame};
use rustix::net::sockopt;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;

/// A request.
pub(super) const REQUEST: Kind = Kind(100);
/// What answers it.
pub(super) const RESPONSE: Kind = Kind(101);
/// What nobody has asked for.
pub(super) const PUSH: Kind = Kind(102);
/// Largest request.
pub(super) const MAX_REQUEST: u32 = 1 << 20;
/// Largest response and push: the whole state of some 200,000 partitions.
pub(super) const MAX_RESPONSE: u32 = 64 << 20;

const VERSION: u16 = 1;
const READ_BYTES: usize = 16 << 10;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the connection is broken: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a message that cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    #[error("a message of {length} bytes, the limit is {limit}")]
    TooLarge { length: usize, limit: u32 },
    #[error("a frame of kind {} in version {version}, which is none of ours", kind.0)]
    Kind { kind: Kind, version: u16 },
    #[error("the other side has closed it")]
    Closed,
}

/// What is said goes at once, and who has vanished without a word is missed after ten seconds.
pub(super) fn tune(stream: &TcpStream) {
    // What the system cannot set costs time only.
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, Duration::from_secs(5));
    let _ = sockopt::set_tcp_keepintvl(stream, Duration::from_secs(1));
    let _ = sockopt::set_tcp_keepcnt(stream, 5);
}

/// A message in its frame.
pub(super) fn encode(
    kind: Kind,
    number: u32,
    message: &impl Serialize,
    limit: u32,
) -> Result<Bytes, WireError> {
    let mut bytes = vec![0; HEADER_LEN];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - HEADER_LEN;
    if length > limit as usize {
        return Err(WireError::TooLarge { length, limit });
    }
    let header = FrameHeader {
        response: kind != REQUEST,
        failed: false,
        kind,
        version: VERSION,
        correlation: number,
        fields_len: length as u32,
        payload_len: 0,
    };
    bytes[..HEADER_LEN].copy_from_slice(&header.encode());
    Ok(bytes.into())
}

/// The message in a frame of this kind.
pub(super) fn decode<T: DeserializeOwned>(frame: &OwnedFrame) -> Result<T, WireError> {
    if frame.header.version != VERSION {
        return Err(unknown(frame));
    }
    Ok(serde_json::from_slice(&frame.fields)?)
}

/// A frame of a kind, or in a version, that is none of ours.
pub(super) fn unknown(frame: &OwnedFrame) -> WireError {
    WireError::Kind { kind: frame.header.kind, version: frame.header.version }
}

/// The frames of a stream. Its waits can be given up at any time: nothing is lost.
#[derive(Debug)]
pub(super) struct Frames<R> {
    reader: R,
    buffer: BytesMut,
    limit: u32,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub fn new(reader: R, limit: u32) -> Frames<R> {
        Frames { reader, buffer: BytesMut::new(), limit }
    }

    /// Waits until a frame has begun.
    pub async fn begun(&mut self) -> Result<(), WireError> {
        if self.buffer.is_empty() { self.read().await } else { Ok(()) }
    }

    /// The next frame.
    pub async fn next(&mut self) -> Result<OwnedFrame, WireError> {
        loop {
            if let Some(frame) = take_frame(&mut self.buffer, self.limit)? {
                return Ok(frame);
            }
            self.read().await?;
        }
    }

    /// The buffer grows with what has come, and not with what a length claims.
    async fn read(&mut self) -> Result<(), WireError> {
        self.buffer.reserve(READ_BYTES.max(self.buffer.len()));
        match self.reader.read_buf(&mut self.buffer).await? {
            0 => Err(WireError::Closed),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().build().unwrap()
    }

    #[test]
    fn what_is_encoded_comes_out_again_and_then_the_end() {
        let messages = ["a".to_owned(), "b".repeat(100_000), String::new()];
        let mut stream = Vec::new();
        for (number, message) in (0..).zip(&messages) {
            stream.extend(encode(REQUEST, number, message, MAX_REQUEST).unwrap());
        }
        runtime().block_on(async {
            let mut frames = Frames::new(&stream[..], MAX_REQUEST);
            for (number, message) in (0..).zip(messages) {
                let frame = frames.next().await.unwrap();
                assert_eq!((frame.header.correlation, frame.header.kind), (number, REQUEST));
                assert_eq!(decode::<String>(&frame).unwrap(), message);
            }
            assert!(matches!(frames.next().await, Err(WireError::Closed)));
        });
    }

    #[test]
    fn what_is_too_large_is_neither_sent_nor_read() {
        let error = encode(REQUEST, 1, &"x".repeat(100), 101).unwrap_err();
        assert!(matches!(error, WireError::TooLarge { length: 102, limit: 101 }), "{error}");
        let bytes = encode(REQUEST, 1, &"x".repeat(100), 102).unwrap();
        runtime().block_on(async {
            let mut frames = Frames::new(&bytes[..], 101);
            assert!(matches!(frames.next().await, Err(WireError::Frame(_))));
        });
    }
}
