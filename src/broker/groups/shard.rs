//! The groups of one partition of the offsets topic, and those of their members that wait for news. Pure:
//! answers and changes for the log go out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::group::{Answer, Group, GroupLimits, Now, Topics};
use super::offsets::expired;
use super::record::Change;

/// The groups of a partition; `R` is how a member that waits is answered.
#[derive(Debug)]
pub struct Shard<R> {
    groups: BTreeMap<String, Group>,
    /// By group and member.
    waiting: BTreeMap<(String, String), Waiting<R>>,
    /// Groups that something was done with since changes were taken.
    touched: BTreeSet<String>,
}

/// A member that waits.
#[derive(Debug)]
struct Waiting<R> {
    reply: R,
    until: Duration,
}

/// Somebody who is to be answered, with the name of the group.
pub type Told<R> = ((String, R), Answer);

impl<R> Default for Shard<R> {
    fn default() -> Shard<R> {
        Shard { groups: BTreeMap::new(), waiting: BTreeMap::new(), touched: BTreeSet::new() }
    }
}

impl<R> Shard<R> {
    /// Takes in a change that the log has.
    pub fn replay(&mut self, change: Change, now: Duration) {
        let name = match &change {
            Change::Group(name, _) | Change::Member(name, ..) | Change::Offset(name, ..) => name,
        };
        let group = self.groups.entry(name.clone()).or_insert_with(|| Group::new(name));
        group.replay(change, now);
    }

    /// All of the log was taken in.
    pub fn replayed(&mut self, topics: Topics<'_>) {
        self.groups.retain(|_, group| !group.is_nothing());
        self.topics_changed(topics);
    }

    /// A group, if there is one.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    /// All groups.
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// A group that something is to be done with; a new one if there is none.
    pub fn group_mut(&mut self, name: &str) -> &mut Group {
        self.touched.insert(name.to_owned());
        self.groups.entry(name.to_owned()).or_insert_with(|| Group::new(name))
    }

    /// Lets a member wait for news until then.
    pub fn wait(&mut self, group: &str, member: &str, reply: R, until: Duration) {
        let place = (group.to_owned(), member.to_owned());
        self.waiting.insert(place, Waiting { reply, until });
    }

    /// A member that waits does not any more. Answers how it is answered.
    pub fn take_waiting(&mut self, group: &str, member: &str) -> Option<R> {
        let place = (group.to_owned(), member.to_owned());
        self.waiting.remove(&place).map(|waiting| waiting.reply)
    }

    /// Those who wait and for whom there is news in a group that something was done with, and those who
    /// have waited long enough.
    pub fn told(&mut self, now: Duration) -> Vec<Told<R>> {
        let mut told = Vec::new();
        let places: Vec<(String, String)> = self.waiting.keys().cloned().collect();
        for place in places {
            let (name, member) = &place;
            let is_late = self.waiting[&place].until <= now;
            if !is_late && !self.touched.contains(name) {
                continue;
            }
            let Some(group) = self.groups.get_mut(name) else { continue };
            let news = group.news(member, now);
            let epoch = group.members().get(member).map(|member| member.state.epoch);
            let late = epoch.filter(|_| is_late).map(|epoch| Answer { epoch, assigned: None });
            if let Some(answer) = news.or(late)
                && let Some(waiting) = self.waiting.remove(&place)
            {
                told.push(((place.0.clone(), waiting.reply), answer));
            }
        }
        told
    }

    /// Those who wait and are members no more: they find out that they are none.
    pub fn take_orphans(&mut self) -> Vec<(String, R)> {
        let groups = &self.groups;
        let is_orphan = |(name, member): &(String, String)| {
            groups.get(name).is_none_or(|group| !group.members().contains_key(member))
        };
        let orphans = self.waiting.extract_if(.., |place, _| is_orphan(place));
        orphans.map(|((_, member), waiting)| (member, waiting.reply)).collect()
    }

    /// Topics may have changed.
    pub fn topics_changed(&mut self, topics: Topics<'_>) {
        for (name, group) in &mut self.groups {
            let mut deleted = Vec::new();
            for (partition, committed) in group.offsets() {
                if topics(&partition.topic).is_none_or(|(id, _)| id != committed.topic_id) {
                    deleted.push(partition.clone());
                }
            }
            group.forget(&deleted);
            if group.topics_changed(topics) || !deleted.is_empty() {
                self.touched.insert(name.clone());
            }
        }
    }

    /// Removes who is silent for too long. Answers who, with the name of the group, and why.
    pub fn expire(
        &mut self,
        now: Now,
        topics: Topics<'_>,
        limits: &GroupLimits,
    ) -> Vec<(String, String, &'static str)> {
        let mut gone = Vec::new();
        for (name, group) in &mut self.groups {
            for (member, why) in group.expire(now, topics, limits) {
                self.touched.insert(name.clone());
                gone.push((name.clone(), member, why));
            }
        }
        gone
    }

    /// Forgets offsets of groups without members that are older than `retention_ms`.
    pub fn expire_offsets(&mut self, now_ms: i64, retention_ms: i64) {
        let empty = self.groups.iter_mut().filter(|(_, group)| group.members().is_empty());
        for (name, group) in empty {
            let old = expired(group.offsets(), group.emptied_ms(), now_ms, retention_ms);
            if !old.is_empty() {
                group.forget(&old);
                self.touched.insert(name.clone());
            }
        }
    }

    /// When somebody may have to be removed or answered.
    pub fn next_deadline(&self, limits: &GroupLimits) -> Option<Duration> {
        let members = self.groups.values().filter_map(|group| group.next_deadline(limits));
        members.chain(self.waiting.values().map(|waiting| waiting.until)).min()
    }

    /// What is to be written down.
    pub fn take_changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        for name in std::mem::take(&mut self.touched) {
            let Some(group) = self.groups.get_mut(&name) else { continue };
            if group.is_nothing() {
                group.dissolve();
            }
            changes.extend(group.take_changes());
            if group.is_nothing() {
                self.groups.remove(&name);
            }
        }
        changes
    }

    /// Everybody who waits: the partition is another's now.
    pub fn take_all(&mut self) -> Vec<R> {
        std::mem::take(&mut self.waiting).into_values().map(|waiting| waiting.reply).collect()
    }
}
