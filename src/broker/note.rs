//! What threads tell the event loops.

use mk_net::event_loop::RequestId;

use super::promise::Promise;
use super::reply::Written;

/// What other threads tell a loop.
#[derive(Debug)]
pub enum Note {
    /// There is more to read of the partition of this serial number, or it is gone.
    Readable(u64),
    /// More of the partition of this serial number is committed, or it will not be.
    Committed(u64),
    /// There are more topics or partitions.
    Topics,
    /// The answer to a request that holds once something is committed.
    Promise(Box<Promise>),
    /// Somebody wants to know whether the loop gets on.
    Ping,
    /// The answer to a request that a worker had.
    Reply {
        /// Whose answer.
        to: RequestId,
        /// The answer.
        message: Written,
    },
}
