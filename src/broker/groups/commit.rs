//! How far a group has come: what its members, and others while it has none, commit.

use super::PartitionId;
use super::error::GroupError;

use super::group::{Group, GroupLimits};
use super::offsets::{Committed, Pace, PartitionName};
use super::record::Change;

impl Group {
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
}
