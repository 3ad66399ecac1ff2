//! mk: a log broker in the manner of Apache Kafka.
//!
//! * [`broker`]: serves the log over the wire.
//! * [`client`]: producers, consumers and what administers topics.
//! * [`settings`]: names, ranges and defaults of all settings.
//! * [`zoo`]: who leads what: the mini-zookeeper, and the broker's side of it.

pub mod broker;
pub mod client;
mod clock;
pub mod panic;
pub mod rule;
pub mod settings;
#[cfg(any(test, feature = "simulation"))]
pub mod sim;
pub mod zoo;
