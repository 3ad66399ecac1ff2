//! Topics, settings, offsets.

use mk_net::fault::Fault;
use mk_net::message::{
    AddPartitions, AlterTopic, AlterTopicResponse, ApiVersions, ApiVersionsResponse, At,
    CreateTopics, CreatedTopic, DeleteTopics, DescribeTopics, DescribedTopic, FoundOffset,
    ListOffsets, ListOffsetsPart, MetadataResponse, NewTopic, TopicResult, TrimPart, TrimTopic,
};

use super::by_leader::{self, Parted};
use super::cluster::Cluster;
use super::error::ClientError;

/// Looks after a cluster.
#[derive(Clone, Debug)]
pub struct Admin {
    cluster: Cluster,
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

    /// Settings and sizes of topics; `None` is all. A result for each.
    pub async fn describe_topics(
        &self,
        names: Option<Vec<String>>,
    ) -> Result<Vec<(String, Result<DescribedTopic, Fault>)>, ClientError> {
        Ok(self.cluster.call_any(&DescribeTopics { names }, true).await?.topics)
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
            (partition, ListOffsetsPart { topic, partition, at })
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
