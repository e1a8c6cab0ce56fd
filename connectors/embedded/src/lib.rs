//! Event log and state store in one process, on fjall, and the threads that run sessions over them.
//!
//! [`data`] is the directory that holds everything; one process uses it at a time. [`log`] keeps ledger, facts and keyframes: one commit
//! is one synced batch. [`store`] keeps what readers ask for, filled after each commit by [`sink`]. [`runtime`] runs one session on one
//! thread; [`replay`] feeds it an archive at the [`pace`] it was recorded, or faster. [`journal`] looks at the log's journal before it is
//! opened, so that a damaged end is found and said.

pub mod data;
pub mod journal;
mod keys;
pub mod log;
pub mod pace;
pub mod replay;
pub mod runtime;
pub mod sink;
pub mod store;
