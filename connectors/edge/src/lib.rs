//! REST, WebSocket and dashboard over a session's committed facts: `docs/protocol.md`.
//!
//! An engine announces each commit to the [`hub`], which flattens facts to [`row`]s, once, and keeps each channel's newest rows and last
//! frames. Clients are cursors into those rings ([`websocket`]); [`rest`] answers from the same state; what lies further back comes from
//! the log through a [`reader`], off the async threads and within bounds ([`past`]). Edges of one deployment may [share](shared) what they
//! have read there, and their limits.
//!
//! Nothing here derives anything, and nothing knows Formula 1 but the names by which moments are told: laps and the race clock.

pub mod channel;
mod dashboard;
mod delayed;
pub mod hub;
mod limiter;
pub mod message;
pub mod metrics;
pub mod options;
mod past;
mod problem;
mod query;
pub mod reader;
pub mod replay;
mod rest;
mod ring;
pub mod row;
pub mod server;
pub mod shared;
mod websocket;

pub use hub::Hub;
pub use options::Options;
pub use reader::Reader;
pub use server::{BindError, Bound, bind, bind_sharing};
pub use shared::Shared;
