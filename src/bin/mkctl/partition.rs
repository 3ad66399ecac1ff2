//! `mkctl partition`.

use std::time::Duration;

use mk::client::{Admin, Cluster};
use mk_net::message::PartitionOf;

use crate::args::PartitionCommand;
use crate::cluster::ids;
use crate::outcome::Failure;

const INTERVAL: Duration = Duration::from_millis(200);

pub async fn run(cluster: &Cluster, command: PartitionCommand) -> Result<(), Failure> {
    let PartitionCommand::Move { partition: (topic, partition), to, cancel, wait } = command;
    let Some(partition) = partition else {
        return Err(Failure::Usage("name the partition, as in orders:0".to_owned()));
    };
    let admin = Admin::new(cluster.clone());
    let of = PartitionOf { topic, partition };
    if cancel {
        admin.move_partition(of.clone(), None).await?;
        eprintln!("{}:{} stays where it was", of.topic, of.partition);
        return Ok(());
    }
    admin.move_partition(of.clone(), Some(to.clone())).await?;
    eprintln!("{}:{} goes to {}", of.topic, of.partition, ids(&to));
    if wait { until_there(&admin, &of).await } else { Ok(()) }
}

async fn until_there(admin: &Admin, of: &PartitionOf) -> Result<(), Failure> {
    let mut last = None;
    loop {
        let cluster = admin.describe_cluster(false).await?;
        let mut moves = cluster.moves.into_iter();
        let mine =
            moves.find(|moving| moving.topic == of.topic && moving.partition == of.partition);
        let Some(moving) = mine else {
            eprintln!("{}:{} is there", of.topic, of.partition);
            return Ok(());
        };
        if last.as_ref() != Some(&moving.arrived) {
            let (arrived, to) = (moving.arrived.len(), moving.to.len());
            eprintln!("{arrived} of {to} are in sync: {}", ids(&moving.arrived));
            last = Some(moving.arrived);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}
