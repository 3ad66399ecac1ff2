//! `mkctl group seek`.

use std::collections::BTreeMap;

use mk::client::{Admin, ClientError, Cluster, StartAt, offsets};
use mk_net::fault::ErrorCode;
use mk_net::message::{At, PartitionOf};
use serde::Deserialize;
use serde_json::json;

use super::delete::has_no_members;
use crate::confirm::Consent;
use crate::offsets::partitions_of;
use crate::outcome::Failure;
use crate::report::Report;
use crate::{place, table};

/// Which partitions.
#[derive(Debug)]
pub struct Wanted {
    /// Of these topics; none is all that the group has offsets of.
    pub topics: Vec<String>,
    /// With these numbers; none is all.
    pub partitions: Vec<u32>,
}

/// Where to.
enum To {
    Place(StartAt),
    /// So many records from where it is.
    By(i64),
    File(String),
}

/// A line of `group describe -J`.
#[derive(Deserialize)]
struct Line {
    topic: String,
    partition: u32,
    acked: Option<u64>,
}

fn parse(text: &str) -> Result<To, Failure> {
    if let Some(path) = text.strip_prefix("file:") {
        return Ok(To::File(path.to_owned()));
    }
    let number = |digits: &str| {
        digits.parse::<i64>().map_err(|_| Failure::Usage(format!("{text} is no number of records")))
    };
    match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(forth), _) => Ok(To::By(number(forth)?)),
        (_, Some(back)) => Ok(To::By(-number(back)?)),
        _ => place::start(text).map(To::Place).map_err(Failure::Usage),
    }
}

pub async fn run(
    cluster: &Cluster,
    group: &str,
    to: &str,
    wanted: &Wanted,
    (consent, as_json): (Consent, bool),
) -> Result<(), Failure> {
    let admin = Admin::new(cluster.clone());
    let to = parse(to)?;
    let known = admin.committed_offsets(group).await?;
    let targets = match to {
        To::File(path) => from_file(&path, wanted)?,
        To::Place(start) => at_place(cluster, &known, wanted, start).await?,
        To::By(count) => {
            let taken =
                known.iter().filter(|((topic, partition), _)| wanted.takes(topic, *partition));
            taken.map(|(place, now)| (place.clone(), now.saturating_add_signed(count))).collect()
        }
    };
    let targets = within(cluster, targets).await?;
    if targets.is_empty() {
        let what = "the group has committed nothing there\nhint: name topics with -t";
        return Err(Failure::Failed(what.to_owned()));
    }
    refuse_members(&admin, group).await?;
    if !as_json {
        let rows = targets.iter().map(|((topic, partition), offset)| {
            let before = known.get(&(topic.clone(), *partition));
            let before = before.map_or_else(|| "-".to_owned(), u64::to_string);
            vec![topic.clone(), partition.to_string(), before, offset.to_string()]
        });
        table::print(&["TOPIC", "PARTITION", "FROM", "TO"], &rows.collect::<Vec<_>>())?;
    }
    let done = consent.to(&format!("let group {group} go on there"))?;
    let moved: Vec<(PartitionOf, u64)> = targets
        .into_iter()
        .map(|((topic, partition), offset)| (PartitionOf { topic, partition }, offset))
        .collect();
    let results = match done {
        true => admin.set_offsets(group, &moved).await?,
        false => vec![Ok(()); moved.len()],
    };
    let mut report = Report::new(as_json);
    for ((of, to), result) in moved.into_iter().zip(results) {
        let PartitionOf { topic, partition } = of;
        let words = format!("{topic}:{partition} goes on at {to}");
        let from = known.get(&(topic.clone(), partition));
        let what = json!({
            "group": group, "topic": topic, "partition": partition, "from": from, "to": to
        });
        match result {
            Ok(()) if done || as_json => report.went_well(what, done, &words)?,
            Ok(()) => {}
            Err(fault) => report.failed(what, &fault.into())?,
        }
    }
    report.end()
}

/// A group that is not there yet has none either.
async fn refuse_members(admin: &Admin, group: &str) -> Result<(), ClientError> {
    match admin.describe_group(group).await {
        Ok(described) => Ok(has_no_members(group, &described)?),
        Err(error) if error.code() == Some(ErrorCode::GROUP_ID_NOT_FOUND) => Ok(()),
        Err(error) => Err(error),
    }
}

type Places = BTreeMap<(String, u32), u64>;

impl Wanted {
    fn takes(&self, topic: &str, partition: u32) -> bool {
        (self.topics.is_empty() || self.topics.iter().any(|name| name == topic))
            && (self.partitions.is_empty() || self.partitions.contains(&partition))
    }

    /// The partitions of each topic.
    async fn each(
        &self,
        cluster: &Cluster,
        known: &Places,
    ) -> Result<BTreeMap<String, Vec<u32>>, Failure> {
        let mut each: BTreeMap<String, Vec<u32>> = BTreeMap::new();
        if self.topics.is_empty() {
            for (topic, partition) in known.keys().filter(|(t, p)| self.takes(t, *p)) {
                each.entry(topic.clone()).or_default().push(*partition);
            }
            return Ok(each);
        }
        for topic in &self.topics {
            let all = partitions_of(cluster, topic).await?.into_iter();
            each.insert(topic.clone(), all.filter(|p| self.takes(topic, *p)).collect());
        }
        Ok(each)
    }
}

fn from_file(path: &str, wanted: &Wanted) -> Result<Places, Failure> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Failure::Failed(format!("cannot read {path}: {error}")))?;
    let mut places = Places::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let line: Line = serde_json::from_str(line).map_err(|error| {
            let hint = "the lines of mkctl group describe -J are read";
            Failure::Failed(format!("{path}, line {}: {error}\nhint: {hint}", number + 1))
        })?;
        if let Some(acked) = line.acked.filter(|_| wanted.takes(&line.topic, line.partition)) {
            places.insert((line.topic, line.partition), acked);
        }
    }
    Ok(places)
}

/// The same, but not outside of what the logs have.
async fn within(cluster: &Cluster, mut places: Places) -> Result<Places, Failure> {
    let mut topics: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for (topic, partition) in places.keys() {
        topics.entry(topic.clone()).or_default().push(*partition);
    }
    for (topic, partitions) in topics {
        let starts = offsets(cluster, &topic, &partitions, At::Earliest).await?;
        let ends = offsets(cluster, &topic, &partitions, At::Latest).await?;
        for ((partition, start), end) in partitions.into_iter().zip(starts).zip(ends) {
            if let (Some(offset), Some(start), Some(end)) =
                (places.get_mut(&(topic.clone(), partition)), start, end)
            {
                *offset = (*offset).clamp(start, end.max(start));
            }
        }
    }
    Ok(places)
}

async fn at_place(
    cluster: &Cluster,
    known: &Places,
    wanted: &Wanted,
    start: StartAt,
) -> Result<Places, Failure> {
    let mut places = Places::new();
    for (topic, partitions) in wanted.each(cluster, known).await? {
        let ends = offsets(cluster, &topic, &partitions, At::Latest).await?;
        let found = match start {
            StartAt::Earliest => offsets(cluster, &topic, &partitions, At::Earliest).await?,
            StartAt::Timestamp(millis) => {
                offsets(cluster, &topic, &partitions, At::Timestamp(millis)).await?
            }
            StartAt::Offset(offset) => vec![Some(offset); partitions.len()],
            // `-N` is from where the group is, and was taken before.
            StartAt::Latest | StartAt::Last(_) => ends.clone(),
        };
        for ((partition, found), end) in partitions.into_iter().zip(found).zip(ends) {
            if let Some(offset) = found.or(end) {
                places.insert((topic.clone(), partition), offset);
            }
        }
    }
    Ok(places)
}
