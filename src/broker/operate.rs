//! What those who run the cluster ask for. The mini-zookeeper decides, and knows what has happened; so all
//! of it is on the thread that may wait for it.

use std::sync::Arc;

use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{
    ClusterEvents, ClusterEventsResponse, DescribeCluster, DescribeClusterResponse,
    DescribedBroker, DescribedMove, ElectLeaders, ElectLeadersResponse, Election, MovePartitions,
    MovePartitionsResponse, PartitionMove, PartitionOf,
};

use super::shared::Shared;
use crate::zoo::events::Event;
use crate::zoo::message::{Description, Request, Response};
use crate::zoo::state::{ClusterState, Command, Partition};
use crate::zoo::tell::tell;

/// Events that are asked for at once.
const PAGE: u32 = 1000;

/// The cluster, as far as this broker knows, and whom the mini-zookeeper hears.
pub fn describe(
    shared: &Arc<Shared>,
    request: DescribeCluster,
) -> Result<DescribeClusterResponse, Fault> {
    let heard = if request.ask_zookeeper { heard(shared).map(Some) } else { Ok(None) };
    let (heard, zookeeper_fault) = match heard {
        Ok(heard) => (heard, None),
        Err(fault) => (None, Some(fault)),
    };
    let state = shared.cluster.state();
    let heard_ms = |id: u32| {
        let brokers = heard.iter().flat_map(|heard| &heard.brokers);
        brokers.filter(|broker| broker.id == id).find_map(|broker| broker.heard_ago_ms)
    };
    let brokers = state.brokers.iter().map(|(id, broker)| DescribedBroker {
        id: *id,
        address: broker.address.clone(),
        rack: broker.rack.clone(),
        epoch: broker.epoch.0,
        fenced: broker.fenced,
        stopping: broker.stopping,
        heard_ms: heard_ms(*id),
    });
    Ok(DescribeClusterResponse {
        cluster_id: state.cluster_id.to_string(),
        state_version: state.version,
        zookeeper: shared.cluster.zookeeper().unwrap_or_default().to_owned(),
        zookeeper_fault,
        answered_by: shared.cluster.me().id,
        brokers: brokers.collect(),
        moves: moves(&state),
    })
}

fn heard(shared: &Shared) -> Result<Description, Fault> {
    match shared.cluster.ask(Request::Describe)? {
        Response::Description(description) => Ok(description),
        other => Err(nonsense(&other)),
    }
}

fn nonsense(response: &Response) -> Fault {
    let what = format!("the mini-zookeeper answers something else: {response:?}");
    Fault::new(ErrorCode::UNKNOWN_SERVER_ERROR, what)
}

fn moves(state: &ClusterState) -> Vec<DescribedMove> {
    let mut moves = Vec::new();
    for (name, topic) in &state.topics {
        for (number, partition) in (0..).zip(&topic.partitions) {
            let Some(moving) = &partition.moving else { continue };
            let arrived = moving.to.iter().filter(|id| partition.isr.contains(id));
            moves.push(DescribedMove {
                topic: name.clone(),
                partition: number,
                from: moving.from.clone(),
                to: moving.to.clone(),
                arrived: arrived.copied().collect(),
                throttle: moving.throttle,
            });
        }
    }
    moves
}

/// Elects leaders, a result for each partition.
pub fn elect(shared: &Arc<Shared>, request: ElectLeaders) -> Result<ElectLeadersResponse, Fault> {
    let ElectLeaders { election, partitions } = request;
    let partitions = partitions.unwrap_or_else(|| candidates(&shared.cluster.state(), election));
    let elected = partitions.into_iter().map(|of| {
        let (topic, partition) = (of.topic.clone(), of.partition);
        let result = shared.cluster.change(match election {
            Election::Preferred => Command::ElectPreferred { topic, partition },
            Election::Unclean => Command::ElectUnclean { topic, partition },
        });
        let leader = result.map(|()| {
            let state = shared.cluster.state();
            state.topics.get(&of.topic).and_then(|topic| topic.partition(of.partition)?.leader)
        });
        (of, leader)
    });
    Ok(ElectLeadersResponse { partitions: elected.collect() })
}

/// The partitions for which an election would change something.
fn candidates(state: &ClusterState, election: Election) -> Vec<PartitionOf> {
    let makes_sense = |partition: &Partition| match election {
        Election::Preferred => state.preferred_instead(partition).is_some(),
        Election::Unclean => partition.leader.is_none(),
    };
    let all = state.topics.iter().flat_map(|(name, topic)| {
        let partitions = (0..).zip(&topic.partitions);
        partitions
            .filter(|(_, partition)| makes_sense(partition))
            .map(move |(number, _)| (name, number))
    });
    all.map(|(name, partition)| PartitionOf { topic: name.clone(), partition }).collect()
}

/// Begins to move partitions, or calls that off.
pub fn move_partitions(
    shared: &Arc<Shared>,
    request: MovePartitions,
) -> Result<MovePartitionsResponse, Fault> {
    let moves = request.moves.into_iter().map(|PartitionMove { partition, replicas, throttle }| {
        let PartitionOf { topic, partition } = partition;
        if throttle == Some(0) {
            let what = "a throttle of 0 bytes a second: the partition would never arrive";
            return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
        }
        shared.cluster.change(match replicas {
            Some(replicas) => Command::Move { topic, partition, replicas, throttle },
            None => Command::CancelMove { topic, partition },
        })
    });
    let moves = moves.collect();
    Ok(MovePartitionsResponse { state_version: shared.cluster.state().version, moves })
}

/// What has happened behind an event; the newest, if there is more than was asked for.
pub fn events(
    shared: &Arc<Shared>,
    request: ClusterEvents,
) -> Result<ClusterEventsResponse, Fault> {
    let mut found: Vec<Event> = Vec::new();
    let mut after = request.after;
    loop {
        let asked = Request::Events { after, most: PAGE };
        let page = match shared.cluster.ask(asked)? {
            Response::Events(page) => page,
            other => return Err(nonsense(&other)),
        };
        let is_last = page.len() < PAGE as usize;
        after = page.last().map_or(after, |event| event.id);
        found.extend(page);
        if is_last {
            break;
        }
    }
    if request.most > 0 {
        let most = request.most as usize;
        found.drain(..found.len().saturating_sub(most));
    }
    let cluster_id = shared.cluster.state().cluster_id;
    Ok(ClusterEventsResponse { cluster_id, events: found.iter().flat_map(tell).collect() })
}
