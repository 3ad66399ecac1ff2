//! Requests of which each part goes to the leader of its partition.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::Request;

use super::backoff::Backoff;
use super::cluster::{Cluster, Lane};
use super::error::ClientError;

/// A request that is made of parts of one topic.
pub(super) struct Parted<'a, P, R: Request, T> {
    /// The topic.
    pub topic: &'a str,
    /// The parts, each with its partition.
    pub parts: Vec<(u32, P)>,
    /// Makes the request of some of them.
    pub request: fn(Vec<P>) -> R,
    /// The results in its response, one a part.
    pub results: fn(R::Response) -> Vec<Result<T, Fault>>,
}

/// Sends each part to the leader of its partition, again and again where it is not the leader any
/// more, until the API timeout. The results come in the order of the parts.
pub(super) async fn call<P: Clone, R: Request, T>(
    cluster: &Cluster,
    parted: Parted<'_, P, R, T>,
) -> Result<Vec<Result<T, Fault>>, ClientError> {
    let Parted { topic, parts, request, results } = parted;
    let timeout = cluster.settings().api_timeout;
    let deadline = Instant::now() + timeout;
    let mut backoff = Backoff::new(cluster.seed());
    let mut done: Vec<Option<Result<T, Fault>>> = parts.iter().map(|_| None).collect();
    loop {
        let mut last = None;
        let mut groups: BTreeMap<Option<u32>, Vec<usize>> = BTreeMap::new();
        for (at, (partition, _)) in parts.iter().enumerate() {
            if done[at].is_some() {
                continue;
            }
            if cluster.known_count(topic).is_some_and(|count| *partition >= count) {
                let what = format!("topic '{topic}' has no partition {partition}");
                done[at] = Some(Err(Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what)));
                continue;
            }
            groups.entry(cluster.known_leader(topic, *partition)).or_default().push(at);
        }
        for (leader, group) in groups {
            let asked = group.iter().map(|at| parts[*at].1.clone()).collect();
            let numbers: Vec<u32> = group.iter().map(|at| parts[*at].0).collect();
            match send(cluster, (topic, &numbers), leader, &request(asked)).await {
                Ok(response) => {
                    for (at, result) in group.into_iter().zip(results(response)) {
                        match result {
                            Err(fault) if is_elsewhere(&fault) => {
                                cluster.suspect(topic);
                                last = Some(ClientError::Broker(fault));
                            }
                            result => done[at] = Some(result),
                        }
                    }
                }
                Err(ClientError::LeaderFound) => last = Some(ClientError::LeaderFound),
                Err(error) if error.is_retriable() => {
                    cluster.suspect(topic);
                    last = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let Some(error) = last else { break };
        let wait = match error {
            ClientError::LeaderFound => continue,
            _ => backoff.failed(),
        };
        if Instant::now() + wait >= deadline {
            if done.iter().any(Option::is_some) {
                // What was answered is told, though one leader is away.
                let code = error.code().unwrap_or(ErrorCode::REQUEST_TIMED_OUT);
                let fault = Fault::new(code, error.to_string());
                let told = done.into_iter().map(|part| part.unwrap_or_else(|| Err(fault.clone())));
                return Ok(told.collect());
            }
            let (what, last) = (R::KIND.to_string(), Some(Box::new(error)));
            return Err(ClientError::TimedOut { what, after: timeout, last });
        }
        tokio::time::sleep(wait).await;
    }
    let missing = || Fault::new(ErrorCode::UNKNOWN_SERVER_ERROR, "the broker says nothing of it");
    Ok(done.into_iter().map(|result| result.unwrap_or_else(|| Err(missing()))).collect())
}

/// True if another broker may know better.
fn is_elsewhere(fault: &Fault) -> bool {
    matches!(
        fault.code,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::LEADER_NOT_AVAILABLE
            | ErrorCode::OFFSET_NOT_AVAILABLE
    )
}

async fn send<R: Request>(
    cluster: &Cluster,
    (topic, partitions): (&str, &[u32]),
    leader: Option<u32>,
    request: &R,
) -> Result<R::Response, ClientError> {
    let Some(leader) = leader else {
        let metadata = cluster.metadata_once(vec![topic.to_owned()], false).await?;
        for topic in metadata.topics {
            let places = topic.result?;
            let mut asked = places.partitions.iter().filter(|p| partitions.contains(&p.partition));
            if asked.all(|partition| partition.leader.is_none()) {
                let what = "no partition has a leader";
                return Err(Fault::new(ErrorCode::LEADER_NOT_AVAILABLE, what).into());
            }
        }
        return Err(ClientError::LeaderFound);
    };
    let connection = cluster.connection_to(leader, Lane::Control).await?;
    let timeout = cluster.settings().request_timeout;
    Ok(connection.call(request, Bytes::new(), timeout).await?.0)
}
