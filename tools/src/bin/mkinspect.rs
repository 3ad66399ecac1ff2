//! The segment inspector.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use mk_storage::disk::{Disk, MappedDisk};
use mk_storage::log::RebuiltIndexes;
use mk_storage::segment::{LOG, file_name};
use mk_tools::find::partitions;
use mk_tools::verify::FileReport;
use mk_tools::{InspectError, dump, list, rebuild, verify};

/// Exit code of `verify` when it finds damage.
const DAMAGED: u8 = 4;

/// Look into the data directory of an mk broker
///
/// Examples:
///   mkinspect ls ./data
///   mkinspect dump --records ./data/topics/orders/0
///   mkinspect dump -J ./data/topics/orders/0/00000000000000000000.log | jq .count
///   mkinspect verify ./data && echo clean
///   mkinspect index rebuild ./data/topics/orders
///
/// Everything but `index rebuild` only reads, and works while the broker runs.
/// Exit codes: 0 all well, 1 failed, 2 usage, 4 damage found.
#[derive(Parser)]
#[command(version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Partitions and their segments
    Ls(Paths),
    /// Batches, records, index entries, checkpoints
    Dump {
        /// Files or folders
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// JSON lines, with the field names of Kafka's DumpLogSegments
        #[arg(short = 'J', long)]
        json: bool,
        /// The records of each batch as well
        #[arg(long)]
        records: bool,
    },
    /// Every batch's checksum and offsets, every index entry; exit code 4 if anything is damaged
    Verify {
        #[command(flatten)]
        paths: Paths,
        /// Tell of damaged files only
        #[arg(short, long)]
        quiet: bool,
    },
    /// Offset and time indexes
    #[command(subcommand)]
    Index(IndexCommand),
}

#[derive(Subcommand)]
enum IndexCommand {
    /// Write them anew from the batches; the broker must be stopped
    Rebuild {
        #[command(flatten)]
        paths: Paths,
        /// Bytes of log for each entry
        #[arg(long, default_value_t = 4096)]
        interval_bytes: u64,
    },
}

#[derive(Args)]
struct Paths {
    /// Data directories, folders of topics or folders of partitions
    #[arg(required = true)]
    paths: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let mut out = BufWriter::new(io::stdout().lock());
    let result = run(command, &mut out).and_then(|code| {
        out.flush()?;
        Ok(code)
    });
    match result {
        Ok(code) => code,
        // The reader has had enough, as `head` has.
        Err(InspectError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, out: &mut impl Write) -> Result<ExitCode, InspectError> {
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
    Ok(if damage == 0 { ExitCode::SUCCESS } else { ExitCode::from(DAMAGED) })
}

fn print_report(out: &mut impl Write, report: &FileReport, quiet: bool) -> io::Result<()> {
    for damage in &report.damage {
        writeln!(out, "DAMAGED  {damage}")?;
    }
    if report.damage.is_empty() && !quiet && report.batches > 0 {
        let note = if report.being_written { ", more is being written" } else { "" };
        let (file, batches, bytes) = (report.file.display(), report.batches, report.bytes);
        writeln!(out, "ok       {file}: {batches} batches, {bytes} bytes{note}")?;
    }
    Ok(())
}
