//! A replica of a partition: its log, and what this broker is to it. The rules are here and in
//! [`super::leader`]; sockets, threads and clocks are elsewhere, so that the simulator runs the
//! same code.

use std::sync::Arc;
use std::time::Duration;

use mk_storage::batch::CheckedBatch;
use mk_storage::error::AppendError;
use mk_storage::log::{Appended, Copied, CopyError, Log, TruncateError};
use mk_storage::producers::SequenceError;
use mk_storage::{Epoch, Offset};
use parking_lot::{Mutex, RwLock};

use super::epochs::{EpochEnd, cut_to, divergence};
use super::fetcher::Outcome;
use super::leader::{Fenced, FollowerFetch, Leader, Proposal};
use crate::rule::{Rule, holds};
use crate::zoo::state::{BrokerEpoch, LeaderEpoch, Member, Partition, PartitionEpoch, Refused};

/// A replica of a partition.
#[derive(Debug)]
pub struct Replica {
    log: Arc<Log>,
    /// Held to be read while something is appended: a log has one writer, and in an order of epochs.
    part: RwLock<Part>,
}

/// What the broker is to the partition, by which of its states.
#[derive(Debug)]
struct Part {
    /// States that are older are not taken.
    epoch: Option<PartitionEpoch>,
    leader_epoch: LeaderEpoch,
    role: Role,
}

#[derive(Debug)]
enum Role {
    /// Nobody has said yet, or it has no replica any more.
    None,
    Leader(Mutex<Leader>),
    /// It follows this leader, if there is one.
    Follower(Option<u32>),
}

/// What a leader has to know of the cluster to lead.
#[derive(Clone, Copy)]
pub struct Circumstances<'a> {
    /// Itself.
    pub me: Member,
    /// The epochs of the brokers, in the same state.
    pub lives: &'a dyn Fn(u32) -> BrokerEpoch,
    /// `min.insync.replicas` of the topic.
    pub min_isr: usize,
    /// True if what is acknowledged must be synced (`flush=ack`).
    pub sync_first: bool,
    /// The time, by any clock that does not go back.
    pub now: Duration,
}

/// What a broker is to a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing.
    None,
    /// It leads, in this epoch.
    Leader(LeaderEpoch),
    /// It follows.
    Follower {
        /// Whom, if there is a leader.
        leader: Option<u32>,
        /// In which epoch.
        epoch: LeaderEpoch,
    },
}

/// Why a leader did not append. Nothing was appended.
#[derive(Debug, thiserror::Error)]
pub enum NotAppended {
    /// This broker does not lead.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// Fewer are in sync than must have an acknowledged record.
    #[error("{in_sync} replicas are in sync, min.insync.replicas is {needed}")]
    NotEnoughReplicas {
        /// How many are.
        in_sync: usize,
        /// How many there must be.
        needed: usize,
    },
    /// A batch before it is missing here, and may be in the log of a replica that has not followed this
    /// leader yet.
    #[error("{0}; the leader does not know yet whether another replica has it")]
    PerhapsElsewhere(SequenceError),
    /// The log refuses.
    #[error(transparent)]
    Log(#[from] AppendError),
}

/// What a leader makes of a follower's fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The follower's log is no beginning of the leader's: it must be cut.
    pub diverging: Option<EpochEnd>,
    /// What the zookeeper is to be asked for.
    pub proposal: Option<Proposal>,
    /// True if more is committed now.
    pub committed: bool,
}

/// Why a fetch of a follower is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotServed {
    /// This broker does not lead.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// The fetch is of another time.
    #[error(transparent)]
    Fenced(#[from] Fenced),
}

/// Why a follower did not do as its leader said.
#[derive(Debug, thiserror::Error)]
pub enum NotFollowed {
    /// It has another leader by now, or another end.
    #[error("it has another leader by now, or another end")]
    Superseded,
    /// Its log did not take the batches.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// Its log could not be cut.
    #[error(transparent)]
    Cut(#[from] TruncateError),
}

/// What a follower has asked its leader for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchedFrom {
    /// The leader's epoch.
    pub epoch: LeaderEpoch,
    /// Where the follower's log ended.
    pub offset: Offset,
}

/// What a leader says of its log beside the batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderLog {
    /// Records below are committed.
    pub high_watermark: Offset,
    /// Its first record.
    pub start: Offset,
}

impl Replica {
    /// A replica that is nothing yet.
    pub fn new(log: Arc<Log>) -> Replica {
        let part = Part { epoch: None, leader_epoch: LeaderEpoch(0), role: Role::None };
        Replica { log, part: RwLock::new(part) }
    }

    /// Its log.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// What the broker is to it.
    pub fn standing(&self) -> Standing {
        let part = self.part.read();
        match part.role {
            Role::None => Standing::None,
            Role::Leader(_) => Standing::Leader(part.leader_epoch),
            Role::Follower(leader) => Standing::Follower { leader, epoch: part.leader_epoch },
        }
    }

    /// True if the broker leads it in this epoch.
    pub fn leads_in(&self, epoch: LeaderEpoch) -> bool {
        self.standing() == Standing::Leader(epoch)
    }

    /// What `look` sees of the log as that of the leader in this epoch. An error if the broker does not lead
    /// any more when it has looked: the log may follow another leader's by then, which whoever asked does
    /// not know, and what is committed of that one is not of this one.
    pub fn as_leader<T>(
        &self,
        epoch: LeaderEpoch,
        look: impl FnOnce() -> T,
    ) -> Result<T, NotServed> {
        let seen = look();
        match self.leads_in(epoch) || !holds(Rule::FenceFetches) {
            true => Ok(seen),
            false => Err(NotServed::NotLeader),
        }
    }

    /// Takes the part that the partition's state gives to this broker. States may come twice or late.
    pub fn assign(&self, partition: &Partition, given: &Circumstances<'_>) {
        let Circumstances { me, lives, min_isr, sync_first, now } = *given;
        let min_isr = min_isr.min(partition.target().len());
        let mut part = self.part.write();
        if part.epoch.is_some_and(|known| partition.epoch < known) {
            return;
        }
        let same_leader = part.epoch.is_some() && part.leader_epoch == partition.leader_epoch;
        part.epoch = Some(partition.epoch);
        part.leader_epoch = partition.leader_epoch;
        if partition.leader != Some(me.id) {
            let is_replica = partition.replicas.contains(&me.id);
            if is_replica && !same_leader && !holds(Rule::TruncateByEpoch) {
                let _ = self.log.truncate(self.log.high_watermark());
            }
            part.role = if is_replica { Role::Follower(partition.leader) } else { Role::None };
            return;
        }
        match &part.role {
            Role::Leader(leader) if same_leader => {
                let mut leader = leader.lock();
                leader.updated(partition, min_isr, now);
                self.advance(&mut leader, sync_first);
            }
            _ => {
                let offsets = (self.log.end(), self.log.high_watermark());
                let mut leader = Leader::new(me, partition, lives, min_isr, offsets, now);
                self.advance(&mut leader, sync_first);
                part.role = Role::Leader(Mutex::new(leader));
            }
        }
    }

    /// Appends as the leader. A record for which everybody in sync is to be waited for is not taken
    /// while too few are. Answers the epoch in which it was appended, too.
    pub fn append(
        &self,
        batch: &CheckedBatch<'_>,
        for_all: bool,
        now_ms: i64,
    ) -> Result<(Appended, LeaderEpoch), NotAppended> {
        self.append_as(&self.part.read(), batch, for_all, now_ms)
    }

    /// Appends as the leader of this epoch, for everybody in sync: what follows from what that leader knows
    /// is not another's to write, though it be the same broker.
    pub fn append_in(
        &self,
        epoch: LeaderEpoch,
        batch: &CheckedBatch<'_>,
        now_ms: i64,
    ) -> Result<Appended, NotAppended> {
        let part = self.part.read();
        if part.leader_epoch != epoch {
            return Err(NotAppended::NotLeader);
        }
        self.append_as(&part, batch, true, now_ms).map(|(appended, _)| appended)
    }

    fn append_as(
        &self,
        part: &Part,
        batch: &CheckedBatch<'_>,
        for_all: bool,
        now_ms: i64,
    ) -> Result<(Appended, LeaderEpoch), NotAppended> {
        let Role::Leader(leader) = &part.role else { return Err(NotAppended::NotLeader) };
        if for_all {
            let (in_sync, needed) = leader.lock().in_sync();
            if in_sync < needed && holds(Rule::EnoughInSync) {
                return Err(NotAppended::NotEnoughReplicas { in_sync, needed });
            }
        }
        let epoch = Epoch(part.leader_epoch.0);
        match self.log.append(batch, epoch, now_ms) {
            Ok(appended) => Ok((appended, part.leader_epoch)),
            // Its producer takes that for the end of the matter.
            Err(AppendError::Sequence(error @ SequenceError::OutOfOrder { .. }))
                if !leader.lock().is_established() =>
            {
                Err(NotAppended::PerhapsElsewhere(error))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Something was appended or synced. True if more is committed now.
    pub fn progressed(&self, sync_first: bool) -> bool {
        let part = self.part.read();
        let Role::Leader(leader) = &part.role else { return false };
        self.advance(&mut leader.lock(), sync_first)
    }

    /// How many replicas are in sync, and how many must be; none if this broker does not lead.
    pub fn in_sync(&self) -> Option<(usize, usize)> {
        match &self.part.read().role {
            Role::Leader(leader) => Some(leader.lock().in_sync()),
            _ => None,
        }
    }

    /// How far the followers are, by their ids; none if this broker does not lead.
    pub fn follower_ends(&self) -> Vec<(u32, Offset)> {
        match &self.part.read().role {
            Role::Leader(leader) => leader.lock().follower_ends(),
            _ => Vec::new(),
        }
    }

    /// The follower that a consumer is to read from that asks this leader for records from `offset` on;
    /// none if this broker is itself where the consumer is, or does not lead.
    pub fn nearest(&self, offset: Offset, is_there: impl Fn(u32) -> bool) -> Option<u32> {
        match &self.part.read().role {
            Role::Leader(leader) => leader.lock().nearest(offset, is_there),
            _ => None,
        }
    }

    /// Where the log ends for consumers; none while that is not known.
    pub fn known_high_watermark(&self) -> Option<Offset> {
        match &self.part.read().role {
            Role::Leader(leader) => leader.lock().known_high_watermark(),
            _ => Some(self.log.high_watermark()),
        }
    }

    /// A follower fetches, whose last record has `last_epoch`, if it has any.
    pub fn serve(
        &self,
        fetch: FollowerFetch,
        last_epoch: Option<Epoch>,
        now: Duration,
    ) -> Result<Heard, NotServed> {
        let part = self.part.read();
        let Role::Leader(leader) = &part.role else { return Err(NotServed::NotLeader) };
        let mut leader = leader.lock();
        if holds(Rule::FenceFetches) {
            leader.check_epoch(fetch.leader_epoch)?;
        }
        // In this order: the end is no later than the epochs and the start no earlier, so that what is
        // appended or trimmed meanwhile is not taken for a difference, nor a difference for none.
        let log_end = self.log.end();
        let epochs = self.log.epochs();
        let bounds = (self.log.start(), log_end);
        let diverging = match last_epoch.filter(|_| holds(Rule::TruncateByEpoch)) {
            Some(last) => divergence(&epochs, bounds, fetch.offset, last),
            // Records before its start it does not have either.
            None => (fetch.offset > log_end).then_some(EpochEnd { epoch: Epoch(0), end: log_end }),
        };
        if diverging.is_some() {
            return Ok(Heard { diverging, proposal: None, committed: false });
        }
        let proposal = leader.fetched(fetch, log_end, now)?;
        let committed = self.publish(&leader);
        Ok(Heard { diverging: None, proposal, committed })
    }

    /// Who has fallen behind for so long is to leave the in-sync replicas.
    pub fn propose_shrink(&self, most_lag: Duration, now: Duration) -> Option<Proposal> {
        match &self.part.read().role {
            Role::Leader(leader) => leader.lock().propose_shrink(most_lag, now),
            _ => None,
        }
    }

    /// The zookeeper has refused what was proposed. True if more is committed now.
    pub fn refused(&self, proposal: &Proposal, refused: &Refused, now: Duration) -> bool {
        let part = self.part.read();
        let Role::Leader(leader) = &part.role else { return false };
        let mut leader = leader.lock();
        leader.refused(proposal, refused, now);
        self.publish(&leader)
    }

    /// Takes batches that the leader has sent, and what it says of its log.
    pub fn copy(
        &self,
        asked: FetchedFrom,
        bytes: &[u8],
        theirs: LeaderLog,
        now_ms: i64,
    ) -> Result<Copied, NotFollowed> {
        let part = self.part.read();
        self.is_answer(&part, asked)?;
        if theirs.start > self.log.end() {
            self.log.begin_anew(theirs.start)?;
            return Ok(Copied { end: self.log.end(), rolled: false });
        }
        let copied = match self.log.append_copies(bytes, Epoch(asked.epoch.0), now_ms) {
            // The leader has compacted there: its batch stands for some of ours, too.
            Err(CopyError::NotNext { base, end }) if base < end => {
                let end = self.log.truncate(base)?;
                Copied { end, rolled: false }
            }
            done => done?,
        };
        self.log.raise_high_watermark(theirs.high_watermark);
        Ok(copied)
    }

    /// Cuts the log where the leader says that its own parts from it; `start` is the leader's first
    /// record. Answers where it ends now, and how many records went that were known to be committed.
    pub fn cut(
        &self,
        asked: FetchedFrom,
        leader: EpochEnd,
        start: Offset,
    ) -> Result<(Offset, u64), NotFollowed> {
        let part = self.part.read();
        self.is_answer(&part, asked)?;
        let (first, end, committed) = (self.log.start(), self.log.end(), self.log.high_watermark());
        if first == end && leader.end < first {
            // What was deleted here the leader has never had: it was elected uncleanly.
            self.log.begin_anew(start)?;
        } else {
            // What lies before the first record was committed, and deleted.
            self.log.truncate(cut_to(&self.log.epochs(), end, leader).max(first))?;
        }
        let end = self.log.end();
        Ok((end, committed.0.saturating_sub(end.0)))
    }

    /// An error if what the leader says is not said of the log as it is.
    fn is_answer(&self, part: &Part, asked: FetchedFrom) -> Result<(), NotFollowed> {
        part.follows_in(asked.epoch)?;
        match self.log.end() == asked.offset {
            true => Ok(()),
            false => Err(NotFollowed::Superseded),
        }
    }

    /// From where this follower fetches next: what lies before it has, as safely as the topic asks for.
    /// None while something is not synced that must be, and for good when the log takes nothing more.
    pub fn fetch_from(&self, sync_first: bool) -> Option<(Offset, Option<Epoch>)> {
        let end = self.log.end();
        let safe = !sync_first || self.log.synced() >= end || !holds(Rule::SyncBeforeFetch);
        // The epoch of records that are deleted says nothing: they may have been others' than the leader's.
        let last_epoch = || self.log.last_epoch().filter(|_| self.log.start() < end);
        (safe && self.log.poisoned().is_none()).then(|| (end, last_epoch()))
    }

    /// What became of a partition that could not be asked for after all.
    pub fn not_asked(&self) -> Outcome {
        if self.log.poisoned().is_some() { Outcome::Broken } else { Outcome::Failed }
    }

    fn advance(&self, leader: &mut Leader, sync_first: bool) -> bool {
        let safe = if sync_first { self.log.synced() } else { self.log.end() };
        leader.own_progress(safe);
        self.publish(leader)
    }

    fn publish(&self, leader: &Leader) -> bool {
        let before = self.log.high_watermark();
        self.log.raise_high_watermark(leader.high_watermark()) > before
    }
}

impl Part {
    fn follows_in(&self, epoch: LeaderEpoch) -> Result<(), NotFollowed> {
        match self.role {
            Role::Follower(_) if self.leader_epoch == epoch || !holds(Rule::FenceFetches) => Ok(()),
            _ => Err(NotFollowed::Superseded),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use mk_storage::Timestamp;
    use mk_storage::batch::{BatchBuilder, Compression, RecordFields, TimestampType};
    use mk_storage::disk::{Disk, MemoryDisk};
    use mk_storage::log::LogSettings;
    use mk_storage::store::{OpenLimits, Store};

    use super::*;

    fn log() -> (MemoryDisk, Arc<Log>) {
        let disk = MemoryDisk::new();
        let limits = OpenLimits { files: 8, logs: 8 };
        let settings = LogSettings {
            segment_bytes: 4096,
            segment_ms: i64::MAX,
            index_interval_bytes: 256,
            timestamp_type: TimestampType::CreateTime,
        };
        let store = Store::new(Arc::new(disk.clone()), limits);
        disk.create_dir(Path::new("/0")).unwrap();
        let (log, _) = Log::open(&store, Path::new("/0"), settings, 0).unwrap();
        (disk, log)
    }

    /// A record of this epoch.
    fn append(log: &Arc<Log>, epoch: i32) {
        let batch = batch();
        log.append(&CheckedBatch::check(&batch, 4096).unwrap(), Epoch(epoch), 0).unwrap();
    }

    fn batch() -> Vec<u8> {
        let mut batch = BatchBuilder::new(Compression::None);
        batch.push(Timestamp(0), &RecordFields { value: Some(b"1"), ..RecordFields::default() });
        batch.finish().unwrap()
    }

    /// Broker 2, which follows broker 1 in epoch 7 with this log.
    fn follower(log: &Arc<Log>) -> Replica {
        let replica = Replica::new(log.clone());
        let mut partition = Partition::new(vec![1, 2], 1);
        (partition.leader, partition.leader_epoch) = (Some(1), LeaderEpoch(7));
        let (me, now) = (Member { id: 2, epoch: BrokerEpoch(9) }, Duration::ZERO);
        let (lives, min_isr, sync_first) = (&|_| BrokerEpoch(9), 2, true);
        replica.assign(&partition, &Circumstances { me, lives, min_isr, sync_first, now });
        replica
    }

    fn asked(offset: u64) -> FetchedFrom {
        FetchedFrom { epoch: LeaderEpoch(7), offset: Offset(offset) }
    }

    /// A partition had been asked for twice at once. The answer that came late began before the end of the
    /// log, which was taken for a batch that the leader had compacted; the follower cut what it had
    /// acknowledged.
    #[test]
    fn an_answer_to_an_earlier_question_changes_nothing() {
        let (_, log) = log();
        let replica = follower(&log);
        let theirs = LeaderLog { high_watermark: Offset(0), start: Offset(0) };
        replica.copy(asked(0), &batch(), theirs, 0).unwrap();
        let again = replica.copy(asked(0), &batch(), theirs, 0);
        assert!(matches!(again, Err(NotFollowed::Superseded)));
        let end = EpochEnd { epoch: Epoch(0), end: Offset(0) };
        let cut = replica.cut(asked(0), end, Offset(0));
        assert!(matches!(cut, Err(NotFollowed::Superseded)));
        assert_eq!(log.end(), Offset(1));
    }

    /// Of a replica all records had been deleted that it ever had, the last of which had never been
    /// committed: it compared by their epoch, and was to cut what it did not have, without end. Found by
    /// the simulator, seed 12324.
    #[test]
    fn what_is_deleted_is_not_compared() {
        let (_, log) = log();
        append(&log, 1);
        append(&log, 1);
        let replica = follower(&log);
        assert_eq!(replica.fetch_from(false), Some((Offset(2), Some(Epoch(1)))));
        log.trim(Offset(2), None).unwrap();
        assert_eq!(replica.fetch_from(false), Some((Offset(2), None)));
    }

    /// A leader was replaced while it answered a follower: it had cut its log, and told the follower how much
    /// of the new leader's is committed. The follower showed consumers what it had itself there.
    #[test]
    fn what_is_said_once_another_leads_is_not_the_leaders() {
        let (_, log) = log();
        let leader = Replica::new(log);
        let mut partition = Partition::new(vec![1, 2], 1);
        let (me, now) = (Member { id: 1, epoch: BrokerEpoch(9) }, Duration::ZERO);
        let (lives, min_isr, sync_first) = (&|_| BrokerEpoch(9), 2, false);
        let circumstances = Circumstances { me, lives, min_isr, sync_first, now };
        (partition.leader, partition.leader_epoch) = (Some(1), LeaderEpoch(7));
        leader.assign(&partition, &circumstances);
        assert_eq!(leader.as_leader(LeaderEpoch(7), || 1).unwrap(), 1);
        let replaced = || {
            (partition.leader, partition.leader_epoch) = (Some(2), LeaderEpoch(8));
            leader.assign(&partition, &circumstances);
        };
        let said = leader.as_leader(LeaderEpoch(7), replaced);
        assert_eq!(said, Err(NotServed::NotLeader));
    }

    /// A coordinator that had led before, and led again, wrote what followed from what it had known then.
    #[test]
    fn what_a_leader_of_an_earlier_epoch_writes_is_not_taken() {
        let (_, log) = log();
        let leader = Replica::new(log);
        let mut partition = Partition::new(vec![1, 2], 1);
        let (me, now) = (Member { id: 1, epoch: BrokerEpoch(9) }, Duration::ZERO);
        let (lives, min_isr, sync_first) = (&|_| BrokerEpoch(9), 1, false);
        let circumstances = Circumstances { me, lives, min_isr, sync_first, now };
        (partition.leader, partition.leader_epoch) = (Some(1), LeaderEpoch(7));
        leader.assign(&partition, &circumstances);
        let bytes = batch();
        let checked = CheckedBatch::check(&bytes, 4096).unwrap();
        leader.append_in(LeaderEpoch(7), &checked, 0).unwrap();
        partition.leader_epoch = LeaderEpoch(8);
        leader.assign(&partition, &circumstances);
        let late = leader.append_in(LeaderEpoch(7), &checked, 0);
        assert!(matches!(late, Err(NotAppended::NotLeader)));
        assert_eq!(leader.log().end(), Offset(1));
    }

    /// An operator had a replica elected uncleanly that ended before the others began. They were never in
    /// sync again, and one without any record counted as one that has everything.
    #[test]
    fn a_follower_that_begins_behind_the_leaders_end_begins_anew() {
        let (_, log) = log();
        (0..5).for_each(|_| append(&log, 1));
        log.raise_high_watermark(Offset(5));
        log.trim(Offset(4), None).unwrap();
        let replica = follower(&log);
        let shorter = EpochEnd { epoch: Epoch(1), end: Offset(2) };
        assert_eq!(replica.cut(asked(5), shorter, Offset(1)).unwrap(), (Offset(4), 1));
        let (_, ours) = self::log();
        append(&ours, 1);
        append(&ours, 1);
        let leader = Replica::new(ours);
        let mut partition = Partition::new(vec![1, 2], 1);
        (partition.leader, partition.leader_epoch) = (Some(1), LeaderEpoch(7));
        let (me, now) = (Member { id: 1, epoch: BrokerEpoch(9) }, Duration::ZERO);
        let (lives, min_isr, sync_first) = (&|_| BrokerEpoch(9), 2, false);
        leader.assign(&partition, &Circumstances { me, lives, min_isr, sync_first, now });
        let follower = Member { id: 2, epoch: BrokerEpoch(9) };
        let fetch = FollowerFetch { follower, leader_epoch: LeaderEpoch(7), offset: Offset(4) };
        let heard = leader.serve(fetch, None, now).unwrap();
        assert_eq!((heard.diverging.unwrap().end, heard.committed), (Offset(2), false));
        let told = replica.cut(asked(4), heard.diverging.unwrap(), Offset(1)).unwrap();
        assert_eq!((told.0, log.start()), (Offset(1), Offset(1)));
    }

    /// Where a topic does not sync first, a follower whose sync had failed fetched on. Its leader had it
    /// taken into the in-sync replicas again, though its log took nothing any more.
    #[test]
    fn a_log_that_takes_nothing_any_more_is_not_fetched_for() {
        let (disk, log) = log();
        let replica = Replica::new(log.clone());
        append(&log, 1);
        assert_eq!(replica.fetch_from(false), Some((Offset(1), Some(Epoch(1)))));
        disk.fail_next_sync(Path::new("/0/00000000000000000000.log")).unwrap();
        log.flush().unwrap_err();
        assert_eq!(replica.fetch_from(false), None);
    }
}
