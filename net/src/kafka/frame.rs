//! The length before a request, and its header.

use super::api::{Api, ApiKey};
use super::wire::{KafkaReader, KafkaWriter};
use crate::codec::DecodeError;

/// Bytes before a request or a response: how many follow, as an `INT32`.
pub const LENGTH_LEN: usize = 4;

/// What stands before a request's fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHeader<'a> {
    /// Which request.
    pub key: ApiKey,
    /// In which version.
    pub version: i16,
    /// The response has it, too.
    pub correlation: i32,
    /// What the client calls itself.
    pub client_id: Option<&'a str>,
}

impl<'a> RequestHeader<'a> {
    /// Parts a request, without its length, into header and fields. Of what is not served all that can be told is the
    /// key, the version and the correlation id: its header may have tags or not.
    pub fn parse(request: &'a [u8]) -> Result<(RequestHeader<'a>, &'a [u8]), DecodeError> {
        // The client id is never compact (KIP-482), so that old brokers can read it.
        let mut reader = KafkaReader::new(request, false);
        let key = ApiKey(reader.i16("api key")?);
        let version = reader.i16("api version")?;
        let correlation = reader.i32("correlation id")?;
        let header = RequestHeader { key, version, correlation, client_id: None };
        let Some(api) = key.served().filter(|api| (api.min..=api.max).contains(&version)) else {
            return Ok((header, reader.rest()));
        };
        let client_id = reader.nullable_string("client id")?;
        let mut reader = KafkaReader::new(reader.rest(), api.is_flexible(version));
        reader.skip_tags()?;
        Ok((RequestHeader { client_id, ..header }, reader.rest()))
    }
}

/// Begins a response: a place for its length, then its header. To be closed with [`finish`].
pub fn response(api: &Api, version: i16, correlation: i32) -> KafkaWriter {
    let mut writer = KafkaWriter::new(api.is_flexible(version));
    writer.i32(0);
    writer.i32(correlation);
    if api.has_flexible_response_header(version) {
        writer.no_tags();
    }
    writer
}

/// A response with its length; `payload` bytes follow it that are not in it.
///
/// # Panics
///
/// If both are longer than an `INT32` can say: with a wrong length all that follows on the connection would be read
/// as what it is not.
pub fn finish(writer: KafkaWriter, payload: u64) -> Vec<u8> {
    let mut bytes = writer.into_bytes();
    let length = ((bytes.len() - LENGTH_LEN) as u64).saturating_add(payload);
    assert!(length <= i32::MAX as u64, "a response of {length} bytes");
    bytes[..LENGTH_LEN].copy_from_slice(&(length as i32).to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(key: i16, version: i16, behind: &[u8]) -> Vec<u8> {
        let mut writer = KafkaWriter::new(false);
        writer.i16(key);
        writer.i16(version);
        writer.i32(7);
        writer.raw(behind);
        writer.into_bytes()
    }

    #[test]
    fn a_header_has_tags_where_its_request_is_flexible() {
        let id = [0, 2, b'm', b'e'];
        let plain = request(3, 8, &[&id[..], &[9, 9]].concat());
        let (header, fields) = RequestHeader::parse(&plain).unwrap();
        assert_eq!((header.client_id, fields), (Some("me"), &[9, 9][..]));
        let flexible = request(3, 9, &[&id[..], &[1, 4, 2, 8, 8], &[9, 9]].concat());
        let (header, fields) = RequestHeader::parse(&flexible).unwrap();
        assert_eq!((header.client_id, fields), (Some("me"), &[9, 9][..]));
        assert_eq!((header.key, header.version, header.correlation), (ApiKey::METADATA, 9, 7));
    }

    #[test]
    fn of_what_is_not_served_the_number_is_known() {
        let unknown = request(18, 77, &[]);
        let (header, _) = RequestHeader::parse(&unknown).unwrap();
        assert_eq!((header.key, header.version), (ApiKey::API_VERSIONS, 77));
        assert_eq!((header.correlation, header.client_id), (7, None));
        assert!(RequestHeader::parse(&[0, 18, 0, 3, 0]).is_err());
        assert!(RequestHeader::parse(&request(18, 0, &[0, 9, b'x'])).is_err());
    }

    #[test]
    fn only_the_answer_to_api_versions_has_no_tags_in_its_header() {
        let header = |key: ApiKey, version| finish(response(key.served().unwrap(), version, 7), 3);
        assert_eq!(header(ApiKey::METADATA, 8), [0, 0, 0, 7, 0, 0, 0, 7]);
        assert_eq!(header(ApiKey::METADATA, 9), [0, 0, 0, 8, 0, 0, 0, 7, 0]);
        assert_eq!(header(ApiKey::API_VERSIONS, 4), [0, 0, 0, 7, 0, 0, 0, 7]);
    }
}
