//! Every setting there is.

use std::fmt::Write;

use super::SettingError;
use super::value::{Kind, Value};

/// Where a setting may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// For the broker.
    Broker,
    /// For a topic; a topic without it follows the broker's setting of the name given.
    Topic {
        /// The broker's setting.
        default_from: &'static str,
    },
    /// For the mini-zookeeper, and with it for the cluster.
    Zoo,
}

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    /// Its name; Kafka's where Kafka has it.
    pub name: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// What holds where nobody says otherwise, as people write it. Empty for topic settings.
    pub default: &'static str,
    /// Where it may be set.
    pub scope: Scope,
    /// What it does.
    pub doc: &'static str,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const DAY_MS: u64 = 86_400_000;
const TEN_YEARS_MS: u64 = 3650 * DAY_MS;

const SEGMENT_BYTES: Kind = Kind::Bytes { min: 4 * KIB, max: i32::MAX as u64 };
const SEGMENT_MS: Kind = Kind::Millis { min: 1, max: TEN_YEARS_MS };
const INDEX_INTERVAL: Kind = Kind::Bytes { min: 0, max: MIB };
const REQUESTS: Kind = Kind::CountOrNone { max: 1 << 30 };
const RETENTION_BYTES: Kind = Kind::BytesOrNone { max: 1 << 60 };
const RETENTION_MS: Kind = Kind::MillisOrNone { max: 100 * TEN_YEARS_MS };
const DELETE_RETENTION: Kind = Kind::Millis { min: 0, max: TEN_YEARS_MS };
const COMPACTION_LAG: Kind = Kind::Millis { min: 0, max: TEN_YEARS_MS };
const HEARTBEAT: Kind = Kind::Millis { min: 1, max: 600_000 };
const MIN_ISR: Kind = Kind::Count { min: 1, max: 1000 };
const MESSAGE_BYTES: Kind = Kind::Bytes { min: 100, max: 64 * MIB };

const fn broker(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Definition {
    Definition { name, kind, default, scope: Scope::Broker, doc }
}

const fn topic(
    name: &'static str,
    kind: Kind,
    default_from: &'static str,
    doc: &'static str,
) -> Definition {
    Definition { name, kind, default: "", scope: Scope::Topic { default_from }, doc }
}

const fn zoo(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Definition {
    Definition { name, kind, default, scope: Scope::Zoo, doc }
}

/// All settings, the broker's first, each group by name.
pub const ALL: &[Definition] = &[
    broker(
        "advertised.listeners",
        Kind::Text,
        "",
        "HOST:PORT that clients are told to connect to. Empty: the address listened on.",
    ),
    broker(
        "auto.create.topics.enable",
        Kind::Bool,
        "true",
        "Create a topic when somebody first produces to it or consumes from it.",
    ),
    broker(
        "broker.id",
        Kind::Count { min: 0, max: i32::MAX as u64 },
        "1",
        "Id of the broker; fixed in the data directory from its first start on.",
    ),
    broker(
        "broker.rack",
        Kind::Text,
        "",
        "Where the broker stands. The replicas of a partition are spread over racks, and a consumer \
         reads from one in its own.",
    ),
    broker(
        "connections.max.idle.ms",
        Kind::Millis { min: 1000, max: TEN_YEARS_MS },
        "10m",
        "Close a connection on which nothing has happened for so long.",
    ),
    broker(
        "default.replication.factor",
        Kind::Count { min: 1, max: 100 },
        "3",
        "Replicas of a topic whose creator does not say; 1 for a broker without `--zoo`.",
    ),
    broker(
        "group.consumer.heartbeat.interval.ms",
        Kind::Millis { min: 100, max: 60_000 },
        "2s",
        "So often members of groups say that they are there. What changes they are told at once.",
    ),
    broker(
        "group.consumer.max.size",
        Kind::Count { min: 1, max: 100_000 },
        "10000",
        "Most members of a group.",
    ),
    broker(
        "group.initial.rebalance.delay.ms",
        Kind::Millis { min: 0, max: 10 * 60_000 },
        "3s",
        "The first member of a group that one of its members leads (Kafka Connect, Kafka Streams, assignors of a client's \
         own) is kept waiting so long for others to start. Groups whose members the brokers tell what to read do not wait.",
    ),
    broker(
        "group.max.session.timeout.ms",
        Kind::Millis { min: 100, max: DAY_MS },
        "30m",
        "Longest session.timeout.ms of members that speak Kafka's classic group protocol.",
    ),
    broker(
        "group.min.session.timeout.ms",
        Kind::Millis { min: 100, max: DAY_MS },
        "6s",
        "Shortest session.timeout.ms of members that speak Kafka's classic group protocol.",
    ),
    broker(
        "group.consumer.session.timeout.ms",
        Kind::Millis { min: 500, max: 10 * 60_000 },
        "10s",
        "A member that is not heard of for so long is none any more, and others read what it has read. \
         To be several times group.consumer.heartbeat.interval.ms.",
    ),
    broker(
        "log.cleaner.backoff.ms",
        Kind::Millis { min: 10, max: DAY_MS },
        "15s",
        "How often is looked for logs to compact.",
    ),
    broker(
        "log.cleaner.dedupe.buffer.size",
        Kind::Bytes { min: 4 * KIB, max: 64 << 30 },
        "128MiB",
        "Memory for keys while a log is compacted, 28 to 57 bytes for each. A log with more is \
         compacted in several steps.",
    ),
    broker(
        "log.cleaner.delete.retention.ms",
        DELETE_RETENTION,
        "1d",
        "How long a compacted log keeps a tombstone (a key without a value) behind the compaction \
         that removed what it deletes.",
    ),
    broker(
        "log.cleaner.io.max.bytes.per.second",
        RETENTION_BYTES,
        "-1",
        "How fast logs are compacted, in bytes that are read.",
    ),
    broker(
        "log.cleaner.min.cleanable.ratio",
        Kind::Ratio,
        "0.5",
        "Compact a log when this part of it was not compacted yet.",
    ),
    broker(
        "log.cleaner.min.compaction.lag.ms",
        COMPACTION_LAG,
        "0",
        "Leave a segment alone as long as its newest record is younger.",
    ),
    broker(
        "log.cleanup.policy",
        Kind::Cleanup,
        "delete",
        "What happens to old records: they are removed by age and size (delete), or when a newer \
         one has their key (compact), or both.",
    ),
    broker(
        "log.disk.reserve.bytes",
        Kind::Bytes { min: 0, max: 1 << 50 },
        "256MiB",
        "Free room on the disk that records may not take. Below it produces are refused, all else \
         goes on; with an eighth more they are taken again.",
    ),
    broker(
        "log.flush.checkpoint.interval.ms",
        Kind::Millis { min: 100, max: DAY_MS },
        "5s",
        "How often the recovery points are written; after a crash the log is scanned from there.",
    ),
    broker(
        "log.flush.policy",
        Kind::Flush,
        "ack",
        "When records are synced: before an acks=all produce is answered (ack), every so often \
         (interval:<time>), or when the operating system likes (os).",
    ),
    broker(
        "log.index.interval.bytes",
        INDEX_INTERVAL,
        "4KiB",
        "One index entry for about so many bytes of log.",
    ),
    broker(
        "log.idle.close.ms",
        Kind::Millis { min: 100, max: DAY_MS },
        "30s",
        "Close the files of a partition that nobody has used for one to two times as long, and give \
         back what was reserved for it. The next use opens them.",
    ),
    broker(
        "log.message.timestamp.type",
        Kind::TimestampType,
        "CreateTime",
        "Whether the time of a record is when its producer says it was made (CreateTime), or when the \
         leader appended it (LogAppendTime).",
    ),
    broker(
        "log.open.files.max",
        Kind::Count { min: 10, max: 10_000_000 },
        "4000",
        "Files that are kept open to be read.",
    ),
    broker(
        "log.open.partitions.max",
        Kind::Count { min: 1, max: 1_000_000 },
        "3000",
        "Partitions that are kept open to be appended to, each with up to three files and four \
         maps (see vm.max_map_count).",
    ),
    broker(
        "log.retention.bytes",
        RETENTION_BYTES,
        "-1",
        "Remove the oldest segment of a partition when so many bytes are left without it.",
    ),
    broker(
        "log.retention.check.interval.ms",
        Kind::Millis { min: 100, max: DAY_MS },
        "5m",
        "How often is looked for segments to remove.",
    ),
    broker(
        "log.retention.ms",
        RETENTION_MS,
        "7d",
        "Remove a segment when its newest record is so old. Records without a timestamp do not age.",
    ),
    broker("log.roll.ms", SEGMENT_MS, "7d", "Begin a new segment when the last one is so old."),
    broker(
        "log.scrub.bytes.per.second",
        Kind::Bytes { min: 0, max: 100 << 30 },
        "16MiB",
        "How fast sealed segments are checked against their seals in the background. 0: not at all.",
    ),
    broker(
        "log.scrub.interval.ms",
        Kind::Millis { min: 1000, max: TEN_YEARS_MS },
        "7d",
        "Begin to check all sealed segments once in so long, at the first time when the broker starts.",
    ),
    broker(
        "log.segment.delete.delay.ms",
        Kind::Millis { min: 0, max: TEN_YEARS_MS },
        "1m",
        "How long deleted topics and segments stay in the folder trash.",
    ),
    broker(
        "log.segment.bytes",
        SEGMENT_BYTES,
        "1GiB",
        "Begin a new segment before the last one grows beyond.",
    ),
    broker(
        "max.connections",
        Kind::Count { min: 1, max: 1_000_000 },
        "10000",
        "Connections that are served at once; further ones are told so, and closed.",
    ),
    broker(
        "message.max.bytes",
        MESSAGE_BYTES,
        "2MiB",
        "Largest batch that is taken, header included. Kafka's default is 1048588, in which a \
         record of 1 MiB does not fit.",
    ),
    broker(
        "min.insync.replicas",
        MIN_ISR,
        "1",
        "An acks=all record is committed when so many replicas have it, the leader among them. In a \
         cluster the zookeeper's setting counts.",
    ),
    broker(
        "num.network.threads",
        Kind::Count { min: 0, max: 64 },
        "0",
        "Event loops that serve connections. 0: one for each core.",
    ),
    broker(
        "num.partitions",
        Kind::Count { min: 1, max: 10_000 },
        "1",
        "Partitions of a topic whose creator does not say.",
    ),
    broker(
        "num.recovery.threads.per.data.dir",
        Kind::Count { min: 1, max: 256 },
        "2",
        "Partitions that are opened, flushed and closed side by side.",
    ),
    broker(
        "offset.metadata.max.bytes",
        Kind::Bytes { min: 0, max: 64 * KIB },
        "4KiB",
        "Most bytes of what a member may write beside an offset that it commits.",
    ),
    broker(
        "offsets.retention.check.interval.ms",
        Kind::Millis { min: 1, max: DAY_MS },
        "10m",
        "So often it is looked for offsets to forget.",
    ),
    broker(
        "offsets.retention.minutes",
        Kind::Count { min: 1, max: 10 * 365 * 24 * 60 },
        "10080",
        "Forget an offset of a group without members when it was committed so long ago, and the last member has left so long ago.",
    ),
    broker(
        "offsets.topic.num.partitions",
        Kind::Count { min: 1, max: 1000 },
        "16",
        "Partitions of the offsets topic when it is made. Their leaders share the groups among them.",
    ),
    broker(
        "producer.id.expiration.ms",
        Kind::Millis { min: 1000, max: 365 * DAY_MS },
        "1d",
        "Forget what an idempotent producer has sent when it has sent nothing for so long. To be longer than producers try to deliver a record.",
    ),
    broker(
        "quota.consumer.default",
        RETENTION_BYTES,
        "-1",
        "Bytes of records a second that a client (by its client.id) is given by this broker. One that asks for more is made to wait.",
    ),
    broker(
        "quota.producer.default",
        RETENTION_BYTES,
        "-1",
        "Bytes of records a second that this broker takes from a client. One that sends more is made to wait.",
    ),
    broker(
        "quota.request.default",
        REQUESTS,
        "-1",
        "Requests a second that this broker takes from a client.",
    ),
    broker(
        "replica.fetch.max.bytes",
        Kind::Bytes { min: 4 * KIB, max: 1 << 30 },
        "1MiB",
        "Most bytes of a partition that a follower asks its leader for at once.",
    ),
    broker(
        "replica.fetch.response.max.bytes",
        Kind::Bytes { min: 64 * KIB, max: 64 * MIB },
        "16MiB",
        "Most bytes of all partitions that a follower asks a leader for at once.",
    ),
    broker(
        "replica.fetch.wait.max.ms",
        Kind::Millis { min: 10, max: 60_000 },
        "500ms",
        "How long a follower's fetch waits at the leader for records; less than \
         replica.lag.time.max.ms.",
    ),
    broker(
        "replica.lag.time.max.ms",
        Kind::Millis { min: 100, max: DAY_MS },
        "2s",
        "A follower that has not had all records of its leader for so long leaves the in-sync \
         replicas. Kafka's default is 30 s.",
    ),
    broker(
        "socket.request.max.bytes",
        Kind::Bytes { min: 64 * KIB, max: 1 << 30 },
        "100MiB",
        "Largest request that is read.",
    ),
    broker(
        "unclean.leader.election.enable",
        Kind::Bool,
        "false",
        "Let a replica lead that may miss acknowledged records when no other is left. In a cluster \
         the zookeeper's setting counts.",
    ),
    topic(
        "cleanup.policy",
        Kind::Cleanup,
        "log.cleanup.policy",
        "What happens to old records: delete, compact, or compact,delete. Where they are compacted \
         each record needs a key.",
    ),
    topic(
        "delete.retention.ms",
        DELETE_RETENTION,
        "log.cleaner.delete.retention.ms",
        "How long a compacted log keeps a tombstone.",
    ),
    topic(
        "flush",
        Kind::Flush,
        "log.flush.policy",
        "When records are synced: ack, interval:<time>, os.",
    ),
    topic(
        "index.interval.bytes",
        INDEX_INTERVAL,
        "log.index.interval.bytes",
        "One index entry for about so many bytes of log.",
    ),
    topic("max.message.bytes", MESSAGE_BYTES, "message.max.bytes", "Largest batch that is taken."),
    topic(
        "message.timestamp.type",
        Kind::TimestampType,
        "log.message.timestamp.type",
        "Whether the time of a record is when its producer says it was made (CreateTime), or when the \
         leader appended it (LogAppendTime). Records that are there already keep theirs.",
    ),
    topic(
        "min.cleanable.dirty.ratio",
        Kind::Ratio,
        "log.cleaner.min.cleanable.ratio",
        "Compact a log when this part of it was not compacted yet.",
    ),
    topic(
        "min.compaction.lag.ms",
        COMPACTION_LAG,
        "log.cleaner.min.compaction.lag.ms",
        "Leave a segment alone as long as its newest record is younger.",
    ),
    topic(
        "min.insync.replicas",
        MIN_ISR,
        "min.insync.replicas",
        "An acks=all record is committed when so many replicas have it, the leader among them.",
    ),
    topic(
        "retention.bytes",
        RETENTION_BYTES,
        "log.retention.bytes",
        "Remove the oldest segment of a partition when so many bytes are left without it.",
    ),
    topic(
        "retention.ms",
        RETENTION_MS,
        "log.retention.ms",
        "Remove a segment when its newest record is so old.",
    ),
    topic(
        "segment.bytes",
        SEGMENT_BYTES,
        "log.segment.bytes",
        "Begin a new segment before the last one grows beyond.",
    ),
    topic(
        "segment.ms",
        SEGMENT_MS,
        "log.roll.ms",
        "Begin a new segment when the last one is so old.",
    ),
    topic(
        "unclean.leader.election.enable",
        Kind::Bool,
        "unclean.leader.election.enable",
        "Let a replica lead that may miss acknowledged records when no other is left.",
    ),
    zoo(
        "auto.leader.rebalance.enable",
        Kind::Bool,
        "true",
        "Let the preferred leader of a partition (the first of its replicas) lead again by itself, once it \
         has caught up and leader.rebalance.hold.down.ms has gone by.",
    ),
    zoo("broker.heartbeat.interval.ms", HEARTBEAT, "25ms", "Brokers beat so often."),
    zoo(
        "broker.session.timeout.ms",
        HEARTBEAT,
        "300ms",
        "A broker that is silent for so long is fenced: others lead. At least three heartbeats.",
    ),
    zoo(
        "broker.stall.timeout.ms",
        HEARTBEAT,
        "1500ms",
        "A broker whose event loops or disk have stood still for so long is fenced, though it beats.",
    ),
    zoo(
        "broker.suspicion.timeout.ms",
        HEARTBEAT,
        "80ms",
        "A broker whose process seems to be gone has so long to answer. If its port is closed it is \
         fenced at once.",
    ),
    zoo(
        "flush",
        Kind::Flush,
        "ack",
        "When records are synced, for topics that do not say: ack, interval:<time>, os.",
    ),
    zoo(
        "leader.rebalance.hold.down.ms",
        HEARTBEAT,
        "30s",
        "A preferred leader leads again when it could and nothing has happened to its partition for so \
         long: a broker that comes and goes does not take its leaderships along each time.",
    ),
    zoo(
        "min.insync.replicas",
        MIN_ISR,
        "2",
        "For topics that do not say: an acks=all record is committed when so many replicas have it.",
    ),
    zoo(
        "unclean.leader.election.enable",
        Kind::Bool,
        "false",
        "For topics that do not say: let a replica lead that may miss acknowledged records.",
    ),
];

/// The broker's setting of this name, or the topic's.
pub fn definition(name: &str, of_topic: bool) -> Result<&'static Definition, SettingError> {
    find(name, |scope| match scope {
        Scope::Broker => !of_topic,
        Scope::Topic { .. } => of_topic,
        Scope::Zoo => false,
    })
}

/// The setting of this name among those of some scopes.
pub(super) fn find(
    name: &str,
    is_meant: impl Fn(Scope) -> bool,
) -> Result<&'static Definition, SettingError> {
    let in_scope = || ALL.iter().filter(|definition| is_meant(definition.scope));
    in_scope().find(|definition| definition.name == name).ok_or_else(|| {
        let similarity = |candidate: &str| strsim::jaro_winkler(name, candidate);
        let nearest = in_scope()
            .map(|definition| (similarity(definition.name), definition.name))
            .filter(|(similarity, _)| *similarity > 0.8)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, name)| name);
        SettingError::Unknown { name: name.to_owned(), nearest }
    })
}

impl Definition {
    /// Reads a value for this setting.
    pub fn parse(&self, text: &str) -> Result<Value, SettingError> {
        self.kind.parse(text).map_err(|expected| SettingError::Invalid {
            name: self.name.to_owned(),
            found: text.to_owned(),
            expected: format!("must be {expected}"),
        })
    }
}

/// The text of `docs/settings.md`.
pub fn documentation() -> String {
    let mut out = String::from(
        "# Settings\n\n\
         Made from the registry in `src/settings/registry.rs`; a test holds this page to it.\n\n\
         The broker takes them by `--set NAME=VALUE`, then from the environment \
         (`MKBROKER_LOG_SEGMENT_BYTES`), then from the TOML file that `--config` names, then its \
         default. A topic's own setting (`mkctl topic create -c NAME=VALUE`, `mkctl config set`) \
         comes before the broker's. An unknown name is an error.\n\n\
         The zookeeper (`mkzoo`) takes its own by `--set NAME=VALUE`.\n",
    );
    for title in ["Broker", "Topic", "Zookeeper"] {
        let _ = writeln!(out, "\n## {title}\n\n| name | default | value | what it does |");
        let _ = writeln!(out, "|---|---|---|---|");
        for definition in ALL {
            let default = match definition.scope {
                Scope::Topic { default_from } if title == "Topic" => {
                    format!("the broker's `{default_from}`")
                }
                Scope::Broker if title == "Broker" => format!("`{}`", definition.default),
                Scope::Zoo if title == "Zookeeper" => format!("`{}`", definition.default),
                _ => continue,
            };
            let (name, doc) = (definition.name, definition.doc);
            let value = definition.kind.expectation();
            let _ = writeln!(out, "| `{name}` | {default} | {value} | {doc} |");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_a_value_and_every_topic_setting_has_a_broker_setting() {
        for definition in ALL {
            match definition.scope {
                Scope::Broker | Scope::Zoo => assert!(definition.parse(definition.default).is_ok()),
                Scope::Topic { default_from } => {
                    let broker = super::definition(default_from, false).unwrap();
                    assert_eq!(broker.kind, definition.kind, "{default_from}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_name_gets_the_nearest() {
        let error = definition("log.segment.byte", false).unwrap_err().to_string();
        assert_eq!(error, "unknown setting 'log.segment.byte'; did you mean 'log.segment.bytes'?");
        assert!(definition("segment.bytes", false).is_err(), "a topic's, not the broker's");
        assert!(definition("zzz", true).unwrap_err().to_string().ends_with("'zzz'"));
    }

    #[test]
    fn the_page_is_up_to_date() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/settings.md");
        if std::env::var_os("MK_UPDATE_DOCS").is_some() {
            std::fs::write(path, documentation()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == documentation(), "run the tests once with MK_UPDATE_DOCS=1");
    }
}
