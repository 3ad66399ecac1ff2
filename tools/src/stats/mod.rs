//! `mkinspect stats`: what a partition is made of. Reads every batch once, and keeps counts only.

mod histogram;
mod print;

use std::path::Path;

use mk_storage::batch::{
    Compression, HEADER_LEN, Header, Record, TimestampType, checksum, records,
};
use mk_storage::disk::Disk;
use mk_storage::error::DiskError;
use mk_storage::seal::{FoundSeal, Seal};
use mk_storage::segment::{OFFSET_INDEX, TIME_INDEX, file_name};
use mk_storage::{Offset, Timestamp};

pub use self::histogram::Histogram;
pub use self::print::{print_json, print_text};
use crate::InspectError;
use crate::batches::{Batch, Batches};
use crate::find::PartitionFiles;

/// Most bytes that one batch may unpack to.
const MOST_UNPACKED: usize = 512 << 20;

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    pub partitions: u64,
    pub segments: u64,
    pub sealed: u64,
    /// Sealed ones of which all was compacted, as their seals say.
    pub compacted: u64,
    pub batches: u64,
    pub records: u64,
    /// Bytes of batches, header included.
    pub bytes: u64,
    /// Bytes reserved behind the batches.
    pub reserved: u64,
    pub index_bytes: u64,
    pub batch_records: Histogram,
    pub batch_bytes: Histogram,
    /// By codec: see [`CODECS`].
    pub codecs: [CodecStats; CODECS.len()],
    pub keyed: u64,
    /// Records with a key and without a value.
    pub tombstones: u64,
    pub key_bytes: u64,
    pub value_bytes: u64,
    /// Names and values of the records' headers.
    pub field_bytes: u64,
    /// Earliest and latest timestamp, if any record has one.
    pub times: Option<(Timestamp, Timestamp)>,
    /// First offset, and the one that follows the last.
    pub offsets: Option<(Offset, Offset)>,
    /// Offsets between those that no record has.
    pub missing: u64,
    /// Batches that are damaged, and places where a segment could not be read on.
    pub damaged: u64,
    /// The first of them.
    pub damage: Option<String>,
}

/// Batches of one codec.
#[derive(Clone, Copy, Debug, Default)]
pub struct CodecStats {
    pub batches: u64,
    /// Bytes of records as they are stored.
    pub stored: u64,
    /// The same, unpacked.
    pub unpacked: u64,
}

/// The codecs in the order of [`Stats::codecs`].
pub const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Counts what a partition has.
pub fn partition(disk: &dyn Disk, files: &PartitionFiles) -> Result<Stats, InspectError> {
    let mut stats = Stats { partitions: 1, ..Stats::default() };
    for &base in &files.bases {
        stats.segments += 1;
        let path = files.log(base);
        let view = disk.view(&path).map_err(DiskError::at("open", &path))?;
        let mut batches = Batches::new(view).map_err(DiskError::at("read", &path))?;
        while let Some(batch) = batches.next().transpose().map_err(DiskError::at("read", &path))? {
            let damage = match &batch {
                Ok(batch) => stats.add(batch).err().map(|what| (batch.position, what)),
                Err(broken) => Some((broken.position, broken.what.clone())),
            };
            if let Some((position, what)) = damage {
                stats.damaged += 1;
                let text = || format!("{}: byte {position}: {what}", path.display());
                stats.damage.get_or_insert_with(text);
            }
        }
        stats.reserved += batches.length().saturating_sub(batches.position());
        if files.has_indexes(base) {
            stats.note_other_files(disk, &files.dir, base)?;
        }
    }
    Ok(stats)
}

impl Stats {
    /// Counts what the other has counted as well.
    pub fn merge(&mut self, other: &Stats) {
        let sums = [
            (&mut self.partitions, other.partitions),
            (&mut self.segments, other.segments),
            (&mut self.sealed, other.sealed),
            (&mut self.compacted, other.compacted),
            (&mut self.batches, other.batches),
            (&mut self.records, other.records),
            (&mut self.bytes, other.bytes),
            (&mut self.reserved, other.reserved),
            (&mut self.index_bytes, other.index_bytes),
            (&mut self.keyed, other.keyed),
            (&mut self.tombstones, other.tombstones),
            (&mut self.key_bytes, other.key_bytes),
            (&mut self.value_bytes, other.value_bytes),
            (&mut self.field_bytes, other.field_bytes),
            (&mut self.missing, other.missing),
            (&mut self.damaged, other.damaged),
        ];
        for (sum, more) in sums {
            *sum = sum.saturating_add(more);
        }
        for (codec, more) in self.codecs.iter_mut().zip(&other.codecs) {
            codec.batches += more.batches;
            codec.stored += more.stored;
            codec.unpacked += more.unpacked;
        }
        self.batch_records.merge(&other.batch_records);
        self.batch_bytes.merge(&other.batch_bytes);
        if let Some((first, last)) = other.times {
            self.note_times(first, last);
        }
        // Offsets of two partitions have nothing to do with each other.
        self.offsets = None;
        self.damage = self.damage.take().or_else(|| other.damage.clone());
    }

    /// Bytes of records, unpacked.
    pub fn unpacked(&self) -> u64 {
        self.codecs.iter().map(|codec| codec.unpacked).sum()
    }

    /// Milliseconds between the earliest and the latest timestamp.
    pub fn span_ms(&self) -> Option<i64> {
        self.times.map(|(first, last)| last.0.saturating_sub(first.0))
    }

    /// Counts the indexes and the seal of a segment.
    fn note_other_files(
        &mut self,
        disk: &dyn Disk,
        dir: &Path,
        base: Offset,
    ) -> Result<(), InspectError> {
        for ending in [OFFSET_INDEX, TIME_INDEX] {
            // One that is missing is `verify`'s to tell.
            self.index_bytes += disk.length(&dir.join(file_name(base, ending))).unwrap_or(0);
        }
        let seal = Seal::find(disk, dir, base);
        let seal = seal.map_err(DiskError::at("read the seal of a segment in", dir))?;
        if let FoundSeal::Whole(seal) = seal {
            self.sealed += 1;
            self.compacted += u64::from(seal.cleaned_to >= seal.next);
        }
        Ok(())
    }

    /// Counts a batch; an error tells why it cannot be believed.
    fn add(&mut self, batch: &Batch) -> Result<(), String> {
        let header = &batch.header;
        let computed = checksum(&batch.bytes);
        if computed != header.crc {
            return Err(format!("CRC-32C is {:#010x}, computed {computed:#010x}", header.crc));
        }
        let size = header.size as u64;
        self.batches += 1;
        self.records += u64::from(header.record_count);
        self.bytes += size;
        self.batch_records.add(header.record_count.into());
        self.batch_bytes.add(size);
        self.note_offsets(header);
        if header.max_timestamp.0 >= 0 {
            let first = match (header.delete_horizon(), header.timestamp_type()) {
                (None, TimestampType::CreateTime) => header.base_timestamp.max(Timestamp(0)),
                // The horizon has taken the place of the base timestamp; or all have the one time.
                _ => header.max_timestamp,
            };
            self.note_times(first, header.max_timestamp);
        }
        let codec = Compression::from_attributes(header.attributes).map_err(|e| e.to_string())?;
        let found = records(&batch.bytes, MOST_UNPACKED).map_err(|error| error.to_string())?;
        if let Some(at) = CODECS.iter().position(|other| *other == codec) {
            let stats = &mut self.codecs[at];
            stats.batches += 1;
            stats.stored += size - HEADER_LEN as u64;
            stats.unpacked += found.bytes_left() as u64;
        }
        for record in found {
            self.note_record(&record.map_err(|error| error.to_string())?);
        }
        Ok(())
    }

    fn note_record(&mut self, record: &Record) {
        let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, |b| b.len() as u64);
        self.keyed += u64::from(record.key.is_some());
        self.tombstones += u64::from(record.key.is_some() && record.value.is_none());
        self.key_bytes += length(&record.key);
        self.value_bytes += length(&record.value);
        let fields = record.headers.iter();
        self.field_bytes +=
            fields.map(|field| field.name.len() as u64 + length(&field.value)).sum::<u64>();
    }

    fn note_offsets(&mut self, header: &Header) {
        let (first, next) = self.offsets.unwrap_or((header.base_offset, header.base_offset));
        let span = u64::from(header.last_offset_delta) + 1;
        let before = header.base_offset.0.saturating_sub(next.0);
        let within = span.saturating_sub(header.record_count.into());
        self.missing = self.missing.saturating_add(before).saturating_add(within);
        self.offsets = Some((first, header.next_offset().max(next)));
    }

    fn note_times(&mut self, first: Timestamp, last: Timestamp) {
        let (earliest, latest) = self.times.unwrap_or((first, last));
        self.times = Some((earliest.min(first), latest.max(last)));
    }
}
