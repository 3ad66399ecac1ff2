//! `mkctl topic delete` and `trim`: what goes is told before it goes.

use indicatif::HumanBytes;
use mk::client::{Admin, ClientError, Cluster, StartAt, offsets};
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{AlterTopic, At, DescribedPartition, DescribedTopic};
use serde_json::{Value, json};

use super::args::{DeleteArgs, TrimArgs};
use super::sizes;
use crate::outcome::Failure;
use crate::report::Report;

/// A topic that is to go.
struct Going {
    name: String,
    partitions: usize,
    records: u64,
    bytes: u64,
    /// Partitions of which nobody knows what they have.
    unknown: usize,
}

pub async fn delete(admin: &Admin, args: DeleteArgs) -> Result<(), Failure> {
    let mut report = Report::new(args.json);
    let mut going = Vec::new();
    for (name, described) in admin.describe_topics(Some(args.names)).await? {
        let refused = match described {
            Ok(topic) => match may_be_changed(admin, &name).await {
                Ok(()) => {
                    going.push(Going::of(name, &topic));
                    continue;
                }
                Err(error) => error,
            },
            Err(fault) => ClientError::from(fault),
        };
        if !(args.if_exists && refused.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)) {
            report.failed(json!({ "topic": name }), &refused)?;
        }
    }
    let what: Vec<String> = going.iter().map(|topic| topic.text()).collect();
    if going.is_empty() {
        return report.end();
    }
    if !args.consent.to(&format!("delete {}", what.join(", ")))? {
        for topic in going.iter().filter(|_| args.json) {
            report.went_well(topic.json(), false, "")?;
        }
        return report.end();
    }
    let names = going.iter().map(|topic| topic.name.clone()).collect();
    for (topic, deleted) in going.iter().zip(admin.delete_topics(names).await?) {
        let gone = args.if_exists && deleted.result.as_ref().is_err_and(is_unknown);
        match deleted.result {
            Err(fault) if !gone => report.failed(topic.json(), &fault.into())?,
            _ => report.went_well(topic.json(), true, &format!("{}: deleted", topic.name))?,
        }
    }
    report.end()
}

fn is_unknown(fault: &Fault) -> bool {
    fault.code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
}

/// An error if brokers refuse to change a topic: a change of nothing, only to hear whether it would work.
async fn may_be_changed(admin: &Admin, name: &str) -> Result<(), ClientError> {
    let name = name.to_owned();
    let nothing = AlterTopic { name, set: Vec::new(), unset: Vec::new(), validate_only: true };
    admin.alter_topic(nothing).await.map(drop)
}

impl Going {
    fn of(name: String, topic: &DescribedTopic) -> Going {
        let (records, bytes) = sizes(topic);
        let partitions = &topic.partitions;
        let unknown = partitions.iter().filter(|partition| partition.fault.is_some()).count();
        Going { name, partitions: partitions.len(), records, bytes, unknown }
    }

    fn text(&self) -> String {
        let Going { name, partitions, records, bytes, unknown } = self;
        let unknown = match unknown {
            0 => String::new(),
            unknown => format!(", and what {unknown} partitions have that do not answer"),
        };
        format!(
            "{name} ({partitions} partitions, {records} records, {}{unknown})",
            HumanBytes(*bytes)
        )
    }

    fn json(&self) -> Value {
        json!({
            "topic": self.name,
            "partitions": self.partitions,
            "records": self.records,
            "bytes": self.bytes,
        })
    }
}

/// What is to go of a partition.
struct Cut {
    partition: u32,
    /// Everything below; the largest number: all there is.
    before: u64,
    start: u64,
    records: u64,
    bytes: u64,
}

pub async fn trim(cluster: &Cluster, admin: &Admin, args: TrimArgs) -> Result<(), Failure> {
    let name = args.name.as_str();
    let topic = describe(admin, name).await?;
    may_be_changed(admin, name).await?;
    let mut partitions = args.partitions;
    if partitions.is_empty() {
        partitions = topic.partitions.iter().map(|partition| partition.partition).collect();
    }
    let mut report = Report::new(args.json);
    let mut cuts = Vec::new();
    for (partition, before) in places(cluster, name, partitions, args.before).await? {
        match cut(name, &topic, partition, before) {
            Ok(cut) => cuts.push(cut),
            Err(fault) => {
                report.failed(json!({ "topic": name, "partition": partition }), &fault.into())?;
            }
        }
    }
    if cuts.is_empty() {
        return report.end();
    }
    let text = cuts.iter().map(Cut::text).collect::<Vec<_>>().join(", ");
    if !args.consent.to(&format!("remove records of {name}: {text}"))? {
        for cut in cuts.iter().filter(|_| args.json) {
            report.went_well(cut.json(name, cut.start), false, "")?;
        }
        return report.end();
    }
    let before: Vec<(u32, u64)> = cuts.iter().map(|cut| (cut.partition, cut.before)).collect();
    for (cut, start) in cuts.iter().zip(admin.trim(name, &before).await?) {
        match start {
            Ok(start) => {
                let words = format!("{name} partition {}: begins at {start}", cut.partition);
                report.went_well(cut.json(name, start), true, &words)?;
            }
            Err(fault) => report.failed(cut.json(name, cut.start), &fault.into())?,
        }
    }
    report.end()
}

async fn describe(admin: &Admin, name: &str) -> Result<DescribedTopic, ClientError> {
    let described = admin.describe_topics(Some(vec![name.to_owned()])).await?;
    let missing = || Fault::new(ErrorCode::UNKNOWN_SERVER_ERROR, "the broker says nothing of it");
    let described = described.into_iter().next().map(|(_, described)| described);
    Ok(described.unwrap_or_else(|| Err(missing()))?)
}

/// Below which offset everything goes, of each partition.
async fn places(
    cluster: &Cluster,
    name: &str,
    partitions: Vec<u32>,
    before: StartAt,
) -> Result<Vec<(u32, u64)>, Failure> {
    let places: Vec<u64> = match before {
        StartAt::Offset(offset) => vec![offset; partitions.len()],
        StartAt::Latest => vec![u64::MAX; partitions.len()],
        StartAt::Timestamp(millis) => {
            let found = offsets(cluster, name, &partitions, At::Timestamp(millis)).await?;
            // No record is that young: all are before.
            found.into_iter().map(|offset| offset.unwrap_or(u64::MAX)).collect()
        }
        StartAt::Earliest | StartAt::Last(_) => {
            let what = "--before takes an offset, end or @TIME".to_owned();
            return Err(Failure::Usage(what));
        }
    };
    Ok(partitions.into_iter().zip(places).collect())
}

/// What goes of a partition; an error where the broker would refuse it.
fn cut(name: &str, topic: &DescribedTopic, partition: u32, before: u64) -> Result<Cut, Fault> {
    let found = topic.partitions.iter().find(|found| found.partition == partition);
    let found = found.ok_or_else(|| {
        let what = format!("topic '{name}' has no partition {partition}");
        Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what)
    })?;
    if let Some(fault) = &found.fault {
        return Err(fault.clone());
    }
    let DescribedPartition { log_start_offset, high_watermark, log_end_offset, .. } = *found;
    if before > high_watermark && before != u64::MAX {
        let what = format!("offset {before} is beyond what is committed, {high_watermark}");
        return Err(Fault::new(ErrorCode::OFFSET_OUT_OF_RANGE, what));
    }
    let start = before.min(high_watermark).max(log_start_offset);
    let records = start - log_start_offset;
    let all = u128::from(log_end_offset.saturating_sub(log_start_offset));
    // Records are not all of the same size; how large those are that go shows only on the disk.
    let share = u128::from(found.size_bytes) * u128::from(records);
    let bytes = share.checked_div(all).unwrap_or(0) as u64;
    Ok(Cut { partition, before, start, records, bytes })
}

impl Cut {
    fn text(&self) -> String {
        let Cut { partition, start, records, bytes, .. } = self;
        let bytes = HumanBytes(*bytes);
        format!("{records} (about {bytes}) of partition {partition}, all below {start}")
    }

    fn json(&self, topic: &str, start: u64) -> Value {
        json!({
            "topic": topic,
            "partition": self.partition,
            "start": start,
            "records": self.records,
            "bytes": self.bytes,
        })
    }
}
