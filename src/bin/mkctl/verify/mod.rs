//! `mkctl verify`: numbered records in; what is missing, there twice or out of order out.
//!
//! A record's value is `RUN NUMBER/COUNT`: the run's id, the record's number in it, from 0 on, and how many the
//! run has. A number goes to the partition that is its remainder by how many there are, so that each partition has its numbers in
//! order.

mod consume;
mod produce;
mod runs;

use mk::client::Cluster;

use crate::args::VerifyCommand;
use crate::outcome::Failure;

pub async fn run(cluster: &Cluster, command: VerifyCommand) -> Result<(), Failure> {
    match command {
        VerifyCommand::Produce { topic, records, quiet } => {
            produce::run(cluster, &topic, records, quiet).await
        }
        VerifyCommand::Consume { topic, run, json } => {
            consume::run(cluster, &topic, run.as_deref(), json).await
        }
    }
}
