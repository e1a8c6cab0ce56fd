//! Estimated laps: a lap time from two crossings of the timing line, with its error bound; what there is when OpenF1 sends no time.
//!
//! They are a topic of their own, `pitwall.estimated_laps.v1`, beside `laps`: an estimate never stands in the place of a time that was
//! sent. A reader of `laps` finds the estimate of a lap without a time under the same car and, in a race, the same number; elsewhere the
//! one whose start is nearest.
//!
//! * In a race laps count from the start: lap 1 begins when the session does, and a lap begun after the session finished is dropped.
//!   Elsewhere, after a late join, and when the line was not known before any car could come round, a lap has a time but no number.
//! * A crossing less than [`EstimatedLapsOperator::lap_ms_min`] after the last, or after the start, ends no lap: the back of the grid
//!   stands behind the line.
//! * After a silence in which a crossing may be missing, neither time nor number is known.
//! * When a better line is learned, laps under way begin where it lies: the crossing that began them is moved by the way between the lines
//!   at the speed of the crossing, and a fifth of that is added to the bound, or all of it in the pit lane, where the car may have stood.
//! * Error bound: those of both crossings, and what a line that lies off by `line_error_m` adds when the car crossed at two speeds,
//!   as on in-laps and out-laps: error × |1/v − 1/v'|. Lap 1 of a race does not begin on the line, so the line adds all of error / v'.

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
    line: Option<Line>,
    cars: ByDriver<Car>,
}

/// A point on the timing line, dm, and the driving direction there.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Line {
    point: (i32, i32),
    heading: (f64, f64),
}

impl Line {
    /// How far this line lies beyond `other`, dm.
    fn beyond(&self, other: &Self) -> f64 {
        f64::from(self.point.0 - other.point.0) * self.heading.0 + f64::from(self.point.1 - other.point.1) * self.heading.1
    }
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
    is_in_pit_lane: Option<bool>,
    causes: Vec<u64>,
}

impl Beginning {
    /// Moves the crossing to a line that lies `beyond` dm farther.
    fn move_by(&mut self, beyond: f64) {
        let Some(speed) = self.speed else { return };
        // One km/h is 1 dm in 360,000 µs.
        let moved = beyond * 360_000.0 / f64::from(speed.max(1));
        let share = if self.is_in_pit_lane == Some(false) { 0.2 } else { 1.0 };
        self.at = self.at.plus(moved.round() as i64);
        self.error_ms += (moved.abs() * share / 1_000.0) as i32;
    }
}

/// What a line off by `error_m` adds to a lap begun and ended at these speeds, km/h; ms. A lap that began with the race, without a speed,
/// did not begin on the line.
fn line_error_ms(error_m: i32, began: Option<i32>, ended: i32) -> i32 {
    let inverse = |speed: i32| 1.0 / f64::from(speed.max(1));
    let began = began.map_or(0.0, inverse);
    (f64::from(error_m) * 3_600.0 * (began - inverse(ended)).abs()).round() as i32
}

impl Operator for EstimatedLapsOperator {
    const NAME: &'static str = "estimated_laps";
    const VERSION: u32 = 2;
    type Output = EstimatedLap;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("lap_ms_min", self.lap_ms_min.to_string()), ("start_error_ms", self.start_error_ms.to_string())]
    }
}

impl Handle<TrackStatus> for EstimatedLapsOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, EstimatedLap>) {
        state.is_race |= status.lap_number.is_some();
        if !state.is_race {
            return;
        }
        let start = status.started_at.filter(|start| state.started.as_ref().is_none_or(|(known, _)| known != start));
        if let Some(started_at) = start
            && state.started.replace((started_at, context.causes().to_vec())).is_some()
        {
            // What was driven since an aborted start are no laps of the race.
            state.cars = ByDriver::default();
        }
        if status.session == SessionState::Finished && state.finished_at.is_none() {
            state.finished_at = Some(context.event_time());
        }
    }
}

impl Handle<TimingLine> for EstimatedLapsOperator {
    fn apply(&self, state: &mut State, line: &TimingLine, context: &mut Context<'_, EstimatedLap>) {
        state.line_known_at.get_or_insert(context.now());
        let line = Line { point: (line.x, line.y), heading: (line.heading_x, line.heading_y) };
        if let Some(former) = state.line.replace(line) {
            for (_, car) in state.cars.iter_mut() {
                if let Some(began) = &mut car.began {
                    began.move_by(line.beyond(&former));
                }
            }
        }
    }
}

impl Handle<LineCrossing> for EstimatedLapsOperator {
    fn apply(&self, state: &mut State, crossing: &LineCrossing, context: &mut Context<'_, EstimatedLap>) {
        let car = state.cars.entry(crossing.driver_number);
        if !car.has_crossed
            && let Some((at, causes)) = &state.started
            && state.line_known_at.is_some_and(|line_known_at| line_known_at.since(*at) < self.lap_ms_min * 1_000)
        {
            car.began =
                Some(Beginning { at: *at, error_ms: self.start_error_ms, speed: None, is_in_pit_lane: None, causes: causes.clone() });
            car.laps_completed = Some(0);
        }
        car.has_crossed = true;
        let is_too_soon = |began: &Beginning| crossing.crossed_at.since(began.at) < self.lap_ms_min * 1_000;
        if car.began.as_ref().is_some_and(is_too_soon) {
            return;
        }
        let causes = context.causes().to_vec();
        let now = Beginning {
            at: crossing.crossed_at,
            error_ms: crossing.error_ms,
            speed: Some(crossing.speed),
            is_in_pit_lane: crossing.is_in_pit_lane,
            causes: causes.clone(),
        };
        let began = car.began.replace(now).filter(|_| crossing.is_unbroken);
        let Some(began) = began else {
            car.laps_completed = None;
            return;
        };
        if state.finished_at.is_some_and(|finished_at| began.at > finished_at) {
            return;
        }
        car.laps_completed = car.laps_completed.map(|laps| laps + 1);
        let line_error_ms = line_error_ms(crossing.line_error_m, began.speed, crossing.speed);
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
    fn a_lap_under_way_begins_where_a_better_line_lies() {
        let line = |y| Line { point: (100, y), heading: (0.0, 1.0) };
        let began = |is_in_pit_lane| Beginning { at: Micros(0), error_ms: 10, speed: Some(72), is_in_pit_lane, causes: Vec::new() };
        let beyond = line(-30).beyond(&line(70));
        for (is_in_pit_lane, error_ms) in [(Some(false), 110), (Some(true), 510), (None, 510)] {
            let mut began = began(is_in_pit_lane);
            began.move_by(beyond);
            assert_eq!((began.at, began.error_ms), (Micros(-500_000), error_ms), "{is_in_pit_lane:?}");
        }
    }

    #[test]
    fn a_misplaced_line_costs_nothing_at_equal_speeds_and_most_in_the_pit_lane() {
        assert_eq!(line_error_ms(10, Some(300), 300), 0);
        assert_eq!(line_error_ms(10, Some(300), 80), 330);
        assert_eq!(line_error_ms(10, Some(80), 300), 330);
    }

    #[test]
    fn a_misplaced_line_costs_lap_1_all_the_way_since_it_did_not_begin_there() {
        assert_eq!(line_error_ms(265, None, 300), 3_180);
        assert_eq!(line_error_ms(20, None, 300), 240);
        assert_eq!(line_error_ms(20, None, 80), 900, "in the pit lane");
    }
}
