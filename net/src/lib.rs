//! The wire of mk.
//!
//! From the bytes up:
//!
//! * [`codec`]: bounded reading and writing of fields.
//! * [`fault`]: Kafka's error codes, and the error that travels.
//! * [`frame`]: the 24 bytes before every message.
//! * [`message`]: requests and their responses.
//! * [`envelope`]: messages in frames.
//! * [`deframer`]: bytes in, frames out; borrowed for servers, owned for clients.
//! * [`kafka`]: what of Kafka's own protocol is read and written here.
//! * [`outgoing`]: what is to be sent, from memory or from a file.
//! * [`connection`]: both, with limits, and without a socket (sans-IO).
//! * [`event_loop`]: sockets on mio; the only part that does I/O.
//!
//! What it does not do: it knows nothing of logs and topics beyond their names in messages, it
//! runs no async code, and up to [`connection`] it opens no socket and asks no clock.

#![forbid(unsafe_code)]

pub mod codec;
pub mod connection;
pub mod deframer;
pub mod envelope;
pub mod event_loop;
pub mod fault;
pub mod frame;
pub mod kafka;
pub mod message;
pub mod outgoing;
mod sendfile;
