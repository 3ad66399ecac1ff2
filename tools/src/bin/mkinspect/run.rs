//! Runs a command.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use mk_storage::disk::{Disk, MappedDisk};
use mk_storage::log::RebuiltIndexes;
use mk_storage::segment::{LOG, file_name};
use mk_tools::find::{look, partitions};
use mk_tools::repair::Options;
use mk_tools::stats::{self, Stats};
use mk_tools::unfinished::{INTERRUPTED, LEFT_OVER};
use mk_tools::verify::{FileReport, Note};
use mk_tools::{InspectError, diff, dump, list, map, rebuild, verify};

use super::mend::{self, Consent};
use super::{Command, IndexCommand, Paths};

/// Exit code of a command that finds damage.
pub const DAMAGED: u8 = 4;

pub fn run(command: Command, out: &mut impl Write) -> Result<ExitCode, InspectError> {
    let disk = MappedDisk::start()?;
    match command {
        Command::Ls(Paths { paths }) => {
            for path in &paths {
                for partition in partitions(&disk, path)? {
                    list::print(out, &disk, &partition)?;
                }
            }
        }
        Command::Dump { paths, json, records } => {
            for path in &paths {
                dump::path(out, &disk, path, dump::Style { json, records })?;
            }
        }
        Command::Verify { paths: Paths { paths }, quiet } => {
            return run_verify(&disk, &paths, quiet, out);
        }
        Command::Stats { paths: Paths { paths }, json } => {
            return run_stats(&disk, &paths, json, out);
        }
        Command::Map { paths: Paths { paths }, compact, verify } => {
            let style = map::Style::of_stdout(compact, verify);
            let mut damaged = false;
            for path in &paths {
                for partition in partitions(&disk, path)? {
                    damaged |= map::print(out, &disk, &partition, style)?;
                }
            }
            map::legend(out, style)?;
            return Ok(damage_code(damaged));
        }
        Command::Diff { a, b } => {
            return Ok(match diff::print(out, &disk, [&a, &b])? {
                diff::Verdict::Equal => ExitCode::SUCCESS,
                diff::Verdict::Differ => ExitCode::FAILURE,
                diff::Verdict::Damaged => ExitCode::from(DAMAGED),
            });
        }
        Command::Repair { paths: Paths { paths }, dry_run, yes, cut, backup, interval_bytes } => {
            let consent = match (dry_run, yes) {
                (true, _) => Consent::DryRun,
                (_, true) => Consent::Given,
                _ => Consent::Asked,
            };
            let options = Options { cut, backup, interval_bytes };
            return mend::repair(&disk, &paths, &options, consent, out);
        }
        Command::Index(IndexCommand::Rebuild { paths: Paths { paths }, interval_bytes }) => {
            return run_rebuild(&disk, &paths, interval_bytes, out);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_rebuild(
    disk: &dyn Disk,
    paths: &[PathBuf],
    interval_bytes: u64,
    out: &mut impl Write,
) -> Result<ExitCode, InspectError> {
    let mut code = ExitCode::SUCCESS;
    for path in paths {
        for partition in partitions(disk, path)? {
            for rebuild::Rebuilt { base, indexes } in
                rebuild::partition(disk, &partition, interval_bytes)?
            {
                let segment = partition.dir.join(file_name(base, LOG));
                let segment = segment.display();
                let RebuiltIndexes { offsets, times, broken } = indexes;
                writeln!(out, "{segment}: {offsets} offsets, {times} times")?;
                if let Some((position, why)) = broken {
                    writeln!(
                        out,
                        "DAMAGED  {segment}: byte {position}: {why}; indexed up to there"
                    )?;
                    code = ExitCode::from(DAMAGED);
                }
            }
        }
    }
    Ok(code)
}

fn run_verify(
    disk: &dyn Disk,
    paths: &[PathBuf],
    quiet: bool,
    out: &mut impl Write,
) -> Result<ExitCode, InspectError> {
    let mut totals = (0, 0, 0, 0);
    for path in paths {
        for partition in partitions(disk, path)? {
            for report in verify::partition(disk, &partition)? {
                totals.0 += report.batches;
                totals.1 += report.records;
                totals.2 += report.bytes;
                totals.3 += report.damage.len();
                print_report(out, &report, quiet)?;
            }
        }
    }
    let (batches, records, bytes, damage) = totals;
    let verdict = if damage == 0 { "clean".to_owned() } else { format!("{damage} DAMAGED") };
    writeln!(out, "{verdict}: {batches} batches, {records} records, {bytes} bytes checked")?;
    Ok(damage_code(damage > 0))
}

fn print_report(out: &mut impl Write, report: &FileReport, quiet: bool) -> io::Result<()> {
    for damage in &report.damage {
        writeln!(out, "DAMAGED  {damage}")?;
    }
    if quiet || !report.damage.is_empty() {
        return Ok(());
    }
    let (file, batches, bytes) = (report.file.display(), report.batches, report.bytes);
    match report.note {
        Some(Note::LeftOver) => writeln!(out, "ignored  {file}: {LEFT_OVER}"),
        Some(Note::Interrupted) if batches == 0 => {
            writeln!(out, "ok       {file}: the next start of the broker makes it anew")
        }
        _ if batches == 0 => Ok(()),
        note => {
            let note = match note {
                Some(Note::BeingWritten) => ", more is being written".to_owned(),
                Some(Note::Interrupted) => format!("; {INTERRUPTED}"),
                Some(Note::LeftOver) | None => String::new(),
            };
            writeln!(out, "ok       {file}: {batches} batches, {bytes} bytes{note}")
        }
    }
}

fn run_stats(
    disk: &dyn Disk,
    paths: &[PathBuf],
    json: bool,
    out: &mut impl Write,
) -> Result<ExitCode, InspectError> {
    let mut all = Stats::default();
    let mut print = |name: &str, stats: &Stats| match json {
        true => stats::print_json(out, name, stats),
        false => stats::print_text(out, name, stats),
    };
    for path in paths {
        for partition in partitions(disk, path)? {
            let found = look(disk, &partition, |files| stats::partition(disk, files))?;
            print(&partition.dir.display().to_string(), &found)?;
            all.merge(&found);
        }
    }
    if all.partitions > 1 {
        print("in all", &all)?;
    }
    Ok(damage_code(all.damaged > 0))
}

/// What to tell the shell.
pub fn damage_code(damaged: bool) -> ExitCode {
    if damaged { ExitCode::from(DAMAGED) } else { ExitCode::SUCCESS }
}
