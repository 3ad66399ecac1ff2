//! What the loops, the workers and the flush threads of a broker share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mk_net::event_loop::Mailbox;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::BrokerAddress;
use mk_storage::Epoch;
use mk_storage::directory::Identity;
use mk_storage::log::Log;
use mk_storage::store::Store;
use uuid::Uuid;

use super::catalog::{Topic, Topics};
use super::compactor::CompactCounters;
use super::flusher::Flusher;
use super::note::Note;
use super::partition::Partition;
use super::scrubber::ScrubCounters;
use super::worker::Worker;
use crate::settings::BrokerSettings;

/// What the threads of a broker share.
pub struct Shared {
    pub settings: BrokerSettings,
    pub identity: Identity,
    /// Where clients find it.
    pub address: BrokerAddress,
    pub topics: Topics,
    /// The disk, and what of it is open.
    pub store: Arc<Store>,
    /// The folder of all topics.
    pub topics_dir: PathBuf,
    /// The folder of what was deleted.
    pub trash_dir: PathBuf,
    pub flusher: Flusher,
    pub mailboxes: Arc<[Mailbox<Note>]>,
    /// The only thread that changes topics.
    pub control: Worker,
    /// What the scrubber has done.
    pub scrubbed: ScrubCounters,
    /// What the compactor has done.
    pub compacted: CompactCounters,
    /// For searches that may read much.
    pub lookup: Worker,
}

/// Nobody has ever been elected: a broker that stands alone leads everything in its first epoch.
pub const STANDALONE_EPOCH: Epoch = Epoch(0);

/// A fetch waits at most so long, whatever it asks for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

impl Shared {
    /// A topic by its name.
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>, Fault> {
        self.topics.load().get(name).cloned().ok_or_else(|| {
            let shown: String = name.chars().take(60).collect();
            let what = format!("there is no topic '{}'", shown.escape_debug());
            Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what)
        })
    }

    /// A partition, if its topic has the id that the client thinks it has (nil: it does not know).
    pub fn partition(
        &self,
        name: &str,
        id: Uuid,
        number: u32,
    ) -> Result<(Arc<Topic>, Arc<Partition>), Fault> {
        let topic = self.topic(name)?;
        if !id.is_nil() && id != topic.id {
            let what = format!("topic '{name}' has id {}, not {id}", topic.id);
            return Err(Fault::new(ErrorCode::INCONSISTENT_TOPIC_ID, what));
        }
        let partition = topic.partition(number).ok_or_else(|| {
            let what = format!("topic '{name}' has no partition {number}");
            Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what)
        })?;
        Ok((topic, partition))
    }
}

/// The log of a partition, or what to tell the client.
pub fn log_of(partition: &Partition) -> Result<&Arc<Log>, Fault> {
    partition.log().map_err(|reason| {
        let (topic, number) = (partition.topic(), partition.number());
        let what = format!("partition {number} of '{topic}' is offline: {reason}");
        Fault::new(ErrorCode::KAFKA_STORAGE_ERROR, what)
    })
}
