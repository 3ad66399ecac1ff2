//! What is in the offsets topic: keys and values in JSON, so that whoever opens it can read it. A key
//! whose value is null is no more.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::led::{LedMemberState, LedState};
use super::member::MemberState;
use super::offsets::{Committed, PartitionName};

/// What a record is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Key {
    /// A group.
    Group {
        /// Its name.
        group: String,
    },
    /// A member of a group.
    Member {
        /// The group.
        group: String,
        /// The member's id.
        member: String,
    },
    /// A member of a group that one of its members leads.
    #[serde(rename = "led member")]
    LedMember {
        /// The group.
        group: String,
        /// The member's id.
        member: String,
    },
    /// An offset of a group.
    Offset {
        /// The group.
        group: String,
        /// The partition.
        #[serde(flatten)]
        partition: PartitionName,
    },
}

/// A group as the log has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupState {
    /// Its epoch: each assignment has another.
    pub epoch: i32,
    /// When its last member left it, in milliseconds since 1970; 0 while it has members.
    pub emptied_ms: i64,
    /// Set while one of its members leads it; what is to be done is given out by generations then, which are its epochs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub led: Option<LedState>,
}

/// A change of a group, as it goes into the log; no value: it is no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Of the group itself.
    Group(String, Option<GroupState>),
    /// Of a member.
    Member(String, String, Option<Box<MemberState>>),
    /// Of a member of a group that one of its members leads.
    LedMember(String, String, Option<Box<LedMemberState>>),
    /// Of an offset.
    Offset(String, PartitionName, Option<Committed>),
}

/// Why a record of the offsets topic cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("a record of the offsets topic cannot be read: {0}")]
pub struct Unreadable(#[from] serde_json::Error);

impl Change {
    /// The record's key and value.
    pub fn encode(&self) -> Result<(Vec<u8>, Option<Vec<u8>>), Unreadable> {
        fn json(value: Option<&impl Serialize>) -> Result<Option<Vec<u8>>, Unreadable> {
            Ok(value.map(serde_json::to_vec).transpose()?)
        }
        let (key, value) = match self.clone() {
            Change::Group(group, state) => (Key::Group { group }, json(state.as_ref())?),
            Change::Member(group, member, state) => {
                (Key::Member { group, member }, json(state.as_ref())?)
            }
            Change::LedMember(group, member, state) => {
                (Key::LedMember { group, member }, json(state.as_ref())?)
            }
            Change::Offset(group, partition, committed) => {
                (Key::Offset { group, partition }, json(committed.as_ref())?)
            }
        };
        Ok((serde_json::to_vec(&key)?, value))
    }

    /// The change that a record tells of.
    pub fn decode(key: &Bytes, value: Option<&Bytes>) -> Result<Change, Unreadable> {
        fn json<T: for<'de> Deserialize<'de>>(
            value: Option<&Bytes>,
        ) -> Result<Option<T>, Unreadable> {
            Ok(value.map(|bytes| serde_json::from_slice(bytes)).transpose()?)
        }
        Ok(match serde_json::from_slice(key)? {
            Key::Group { group } => Change::Group(group, json(value)?),
            Key::Member { group, member } => Change::Member(group, member, json(value)?),
            Key::LedMember { group, member } => Change::LedMember(group, member, json(value)?),
            Key::Offset { group, partition } => Change::Offset(group, partition, json(value)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use uuid::Uuid;

    use super::*;
    use crate::broker::groups::PartitionId;
    use crate::broker::groups::led::Protocol;

    #[test]
    fn records_are_read_back() {
        let id = PartitionId { topic: Uuid::from_u128(7), partition: 3 };
        let member = MemberState {
            epoch: 4,
            assigned: BTreeMap::from([(id, 4)]),
            target: BTreeSet::from([id]),
            ..MemberState::default()
        };
        let name = PartitionName { topic: "orders".to_owned(), partition: 3 };
        let committed = Committed {
            offset: 17,
            leader_epoch: 2,
            metadata: "noted".to_owned(),
            topic_id: id.topic,
            committed_ms: 5,
        };
        let led = LedMemberState {
            protocols: vec![Protocol {
                name: "own".to_owned(),
                metadata: Bytes::from_static(&[0, 9]),
            }],
            assignment: Bytes::from_static(&[255]),
            ..LedMemberState::default()
        };
        let of_led = LedState { leader: "m".to_owned(), ..LedState::default() };
        let group = || "billing".to_owned();
        for change in [
            Change::Group(group(), Some(GroupState { epoch: 4, ..GroupState::default() })),
            Change::Group(group(), Some(GroupState { led: Some(of_led), ..GroupState::default() })),
            Change::Group(group(), None),
            Change::LedMember(group(), "m".to_owned(), Some(Box::new(led))),
            Change::LedMember(group(), "m".to_owned(), None),
            Change::Member(group(), "m".to_owned(), Some(Box::new(member))),
            Change::Member(group(), "m".to_owned(), None),
            Change::Offset(group(), name.clone(), Some(committed)),
            Change::Offset(group(), name, None),
        ] {
            let (key, value) = change.encode().unwrap();
            let (key, value) = (Bytes::from(key), value.map(Bytes::from));
            assert_eq!(Change::decode(&key, value.as_ref()).unwrap(), change);
        }
        assert!(Change::decode(&Bytes::from_static(b"{}"), None).is_err());
    }

    /// Of the same thing the same bytes, whatever is said of it: or old records of it would stay.
    #[test]
    fn an_offsets_key_is_this() {
        let name = PartitionName { topic: "orders".to_owned(), partition: 3 };
        let (key, value) = Change::Offset("billing".to_owned(), name, None).encode().unwrap();
        let expected = br#"{"kind":"offset","group":"billing","topic":"orders","partition":3}"#;
        assert_eq!((key.as_slice(), value), (expected.as_slice(), None));
    }
}
