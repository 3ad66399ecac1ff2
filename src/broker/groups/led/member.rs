//! A member of a group that one of them leads.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A member as the log has it. What members say to their leader, and it to them, the brokers do not look into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedMemberState {
    /// Its name that outlives its process; none if it has none (`group.instance.id`).
    pub instance_id: Option<String>,
    /// The name of its client (`client.id`).
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// How long it may be silent (`session.timeout.ms`).
    pub session_timeout_ms: u32,
    /// How long it may take to join again (`max.poll.interval.ms`).
    pub rebalance_timeout_ms: u32,
    /// What it can go by, what it likes best first.
    pub protocols: Vec<Protocol>,
    /// The generation of which it is a member.
    pub generation: i32,
    /// The earliest that it may take for it: while the brokers said what it reads, its epoch grew and its generation did not.
    pub since: i32,
    /// What it is to do in that generation, by its leader.
    #[serde(with = "text")]
    pub assignment: Bytes,
}

/// A way of giving out work that a member knows, with what it says to the leader for that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Protocol {
    /// Its name.
    pub name: String,
    /// What it says.
    #[serde(with = "text")]
    pub metadata: Bytes,
}

/// A member, and what only the coordinator that serves now knows of it.
#[derive(Clone, Debug)]
pub struct LedMember {
    /// What the log has.
    pub state: LedMemberState,
    /// When it was last heard of.
    pub heard: Duration,
    /// What it waits for.
    pub waits: Waits,
    /// True if it has asked in this generation what it is to do.
    pub has_asked: bool,
}

/// Bytes that each thing which it can go by takes besides what it says.
const BESIDES: usize = 64;

/// What a member waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waits {
    /// For nothing.
    #[default]
    Nothing,
    /// That all have joined.
    Others,
    /// That the leader says what it is to do.
    Leader,
}

impl LedMember {
    /// One that was heard of now.
    pub fn new(state: LedMemberState, now: Duration) -> LedMember {
        // One that the coordinator before this one knew may have asked that one.
        LedMember { state, heard: now, waits: Waits::Nothing, has_asked: true }
    }

    /// When it is out, if nothing is heard of it before. Nobody is silent who waits to be answered.
    pub fn deadline(&self) -> Option<Duration> {
        let session = Duration::from_millis(self.state.session_timeout_ms.into());
        (self.waits == Waits::Nothing).then(|| self.heard + session)
    }
}

impl LedMemberState {
    /// What it says for a protocol.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        let known = self.protocols.iter().find(|known| known.name == protocol);
        known.map(|known| known.metadata.clone()).unwrap_or_default()
    }

    /// How many bytes it says.
    pub fn said(&self) -> usize {
        let each = self.protocols.iter();
        each.map(|known| known.name.len() + known.metadata.len() + BESIDES).sum()
    }

    /// The names of what it can go by, each once.
    pub fn names(&self) -> BTreeSet<&str> {
        self.protocols.iter().map(|known| known.name.as_str()).collect()
    }

    /// True if it may stay away without being out: it comes back under its instance id, or its session ends.
    pub fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }
}

/// Bytes as base64.
mod text {
    use super::{Bytes, Deserialize, Deserializer, Engine, STANDARD, Serializer};

    pub fn serialize<S: Serializer>(bytes: &Bytes, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
    }
}
