//! Reads a log batch by batch, across its segments.

use std::path::Path;
use std::sync::Arc;

use mk_storage::Offset;
use mk_storage::batch::Header;
use mk_storage::checkpoint::Checkpoint;
use mk_storage::disk::Disk;
use mk_storage::error::DiskError;

use crate::InspectError;
use crate::batches::{Batch, Batches, Break};
use crate::find::PartitionFiles;

/// A place in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<Path>,
    pub byte: u64,
}

/// What comes next in a log.
pub enum Next {
    Batch(Place, Batch),
    End,
    /// It cannot be read on.
    Damaged(Place, String),
}

/// The batches of a log, from the one that has a given offset on.
pub struct LogReader<'a> {
    disk: &'a dyn Disk,
    files: &'a PartitionFiles,
    from: Offset,
    /// Segments that were not begun yet, the next one last.
    waiting: Vec<Offset>,
    current: Option<(Arc<Path>, Batches)>,
    /// Offset that follows what was read.
    pub end: Offset,
}

/// The first offset that a log serves.
pub fn start(disk: &dyn Disk, files: &PartitionFiles) -> Offset {
    let first = files.bases.first().copied().unwrap_or_default();
    // Without a checkpoint a log starts at its first segment.
    let checkpoint = Checkpoint::read(disk, &files.dir).ok().flatten();
    checkpoint.map_or(first, |found| found.log_start.max(first))
}

impl<'a> LogReader<'a> {
    pub fn new(disk: &'a dyn Disk, files: &'a PartitionFiles, from: Offset) -> LogReader<'a> {
        let skipped = files.bases.partition_point(|base| *base <= from).saturating_sub(1);
        let waiting = files.bases.iter().skip(skipped).rev().copied().collect();
        LogReader { disk, files, from, waiting, current: None, end: from }
    }

    pub fn next(&mut self) -> Result<Next, InspectError> {
        loop {
            let Some((file, batches)) = &mut self.current else {
                let Some(base) = self.waiting.pop() else { return Ok(Next::End) };
                let path = self.files.log(base);
                let view = self.disk.view(&path).map_err(DiskError::at("open", &path))?;
                let batches = Batches::new(view).map_err(DiskError::at("read", &path))?;
                self.current = Some((path.into(), batches));
                continue;
            };
            let place = |byte| Place { file: file.clone(), byte };
            match batches.next().transpose().map_err(DiskError::at("read", file))? {
                Some(Ok(batch)) if batch.header.last_offset() < self.from => {}
                Some(Ok(Batch { position, header, .. }))
                    if !may_follow(&header, self.from, self.end) =>
                {
                    let what = format!("offset {} where {} follows", header.base_offset, self.end);
                    return Ok(Next::Damaged(place(position), what));
                }
                Some(Ok(batch)) => {
                    self.end = batch.header.next_offset();
                    return Ok(Next::Batch(place(batch.position), batch));
                }
                Some(Err(Break { position, what })) => {
                    return Ok(Next::Damaged(place(position), what));
                }
                None => self.current = None,
            }
        }
    }
}

/// True if a batch leaves no hole in a log that was read from `from` to `end`: a log that was
/// compacted has none either.
fn may_follow(header: &Header, from: Offset, end: Offset) -> bool {
    let is_first = end == from;
    header.base_offset == end || (is_first && header.base_offset < end)
}
