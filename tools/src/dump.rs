//! `mkinspect dump`: batches, records, index entries, seals and checkpoints, for people or as JSON lines.
//! JSON fields have the names of Kafka's DumpLogSegments.

use std::io::Write;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mk_storage::batch::{Compression, Record, TimestampType, checksum, records};
use mk_storage::checkpoint::{CHECKPOINT_FILE, Checkpoint};
use mk_storage::disk::{self, Disk};
use mk_storage::error::DiskError;
use mk_storage::index::{OffsetEntry, TimeEntry, entries};
use mk_storage::producers::{sequence_after, snapshot, snapshot::SNAPSHOT};
use mk_storage::seal::{FoundSeal, Seal};
use mk_storage::segment::{LOG, OFFSET_INDEX, SEAL, TIME_INDEX, base_of, file_name};
use mk_storage::{Offset, Timestamp};
use serde_json::{Value, json};

use crate::InspectError;
use crate::batches::{Batch, Batches, Break};
use crate::find::partitions;
use crate::text::time_text;
use crate::unfinished;

/// How to dump.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// JSON lines instead of text.
    pub json: bool,
    /// The records of each batch as well.
    pub records: bool,
}

const MOST_BYTES: usize = 512 << 20;

/// Dumps a file, or the `.log` files and seals of all partitions at and below a folder.
pub fn path(
    out: &mut impl Write,
    disk: &dyn Disk,
    path: &Path,
    style: Style,
) -> Result<(), InspectError> {
    if !path.is_dir() {
        return file(out, disk, path, style);
    }
    for partition in partitions(disk, path)? {
        for base in &partition.bases {
            match file(out, disk, &partition.log(*base), style) {
                // Compacted or removed meanwhile by a broker that runs.
                Err(error) if error.is_missing_file() => continue,
                done => done?,
            }
            let seal = partition.dir.join(file_name(*base, SEAL));
            if partition.has_indexes(*base) && seal.exists() {
                file(out, disk, &seal, style)?;
            }
        }
    }
    Ok(())
}

fn file(
    out: &mut impl Write,
    disk: &dyn Disk,
    path: &Path,
    style: Style,
) -> Result<(), InspectError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = unfinished::name_of(name);
    let read = || disk::read(disk, path, MOST_BYTES).map_err(DiskError::at("read", path));
    if !style.json {
        writeln!(out, "{}", path.display())?;
    }
    if base_of(name, LOG).is_some() {
        return segment(out, disk, path, style);
    }
    if let Some(base) = base_of(name, SEAL) {
        return seal(out, disk, path, base, style);
    }
    if let Some(base) = base_of(name, OFFSET_INDEX) {
        for OffsetEntry { offset, position } in entries(&read()?, base) {
            let json = json!({"offset": offset.0, "position": position.0});
            line(out, style, json, || format!("offset {offset}  position {position}"))?;
        }
        return Ok(());
    }
    if let Some(base) = base_of(name, TIME_INDEX) {
        for TimeEntry { timestamp, offset } in entries(&read()?, base) {
            let json = json!({"timestamp": timestamp.0, "offset": offset.0});
            line(out, style, json, || format!("time {}  offset {offset}", time_text(timestamp.0)))?;
        }
        return Ok(());
    }
    if base_of(name, SNAPSHOT).is_some() {
        return producers(out, &read()?, path, style);
    }
    if name == CHECKPOINT_FILE {
        return checkpoint(out, disk, path, style);
    }
    let what = "not a .log, .index, .timeindex, .seal or .snapshot file nor a checkpoint";
    Err(InspectError::NotOurs { path: path.to_owned(), what })
}

fn segment(
    out: &mut impl Write,
    disk: &dyn Disk,
    path: &Path,
    style: Style,
) -> Result<(), InspectError> {
    let view = disk.view(path).map_err(DiskError::at("open", path))?;
    for found in Batches::new(view).map_err(DiskError::at("read", path))? {
        match found.map_err(DiskError::at("read", path))? {
            Ok(found) => batch(out, style, found)?,
            Err(Break { position, what }) => damage(out, style, path, position, what)?,
        }
    }
    Ok(())
}

fn seal(
    out: &mut impl Write,
    disk: &dyn Disk,
    path: &Path,
    base: Offset,
    style: Style,
) -> Result<(), InspectError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let found = match Seal::find(disk, dir, base).map_err(DiskError::at("read", path))? {
        FoundSeal::Whole(seal) => seal,
        FoundSeal::None | FoundSeal::Broken => {
            return damage(out, style, path, 0, "no seal of this segment".to_owned());
        }
    };
    let json = json!({"seal": {
        "baseOffset": found.base.0,
        "nextOffset": found.next.0,
        "length": found.length.0,
        "records": found.records,
        "batches": found.batches,
        "maxTimestamp": found.max_timestamp.0,
        "cleanedTo": found.cleaned_to.0,
        "leaderEpoch": found.epoch.0,
        "indexEntries": found.offset_entries,
        "timeIndexEntries": found.time_entries,
        "logCrc32": found.log_crc,
        "indexCrc32": found.offsets_crc,
        "timeIndexCrc32": found.times_crc,
    }});
    line(out, style, json, || {
        format!(
            "seal {}..{}  batches {}  records {}  bytes {}  epoch {}  time {}  cleaned-to {}  \
             entries {} {}  crc-32 {:#010x} {:#010x} {:#010x}",
            found.base,
            found.next,
            found.batches,
            found.records,
            found.length,
            found.epoch,
            time_text(found.max_timestamp.0),
            found.cleaned_to,
            found.offset_entries,
            found.time_entries,
            found.log_crc,
            found.offsets_crc,
            found.times_crc,
        )
    })
}

fn producers(
    out: &mut impl Write,
    bytes: &[u8],
    path: &Path,
    style: Style,
) -> Result<(), InspectError> {
    let Some((_, producers)) = snapshot::decode(bytes) else {
        return damage(out, style, path, 0, "no snapshot of producers".to_owned());
    };
    let mut known: Vec<_> = producers.iter().collect();
    known.sort_unstable_by_key(|(id, _)| *id);
    for (id, producer) in known {
        let (last, batches) = (producer.last(), producer.batches());
        let numbers: Vec<_> = batches
            .iter()
            .map(|batch| {
                let last_sequence = sequence_after(batch.first, batch.last_delta);
                json!({"baseSequence": batch.first, "lastSequence": last_sequence, "baseOffset": batch.base.0})
            })
            .collect();
        let json = json!({
            "producerId": id,
            "producerEpoch": producer.epoch(),
            "lastTimestamp": producer.last_ms(),
            "batches": numbers,
        });
        line(out, style, json, || {
            format!(
                "producer {id}  epoch {}  next sequence {}  last offset {}  batches {}  time {}",
                producer.epoch(),
                producer.next(),
                last.next_offset().0 - 1,
                batches.len(),
                time_text(producer.last_ms()),
            )
        })?;
    }
    Ok(())
}

fn damage(
    out: &mut impl Write,
    style: Style,
    path: &Path,
    position: u64,
    what: String,
) -> Result<(), InspectError> {
    let json = json!({"file": path.display().to_string(), "position": position, "damage": what});
    line(out, style, json, || format!("DAMAGED at byte {position}: {what}"))
}

fn batch(out: &mut impl Write, style: Style, batch: Batch) -> Result<(), InspectError> {
    let Batch { position, header, bytes } = batch;
    let valid = checksum(&bytes) == header.crc;
    let codec = Compression::from_attributes(header.attributes)
        .map_or_else(|_| "unknown".to_owned(), |codec| codec.to_string());
    let json = json!({
        "baseOffset": header.base_offset.0,
        "lastOffset": header.last_offset().0,
        "count": header.record_count,
        "partitionLeaderEpoch": header.leader_epoch.0,
        "producerId": header.producer_id,
        "producerEpoch": header.producer_epoch,
        "baseSequence": header.base_sequence,
        "deleteHorizonMs": header.delete_horizon().map(|horizon| horizon.0),
        "position": position,
        (header.timestamp_type().name()): header.max_timestamp.0,
        "size": header.size,
        "magic": 2,
        "compresscodec": codec,
        "crc": header.crc,
        "isvalid": valid,
    });
    let horizon = header.delete_horizon().map(|horizon| time_text(horizon.0));
    let horizon = horizon.map_or_else(String::new, |at| format!("  delete-horizon {at}"));
    line(out, style, json, || {
        format!(
            "offset {}..{}  records {}  position {position}  size {}  epoch {}  codec {codec}  \
             {}{horizon}  crc {:#010x} {}",
            header.base_offset,
            header.last_offset(),
            header.record_count,
            header.size,
            header.leader_epoch,
            typed_time(header.timestamp_type(), header.max_timestamp),
            header.crc,
            if valid { "ok" } else { "WRONG" },
        )
    })?;
    if style.records {
        print_records(out, style, &bytes)?;
    }
    Ok(())
}

fn print_records(out: &mut impl Write, style: Style, batch: &Bytes) -> Result<(), InspectError> {
    let found = match records(batch, MOST_BYTES) {
        Ok(found) => found,
        Err(error) => {
            return line(out, style, json!({"damage": error.to_string()}), || format!("  {error}"));
        }
    };
    let times = found.header().timestamp_type();
    for record in found {
        match record {
            Ok(record) => {
                let json = record_json(times, &record);
                line(out, style, json, || format!("  {}", record_text(times, &record)))?;
            }
            Err(error) => {
                line(out, style, json!({"damage": error.to_string()}), || format!("  {error}"))?;
            }
        }
    }
    Ok(())
}

fn checkpoint(
    out: &mut impl Write,
    disk: &dyn Disk,
    path: &Path,
    style: Style,
) -> Result<(), InspectError> {
    let dir: PathBuf = path.parent().unwrap_or(Path::new(".")).to_owned();
    let found = match Checkpoint::read(disk, &dir) {
        Ok(found) => found.unwrap_or_default(),
        Err(error) => return damage(out, style, path, 0, error.to_string()),
    };
    let epochs: Vec<_> =
        found.epochs.iter().map(|(epoch, start)| json!([epoch.0, start.0])).collect();
    let json = json!({
        "recoveryPoint": found.recovery_point.0,
        "logStartOffset": found.log_start.0,
        "highWatermark": found.high_watermark.0,
        "leaderEpochs": epochs,
    });
    line(out, style, json, || {
        let epochs: Vec<_> =
            found.epochs.iter().map(|(epoch, start)| format!("{epoch} from {start}")).collect();
        format!(
            "recovery-point {}  log-start {}  high-watermark {}  epochs {}",
            found.recovery_point,
            found.log_start,
            found.high_watermark,
            epochs.join(", ")
        )
    })
}

fn line(
    out: &mut impl Write,
    style: Style,
    json: Value,
    text: impl FnOnce() -> String,
) -> Result<(), InspectError> {
    if style.json {
        writeln!(out, "{json}")?;
    } else {
        writeln!(out, "  {}", text())?;
    }
    Ok(())
}

fn record_json(times: TimestampType, record: &Record) -> Value {
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|header| json!([header.name_text(), header.value.as_ref().map(text_or_base64)]))
        .collect();
    json!({
        "offset": record.offset.0,
        (times.name()): record.timestamp.0,
        "key": record.key.as_ref().map(text_or_base64),
        "payload": record.value.as_ref().map(text_or_base64),
        "headers": headers,
    })
}

/// Text as it is; other bytes as `{"base64": …}`.
fn text_or_base64(bytes: &Bytes) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    }
}

/// What a time is, and the time.
fn typed_time(times: TimestampType, time: Timestamp) -> String {
    let name = match times {
        TimestampType::CreateTime => "time",
        TimestampType::LogAppendTime => "append-time",
    };
    format!("{name} {}", time_text(time.0))
}

fn record_text(times: TimestampType, record: &Record) -> String {
    let field = |bytes: &Option<Bytes>| match bytes {
        None => "-".to_owned(),
        Some(bytes) => format!("\"{}\"", bytes.escape_ascii()),
    };
    let mut text = format!(
        "offset {}  {}  key {}  value {}",
        record.offset,
        typed_time(times, record.timestamp),
        field(&record.key),
        field(&record.value),
    );
    for header in &record.headers {
        text += &format!("  {}={}", header.name_text(), field(&header.value));
    }
    text
}
