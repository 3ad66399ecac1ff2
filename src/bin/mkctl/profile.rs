//! `mkctl profile`: clusters by name, so that nobody types their addresses.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::args::DEFAULT_BOOTSTRAP;
use crate::completion::profiles;
use crate::outcome::Failure;
use crate::table;

#[derive(Debug, Subcommand)]
pub enum ProfileCommand {
    /// List clusters by their names; the one that is used has a star.
    #[command(before_help = "\
Examples:
  mkctl profile list")]
    List {
        /// A JSON object a line.
        #[arg(short = 'J', long)]
        json: bool,
    },
    /// Give a cluster a name, or other addresses.
    #[command(before_help = "\
Examples:
  mkctl profile set prod broker-1:9092,broker-2:9092")]
    Set {
        /// The name.
        #[arg(add = profiles())]
        name: String,
        /// Addresses of its brokers, separated by commas.
        #[arg(value_name = "HOST:PORT,...")]
        addresses: String,
    },
    /// Use a cluster from now on, wherever no other is named.
    #[command(before_help = "\
Examples:
  mkctl profile use prod
  mkctl profile use   the broker at 127.0.0.1:9092 again")]
    Use {
        /// Its name; without one, the broker at 127.0.0.1:9092.
        #[arg(add = profiles())]
        name: Option<String>,
    },
    /// Forget a name. The cluster does not notice.
    #[command(before_help = "\
Examples:
  mkctl profile forget prod")]
    Forget {
        /// The name.
        #[arg(add = profiles())]
        name: String,
    },
}

/// What is in the file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profiles {
    /// The one that is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    profiles: BTreeMap<String, Profile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Profile {
    bootstrap_server: String,
}

/// The addresses of brokers. The line counts before the environment, and that before the file; at each of
/// them, addresses count before a name.
pub fn addresses(given: Option<&str>, named: Option<&str>) -> Result<String, Failure> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (bootstrap, profile) = (set("MK_BOOTSTRAP"), set("MK_PROFILE"));
    if let Some(given) = given.or(bootstrap.as_deref().filter(|_| named.is_none())) {
        return Ok(given.to_owned());
    }
    let named = named.or(profile.as_deref());
    let Some(path) = path() else { return Ok(DEFAULT_BOOTSTRAP.to_owned()) };
    choose(&load(&path)?, named, &path)
}

fn choose(profiles: &Profiles, named: Option<&str>, path: &Path) -> Result<String, Failure> {
    let Some(name) = named.or(profiles.current.as_deref()) else {
        return Ok(DEFAULT_BOOTSTRAP.to_owned());
    };
    let profile = profiles.profiles.get(name).ok_or_else(|| unknown(name, path))?;
    Ok(profile.bootstrap_server.clone())
}

fn unknown(name: &str, path: &Path) -> Failure {
    let path = path.display();
    Failure::Usage(format!(
        "there is no profile '{name}' in {path}\nhint: mkctl profile set {name} HOST:PORT"
    ))
}

/// `MK_PROFILES`, or the user's folder for settings.
fn path() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = || set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    set("MK_PROFILES").or_else(|| Some(config()?.join("mk/profiles.json")))
}

fn load(path: &Path) -> Result<Profiles, Failure> {
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
            let hint = "mend it, or remove it and set its profiles anew";
            failed("read", path, &format_args!("{error}\nhint: {hint}"))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Profiles::default()),
        Err(error) => Err(failed("read", path, &error)),
    }
}

/// The old file is there until the new one is whole.
fn store(path: &Path, profiles: &Profiles) -> Result<(), Failure> {
    let write = || {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let fresh = path.with_extension("json.new");
        std::fs::write(&fresh, serde_json::to_vec_pretty(profiles)?)?;
        std::fs::rename(fresh, path)
    };
    write().map_err(|error: io::Error| failed("write", path, &error))
}

/// The names that clusters have; none, if the file cannot be read.
pub fn names() -> Vec<String> {
    let profiles = path().and_then(|path| load(&path).ok()).unwrap_or_default();
    profiles.profiles.into_keys().collect()
}

fn failed(what: &str, path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(format!("cannot {what} {}: {error}", path.display()))
}

pub fn run(command: ProfileCommand) -> Result<(), Failure> {
    let path = path().ok_or_else(|| {
        Failure::Failed("there is no folder for settings\nhint: set MK_PROFILES".to_owned())
    })?;
    let mut profiles = load(&path)?;
    match command {
        ProfileCommand::List { json } => return list(&profiles, json),
        ProfileCommand::Set { name, addresses } => {
            if let Some(wrong) = addresses.split(',').find(|one| !one.contains(':')) {
                return Err(Failure::Usage(format!(
                    "'{wrong}' is no HOST:PORT\nhint: mkctl profile set {name} broker-1:9092,broker-2:9092"
                )));
            }
            profiles.profiles.insert(name, Profile { bootstrap_server: addresses });
        }
        ProfileCommand::Use { name } => {
            if let Some(name) =
                name.as_deref().filter(|name| !profiles.profiles.contains_key(*name))
            {
                return Err(unknown(name, &path));
            }
            profiles.current = name;
        }
        ProfileCommand::Forget { name } => {
            profiles.profiles.remove(&name).ok_or_else(|| unknown(&name, &path))?;
            profiles.current = profiles.current.filter(|current| *current != name);
        }
    }
    store(&path, &profiles)
}

fn list(profiles: &Profiles, as_json: bool) -> Result<(), Failure> {
    let is_used = |name: &String| profiles.current.as_ref() == Some(name);
    if as_json {
        for (name, profile) in &profiles.profiles {
            table::print_json(&json!({
                "name": name,
                "bootstrap_server": profile.bootstrap_server,
                "used": is_used(name),
            }))?;
        }
        return Ok(());
    }
    let rows = profiles.profiles.iter().map(|(name, profile)| {
        let star = if is_used(name) { "*" } else { "" };
        vec![name.clone(), profile.bootstrap_server.clone(), star.to_owned()]
    });
    table::print(&["NAME", "BROKERS", "USED"], &rows.collect::<Vec<_>>())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_given_comes_before_the_one_that_is_used() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("deep/profiles.json");
        let mut profiles = load(&path).unwrap();
        assert_eq!(choose(&profiles, None, &path).unwrap(), DEFAULT_BOOTSTRAP);
        for (name, address) in [("prod", "a:1,b:2"), ("test", "c:3")] {
            let profile = Profile { bootstrap_server: address.to_owned() };
            profiles.profiles.insert(name.to_owned(), profile);
        }
        profiles.current = Some("prod".to_owned());
        store(&path, &profiles).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!(loaded, profiles);
        assert_eq!(choose(&loaded, None, &path).unwrap(), "a:1,b:2");
        assert_eq!(choose(&loaded, Some("test"), &path).unwrap(), "c:3");
        assert!(matches!(choose(&loaded, Some("none"), &path), Err(Failure::Usage(_))));
        assert_eq!(addresses(Some("d:4"), Some("test")).unwrap(), "d:4");
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(load(&path), Err(Failure::Failed(_))));
    }
}
