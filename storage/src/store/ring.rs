//! Things that are open, in the order in which they were opened, each with a second chance before
//! it is closed (the CLOCK algorithm, Corbato 1968).

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// Something that is opened anew when it is needed.
pub(crate) trait Reopens {
    /// True if it was used since this was last asked.
    fn was_used(&self) -> bool;
    /// Closes it; false if it cannot be closed now.
    fn close(&self, effort: Effort) -> bool;
}

/// What may be done to close something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Nothing that waits for the disk.
    Quick,
    /// A sync first, if there is something to sync.
    Sync,
}

/// What is open.
pub(crate) struct Ring<T> {
    most: usize,
    open: Mutex<VecDeque<Weak<T>>>,
}

/// Things looked at for each that is opened: a few, so that opening stays cheap.
const LOOKS: usize = 8;

impl<T: Reopens> Ring<T> {
    /// Nothing is open, and `most` things may be.
    pub fn new(most: usize) -> Ring<T> {
        Ring { most, open: Mutex::new(VecDeque::new()) }
    }

    pub fn len(&self) -> usize {
        self.open.lock().len()
    }

    /// Takes note that this was opened, and closes something else if too much is open.
    pub fn opened(&self, item: &Arc<T>) {
        self.open.lock().push_back(Arc::downgrade(item));
        for _ in 0..LOOKS {
            let Some((oldest, effort)) = self.oldest_of_too_many() else { return };
            if oldest.was_used() || !oldest.close(effort) {
                self.open.lock().push_back(Arc::downgrade(&oldest));
            }
        }
    }

    /// Closes what was not used since the last sweep.
    pub fn sweep(&self) {
        let open = std::mem::take(&mut *self.open.lock());
        for item in open {
            let Some(alive) = item.upgrade() else { continue };
            if alive.was_used() || !alive.close(Effort::Sync) {
                self.open.lock().push_back(item);
            }
        }
    }

    fn oldest_of_too_many(&self) -> Option<(Arc<T>, Effort)> {
        let mut open = self.open.lock();
        while open.len() > self.most {
            // With twice as much open as may be, it is time to wait for the disk.
            let effort = if open.len() > 2 * self.most { Effort::Sync } else { Effort::Quick };
            let oldest = open.pop_front()?;
            if let Some(oldest) = oldest.upgrade() {
                return Some((oldest, effort));
            }
        }
        None
    }
}

impl<T> fmt::Debug for Ring<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("most", &self.most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Thing {
        open: AtomicBool,
        used: AtomicBool,
        stuck: AtomicBool,
    }

    impl Thing {
        fn open(ring: &Ring<Thing>) -> Arc<Thing> {
            let thing = Arc::new(Thing::default());
            thing.open.store(true, Ordering::Relaxed);
            ring.opened(&thing);
            thing
        }

        fn is_open(&self) -> bool {
            self.open.load(Ordering::Relaxed)
        }
    }

    impl Reopens for Thing {
        fn was_used(&self) -> bool {
            self.used.swap(false, Ordering::Relaxed)
        }

        fn close(&self, effort: Effort) -> bool {
            let closes = effort == Effort::Sync || !self.stuck.load(Ordering::Relaxed);
            self.open.fetch_and(!closes, Ordering::Relaxed);
            closes
        }
    }

    #[test]
    fn the_longest_unused_makes_room() {
        let ring = Ring::new(3);
        let things: Vec<_> = (0..3).map(|_| Thing::open(&ring)).collect();
        things[0].used.store(true, Ordering::Relaxed);
        let fourth = Thing::open(&ring);
        assert!(things[0].is_open() && !things[1].is_open() && things[2].is_open());
        assert!(fourth.is_open());
        assert_eq!(ring.len(), 3);
        drop(things);
        let _fifth = Thing::open(&ring);
        assert!(fourth.is_open(), "what is gone needs no place");
    }

    #[test]
    fn what_cannot_be_closed_at_once_is_closed_when_there_is_twice_too_much() {
        let ring = Ring::new(2);
        let stuck = |_| {
            let thing = Thing::open(&ring);
            thing.stuck.store(true, Ordering::Relaxed);
            thing
        };
        let things: Vec<_> = (0..20).map(stuck).collect();
        assert!(things.iter().filter(|thing| thing.is_open()).count() <= 5);
    }

    #[test]
    fn a_sweep_closes_what_was_not_used_since_the_last() {
        let ring = Ring::new(10);
        let (idle, busy) = (Thing::open(&ring), Thing::open(&ring));
        busy.used.store(true, Ordering::Relaxed);
        ring.sweep();
        assert!(!idle.is_open() && busy.is_open());
        ring.sweep();
        assert!(!busy.is_open());
        assert_eq!(ring.len(), 0);
    }
}
