//! Where the newest batches of a segment begin: most readers are near the end of a log, and need no
//! search in an index on the disk.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::Position;

/// Batches remembered: a consumer that waits at the end is behind by the batches of one fetch.
const BATCHES: usize = 32;
const EMPTY: u64 = u64::MAX;

/// The newest batches of a segment, each as its relative base offset and its position, which fit in
/// 31 bits both and are stored at once. One thread writes, any may read.
#[derive(Debug)]
pub(crate) struct Recent {
    next: AtomicUsize,
    batches: [AtomicU64; BATCHES],
}

impl Recent {
    pub fn new() -> Recent {
        Recent { next: AtomicUsize::new(0), batches: [const { AtomicU64::new(EMPTY) }; BATCHES] }
    }

    /// Takes note of a batch, before the end of the segment is published behind it.
    pub fn note(&self, relative_offset: u64, position: Position) {
        debug_assert!(relative_offset < 1 << 31 && position.0 < 1 << 31);
        let at = self.next.fetch_add(1, Ordering::Relaxed) % BATCHES;
        let entry = relative_offset << 32 | position.0;
        if let Some(slot) = self.batches.get(at) {
            slot.store(entry, Ordering::Release);
        }
    }

    /// Where the last batch begins, of those before `end`, whose base offset is `relative_offset` or
    /// less; none if it is not remembered.
    pub fn find(&self, relative_offset: u64, end: Position) -> Option<Position> {
        let entries = self.batches.iter().map(|slot| slot.load(Ordering::Acquire));
        let known = entries.filter(|entry| *entry != EMPTY);
        let batches = known.map(|entry| (entry >> 32, Position(entry & u64::from(u32::MAX))));
        let fits = batches.filter(|(offset, at)| *offset <= relative_offset && *at < end);
        fits.max().map(|(_, position)| position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_batches_are_found() {
        let recent = Recent::new();
        let end = Position(1_000_000);
        assert_eq!(recent.find(5, end), None);
        for n in 0..100 {
            recent.note(n * 10, Position(n * 500));
        }
        assert_eq!(recent.find(995, end), Some(Position(99 * 500)));
        assert_eq!(recent.find(990, end), Some(Position(99 * 500)));
        assert_eq!(recent.find(989, end), Some(Position(98 * 500)));
        assert_eq!(recent.find(995, Position(99 * 500)), Some(Position(98 * 500)));
        assert_eq!(recent.find(680, end), Some(Position(68 * 500)));
        assert_eq!(recent.find(679, end), None, "too long ago");
    }
}
