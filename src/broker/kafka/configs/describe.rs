//! What settings there are, and who says what they are.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};
use mk_net::fault::{ErrorCode, Fault};

use super::Resource;
use super::entry::{Entry, of_broker, of_topic, plain, source};
use crate::broker::kafka::NoAnswer;
use crate::broker::kafka::place::{Place, code_of, text};
use crate::broker::kafka::results::message_of;
use crate::broker::shared::Shared;

/// What is wanted of each setting beside its value.
#[derive(Clone, Copy)]
struct Wishes {
    synonyms: bool,
    documentation: bool,
}

/// Answers with the settings of topics and of this broker.
pub fn describe(shared: &Arc<Shared>, place: Place, fields: &[u8]) -> Result<(), NoAnswer> {
    let request: DescribeConfigsRequest = place.read(fields)?;
    let wishes =
        Wishes { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let mut resources = request.resources;
    // Each once: a request must not be answered with a thousand times its bytes.
    let mut seen = HashSet::new();
    resources.retain(|of| seen.insert((of.resource_type, of.resource_name.clone())));
    let for_worker = shared.clone();
    shared.lookup.run(move || {
        let results = resources.into_iter().map(|of| result(&for_worker, wishes, of));
        let response = DescribeConfigsResponse::default().with_results(results.collect());
        place.send(&for_worker, &response);
    });
    Ok(())
}

fn result(
    shared: &Shared,
    wishes: Wishes,
    resource: DescribeConfigsResource,
) -> DescribeConfigsResult {
    let DescribeConfigsResource { resource_type, resource_name, configuration_keys, .. } = resource;
    let entries = entries(shared, resource_type, &resource_name);
    let response = DescribeConfigsResult::default()
        .with_error_code(code_of(&entries))
        .with_error_message(message_of(&entries))
        .with_resource_type(resource_type)
        .with_resource_name(resource_name);
    let wanted: HashSet<_> = configuration_keys.into_iter().flatten().collect();
    let is_wanted = |entry: &Entry| {
        wanted.is_empty() || wanted.iter().any(|name| name.as_str() == entry.definition.name)
    };
    let entries = entries.unwrap_or_default().into_iter().filter(is_wanted);
    response.with_configs(entries.map(|entry| written(wishes, &entry)).collect())
}

fn entries(shared: &Shared, kind: i8, name: &str) -> Result<Vec<Entry>, Fault> {
    let kind = Resource::of(kind)?;
    if kind == Resource::Topic {
        let own = shared.known_topic(name, |topic| topic.settings.clone())?;
        return Ok(of_topic(shared, &own));
    }
    let me = shared.cluster.me().id;
    match (kind, name) {
        // Nothing is set for all brokers at once.
        (Resource::Broker, "") => Ok(Vec::new()),
        (_, name) if name != me.to_string() => {
            let what = format!("this is broker {me}, which knows no settings but its own");
            Err(Fault::new(ErrorCode::INVALID_REQUEST, what))
        }
        (Resource::Broker, _) => Ok(of_broker(shared)),
        _ => Ok(Vec::new()),
    }
}

fn written(wishes: Wishes, entry: &Entry) -> DescribeConfigsResourceResult {
    let synonyms = entry.origins.iter().filter(|_| wishes.synonyms).map(|origin| {
        DescribeConfigsSynonym::default()
            .with_name(text(origin.name))
            .with_value(Some(text(plain(entry.definition, origin))))
            .with_source(source(origin.source))
    });
    DescribeConfigsResourceResult::default()
        .with_name(text(entry.definition.name))
        .with_value(entry.value().map(text))
        .with_read_only(entry.read_only)
        .with_config_source(entry.source())
        .with_synonyms(synonyms.collect())
        .with_config_type(entry.config_type())
        .with_documentation(wishes.documentation.then(|| text(entry.definition.doc)))
}
