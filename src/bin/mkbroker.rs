//! The broker's program: flags, signals, exit codes.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use mk::broker::{Broker, BrokerConfig};
use mk::settings::{BrokerSettings, Layers, SettingError};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

const EXAMPLES: &str = "\
Examples:
  mkbroker --data ./data                        a broker on 127.0.0.1:9092
  mkbroker --data ./data --listen 127.0.0.1:0   on any free port, which it prints
  mkbroker --data ./data --set num.partitions=8 --set log.flush.policy=interval:50ms
  mkbroker --zoo 127.0.0.1:2181 --set broker.id=2 --data ./data2 --listen 127.0.0.1:9093
                                                a broker of a cluster
  mkbroker --settings                           all settings and their defaults

Then, elsewhere:
  echo hello | mkctl produce greetings
  mkctl consume greetings -o start -e
";

/// A log broker in the manner of Apache Kafka.
#[derive(Debug, Parser)]
#[command(version, before_help = EXAMPLES)]
struct Flags {
    /// Data directory; made if there is none.
    #[arg(long, value_name = "DIR", env = "MKBROKER_DATA", default_value = "./data")]
    data: PathBuf,

    /// Address to listen on; port 0 is any free one.
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "MKBROKER_LISTEN",
        default_value = "127.0.0.1:9092"
    )]
    listen: String,

    /// The cluster's mini-zookeeper. Without it the broker stands alone, and carries it inside.
    #[arg(long, value_name = "HOST:PORT", env = "MKBROKER_ZOO")]
    zoo: Option<String>,

    /// TOML file of settings.
    #[arg(long, value_name = "FILE", env = "MKBROKER_CONFIG")]
    config: Option<PathBuf>,

    /// A setting; may be given again. Comes before MKBROKER_… variables and the file.
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    set: Vec<(String, String)>,

    /// Form of the log on stderr. MKBROKER_LOG=debug shows more of it.
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
    let settings = match read_settings(&flags) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("mkbroker: {error}\nhint: mkbroker --settings lists all settings");
            return ExitCode::from(2);
        }
    };
    let config = BrokerConfig { listen: flags.listen, data: flags.data, zoo: flags.zoo, settings };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .map_err(|error| format!("the system refuses what a broker needs: {error}"))
        .and_then(|runtime| runtime.block_on(run(&config)));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mkbroker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_log(format: LogFormat) {
    let filter = EnvFilter::try_from_env("MKBROKER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => log.with_target(false).init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

fn read_settings(flags: &Flags) -> Result<BrokerSettings, SettingError> {
    let mut layers = Layers { flags: flags.set.clone(), ..Layers::default() };
    if let Some(path) = &flags.config {
        layers = layers.with_file(path)?;
    }
    BrokerSettings::resolve(&layers.with_environment(std::env::vars())?)
}

/// After so long it is said that the broker still waits for its cluster.
const LONG_WAIT: Duration = Duration::from_secs(10);

async fn run(config: &BrokerConfig) -> Result<(), String> {
    // Watched before the start, so that a signal during a long recovery is not lost.
    let watch = |kind| signal(kind).map_err(|error| format!("signals cannot be watched: {error}"));
    let mut terminate = watch(SignalKind::terminate())?;
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut broker = Broker::start(config).map_err(|error| error.to_string())?;
    let mut ready = when_ready(&mut broker);
    let mut is_ready = false;
    loop {
        tokio::select! {
            Some(()) = ready.recv() => {
                is_ready = true;
                println!(
                    "mkbroker {} ready on {}, data in {}: {}",
                    broker.id(),
                    broker.address(),
                    config.data.display(),
                    broker.recovery()
                );
            }
            () = tokio::time::sleep(LONG_WAIT), if !is_ready => warn!(
                "the zookeeper has not taken the broker in yet: it must be reached by TCP to register, \
                 and by UDP for heartbeats"
            ),
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    info!("stopping; once more to stop at once");
    let stop = tokio::task::spawn_blocking(|| broker.stop());
    tokio::select! {
        stopped = stop => match stopped {
            Ok(result) => result.map_err(|error| error.to_string())?,
            Err(panic) => return Err(format!("the stop has panicked: {panic}")),
        },
        () = async { tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} } } => {
            error!("stopped at once; the next start recovers");
            std::process::exit(1);
        }
    }
    info!("stopped");
    Ok(())
}

/// Told when the broker is ready, for the first time. A broker of a cluster may wait for long.
fn when_ready(broker: &mut Broker) -> tokio::sync::mpsc::Receiver<()> {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let ready = broker.when_ready();
    std::thread::spawn(move || {
        if ready.is_some_and(|ready| ready.recv().is_ok()) {
            let _ = sender.blocking_send(());
        }
    });
    receiver
}
