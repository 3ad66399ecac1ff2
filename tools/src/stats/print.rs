//! How the counts are shown.

use std::io::{self, Write};

use mk_storage::batch::HEADER_LEN;
use serde_json::{Value, json};

use super::{CODECS, Histogram, Stats};
use crate::text::{bytes_text, share_text, span_text, time_text};

/// Prints them for people.
pub fn print_text(out: &mut impl Write, name: &str, stats: &Stats) -> io::Result<()> {
    writeln!(out, "{name}")?;
    if stats.partitions > 1 {
        writeln!(out, "  partitions  {}", stats.partitions)?;
    }
    print_files(out, stats)?;
    writeln!(out, "  batches     {}  records {}", stats.batches, stats.records)?;
    shape(out, "records a batch", &stats.batch_records, |n| n.to_string())?;
    shape(out, "bytes a batch", &stats.batch_bytes, bytes_text)?;
    print_codecs(out, stats)?;
    print_records(out, stats)?;
    if let (Some((first, last)), Some(span)) = (stats.times, stats.span_ms()) {
        let (first, last) = (time_text(first.0), time_text(last.0));
        writeln!(out, "  time        {first} to {last}, {}{}", span_text(span), rates(stats))?;
    }
    if let Some(damage) = &stats.damage {
        writeln!(out, "  DAMAGED     {} places; the first: {damage}", stats.damaged)?;
    }
    Ok(())
}

fn print_files(out: &mut impl Write, stats: &Stats) -> io::Result<()> {
    let Stats { segments, sealed, compacted, .. } = *stats;
    writeln!(out, "  segments    {segments}, {sealed} sealed, {compacted} of these compacted")?;
    let range = stats.offsets.map(|(first, next)| format!("{first}..{next}, "));
    let missing = share_text(stats.missing, stats.records.saturating_add(stats.missing));
    writeln!(
        out,
        "  offsets     {}{} without a record: {missing}",
        range.unwrap_or_default(),
        stats.missing
    )?;
    writeln!(
        out,
        "  bytes       {} of batches, {} reserved, {} of indexes",
        bytes_text(stats.bytes),
        bytes_text(stats.reserved),
        bytes_text(stats.index_bytes)
    )
}

fn print_codecs(out: &mut impl Write, stats: &Stats) -> io::Result<()> {
    for (codec, found) in CODECS.iter().zip(&stats.codecs) {
        if found.batches == 0 {
            continue;
        }
        let ratio = found.unpacked as f64 / found.stored.max(1) as f64;
        writeln!(
            out,
            "  codec       {:<6}  batches {}  stored {}  unpacked {}  ratio {ratio:.2}",
            codec.name(),
            found.batches,
            bytes_text(found.stored),
            bytes_text(found.unpacked)
        )?;
    }
    Ok(())
}

fn print_records(out: &mut impl Write, stats: &Stats) -> io::Result<()> {
    let unpacked = stats.unpacked();
    let payload = stats.key_bytes + stats.value_bytes + stats.field_bytes;
    writeln!(
        out,
        "  overhead    batch headers {} of the bytes stored; in the unpacked records: keys {}, \
         values {}, headers {}, framing {}",
        share_text(stats.batches * HEADER_LEN as u64, stats.bytes),
        share_text(stats.key_bytes, unpacked),
        share_text(stats.value_bytes, unpacked),
        share_text(stats.field_bytes, unpacked),
        share_text(unpacked.saturating_sub(payload), unpacked),
    )?;
    writeln!(
        out,
        "  records     with a key {}  tombstones {}",
        share_text(stats.keyed, stats.records),
        share_text(stats.tombstones, stats.records)
    )
}

/// Prints them as a line of JSON.
pub fn print_json(out: &mut impl Write, name: &str, stats: &Stats) -> io::Result<()> {
    let codecs = CODECS.iter().zip(&stats.codecs).filter(|(_, found)| found.batches > 0);
    let codecs: serde_json::Map<_, _> = codecs
        .map(|(codec, found)| {
            let (batches, stored, unpacked) = (found.batches, found.stored, found.unpacked);
            let found = json!({"batches": batches, "stored": stored, "unpacked": unpacked});
            (codec.name().to_owned(), found)
        })
        .collect();
    let json = json!({
        "path": name,
        "partitions": stats.partitions,
        "segments": stats.segments,
        "sealed": stats.sealed,
        "compacted": stats.compacted,
        "firstOffset": stats.offsets.map(|(first, _)| first.0),
        "nextOffset": stats.offsets.map(|(_, next)| next.0),
        "missingOffsets": stats.missing,
        "batches": stats.batches,
        "records": stats.records,
        "bytes": stats.bytes,
        "reservedBytes": stats.reserved,
        "indexBytes": stats.index_bytes,
        "recordsPerBatch": summary(&stats.batch_records),
        "bytesPerBatch": summary(&stats.batch_bytes),
        "codecs": codecs,
        "batchHeaderBytes": stats.batches * HEADER_LEN as u64,
        "unpackedBytes": stats.unpacked(),
        "keyBytes": stats.key_bytes,
        "valueBytes": stats.value_bytes,
        "headerBytes": stats.field_bytes,
        "keyed": stats.keyed,
        "tombstones": stats.tombstones,
        "firstTime": stats.times.map(|(first, _)| first.0),
        "lastTime": stats.times.map(|(_, last)| last.0),
        "recordsPerSecond": rate(stats, stats.records),
        "bytesPerSecond": rate(stats, stats.bytes),
        "damaged": stats.damaged,
        "damage": stats.damage,
    });
    writeln!(out, "{json}")
}

fn shape(
    out: &mut impl Write,
    name: &str,
    of: &Histogram,
    text: impl Fn(u64) -> String,
) -> io::Result<()> {
    let Some(summary) = of.summary() else { return Ok(()) };
    let [least, median, p99, most] = summary.map(text);
    writeln!(out, "    {name:<16} min {least}  median {median}  p99 {p99}  max {most}")
}

fn summary(of: &Histogram) -> Value {
    of.summary().map_or(Value::Null, |[least, median, p99, most]| {
        json!({"min": least, "median": median, "p99": p99, "max": most})
    })
}

fn rates(stats: &Stats) -> String {
    let rates = rate(stats, stats.records).zip(rate(stats, stats.bytes));
    rates.map_or_else(String::new, |(records, bytes)| {
        format!(": {records:.1} records/s, {}/s", bytes_text(bytes as u64))
    })
}

/// How many a second; `None` if no time passed.
fn rate(stats: &Stats, count: u64) -> Option<f64> {
    let span = stats.span_ms().filter(|span| *span > 0)?;
    Some(count as f64 * 1000.0 / span as f64)
}
