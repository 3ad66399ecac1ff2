//! `mkctl topic`.

pub mod args;
mod change;
mod remove;
mod show;

use mk::client::{Admin, Cluster};
use mk_net::message::{DescribedPartition, DescribedTopic, SettingSource};

use self::args::TopicCommand;
use crate::outcome::Failure;

pub async fn run(cluster: &Cluster, command: TopicCommand) -> Result<(), Failure> {
    let admin = Admin::new(cluster.clone());
    match command {
        TopicCommand::List { json } => show::list(&admin, json).await,
        TopicCommand::Create(args) => change::create(&admin, args).await,
        TopicCommand::Describe { names, json } => show::show(&admin, names, json).await,
        TopicCommand::Delete(args) => remove::delete(&admin, args).await,
        TopicCommand::AddPartitions(args) => change::add_partitions(cluster, &admin, args).await,
        TopicCommand::Trim(args) => remove::trim(cluster, &admin, args).await,
    }
}

/// Records and bytes of all partitions.
pub fn sizes(topic: &DescribedTopic) -> (u64, u64) {
    let records = |p: &DescribedPartition| p.high_watermark.saturating_sub(p.log_start_offset);
    let records = topic.partitions.iter().map(records).sum();
    (records, topic.partitions.iter().map(|partition| partition.size_bytes).sum())
}

/// Who set a setting.
pub fn source_of(source: SettingSource) -> &'static str {
    match source {
        SettingSource::Default => "default",
        SettingSource::Broker => "broker",
        SettingSource::Topic => "topic",
    }
}
