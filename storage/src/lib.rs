//! The log engine of mk.
//!
//! From the bytes up:
//!
//! * [`batch`]: Kafka's RecordBatch v2: build, check, iterate. Also what clients use.
//! * [`disk`]: the small trait between the engine and the file system, with two disks behind it:
//!   [`disk::MappedDisk`] (memory maps; the only `unsafe` of the crate) and
//!   [`disk::MemoryDisk`] (for tests; it can crash).
//! * [`index`]: sparse offset and time indexes, in Kafka's format.
//! * [`segment`]: one `.log` file with its two indexes.
//! * [`recover`]: the scan that tells a clean end from a torn tail.
//! * [`seal`]: what is in a closed segment, and the checksums of its files.
//! * [`checkpoint`]: recovery point, log start, leader epochs of a partition.
//! * [`producers`]: what a log knows of its idempotent producers.
//! * [`store`]: what logs share: the disk, and how many files and maps are open at once.
//! * [`log`]: the log of one partition: append, read, find, truncate, flush, reopen.
//! * [`mend`]: steps that mend the files of a damaged log.
//! * [`directory`]: the data directory: lock, identity, layout, clean-shutdown mark.
//!
//! What it does not do: it opens no socket, knows no protocol, runs no async code and has no clock
//! and no random source of its own; callers pass `now_ms` where time matters. What it answers to a
//! read is a [`log::FileRange`], a piece of a file, so that whoever serves it need not copy it.

pub mod batch;
pub mod checkpoint;
pub mod directory;
pub mod disk;
pub mod error;
#[cfg(test)]
mod images;
pub mod index;
pub mod log;
pub mod mend;
pub mod producers;
mod recent;
pub mod recover;
mod safeguard;
pub mod seal;
pub mod segment;
pub mod store;
mod types;

pub use types::{Epoch, Offset, Position, Timestamp};
