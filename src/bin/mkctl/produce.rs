//! `mkctl produce`.

use std::collections::VecDeque;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::time::Duration;

use mk::client::{Acks, ClientError, Cluster, Delivery, Producer, ProducerSettings, Receipt};
use mk_storage::batch::Compression;
use serde_json::json;

use crate::args::{acks, pair, time};
use crate::completion::{codecs, numbers, topics};
use crate::outcome::{Failure, describe};
use crate::progress::Progress;
use crate::read::{self, Input, Recipe};

/// Send records: a line of stdin, or of files, each.
#[derive(Debug, clap::Args)]
#[command(before_help = "\
Examples:
  echo hello | mkctl produce greetings              a line, a record
  mkctl produce visits -K : visits.txt              lines as ann:1
  mkctl produce pictures --whole *.png              a file, a record
  mkctl cat orders -J | mkctl produce copy --json   with keys, headers and times
  mkctl produce load -z zstd -q < lines.txt")]
pub struct ProduceArgs {
    /// The topic; created if there is none.
    #[arg(add = topics())]
    pub topic: String,
    /// Files to read; `-` is stdin, as is none.
    pub files: Vec<PathBuf>,
    /// The key of every record.
    #[arg(short, long, conflicts_with_all = ["key_delimiter", "json"])]
    pub key: Option<String>,
    /// What parts the key from the value in a line; the first one counts.
    #[arg(short = 'K', long, value_name = "DELIM", conflicts_with_all = ["whole", "json"])]
    pub key_delimiter: Option<String>,
    /// A header of every record; may be given again.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = pair)]
    pub headers: Vec<(String, String)>,
    /// The partition; otherwise the key decides, as with Kafka's clients.
    #[arg(short, long, add = numbers())]
    pub partition: Option<u32>,
    /// What to wait for: 0 nothing, 1 the leader's memory, all the disk (unless the topic's
    /// `flush` says otherwise).
    #[arg(long, default_value = "all", value_parser = acks)]
    pub acks: Acks,
    /// Compression: none, gzip, snappy, lz4, zstd.
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none", add = codecs())]
    pub compression: Compression,
    /// A file, or all of stdin, is one record.
    #[arg(long, conflicts_with = "json")]
    pub whole: bool,
    /// Lines are those of `consume -J`; key, value, headers and timestamp are taken from them.
    #[arg(long)]
    pub json: bool,
    /// How long a record is sent again until it counts as failed.
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = time)]
    pub delivery_timeout: Duration,
    /// No summary, no progress.
    #[arg(short, long)]
    pub quiet: bool,
    /// Print where each record is, in the order of the input: a JSON object a line.
    #[arg(short = 'J', long)]
    pub receipts: bool,
}

/// Records whose acknowledgement may be outstanding.
const MOST_OUTSTANDING: usize = 200_000;

pub async fn run(cluster: &Cluster, args: ProduceArgs) -> Result<(), Failure> {
    if args.key_delimiter.as_deref() == Some("") {
        return Err(Failure::Usage(
            "the delimiter between key and value is empty\nhint: -K : for lines as key:value"
                .to_owned(),
        ));
    }
    let settings = ProducerSettings {
        acks: args.acks,
        compression: args.compression,
        delivery_timeout: args.delivery_timeout,
        ..ProducerSettings::default()
    };
    // Asked first, so that a wrong address or name fails before any input is read.
    cluster.topic(&args.topic).await?;
    let headers = args.headers.into_iter().map(|(name, value)| (name, Some(value.into())));
    let recipe = Recipe {
        topic: args.topic.clone(),
        partition: args.partition,
        key: args.key.map(Into::into),
        key_delimiter: args.key_delimiter,
        headers: headers.collect(),
        whole: args.whole,
        json: args.json,
        limit: settings.max_request_size,
    };
    let progress = Progress::new(read::total_size(&args.files), args.quiet);
    let mut sending = Sending {
        producer: Producer::new(cluster.clone(), settings),
        outstanding: VecDeque::new(),
        progress,
        receipts: args.receipts.then(|| BufWriter::new(std::io::stdout().lock())),
        topic: args.topic.clone(),
        unreachable: None,
    };
    let mut inputs = read::start(args.files, recipe);
    while let Some(input) = inputs.recv().await {
        sending.take(input).await?;
        if sending.unreachable.is_some() {
            break;
        }
    }
    sending.finish().await
}

struct Sending {
    producer: Producer,
    /// Oldest first.
    outstanding: VecDeque<Delivery>,
    progress: Progress,
    /// Where receipts go, if they are wanted.
    receipts: Option<BufWriter<std::io::StdoutLock<'static>>>,
    topic: String,
    /// Set once the time was up: there is no use in reading on.
    unreachable: Option<String>,
}

impl Sending {
    async fn take(&mut self, input: Input) -> Result<(), Failure> {
        match input {
            Input::Bad(what) => {
                self.progress.failed(&what);
                self.print(None, Some(&what))?;
            }
            Input::Records(records, bytes) => {
                for record in records {
                    match self.producer.send(record).await {
                        Ok(delivery) => self.outstanding.push_back(delivery),
                        Err(error) => self.note(Err(error))?,
                    }
                }
                self.progress.read(bytes);
            }
        }
        self.settle().await
    }

    /// Counts what is settled, and waits if too much is not.
    async fn settle(&mut self) -> Result<(), Failure> {
        while let Some(delivery) = self.outstanding.front() {
            let result = match delivery.try_receipt() {
                Some(result) => result,
                None if self.outstanding.len() < MOST_OUTSTANDING => break,
                None => delivery.clone().receipt().await,
            };
            self.outstanding.pop_front();
            self.note(result)?;
        }
        // Somebody may wait for them.
        Ok(self.receipts.as_mut().map_or(Ok(()), Write::flush)?)
    }

    fn note(&mut self, result: Result<Receipt, ClientError>) -> Result<(), Failure> {
        match result {
            Ok(receipt) => {
                self.progress.delivered(&receipt);
                self.print(Some(&receipt), None)
            }
            Err(error) => {
                self.progress.failed(&describe(&error));
                if let Failure::Unreachable(what) = Failure::of(&error) {
                    self.unreachable = Some(what);
                }
                self.print(None, Some(&error.to_string()))
            }
        }
    }

    fn print(&mut self, receipt: Option<&Receipt>, error: Option<&str>) -> Result<(), Failure> {
        let Some(out) = &mut self.receipts else { return Ok(()) };
        let line = json!({
            "topic": self.topic,
            "partition": receipt.map(|receipt| receipt.partition),
            "offset": receipt.and_then(|receipt| receipt.offset),
            "durability": receipt.map(|receipt| receipt.durability.name()),
            "error": error,
        });
        Ok(writeln!(out, "{line}")?)
    }

    async fn finish(mut self) -> Result<(), Failure> {
        self.producer.flush().await;
        while let Some(delivery) = self.outstanding.pop_front() {
            let result = delivery.receipt().await;
            self.note(result)?;
        }
        self.settle().await?;
        self.progress.finish(&self.topic);
        match (self.unreachable, self.progress.failures()) {
            (Some(what), _) => Err(Failure::Unreachable(what)),
            (None, 0) => Ok(()),
            (None, _) => Err(Failure::Reported),
        }
    }
}
