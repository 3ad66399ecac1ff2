//! The broker: where the wire ([`mk_net`]) and the log ([`mk_storage`]) meet.
//!
//! A request comes to the [`service`] of the event loop that its connection belongs to. What needs
//! no disk but the page cache is answered there: produce appends, fetch answers with pieces of
//! files. What must wait for records or for a sync is parked in [`waiting`] and costs nothing until
//! it is its turn. What may take a while (topics, times) is done by a [`worker`]. Syncs are the
//! [`flusher`]'s; what goes on unasked (sealing and checking, retention, compaction, closing what is idle)
//! has a thread in the [`background`] each.

mod background;
mod catalog;
mod cleaner;
mod clients;
mod cluster;
mod compactor;
mod config;
mod control;
mod describe;
mod fetch;
mod flusher;
mod groups;
mod kafka;
mod membership;
mod note;
mod offsets;
mod open;
mod operate;
mod partition;
mod produce;
mod progress;
mod promise;
mod quotas;
mod rate;
mod readers;
pub mod replication;
mod reply;
mod scrubber;
mod server;
mod service;
mod shared;
mod sweeper;
mod trash;
mod waiting;
mod watches;
mod worker;

pub use config::{BrokerConfig, ConfigError};
pub use open::RecoverySummary;
pub use server::{Broker, StartError, StopError};
