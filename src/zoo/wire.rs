//! Messages between brokers and the zookeeper in frames of mk: JSON as the fields, no payload.
//!
//! ```text
//! kind 100  a request, with a number
//! kind 101  its response, with the same number
//! kind 102  a push
//! ```

use std::io;

use bytes::{Bytes, BytesMut};
use mk_net::deframer::take_frame;
use mk_net::frame::{FrameError, FrameHeader, HEADER_LEN, Kind, OwnedFrame};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};

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
