//! The state store on CQL: ScyllaDB, or Apache Cassandra, on which it is tested.
//!
//! [`store`] keeps the engine's promises of a [`StateStore`](pitwall_engine::log::StateStore): facts are written after their commit, at
//! least once, idempotently, and how far it got comes last. [`migrations`] makes the tables. `migrations/` says what each is for.

mod client;
pub mod error;
pub mod metrics;
pub mod migrations;
pub mod options;
mod place;
mod read;
mod statements;
pub mod store;
mod write;
