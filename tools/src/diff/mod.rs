//! `mkinspect diff`: where two copies of a log differ first.

mod compare;
mod fields;
mod reader;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use mk_storage::disk::Disk;

pub use self::compare::{Comparison, Outcome, compare};
pub use self::reader::Place;
use crate::InspectError;
use crate::find::{PartitionFiles, partitions};

/// What to tell the shell, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    Equal,
    Differ,
    Damaged,
}

/// Compares partitions of the same name at and below two paths, and prints what was found.
pub fn print(
    out: &mut impl Write,
    disk: &dyn Disk,
    roots: [&Path; 2],
) -> Result<Verdict, InspectError> {
    let [mut a, mut b] = [by_name(disk, roots[0])?, by_name(disk, roots[1])?];
    let is_one = |found: &BTreeMap<_, _>| found.len() == 1;
    if let (true, Some((name, _)), Some((other, found))) =
        (is_one(&a) && is_one(&b), a.first_key_value(), b.first_key_value())
        && name != other
        && (name.as_os_str().is_empty() || other.as_os_str().is_empty())
    {
        // A partition's folder against a folder that holds one.
        b = BTreeMap::from([(name.clone(), found.clone())]);
    }
    let mut verdict = Verdict::Equal;
    for (name, files) in std::mem::take(&mut a) {
        let Some(other) = b.remove(&name) else {
            writeln!(out, "only in A  {}", files.dir.display())?;
            verdict = verdict.max(Verdict::Differ);
            continue;
        };
        let compared = compare(disk, [&files, &other])?;
        let (a, b) = (files.dir.display(), other.dir.display());
        writeln!(out, "{}  A {a}  B {b}", compared.word())?;
        write!(out, "{compared}")?;
        verdict = verdict.max(compared.verdict());
    }
    for files in b.values() {
        writeln!(out, "only in B  {}", files.dir.display())?;
        verdict = verdict.max(Verdict::Differ);
    }
    Ok(verdict)
}

/// Partitions by their path below `root`; that of a partition itself is empty.
fn by_name(
    disk: &dyn Disk,
    root: &Path,
) -> Result<BTreeMap<PathBuf, PartitionFiles>, InspectError> {
    let found = partitions(disk, root)?.into_iter().map(|files| {
        let name = files.dir.strip_prefix(root).unwrap_or(&files.dir).to_owned();
        (name, files)
    });
    Ok(found.collect())
}

impl Comparison {
    /// True if one of the logs lacks records that compaction took.
    fn is_thinner(&self) -> bool {
        self.only_in.iter().any(Option::is_some)
    }

    fn word(&self) -> &'static str {
        match &self.outcome {
            Outcome::Equal if self.is_thinner() => "compacted",
            outcome => outcome.word(),
        }
    }

    fn verdict(&self) -> Verdict {
        match self.outcome {
            Outcome::Equal if self.repacked.is_none() && !self.is_thinner() => Verdict::Equal,
            Outcome::Equal | Outcome::Prefix { .. } | Outcome::Differ { .. } => Verdict::Differ,
            Outcome::Damaged { .. } => Verdict::Damaged,
        }
    }
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Outcome::Equal => "equal    ",
            Outcome::Prefix { .. } => "prefix   ",
            Outcome::Differ { .. } => "differ   ",
            Outcome::Damaged { .. } => "DAMAGED  ",
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Comparison { starts: [a, b], from, equal_to, batches, .. } = self;
        if a != b {
            writeln!(f, "  A starts at {a}, B at {b}: compared from {from} on")?;
        }
        if equal_to > from && self.is_thinner() {
            writeln!(f, "  what both have of {from}..{equal_to} is equal, {batches} batches")?;
            let sides = SIDES.iter().zip(SIDES.iter().rev()).zip(&self.only_in);
            for ((has, lacks), only) in sides {
                if let Some((records, first)) = only {
                    writeln!(
                        f,
                        "  {records} records are in {has} only, from offset {first} on: \
                         compacted away in {lacks}"
                    )?;
                }
            }
        } else if equal_to > from {
            writeln!(f, "  equal records {from}..{equal_to}, {batches} batches")?;
        }
        if let Some((stretches, offset, [a, b])) = &self.repacked {
            writeln!(f, "  of these {stretches} batches are packed otherwise, with equal records")?;
            writeln!(f, "  the first at offset {offset}: A {a}, B {b}")?;
        }
        match &self.outcome {
            Outcome::Equal => Ok(()),
            Outcome::Prefix { shorter, longer_end } => {
                let (short, long) = (SIDES[*shorter], SIDES[1 - *shorter]);
                if equal_to == from {
                    write!(f, "  {short} has nothing from {from} on; ")?;
                } else {
                    write!(f, "  {short} ends at {equal_to}; ")?;
                }
                writeln!(f, "{long} goes on to {longer_end}")
            }
            Outcome::Differ { offset, fields, places: [a, b] } => {
                writeln!(f, "  first difference at offset {offset}, A | B:")?;
                for field in fields {
                    writeln!(f, "    {field}")?;
                }
                writeln!(f, "  A {a}\n  B {b}")
            }
            Outcome::Damaged { which, place, what } => {
                writeln!(f, "  {} is damaged: {place}: {what}", SIDES[*which])
            }
        }
    }
}

const SIDES: [&str; 2] = ["A", "B"];

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} byte {}", self.file.display(), self.byte)
    }
}
