//! A batch of records on its way, and what its records are told of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mk_net::message::{Appended, Durability};
use mk_storage::Timestamp;
use mk_storage::batch::{BatchBuilder, Compression, RecordFields, number};
use mk_storage::producers::sequence_after;

use super::accumulator::BatchSettings;
use super::cluster::PartitionKey;
use super::error::ClientError;
use super::landing::{Lander, Landing, Outcome, Placed};

/// Where a record is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: u32,
    /// Its offset; `None` with acks=0, where nobody says.
    pub offset: Option<u64>,
    /// How safe it was when the broker said so.
    pub durability: Durability,
}

/// What becomes of a record that was given to a producer.
#[derive(Clone, Debug)]
pub struct Delivery {
    landing: Arc<Landing>,
    index: u32,
}

/// The number of a batch among those of its producer in a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Number {
    /// Added to the producer's id: behind the last epoch of an id comes the next id.
    pub generation: i64,
    pub epoch: i16,
    /// Of its first record.
    pub first: i32,
}

impl Number {
    /// The number of a batch of so many records; this becomes that of the next.
    pub fn take(&mut self, records: u32) -> Number {
        let number = *self;
        self.first = sequence_after(number.first, records);
        number
    }

    /// Goes on with 0, in another epoch.
    pub fn begin_epoch(&mut self) {
        let Number { generation, epoch, .. } = *self;
        *self = match epoch.checked_add(1) {
            Some(epoch) => Number { generation, epoch, first: 0 },
            None => Number { generation: generation + 1, epoch: 0, first: 0 },
        };
    }
}

/// A batch.
#[derive(Debug)]
pub(super) struct Batch {
    content: Content,
    /// Bytes that its records take of the buffer.
    charge: usize,
    /// Its place among all batches of its partition.
    pub serial: u64,
    pub records: u32,
    pub created: Instant,
    /// How often it was tried to send it.
    pub attempts: u32,
    /// Given when it is sent for the first time; it is sent again with the same, so that it is not taken
    /// twice.
    pub number: Option<Number>,
    /// True if the leader said that a batch before it is missing.
    pub out_of_order: bool,
    /// True if it was sent, and nobody knows whether it was taken.
    pub may_be_written: bool,
    lander: Lander,
}

#[derive(Debug)]
enum Content {
    Open(BatchBuilder),
    /// Its bytes, and the producer's id and number that they have.
    Finished(Bytes, Option<(i64, Number)>),
}

impl Batch {
    /// An empty batch that is expected to have so many bytes.
    pub fn new(
        key: PartitionKey,
        now: Instant,
        serial: u64,
        (compression, expected): (Compression, usize),
    ) -> Batch {
        let content = Content::Open(BatchBuilder::with_capacity(compression, expected));
        Batch {
            content,
            charge: 0,
            serial,
            records: 0,
            created: now,
            attempts: 0,
            number: None,
            out_of_order: false,
            may_be_written: false,
            lander: Lander::new(key),
        }
    }

    /// True if it may take so many bytes more, and have `most` then.
    pub fn has_room(&self, added: usize, most: usize) -> bool {
        match &self.content {
            Content::Open(builder) if self.number.is_none() => builder.size() + added <= most,
            // Its number counts on so many records.
            Content::Open(_) | Content::Finished(..) => false,
        }
    }

    pub fn push(&mut self, timestamp: Timestamp, record: &RecordFields<'_>, charge: usize) {
        if let Content::Open(builder) = &mut self.content {
            builder.push(timestamp, record);
            self.records += 1;
            self.charge += charge;
        }
    }

    pub fn size(&self) -> usize {
        match &self.content {
            Content::Open(builder) => builder.size(),
            Content::Finished(bytes, _) => bytes.len(),
        }
    }

    pub fn is_full(&self, settings: &BatchSettings) -> bool {
        self.size() >= settings.batch_size
    }

    pub fn is_due(&self, now: Instant, settings: &BatchSettings) -> bool {
        let is_finished = matches!(self.content, Content::Finished(..));
        is_finished || self.is_full(settings) || now >= self.created + settings.linger
    }

    /// Its bytes, as those of the producer of this id; from now on it takes no more records.
    pub fn bytes(&mut self, producer_id: i64) -> Result<Bytes, ClientError> {
        if let Content::Open(builder) = &mut self.content {
            let builder = std::mem::replace(builder, BatchBuilder::new(Compression::None));
            let bytes =
                builder.finish().map_err(|error| ClientError::Invalid(error.to_string()))?;
            self.content = Content::Finished(bytes.into(), None);
        }
        let Content::Finished(bytes, numbered) = &mut self.content else { return Ok(Bytes::new()) };
        let wanted = self.number.map(|number| (producer_id, number));
        if *numbered != wanted
            && let Some((id, Number { generation, epoch, first })) = wanted
        {
            let id = id.wrapping_add(generation) & i64::MAX;
            let mut again = Vec::from(std::mem::take(bytes));
            number(&mut again, id, epoch, first)
                .map_err(|error| ClientError::Invalid(error.to_string()))?;
            (*bytes, *numbered) = (again.into(), wanted);
        }
        Ok(bytes.clone())
    }

    /// What its records look at.
    pub fn landing(&self) -> &Arc<Landing> {
        self.lander.landing()
    }

    /// What becomes of the record that comes next.
    pub fn next_delivery(&self) -> Delivery {
        Delivery { landing: self.landing().clone(), index: self.records }
    }

    /// Tells its records where they are; answers the bytes that it gives back.
    pub fn succeed(self, appended: Option<&Appended>) -> usize {
        self.lander.succeed(appended);
        self.charge
    }

    /// Tells its records that they are not tried any longer, and whether they may be in the log.
    pub fn give_up(self, now: Instant, last: Option<ClientError>) -> usize {
        let (topic, partition) = &self.landing().key;
        let what = format!("delivery to partition {partition} of '{topic}'");
        let age = now.saturating_duration_since(self.created);
        let after = Duration::from_millis(age.as_millis() as u64);
        let last = last.map(Box::new);
        let error = match self.may_be_written {
            true => ClientError::TimedOut { what, after, last },
            false => ClientError::NotDelivered { what, after, last },
        };
        self.fail(error)
    }

    /// Tells its records that they failed; answers the bytes that it gives back.
    pub fn fail(self, error: ClientError) -> usize {
        self.lander.fail(error);
        self.charge
    }
}

impl Delivery {
    /// Waits until the record was acknowledged, or failed.
    pub async fn receipt(self) -> Result<Receipt, ClientError> {
        self.as_receipt(self.landing.wait().await)
    }

    /// What became of it, if that is known already.
    pub fn try_receipt(&self) -> Option<Result<Receipt, ClientError>> {
        self.landing.outcome().map(|outcome| self.as_receipt(outcome))
    }

    fn as_receipt(&self, outcome: &Outcome) -> Result<Receipt, ClientError> {
        let Placed { base_offset, durability } = *outcome.as_ref().map_err(ClientError::clone)?;
        let (topic, partition) = self.landing.key.clone();
        let offset = base_offset.map(|base| base + u64::from(self.index));
        Ok(Receipt { topic, partition, offset, durability })
    }
}
