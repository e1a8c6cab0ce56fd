//! Steering of a replayed session.

use serde::{Deserialize, Serialize};

/// How a replay stands: `REPLAY` of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Replay {
    /// Session time per wall-clock time.
    pub speed: f64,
    /// Whether it stands still.
    pub is_paused: bool,
    /// Samples the session has.
    pub samples: u64,
    /// Samples ingested so far.
    pub ingested: u64,
}

/// What `POST …/replay` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Steering {
    /// New speed, 0.1 to 1,000 times the session's own.
    pub speed: Option<f64>,
    /// Whether it shall stand still.
    pub is_paused: Option<bool>,
}

/// Slowest speed of a replay.
pub const SPEED_MIN: f64 = 0.1;
/// Fastest speed of a replay.
pub const SPEED_MAX: f64 = 1_000.0;

/// The replay of one session in this process.
pub trait ReplayControl: Send + Sync + 'static {
    /// How it stands.
    fn status(&self) -> Replay;

    /// Changes its speed; it lies within [`SPEED_MIN`] and [`SPEED_MAX`].
    fn set_speed(&self, speed: f64);

    /// Stops or continues it.
    fn set_paused(&self, is_paused: bool);
}
