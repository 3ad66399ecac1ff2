//! What threads tell the event loops.

use bytes::Bytes;
use mk_net::event_loop::ConnectionId;

/// What other threads tell a loop.
#[derive(Debug)]
pub enum Note {
    /// Something was appended to the partition of this serial number, or it is gone.
    Appended(u64),
    /// The partition of this serial number was synced, or failed to be.
    Flushed(u64),
    /// The answer to a request that a worker had.
    Reply {
        /// Whose answer.
        to: ConnectionId,
        /// The answer.
        message: Bytes,
    },
}
