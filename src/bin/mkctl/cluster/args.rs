//! The command line of `mkctl cluster`.

use std::path::PathBuf;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    Start(StartArgs),
    /// Show the cluster's id, its brokers, its zookeeper, and partitions that are being moved.
    #[command(before_help = "\
Examples:
  mkctl cluster info
  mkctl cluster info -J | jq '.brokers[] | select(.fenced)'")]
    Info {
        /// A JSON object.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Say what is wrong, in sentences; exit code 10 if anything is.
    #[command(before_help = "\
Examples:
  mkctl cluster health; echo $?   0 all is well, 10 it is not
  mkctl cluster health -w -e      waits until all is well")]
    Health {
        /// Say it again whenever it changes.
        #[arg(short, long)]
        watch: bool,
        /// With --watch: end as soon as nothing is wrong.
        #[arg(short, long, requires = "watch")]
        exit_when_healthy: bool,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Print what has happened: who was heard of last, fenced, elected, with the time between.
    #[command(before_help = "\
Examples:
  mkctl cluster events         the newest fifty
  mkctl cluster events -f -J   as it happens")]
    Events {
        /// Then print what happens.
        #[arg(short, long)]
        follow: bool,
        /// The newest so many; 0: all that are kept.
        #[arg(short = 'n', long, default_value_t = 50)]
        count: u32,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
}

/// Run a zookeeper and brokers on this machine, until Ctrl-C. On the same directory they go on where
/// they were.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl cluster start                                     on 9092 to 9094
  mkctl cluster start --brokers 5 --port 0 --zoo-port 0   on any free ports")]
pub struct StartArgs {
    /// How many brokers.
    #[arg(long, default_value_t = 3)]
    pub brokers: u32,
    /// Directory of all of them; made if there is none.
    #[arg(long, value_name = "DIR", default_value = "./cluster")]
    pub data: PathBuf,
    /// Port of the first broker, the others take those behind it; 0: any free ones.
    #[arg(long, default_value_t = 9092)]
    pub port: u16,
    /// Port of the zookeeper; 0: any free one.
    #[arg(long, default_value_t = 2181)]
    pub zoo_port: u16,
    /// A JSON object a line, for each process that is ready or has ended.
    #[arg(short = 'J', long)]
    pub json: bool,
}
