//! `mkctl partition`.

use std::time::Duration;

use clap::Subcommand;
use mk::client::{Admin, ClientError, Cluster};
use mk_net::message::{DescribedMove, DescribedPartition, PartitionOf};
use serde_json::json;

use crate::args::partition;
use crate::cluster::ids;
use crate::completion::partitions;
use crate::outcome::Failure;
use crate::table;

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
        #[arg(value_name = "TOPIC:PARTITION", value_parser = partition, add = partitions())]
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
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
}

/// So often is looked how far it is.
const INTERVAL: Duration = Duration::from_millis(500);

pub async fn run(cluster: &Cluster, command: PartitionCommand) -> Result<(), Failure> {
    let PartitionCommand::Move { partition: (topic, partition), to, throttle, cancel, wait, json } =
        command;
    let Some(partition) = partition else {
        return Err(Failure::Usage(
            "a move is of one partition\nhint: name it, as in orders:0".to_owned(),
        ));
    };
    let admin = Admin::new(cluster.clone());
    let of = PartitionOf { topic, partition };
    if cancel {
        admin.cancel_move(of.clone()).await?;
        return tell(
            &of,
            &State { name: "cancelled", words: "stays where it was", far: None },
            json,
        );
    }
    let version = admin.move_partition(of.clone(), to.clone(), throttle).await?;
    let words = format!("goes to {}", ids(&to));
    tell(&of, &State { name: "moving", words: &words, far: None }, json)?;
    if wait { until_there(&admin, &of, version, json).await } else { Ok(()) }
}

/// How it is with a move.
struct State<'a> {
    name: &'static str,
    words: &'a str,
    far: Option<&'a Far>,
}

fn tell(of: &PartitionOf, state: &State<'_>, as_json: bool) -> Result<(), Failure> {
    let PartitionOf { topic, partition } = of;
    if !as_json {
        say!("{topic}:{partition} {}", state.words);
        return Ok(());
    }
    let behind = state.far.and_then(|far| far.behind.as_ref());
    let behind = behind.map(|behind| {
        let one = |(broker, has, all): &(u32, u64, u64)| json!({ "broker": broker, "has": has, "of": all });
        behind.iter().map(one).collect::<Vec<_>>()
    });
    Ok(table::print_json(&json!({
        "topic": topic,
        "partition": partition,
        "state": state.name,
        "arrived": state.far.map(|far| &far.arrived),
        "behind": behind,
    }))?)
}

/// Waits until the move that the state has from `version` on is in it no more.
async fn until_there(
    admin: &Admin,
    of: &PartitionOf,
    version: u64,
    as_json: bool,
) -> Result<(), Failure> {
    let mut last = None;
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
            return tell(of, &State { name: "there", words: "is there", far: None }, as_json);
        };
        let now = Far::of(&moving, described(admin, of).await?.as_ref());
        if last.as_ref() != Some(&now) {
            let words = now.words(&moving);
            tell(of, &State { name: "moving", words: &words, far: Some(&now) }, as_json)?;
            last = Some(now);
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

/// How far those are that a partition goes to.
#[derive(Debug, PartialEq, Eq)]
struct Far {
    /// Who is in sync.
    arrived: Vec<u32>,
    /// Who is not, with how many records it has, of how many; none if the leader does not say it.
    behind: Option<Vec<(u32, u64, u64)>>,
}

impl Far {
    fn of(moving: &DescribedMove, partition: Option<&DescribedPartition>) -> Far {
        let behind = partition.map(|partition| {
            let start = partition.log_start_offset;
            let all = partition.log_end_offset.saturating_sub(start);
            let missing = moving.to.iter().filter(|id| !moving.arrived.contains(id));
            let one = missing.map(|id| {
                let ends = &partition.follower_ends;
                let end =
                    ends.iter().find(|(follower, _)| follower == id).map_or(0, |(_, end)| *end);
                (*id, end.saturating_sub(start).min(all), all)
            });
            one.collect()
        });
        Far { arrived: moving.arrived.clone(), behind }
    }

    fn words(&self, moving: &DescribedMove) -> String {
        let mut text = format!("{} of {} are in sync", self.arrived.len(), moving.to.len());
        let Some(behind) = &self.behind else {
            return format!("{text}; its leader does not say how far the others are");
        };
        for (id, has, all) in behind {
            let percent = (has * 100).checked_div(*all).unwrap_or(100);
            text += &format!("; broker {id} has {has} of {all} records ({percent} %)");
        }
        text
    }
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
            Far::of(&moving, Some(&partition)).words(&moving),
            "1 of 3 are in sync; broker 3 has 50 of 200 records (25 %); broker 4 has 0 of 200 records (0 %)"
        );
        let empty = DescribedPartition { log_end_offset: 100, ..partition };
        assert!(
            Far::of(&moving, Some(&empty))
                .words(&moving)
                .ends_with("broker 4 has 0 of 0 records (100 %)")
        );
    }
}
