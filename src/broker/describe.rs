//! What there is: brokers, topics, settings, sizes.

use std::collections::HashSet;
use std::sync::Arc;

use mk_net::event_loop::Context;
use mk_net::fault::Fault;
use mk_net::message::{
    BrokerAddress, DescribeTopics, DescribeTopicsResponse, DescribedPartition, DescribedSetting,
    DescribedTopic, Metadata, MetadataResponse, PartitionMetadata, TopicMetadata, TopicPlaces,
};

use super::catalog::Topic;
use super::control;
use super::partition::{Absent, Partition};
use super::reply::Reply;
use super::shared::{Shared, log_of};
use crate::settings::TopicSettings;
use crate::zoo::state::Broker;

/// Brokers and topics. Topics that there are not are created first, if client and broker want it;
/// another thread waits for that.
pub fn metadata(
    shared: &Arc<Shared>,
    context: &mut Context,
    reply: Reply<MetadataResponse>,
    request: Metadata,
) {
    let Some(names) = request.topics else {
        let mut answer = answer(shared, all(shared));
        // One that goes at this moment is none of them.
        answer.topics.retain(|topic| topic.result.is_ok());
        return reply.answer(context, Ok(answer));
    };
    let may_create =
        request.allow_auto_topic_creation && shared.settings.switch("auto.create.topics.enable");
    let names = each_once(names);
    let all_there = {
        let topics = shared.topics.load();
        names.iter().all(|name| topics.contains_key(name))
    };
    if all_there || !may_create {
        let answer = answer(shared, named(shared, names));
        return reply.answer(context, Ok(answer));
    }
    let for_worker = shared.clone();
    shared.admin.run(move || {
        let places = names.into_iter().map(|name| {
            let topic = control::topic_or_new(&for_worker, &name);
            (name, topic)
        });
        let answer = answer(&for_worker, places.collect());
        reply.send(&for_worker, Ok(answer));
    });
}

type Found = (String, Result<Arc<Topic>, Fault>);

/// All topics that there are.
fn all(shared: &Shared) -> Vec<Found> {
    let topics = shared.topics.load();
    topics.iter().map(|(name, topic)| (name.clone(), Ok(topic.clone()))).collect()
}

fn named(shared: &Shared, names: Vec<String>) -> Vec<Found> {
    let each = names.into_iter().map(|name| {
        let topic = shared.topic(&name);
        (name, topic)
    });
    each.collect()
}

fn answer(shared: &Shared, topics: Vec<Found>) -> MetadataResponse {
    let state = shared.cluster.state();
    let places = |name: &str, known: &Topic| {
        let topic = state.topics.get(name).filter(|topic| topic.id == known.id);
        let topic = topic.ok_or_else(|| shared.unknown_topic(name, &state))?;
        let partitions = (0..).zip(&topic.partitions).map(|(number, partition)| {
            let offline = known.partition(number).is_some_and(|known| {
                partition.leader == Some(shared.cluster.me().id)
                    && matches!(known.replica(), Err(Absent::Offline(_)))
            });
            PartitionMetadata {
                partition: number,
                leader: partition.leader.filter(|_| !offline),
                leader_epoch: partition.leader_epoch.0,
                replicas: partition.target().to_vec(),
                in_sync_replicas: if offline { Vec::new() } else { partition.isr.clone() },
            }
        });
        Ok(TopicPlaces { topic_id: topic.id, partitions: partitions.collect() })
    };
    let topics = topics.into_iter().map(|(name, topic)| {
        let result = topic.and_then(|topic| places(&name, &topic));
        TopicMetadata { name, result }
    });
    let brokers = state.brokers.iter().filter(|(_, broker)| !broker.fenced);
    let brokers = brokers.filter_map(|(id, broker)| address_of(*id, broker));
    MetadataResponse {
        cluster_id: state.cluster_id.to_string(),
        brokers: brokers.collect(),
        topics: topics.collect(),
    }
}

/// Where a broker is found.
pub fn address_of(id: u32, broker: &Broker) -> Option<BrokerAddress> {
    let (host, port) = broker.address.rsplit_once(':')?;
    let (host, port) = (host.trim_matches(['[', ']']).to_owned(), port.parse().ok()?);
    Some(BrokerAddress { id, host, port, rack: broker.rack.clone() })
}

/// Settings and sizes of topics.
pub fn topics(shared: &Shared, request: DescribeTopics) -> DescribeTopicsResponse {
    let topics = match request.names {
        Some(names) => named(shared, each_once(names)),
        None => all(shared),
    };
    let topics =
        topics.into_iter().map(|(name, topic)| (name, topic.map(|topic| describe(shared, &topic))));
    DescribeTopicsResponse { topics: topics.collect() }
}

/// Each name once: a request must not be answered with a thousand times its bytes.
fn each_once(mut names: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn describe(shared: &Shared, topic: &Topic) -> DescribedTopic {
    let own = topic.settings();
    let settings =
        TopicSettings::describe(&own.own, &shared.cluster.state().defaults, &shared.settings);
    let settings = settings.into_iter().map(|(name, value, source)| DescribedSetting {
        name: name.to_owned(),
        value,
        source,
    });
    DescribedTopic {
        topic_id: topic.id,
        created_ms: topic.created_ms,
        settings: settings.collect(),
        partitions: topic.partitions().iter().map(|partition| sizes(partition)).collect(),
    }
}

fn sizes(partition: &Partition) -> DescribedPartition {
    let mut described = DescribedPartition {
        partition: partition.number(),
        log_start_offset: 0,
        high_watermark: 0,
        log_end_offset: 0,
        size_bytes: 0,
        segments: 0,
        follower_ends: Vec::new(),
        fault: None,
        damage: partition.damage().map(str::to_owned),
    };
    match log_of(partition) {
        Ok(log) => {
            described.log_start_offset = log.start().0;
            described.high_watermark = log.high_watermark().0;
            described.log_end_offset = log.end().0;
            described.size_bytes = log.size_bytes();
            described.segments = log.segments().len() as u32;
            let followers = partition.replica().map(|replica| replica.follower_ends());
            let followers = followers.unwrap_or_default().into_iter();
            described.follower_ends = followers.map(|(id, end)| (id, end.0)).collect();
            let poisoned = log.poisoned().map(|poisoned| poisoned.to_string());
            described.damage = poisoned.or(described.damage);
        }
        Err(fault) => described.fault = Some(fault),
    }
    described
}
