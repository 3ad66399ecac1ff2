//! What can stand in a place: names that a cluster has, if a broker answers at once, and those that are known.

use std::ffi::OsStr;
use std::time::Duration;

use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use mk::client::{Admin, ClientError, Cluster, ClusterSettings};
use mk::settings::{ALL, Scope};
use mk_storage::batch::Compression;

use super::line::{brokers, words};
use crate::profile::names as profile_names;

/// Nobody waits longer for a name.
const PATIENCE: Duration = Duration::from_millis(500);

/// Topics.
pub fn topics() -> ArgValueCompleter {
    asked(|admin, _| async move {
        let topics = topics_of(&admin).await?;
        Ok(topics.into_iter().map(|(name, _)| name).collect())
    })
}

/// Groups.
pub fn groups() -> ArgValueCompleter {
    asked(|admin, _| async move {
        let (groups, _) = admin.list_groups().await?;
        Ok(groups.into_iter().map(|group| group.group).collect())
    })
}

/// Numbers of partitions, those of the topics on the line.
pub fn numbers() -> ArgValueCompleter {
    asked(|admin, _| async move {
        let words = words();
        let topics = topics_of(&admin).await?.into_iter();
        let named = topics.filter(|(name, _)| words.contains(name));
        let most = named.map(|(_, partitions)| partitions).max().unwrap_or(0);
        Ok((0..most).map(|number| number.to_string()).collect())
    })
}

/// Topics, and TOPIC:PARTITION as soon as there is only one topic left that can be meant.
pub fn partitions() -> ArgValueCompleter {
    asked(|admin, current| async move {
        let mut topics = topics_of(&admin).await?;
        topics.retain(|(name, _)| {
            name.starts_with(&current) || current.starts_with(&format!("{name}:"))
        });
        let mut names: Vec<String> = topics.iter().map(|(name, _)| name.clone()).collect();
        if let [(name, partitions)] = &topics[..] {
            names.extend((0..*partitions).map(|number| format!("{name}:{number}")));
        }
        Ok(names)
    })
}

/// Clusters that have a name.
pub fn profiles() -> ArgValueCompleter {
    known(|| profile_names().into_iter().map(CompletionCandidate::new).collect())
}

/// How records can be compressed.
pub fn codecs() -> ArgValueCompleter {
    use Compression::{Gzip, Lz4, None, Snappy, Zstd};
    let all = [None, Gzip, Snappy, Lz4, Zstd];
    known(move || all.iter().map(|codec| CompletionCandidate::new(codec.name())).collect())
}

/// Settings of topics.
pub fn setting_names() -> ArgValueCompleter {
    known(|| settings_with(""))
}

/// Settings of topics, as far as what is to hold.
pub fn settings_to_set() -> ArgValueCompleter {
    known(|| settings_with("="))
}

fn settings_with(end: &str) -> Vec<CompletionCandidate> {
    let of_topics = ALL.iter().filter(|setting| matches!(setting.scope, Scope::Topic { .. }));
    let candidate = |name: &str| CompletionCandidate::new(format!("{name}{end}"));
    of_topics.map(|setting| candidate(setting.name).help(Some(setting.doc.into()))).collect()
}

fn known(all: impl Fn() -> Vec<CompletionCandidate> + Send + Sync + 'static) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &OsStr| {
        let begin = current.to_str().unwrap_or_default();
        let begins = |found: &CompletionCandidate| {
            found.get_value().to_str().is_some_and(|value| value.starts_with(begin))
        };
        all().into_iter().filter(begins).collect::<Vec<_>>()
    })
}

/// What a broker answers; nothing, if none does at once.
fn asked<F>(ask: impl Fn(Admin, String) -> F + Clone + Send + Sync + 'static) -> ArgValueCompleter
where
    F: Future<Output = Result<Vec<String>, ClientError>>,
{
    ArgValueCompleter::new(move |current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let Ok(addresses) = brokers(&words()) else { return Vec::new() };
        let names = answer(&addresses, |admin| ask(admin, current.to_owned()));
        let names = names.into_iter().filter(|name| name.starts_with(current));
        names.map(CompletionCandidate::new).collect()
    })
}

fn answer<F>(addresses: &str, ask: impl FnOnce(Admin) -> F) -> Vec<String>
where
    F: Future<Output = Result<Vec<String>, ClientError>>,
{
    let settings = ClusterSettings {
        connect_timeout: PATIENCE,
        request_timeout: PATIENCE,
        api_timeout: PATIENCE,
        ..ClusterSettings::default()
    };
    let addresses = addresses.split(',').map(|address| address.trim().to_owned()).collect();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    // Made inside of it, as all that a client does is done there.
    let asked = async {
        let admin = Admin::new(Cluster::new(addresses, settings));
        tokio::time::timeout(PATIENCE, ask(admin)).await
    };
    match runtime.block_on(asked) {
        Ok(Ok(names)) => names,
        _ => Vec::new(),
    }
}

/// Topics, each with how many partitions it has.
async fn topics_of(admin: &Admin) -> Result<Vec<(String, usize)>, ClientError> {
    let topics = admin.metadata(None).await?.topics.into_iter();
    let known = topics.filter_map(|topic| Some((topic.name, topic.result.ok()?.partitions.len())));
    Ok(known.collect())
}
