//! Completion in shells, of names that a cluster has too.
//!
//! A shell that has read `mkctl completion SHELL` starts mkctl again at each tab, with `COMPLETE` set, and
//! is answered before anything else is done.

mod line;
mod names;

use std::io::{self, Write};

use clap::{CommandFactory, ValueEnum};
use clap_complete::CompleteEnv;
use clap_complete::env::Shells;

pub use self::names::{
    codecs, groups, numbers, partitions, profiles, setting_names, settings_to_set, topics,
};
use crate::args::Args;
use crate::outcome::Failure;

/// Says to mkctl that a shell asks.
const VARIABLE: &str = "COMPLETE";

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
