//! Roads between brokers, and between brokers and mkzoo, that can be cut in either direction.
//!
//! Each broker advertises the address of a road to it, which others and clients take, and has a road
//! of its own to mkzoo. Who comes on a road is found out by the port that he comes from.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::datagrams::{Carrier, Weather};

/// Who is at an end of a road.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Broker(u32),
    Zoo,
    Client,
}

/// From whom to whom.
pub type Way = (Node, Node);

/// The state of all roads.
#[derive(Default)]
pub struct Links {
    state: Mutex<State>,
    healed: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Nothing passes; it is held, as by a network that comes back before TCP gives up.
    silent: BTreeSet<Way>,
    /// Connections between these end at once, in whichever direction they are named.
    refused: BTreeSet<Way>,
    weather: Weather,
    /// The process of each broker, to know its connections by.
    processes: BTreeMap<u32, u32>,
    open: Vec<(Way, [TcpStream; 2])>,
}

impl Links {
    /// What is sent this way is held until it is healed; datagrams are lost.
    pub fn silence(&self, way: Way) {
        self.state.lock().silent.insert(way);
    }

    /// Ends connections between these two, and those to come.
    pub fn refuse(&self, (one, other): Way) {
        let mut state = self.state.lock();
        state.refused.extend([(one, other), (other, one)]);
        let State { open, refused, .. } = &mut *state;
        open.retain(|(way, streams)| {
            let stays = !refused.contains(way);
            if !stays {
                close(streams);
            }
            stays
        });
    }

    /// Opens this way again.
    pub fn heal(&self, (from, to): Way) {
        let mut state = self.state.lock();
        state.silent.remove(&(from, to));
        state.refused.remove(&(from, to));
        state.refused.remove(&(to, from));
        self.healed.notify_all();
    }

    /// What happens to heartbeats from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.state.lock().weather = weather;
    }

    pub fn weather(&self) -> Weather {
        self.state.lock().weather
    }

    pub fn is_cut(&self, way: Way) -> bool {
        let state = self.state.lock();
        state.silent.contains(&way) || state.refused.contains(&way)
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Says which process is a broker's.
    pub fn set_process(&self, broker: u32, process: u32) {
        self.state.lock().processes.insert(broker, process);
    }

    /// All threads end, sooner or later.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.silent.clear();
        state.open.iter().for_each(|(_, streams)| close(streams));
        self.healed.notify_all();
    }

    /// Whose socket this is: a broker's, or else a client's.
    fn owner(&self, peer: SocketAddr) -> Node {
        let processes = self.state.lock().processes.clone();
        let Some(inode) = inode_of(peer.port()) else { return Node::Client };
        let socket = format!("socket:[{inode}]");
        let has_it = |process: u32| {
            let files = std::fs::read_dir(format!("/proc/{process}/fd"));
            let mut links = files.into_iter().flatten().flatten();
            links.any(|file| {
                std::fs::read_link(file.path()).is_ok_and(|to| to.as_os_str() == &*socket)
            })
        };
        let broker = processes.into_iter().find(|(_, process)| has_it(*process));
        broker.map_or(Node::Client, |(id, _)| Node::Broker(id))
    }

    /// Waits while nothing passes.
    fn wait_open(&self, way: Way) {
        let mut state = self.state.lock();
        while state.silent.contains(&way) && !self.is_stopped() {
            self.healed.wait(&mut state);
        }
    }

    /// Takes a connection into account, unless there must be none.
    fn admit(&self, way: Way, streams: [TcpStream; 2]) {
        let mut state = self.state.lock();
        // Those that have ended are forgotten from time to time.
        if state.open.len() % 64 == 63 {
            state.open.retain(|(_, streams)| streams.iter().all(|s| s.peer_addr().is_ok()));
        }
        if state.refused.contains(&way) || self.is_stopped() {
            close(&streams);
        }
        state.open.push((way, streams));
    }
}

/// The inode of the socket at a port of 127.0.0.1, by proc(5).
fn inode_of(port: u16) -> Option<u64> {
    let wanted = format!("0100007F:{port:04X}");
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut found = fields.filter(|fields| fields.get(1).is_some_and(|local| *local == wanted));
    found.find_map(|fields| fields.get(9)?.parse().ok().filter(|inode| *inode != 0))
}

fn close(streams: &[TcpStream; 2]) {
    for stream in streams {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

/// Where a road leads; known once the process there has a port.
pub type Target = Arc<Mutex<Option<String>>>;

/// Opens a road to a broker. Answers the address where it begins.
pub fn road_to_broker(links: &Arc<Links>, broker: u32, target: Target) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    serve(links.clone(), listener, target, Node::Broker(broker), None);
    address
}

/// Opens a broker's road to mkzoo, for connections and datagrams.
pub fn road_to_zoo(links: &Arc<Links>, broker: u32, zoo: &str, seed: u64) -> String {
    let (listener, near) = both_kinds();
    let address = listener.local_addr().unwrap().to_string();
    let target = Arc::new(Mutex::new(Some(zoo.to_owned())));
    serve(links.clone(), listener, target, Node::Zoo, Some(Node::Broker(broker)));
    Carrier::start(links.clone(), broker, near, zoo.parse().unwrap(), seed);
    address
}

/// A port that is free for both.
fn both_kinds() -> (TcpListener, UdpSocket) {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()) {
            return (listener, socket);
        }
    }
}

fn serve(links: Arc<Links>, listener: TcpListener, target: Target, to: Node, from: Option<Node>) {
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            if links.is_stopped() {
                return;
            }
            let (links, target) = (links.clone(), target.clone());
            std::thread::spawn(move || connect(&links, near, &target, to, from));
        }
    });
}

fn connect(links: &Arc<Links>, near: TcpStream, target: &Target, to: Node, from: Option<Node>) {
    let from = from.unwrap_or_else(|| near.peer_addr().map_or(Node::Client, |p| links.owner(p)));
    links.wait_open((from, to));
    // While there is nobody the connection ends, as if it had been refused.
    let Some(address) = target.lock().clone() else { return };
    let Ok(far) = TcpStream::connect(address) else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let copies = || Some([near.try_clone().ok()?, far.try_clone().ok()?]);
    let (Some(kept), Some([back_to, back_from])) = (copies(), copies()) else { return };
    links.admit((from, to), kept);
    let back = links.clone();
    std::thread::spawn(move || carry(&back, (to, from), back_from, back_to));
    carry(links, (from, to), near, far);
}

/// Carries bytes one way until the connection ends.
fn carry(links: &Links, way: Way, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer).unwrap_or(0);
        links.wait_open(way);
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

/// How long a thread that waits for datagrams does not look whether it must end.
pub const LOOK: Duration = Duration::from_millis(50);
