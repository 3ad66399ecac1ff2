//! The broker's settings, put together from their sources.

use std::collections::BTreeMap;
use std::path::Path;

use super::registry::{ALL, Scope, definition};
use super::value::Value;
use super::{SettingError, registry};

/// Where settings come from, each name to a text.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// `--set NAME=VALUE`.
    pub flags: Vec<(String, String)>,
    /// `MKBROKER_…`.
    pub environment: Vec<(String, String)>,
    /// The file of `--config`.
    pub file: Vec<(String, String)>,
}

/// The broker's settings, checked: a value and its text for every name.
#[derive(Clone, Debug)]
pub struct BrokerSettings {
    values: BTreeMap<&'static str, (String, Value)>,
}

const PREFIX: &str = "MKBROKER_";
/// Variables of the prefix that are flags and not settings.
const FLAGS: [&str; 5] =
    ["MKBROKER_LISTEN", "MKBROKER_DATA", "MKBROKER_ZOO", "MKBROKER_CONFIG", "MKBROKER_LOG"];

impl Layers {
    /// Takes the settings among these environment variables.
    pub fn with_environment(
        mut self,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Layers, SettingError> {
        let variable_of = |name: &str| PREFIX.to_owned() + &name.to_uppercase().replace('.', "_");
        for (variable, value) in variables {
            if !variable.starts_with(PREFIX) || FLAGS.contains(&variable.as_str()) {
                continue;
            }
            let known = ALL
                .iter()
                .filter(|definition| definition.scope == Scope::Broker)
                .find(|definition| variable_of(definition.name) == variable);
            let Some(definition) = known else {
                let name = variable[PREFIX.len()..].to_lowercase().replace('_', ".");
                return Err(match registry::definition(&name, false) {
                    Err(SettingError::Unknown { nearest, .. }) => {
                        SettingError::Unknown { name: variable, nearest }
                    }
                    _ => SettingError::Unknown { name: variable, nearest: None },
                });
            };
            self.environment.push((definition.name.to_owned(), value));
        }
        Ok(self)
    }

    /// Takes the settings in a TOML file; `a.b = 1` and `[a]` with `b = 1` are the same.
    pub fn with_file(mut self, path: &Path) -> Result<Layers, SettingError> {
        let wrong = |what: String| SettingError::File { path: path.display().to_string(), what };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| wrong(error.to_string().trim_end().to_owned()))?;
        flatten("", &table, &mut self.file).map_err(wrong)?;
        Ok(self)
    }
}

fn flatten(
    prefix: &str,
    table: &toml::Table,
    out: &mut Vec<(String, String)>,
) -> Result<(), String> {
    for (key, value) in table {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&name, inner, out)?,
            toml::Value::String(text) => out.push((name, text.clone())),
            toml::Value::Integer(_) | toml::Value::Boolean(_) => {
                out.push((name, value.to_string()))
            }
            other => return Err(format!("{name}: a {} is no setting", other.type_str())),
        }
    }
    Ok(())
}

impl BrokerSettings {
    /// Puts the layers together, the strongest last said.
    pub fn resolve(layers: &Layers) -> Result<BrokerSettings, SettingError> {
        let mut values = BTreeMap::new();
        for definition in ALL.iter().filter(|definition| definition.scope == Scope::Broker) {
            let value = definition.parse(definition.default)?;
            values.insert(definition.name, (definition.default.to_owned(), value));
        }
        for (name, text) in layers.file.iter().chain(&layers.environment).chain(&layers.flags) {
            let definition = definition(name, false)?;
            values.insert(definition.name, (text.clone(), definition.parse(text)?));
        }
        Ok(BrokerSettings { values })
    }

    /// The value of a setting; an empty text for a name that there is not.
    pub fn value(&self, name: &str) -> Value {
        self.values.get(name).map_or(Value::Text(String::new()), |(_, value)| value.clone())
    }

    /// The value as it was written.
    pub fn text(&self, name: &str) -> String {
        self.values.get(name).map(|(text, _)| text.clone()).unwrap_or_default()
    }

    /// True if nobody has set it to anything else than its default.
    pub fn is_default(&self, name: &str) -> bool {
        definition(name, false).is_ok_and(|definition| definition.default == self.text(name))
    }

    /// The value of a setting that is a number: bytes, milliseconds or a count.
    pub fn number(&self, name: &str) -> u64 {
        match self.value(name) {
            Value::Number(number) => number,
            other => unreachable!("{name} is {other:?}, not a number"),
        }
    }

    /// The value of a setting that is a switch.
    pub fn switch(&self, name: &str) -> bool {
        match self.value(name) {
            Value::Bool(on) => on,
            other => unreachable!("{name} is {other:?}, not a switch"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TopicSettings;
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn flags_beat_the_environment_and_that_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "num.partitions = 2\n[log.segment]\nbytes = \"2MiB\"").unwrap();
        let environment = pairs(&[("MKBROKER_NUM_PARTITIONS", "3"), ("HOME", "/")]);
        let mut layers = Layers::default().with_file(file.path()).unwrap();
        layers = layers.with_environment(environment.into_iter()).unwrap();
        let settings = BrokerSettings::resolve(&layers).unwrap();
        assert_eq!(settings.number("num.partitions"), 3);
        assert_eq!(settings.number("log.segment.bytes"), 2 << 20);
        layers.flags = pairs(&[("num.partitions", "4")]);
        let settings = BrokerSettings::resolve(&layers).unwrap();
        assert_eq!(settings.number("num.partitions"), 4);
        assert!(settings.switch("auto.create.topics.enable"));

        let own = pairs(&[("segment.bytes", "1MiB")]).into_iter().collect();
        let topic = TopicSettings::effective(&own, &BTreeMap::new(), &settings);
        assert_eq!(topic.log.segment_bytes, 1 << 20);
        assert_eq!(topic.max_message_bytes, 2 << 20);
    }

    #[test]
    fn unknown_names_are_errors_wherever_they_stand() {
        let environment = pairs(&[("MKBROKER_NUM_PARTITION", "3")]).into_iter();
        let error = Layers::default().with_environment(environment).unwrap_err();
        assert!(error.to_string().contains("did you mean 'num.partitions'"), "{error}");
        let flags = pairs(&[("segment.bytes", "1MiB")]);
        let error = BrokerSettings::resolve(&Layers { flags, ..Layers::default() }).unwrap_err();
        assert!(matches!(error, SettingError::Unknown { .. }));
        let own = pairs(&[("segment.byte", "1MiB")]).into_iter().collect();
        let error = TopicSettings::check(&own).unwrap_err();
        assert!(error.to_string().contains("did you mean 'segment.bytes'"), "{error}");
    }

    #[test]
    fn a_file_that_is_missing_or_no_toml_is_an_error() {
        assert!(Layers::default().with_file(Path::new("/nowhere/mk.toml")).is_err());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "num.partitions = [1]").unwrap();
        assert!(Layers::default().with_file(file.path()).is_err());
    }
}
