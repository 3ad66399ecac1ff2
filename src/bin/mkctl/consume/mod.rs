//! `mkctl consume`, `cat` and `tail`.

pub mod args;

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::time::Duration;

use mk::client::{Cluster, Consumer, ConsumerSettings, FetchedBatches, StartAt, offsets};
use mk_net::message::At;
use mk_storage::batch::Record;

use self::args::{CatArgs, ConsumeArgs, TailArgs};
use crate::format::Format;
use crate::group::consume as group;
use crate::outcome::Failure;

/// What to read.
#[derive(Debug)]
pub struct Plan {
    pub topics: Vec<String>,
    pub start: StartAt,
    /// Begin where this group is, if it has been there.
    pub group: Option<String>,
    /// End at the end offsets seen at the start.
    pub until_end: bool,
    /// End after so many records.
    pub count: Option<u64>,
    /// Only these partitions; none is all.
    pub partitions: Vec<u32>,
    /// Read from replicas in this rack; empty: from leaders.
    pub rack: String,
}

/// Where output goes.
pub type Out = BufWriter<std::io::StdoutLock<'static>>;

pub const OUT_BYTES: usize = 256 << 10;
/// How often it is looked whether there are more partitions, where the consumer does not do it.
const LOOK: Duration = Duration::from_secs(1);

pub async fn run(cluster: &Cluster, args: ConsumeArgs) -> Result<(), Failure> {
    let format = Format::of(&args.output).map_err(Failure::Usage)?;
    let rack = args.rack.unwrap_or_default();
    if let Some(group) = args.group.clone().filter(|_| !args.no_commit) {
        let plan = group::Plan {
            group,
            instance_id: args.instance_id,
            topics: args.topics,
            start: args.offset.unwrap_or(StartAt::Earliest),
            until_end: args.end,
            count: args.count,
            rack,
        };
        return group::run(cluster, plan, format).await;
    }
    let otherwise = if args.group.is_some() { StartAt::Earliest } else { StartAt::Latest };
    let plan = Plan {
        topics: args.topics,
        start: args.offset.unwrap_or(otherwise),
        group: args.group,
        until_end: args.end,
        count: args.count,
        partitions: args.partitions,
        rack,
    };
    print(cluster, plan, format).await
}

pub async fn cat(cluster: &Cluster, args: CatArgs) -> Result<(), Failure> {
    let format = Format::of(&args.output).map_err(Failure::Usage)?;
    let plan = Plan {
        topics: args.topics,
        start: StartAt::Earliest,
        group: None,
        until_end: true,
        count: None,
        partitions: vec![],
        rack: String::new(),
    };
    print(cluster, plan, format).await
}

pub async fn tail(cluster: &Cluster, args: TailArgs) -> Result<(), Failure> {
    let format = if args.json { Format::Json } else { Format::lines() };
    let plan = Plan {
        topics: args.topics,
        start: StartAt::Last(args.count),
        group: None,
        until_end: !args.follow,
        count: None,
        partitions: vec![],
        rack: String::new(),
    };
    print(cluster, plan, format).await
}

async fn print(cluster: &Cluster, plan: Plan, format: Format) -> Result<(), Failure> {
    read(cluster, plan, |out, from, record| {
        format.print(out, from, record)?;
        Ok(true)
    })
    .await
}

/// Reads, and gives each record to `each`, which says whether it counts.
pub async fn read(
    cluster: &Cluster,
    plan: Plan,
    mut each: impl FnMut(&mut Out, &FetchedBatches, &Record) -> std::io::Result<bool>,
) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(OUT_BYTES, std::io::stdout().lock());
    let settings = ConsumerSettings { rack: plan.rack.clone(), ..Default::default() };
    let mut consumer = Consumer::new(cluster.clone(), settings);
    let Begun { mut ends, mut counts } = begin(cluster, &consumer, &plan).await?;
    let mut look = tokio::time::interval(LOOK);
    let mut left = plan.count.unwrap_or(u64::MAX);
    while left > 0 && !(plan.until_end && ends.is_empty()) {
        let batches = tokio::select! {
            batches = next(&mut consumer, &mut out) => batches?,
            _ = look.tick(), if !plan.until_end => {
                if let Some(group) = &plan.group {
                    // Whoever cannot be asked is asked again; what is read says what is wrong.
                    let _ = group::read_added(cluster, &consumer, group, &mut counts).await;
                }
                continue;
            }
        };
        let key = (batches.topic.to_string(), batches.partition);
        let end = match (plan.until_end, ends.get(&key)) {
            (true, None) => continue,
            (true, Some(end)) => *end,
            (false, _) => u64::MAX,
        };
        for record in batches.records() {
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    out.flush()?;
                    return Err(error.into());
                }
            };
            if record.offset.0 >= end {
                break;
            }
            left -= u64::from(each(&mut out, &batches, &record)?);
            if left == 0 {
                break;
            }
        }
        if plan.until_end && batches.next_offset >= end {
            ends.remove(&key);
            consumer.unassign(&key.0, key.1)?;
        }
    }
    out.flush()?;
    Ok(())
}

/// What is read.
#[derive(Default)]
struct Begun {
    /// Where each partition ends that has something to read, if the end is to be the end.
    ends: BTreeMap<(String, u32), u64>,
    /// How many partitions each topic has of which all are read.
    counts: BTreeMap<String, u32>,
}

/// Assigns what is to be read.
async fn begin(cluster: &Cluster, consumer: &Consumer, plan: &Plan) -> Result<Begun, Failure> {
    let mut begun = Begun::default();
    for topic in &plan.topics {
        let mut partitions = plan.partitions.clone();
        if partitions.is_empty() {
            let count = cluster.topic(topic).await?.count();
            partitions = (0..count).collect();
            begun.counts.insert(topic.clone(), count);
        }
        if !plan.until_end {
            if let Some(group) = &plan.group {
                let of = (topic.as_str(), partitions.as_slice());
                group::begin_where_it_is(cluster, consumer, group, of, plan.start).await?;
            } else if plan.partitions.is_empty() {
                consumer.subscribe(topic, plan.start).await?;
            } else {
                consumer.assign(topic, &partitions, plan.start).await?;
            }
            continue;
        }
        let ends = offsets(cluster, topic, &partitions, At::Latest).await?;
        let starts = match &plan.group {
            Some(group) => {
                let of = (topic.as_str(), partitions.as_slice());
                group::begin_where_it_is(cluster, consumer, group, of, plan.start).await?
            }
            None => consumer.assign(topic, &partitions, plan.start).await?,
        };
        for ((partition, start), end) in starts.into_iter().zip(ends.into_iter().flatten()) {
            if start < end {
                begun.ends.insert((topic.clone(), partition), end);
            } else {
                consumer.unassign(topic, partition)?;
            }
        }
    }
    Ok(begun)
}

/// The next batches. Before it waits for them, what was printed is sent on its way.
async fn next(consumer: &mut Consumer, out: &mut Out) -> Result<FetchedBatches, Failure> {
    let at_hand = tokio::select! {
        biased;
        batches = consumer.next() => Some(batches),
        () = std::future::ready(()) => None,
    };
    let batches = match at_hand {
        Some(batches) => batches,
        None => {
            out.flush()?;
            consumer.next().await
        }
    };
    Ok(batches?)
}
