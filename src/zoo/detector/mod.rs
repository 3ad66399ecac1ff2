//! Which brokers are alive, by what is heard of them. Pure: time comes in, verdicts go out.
//!
//! A broker beats some twenty times a second. One that is silent for the session timeout is fenced.
//! When its process seems to be gone (its connection was reset, its port is unreachable) it is asked
//! at once, and fenced if it does not answer in a fraction of that time. One that beats but does not
//! work is fenced as well.
//!
//! What is heard counts only if it is newer than all that was heard before, by (broker epoch, number
//! of the beat): datagrams come late, twice, and from the past.
//!
//! When the detector itself was held up it does not know who was silent: everybody gets the whole
//! timeout again.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::state::BrokerEpoch;

/// How patient a detector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// `broker.session.timeout.ms`: a broker that is silent for so long is fenced.
    pub session: Duration,
    /// A broker whose process seems to be gone has so long to answer.
    pub suspicion: Duration,
    /// A broker whose event loops or disk have stood still for so long is fenced, though it beats.
    pub stall: Duration,
}

/// A heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Beat {
    /// Of which broker.
    pub id: u32,
    /// In which of its lives.
    pub epoch: BrokerEpoch,
    /// Larger than that of the beat before.
    pub number: u64,
    /// How long its slowest event loop or disk has owed an answer.
    pub stalled: Duration,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Ask the broker whether it lives.
    Probe {
        /// Which.
        id: u32,
    },
    /// The broker is not to lead, nor to be in sync.
    Fence {
        /// Which.
        id: u32,
        /// Which life of it.
        epoch: BrokerEpoch,
        /// Why.
        why: Reason,
    },
    /// The broker is heard of again, and works.
    Unfence {
        /// Which.
        id: u32,
        /// Which life of it.
        epoch: BrokerEpoch,
    },
}

/// Why a broker is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// It was silent for so long.
    Silent(Duration),
    /// Its process seemed to be gone, and it did not answer.
    Gone,
    /// It beats but does not work: something has stood still for so long.
    Stalled(Duration),
}

/// Watches brokers.
#[derive(Clone, Debug)]
pub struct Detector {
    patience: Patience,
    watched: BTreeMap<u32, Watched>,
    /// When it last looked at the time.
    last_tick: Duration,
}

/// A broker that is watched. Invariant: `heard <= deadline`.
#[derive(Clone, Copy, Debug)]
struct Watched {
    epoch: BrokerEpoch,
    number: u64,
    heard: Duration,
    deadline: Duration,
    suspected: bool,
    /// Of the first beat that is sure to be later than the suspicion.
    answer: u64,
    fenced: bool,
}

impl Detector {
    /// One that watches nobody yet.
    pub fn new(patience: Patience, now: Duration) -> Detector {
        Detector { patience, watched: BTreeMap::new(), last_tick: now }
    }

    /// Watches this life of a broker from now on; it has the whole timeout to be heard of. To register
    /// again is a sign of life as well.
    pub fn watch(&mut self, id: u32, epoch: BrokerEpoch, fenced: bool, now: Duration) {
        let deadline = now + self.patience.session;
        let (number, answer, suspected) = (0, 0, false);
        let fresh = Watched { epoch, number, heard: now, deadline, suspected, answer, fenced };
        let known = self.watched.entry(id).or_insert(fresh);
        if known.epoch < epoch {
            *known = fresh;
        } else if known.epoch == epoch {
            known.suspected = false;
            known.deadline = known.deadline.max(deadline);
        }
    }

    /// Watches a broker that was alive before this detector was: it has until then to be heard of.
    pub fn expect(&mut self, id: u32, epoch: BrokerEpoch, now: Duration, until: Duration) {
        self.watch(id, epoch, false, now);
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.deadline = until.max(watched.deadline);
        }
    }

    /// A heartbeat that is known to be the broker's own.
    pub fn heard(&mut self, beat: Beat, now: Duration) -> Option<Verdict> {
        self.is_news(beat).then(|| self.count(beat, now))?
    }

    /// True if the beat is newer than all that was heard of the broker.
    pub fn is_news(&self, beat: Beat) -> bool {
        let watched = self.watched.get(&beat.id);
        watched.is_some_and(|known| known.epoch == beat.epoch && known.number < beat.number)
    }

    fn count(&mut self, beat: Beat, now: Duration) -> Option<Verdict> {
        let Beat { id, epoch, number, stalled } = beat;
        let watched = self.watched.get_mut(&id)?;
        watched.number = number;
        watched.heard = now;
        if stalled >= self.patience.stall {
            let why = Reason::Stalled(stalled);
            let told = std::mem::replace(&mut watched.fenced, true);
            return (!told).then_some(Verdict::Fence { id, epoch, why });
        }
        if watched.suspected && number < watched.answer {
            return None;
        }
        watched.deadline = now + self.patience.session;
        watched.suspected = false;
        let was_fenced = std::mem::replace(&mut watched.fenced, false);
        was_fenced.then_some(Verdict::Unfence { id, epoch })
    }

    /// The broker's connection was reset, or its port is unreachable.
    pub fn suspect(&mut self, id: u32, now: Duration) -> Option<Verdict> {
        let watched = self.watched.get_mut(&id)?;
        if watched.fenced || watched.suspected {
            return None;
        }
        watched.suspected = true;
        // The next one may have been under way when the process died.
        watched.answer = watched.number + 2;
        watched.deadline = watched.deadline.min(now + self.patience.suspicion);
        Some(Verdict::Probe { id })
    }

    /// The broker's port is closed. That fences it if its process seemed to be gone before; a
    /// network may say so of a broker that lives.
    pub fn gone(&mut self, id: u32) -> Option<Verdict> {
        let watched = self.watched.get_mut(&id).filter(|w| w.suspected && !w.fenced)?;
        watched.fenced = true;
        Some(Verdict::Fence { id, epoch: watched.epoch, why: Reason::Gone })
    }

    /// Who was asked whether it lives, and has neither answered nor been fenced.
    pub fn suspects(&self) -> impl Iterator<Item = u32> {
        let suspects =
            self.watched.iter().filter(|(_, watched)| watched.suspected && !watched.fenced);
        suspects.map(|(id, _)| *id)
    }

    /// When the broker was last heard of, or began to be watched.
    pub fn last_heard(&self, id: u32) -> Option<Duration> {
        Some(self.watched.get(&id)?.heard)
    }

    /// Looks at the time: to be called at [`Detector::next_deadline`], and every now and then, so that
    /// the detector notices when it is held up.
    pub fn tick(&mut self, now: Duration) -> Vec<Verdict> {
        let session = self.patience.session;
        if now.saturating_sub(self.last_tick) > session / 2 {
            for watched in self.watched.values_mut() {
                watched.deadline = watched.deadline.max(now + session);
            }
        }
        self.last_tick = now;
        let late = self.watched.iter_mut().filter(|(_, w)| !w.fenced && w.deadline <= now);
        let fence = |(id, watched): (&u32, &mut Watched)| {
            watched.fenced = true;
            let silent = Reason::Silent(now.saturating_sub(watched.heard));
            let why = if watched.suspected { Reason::Gone } else { silent };
            Verdict::Fence { id: *id, epoch: watched.epoch, why }
        };
        late.map(fence).collect()
    }

    /// When somebody is fenced who is not heard of until then.
    pub fn next_deadline(&self) -> Option<Duration> {
        let alive = self.watched.values().filter(|watched| !watched.fenced);
        alive.map(|watched| watched.deadline).min()
    }
}
