//! Programs that lie beside mkctl.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Child;

use crate::outcome::Failure;

/// The program that lies beside this one, or is on the path.
pub fn program(name: &str) -> Result<PathBuf, Failure> {
    let me = std::env::current_exe()
        .map_err(|error| Failure::Failed(format!("where mkctl lies is not known: {error}")))?;
    let beside = me.with_file_name(name);
    Ok(if beside.exists() { beside } else { PathBuf::from(name) })
}

/// The first line that a process prints; nothing if it ends without one.
pub fn ready_line(child: &mut Child) -> tokio::task::JoinHandle<String> {
    let stdout = child.stdout.take();
    tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        if let Some(stdout) = stdout {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        line
    })
}

/// The address that a ready line names.
pub fn address_in(line: &str) -> Option<&str> {
    line.split_once("ready on ").and_then(|(_, rest)| rest.split_once(',')).map(|(at, _)| at)
}
