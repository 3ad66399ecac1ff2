//! Who says what a setting is.

use std::collections::BTreeMap;

use super::broker::BrokerSettings;
use super::registry::{Definition, Scope, definition};

/// Who says what a setting is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The topic's own settings.
    Topic,
    /// The mini-zookeeper, for topics that do not say.
    Cluster,
    /// Those who started the broker.
    Broker,
    /// Nobody.
    Default,
}

/// A value that a setting has from somewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The name of the setting there.
    pub name: &'static str,
    /// The value, as it was written.
    pub text: String,
    /// Who says so.
    pub source: Source,
}

impl Origin {
    /// Who says what a topic's setting is, the strongest first: the topic with these settings of its own, the cluster's
    /// `defaults` where they say something else than the broker, the broker, and the default.
    pub fn of_topic(
        of: &Definition,
        own: &BTreeMap<String, String>,
        defaults: &BTreeMap<String, String>,
        broker: &BrokerSettings,
    ) -> Vec<Origin> {
        let name = of.name;
        let said = |values: &BTreeMap<String, String>, source| {
            let text = values.get(name).filter(|text| of.parse(text).is_ok());
            text.map(|text| Origin { name, text: text.clone(), source })
        };
        let of_broker = match of.scope {
            Scope::Topic { default_from } => definition(default_from, false).ok(),
            Scope::Broker | Scope::Zoo => None,
        };
        let others = of_broker.map(|of| Origin::of_broker(of, broker)).unwrap_or_default();
        let says_other = |cluster: &Origin| {
            let other = others.first().map(|origin| of.parse(&origin.text));
            other != Some(of.parse(&cluster.text))
        };
        let of_cluster = said(defaults, Source::Cluster).filter(says_other);
        said(own, Source::Topic).into_iter().chain(of_cluster).chain(others.clone()).collect()
    }

    /// Who says what a broker's setting is, the strongest first.
    pub fn of_broker(of: &Definition, broker: &BrokerSettings) -> Vec<Origin> {
        let name = of.name;
        let default = Origin { name, text: of.default.to_owned(), source: Source::Default };
        if broker.is_default(name) {
            return vec![default];
        }
        vec![Origin { name, text: broker.text(name), source: Source::Broker }, default]
    }
}

#[cfg(test)]
mod tests {
    use super::super::Layers;
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn shown(origins: &[Origin]) -> Vec<(&str, &str, Source)> {
        origins.iter().map(|o| (o.name, o.text.as_str(), o.source)).collect()
    }

    #[test]
    fn the_strongest_comes_first_and_what_does_not_hold_is_left_out() {
        let of = definition("min.insync.replicas", true).unwrap();
        let flags = vec![("min.insync.replicas".to_owned(), "3".to_owned())];
        let set = BrokerSettings::resolve(&Layers { flags, ..Layers::default() }).unwrap();
        let unset = BrokerSettings::resolve(&Layers::default()).unwrap();
        let (own, cluster) = (map(&[(of.name, "4")]), map(&[(of.name, "2")]));
        let name = of.name;
        let all = Origin::of_topic(of, &own, &cluster, &set);
        assert_eq!(
            shown(&all),
            [
                (name, "4", Source::Topic),
                (name, "2", Source::Cluster),
                (name, "3", Source::Broker),
                (name, "1", Source::Default),
            ]
        );
        let bad = Origin::of_topic(of, &map(&[(name, "many")]), &map(&[]), &unset);
        assert_eq!(shown(&bad), [(name, "1", Source::Default)]);
        // A broker alone tells its own settings to the mini-zookeeper inside.
        let same = Origin::of_topic(of, &map(&[]), &map(&[(name, "3")]), &set);
        assert_eq!(shown(&same), [(name, "3", Source::Broker), (name, "1", Source::Default)]);
        let of = definition("segment.bytes", true).unwrap();
        let other = Origin::of_topic(of, &map(&[]), &map(&[]), &unset);
        assert_eq!(shown(&other), [("log.segment.bytes", "1GiB", Source::Default)]);
    }
}
