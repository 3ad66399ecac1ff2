//! What differs between two batches, or two records.

use bytes::Bytes;
use mk_storage::batch::{Header, Record};

/// Attribute bits that name the codec.
const CODEC_BITS: u16 = 0b111;

/// The fields of two batches' headers that differ, but for those that follow from how the records
/// are packed: length, checksum and codec.
pub fn headers(a: &Header, b: &Header) -> Vec<String> {
    let fields: [(&str, i128, i128); 10] = [
        ("base offset", a.base_offset.0.into(), b.base_offset.0.into()),
        ("leader epoch", a.leader_epoch.0.into(), b.leader_epoch.0.into()),
        ("attributes", (a.attributes & !CODEC_BITS).into(), (b.attributes & !CODEC_BITS).into()),
        ("last offset delta", a.last_offset_delta.into(), b.last_offset_delta.into()),
        ("base timestamp", a.base_timestamp.0.into(), b.base_timestamp.0.into()),
        ("max timestamp", a.max_timestamp.0.into(), b.max_timestamp.0.into()),
        ("producer id", a.producer_id.into(), b.producer_id.into()),
        ("producer epoch", a.producer_epoch.into(), b.producer_epoch.into()),
        ("base sequence", a.base_sequence.into(), b.base_sequence.into()),
        ("record count", a.record_count.into(), b.record_count.into()),
    ];
    let differing = fields.into_iter().filter(|(_, a, b)| a != b);
    differing.map(|(name, a, b)| format!("{name} {a} | {b}")).collect()
}

/// The fields of two records that differ.
pub fn record(a: &Record, b: &Record) -> Vec<String> {
    let mut found = Vec::new();
    if a.offset != b.offset {
        found.push(format!("offset {} | {}", a.offset, b.offset));
    }
    if a.timestamp != b.timestamp {
        found.push(format!("timestamp {} | {}", a.timestamp, b.timestamp));
    }
    for (name, a, b) in [("key", &a.key, &b.key), ("value", &a.value, &b.value)] {
        if a != b {
            found.push(format!("{name} {} | {}", short(a), short(b)));
        }
    }
    if a.headers != b.headers {
        let at = a.headers.iter().zip(&b.headers).take_while(|(a, b)| a == b).count();
        let (a, b) = (a.headers.len(), b.headers.len());
        found.push(format!("headers, from number {at} on (of {a} | {b})"));
    }
    found
}

/// The first byte that differs, or where the shorter ends.
pub fn first_byte(a: &[u8], b: &[u8]) -> u64 {
    a.iter().zip(b).take_while(|(a, b)| a == b).count() as u64
}

/// As much of a key or value as helps.
fn short(bytes: &Option<Bytes>) -> String {
    const MOST: usize = 40;
    match bytes {
        None => "none".to_owned(),
        Some(bytes) if bytes.len() <= MOST => format!("\"{}\"", bytes.escape_ascii()),
        Some(bytes) => {
            let begin = bytes.get(..MOST).unwrap_or_default().escape_ascii();
            format!("\"{begin}\"… ({} bytes)", bytes.len())
        }
    }
}
