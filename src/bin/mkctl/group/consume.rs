//! `mkctl consume -g`: as a member of a group.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use mk::client::{
    Acknowledge, Admin, Cluster, Consumer, ConsumerSettings, FetchedBatches, GroupConsumer,
    GroupSettings, OffsetReset, StartAt, offsets,
};
use mk_net::message::At;
use tokio::signal::unix::{SignalKind, signal};

use crate::consume::{OUT_BYTES, Out};
use crate::format::Format;
use crate::offsets::partitions_of;
use crate::outcome::Failure;

/// What to read.
#[derive(Debug)]
pub struct Plan {
    pub group: String,
    pub instance_id: Option<String>,
    pub topics: Vec<String>,
    /// Where to begin with a partition of which the group has no offset: the first record, or what comes.
    pub start: StartAt,
    pub until_end: bool,
    pub count: Option<u64>,
    pub rack: String,
}

/// How often it is looked whether others have read what is left.
const LOOK: Duration = Duration::from_millis(500);

/// Joins the group, prints what it is given, acknowledges what is printed, and leaves at the end or at
/// Ctrl-C.
pub async fn run(cluster: &Cluster, plan: Plan, format: Format) -> Result<(), Failure> {
    let offset_reset = match plan.start {
        StartAt::Earliest => OffsetReset::Earliest,
        StartAt::Latest => OffsetReset::Latest,
        _ => {
            let what = "with -g, -o is start or end: where to begin if the group has not been there\n\
                        hint: mkctl group seek lets a group go on somewhere else";
            return Err(Failure::Usage(what.to_owned()));
        }
    };
    let mut ends = Ends::of(cluster, &plan).await?;
    let rack = plan.rack.clone();
    let settings = GroupSettings {
        instance_id: plan.instance_id.clone(),
        acknowledge: Acknowledge::ByHand,
        consumer: ConsumerSettings { rack, offset_reset, ..ConsumerSettings::default() },
        ..GroupSettings::of(&plan.group)
    };
    let topics: Vec<&str> = plan.topics.iter().map(String::as_str).collect();
    let mut consumer = GroupConsumer::join(cluster.clone(), settings, &topics);
    let printed = print(&mut consumer, cluster, &plan, &mut ends, format).await;
    // Whatever came of it: others go on at once.
    let closed = consumer.close().await;
    printed?;
    Ok(closed?)
}

async fn print(
    consumer: &mut GroupConsumer,
    cluster: &Cluster,
    plan: &Plan,
    ends: &mut Ends,
    format: Format,
) -> Result<(), Failure> {
    let mut out = Out::with_capacity(OUT_BYTES, std::io::stdout().lock());
    let mut left = plan.count.unwrap_or(u64::MAX);
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let mut look = tokio::time::interval(LOOK);
    while left > 0 && !ends.are_reached() {
        let batches = tokio::select! {
            batches = consumer.next() => batches?,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = look.tick(), if plan.until_end => {
                ends.look(cluster, &plan.group).await?;
                continue;
            }
        };
        let mut next = batches.next_offset;
        for record in batches.records() {
            let record = record?;
            if left == 0 {
                next = record.offset.0;
                break;
            }
            format.print(&mut out, &batches, &record)?;
            left -= 1;
        }
        // First it is out, then it is done.
        out.flush()?;
        consumer.acknowledge_before(&batches.topic, batches.partition, next);
        ends.read(&batches, next);
    }
    Ok(out.flush()?)
}

/// Where partitions end that are to be read to their end.
struct Ends {
    /// None: for ever.
    left: Option<BTreeMap<(String, u32), u64>>,
}

impl Ends {
    async fn of(cluster: &Cluster, plan: &Plan) -> Result<Ends, Failure> {
        if !plan.until_end {
            return Ok(Ends { left: None });
        }
        let known = Admin::new(cluster.clone()).committed_offsets(&plan.group).await?;
        let mut left = BTreeMap::new();
        for topic in &plan.topics {
            let partitions: Vec<u32> = (0..cluster.topic(topic).await?.count()).collect();
            let starts = offsets(cluster, topic, &partitions, At::Earliest).await?;
            let ends = offsets(cluster, topic, &partitions, At::Latest).await?;
            for ((partition, start), end) in partitions.into_iter().zip(starts).zip(ends) {
                let place = (topic.clone(), partition);
                let from = match known.get(&place) {
                    // What is deleted by now is begun anew as where the group has not been.
                    Some(committed) if Some(*committed) >= start => Some(*committed),
                    _ if plan.start == StartAt::Latest => end,
                    _ => start,
                };
                if let Some(end) = end.filter(|end| from.is_some_and(|from| from < *end)) {
                    left.insert(place, end);
                }
            }
        }
        Ok(Ends { left: Some(left) })
    }

    fn are_reached(&self) -> bool {
        self.left.as_ref().is_some_and(BTreeMap::is_empty)
    }

    fn read(&mut self, batches: &FetchedBatches, next: u64) {
        let place = (batches.topic.to_string(), batches.partition);
        if let Some(left) = &mut self.left
            && left.get(&place).is_some_and(|end| next >= *end)
        {
            left.remove(&place);
        }
    }

    /// Others of the group read, too.
    async fn look(&mut self, cluster: &Cluster, group: &str) -> Result<(), Failure> {
        let Some(left) = &mut self.left else { return Ok(()) };
        let known = Admin::new(cluster.clone()).committed_offsets(group).await?;
        left.retain(|place, end| known.get(place).is_none_or(|committed| committed < end));
        Ok(())
    }
}

/// Lets a consumer begin where a group is, without a word to the group. Where it has not been, `otherwise`.
pub async fn begin_where_it_is(
    cluster: &Cluster,
    consumer: &Consumer,
    group: &str,
    (topic, partitions): (&str, &[u32]),
    otherwise: StartAt,
) -> Result<Vec<(u32, u64)>, Failure> {
    let known = Admin::new(cluster.clone()).committed_offsets(group).await?;
    let mut starts = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let at = known.get(&(topic.to_owned(), *partition));
        let start = at.map_or(otherwise, |offset| StartAt::Offset(*offset));
        starts.extend(consumer.assign(topic, &[*partition], start).await?);
    }
    Ok(starts)
}

/// Lets a consumer that began where a group is read the partitions, too, that topics got since. How many
/// there were, `counts` says.
pub async fn read_added(
    cluster: &Cluster,
    consumer: &Consumer,
    group: &str,
    counts: &mut BTreeMap<String, u32>,
) -> Result<(), Failure> {
    for (topic, count) in counts {
        let all = partitions_of(cluster, topic).await?;
        let added = all.get(*count as usize..).unwrap_or_default();
        if !added.is_empty() {
            let of = (topic.as_str(), added);
            begin_where_it_is(cluster, consumer, group, of, StartAt::Earliest).await?;
            *count = all.len() as u32;
        }
    }
    Ok(())
}
