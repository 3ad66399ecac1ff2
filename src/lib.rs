//! mk: a log broker in the manner of Apache Kafka.
//!
//! * [`broker`]: serves the log over the wire.
//! * [`client`]: producers, consumers and what administers topics.
//! * [`settings`]: names, ranges and defaults of all settings.
//! * [`zoo`]: who leads what. Its pure cores stand, as do those of [`broker::replication`], and are
//!   held to their rules by tests; no process runs them yet.

pub mod broker;
pub mod client;
mod clock;
pub mod rule;
pub mod settings;
pub mod zoo;
