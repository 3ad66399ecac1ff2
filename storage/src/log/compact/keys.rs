//! Which offset is the newest of each key, in bounded memory.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use siphasher::sip128::SipHasher13;

use crate::Offset;

/// The newest offset of each key. A key is known by 128 bits of a keyed hash: that two of 2^40 keys
/// share them is as likely as one in 2^48, and nobody who does not know the hash's key can find two.
pub(super) struct Keys {
    newest: HashMap<Fingerprint, Offset, BuildHasherDefault<FirstHalf>>,
    /// Most keys that the memory holds.
    most: usize,
    hasher: SipHasher13,
}

#[derive(PartialEq, Eq)]
struct Fingerprint(u64, u64);

/// The map's own hash: one half of the fingerprint, which is random enough.
#[derive(Default)]
struct FirstHalf(u64);

/// Bytes that the map takes for a key: what is in it, and a byte of its own.
const KEY_BYTES: u64 = 25;

impl Keys {
    /// Room for so many keys as `most_bytes` hold, or for `expected` if that is less.
    pub fn new(most_bytes: u64, expected: u64, seed: &[u8; 16]) -> Keys {
        // The map has a power of two of places, of which one in eight stays free.
        let places = 1 << (most_bytes / KEY_BYTES).max(8).ilog2();
        let most = places / 8 * 7;
        let newest = HashMap::with_capacity_and_hasher(
            expected.min(most) as usize,
            BuildHasherDefault::default(),
        );
        Keys { newest, most: most as usize, hasher: SipHasher13::new_with_key(seed) }
    }

    /// Takes note of a record at `offset`, which must be above all before. False if there is no room
    /// for its key.
    pub fn note(&mut self, key: &[u8], offset: Offset) -> bool {
        let fingerprint = self.fingerprint(key);
        if self.newest.len() < self.most {
            self.newest.insert(fingerprint, offset);
            return true;
        }
        match self.newest.get_mut(&fingerprint) {
            Some(newest) => {
                *newest = offset;
                true
            }
            None => false,
        }
    }

    /// The newest offset of a key, if it was noted.
    pub fn newest(&self, key: &[u8]) -> Option<Offset> {
        self.newest.get(&self.fingerprint(key)).copied()
    }

    /// How many keys were noted.
    pub fn len(&self) -> usize {
        self.newest.len()
    }

    fn fingerprint(&self, key: &[u8]) -> Fingerprint {
        let hash = self.hasher.hash(key);
        Fingerprint(hash.h1, hash.h2)
    }
}

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

impl Hasher for FirstHalf {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a fingerprint is written as a number");
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_map_takes_old_keys_and_no_new_ones() {
        let mut keys = Keys::new(1000, 5, &[7; 16]);
        let room = keys.newest.capacity().max(28);
        assert_eq!((keys.most, room), (28, 28), "1000 bytes are 32 places");
        for n in 0..28u64 {
            assert!(keys.note(&n.to_le_bytes(), Offset(n)));
        }
        assert!(!keys.note(b"one more", Offset(28)));
        assert!(keys.note(&3u64.to_le_bytes(), Offset(29)));
        assert_eq!(keys.newest(&3u64.to_le_bytes()), Some(Offset(29)));
        assert_eq!(keys.newest(&4u64.to_le_bytes()), Some(Offset(4)));
        assert_eq!(keys.newest(b"one more"), None);
        assert_eq!(keys.len(), 28);
    }
}
