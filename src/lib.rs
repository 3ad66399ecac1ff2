//! mk: a log broker in the manner of Apache Kafka.

pub mod broker;
pub mod settings;
