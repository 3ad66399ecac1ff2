//! Checks seals against the segments they speak of.

use mk_storage::Offset;
use mk_storage::error::DiskError;
use mk_storage::seal::{FoundSeal, SEAL_LEN, Seal, SealMismatch};
use mk_storage::segment::{SEAL, file_name};

use super::walk::LogCheck;
use super::{FileReport, Part};
use crate::InspectError;

impl LogCheck<'_> {
    /// Checks the seal of the segment at `base`, which was found sound; `None` if it has none.
    pub fn seal(
        &self,
        base: Offset,
        segment: &FileReport,
    ) -> Result<Option<FileReport>, InspectError> {
        let file = self.files.dir.join(file_name(base, SEAL));
        let mut report = FileReport::new(file.clone(), Part::Seal(base));
        let found =
            Seal::find(self.disk, &self.files.dir, base).map_err(DiskError::at("read", &file))?;
        let seal = match found {
            FoundSeal::None => return Ok(None),
            FoundSeal::Broken => {
                report.add(0, base, "no seal; the broker seals the segment again".into());
                return Ok(Some(report));
            }
            FoundSeal::Whole(seal) => seal,
        };
        report.bytes = SEAL_LEN as u64;
        if let Some(SealMismatch { file, what }) = seal.mismatch(self.disk, &self.files.dir)? {
            report.add(0, base, format!("{}: {what}", file.display()));
        }
        let counts = [
            ("next offset", seal.next.0, self.expected.0),
            ("batches", seal.batches, segment.batches),
            ("records", seal.records, segment.records),
        ];
        for (name, sealed, found) in counts {
            if sealed != found {
                report.add(0, base, format!("{name} {sealed}, the segment has {found}"));
            }
        }
        Ok(Some(report))
    }
}
