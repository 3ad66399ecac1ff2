//! A cluster in one thread, from one seed: what the binaries decide by, [`crate::zoo::state`],
//! [`crate::zoo::detector`], [`crate::broker::replication`] and the log, with a network, disks, machines
//! and a clock that do what chance says. The same seed, the same run.
//!
//! * [`world`]: the time, and who is woken when; what goes wrong ([`faults`]), how messages travel
//!   ([`network`]).
//! * [`zoo`], [`host`] with its [`process`] (which [`serve`]s and [`follow`]s), [`client`]: the actors.
//! * [`oracle`]: what must hold. It looks after every step at every record that a replica takes for
//!   committed, and at each answer that a client gets.
//!
//! What is not simulated: sockets and their frames, threads, the mini-zookeeper's file, whole-topic
//! changes. Those are tested with real processes.

mod client;
mod context;
mod faults;
mod follow;
mod host;
mod message;
mod network;
mod oracle;
mod process;
mod serve;
#[cfg(test)]
mod tests;
mod trace;
mod world;
mod zoo;

use std::collections::BTreeMap;
use std::time::Duration;

use self::world::World;

/// The one topic.
const TOPIC: &str = "t";

/// When records are synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Before they are acknowledged: `flush=ack`.
    Ack,
    /// When the operating system likes: `flush=os`.
    Os,
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Plan {
    /// All that is left to chance follows from it.
    pub seed: u64,
    /// When records are synced.
    pub flush: Flush,
    /// How many brokers, three at least; a partition has three replicas.
    pub brokers: u32,
    /// How many partitions.
    pub partitions: u32,
    /// So long things go wrong, in simulated time.
    pub trouble: Duration,
    /// So many milliseconds lie between two faults, on average.
    pub pace_ms: u64,
    /// True to print what happens.
    pub prints: bool,
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The first thing that was not as it must be.
    pub violation: Option<String>,
    /// Two runs that did the same have the same.
    pub trace_hash: u64,
    /// Events in the trace.
    pub events: u64,
    /// Records whose producers were told that they are committed.
    pub acknowledged: u64,
    /// Those of them that are gone at the end.
    pub lost: u64,
    /// Leaders, over all partitions.
    pub elections: u64,
    /// What went wrong how often.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Plan {
    /// The plan of a seed: its number decides what kind of run it is.
    pub fn of(seed: u64) -> Plan {
        Plan {
            seed,
            flush: if seed.is_multiple_of(4) { Flush::Os } else { Flush::Ack },
            brokers: if seed.is_multiple_of(5) { 5 } else { 3 },
            partitions: 1 + u32::from(seed.is_multiple_of(3)),
            trouble: Duration::from_secs(6),
            pace_ms: 30 + 30 * (seed % 7),
            prints: false,
        }
    }
}

/// Time in which a cluster that is left alone must come to rest.
const REST: Duration = Duration::from_secs(60);

/// Runs a plan.
pub fn run(plan: &Plan) -> Outcome {
    let mut world = World::new(plan);
    world.begin();
    world.trouble(world.now + plan.trouble);
    if world.oracle.violation.is_none() && !world.mend(world.now + REST) {
        let (now, unrest) = (world.now, world.unrest());
        world
            .oracle
            .broken(now, &format!("left alone, the cluster does not come to rest\n{unrest}"));
    }
    if world.oracle.violation.is_none() {
        world.look_at_rest();
    }
    outcome(world)
}

/// Runs a cluster in peace, has all machines lose their power at once, and counts what is lost. Where
/// nobody can be elected without loss, an operator has somebody elected all the same.
pub fn lose_power_everywhere(plan: &Plan) -> Outcome {
    let mut world = World::new(plan);
    world.begin();
    world.oracle.loss_allowed = plan.flush == Flush::Os;
    let quiet = world.now + plan.trouble;
    world.run_until(quiet, |_| false);
    world.lose_all_power(Duration::from_millis(200));
    let back = world.now + Duration::from_secs(3);
    world.run_until(back, |_| false);
    if plan.flush == Flush::Os {
        world.elect_unclean();
    }
    if !world.mend(world.now + REST) && !world.oracle.loss_allowed {
        let (now, unrest) = (world.now, world.unrest());
        world
            .oracle
            .broken(now, &format!("left alone, the cluster does not come to rest\n{unrest}"));
    }
    outcome(world)
}

fn outcome(mut world: World) -> Outcome {
    let (events, trace_hash) = world.trace.finish();
    Outcome {
        violation: world.oracle.violation.take(),
        trace_hash,
        events,
        acknowledged: world.oracle.acknowledged(),
        lost: world.lost(),
        elections: world.oracle.elections,
        faults: std::mem::take(&mut world.injected),
    }
}
