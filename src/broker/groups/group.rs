//! A consumer group: its members, what each is to read, and how far they have come. Pure: the time and the
//! topics come in, answers and changes for the log go out.
//!
//! Whenever somebody comes, goes or wants something else, or a topic grows, the group has a new epoch and
//! what each is to read is worked out anew. Each member gets there on its own: nobody stops who need not.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::bytes::Regex;
use uuid::Uuid;

use super::PartitionId;
use super::assignor::{Applicant, Assignor, Racks};
use super::led::{Led, LedMemberState, Told as LedTold};
use super::member::{JOIN, Member, MemberState, Profile, STATIC_LEAVE, Told};
use super::offsets::{Committed, Offsets, Pace, PartitionName};
use super::pattern::Patterns;
use super::record::{Change, GroupState};

/// The topics that there are.
pub trait KnownTopics {
    /// The id of a topic, and its number of partitions.
    fn find(&self, name: &str) -> Option<(Uuid, u32)>;

    /// The topics of a pattern of whole names, but for the brokers' own.
    fn matching(&self, _pattern: &Regex) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// The racks that have replicas of each of its partitions.
    fn racks(&self, _name: &str) -> Vec<BTreeSet<String>> {
        Vec::new()
    }
}

impl<F: Fn(&str) -> Option<(Uuid, u32)>> KnownTopics for F {
    fn find(&self, name: &str) -> Option<(Uuid, u32)> {
        self(name)
    }
}

/// Where topics are looked up.
pub type Topics<'a> = &'a dyn KnownTopics;

/// When it is now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Now {
    /// By a clock that does not go back.
    pub since_start: Duration,
    /// Milliseconds since 1970.
    pub ms: i64,
}

/// What all groups of a coordinator have in common.
#[derive(Clone, Copy, Debug)]
pub struct GroupLimits {
    /// Who is not heard of for so long is no member any more (`group.consumer.session.timeout.ms`).
    pub session_timeout: Duration,
    /// Most members (`group.consumer.max.size`).
    pub most_members: usize,
    /// Most bytes of what is written beside an offset (`offset.metadata.max.bytes`).
    pub most_metadata: usize,
    /// So long the first members of a group that one of them leads are waited for
    /// (`group.initial.rebalance.delay.ms`).
    pub initial_delay: Duration,
}

/// What a member says.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    /// Its id, which it has made itself.
    pub member: String,
    /// The epoch that it knows, or [`JOIN`].
    pub epoch: i32,
    /// What it says of itself, if that is new.
    pub profile: Option<Profile>,
    /// What it reads, if that is new.
    pub owned: Option<BTreeSet<PartitionId>>,
    /// The count of the last answer that told it what to read; 0: it has dropped what may be on its way.
    pub seen: u32,
    /// Numbers what it says: of two that are on their way together, the later one may come first.
    pub beat: u32,
    /// How long ago its program has asked for records.
    pub polled: Duration,
    /// What it has paused.
    pub paused: BTreeSet<PartitionId>,
}

/// What it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its epoch now.
    pub epoch: i32,
    /// What it is to read, with a count, if that is to be told.
    pub assigned: Option<(u32, BTreeSet<PartitionId>)>,
}

/// Why a group does not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// It is none of the members: it joins anew.
    #[error("member '{0}' is not in the group")]
    UnknownMember(String),
    /// It has an epoch that it was not given: it joins anew.
    #[error("the member's epoch is {actual}, not {said}")]
    FencedEpoch {
        /// What the member says.
        said: i32,
        /// What it is.
        actual: i32,
    },
    /// It reads what it was not given, or what it has given up: it joins anew.
    #[error("the member reads partition {} of topic {}, which it does not have", .0.partition, .0.topic)]
    NotHeld(PartitionId),
    /// Another member that has not left has the instance id.
    #[error("instance id '{instance}' is that of member '{member}', which has not left")]
    InstanceInUse {
        /// The instance id.
        instance: String,
        /// The other member.
        member: String,
    },
    /// It has as many members as it may have.
    #[error("the group has {0} members, as many as are allowed")]
    Full(usize),
    /// Its members say more of themselves than can be told.
    #[error("the group's members say {0} bytes of themselves, {1} are allowed")]
    SaysTooMuch(usize, usize),
    /// A classic member is to join again, for what it is to read has changed.
    #[error("what the member is to read has changed: it joins again")]
    JoinAgain,
    /// A classic member names a generation that it was not given, or no more has.
    #[error("the member's generation is {said}, its epoch {actual}")]
    OldGeneration {
        /// What the member says.
        said: i32,
        /// Its epoch.
        actual: i32,
    },
    /// Another has come under its instance id.
    #[error("another member has come under instance id '{0}'")]
    FencedInstance(String),
    /// What changes cannot be written down: too few replicas of the offsets topic are in sync.
    #[error("too few replicas of the offsets topic are in sync for the group to change")]
    Frozen,
    /// A member that joins for the first time is to do so with the id that it has been given (KIP-394).
    #[error("the member joins again with the id that it has been given")]
    IdFirst,
    /// One of its members leads it: the brokers do not tell them what to read.
    #[error("one of the group's members leads it: the brokers do not say who reads what")]
    IsLed,
    /// No member leads it: the brokers tell them what to read.
    #[error("no member leads the group: the brokers say who reads what")]
    NotLed,
    /// A member cannot do what the others do.
    #[error(
        "the group's members are of type '{kind}' and go by nothing that a member of type {said} knows"
    )]
    NothingInCommon {
        /// What the member says.
        said: String,
        /// What the others are.
        kind: String,
    },
    /// A member that joins says nothing of itself.
    #[error("a member that joins must say what it wants to read")]
    NoProfile,
    /// Who commits does not have the partition.
    #[error("the member does not have the partition, or has it since a later epoch than {0}")]
    NotOwner(i32),
    /// A later commit of the member has come before.
    #[error("commit {said} of the member comes behind its commit {last}")]
    Overtaken {
        /// Its number.
        said: u32,
        /// That of the later one.
        last: u32,
    },
    /// Somebody commits from outside while the group has members.
    #[error("the group has members: only they commit")]
    HasMembers,
    /// What is written beside an offset is too long.
    #[error("the metadata have {0} bytes, {1} are allowed")]
    MetadataTooLarge(usize, usize),
}

/// How long a member that has been given an id may take to join with it.
pub(super) const INVITED: Duration = Duration::from_secs(60);

/// When it is looked whether one that was given an id so long ago has come: every ten seconds, of all groups at once.
fn when_forgotten(since: Duration) -> Duration {
    Duration::from_secs(((since + INVITED).as_secs() / 10 + 1) * 10)
}

/// A group.
#[derive(Debug)]
pub struct Group {
    pub(super) name: String,
    pub(super) state: GroupState,
    members: BTreeMap<String, Member>,
    /// Set while one of its members leads it: then these are its members, and there are no others.
    pub(super) led: Option<Led>,
    /// Members of such a group, while the log is being read.
    unread: BTreeMap<String, LedMemberState>,
    /// Ids that were given to members which have not joined with them yet, and when.
    pub(super) invited: BTreeMap<String, Duration>,
    /// What members of a group that is led are to be told.
    pub(super) told: Vec<LedTold>,
    offsets: Offsets,
    /// How fast it gets on; nothing of it is written down.
    paces: BTreeMap<PartitionName, Pace>,
    /// Of which members want all topics.
    patterns: Patterns,
    /// The topics as they were when the assignment was worked out.
    known: BTreeMap<String, (Uuid, u32)>,
    /// What is to be written down.
    pub(super) changes: Vec<Change>,
    /// Members that have changed and are to be written down.
    changed: BTreeSet<String>,
    /// True if who has what has changed since it was asked: there may be news for others.
    moved: bool,
    /// True once it is to be no more.
    pub(super) over: bool,
    /// True while nothing that changes can be written down: members stay what they are.
    pub(super) is_frozen: bool,
}

impl Group {
    /// One without members.
    pub fn new(name: &str) -> Group {
        Group {
            name: name.to_owned(),
            state: GroupState::default(),
            members: BTreeMap::new(),
            led: None,
            unread: BTreeMap::new(),
            invited: BTreeMap::new(),
            told: Vec::new(),
            offsets: Offsets::new(),
            paces: BTreeMap::new(),
            patterns: Patterns::default(),
            known: BTreeMap::new(),
            changes: Vec::new(),
            changed: BTreeSet::new(),
            moved: false,
            over: false,
            is_frozen: false,
        }
    }

    /// Takes in a change that the log has.
    pub fn replay(&mut self, change: Change, now: Duration) {
        match change {
            Change::Group(_, state) => self.state = state.unwrap_or_default(),
            Change::Member(_, id, Some(state)) => {
                self.members.insert(id, Member::new(*state, now));
            }
            Change::Member(_, id, None) => drop(self.members.remove(&id)),
            Change::LedMember(_, id, Some(state)) => {
                self.unread.insert(id, *state);
            }
            Change::LedMember(_, id, None) => drop(self.unread.remove(&id)),
            Change::Offset(_, name, Some(committed)) => {
                self.offsets.insert(name, committed);
            }
            Change::Offset(_, name, None) => drop(self.offsets.remove(&name)),
        }
    }

    /// All of the log was taken in.
    pub fn replayed(&mut self, now: Duration) {
        let members = std::mem::take(&mut self.unread);
        let state = self.state.led.clone().filter(|_| !members.is_empty());
        self.led = state.map(|state| Led::load(self.state.epoch, state, members, now));
        if self.led.is_none() {
            self.state.led = None;
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its epoch.
    pub fn epoch(&self) -> i32 {
        self.state.epoch
    }

    /// When its last member left it, in milliseconds since 1970.
    pub fn emptied_ms(&self) -> i64 {
        self.state.emptied_ms
    }

    /// Its members.
    pub fn members(&self) -> &BTreeMap<String, Member> {
        &self.members
    }

    /// One of its members.
    pub(super) fn member_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.members.get_mut(id)
    }

    /// Its members, if one of them leads.
    pub fn led(&self) -> Option<&Led> {
        self.led.as_ref()
    }

    /// How many members it has.
    pub fn member_count(&self) -> usize {
        self.led.as_ref().map_or(self.members.len(), |led| led.members().len())
    }

    /// How far it has come.
    pub fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// True if there is nothing of it to be kept. One that had members is there until it is ended, though nobody is in it.
    pub fn is_nothing(&self) -> bool {
        let had_members = self.state.epoch > 0 && !self.over;
        self.member_count() == 0 && self.offsets.is_empty() && !had_members
    }

    /// It is to be no more, if nobody comes and it has no offsets.
    pub fn end(&mut self) {
        self.over = true;
    }

    /// The name of a topic that it reads.
    pub fn topic_name(&self, id: Uuid) -> Option<&str> {
        self.known.iter().find(|(_, (known, _))| *known == id).map(|(name, _)| name.as_str())
    }

    /// The assignor that most members want; `uniform` if none wants any.
    pub fn assignor(&self) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in self.members.values().filter_map(|m| m.state.profile.assignor) {
            *votes.entry(assignor).or_default() += 1;
        }
        let most = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        most.map_or(Assignor::default(), |(assignor, _)| assignor)
    }

    /// True if there may be news for members since it was asked last.
    pub fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// True if there is something to be written down, or to be told.
    pub fn has_changed(&self) -> bool {
        !self.changes.is_empty() || !self.changed.is_empty() || !self.told.is_empty()
    }

    /// What is to be written down of what has changed since it was asked last.
    pub fn take_changes(&mut self) -> Vec<Change> {
        for id in std::mem::take(&mut self.changed) {
            if let Some(member) = self.members.get(&id) {
                let state = Some(Box::new(member.state.clone()));
                self.changes.push(Change::Member(self.name.clone(), id, state));
            }
        }
        std::mem::take(&mut self.changes)
    }

    /// A member says that it is there, and what is new with it.
    pub fn heartbeat(
        &mut self,
        heartbeat: Heartbeat,
        now: Now,
        topics: Topics<'_>,
        limits: &GroupLimits,
    ) -> Result<Answer, GroupError> {
        if self.led.is_some() {
            return Err(GroupError::IsLed);
        }
        let Heartbeat { member: id, epoch, profile, owned, seen, beat, polled, paused } = heartbeat;
        // One that was overtaken by what it has said since is no word of now; nobody may hear the answer.
        if !self.is_newest(&id, beat)
            && let Some(member) = self.members.get_mut(&id)
        {
            member.heard = now.since_start;
            return Ok(Answer { epoch: member.state.epoch, assigned: None });
        }
        let joins = epoch == JOIN;
        if joins {
            let profile = profile.clone().ok_or(GroupError::NoProfile)?;
            self.join(&id, profile, now, limits)?;
        }
        let member = self.members.get_mut(&id).ok_or(GroupError::UnknownMember(id.clone()))?;
        let actual = member.state.epoch;
        if epoch > actual || actual == STATIC_LEAVE {
            return Err(GroupError::FencedEpoch { said: epoch, actual });
        }
        if seen == 0 {
            member.told = Told::default();
        }
        // What it says of a time before the last answer does not tell what it has given up.
        let has_heard = seen == member.told.count;
        let owned = owned.filter(|_| has_heard);
        let claims = owned.iter().flatten().find(|partition| !member.state.holds(partition));
        if let Some(claims) = claims {
            return Err(GroupError::NotHeld(*claims));
        }
        member.heard = now.since_start;
        let wants_else = profile.as_ref().is_some_and(|profile| member.state.profile != *profile);
        let gives_up = owned.is_some() && !member.state.revoking.is_empty();
        if self.is_frozen && (joins || wants_else || gives_up) {
            return Err(GroupError::Frozen);
        }
        member.beat = beat;
        (member.polled, member.paused) = (polled, paused);
        let is_new = profile.is_some_and(|profile| {
            let changed = member.state.profile != profile;
            member.state.profile = profile;
            changed
        });
        if is_new {
            self.changed.insert(id.clone());
        }
        if joins || is_new {
            self.assign_anew(true, topics);
        }
        self.step(&id, owned.as_ref(), now.since_start);
        // It is told again what it has not heard: the answer that had it may be lost.
        Ok(self.tell(&id, owned.is_some() || !has_heard))
    }

    /// True if a heartbeat of this number is later than all that were heard of the member.
    pub fn is_newest(&self, id: &str, beat: u32) -> bool {
        self.members.get(id).is_none_or(|member| member.beat < beat)
    }

    fn join(
        &mut self,
        id: &str,
        profile: Profile,
        now: Now,
        limits: &GroupLimits,
    ) -> Result<(), GroupError> {
        let same_instance = profile.instance_id.as_ref().and_then(|instance| {
            let has_it = |m: &Member| m.state.profile.instance_id.as_ref() == Some(instance);
            self.members.iter().find(|(_, member)| has_it(member)).map(|(id, _)| id.clone())
        });
        let mut state = MemberState::default();
        match same_instance {
            Some(other) if other != id => {
                let left = self.members[&other].state.epoch == STATIC_LEAVE;
                if !left {
                    let instance = profile.instance_id.unwrap_or_default();
                    return Err(GroupError::InstanceInUse { instance, member: other });
                }
                // It goes on with what its predecessor was to read.
                state.target =
                    self.remove(&other, now.ms).map(|m| m.state.target).unwrap_or_default();
            }
            // It begins anew: of what it had it reads nothing.
            _ => state.target = self.remove(id, now.ms).map(|m| m.state.target).unwrap_or_default(),
        }
        if self.members.len() >= limits.most_members {
            return Err(GroupError::Full(limits.most_members));
        }
        state.profile = profile;
        self.members.insert(id.to_owned(), Member::new(state, now.since_start));
        self.changed.insert(id.to_owned());
        self.state.emptied_ms = 0;
        self.over = false;
        Ok(())
    }

    /// A member leaves; with `static_leave` it is to come back, and what it has is kept for it.
    pub fn leave(
        &mut self,
        id: &str,
        static_leave: bool,
        now: Now,
        topics: Topics<'_>,
    ) -> Result<(), GroupError> {
        let unknown = || GroupError::UnknownMember(id.to_owned());
        let member = self.members.get_mut(id).ok_or_else(unknown)?;
        if static_leave && member.state.profile.instance_id.is_some() {
            self.static_leave(id, now);
            return Ok(());
        }
        self.remove(id, now.ms);
        self.assign_anew(true, topics);
        Ok(())
    }

    /// A member reads no more; what it was to read is kept for who comes under its instance id.
    pub(super) fn static_leave(&mut self, id: &str, now: Now) {
        let Some(member) = self.members.get_mut(id) else { return };
        member.state.epoch = STATIC_LEAVE;
        member.state.assigned.clear();
        member.state.revoking.clear();
        member.heard = now.since_start;
        self.changed.insert(id.to_owned());
    }

    /// None of its members is one any more.
    pub(super) fn forget_members(&mut self) {
        self.changed.clear();
        self.known.clear();
        for id in std::mem::take(&mut self.members).into_keys() {
            self.changes.push(Change::Member(self.name.clone(), id, None));
        }
    }

    fn remove(&mut self, id: &str, now_ms: i64) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.moved = true;
        self.changed.remove(id);
        self.changes.push(Change::Member(self.name.clone(), id.to_owned(), None));
        if self.members.is_empty() {
            self.state.emptied_ms = now_ms;
            self.changes.push(Change::Group(self.name.clone(), Some(self.state.clone())));
        }
        Some(member)
    }

    /// Removes who is silent for too long, and who does not give up in time what goes to another. Answers
    /// who, and why.
    pub fn expire(
        &mut self,
        now: Now,
        topics: Topics<'_>,
        limits: &GroupLimits,
    ) -> Vec<(String, &'static str)> {
        let at = now.since_start;
        self.invited.retain(|_, since| at.saturating_sub(*since) <= INVITED);
        if self.led.is_some() {
            return self.with_led(now, |led| Ok(led.expire(at))).unwrap_or_default();
        }
        let reason = |member: &Member| {
            let patience = Duration::from_millis(member.state.profile.rebalance_timeout_ms.into());
            let holds_on = |since: Duration| at.saturating_sub(since) > patience;
            if at.saturating_sub(member.heard) > member.session_timeout(limits) {
                Some("was not heard of")
            } else if member.revoking_since.is_some_and(holds_on) {
                Some("did not give up what goes to another")
            } else {
                None
            }
        };
        let all = self.members.iter();
        let gone: Vec<_> = all.filter_map(|(id, m)| Some((id.clone(), reason(m)?))).collect();
        for (id, _) in &gone {
            self.remove(id, now.ms);
        }
        if !gone.is_empty() {
            self.assign_anew(true, topics);
        }
        gone
    }

    /// When [`Group::expire`] has something to do at the earliest.
    pub fn next_deadline(&self, limits: &GroupLimits) -> Option<Duration> {
        let of = |member: &Member| {
            let patience = Duration::from_millis(member.state.profile.rebalance_timeout_ms.into());
            let silent = member.heard + member.session_timeout(limits);
            member.revoking_since.map_or(silent, |since| silent.min(since + patience))
        };
        let invited = self.invited.values().min().map(|since| when_forgotten(*since));
        let led = self.led.as_ref().and_then(Led::next_deadline);
        self.members.values().map(of).chain(invited).chain(led).min()
    }

    /// Topics may have changed. True if what anybody is to read has.
    pub fn topics_changed(&mut self, topics: Topics<'_>) -> bool {
        let before = self.state.epoch;
        self.assign_anew(false, topics);
        self.state.epoch != before
    }

    /// Works out what each is to read, if that is `due` or topics have changed, and begins a new epoch.
    fn assign_anew(&mut self, due: bool, topics: Topics<'_>) {
        let patterns = self.members.values().filter_map(|m| m.state.profile.pattern.as_ref());
        let found = self.patterns.find(patterns, topics);
        let names: BTreeSet<&String> =
            self.members.values().flat_map(|member| wanted_by(member, &found)).collect();
        let known: BTreeMap<String, (Uuid, u32)> =
            names.into_iter().filter_map(|name| Some((name.clone(), topics.find(name)?))).collect();
        if !due && known == self.known {
            return;
        }
        let counts: BTreeMap<Uuid, u32> = known.values().copied().collect();
        let applicants = self.members.iter().map(|(id, member)| {
            let wanted = wanted_by(member, &found);
            let topics = wanted.filter_map(|name| Some(known.get(name)?.0)).collect();
            let rack = member.state.profile.rack.clone();
            let exists = |p: &&PartitionId| counts.get(&p.topic).is_some_and(|n| p.partition < *n);
            let has = member.state.target.iter().filter(exists).copied().collect();
            (id.clone(), Applicant { topics, has, rack })
        });
        let racks = self.racks(&known, topics);
        let assignment = self.assignor().assign(&applicants.collect(), &counts, &racks);
        self.known = known;
        let mut is_new = due;
        for (id, target) in assignment {
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.state.target != target {
                member.state.target = target;
                self.changed.insert(id);
                is_new = true;
            }
        }
        if is_new {
            self.state.epoch += 1;
            self.moved = true;
            self.changes.push(Change::Group(self.name.clone(), Some(self.state.clone())));
        }
    }

    /// Where partitions are, if any member says where it is.
    fn racks(&self, known: &BTreeMap<String, (Uuid, u32)>, topics: Topics<'_>) -> Racks {
        if self.members.values().all(|member| member.state.profile.rack.is_empty()) {
            return Racks::new();
        }
        let each = known.iter().flat_map(|(name, (topic, _))| {
            let of = (0..).zip(topics.racks(name));
            of.map(|(partition, racks)| (PartitionId { topic: *topic, partition }, racks))
        });
        each.collect()
    }

    /// Lets a member take its next step.
    pub(super) fn step(&mut self, id: &str, owned: Option<&BTreeSet<PartitionId>>, now: Duration) {
        if self.is_frozen {
            return;
        }
        let Some(mut member) = self.members.remove(id) else { return };
        let before = member.state.clone();
        let others = &self.members;
        let is_free = |p: &PartitionId| others.values().all(|other| !other.state.holds(p));
        if member.state.epoch != STATIC_LEAVE {
            member.state.reconcile(self.state.epoch, owned, is_free);
        }
        member.revoking_since = match (member.state.revoking.is_empty(), member.revoking_since) {
            (true, _) => None,
            (false, since) => Some(since.unwrap_or(now)),
        };
        if member.state != before {
            self.changed.insert(id.to_owned());
            self.moved = true;
        }
        self.members.insert(id.to_owned(), member);
    }

    /// Lets a member that waits for news take its next step; its answer, if there is any news.
    pub fn news(&mut self, id: &str, now: Duration) -> Option<Answer> {
        self.step(id, None, now);
        let member = self.members.get(id)?;
        let Told { epoch, assigned, .. } = &member.told;
        let is_same =
            member.state.epoch == *epoch && member.state.assigned.keys().eq(assigned.iter());
        if is_same { None } else { Some(self.tell(id, false)) }
    }

    /// What a member is answered: what it is to read if that is new, or `all`.
    pub(super) fn tell(&mut self, id: &str, all: bool) -> Answer {
        let Some(member) = self.members.get_mut(id) else {
            return Answer { epoch: JOIN, assigned: None };
        };
        let epoch = member.state.epoch;
        member.told.epoch = epoch;
        let is_same = member.state.assigned.keys().eq(member.told.assigned.iter());
        if is_same && !all && member.told.count > 0 {
            return Answer { epoch, assigned: None };
        }
        if !is_same || member.told.count == 0 {
            member.told.count += 1;
        }
        member.told.assigned = member.state.assigned.keys().copied().collect();
        Answer { epoch, assigned: Some((member.told.count, member.told.assigned.clone())) }
    }

    /// A member begins to commit. What a later commit has overtaken, on a connection that was given up, is not to
    /// take the group back.
    pub fn begin_commit(&mut self, member: &str, number: u32) -> Result<(), GroupError> {
        let Some(member) = self.members.get_mut(member) else { return Ok(()) };
        if number < member.commit {
            return Err(GroupError::Overtaken { said: number, last: member.commit });
        }
        member.commit = number;
        Ok(())
    }

    /// Takes a commit of a member, or, without a member (`epoch` below 0), of somebody outside while
    /// nobody is in the group.
    pub fn commit(
        &mut self,
        (member, epoch): (&str, i32),
        name: PartitionName,
        committed: Committed,
        limits: &GroupLimits,
    ) -> Result<(), GroupError> {
        if committed.metadata.len() > limits.most_metadata {
            let length = committed.metadata.len();
            return Err(GroupError::MetadataTooLarge(length, limits.most_metadata));
        }
        if epoch < 0 && member.is_empty() {
            if self.member_count() > 0 {
                return Err(GroupError::HasMembers);
            }
        } else if let Some(led) = &self.led {
            led.check_commit(member, epoch)?;
        } else {
            let unknown = || GroupError::UnknownMember(member.to_owned());
            let member = self.members.get(member).ok_or_else(unknown)?;
            let state = &member.state;
            if state.profile.classic.is_some() {
                member.check_generation(epoch)?;
            }
            let id = PartitionId { topic: committed.topic_id, partition: name.partition };
            // Kafka's classic members commit what they like; here, what nobody else reads.
            let is_anybodys = state.profile.classic.is_some()
                && self.members.values().all(|member| !member.state.holds(&id));
            if !state.may_commit(&id, epoch) && !is_anybodys {
                return Err(GroupError::NotOwner(epoch));
            }
        }
        self.changes.push(Change::Offset(self.name.clone(), name.clone(), Some(committed.clone())));
        let (offset, now_ms) = (committed.offset, committed.committed_ms);
        let pace = self.paces.entry(name.clone()).or_insert_with(|| Pace::new(now_ms));
        if let Some(before) = self.offsets.insert(name, committed) {
            pace.acknowledged(offset.saturating_sub(before.offset), now_ms);
        }
        Ok(())
    }

    /// Records of a partition that it has acknowledged, a second, lately.
    pub fn per_second(&self, name: &PartitionName, now_ms: i64) -> u64 {
        self.paces.get(name).map_or(0, |pace| pace.per_second(now_ms))
    }

    /// Forgets offsets.
    pub fn forget(&mut self, names: &[PartitionName]) {
        for name in names {
            self.paces.remove(name);
            if self.offsets.remove(name).is_some() {
                self.changes.push(Change::Offset(self.name.clone(), name.clone(), None));
            }
        }
    }

    /// Forgets all of it, for it is to be no more.
    pub fn dissolve(&mut self) {
        let names: Vec<PartitionName> = self.offsets.keys().cloned().collect();
        self.forget(&names);
        self.state = GroupState::default();
        self.changes.push(Change::Group(self.name.clone(), None));
    }
}

/// The topics that a member wants, there or not; `found` are those of patterns.
fn wanted_by<'a>(
    member: &'a Member,
    found: &'a BTreeMap<String, BTreeSet<String>>,
) -> impl Iterator<Item = &'a String> {
    let Profile { topics, pattern, .. } = &member.state.profile;
    let more = pattern.as_ref().and_then(|pattern| found.get(pattern));
    topics.iter().chain(more.into_iter().flatten())
}
