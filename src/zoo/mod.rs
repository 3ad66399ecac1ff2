//! The mini-zookeeper: knows the brokers, decides who leads which partition, and what the in-sync
//! replicas are.
//!
//! * [`state`]: what it knows, as a pure machine: a command in, what changed out. No socket, no clock,
//!   no disk, no chance: whatever a command needs of these it carries.
//! * [`detector`]: which brokers are alive, by what is heard of them; pure as well.
//! * [`events`]: what has happened, for people.
//! * [`message`]: what brokers and the zookeeper say to each other.
//! * [`store`]: the log of commands on the disk.
//! * [`node`]: the state with its log, on a thread: in a process of its own, or inside of a broker.
//! * [`heartbeat`]: the datagrams.
//! * [`watch`]: hears them, and asks after those who seem to be gone.

pub mod detector;
pub mod events;
pub mod heartbeat;
pub mod message;
pub mod node;
mod readable;
pub mod state;
pub mod store;
pub mod watch;
