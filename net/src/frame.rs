//! The frame: 24 bytes, little-endian, before every message.
//!
//! ```text
//!  0  2  magic            "MK"
//!  2  1  frame version    1
//!  3  1  flags            bit 0 response, bit 1 failed; the others 0
//!  4  2  kind             which message
//!  6  2  message version
//!  8  4  correlation id   a response has its request's
//! 12  4  fields length    bytes of the encoded message that follow
//! 16  4  payload length   bytes of record batches behind them
//! 20  4  CRC-32           over bytes 0..20
//! ```

use bytes::Bytes;

/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 24;
/// First byte of every frame of ours. A Kafka request begins with a length, whose first byte is
/// small, so that one port can tell the two protocols apart.
pub const FIRST_BYTE: u8 = MAGIC[0];
/// Fewest bytes of a request of Kafka's protocol behind its length: key, version and correlation id.
pub const KAFKA_HEADER_LEN: usize = 8;
/// Largest frame unless a setting says otherwise: Kafka's `socket.request.max.bytes`.
pub const DEFAULT_MAX_FRAME: u32 = 100 << 20;

const MAGIC: [u8; 2] = *b"MK";
const FRAME_VERSION: u8 = 1;
const RESPONSE: u8 = 1;
const FAILED: u8 = 2;

/// Which message a frame holds. Unknown numbers are kept; [`crate::message`] names the known ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Kind(pub u16);

/// A frame's header, parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Response or request.
    pub response: bool,
    /// In a response: the fields are a [`crate::fault::Fault`].
    pub failed: bool,
    /// Which message.
    pub kind: Kind,
    /// In which version.
    pub version: u16,
    /// A response has its request's.
    pub correlation: u32,
    /// Bytes of fields.
    pub fields_len: u32,
    /// Bytes of payload.
    pub payload_len: u32,
}

/// Why bytes are not a frame. The stream cannot be picked up again after one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Neither ours nor Kafka's.
    #[error("the bytes {found:02x?} begin neither a frame of mk nor a request of Kafka's{}", hint(.found))]
    Magic {
        /// What was found.
        found: [u8; 2],
    },
    /// A request of Kafka's protocol that is too short to be one, or longer than allowed.
    #[error(
        "a request of {claimed} bytes in Kafka's protocol; it can have {KAFKA_HEADER_LEN} to {limit}"
    )]
    KafkaLength {
        /// What its length says.
        claimed: i32,
        /// The limit.
        limit: u32,
    },
    /// A frame version that this mk does not know.
    #[error("frame version {found}, this mk speaks {FRAME_VERSION}")]
    Version {
        /// What was found.
        found: u8,
    },
    /// The header was changed on its way.
    #[error("the header's CRC-32 is {found:#010x}, computed {computed:#010x}")]
    Checksum {
        /// As sent.
        found: u32,
        /// As computed.
        computed: u32,
    },
    /// Flags that have no meaning.
    #[error("flags {found:#04x}")]
    Flags {
        /// What was found.
        found: u8,
    },
    /// Longer than allowed.
    #[error("a frame of {claimed} bytes, the limit is {limit}")]
    TooLarge {
        /// What the lengths claim.
        claimed: u64,
        /// The limit.
        limit: u32,
        /// Whose answer this is.
        correlation: u32,
    },
}

/// What else it may be.
fn hint(found: &[u8; 2]) -> &'static str {
    match found {
        [0x16, 0x03] => "; it looks like TLS, which is not served",
        [b'G', b'E'] | [b'P', b'O'] | [b'H', b'E'] => {
            "; it looks like HTTP, which has its own port"
        }
        _ => "",
    }
}

/// A frame that borrows the buffer it was read into.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// The encoded message.
    pub fields: &'a [u8],
    /// Record batches.
    pub payload: &'a [u8],
}

/// A frame that owns its bytes.
#[derive(Clone, Debug)]
pub struct OwnedFrame {
    /// Its header.
    pub header: FrameHeader,
    /// The encoded message.
    pub fields: Bytes,
    /// Record batches.
    pub payload: Bytes,
}

impl FrameHeader {
    /// Reads a header; lengths beyond `max_frame` are refused before anybody believes them.
    pub fn parse(bytes: &[u8; HEADER_LEN], max_frame: u32) -> Result<FrameHeader, FrameError> {
        let [m0, m1, version, flags, k0, k1, v0, v1, rest @ ..] = *bytes;
        if [m0, m1] != MAGIC {
            return Err(FrameError::Magic { found: [m0, m1] });
        }
        let [c0, c1, c2, c3, f0, f1, f2, f3, p0, p1, p2, p3, s0, s1, s2, s3] = rest;
        let found = u32::from_le_bytes([s0, s1, s2, s3]);
        let computed = crc32fast::hash(&bytes[..HEADER_LEN - 4]);
        if found != computed {
            return Err(FrameError::Checksum { found, computed });
        }
        if version != FRAME_VERSION {
            return Err(FrameError::Version { found: version });
        }
        if flags & !(RESPONSE | FAILED) != 0 || flags == FAILED {
            return Err(FrameError::Flags { found: flags });
        }
        let header = FrameHeader {
            response: flags & RESPONSE != 0,
            failed: flags & FAILED != 0,
            kind: Kind(u16::from_le_bytes([k0, k1])),
            version: u16::from_le_bytes([v0, v1]),
            correlation: u32::from_le_bytes([c0, c1, c2, c3]),
            fields_len: u32::from_le_bytes([f0, f1, f2, f3]),
            payload_len: u32::from_le_bytes([p0, p1, p2, p3]),
        };
        let claimed = u64::from(header.fields_len) + u64::from(header.payload_len);
        if claimed > u64::from(max_frame) {
            let correlation = header.correlation;
            return Err(FrameError::TooLarge { claimed, limit: max_frame, correlation });
        }
        Ok(header)
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2] = FRAME_VERSION;
        bytes[3] = u8::from(self.response) * RESPONSE + u8::from(self.failed) * FAILED;
        bytes[4..6].copy_from_slice(&self.kind.0.to_le_bytes());
        bytes[6..8].copy_from_slice(&self.version.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.correlation.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.fields_len.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.payload_len.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..20]);
        bytes[20..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Bytes of the frame behind its header.
    pub fn body_len(&self) -> usize {
        self.fields_len as usize + self.payload_len as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> FrameHeader {
        FrameHeader {
            response: true,
            failed: false,
            kind: Kind::FETCH,
            version: 1,
            correlation: 0xdead_beef,
            fields_len: 10,
            payload_len: 1000,
        }
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let bytes = sample().encode();
        assert_eq!(FrameHeader::parse(&bytes, 1010), Ok(sample()));
        for bit in 0..HEADER_LEN * 8 {
            let mut damaged = bytes;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(FrameHeader::parse(&damaged, u32::MAX).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn lengths_are_bounded() {
        let error = FrameHeader::parse(&sample().encode(), 1009).unwrap_err();
        let correlation = sample().correlation;
        assert_eq!(error, FrameError::TooLarge { claimed: 1010, limit: 1009, correlation });
        let huge = FrameHeader { fields_len: u32::MAX, payload_len: u32::MAX, ..sample() };
        assert!(FrameHeader::parse(&huge.encode(), u32::MAX).is_err());
    }
}
