//! Why groups refuse.

use super::PartitionId;

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
