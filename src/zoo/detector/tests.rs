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
