//! A topic's settings, its own over the broker's.

use std::collections::BTreeMap;

use mk_net::message::SettingSource;
use mk_storage::batch::TimestampType;
use mk_storage::log::{Compaction, LogSettings, Retention};

use super::broker::BrokerSettings;
use super::registry::{Scope, definition};
use super::value::{NO_LIMIT, Value, parse_millis};
use super::{SettingError, registry};

/// When records are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushPolicy {
    /// Before an acks=all produce is answered.
    Ack,
    /// Every so many milliseconds.
    Interval(u64),
    /// When the operating system likes.
    Os,
}

/// What holds for a topic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TopicSettings {
    /// Settings of its logs.
    pub log: LogSettings,
    /// Largest batch in bytes.
    pub max_message_bytes: usize,
    /// When records are synced.
    pub flush: FlushPolicy,
    /// What is kept; without a limit unless `cleanup.policy` has `delete`.
    pub retention: Retention,
    /// How it is compacted, if `cleanup.policy` has `compact`.
    pub compaction: Option<Compaction>,
}

/// The topic's settings by name: value as text, and who set it.
pub type Described = Vec<(&'static str, String, SettingSource)>;

impl TopicSettings {
    /// Checks names and values of a topic's own settings.
    pub fn check(own: &BTreeMap<String, String>) -> Result<(), SettingError> {
        for (name, text) in own {
            definition(name, true)?.parse(text)?;
        }
        Ok(())
    }

    /// What holds for a topic with these settings of its own, which must have been checked; one
    /// that does not hold any more counts as not set. Behind them come the cluster's `defaults`, then
    /// the broker's.
    pub fn effective(
        own: &BTreeMap<String, String>,
        defaults: &BTreeMap<String, String>,
        broker: &BrokerSettings,
    ) -> TopicSettings {
        let mut set = defaults.clone();
        set.extend(own.iter().map(|(name, value)| (name.clone(), value.clone())));
        let own = &set;
        let number = |name| match value(own, broker, name) {
            Value::Number(number) => number,
            _ => 0,
        };
        let text = |name| match value(own, broker, name) {
            Value::Text(text) => text,
            _ => String::new(),
        };
        let policy = text("cleanup.policy");
        let retention = Retention {
            bytes: limit(number("retention.bytes")),
            age_ms: limit(number("retention.ms")),
        };
        let compaction = Compaction {
            min_dirty_ratio: match value(own, broker, "min.cleanable.dirty.ratio") {
                Value::Ratio(ratio) => ratio,
                _ => 1.0,
            },
            min_lag_ms: number("min.compaction.lag.ms"),
            delete_retention_ms: number("delete.retention.ms"),
        };
        TopicSettings {
            log: LogSettings {
                segment_bytes: number("segment.bytes"),
                segment_ms: number("segment.ms") as i64,
                index_interval_bytes: number("index.interval.bytes"),
                timestamp_type: TimestampType::from_name(&text("message.timestamp.type"))
                    .unwrap_or_default(),
            },
            max_message_bytes: number("max.message.bytes") as usize,
            flush: FlushPolicy::from_text(&text("flush")),
            retention: if policy.contains("delete") { retention } else { Retention::default() },
            compaction: policy.contains("compact").then_some(compaction),
        }
    }

    /// All settings of a topic, for people. What holds in the cluster for topics that do not say goes
    /// before what the broker has.
    pub fn describe(
        own: &BTreeMap<String, String>,
        defaults: &BTreeMap<String, String>,
        broker: &BrokerSettings,
    ) -> Described {
        let topics = registry::ALL.iter().filter_map(|definition| match definition.scope {
            Scope::Topic { default_from } => Some((definition.name, default_from)),
            Scope::Broker | Scope::Zoo => None,
        });
        topics
            .map(|(name, default_from)| match own.get(name) {
                Some(text) => (name, text.clone(), SettingSource::Topic),
                None => {
                    let text = broker.text(default_from);
                    let text = defaults.get(name).cloned().unwrap_or(text);
                    match broker.is_default(default_from) {
                        true => (name, text, SettingSource::Default),
                        false => (name, text, SettingSource::Broker),
                    }
                }
            })
            .collect()
    }
}

fn limit(number: u64) -> Option<u64> {
    (number != NO_LIMIT).then_some(number)
}

impl FlushPolicy {
    fn from_text(text: &str) -> FlushPolicy {
        match text.strip_prefix("interval:").and_then(parse_millis) {
            Some(millis) => FlushPolicy::Interval(millis),
            None if text == "os" => FlushPolicy::Os,
            None => FlushPolicy::Ack,
        }
    }
}

fn value(own: &BTreeMap<String, String>, broker: &BrokerSettings, name: &str) -> Value {
    let Ok(definition) = definition(name, true) else { return Value::Text(String::new()) };
    let of_topic = own.get(name).and_then(|text| definition.parse(text).ok());
    of_topic.unwrap_or_else(|| match definition.scope {
        Scope::Topic { default_from } => broker.value(default_from),
        Scope::Broker | Scope::Zoo => Value::Text(String::new()),
    })
}
