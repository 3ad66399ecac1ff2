//! A setting as Kafka's clients read it.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_topics_response::CreatableTopicConfigs;

use crate::broker::kafka::place::text;
use crate::broker::shared::Shared;
use crate::settings::{ALL, Definition, Kind, Origin, Scope, Source};

/// A setting, and who says what it is, the strongest first.
#[derive(Debug)]
pub struct Entry {
    /// The setting.
    pub definition: &'static Definition,
    /// Who says what; the last one is the default.
    pub origins: Vec<Origin>,
    /// True if no request can change it.
    pub read_only: bool,
}

/// All settings of a topic with these of its own.
pub fn of_topic(shared: &Shared, own: &BTreeMap<String, String>) -> Vec<Entry> {
    let state = shared.cluster.state();
    let of_topics = ALL.iter().filter(|d| matches!(d.scope, Scope::Topic { .. }));
    let entries = of_topics.map(|definition| {
        let origins = Origin::of_topic(definition, own, &state.defaults, &shared.settings);
        Entry { definition, origins, read_only: false }
    });
    entries.collect()
}

/// All settings of this broker.
pub fn of_broker(shared: &Shared) -> Vec<Entry> {
    let of_brokers = ALL.iter().filter(|d| d.scope == Scope::Broker);
    let entries = of_brokers.map(|definition| {
        let origins = Origin::of_broker(definition, &shared.settings);
        Entry { definition, origins, read_only: true }
    });
    entries.collect()
}

/// All settings of a topic that has just been made with these of its own.
pub fn of_new_topic(shared: &Shared, own: &BTreeMap<String, String>) -> Vec<CreatableTopicConfigs> {
    let entries = of_topic(shared, own).into_iter().map(|entry| {
        CreatableTopicConfigs::default()
            .with_name(text(entry.definition.name))
            .with_value(entry.value().map(text))
            .with_read_only(entry.read_only)
            .with_config_source(entry.source())
    });
    entries.collect()
}

impl Entry {
    /// The value that holds, as Kafka's clients read it.
    pub fn value(&self) -> Option<String> {
        self.origins.first().map(|origin| plain(self.definition, origin))
    }

    /// Who says so: `ConfigSource` of Kafka's protocol.
    pub fn source(&self) -> i8 {
        self.origins.first().map_or(UNKNOWN, |origin| source(origin.source))
    }

    /// The type of the value: `ConfigType` of Kafka's protocol.
    pub fn config_type(&self) -> i8 {
        let number = |max: u64| if max <= i32::MAX as u64 { INT } else { LONG };
        match self.definition.kind {
            Kind::Bytes { max, .. } | Kind::Millis { max, .. } | Kind::Count { max, .. } => {
                number(max)
            }
            Kind::BytesOrNone { max } | Kind::MillisOrNone { max } | Kind::CountOrNone { max } => {
                number(max)
            }
            Kind::Bool => BOOLEAN,
            Kind::Cleanup => LIST,
            Kind::Ratio => DOUBLE,
            Kind::Flush | Kind::TimestampType | Kind::Text => STRING,
        }
    }
}

const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LONG: i8 = 5;
const DOUBLE: i8 = 6;
const LIST: i8 = 7;

const UNKNOWN: i8 = 0;

/// `ConfigSource` of Kafka's protocol.
pub fn source(source: Source) -> i8 {
    match source {
        Source::Topic => 1,
        Source::Cluster => 3,
        Source::Broker => 4,
        Source::Default => 5,
    }
}

/// What somebody says of a setting, as Kafka's clients read it.
pub fn plain(definition: &Definition, origin: &Origin) -> String {
    definition.parse(&origin.text).map_or_else(|_| origin.text.clone(), |value| value.plain())
}
