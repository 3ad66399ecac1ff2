//! The timeline in words.

use mk_net::message::{ClusterEvent, PartitionOf};

use super::detector::Reason;
use super::events::{Event, FenceReason, Suspicion, What};
use super::message::Report;

/// The event for people. That a broker was fenced tells when it was last heard of, too: an event of its
/// own, earlier by the clock.
pub fn tell(event: &Event) -> Vec<ClusterEvent> {
    let mut told = Vec::new();
    if let What::Fenced { broker, heard_ago_ms: Some(ago), .. } = &event.what {
        told.push(ClusterEvent {
            id: event.id,
            at_ms: event.at_ms.saturating_sub(*ago as i64),
            kind: "last heartbeat".to_owned(),
            broker: Some(*broker),
            partition: None,
            text: format!("broker {broker} is heard of for the last time"),
        });
    }
    let (kind, text) = words(&event.what);
    told.push(ClusterEvent {
        id: event.id,
        at_ms: event.at_ms,
        kind: kind.to_owned(),
        broker: broker_of(&event.what),
        partition: partition_of(&event.what),
        text,
    });
    told
}

fn words(what: &What) -> (&'static str, String) {
    match what {
        What::Registered { broker, epoch, address } => {
            ("registered", format!("broker {broker} at {address}, epoch {}", epoch.0))
        }
        What::Ready { broker, .. } => ("ready", format!("broker {broker} may lead and be in sync")),
        What::Suspected { broker, why } => {
            let why = match why {
                Suspicion::Disconnected => "its connection has ended",
                Suspicion::AnotherProcess => "another process wants to register as it",
            };
            ("suspected", format!("broker {broker}: {why}"))
        }
        What::Fenced { broker, why, .. } => {
            let why = match why {
                FenceReason::Detector(Reason::Silent(time)) => {
                    format!("silent for {} ms", time.as_millis())
                }
                FenceReason::Detector(Reason::Gone) => "its process is gone".to_owned(),
                FenceReason::Detector(Reason::Stalled(time)) => {
                    format!("it beats, but has stood still for {} ms", time.as_millis())
                }
                FenceReason::Restarted => "its process had ended".to_owned(),
                FenceReason::Asked => "it was asked for".to_owned(),
            };
            ("fenced", format!("broker {broker}: {why}"))
        }
        What::ShutdownBegun { broker } => ("shutdown", format!("broker {broker} wants to stop")),
        What::Elected { leader, leader_epoch, before, .. } => {
            let before = before.map_or("nobody".to_owned(), |id| format!("broker {id}"));
            (
                "elected",
                format!("broker {leader} leads in epoch {leader_epoch}, before it {before}"),
            )
        }
        What::NoLeader { before, .. } => {
            let before = before.map_or("nobody".to_owned(), |id| format!("broker {id}"));
            ("no leader", format!("nobody leads, before it {before}"))
        }
        What::IsrChanged { before, after, .. } => {
            ("in sync", format!("{} are in sync, before it {}", list(after), list(before)))
        }
        What::UncleanElection { leader, instead_of, .. } => (
            "unclean election",
            format!(
                "broker {leader} leads though records may be lost that {} had",
                list(instead_of)
            ),
        ),
        What::TopicCreated { topic, partitions } => {
            ("topic created", format!("{topic} with {partitions} partitions"))
        }
        What::TopicGrown { topic, from, to } => {
            ("topic grown", format!("{topic} from {from} to {to} partitions"))
        }
        What::TopicAltered { topic } => ("topic altered", format!("{topic} has other settings")),
        What::TopicDeleted { topic } => ("topic deleted", topic.clone()),
        What::DefaultsAltered => {
            ("defaults altered", "what holds for topics that do not say".into())
        }
        What::MoveBegun { from, to, .. } => {
            ("move begun", format!("from {} to {}", list(from), list(to)))
        }
        What::MoveDone { replicas, .. } => ("move done", format!("it is on {}", list(replicas))),
        What::MoveCancelled { replicas, .. } => {
            ("move cancelled", format!("it stays on {}", list(replicas)))
        }
        What::Reported(Report::FirstAcknowledged { leader, leader_epoch, .. }) => (
            "first acknowledged",
            format!("broker {leader} has acknowledged its first record in epoch {leader_epoch}"),
        ),
        What::Reported(Report::RecordsCut { broker, from, to, committed, unclean, .. }) => {
            let (kind, which) = match (committed, unclean) {
                (true, _) => ("records lost", "some were committed"),
                (false, true) => ("records lost", "some may have been committed"),
                (false, false) => ("records cut", "none was committed"),
            };
            (kind, format!("broker {broker} has cut offsets {from} to {to} off: {which}"))
        }
    }
}

fn list(ids: &[u32]) -> String {
    match ids {
        [] => "none".to_owned(),
        ids => ids.iter().map(u32::to_string).collect::<Vec<_>>().join(","),
    }
}

fn broker_of(what: &What) -> Option<u32> {
    match what {
        What::Registered { broker, .. }
        | What::Ready { broker, .. }
        | What::Suspected { broker, .. }
        | What::Fenced { broker, .. }
        | What::ShutdownBegun { broker }
        | What::Reported(Report::RecordsCut { broker, .. }) => Some(*broker),
        What::Elected { leader, .. }
        | What::UncleanElection { leader, .. }
        | What::Reported(Report::FirstAcknowledged { leader, .. }) => Some(*leader),
        _ => None,
    }
}

fn partition_of(what: &What) -> Option<PartitionOf> {
    match what {
        What::Elected { topic, partition, .. }
        | What::NoLeader { topic, partition, .. }
        | What::IsrChanged { topic, partition, .. }
        | What::UncleanElection { topic, partition, .. }
        | What::MoveBegun { topic, partition, .. }
        | What::MoveDone { topic, partition, .. }
        | What::MoveCancelled { topic, partition, .. }
        | What::Reported(Report::FirstAcknowledged { topic, partition, .. })
        | What::Reported(Report::RecordsCut { topic, partition, .. }) => {
            Some(PartitionOf { topic: topic.clone(), partition: *partition })
        }
        _ => None,
    }
}
