//! A cluster at a moment, and what has moved since another.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mk::client::{Admin, ClientError};
use mk_net::message::{
    DescribeClusterResponse, DescribedBroker, DescribedClient, DescribedTopic, ListedGroup,
    MetadataResponse,
};

use crate::group::view::{self, Row, View};

/// A cluster at a moment.
pub struct Sample {
    at: Instant,
    pub cluster: DescribeClusterResponse,
    pub metadata: MetadataResponse,
    pub topics: BTreeMap<String, Topic>,
    pub groups: Vec<Group>,
    pub clients: Vec<(u32, DescribedClient)>,
}

/// What its leaders say of a topic.
pub struct Topic {
    pub partitions: usize,
    pub records: u64,
    pub bytes: u64,
    /// Records that were ever committed.
    end: u64,
}

/// A group; with what is known of its partitions, if it was asked for.
pub struct Group {
    pub listed: ListedGroup,
    view: Option<View>,
}

/// Groups that are asked for one by one: those with the most members.
const MOST_GROUPS: usize = 10;

/// Looks at the cluster.
pub async fn look(admin: &Admin) -> Result<Sample, ClientError> {
    let cluster = admin.describe_cluster(false).await?;
    let metadata = admin.metadata(None).await?;
    let described = admin.describe_topics(None).await?.into_iter();
    let topics = described.filter_map(|(name, topic)| Some((name, Topic::of(&topic.ok()?))));
    let topics = topics.collect();
    let (mut listed, _) = admin.list_groups().await?;
    listed.sort_by_key(|group| Reverse(group.members));
    let mut groups = Vec::with_capacity(listed.len());
    for (place, listed) in listed.into_iter().enumerate() {
        let view = match place < MOST_GROUPS {
            true => view::look(admin, &listed.group).await.ok(),
            false => None,
        };
        groups.push(Group { listed, view });
    }
    let (clients, _) = admin.list_clients().await?;
    Ok(Sample { at: Instant::now(), cluster, metadata, topics, groups, clients })
}

/// How it is with the partitions of a cluster.
#[derive(Default)]
pub struct Health {
    pub partitions: usize,
    pub leaderless: usize,
    pub not_in_sync: usize,
}

impl Sample {
    pub fn health(&self) -> Health {
        let mut health = Health::default();
        for topic in self.metadata.topics.iter().filter_map(|topic| topic.result.as_ref().ok()) {
            for partition in &topic.partitions {
                let is_missing = partition.in_sync_replicas.len() < partition.replicas.len();
                health.partitions += 1;
                health.leaderless += usize::from(partition.leader.is_none());
                health.not_in_sync += usize::from(is_missing);
            }
        }
        health
    }

    /// How many partitions a broker leads.
    pub fn leads(&self, broker: u32) -> usize {
        let topics = self.metadata.topics.iter().filter_map(|topic| topic.result.as_ref().ok());
        let partitions = topics.flat_map(|topic| &topic.partitions);
        partitions.filter(|partition| partition.leader == Some(broker)).count()
    }

    /// Bytes a second that come to a broker from its clients, and go to them.
    pub fn traffic(&self, broker: u32) -> (u64, u64) {
        let clients = self.clients.iter().filter(|(id, _)| *id == broker);
        clients.fold((0, 0), |(came, went), (_, client)| {
            (came + client.in_per_second, went + client.out_per_second)
        })
    }

    /// Records a second that were committed to a topic since a moment before.
    pub fn rate(&self, name: &str, before: Option<&Sample>) -> Option<f64> {
        let earlier = before?.topics.get(name)?;
        let now = self.topics.get(name)?;
        Some(now.end.saturating_sub(earlier.end) as f64 / self.seconds_since(before?))
    }

    fn seconds_since(&self, before: &Sample) -> f64 {
        self.at.duration_since(before.at).max(Duration::from_millis(1)).as_secs_f64()
    }
}

impl Topic {
    fn of(topic: &DescribedTopic) -> Topic {
        let (records, bytes) = crate::topic::sizes(topic);
        let end = topic.partitions.iter().map(|partition| partition.high_watermark).sum();
        Topic { partitions: topic.partitions.len(), records, bytes, end }
    }
}

impl Group {
    /// Records that it has not acknowledged.
    pub fn lag(&self) -> Option<u64> {
        Some(self.view.as_ref()?.rows.iter().filter_map(Row::lag).sum())
    }

    /// Records a second that come into what it reads, and that it acknowledges.
    pub fn rates(&self) -> Option<(u64, u64)> {
        let rows = &self.view.as_ref()?.rows;
        let came = rows.iter().filter_map(Row::came).sum();
        Some((came, rows.iter().map(|row| row.acknowledged).sum()))
    }

    /// How long the oldest of them has been there, in milliseconds.
    pub fn behind_ms(&self) -> Option<u64> {
        self.view.as_ref()?.rows.iter().filter_map(Row::behind_ms).max()
    }
}

/// How it is with a broker.
pub fn state_of(broker: &DescribedBroker) -> &'static str {
    match (broker.fenced, broker.stopping) {
        (true, _) => "fenced",
        (false, true) => "stopping",
        (false, false) => "up",
    }
}
