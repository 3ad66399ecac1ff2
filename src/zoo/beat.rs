//! A broker's heartbeats, on a thread of their own: nothing that holds the broker up holds them up,
//! and they tell how long it has been held up.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::heartbeat::{Datagram, Kind, LEN};
use super::readable::{any_local, wait_readable};
use super::session::{Credentials, Session, Status};

/// The heartbeats of a broker. They end when this is dropped.
#[derive(Debug)]
pub struct Beat {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    origin: Instant,
    ready: AtomicBool,
    stop: AtomicBool,
    /// When the last beat that was answered had been sent, in microseconds; 0: none was.
    heard_us: AtomicU64,
}

/// Until there is something to beat for, it is looked so often.
const UNREADY: Duration = Duration::from_millis(5);
/// Datagrams that are read before the next beat may be due.
const MOST_AT_ONCE: usize = 64;

impl Beat {
    /// Begins to beat to the zookeeper at HOST:PORT once [`Beat::ready`] is called and the session is
    /// registered. `stalled` says how long the slowest event loop or disk has owed an answer.
    pub fn start(
        address: String,
        session: &Session,
        stalled: impl Fn() -> Duration + Send + 'static,
    ) -> io::Result<Beat> {
        let shared = Arc::new(Shared {
            origin: Instant::now(),
            ready: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            heard_us: AtomicU64::new(0),
        });
        let heart = Heart {
            address,
            status: session.status(),
            stalled,
            shared: shared.clone(),
            bound: None,
            sent: 0,
            answered: 0,
            probed: 0,
            due: Duration::ZERO,
        };
        let thread = std::thread::Builder::new().name("mk-beat".to_owned());
        let thread = Some(thread.spawn(move || heart.run())?);
        Ok(Beat { shared, thread })
    }

    /// The broker has applied the state and may lead. The first beat of a life says so.
    pub fn ready(&self) {
        self.shared.ready.store(true, Ordering::Relaxed);
    }

    /// How old the newest beat is that the zookeeper has answered, from when it was sent; `None` if
    /// none was answered yet.
    pub fn heard_ago(&self) -> Option<Duration> {
        let heard = self.shared.heard_us.load(Ordering::Relaxed);
        let heard = (heard > 0).then(|| Duration::from_micros(heard))?;
        Some(self.shared.origin.elapsed().saturating_sub(heard))
    }
}

impl Drop for Beat {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread has. Invariant: `answered <= sent`.
struct Heart<S> {
    address: String,
    status: Arc<Mutex<Status>>,
    stalled: S,
    shared: Arc<Shared>,
    bound: Option<Bound>,
    /// Numbers of the last beat, and of the last one that was answered. They grow over registrations.
    sent: u64,
    answered: u64,
    /// Of the last probe with this key.
    probed: u64,
    /// When to beat next.
    due: Duration,
}

/// A registration, and the socket for it.
struct Bound {
    credentials: Credentials,
    socket: UdpSocket,
    to: SocketAddr,
}

impl<S: Fn() -> Duration> Heart<S> {
    fn run(mut self) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.bind();
            if self.bound.is_none() || !self.shared.ready.load(Ordering::Relaxed) {
                std::thread::sleep(UNREADY);
                continue;
            }
            if self.shared.origin.elapsed() >= self.due {
                self.beat();
            }
            self.listen();
        }
    }

    /// Takes up a new registration. An address that cannot be found is looked for again.
    fn bind(&mut self) {
        let Some(credentials) = self.status.lock().credentials.clone() else { return };
        if self.bound.as_ref().is_some_and(|bound| bound.credentials == credentials) {
            return;
        }
        let find = || -> io::Result<(SocketAddr, UdpSocket)> {
            let to = self.address.to_socket_addrs()?.next().ok_or(io::ErrorKind::NotFound)?;
            // Not connected: probes come from another port of the zookeeper. The tag says whose
            // a datagram is.
            let socket = UdpSocket::bind(any_local(to))?;
            socket.set_nonblocking(true)?;
            Ok((to, socket))
        };
        if let Ok((to, socket)) = find() {
            self.bound = Some(Bound { credentials, socket, to });
            (self.probed, self.due) = (0, Duration::ZERO);
        }
    }

    fn beat(&mut self) {
        let Some(Bound { credentials, socket, to }) = &self.bound else { return };
        let now = self.shared.origin.elapsed();
        self.sent += 1;
        let beat = Datagram {
            kind: Kind::Beat,
            cluster_id: credentials.cluster_id,
            broker: credentials.id,
            epoch: credentials.epoch,
            number: self.sent,
            time_us: now.as_micros() as u64,
            stalled_ms: (self.stalled)().as_millis().try_into().unwrap_or(u32::MAX),
        };
        // What is lost is lost: the next one follows soon.
        let _ = socket.send_to(&beat.seal(&credentials.key), to);
        self.due = now + credentials.interval;
    }

    /// Until the next beat is due, or something has come.
    fn listen(&mut self) {
        let Some(bound) = &self.bound else { return };
        let left = self.due.saturating_sub(self.shared.origin.elapsed());
        wait_readable(std::iter::once(&bound.socket), left);
        let mut buffer = [0; LEN + 1];
        let mut asked = false;
        for _ in 0..MOST_AT_ONCE {
            let count = match bound.socket.recv(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => continue,
            };
            let Ok(found) = Datagram::open(&buffer[..count], &bound.credentials.key) else {
                continue;
            };
            match found.kind {
                Kind::Answer if (self.answered + 1..=self.sent).contains(&found.number) => {
                    self.answered = found.number;
                    self.shared.heard_us.store(found.time_us.max(1), Ordering::Relaxed);
                }
                Kind::Probe if found.number > self.probed => {
                    (self.probed, asked) = (found.number, true);
                }
                _ => {}
            }
        }
        if asked {
            self.beat();
        }
    }
}
