//! `mkinspect repair`, as the shell sees it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use mk_storage::directory;
use mk_storage::disk::Disk;
use mk_tools::InspectError;
use mk_tools::find::{PartitionFiles, data_directory, partitions};
use mk_tools::repair::{Options, Plan, plan, run};

use super::run::damage_code;

/// Whether the user wants it done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consent {
    DryRun,
    Given,
    /// Ask, if there is somebody to be asked.
    Asked,
}

/// Exit code if there is something to do and nobody said so.
const UNTOLD: u8 = 2;

/// Repairs all partitions at and below these paths.
pub fn repair(
    disk: &dyn Disk,
    paths: &[PathBuf],
    options: &Options,
    consent: Consent,
    out: &mut impl Write,
) -> Result<ExitCode, InspectError> {
    let mut found = Vec::new();
    for path in paths {
        found.extend(partitions(disk, path)?);
    }
    // No broker may start in between.
    let mut kept_out = BTreeMap::new();
    for data in found.iter().filter_map(|files| data_directory(&files.dir)) {
        if let Entry::Vacant(place) = kept_out.entry(data) {
            let lock = directory::keep_out(place.key())?;
            let path = place.key().clone();
            place.insert(lock.ok_or(InspectError::Locked { path })?);
        }
    }
    let mut plans = Vec::new();
    for files in &found {
        let plan = plan(disk, files, options.cut)?;
        if !plan.is_empty() {
            plans.push((files, plan));
        }
    }
    if plans.is_empty() {
        writeln!(out, "nothing to do: {} partitions are in order", found.len())?;
        return Ok(ExitCode::SUCCESS);
    }
    if consent != Consent::Given {
        show(disk, &plans, options, out)?;
    }
    let is_doable = |plan: &Plan| options.cut || !plan.mends.is_empty();
    match consent {
        Consent::DryRun => return Ok(damage_code(true)),
        // Nothing to agree to.
        Consent::Asked if !plans.iter().any(|(_, plan)| is_doable(plan)) => {}
        Consent::Asked if !agrees(out)? => {
            out.flush()?;
            eprintln!("nothing was done; -y does it");
            return Ok(ExitCode::from(UNTOLD));
        }
        Consent::Asked | Consent::Given => {}
    }
    let mut is_left = false;
    for (files, plan) in &plans {
        is_left |= plan.loss.is_some() && !options.cut;
        if is_doable(plan) {
            writeln!(out, "{}", files.dir.display())?;
            run(disk, plan, options, |line| Ok(writeln!(out, "  {line}")?))?;
        }
    }
    if is_left {
        writeln!(out, "damage is left, which cannot be mended without giving up records:")?;
        let left = plans.iter().filter_map(|(_, plan)| plan.loss.as_ref());
        for loss in left {
            writeln!(out, "  {}", loss.why)?;
        }
        writeln!(out, "--cut --dry-run tells what that would be")?;
    }
    Ok(damage_code(is_left))
}

fn show(
    disk: &dyn Disk,
    plans: &[(&PartitionFiles, Plan)],
    options: &Options,
    out: &mut impl Write,
) -> Result<(), InspectError> {
    for (files, plan) in plans {
        writeln!(out, "{}: would", files.dir.display())?;
        for mend in &plan.mends {
            writeln!(out, "  {mend}")?;
        }
        let Some(loss) = &plan.loss else { continue };
        if !options.cut {
            writeln!(
                out,
                "  and with --cut, after a backup, if no whole replica is there to copy:"
            )?;
        }
        for line in loss.lines(disk, &plan.dir) {
            writeln!(out, "  {line}")?;
        }
    }
    Ok(())
}

/// Asks whoever sits at the terminal.
fn agrees(out: &mut impl Write) -> Result<bool, InspectError> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Ok(false);
    }
    write!(out, "Do this? [y/N] ")?;
    out.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
