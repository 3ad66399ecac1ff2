//! Replication of one partition: the rules that keep acknowledged records. Pure: messages, offsets and
//! the time come in, what is to be done comes out.
//!
//! * [`epochs`]: where two logs part.
//! * [`fetcher`]: what is fetched from whom, and when.
//! * [`leader`]: what the leader knows of its followers, who is in sync, what is committed.
//! * [`replica`]: a log, and what this broker is to it.
//!
//! After Kafka's protocol with the corrections of KIP-101, 279, 320, 497, 903 and 966;
//! `docs/replication.md` has a table of the rules.

pub mod epochs;
pub mod fetcher;
pub mod leader;
pub mod replica;
