//! Doing what the plan says, in an order in which a crash does no harm.

use std::path::Path;

use mk_storage::checkpoint::CHECKPOINT_FILE;
use mk_storage::disk::Disk;
use mk_storage::error::DiskError;
use mk_storage::log::{LogSettings, rebuild_indexes};
use mk_storage::mend;
use mk_storage::segment::{ENDINGS, LOG, file_name};

use super::backup::Backup;
use super::{Loss, Mend, Options, Plan};
use crate::InspectError;
use crate::text::bytes_text;

/// Does what is planned, and tells of each thing that was done. Records are given up only if the
/// options say so. Nobody may have the log open.
pub fn run(
    disk: &dyn Disk,
    plan: &Plan,
    options: &Options,
    mut told: impl FnMut(String) -> Result<(), InspectError>,
) -> Result<(), InspectError> {
    let dir = plan.dir.as_path();
    let settings =
        LogSettings { index_interval_bytes: options.interval_bytes, ..LogSettings::default() };
    let mut backup = Backup::new(dir, options.backup.as_deref())?;
    let mut backup_told = false;
    if !plan.swaps.is_empty() {
        mend::finish_swaps(disk, dir)?;
        plan.swap_lines().try_for_each(&mut told)?;
    }
    if let Some(loss) = plan.loss.as_ref().filter(|_| options.cut) {
        save(dir, loss, &mut backup)?;
        // First of all, should what follows fail.
        tell_backup(&mut backup_told, &backup, &mut told)?;
        let lines = loss.lines(disk, dir);
        give_up(disk, dir, loss, &settings, &mut backup)?;
        lines.into_iter().try_for_each(&mut told)?;
    }
    for mend in &plan.mends {
        match mend {
            Mend::Remove { path, .. } => mend::remove(disk, path)?,
            Mend::SetAside { path, .. } => backup.take(path)?,
            Mend::Rebuild { base, closed, .. } => {
                rebuild_indexes(disk, dir, *base, &settings, *closed)?;
            }
            Mend::Checkpoint { damaged, .. } => {
                if let Some(damaged) = damaged {
                    backup.copy(damaged)?;
                }
                if let Some(checkpoint) = &plan.checkpoint {
                    mend::vouch(disk, dir, &plan.bases, checkpoint)?;
                }
            }
        }
        told(mend.to_string())?;
    }
    disk.sync_dir(dir).map_err(DiskError::at("sync", dir))?;
    tell_backup(&mut backup_told, &backup, &mut told)
}

fn tell_backup(
    is_told: &mut bool,
    backup: &Backup,
    told: &mut impl FnMut(String) -> Result<(), InspectError>,
) -> Result<(), InspectError> {
    if backup.is_used() && !std::mem::replace(is_told, true) {
        told(format!("backup      {}", backup.path().display()))?;
    }
    Ok(())
}

/// Copies what is changed in its place.
fn save(dir: &Path, loss: &Loss, backup: &mut Backup) -> Result<(), InspectError> {
    backup.copy(&dir.join(CHECKPOINT_FILE))?;
    if let Some((base, ..)) = loss.end {
        for ending in ENDINGS {
            backup.copy(&dir.join(file_name(base, ending)))?;
        }
    }
    Ok(())
}

/// Takes the rest away, and cuts.
fn give_up(
    disk: &dyn Disk,
    dir: &Path,
    loss: &Loss,
    settings: &LogSettings,
    backup: &mut Backup,
) -> Result<(), InspectError> {
    if let Some(lowered) = &loss.lowered {
        mend::write_checkpoint(disk, dir, lowered)?;
    }
    for base in loss.aside.iter().rev() {
        for ending in ENDINGS {
            backup.take(&dir.join(file_name(*base, ending)))?;
        }
    }
    if let Some((base, position, _)) = loss.end {
        mend::end_in(disk, dir, base, position, settings)?;
    }
    if let Some(at) = loss.begin {
        mend::begin_at(disk, dir, at)?;
    }
    Ok(())
}

impl Loss {
    /// What giving it up means, a line each.
    pub fn lines(&self, disk: &dyn Disk, dir: &Path) -> Vec<String> {
        let length = |base| disk.length(&dir.join(file_name(base, LOG))).unwrap_or(0);
        let mut lines = Vec::new();
        if let Some((base, position, next)) = self.end {
            let name = file_name(base, LOG);
            let bytes = bytes_text(length(base).saturating_sub(position.0));
            lines.push(format!(
                "cut         {name} at byte {position}: the log ends at offset {next}; {bytes} behind"
            ));
        }
        for base in &self.aside {
            let (name, bytes) = (file_name(*base, LOG), bytes_text(length(*base)));
            lines.push(format!("set aside   {name}, its indexes and seal: {bytes}"));
        }
        if let Some(start) = self.start {
            lines.push(format!("move start  the log begins at offset {start}"));
        }
        if let Some(at) = self.begin {
            lines.push(format!("begin       an empty segment at offset {at}"));
        }
        lines.push(format!("  because of  {}", self.why));
        lines
    }
}
