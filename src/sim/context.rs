//! What everybody in the simulation has at hand: the time, chance, the network, the oracle.

use std::time::Duration;

use mk_storage::disk::Chance;

use super::Plan;
use super::message::{Class, Message, Place};
use super::oracle::Oracle;
use super::trace::Trace;

/// What an actor has at hand while it acts.
pub struct Context<'a> {
    pub now: Duration,
    pub plan: &'a Plan,
    pub chance: &'a mut Chance,
    pub oracle: &'a mut Oracle,
    pub trace: &'a mut Trace,
    /// The next number of a request or a session, of which no two are the same.
    pub numbers: &'a mut u64,
    /// How far the time of day at this place is off, in milliseconds.
    pub skew_ms: i64,
    pub out: Vec<Action>,
}

/// What an actor wants done.
#[derive(Debug)]
pub enum Action {
    Send(Place, Class, Message),
    /// To be woken; never after the end of its present life.
    Wake(Duration, Wake),
}

/// What an actor wanted to be woken for.
#[derive(Clone, Debug)]
pub enum Wake {
    /// The mini-zookeeper looks at the time.
    Tick,
    /// What the mini-zookeeper has written is on its disk.
    Committed,
    /// A broker registers.
    Register,
    /// A broker beats.
    Beat,
    /// A broker makes its disk follow the state, up to this version.
    Reconcile(u64),
    /// A broker syncs a partition.
    Flush(u32),
    /// A broker looks at requests and fetches that wait.
    Look,
    /// A broker looks who has fallen behind.
    Shrink,
    /// A broker asks again for what it was not answered.
    AskAgain(u64),
    /// A request has not been answered for long.
    GiveUp(u64),
    /// An answer that was much has been taken in.
    Landed(u64),
    /// A broker that has handed over stops.
    Stop,
    /// A client goes on.
    Next,
}

impl Context<'_> {
    pub fn send(&mut self, to: Place, class: Class, message: Message) {
        self.out.push(Action::Send(to, class, message));
    }

    pub fn wake(&mut self, after: Duration, wake: Wake) {
        self.out.push(Action::Wake(after, wake));
    }

    /// A number that nobody else has.
    pub fn number(&mut self) -> u64 {
        *self.numbers += 1;
        *self.numbers
    }

    /// A time between two, in microseconds.
    pub fn between(&mut self, from_us: u64, to_us: u64) -> Duration {
        Duration::from_micros(from_us + self.chance.below(to_us - from_us + 1))
    }

    /// The time of day as it is here, in milliseconds.
    pub fn now_ms(&self) -> i64 {
        10_000_000 + self.skew_ms + self.now.as_millis() as i64
    }
}
