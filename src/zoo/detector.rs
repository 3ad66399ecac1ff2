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

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        session: Duration::from_millis(200),
        suspicion: Duration::from_millis(30),
        stall: Duration::from_secs(1),
    };
    const EPOCH: BrokerEpoch = BrokerEpoch(5);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn beat(id: u32, number: u64) -> Beat {
        Beat { id, epoch: EPOCH, number, stalled: Duration::ZERO }
    }

    /// Brokers 1 to 3, heard of at time 0.
    fn detector() -> Detector {
        let mut detector = Detector::new(PATIENCE, ms(0));
        for id in 1..=3 {
            detector.watch(id, EPOCH, true, ms(0));
            let unfence = Some(Verdict::Unfence { id, epoch: EPOCH });
            assert_eq!(detector.heard(beat(id, 1), ms(0)), unfence);
        }
        detector
    }

    /// Lets time pass in small steps; what is said, and when.
    fn run(detector: &mut Detector, from: u64, to: u64, beating: &[u32]) -> Vec<(u64, Verdict)> {
        let mut said = Vec::new();
        for now in from..to {
            if now % 25 == 0 {
                let beats = beating.iter().map(|id| beat(*id, 2 + now));
                said.extend(beats.filter_map(|beat| Some((now, detector.heard(beat, ms(now))?))));
            }
            said.extend(detector.tick(ms(now)).into_iter().map(|verdict| (now, verdict)));
        }
        said
    }

    #[test]
    fn who_is_silent_is_fenced_in_time_and_comes_back() {
        let mut detector = detector();
        let why = Reason::Silent(ms(200));
        let fence = Verdict::Fence { id: 2, epoch: EPOCH, why };
        assert_eq!(run(&mut detector, 0, 1000, &[1, 3]), [(200, fence)]);
        let back = Verdict::Unfence { id: 2, epoch: EPOCH };
        assert_eq!(run(&mut detector, 1000, 2000, &[1, 2, 3]), [(1000, back)]);
    }

    #[test]
    fn who_seems_to_be_gone_is_asked_and_fenced_soon() {
        let mut detector = detector();
        assert_eq!(run(&mut detector, 0, 100, &[1, 2, 3]), []);
        assert_eq!(detector.suspect(2, ms(100)), Some(Verdict::Probe { id: 2 }));
        assert_eq!(detector.suspect(2, ms(101)), None, "once");
        let fence = Verdict::Fence { id: 2, epoch: EPOCH, why: Reason::Gone };
        assert_eq!(run(&mut detector, 100, 300, &[1, 3]), [(130, fence)]);

        let mut detector = self::detector();
        detector.suspect(2, ms(10));
        assert_eq!(detector.heard(beat(2, 9), ms(20)), None);
        assert_eq!(run(&mut detector, 25, 200, &[1, 2, 3]), [], "it has answered");
    }

    #[test]
    fn whose_port_is_closed_is_fenced_at_once_but_only_if_it_was_suspected() {
        let mut detector = detector();
        assert_eq!(detector.gone(2), None);
        detector.suspect(2, ms(10));
        assert_eq!(detector.suspects().collect::<Vec<_>>(), [2]);
        let fence = Verdict::Fence { id: 2, epoch: EPOCH, why: Reason::Gone };
        assert_eq!(detector.gone(2), Some(fence));
        assert_eq!((detector.gone(2), detector.suspects().count()), (None, 0), "once");
        detector.suspect(3, ms(10));
        detector.heard(beat(3, 9), ms(12));
        assert_eq!(detector.gone(3), None, "it has answered");
        let mut detector = self::detector();
        detector.suspect(3, ms(10));
        detector.heard(beat(3, 2), ms(11));
        assert_eq!(detector.suspects().collect::<Vec<_>>(), [3], "that may have been under way");
        detector.heard(beat(3, 3), ms(12));
        assert_eq!(detector.gone(3), None, "it lives");
        detector.suspect(3, ms(20));
        detector.watch(3, EPOCH, false, ms(30));
        assert_eq!(detector.gone(3), None, "it has registered again");
        assert_eq!(detector.tick(ms(60)), []);
    }

    #[test]
    fn who_was_alive_before_the_detector_has_longer() {
        let mut detector = Detector::new(PATIENCE, ms(0));
        detector.expect(1, EPOCH, ms(0), ms(2000));
        detector.expect(2, EPOCH, ms(0), ms(2000));
        // Held up at its start: that is no reason to be less patient.
        assert_eq!(detector.tick(ms(500)), []);
        detector.watch(1, EPOCH, false, ms(600));
        assert_eq!(run(&mut detector, 600, 1999, &[1]), []);
        let why = Reason::Silent(ms(2000));
        let fence = Verdict::Fence { id: 2, epoch: EPOCH, why };
        assert_eq!(run(&mut detector, 1999, 3000, &[1]), [(2000, fence)]);
    }

    #[test]
    fn the_past_the_doubled_and_the_dead_do_not_count() {
        let mut detector = detector();
        assert_eq!(run(&mut detector, 0, 100, &[1, 2, 3]), []);
        for now in 100..400 {
            let old = Beat { epoch: BrokerEpoch(4), ..beat(2, 1_000_000) };
            for beat in [beat(2, 77), beat(2, 1), old] {
                assert_eq!(detector.heard(beat, ms(now)), None);
            }
            detector.heard(beat(1, 1000 + now), ms(now));
            detector.heard(beat(3, 1000 + now), ms(now));
            let fenced = detector.tick(ms(now));
            assert_eq!(fenced.is_empty(), now != 275, "at {now}");
        }
        detector.watch(2, BrokerEpoch(9), true, ms(400));
        assert_eq!(detector.heard(beat(2, 5000), ms(401)), None, "of the life before");
    }

    #[test]
    fn a_detector_that_was_held_up_does_not_fence_the_world() {
        let mut detector = detector();
        assert_eq!(run(&mut detector, 0, 100, &[1, 2, 3]), []);
        assert_eq!(detector.tick(ms(5000)), []);
        assert_eq!(run(&mut detector, 5001, 6000, &[1, 2]).len(), 1, "the third is silent indeed");
    }

    #[test]
    fn who_beats_and_does_not_work_is_fenced() {
        let mut detector = detector();
        let stuck = |number| Beat { stalled: ms(1200), ..beat(1, number) };
        let why = Reason::Stalled(ms(1200));
        let fence = Verdict::Fence { id: 1, epoch: EPOCH, why };
        assert_eq!(detector.heard(stuck(2), ms(10)), Some(fence));
        assert_eq!(detector.heard(stuck(3), ms(20)), None, "told");
        let back = Verdict::Unfence { id: 1, epoch: EPOCH };
        assert_eq!(detector.heard(beat(1, 4), ms(30)), Some(back));
    }
}
