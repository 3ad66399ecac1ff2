//! `mkctl top`: what moves, again each second.

mod json;
mod sample;
mod screen;

use std::io::{IsTerminal, Write};
use std::time::Duration;

use mk::client::{Admin, Cluster};

use self::sample::Sample;
use crate::args::time;
use crate::outcome::{Failure, describe};
use crate::table;

/// Watch brokers, topics, groups and clients: what moves most comes first. Ctrl-C ends it.
///
/// What a screen has no room for is counted, not shown. LAG and BEHIND of a group are those of group
/// describe: records, and the age of the oldest of them. IN/s and OUT/s of a group are the records that
/// come into what it reads, and those that it acknowledges.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  mkctl top
  mkctl top -i 5s
  mkctl top -n 2 | cat                 two looks, for a file
  mkctl top -J | jq '.groups[].lag'")]
pub struct TopArgs {
    /// How often it looks.
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = time)]
    pub interval: Duration,
    /// Ends after so many looks.
    #[arg(short = 'n', long)]
    pub count: Option<u64>,
    /// A JSON object a line, for each look.
    #[arg(short = 'J', long)]
    pub json: bool,
}

pub async fn run(cluster: &Cluster, args: TopArgs) -> Result<(), Failure> {
    let admin = Admin::new(cluster.clone());
    let mut before: Option<Sample> = None;
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        match sample::look(&admin).await {
            Ok(sample) if args.json => {
                table::print_json(&json::of(&sample, before.as_ref()))?;
                before = Some(sample);
            }
            Ok(sample) => {
                show(|size| screen::frame(&sample, before.as_ref(), size))?;
                before = Some(sample);
            }
            // Whoever watches waits until somebody answers.
            Err(error) if before.is_some() && args.json => say!("mkctl: {}", describe(&error)),
            Err(error) if before.is_some() => {
                show(|_| vec![format!("no answer: {}", describe(&error))])?;
            }
            Err(error) => return Err(error.into()),
        }
        left -= 1;
        if left > 0 {
            tokio::time::sleep(args.interval).await;
        }
    }
    Ok(())
}

/// On a terminal as much as it holds, in the place of what was there.
fn show(frame: impl FnOnce(screen::Size) -> Vec<String>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let mut size = screen::Size { rows: usize::MAX, columns: usize::MAX };
    if out.is_terminal() {
        if let Ok(found) = rustix::termios::tcgetwinsize(&out) {
            size = room(found.ws_row.into(), found.ws_col.into());
        }
        write!(out, "\x1b[H\x1b[J")?;
    }
    for line in frame(size) {
        writeln!(out, "{line}")?;
    }
    Ok(out.flush()?)
}

/// What is to be written on a terminal of so many rows, the last of which stays free. One that says 0, as a serial
/// line and `script` do, does not know: it is taken for the usual one.
fn room(rows: usize, columns: usize) -> screen::Size {
    let known = |size, usual| if size == 0 { usual } else { size };
    screen::Size { rows: known(rows, 24) - 1, columns: known(columns, 80) }
}

#[cfg(test)]
mod tests {
    use super::room;

    /// In `script`, whose terminal says 0 rows of 0 columns, the screen stayed empty.
    #[test]
    fn a_terminal_that_does_not_know_its_size_is_the_usual_one() {
        let size = |rows, columns| (room(rows, columns).rows, room(rows, columns).columns);
        assert_eq!(size(0, 0), (23, 80));
        assert_eq!(size(50, 120), (49, 120));
        assert_eq!(size(1, 1), (0, 1));
    }
}
