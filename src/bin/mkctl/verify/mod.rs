//! `mkctl verify`: numbered records in; what is missing, there twice or out of order out.
//!
//! A record's value is `RUN NUMBER/COUNT`: the run's id, the record's number in it, from 0 on, and how many the
//! run has. A number goes to the partition that is its remainder by how many there are, so that each partition has its numbers in
//! order.

mod consume;
mod produce;
mod runs;

use clap::Subcommand;
use mk::client::Cluster;

use crate::completion::topics;
use crate::outcome::Failure;

#[derive(Debug, Subcommand)]
pub enum VerifyCommand {
    /// Send numbered records; print the run's id, by which to look for them.
    #[command(before_help = "\
Examples:
  mkctl verify produce checked -n 1000000")]
    Produce {
        /// The topic; created if there is none. Its number of partitions must stay as it is.
        #[arg(add = topics())]
        topic: String,
        /// How many records.
        #[arg(short = 'n', long, default_value = "100000")]
        records: u64,
        /// Nothing but the run's id.
        #[arg(short, long)]
        quiet: bool,
        /// A JSON object in the place of the run's id.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Read the topic from its start to its end; say what is wrong with each run. Exit code 1 if anything
    /// is.
    #[command(before_help = "\
Examples:
  mkctl verify consume checked
  mkctl verify consume checked --run 0123456789ab -J")]
    Consume {
        /// The topic.
        #[arg(add = topics())]
        topic: String,
        /// Only this run.
        #[arg(long, value_name = "ID")]
        run: Option<String>,
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
}

pub async fn run(cluster: &Cluster, command: VerifyCommand) -> Result<(), Failure> {
    match command {
        VerifyCommand::Produce { topic, records, quiet, json } => {
            produce::run(cluster, &topic, records, (quiet, json)).await
        }
        VerifyCommand::Consume { topic, run, json } => {
            consume::run(cluster, &topic, run.as_deref(), json).await
        }
    }
}
