//! mk: a log broker in the manner of Apache Kafka.

pub mod broker;
pub mod client;
mod clock;
pub mod settings;
pub mod zoo;
