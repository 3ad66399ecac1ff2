//! `mkctl produce`.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use mk::client::{Acks, ClientError, Cluster, Delivery, Producer, ProducerSettings};
use mk_storage::batch::Compression;

use crate::args::{acks, pair, time};
use crate::completion::topics;
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
    #[arg(short, long)]
    pub partition: Option<u32>,
    /// What to wait for: 0 nothing, 1 the leader's memory, all the disk (unless the topic's
    /// `flush` says otherwise).
    #[arg(long, default_value = "all", value_parser = acks)]
    pub acks: Acks,
    /// Compression: none, gzip, snappy, lz4, zstd.
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
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
}

/// Records whose acknowledgement may be outstanding.
const MOST_OUTSTANDING: usize = 200_000;

pub async fn run(cluster: &Cluster, args: ProduceArgs) -> Result<(), Failure> {
    if args.key_delimiter.as_deref() == Some("") {
        return Err(Failure::Usage("the delimiter between key and value is empty".to_owned()));
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
        unreachable: None,
    };
    let mut inputs = read::start(args.files, recipe);
    while let Some(input) = inputs.recv().await {
        sending.take(input).await;
        if sending.unreachable.is_some() {
            break;
        }
    }
    sending.finish(&args.topic).await
}

struct Sending {
    producer: Producer,
    /// Oldest first.
    outstanding: VecDeque<Delivery>,
    progress: Progress,
    /// Set once the time was up: there is no use in reading on.
    unreachable: Option<String>,
}

impl Sending {
    async fn take(&mut self, input: Input) {
        match input {
            Input::Bad(what) => self.progress.failed(&what),
            Input::Records(records, bytes) => {
                for record in records {
                    match self.producer.send(record).await {
                        Ok(delivery) => self.outstanding.push_back(delivery),
                        Err(error) => self.note(&error),
                    }
                }
                self.progress.read(bytes);
            }
        }
        self.settle().await;
    }

    /// Counts what is settled, and waits if too much is not.
    async fn settle(&mut self) {
        while let Some(delivery) = self.outstanding.front() {
            let result = match delivery.try_receipt() {
                Some(result) => result,
                None if self.outstanding.len() < MOST_OUTSTANDING => return,
                None => delivery.clone().receipt().await,
            };
            self.outstanding.pop_front();
            self.count(result);
        }
    }

    fn count(&mut self, result: Result<mk::client::Receipt, ClientError>) {
        match result {
            Ok(receipt) => self.progress.delivered(&receipt),
            Err(error) => self.note(&error),
        }
    }

    fn note(&mut self, error: &ClientError) {
        self.progress.failed(&describe(error));
        if let Failure::Unreachable(what) = Failure::of(error) {
            self.unreachable = Some(what);
        }
    }

    async fn finish(mut self, topic: &str) -> Result<(), Failure> {
        self.producer.flush().await;
        while let Some(delivery) = self.outstanding.pop_front() {
            let result = delivery.receipt().await;
            self.count(result);
        }
        self.progress.finish(topic);
        match (self.unreachable, self.progress.failures()) {
            (Some(what), _) => Err(Failure::Unreachable(what)),
            (None, 0) => Ok(()),
            (None, _) => Err(Failure::Reported),
        }
    }
}
