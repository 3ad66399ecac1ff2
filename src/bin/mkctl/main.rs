//! `mkctl`: produce, consume, and look after topics, as a Unix filter. Data goes to stdout,
//! everything else to stderr.

#[macro_use]
mod say;

mod args;
mod bench;
mod clients;
mod cluster;
mod completion;
mod config;
mod confirm;
mod consume;
mod durability;
mod elect;
mod format;
mod grep;
mod group;
mod json;
mod man;
mod offsets;
mod outcome;
mod partition;
mod place;
mod produce;
mod profile;
mod program;
mod progress;
mod read;
mod report;
mod table;
mod top;
mod topic;
mod verify;

use std::io::IsTerminal;
use std::process::ExitCode;

use args::{Args, Command};
use clap::Parser;
use mk::client::{Cluster, ClusterSettings};
use outcome::Failure;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    completion::answer();
    let args = Args::parse();
    let filter = EnvFilter::try_from_env("MKCTL_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say!("mkctl: the system refuses what it needs: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(run(args));
    // Threads that wait for input must not hold up the end.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(args: Args) -> Result<(), Failure> {
    let settings = ClusterSettings {
        client_id: "mkctl".to_owned(),
        api_timeout: args.timeout,
        connect_timeout: args.timeout.min(ClusterSettings::default().connect_timeout),
        metadata_max_age: std::time::Duration::from_secs(10),
        ..ClusterSettings::default()
    };
    // Not everything that is asked for needs one.
    let cluster = || -> Result<Cluster, Failure> {
        let (given, named) = (args.bootstrap_server.as_deref(), args.profile.as_deref());
        let addresses = profile::addresses(given, named)?;
        let addresses = addresses.split(',').map(|address| address.trim().to_owned());
        Ok(Cluster::new(addresses.collect(), settings))
    };
    match args.command {
        Command::Produce(args) => produce::run(&cluster()?, args).await,
        Command::Consume(args) => consume::run(&cluster()?, args).await,
        Command::Cat(args) => consume::cat(&cluster()?, args).await,
        Command::Tail(args) => consume::tail(&cluster()?, args).await,
        Command::Grep(args) => grep::run(&cluster()?, args).await,
        Command::Topic(command) => topic::run(&cluster()?, command).await,
        Command::Config(command) => config::run(&cluster()?, command).await,
        Command::Offsets(args) => offsets::run(&cluster()?, args).await,
        Command::Clients { partitions, json } => clients::run(&cluster()?, partitions, json).await,
        Command::Group(command) => group::run(&cluster()?, command).await,
        Command::Cluster(command) => cluster::run(&cluster()?, command).await,
        Command::Elect(args) => elect::run(&cluster()?, args).await,
        Command::Partition(command) => partition::run(&cluster()?, command).await,
        Command::Bench(command) => bench::run(&cluster()?, command).await,
        Command::Verify(command) => verify::run(&cluster()?, command).await,
        Command::DurabilityTest(args) => durability::run(args).await,
        Command::Completion { shell } => completion::run(shell),
        Command::Top(args) => top::run(&cluster()?, args).await,
        Command::Profile(command) => profile::run(command),
        Command::Man { dir } => man::run(&dir),
    }
}
