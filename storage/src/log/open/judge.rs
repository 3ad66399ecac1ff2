//! What a start takes for damage: records that were once safe, and are missing.

use std::path::Path;

use super::super::survey::Survey;
use super::Opening;
use crate::error::{Corruption, DiskError, OpenError};
use crate::recover::{has_batch_from, used_bytes};
use crate::segment::{LOG, file_name};
use crate::{Offset, Position};

impl Opening {
    /// An error if the log ends before `until` though records there were once synced.
    pub(super) fn refuse_loss(&self, until: Offset) -> Result<(), Corruption> {
        let vouched = self.vouched().min(until);
        if self.next >= vouched {
            return Ok(());
        }
        let what =
            format!("records {} to {} were synced and are missing", self.next, vouched.0 - 1);
        Err(self.lost_at_end(what))
    }

    /// An error if the segment at `base` begins inside of the one before it: then one of the two is
    /// not what its name says, and nobody knows which.
    pub(super) fn refuse_overlap(&self, base: Offset) -> Result<(), Corruption> {
        if base > self.next {
            return Ok(());
        }
        let path = self.dir.join(file_name(base, LOG));
        let what = format!("it begins inside of the segment before, which ends at {}", self.next);
        Err(self.lost(&path, Position(0), base, what))
    }

    /// An error if a closed segment has batches behind its end: then the segment behind it is not
    /// what its name says. True if there is nothing but a reservation; what else there may be is left
    /// for somebody to look at, and nobody reads it.
    pub(super) fn refuse_more(&self, base: Offset, survey: &Survey) -> Result<bool, OpenError> {
        let end = survey.end;
        let path = self.dir.join(file_name(base, LOG));
        if self.disk().length(&path).map_err(DiskError::at("read", &path))? == end.0 {
            return Ok(true);
        }
        let view = self.disk().view(&path).map_err(DiskError::at("open", &path))?;
        let read = |error| DiskError::at("read", &path)(error);
        let used = used_bytes(view.as_ref(), end).map_err(read)?;
        if used > 0 && has_batch_from(view.as_ref(), end, survey.next).map_err(read)? {
            let what = format!("{used} bytes more than the segment behind it leaves room for");
            return Err(self.lost(&path, end, survey.next, what).into());
        }
        Ok(used == 0)
    }

    /// An error if records are missing and no checkpoint tells whether they were ever safe.
    pub(super) fn refuse_to_guess(&self, reason: &str) -> Result<(), Corruption> {
        match self.checkpoint {
            Some(_) => Ok(()),
            None => Err(self.lost_at_end(unknown(reason))),
        }
    }

    /// What is missing behind the last segment that was opened.
    pub(super) fn lost_at_end(&self, what: String) -> Corruption {
        let last = self.segments.last();
        let file = last.map_or(self.dir.as_path(), |segment| segment.path());
        let position = last.map_or(Position(0), |segment| segment.end());
        self.lost(file, position, self.next, what)
    }

    pub(super) fn lost(
        &self,
        file: &Path,
        position: Position,
        offset: Offset,
        what: String,
    ) -> Corruption {
        Corruption { file: file.to_owned(), position, offset, what }
    }
}

/// Why a break is not taken for a torn tail.
pub(super) fn unknown(reason: &str) -> String {
    format!(
        "{reason}; there are records behind it, and without the checkpoint nobody knows whether \
         they were safe; nothing was cut"
    )
}
