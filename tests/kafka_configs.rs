//! Settings by Kafka's requests, over a socket, version by version.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

mod common;

use common::kafka::{KafkaClient, text, versions};
use common::{Broker, data_dir};
use kafka_protocol::messages::alter_configs_request::{
    AlterConfigsResource, AlterableConfig as Whole,
};
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource as IncrementalResource, AlterableConfig as Incremental,
};
use kafka_protocol::messages::{
    AlterConfigsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest,
};
use kafka_protocol::protocol::StrBytes;
use mk::settings::{ALL, Scope};
use mk_net::fault::ErrorCode;
use mk_net::kafka::api::ApiKey;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;
const LOGGER: i8 = 8;
const OF_TOPIC: i8 = 1;
const OF_BROKER: i8 = 4;
const DEFAULT: i8 = 5;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn of(kind: i8, name: &str) -> DescribeConfigsResource {
    DescribeConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configuration_keys(None)
}

/// What is said of a resource, with all that can be asked for in the version.
fn describe(
    client: &mut KafkaClient,
    version: i16,
    resource: DescribeConfigsResource,
) -> DescribeConfigsResult {
    let request = DescribeConfigsRequest::default()
        .with_resources(vec![resource])
        .with_include_synonyms(true)
        .with_include_documentation(version >= 3);
    client.call(version, &request).results.remove(0)
}

fn find<'a>(result: &'a DescribeConfigsResult, key: &str) -> &'a DescribeConfigsResourceResult {
    result.configs.iter().find(|config| config.name.as_str() == key).expect(key)
}

fn shown(value: &Option<StrBytes>) -> &str {
    value.as_ref().unwrap()
}

/// A topic's own settings, in the order of their names.
fn own(client: &mut KafkaClient, topic: &str) -> Vec<(String, String)> {
    let described = describe(client, 4, of(TOPIC, topic));
    let own = described.configs.iter().filter(|config| config.config_source == OF_TOPIC);
    let mut own: Vec<_> =
        own.map(|config| (config.name.to_string(), shown(&config.value).to_owned())).collect();
    own.sort();
    own
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

/// Broker and client, and a topic with two settings of its own.
fn start(data: &std::path::Path) -> (Broker, KafkaClient) {
    let flags = ["--set", "log.retention.ms=2d", "--set", "log.cleaner.min.cleanable.ratio=0.25"];
    let broker = Broker::start_with(data, "127.0.0.1:0", &flags);
    broker.run(&["topic", "create", "t", "-c", "segment.ms=1h", "-c", "cleanup.policy=compact"]);
    let client = KafkaClient::connect(broker.address());
    (broker, client)
}

#[test]
fn a_topics_settings_are_told_as_kafkas_clients_read_them() {
    let (_root, data) = data_dir();
    let (_broker, mut client) = start(&data);
    for version in versions(ApiKey::DESCRIBE_CONFIGS) {
        let all = describe(&mut client, version, of(TOPIC, "t"));
        assert_eq!((all.error_code, all.error_message.as_ref()), (0, None));
        assert_eq!((all.resource_type, all.resource_name.as_str()), (TOPIC, "t"));
        let names: Vec<_> = all.configs.iter().map(|config| config.name.as_str()).collect();
        let known = ALL.iter().filter(|known| matches!(known.scope, Scope::Topic { .. }));
        assert_eq!(names, known.map(|known| known.name).collect::<Vec<_>>());
        for (key, value, source, kind) in [
            ("segment.ms", "3600000", OF_TOPIC, 5),
            ("cleanup.policy", "compact", OF_TOPIC, 7),
            ("retention.ms", "172800000", OF_BROKER, 5),
            ("min.cleanable.dirty.ratio", "0.25", OF_BROKER, 6),
            ("segment.bytes", "1073741824", DEFAULT, 3),
            ("retention.bytes", "-1", DEFAULT, 5),
            ("max.message.bytes", "2097152", DEFAULT, 3),
            ("delete.retention.ms", "86400000", DEFAULT, 5),
            ("unclean.leader.election.enable", "false", DEFAULT, 1),
            ("message.timestamp.type", "CreateTime", DEFAULT, 2),
            ("min.insync.replicas", "1", DEFAULT, 3),
        ] {
            let found = find(&all, key);
            assert_eq!((shown(&found.value), found.config_source), (value, source), "{key}");
            assert_eq!(found.config_type, if version >= 3 { kind } else { 0 }, "{key}");
            assert!(!found.read_only && !found.is_sensitive);
        }
        // The strongest first, under the name that it has where it comes from.
        let synonyms = |key: &str| {
            let all = find(&all, key).synonyms.iter();
            all.map(|s| (s.name.to_string(), shown(&s.value).to_owned(), s.source))
                .collect::<Vec<_>>()
        };
        let named = |of: &[(&str, &str, i8)]| {
            of.iter().map(|(n, v, s)| (n.to_string(), v.to_string(), *s)).collect::<Vec<_>>()
        };
        assert_eq!(
            synonyms("segment.ms"),
            named(&[("segment.ms", "3600000", OF_TOPIC), ("log.roll.ms", "604800000", DEFAULT)])
        );
        assert_eq!(
            synonyms("retention.ms"),
            named(&[
                ("log.retention.ms", "172800000", OF_BROKER),
                ("log.retention.ms", "604800000", DEFAULT)
            ])
        );
        // What is not asked for is not told.
        let bare = DescribeConfigsRequest::default().with_resources(vec![of(TOPIC, "t")]);
        let bare = client.call(version, &bare).results.remove(0);
        for (full, bare) in all.configs.iter().zip(&bare.configs) {
            assert!(!full.synonyms.is_empty() && bare.synonyms.is_empty());
            let documentation = full.documentation.as_ref().is_some_and(|text| text.len() > 10);
            assert_eq!(documentation, version >= 3);
            // Below version 3 the field is not sent, and reads as an empty text.
            let nothing = if version >= 3 { None } else { Some(text("")) };
            assert_eq!(bare.documentation, nothing);
        }
        let names = |keys: &[&str]| Some(keys.iter().map(|key| text(key)).collect());
        let some = of(TOPIC, "t").with_configuration_keys(names(&["segment.ms", "nonsense"]));
        let some = describe(&mut client, version, some).configs;
        assert_eq!((some.len(), some[0].name.as_str()), (1, "segment.ms"));
        let none = of(TOPIC, "t").with_configuration_keys(names(&[]));
        assert_eq!(describe(&mut client, version, none).configs.len(), all.configs.len());
    }
}

#[test]
fn a_brokers_settings_are_told_and_can_only_be_read() {
    let (_root, data) = data_dir();
    let (_broker, mut client) = start(&data);
    for version in versions(ApiKey::DESCRIBE_CONFIGS) {
        let all = describe(&mut client, version, of(BROKER, "1"));
        let names: Vec<_> = all.configs.iter().map(|config| config.name.as_str()).collect();
        let known = ALL.iter().filter(|known| known.scope == Scope::Broker);
        assert_eq!(names, known.map(|known| known.name).collect::<Vec<_>>());
        assert!(all.configs.iter().all(|config| config.read_only));
        for (key, value, source) in [
            ("log.retention.ms", "172800000", OF_BROKER),
            ("log.segment.bytes", "1073741824", DEFAULT),
            ("auto.create.topics.enable", "true", DEFAULT),
            ("advertised.listeners", "", DEFAULT),
        ] {
            let found = find(&all, key);
            assert_eq!((shown(&found.value), found.config_source), (value, source), "{key}");
        }
        for (kind, name, error) in [
            (BROKER, "", ErrorCode::NONE),
            (LOGGER, "1", ErrorCode::NONE),
            (BROKER, "2", ErrorCode::INVALID_REQUEST),
            (BROKER, "one", ErrorCode::INVALID_REQUEST),
            (LOGGER, "2", ErrorCode::INVALID_REQUEST),
            (16, "1", ErrorCode::INVALID_REQUEST),
            (TOPIC, "never", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ] {
            let found = describe(&mut client, version, of(kind, name));
            assert_eq!(ErrorCode(found.error_code), error, "{kind}: {name}");
            assert_eq!(found.error_message.is_some(), error != ErrorCode::NONE);
            assert!(found.configs.is_empty());
        }
        // A request is not answered with a thousand times its bytes.
        let often = [vec![of(BROKER, "1"); 1000], vec![of(TOPIC, "t")]].concat();
        let request = DescribeConfigsRequest::default().with_resources(often);
        assert_eq!(client.call(version, &request).results.len(), 2);
    }
}

/// Sets the whole of a topic's settings; answers the code.
fn alter(
    client: &mut KafkaClient,
    version: i16,
    (kind, name): (i8, &str),
    configs: &[(&str, Option<&str>)],
    validate_only: bool,
) -> ErrorCode {
    let configs = configs
        .iter()
        .map(|(key, value)| Whole::default().with_name(text(key)).with_value(value.map(text)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    let request = AlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate_only);
    let mut responses = client.call(version, &request).responses;
    let response = responses.remove(0);
    assert_eq!((response.resource_type, response.resource_name.as_str()), (kind, name));
    assert_eq!(response.error_message.is_some(), response.error_code != 0);
    assert!(responses.is_empty());
    ErrorCode(response.error_code)
}

#[test]
fn what_is_not_named_of_the_whole_is_unset() {
    let (_root, data) = data_dir();
    let (broker, mut client) = start(&data);
    for version in versions(ApiKey::ALTER_CONFIGS) {
        broker.run(&["config", "set", "t", "segment.ms=1h"]);
        let new = [("retention.ms", Some("604800000")), ("retention.bytes", Some("-1"))];
        let before = own(&mut client, "t");
        let code = alter(&mut client, version, (TOPIC, "t"), &new, true);
        assert_eq!((code, own(&mut client, "t")), (ErrorCode::NONE, before));
        let code = alter(&mut client, version, (TOPIC, "t"), &new, false);
        let expected = pairs(&[("retention.bytes", "-1"), ("retention.ms", "604800000")]);
        assert_eq!((code, own(&mut client, "t")), (ErrorCode::NONE, expected.clone()));
        for (of, configs, error) in [
            ((TOPIC, "t"), [("retention.ms", Some("soon"))], ErrorCode::INVALID_CONFIG),
            ((TOPIC, "t"), [("compression.type", Some("lz4"))], ErrorCode::INVALID_CONFIG),
            ((TOPIC, "t"), [("retention.ms", None)], ErrorCode::INVALID_REQUEST),
            ((TOPIC, "no"), [("flush", Some("os"))], ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ((BROKER, "1"), [("log.retention.ms", Some("1"))], ErrorCode::INVALID_REQUEST),
            ((LOGGER, "1"), [("root", Some("DEBUG"))], ErrorCode::INVALID_REQUEST),
            ((32, "g"), [("a", Some("b"))], ErrorCode::INVALID_REQUEST),
        ] {
            let code = alter(&mut client, version, of, &configs, false);
            assert_eq!(code, error, "version {version}: {configs:?}");
        }
        let twice = [("retention.ms", Some("1")), ("retention.ms", Some("2"))];
        let code = alter(&mut client, version, (TOPIC, "t"), &twice, false);
        assert_eq!(code, ErrorCode::INVALID_REQUEST);
        assert_eq!(own(&mut client, "t"), expected);
        // The same resource twice is refused, too: which of them is meant?
        let resource =
            AlterConfigsResource::default().with_resource_type(TOPIC).with_resource_name(text("t"));
        let request = AlterConfigsRequest::default().with_resources(vec![resource; 2]);
        let responses = client.call(version, &request).responses;
        assert_eq!(responses.len(), 1);
        assert_eq!(ErrorCode(responses[0].error_code), ErrorCode::INVALID_REQUEST);
        assert_eq!(own(&mut client, "t"), expected);
    }
    broker.run(&["topic", "create", "other"]);
    let code = alter(&mut client, 2, (TOPIC, "other"), &[], false);
    assert_eq!((code, own(&mut client, "other")), (ErrorCode::NONE, Vec::new()));
}

/// Does one thing after the other to a topic's settings; answers the code.
fn change(
    client: &mut KafkaClient,
    version: i16,
    (kind, name): (i8, &str),
    changes: &[(i8, &str, Option<&str>)],
    validate_only: bool,
) -> ErrorCode {
    let configs = changes.iter().map(|(operation, key, value)| {
        Incremental::default()
            .with_name(text(key))
            .with_config_operation(*operation)
            .with_value(value.map(text))
    });
    let resource = IncrementalResource::default()
        .with_resource_type(kind)
        .with_resource_name(text(name))
        .with_configs(configs.collect());
    let request = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![resource])
        .with_validate_only(validate_only);
    let mut responses = client.call(version, &request).responses;
    let response = responses.remove(0);
    assert_eq!((response.resource_type, response.resource_name.as_str()), (kind, name));
    assert_eq!(response.error_message.is_some(), response.error_code != 0);
    assert!(responses.is_empty());
    ErrorCode(response.error_code)
}

#[test]
fn some_settings_are_set_unset_and_edited() {
    let (_root, data) = data_dir();
    let (broker, mut client) = start(&data);
    let of = (TOPIC, "t");
    for version in versions(ApiKey::INCREMENTAL_ALTER_CONFIGS) {
        let begin = [
            (SET, "segment.ms", Some("3600000")),
            (SET, "cleanup.policy", Some("compact")),
            (DELETE, "retention.ms", None),
        ];
        assert_eq!(change(&mut client, version, of, &begin, false), ErrorCode::NONE);
        let begun = pairs(&[("cleanup.policy", "compact"), ("segment.ms", "3600000")]);
        assert_eq!(own(&mut client, "t"), begun);
        let steps: [(&[_], &[_]); 4] = [
            (
                &[(SET, "retention.ms", Some("1000")), (DELETE, "segment.ms", None)],
                &[("cleanup.policy", "compact"), ("retention.ms", "1000")],
            ),
            (
                &[(APPEND, "cleanup.policy", Some("delete,compact"))],
                &[("cleanup.policy", "compact,delete"), ("retention.ms", "1000")],
            ),
            (
                &[(SUBTRACT, "cleanup.policy", Some("compact"))],
                &[("cleanup.policy", "delete"), ("retention.ms", "1000")],
            ),
            (
                &[(DELETE, "cleanup.policy", Some("")), (DELETE, "flush", None)],
                &[("retention.ms", "1000")],
            ),
        ];
        for (changes, expected) in steps {
            let before = own(&mut client, "t");
            assert_eq!(change(&mut client, version, of, changes, true), ErrorCode::NONE);
            assert_eq!(own(&mut client, "t"), before);
            assert_eq!(change(&mut client, version, of, changes, false), ErrorCode::NONE);
            assert_eq!(own(&mut client, "t"), pairs(expected), "version {version}: {changes:?}");
        }
        // Added to what holds, though the topic does not say it itself.
        let added = [(APPEND, "cleanup.policy", Some("compact"))];
        assert_eq!(change(&mut client, version, of, &added, false), ErrorCode::NONE);
        let expected = pairs(&[("cleanup.policy", "delete,compact"), ("retention.ms", "1000")]);
        assert_eq!(own(&mut client, "t"), expected);
        let all = Some("delete,compact");
        for (of, change_one, error) in [
            (of, (SUBTRACT, "cleanup.policy", all), ErrorCode::INVALID_CONFIG),
            (of, (APPEND, "retention.ms", Some("1")), ErrorCode::INVALID_CONFIG),
            (of, (APPEND, "retention", Some("1")), ErrorCode::INVALID_CONFIG),
            (of, (SET, "retention", Some("1")), ErrorCode::INVALID_CONFIG),
            (of, (SET, "message.timestamp.type", Some("now")), ErrorCode::INVALID_CONFIG),
            (of, (SET, "retention.ms", None), ErrorCode::INVALID_REQUEST),
            (of, (9, "retention.ms", Some("1")), ErrorCode::INVALID_REQUEST),
            (
                (TOPIC, "never"),
                (SET, "retention.ms", Some("1")),
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            ),
            ((BROKER, "1"), (SET, "log.retention.ms", Some("1")), ErrorCode::INVALID_REQUEST),
            ((BROKER, ""), (SET, "log.retention.ms", Some("1")), ErrorCode::INVALID_REQUEST),
        ] {
            // Of a resource all is done, or nothing.
            let good = (SET, "segment.ms", Some("5"));
            let code = change(&mut client, version, of, &[good, change_one], false);
            assert_eq!(code, error, "version {version}: {change_one:?}");
        }
        let twice = [(SET, "retention.ms", Some("1")), (DELETE, "retention.ms", None)];
        let code = change(&mut client, version, of, &twice, false);
        assert_eq!(code, ErrorCode::INVALID_REQUEST);
        assert_eq!(own(&mut client, "t"), expected);
    }
    // Kafka's tools unset throttles when a move is over, which nobody has set.
    let throttle = [(DELETE, "leader.replication.throttled.rate", None)];
    for of in [(TOPIC, "t"), (BROKER, "1")] {
        assert_eq!(change(&mut client, 1, of, &throttle, false), ErrorCode::NONE);
    }
    assert_eq!(alter(&mut client, 2, (BROKER, "1"), &[], false), ErrorCode::NONE);
    // People may write the same as programs do.
    broker.run(&["config", "set", "t", "retention.ms=604800000"]);
    assert_eq!(own(&mut client, "t")[1].1, "604800000");
    broker.run(&["config", "set", "t", "retention.ms=7d"]);
    assert_eq!(own(&mut client, "t")[1].1, "604800000");
}

/// What groups have done is told, and not to be changed behind their backs.
#[test]
fn the_brokers_own_topic_can_only_be_read() {
    let (_root, data) = data_dir();
    let (_broker, mut client) = start(&data);
    let find = kafka_protocol::messages::FindCoordinatorRequest::default().with_key(text("g"));
    client.call(3, &find);
    let topic = (TOPIC, "__consumer_offsets");
    let described = describe(&mut client, 4, of(TOPIC, topic.1));
    assert_eq!(described.error_code, 0);
    assert!(find_value(&described, "cleanup.policy").contains("compact"));
    let deletes = [("cleanup.policy", Some("delete"))];
    assert_eq!(alter(&mut client, 2, topic, &deletes, false), ErrorCode::POLICY_VIOLATION);
    let deletes = [(SET, "cleanup.policy", Some("delete"))];
    assert_eq!(change(&mut client, 1, topic, &deletes, false), ErrorCode::POLICY_VIOLATION);
}

fn find_value(result: &DescribeConfigsResult, key: &str) -> String {
    shown(&find(result, key).value).to_owned()
}
