//! What became of each thing that was to be changed: for people on stderr, for programs on stdout.

use std::io;

use mk::client::ClientError;
use serde_json::{Value, json};

use crate::outcome::{Failure, describe};
use crate::table;

/// Tells of one after the other. One of many that fails, fails the whole.
#[derive(Debug)]
pub struct Report {
    json: bool,
    failed: bool,
}

impl Report {
    /// For programs, or for people.
    pub fn new(json: bool) -> Report {
        Report { json, failed: false }
    }

    /// It was done, or was not to be done.
    pub fn went_well(&self, what: Value, done: bool, words: &str) -> io::Result<()> {
        match self.json {
            true => print(what, done, None),
            false => {
                say!("{words}");
                Ok(())
            }
        }
    }

    /// It could not be done.
    pub fn failed(&mut self, what: Value, error: &ClientError) -> io::Result<()> {
        self.failed = true;
        say!("mkctl: {}", describe(error));
        if self.json { print(what, false, Some(error.to_string())) } else { Ok(()) }
    }

    /// How the whole went.
    pub fn end(self) -> Result<(), Failure> {
        if self.failed { Err(Failure::Reported) } else { Ok(()) }
    }
}

fn print(mut what: Value, done: bool, error: Option<String>) -> io::Result<()> {
    what["done"] = json!(done);
    what["error"] = json!(error);
    table::print_json(&what)
}
