//! Does to followers' logs what their leaders have sent.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use mk_net::message::{FetchResponse, Fetched};
use mk_storage::{Epoch, Offset};
use tracing::{debug, error, warn};

use super::super::cleaner;
use super::super::partition::Partition;
use super::super::replication::epochs::EpochEnd;
use super::super::replication::fetcher::Outcome;
use super::super::replication::replica::{FetchedFrom, LeaderLog, NotFollowed, Replica};
use super::super::shared::Shared;
use super::Cluster;
use crate::clock::now_ms;
use crate::zoo::message::Report;

/// A partition that was asked for.
pub struct Asked {
    pub partition: Arc<Partition>,
    /// From where.
    pub from: FetchedFrom,
}

/// Takes in an answer with a part for each that was asked for; what became of each, and how many bytes
/// it brought.
pub fn answer(
    shared: &Arc<Shared>,
    asked: &[Asked],
    response: FetchResponse,
    mut payload: Bytes,
) -> Vec<(Outcome, u64)> {
    let parts = asked.iter().zip(response.parts).map(|(asked, part)| {
        let length = part.as_ref().map_or(0, |fetched| fetched.length as usize);
        let batches = payload.split_to(length.min(payload.len()));
        let outcome = match part {
            Ok(fetched) => take_part(shared, &asked.partition, asked.from, &fetched, &batches),
            Err(fault) => {
                let (topic, number) = (asked.partition.topic(), asked.partition.number());
                debug!(topic, partition = number, %fault, "the leader refuses");
                Outcome::Failed
            }
        };
        (outcome, batches.len() as u64)
    });
    parts.collect()
}

/// Does to the log what the leader has said.
fn take_part(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    from: FetchedFrom,
    fetched: &Fetched,
    batches: &Bytes,
) -> Outcome {
    let Ok(replica) = partition.replica() else { return Outcome::Broken };
    let (topic, number) = (partition.topic(), partition.number());
    let result = match &fetched.diverging {
        Some(end) => {
            let end = EpochEnd { epoch: Epoch(end.epoch), end: Offset(end.end) };
            cut(shared, partition, replica, from, end, Offset(fetched.log_start_offset))
        }
        None => copy(shared, partition, replica, from, fetched, batches),
    };
    match result {
        Ok(outcome) => {
            partition.refuses.store(false, Ordering::Relaxed);
            outcome
        }
        Err(NotFollowed::Superseded) => Outcome::Failed,
        Err(error) if replica.log().poisoned().is_some() => {
            error!(topic, partition = number, %error, "a follower's log takes nothing any more");
            Outcome::Broken
        }
        Err(error) => {
            if !partition.refuses.swap(true, Ordering::Relaxed) {
                warn!(topic, partition = number, %error, "what the leader sent is not taken");
            }
            Outcome::Failed
        }
    }
}

fn copy(
    shared: &Arc<Shared>,
    partition: &Arc<Partition>,
    replica: &Replica,
    from: FetchedFrom,
    fetched: &Fetched,
    batches: &Bytes,
) -> Result<Outcome, NotFollowed> {
    let log = replica.log();
    let before = (log.end(), log.high_watermark());
    let theirs = LeaderLog {
        high_watermark: Offset(fetched.high_watermark),
        start: Offset(fetched.log_start_offset),
    };
    let copied = replica.copy(from, batches, theirs, now_ms())?;
    if log.high_watermark() != before.1 {
        shared.committed(partition);
    }
    if theirs.start > log.start() {
        let grave = cleaner::grave(shared, partition);
        log.trim(theirs.start.min(log.end()), Some(&grave))?;
    }
    if copied.end == before.0 {
        return Ok(Outcome::Quiet);
    }
    let flush = shared.topic(partition.topic()).map(|topic| topic.effective().flush);
    if let Ok(flush) = flush {
        shared.flusher.appended(partition, flush);
    }
    if copied.rolled {
        shared.flusher.flush_now(partition);
    }
    Ok(Outcome::Moved)
}

fn cut(
    shared: &Arc<Shared>,
    partition: &Partition,
    replica: &Replica,
    from: FetchedFrom,
    leader: EpochEnd,
    start: Offset,
) -> Result<Outcome, NotFollowed> {
    let (topic, number, before) = (partition.topic(), partition.number(), replica.log().end());
    let unclean = was_elected_uncleanly(shared, partition, replica.log().last_epoch());
    let (end, committed) = replica.cut(from, leader, start)?;
    if committed > 0 {
        // Only after an unclean election.
        error!(topic, partition = number, %end, committed, "committed records were cut");
    } else if unclean {
        error!(topic, partition = number, %before, %end, "records were cut that may be committed");
    } else {
        warn!(topic, partition = number, %before, %end, "the log parted from the leader's, and was cut");
    }
    let report = Report::RecordsCut {
        topic: topic.to_owned(),
        partition: number,
        broker: shared.cluster.me().id,
        from: end.0,
        to: before.0,
        committed: committed > 0,
        unclean,
    };
    Cluster::report(shared, report);
    Ok(Outcome::Moved)
}

/// True if the partition has had a leader that may miss committed records, behind this epoch of a log: what
/// differs may have been acknowledged.
fn was_elected_uncleanly(shared: &Shared, partition: &Partition, last: Option<Epoch>) -> bool {
    let state = shared.cluster.state();
    let of = state.topics.get(partition.topic()).and_then(|t| t.partition(partition.number()));
    let unclean = of.and_then(|partition| partition.unclean_epoch);
    unclean.is_some_and(|unclean| last.is_none_or(|last| last.0 < unclean.0))
}
