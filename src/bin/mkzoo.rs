//! The mini-zookeeper's program: flags, signals, exit codes.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use mk::settings::ZooSettings;
use mk::zoo::process::{ZooConfig, Zookeeper};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  mkzoo --data ./zoo                        a zookeeper on 127.0.0.1:2181, TCP and UDP
  mkzoo --data ./zoo --listen 127.0.0.1:0   on any free port, which it prints
  mkzoo --data ./zoo --set broker.session.timeout.ms=1s --set min.insync.replicas=1
  mkzoo --settings                          all settings and their defaults
";

/// The mini-zookeeper of a cluster of mkbrokers: watches them and elects leaders.
#[derive(Debug, Parser)]
#[command(version, before_help = EXAMPLES)]
struct Flags {
    /// Data directory; made if there is none.
    #[arg(long, value_name = "DIR", env = "MKZOO_DATA", default_value = "./zoo")]
    data: PathBuf,

    /// Address to listen on, TCP and UDP; port 0 is any free one.
    #[arg(long, value_name = "HOST:PORT", env = "MKZOO_LISTEN", default_value = "127.0.0.1:2181")]
    listen: String,

    /// A setting; may be given again.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    set: Vec<(String, String)>,

    /// Form of the log on stderr. MKZOO_LOG=debug shows more of it.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,

    /// Print all settings, with their defaults and what they do, and end.
    #[arg(long)]
    settings: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

fn name_and_value(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if flags.settings {
        print!("{}", mk::settings::documentation());
        return ExitCode::SUCCESS;
    }
    start_log(flags.log_format);
    mk::panic::end_process_on_panic();
    let settings = match ZooSettings::resolve(&flags.set) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("mkzoo: {error}\nhint: mkzoo --settings lists all settings");
            return ExitCode::from(2);
        }
    };
    let config = ZooConfig { listen: flags.listen, data: flags.data, settings };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .map_err(|error| format!("the system refuses what a zookeeper needs: {error}"))
        .and_then(|runtime| runtime.block_on(run(&config)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mkzoo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("MKZOO_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

async fn run(config: &ZooConfig) -> Result<(), String> {
    // Watched before the start, so that no signal is lost.
    let watch = |kind| signal(kind).map_err(|error| format!("signals cannot be watched: {error}"));
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    let zookeeper = Zookeeper::start(config).map_err(|error| error.to_string())?;
    let found = zookeeper.summary();
    println!(
        "mkzoo ready on {}, data in {}: cluster {}, {} brokers, {} topics",
        zookeeper.address(),
        config.data.display(),
        found.cluster_id,
        found.brokers,
        found.topics
    );
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = zookeeper.ended() => {}
    }
    zookeeper.stop().map_err(|error| error.to_string())?;
    info!("stopped");
    Ok(())
}
