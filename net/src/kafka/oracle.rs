//! For tests: the crate kafka-protocol, against which is held what is read and written by hand.

use bytes::Bytes;
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::codec::DecodeError;

/// Texts, some of them longer than a varint of one byte can say.
pub fn text() -> impl Strategy<Value = StrBytes> {
    prop_oneof![4 => "\\PC{0,12}", 1 => "\\PC{100,200}"].prop_map(StrBytes::from_string)
}

/// Bytes, some of them more than a varint of one byte can say.
pub fn blob() -> impl Strategy<Value = Bytes> {
    prop_oneof![4 => vec(any::<u8>(), 0..12), 1 => vec(any::<u8>(), 100..300)].prop_map(Bytes::from)
}

/// A message's fields.
pub fn encoded(message: &impl Encodable, version: i16) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes, version).unwrap();
    bytes
}

/// A response with its length and header.
pub fn frame<M: Encodable + HeaderVersion>(correlation: i32, version: i16, message: &M) -> Vec<u8> {
    let header = ResponseHeader::default().with_correlation_id(correlation);
    let header = encoded(&header, M::header_version(version));
    let fields = encoded(message, version);
    let length = (header.len() + fields.len()) as i32;
    [&length.to_be_bytes()[..], &header, &fields].concat()
}

/// What [`frame`] writes: the correlation and the response.
pub fn parts<M: Decodable + HeaderVersion>(frame: &[u8], version: i16) -> (i32, M) {
    let (length, mut rest) = frame.split_first_chunk().unwrap();
    assert_eq!(i32::from_be_bytes(*length) as usize, rest.len());
    let header = ResponseHeader::decode(&mut rest, M::header_version(version)).unwrap();
    let message = M::decode(&mut rest, version).unwrap();
    assert_eq!(rest, [0u8; 0], "nothing is left over");
    (header.correlation_id, message)
}

/// A request is read whole and not without its end; what is behind it does not matter. `read` says what cannot be
/// read, and panics if it has read something else than the crate wrote.
pub fn assert_read(bytes: &[u8], read: impl Fn(&[u8]) -> Result<(), DecodeError>) {
    assert_eq!(read(bytes), Ok(()));
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
    }
    assert_eq!(read(&[bytes, &[0]].concat()), Ok(()));
}

/// A response is what the crate writes, byte for byte, and the crate reads it.
pub fn assert_written<M>(bytes: &[u8], correlation: i32, version: i16, theirs: M)
where
    M: Encodable + Decodable + HeaderVersion + PartialEq + std::fmt::Debug,
{
    assert_eq!(bytes, frame(correlation, version, &theirs));
    assert_eq!(parts(bytes, version), (correlation, theirs));
}

/// A count of topics is not believed before they are there. `plain` and `compact` read a request with that count
/// and 50 bytes behind it.
pub fn assert_count_is_checked(
    plain: impl Fn(&[u8]) -> DecodeError,
    compact: impl Fn(&[u8]) -> DecodeError,
) {
    let plain = |count: i32| plain(&count.to_be_bytes());
    let most = [0xff, 0xff, 0xff, 0xff, 0x0f];
    for error in [plain(i32::MAX), plain(17), compact(&most), compact(&[18])] {
        assert!(matches!(error, DecodeError::Short { what: "topics", .. }), "{error}");
    }
    for error in [plain(-1), plain(-2), plain(i32::MIN), compact(&[0])] {
        assert!(matches!(error, DecodeError::Invalid { what: "topics", .. }), "{error}");
    }
}
