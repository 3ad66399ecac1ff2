//! The shapes held against the library that decodes the requests.

mod requests;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use self::requests::{Fill, decode, encode};
use super::field::{Field, Kind};
use super::{check, table};
use crate::codec::DecodeError;
use crate::kafka::api::{Api, ApiKey};
use crate::kafka::wire::KafkaWriter;

/// All that has a shape.
fn shaped() -> impl Iterator<Item = (&'static Api, i16)> {
    let by_hand = [ApiKey::PRODUCE, ApiKey::FETCH];
    let shaped = Api::ALL.iter().filter(move |api| !by_hand.contains(&api.key));
    shaped.flat_map(|api| (api.min..=api.max).map(move |version| (api, version)))
}

/// What is accepted, the library decodes to the end.
fn holds(key: ApiKey, version: i16, fields: &[u8]) {
    if let Ok(length) = check(key, version, fields) {
        assert_eq!(decode(key, version, &fields[..length]), Ok(0), "{key} {version} {fields:x?}");
    }
}

#[test]
fn a_request_is_all_of_its_bytes_and_what_is_behind_them_does_not_matter() {
    for (api, version) in shaped() {
        let fields = encode(api.key, version, Fill::All);
        assert_eq!(check(api.key, version, &fields), Ok(fields.len()), "{} {version}", api.name);
        for length in 0..fields.len() {
            let cut = check(api.key, version, &fields[..length]);
            assert!(cut.is_err(), "{} {version}: {length} bytes", api.name);
        }
        for byte in 0..=u8::MAX {
            let long = check(api.key, version, &[&fields[..], &[byte]].concat());
            assert_eq!(long, Ok(fields.len()), "{} {version}", api.name);
        }
    }
}

#[test]
fn what_may_be_null_is_null_in_the_versions_that_allow_it() {
    for (api, version) in shaped() {
        let fields = encode(api.key, version, Fill::Nulls);
        let null_means_nothing = match api.key {
            ApiKey::METADATA => version < 1,
            ApiKey::OFFSET_FETCH => version < 2,
            _ => false,
        };
        let checked = check(api.key, version, &fields);
        assert_eq!(checked.is_err(), null_means_nothing, "{} {version}", api.name);
    }
    let without_name = |version: i16| {
        let mut writer = KafkaWriter::new(version >= 9);
        writer.length(Some(1));
        if version >= 10 {
            writer.raw(&[7; 16]);
        }
        writer.nullable_string(None);
        writer.no_tags();
        writer.raw(if version <= 10 { &[1, 1, 1] } else { &[1, 1] });
        writer.no_tags();
        check(ApiKey::METADATA, version, &writer.into_bytes())
    };
    assert!(matches!(without_name(8), Err(DecodeError::Invalid { what: "topic", .. })));
    assert!(matches!(without_name(9), Err(DecodeError::Invalid { what: "topic", .. })));
    assert_eq!(without_name(10).map(drop), Ok(()));
    assert_eq!(without_name(13).map(drop), Ok(()));
}

#[test]
fn unknown_tags_are_walked() {
    for (api, version) in shaped().filter(|(api, version)| api.is_flexible(*version)) {
        let mut fields = encode(api.key, version, Fill::All);
        assert_eq!(fields.pop(), Some(0), "no tags");
        fields.extend([2, 0, 1, 9, 0x87, 1, 0]);
        assert_eq!(check(api.key, version, &fields), Ok(fields.len()), "{} {version}", api.name);
        assert_eq!(decode(api.key, version, &fields), Ok(0), "{} {version}", api.name);
        fields.pop();
        assert!(check(api.key, version, &fields).is_err(), "{} {version}", api.name);
    }
}

/// Every byte of every request has every value once.
#[test]
fn what_is_accepted_is_decoded_whichever_byte_is_wrong() {
    for (api, version) in shaped() {
        for fill in [Fill::All, Fill::Nulls] {
            let mut fields = encode(api.key, version, fill);
            for at in 0..fields.len() {
                let right = fields[at];
                for wrong in 0..=u8::MAX {
                    fields[at] = wrong;
                    holds(api.key, version, &fields);
                }
                fields[at] = right;
            }
        }
    }
}

/// Wherever a field begins and ends, once it is null.
#[test]
fn what_is_accepted_is_decoded_whichever_field_is_null() {
    for (api, version) in shaped() {
        let fields = encode(api.key, version, Fill::All);
        let nulls: &[&[u8]] =
            if api.is_flexible(version) { &[&[0]] } else { &[&[0xff; 2], &[0xff; 4]] };
        for from in 0..fields.len() {
            for to in from + 1..=fields.len() {
                for null in nulls {
                    let changed = [&fields[..from], null, &fields[to..]].concat();
                    holds(api.key, version, &changed);
                }
            }
        }
    }
}

/// A client's request of some ten bytes claimed 2^31-2 topics: the library reserved 100 GB for them.
#[test]
fn two_billion_topics_are_refused_at_once() {
    for version in 0..=13 {
        let mut writer = KafkaWriter::new(version >= 9);
        writer.length(Some(i32::MAX as usize - 1));
        writer.raw(&[0; 20]);
        let error = check(ApiKey::METADATA, version, &writer.into_bytes()).unwrap_err();
        assert!(matches!(error, DecodeError::Short { what: "topics", at: 0, .. }), "{error}");
    }
}

#[test]
fn what_has_no_shape_is_refused() {
    for (key, version) in [(0, 3), (1, 4), (4, 0), (-1, 0)] {
        let error = check(ApiKey(key), version, &[]).unwrap_err();
        assert!(matches!(error, DecodeError::Invalid { what: "api key", .. }), "{error}");
    }
    for version in [i16::MIN, -1, 5, i16::MAX] {
        let error = check(ApiKey::API_VERSIONS, version, &[]).unwrap_err();
        assert!(matches!(error, DecodeError::Invalid { what: "api version", .. }), "{error}");
    }
}

/// An item without a byte would be claimed as often as anyone likes. In the flexible form a struct has at least the
/// count of its tags.
#[test]
fn no_item_of_a_list_is_empty() {
    fn look(shape: &[Field], flexible: bool, version: i16) {
        for field in shape.iter().filter(|field| field.is_in(version)) {
            if let Kind::List(item) = field.kind {
                assert!(flexible || item.iter().any(|field| field.is_in(version)), "{field:?}");
                look(item, flexible, version);
            }
        }
    }
    for (api, version) in shaped() {
        look(table::shape(api.key).unwrap(), api.is_flexible(version), version);
    }
}

fn any_shaped() -> impl Strategy<Value = (ApiKey, i16)> {
    select(shaped().map(|(api, version)| (api.key, version)).collect::<Vec<_>>())
}

/// Bytes as they are in requests: many lengths, nulls and ends of numbers.
fn any_byte() -> impl Strategy<Value = u8> {
    prop_oneof![4 => 0..4u8, 1 => select(vec![0x7f, 0x80, 0xfe, 0xff]), 1 => any::<u8>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn of_any_bytes_what_is_accepted_is_decoded(
        (key, version) in any_shaped(),
        fields in vec(any_byte(), 0..60),
    ) {
        holds(key, version, &fields);
    }

    #[test]
    fn of_requests_gone_wrong_what_is_accepted_is_decoded(
        (key, version) in any_shaped(),
        fill in select(vec![Fill::All, Fill::Nulls]),
        changes in vec((any::<Index>(), 0..3, any_byte()), 1..6),
    ) {
        let mut fields = encode(key, version, fill);
        for (at, change, byte) in changes {
            let at = at.index(fields.len() + 1);
            match change {
                0 => fields.insert(at, byte),
                1 if at < fields.len() => fields[at] = byte,
                _ if at < fields.len() => drop(fields.remove(at)),
                _ => fields.push(byte),
            }
        }
        holds(key, version, &fields);
    }
}
