//! `mkinspect repair`, as the shell sees it.

use std::collections::BTreeSet;
use std::fs::File;
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
    let _locks = keep_out(&found)?;
    let mut plans = Vec::new();
    for files in &found {
        // As it is now that no broker runs.
        let plan = plan(disk, &files.again(disk)?, options.cut)?;
        if !plan.is_empty() {
            plans.push(plan);
        }
    }
    if plans.is_empty() {
        writeln!(out, "nothing to do: {} partitions are in order", found.len())?;
        return Ok(ExitCode::SUCCESS);
    }
    if consent != Consent::Given {
        show(disk, &plans, options, out)?;
    }
    match consent {
        Consent::DryRun => return Ok(damage_code(true)),
        // Nothing to agree to.
        Consent::Asked if !plans.iter().any(|plan| plan.is_doable(options.cut)) => {}
        Consent::Asked if !agrees(out)? => {
            out.flush()?;
            eprintln!("nothing was done; -y does it");
            return Ok(ExitCode::from(UNTOLD));
        }
        Consent::Asked | Consent::Given => {}
    }
    carry_out(disk, &plans, options, out)
}

/// Locks the data directories that these partitions are in.
fn keep_out(found: &[PartitionFiles]) -> Result<Vec<File>, InspectError> {
    let data: BTreeSet<_> = found.iter().filter_map(|files| data_directory(&files.dir)).collect();
    let locks = data.into_iter().map(|path| {
        let lock = directory::keep_out(&path)?;
        lock.ok_or(InspectError::Locked { path })
    });
    locks.collect()
}

/// Does what is planned, and tells what is left.
fn carry_out(
    disk: &dyn Disk,
    plans: &[Plan],
    options: &Options,
    out: &mut impl Write,
) -> Result<ExitCode, InspectError> {
    for plan in plans.iter().filter(|plan| plan.is_doable(options.cut)) {
        writeln!(out, "{}", plan.dir.display())?;
        run(disk, plan, options, |line| Ok(writeln!(out, "  {line}")?))?;
    }
    let left: Vec<_> =
        plans.iter().filter(|_| !options.cut).filter_map(|plan| plan.loss.as_ref()).collect();
    if !left.is_empty() {
        writeln!(out, "damage is left, which cannot be mended without giving up records:")?;
        for loss in &left {
            writeln!(out, "  {}", loss.why)?;
        }
        writeln!(out, "--cut --dry-run tells what that would be")?;
    }
    Ok(damage_code(!left.is_empty()))
}

fn show(
    disk: &dyn Disk,
    plans: &[Plan],
    options: &Options,
    out: &mut impl Write,
) -> Result<(), InspectError> {
    for plan in plans {
        writeln!(out, "{}: would", plan.dir.display())?;
        for line in plan.swap_lines() {
            writeln!(out, "  {line}")?;
        }
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
