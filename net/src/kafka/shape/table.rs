//! The shape of every request, by Kafka's message definitions: fields in their order, with the versions that have
//! them. Fields that only versions have that are not served are left out.

use super::field::{Field, bool, bytes, i8, i16, i32, i64, list, numbers, text, texts, uuid};
use crate::kafka::api::ApiKey;

/// The shape of a request; none for what is not served, and for Produce and Fetch.
pub(super) fn shape(key: ApiKey) -> Option<&'static [Field]> {
    Some(match key {
        ApiKey::LIST_OFFSETS => LIST_OFFSETS,
        ApiKey::METADATA => METADATA,
        ApiKey::OFFSET_COMMIT => OFFSET_COMMIT,
        ApiKey::OFFSET_FETCH => OFFSET_FETCH,
        ApiKey::FIND_COORDINATOR => FIND_COORDINATOR,
        ApiKey::JOIN_GROUP => JOIN_GROUP,
        ApiKey::HEARTBEAT => HEARTBEAT,
        ApiKey::LEAVE_GROUP => LEAVE_GROUP,
        ApiKey::SYNC_GROUP => SYNC_GROUP,
        ApiKey::DESCRIBE_GROUPS => DESCRIBE_GROUPS,
        ApiKey::LIST_GROUPS => LIST_GROUPS,
        ApiKey::API_VERSIONS => API_VERSIONS,
        ApiKey::CREATE_TOPICS => CREATE_TOPICS,
        ApiKey::DELETE_TOPICS => DELETE_TOPICS,
        ApiKey::DELETE_RECORDS => DELETE_RECORDS,
        ApiKey::INIT_PRODUCER_ID => INIT_PRODUCER_ID,
        ApiKey::OFFSET_FOR_LEADER_EPOCH => OFFSET_FOR_LEADER_EPOCH,
        ApiKey::DESCRIBE_CONFIGS => DESCRIBE_CONFIGS,
        ApiKey::ALTER_CONFIGS => ALTER_CONFIGS,
        ApiKey::DESCRIBE_LOG_DIRS => DESCRIBE_LOG_DIRS,
        ApiKey::CREATE_PARTITIONS => CREATE_PARTITIONS,
        ApiKey::DELETE_GROUPS => DELETE_GROUPS,
        ApiKey::ELECT_LEADERS => ELECT_LEADERS,
        ApiKey::INCREMENTAL_ALTER_CONFIGS => INCREMENTAL_ALTER_CONFIGS,
        ApiKey::ALTER_PARTITION_REASSIGNMENTS => ALTER_PARTITION_REASSIGNMENTS,
        ApiKey::LIST_PARTITION_REASSIGNMENTS => LIST_PARTITION_REASSIGNMENTS,
        ApiKey::OFFSET_DELETE => OFFSET_DELETE,
        ApiKey::DESCRIBE_CLUSTER => DESCRIBE_CLUSTER,
        ApiKey::CONSUMER_GROUP_HEARTBEAT => CONSUMER_GROUP_HEARTBEAT,
        ApiKey::CONSUMER_GROUP_DESCRIBE => CONSUMER_GROUP_DESCRIBE,
        _ => return None,
    })
}

const LIST_OFFSETS: &[Field] = &[
    i32("replica id"),
    i8("isolation level").since(2),
    list(
        "topics",
        &[
            text("topic"),
            list("partitions", &[i32("partition"), i32("leader epoch").since(4), i64("timestamp")]),
        ],
    ),
];

const METADATA: &[Field] = &[
    list("topics", &[uuid("topic id").since(10), text("topic").nullable_since(10)])
        .nullable_since(1),
    bool("allow auto topic creation").since(4),
    bool("include cluster authorized operations").since(8).until(10),
    bool("include topic authorized operations").since(8),
];

const OFFSET_COMMIT: &[Field] = &[
    text("group id"),
    i32("generation id"),
    text("member id"),
    text("group instance id").since(7).nullable(),
    i64("retention time").until(4),
    list(
        "topics",
        &[
            text("topic"),
            list(
                "partitions",
                &[
                    i32("partition"),
                    i64("offset"),
                    i32("leader epoch").since(6),
                    text("metadata").nullable(),
                ],
            ),
        ],
    ),
];

const OFFSET_FETCH: &[Field] = &[
    text("group id").until(7),
    list("topics", &[text("topic"), numbers("partitions")]).until(7).nullable_since(2),
    list(
        "groups",
        &[
            text("group id"),
            text("member id").since(9).nullable(),
            i32("member epoch").since(9),
            list("topics", &[text("topic"), numbers("partitions")]).nullable(),
        ],
    )
    .since(8),
    bool("require stable").since(7),
];

const FIND_COORDINATOR: &[Field] =
    &[text("key").until(3), i8("key type").since(1), texts("coordinator keys").since(4)];

const JOIN_GROUP: &[Field] = &[
    text("group id"),
    i32("session timeout"),
    i32("rebalance timeout").since(1),
    text("member id"),
    text("group instance id").since(5).nullable(),
    text("protocol type"),
    list("protocols", &[text("protocol"), bytes("metadata")]),
    text("reason").since(8).nullable(),
];

const HEARTBEAT: &[Field] = &[
    text("group id"),
    i32("generation id"),
    text("member id"),
    text("group instance id").since(3).nullable(),
];

const LEAVE_GROUP: &[Field] = &[
    text("group id"),
    text("member id").until(2),
    list(
        "members",
        &[
            text("member id"),
            text("group instance id").nullable(),
            text("reason").since(5).nullable(),
        ],
    )
    .since(3),
];

const SYNC_GROUP: &[Field] = &[
    text("group id"),
    i32("generation id"),
    text("member id"),
    text("group instance id").since(3).nullable(),
    text("protocol type").since(5).nullable(),
    text("protocol").since(5).nullable(),
    list("assignments", &[text("member id"), bytes("assignment")]),
];

const DESCRIBE_GROUPS: &[Field] =
    &[texts("groups"), bool("include authorized operations").since(3)];

const LIST_GROUPS: &[Field] = &[texts("states").since(4), texts("types").since(5)];

const API_VERSIONS: &[Field] =
    &[text("client software name").since(3), text("client software version").since(3)];

const CREATE_TOPICS: &[Field] = &[
    list(
        "topics",
        &[
            text("topic"),
            i32("partitions"),
            i16("replication factor"),
            list("assignments", &[i32("partition"), numbers("brokers")]),
            list("configs", &[text("config"), text("value").nullable()]),
        ],
    ),
    i32("timeout"),
    bool("validate only"),
];

const DELETE_TOPICS: &[Field] = &[
    list("topics", &[text("topic").nullable(), uuid("topic id")]).since(6),
    texts("topics").until(5),
    i32("timeout"),
];

const DELETE_RECORDS: &[Field] = &[
    list("topics", &[text("topic"), list("partitions", &[i32("partition"), i64("offset")])]),
    i32("timeout"),
];

const INIT_PRODUCER_ID: &[Field] = &[
    text("transactional id").nullable(),
    i32("transaction timeout"),
    i64("producer id").since(3),
    i16("producer epoch").since(3),
];

const OFFSET_FOR_LEADER_EPOCH: &[Field] = &[
    i32("replica id").since(3),
    list(
        "topics",
        &[
            text("topic"),
            list(
                "partitions",
                &[i32("partition"), i32("current leader epoch"), i32("leader epoch")],
            ),
        ],
    ),
];

const DESCRIBE_CONFIGS: &[Field] = &[
    list("resources", &[i8("resource type"), text("resource"), texts("configs").nullable()]),
    bool("include synonyms"),
    bool("include documentation").since(3),
];

const ALTER_CONFIGS: &[Field] = &[
    list(
        "resources",
        &[
            i8("resource type"),
            text("resource"),
            list("configs", &[text("config"), text("value").nullable()]),
        ],
    ),
    bool("validate only"),
];

const DESCRIBE_LOG_DIRS: &[Field] =
    &[list("topics", &[text("topic"), numbers("partitions")]).nullable()];

const CREATE_PARTITIONS: &[Field] = &[
    list(
        "topics",
        &[text("topic"), i32("partitions"), list("assignments", &[numbers("brokers")]).nullable()],
    ),
    i32("timeout"),
    bool("validate only"),
];

const DELETE_GROUPS: &[Field] = &[texts("groups")];

const ELECT_LEADERS: &[Field] = &[
    i8("election type").since(1),
    list("topics", &[text("topic"), numbers("partitions")]).nullable(),
    i32("timeout"),
];

const INCREMENTAL_ALTER_CONFIGS: &[Field] = &[
    list(
        "resources",
        &[
            i8("resource type"),
            text("resource"),
            list("configs", &[text("config"), i8("operation"), text("value").nullable()]),
        ],
    ),
    bool("validate only"),
];

const ALTER_PARTITION_REASSIGNMENTS: &[Field] = &[
    i32("timeout"),
    list(
        "topics",
        &[text("topic"), list("partitions", &[i32("partition"), numbers("replicas").nullable()])],
    ),
];

const LIST_PARTITION_REASSIGNMENTS: &[Field] =
    &[i32("timeout"), list("topics", &[text("topic"), numbers("partitions")]).nullable()];

const OFFSET_DELETE: &[Field] =
    &[text("group id"), list("topics", &[text("topic"), list("partitions", &[i32("partition")])])];

const DESCRIBE_CLUSTER: &[Field] =
    &[bool("include cluster authorized operations"), i8("endpoint type").since(1)];

const CONSUMER_GROUP_HEARTBEAT: &[Field] = &[
    text("group id"),
    text("member id"),
    i32("member epoch"),
    text("instance id").nullable(),
    text("rack id").nullable(),
    i32("rebalance timeout"),
    texts("topics").nullable(),
    text("topic regex").since(1).nullable(),
    text("assignor").nullable(),
    list("topic partitions", &[uuid("topic id"), numbers("partitions")]).nullable(),
];

const CONSUMER_GROUP_DESCRIBE: &[Field] = &[texts("groups"), bool("include authorized operations")];
