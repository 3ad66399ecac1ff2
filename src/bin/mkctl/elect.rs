//! `mkctl elect`.

use mk::client::{Admin, Cluster};
use mk_net::fault::ErrorCode;
use mk_net::message::{Election, PartitionOf};

use crate::args::partition;
use crate::confirm::confirm;
use crate::outcome::{Failure, describe};

/// Have the preferred replicas lead, or, where nobody does, any that lives.
///
///   mkctl elect                       wherever the preferred replica is in sync and does not lead
///   mkctl elect orders orders.eu:3    all of a topic, one partition
///   mkctl elect --unclean orders:0    somebody leads again; records may be lost
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct ElectArgs {
    /// Partitions; without any, all for which it makes sense.
    #[arg(value_name = "TOPIC[:PARTITION]", value_parser = partition)]
    pub partitions: Vec<(String, Option<u32>)>,
    /// Any replica that lives, of partitions that nobody leads. Records may be lost.
    #[arg(long)]
    pub unclean: bool,
    /// Only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

pub async fn run(cluster: &Cluster, args: ElectArgs) -> Result<(), Failure> {
    let ElectArgs { partitions, unclean, dry_run, yes } = args;
    let election = if unclean { Election::Unclean } else { Election::Preferred };
    let what = match unclean {
        true => "elect replicas that may lack records which were acknowledged",
        false => "let the preferred replicas lead that are in sync",
    };
    // Where all replicas have all there is, nothing is to be asked.
    if !confirm(what, yes || !unclean && !dry_run, dry_run)? {
        return Ok(());
    }
    let admin = Admin::new(cluster.clone());
    let partitions = match partitions.is_empty() {
        true => None,
        false => Some(all_of(&admin, partitions).await?),
    };
    let elected = admin.elect_leaders(election, partitions).await?;
    if elected.is_empty() {
        eprintln!("nobody is to be elected: each partition that can is led as it should be");
    }
    let mut failed = false;
    for (PartitionOf { topic, partition }, result) in elected {
        match result {
            Ok(Some(leader)) => eprintln!("{topic}:{partition} broker {leader} leads"),
            Ok(None) => eprintln!("{topic}:{partition} nobody leads"),
            Err(fault) if fault.code == ErrorCode::ELECTION_NOT_NEEDED => {
                eprintln!("{topic}:{partition} {}", fault.message);
            }
            Err(fault) => {
                eprintln!("mkctl: {topic}:{partition}: {}", describe(&fault.into()));
                failed = true;
            }
        }
    }
    if failed { Err(Failure::Reported) } else { Ok(()) }
}

/// A topic's name stands for all of its partitions.
async fn all_of(
    admin: &Admin,
    named: Vec<(String, Option<u32>)>,
) -> Result<Vec<PartitionOf>, Failure> {
    let mut all = Vec::new();
    for (topic, partition) in named {
        if let Some(partition) = partition {
            all.push(PartitionOf { topic, partition });
            continue;
        }
        let metadata = admin.metadata(Some(vec![topic.clone()])).await?;
        for found in metadata.topics {
            let places = found.result.map_err(mk::client::ClientError::from)?;
            all.extend(places.partitions.iter().map(|place| {
                let (topic, partition) = (topic.clone(), place.partition);
                PartitionOf { topic, partition }
            }));
        }
    }
    Ok(all)
}
