//! The mini-zookeeper: knows the brokers, decides who leads which partition, and what the in-sync
//! replicas are.
//!
//! * [`state`]: what it knows, as a pure machine: a command in, what changed out. No socket, no clock,
//!   no disk, no chance: whatever a command needs of these it carries.
//! * [`detector`]: which brokers are alive, by what is heard of them; pure as well.

pub mod detector;
pub mod state;
