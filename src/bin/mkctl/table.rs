//! Tables on stdout: columns parted by tabs for programs, aligned and with a header for people.

use std::io::{self, IsTerminal, Write};

use indicatif::HumanBytes;

/// Prints a table.
pub fn print(header: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if !out.is_terminal() {
        for row in rows {
            writeln!(out, "{}", row.join("\t"))?;
        }
        return out.flush();
    }
    for line in lines(header, rows) {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// A table for people, a line each.
pub fn lines(header: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let header = header.iter().map(|name| name.to_string()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..header.len()).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &&Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

/// A size: a number for programs, in units for people.
pub fn bytes(count: u64) -> String {
    if io::stdout().is_terminal() { HumanBytes(count).to_string() } else { count.to_string() }
}

/// Prints lines.
pub fn print_lines(lines: impl IntoIterator<Item = String>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    out.flush()
}

/// Prints a value as a line of JSON.
pub fn print_json(value: &serde_json::Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{value}")?;
    out.flush()
}
