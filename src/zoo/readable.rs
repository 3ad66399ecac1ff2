//! Waiting for datagrams, to the millisecond: a socket's own timeout counts in ticks of the kernel.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Waits until one of these has something to read, or an error to tell, but no longer than this.
pub(super) fn wait_readable<'a>(sockets: impl Iterator<Item = &'a UdpSocket>, most: Duration) {
    let mut waited: Vec<PollFd<'_>> =
        sockets.map(|socket| PollFd::new(socket, PollFlags::IN)).collect();
    let most = Timespec { tv_sec: most.as_secs() as i64, tv_nsec: most.subsec_nanos().into() };
    // A signal ends it early, and nothing comes of that.
    let _ = poll(&mut waited, Some(&most));
}

/// The local address from which this one can be reached: any port.
pub(super) fn any_local(remote: SocketAddr) -> SocketAddr {
    if remote.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    }
}
