//! The deterministic core of PitWall.
//!
//! Raw records become [`ledger`] records in one total order ([`sequencer`]); a [`graph`] of pure [`operator`]s turns that order into
//! [`facts`]; [`keyframe`]s hold the whole state, so that a restart, a look at the past and a backtest are one thing: a replay
//! ([`session`]). [`log`] says what a log must promise, [`commit`] is the loop over it, [`memory`] a model of it with faults,
//! [`conformance`] what every log and store is tested for.
//!
//! Nothing here reads a clock, draws a random number or depends on hash order, and but for [`backtest`], which gives each session a
//! thread of its own, nothing starts one. Nothing here knows Formula 1.

pub mod backtest;
pub mod commit;
pub mod conformance;
pub mod facts;
pub mod graph;
pub mod hash;
pub mod keyframe;
pub mod ledger;
pub mod limits;
pub mod log;
pub mod memory;
pub mod operator;
pub mod sequencer;
pub mod session;
mod turn;

pub use pitwall_schemas::event::{Carries, Event};
pub use pitwall_schemas::time::Micros;
