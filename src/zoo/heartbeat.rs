//! Heartbeats as datagrams: 72 bytes, little-endian, whichever kind.
//!
//! ```text
//!  0  4  magic         "MKHB"
//!  4  1  version       1
//!  5  1  kind          1 beat, 2 answer, 3 probe
//!  6  2  reserved      0
//!  8 16  cluster id
//! 24  4  broker id
//! 28  4  stalled       beat: how long something has stood still, in milliseconds
//! 32  8  broker epoch
//! 40  8  number        beat, probe: larger than the sender's one before; answer: the beat's
//! 48  8  time          the sender's clock in microseconds; answer: the beat's
//! 56 16  tag           HMAC-SHA-256 over bytes 0..56, its first half
//! ```
//!
//! The key is handed out over TCP at each registration and dies with it, so that no datagram of
//! another life, of another broker or of nobody at all passes; the number refuses those of the same
//! life that come again. All kinds have the same length: an answer never amplifies. The tag covers
//! everything, so there is no checksum beside it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use super::state::BrokerEpoch;

/// Bytes of a datagram.
pub const LEN: usize = SIGNED + TAG;

const MAGIC: [u8; 4] = *b"MKHB";
const VERSION: u8 = 1;
const SIGNED: usize = 56;
const TAG: usize = 16;

/// What a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The broker lives.
    Beat,
    /// The zookeeper has heard it.
    Answer,
    /// The zookeeper asks whether the broker lives: it beats at once.
    Probe,
}

/// A datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// What it is for.
    pub kind: Kind,
    /// Of which cluster.
    pub cluster_id: Uuid,
    /// From or to which broker.
    pub broker: u32,
    /// In which of its lives.
    pub epoch: BrokerEpoch,
    /// Larger than that of the sender's one before; an answer has its beat's.
    pub number: u64,
    /// The sender's clock; an answer has its beat's.
    pub time_us: u64,
    /// How long the slowest event loop or disk of the broker has owed an answer.
    pub stalled_ms: u32,
}

/// What proves who has sent a datagram.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Key([u8; 32]);

/// Why bytes are no datagram for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    /// It has not the form of one.
    #[error("no heartbeat")]
    Form,
    /// Its sender does not know the key.
    #[error("the tag is wrong")]
    Tag,
}

impl Key {
    /// One that nobody can guess.
    pub fn random() -> Result<Key, getrandom::Error> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes)?;
        Ok(Key(bytes))
    }

    fn mac(&self, signed: &[u8]) -> Hmac<Sha256> {
        // A whole block, filled up with zeroes: HMAC does so itself with a key that is shorter.
        let mut block = [0; 64];
        block[..self.0.len()].copy_from_slice(&self.0);
        Hmac::<Sha256>::new(&block.into()).chain_update(signed)
    }
}

/// Keys stay out of logs.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// The broker that a datagram speaks of, for whoever has many keys; nothing is proven yet.
pub fn claimed_broker(bytes: &[u8]) -> Option<u32> {
    let bytes: &[u8; LEN] = bytes.try_into().ok()?;
    let mut fields = Fields(&bytes[24..]);
    Some(u32::from_le_bytes(fields.take()))
}

impl Datagram {
    /// Its bytes.
    pub fn seal(&self, key: &Key) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4] = VERSION;
        bytes[5] = self.kind.number();
        bytes[8..24].copy_from_slice(self.cluster_id.as_bytes());
        bytes[24..28].copy_from_slice(&self.broker.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.stalled_ms.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.number.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.time_us.to_le_bytes());
        let tag = key.mac(&bytes[..SIGNED]).finalize().into_bytes();
        bytes[SIGNED..].copy_from_slice(&tag[..TAG]);
        bytes
    }

    /// Reads one that was sealed with this key. The tag is compared in constant time.
    pub fn open(bytes: &[u8], key: &Key) -> Result<Datagram, NotOurs> {
        let bytes: &[u8; LEN] = bytes.try_into().map_err(|_| NotOurs::Form)?;
        let (signed, tag) = bytes.split_at(SIGNED);
        let mut fields = Fields(signed);
        let magic: [u8; 4] = fields.take();
        let [version, kind, reserved @ ..]: [u8; 4] = fields.take();
        if (magic, version, reserved) != (MAGIC, VERSION, [0, 0]) {
            return Err(NotOurs::Form);
        }
        let kind = Kind::from_number(kind).ok_or(NotOurs::Form)?;
        key.mac(signed).verify_truncated_left(tag).map_err(|_| NotOurs::Tag)?;
        Ok(Datagram {
            kind,
            cluster_id: Uuid::from_bytes(fields.take()),
            broker: u32::from_le_bytes(fields.take()),
            stalled_ms: u32::from_le_bytes(fields.take()),
            epoch: BrokerEpoch(u64::from_le_bytes(fields.take())),
            number: u64::from_le_bytes(fields.take()),
            time_us: u64::from_le_bytes(fields.take()),
        })
    }
}

/// Fields of known lengths, one behind the other.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    /// The next one; zeroes behind the end.
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((field, rest)) = self.0.split_first_chunk() else { return [0; N] };
        self.0 = rest;
        *field
    }
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Kind::Beat => 1,
            Kind::Answer => 2,
            Kind::Probe => 3,
        }
    }

    fn from_number(number: u8) -> Option<Kind> {
        [Kind::Beat, Kind::Answer, Kind::Probe].into_iter().find(|kind| kind.number() == number)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample() -> Datagram {
        Datagram {
            kind: Kind::Answer,
            cluster_id: Uuid::from_u128(0x1234_5678_9abc_def0),
            broker: 7,
            epoch: BrokerEpoch(99),
            number: 1 << 40,
            time_us: 123_456_789,
            stalled_ms: 17,
        }
    }

    #[test]
    fn any_flipped_bit_and_any_other_key_or_length_is_refused() {
        let key = Key::random().unwrap();
        let bytes = sample().seal(&key);
        assert_eq!(Datagram::open(&bytes, &key), Ok(sample()));
        assert_eq!(claimed_broker(&bytes), Some(7));
        for bit in 0..LEN * 8 {
            let mut changed = bytes;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(Datagram::open(&changed, &key).is_err(), "bit {bit}");
        }
        assert_eq!(Datagram::open(&bytes, &Key::random().unwrap()), Err(NotOurs::Tag));
        assert_eq!(Datagram::open(&bytes[1..], &key), Err(NotOurs::Form));
        assert_eq!(Datagram::open(&[&bytes[..], &[0]].concat(), &key), Err(NotOurs::Form));
    }

    #[test]
    fn the_tag_is_that_of_the_standard() {
        // RFC 4231, test case 1, with its key filled up to our length, as HMAC does.
        let mut key = Key([0; 32]);
        key.0[..20].copy_from_slice(&[0x0b; 20]);
        let tag = key.mac(b"Hi There").finalize().into_bytes();
        assert_eq!(tag[..4], [0xb0, 0x34, 0x4c, 0x61]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let key = Key([7; 32]);
            prop_assert!(Datagram::open(&bytes, &key).is_err());
            prop_assert_eq!(claimed_broker(&bytes).is_some(), bytes.len() == LEN);
        }

        #[test]
        fn what_is_sealed_is_read_again(
            kind in 1u8..4, id: u128, broker: u32, epoch: u64, number: u64, time_us: u64, stalled_ms: u32,
        ) {
            let datagram = Datagram {
                kind: Kind::from_number(kind).unwrap(),
                cluster_id: Uuid::from_u128(id),
                broker,
                epoch: BrokerEpoch(epoch),
                number,
                time_us,
                stalled_ms,
            };
            let key = Key([7; 32]);
            prop_assert_eq!(Datagram::open(&datagram.seal(&key), &key), Ok(datagram));
        }
    }
}
