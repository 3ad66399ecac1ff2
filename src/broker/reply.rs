//! Answers that come from another thread than the connection's.

use std::sync::Arc;

use bytes::Bytes;
use mk_net::envelope::{failure, response};
use mk_net::event_loop::ConnectionId;
use mk_net::fault::Fault;
use mk_net::frame::FrameHeader;
use mk_net::message::Request;

use super::note::Note;
use super::shared::Shared;

/// Where the answer to a request goes, for those who answer later.
#[derive(Clone, Copy, Debug)]
pub struct Reply {
    /// The loop.
    pub index: usize,
    /// The connection.
    pub to: ConnectionId,
    /// The request.
    pub header: FrameHeader,
}

impl Reply {
    /// Lets the thread answer that may wait for the mini-zookeeper.
    pub fn later<R: Request + Send + 'static>(
        self,
        shared: &Arc<Shared>,
        request: R,
        handle: impl FnOnce(&Arc<Shared>, R) -> Result<R::Response, Fault> + Send + 'static,
    ) {
        let worker_shared = shared.clone();
        shared.admin.run(move || {
            let message = match handle(&worker_shared, request) {
                Ok(answer) => response(&self.header, &answer, 0),
                Err(fault) => failure(&self.header, &fault),
            };
            self.send(&worker_shared, message);
        });
    }

    /// Sends the answer by way of the connection's loop.
    pub fn send(self, shared: &Shared, message: Bytes) {
        shared.mailboxes[self.index].send(Note::Reply { to: self.to, message });
    }
}
