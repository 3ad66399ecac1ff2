//! `mkctl partition`.

use std::time::Duration;

use clap::Subcommand;
use mk::client::{Admin, ClientError, Cluster};
use mk_net::message::{DescribedMove, DescribedPartition, PartitionOf};

use crate::args::partition;
use crate::cluster::ids;
use crate::outcome::Failure;

#[derive(Debug, Subcommand)]
pub enum PartitionCommand {
    /// Move a partition to other brokers, the preferred leader first. The new ones are added, and
    /// the others go once all of them are in sync.
    #[command(before_help = "\
Examples:
  mkctl partition move orders:0 --to 1,2,4 --wait   says how far it is
  mkctl partition move orders:0 --to 1,2,4 --throttle 20MiB
  mkctl partition move orders:0 --cancel            it stays where it was")]
    Move {
        /// The partition.
        #[arg(value_name = "TOPIC:PARTITION", value_parser = partition)]
        partition: (String, Option<u32>),
        /// The brokers, by their ids.
        #[arg(
            long,
            value_name = "ID,ID,...",
            value_delimiter = ',',
            required_unless_present = "cancel"
        )]
        to: Vec<u32>,
        /// How fast each new replica fetches, in bytes a second, such as 20MiB; without it as fast as
        /// it can. The same move asked for again gets another throttle.
        #[arg(long, value_name = "RATE", value_parser = rate)]
        throttle: Option<u64>,
        /// Let it stay where it was.
        #[arg(long, conflicts_with_all = ["to", "wait", "throttle"])]
        cancel: bool,
        /// Wait until it is there, and say how far it is.
        #[arg(long)]
        wait: bool,
    },
}

/// So often is looked how far it is.
const INTERVAL: Duration = Duration::from_millis(500);

pub async fn run(cluster: &Cluster, command: PartitionCommand) -> Result<(), Failure> {
    let PartitionCommand::Move { partition: (topic, partition), to, throttle, cancel, wait } =
        command;
    let Some(partition) = partition else {
        return Err(Failure::Usage("name the partition, as in orders:0".to_owned()));
    };
    let admin = Admin::new(cluster.clone());
    let of = PartitionOf { topic, partition };
    if cancel {
        admin.cancel_move(of.clone()).await?;
        eprintln!("{}:{} stays where it was", of.topic, of.partition);
        return Ok(());
    }
    let version = admin.move_partition(of.clone(), to.clone(), throttle).await?;
    eprintln!("{}:{} goes to {}", of.topic, of.partition, ids(&to));
    if wait { until_there(&admin, &of, version).await } else { Ok(()) }
}

/// Waits until the move that the state has from `version` on is in it no more.
async fn until_there(admin: &Admin, of: &PartitionOf, version: u64) -> Result<(), Failure> {
    let mut last = String::new();
    loop {
        let cluster = admin.describe_cluster(false).await?;
        if cluster.state_version < version {
            tokio::time::sleep(INTERVAL).await;
            continue;
        }
        let mut moves = cluster.moves.into_iter();
        let mine =
            moves.find(|moving| moving.topic == of.topic && moving.partition == of.partition);
        let Some(moving) = mine else {
            eprintln!("{}:{} is there", of.topic, of.partition);
            return Ok(());
        };
        let now = progress(&moving, described(admin, of).await?.as_ref());
        if now != last {
            eprintln!("{now}");
            last = now;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The partition as its leader has it, if it can be asked.
async fn described(
    admin: &Admin,
    of: &PartitionOf,
) -> Result<Option<DescribedPartition>, ClientError> {
    let topics = admin.describe_topics(Some(vec![of.topic.clone()])).await?;
    let topic =
        topics.into_iter().find_map(|(name, topic)| topic.ok().filter(|_| name == of.topic));
    let partitions = topic.map(|topic| topic.partitions).unwrap_or_default();
    let mine = partitions.into_iter().find(|partition| partition.partition == of.partition);
    Ok(mine.filter(|partition| partition.fault.is_none()))
}

/// Who of those that it goes to is in sync, and how far the others are.
fn progress(moving: &DescribedMove, partition: Option<&DescribedPartition>) -> String {
    let (arrived, to) = (moving.arrived.len(), moving.to.len());
    let mut text = format!("{arrived} of {to} are in sync");
    let Some(partition) = partition else {
        return format!("{text}; its leader does not say how far the others are");
    };
    let start = partition.log_start_offset;
    let all = partition.log_end_offset.saturating_sub(start);
    for id in moving.to.iter().filter(|id| !moving.arrived.contains(id)) {
        let ends = &partition.follower_ends;
        let end = ends.iter().find(|(follower, _)| follower == id).map_or(0, |(_, end)| *end);
        let has = end.saturating_sub(start).min(all);
        let percent = (has * 100).checked_div(all).unwrap_or(100);
        text += &format!("; broker {id} has {has} of {all} records ({percent} %)");
    }
    text
}

fn rate(text: &str) -> Result<u64, String> {
    let rate = mk::settings::parse_bytes(text.trim_end_matches("/s"));
    rate.filter(|rate| *rate > 0).ok_or_else(|| "bytes a second, such as 20MiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_how_far_those_are_that_are_not_there() {
        let moving = DescribedMove {
            topic: "t".to_owned(),
            partition: 0,
            from: vec![1, 2],
            to: vec![2, 3, 4],
            arrived: vec![2],
            throttle: None,
        };
        let partition = DescribedPartition {
            partition: 0,
            log_start_offset: 100,
            high_watermark: 300,
            log_end_offset: 300,
            size_bytes: 1,
            segments: 1,
            follower_ends: vec![(1, 300), (2, 300), (3, 150)],
            fault: None,
            damage: None,
        };
        assert_eq!(
            progress(&moving, Some(&partition)),
            "1 of 3 are in sync; broker 3 has 50 of 200 records (25 %); broker 4 has 0 of 200 records (0 %)"
        );
        let empty = DescribedPartition { log_end_offset: 100, ..partition };
        assert!(progress(&moving, Some(&empty)).ends_with("broker 4 has 0 of 0 records (100 %)"));
    }
}
