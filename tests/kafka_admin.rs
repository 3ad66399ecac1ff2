//! Kafka's administrative requests over a socket, version by version: topics, records, the cluster.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use common::kafka::{KafkaClient, append, name, text, versions};
use common::{Broker, data_dir};
use kafka_protocol::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::EpochEndOffset;
use kafka_protocol::messages::{
    AlterPartitionReassignmentsRequest, BrokerId, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeLogDirsRequest,
    ElectLeadersRequest, ListPartitionReassignmentsRequest, MetadataRequest,
    OffsetForLeaderEpochRequest,
};
use mk_net::fault::ErrorCode;
use mk_net::kafka::api::ApiKey;
use uuid::Uuid;

const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// What there is of a topic, which is not made by asking.
fn look(client: &mut KafkaClient, topic: &str) -> MetadataResponseTopic {
    let topic = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    client.call(12, &request.with_allow_auto_topic_creation(false)).topics.remove(0)
}

fn is_there(client: &mut KafkaClient, topic: &str) -> bool {
    look(client, topic).error_code == 0
}

fn new(topic: &str, partitions: i32, replicas: i16) -> CreatableTopic {
    CreatableTopic::default()
        .with_name(name(topic))
        .with_num_partitions(partitions)
        .with_replication_factor(replicas)
}

fn with_config(topic: CreatableTopic, key: &str, value: Option<&str>) -> CreatableTopic {
    let config = CreatableTopicConfig::default().with_name(text(key)).with_value(value.map(text));
    topic.with_configs(vec![config])
}

/// A topic whose partitions are given these numbers and brokers.
fn assigned(topic: CreatableTopic, places: &[(i32, &[i32])]) -> CreatableTopic {
    let assignments = places.iter().map(|(number, ids)| {
        CreatableReplicaAssignment::default()
            .with_partition_index(*number)
            .with_broker_ids(ids.iter().map(|id| BrokerId(*id)).collect())
    });
    topic.with_assignments(assignments.collect())
}

fn create(
    client: &mut KafkaClient,
    version: i16,
    topics: Vec<CreatableTopic>,
) -> Vec<CreatableTopicResult> {
    let request = CreateTopicsRequest::default().with_topics(topics).with_timeout_ms(10_000);
    client.call(version, &request).topics
}

/// A topic that went while all were asked for was named with an error, which ends kafkajs; and was made again, if the client
/// lets topics be made.
#[test]
fn of_all_topics_only_those_are_told_that_there_are() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let asked = AtomicBool::new(false);
    let all = MetadataRequest::default().with_topics(None).with_allow_auto_topic_creation(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = KafkaClient::connect(broker.address());
            for number in 0..200 {
                let topic = format!("t{number}");
                let request = CreateTopicsRequest::default().with_topics(vec![new(&topic, 1, 1)]);
                assert_eq!(client.call(7, &request).topics[0].error_code, 0);
                let names = vec![name(&topic)];
                let delete = DeleteTopicsRequest::default().with_topic_names(names);
                assert_eq!(client.call(5, &delete).responses[0].error_code, 0);
            }
            asked.store(true, Ordering::Relaxed);
        });
        let askers = [0, 1].map(|_| {
            scope.spawn(|| {
                let mut client = KafkaClient::connect(broker.address());
                while !asked.load(Ordering::Relaxed) {
                    let response = client.call(12, &all);
                    let wrong = response.topics.iter().find(|topic| topic.error_code != 0);
                    assert_eq!(wrong, None);
                }
            })
        });
        askers.into_iter().for_each(|asker| asker.join().unwrap());
    });
    let mut client = KafkaClient::connect(broker.address());
    assert_eq!(client.call(12, &all).topics, [], "none was made again");
}

#[test]
fn topics_are_made_in_every_version() {
    let (_root, data) = data_dir();
    let broker = Broker::start_with(&data, "127.0.0.1:0", &["--set", "num.partitions=3"]);
    let mut client = KafkaClient::connect(broker.address());
    for version in versions(ApiKey::CREATE_TOPICS) {
        let topic = format!("t{version}");
        let asked = with_config(new(&topic, 2, 1), "retention.ms", Some("1s"));
        let validate = CreateTopicsRequest::default()
            .with_topics(vec![asked.clone()])
            .with_validate_only(true);
        let validated = client.call(version, &validate).topics.remove(0);
        assert_eq!((validated.error_code, validated.error_message), (0, None));
        assert!(!is_there(&mut client, &topic));

        let made = create(&mut client, version, vec![asked]).remove(0);
        assert_eq!((made.error_code, made.error_message), (0, None), "version {version}");
        let found = look(&mut client, &topic);
        assert_eq!(found.partitions.len(), 2);
        assert_eq!(made.topic_id, if version >= 7 { found.topic_id } else { Uuid::nil() });
        for result in [
            (made.num_partitions, made.replication_factor),
            (validated.num_partitions, validated.replication_factor),
        ] {
            assert_eq!(result, if version >= 5 { (2, 1) } else { (-1, -1) });
        }
        for configs in [made.configs.unwrap(), validated.configs.unwrap()] {
            let value = |key: &str| {
                let found = configs.iter().find(|config| config.name.as_str() == key);
                found.map(|c| (c.value.as_ref().unwrap().to_string(), c.config_source))
            };
            if version >= 5 {
                assert_eq!(value("retention.ms"), Some(("1000".to_owned(), 1)));
                assert_eq!(value("segment.bytes"), Some(("1073741824".to_owned(), 5)));
                assert!(configs.iter().all(|config| !config.read_only && !config.is_sensitive));
            } else {
                assert_eq!(configs, []);
            }
        }
        let topic = format!("default{version}");
        create(&mut client, version, vec![new(&topic, -1, -1)]);
        let found = look(&mut client, &topic);
        assert_eq!((found.partitions.len(), found.partitions[0].replica_nodes.len()), (3, 1));
        // Where there is one broker it does not matter who chooses it.
        let topic = format!("assigned{version}");
        let asked = assigned(new(&topic, -1, -1), &[(1, &[1]), (0, &[1])]);
        assert_eq!(create(&mut client, version, vec![asked]).remove(0).error_code, 0);
        assert_eq!(look(&mut client, &topic).partitions.len(), 2);
    }
    broker.stop();
}

#[test]
fn what_is_wrong_with_a_new_topic_is_said_of_it_alone() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    create(&mut client, 7, vec![new("old", 1, 1)]);
    let plain = || new("bad", 1, 1);
    for version in versions(ApiKey::CREATE_TOPICS) {
        for (topic, error) in [
            (new("old", 1, 1), ErrorCode::TOPIC_ALREADY_EXISTS),
            (new("no/name", 1, 1), ErrorCode::INVALID_TOPIC_EXCEPTION),
            (new("bad", 0, 1), ErrorCode::INVALID_PARTITIONS),
            (new("bad", -2, 1), ErrorCode::INVALID_PARTITIONS),
            (new("bad", 20_000, 1), ErrorCode::INVALID_PARTITIONS),
            (new("bad", 1, 2), ErrorCode::INVALID_REPLICATION_FACTOR),
            (new("bad", 1, 0), ErrorCode::INVALID_REPLICATION_FACTOR),
            (new("bad", 1, -3), ErrorCode::INVALID_REPLICATION_FACTOR),
            (with_config(plain(), "retention.m", Some("1")), ErrorCode::INVALID_CONFIG),
            (with_config(plain(), "retention.ms", Some("long")), ErrorCode::INVALID_CONFIG),
            (with_config(plain(), "retention.ms", None), ErrorCode::INVALID_CONFIG),
            (new(OFFSETS_TOPIC, 1, 1), ErrorCode::POLICY_VIOLATION),
            (assigned(new("bad", -1, -1), &[(0, &[2])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (assigned(new("bad", -1, -1), &[(0, &[1, 2])]), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
            (
                assigned(new("bad", -1, -1), &[(0, &[1]), (2, &[1])]),
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            ),
            (assigned(new("bad", 1, 1), &[(0, &[1])]), ErrorCode::INVALID_REQUEST),
        ] {
            let good = format!("good{version}-{}", error.0);
            let asked = vec![topic.clone(), new(&good, 1, 1)];
            let results = create(&mut client, version, asked);
            let of_good = if is_there(&mut client, &good) { results[1].error_code } else { -1 };
            assert!(of_good == 0 || of_good == ErrorCode::TOPIC_ALREADY_EXISTS.0);
            let [of_bad, _] = &results[..] else { panic!("{results:?}") };
            assert_eq!(ErrorCode(of_bad.error_code), error, "version {version}: {topic:?}");
            assert_eq!(of_bad.name, topic.name);
            assert!(of_bad.error_message.as_ref().is_some_and(|message| !message.is_empty()));
            assert!(!is_there(&mut client, "bad"));
        }
        let twice = vec![new("twice", 1, 1), new("other", 1, 1), new("twice", 2, 1)];
        let results = create(&mut client, version, twice);
        assert_eq!(results.len(), 2);
        assert_eq!(ErrorCode(results[0].error_code), ErrorCode::INVALID_REQUEST);
        assert!(is_there(&mut client, "other") && !is_there(&mut client, "twice"));
    }
}

#[test]
fn topics_are_deleted_by_name_and_by_id() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    let by_name = |topic: &str| DeleteTopicState::default().with_name(Some(name(topic)));
    let by_id = |id: Uuid| DeleteTopicState::default().with_name(None).with_topic_id(id);
    for version in versions(ApiKey::DELETE_TOPICS) {
        let topics = ["a", "b", "twice"].map(|topic| new(topic, 1, 1));
        create(&mut client, 7, topics.to_vec());
        let names = ["a", "never", "twice", "twice", OFFSETS_TOPIC];
        let request = DeleteTopicsRequest::default().with_timeout_ms(10_000);
        let (request, more) = if version >= 6 {
            let b = look(&mut client, "b").topic_id;
            let named = names.iter().map(|topic| by_name(topic));
            let others = [
                by_id(b),
                by_id(Uuid::from_u128(7)),
                by_id(Uuid::nil()),
                by_name("x").with_topic_id(b),
            ];
            (request.with_topics(named.chain(others).collect()), Some(b))
        } else {
            (request.with_topic_names(names.iter().map(|topic| name(topic)).collect()), None)
        };
        let results = client.call(version, &request).responses;
        let found = results.iter().map(|result| {
            assert_eq!(result.error_message.is_some(), version >= 5 && result.error_code != 0);
            (result.name.as_ref().map(|name| name.to_string()), ErrorCode(result.error_code))
        });
        let some = |name: &str| Some(name.to_owned());
        let mut expected = vec![
            (some("a"), ErrorCode::NONE),
            (some("never"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (some("twice"), ErrorCode::INVALID_REQUEST),
            (some(OFFSETS_TOPIC), ErrorCode::POLICY_VIOLATION),
        ];
        if let Some(b) = more {
            expected.extend([
                (some("b"), ErrorCode::NONE),
                (None, ErrorCode::UNKNOWN_TOPIC_ID),
                (None, ErrorCode::INVALID_REQUEST),
                (some("x"), ErrorCode::INVALID_REQUEST),
            ]);
            assert_eq!(results[4].topic_id, b);
            assert!(!results[0].topic_id.is_nil());
        }
        assert_eq!(found.collect::<Vec<_>>(), expected, "version {version}");
        assert!(!is_there(&mut client, "a") && is_there(&mut client, "twice"));
        assert_eq!(is_there(&mut client, "b"), more.is_none());
    }
}

#[test]
fn topics_grow() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    create(&mut client, 7, vec![new("t", 1, 1), new("twice", 1, 1)]);
    let to = |topic: &str, count: i32| {
        CreatePartitionsTopic::default()
            .with_name(name(topic))
            .with_count(count)
            .with_assignments(None)
    };
    let on = |ids: &[i32]| {
        let ids = ids.iter().map(|id| BrokerId(*id)).collect();
        CreatePartitionsAssignment::default().with_broker_ids(ids)
    };
    let mut now = 1;
    for version in versions(ApiKey::CREATE_PARTITIONS) {
        for (topic, error) in [
            (to("t", now), ErrorCode::INVALID_PARTITIONS),
            (to("t", -1), ErrorCode::INVALID_PARTITIONS),
            (to("never", 2), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (to(OFFSETS_TOPIC, 99), ErrorCode::POLICY_VIOLATION),
            (
                to("t", now + 1).with_assignments(Some(vec![on(&[2])])),
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            ),
            (
                to("t", now + 2).with_assignments(Some(vec![on(&[1])])),
                ErrorCode::INVALID_REPLICA_ASSIGNMENT,
            ),
        ] {
            let request = CreatePartitionsRequest::default();
            let asked = vec![to("twice", 2), topic.clone(), to("twice", 3)];
            let results = client.call(version, &request.with_topics(asked)).results;
            let [of_twice, of_topic] = &results[..] else { panic!("{results:?}") };
            assert_eq!(ErrorCode(of_twice.error_code), ErrorCode::INVALID_REQUEST);
            assert_eq!(ErrorCode(of_topic.error_code), error, "version {version}: {topic:?}");
            assert!(of_topic.name == topic.name && of_topic.error_message.is_some());
        }
        assert_eq!(look(&mut client, "twice").partitions.len(), 1);
        for assignments in [None, Some(vec![on(&[1])])] {
            let request = CreatePartitionsRequest::default()
                .with_topics(vec![to("t", now + 1).with_assignments(assignments)]);
            let tried = client.call(version, &request.clone().with_validate_only(true)).results;
            assert_eq!(
                (tried[0].error_code, look(&mut client, "t").partitions.len()),
                (0, now as usize)
            );
            let done = client.call(version, &request).results.remove(0);
            assert_eq!((done.error_code, done.error_message), (0, None));
            now += 1;
            assert_eq!(look(&mut client, "t").partitions.len(), now as usize);
        }
    }
}

#[test]
fn records_are_taken_from_the_start_of_logs() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    for version in versions(ApiKey::DELETE_RECORDS) {
        let topic = format!("t{version}");
        create(&mut client, 7, vec![new(&topic, 1, 1)]);
        append(&mut client, &topic, -1, 5);
        for (of, partition, offset, low, error) in [
            (topic.as_str(), 0, 2, 2, ErrorCode::NONE),
            (&topic, 0, 1, 2, ErrorCode::NONE),
            (&topic, 0, 6, -1, ErrorCode::OFFSET_OUT_OF_RANGE),
            (&topic, 0, -2, -1, ErrorCode::OFFSET_OUT_OF_RANGE),
            (&topic, 1, 0, -1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (&topic, -1, 0, -1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("never", 0, 0, -1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            (OFFSETS_TOPIC, 0, 0, -1, ErrorCode::POLICY_VIOLATION),
            (&topic, 0, -1, 5, ErrorCode::NONE),
        ] {
            let part = |index, offset| {
                DeleteRecordsPartition::default().with_partition_index(index).with_offset(offset)
            };
            // What is refused before it is tried takes no other's result.
            let refused = part(7, -9);
            let asked = DeleteRecordsTopic::default()
                .with_name(name(of))
                .with_partitions(vec![refused, part(partition, offset)]);
            let request = DeleteRecordsRequest::default().with_topics(vec![asked]);
            let mut results = client.call(version, &request).topics.remove(0);
            assert_eq!(results.name, name(of));
            let result = results.partitions.remove(1);
            let found =
                (result.partition_index, result.low_watermark, ErrorCode(result.error_code));
            assert_eq!(found, (partition, low, error), "version {version}: {of}, {offset}");
            let code = ErrorCode(results.partitions[0].error_code);
            assert_eq!(code, ErrorCode::OFFSET_OUT_OF_RANGE);
        }
    }
}

#[test]
fn the_disk_is_one_folder_with_the_sizes_of_logs() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    create(&mut client, 7, vec![new("a", 2, 1), new("b", 1, 1)]);
    let bytes = append(&mut client, "a", -1, 5) as i64;
    let of = |topic: &str, partitions: &[i32]| {
        DescribableLogDirTopic::default()
            .with_topic(name(topic))
            .with_partitions(partitions.to_vec())
    };
    for version in versions(ApiKey::DESCRIBE_LOG_DIRS) {
        for (asked, expected) in [
            (None, vec![("a", 0, bytes), ("a", 1, 0), ("b", 0, 0)]),
            (Some(vec![of("a", &[0, 7, -1, 0]), of("never", &[0])]), vec![("a", 0, bytes)]),
            (
                Some(vec![of("a", &[1]), of("b", &[0]), of("a", &[0])]),
                vec![("a", 0, bytes), ("a", 1, 0), ("b", 0, 0)],
            ),
            (Some(Vec::new()), Vec::new()),
        ] {
            let request = DescribeLogDirsRequest::default().with_topics(asked);
            let response = client.call(version, &request);
            assert_eq!(response.error_code, 0);
            let [dir] = &response.results[..] else { panic!("{response:?}") };
            assert_eq!((dir.error_code, dir.log_dir.as_str()), (0, data.to_str().unwrap()));
            let is_known = dir.total_bytes >= dir.usable_bytes && dir.usable_bytes > 0;
            assert_eq!(is_known, version >= 4);
            let mut found = Vec::new();
            for topic in &dir.topics {
                for partition in &topic.partitions {
                    assert!(partition.offset_lag == 0 && !partition.is_future_key);
                    found.push((
                        topic.name.as_str(),
                        partition.partition_index,
                        partition.partition_size,
                    ));
                }
            }
            found.sort_unstable();
            assert_eq!(found, expected, "version {version}");
        }
    }
}

#[test]
fn an_election_that_is_not_needed_is_said_of_each_partition() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    create(&mut client, 7, vec![new("t", 2, 1)]);
    let of = |topic: &str, partitions: &[i32]| {
        TopicPartitions::default().with_topic(name(topic)).with_partitions(partitions.to_vec())
    };
    for version in versions(ApiKey::ELECT_LEADERS) {
        let kinds = if version >= 1 { 0..=1 } else { 0..=0 };
        for kind in kinds {
            let request = ElectLeadersRequest::default().with_election_type(kind);
            let all = client.call(version, &request.clone().with_topic_partitions(None));
            assert_eq!((all.error_code, all.replica_election_results.len()), (0, 0));
            let asked = vec![of("t", &[0, 1, 9]), of("never", &[0])];
            let some = client.call(version, &request.with_topic_partitions(Some(asked)));
            assert_eq!(some.error_code, 0);
            let mut found = Vec::new();
            for topic in &some.replica_election_results {
                for partition in &topic.partition_result {
                    assert!(partition.error_message.is_some());
                    let code = ErrorCode(partition.error_code);
                    found.push((topic.topic.as_str(), partition.partition_id, code));
                }
            }
            let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            let not_needed = ErrorCode::ELECTION_NOT_NEEDED;
            let expected = [
                ("t", 0, not_needed),
                ("t", 1, not_needed),
                ("t", 9, unknown),
                ("never", 0, unknown),
            ];
            assert_eq!(found, expected, "version {version}, election {kind}");
        }
        if version >= 1 {
            let request = ElectLeadersRequest::default().with_election_type(2);
            let refused = client.call(version, &request);
            assert_eq!(ErrorCode(refused.error_code), ErrorCode::INVALID_REQUEST);
        }
    }
}

#[test]
fn a_partition_goes_nowhere_where_there_is_one_broker() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    create(&mut client, 7, vec![new("t", 1, 1)]);
    let to = |index: i32, replicas: Option<&[i32]>| {
        let replicas = replicas.map(|ids| ids.iter().map(|id| BrokerId(*id)).collect());
        ReassignablePartition::default().with_partition_index(index).with_replicas(replicas)
    };
    let asked = [
        (to(0, None), ErrorCode::NO_REASSIGNMENT_IN_PROGRESS),
        (to(0, Some(&[2])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (to(0, Some(&[-1])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (to(0, Some(&[])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (to(0, Some(&[1, 1])), ErrorCode::INVALID_REPLICA_ASSIGNMENT),
        (to(3, Some(&[1])), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (to(0, Some(&[1])), ErrorCode::NONE),
    ];
    let partitions = asked.iter().map(|(partition, _)| partition.clone()).collect();
    let topic = ReassignableTopic::default().with_name(name("t")).with_partitions(partitions);
    let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
    let response = client.call(0, &request);
    assert_eq!((response.error_code, response.error_message), (0, None));
    let found = response.responses[0].partitions.iter().map(|result| {
        assert_eq!(result.error_message.is_some(), result.error_code != 0);
        (result.partition_index, ErrorCode(result.error_code))
    });
    let expected = asked.iter().map(|(partition, error)| (partition.partition_index, *error));
    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    let list = ListPartitionReassignmentsRequest::default().with_topics(None);
    let listed = client.call(0, &list);
    assert_eq!((listed.error_code, listed.error_message, listed.topics.len()), (0, None, 0));
}

#[test]
fn the_cluster_is_its_brokers() {
    let (_root, data) = data_dir();
    let broker = Broker::start_with(&data, "127.0.0.1:0", &["--set", "broker.rack=r1"]);
    let mut client = KafkaClient::connect(broker.address());
    let port: i32 = broker.address().rsplit_once(':').unwrap().1.parse().unwrap();
    let cluster_id = client.call(12, &MetadataRequest::default()).cluster_id.unwrap();
    for version in versions(ApiKey::DESCRIBE_CLUSTER) {
        for asks in [true, false] {
            let request =
                DescribeClusterRequest::default().with_include_cluster_authorized_operations(asks);
            let response = client.call(version, &request);
            assert_eq!((response.error_code, response.error_message), (0, None));
            assert_eq!(
                (response.cluster_id, response.controller_id),
                (cluster_id.clone(), BrokerId(1))
            );
            assert_eq!(response.cluster_authorized_operations == i32::MIN, !asks);
            assert!(!asks || response.cluster_authorized_operations > 0);
            let [only] = &response.brokers[..] else { panic!("{:?}", response.brokers) };
            let rack = only.rack.as_ref().map(|rack| rack.as_str());
            assert_eq!(
                (only.broker_id.0, only.host.as_str(), only.port, rack),
                (1, "127.0.0.1", port, Some("r1"))
            );
        }
        if version >= 1 {
            for (kind, error) in [
                (2, ErrorCode::MISMATCHED_ENDPOINT_TYPE),
                (3, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE),
            ] {
                let request = DescribeClusterRequest::default().with_endpoint_type(kind);
                let response = client.call(version, &request);
                assert_eq!(ErrorCode(response.error_code), error);
                assert!(response.error_message.is_some() && response.brokers.is_empty());
            }
        }
    }
}

/// Where an epoch ends in partition 0.
fn end(
    client: &mut KafkaClient,
    version: i16,
    topic: &str,
    current: i32,
    asked: i32,
) -> EpochEndOffset {
    let part = OffsetForLeaderPartition::default()
        .with_current_leader_epoch(current)
        .with_leader_epoch(asked);
    let topic = OffsetForLeaderTopic::default().with_topic(name(topic)).with_partitions(vec![part]);
    let request = OffsetForLeaderEpochRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    client.call(version, &request).topics.remove(0).partitions.remove(0)
}

#[test]
fn a_consumer_learns_where_an_epoch_ended() {
    let (_root, data) = data_dir();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    create(&mut client, 7, vec![new("t", 1, 1), new("empty", 1, 1)]);
    let first = look(&mut client, "t").partitions[0].leader_epoch;
    append(&mut client, "t", -1, 3);
    broker.stop();
    let broker = Broker::start(&data);
    let mut client = KafkaClient::connect(broker.address());
    let second = look(&mut client, "t").partitions[0].leader_epoch;
    assert!(second > first && first >= 0);
    append(&mut client, "t", -1, 4);
    for version in versions(ApiKey::OFFSET_FOR_LEADER_EPOCH) {
        for (topic, current, asked, error, epoch, offset) in [
            ("t", -1, first, ErrorCode::NONE, first, 3),
            ("t", second, second, ErrorCode::NONE, second, 7),
            ("t", second, second + 1, ErrorCode::NONE, -1, -1),
            ("t", second, -1, ErrorCode::NONE, -1, -1),
            ("t", first, first, ErrorCode::FENCED_LEADER_EPOCH, -1, -1),
            ("t", second + 1, first, ErrorCode::UNKNOWN_LEADER_EPOCH, -1, -1),
            ("empty", -1, first, ErrorCode::NONE, first, 0),
            ("never", -1, first, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, -1, -1),
        ] {
            let found = end(&mut client, version, topic, current, asked);
            assert_eq!(
                (ErrorCode(found.error_code), found.leader_epoch, found.end_offset),
                (error, epoch, offset),
                "version {version}: {topic}, {asked}"
            );
        }
    }
    // Whoever has read all of an epoch that is gone has lost nothing, and is not sent elsewhere.
    let all = DeleteRecordsPartition::default().with_offset(5);
    let all = DeleteRecordsTopic::default().with_name(name("t")).with_partitions(vec![all]);
    client.call(2, &DeleteRecordsRequest::default().with_topics(vec![all]));
    let gone = end(&mut client, 4, "t", -1, first);
    assert_eq!((gone.leader_epoch, gone.end_offset), (first, 5));
}
