//! The shapes of requests, and the walk along them.
//!
//! Control requests are decoded by a library that reserves room for as many items as a client says that it sends: a
//! request of 30 bytes that claims 2^31 topics would take 100 GB and end the process. So the fields are walked first,
//! and nothing is reserved on the way: what every length and count claims must be there. The items of a list take at
//! least a byte each, so that a request never has more items than bytes.
//!
//! Decoded, an item can still take many times its bytes: a topic of Metadata takes 4 bytes with one unknown tag, and the
//! library's map reserves 400 for that tag. So a [`KafkaReader`] has limits of items and of tags, and whoever reads
//! requests must bound their size.
//!
//! * `field`: what a shape is made of.
//! * `table`: the shape of every request.

mod field;
mod table;
#[cfg(test)]
mod tests;

use self::field::{Field, Kind};
use super::api::ApiKey;
use super::wire::KafkaReader;
use crate::codec::DecodeError;

/// Says whether `fields`, what stands behind a request's header, begin with a request of this version; how many bytes it
/// has. What is behind it Kafka's brokers do not look at either: librdkafka sends three bytes too many of Metadata 13.
/// An error, too, for what is not served, and for Produce and Fetch: those are not decoded by the library.
pub fn check(key: ApiKey, version: i16, fields: &[u8]) -> Result<usize, DecodeError> {
    let unknown = |what, found: i16| DecodeError::Invalid { what, at: 0, found: found as u64 };
    let (Some(api), Some(shape)) = (key.served(), table::shape(key)) else {
        return Err(unknown("api key", key.0));
    };
    if !(api.min..=api.max).contains(&version) {
        return Err(unknown("api version", version));
    }
    let mut reader = KafkaReader::new(fields, api.is_flexible(version));
    walk(&mut reader, shape, version)?;
    Ok(reader.position())
}

/// Walks along a struct: its fields in this version, then its tags. No request that is served has a tag of its own, so
/// that all tags are unknown ones, which the library keeps as bytes.
fn walk(reader: &mut KafkaReader<'_>, shape: &[Field], version: i16) -> Result<(), DecodeError> {
    for field in shape.iter().filter(|field| field.is_in(version)) {
        walk_field(reader, field, version)?;
    }
    reader.skip_tags()
}

fn walk_field(
    reader: &mut KafkaReader<'_>,
    field: &Field,
    version: i16,
) -> Result<(), DecodeError> {
    let (name, nullable) = (field.name, field.is_nullable(version));
    match field.kind {
        Kind::Fixed(size) => reader.take(name, size).map(drop),
        Kind::Text if nullable => reader.nullable_string(name).map(drop),
        Kind::Text => reader.string(name).map(drop),
        Kind::Bytes => reader.bytes(name).map(drop),
        Kind::Numbers => {
            let count = count(reader, name, nullable, Field::NUMBER_LEN)?;
            reader.take(name, count * Field::NUMBER_LEN).map(drop)
        }
        Kind::Texts => {
            let count = count(reader, name, nullable, 1)?;
            (0..count).try_for_each(|_| reader.string(name).map(drop))
        }
        Kind::List(item) => {
            let count = count(reader, name, nullable, 1)?;
            (0..count).try_for_each(|_| walk(reader, item, version))
        }
    }
}

/// How many items a list has, each of which takes at least `min_size` bytes; of one that is null: 0.
fn count(
    reader: &mut KafkaReader<'_>,
    name: &'static str,
    nullable: bool,
    min_size: usize,
) -> Result<usize, DecodeError> {
    if nullable {
        Ok(reader.nullable_array(name, min_size)?.unwrap_or(0))
    } else {
        reader.array_len(name, min_size)
    }
}
