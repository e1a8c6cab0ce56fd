//! Estimated laps: a lap time from two crossings of the timing line, with its error bound; what there is when OpenF1 sends no time.
//!
//! * In a race laps count from the start: lap 1 begins when the session does, and a lap begun after the session finished is dropped.
//!   Elsewhere, after a late join, and when the line was not known before any car could come round, a lap has a time but no number.
//! * A crossing less than [`EstimatedLapsOperator::lap_ms_min`] after the last, or after the start, ends no lap: the back of the grid
//!   stands behind the line.
//! * After a silence in which a crossing may be missing, neither time nor number is known.
//! * Error bound: those of both crossings, and what a line that lies off by `line_error_m` adds when the car crossed at two speeds,
//!   as on in-laps and out-laps: error × |1/v − 1/v'|.

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{EstimatedLap, LineCrossing, SessionState, TimingLine, TrackStatus};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::in_order;

/// Times laps.
#[derive(Debug, Clone, Copy)]
pub struct EstimatedLapsOperator {
    /// Shortest lap, ms; the fastest ever, at Sakhir's outer circuit, took 53.4 s.
    pub lap_ms_min: i64,
    /// Error of the start of lap 1, ms: the clocks of race control and of the locations differ by up to this.
    pub start_error_ms: i32,
}

impl Default for EstimatedLapsOperator {
    fn default() -> Self {
        Self { lap_ms_min: 45_000, start_error_ms: 1_000 }
    }
}

/// Where each car's lap began.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    is_race: bool,
    /// When the race started, and the ledger records that said so.
    started: Option<(Micros, Vec<u64>)>,
    finished_at: Option<Micros>,
    /// When a timing line was first known.
    line_known_at: Option<Micros>,
    cars: ByDriver<Car>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    /// The crossing that began the present lap; `None` when it began with the race, or is not known.
    began: Option<Beginning>,
    /// Laps completed; `None` when they are not counted.
    laps_completed: Option<i32>,
    has_crossed: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Beginning {
    at: Micros,
    error_ms: i32,
    /// km/h; `None` for the start of the race.
    speed: Option<i32>,
    causes: Vec<u64>,
}

/// What a line off by `error_m` adds to a lap begun and ended at these speeds, km/h; ms.
fn line_error_ms(error_m: i32, began: i32, ended: i32) -> i32 {
    let (began, ended) = (f64::from(began.max(1)), f64::from(ended.max(1)));
    (f64::from(error_m) * 3_600.0 * (1.0 / began - 1.0 / ended).abs()) as i32
}

impl Operator for EstimatedLapsOperator {
    const NAME: &'static str = "estimated_laps";
    const VERSION: u32 = 1;
    type Output = EstimatedLap;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("lap_ms_min", self.lap_ms_min.to_string()), ("start_error_ms", self.start_error_ms.to_string())]
    }
}

impl Handle<TrackStatus> for EstimatedLapsOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, EstimatedLap>) {
        state.is_race |= status.lap_number.is_some();
        match status.session {
            SessionState::Started if state.is_race && state.started.is_none() => {
                state.started = Some((context.event_time(), context.causes().to_vec()));
            }
            SessionState::Finished if state.is_race && state.finished_at.is_none() => state.finished_at = Some(context.event_time()),
            _ => {}
        }
    }
}

impl Handle<TimingLine> for EstimatedLapsOperator {
    fn apply(&self, state: &mut State, _line: &TimingLine, context: &mut Context<'_, EstimatedLap>) {
        state.line_known_at.get_or_insert(context.now());
    }
}

impl Handle<LineCrossing> for EstimatedLapsOperator {
    fn apply(&self, state: &mut State, crossing: &LineCrossing, context: &mut Context<'_, EstimatedLap>) {
        let car = state.cars.entry(crossing.driver_number);
        if !car.has_crossed
            && let Some((at, causes)) = &state.started
            && state.line_known_at.is_some_and(|line_known_at| line_known_at.since(*at) < self.lap_ms_min * 1_000)
        {
            car.began = Some(Beginning { at: *at, error_ms: self.start_error_ms, speed: None, causes: causes.clone() });
            car.laps_completed = Some(0);
        }
        car.has_crossed = true;
        let is_too_soon = |began: &Beginning| crossing.crossed_at.since(began.at) < self.lap_ms_min * 1_000;
        if car.began.as_ref().is_some_and(is_too_soon) {
            return;
        }
        let causes = context.causes().to_vec();
        let now = Beginning { at: crossing.crossed_at, error_ms: crossing.error_ms, speed: Some(crossing.speed), causes: causes.clone() };
        let began = car.began.replace(now).filter(|_| crossing.is_unbroken);
        let Some(began) = began else {
            car.laps_completed = None;
            return;
        };
        if state.finished_at.is_some_and(|finished_at| began.at > finished_at) {
            return;
        }
        car.laps_completed = car.laps_completed.map(|laps| laps + 1);
        let line_error_ms = began.speed.map_or(0, |speed| line_error_ms(crossing.line_error_m, speed, crossing.speed));
        let fact = EstimatedLap {
            driver_number: crossing.driver_number,
            lap_number: car.laps_completed,
            started_at: began.at,
            ended_at: crossing.crossed_at,
            lap_ms: (crossing.crossed_at.since(began.at) as f64 / 1_000.0).round() as i32,
            error_ms: began.error_ms + crossing.error_ms + line_error_ms,
            is_in_lap: crossing.is_in_pit_lane,
        };
        context.emit_because(&in_order(began.causes.into_iter().chain(causes).map(Some)), fact);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misplaced_line_costs_nothing_at_equal_speeds_and_most_in_the_pit_lane() {
        assert_eq!(line_error_ms(10, 300, 300), 0);
        assert_eq!(line_error_ms(10, 300, 80), 330);
        assert_eq!(line_error_ms(10, 80, 300), 330);
    }
}
