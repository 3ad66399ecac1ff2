//! `mkctl verify consume`.

use std::collections::BTreeMap;

use mk::client::{Cluster, Consumer, ConsumerSettings, StartAt, offsets};
use mk_net::message::At;
use serde_json::json;

use super::runs::{Run, Runs};
use crate::offsets::partitions_of;
use crate::outcome::Failure;
use crate::table;

/// Ranges that are named; of more it is told how many there are.
const MOST_GAPS: usize = 20;

pub async fn run(
    cluster: &Cluster,
    topic: &str,
    run: Option<&str>,
    json: bool,
) -> Result<(), Failure> {
    let runs = read(cluster, topic).await?;
    let chosen = runs.chosen(run);
    if chosen.is_empty() {
        let what = match run {
            Some(run) => format!(
                "topic '{topic}' has no record of run {run}\nhint: without --run all runs are told of"
            ),
            None => format!(
                "topic '{topic}' has no record of a run\nhint: mkctl verify produce {topic} sends some"
            ),
        };
        return Err(Failure::Failed(what));
    }
    for (id, run) in &chosen {
        match json {
            true => table::print_json(&as_json(id, run))?,
            false => table::print_lines([as_text(id, run)])?,
        }
    }
    match chosen.iter().all(|(_, run)| run.is_sound()) {
        true => Ok(()),
        false => Err(Failure::Reported),
    }
}

fn as_text(id: &str, run: &Run) -> String {
    let gaps = run.gaps();
    let missing: u64 = gaps.iter().map(|(first, last)| last - first + 1).sum();
    let named: Vec<String> = gaps.iter().take(MOST_GAPS).map(range).collect();
    let named = if named.is_empty() { String::new() } else { format!(" ({})", named.join(", ")) };
    format!(
        "run {id}: {} numbers, {missing} missing{named}, {} twice, {} out of order",
        run.distinct(),
        run.doubles(),
        run.misordered
    )
}

fn range((first, last): &(u64, u64)) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}

fn as_json(id: &str, run: &Run) -> serde_json::Value {
    json!({
        "run": id,
        "numbers": run.distinct(),
        "missing": run.gaps(),
        "twice": run.doubles(),
        "misordered": run.misordered,
        "sound": run.is_sound(),
    })
}

/// Reads the topic, which is not created, from its start to where it ends now.
async fn read(cluster: &Cluster, topic: &str) -> Result<Runs, Failure> {
    let partitions = partitions_of(cluster, topic).await?;
    let ends = offsets(cluster, topic, &partitions, At::Latest).await?;
    let mut consumer = Consumer::new(cluster.clone(), ConsumerSettings::default());
    let starts = consumer.assign(topic, &partitions, StartAt::Earliest).await?;
    let ends = partitions.into_iter().zip(ends.into_iter().flatten());
    let mut left: BTreeMap<u32, u64> = ends.collect();
    for (partition, start) in starts {
        left.retain(|other, end| *other != partition || *end > start);
    }
    let mut runs = Runs::default();
    while !left.is_empty() {
        let batches = consumer.next().await?;
        let end = left.get(&batches.partition).copied().unwrap_or(0);
        for record in batches.records() {
            let record = record?;
            if record.offset.0 < end {
                runs.note(batches.partition, record.value.as_deref().unwrap_or_default());
            }
        }
        if batches.next_offset >= end {
            left.remove(&batches.partition);
        }
    }
    Ok(runs)
}
