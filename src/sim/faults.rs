//! What goes wrong, and when.

use std::time::Duration;

use super::message::Place;
use super::{Flush, Plan};
use mk_storage::disk::Chance;

/// Something that goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// `kill -9` of a broker, which comes back after so long.
    Kill(u32, Duration),
    /// A broker's machine loses its power.
    LosePower(u32, Duration),
    /// All of them do.
    LoseAllPower(Duration),
    /// A broker gets an empty disk.
    Wipe(u32, Duration),
    /// A broker is stopped in good order.
    Stop(u32),
    /// A process stands still: SIGSTOP, or a machine without time for it.
    Pause(Place, Duration),
    /// What one sends does not reach the other for so long.
    Cut { from: Place, to: Place, both_ways: bool, datagrams: bool, heals: Duration },
    /// Datagrams are lost, of 100 so many.
    Loss(u64),
    /// One message in so many takes long.
    Slow(u64),
    /// A broker's disk takes long to sync.
    SlowDisk(u32, Duration),
    /// The next sync of a partition on a broker fails.
    FailSync(u32, u32),
    /// A broker's disk has room for so many bytes more, for so long.
    FullDisk(u32, u64, Duration),
    /// A broker's time of day jumps, by so many milliseconds.
    ClockJump(u32, i64),
    /// The mini-zookeeper's process dies, and comes back.
    KillZoo(Duration),
    /// An operator deletes the oldest records of a partition.
    Trim(u32),
    /// An operator has the preferred replica lead.
    ElectPreferred(u32),
    /// An operator gives a partition other replicas.
    Move(u32, Vec<u32>),
}

impl Fault {
    /// One that chance picks.
    pub fn any(plan: &Plan, chance: &mut Chance) -> Fault {
        let ms = |chance: &mut Chance, from: u64, to: u64| {
            Duration::from_millis(from + chance.below(to - from))
        };
        let broker = 1 + chance.below(u64::from(plan.brokers)) as u32;
        let partition = chance.below(u64::from(plan.partitions)) as u32;
        let long = if chance.one_in(3) { 3000 } else { 600 };
        match chance.below(34) {
            0..=4 => Fault::Kill(broker, ms(chance, 5, long)),
            5..=7 => Fault::LosePower(broker, ms(chance, 5, long)),
            8 if plan.flush == Flush::Ack => Fault::LoseAllPower(ms(chance, 5, long)),
            9 => Fault::Wipe(broker, ms(chance, 5, long)),
            10..=11 => Fault::Stop(broker),
            12..=14 => Fault::Pause(Place::Broker(broker), ms(chance, 10, long)),
            15 => Fault::Pause(Place::Zoo, ms(chance, 10, long)),
            16..=21 => {
                let other = 1 + chance.below(u64::from(plan.brokers)) as u32;
                let to = if other == broker { Place::Zoo } else { Place::Broker(other) };
                let ends = [(Place::Broker(broker), to), (to, Place::Broker(broker))];
                let (from, to) = ends[chance.below(2) as usize];
                let (both_ways, datagrams) = (chance.one_in(2), chance.one_in(2));
                Fault::Cut { from, to, both_ways, datagrams, heals: ms(chance, 20, long) }
            }
            22 => Fault::Loss(10 + chance.below(40)),
            23 => Fault::Slow(2 + chance.below(60)),
            24..=25 => Fault::SlowDisk(broker, ms(chance, 100, 2000)),
            26 => Fault::FailSync(broker, partition),
            27 => Fault::KillZoo(ms(chance, 5, long)),
            28 => Fault::Trim(partition),
            29 if plan.brokers > 3 => {
                let first = chance.below(u64::from(plan.brokers)) as u32;
                let replicas = (0..3).map(|at| 1 + (first + at) % plan.brokers).collect();
                Fault::Move(partition, replicas)
            }
            30 => Fault::FullDisk(broker, chance.below(20_000), ms(chance, 100, 2000)),
            31 => Fault::ClockJump(broker, chance.below(7_200_000) as i64 - 3_600_000),
            _ => Fault::ElectPreferred(partition),
        }
    }
}
