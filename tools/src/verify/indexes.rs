//! Checks index entries against the batches.

use std::collections::BTreeMap;
use std::io;

use mk_storage::Offset;
use mk_storage::disk;
use mk_storage::error::DiskError;
use mk_storage::index::{Entry, OffsetEntry, TimeEntry};
use mk_storage::segment::{OFFSET_INDEX, TIME_INDEX, file_name};

use super::walk::{Batches, LogCheck};
use super::{FileReport, Note, Part};
use crate::InspectError;

const MOST_INDEX_BYTES: usize = 512 << 20;

impl LogCheck<'_> {
    pub fn offset_index(
        &self,
        base: Offset,
        batches: &Batches,
        last: bool,
    ) -> Result<FileReport, InspectError> {
        self.index::<OffsetEntry>(base, OFFSET_INDEX, last, |entry| {
            match batches.get(&entry.position.0) {
                Some((offset, _)) if *offset == entry.offset => Ok(()),
                Some((offset, _)) => {
                    Err(format!("says offset {}, the batch ends at {offset}", entry.offset))
                }
                None => Err(format!("says byte {}, where no batch begins", entry.position)),
            }
        })
    }

    pub fn time_index(
        &self,
        base: Offset,
        batches: &Batches,
        last: bool,
    ) -> Result<FileReport, InspectError> {
        let by_time: BTreeMap<_, _> =
            batches.values().map(|(_, max)| (max.timestamp, max.offset)).collect();
        self.index::<TimeEntry>(base, TIME_INDEX, last, |entry| {
            match by_time.get(&entry.timestamp) {
                Some(offset) if *offset == entry.offset => Ok(()),
                Some(offset) => Err(format!(
                    "says time {} at offset {}, it is at {offset}",
                    entry.timestamp, entry.offset
                )),
                None => Err(format!("says time {}, which no batch has", entry.timestamp)),
            }
        })
    }

    fn index<E: Entry>(
        &self,
        base: Offset,
        ending: &str,
        last: bool,
        check: impl Fn(&E) -> Result<(), String>,
    ) -> Result<FileReport, InspectError> {
        let file = self.files.dir.join(file_name(base, ending));
        let mut report = FileReport::new(file.clone(), Part::Index(base));
        let bytes = match disk::read(self.disk, &file, MOST_INDEX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                match self.files.unfinished.has_cleaned(base, ending) {
                    true => report.note = Some(Note::Interrupted),
                    false => report.add(0, base, "missing; the next start builds it anew".into()),
                }
                return Ok(report);
            }
            Err(error) => return Err(DiskError::at("read", &file)(error).into()),
        };
        // Indexes have a reserved tail of zeroes while their segment is written, and for a moment
        // after it was closed.
        let reserved = last || self.running;
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        let used =
            if reserved { used.next_multiple_of(E::SIZE).min(bytes.len()) } else { bytes.len() };
        for (number, entry) in bytes[..used].chunks(E::SIZE).enumerate() {
            let byte = (number * E::SIZE) as u64;
            let decoded = if entry.len() == E::SIZE { E::decode(entry, base) } else { None };
            let checked = decoded.ok_or_else(|| "no index entry".to_owned());
            match checked.and_then(|entry| check(&entry)) {
                Ok(()) => report.bytes += E::SIZE as u64,
                // An entry may have come since the batches were read.
                Err(_) if last && self.running => break,
                Err(what) => report.add(byte, base, what),
            }
        }
        Ok(report)
    }
}
