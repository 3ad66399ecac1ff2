//! A connection with its socket.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use crate::connection::{Connection, ConnectionLimits};
use crate::outgoing::Transmit;
use crate::sendfile;

pub(super) struct Socket {
    pub stream: TcpStream,
    /// The other end; none if it was gone before it could be asked.
    pub peer: Option<SocketAddr>,
    pub connection: Connection,
    pub generation: u64,
    /// It is one more than are served.
    pub surplus: bool,
    /// True until the kernel says `WouldBlock`.
    pub readable: bool,
    /// True once the kernel has told of the end of what the client sends; it tells that once.
    pub read_closed: bool,
    pub writable: bool,
    /// True once the service knows that the client sends no more.
    pub end_told: bool,
    /// True while it is in the loop's list of sockets with work.
    pub queued: bool,
    pub last_active: Instant,
    /// Set once our side has ended: what still comes is thrown away until then, since to close a
    /// socket with unread bytes resets it and takes the last answer from the client.
    pub lingering: Option<Linger>,
    /// Set while the connection is held: until then.
    pub held_until: Option<Instant>,
}

pub(super) struct Linger {
    until: Instant,
    bytes_left: usize,
}

/// What became of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The kernel has no more for now.
    Blocked,
    /// There may be more.
    Again,
    /// The socket is to be closed.
    Over,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sent {
    pub memory: u64,
    pub file: u64,
}

/// Most that is sent on one socket before the others have their turn.
const SEND_SHARE: u64 = 4 << 20;
const LINGER_TIME: Duration = Duration::from_secs(1);
/// Reads before the others have their turn.
const LINGER_READS: usize = 64;
const LINGER_BYTES: usize = 256 << 20;

impl Socket {
    pub fn new(
        stream: TcpStream,
        limits: ConnectionLimits,
        generation: u64,
        now: Instant,
    ) -> Socket {
        Socket {
            peer: stream.peer_addr().ok(),
            stream,
            connection: Connection::new(limits),
            generation,
            surplus: false,
            readable: false,
            read_closed: false,
            writable: true,
            end_told: false,
            queued: false,
            last_active: now,
            lingering: None,
            held_until: None,
        }
    }

    /// Reads once. Answers how many bytes came.
    pub fn read(&mut self) -> (Step, usize) {
        let space = self.connection.space();
        let size = space.len();
        match self.stream.read(space) {
            Ok(count) => {
                self.connection.received(count);
                // A short read has emptied the socket; the next edge will tell of more.
                if count == 0 || (count < size && !self.read_closed) {
                    self.readable = false;
                }
                (if self.readable { Step::Again } else { Step::Blocked }, count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                (Step::Blocked, 0)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (Step::Again, 0),
            Err(_) => (Step::Over, 0),
        }
    }

    /// Sends what is queued, as far as the kernel takes it.
    pub fn flush(&mut self, sent: &mut Sent) -> io::Result<Step> {
        let mut left = SEND_SHARE;
        while self.writable {
            let (result, is_file) = match self.connection.transmit() {
                None => return Ok(Step::Blocked),
                Some(Transmit::Bytes { slices, more }) => {
                    (sendfile::send(&self.stream, &slices, more), false)
                }
                Some(Transmit::File(range)) => match sendfile::send_file(&self.stream, range) {
                    Ok(0) => {
                        let what = format!("the file ended {} bytes too early", range.length);
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, what));
                    }
                    result => (result, true),
                },
            };
            match result {
                Ok(count) => {
                    let count = count as u64;
                    self.connection.sent(count);
                    *(if is_file { &mut sent.file } else { &mut sent.memory }) += count;
                    left = left.saturating_sub(count);
                    if left == 0 {
                        return Ok(Step::Again);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Ok(Step::Over),
            }
        }
        Ok(Step::Blocked)
    }

    /// Ends our side of a refused connection.
    pub fn begin_linger(&mut self, now: Instant) {
        let _ = self.stream.shutdown(Shutdown::Write);
        self.lingering = Some(Linger { until: now + LINGER_TIME, bytes_left: LINGER_BYTES });
    }

    /// Throws away what comes.
    pub fn linger(&mut self, now: Instant) -> Step {
        let Some(linger) = &mut self.lingering else { return Step::Over };
        let mut scratch = [0; 16 << 10];
        for _ in 0..LINGER_READS {
            if now >= linger.until || linger.bytes_left == 0 {
                return Step::Over;
            }
            match self.stream.read(&mut scratch) {
                Ok(0) => return Step::Over,
                Ok(count) => linger.bytes_left = linger.bytes_left.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Step::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Step::Over,
            }
        }
        Step::Again
    }

    /// When a lingering socket must be closed.
    pub fn linger_deadline(&self) -> Option<Instant> {
        self.lingering.as_ref().map(|linger| linger.until)
    }
}
