//! What a broker fetches from which leader, and when. Pure: the time comes in, orders go out.
//!
//! Each leader is asked over lanes:
//!
//! * **live**: partitions in sync of which the last answer brought something. One request at a time is
//!   under way for all of them, and waits at the leader for a moment only;
//! * **idle**: the others in sync, so that thousands that are quiet are not asked for with each that
//!   moves. A few requests are under way, and wait for long. What becomes quiet while all of them are
//!   stays with those that move;
//! * **catch-up**: partitions that are not in sync. What they bring is much, and must not be in the way
//!   of the others.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::zoo::state::LeaderEpoch;

/// A kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What moves.
    Live,
    /// What does not move.
    Idle,
    /// What is far behind.
    CatchUp,
}

/// A request to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Whom to ask.
    pub leader: u32,
    /// Over which lane.
    pub lane: Lane,
    /// For which partitions, by serial number, and in which epoch of their leader.
    pub parts: Vec<(u64, LeaderEpoch)>,
}

/// What became of a part of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It brought something.
    Moved,
    /// It brought nothing.
    Quiet,
    /// It is to be tried again later.
    Failed,
    /// Its log takes nothing any more.
    Broken,
}

/// All that a broker follows.
#[derive(Debug, Default)]
pub struct Fetcher {
    parts: BTreeMap<u64, Part>,
    /// How many requests are under way.
    under_way: BTreeMap<(u32, Lane), usize>,
    /// Which partition is asked for first: an answer is filled in the order of its parts.
    turn: usize,
}

#[derive(Clone, Debug)]
struct Part {
    leader: u32,
    epoch: LeaderEpoch,
    in_sync: bool,
    moving: bool,
    state: State,
    failures: u32,
    /// Bytes a second that it may bring until it is in sync.
    throttle: Option<u64>,
    /// What it has brought is paid for by then.
    not_before: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    UnderWay,
    /// What it brought is not synced yet.
    Syncing,
    /// Not before this time.
    Later(Duration),
    Broken,
}

/// Idle requests to one leader at once.
const IDLE_REQUESTS: usize = 4;
/// Most partitions of one request.
const MOST_PARTS: usize = 5000;
/// So long a partition that has begun to move may have to wait until it is asked for.
const SHORT_WAIT: Duration = Duration::from_millis(10);
/// Answers a second that a throttled partition comes in, at most.
const THROTTLED_ANSWERS: u64 = 10;
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

impl Fetcher {
    /// Follows a leader in this epoch; `in_sync` if the zookeeper counts this broker among those in
    /// sync.
    pub fn follow(&mut self, serial: u64, leader: u32, epoch: LeaderEpoch, in_sync: bool) {
        let fresh = Part {
            leader,
            epoch,
            in_sync,
            moving: true,
            state: State::Ready,
            failures: 0,
            throttle: None,
            not_before: Duration::ZERO,
        };
        let part = self.parts.entry(serial).or_insert(fresh.clone());
        if part.epoch < epoch {
            // What is under way is for another epoch, and comes to nothing; a sync is still awaited.
            let state = if part.state == State::Syncing { State::Syncing } else { State::Ready };
            *part = Part { state, ..fresh };
        }
        part.in_sync = in_sync;
    }

    /// Lets a partition bring at most so many bytes a second until it is in sync. What it has brought at
    /// another rate counts as paid for.
    pub fn throttle(&mut self, serial: u64, rate: Option<u64>) {
        let Some(part) = self.parts.get_mut(&serial) else { return };
        let rate = rate.filter(|_| !part.in_sync);
        if part.throttle != rate {
            part.throttle = rate;
            part.not_before = Duration::ZERO;
        }
    }

    /// The most bytes of a partition that are to be asked for at once, of `most`.
    pub fn most_bytes(&self, serial: u64, most: u64) -> u64 {
        let rate = self.parts.get(&serial).and_then(|part| part.throttle);
        rate.map_or(most, |rate| most.min(rate / THROTTLED_ANSWERS).max(1))
    }

    /// A partition has brought so much.
    pub fn brought(&mut self, serial: u64, bytes: u64, now: Duration) {
        let Some(part) = self.parts.get_mut(&serial) else { return };
        if let Some(rate) = part.throttle {
            let time = Duration::from_secs_f64(bytes as f64 / rate as f64);
            part.not_before = part.not_before.max(now) + time;
        }
    }

    /// Follows nobody any more.
    pub fn leave(&mut self, serial: u64) {
        self.parts.remove(&serial);
    }

    /// A request to be made now, if there is one.
    pub fn next(&mut self, now: Duration) -> Option<Order> {
        let ready = self.parts.values().filter(|part| part.is_ready(now));
        let mut places = ready.map(|part| (part.leader, self.lane_of(part)));
        let (leader, lane) = places.find(|(leader, lane)| self.is_free(*leader, *lane))?;
        let mine =
            |part: &Part| part.is_ready(now) && part.leader == leader && self.lane_of(part) == lane;
        let mut serials: Vec<u64> =
            self.parts.iter().filter(|(_, part)| mine(part)).map(|(serial, _)| *serial).collect();
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn % serials.len();
        serials.rotate_left(turn);
        serials.truncate(MOST_PARTS);
        let mut order = Order { leader, lane, parts: Vec::with_capacity(serials.len()) };
        for serial in serials {
            if let Some(part) = self.parts.get_mut(&serial) {
                part.state = State::UnderWay;
                order.parts.push((serial, part.epoch));
            }
        }
        *self.under_way.entry((leader, lane)).or_default() += 1;
        Some(order)
    }

    fn lane_of(&self, part: &Part) -> Lane {
        match (part.in_sync, part.moving) {
            (false, _) => Lane::CatchUp,
            (true, false) if self.is_free(part.leader, Lane::Idle) => Lane::Idle,
            (true, _) => Lane::Live,
        }
    }

    fn is_free(&self, leader: u32, lane: Lane) -> bool {
        let most = if lane == Lane::Idle { IDLE_REQUESTS } else { 1 };
        self.under_way.get(&(leader, lane)).is_none_or(|count| *count < most)
    }

    /// The next request over this lane may be made.
    pub fn landed(&mut self, order: &Order) {
        if let Some(count) = self.under_way.get_mut(&(order.leader, order.lane)) {
            *count = count.saturating_sub(1);
        }
    }

    /// What became of a part that was asked for in `epoch`.
    pub fn came(&mut self, serial: u64, epoch: LeaderEpoch, outcome: Outcome, now: Duration) {
        let Some(part) = self.parts.get_mut(&serial) else { return };
        if part.epoch != epoch || part.state != State::UnderWay {
            return;
        }
        part.moving = outcome == Outcome::Moved;
        part.failures = if outcome == Outcome::Failed { part.failures + 1 } else { 0 };
        part.state = match outcome {
            Outcome::Moved | Outcome::Quiet => State::Ready,
            Outcome::Failed => State::Later(now + pause(part.failures)),
            Outcome::Broken => State::Broken,
        };
    }

    /// What it has is to be synced before more is fetched. What is under way already stays so: of a
    /// partition there is one request at a time.
    pub fn syncs(&mut self, serial: u64) {
        if let Some(part) = self.parts.get_mut(&serial)
            && !matches!(part.state, State::Broken | State::UnderWay)
        {
            part.state = State::Syncing;
        }
    }

    /// What it has is synced.
    pub fn synced(&mut self, serial: u64) {
        if let Some(part) = self.parts.get_mut(&serial)
            && part.state == State::Syncing
        {
            part.state = State::Ready;
        }
    }

    /// When something is to be tried again, or may bring more.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let later = |part: &Part| match part.state {
            State::Later(at) => Some(at.max(part.not_before)),
            State::Ready => Some(part.not_before),
            State::UnderWay | State::Syncing | State::Broken => None,
        };
        // What could be asked for by now waits for its lane.
        self.parts.values().filter_map(later).filter(|at| *at > now).min()
    }
}

impl Lane {
    /// How long a request may wait at the leader; `idle` where nothing has come for a while.
    pub fn max_wait(self, idle: Duration) -> Duration {
        if self == Lane::Idle { idle } else { SHORT_WAIT.min(idle) }
    }
}

impl Part {
    fn is_ready(&self, now: Duration) -> bool {
        match self.state {
            State::Ready => self.not_before <= now,
            State::Later(at) => at.max(self.not_before) <= now,
            State::UnderWay | State::Syncing | State::Broken => false,
        }
    }
}

fn pause(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10));
    doubled.min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: LeaderEpoch = LeaderEpoch(3);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn serials(order: &Option<Order>) -> Option<(u32, Lane, Vec<u64>)> {
        let order = order.as_ref()?;
        let mut serials: Vec<u64> = order.parts.iter().map(|(serial, _)| *serial).collect();
        serials.sort();
        Some((order.leader, order.lane, serials))
    }

    /// Partitions 1 to 5 of leader 7, of which 5 is far behind, and 6 of leader 8.
    fn fetcher() -> Fetcher {
        let mut fetcher = Fetcher::default();
        for serial in 1..=5 {
            fetcher.follow(serial, 7, EPOCH, serial < 5);
        }
        fetcher.follow(6, 8, EPOCH, true);
        fetcher
    }

    #[test]
    fn what_moves_is_asked_for_without_what_does_not() {
        let mut fetcher = fetcher();
        let live = fetcher.next(ms(0));
        assert_eq!(serials(&live), Some((7, Lane::Live, vec![1, 2, 3, 4])));
        assert_eq!(serials(&fetcher.next(ms(0))), Some((7, Lane::CatchUp, vec![5])));
        assert_eq!(serials(&fetcher.next(ms(0))), Some((8, Lane::Live, vec![6])));
        assert_eq!(fetcher.next(ms(0)), None);
        fetcher.landed(&live.unwrap());
        for serial in 1..=4 {
            let outcome = if serial == 2 { Outcome::Moved } else { Outcome::Quiet };
            fetcher.came(serial, EPOCH, outcome, ms(1));
        }
        let idle = fetcher.next(ms(1));
        assert_eq!(serials(&idle), Some((7, Lane::Idle, vec![1, 3, 4])));
        assert_eq!(serials(&fetcher.next(ms(1))), Some((7, Lane::Live, vec![2])));
    }

    /// A partition that had become quiet was not asked for until the request for the others had
    /// waited to its end.
    #[test]
    fn what_becomes_quiet_is_asked_for_at_once() {
        let mut fetcher = Fetcher::default();
        for serial in 1..=10 {
            fetcher.follow(serial, 7, EPOCH, true);
            let live = fetcher.next(ms(0)).unwrap();
            assert_eq!(live.lane, Lane::Live);
            fetcher.landed(&live);
            for (serial, epoch) in live.parts {
                fetcher.came(serial, epoch, Outcome::Quiet, ms(0));
            }
            let next = serials(&fetcher.next(ms(0))).unwrap();
            assert!(next.2.contains(&serial), "{next:?}");
            if next.1 == Lane::Live {
                assert!(serial > IDLE_REQUESTS as u64);
                break;
            }
        }
    }

    #[test]
    fn what_is_not_synced_is_not_asked_for() {
        let mut fetcher = fetcher();
        let order = fetcher.next(ms(0)).unwrap();
        fetcher.landed(&order);
        for (serial, epoch) in order.parts {
            fetcher.came(serial, epoch, Outcome::Moved, ms(1));
            fetcher.syncs(serial);
        }
        fetcher.synced(3);
        fetcher.synced(4);
        let next =
            std::iter::from_fn(|| fetcher.next(ms(1))).find(|order| order.lane == Lane::Live);
        assert_eq!(serials(&next), Some((7, Lane::Live, vec![3, 4])));
    }

    #[test]
    fn failures_wait_longer_and_longer_and_a_new_leader_does_not() {
        let mut fetcher = Fetcher::default();
        fetcher.follow(1, 7, EPOCH, true);
        let mut now = ms(0);
        for expected in [10, 20, 40, 80, 160, 320, 320] {
            let order = fetcher.next(now).unwrap();
            fetcher.landed(&order);
            fetcher.came(1, EPOCH, Outcome::Failed, now);
            assert_eq!(fetcher.next_deadline(now), Some(now + ms(expected)));
            assert_eq!(fetcher.next(now), None);
            now += ms(expected);
        }
        let old = fetcher.next(now).unwrap();
        fetcher.follow(1, 8, LeaderEpoch(4), true);
        assert_eq!(serials(&fetcher.next(now)), Some((8, Lane::Live, vec![1])));
        fetcher.landed(&old);
        fetcher.came(1, EPOCH, Outcome::Failed, now);
        assert_eq!(fetcher.next_deadline(now), None, "what the old leader says does not count");
    }

    #[test]
    fn what_is_throttled_waits_until_it_is_paid_for() {
        let mut fetcher = Fetcher::default();
        fetcher.follow(1, 7, EPOCH, false);
        fetcher.throttle(1, Some(1_000_000));
        assert_eq!(fetcher.most_bytes(1, 4_000_000), 100_000);
        let mut now = ms(0);
        for _ in 0..20 {
            let order = fetcher.next(now).unwrap();
            fetcher.landed(&order);
            fetcher.brought(1, 100_000, now);
            fetcher.came(1, EPOCH, Outcome::Moved, now);
            fetcher.syncs(1);
            fetcher.synced(1);
            assert_eq!(fetcher.next(now), None);
            now = fetcher.next_deadline(now).unwrap();
        }
        assert_eq!(now, ms(2000), "2 MB at 1 MB a second");
        // Once it is in sync it must keep up.
        let order = fetcher.next(now).unwrap();
        fetcher.landed(&order);
        fetcher.brought(1, 100_000, now);
        fetcher.came(1, EPOCH, Outcome::Moved, now);
        fetcher.follow(1, 7, EPOCH, true);
        fetcher.throttle(1, Some(1_000_000));
        assert_eq!(serials(&fetcher.next(now)), Some((7, Lane::Live, vec![1])));
        assert_eq!(fetcher.most_bytes(1, 4_000_000), 4_000_000);
    }

    /// A move that was given a higher rate went on waiting for what it had brought at the lower one: for
    /// hours.
    #[test]
    fn another_throttle_holds_at_once() {
        let mut fetcher = Fetcher::default();
        fetcher.follow(1, 7, EPOCH, false);
        fetcher.throttle(1, Some(100));
        let order = fetcher.next(ms(0)).unwrap();
        fetcher.landed(&order);
        fetcher.brought(1, 1_000_000, ms(0));
        fetcher.came(1, EPOCH, Outcome::Moved, ms(0));
        fetcher.throttle(1, Some(100));
        assert_eq!(fetcher.next(ms(1)), None, "the same again changes nothing");
        fetcher.throttle(1, Some(1_000_000));
        assert_eq!(serials(&fetcher.next(ms(1))), Some((7, Lane::CatchUp, vec![1])));
    }

    /// A partition that had caught up was asked for twice at once: its answer had been appended and was
    /// synced before the request counted as done. The second answer came late, and cut the log.
    #[test]
    fn of_a_partition_one_request_is_under_way() {
        let mut fetcher = Fetcher::default();
        fetcher.follow(1, 7, EPOCH, false);
        let catch_up = fetcher.next(ms(0)).unwrap();
        fetcher.follow(1, 7, EPOCH, true);
        fetcher.syncs(1);
        fetcher.synced(1);
        assert_eq!(fetcher.next(ms(1)), None);
        fetcher.landed(&catch_up);
        fetcher.came(1, EPOCH, Outcome::Moved, ms(1));
        fetcher.syncs(1);
        fetcher.synced(1);
        assert_eq!(serials(&fetcher.next(ms(1))), Some((7, Lane::Live, vec![1])));
    }

    #[test]
    fn a_log_that_is_broken_is_left_alone() {
        let mut fetcher = Fetcher::default();
        fetcher.follow(1, 7, EPOCH, true);
        let order = fetcher.next(ms(0)).unwrap();
        fetcher.landed(&order);
        fetcher.came(1, EPOCH, Outcome::Broken, ms(0));
        fetcher.syncs(1);
        fetcher.synced(1);
        assert_eq!((fetcher.next(ms(9000)), fetcher.next_deadline(ms(0))), (None, None));
    }
}
