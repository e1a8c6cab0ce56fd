//! Circuit: the outline of the circuit, from the `location` samples of the first car that comes round.
//!
//! No feed has a map. A car that is under way leaves a path of points; when it is back where the path began, going the same way, the
//! path is an outline. Its start lies a run-up behind where the car stood, so that neither garage nor grid is in it. A car that stands,
//! jumps or is not heard of for a while begins another path.
//!
//! The first outline may be of a formation lap or a lap behind the safety car. A lap that is faster by
//! [`CircuitOperator::faster_percent`] is nearer the racing line and corrects it. After [`CircuitOperator::outlines_max`] outlines, or
//! [`CircuitOperator::laps_max`] laps of any car, the matter is settled: paths are forgotten and samples no longer looked at.
//!
//! Distances are whole decimetres and their roots are rounded down, so they are the same everywhere.

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{Circuit, CircuitPoint};
use pitwall_schemas::raw::Location;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;

/// Points of one path. A path that has more is begun again; the longest circuit needs 470.
const POINTS_MAX: usize = 1_000;

/// Fastest that a car is believed to be, m/s, which is dm in 100 ms. What is faster is a jump, and begins another path.
const SPEED_MAX: i64 = 120;

/// Finds the outline.
#[derive(Debug, Clone, Copy)]
pub struct CircuitOperator {
    /// Least distance between two points, m.
    pub spacing_m: i64,
    /// How far a car that stood goes before its path begins, m.
    pub run_up_m: i64,
    /// Shortest outline, m; the shortest circuit is Monaco with 3,337.
    pub length_m_min: i64,
    /// How near its beginning a path is closed, m: half of what a car goes between two samples, and the width of the track.
    pub closing_m_max: i64,
    /// Longest time to come round, ms; a slower car is not on a lap.
    pub duration_ms_max: i64,
    /// How long a car may stay within the spacing or not be heard of, ms, before its path is begun again.
    pub standing_ms_max: i64,
    /// By how much a lap must be faster to correct the outline, percent.
    pub faster_percent: i64,
    /// Outlines said at most, corrections included.
    pub outlines_max: u32,
    /// Laps looked at at most.
    pub laps_max: u32,
}

impl Default for CircuitOperator {
    fn default() -> Self {
        Self {
            spacing_m: 12,
            run_up_m: 500,
            length_m_min: 2_500,
            closing_m_max: 40,
            duration_ms_max: 300_000,
            standing_ms_max: 5_000,
            faster_percent: 10,
            outlines_max: 3,
            laps_max: 40,
        }
    }
}

/// The paths of all cars, until the outline is settled.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    is_settled: bool,
    paths: ByDriver<Path>,
    /// Time of the outline that stands, µs.
    duration: Option<i64>,
    issued: Option<Issued>,
    laps: u32,
}

/// Where a car went since it began to move or came round.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Path {
    /// Date of the newest sample.
    heard_at: Micros,
    /// Where the car was last kept, and when.
    last: Option<(Micros, Point)>,
    /// Way from where the car stood, dm.
    travelled: i64,
    began_at: Micros,
    /// The way the car went at the first point.
    heading: Point,
    points: Vec<Point>,
    causes: Vec<u64>,
    /// Way from the first point, dm.
    length: i64,
}

/// A point, or the way between two, dm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Point {
    x: i32,
    y: i32,
}

impl Point {
    const fn minus(self, other: Self) -> Self {
        Self { x: self.x - other.x, y: self.y - other.y }
    }

    fn dot(self, other: Self) -> i64 {
        i64::from(self.x) * i64::from(other.x) + i64::from(self.y) * i64::from(other.y)
    }

    fn length(self) -> i64 {
        self.dot(self).isqrt()
    }

    /// Whether the two ways are less than 45° apart.
    fn agrees_with(self, other: Self) -> bool {
        let dot = i128::from(self.dot(other));
        dot > 0 && 2 * dot * dot > i128::from(self.dot(self)) * i128::from(other.dot(other))
    }
}

impl Path {
    fn begin_at(&mut self, date: Micros, point: Point) {
        *self = Self { heard_at: date, last: Some((date, point)), ..Self::default() };
    }

    /// Goes on from where it came round: the run-up is done.
    fn begin_next_lap(&mut self) {
        let travelled = self.travelled;
        let (heard_at, last) = (self.heard_at, self.last);
        *self = Self { heard_at, last, travelled, ..Self::default() };
    }

    /// Takes the car to `point`, and tells whether it has come round with it.
    fn go_to(&mut self, date: Micros, point: Point, seq: u64, operator: &CircuitOperator) -> bool {
        let Some((kept_at, last)) = self.last else {
            self.begin_at(date, point);
            return false;
        };
        let standing_max = operator.standing_ms_max * 1_000;
        let way = point.minus(last);
        let step = way.length();
        let is_jump =
            date.since(self.heard_at) > standing_max || step > operator.spacing_m * 10 + SPEED_MAX * date.since(kept_at) / 100_000;
        if is_jump {
            self.begin_at(date, point);
            return false;
        }
        self.heard_at = date;
        if step < operator.spacing_m * 10 {
            if date.since(kept_at) > standing_max {
                self.begin_at(date, point);
            }
            return false;
        }
        self.last = Some((date, point));
        self.travelled += step;
        if self.travelled < operator.run_up_m * 10 {
            return false;
        }
        let Some(&first) = self.points.first() else {
            (self.began_at, self.heading) = (date, way);
            self.points.push(point);
            self.causes.push(seq);
            return false;
        };
        if self.points.len() == POINTS_MAX || date.since(self.began_at) > operator.duration_ms_max * 1_000 {
            self.begin_at(date, point);
            return false;
        }
        self.length += step;
        let to_first = first.minus(point);
        let has_come_round =
            self.length >= operator.length_m_min * 10 && to_first.length() <= operator.closing_m_max * 10 && way.agrees_with(self.heading);
        // A point beyond the first would be on the outline twice.
        if !has_come_round || to_first.dot(self.heading) > 0 {
            self.points.push(point);
        }
        self.causes.push(seq);
        has_come_round
    }

    fn outline(&self, driver_number: i32, duration: i64) -> Circuit {
        let next = self.points.iter().cycle().skip(1);
        let length: i64 = self.points.iter().zip(next).map(|(point, next)| next.minus(*point).length()).sum();
        Circuit {
            driver_number,
            started_at: self.began_at,
            duration_ms: (duration / 1_000) as i32,
            length_m: (length / 10) as i32,
            points: self.points.iter().map(|point| CircuitPoint { x: point.x, y: point.y }).collect(),
        }
    }
}

impl Operator for CircuitOperator {
    const NAME: &'static str = "circuit";
    const VERSION: u32 = 1;
    type Output = Circuit;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("spacing_m", self.spacing_m.to_string()),
            ("run_up_m", self.run_up_m.to_string()),
            ("length_m_min", self.length_m_min.to_string()),
            ("closing_m_max", self.closing_m_max.to_string()),
            ("duration_ms_max", self.duration_ms_max.to_string()),
            ("standing_ms_max", self.standing_ms_max.to_string()),
            ("faster_percent", self.faster_percent.to_string()),
            ("outlines_max", self.outlines_max.to_string()),
            ("laps_max", self.laps_max.to_string()),
        ]
    }
}

impl Handle<Location> for CircuitOperator {
    fn apply(&self, state: &mut State, sample: &Location, context: &mut Context<'_, Circuit>) {
        // (0, 0, 0) is no reading (OpenF1).
        if state.is_settled || (sample.x, sample.y, sample.z) == (0, 0, 0) {
            return;
        }
        let path = state.paths.entry(sample.driver_number);
        let is_late = path.last.is_some() && sample.date <= path.heard_at;
        let point = Point { x: sample.x, y: sample.y };
        if is_late || !path.go_to(sample.date, point, context.seq(), self) {
            return;
        }
        let duration = sample.date.since(path.began_at);
        if state.duration.is_none_or(|standing| duration * 100 <= standing * (100 - self.faster_percent)) {
            let draft = context.draft(path.outline(sample.driver_number, duration));
            state.issued = Some(draft.because(&path.causes).correcting(state.issued).emit());
            state.duration = Some(duration);
        }
        path.begin_next_lap();
        state.laps += 1;
        let outlines = state.issued.map_or(0, |issued| issued.revision + 1);
        if outlines >= self.outlines_max || state.laps >= self.laps_max {
            state.is_settled = true;
            state.paths = ByDriver::default();
        }
    }
}
