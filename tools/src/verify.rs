//! Checks every batch, every index entry and every checkpoint, and tells what is damaged and where.
//!
//! Together the checks leave no bit of a batch out: the checksum covers all from the attributes
//! on; the base offset must be the one that follows; a wrong length makes the checksum wrong; the
//! magic is 2; the leader epoch is the one that the checkpoint's table has for the offset.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use mk_storage::batch::{HEADER_LEN, Header, checksum};
use mk_storage::checkpoint::{CHECKPOINT_FILE, Checkpoint, CheckpointError};
use mk_storage::directory;
use mk_storage::disk::{self, Disk, View, read_fully};
use mk_storage::error::DiskError;
use mk_storage::index::{Entry, OffsetEntry, TimeEntry};
use mk_storage::segment::{LOG, OFFSET_INDEX, TIME_INDEX, file_name};
use mk_storage::{Epoch, Offset, Timestamp};

use crate::InspectError;
use crate::find::{PartitionFiles, data_directory};

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file.
    pub file: PathBuf,
    /// Where in it.
    pub byte: u64,
    /// The offset that was expected there.
    pub offset: u64,
    /// What was found.
    pub what: String,
}

/// What checking one file found.
#[derive(Clone, Debug, Default)]
pub struct FileReport {
    /// Which file.
    pub file: PathBuf,
    /// Bytes that were checked.
    pub bytes: u64,
    /// Whole batches.
    pub batches: u64,
    /// Their records.
    pub records: u64,
    /// What is damaged.
    pub damage: Vec<Damage>,
    /// A broker is writing the bytes behind the last whole batch just now.
    pub being_written: bool,
}

/// Checks a partition: a report for each of its files.
pub fn partition(disk: &dyn Disk, files: &PartitionFiles) -> Result<Vec<FileReport>, InspectError> {
    let running = data_directory(&files.dir).is_some_and(|data| directory::is_locked(&data));
    let mut reports = Vec::new();
    let checkpoint = check_checkpoint(disk, &files.dir, &mut reports)?;
    let mut log = LogCheck {
        disk,
        dir: &files.dir,
        checkpoint: &checkpoint,
        expected: files.bases.first().copied().unwrap_or_default(),
        epoch: Epoch(i32::MIN),
    };
    if files.bases.is_empty() {
        let what = "the partition has no segment".to_owned();
        let damage = vec![Damage { file: files.dir.clone(), byte: 0, offset: 0, what }];
        reports.push(FileReport { file: files.dir.clone(), damage, ..FileReport::default() });
    }
    for (at, &base) in files.bases.iter().enumerate() {
        let last = at + 1 == files.bases.len();
        let (report, batches) = log.segment(base, last && running)?;
        let sound = report.damage.is_empty();
        reports.push(report);
        if sound {
            reports.push(log.offset_index(base, &batches, last)?);
            reports.push(log.time_index(base, &batches, last)?);
        }
    }
    if let Some(checkpoint) = &checkpoint
        && log.expected < checkpoint.recovery_point
        && reports.iter().all(|report| report.damage.is_empty())
        && let Some(report) = reports.last_mut()
    {
        let what = format!(
            "the log ends at {}, but records below {} were synced",
            log.expected, checkpoint.recovery_point
        );
        let file = report.file.clone();
        report.damage.push(Damage { file, byte: report.bytes, offset: log.expected.0, what });
    }
    Ok(reports)
}

fn check_checkpoint(
    disk: &dyn Disk,
    dir: &Path,
    reports: &mut Vec<FileReport>,
) -> Result<Option<Checkpoint>, InspectError> {
    let file = dir.join(CHECKPOINT_FILE);
    match Checkpoint::read(disk, dir) {
        Ok(checkpoint) => Ok(checkpoint),
        Err(CheckpointError::Io(error)) => Err(DiskError::at("read", &file)(error).into()),
        Err(error) => {
            let what = format!("{error}; the next start scans the whole log instead");
            let damage = vec![Damage { file: file.clone(), byte: 0, offset: 0, what }];
            reports.push(FileReport { file, damage, ..FileReport::default() });
            Ok(None)
        }
    }
}

/// What the indexes must agree with: by position, the last offset and the largest time so far.
type Batches = BTreeMap<u64, (Offset, TimeEntry)>;

struct LogCheck<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    checkpoint: &'a Option<Checkpoint>,
    /// Offset and epoch that follow what was checked.
    expected: Offset,
    epoch: Epoch,
}

impl LogCheck<'_> {
    fn segment(
        &mut self,
        base: Offset,
        being_written: bool,
    ) -> Result<(FileReport, Batches), InspectError> {
        let file = self.dir.join(file_name(base, LOG));
        let view = self.disk.view(&file).map_err(DiskError::at("open", &file))?;
        let mut report = FileReport { file: file.clone(), ..FileReport::default() };
        if base != self.expected {
            let what = format!("the segment begins at {base}, {} follows", self.expected);
            report.add(0, self.expected, what);
            self.expected = base;
        }
        let mut batches = Batches::new();
        self.walk(view.as_ref(), &mut report, &mut batches, being_written)
            .map_err(DiskError::at("read", &file))?;
        Ok((report, batches))
    }

    /// Checks batch by batch; goes on behind a batch that is damaged if its length can be believed.
    fn walk(
        &mut self,
        view: &dyn View,
        report: &mut FileReport,
        batches: &mut Batches,
        being_written: bool,
    ) -> io::Result<()> {
        let length = view.len()?;
        let mut max = TimeEntry { timestamp: Timestamp(-1), offset: self.expected };
        let mut batch = Vec::new();
        while report.bytes < length {
            let at = report.bytes;
            let mut head = [0; HEADER_LEN];
            let read = read_fully(view, at, &mut head)?;
            if head[8..12] == [0; 4] {
                if let Some(byte) = first_used_byte(view, at, length)? {
                    report.add(byte, self.expected, "data behind the end of the log".into());
                }
                return Ok(());
            }
            let header = Header::parse(&head[..read]).map_err(|error| error.to_string());
            let header = header.and_then(|header| match header.size as u64 > length - at {
                true => Err(format!("a batch of {} bytes, {} are left", header.size, length - at)),
                false => Ok(header),
            });
            let problem = match header {
                Err(what) => Err(what),
                Ok(header) => {
                    batch.resize(header.size, 0);
                    let read = read_fully(view, at, &mut batch)?;
                    self.check_batch(&header, &batch[..read]).map(|()| header)
                }
            };
            match problem {
                Ok(header) => {
                    if header.max_timestamp > max.timestamp {
                        max = TimeEntry {
                            timestamp: header.max_timestamp,
                            offset: header.last_offset(),
                        };
                    }
                    batches.insert(at, (header.last_offset(), max));
                    report.bytes = at + header.size as u64;
                    report.batches += 1;
                    report.records += u64::from(header.record_count);
                    self.expected = header.next_offset();
                    self.epoch = header.leader_epoch;
                }
                Err(_) if being_written && self.is_unsynced() => {
                    report.being_written = true;
                    return Ok(());
                }
                Err(what) => {
                    let cut =
                        if self.is_unsynced() { "; the next start cuts the log here" } else { "" };
                    report.add(at, self.expected, format!("{what}{cut}"));
                    let Some((behind, next)) = self.follower(view, at, length)? else {
                        return Ok(());
                    };
                    report.bytes = behind;
                    self.expected = next;
                }
            }
        }
        Ok(())
    }

    /// Where a damaged batch at `at` ends, and which offset follows, if its header can be believed:
    /// behind it is the end of the log, or a whole batch of a later offset.
    fn follower(&self, view: &dyn View, at: u64, length: u64) -> io::Result<Option<(u64, Offset)>> {
        let Some(damaged) = header_at(view, at)? else { return Ok(None) };
        let behind = at + damaged.size as u64;
        if behind == length {
            return Ok(Some((behind, damaged.next_offset())));
        }
        let next = header_at(view, behind)?.filter(|next| next.base_offset > self.expected);
        Ok(next.map(|next| (behind, next.base_offset)))
    }

    fn check_batch(&self, header: &Header, batch: &[u8]) -> Result<(), String> {
        let computed = checksum(batch);
        if computed != header.crc {
            return Err(format!("CRC-32C is {:#010x}, computed {computed:#010x}", header.crc));
        }
        if header.base_offset != self.expected {
            return Err(format!("offset {} where {} follows", header.base_offset, self.expected));
        }
        if header.leader_epoch < self.epoch {
            return Err(format!("leader epoch {} behind {}", header.leader_epoch, self.epoch));
        }
        let epoch = self.checkpoint.as_ref().and_then(|found| found.epoch_at(header.base_offset));
        match epoch {
            // The table is written with the recovery point; later epochs are not in it yet.
            Some(epoch) if epoch != header.leader_epoch && !self.is_unsynced() => {
                Err(format!("leader epoch {}, the checkpoint has {epoch}", header.leader_epoch))
            }
            _ => Ok(()),
        }
    }

    /// True if what follows was not vouched for by the checkpoint.
    fn is_unsynced(&self) -> bool {
        let recovery_point = self.checkpoint.as_ref().map(|found| found.recovery_point);
        self.expected >= recovery_point.unwrap_or_default()
    }

    fn offset_index(
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

    fn time_index(
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
        let file = self.dir.join(file_name(base, ending));
        let mut report = FileReport { file: file.clone(), ..FileReport::default() };
        let bytes = match disk::read(self.disk, &file, MOST_INDEX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                report.add(0, base, "missing; the next start builds it anew".into());
                return Ok(report);
            }
            Err(error) => return Err(DiskError::at("read", &file)(error).into()),
        };
        // Indexes have a reserved tail of zeroes while their segment is written, and for a moment
        // after it was closed.
        let reserved = last || directory_is_locked(self.dir);
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
                Err(_) if last && directory_is_locked(self.dir) => break,
                Err(what) => report.add(byte, base, what),
            }
        }
        Ok(report)
    }
}

const MOST_INDEX_BYTES: usize = 512 << 20;

fn directory_is_locked(dir: &Path) -> bool {
    data_directory(dir).is_some_and(|data| directory::is_locked(&data))
}

fn header_at(view: &dyn View, at: u64) -> io::Result<Option<Header>> {
    let mut head = [0; HEADER_LEN];
    let read = read_fully(view, at, &mut head)?;
    Ok(Header::parse(&head[..read]).ok())
}

fn first_used_byte(view: &dyn View, from: u64, to: u64) -> io::Result<Option<u64>> {
    let mut chunk = vec![0; 1 << 20];
    let mut at = from;
    while at < to {
        let read = read_fully(view, at, &mut chunk)?;
        if let Some(used) = chunk[..read].iter().position(|byte| *byte != 0) {
            return Ok(Some(at + used as u64));
        }
        if read == 0 {
            break;
        }
        at += read as u64;
    }
    Ok(None)
}

impl FileReport {
    fn add(&mut self, byte: u64, offset: Offset, what: String) {
        self.damage.push(Damage { file: self.file.clone(), byte, offset: offset.0, what });
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { file, byte, offset, what } = self;
        write!(f, "{}: byte {byte}, offset {offset}: {what}", file.display())
    }
}
