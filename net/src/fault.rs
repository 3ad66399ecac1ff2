//! Errors that travel: Kafka's numbers and names, with a text for people.

use std::fmt;

use crate::codec::{DecodeError, Reader, Wire};

/// Kafka's error code. Unknown numbers are kept.
/// Source: <https://kafka.apache.org/protocol#protocol_error_codes>.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ErrorCode(pub i16);

macro_rules! error_codes {
    ($($name:ident = $code:literal, $retriable:literal, $hint:literal;)*) => {
        impl ErrorCode {
            $(#[doc = concat!($hint, ".")] pub const $name: ErrorCode = ErrorCode($code);)*

            /// All codes that mk uses.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name),*];

            /// Kafka's name of the code.
            pub fn name(self) -> &'static str {
                match self.0 { $($code => stringify!($name),)* _ => "UNKNOWN_ERROR_CODE" }
            }

            /// True if the same request may succeed when it is sent again.
            pub fn is_retriable(self) -> bool {
                match self.0 { $($code => $retriable,)* _ => false }
            }

            /// What to do about it, in one line.
            pub fn hint(self) -> &'static str {
                match self.0 { $($code => $hint,)* _ => "This mk does not know the code" }
            }
        }
    };
}

error_codes! {
    UNKNOWN_SERVER_ERROR = -1, false, "See the broker's log";
    NONE = 0, false, "All is well";
    OFFSET_OUT_OF_RANGE = 1, false, "Start from an offset between the log's start and its end";
    CORRUPT_MESSAGE = 2, true, "The batch was changed on its way; send it again";
    UNKNOWN_TOPIC_OR_PARTITION = 3, true, "Create the topic, add the partition, or check the name";
    INVALID_FETCH_SIZE = 4, false, "Ask for at least one byte";
    LEADER_NOT_AVAILABLE = 5, true, "Ask for the metadata again in a moment";
    NOT_LEADER_OR_FOLLOWER = 6, true, "Ask for the metadata again and turn to the leader";
    REQUEST_TIMED_OUT = 7, true, "The work may have been done all the same";
    MESSAGE_TOO_LARGE = 10, false, "Send smaller batches, or raise the topic's max.message.bytes";
    OFFSET_METADATA_TOO_LARGE = 12, false, "Write less beside an offset, or raise offset.metadata.max.bytes";
    NETWORK_EXCEPTION = 13, true, "Connect again";
    COORDINATOR_LOAD_IN_PROGRESS = 14, true, "The new coordinator reads what is known of the group; try again";
    COORDINATOR_NOT_AVAILABLE = 15, true, "Ask for the coordinator again in a moment";
    NOT_COORDINATOR = 16, true, "Ask who coordinates the group, and turn to that broker";
    INVALID_TOPIC_EXCEPTION = 17, false, "Use letters, digits, '.', '_' and '-', at most 249";
    RECORD_LIST_TOO_LARGE = 18, false, "Send fewer bytes at once";
    NOT_ENOUGH_REPLICAS = 19, true, "Wait until more replicas are in sync";
    NOT_ENOUGH_REPLICAS_AFTER_APPEND = 20, true, "The record may have been kept all the same";
    INVALID_REQUIRED_ACKS = 21, false, "acks is 0, 1 or -1 (all)";
    ILLEGAL_GENERATION = 22, false, "Join the group anew";
    INCONSISTENT_GROUP_PROTOCOL = 23, false, "Use an assignor that the group's other members know";
    INVALID_GROUP_ID = 24, false, "A group has a name of 1 to 249 characters";
    UNKNOWN_MEMBER_ID = 25, false, "Join the group anew";
    INVALID_SESSION_TIMEOUT = 26, false, "Use a session.timeout.ms between group.min.session.timeout.ms and group.max.session.timeout.ms";
    REBALANCE_IN_PROGRESS = 27, true, "Join the group again";
    INVALID_TIMESTAMP = 32, false, "Only the broker says that the time of a record is that of its append";
    UNSUPPORTED_VERSION = 35, false, "Ask for the api versions and use one of them";
    TOPIC_ALREADY_EXISTS = 36, false, "Use the topic that is there, or another name";
    INVALID_PARTITIONS = 37, false, "A topic has at least one partition and never loses one";
    INVALID_REPLICATION_FACTOR = 38, false, "Use at most as many replicas as there are brokers";
    INVALID_REPLICA_ASSIGNMENT = 39, false, "Name brokers that are there, each once; while a partition is moved, keep those that have its records";
    INVALID_CONFIG = 40, false, "See docs/settings.md for names and values";
    NOT_CONTROLLER = 41, true, "The mini-zookeeper is not reached; try again in a moment";
    INVALID_REQUEST = 42, false, "The client sent what the protocol does not have";
    UNSUPPORTED_FOR_MESSAGE_FORMAT = 43, false, "Use record batches of magic 2";
    POLICY_VIOLATION = 44, false, "A limit of the broker forbids it";
    OUT_OF_ORDER_SEQUENCE_NUMBER = 45, false, "A batch before it is missing: begin a new epoch of the producer";
    INVALID_PRODUCER_EPOCH = 47, false, "Another epoch of the producer is there; this one is over";
    OPERATION_NOT_ATTEMPTED = 55, true, "Something before it in the same request failed";
    KAFKA_STORAGE_ERROR = 56, true, "Look at the broker's disk and its log; try again";
    NON_EMPTY_GROUP = 68, false, "Stop the group's members first";
    GROUP_ID_NOT_FOUND = 69, false, "Check the name; a group is forgotten when its offsets expire";
    FETCH_SESSION_ID_NOT_FOUND = 70, true, "Fetch without a session";
    INVALID_FETCH_SESSION_EPOCH = 71, true, "Fetch without a session";
    FENCED_LEADER_EPOCH = 74, true, "Ask for the metadata again";
    UNKNOWN_LEADER_EPOCH = 75, true, "Try again; the broker is behind";
    UNSUPPORTED_COMPRESSION_TYPE = 76, false, "Use none, gzip, snappy, lz4 or zstd";
    STALE_BROKER_EPOCH = 77, false, "The broker was started anew; this life of it is over";
    OFFSET_NOT_AVAILABLE = 78, true, "The new leader does not know yet what is committed; try again";
    MEMBER_ID_REQUIRED = 79, false, "Join with the id that the answer brings";
    PREFERRED_LEADER_NOT_AVAILABLE = 80, true, "Wait until the preferred replica is in sync";
    GROUP_MAX_SIZE_REACHED = 81, false, "Stop a member, or raise group.consumer.max.size";
    FENCED_INSTANCE_ID = 82, false, "Another consumer has the same group.instance.id; stop one of them";
    ELIGIBLE_LEADERS_NOT_AVAILABLE = 83, true, "Start a broker that has a replica";
    ELECTION_NOT_NEEDED = 84, false, "The right replica leads already";
    NO_REASSIGNMENT_IN_PROGRESS = 85, false, "The partition is not being moved";
    INVALID_RECORD = 87, false, "The broker's rules do not allow the record";
    THROTTLING_QUOTA_EXCEEDED = 89, true, "Wait a little; or close connections, or raise the quota or max.connections";
    UNKNOWN_TOPIC_ID = 100, true, "The topic was deleted; ask for the metadata again";
    INCONSISTENT_TOPIC_ID = 103, true, "The topic was made anew; ask for the metadata again";
    FENCED_MEMBER_EPOCH = 110, false, "Join the group anew";
    UNRELEASED_INSTANCE_ID = 111, false, "Stop the other member of this instance id, or wait for its session to end";
    UNSUPPORTED_ASSIGNOR = 112, false, "Use uniform or range";
    STALE_MEMBER_EPOCH = 113, false, "The partition is another's, or was not this member's in that epoch";
    MISMATCHED_ENDPOINT_TYPE = 114, false, "Ask a controller, not a broker";
    UNSUPPORTED_ENDPOINT_TYPE = 115, false, "Ask for brokers";
    INVALID_REGULAR_EXPRESSION = 128, false, "Use the syntax of RE2, without what looks around";
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An error that travels.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} [{code}]")]
pub struct Fault {
    /// What kind of error.
    pub code: ErrorCode,
    /// What happened, in words.
    pub message: String,
}

impl Fault {
    /// An error of this kind.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Fault {
        Fault { code, message: message.into() }
    }
}

impl Wire for Fault {
    const MIN_SIZE: usize = 4;

    fn encode(&self, out: &mut Vec<u8>) {
        self.code.0.encode(out);
        self.message.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Fault, DecodeError> {
        Ok(Fault { code: ErrorCode(i16::decode(reader)?), message: String::decode(reader)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_codes_are_kept() {
        let fault = Fault::new(ErrorCode(1234), "later");
        let back: Fault = crate::codec::decode(&crate::codec::encode(&fault)).unwrap();
        assert_eq!(back, fault);
        assert_eq!(back.code.name(), "UNKNOWN_ERROR_CODE");
    }
}
