//! mkzoo as a process of its own, brokers that only register and beat, and a road between them.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mk::zoo::beat::Beat;
use mk::zoo::events::What;
use mk::zoo::message::{Description, Request, Response};
use mk::zoo::node::NodeHandle;
use mk::zoo::session::{AskError, Follower, Me, Session};
use mk::zoo::state::{BrokerEpoch, ClusterState, Delta, Restart};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use uuid::Uuid;

use crate::common::wait_until;
use crate::topic;

const DEADLINE: Duration = Duration::from_secs(20);

/// A running `mkzoo`. It is killed when this is dropped, and its data goes.
pub struct Zoo {
    root: tempfile::TempDir,
    child: Child,
    pub flags: Vec<String>,
    pub address: String,
    /// The line that it printed when it was ready.
    pub ready: String,
}

impl Zoo {
    pub fn start() -> Zoo {
        Zoo::start_with(&[])
    }

    /// One for which nobody is silent for too long only because the machine is busy.
    pub fn patient() -> Zoo {
        Zoo::start_with(&["--set", "broker.session.timeout.ms=5s"])
    }

    pub fn start_with(flags: &[&str]) -> Zoo {
        let root = tempfile::tempdir().unwrap();
        let flags: Vec<String> = flags.iter().map(|flag| flag.to_string()).collect();
        let (child, address, ready) = run(&root.path().join("zoo"), "127.0.0.1:0", &flags);
        Zoo { root, child, flags, address, ready }
    }

    fn data(&self) -> PathBuf {
        self.root.path().join("zoo")
    }

    /// Another one on the same directory.
    pub fn command(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mkzoo"));
        command.arg("--data").arg(self.data()).args(flags);
        command
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; it must end in good order.
    pub fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
    }

    /// Begins again at the same address.
    pub fn restart(&mut self) {
        (self.child, self.address, self.ready) = run(&self.data(), &self.address, &self.flags);
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    pub fn copy(&self, from: &str, to: &str) {
        std::fs::copy(self.data().join(from), self.data().join(to)).unwrap();
    }

    pub fn remove(&self, file: &str) {
        std::fs::remove_file(self.data().join(file)).unwrap();
    }

    /// True if it has heard of all these within two heartbeats, or nearly.
    pub fn hears(&self, by: &Member, ids: &[u32]) -> bool {
        let Ok(description) = by.describe() else { return false };
        let heard = description.brokers.iter().filter(|broker| {
            ids.contains(&broker.id) && broker.heard_ago_ms.is_some_and(|ago| ago < 60)
        });
        heard.count() == ids.len()
    }

    pub fn ignored(&self, by: &Member) -> u64 {
        by.describe().unwrap().ignored_datagrams
    }
}

impl Drop for Zoo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(data: &std::path::Path, listen: &str, flags: &[String]) -> (Child, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mkzoo"));
    command.arg("--data").arg(data).args(["--listen", listen]).args(flags);
    command.env("MKZOO_LOG", "warn").stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    let address = ready.split_once("ready on ").expect(&ready).1;
    let address = address.split_once(',').expect(&ready).0.to_owned();
    (child, address, ready)
}

/// Tells [`process`] where the zookeeper is.
pub const ADDRESS: &str = "MK_TEST_ZOO_ADDRESS";

/// Broker 3 as a process of its own, to be killed.
pub fn process(zoo: &Zoo) -> Killed {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_broker_to_be_killed", "--ignored"]).env(ADDRESS, &zoo.address);
    Killed(command.stdout(Stdio::null()).spawn().unwrap())
}

/// A process that does not outlive the test, whatever becomes of it.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A broker that does nothing but be one.
pub struct Member {
    pub me: Me,
    pub session: Session,
    pub beat: Option<Beat>,
    pub seen: Arc<Mutex<Seen>>,
}

/// What a member was told.
#[derive(Default)]
pub struct Seen {
    pub epoch: Option<BrokerEpoch>,
    pub state: Option<ClusterState>,
    pub registered: usize,
    pub lost: usize,
}

struct Watching(Arc<Mutex<Seen>>);

impl Follower for Watching {
    fn registered(&mut self, epoch: BrokerEpoch, state: &ClusterState) {
        let mut seen = self.0.lock();
        (seen.epoch, seen.state) = (Some(epoch), Some(state.clone()));
        seen.registered += 1;
    }

    fn changed(&mut self, state: &ClusterState, delta: &Delta) {
        let mut seen = self.0.lock();
        assert_eq!(seen.state.as_ref().map(|state| state.version), Some(delta.after));
        seen.state = Some(state.clone());
    }

    fn lost(&mut self) {
        self.0.lock().lost += 1;
    }
}

impl Member {
    /// One that begins to register.
    pub fn registering(zoo: &Zoo, id: u32) -> Member {
        Member::registering_at(&zoo.address, id)
    }

    fn registering_at(zoo: &str, id: u32) -> Member {
        Member::new(id, |me, follower| Session::remote(zoo.to_owned(), me, follower))
    }

    /// One in the process of its zookeeper.
    pub fn local(node: &NodeHandle, id: u32) -> Member {
        Member::new(id, |me, follower| Session::local(node, me, follower))
    }

    fn new(
        id: u32,
        start: impl FnOnce(Me, Box<dyn Follower>) -> std::io::Result<Session>,
    ) -> Member {
        let me = Me {
            id,
            incarnation: Uuid::new_v4(),
            address: format!("127.0.0.1:{}", 9000 + id),
            rack: None,
            restart: Restart::Kept,
            cluster_id: None,
            seen_version: 0,
        };
        let seen = Arc::new(Mutex::new(Seen::default()));
        let follower = Box::new(Watching(seen.clone()));
        let session = start(me.clone(), follower).unwrap();
        Member { me, session, beat: None, seen }
    }

    /// One that is ready once it has registered.
    pub fn ready(zoo: &Zoo, id: u32) -> Member {
        Member::ready_by(zoo, id, &zoo.address)
    }

    /// The same, with its heartbeats going to another address.
    pub fn ready_by(zoo: &Zoo, id: u32, beats_to: &str) -> Member {
        Member::ready_at(&zoo.address, id, beats_to)
    }

    pub fn ready_at(zoo: &str, id: u32, beats_to: &str) -> Member {
        let mut member = Member::registering_at(zoo, id);
        member.wait_registered(1);
        member.begin_to_beat(beats_to);
        member
    }

    pub fn begin_to_beat(&mut self, to: &str) {
        let beat = Beat::start(to.to_owned(), &self.session, || Duration::ZERO).unwrap();
        beat.ready();
        self.beat = Some(beat);
    }

    pub fn state(&self) -> ClusterState {
        self.seen.lock().state.clone().unwrap()
    }

    pub fn wait_registered(&self, times: usize) {
        wait_until("it is registered", || self.seen.lock().registered >= times);
    }

    pub fn wait(&self, what: &str, holds: impl Fn(&ClusterState) -> bool) {
        wait_until(what, || self.seen.lock().state.as_ref().is_some_and(&holds));
    }

    /// Asks what must be done.
    pub fn ask(&self, request: Request) {
        let answer = self.session.ask_blocking(request, DEADLINE).unwrap();
        assert!(matches!(answer, Response::Done { .. }), "{answer:?}");
    }

    pub fn try_create(&self, name: &str) -> Result<Response, AskError> {
        self.session.ask_blocking(Request::Command(topic(name)), DEADLINE)
    }

    /// The topic is in the member's copy of the state when this returns.
    pub fn create(&self, name: &str) {
        let answer = self.try_create(name).unwrap();
        assert!(matches!(answer, Response::Done { .. }), "{answer:?}");
        assert!(self.state().topics.contains_key(name));
    }

    pub fn events(&self) -> Vec<What> {
        let events = Request::Events { after: 0, most: 10_000 };
        match self.session.ask_blocking(events, DEADLINE) {
            Ok(Response::Events(events)) => events.into_iter().map(|event| event.what).collect(),
            other => panic!("{other:?}"),
        }
    }

    pub fn describe(&self) -> Result<Description, AskError> {
        match self.session.ask_blocking(Request::Describe, DEADLINE)? {
            Response::Description(description) => Ok(description),
            other => panic!("{other:?}"),
        }
    }
}

/// A road for connections to the zookeeper, which can all be cut at once.
pub struct Connections {
    pub address: String,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Connections {
    pub fn start(to: &str) -> Connections {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let open = Arc::new(Mutex::new(Vec::new()));
        let (zoo, opened) = (to.to_owned(), open.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().map(Result::unwrap) {
                let Ok(far) = TcpStream::connect(&zoo) else { return };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                }
                opened.lock().extend([near, far]);
            }
        });
        Connections { address, open }
    }

    pub fn cut(&self) {
        for stream in self.open.lock().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// A road for datagrams between brokers and the zookeeper: some are lost on it, all beats are
/// recorded.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Road>,
}

#[derive(Default)]
struct Road {
    dropped: AtomicU64,
    recorded: Mutex<Vec<Vec<u8>>>,
    stop: AtomicBool,
}

impl Proxy {
    pub fn start(to: &str, mut passes: impl FnMut(&[u8]) -> bool + Send + 'static) -> Proxy {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let proxy = Proxy { address: socket.local_addr().unwrap(), shared: Arc::default() };
        let (road, zoo) = (proxy.shared.clone(), to.to_owned());
        std::thread::spawn(move || {
            let mut brokers = std::collections::HashMap::new();
            let mut buffer = [0; 2000];
            while !road.stop.load(Ordering::Relaxed) {
                let Ok((count, from)) = socket.recv_from(&mut buffer) else { continue };
                let bytes = &buffer[..count];
                let (is_beat, id) = (bytes[5] == 1, bytes[24]);
                if is_beat {
                    brokers.insert(id, from);
                    road.recorded.lock().push(bytes.to_vec());
                }
                if !passes(bytes) {
                    road.dropped.fetch_add(1, Ordering::Relaxed);
                } else if is_beat {
                    let _ = socket.send_to(bytes, &zoo);
                } else if let Some(broker) = brokers.get(&id) {
                    let _ = socket.send_to(bytes, broker);
                }
            }
        });
        proxy
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn dropped(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// The beats that have come by, the first hundred.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.shared.recorded.lock().iter().take(100).cloned().collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}
