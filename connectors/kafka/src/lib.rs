//! The event log on Kafka.
//!
//! [`log`] keeps the engine's promises: a commit is one transaction of ledger block, facts, dead letters and raw offsets; taking a
//! session over fences whoever had its partition. [`topics`] says which topics there are and how they must be set up, [`partition`]
//! where a session lies in each of them. [`schemas`] gives every topic's schema its registry id. [`members`] gets partitions for this process
//! from a consumer group, [`engines`] runs their sessions; [`follow`] reads what they commit. All reading is read-committed.

pub mod client;
pub mod engines;
pub mod follow;
mod lanes;
pub mod log;
pub mod members;
pub mod metrics;
pub mod options;
pub mod partition;
pub mod raw;
mod scan;
pub mod schemas;
pub mod topics;
mod writer;
