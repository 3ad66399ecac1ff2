//! `mkctl cluster`: bring one up, look at it, see what has happened.

pub mod args;
mod events;
mod health;
mod info;
mod start;

use mk::client::{Admin, Cluster};

use self::args::ClusterCommand;
use crate::outcome::Failure;

pub async fn run(cluster: &Cluster, command: ClusterCommand) -> Result<(), Failure> {
    let admin = Admin::new(cluster.clone());
    match command {
        ClusterCommand::Start(args) => start::run(args).await,
        ClusterCommand::Info { json } => info::run(&admin, json).await,
        ClusterCommand::Health { watch, exit_when_healthy, json } => {
            health::run(&admin, watch, exit_when_healthy, json).await
        }
        ClusterCommand::Events { follow, count, json } => {
            events::run(&admin, follow, count, json).await
        }
    }
}

/// Ids of brokers, as in `1,2,3`.
pub fn ids(ids: &[u32]) -> String {
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}
