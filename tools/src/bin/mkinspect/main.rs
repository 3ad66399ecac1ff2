//! The segment inspector.

use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use mk_tools::InspectError;

mod mend;
mod run;

/// Look into the data directory of an mk broker
///
/// Examples:
///   mkinspect ls ./data
///   mkinspect dump --records ./data/topics/orders/0
///   mkinspect dump -J ./data/topics/orders/0/00000000000000000000.log | jq .count
///   mkinspect verify ./data && echo clean
///   mkinspect map ./data/topics/orders
///   mkinspect stats -J ./data | jq .recordsPerSecond
///   mkinspect diff ./broker1/topics/orders ./broker2/topics/orders
///   mkinspect repair --dry-run ./data
///   mkinspect index rebuild ./data/topics/orders
///
/// Everything but `index rebuild` and `repair` only reads, and works while the broker runs.
/// Exit codes: 0 all well, 1 failed, or `diff` found a difference, 2 usage, 4 damage found.
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
    /// Batches, records, index entries, seals, checkpoints
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
    /// Every batch's checksum and offsets, every index entry, every seal; exit code 4 if anything is
    /// damaged
    Verify {
        #[command(flatten)]
        paths: Paths,
        /// Tell of damaged files only
        #[arg(short, long)]
        quiet: bool,
    },
    /// Sizes, rates, compression, shapes of batches
    ///
    /// Examples:
    ///   mkinspect stats ./data/topics/orders
    ///   mkinspect stats -J ./data | jq '[.path, .records]'
    ///
    /// Reads and unpacks every batch. Compaction leaves offsets without a record. Medians and percentiles are right to one in sixteen.
    #[command(verbatim_doc_comment)]
    Stats {
        #[command(flatten)]
        paths: Paths,
        /// A line of JSON for each partition, and one for all
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// A picture of each partition's segments
    ///
    /// Examples:
    ///   mkinspect map ./data/topics/orders
    ///   mkinspect map --compact ./data
    ///
    /// Damage that shows in lengths is marked; with --verify all that `verify` finds.
    /// Red only on a terminal, and not if NO_COLOR is set.
    #[command(verbatim_doc_comment)]
    Map {
        #[command(flatten)]
        paths: Paths,
        /// One sign a segment
        #[arg(short, long)]
        compact: bool,
        /// Check every byte
        #[arg(long)]
        verify: bool,
    },
    /// Where two replicas differ first
    ///
    /// Examples:
    ///   mkinspect diff ./broker1/topics/orders/0 ./broker2/topics/orders/0
    ///   mkinspect diff ./broker1 ./broker2
    ///
    /// Compares batch by batch from the later log start on, base offsets and leader epochs included.
    /// Folders of topics and data directories are compared by partitions of the same name.
    /// Of batches that were compacted in one of them, the records that both have are compared.
    /// Exit codes: 0 equal; 1 they differ, be it that one is longer or compacted further, or that equal
    /// records are packed otherwise; 4 one of them cannot be read on.
    #[command(verbatim_doc_comment)]
    Diff {
        /// One replica
        a: PathBuf,
        /// The other
        b: PathBuf,
    },
    /// Rebuild what can be rebuilt; cut what cannot, if told to
    ///
    /// Examples:
    ///   mkinspect repair --dry-run ./data
    ///   mkinspect repair -y ./data
    ///   mkinspect repair -y --cut ./data/topics/orders/0
    ///
    /// A compaction that was interrupted is finished, as a start would.
    /// Indexes that do not fit are made anew, seals that do not match are set aside (the broker seals
    /// again), a missing or damaged checkpoint of a sound log is written, leftovers are removed.
    ///
    /// Records that are damaged or missing can only be given up: with --cut the log ends before them,
    /// and every file that is changed or taken away is in a backup before. If another replica is
    /// whole, take its records instead: `mkinspect diff` tells. The broker must be stopped.
    ///
    /// Without -y the plan is shown; a terminal is asked, without one nothing is done.
    /// Exit codes: 0 nothing is left to do; 2 -y is needed; 4 damage is left, which --cut would give
    /// up, or with --dry-run: there is something to do.
    #[command(verbatim_doc_comment)]
    Repair {
        #[command(flatten)]
        paths: Paths,
        /// Tell what would be done, and do nothing
        #[arg(long, conflicts_with = "yes")]
        dry_run: bool,
        /// Do it without asking
        #[arg(short, long)]
        yes: bool,
        /// Give up records that are damaged or missing, after a backup
        #[arg(long)]
        cut: bool,
        /// Where backups go; without it beside the partition: orders/0.backup-<time>
        #[arg(long, value_name = "DIR")]
        backup: Option<PathBuf>,
        /// Bytes of log for each index entry that is made anew
        #[arg(long, default_value_t = 4096)]
        interval_bytes: u64,
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
    let result = run::run(command, &mut out).and_then(|code| {
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
            // What came before it is told before it.
            let _ = out.flush();
            eprintln!("error: {error}");
            if let Some(hint) = error.hint() {
                eprintln!("  hint:  {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
