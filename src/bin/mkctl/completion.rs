//! Completion in shells, of names of topics too.
//!
//! A shell that has read `mkctl completion SHELL` starts mkctl again at each tab, with `COMPLETE` set, and
//! is answered before anything else is done.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::time::Duration;

use clap::{CommandFactory, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::Shells;
use mk::client::{Admin, ClientError, Cluster, ClusterSettings};

use crate::args::Args;
use crate::outcome::Failure;
use crate::profile::addresses;

/// Says to mkctl that a shell asks.
const VARIABLE: &str = "COMPLETE";
/// Nobody waits longer for a name.
const PATIENCE: Duration = Duration::from_millis(500);

/// Shells that can be helped.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

/// Answers a shell, and ends, if one asks.
pub fn answer() {
    CompleteEnv::with_factory(Args::command).var(VARIABLE).complete();
}

/// Prints what the shell is to read.
pub fn run(shell: Shell) -> Result<(), Failure> {
    let name = shell.to_possible_value().map_or_else(String::new, |value| value.get_name().into());
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(&name) else {
        return Err(Failure::Failed(format!("there is no completion for {name}")));
    };
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "mkctl", "mkctl", "mkctl", &mut script)?;
    let mut out = io::stdout().lock();
    out.write_all(&script)?;
    Ok(out.flush()?)
}

/// Completes names of topics, as a broker has them; none if no broker answers at once.
pub fn topics() -> ArgValueCompleter {
    completer(|admin| async move {
        let metadata = admin.metadata(None).await;
        metadata.map(|metadata| metadata.topics.into_iter().map(|topic| topic.name).collect())
    })
}

/// The same of groups.
pub fn groups() -> ArgValueCompleter {
    completer(|admin| async move {
        let groups = admin.list_groups().await;
        groups.map(|(groups, _)| groups.into_iter().map(|group| group.group).collect())
    })
}

fn completer<F>(ask: impl Fn(Admin) -> F + Clone + Send + Sync + 'static) -> ArgValueCompleter
where
    F: Future<Output = Result<Vec<String>, ClientError>>,
{
    ArgValueCompleter::new(move |current: &OsStr| {
        let Some(current) = current.to_str() else { return Vec::new() };
        let Ok(addresses) = brokers(std::env::args()) else { return Vec::new() };
        let names = names(&addresses, &ask);
        let mut names = names.into_iter().filter(|name| name.starts_with(current));
        names.by_ref().map(CompletionCandidate::new).collect()
    })
}

fn names<F>(bootstrap: &str, ask: &impl Fn(Admin) -> F) -> Vec<String>
where
    F: Future<Output = Result<Vec<String>, ClientError>>,
{
    let settings = ClusterSettings {
        connect_timeout: PATIENCE,
        request_timeout: PATIENCE,
        api_timeout: PATIENCE,
        ..ClusterSettings::default()
    };
    let addresses = bootstrap.split(',').map(|address| address.trim().to_owned()).collect();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return Vec::new();
    };
    let admin = Admin::new(Cluster::new(addresses, settings));
    let asked = async { tokio::time::timeout(PATIENCE, ask(admin)).await };
    match runtime.block_on(asked) {
        Ok(Ok(names)) => names,
        _ => Vec::new(),
    }
}

/// The brokers that the half-written command line names, or else the environment or the file of profiles.
fn brokers(words: impl Iterator<Item = String>) -> Result<String, Failure> {
    let words: Vec<String> = words.skip_while(|word| word != "--").collect();
    let given = value_of(&words, "--bootstrap-server").or_else(|| value_of(&words, "-b"));
    addresses(given, value_of(&words, "--profile"))
}

/// What a flag is given on a line that need not be whole.
fn value_of<'a>(words: &'a [String], flag: &str) -> Option<&'a str> {
    let after = |word: &'a String| {
        let rest = word.strip_prefix(flag)?;
        // The value of a short flag may follow at once.
        let is_long = flag.starts_with("--");
        let value =
            rest.strip_prefix('=').or(Some(rest).filter(|rest| !is_long || rest.is_empty()));
        value.filter(|value| !value.is_empty() || rest.is_empty())
    };
    let (at, value) = words.iter().enumerate().find_map(|(at, word)| Some((at, after(word)?)))?;
    if value.is_empty() { words.get(at + 1).map(String::as_str) } else { Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_found_on_a_half_written_line() {
        let of = |line: &str| brokers(line.split(' ').map(str::to_owned)).unwrap();
        for line in [
            "mkctl -- mkctl -b h:1 cat ",
            "mkctl -- mkctl -bh:1 cat ",
            "mkctl -- mkctl cat --bootstrap-server h:1 gr",
            "mkctl -- mkctl cat --bootstrap-server=h:1 gr",
            "mkctl -- mkctl cat --profile other -b h:1 gr",
        ] {
            assert_eq!(of(line), "h:1", "{line}");
        }
        let words = ["--", "mkctl", "--profile=there", "cat"].map(str::to_owned);
        assert_eq!(value_of(&words, "--profile"), Some("there"));
        assert_eq!(value_of(&words, "-b"), None);
    }
}
