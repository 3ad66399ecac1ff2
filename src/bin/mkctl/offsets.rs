//! `mkctl offsets`.

use mk::client::{Admin, Cluster};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{At, FoundOffset};
use serde_json::json;

use crate::completion::topics;
use crate::outcome::Failure;
use crate::place;
use crate::table;

/// Print the offsets of each partition: start and end, or those of a time.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl offsets orders            start and end of each partition
  mkctl offsets orders --at -1h   the first offset of the last hour")]
pub struct OffsetsArgs {
    /// The topic.
    #[arg(add = topics())]
    pub topic: String,
    /// A time: 2026-01-31T12:00:00Z, milliseconds since 1970, -1h.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = place::time)]
    pub at: Option<i64>,
    /// A JSON object a line.
    #[arg(short = 'J', long)]
    pub json: bool,
}

pub async fn run(cluster: &Cluster, args: OffsetsArgs) -> Result<(), Failure> {
    let partitions = partitions_of(cluster, &args.topic).await?;
    let admin = Admin::new(cluster.clone());
    let places: Vec<(&str, At)> = match args.at {
        Some(millis) => vec![("offset", At::Timestamp(millis))],
        None => vec![("start", At::Earliest), ("end", At::Latest)],
    };
    let mut rows: Vec<Vec<Option<u64>>> = vec![Vec::new(); partitions.len()];
    for (_, at) in &places {
        let found = admin.list_offsets(&args.topic, &partitions, *at).await?;
        for (row, found) in rows.iter_mut().zip(found) {
            let FoundOffset { offset, .. } = found.map_err(mk::client::ClientError::from)?;
            row.push(offset);
        }
    }
    if args.json {
        for (partition, row) in partitions.iter().zip(rows) {
            let mut line = json!({ "topic": args.topic, "partition": partition });
            for ((name, _), offset) in places.iter().zip(row) {
                line[*name] = json!(offset);
            }
            table::print_json(&line)?;
        }
        return Ok(());
    }
    let header: Vec<&str> =
        std::iter::once("PARTITION").chain(places.iter().map(|(name, _)| *name)).collect();
    let rows = partitions.iter().zip(rows).map(|(partition, row)| {
        // None is that young: the next record will be.
        let offsets = row.into_iter().map(|offset| offset.map_or("-".into(), |o| o.to_string()));
        std::iter::once(partition.to_string()).chain(offsets).collect()
    });
    table::print(&header, &rows.collect::<Vec<_>>())?;
    Ok(())
}

/// The partitions of a topic that must be there already.
pub async fn partitions_of(cluster: &Cluster, topic: &str) -> Result<Vec<u32>, Failure> {
    let metadata = cluster.metadata(Some(vec![topic.to_owned()]), false).await?;
    let topic = metadata.topics.into_iter().next().ok_or_else(|| {
        let what = "the broker says nothing of it";
        mk::client::ClientError::from(Fault::new(ErrorCode::UNKNOWN_SERVER_ERROR, what))
    })?;
    let places = topic.result.map_err(mk::client::ClientError::from)?;
    Ok((0..places.partitions.len() as u32).collect())
}
