//! What is known of a group, put together: its coordinator knows the members and what was acknowledged,
//! the leaders of the partitions know what there is and what was delivered.

use std::collections::{BTreeMap, BTreeSet};

use mk::client::{Admin, ClientError};
use mk_net::message::{DescribeGroupResponse, PartitionProgress, Redelivered, TopicPartitions};

/// A group at a moment.
#[derive(Debug)]
pub struct View {
    pub group: DescribeGroupResponse,
    pub rows: Vec<Row>,
}

/// A partition of it.
#[derive(Debug)]
pub struct Row {
    pub topic: String,
    pub partition: u32,
    /// The next record that is to be acknowledged.
    pub committed: Option<u64>,
    /// Records that it acknowledges, a second.
    pub acknowledged: u64,
    /// What its leader says, or why it does not.
    pub progress: Result<PartitionProgress, ClientError>,
    pub reader: Option<Reader>,
}

/// Who reads it.
#[derive(Debug)]
pub struct Reader {
    pub member: String,
    pub client_id: String,
    pub host: String,
    /// How long the coordinator has not heard of it, in milliseconds.
    pub heard_ms: u64,
    /// It has been given everything before.
    pub delivered: Option<u64>,
    /// How long it has not asked a broker for records, in milliseconds.
    pub asked_ms: Option<u64>,
    /// How long its program has not asked it for records, in milliseconds.
    pub polled_ms: u64,
    pub paused: bool,
}

/// Who does not ask for so long does not read. A consumer asks anew every ten seconds at least.
const SILENT_MS: u64 = 15_000;
/// A record that is given out so often is one that nobody gets done with.
const AGAIN: u32 = 3;

impl Row {
    /// Behind the last record that consumers see.
    pub fn end(&self) -> Option<u64> {
        self.progress.as_ref().ok().map(|progress| progress.end)
    }

    /// Records that are there and not acknowledged.
    pub fn lag(&self) -> Option<u64> {
        let progress = self.progress.as_ref().ok()?;
        let from = self.committed.unwrap_or(progress.start).max(progress.start);
        Some(progress.end.saturating_sub(from))
    }

    /// How long the first record that is not acknowledged has been there, in milliseconds.
    pub fn behind_ms(&self) -> Option<u64> {
        match self.lag()? {
            0 => Some(0),
            _ => self.progress.as_ref().ok()?.age_ms,
        }
    }

    /// Why it does not get on, if it does not.
    pub fn trouble(&self) -> Option<String> {
        let progress = match &self.progress {
            Ok(progress) => progress,
            Err(error) => return Some(error.to_string()),
        };
        if self.lag() == Some(0) {
            return None;
        }
        if self.committed.is_some_and(|committed| committed < progress.start) {
            return Some("records were deleted before they were acknowledged".to_owned());
        }
        let Some(reader) = &self.reader else { return Some("nobody reads it".to_owned()) };
        if reader.paused {
            return Some("its member has paused it".to_owned());
        }
        if let Some(trouble) = reader.silence(self.committed) {
            return Some(trouble);
        }
        let again = progress.redelivered.as_ref().filter(|again| {
            again.times >= AGAIN && again.offset == self.committed.unwrap_or(progress.start)
        });
        again.map(|Redelivered { offset, times }| {
            format!("record {offset} was given out {times} times and not acknowledged")
        })
    }

    /// Records that come, a second.
    pub fn came(&self) -> Option<u64> {
        Some(self.progress.as_ref().ok()?.in_per_second)
    }

    /// Seconds until nothing is left, if less comes than goes.
    pub fn drained_in(&self) -> Option<f64> {
        let (lag, came, went) = (self.lag()?, self.came()?, self.acknowledged);
        match lag {
            0 => Some(0.0),
            _ => (went > came).then(|| lag as f64 / (went - came) as f64),
        }
    }
}

impl Reader {
    /// What it does not do any more, if it is silent.
    fn silence(&self, committed: Option<u64>) -> Option<String> {
        if self.heard_ms > SILENT_MS {
            return Some(format!("its member was not heard of for {} s", self.heard_ms / 1000));
        }
        let asked = self.asked_ms.unwrap_or(0);
        let seconds = asked.max(self.polled_ms) / 1000;
        if asked.max(self.polled_ms) <= SILENT_MS {
            return None;
        }
        let left = self.delivered.unwrap_or(0).saturating_sub(committed.unwrap_or(0));
        Some(match left {
            0 => format!("its member has not asked for records for {seconds} s"),
            _ => format!(
                "its member has not asked for more for {seconds} s, with {left} unacknowledged"
            ),
        })
    }
}

/// Looks at a group.
pub async fn look(admin: &Admin, group: &str) -> Result<View, ClientError> {
    let described = admin.describe_group(group).await?;
    let mut committed: BTreeMap<(String, u32), (Option<u64>, u64)> = BTreeMap::new();
    for offset in &described.offsets {
        let place = (offset.partition.topic.clone(), offset.partition.partition);
        let known = offset.committed.as_ref().map(|committed| committed.offset);
        committed.insert(place, (known, offset.per_second));
    }
    for member in &described.members {
        for topic in member.assigned.iter().chain(&member.target) {
            for partition in &topic.partitions {
                committed.entry((topic.topic.clone(), *partition)).or_default();
            }
        }
    }
    let topics: BTreeSet<String> = committed.keys().map(|(topic, _)| topic.clone()).collect();
    let mut rows = Vec::with_capacity(committed.len());
    for topic in topics {
        let of = committed.iter().filter(|((name, _), _)| *name == topic);
        let parts: Vec<_> = of.map(|((_, partition), known)| (*partition, *known)).collect();
        let asked = parts.iter().map(|(partition, known)| (*partition, Some(known.0.unwrap_or(0))));
        let told = admin.describe_progress(&topic, group, asked.collect()).await;
        let told = match told {
            Ok(told) => told.into_iter().map(|part| part.map_err(ClientError::from)).collect(),
            Err(error) => vec![Err(error); parts.len()],
        };
        for ((partition, (committed, acknowledged)), progress) in parts.into_iter().zip(told) {
            let reader = reader_of(&described, &topic, partition, &progress);
            let topic = topic.clone();
            rows.push(Row { topic, partition, committed, acknowledged, progress, reader });
        }
    }
    Ok(View { group: described, rows })
}

fn reader_of(
    group: &DescribeGroupResponse,
    topic: &str,
    partition: u32,
    progress: &Result<PartitionProgress, ClientError>,
) -> Option<Reader> {
    let has = |topics: &[TopicPartitions]| {
        topics.iter().any(|t| t.topic == topic && t.partitions.contains(&partition))
    };
    let member = group.members.iter().find(|member| has(&member.assigned))?;
    let seen = progress.as_ref().ok();
    let seen = seen.and_then(|p| p.readers.iter().find(|r| r.reader.member == member.member));
    Some(Reader {
        member: member.member.clone(),
        client_id: member.profile.client_id.clone(),
        host: member.client_host.clone(),
        heard_ms: member.heard_ms,
        delivered: seen.map(|seen| seen.delivered),
        asked_ms: seen.map(|seen| seen.asked_ms),
        polled_ms: member.polled_ms,
        paused: has(&member.paused),
    })
}
