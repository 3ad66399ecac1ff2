//! Settings: one registry of names, types, ranges, defaults and texts, from which flags,
//! validation, documentation and the answers to describe requests are made.
//!
//! Order, strongest first: `--set` > environment (`MKBROKER_LOG_SEGMENT_BYTES`) > file > default.
//! A topic's own setting comes before the broker's. An unknown name is an error with a suggestion.

mod broker;
mod origin;
mod registry;
mod topic;
mod value;
mod zoo;

pub use broker::{BrokerSettings, Layers};
pub use origin::{Origin, Source};
pub use registry::{ALL, Definition, Scope, definition, documentation};
pub use topic::{FlushPolicy, TopicSettings};
pub use value::{Kind, NO_LIMIT, Value, format_bytes, format_millis, parse_bytes, parse_millis};
pub use zoo::ZooSettings;

/// What is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// There is no setting of that name.
    #[error("unknown setting '{name}'{}", suggestion(.nearest))]
    Unknown {
        /// The name given.
        name: String,
        /// The most similar name there is.
        nearest: Option<&'static str>,
    },
    /// The value is not of its type or outside of its range.
    #[error("{name} = '{found}': {expected}")]
    Invalid {
        /// Which setting.
        name: String,
        /// The value given.
        found: String,
        /// What it must be.
        expected: String,
    },
    /// The file of settings cannot be read.
    #[error("{path}: {what}")]
    File {
        /// Which file.
        path: String,
        /// What is wrong with it.
        what: String,
    },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map(|name| format!("; did you mean '{name}'?")).unwrap_or_default()
}
