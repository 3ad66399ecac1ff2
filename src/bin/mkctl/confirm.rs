//! Asks before something is done that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::outcome::Failure;

/// True if it is to be done: whoever sits at a terminal is asked, whoever does not says `yes` with a flag.
pub fn confirm(what: &str, yes: bool, dry_run: bool) -> Result<bool, Failure> {
    if dry_run {
        eprintln!("mkctl: would {what}");
        return Ok(false);
    }
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        let what = format!("to {what} without a terminal needs -y\nhint: --dry-run only says what");
        return Err(Failure::Usage(what));
    }
    eprint!("mkctl: {what}? [y/N] ");
    // What cannot be asked is not done.
    let _ = io::stderr().flush();
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(true),
        _ => {
            eprintln!("mkctl: nothing is done");
            Ok(false)
        }
    }
}
