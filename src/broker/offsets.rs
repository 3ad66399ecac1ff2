//! Which offset belongs to a time, or to the end of a leader's epoch.

use std::sync::Arc;

use mk_net::event_loop::Context;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{At, FoundOffset, ListOffsets, ListOffsetsPart, ListOffsetsResponse};
use mk_storage::{Epoch, Offset, Timestamp};
use uuid::Uuid;

use super::fetch::check_epoch;
use super::replication::epochs::{EpochEnd, end_from};
use super::replication::replica::{Replica, Standing};
use super::reply::Reply;
use super::shared::{Shared, not_leader, replica_of};
use crate::zoo::state::LeaderEpoch;

/// Answers at once if only the ends of logs are asked for; a search by time reads, and is done by
/// a worker.
pub fn list(
    shared: &Arc<Shared>,
    context: &mut Context,
    reply: Reply<ListOffsetsResponse>,
    request: ListOffsets,
) {
    let searches = |part: &ListOffsetsPart| !matches!(part.at, At::Earliest | At::Latest);
    if request.parts.iter().any(searches) {
        let for_worker = shared.clone();
        shared.lookup.run(move || {
            let answer = find_all(&for_worker, &request);
            reply.send(&for_worker, Ok(answer));
        });
    } else {
        reply.answer(context, Ok(find_all(shared, &request)));
    }
}

fn find_all(shared: &Shared, request: &ListOffsets) -> ListOffsetsResponse {
    ListOffsetsResponse { parts: request.parts.iter().map(|part| find(shared, part)).collect() }
}

fn find(shared: &Shared, part: &ListOffsetsPart) -> Result<FoundOffset, Fault> {
    let (_, partition) = shared.partition(&part.topic, Uuid::nil(), part.partition)?;
    let replica = replica_of(&partition)?;
    let Standing::Leader(epoch) = replica.standing() else { return Err(not_leader(&partition)) };
    check_epoch(part.leader_epoch, epoch)?;
    let log = replica.log();
    let place = |offset, timestamp_ms| FoundOffset { offset, timestamp_ms, leader_epoch: epoch.0 };
    let found = match part.at {
        At::Earliest => return Ok(place(Some(log.start().0), -1)),
        At::Latest => return Ok(place(Some(committed_end(replica, epoch)?.0), -1)),
        At::Timestamp(millis) => log.find_time(Timestamp(millis)),
        At::MaxTimestamp => log.find_max_time(),
    };
    match found {
        Ok(Some(found)) if found.offset >= log.high_watermark() => Ok(place(None, -1)),
        Ok(Some(found)) => Ok(place(Some(found.offset.0), found.timestamp.0)),
        Ok(None) => Ok(place(None, -1)),
        Err(error) => {
            let (topic, number) = (partition.topic(), partition.number());
            tracing::error!(topic, partition = number, %error, "a search by time failed");
            Err(Fault::new(ErrorCode::KAFKA_STORAGE_ERROR, error.to_string()))
        }
    }
}

/// Where the largest epoch up to `asked` ends in a log that this broker leads, in the `current` epoch as far as the client
/// knows (-1: it does not); none if `asked` is none of the log's past. A consumer has seen nothing that is not
/// committed; so it is not told of it, lest records seem to be lost that nobody has read.
pub fn epoch_end(
    shared: &Shared,
    (topic, number): (&str, u32),
    current: i32,
    asked: i32,
) -> Result<Option<EpochEnd>, Fault> {
    let (_, partition) = shared.partition(topic, Uuid::nil(), number)?;
    let replica = replica_of(&partition)?;
    let Standing::Leader(epoch) = replica.standing() else { return Err(not_leader(&partition)) };
    check_epoch(current, epoch)?;
    if !(0..=epoch.0).contains(&asked) {
        return Ok(None);
    }
    let committed = committed_end(replica, epoch)?;
    let log = replica.log();
    // In this order, as for followers: the end is no later than the epochs and the start no earlier.
    let log_end = log.end();
    let epochs = log.epochs();
    let EpochEnd { epoch, end } = end_from(&epochs, (log.start(), log_end), Epoch(asked));
    Ok(Some(EpochEnd { epoch, end: end.min(committed) }))
}

/// A new leader does not say where the log ends before it knows what its predecessor had committed:
/// it would seem to have gone back (KIP-207).
fn committed_end(replica: &Replica, epoch: LeaderEpoch) -> Result<Offset, Fault> {
    replica.known_high_watermark().ok_or_else(|| {
        let what = format!("the leader of epoch {} does not know yet what is committed", epoch.0);
        Fault::new(ErrorCode::OFFSET_NOT_AVAILABLE, what)
    })
}
