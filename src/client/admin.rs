//! Topics, settings, offsets.

use std::collections::BTreeMap;

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    AddPartitions, AlterTopic, AlterTopicResponse, ApiVersions, ApiVersionsResponse, At,
    ClusterEvent, ClusterEvents, CreateTopics, CreatedTopic, DeleteTopics, DescribeCluster,
    DescribeClusterResponse, DescribeTopics, DescribedClient, DescribedTopic, ElectLeaders,
    Election, FoundOffset, ListClients, ListOffsets, ListOffsetsPart, MetadataResponse,
    MovePartitions, NewTopic, PartitionMove, PartitionOf, TopicPlaces, TopicResult, TrimPart,
    TrimTopic,
};

use super::by_leader::{self, Parted};
use super::cluster::Cluster;
use super::error::ClientError;

/// What brokers have told, each with its id; and those that could not be asked, and why.
pub type Asked<T> = (Vec<(u32, T)>, Vec<(u32, ClientError)>);

/// Looks after a cluster.
#[derive(Clone, Debug)]
pub struct Admin {
    pub(super) cluster: Cluster,
}

impl Admin {
    /// For this cluster.
    pub fn new(cluster: Cluster) -> Admin {
        Admin { cluster }
    }

    /// What the broker speaks.
    pub async fn api_versions(&self) -> Result<ApiVersionsResponse, ClientError> {
        let request = ApiVersions {
            client_software_name: "mk".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        self.cluster.call_any(&request, true).await
    }

    /// The clients that are connected, by broker; and the brokers that could not be asked.
    pub async fn list_clients(&self) -> Result<Asked<DescribedClient>, ClientError> {
        let metadata = self.cluster.metadata(Some(Vec::new()), false).await?;
        let (mut clients, mut failed) = (Vec::new(), Vec::new());
        for broker in &metadata.brokers {
            match self.cluster.call_broker(broker.id, &ListClients {}).await {
                Ok(answer) => clients.extend(answer.clients.into_iter().map(|c| (broker.id, c))),
                Err(error) => failed.push((broker.id, error)),
            }
        }
        Ok((clients, failed))
    }

    /// Brokers and topics; creates nothing.
    pub async fn metadata(
        &self,
        topics: Option<Vec<String>>,
    ) -> Result<MetadataResponse, ClientError> {
        self.cluster.metadata(topics, false).await
    }

    /// Creates topics, or says whether it would work. A result for each.
    pub async fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        validate_only: bool,
    ) -> Result<Vec<CreatedTopic>, ClientError> {
        let request = CreateTopics { topics, validate_only };
        Ok(self.cluster.call_any(&request, false).await?.topics)
    }

    /// Deletes topics with their records. A result for each.
    pub async fn delete_topics(&self, names: Vec<String>) -> Result<Vec<TopicResult>, ClientError> {
        for name in &names {
            self.cluster.forget(name);
        }
        Ok(self.cluster.call_any(&DeleteTopics { names }, false).await?.topics)
    }

    /// Settings and sizes of topics; `None` is all. A result for each. The sizes of a partition are
    /// those that its leader has; where it cannot be reached, its fault says so.
    pub async fn describe_topics(
        &self,
        names: Option<Vec<String>>,
    ) -> Result<Vec<(String, Result<DescribedTopic, Fault>)>, ClientError> {
        let metadata = self.cluster.metadata(names.clone(), false).await?;
        let request = DescribeTopics { names };
        let mut topics = self.cluster.call_any(&request, true).await?.topics;
        let mut told: BTreeMap<u32, Vec<DescribedByName>> = BTreeMap::new();
        if metadata.brokers.len() > 1 {
            for broker in &metadata.brokers {
                if let Ok(answer) = self.cluster.call_broker(broker.id, &request).await {
                    told.insert(broker.id, answer.topics);
                }
            }
            for (name, topic) in &mut topics {
                let places = metadata.topics.iter().find(|known| known.name == *name);
                if let (Ok(topic), Some(Ok(places))) = (topic, places.map(|p| &p.result)) {
                    take_from_leaders(name, topic, places, &told);
                }
            }
        }
        Ok(topics)
    }

    /// The cluster as its mini-zookeeper has it.
    pub async fn describe_cluster(
        &self,
        ask_zookeeper: bool,
    ) -> Result<DescribeClusterResponse, ClientError> {
        self.cluster.call_any(&DescribeCluster { ask_zookeeper }, true).await
    }

    /// What has happened behind an event; at most so many, the newest; 0: all.
    pub async fn cluster_events(
        &self,
        after: u64,
        most: u32,
    ) -> Result<Vec<ClusterEvent>, ClientError> {
        Ok(self.cluster.call_any(&ClusterEvents { after, most }, true).await?.events)
    }

    /// Elects leaders of these partitions; `None`: wherever it makes sense. The leader then, of each.
    pub async fn elect_leaders(
        &self,
        election: Election,
        partitions: Option<Vec<PartitionOf>>,
    ) -> Result<Vec<(PartitionOf, Result<Option<u32>, Fault>)>, ClientError> {
        let request = ElectLeaders { election, partitions };
        Ok(self.cluster.call_any(&request, false).await?.partitions)
    }

    /// Begins to give a partition other replicas, the preferred leader first, each of which fetches
    /// at most `throttle` bytes a second. Asked for again it goes on with another throttle.
    ///
    /// It has arrived when a broker whose state is not older than the version answered describes the
    /// cluster without the move.
    pub async fn move_partition(
        &self,
        partition: PartitionOf,
        replicas: Vec<u32>,
        throttle: Option<u64>,
    ) -> Result<u64, ClientError> {
        self.change_move(PartitionMove { partition, replicas: Some(replicas), throttle }).await
    }

    /// Lets a partition that is being moved stay where it was.
    pub async fn cancel_move(&self, partition: PartitionOf) -> Result<(), ClientError> {
        self.change_move(PartitionMove { partition, replicas: None, throttle: None }).await?;
        Ok(())
    }

    async fn change_move(&self, change: PartitionMove) -> Result<u64, ClientError> {
        let moves = vec![change];
        let answer = self.cluster.call_any(&MovePartitions { moves }, true).await?;
        let result = answer.moves.into_iter().next();
        let missing =
            || Fault::new(ErrorCode::UNKNOWN_SERVER_ERROR, "the broker says nothing of it");
        result.unwrap_or_else(|| Err(missing())).map_err(ClientError::Broker)?;
        Ok(answer.state_version)
    }

    /// Changes a topic's own settings, or says whether it would work; answers all that it then
    /// has.
    pub async fn alter_topic(
        &self,
        request: AlterTopic,
    ) -> Result<AlterTopicResponse, ClientError> {
        self.cluster.call_any(&request, true).await
    }

    /// Lets a topic grow to `total` partitions, or says whether it would work.
    pub async fn add_partitions(
        &self,
        name: &str,
        total: u32,
        validate_only: bool,
    ) -> Result<u32, ClientError> {
        let request = AddPartitions { name: name.to_owned(), total, validate_only };
        let partitions = self.cluster.call_any(&request, false).await?.partitions;
        self.cluster.forget(name);
        Ok(partitions)
    }

    /// Offsets of a place in each of these partitions, in the same order.
    pub async fn list_offsets(
        &self,
        topic: &str,
        partitions: &[u32],
        at: At,
    ) -> Result<Vec<Result<FoundOffset, Fault>>, ClientError> {
        let part = |partition: &u32| {
            let (topic, partition) = (topic.to_owned(), *partition);
            (partition, ListOffsetsPart { topic, partition, leader_epoch: -1, at })
        };
        let parts = partitions.iter().map(part).collect();
        let request = |parts| ListOffsets { parts };
        by_leader::call(&self.cluster, Parted { topic, parts, request, results: |r| r.parts }).await
    }

    /// Takes everything below an offset away from partitions; the largest number takes all.
    /// Answers where each begins now.
    pub async fn trim(
        &self,
        topic: &str,
        before: &[(u32, u64)],
    ) -> Result<Vec<Result<u64, Fault>>, ClientError> {
        let part = |(partition, before): &(u32, u64)| {
            let (topic, partition, before) = (topic.to_owned(), *partition, *before);
            (partition, TrimPart { topic, partition, before })
        };
        let parts = before.iter().map(part).collect();
        let request = |parts| TrimTopic { parts };
        by_leader::call(&self.cluster, Parted { topic, parts, request, results: |r| r.parts }).await
    }
}

type DescribedByName = (String, Result<DescribedTopic, Fault>);

fn take_from_leaders(
    name: &str,
    topic: &mut DescribedTopic,
    places: &TopicPlaces,
    told: &BTreeMap<u32, Vec<DescribedByName>>,
) {
    for partition in &mut topic.partitions {
        let number = partition.partition;
        let place = places.partitions.iter().find(|place| place.partition == number);
        let Some(leader) = place.and_then(|place| place.leader) else {
            let what = format!("nobody leads partition {number}");
            partition.fault = Some(Fault::new(ErrorCode::LEADER_NOT_AVAILABLE, what));
            continue;
        };
        let by_leader = told.get(&leader).and_then(|topics| {
            let (_, topic) = topics.iter().find(|(known, _)| known == name)?;
            topic.as_ref().ok()?.partitions.iter().find(|found| found.partition == number)
        });
        match by_leader {
            Some(found) => partition.clone_from(found),
            None => {
                let what = format!("broker {leader}, which leads, does not answer");
                partition.fault = Some(Fault::new(ErrorCode::LEADER_NOT_AVAILABLE, what));
            }
        }
    }
}

/// Offsets of a place in partitions of a topic.
pub async fn offsets(
    cluster: &Cluster,
    topic: &str,
    partitions: &[u32],
    at: At,
) -> Result<Vec<Option<u64>>, ClientError> {
    let found = Admin::new(cluster.clone()).list_offsets(topic, partitions, at).await?;
    let offsets = found.into_iter().map(|found| Ok(found?.offset));
    offsets.collect()
}
