//! `mkinspect map`: a picture of a partition's segments, as wide as the terminal.

use std::collections::BTreeSet;
use std::io::{self, IsTerminal, Write};

use mk_storage::Offset;
use mk_storage::checkpoint::Checkpoint;
use mk_storage::disk::Disk;
use mk_storage::seal::FoundSeal;

use crate::InspectError;
use crate::find::{PartitionFiles, look};
use crate::list::{self, SegmentLine};
use crate::text::bytes_text;
use crate::verify::{self, Part};

/// How to draw.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// Columns there are.
    pub width: usize,
    /// Damage in red.
    pub colour: bool,
    /// One sign a segment, instead of one line.
    pub compact: bool,
    /// Check everything that `verify` checks, and not lengths alone.
    pub verify: bool,
}

/// What is to be said of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Damaged,
    Open,
    Compacted,
    Sealed,
    Closed,
}

/// Columns if nobody tells.
const USUAL_WIDTH: usize = 80;
const LEAST_BAR: usize = 8;

impl Style {
    /// What fits the standard output.
    pub fn of_stdout(compact: bool, verify: bool) -> Style {
        let terminal = io::stdout().is_terminal();
        let size = if terminal { rustix::termios::tcgetwinsize(io::stdout()).ok() } else { None };
        let width = size.map(|size| size.ws_col.into()).filter(|width| *width > 0);
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = terminal && !no_colour;
        Style { width: width.unwrap_or(USUAL_WIDTH), colour, compact, verify }
    }
}

/// What the signs mean.
pub fn legend(out: &mut impl Write, style: Style) -> io::Result<()> {
    if style.compact {
        writeln!(out, "◆ compacted  ■ sealed  □ closed, not sealed  ▷ open  ! damaged")
    } else {
        writeln!(out, "█ batches  ▓ compacted  ░ reserved; bars are as long as segments are large")
    }
}

/// Draws a partition; true if something in it is damaged.
pub fn print(
    out: &mut impl Write,
    disk: &dyn Disk,
    files: &PartitionFiles,
    style: Style,
) -> Result<bool, InspectError> {
    let (files, lines) =
        look(disk, files, |files| Ok((files.clone(), list::segments(disk, files)?)))?;
    let damaged = damaged(disk, &files, &lines, style.verify)?;
    let checkpoint = Checkpoint::read(disk, &files.dir).ok().flatten();
    let found = checkpoint.clone().unwrap_or_default();
    let first = files.bases.first().copied().unwrap_or_default();
    let start = found.log_start.max(first);
    let end = lines.last().map_or(first, |line| line.next);
    writeln!(
        out,
        "{}  segments {}  {}  start {start}  end {end}  recovery-point {}",
        files.dir.display(),
        lines.len(),
        bytes_text(lines.iter().map(|line| line.bytes).sum()),
        checkpoint.map_or("unknown".to_owned(), |found| found.recovery_point.to_string()),
    )?;
    let last = lines.last().map(|line| line.base);
    let states: Vec<_> = lines.iter().map(|line| state(line, last, &damaged)).collect();
    if style.compact {
        strip(out, &states, style)?;
    } else {
        let marks = Marks { start, end, recovery_point: found.recovery_point, last };
        bars(out, &lines, &states, &marks, style)?;
    }
    files.unfinished.print(out)?;
    Ok(!damaged.is_empty() || lines.is_empty())
}

/// Segments that are damaged, as far as was looked.
fn damaged(
    disk: &dyn Disk,
    files: &PartitionFiles,
    lines: &[SegmentLine],
    all: bool,
) -> Result<BTreeSet<Offset>, InspectError> {
    if all {
        let reports = verify::partition(disk, files)?;
        let damaged = reports.iter().filter(|report| !report.damage.is_empty());
        let bases = damaged.map(|report| match report.part {
            Part::Log(base, _) | Part::Index(base) | Part::Seal(base) | Part::Swap(base) => base,
            Part::Folder | Part::Checkpoint | Part::Snapshot(_) => {
                files.bases.first().copied().unwrap_or_default()
            }
        });
        return Ok(bases.collect());
    }
    let next_bases = lines.iter().skip(1).map(|line| Some(line.base)).chain([None]);
    let suspect = lines.iter().zip(next_bases).filter(|(line, next_base)| {
        !line.seal_fits || next_base.is_some_and(|next_base| next_base != line.next)
    });
    Ok(suspect.map(|(line, _)| line.base).collect())
}

fn state(line: &SegmentLine, last: Option<Offset>, damaged: &BTreeSet<Offset>) -> State {
    match line.seal {
        _ if damaged.contains(&line.base) => State::Damaged,
        FoundSeal::Whole(_) if line.is_compacted() => State::Compacted,
        FoundSeal::Whole(_) => State::Sealed,
        _ if last == Some(line.base) => State::Open,
        _ => State::Closed,
    }
}

struct Marks {
    start: Offset,
    end: Offset,
    recovery_point: Offset,
    /// Base offset of the last segment.
    last: Option<Offset>,
}

impl Marks {
    /// What lies in this segment.
    fn text(&self, line: &SegmentLine) -> String {
        let is_last = self.last == Some(line.base);
        let within =
            |offset| (line.base..line.next).contains(&offset) || (is_last && offset == self.end);
        let mut text = String::new();
        if within(self.start) {
            text += &format!("  start {}", self.start);
        }
        if within(self.recovery_point) {
            text += &format!("  recovery-point {}", self.recovery_point);
        }
        if is_last {
            text += &format!("  end {}", self.end);
        }
        text
    }
}

fn bars(
    out: &mut impl Write,
    lines: &[SegmentLine],
    states: &[State],
    marks: &Marks,
    style: Style,
) -> io::Result<()> {
    let rows: Vec<_> = lines
        .iter()
        .zip(states)
        .map(|(line, state)| {
            let name = line.base.to_string();
            let text =
                format!("{:>9}  {}{}", bytes_text(line.bytes), word(*state), marks.text(line));
            (name, text)
        })
        .collect();
    let names = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let texts = rows.iter().map(|(_, text)| text.chars().count()).max().unwrap_or(0);
    let bar = style.width.saturating_sub(names + texts + 4).max(LEAST_BAR);
    let largest = lines.iter().map(|line| line.file_bytes.max(line.bytes)).max().unwrap_or(0);
    let columns = |bytes: u64| {
        let columns = bytes as f64 * bar as f64 / largest.max(1) as f64;
        (columns.round() as usize).max(usize::from(bytes > 0))
    };
    for ((line, state), (name, text)) in lines.iter().zip(states).zip(rows) {
        let full = columns(line.bytes);
        let reserved = columns(line.file_bytes).saturating_sub(full);
        let blank = bar.saturating_sub(full + reserved);
        let batches = if *state == State::Compacted { "▓" } else { "█" };
        let picture =
            format!("{}{}{}", batches.repeat(full), "░".repeat(reserved), " ".repeat(blank));
        let (on, off) = paint(*state, style);
        writeln!(out, "  {name:>names$} {on}{picture} {text}{off}")?;
    }
    Ok(())
}

fn strip(out: &mut impl Write, states: &[State], style: Style) -> io::Result<()> {
    for row in states.chunks(style.width.saturating_sub(2).max(1)) {
        write!(out, "  ")?;
        for state in row {
            let (on, off) = paint(*state, style);
            write!(out, "{on}{}{off}", sign(*state))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn word(state: State) -> &'static str {
    match state {
        State::Damaged => "DAMAGED",
        State::Open => "open",
        State::Compacted => "compacted",
        State::Sealed => "sealed",
        State::Closed => "closed",
    }
}

fn sign(state: State) -> char {
    match state {
        State::Damaged => '!',
        State::Open => '▷',
        State::Compacted => '◆',
        State::Sealed => '■',
        State::Closed => '□',
    }
}

fn paint(state: State, style: Style) -> (&'static str, &'static str) {
    if style.colour && state == State::Damaged { ("\x1b[31m", "\x1b[0m") } else { ("", "") }
}
