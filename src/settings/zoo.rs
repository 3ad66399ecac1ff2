//! The mini-zookeeper's settings.

use std::collections::BTreeMap;
use std::time::Duration;

use super::SettingError;
use super::registry::{ALL, Scope, find};
use super::value::Value;
use crate::zoo::detector::Patience;

/// The mini-zookeeper's settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZooSettings {
    /// How patient it is with brokers.
    pub patience: Patience,
    /// `broker.heartbeat.interval.ms`
    pub beat_interval: Duration,
    /// `leader.rebalance.hold.down.ms`, unless `auto.leader.rebalance.enable` is false.
    pub rebalance_after: Option<Duration>,
    /// What holds for topics that do not say, by the topic setting's name.
    pub defaults: BTreeMap<String, String>,
}

/// Those that hold for topics that do not say.
const OF_TOPICS: [&str; 3] = ["flush", "min.insync.replicas", "unclean.leader.election.enable"];
/// So many heartbeats fit into the session timeout, so that a lost one fences nobody.
const LEAST_BEATS: u32 = 3;

impl ZooSettings {
    /// The defaults, and over them what was set; the last one counts.
    pub fn resolve(set: &[(String, String)]) -> Result<ZooSettings, SettingError> {
        let defaults = ALL.iter().filter(|definition| definition.scope == Scope::Zoo);
        let mut texts: BTreeMap<&str, &str> =
            defaults.map(|definition| (definition.name, definition.default)).collect();
        for (name, text) in set {
            let definition = find(name, |scope| scope == Scope::Zoo)?;
            definition.parse(text)?;
            texts.insert(definition.name, text);
        }
        let time = |name| Ok(Duration::from_millis(number(name, &texts)?));
        let patience = Patience {
            session: time("broker.session.timeout.ms")?,
            suspicion: time("broker.suspicion.timeout.ms")?,
            stall: time("broker.stall.timeout.ms")?,
        };
        let beat_interval = time("broker.heartbeat.interval.ms")?;
        if patience.session < beat_interval * LEAST_BEATS {
            return Err(SettingError::Invalid {
                name: "broker.session.timeout.ms".to_owned(),
                found: texts["broker.session.timeout.ms"].to_owned(),
                expected: format!(
                    "must be at least {LEAST_BEATS} times broker.heartbeat.interval.ms"
                ),
            });
        }
        let of_topics = OF_TOPICS.map(|name| (name.to_owned(), texts[name].trim().to_owned()));
        let hold_down = time("leader.rebalance.hold.down.ms")?;
        let is_automatic = flag("auto.leader.rebalance.enable", &texts)?;
        Ok(ZooSettings {
            patience,
            beat_interval,
            rebalance_after: is_automatic.then_some(hold_down),
            defaults: of_topics.into(),
        })
    }
}

fn number(name: &str, texts: &BTreeMap<&str, &str>) -> Result<u64, SettingError> {
    match find(name, |scope| scope == Scope::Zoo)?.parse(texts[name])? {
        Value::Number(number) => Ok(number),
        other => unreachable!("{name} is {other:?}, not a number"),
    }
}

fn flag(name: &str, texts: &BTreeMap<&str, &str>) -> Result<bool, SettingError> {
    match find(name, |scope| scope == Scope::Zoo)?.parse(texts[name])? {
        Value::Bool(flag) => Ok(flag),
        other => unreachable!("{name} is {other:?}, not a switch"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(set: &[(&str, &str)]) -> Result<ZooSettings, SettingError> {
        let set: Vec<_> = set.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        ZooSettings::resolve(&set)
    }

    #[test]
    fn what_is_set_counts_and_must_make_sense() {
        let settings = resolve(&[("min.insync.replicas", "3"), ("flush", "os")]).unwrap();
        assert_eq!(settings.defaults["min.insync.replicas"], "3");
        assert_eq!(settings.defaults["unclean.leader.election.enable"], "false");
        assert_eq!(settings.defaults["flush"], "os");
        let settings = resolve(&[("broker.session.timeout.ms", "2s")]).unwrap();
        assert_eq!(settings.patience.session, Duration::from_secs(2));
        assert_eq!(settings.rebalance_after, Some(Duration::from_secs(30)));
        let by_hand = resolve(&[("auto.leader.rebalance.enable", "false")]).unwrap();
        assert_eq!(by_hand.rebalance_after, None);
        assert!(resolve(&[("broker.session.timeout.ms", "74")]).is_err(), "three beats are 75");
        assert!(resolve(&[("flush", "never")]).is_err());
        let error = resolve(&[("broker.session.timeout", "1s")]).unwrap_err().to_string();
        assert!(error.contains("did you mean 'broker.session.timeout.ms'?"), "{error}");
        assert!(resolve(&[("num.partitions", "2")]).is_err(), "a broker's");
    }
}
