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
//! A sample dated well after its arrival has a wrong date and is passed over.
//!
//! Distances are whole decimetres and their roots are rounded down, so they are the same everywhere.

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{Circuit, CircuitPoint};
use pitwall_schemas::raw::Location;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::is_ahead;

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
    const VERSION: u32 = 2;
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
        let (Some(x), Some(y)) = (sample.x_reading(), sample.y_reading()) else { return };
        if is_ahead(sample.date, context.now()) {
            return;
        }
        let path = state.paths.entry(sample.driver_number);
        let is_late = path.last.is_some() && sample.date <= path.heard_at;
        let point = Point { x, y };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, location};
    use pitwall_schemas::shared::FactHeader;

    /// A round circuit of about 4,000 m: its radius, dm.
    const RADIUS: f64 = 6_366.0;

    /// Where a car is `metres` behind the start on the round circuit.
    #[expect(clippy::disallowed_methods, reason = "a fixture needs no last digit")]
    fn on_circuit(metres: f64) -> [i32; 3] {
        let angle = metres * 10.0 / RADIUS;
        [(RADIUS * angle.cos()) as i32 + 1_000, (RADIUS * angle.sin()) as i32 - 2_000, 50]
    }

    fn bench() -> Bench {
        Bench::new(|graph| {
            graph.publish(CircuitOperator::default(), |inputs| inputs.samples::<Location>());
        })
    }

    /// Lets a car drive from `from` metres to `to` at `speed` m/s, a sample every 250 ms, and tells when it arrives.
    fn drive(bench: &mut Bench, driver_number: i32, begin: i64, (from, to): (i32, i32), speed: f64) -> i64 {
        let mut ms = begin;
        let mut metres = f64::from(from);
        while metres < f64::from(to) {
            bench.arrive(ms, location(driver_number, at_ms(ms), on_circuit(metres)));
            ms += 250;
            metres += speed / 4.0;
        }
        ms
    }

    fn outlines(bench: &Bench) -> Vec<(FactHeader, Circuit)> {
        bench.facts()
    }

    #[test]
    fn the_first_car_that_comes_round_leaves_the_outline() {
        let mut bench = bench();
        let now = drive(&mut bench, 81, 0, (0, 4_400), 60.0);
        assert!(outlines(&bench).is_empty());
        drive(&mut bench, 81, now, (4_400, 4_600), 60.0);
        let said = outlines(&bench);
        assert_eq!(said.len(), 1);
        let (header, circuit) = &said[0];
        assert_eq!((circuit.driver_number, header.revision), (81, 0));
        assert!((3_980..=4_000).contains(&circuit.length_m), "{} m", circuit.length_m);
        assert!((65_000..=68_000).contains(&circuit.duration_ms), "{} ms", circuit.duration_ms);
        for pair in circuit.points.windows(2) {
            let way = Point { x: pair[1].x, y: pair[1].y }.minus(Point { x: pair[0].x, y: pair[0].y });
            assert!((120..=300).contains(&way.length()), "{} dm between two points", way.length());
        }
        assert!(header.causes.len() >= circuit.points.len() && header.causes.len() <= POINTS_MAX);
    }

    #[test]
    fn a_faster_lap_corrects_the_outline_and_then_no_more_than_the_most() {
        let mut bench = bench();
        let mut now = drive(&mut bench, 81, 0, (0, 4_600), 30.0);
        for speed in [60.0, 58.0, 80.0, 110.0] {
            now = drive(&mut bench, 81, now, (600, 4_600), speed);
        }
        let said = outlines(&bench);
        let revisions: Vec<_> = said.iter().map(|(header, _)| (header.revision, header.supersedes)).collect();
        assert_eq!(revisions, [(0, None), (1, Some(0)), (2, Some(1))]);
        assert!(bench.state::<CircuitOperator>().is_settled);
        assert!(bench.state::<CircuitOperator>().paths.is_empty(), "a settled operator remembers no path");
    }

    #[test]
    fn after_enough_laps_the_outline_is_settled() {
        let mut bench = bench();
        let mut now = 0;
        for lap in 0..=40 {
            now = drive(&mut bench, 81, now, (600 + lap * 4_000, 4_600 + lap * 4_000), 60.0);
        }
        assert_eq!(outlines(&bench).len(), 1);
        assert!(bench.state::<CircuitOperator>().is_settled);
    }

    #[test]
    fn a_car_that_stands_begins_another_path() {
        let mut bench = bench();
        let mut now = drive(&mut bench, 81, 0, (0, 3_000), 60.0);
        for _ in 0..40 {
            bench.arrive(now, location(81, at_ms(now), on_circuit(3_000.0)));
            now += 250;
        }
        drive(&mut bench, 81, now, (3_000, 7_400), 60.0);
        assert!(outlines(&bench).is_empty(), "neither round was whole");
    }

    #[test]
    fn a_jump_begins_another_path() {
        let mut bench = bench();
        let now = drive(&mut bench, 81, 0, (0, 2_000), 60.0);
        drive(&mut bench, 81, now, (3_000, 6_900), 60.0);
        assert!(outlines(&bench).is_empty());
    }

    #[test]
    fn a_car_not_heard_of_for_a_while_begins_another_path() {
        let mut bench = bench();
        let now = drive(&mut bench, 81, 0, (0, 3_000), 60.0);
        drive(&mut bench, 81, now + 6_000, (3_060, 7_000), 60.0);
        assert!(outlines(&bench).is_empty());
    }

    #[test]
    fn crossing_the_paths_beginning_another_way_is_not_coming_round() {
        let forth = Point { x: 100, y: 0 };
        assert!(forth.agrees_with(Point { x: 100, y: 90 }));
        for other in [Point { x: 100, y: 110 }, Point { x: 0, y: 100 }, Point { x: -100, y: 0 }] {
            assert!(!forth.agrees_with(other), "{other:?}");
        }
    }

    #[test]
    fn zeros_and_samples_out_of_order_are_passed_over() {
        let (mut clean, mut disturbed) = (bench(), bench());
        drive(&mut clean, 81, 0, (0, 4_600), 60.0);
        let mut ms = 0;
        let mut metres = 0.0;
        while metres < 4_600.0 {
            disturbed.arrive(ms, location(81, at_ms(ms), on_circuit(metres)));
            disturbed.arrive(ms, location(81, at_ms(ms - 700), on_circuit(metres - 50.0)));
            disturbed.arrive(ms, location(81, at_ms(ms + 1), [0, 0, 0]));
            (ms, metres) = (ms + 250, metres + 15.0);
        }
        let of = |bench: &Bench| outlines(bench).into_iter().map(|(_, circuit)| circuit).collect::<Vec<_>>();
        assert_eq!(of(&disturbed), of(&clean));
        assert_eq!(of(&clean).len(), 1);
    }

    #[test]
    fn samples_with_a_wrong_date_or_coordinates_out_of_range_are_passed_over() {
        let (mut clean, mut disturbed) = (bench(), bench());
        drive(&mut clean, 81, 0, (0, 4_600), 60.0);
        drive(&mut disturbed, 81, 0, (0, 2_000), 60.0);
        disturbed.arrive(33_400, location(81, at_ms(86_400_000), on_circuit(2_000.0)));
        disturbed.arrive(33_400, location(81, at_ms(33_400), [i32::MIN, i32::MAX, 1]));
        drive(&mut disturbed, 81, 33_500, (2_010, 4_600), 60.0);
        let of = |bench: &Bench| outlines(bench).into_iter().map(|(_, circuit)| circuit).collect::<Vec<_>>();
        assert_eq!(of(&disturbed), of(&clean));
        assert_eq!(of(&clean).len(), 1);
    }

    #[test]
    fn a_path_never_closed_stays_bounded() {
        let mut bench = bench();
        for index in 0..3_000 {
            let ms = i64::from(index) * 250;
            bench.arrive(ms, location(81, at_ms(ms), [index * 130, 1, 1]));
            let path = bench.state::<CircuitOperator>().paths.get(81).unwrap();
            assert!(path.points.len() <= POINTS_MAX && path.causes.len() <= POINTS_MAX);
        }
        assert!(outlines(&bench).is_empty());
    }
}
