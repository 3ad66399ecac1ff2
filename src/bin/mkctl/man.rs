//! `mkctl man`: pages for man(1), one for each command.

use std::path::Path;

use clap::{Command, CommandFactory};

use crate::args::Args;
use crate::outcome::Failure;

/// Writes the pages into a folder, which is made if there is none.
pub fn run(dir: &Path) -> Result<(), Failure> {
    let written = std::fs::create_dir_all(dir)
        .and_then(|()| clap_mangen::generate_to(examples_last(Args::command()), dir));
    let failed = |error| {
        Failure::Failed(format!(
            "cannot write to {}: {error}\nhint: name a folder, or one to be made",
            dir.display()
        ))
    };
    written.map_err(failed)?;
    say!("pages for man are in {0}: man {0}/mkctl.1", dir.display());
    Ok(())
}

/// What stands before a command's help, stands at the end of its page: nothing else of it gets there.
fn examples_last(command: Command) -> Command {
    let command = match command.get_before_help().cloned() {
        Some(examples) => command.after_help(examples),
        None => command,
    };
    command.mut_subcommands(examples_last)
}
