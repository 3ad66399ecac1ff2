//! What a fetch brought, as it lies in the log.

use std::sync::Arc;

use bytes::Bytes;
use mk_storage::batch::{HEADER_LEN, Header, Record, checksum, records};

use crate::client::error::ClientError;

/// Batches of a partition, as they lie in the log.
#[derive(Clone, Debug)]
pub struct FetchedBatches {
    /// Their topic.
    pub topic: Arc<str>,
    /// Their partition.
    pub partition: u32,
    /// Offset that follows their last record.
    pub next_offset: u64,
    /// Consumers saw records below when this was read.
    pub high_watermark: u64,
    /// The broker that they come from.
    pub broker: u32,
    /// The epoch of the leader of the last batch.
    pub leader_epoch: i32,
    /// The assignment of the partition that they were fetched for.
    pub(crate) assignment: u64,
    /// Records before this were not asked for.
    pub(crate) from: u64,
    pub(super) check_crcs: bool,
    pub(super) data: Bytes,
}

/// Bytes that one batch may unpack to.
const UNPACK_LIMIT: usize = 256 << 20;

impl FetchedBatches {
    /// Their records, without those before the offset that was asked for.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, ClientError>> + '_ {
        let mut rest = self.data.clone();
        let batches = std::iter::from_fn(move || {
            let size = Header::parse(&rest).ok()?.size.min(rest.len());
            Some(rest.split_to(size))
        });
        batches.flat_map(move |batch| {
            let (records, error) = match self.open(&batch) {
                Ok(records) => (Some(records), None),
                Err(error) => (None, Some(Err(error))),
            };
            records.into_iter().flatten().chain(error)
        })
    }

    fn open(
        &self,
        batch: &Bytes,
    ) -> Result<impl Iterator<Item = Result<Record, ClientError>> + use<'_>, ClientError> {
        if self.check_crcs {
            let found = Header::parse(batch).map(|header| header.crc).unwrap_or_default();
            let computed = checksum(batch);
            if computed != found {
                let what = format!("its CRC-32C is {computed:#010x}, it says {found:#010x}");
                return Err(self.damaged(what));
            }
        }
        let records = records(batch, UNPACK_LIMIT).map_err(|e| self.damaged(e.to_string()))?;
        let records = records.map(|record| record.map_err(|e| self.damaged(e.to_string())));
        let wanted = |record: &Result<Record, _>| {
            record.as_ref().map_or(true, |record| record.offset.0 >= self.from)
        };
        Ok(records.filter(wanted))
    }

    fn damaged(&self, what: String) -> ClientError {
        let (topic, partition) = (self.topic.to_string(), self.partition);
        ClientError::Damaged { topic, partition, offset: self.from, what }
    }

    /// The batches' bytes, in Kafka's format.
    pub fn bytes(&self) -> &Bytes {
        &self.data
    }
}

/// The offset that follows the batches, and the leader epoch of the last of them, if they are whole.
pub(super) fn end_of(mut data: &[u8]) -> Option<(u64, i32)> {
    let mut next = None;
    while data.len() >= HEADER_LEN {
        let header = Header::parse(data).ok()?;
        data = data.get(header.size..)?;
        next = Some((header.next_offset().0, header.leader_epoch.0));
    }
    if data.is_empty() { next } else { None }
}
