//! Consumer groups for Kafka's clients: members of the classic protocol and of KIP-848, in the same groups as ours.

pub mod classic;
pub mod commits;
pub mod consumer;
pub mod describe;
pub mod gather;
