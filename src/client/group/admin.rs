//! What those who look after groups ask for.

use std::collections::BTreeMap;
use std::time::Duration;

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    CommitOffsets, CommitPart, DeleteGroup, DescribeGroup, DescribeGroupResponse, DescribeProgress,
    FetchOffsets, ListGroups, ListedGroup, PartitionOf, PartitionProgress, ProgressPart,
};
use uuid::Uuid;

use super::coordination::Coordination;
use crate::client::admin::Admin;
use crate::client::backoff::Backoff;
use crate::client::by_leader::{self, Parted};
use crate::client::error::ClientError;

/// Whoever is not ready after so long a wait is not waited for.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

impl Admin {
    /// All groups, by name; and the brokers that could not be asked, whose groups are missing.
    pub async fn list_groups(
        &self,
    ) -> Result<(Vec<ListedGroup>, Vec<(u32, ClientError)>), ClientError> {
        let metadata = self.cluster.metadata(Some(Vec::new()), false).await?;
        let (mut groups, mut failed) = (Vec::new(), Vec::new());
        for broker in &metadata.brokers {
            let mut backoff = Backoff::new(self.cluster.seed());
            let answer = loop {
                let answer = self.cluster.call_broker(broker.id, &ListGroups {}).await;
                let loads = |error: &ClientError| {
                    error.code() == Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
                };
                let wait = backoff.failed();
                // One that has just begun to coordinate knows before long.
                if !answer.as_ref().is_err_and(loads) || wait >= LONGEST_WAIT {
                    break answer;
                }
                tokio::time::sleep(wait).await;
            };
            match answer {
                Ok(answer) => groups.extend(answer.groups),
                Err(error) => failed.push((broker.id, error)),
            }
        }
        groups.sort_by(|a, b| a.group.cmp(&b.group));
        Ok((groups, failed))
    }

    /// All that its coordinator knows of a group.
    pub async fn describe_group(&self, group: &str) -> Result<DescribeGroupResponse, ClientError> {
        self.coordination(group).insist(&DescribeGroup { group: group.to_owned() }).await
    }

    /// How far a group has come: the next record of each partition that it has committed. Nothing, if there is
    /// no such group.
    pub async fn committed_offsets(
        &self,
        group: &str,
    ) -> Result<BTreeMap<(String, u32), u64>, ClientError> {
        let request = FetchOffsets { group: group.to_owned(), partitions: None };
        let parts = self.coordination(group).insist(&request).await?.parts.into_iter();
        let offsets = parts.filter_map(|part| {
            let place = (part.partition.topic, part.partition.partition);
            Some((place, part.committed?.offset))
        });
        Ok(offsets.collect())
    }

    /// Lets a group without members go on at these offsets. A result for each.
    pub async fn set_offsets(
        &self,
        group: &str,
        offsets: &[(PartitionOf, u64)],
    ) -> Result<Vec<Result<(), Fault>>, ClientError> {
        let parts = offsets.iter().map(|(partition, offset)| CommitPart {
            partition: partition.clone(),
            topic_id: Uuid::nil(),
            offset: *offset,
            leader_epoch: -1,
            metadata: String::new(),
        });
        let request = CommitOffsets {
            group: group.to_owned(),
            member: String::new(),
            epoch: -1,
            number: 0,
            parts: parts.collect(),
        };
        Ok(self.coordination(group).insist(&request).await?.parts)
    }

    /// Forgets a group that has no members; or only how far it has come in these partitions.
    pub async fn delete_group(
        &self,
        group: &str,
        partitions: Option<Vec<PartitionOf>>,
    ) -> Result<(), ClientError> {
        let request = DeleteGroup { group: group.to_owned(), partitions };
        let coordination = self.coordination(group);
        let mut backoff = Backoff::new(self.cluster.seed());
        loop {
            let answer = coordination.ask(&request, Duration::from_secs(10)).await;
            // Nothing was done; else, of a second answer nobody could tell whether there was such a group.
            let not_done = |error: &ClientError| {
                matches!(
                    error.code(),
                    Some(ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS)
                )
            };
            let wait = backoff.failed();
            if !answer.as_ref().is_err_and(not_done) || wait >= LONGEST_WAIT {
                return answer.map(drop);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// How far the readers of partitions of a topic have come, those of one group (all, if it is empty), as
    /// the leaders see them; with the age of the record at an offset. A result for each.
    pub async fn describe_progress(
        &self,
        topic: &str,
        group: &str,
        parts: Vec<(u32, Option<u64>)>,
    ) -> Result<Vec<Result<PartitionProgress, Fault>>, ClientError> {
        let of = |(partition, offset): (u32, Option<u64>)| {
            let place = PartitionOf { topic: topic.to_owned(), partition };
            (partition, (group.to_owned(), ProgressPart { partition: place, offset }))
        };
        let parted = Parted {
            topic,
            parts: parts.into_iter().map(of).collect(),
            request: |parts: Vec<(String, ProgressPart)>| {
                let group = parts.first().map(|(group, _)| group.clone()).unwrap_or_default();
                let parts = parts.into_iter().map(|(_, part)| part).collect();
                DescribeProgress { group, parts }
            },
            results: |response| response.parts,
        };
        by_leader::call(&self.cluster, parted).await
    }

    fn coordination(&self, group: &str) -> Coordination {
        Coordination::new(self.cluster.clone(), group)
    }
}
