//! What a produce shows on stderr: a bar while it runs, a summary at the end.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use mk::client::Receipt;
use mk_net::message::Durability;

/// Counts what was delivered.
pub struct Progress {
    quiet: bool,
    bar: Option<ProgressBar>,
    started: Instant,
    records: u64,
    bytes: u64,
    failed: u64,
    /// For each partition: how many, the first offset and the last.
    partitions: BTreeMap<u32, (u64, Option<(u64, u64)>)>,
    /// The least of all.
    durability: Option<Durability>,
}

const TEMPLATE: &str = "{bar:40} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";

/// Partitions that a summary tells of one by one.
const MOST_SHOWN: usize = 16;

impl Progress {
    /// A bar is drawn if the input has a size and stderr is a terminal.
    pub fn new(size: Option<u64>, quiet: bool) -> Progress {
        let bar = size.filter(|_| !quiet && std::io::stderr().is_terminal()).map(|size| {
            let style = ProgressStyle::with_template(TEMPLATE);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(size).with_style(style)
        });
        Progress {
            quiet,
            bar,
            started: Instant::now(),
            records: 0,
            bytes: 0,
            failed: 0,
            partitions: BTreeMap::new(),
            durability: None,
        }
    }

    /// So many bytes of input were read.
    pub fn read(&mut self, bytes: u64) {
        self.bytes += bytes;
        if let Some(bar) = &self.bar {
            bar.inc(bytes);
        }
    }

    /// A record was delivered.
    pub fn delivered(&mut self, receipt: &Receipt) {
        self.records += 1;
        let (count, range) = self.partitions.entry(receipt.partition).or_default();
        *count += 1;
        if let Some(offset) = receipt.offset {
            let (first, last) = range.get_or_insert((offset, offset));
            *first = offset.min(*first);
            *last = offset.max(*last);
        }
        let least = self.durability.unwrap_or(receipt.durability);
        self.durability =
            Some(if (receipt.durability as u8) < least as u8 { receipt.durability } else { least });
    }

    /// Something failed. The first ones are shown.
    pub fn failed(&mut self, what: &str) {
        self.failed += 1;
        const SHOWN: u64 = 10;
        if self.failed <= SHOWN {
            let line = format!("mkctl: {what}");
            match &self.bar {
                Some(bar) => bar.println(line),
                None => say!("{line}"),
            }
        } else if self.failed == SHOWN + 1 {
            say!("mkctl: further failures are counted, not shown");
        }
    }

    /// How many failed.
    pub fn failures(&self) -> u64 {
        self.failed
    }

    /// Shows the summary.
    pub fn finish(&self, topic: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        if self.quiet {
            return;
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = self.records as f64 / seconds.max(1e-9);
        let size = HumanBytes(self.bytes);
        say!(
            "{} records ({size}) to {topic} in {seconds:.2} s, {rate:.0} a second; durability: {}",
            self.records,
            self.durability.map_or("-", Durability::name)
        );
        for (partition, (count, range)) in self.partitions.iter().take(MOST_SHOWN) {
            match range {
                Some((first, last)) => {
                    say!("  partition {partition}: {count} records, offsets {first} to {last}");
                }
                None => say!("  partition {partition}: {count} records"),
            }
        }
        if self.partitions.len() > MOST_SHOWN {
            say!("  and {} partitions more", self.partitions.len() - MOST_SHOWN);
        }
        if self.failed > 0 {
            say!("  {} failed", self.failed);
        }
    }
}
