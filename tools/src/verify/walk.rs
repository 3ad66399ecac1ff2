//! Checks the batches of a log, one segment after the other.

use std::collections::BTreeMap;
use std::io;

use mk_storage::batch::{HEADER_LEN, Header, LENGTH_OVERHEAD, checksum};
use mk_storage::checkpoint::Checkpoint;
use mk_storage::disk::{Disk, View, read_fully};
use mk_storage::error::DiskError;
use mk_storage::index::TimeEntry;
use mk_storage::{Epoch, Offset, Position, Timestamp};

use super::{FileReport, Note, Part, Sound};
use crate::InspectError;
use crate::find::PartitionFiles;

/// What the indexes must agree with: by position, the last offset and the largest time so far.
pub type Batches = BTreeMap<u64, (Offset, TimeEntry)>;

/// What is where a batch would begin.
enum Found {
    /// A length of zero.
    Nothing,
    Batch(Header),
    /// Why it is none.
    Broken(String),
}

/// How far the check of a log has come.
pub struct LogCheck<'a> {
    pub disk: &'a dyn Disk,
    pub files: &'a PartitionFiles,
    checkpoint: &'a Option<Checkpoint>,
    /// True if a broker may be writing.
    pub running: bool,
    /// Offset and epoch that follow what was checked.
    pub expected: Offset,
    epoch: Epoch,
    /// Epochs of the batches so far, and where each began.
    pub epochs: Vec<(Epoch, Offset)>,
}

impl<'a> LogCheck<'a> {
    pub fn new(
        disk: &'a dyn Disk,
        files: &'a PartitionFiles,
        checkpoint: &'a Option<Checkpoint>,
        running: bool,
    ) -> LogCheck<'a> {
        LogCheck {
            disk,
            files,
            checkpoint,
            running,
            expected: files.bases.first().copied().unwrap_or_default(),
            epoch: Epoch(i32::MIN),
            epochs: Vec::new(),
        }
    }

    /// Checks the segment at `base`, behind which there are these.
    pub fn segment(
        &mut self,
        base: Offset,
        behind: &[Offset],
    ) -> Result<(FileReport, Batches), InspectError> {
        let file = self.files.log(base);
        let mut report = FileReport::new(file.clone(), Part::Log(base, Sound::Whole));
        if !self.files.has_indexes(base) {
            report.note = Some(Note::Interrupted);
        }
        let mut batches = Batches::new();
        if base != self.expected {
            let what = format!("the segment begins at {base}, {} follows", self.expected);
            report.add(0, self.expected, what);
            if base < self.expected && behind.contains(&self.expected) {
                report.part = Part::Log(base, Sound::Beside);
                return Ok((report, batches));
            }
            report.part = Part::Log(base, Sound::Nothing);
            self.expected = base;
        }
        let view = self.disk.view(&file).map_err(DiskError::at("open", &file))?;
        let being_written = behind.is_empty() && self.running;
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
        let mut buffer = Vec::new();
        while report.bytes < length {
            let at = report.bytes;
            match self.next_batch(view, at, length, &mut buffer)? {
                Found::Nothing => {
                    if let Some(byte) = first_used_byte(view, at, length)? {
                        self.note_behind_end(byte, report, being_written);
                    }
                    return Ok(());
                }
                Found::Batch(header) => {
                    if header.max_timestamp > max.timestamp {
                        let offset = header.last_offset();
                        max = TimeEntry { timestamp: header.max_timestamp, offset };
                    }
                    batches.insert(at, (header.last_offset(), max));
                    self.take(&header, report);
                }
                Found::Broken(_) if being_written && self.is_unsynced() => {
                    report.note = Some(Note::BeingWritten);
                    return Ok(());
                }
                Found::Broken(what) => {
                    self.tell(what, report);
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

    /// What is at byte `at`.
    fn next_batch(
        &self,
        view: &dyn View,
        at: u64,
        length: u64,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Found> {
        let mut head = [0; HEADER_LEN];
        let read = read_fully(view, at, &mut head)?;
        if head[8..LENGTH_OVERHEAD] == [0; 4] {
            return Ok(Found::Nothing);
        }
        let header = match Header::parse(&head[..read]) {
            Ok(header) => header,
            Err(error) => return Ok(Found::Broken(error.to_string())),
        };
        let left = length - at;
        if header.size as u64 > left {
            return Ok(Found::Broken(format!("a batch of {} bytes, {left} are left", header.size)));
        }
        buffer.resize(header.size, 0);
        let read = read_fully(view, at, buffer)?;
        Ok(match self.check_batch(&header, &buffer[..read]) {
            Ok(()) => Found::Batch(header),
            Err(what) => Found::Broken(what),
        })
    }

    /// Behind the end of the log are zeroes, until a broker appends; this is another byte.
    fn note_behind_end(&self, byte: u64, report: &mut FileReport, being_written: bool) {
        if being_written && self.is_unsynced() {
            report.note = Some(Note::BeingWritten);
            return;
        }
        report.ends_at(Position(report.bytes), self.expected);
        report.add(byte, self.expected, "data behind the end of the log".into());
    }

    /// Counts a batch that is whole.
    fn take(&mut self, header: &Header, report: &mut FileReport) {
        report.bytes += header.size as u64;
        report.batches += 1;
        report.records += u64::from(header.record_count);
        self.expected = header.next_offset();
        self.note_epoch(header);
    }

    /// Reports a batch that is not.
    fn tell(&self, what: String, report: &mut FileReport) {
        let cut = if self.is_unsynced() { "; the next start cuts the log here" } else { "" };
        report.ends_at(Position(report.bytes), self.expected);
        report.add(report.bytes, self.expected, format!("{what}{cut}"));
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

    fn note_epoch(&mut self, header: &Header) {
        if self.epoch < header.leader_epoch || self.epochs.is_empty() {
            self.epochs.push((header.leader_epoch, header.base_offset));
        }
        self.epoch = header.leader_epoch;
    }
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
