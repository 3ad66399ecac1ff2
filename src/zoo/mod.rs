//! The mini-zookeeper: knows the brokers, decides who leads which partition, and what the in-sync
//! replicas are.
//!
//! * [`state`]: what it knows, as a pure machine: a command in, what changed out. No socket, no clock,
//!   no disk, no chance: whatever a command needs of these it carries.
//! * [`detector`]: which brokers are alive, by what is heard of them; pure as well.
//! * [`events`]: what has happened, for people.
//! * [`message`]: what brokers and the zookeeper say to each other.
//! * [`store`]: the log of changes on the disk.
//! * [`node`]: the state with its log, on a thread: in a process of its own, or inside of a broker.
//! * [`heartbeat`]: the datagrams.
//! * [`process`]: the zookeeper as a process of its own.
//! * [`session`]: a broker's side: registers, follows the state, asks.
//! * [`beat`]: a broker's heartbeats.
//! * [`watch`]: hears them, and asks after those who seem to be gone.

pub mod beat;
pub mod detector;
pub mod events;
pub mod heartbeat;
mod link;
pub mod message;
pub mod node;
pub mod process;
mod readable;
mod registrar;
mod server;
pub mod session;
pub mod state;
pub mod store;
pub mod tell;
pub mod watch;
mod wire;
