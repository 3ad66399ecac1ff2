//! Settings of topics are changed: all of them at once, or some.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use kafka_protocol::protocol::StrBytes;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::{AlterTopic, Setting};

use super::entry::{Entry, of_topic};
use super::{Resource, list};
use crate::broker::control;
use crate::broker::kafka::NoAnswer;
use crate::broker::kafka::place::{Place, code_of};
use crate::broker::kafka::results::{each_once, message_of};
use crate::broker::shared::Shared;
use crate::settings::{Kind, definition};

// What is done to a setting: `OpType` of Kafka's `AlterConfigOp`.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

/// What becomes of a topic's own settings: what is set, and what is to follow the broker again.
#[derive(Default)]
struct Change {
    set: Vec<Setting>,
    unset: Vec<String>,
}

/// The type and the name of what has settings.
type Name = (i8, StrBytes);

/// Sets all that a topic has of its own: what is not named it has no more.
pub fn alter(shared: &Arc<Shared>, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: AlterConfigsRequest = place.read(fields)?;
    let for_worker = shared.clone();
    shared.admin.run(move || {
        let named = request.resources.into_iter().map(|of| {
            let values = of.configs.into_iter().map(|config| (config.name, config.value));
            ((of.resource_type, of.resource_name), values.collect::<Vec<_>>())
        });
        let set_any = |values: &Vec<_>| !values.is_empty();
        let results =
            alter_each(&for_worker, request.validate_only, named, set_any, |own, values| {
                Ok(replace(own, each(values)?))
            });
        let responses = results.into_iter().map(|((kind, name), result)| {
            AlterConfigsResourceResponse::default()
                .with_error_code(code_of(&result))
                .with_error_message(message_of(&result))
                .with_resource_type(kind)
                .with_resource_name(name)
        });
        let response = AlterConfigsResponse::default().with_responses(responses.collect());
        place.send(&for_worker, &response);
    });
    Ok(())
}

/// Changes some of a topic's own settings (KIP-339).
pub fn alter_incrementally(
    shared: &Arc<Shared>,
    place: Place,
    fields: &[u8],
) -> Result<(), NoAnswer> {
    let request: IncrementalAlterConfigsRequest = place.read(fields)?;
    let for_worker = shared.clone();
    shared.admin.run(move || {
        let named = request
            .resources
            .into_iter()
            .map(|of| ((of.resource_type, of.resource_name), of.configs));
        let set_any = |configs: &Vec<AlterableConfig>| {
            configs.iter().any(|config| config.config_operation != DELETE)
        };
        let results =
            alter_each(&for_worker, request.validate_only, named, set_any, |own, configs| {
                change(own, &of_topic(&for_worker, own), configs)
            });
        let responses = results.into_iter().map(|((kind, name), result)| {
            IncrementalResponse::default()
                .with_error_code(code_of(&result))
                .with_error_message(message_of(&result))
                .with_resource_type(kind)
                .with_resource_name(name)
        });
        let response =
            IncrementalAlterConfigsResponse::default().with_responses(responses.collect());
        place.send(&for_worker, &response);
    });
    Ok(())
}

/// Changes topics, one after the other. `set_any` tells whether something is to be set; `change` makes of a topic's own
/// settings and of what is asked for what is to be done.
fn alter_each<C>(
    shared: &Arc<Shared>,
    validate_only: bool,
    named: impl Iterator<Item = (Name, C)>,
    set_any: impl Fn(&C) -> bool,
    change: impl Fn(&BTreeMap<String, String>, C) -> Result<Change, Fault>,
) -> Vec<(Name, Result<(), Fault>)> {
    let results = each_once(named).into_iter().map(|((kind, name), asked)| {
        let result = asked.and_then(|asked| {
            if Resource::of(kind)? != Resource::Topic {
                return refuse_broker(set_any(&asked));
            }
            let own = shared.known_topic(&name, |topic| topic.settings.clone())?;
            let Change { set, unset } = change(&own, asked)?;
            let request = AlterTopic { name: name.to_string(), set, unset, validate_only };
            control::alter(shared, request).map(drop)
        });
        ((kind, name), result)
    });
    results.collect()
}

/// A broker's own settings are not changed while it runs. To unset what nobody can set changes nothing: Kafka's tools do so
/// when a move is over.
fn refuse_broker(set_any: bool) -> Result<(), Fault> {
    if set_any {
        let what = "a broker is given its settings when it starts, by --set, by its environment or \
                    by the file of --config";
        return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
    }
    Ok(())
}

/// What each name is to be.
fn each(values: Vec<(StrBytes, Option<StrBytes>)>) -> Result<Vec<Setting>, Fault> {
    let settings = each_once(values).into_iter().map(|(name, value)| setting(&name, value?));
    settings.collect()
}

fn setting(name: &str, value: Option<StrBytes>) -> Result<Setting, Fault> {
    let Some(value) = value else {
        let what = format!("{name} is to be set to nothing");
        return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
    };
    Ok(Setting { name: name.to_owned(), value: value.to_string() })
}

fn replace(own: &BTreeMap<String, String>, set: Vec<Setting>) -> Change {
    let left = own.keys().filter(|name| set.iter().all(|setting| setting.name != **name));
    Change { unset: left.cloned().collect(), set }
}

fn change(
    own: &BTreeMap<String, String>,
    now: &[Entry],
    configs: Vec<AlterableConfig>,
) -> Result<Change, Fault> {
    let mut change = Change::default();
    for (name, config) in each_once(configs.into_iter().map(|config| (config.name.clone(), config)))
    {
        let AlterableConfig { config_operation, value, .. } = config?;
        match config_operation {
            SET => change.set.push(setting(&name, value)?),
            DELETE => change.unset.extend(own.contains_key(&*name).then(|| name.to_string())),
            APPEND => change.set.push(edit(now, setting(&name, value)?, list::append)?),
            SUBTRACT => change.set.push(edit(now, setting(&name, value)?, list::subtract)?),
            other => {
                let what = format!("{name}: there is no operation {other}");
                return Err(Fault::new(ErrorCode::INVALID_REQUEST, what));
            }
        }
    }
    Ok(change)
}

/// A setting that is a list, with what is asked for done to the list that it is now.
fn edit(
    now: &[Entry],
    asked: Setting,
    edit: impl Fn(&str, &str) -> String,
) -> Result<Setting, Fault> {
    let invalid = |what: String| Fault::new(ErrorCode::INVALID_CONFIG, what);
    let Setting { name, value } = asked;
    let known = definition(&name, true).map_err(|error| invalid(error.to_string()))?;
    if known.kind != Kind::Cleanup {
        return Err(invalid(format!("{name} is no list, to which something could be added")));
    }
    let list = now.iter().find(|entry| entry.definition.name == name).and_then(Entry::value);
    Ok(Setting { value: edit(&list.unwrap_or_default(), &value), name })
}
