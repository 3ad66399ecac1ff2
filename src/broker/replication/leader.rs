//! What the leader of a partition knows: how far its followers are, who is in sync, what is committed.
//!
//! A follower's fetch from an offset says that it has everything before, as safely as the topic asks
//! for. A record is committed when everybody in sync has it, and enough are in sync. Who is in sync
//! only the zookeeper decides: until it has answered, whoever is or may be about to be in sync counts.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use mk_storage::Offset;

use crate::rule::{Rule, holds};
use crate::zoo::state::{BrokerEpoch, LeaderEpoch, Member, Partition, PartitionEpoch, Refused};

/// A partition as its leader sees it.
///
/// Invariant: `high_watermark` never falls, and everybody in sync has what lies below it.
#[derive(Clone, Debug)]
pub struct Leader {
    me: Member,
    leader_epoch: LeaderEpoch,
    /// Of the state that `isr` is from.
    epoch: PartitionEpoch,
    replicas: Vec<u32>,
    isr: Vec<u32>,
    /// What the zookeeper was asked for and has not answered; it may have done it.
    asked: Option<Vec<Member>>,
    /// `min.insync.replicas`, but no more than there are replicas.
    min_isr: usize,
    /// Where its log ended when it became the leader: what lies before may be committed, and it does
    /// not know how far.
    elected_at: Offset,
    /// How far its own log is as safe as the topic asks for.
    own_end: Offset,
    high_watermark: Offset,
    followers: BTreeMap<u32, Follower>,
}

/// What a leader knows of a follower in this leader epoch.
#[derive(Clone, Copy, Debug)]
struct Follower {
    epoch: BrokerEpoch,
    /// It has fetched: its log is a beginning of the leader's.
    heard: bool,
    /// It has everything before.
    end: Offset,
    /// When it last had everything that the leader had when it asked.
    caught_up: Duration,
    /// Where the leader's log ended, and when, at its last fetch.
    last_fetch: (Offset, Duration),
    /// It is not proposed before: it was, and could not be in sync.
    not_before: Duration,
}

/// A follower that cannot be in sync, for it is fenced or stops, is not proposed again for so long.
const INELIGIBLE_PAUSE: Duration = Duration::from_millis(200);

/// A fetch of a follower, as far as the leader's rules go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerFetch {
    /// Who fetches, in which life.
    pub follower: Member,
    /// The epoch in which it takes us for the leader.
    pub leader_epoch: LeaderEpoch,
    /// It has everything before.
    pub offset: Offset,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    /// The sender knows an older leader than this one.
    #[error("leader epoch {0:?} is over")]
    Old(LeaderEpoch),
    /// The sender knows of a later leader; this one has not heard of it.
    #[error("leader epoch {0:?} is not known here yet")]
    Unknown(LeaderEpoch),
    /// The sender is none of the replicas.
    #[error("broker {0} has no replica of the partition")]
    NoReplica(u32),
    /// The sender's process is not the one that fetched before; it is older.
    #[error("epoch {0:?} of the broker is over")]
    OldBroker(BrokerEpoch),
}

/// What a leader wants the zookeeper to make of the in-sync replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Who is to be in sync.
    pub isr: Vec<Member>,
    /// The leader epoch that it holds for.
    pub leader_epoch: LeaderEpoch,
    /// The state that it follows.
    pub epoch: PartitionEpoch,
}

impl Leader {
    /// Begins to lead in the state of `partition`, with a log that ends at `log_end` and is committed
    /// up to `high_watermark` at least. `lives` are the brokers as the same state has them.
    pub fn new(
        me: Member,
        partition: &Partition,
        lives: impl Fn(u32) -> BrokerEpoch,
        min_isr: usize,
        (log_end, high_watermark): (Offset, Offset),
        now: Duration,
    ) -> Leader {
        let others = partition.isr.iter().filter(|id| **id != me.id);
        // Who is in sync has the time to show that it is.
        let unheard = |id| Follower {
            epoch: lives(id),
            heard: false,
            end: Offset(0),
            caught_up: now,
            last_fetch: (log_end, now),
            not_before: now,
        };
        Leader {
            me,
            leader_epoch: partition.leader_epoch,
            epoch: partition.epoch,
            replicas: partition.replicas.clone(),
            isr: partition.isr.clone(),
            asked: None,
            min_isr,
            elected_at: log_end,
            own_end: Offset(0),
            high_watermark,
            followers: others.map(|id| (*id, unheard(*id))).collect(),
        }
    }

    /// Records below are committed: consumers may see them.
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Where the log ends for those who ask for its end; none while the leader does not know what its
    /// predecessor had committed.
    pub fn known_high_watermark(&self) -> Option<Offset> {
        let known = self.high_watermark >= self.elected_at || !holds(Rule::KnowBeforeTelling);
        known.then_some(self.high_watermark)
    }

    /// True if what this leader lacks is in no log that a later leader may have: all that may be elected have
    /// cut theirs to follow it. While too few are in sync, somebody who left may be elected. Against a leader
    /// that has been replaced and does not know it, clients help themselves: whoever has heard of a later
    /// leader epoch does not go back.
    pub fn is_established(&self) -> bool {
        let follows = |id: &u32| {
            *id == self.me.id || self.followers.get(id).is_some_and(|follower| follower.heard)
        };
        self.may_commit() && self.isr.iter().all(follows) || !holds(Rule::KnowBeforeRefusing)
    }

    /// How far the followers are that have been heard of, by their ids: they have everything before.
    pub fn follower_ends(&self) -> Vec<(u32, Offset)> {
        let followers = self.followers.iter().filter(|(id, _)| self.replicas.contains(id));
        followers.map(|(id, follower)| (*id, follower.end)).collect()
    }

    /// The follower that a consumer is to read from that wants records from `offset` on, of those that
    /// are where the consumer is: of those in sync the one that has most. None if the leader is there
    /// itself.
    pub fn nearest(&self, offset: Offset, is_there: impl Fn(u32) -> bool) -> Option<u32> {
        if is_there(self.me.id) {
            return None;
        }
        let in_sync = self.isr.iter().filter(|id| is_there(**id));
        let ends = in_sync.filter_map(|id| Some((self.followers.get(id)?.end, *id)));
        let (_, id) =
            ends.filter(|(end, _)| *end >= offset).max_by_key(|(end, id)| (*end, Reverse(*id)))?;
        Some(id)
    }

    /// How many replicas are in sync, and how many must be for anything to be committed.
    pub fn in_sync(&self) -> (usize, usize) {
        (self.isr.len(), self.min_isr)
    }

    fn may_commit(&self) -> bool {
        self.isr.len() >= self.min_isr || !holds(Rule::EnoughInSync)
    }

    /// The partition's state has changed, and this broker leads it still in the same leader epoch. What
    /// was asked for is settled by it, one way or the other.
    pub fn updated(&mut self, partition: &Partition, min_isr: usize, now: Duration) {
        if partition.leader_epoch != self.leader_epoch || partition.epoch < self.epoch {
            return;
        }
        if partition.epoch > self.epoch {
            self.asked = None;
        }
        self.epoch = partition.epoch;
        self.isr.clone_from(&partition.isr);
        self.replicas.clone_from(&partition.replicas);
        self.min_isr = min_isr;
        self.followers.retain(|id, _| partition.replicas.contains(id));
        for follower in self.followers.values_mut() {
            follower.caught_up = follower.caught_up.max(now.min(follower.last_fetch.1));
        }
        self.advance();
    }

    /// The zookeeper has refused what it was asked for. If it says so of what was asked itself it has
    /// not done it, and will not. Else it may have been done when it was asked for before; the state
    /// that it is refused by settles it once it is known here.
    pub fn refused(&mut self, proposal: &Proposal, refused: &Refused, now: Duration) {
        let is_current = (proposal.leader_epoch, proposal.epoch) == (self.leader_epoch, self.epoch);
        if !is_current || !refused.is_of_what_was_asked() {
            return;
        }
        self.asked = None;
        if let Refused::Ineligible(id) = refused
            && let Some(follower) = self.followers.get_mut(id)
        {
            follower.not_before = now + INELIGIBLE_PAUSE;
        }
        // Who was asked for does not count any more.
        self.advance();
    }

    /// The leader's own log is as safe as the topic asks for up to `end`.
    pub fn own_progress(&mut self, end: Offset) {
        self.own_end = self.own_end.max(end);
        self.advance();
    }

    /// A follower fetches; the leader's log ends at `log_end`. To be called once its log is known to be
    /// a beginning of the leader's. What is to be proposed, if anything is.
    pub fn fetched(
        &mut self,
        fetch: FollowerFetch,
        log_end: Offset,
        now: Duration,
    ) -> Result<Option<Proposal>, Fenced> {
        if holds(Rule::FenceFetches) {
            self.check_epoch(fetch.leader_epoch)?;
        }
        let Member { id, epoch } = fetch.follower;
        if !self.replicas.contains(&id) {
            return Err(Fenced::NoReplica(id));
        }
        let first = Follower {
            epoch,
            heard: true,
            end: fetch.offset,
            caught_up: Duration::ZERO,
            last_fetch: (log_end, now),
            not_before: now,
        };
        let follower = self.followers.entry(id).or_insert(first);
        if epoch < follower.epoch {
            return Err(Fenced::OldBroker(epoch));
        }
        // Of another life nothing is known but what it says now.
        if follower.epoch < epoch {
            follower.not_before = now;
        }
        (follower.epoch, follower.heard) = (epoch, true);
        follower.end = fetch.offset;
        let (end_then, then) = follower.last_fetch;
        if fetch.offset >= log_end {
            follower.caught_up = now;
        } else if fetch.offset >= end_then {
            follower.caught_up = follower.caught_up.max(then);
        }
        follower.last_fetch = (log_end, now);
        self.advance();
        Ok(self.propose_expansion(id))
    }

    /// Whoever has not caught up for so long is to leave the in-sync replicas.
    pub fn propose_shrink(&mut self, most_lag: Duration, now: Duration) -> Option<Proposal> {
        if self.asked.is_some() {
            return None;
        }
        let keeps_up = |id: &u32| {
            *id == self.me.id
                || self
                    .followers
                    .get(id)
                    .is_some_and(|f| now.saturating_sub(f.caught_up) <= most_lag)
        };
        let isr: Vec<_> = self.isr.iter().copied().filter(keeps_up).collect();
        (isr.len() < self.isr.len()).then(|| self.propose(isr))
    }

    /// An error if the epoch is not that of this leader.
    pub fn check_epoch(&self, epoch: LeaderEpoch) -> Result<(), Fenced> {
        match epoch.cmp(&self.leader_epoch) {
            std::cmp::Ordering::Less => Err(Fenced::Old(epoch)),
            std::cmp::Ordering::Greater => Err(Fenced::Unknown(epoch)),
            std::cmp::Ordering::Equal => Ok(()),
        }
    }

    fn propose_expansion(&mut self, id: u32) -> Option<Proposal> {
        let follower = self.followers.get(&id)?;
        // All that may be committed, and by a predecessor, too.
        let enough = match holds(Rule::JoinBeyondElection) {
            true => self.high_watermark.max(self.elected_at),
            false => self.high_watermark,
        };
        let too_soon = follower.last_fetch.1 < follower.not_before;
        if self.asked.is_some() || self.isr.contains(&id) || follower.end < enough || too_soon {
            return None;
        }
        let isr = self.isr.iter().copied().chain([id]).collect();
        Some(self.propose(isr))
    }

    fn propose(&mut self, isr: Vec<u32>) -> Proposal {
        let life = |id: u32| match self.followers.get(&id) {
            Some(follower) if id != self.me.id => Member { id, epoch: follower.epoch },
            _ => self.me,
        };
        let isr: Vec<_> = isr.into_iter().map(life).collect();
        self.asked = Some(isr.clone());
        Proposal { isr, leader_epoch: self.leader_epoch, epoch: self.epoch }
    }

    /// Moves the high watermark to what everybody has who is in sync, or may be by now.
    fn advance(&mut self) {
        if !self.may_commit() {
            return;
        }
        let asked = self.asked.iter().flatten().map(|member| member.id);
        let asked = asked.filter(|_| holds(Rule::MaximalIsr));
        let members = self.isr.iter().copied().chain(asked);
        let end_of = |id: u32| match id {
            id if id == self.me.id => self.own_end,
            id => self.followers.get(&id).map_or(Offset(0), |follower| follower.end),
        };
        if let Some(least) = members.map(end_of).min() {
            self.high_watermark = self.high_watermark.max(least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAG: Duration = Duration::from_secs(1);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn life(id: u32) -> Member {
        Member { id, epoch: BrokerEpoch(u64::from(id) + 10) }
    }

    fn state(epoch: u32, isr: &[u32]) -> Partition {
        Partition {
            replicas: vec![1, 2, 3],
            leader: Some(1),
            leader_epoch: LeaderEpoch(7),
            epoch: PartitionEpoch(epoch),
            isr: isr.to_vec(),
            eligible: Vec::new(),
            moving: None,
            recovering: false,
            unclean_epoch: None,
            placed: 1,
        }
    }

    /// Broker 1, whose log ended at 100 when it was elected, and was committed up to 90 as far as it
    /// knows; two must be in sync.
    fn leader(isr: &[u32]) -> Leader {
        let offsets = (Offset(100), Offset(90));
        Leader::new(life(1), &state(1, isr), |id| life(id).epoch, 2, offsets, ms(0))
    }

    fn fetch(leader: &mut Leader, id: u32, offset: u64, end: u64, now: u64) -> Option<Proposal> {
        let leader_epoch = LeaderEpoch(7);
        let fetch = FollowerFetch { follower: life(id), leader_epoch, offset: Offset(offset) };
        leader.fetched(fetch, Offset(end), ms(now)).unwrap()
    }

    fn ids(proposal: &Option<Proposal>) -> Option<Vec<u32>> {
        proposal.as_ref().map(|proposal| proposal.isr.iter().map(|member| member.id).collect())
    }

    /// A leader that stood still right after its election told a producer that a batch was missing. The
    /// producer began an epoch with the next; a replica that had both led then, and had that one twice.
    #[test]
    fn what_is_missing_is_known_when_all_in_sync_follow() {
        let mut leader = leader(&[1, 2, 3]);
        leader.own_progress(Offset(100));
        assert!(!leader.is_established());
        fetch(&mut leader, 2, 90, 100, 1);
        assert!(!leader.is_established(), "3 may have what is missing here");
        fetch(&mut leader, 3, 0, 100, 2);
        assert!(leader.is_established(), "it lacks more");
        let update = |leader: &mut Leader, epoch, isr: &[u32]| {
            leader.updated(&state(epoch, isr), 2, ms(3));
        };
        update(&mut leader, 2, &[1]);
        assert!(!leader.is_established(), "who left may lead if this one dies");
        update(&mut leader, 3, &[1, 2]);
        assert!(leader.is_established());
    }

    #[test]
    fn a_record_is_committed_when_everybody_in_sync_has_it() {
        let mut leader = leader(&[1, 2, 3]);
        leader.own_progress(Offset(120));
        assert_eq!(leader.high_watermark(), Offset(90));
        assert_eq!(leader.known_high_watermark(), None, "its predecessor may have committed more");
        fetch(&mut leader, 2, 120, 120, 1);
        assert_eq!(leader.high_watermark(), Offset(90));
        fetch(&mut leader, 3, 110, 120, 2);
        assert_eq!(leader.high_watermark(), Offset(110));
        assert_eq!(leader.known_high_watermark(), Some(Offset(110)));
        fetch(&mut leader, 3, 105, 120, 3);
        assert_eq!(leader.high_watermark(), Offset(110), "it never falls");
    }

    /// What is not safe on the leader's own disk is not committed though all others have it.
    #[test]
    fn the_leader_counts_as_one_of_them() {
        let mut leader = leader(&[1, 2, 3]);
        fetch(&mut leader, 2, 130, 130, 1);
        fetch(&mut leader, 3, 130, 130, 1);
        assert_eq!(leader.high_watermark(), Offset(90));
        leader.own_progress(Offset(125));
        assert_eq!(leader.high_watermark(), Offset(125));
    }

    #[test]
    fn nothing_is_committed_while_too_few_are_in_sync() {
        let mut leader = leader(&[1]);
        leader.own_progress(Offset(200));
        assert!(!leader.may_commit());
        assert_eq!(leader.high_watermark(), Offset(90));
    }

    /// The zookeeper took a follower into the in-sync replicas, and the leader had not heard of it: it
    /// committed without the follower, which was elected then.
    #[test]
    fn whoever_may_be_in_sync_by_now_counts() {
        let mut leader = leader(&[1, 2]);
        leader.own_progress(Offset(100));
        fetch(&mut leader, 2, 100, 100, 1);
        let proposal = fetch(&mut leader, 3, 100, 100, 1);
        assert_eq!(ids(&proposal), Some(vec![1, 2, 3]));
        leader.own_progress(Offset(150));
        fetch(&mut leader, 2, 150, 150, 2);
        assert_eq!(leader.high_watermark(), Offset(100), "the third does not have it");
        leader.refused(&proposal.unwrap(), &Refused::Ineligible(3), ms(3));
        assert_eq!(leader.high_watermark(), Offset(150), "nobody else is waited for");
    }

    /// A follower that the zookeeper did not hear of was proposed with each of its fetches, a hundred
    /// times a second, and held up commits each time.
    #[test]
    fn who_cannot_be_in_sync_is_not_asked_for_all_the_time() {
        let mut leader = leader(&[1, 2]);
        let proposal = fetch(&mut leader, 3, 100, 100, 10).unwrap();
        leader.refused(&proposal, &Refused::Ineligible(3), ms(10));
        assert_eq!(fetch(&mut leader, 3, 100, 100, 20), None);
        assert!(fetch(&mut leader, 3, 100, 100, 210).is_some());
    }

    /// The zookeeper had taken a follower in, and the answer was lost with the connection. Asked again
    /// it refused, for the state was a later one by then, and the leader, which had not heard of that
    /// state yet, took the follower for not taken in: it committed without it.
    #[test]
    fn what_is_refused_as_done_already_counts() {
        let later = (LeaderEpoch(7), PartitionEpoch(2));
        let stale = Refused::StalePartition { leader_epoch: later.0, epoch: later.1 };
        for refused in [stale, Refused::NotLeader(1)] {
            let mut leader = leader(&[1, 2]);
            leader.own_progress(Offset(150));
            fetch(&mut leader, 2, 150, 150, 1);
            let proposal = fetch(&mut leader, 3, 150, 150, 1).unwrap();
            leader.own_progress(Offset(160));
            leader.refused(&proposal, &refused, ms(1));
            fetch(&mut leader, 2, 160, 160, 2);
            assert_eq!(leader.high_watermark(), Offset(150), "{refused}");
            leader.updated(&state(2, &[1, 2, 3]), 2, ms(3));
            fetch(&mut leader, 3, 160, 160, 4);
            assert_eq!(leader.high_watermark(), Offset(160));
        }
    }

    /// A follower joins only with all that may be committed: by this leader, and by the one before.
    #[test]
    fn who_misses_something_does_not_join() {
        let mut leader = leader(&[1, 2]);
        leader.own_progress(Offset(100));
        assert_eq!(fetch(&mut leader, 3, 95, 100, 1), None, "above 90, below 100");
        fetch(&mut leader, 2, 100, 100, 1);
        assert!(fetch(&mut leader, 3, 100, 100, 2).is_some());
    }

    #[test]
    fn who_falls_behind_is_to_leave_and_who_keeps_up_stays() {
        let mut leader = leader(&[1, 2, 3]);
        let mut proposed = None;
        for now in 0..2000u64 {
            // Always a little behind, as under load.
            fetch(&mut leader, 2, 109 + now, 110 + now, now);
            if now % 10 == 0 {
                fetch(&mut leader, 3, 100 + now / 2, 110 + now, now);
            }
            if let Some(proposal) = leader.propose_shrink(LAG, ms(now)) {
                proposed.get_or_insert((now, proposal));
            }
        }
        let (when, proposal) = proposed.unwrap();
        assert_eq!(proposal.isr, [life(1), life(2)]);
        assert!((1000..1100).contains(&when), "{when}");
        leader.updated(&state(2, &[1, 2]), 2, ms(2000));
        assert_eq!(leader.propose_shrink(LAG, ms(2001)), None);
    }

    #[test]
    fn messages_of_other_times_are_refused() {
        let mut leader = leader(&[1, 2, 3]);
        let of = |leader_epoch, epoch| FollowerFetch {
            follower: Member { id: 2, epoch: BrokerEpoch(epoch) },
            leader_epoch: LeaderEpoch(leader_epoch),
            offset: Offset(100),
        };
        let mut refused = |fetch| leader.fetched(fetch, Offset(100), ms(1)).unwrap_err();
        assert_eq!(refused(of(6, 12)), Fenced::Old(LeaderEpoch(6)));
        assert_eq!(refused(of(8, 12)), Fenced::Unknown(LeaderEpoch(8)));
        assert_eq!(refused(of(7, 11)), Fenced::OldBroker(BrokerEpoch(11)));
        let stranger = FollowerFetch { follower: life(9), ..of(7, 12) };
        assert_eq!(refused(stranger), Fenced::NoReplica(9));
    }

    #[test]
    fn a_consumer_is_sent_to_a_follower_that_is_there_and_has_what_it_wants() {
        let mut leader = leader(&[1, 2, 3]);
        let at = |rack: &'static [u32]| move |id: u32| rack.contains(&id);
        assert_eq!(leader.nearest(Offset(5), at(&[2, 3])), None, "nobody has been heard of");
        fetch(&mut leader, 2, 100, 100, 1);
        fetch(&mut leader, 3, 110, 110, 1);
        assert_eq!(leader.nearest(Offset(5), at(&[2])), Some(2));
        assert_eq!(leader.nearest(Offset(5), at(&[2, 3])), Some(3), "it has more");
        assert_eq!(leader.nearest(Offset(101), at(&[2])), None, "it has less");
        assert_eq!(leader.nearest(Offset(5), at(&[1, 2, 3])), None, "the leader is there");
        assert_eq!(leader.nearest(Offset(5), at(&[9])), None);
        leader.updated(&state(2, &[1, 3]), 2, ms(2));
        assert_eq!(leader.nearest(Offset(5), at(&[2])), None, "it is not in sync");
    }
}
