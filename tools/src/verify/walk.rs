//! Checks the batches of a log, one segment after the other.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use mk_storage::batch::{HEADER_LEN, Header, checksum};
use mk_storage::checkpoint::Checkpoint;
use mk_storage::disk::{Disk, View, read_fully};
use mk_storage::error::DiskError;
use mk_storage::index::TimeEntry;
use mk_storage::segment::{LOG, file_name};
use mk_storage::{Epoch, Offset, Position, Timestamp};

use super::{FileReport, Part, Sound};
use crate::InspectError;
use crate::find::PartitionFiles;

/// What the indexes must agree with: by position, the last offset and the largest time so far.
pub type Batches = BTreeMap<u64, (Offset, TimeEntry)>;

/// How far the check of a log has come.
pub struct LogCheck<'a> {
    pub disk: &'a dyn Disk,
    pub dir: &'a Path,
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
            dir: &files.dir,
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
        let file = self.dir.join(file_name(base, LOG));
        let mut report = FileReport::new(file.clone(), Part::Log(base, Sound::Whole));
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
        let mut batch = Vec::new();
        while report.bytes < length {
            let at = report.bytes;
            let mut head = [0; HEADER_LEN];
            let read = read_fully(view, at, &mut head)?;
            if head[8..12] == [0; 4] {
                if let Some(byte) = first_used_byte(view, at, length)? {
                    report.ends_at(Position(at), self.expected);
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
                    self.note_epoch(&header);
                }
                Err(_) if being_written && self.is_unsynced() => {
                    report.being_written = true;
                    return Ok(());
                }
                Err(what) => {
                    let cut =
                        if self.is_unsynced() { "; the next start cuts the log here" } else { "" };
                    report.ends_at(Position(at), self.expected);
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
