//! Asks before something is done that cannot be undone.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::outcome::Failure;

/// Whether it is to be done.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Consent {
    /// Look, and only say what would be done.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
}

impl Consent {
    /// True if this is to be done: whoever sits at a terminal is asked, whoever does not says -y.
    pub fn to(self, what: &str) -> Result<bool, Failure> {
        if self.dry_run {
            say!("mkctl: would {what}");
            return Ok(false);
        }
        if self.yes {
            return Ok(true);
        }
        if !io::stdin().is_terminal() {
            let what =
                format!("to {what} without a terminal needs -y\nhint: --dry-run only says what");
            return Err(Failure::Usage(what));
        }
        let answer = ask(what).map_err(|error| {
            Failure::Failed(format!("nobody can be asked: {error}\nhint: -y does it unasked"))
        })?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(true),
            _ => {
                say!("mkctl: nothing is done");
                Ok(false)
            }
        }
    }
}

fn ask(what: &str) -> io::Result<String> {
    write!(io::stderr(), "mkctl: {what}? [y/N] ")?;
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer)
}
