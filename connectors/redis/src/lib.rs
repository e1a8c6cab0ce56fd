//! What the edges of a deployment share on Redis: [answers](share) with turns to compute them, and counters of requests.
//!
//! Nothing in it is needed. While Redis is away every edge computes and counts for itself, and metrics say so; a request never fails for it.

mod connection;
mod keys;
pub mod metrics;
pub mod options;
pub mod share;
