//! A broker that is heard, and asked whether it lives.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::TICK;
use crate::zoo::heartbeat::{Datagram, Key, Kind, LEN};
use crate::zoo::readable::any_local;
use crate::zoo::state::BrokerEpoch;

/// A broker that has registered with this process.
#[derive(Debug)]
pub(super) struct Peer {
    pub epoch: BrokerEpoch,
    pub key: Key,
    /// Where its last beat came from.
    pub address: Option<SocketAddr>,
    /// Probes that were sent with this key.
    pub probes: u64,
    pub probe: Option<Probe>,
}

/// A question that has not been answered.
#[derive(Debug)]
pub(super) struct Probe {
    pub socket: Arc<UdpSocket>,
    pub sent: Duration,
}

impl Peer {
    /// True if the kernel says that nobody has the port any more.
    pub fn is_closed(&self) -> bool {
        let Some(probe) = &self.probe else { return false };
        probe.socket.recv(&mut [0; LEN]).is_err_and(is_refused)
    }

    /// Asks if it is time to; true if the port is known to be closed.
    pub fn ask(&mut self, id: u32, cluster_id: Uuid, socket: &UdpSocket, now: Duration) -> bool {
        let Some(address) = self.address else { return false };
        if self.probe.as_ref().is_some_and(|probe| now < probe.sent + TICK) {
            return false;
        }
        let known = self.probe.take().map(|probe| probe.socket);
        let Ok(connected) = known.map_or_else(|| connect(address), Ok) else { return false };
        self.probes += 1;
        let datagram = Datagram {
            kind: Kind::Probe,
            cluster_id,
            broker: id,
            epoch: self.epoch,
            number: self.probes,
            time_us: now.as_micros() as u64,
            stalled_ms: 0,
        };
        let bytes = datagram.seal(&self.key);
        // What is lost is asked again.
        let _ = socket.send_to(&bytes, address);
        let refused = connected.send(&bytes).is_err_and(is_refused);
        self.probe = Some(Probe { socket: connected, sent: now });
        refused
    }
}

fn connect(address: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    let socket = UdpSocket::bind(any_local(address))?;
    socket.connect(address)?;
    socket.set_nonblocking(true)?;
    Ok(Arc::new(socket))
}

fn is_refused(error: io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}
