//! Sessions on which derivations were wrong once, each with what is right: small cuts and made-up documents in the shape of real ones,
//! under `tests/data/faults`, through the whole graph.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "fixtures are files")]

mod control;
mod laps;
mod missing;
mod order;
mod passes;
mod raw;
mod results;
mod stops;
mod support;
mod tower;
mod versions;
