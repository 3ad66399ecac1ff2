//! Hears the brokers' heartbeats, answers them, and runs the detector, on a thread of its own.
//!
//! A broker whose process seems to be gone is asked over a *connected* socket: if its port is closed
//! the kernel says so at once (`ECONNREFUSED`), and nobody has to wait. It is asked over the
//! zookeeper's own port as well, which is the one that firewalls know.

mod peer;

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use peer::Peer;
use uuid::Uuid;

use super::detector::{Beat, Detector, Patience, Verdict};
use super::heartbeat::{Datagram, Key, Kind, LEN, claimed_broker};
use super::node::NodeHandle;
use super::readable::wait_readable;
use super::state::{BrokerEpoch, ClusterState};

/// Who is heard of. The node tells it who registers and whose connection ends.
#[derive(Debug)]
pub struct Watch {
    origin: Instant,
    grace: Duration,
    ignored: AtomicU64,
    heard: Mutex<Heard>,
}

#[derive(Debug)]
struct Heard {
    cluster_id: Uuid,
    detector: Detector,
    peers: BTreeMap<u32, Peer>,
}

/// What the detector wants, and how long before the broker was heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is to be done.
    pub verdict: Verdict,
    /// The broker's silence.
    pub heard_ago: Option<Duration>,
}

/// The thread that hears.
#[derive(Debug)]
pub struct Watcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// The detector looks at the time at least so often.
const TICK: Duration = Duration::from_millis(10);
/// The node looks at the time so often.
const NODE_TICK: Duration = Duration::from_secs(1);
/// Datagrams that are read before it does: more are the work of somebody who floods the port.
const MOST_AT_ONCE: usize = 1024;
/// Brokers that were alive when the zookeeper began have at least so long to register again.
const LEAST_GRACE: Duration = Duration::from_secs(2);

impl Watch {
    /// One that has heard of nobody.
    pub fn new(patience: Patience) -> Watch {
        let detector = Detector::new(patience, Duration::ZERO);
        let heard = Heard { cluster_id: Uuid::nil(), detector, peers: BTreeMap::new() };
        Watch {
            origin: Instant::now(),
            grace: patience.session.max(LEAST_GRACE),
            ignored: AtomicU64::new(0),
            heard: Mutex::new(heard),
        }
    }

    /// Expects those who were alive when the zookeeper ended: they need a new key to be heard, so
    /// they have longer than the session timeout.
    pub(super) fn begin(&self, state: &ClusterState) {
        let now = self.origin.elapsed();
        let mut heard = self.heard.lock();
        heard.cluster_id = state.cluster_id;
        for (id, broker) in state.brokers.iter().filter(|(_, broker)| !broker.fenced) {
            heard.detector.expect(*id, broker.epoch, now, now + self.grace);
        }
    }

    /// A broker is registered: from now on its beats bear this key.
    pub(super) fn registered(&self, id: u32, epoch: BrokerEpoch, fenced: bool, key: Key) {
        let mut heard = self.heard.lock();
        heard.detector.watch(id, epoch, fenced, self.origin.elapsed());
        heard.peers.insert(id, Peer { epoch, key, address: None, probes: 0, probe: None });
    }

    /// A broker seems to be gone; true if that is news.
    pub(super) fn suspect(&self, id: u32) -> bool {
        self.heard.lock().detector.suspect(id, self.origin.elapsed()).is_some()
    }

    /// How long ago a broker was heard of, and if it seems to be gone.
    pub(super) fn describe(&self, id: u32) -> (Option<Duration>, bool) {
        let heard = self.heard.lock();
        let ago = heard.ago(id, self.origin.elapsed());
        (ago, heard.detector.suspects().any(|suspect| suspect == id))
    }

    /// Datagrams that were none of ours, forged, old or doubled.
    pub fn ignored(&self) -> u64 {
        self.ignored.load(Ordering::Relaxed)
    }

    /// Takes a datagram; what is to be answered, and what is to be done.
    fn receive(&self, bytes: &[u8], from: SocketAddr) -> (Option<[u8; LEN]>, Option<Finding>) {
        let received = self.heard.lock().receive(bytes, from, self.origin.elapsed());
        if received.0.is_none() {
            self.ignored.fetch_add(1, Ordering::Relaxed);
        }
        received
    }

    /// Looks at the time, and at who was asked.
    fn tick(&self, socket: &UdpSocket) -> Vec<Finding> {
        let now = self.origin.elapsed();
        let mut heard = self.heard.lock();
        let mut verdicts = heard.ask_suspects(socket, now);
        verdicts.extend(heard.detector.tick(now));
        verdicts.into_iter().map(|verdict| heard.finding(verdict, now)).collect()
    }

    /// How long nothing needs to be done unless a datagram comes, and where else one may come.
    fn pause(&self) -> (Duration, Vec<Arc<UdpSocket>>) {
        let heard = self.heard.lock();
        let deadline = heard.detector.next_deadline().unwrap_or(Duration::MAX);
        let left = deadline.saturating_sub(self.origin.elapsed());
        let probes =
            heard.peers.values().filter_map(|peer| Some(peer.probe.as_ref()?.socket.clone()));
        (left.min(TICK), probes.collect())
    }
}

impl Heard {
    fn ago(&self, id: u32, now: Duration) -> Option<Duration> {
        Some(now.saturating_sub(self.detector.last_heard(id)?))
    }

    fn finding(&self, verdict: Verdict, now: Duration) -> Finding {
        let (Verdict::Probe { id } | Verdict::Fence { id, .. } | Verdict::Unfence { id, .. }) =
            verdict;
        Finding { verdict, heard_ago: self.ago(id, now) }
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        from: SocketAddr,
        now: Duration,
    ) -> (Option<[u8; LEN]>, Option<Finding>) {
        let opened = || {
            let id = claimed_broker(bytes)?;
            let peer = self.peers.get(&id)?;
            let datagram = Datagram::open(bytes, &peer.key).ok()?;
            let (kind, cluster_id) = (datagram.kind, datagram.cluster_id);
            (kind == Kind::Beat && cluster_id == self.cluster_id).then_some(datagram)
        };
        let Some(datagram) = opened() else { return (None, None) };
        let beat = Beat {
            id: datagram.broker,
            epoch: datagram.epoch,
            number: datagram.number,
            stalled: Duration::from_millis(datagram.stalled_ms.into()),
        };
        if !self.detector.is_news(beat) {
            return (None, None);
        }
        let ago = self.ago(beat.id, now);
        let verdict = self.detector.heard(beat, now);
        let Some(peer) = self.peers.get_mut(&beat.id) else { return (None, None) };
        if peer.address.replace(from) != Some(from) {
            peer.probe = None;
        }
        let answer = Datagram { kind: Kind::Answer, ..datagram }.seal(&peer.key);
        (Some(answer), verdict.map(|verdict| Finding { verdict, heard_ago: ago }))
    }

    /// Asks those who seem to be gone, again and again; fences those whose port is closed.
    fn ask_suspects(&mut self, socket: &UdpSocket, now: Duration) -> Vec<Verdict> {
        let suspects: Vec<u32> = self.detector.suspects().collect();
        for (_, peer) in self.peers.iter_mut().filter(|(id, _)| !suspects.contains(id)) {
            peer.probe = None;
        }
        let mut verdicts = Vec::new();
        for id in suspects {
            let Some(peer) = self.peers.get_mut(&id) else { continue };
            if peer.is_closed() || peer.ask(id, self.cluster_id, socket, now) {
                peer.probe = None;
                verdicts.extend(self.detector.gone(id));
            }
        }
        verdicts
    }
}

impl Watcher {
    /// Hears what comes to this socket, and tells the node.
    pub fn start(watch: Arc<Watch>, socket: UdpSocket, node: NodeHandle) -> io::Result<Watcher> {
        socket.set_nonblocking(true)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("mk-heartbeats".to_owned());
        let thread = thread.spawn(move || run(&watch, &socket, &node, &stopped))?;
        Ok(Watcher { stop, thread: Some(thread) })
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(watch: &Watch, socket: &UdpSocket, node: &NodeHandle, stop: &AtomicBool) {
    let mut ticked = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let (pause, probes) = watch.pause();
        let probes = probes.iter().map(Arc::as_ref);
        wait_readable(std::iter::once(socket).chain(probes), pause);
        let mut findings = Vec::new();
        let mut buffer = [0; LEN + 1];
        // Before the time is looked at: what waits here was heard in time, only not listened to.
        for _ in 0..MOST_AT_ONCE {
            let (count, from) = match socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // Of a datagram that was sent before, and says nothing of this one.
                Err(_) => continue,
            };
            let (answer, finding) = watch.receive(&buffer[..count], from);
            if let Some(answer) = answer {
                let _ = socket.send_to(&answer, from);
            }
            findings.extend(finding);
        }
        findings.extend(watch.tick(socket));
        for finding in findings {
            node.found(finding);
        }
        if ticked.elapsed() >= NODE_TICK {
            ticked = Instant::now();
            node.tick();
        }
    }
}
