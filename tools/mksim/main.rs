//! Runs the simulator: seed after seed without end, or one of them with all that happens in it.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use mk::rule::{Rule, without};
use mk::sim::{Flush, Outcome, Plan, lose_power_everywhere, run};
use parking_lot::Mutex;

/// Simulates clusters: brokers, their disks, the mini-zookeeper, clients and the network between them
/// run in one thread by a clock of their own, and everything that can go wrong does. The same seed is
/// the same run.
///
/// Examples:
///
///   mksim                        seed after seed, until one fails
///   mksim --seed 42 --trace      what happens in one of them
///   mksim --without MaximalIsr   finds a seed that fails without a rule
///   mksim --power-loss os        all machines lose their power: what is gone
#[derive(Parser)]
#[command(name = "mksim", version, verbatim_doc_comment)]
struct Arguments {
    /// Runs this seed alone.
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds; without it there is no end.
    #[arg(long)]
    seeds: Option<u64>,
    /// Prints what happens; with `--seed`.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Leaves a rule out, by its name in `docs/replication.md`.
    #[arg(long, value_parser = rule)]
    without: Option<Rule>,
    /// Goes on behind a seed that fails.
    #[arg(long)]
    keep_going: bool,
    /// Threads; 0: one for each processor.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Instead: a cluster in peace, all of whose machines lose their power at once, with `flush=ack` or
    /// `flush=os`.
    #[arg(long, value_parser = flush)]
    power_loss: Option<Flush>,
}

fn rule(name: &str) -> Result<Rule, String> {
    let known = Rule::ALL.into_iter().find(|rule| format!("{rule:?}") == name);
    known.ok_or_else(|| format!("there are {:?}", Rule::ALL))
}

fn flush(name: &str) -> Result<Flush, String> {
    match name {
        "ack" => Ok(Flush::Ack),
        "os" => Ok(Flush::Os),
        _ => Err("there are ack and os".to_owned()),
    }
}

/// What all runs together came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    failed: u64,
    acknowledged: u64,
    lost: u64,
    elections: u64,
    faults: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.seed {
        Some(seed) => one(&arguments, seed),
        None => many(&arguments),
    }
}

impl Arguments {
    fn run(&self, seed: u64) -> Outcome {
        let plan = Plan { prints: self.trace, ..Plan::of(seed) };
        without(self.without, || match self.power_loss {
            Some(flush) => lose_power_everywhere(&Plan { flush, ..plan }),
            None => run(&plan),
        })
    }
}

#[allow(clippy::print_stdout, reason = "this is what it is asked for")]
fn one(arguments: &Arguments, seed: u64) -> ExitCode {
    let outcome = arguments.run(seed);
    println!(
        "seed {seed}: {} records acknowledged, {} of them lost, {} elections, trace {:016x} of {} \
         events",
        outcome.acknowledged, outcome.lost, outcome.elections, outcome.trace_hash, outcome.events
    );
    println!("faults: {:?}", outcome.faults);
    match outcome.violation {
        Some(what) => {
            println!("FAILED {what}");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

#[allow(clippy::print_stdout, reason = "this is what it is asked for")]
fn many(arguments: &Arguments) -> ExitCode {
    let threads = match arguments.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let next = AtomicU64::new(arguments.from);
    let end = arguments.seeds.map_or(u64::MAX, |seeds| arguments.from.saturating_add(seeds));
    let (stop, sum) = (AtomicBool::new(false), Mutex::new(Sum::default()));
    let start = Instant::now();
    let last_told = Mutex::new(start);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let outcome = arguments.run(seed);
            let mut sum = sum.lock();
            sum.add(&outcome);
            if let Some(what) = outcome.violation {
                println!("seed {seed} FAILED {what}\nagain: mksim --seed {seed} --trace");
                if !arguments.keep_going {
                    stop.store(true, Ordering::Relaxed);
                }
            }
            let mut last_told = last_told.lock();
            if last_told.elapsed() >= Duration::from_secs(10) {
                *last_told = Instant::now();
                sum.print(start.elapsed());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    let sum = sum.into_inner();
    sum.print(start.elapsed());
    if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.failed += u64::from(outcome.violation.is_some());
        self.acknowledged += outcome.acknowledged;
        self.lost += outcome.lost;
        self.elections += outcome.elections;
        self.faults += outcome.faults.values().sum::<u64>();
    }

    #[allow(clippy::print_stdout, reason = "this is what it is asked for")]
    fn print(&self, elapsed: Duration) {
        let Sum { seeds, failed, acknowledged, lost, elections, faults } = self;
        println!(
            "{seeds} seeds in {:.0} s: {faults} faults, {elections} elections, {acknowledged} records \
             acknowledged, {lost} lost; {failed} seeds failed",
            elapsed.as_secs_f64()
        );
    }
}
