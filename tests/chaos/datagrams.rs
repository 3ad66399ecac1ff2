//! Bad weather for heartbeats: lost, doubled, reordered, replayed and forged.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use parking_lot::Mutex;

use super::links::{LOOK, Links, Node};
use super::random::Random;

/// What happens to datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weather {
    /// All come, once, in order.
    #[default]
    Fair,
    /// 30 of 100 are lost.
    Lossy,
    /// Half of them come twice, a third late.
    Shuffled,
    /// Old ones come again, of former lives too, and some with changed bytes.
    Forged,
}

/// So many old datagrams are kept for later.
const REMEMBERED: usize = 400;

/// Carries the datagrams of one broker.
pub struct Carrier {
    links: Arc<Links>,
    broker: Node,
    /// What brokers take for mkzoo.
    near: UdpSocket,
    /// What mkzoo takes for the broker.
    far: UdpSocket,
    zoo: SocketAddr,
    /// Where the broker was heard last.
    home: Mutex<Option<SocketAddr>>,
}

/// What one direction has.
struct Lane {
    random: Random,
    late: Vec<Vec<u8>>,
    old: VecDeque<Vec<u8>>,
}

impl Carrier {
    /// Carries until the links are stopped.
    pub fn start(links: Arc<Links>, broker: u32, near: UdpSocket, zoo: SocketAddr, seed: u64) {
        let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        for socket in [&near, &far] {
            socket.set_read_timeout(Some(LOOK)).unwrap();
        }
        let broker_node = Node::Broker(broker);
        let home = Mutex::new(None);
        let carrier = Arc::new(Carrier { links, broker: broker_node, near, far, zoo, home });
        for outward in [true, false] {
            let carrier = carrier.clone();
            let random = Random::new(seed ^ (u64::from(broker) << 1) ^ u64::from(outward));
            std::thread::spawn(move || carrier.run(outward, random));
        }
    }

    fn run(&self, outward: bool, random: Random) {
        let mut lane = Lane { random, late: Vec::new(), old: VecDeque::new() };
        let mut buffer = [0; 2000];
        let way = if outward { (self.broker, Node::Zoo) } else { (Node::Zoo, self.broker) };
        let socket = if outward { &self.near } else { &self.far };
        while !self.links.is_stopped() {
            let Ok((count, from)) = socket.recv_from(&mut buffer) else { continue };
            if outward {
                *self.home.lock() = Some(from);
            }
            let leaving = lane.pass(&buffer[..count], self.links.weather());
            if self.links.is_cut(way) {
                continue;
            }
            for bytes in leaving {
                // Nobody may be there.
                let _ = match (outward, *self.home.lock()) {
                    (true, _) => self.far.send_to(&bytes, self.zoo),
                    (false, Some(home)) => self.near.send_to(&bytes, home),
                    (false, None) => Ok(0),
                };
            }
        }
    }
}

impl Lane {
    /// What goes on its way when this datagram comes.
    fn pass(&mut self, bytes: &[u8], weather: Weather) -> Vec<Vec<u8>> {
        self.old.push_back(bytes.to_vec());
        // Half of the memory is for what is long ago.
        if self.old.len() > REMEMBERED {
            self.old.remove(REMEMBERED / 2);
        }
        let mut leaving = Vec::new();
        match weather {
            Weather::Fair => leaving.push(bytes.to_vec()),
            Weather::Lossy if self.random.chance(30) => {}
            Weather::Lossy => leaving.push(bytes.to_vec()),
            Weather::Shuffled if self.random.chance(33) => self.late.push(bytes.to_vec()),
            Weather::Shuffled => {
                let times = 1 + self.random.below(2);
                leaving.extend((0..times).map(|_| bytes.to_vec()));
            }
            Weather::Forged => {
                leaving.push(bytes.to_vec());
                let mut old = self.old[self.random.below(self.old.len() as u64) as usize].clone();
                if self.random.chance(50) {
                    let place = self.random.below(old.len().max(1) as u64) as usize;
                    old[place] ^= 1 << self.random.below(8);
                }
                leaving.push(old);
            }
        }
        if weather != Weather::Shuffled || self.random.chance(30) {
            // The newest of those that are late comes first.
            leaving.extend(self.late.drain(..).rev());
        }
        leaving
    }
}
