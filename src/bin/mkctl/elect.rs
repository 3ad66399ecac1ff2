//! `mkctl elect`.

use mk::client::{Admin, Cluster};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{DescribedBroker, Election, PartitionMetadata, PartitionOf};
use serde_json::json;

use crate::args::partition;
use crate::completion::partitions;
use crate::confirm::Consent;
use crate::outcome::Failure;
use crate::report::Report;

/// Have the preferred replicas lead, or, where nobody does, any that lives.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl elect                                preferred replicas that could lead
  mkctl elect orders orders.eu:3             all of a topic, one partition
  mkctl elect --unclean orders:0 --dry-run   who would lead it
  mkctl elect --unclean orders:0             somebody leads again")]
pub struct ElectArgs {
    /// Partitions; without any, all for which it makes sense.
    #[arg(value_name = "TOPIC[:PARTITION]", value_parser = partition, add = partitions())]
    pub partitions: Vec<(String, Option<u32>)>,
    /// Any replica that lives, of partitions that nobody leads. Records may be lost.
    #[arg(long)]
    pub unclean: bool,
    #[command(flatten)]
    pub consent: Consent,
    /// A JSON object a line.
    #[arg(short = 'J', long)]
    pub json: bool,
}

pub async fn run(cluster: &Cluster, args: ElectArgs) -> Result<(), Failure> {
    let election = if args.unclean { Election::Unclean } else { Election::Preferred };
    let admin = Admin::new(cluster.clone());
    let named = match args.partitions.is_empty() {
        true => None,
        false => Some(all_of(&admin, args.partitions).await?),
    };
    // Where all replicas have all there is, nothing is to be asked.
    if args.consent.dry_run || args.unclean && !args.consent.yes {
        let would = foresee(&admin, election, named.clone()).await?;
        let elected = would.iter().filter_map(|(of, leader)| Some((of, leader.as_ref().ok()?)));
        let each: Vec<String> = elected
            .map(|(of, leader)| format!("let broker {leader} lead {}:{}", of.topic, of.partition))
            .collect();
        let risk = match args.unclean {
            true => ", though it may lack records that were acknowledged",
            false => "",
        };
        if each.is_empty() || !args.consent.to(&format!("{}{risk}", each.join(", ")))? {
            let would = would.into_iter().map(|(of, leader)| (of, leader.map(Some)));
            return tell(would.collect(), false, args.json);
        }
    }
    tell(admin.elect_leaders(election, named).await?, true, args.json)
}

/// Says what became of each partition, or would.
fn tell(
    elected: Vec<(PartitionOf, Result<Option<u32>, Fault>)>,
    done: bool,
    as_json: bool,
) -> Result<(), Failure> {
    if elected.is_empty() {
        say!("nobody is to be elected: each partition that can is led as it should be");
    }
    let mut report = Report::new(as_json);
    for (PartitionOf { topic, partition }, result) in elected {
        let place = format!("{topic}:{partition}");
        let line = |leader: Option<u32>| json!({ "topic": topic, "partition": partition, "leader": leader });
        match result {
            Ok(leader) if done || as_json => {
                let who = leader.map_or("nobody".to_owned(), |leader| format!("broker {leader}"));
                report.went_well(line(leader), done, &format!("{place} {who} leads"))?;
            }
            Ok(_) => {}
            Err(fault) if fault.code == ErrorCode::ELECTION_NOT_NEEDED => {
                report.went_well(line(None), false, &format!("{place} {}", fault.message))?;
            }
            Err(fault) => {
                let message = format!("{place}: {}", fault.message);
                report.failed(line(None), &Fault { message, ..fault }.into())?;
            }
        }
    }
    report.end()
}

/// Who would lead, as far as the broker that answers knows: by the mini-zookeeper's rules.
async fn foresee(
    admin: &Admin,
    election: Election,
    named: Option<Vec<PartitionOf>>,
) -> Result<Vec<(PartitionOf, Result<u32, Fault>)>, Failure> {
    let brokers = admin.describe_cluster(false).await?.brokers;
    let mut all = Vec::new();
    for topic in admin.metadata(None).await?.topics {
        for place in topic.result.iter().flat_map(|places| &places.partitions) {
            let of = PartitionOf { topic: topic.name.clone(), partition: place.partition };
            all.push((of, elected(election, place, &brokers)));
        }
    }
    let Some(named) = named else {
        all.retain(|(_, result)| result.is_ok());
        return Ok(all);
    };
    let found = named.into_iter().map(|of| {
        let found = all.iter().find(|(known, _)| *known == of);
        found.cloned().unwrap_or_else(|| {
            let what = "there is no such partition";
            (of, Err(Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what)))
        })
    });
    Ok(found.collect())
}

fn elected(
    election: Election,
    place: &PartitionMetadata,
    brokers: &[DescribedBroker],
) -> Result<u32, Fault> {
    let lives = |id: &u32| brokers.iter().any(|broker| broker.id == *id && !broker.fenced);
    let stays = |id: &u32| brokers.iter().any(|broker| broker.id == *id && !broker.stopping);
    let leads =
        |id: u32| Fault::new(ErrorCode::ELECTION_NOT_NEEDED, format!("broker {id} leads already"));
    let nobody =
        || Fault::new(ErrorCode::ELIGIBLE_LEADERS_NOT_AVAILABLE, "none of its replicas lives");
    match (election, place.leader) {
        (Election::Unclean, Some(leader)) => Err(leads(leader)),
        (Election::Unclean, None) => place.replicas.iter().copied().find(lives).ok_or_else(nobody),
        (Election::Preferred, leader) => {
            let preferred = *place.replicas.first().ok_or_else(nobody)?;
            if leader == Some(preferred) {
                Err(leads(preferred))
            } else if place.in_sync_replicas.contains(&preferred)
                && lives(&preferred)
                && stays(&preferred)
            {
                Ok(preferred)
            } else {
                let what = format!("its preferred leader, broker {preferred}, is not in sync");
                Err(Fault::new(ErrorCode::PREFERRED_LEADER_NOT_AVAILABLE, what))
            }
        }
    }
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
