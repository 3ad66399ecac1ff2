//! Messages in frames: what the two sides send each other.

use bytes::Bytes;

use crate::codec::{DecodeError, Wire, decode, encode};
use crate::fault::Fault;
use crate::frame::{FrameHeader, HEADER_LEN};
use crate::message::Request;

/// Header and fields of a request that `payload_len` bytes of payload will follow.
pub fn request<R: Request>(correlation: u32, request: &R, payload_len: usize) -> Bytes {
    let header = FrameHeader {
        response: false,
        failed: false,
        kind: R::KIND,
        version: R::VERSION,
        correlation,
        fields_len: 0,
        payload_len: payload_len as u32,
    };
    message(header, request)
}

/// Header and fields of the response to the request `to`, which `payload_len` bytes of payload
/// will follow.
pub fn response(to: &FrameHeader, fields: &impl Wire, payload_len: usize) -> Bytes {
    let header =
        FrameHeader { response: true, failed: false, payload_len: payload_len as u32, ..*to };
    message(header, fields)
}

/// The response that says why the request `to` failed as a whole.
pub fn failure(to: &FrameHeader, fault: &Fault) -> Bytes {
    message(FrameHeader { response: true, failed: true, payload_len: 0, ..*to }, fault)
}

fn message(mut header: FrameHeader, fields: &impl Wire) -> Bytes {
    let encoded = encode(fields);
    header.fields_len = encoded.len() as u32;
    let mut bytes = Vec::with_capacity(HEADER_LEN + encoded.len());
    bytes.extend_from_slice(&header.encode());
    bytes.extend_from_slice(&encoded);
    Bytes::from(bytes)
}

/// Why a response is not the answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The broker refused the request.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The fields are not those of the response.
    #[error("a response that cannot be read: {0}")]
    Decode(#[from] DecodeError),
}

/// Reads the fields of the response to a request of type `R`.
pub fn parse_response<R: Request>(
    header: &FrameHeader,
    fields: &[u8],
) -> Result<R::Response, ResponseError> {
    if header.failed {
        return Err(ResponseError::Fault(decode::<Fault>(fields)?));
    }
    Ok(decode(fields)?)
}
