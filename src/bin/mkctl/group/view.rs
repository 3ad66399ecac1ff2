//! What is known of a group, put together: its coordinator knows the members and what was acknowledged,
//! the leaders of the partitions know what there is and what was delivered.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use mk::client::{Admin, ClientError};
use mk_net::message::{DescribeGroupResponse, PartitionProgress};

/// A group at a moment.
#[derive(Debug)]
pub struct View {
    pub group: DescribeGroupResponse,
    pub rows: Vec<Row>,
    pub at: Instant,
}

/// A partition of it.
#[derive(Debug)]
pub struct Row {
    pub topic: String,
    pub partition: u32,
    /// The next record that is to be acknowledged.
    pub committed: Option<u64>,
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
    /// How long it has not asked for records, in milliseconds.
    pub asked_ms: Option<u64>,
}

/// Who does not ask for so long does not read. A consumer asks anew every ten seconds at least.
const SILENT_MS: u64 = 15_000;

impl Row {
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
        let silent = reader.asked_ms.filter(|asked| *asked > SILENT_MS);
        if let Some(asked) = silent {
            let seconds = asked / 1000;
            return Some(match reader.delivered.zip(self.committed) {
                Some((delivered, committed)) if delivered > committed => {
                    format!(
                        "its member has not asked for more for {seconds} s, with {} unacknowledged",
                        delivered - committed
                    )
                }
                _ => format!("its member has not asked for records for {seconds} s"),
            });
        }
        None
    }
}

/// Looks at a group.
pub async fn look(admin: &Admin, group: &str) -> Result<View, ClientError> {
    let described = admin.describe_group(group).await?;
    let mut committed: BTreeMap<(String, u32), Option<u64>> = BTreeMap::new();
    for offset in &described.offsets {
        let place = (offset.partition.topic.clone(), offset.partition.partition);
        committed.insert(place, offset.committed.as_ref().map(|committed| committed.offset));
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
        let parts: Vec<(u32, Option<u64>)> = of.map(|((_, p), c)| (*p, *c)).collect();
        let asked =
            parts.iter().map(|(partition, committed)| (*partition, Some(committed.unwrap_or(0))));
        let told = admin.describe_progress(&topic, group, asked.collect()).await;
        let told = match told {
            Ok(told) => told.into_iter().map(|part| part.map_err(ClientError::from)).collect(),
            Err(error) => vec![Err(error); parts.len()],
        };
        for ((partition, committed), progress) in parts.into_iter().zip(told) {
            let reader = reader_of(&described, &topic, partition, &progress);
            rows.push(Row { topic: topic.clone(), partition, committed, progress, reader });
        }
    }
    Ok(View { group: described, rows, at: Instant::now() })
}

fn reader_of(
    group: &DescribeGroupResponse,
    topic: &str,
    partition: u32,
    progress: &Result<PartitionProgress, ClientError>,
) -> Option<Reader> {
    let member = group.members.iter().find(|member| {
        let mut assigned = member.assigned.iter();
        assigned.any(|t| t.topic == topic && t.partitions.contains(&partition))
    })?;
    let seen = progress.as_ref().ok();
    let seen = seen.and_then(|p| p.readers.iter().find(|r| r.reader.member == member.member));
    Some(Reader {
        member: member.member.clone(),
        client_id: member.profile.client_id.clone(),
        host: member.client_host.clone(),
        heard_ms: member.heard_ms,
        delivered: seen.map(|seen| seen.delivered),
        asked_ms: seen.map(|seen| seen.asked_ms),
    })
}
