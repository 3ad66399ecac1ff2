//! Requests and their responses.
//!
//! A message is its fields one behind the other, as [`crate::codec`] writes them; the structs here
//! are the specification, and `docs/protocol.md` says the same for other languages. Record batches
//! are no field: they travel as the frame's payload.

mod clients;
mod cluster;
mod groups;
mod operate;
mod records;
mod topics;

use std::fmt;

pub use clients::{
    ClientTopic, ConsumedTopic, DeliveredTo, DescribedClient, ListClients, ListClientsResponse,
    RegisterClient, RegisterClientResponse,
};
pub use cluster::{
    ApiVersions, ApiVersionsResponse, BrokerAddress, KindVersions, Metadata, MetadataResponse,
    PartitionMetadata, TopicMetadata, TopicPlaces,
};
pub use groups::{
    CommitOffsets, CommitOffsetsResponse, CommitPart, CommittedOffset, DeleteGroup,
    DeleteGroupResponse, DescribeGroup, DescribeGroupResponse, DescribeProgress,
    DescribeProgressResponse, DescribedMember, DescribedReader, FetchOffsets, FetchOffsetsResponse,
    FindCoordinator, FindCoordinatorResponse, GroupHeartbeat, GroupHeartbeatResponse, GroupOffset,
    LeaveGroup, LeaveGroupResponse, ListGroups, ListGroupsResponse, ListedGroup, MemberAssignment,
    MemberProfile, PartitionProgress, ProgressPart, Redelivered, TopicPartitions,
};
pub use operate::{
    ClusterEvent, ClusterEvents, ClusterEventsResponse, DescribeCluster, DescribeClusterResponse,
    DescribedBroker, DescribedMove, ElectLeaders, ElectLeadersResponse, Election, MovePartitions,
    MovePartitionsResponse, PartitionMove, PartitionOf,
};
pub use records::{
    Appended, At, Durability, EpochEnd, Fetch, FetchPart, FetchResponse, Fetched, FoundOffset,
    InitProducerId, InitProducerIdResponse, ListOffsets, ListOffsetsPart, ListOffsetsResponse,
    Produce, ProducePart, ProduceResponse, Reader, ReplicaLife, TrimPart, TrimTopic,
    TrimTopicResponse,
};
pub use topics::{
    AddPartitions, AddPartitionsResponse, AlterTopic, AlterTopicResponse, CreateTopics,
    CreateTopicsResponse, CreatedTopic, DeleteTopics, DeleteTopicsResponse, DescribeTopics,
    DescribeTopicsResponse, DescribedPartition, DescribedSetting, DescribedTopic, NewTopic,
    Removal, Setting, SettingSource, TopicResult, WatchTopics, WatchTopicsResponse, WatchedTopic,
};

use crate::codec::Wire;
use crate::fault::{ErrorCode, Fault};
pub use crate::frame::Kind;

/// A request, and what answers it.
pub trait Request: Wire + Send + 'static {
    /// Its number.
    const KIND: Kind;
    /// Its newest version.
    const VERSION: u16;
    /// What answers it.
    type Response: Wire + Send;
}

macro_rules! requests {
    ($($name:ident = $number:literal, $oldest:literal..=$newest:literal, $request:ident -> $response:ident;)*) => {
        impl Kind {
            $(#[doc = concat!("[`", stringify!($request), "`].")]
            pub const $name: Kind = Kind($number);)*

            /// All kinds of requests, each with its oldest and newest version.
            pub const ALL: &[(Kind, u16, u16)] = &[$((Kind::$name, $oldest, $newest)),*];

            /// Its name in the specification.
            pub fn name(self) -> &'static str {
                match self.0 { $($number => stringify!($request),)* _ => "unknown" }
            }
        }

        $(impl Request for $request {
            const KIND: Kind = Kind::$name;
            const VERSION: u16 = $newest;
            type Response = $response;
        })*
    };
}

requests! {
    API_VERSIONS = 1, 1..=1, ApiVersions -> ApiVersionsResponse;
    METADATA = 2, 1..=1, Metadata -> MetadataResponse;
    CREATE_TOPICS = 3, 1..=1, CreateTopics -> CreateTopicsResponse;
    DELETE_TOPICS = 4, 1..=1, DeleteTopics -> DeleteTopicsResponse;
    DESCRIBE_TOPICS = 5, 1..=1, DescribeTopics -> DescribeTopicsResponse;
    ALTER_TOPIC = 6, 1..=1, AlterTopic -> AlterTopicResponse;
    ADD_PARTITIONS = 7, 1..=1, AddPartitions -> AddPartitionsResponse;
    PRODUCE = 8, 1..=1, Produce -> ProduceResponse;
    FETCH = 9, 3..=3, Fetch -> FetchResponse;
    LIST_OFFSETS = 10, 2..=2, ListOffsets -> ListOffsetsResponse;
    TRIM_TOPIC = 11, 1..=1, TrimTopic -> TrimTopicResponse;
    DESCRIBE_CLUSTER = 12, 1..=1, DescribeCluster -> DescribeClusterResponse;
    ELECT_LEADERS = 13, 1..=1, ElectLeaders -> ElectLeadersResponse;
    MOVE_PARTITIONS = 14, 1..=1, MovePartitions -> MovePartitionsResponse;
    CLUSTER_EVENTS = 15, 1..=1, ClusterEvents -> ClusterEventsResponse;
    INIT_PRODUCER_ID = 16, 1..=1, InitProducerId -> InitProducerIdResponse;
    FIND_COORDINATOR = 17, 1..=1, FindCoordinator -> FindCoordinatorResponse;
    GROUP_HEARTBEAT = 18, 2..=2, GroupHeartbeat -> GroupHeartbeatResponse;
    LEAVE_GROUP = 19, 1..=1, LeaveGroup -> LeaveGroupResponse;
    COMMIT_OFFSETS = 20, 2..=2, CommitOffsets -> CommitOffsetsResponse;
    FETCH_OFFSETS = 21, 2..=2, FetchOffsets -> FetchOffsetsResponse;
    LIST_GROUPS = 22, 2..=2, ListGroups -> ListGroupsResponse;
    DESCRIBE_GROUP = 23, 3..=3, DescribeGroup -> DescribeGroupResponse;
    DELETE_GROUP = 24, 1..=1, DeleteGroup -> DeleteGroupResponse;
    DESCRIBE_PROGRESS = 25, 2..=2, DescribeProgress -> DescribeProgressResponse;
    REGISTER_CLIENT = 26, 2..=2, RegisterClient -> RegisterClientResponse;
    LIST_CLIENTS = 27, 2..=2, ListClients -> ListClientsResponse;
    WATCH_TOPICS = 28, 1..=1, WatchTopics -> WatchTopicsResponse;
}

impl Kind {
    /// No request: the kind of a response to a frame that could not be understood at all.
    pub const NONE: Kind = Kind(0);

    /// Refuses kinds and versions that there are not, with what there is.
    pub fn check(self, version: u16) -> Result<(), Fault> {
        let known = Kind::ALL.iter().find(|(kind, _, _)| *kind == self);
        match known {
            Some((_, min, max)) if (*min..=*max).contains(&version) => Ok(()),
            Some((kind, min, max)) => {
                let what = format!("{kind} version {version}, known are {min} to {max}");
                Err(Fault::new(ErrorCode::UNSUPPORTED_VERSION, what))
            }
            None => {
                let what = format!("request kind {} is not known", self.0);
                Err(Fault::new(ErrorCode::UNSUPPORTED_VERSION, what))
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

/// A message: its fields one behind the other.
macro_rules! message {
    ($($(#[$doc:meta])* pub struct $name:ident {
        $($(#[$field_doc:meta])* pub $field:ident: $type:ty,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $type,)*
        }

        impl $crate::codec::Wire for $name {
            const MIN_SIZE: usize = 0 $(+ <$type as $crate::codec::Wire>::MIN_SIZE)*;

            #[allow(unused_variables, reason = "a message may have no fields")]
            fn encode(&self, out: &mut Vec<u8>) {
                $($crate::codec::Wire::encode(&self.$field, out);)*
            }

            #[allow(unused_variables, reason = "a message may have no fields")]
            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<$name, $crate::codec::DecodeError> {
                Ok($name { $($field: $crate::codec::Wire::decode(reader)?,)* })
            }
        }
    )*};
}

/// A choice without fields: one byte.
macro_rules! choice {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$item_doc:meta])* $item:ident = $number:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$item_doc])* $item = $number,)*
        }

        impl $crate::codec::Wire for $name {
            const MIN_SIZE: usize = 1;

            fn encode(&self, out: &mut Vec<u8>) {
                out.push(*self as u8);
            }

            fn decode(
                reader: &mut $crate::codec::Reader<'_>,
            ) -> Result<$name, $crate::codec::DecodeError> {
                let at = reader.position();
                match <u8 as $crate::codec::Wire>::decode(reader)? {
                    $($number => Ok($name::$item),)*
                    found => Err(reader.invalid(stringify!($name), at, found.into())),
                }
            }
        }
    };
}

pub(crate) use {choice, message};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_kinds_and_versions_are_named() {
        assert_eq!(Kind::FETCH.check(3), Ok(()));
        let error = Kind::FETCH.check(9).unwrap_err();
        assert_eq!(error.code, ErrorCode::UNSUPPORTED_VERSION);
        assert!(error.message.contains("Fetch version 9, known are 3 to 3"), "{error}");
        assert!(Kind(999).check(1).unwrap_err().message.contains("kind 999"));
        assert!(Kind::NONE.check(1).is_err());
    }
}
