//! Reads records from files and stdin, on a thread of its own, and hands them over some at a time.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use mk::client::ProducerRecord;
use tokio::sync::mpsc;

use crate::json;

/// How input becomes records.
#[derive(Clone, Debug)]
pub struct Recipe {
    pub topic: String,
    pub partition: Option<u32>,
    pub key: Option<Bytes>,
    pub key_delimiter: Option<String>,
    pub headers: Vec<(String, Option<Bytes>)>,
    pub whole: bool,
    pub json: bool,
    /// Longest record.
    pub limit: usize,
}

/// What the reader says.
#[derive(Debug)]
pub enum Input {
    /// Records, and how many bytes of input they were.
    Records(Vec<ProducerRecord>, u64),
    /// Some input that is no record; the others go on.
    Bad(String),
}

/// Records that are handed over at once.
const CHUNK: usize = 500;
/// And their bytes, roughly.
const CHUNK_BYTES: u64 = 1 << 20;
/// Bytes that are read at once.
const READ_BYTES: usize = 256 << 10;
/// Chunks that wait.
const QUEUE: usize = 8;

/// Starts to read.
pub fn start(files: Vec<PathBuf>, recipe: Recipe) -> mpsc::Receiver<Input> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        let mut reader = Reader { recipe, sender, records: Vec::new(), bytes: 0 };
        let stdin = [PathBuf::from("-")];
        let files = if files.is_empty() { &stdin[..] } else { &files[..] };
        for file in files {
            if reader.read_file(file).is_err() {
                return;
            }
        }
        let _ = reader.hand_over();
    });
    receiver
}

/// Bytes of all files, if they are known.
pub fn total_size(files: &[PathBuf]) -> Option<u64> {
    if files.is_empty() {
        return None;
    }
    let size = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        metadata.is_file().then_some(metadata.len())
    };
    files.iter().map(size).sum()
}

struct Reader {
    recipe: Recipe,
    sender: mpsc::Sender<Input>,
    records: Vec<ProducerRecord>,
    bytes: u64,
}

/// Nobody takes records any more.
struct Gone;

/// Why reading of a file ends before its end.
enum Stop {
    Gone,
    Input(io::Error),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Stop {
        Stop::Gone
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Input(error)
    }
}

impl Reader {
    fn read_file(&mut self, path: &Path) -> Result<(), Gone> {
        let name = path.display().to_string();
        let read = if path == Path::new("-") {
            let stdin = io::stdin().lock();
            self.read_stream(&mut BufReader::with_capacity(READ_BYTES, stdin), "stdin")
        } else {
            match File::open(path) {
                Ok(file) => {
                    self.read_stream(&mut BufReader::with_capacity(READ_BYTES, file), &name)
                }
                Err(error) => Err(Stop::Input(error)),
            }
        };
        match read {
            Ok(()) => Ok(()),
            Err(Stop::Gone) => Err(Gone),
            Err(Stop::Input(error)) => self.bad(format!("{name}: {error}")),
        }
    }

    fn read_stream(&mut self, input: &mut BufReader<impl Read>, name: &str) -> Result<(), Stop> {
        if self.recipe.whole { self.read_whole(input, name) } else { self.read_lines(input, name) }
    }

    fn read_whole(&mut self, input: &mut impl Read, name: &str) -> Result<(), Stop> {
        let limit = self.recipe.limit;
        let mut value = Vec::new();
        input.take(limit as u64 + 1).read_to_end(&mut value)?;
        if value.len() > limit {
            return Ok(self.bad(format!("{name}: larger than a record can be, {limit}"))?);
        }
        let length = value.len() as u64;
        let record = self.record(self.recipe.key.clone(), value.into());
        Ok(self.push(record, length)?)
    }

    fn read_lines(&mut self, input: &mut BufReader<impl Read>, name: &str) -> Result<(), Stop> {
        let limit = self.recipe.limit as u64 + 1;
        for number in 1u64.. {
            let mut line = Vec::new();
            let length = input.by_ref().take(limit).read_until(b'\n', &mut line)? as u64;
            if length == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            } else if length == limit {
                self.bad(format!("{name}, line {number}: longer than a record can be"))?;
                skip_line(input)?;
                continue;
            }
            match self.parse(line) {
                Ok(record) => self.push(record, length)?,
                Err(what) => self.bad(format!("{name}, line {number}: {what}"))?,
            }
            // Somebody types, or a pipe is slow: what is there goes on its way.
            if self.records.len() >= CHUNK || input.buffer().is_empty() {
                self.hand_over()?;
            }
        }
        Ok(())
    }

    fn parse(&self, line: Vec<u8>) -> Result<ProducerRecord, String> {
        if self.recipe.json {
            let record = json::read(&line, &self.recipe.topic)?;
            let headers = [record.headers.clone(), self.recipe.headers.clone()].concat();
            return Ok(ProducerRecord { partition: self.recipe.partition, headers, ..record });
        }
        let Some(delimiter) = &self.recipe.key_delimiter else {
            return Ok(self.record(self.recipe.key.clone(), line.into()));
        };
        let delimiter = delimiter.as_bytes();
        let at = line.windows(delimiter.len()).position(|window| window == delimiter);
        let at = at.ok_or("it has no delimiter between key and value")?;
        let mut key = Bytes::from(line);
        let value = key.split_off(at).slice(delimiter.len()..);
        Ok(self.record(Some(key), value))
    }

    fn record(&self, key: Option<Bytes>, value: Bytes) -> ProducerRecord {
        ProducerRecord {
            topic: self.recipe.topic.as_str().into(),
            partition: self.recipe.partition,
            key,
            value: Some(value),
            headers: self.recipe.headers.clone(),
            timestamp_ms: None,
        }
    }

    fn push(&mut self, record: ProducerRecord, bytes: u64) -> Result<(), Gone> {
        self.records.push(record);
        self.bytes += bytes;
        if self.bytes >= CHUNK_BYTES { self.hand_over() } else { Ok(()) }
    }

    fn hand_over(&mut self) -> Result<(), Gone> {
        if self.records.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.records);
        let bytes = std::mem::take(&mut self.bytes);
        self.sender.blocking_send(Input::Records(records, bytes)).map_err(|_| Gone)
    }

    fn bad(&mut self, what: String) -> Result<(), Gone> {
        self.hand_over()?;
        self.sender.blocking_send(Input::Bad(what)).map_err(|_| Gone)
    }
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        let (count, ended) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), false),
        };
        input.consume(count);
        if ended {
            return Ok(());
        }
    }
}
