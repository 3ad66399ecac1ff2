//! Which partition a record goes to, as Kafka's clients have it.

/// Kafka's murmur2 (`org.apache.kafka.common.utils.Utils.murmur2`): 32 bits, seed 0x9747b28c.
pub fn murmur2(bytes: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ bytes.len() as u32;
    let (words, rest) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The partition of a key; `partitions` is more than 0. A topic that grows moves keys.
pub fn partition_of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// Where records without a key go: to one partition until its batch is complete, then to another (KIP-480), so
/// that batches are large.
#[derive(Clone, Copy, Debug)]
pub struct Sticky {
    current: u32,
    bytes: usize,
}

impl Sticky {
    /// Begins at any partition.
    pub fn new(seed: u32) -> Sticky {
        Sticky { current: seed, bytes: 0 }
    }

    /// The partition, of so many; more than 0.
    pub fn partition(&self, partitions: u32) -> u32 {
        self.current % partitions
    }

    /// True if the next record may go where the last ones went: while there are fewer bytes of them than a batch
    /// has, and their batch has room or there is none yet.
    pub fn may_stay(&self, batch_bytes: usize, has_room: bool) -> bool {
        self.bytes == 0 || (has_room && self.bytes < batch_bytes)
    }

    /// Goes on to the next partition.
    pub fn move_on(&mut self) {
        *self = Sticky::new(self.current.wrapping_add(1));
    }

    /// Its batch has so many bytes more.
    pub fn took(&mut self, bytes: usize) {
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From Kafka's `UtilsTest.testMurmur2`.
    #[test]
    fn it_is_kafkas_murmur2() {
        for (bytes, hash) in [
            (&b"21"[..], -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ] {
            assert_eq!(murmur2(bytes) as i32, hash, "{bytes:?}");
        }
    }

    #[test]
    fn a_key_has_its_partition_and_batches_move_on() {
        assert_eq!(partition_of_key(b"21", 7), (-973_932_308i32 as u32 & 0x7fff_ffff) % 7);
        let mut sticky = Sticky::new(5);
        let next = |_| {
            if !sticky.may_stay(20, true) {
                sticky.move_on();
            }
            sticky.took(10);
            sticky.partition(3)
        };
        let partitions: Vec<_> = (0..8).map(next).collect();
        assert_eq!(partitions, [2, 2, 0, 0, 1, 1, 2, 2]);
        sticky.move_on();
        sticky.took(1);
        assert!(sticky.may_stay(20, true) && !sticky.may_stay(20, false));
    }
}
