//! Apache Kafka's wire protocol, as much of it as must be quick or must be checked by ourselves.
//!
//! * [`api`]: which requests are served, in which versions.
//! * [`frame`]: the length before a request, and its header.
//! * [`shape`]: whether a request is what it claims to be, before it is decoded.
//! * [`produce`] and [`fetch`]: the two requests that carry records; no record is copied.
//! * [`wire`]: fields: big-endian, in the old form or the compact one (KIP-482).
//!
//! The protocol is described at <https://kafka.apache.org/protocol> and by the message definitions in Kafka's
//! sources (`clients/src/main/resources/common/message`).

pub mod api;
pub mod fetch;
pub mod frame;
#[cfg(test)]
mod oracle;
pub mod produce;
pub mod shape;
pub mod wire;
