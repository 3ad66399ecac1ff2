//! What the loops, the workers and the flush threads of a broker share.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mk_net::event_loop::Mailbox;
use mk_net::fault::{ErrorCode, Fault};
use mk_net::message::BrokerAddress;
use mk_storage::log::Log;
use mk_storage::store::Store;
use uuid::Uuid;

use super::catalog::{Topic, Topics};
use super::clients::Clients;
use super::cluster::Cluster;
use super::compactor::CompactCounters;
use super::flusher::Flusher;
use super::groups::coordinator::Coordinator;
use super::note::Note;
use super::partition::{Absent, LoopSet, Partition};
use super::progress::Owed;
use super::quotas::Quotas;
use super::replication::replica::Replica;
use super::scrubber::ScrubCounters;
use super::worker::Worker;
use crate::settings::{BrokerSettings, FlushPolicy};
use crate::zoo::state::{self, ClusterState};

/// What the threads of a broker share.
pub struct Shared {
    pub settings: BrokerSettings,
    /// Where clients find it.
    pub address: BrokerAddress,
    /// The cluster, as far as this broker has heard.
    pub cluster: Cluster,
    pub topics: Topics,
    /// The disk, and what of it is open.
    pub store: Arc<Store>,
    /// The data directory.
    pub data: PathBuf,
    /// The folder of all topics.
    pub topics_dir: PathBuf,
    /// The folder of what was deleted.
    pub trash_dir: PathBuf,
    pub flusher: Flusher,
    pub mailboxes: Arc<[Mailbox<Note>]>,
    /// Signs of life that the event loops owe, one each.
    pub owed: Arc<[Owed]>,
    /// The only thread that changes topics.
    pub control: Worker,
    /// For what waits for the mini-zookeeper.
    pub admin: Worker,
    /// Who is connected.
    pub clients: Clients,
    /// How much each may do.
    pub quotas: Quotas,
    /// Coordinates the groups of the partitions that this broker leads.
    pub groups: Coordinator,
    /// What the scrubber has done.
    pub scrubbed: ScrubCounters,
    /// What the compactor has done.
    pub compacted: CompactCounters,
    /// For searches that may read much.
    pub lookup: Worker,
}

/// A fetch waits at most so long, whatever it asks for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(300);

impl Shared {
    /// A topic by its name.
    pub fn topic(&self, name: &str) -> Result<Arc<Topic>, Fault> {
        let topic = self.topics.load().get(name).cloned();
        topic.ok_or_else(|| self.unknown_topic(name, &self.cluster.state()))
    }

    /// What the cluster knows of a topic, which this broker may not have made on its disk yet.
    pub fn known_topic<T>(
        &self,
        name: &str,
        read: impl FnOnce(&state::Topic) -> T,
    ) -> Result<T, Fault> {
        let state = self.cluster.state();
        let topic = state.topics.get(name).map(read);
        topic.ok_or_else(|| self.unknown_topic(name, &state))
    }

    /// What is said of a topic that there is not, as far as this broker can know: one that has just
    /// started has not heard of any, or has not made all of them on its disk.
    pub fn unknown_topic(&self, name: &str, state: &ClusterState) -> Fault {
        let shown: String = name.chars().take(60).collect();
        let shown = shown.escape_debug();
        if !self.cluster.is_entered() || state.topics.contains_key(name) {
            let what = format!("broker {} does not have topic '{shown}' yet", self.address.id);
            return Fault::new(ErrorCode::NOT_LEADER_OR_FOLLOWER, what);
        }
        let what = format!("there is no topic '{shown}'");
        Fault::new(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what)
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

    /// Something was appended as the leader: followers may have it, and it is to be synced.
    pub fn appended(&self, partition: &Arc<Partition>, flush: FlushPolicy, rolled: bool) {
        tell(&self.mailboxes, &partition.followers, || Note::Readable(partition.serial()));
        self.flusher.appended(partition, flush);
        if flush == FlushPolicy::Ack || rolled {
            self.flusher.flush_now(partition);
        }
        if flush != FlushPolicy::Ack
            && partition.replica().is_ok_and(|replica| replica.progressed(false))
        {
            self.committed(partition);
        }
    }

    /// More is committed: consumers may have it, and producers wait for it.
    pub fn committed(&self, partition: &Partition) {
        tell_of_commit(&self.mailboxes, partition);
    }

    /// There are more topics or partitions: whoever waits for some looks.
    pub fn topics_grew(&self) {
        for mailbox in self.mailboxes.iter() {
            mailbox.send(Note::Topics);
        }
    }

    /// The partition has another leader, or is gone: whoever waits for it looks again.
    pub fn changed(&self, partition: &Partition) {
        tell_of_commit(&self.mailboxes, partition);
        tell(&self.mailboxes, &partition.followers, || Note::Readable(partition.serial()));
    }
}

/// More of a partition is committed.
pub fn tell_of_commit(mailboxes: &[Mailbox<Note>], partition: &Partition) {
    tell(mailboxes, &partition.producers, || Note::Committed(partition.serial()));
    tell(mailboxes, &partition.fetchers, || Note::Readable(partition.serial()));
}

fn tell(mailboxes: &[Mailbox<Note>], loops: &LoopSet, note: impl Fn() -> Note) {
    for index in loops.take() {
        mailboxes[index].send(note());
    }
}

/// The replica of a partition, or what to tell the client.
pub fn replica_of(partition: &Partition) -> Result<&Replica, Fault> {
    partition.replica().map_err(|absent| match absent {
        Absent::Elsewhere => not_leader(partition),
        Absent::Offline(reason) => {
            let (topic, number) = (partition.topic(), partition.number());
            let what = format!("partition {number} of '{topic}' is offline: {reason}");
            Fault::new(ErrorCode::KAFKA_STORAGE_ERROR, what)
        }
    })
}

/// The log of a partition, or what to tell the client.
pub fn log_of(partition: &Partition) -> Result<&Arc<Log>, Fault> {
    replica_of(partition).map(Replica::log)
}

/// Another broker leads.
pub fn not_leader(partition: &Partition) -> Fault {
    let (topic, number) = (partition.topic(), partition.number());
    let what = format!("this broker does not lead partition {number} of '{topic}'");
    Fault::new(ErrorCode::NOT_LEADER_OR_FOLLOWER, what)
}
