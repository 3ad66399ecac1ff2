//! Batches: sound ones give back their records, damaged ones are refused or give no more than they
//! claim.

use bytes::Bytes;
use mk_storage::Timestamp;
use mk_storage::batch::{
    BatchBuilder, CheckedBatch, Compression, HEADER_LEN, Header, LENGTH_OVERHEAD, RecordFields,
    RejectedBatch, checksum, records,
};

use crate::edit::{edit, edit_head};
use crate::input::Input;

/// Bytes that a batch of this target may unpack to: more than seven records of four fields have.
const UNPACK_LIMIT: usize = 400_000;

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// A record as it was put in.
#[derive(Debug, PartialEq)]
struct Plain {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

pub fn batch(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let codec = input.pick(CODECS);
    match input.below(4) {
        0 => no_more_is_read_than_is_claimed(input.rest(), &mut Input::new(&[])),
        1 => a_packed_lie_is_bounded(codec, &mut input),
        _ => {
            let plain: Vec<Plain> = (0..=input.below(6)).map(|_| some_record(&mut input)).collect();
            let batch = build(codec, &plain);
            records_come_back(&batch, &plain);
            a_changed_byte_is_refused(&batch, &mut input);
            a_batch_with_an_end_too_many_or_few_is_refused(&batch, &mut input);
            damage_is_survived(batch, &mut input);
        }
    }
}

fn some_record(input: &mut Input<'_>) -> Plain {
    let timestamp = match input.below(4) {
        0 => input.number() as i64,
        1 => -1,
        _ => 1_700_000_000_000 + i64::from(input.byte()),
    };
    let key = some_field(input);
    let value = some_field(input);
    let header = |input: &mut Input<'_>| {
        (String::from_utf8_lossy(input.piece(10)).into_owned(), some_field(input))
    };
    let headers = (0..input.below(3)).map(|_| header(input)).collect();
    Plain { timestamp, key, value, headers }
}

fn some_field(input: &mut Input<'_>) -> Option<Vec<u8>> {
    match input.below(32) {
        0..4 => None,
        // Worth compressing; some of them are more than a block of snappy's framing.
        4 => Some(vec![input.byte(); input.below(12_000)]),
        _ => Some(input.piece(30).to_vec()),
    }
}

fn build(codec: Compression, plain: &[Plain]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for record in plain {
        let headers: Vec<_> =
            record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        let key = record.key.as_deref();
        let fields = RecordFields { key, value: record.value.as_deref(), headers: &headers };
        let most = builder.size() + BatchBuilder::size_added(&fields);
        builder.push(Timestamp(record.timestamp), &fields);
        assert!(builder.size() <= most, "a record took more than its upper bound");
    }
    builder.finish().expect("memory does not fail")
}

fn records_come_back(batch: &[u8], plain: &[Plain]) {
    let checked = CheckedBatch::check(batch, batch.len()).expect("what is built is sound");
    assert_eq!(checked.bytes(), batch);
    let header = checked.header();
    assert_eq!(header.record_count as usize, plain.len());
    assert_eq!(Some(header.max_timestamp.0), plain.iter().map(|record| record.timestamp).max());
    let read: Vec<Plain> = records(&Bytes::copy_from_slice(batch), UNPACK_LIMIT)
        .expect("what is built unpacks")
        .enumerate()
        .map(|(at, record)| {
            let record = record.expect("what is built is read");
            assert_eq!(record.offset, header.base_offset.plus(at as u64));
            let field = |field: &Option<Bytes>| field.as_ref().map(|bytes| bytes.to_vec());
            let headers = record.headers.iter();
            Plain {
                timestamp: record.timestamp.0,
                key: field(&record.key),
                value: field(&record.value),
                headers: headers.map(|h| (h.name_text().into_owned(), field(&h.value))).collect(),
            }
        })
        .collect();
    assert_eq!(read, plain);
}

/// The broker writes offset and epoch; any other byte that changes is seen.
fn a_changed_byte_is_refused(batch: &[u8], input: &mut Input<'_>) {
    let at = 8 + input.below(batch.len() - 8);
    if (12..16).contains(&at) {
        return;
    }
    let mut damaged = batch.to_vec();
    damaged[at] ^= input.byte().max(1);
    assert!(CheckedBatch::check(&damaged, 1 << 30).is_err(), "byte {at}");
}

fn a_batch_with_an_end_too_many_or_few_is_refused(batch: &[u8], input: &mut Input<'_>) {
    let most = batch.len() + 10;
    let extra = [batch, &[0; 3][..=input.below(3)]].concat();
    assert!(matches!(CheckedBatch::check(&extra, most), Err(RejectedBatch::Extra { .. })));
    assert!(CheckedBatch::check(&batch[..input.below(batch.len())], most).is_err());
    assert!(CheckedBatch::check(batch, input.below(batch.len())).is_err(), "above the limit");
}

fn damage_is_survived(mut batch: Vec<u8>, input: &mut Input<'_>) {
    for _ in 0..=input.below(3) {
        if input.one_in(2) {
            edit_head(input, &mut batch, HEADER_LEN);
        } else {
            edit(input, &mut batch);
        }
    }
    if input.one_in(2) {
        fix_length(&mut batch);
    }
    if input.one_in(2) {
        fix_checksum(&mut batch);
    }
    no_more_is_read_than_is_claimed(&batch, input);
}

/// A sound header and checksum around bytes that no codec has written.
fn a_packed_lie_is_bounded(codec: Compression, input: &mut Input<'_>) {
    let count = input.pick([1, 2, 1000, i32::MAX]);
    let mut body = Vec::new();
    match input.below(3) {
        0 => body.extend_from_slice(input.piece(300)),
        choice => {
            let plain = match choice {
                1 => input.piece(300).to_vec(),
                _ => vec![input.byte(); input.below(2 * UNPACK_LIMIT)],
            };
            codec.compress(&plain, &mut body).expect("memory does not fail");
            for _ in 0..input.below(3) {
                edit(input, &mut body);
            }
        }
    }
    let mut batch = build(Compression::None, &[some_record(&mut Input::new(&[]))]);
    batch.truncate(HEADER_LEN);
    batch[21..23].copy_from_slice(&codec.attributes().to_be_bytes());
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    batch.extend_from_slice(&body);
    fix_length(&mut batch);
    fix_checksum(&mut batch);
    assert!(CheckedBatch::check(&batch, batch.len()).is_ok(), "the broker does not look inside");
    no_more_is_read_than_is_claimed(&batch, input);
}

fn fix_length(batch: &mut [u8]) {
    let length = batch.len().saturating_sub(LENGTH_OVERHEAD) as i32;
    if let Some(field) = batch.get_mut(8..12) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

fn fix_checksum(batch: &mut [u8]) {
    let crc = checksum(batch);
    if let Some(field) = batch.get_mut(17..21) {
        field.copy_from_slice(&crc.to_be_bytes());
    }
}

fn no_more_is_read_than_is_claimed(bytes: &[u8], input: &mut Input<'_>) {
    let limit = input.pick([UNPACK_LIMIT, 0, 100, 5000]);
    let Ok(header) = Header::parse(bytes) else {
        assert!(CheckedBatch::check(bytes, usize::MAX).is_err());
        assert!(records(&Bytes::copy_from_slice(bytes), limit).is_err());
        return;
    };
    assert_eq!(header.bytes(), bytes[..HEADER_LEN]);
    if let Ok(checked) = CheckedBatch::check(bytes, bytes.len()) {
        assert_eq!(*checked.header(), header);
        assert_eq!((header.size, header.crc), (bytes.len(), checksum(bytes)));
        assert_eq!(u64::from(header.record_count), u64::from(header.last_offset_delta) + 1);
    }
    let codec = Compression::from_attributes(header.attributes);
    if let (Ok(codec), Some(body)) = (codec, bytes.get(HEADER_LEN..header.size)) {
        let mut plain = Vec::new();
        let unpacked = codec.decompress(body, &mut plain, limit);
        assert!(plain.len() <= limit + 1 || codec == Compression::None, "{codec} goes on");
        assert!(unpacked.is_err() || plain.len() <= limit);
    }
    records_are_bounded(bytes, &header, limit);
}

fn records_are_bounded(bytes: &[u8], header: &Header, limit: usize) {
    let Ok(found) = records(&Bytes::copy_from_slice(bytes), limit) else { return };
    assert!(header.size <= bytes.len());
    let packed = Compression::from_attributes(header.attributes)
        .is_ok_and(|codec| codec != Compression::None);
    let most = if packed { limit } else { bytes.len() };
    assert!(found.size_hint().1.is_some_and(|hint| hint <= most / 7 + 1));
    let (mut count, mut taken) = (0, 0);
    let mut failed = false;
    for record in found {
        assert!(!failed, "an error is the last word");
        count += 1;
        let Ok(record) = record else {
            failed = true;
            continue;
        };
        assert!((header.base_offset..=header.last_offset()).contains(&record.offset));
        let field = |field: &Option<Bytes>| field.as_ref().map_or(0, Bytes::len);
        taken += 7 + field(&record.key) + field(&record.value);
        taken += record.headers.iter().map(|h| 2 + h.name.len() + field(&h.value)).sum::<usize>();
    }
    assert!(count <= header.record_count);
    assert!(taken <= most, "{taken} bytes of records in {most}");
}
