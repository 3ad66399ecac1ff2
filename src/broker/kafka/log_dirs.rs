//! What lies on the broker's disk. It has one folder for all.

use std::sync::Arc;

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse, TopicName};
use mk_net::message::DescribeTopics;

use super::NoAnswer;
use super::place::{Place, text};
use super::results::{Partitions, partitions};
use crate::broker::describe;
use crate::broker::shared::Shared;

/// Answers with the sizes of what this broker has.
pub fn describe(shared: &Arc<Shared>, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: DescribeLogDirsRequest = place.read(fields)?;
    let wanted = request
        .topics
        .map(|topics| partitions(topics.into_iter().map(|topic| (topic.topic, topic.partitions))));
    let for_worker = shared.clone();
    shared.lookup.run(move || {
        let dir = dir(&for_worker, wanted.as_ref());
        let response = DescribeLogDirsResponse::default().with_results(vec![dir]);
        place.send(&for_worker, &response);
    });
    Ok(())
}

fn dir(shared: &Shared, wanted: Option<&Partitions>) -> DescribeLogDirsResult {
    let names = wanted.map(|wanted| wanted.keys().cloned().collect());
    let described = describe::topics(shared, DescribeTopics { names });
    let topics = described.topics.into_iter().filter_map(|(name, topic)| {
        let wants = |partition: &u32| match wanted {
            Some(wanted) => wanted.get(&name).is_some_and(|numbers| numbers.contains(partition)),
            None => true,
        };
        let here = topic.ok()?.partitions.into_iter().filter(|partition| partition.fault.is_none());
        let partitions = here.filter(|partition| wants(&partition.partition)).map(|partition| {
            DescribeLogDirsPartition::default()
                .with_partition_index(partition.partition as i32)
                .with_partition_size(partition.size_bytes as i64)
        });
        let partitions: Vec<_> = partitions.collect();
        (!partitions.is_empty()).then(|| {
            DescribeLogDirsTopic::default()
                .with_name(TopicName(text(name)))
                .with_partitions(partitions)
        })
    });
    let path = std::path::absolute(&shared.data).unwrap_or_else(|_| shared.data.clone());
    let (total, usable) = room(&path);
    DescribeLogDirsResult::default()
        .with_log_dir(text(path.to_string_lossy()))
        .with_topics(topics.collect())
        .with_total_bytes(total)
        .with_usable_bytes(usable)
}

/// Bytes of the disk, and those that are free; -1 where that cannot be told.
fn room(path: &std::path::Path) -> (i64, i64) {
    let Ok(stat) = rustix::fs::statvfs(path) else { return (-1, -1) };
    let bytes = |blocks: u64| {
        let bytes = blocks.checked_mul(stat.f_frsize).and_then(|bytes| i64::try_from(bytes).ok());
        bytes.unwrap_or(-1)
    };
    (bytes(stat.f_blocks), bytes(stat.f_bavail))
}
