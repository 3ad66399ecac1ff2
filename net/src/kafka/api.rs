//! The requests of Kafka's protocol that are served.

use std::fmt;

/// Names a request: the `api_key` of Kafka's protocol.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ApiKey(pub i16);

/// A request that is served.
#[derive(Clone, Copy, Debug)]
pub struct Api {
    /// Which.
    pub key: ApiKey,
    /// Its name.
    pub name: &'static str,
    /// Lowest version that is told to clients.
    pub min: i16,
    /// Highest version that is told to clients.
    pub max: i16,
    /// From this version on its fields are compact and have tags (KIP-482), and its header has tags.
    pub flexible: i16,
}

/// No version of it is flexible.
const NEVER: i16 = i16::MAX;

macro_rules! apis {
    ($($name:ident $constant:ident = $key:literal, $min:literal..=$max:literal, $flexible:expr;)*) => {
        impl ApiKey {
            $(#[doc = concat!("`", stringify!($name), "`.")] pub const $constant: ApiKey = ApiKey($key);)*
        }

        impl Api {
            $(#[doc = concat!("`", stringify!($name), "`.")] pub const $constant: Api = Api {
                key: ApiKey::$constant,
                name: stringify!($name),
                min: $min,
                max: $max,
                flexible: $flexible,
            };)*

            /// All that are served, by key.
            pub const ALL: &[Api] = &[$(Api::$constant),*];
        }
    };
}

// The versions are what is served in full, with the exception below; what is absent is not served at all. The lowest are those that the
// oldest clients in use need. Produce 0 to 2 are told of and refused: librdkafka 2.0.2 sends without
// compression to a broker that does not tell of version 0 (KAFKA-18659). Of ConsumerGroupHeartbeat 1 the pattern is
// not served (docs/kafka.md): librdkafka has no other version.
apis! {
    Produce PRODUCE = 0, 0..=11, 9;
    Fetch FETCH = 1, 4..=12, 12;
    ListOffsets LIST_OFFSETS = 2, 1..=8, 6;
    Metadata METADATA = 3, 0..=13, 9;
    OffsetCommit OFFSET_COMMIT = 8, 2..=9, 8;
    OffsetFetch OFFSET_FETCH = 9, 1..=9, 6;
    FindCoordinator FIND_COORDINATOR = 10, 0..=4, 3;
    JoinGroup JOIN_GROUP = 11, 0..=9, 6;
    Heartbeat HEARTBEAT = 12, 0..=4, 4;
    LeaveGroup LEAVE_GROUP = 13, 0..=5, 4;
    SyncGroup SYNC_GROUP = 14, 0..=5, 4;
    DescribeGroups DESCRIBE_GROUPS = 15, 0..=5, 5;
    ListGroups LIST_GROUPS = 16, 0..=5, 3;
    ApiVersions API_VERSIONS = 18, 0..=4, 3;
    CreateTopics CREATE_TOPICS = 19, 2..=7, 5;
    DeleteTopics DELETE_TOPICS = 20, 1..=6, 4;
    DeleteRecords DELETE_RECORDS = 21, 0..=2, 2;
    InitProducerId INIT_PRODUCER_ID = 22, 0..=5, 2;
    OffsetForLeaderEpoch OFFSET_FOR_LEADER_EPOCH = 23, 2..=4, 4;
    DescribeConfigs DESCRIBE_CONFIGS = 32, 1..=4, 4;
    AlterConfigs ALTER_CONFIGS = 33, 0..=2, 2;
    DescribeLogDirs DESCRIBE_LOG_DIRS = 35, 1..=4, 2;
    CreatePartitions CREATE_PARTITIONS = 37, 0..=3, 2;
    DeleteGroups DELETE_GROUPS = 42, 0..=2, 2;
    ElectLeaders ELECT_LEADERS = 43, 0..=2, 2;
    IncrementalAlterConfigs INCREMENTAL_ALTER_CONFIGS = 44, 0..=1, 1;
    AlterPartitionReassignments ALTER_PARTITION_REASSIGNMENTS = 45, 0..=0, 0;
    ListPartitionReassignments LIST_PARTITION_REASSIGNMENTS = 46, 0..=0, 0;
    OffsetDelete OFFSET_DELETE = 47, 0..=0, NEVER;
    DescribeCluster DESCRIBE_CLUSTER = 60, 0..=1, 0;
    ConsumerGroupHeartbeat CONSUMER_GROUP_HEARTBEAT = 68, 0..=1, 0;
    ConsumerGroupDescribe CONSUMER_GROUP_DESCRIBE = 69, 0..=1, 0;
}

impl ApiKey {
    /// What is served under the key, if anything is.
    pub fn served(self) -> Option<&'static Api> {
        Api::ALL.iter().find(|api| api.key == self)
    }
}

impl Api {
    /// True if the fields of this version are compact and have tags.
    pub fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible
    }

    /// True if the header of the response to this version has tags. That of ApiVersions never has: a client reads it
    /// before it knows what the broker speaks (KIP-511).
    pub fn has_flexible_response_header(&self, version: i16) -> bool {
        self.key != ApiKey::API_VERSIONS && self.is_flexible(version)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.served() {
            Some(api) => f.write_str(api.name),
            None => write!(f, "api {}", self.0),
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
