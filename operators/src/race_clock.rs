//! Race clock: when the session started and how many laps its leader has completed, from race control and laps.
//!
//! A car has completed lap N when lap N + 1 of it begins (OpenF1 opens the next lap's document then) or when lap N has a time. The
//! first car to do so is the leader in a race; in practice and qualifying it is the car with most laps, which is all `lap:N` can mean
//! there.

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{Lap, RaceClock, SessionState, TrackStatus};
use serde::{Deserialize, Serialize};

/// Counts the leader's laps.
#[derive(Debug, Clone, Copy, Default)]
pub struct RaceClockOperator;

/// How far the session is.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    started_at: Option<Micros>,
    laps_completed: i32,
    driver_number: Option<i32>,
}

impl State {
    /// When the session started, if that was seen.
    #[must_use]
    pub const fn started_at(&self) -> Option<Micros> {
        self.started_at
    }

    /// Laps completed by the leader.
    #[must_use]
    pub const fn laps_completed(&self) -> i32 {
        self.laps_completed
    }

    const fn fact(&self) -> RaceClock {
        RaceClock { started_at: self.started_at, laps_completed: self.laps_completed, driver_number: self.driver_number }
    }
}

impl Operator for RaceClockOperator {
    const NAME: &'static str = "race_clock";
    const VERSION: u32 = 1;
    type Output = RaceClock;
    type State = State;
}

impl Handle<TrackStatus> for RaceClockOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, RaceClock>) {
        if status.session == SessionState::Started && state.started_at.is_none() {
            state.started_at = Some(context.event_time());
            context.emit(state.fact());
        }
    }
}

impl Handle<Lap> for RaceClockOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, RaceClock>) {
        let completed = if lap.is_complete { lap.lap_number } else { lap.lap_number - 1 };
        if completed > state.laps_completed {
            state.laps_completed = completed;
            state.driver_number = Some(lap.driver_number);
            context.emit(state.fact());
        }
    }
}
