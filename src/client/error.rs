//! What a client can be told.

use std::sync::Arc;
use std::time::Duration;

use mk_net::fault::{ErrorCode, Fault};

/// Why something was not done. Cheap to clone: a batch has one for all its records.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// No broker answers at the address.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// Which address.
        address: String,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// The connection ended before the answer came; what was asked may have been done or not.
    #[error("the connection to {address} ended: {reason}")]
    Disconnected {
        /// Which address.
        address: String,
        /// How it ended.
        reason: Arc<str>,
    },
    /// The broker serves as many connections as it may; nothing was done.
    #[error("{address} takes no more connections: {fault}")]
    TurnedAway {
        /// Which address.
        address: String,
        /// What the broker said.
        fault: Fault,
    },
    /// The time is up; what was asked may have been done or not.
    #[error("{what}: no answer within {after:?}{}", because(.last))]
    TimedOut {
        /// What was tried.
        what: String,
        /// How long.
        after: Duration,
        /// What stood in the way last.
        last: Option<Box<ClientError>>,
    },
    /// The time is up, and nothing was done.
    #[error("{what}: not done within {after:?}{}", because(.last))]
    NotDelivered {
        /// What was tried.
        what: String,
        /// How long.
        after: Duration,
        /// What stood in the way last.
        last: Option<Box<ClientError>>,
    },
    /// The leader was not known, and is now.
    #[error("the leader was not known")]
    LeaderFound,
    /// The broker refused.
    #[error(transparent)]
    Broker(#[from] Fault),
    /// The broker sent what the protocol does not have.
    #[error("{address} sent what cannot be understood: {what}")]
    Protocol {
        /// Which address.
        address: String,
        /// What it was.
        what: String,
    },
    /// A record that no request can hold.
    #[error("a record of {size} bytes; the largest request has {limit}")]
    RecordTooLarge {
        /// Bytes that the record takes.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// What the caller gave makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Records that cannot be read.
    #[error("partition {partition} of '{topic}', offset {offset}: {what}")]
    Damaged {
        /// Which topic.
        topic: String,
        /// Which partition.
        partition: u32,
        /// Near which offset.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// The producer or consumer was closed.
    #[error("it is closed")]
    Closed,
}

fn because(last: &Option<Box<ClientError>>) -> String {
    last.as_ref().map(|error| format!("; {error}")).unwrap_or_default()
}

impl ClientError {
    /// True if the same may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. }
            | ClientError::Disconnected { .. }
            | ClientError::TurnedAway { .. }
            | ClientError::TimedOut { .. }
            | ClientError::LeaderFound => true,
            ClientError::Broker(fault) => fault.code.is_retriable(),
            ClientError::Protocol { .. }
            | ClientError::RecordTooLarge { .. }
            | ClientError::Invalid(_)
            | ClientError::Damaged { .. }
            | ClientError::NotDelivered { .. }
            | ClientError::Closed => false,
        }
    }

    /// True if what was asked may have been done all the same.
    pub fn may_be_done(&self) -> bool {
        match self {
            ClientError::Disconnected { .. } | ClientError::TimedOut { .. } => true,
            // These are also said of what was appended, and not committed.
            ClientError::Broker(fault) => matches!(
                fault.code,
                ErrorCode::NOT_LEADER_OR_FOLLOWER
                    | ErrorCode::REQUEST_TIMED_OUT
                    | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
                    | ErrorCode::KAFKA_STORAGE_ERROR
                    | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            ),
            _ => false,
        }
    }

    /// True if no broker could be reached, or none answered in time.
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self,
            ClientError::Unreachable { .. }
                | ClientError::Disconnected { .. }
                | ClientError::TurnedAway { .. }
                | ClientError::TimedOut { .. }
                | ClientError::NotDelivered { .. }
        )
    }

    /// The broker's code, if a broker refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Broker(fault) | ClientError::TurnedAway { fault, .. } => Some(fault.code),
            ClientError::TimedOut { last: Some(last), .. }
            | ClientError::NotDelivered { last: Some(last), .. } => last.code(),
            _ => None,
        }
    }

    /// What to do about it, if there is something to say.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            ClientError::Unreachable { .. } => {
                Some("is a broker running there? mkbroker --data ./data")
            }
            ClientError::Disconnected { .. } => {
                Some("did the broker stop? mkctl cluster health and its log tell; then try again")
            }
            ClientError::TimedOut { last, .. } | ClientError::NotDelivered { last, .. } => {
                let slow = "is a broker overloaded, or cut off? mkctl cluster health tells; \
                            --timeout, of produce --delivery-timeout, lets it take longer";
                last.as_ref().and_then(|last| last.hint()).or(Some(slow))
            }
            ClientError::Protocol { .. } => {
                Some("is that an mk broker, and of the same version as the client?")
            }
            ClientError::RecordTooLarge { .. } => Some(
                "send it in parts, or raise max_request_size of the producer and \
                 max.message.bytes of the topic",
            ),
            ClientError::Invalid(_) => Some("--help of each mkctl command begins with examples"),
            ClientError::Damaged { .. } => Some(
                "on the broker's machine mkinspect verify tells more; another replica may have it \
                 whole, and records behind it can be read from a larger offset on",
            ),
            ClientError::Broker(fault) | ClientError::TurnedAway { fault, .. } => {
                Some(fault.code.hint())
            }
            ClientError::LeaderFound | ClientError::Closed => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever was told that a connection had ended, a record was too large, or the time was up stood there
    /// with that.
    #[test]
    fn there_is_a_hint_where_something_can_be_done() {
        let timed_out = |last: Option<ClientError>| ClientError::TimedOut {
            what: "t".to_owned(),
            after: Duration::from_secs(1),
            last: last.map(Box::new),
        };
        let address = || "127.0.0.1:1".to_owned();
        let damaged = ClientError::Damaged {
            topic: "t".to_owned(),
            partition: 0,
            offset: 1,
            what: "a checksum".to_owned(),
        };
        for error in [
            timed_out(None),
            timed_out(Some(ClientError::LeaderFound)),
            ClientError::Disconnected { address: address(), reason: "reset".into() },
            ClientError::Protocol { address: address(), what: "noise".to_owned() },
            ClientError::RecordTooLarge { size: 2, limit: 1 },
            ClientError::Invalid("no address".to_owned()),
            damaged,
        ] {
            assert!(error.hint().is_some_and(|hint| !hint.is_empty()), "{error}");
        }
        // What stood in the way says more than that time is up.
        let disk = ErrorCode::KAFKA_STORAGE_ERROR;
        let of_disk = timed_out(Some(Fault::new(disk, "no room").into()));
        assert_eq!(of_disk.hint(), Some(disk.hint()));
    }
}
