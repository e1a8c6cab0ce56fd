//! Timing line: where the line lies in the circuit's frame, from the grid at the start of a race or from where cars are when laps begin.
//!
//! No feed says where the line is. Two things tell:
//! * **The grid.** When a race starts, the cars stand in two columns whose front is pole's slot. The first 100 m of half of them give
//!   the driving direction. A car that stands more than [`TimingLineOperator::grid_gap_m_max`] from the next is not on the grid: it
//!   starts from the pit lane. The start line is some way beyond the timing line, 0 to 323 m: at a known circuit
//!   [`start_lines`](crate::start_lines) has the distance, once the session's document says which circuit it is. Samples do not tell that, so
//!   without the document, or at another circuit, the distance is Zandvoort's and the error of the line is the whole range.
//! * **Laps.** When a lap begins the car is on the line, but the clock of the locations is ahead of the laps' by some tenths of a second,
//!   which is 30 m at speed and 9 m in the pit lane. A least-squares fit of position against velocity separates the two: where a car of
//!   no speed would be is the line, the slope is the clocks' offset. In the pit lane locations lag and catch up in jumps, so there the
//!   fixes after the line and the wheels tell where the car was.
//!
//! Of two lines the one with the smaller error stands. Sums run in the order of arrival, with `+ − × ÷ √` alone, so they are the same
//! everywhere.

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{Channel, LineSource, SessionState, Telemetry, TimingLine, TrackStatus};
use pitwall_schemas::raw::{Lap, Session};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::{in_order, is_ahead};
use crate::odometer::Odometer;
use crate::start_lines::beyond_timing_line_m;

/// Fixes and speeds kept of each car: some twelve seconds, what a car in the pit lane needs and as much again as a document of a lap lags.
const RECENT_MAX: usize = 48;

/// How far a car goes from the grid, dm, before its way gives the direction.
const WAY_MIN: f64 = 1_000.0;

/// Lap starts farther than this, dm, from the middle of all are not at the line.
const OUTLIER: i32 = 1_000;

/// How long after the start, µs, a car first heard of then still stands on the grid: reactions take some 0.3 s.
const STANDING_MAX: i64 = 500_000;

/// How long after a lap began, µs, its fixes and speeds have come, in whatever order the packets did.
const ARRIVAL_MAX: i64 = 2_000_000;

/// Fastest start of a lap in the pit lane, dm/s; 140 km/h.
const PIT_SPEED_MAX: f64 = 389.0;

/// Fixes from which the wheels tell a place.
const FIXES_MIN: usize = 4;

/// For how long after such a start the fixes count, µs: those before lag (see `line_crossings`).
const PIT_WINDOW: i64 = 5_000_000;

/// Longest gap between two fixes that still tells where the car was in between, µs.
const BRACKET_MAX: i64 = 1_000_000;

/// Learns the line.
#[derive(Debug, Clone, Copy)]
pub struct TimingLineOperator {
    /// From where pole stands forward to the start line, m. Zandvoort's lines are 61 m apart; that pole stands 58 m beyond the timing line is
    /// what the fit of all its lap starts gives.
    pub pole_to_start_line_m: i32,
    /// How far the start line is taken to be beyond the timing line at an unknown circuit, m: Zandvoort's.
    pub start_line_guess_m: i32,
    /// How far a line from the grid may be off at an unknown circuit, m.
    pub grid_error_m: i32,
    /// How far it may be off at a known one, m: the first two slots may be empty, at 8 m each, and fixes are off by some 4 m.
    pub known_grid_error_m: i32,
    /// Longest way between two neighbours on the grid, m: an empty row or two.
    pub grid_gap_m_max: i32,
    /// Lap starts needed for a first fit, which is repeated whenever they have doubled.
    pub lap_starts_min: usize,
    /// Lap starts kept; with these the line is settled.
    pub lap_starts_max: usize,
}

impl Default for TimingLineOperator {
    fn default() -> Self {
        Self {
            pole_to_start_line_m: 3,
            start_line_guess_m: 61,
            grid_error_m: 265,
            known_grid_error_m: 20,
            grid_gap_m_max: 30,
            lap_starts_min: 20,
            lap_starts_max: 320,
        }
    }
}

/// What the line is learned from.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    is_race: bool,
    is_grid_done: bool,
    /// How far the start line is beyond the timing line, m, and the ledger record that said which circuit it is.
    start_line: Option<(i32, u64)>,
    started_at: Option<Micros>,
    start_causes: Vec<u64>,
    cars: ByDriver<Car>,
    lap_starts: Vec<LapStart>,
    error_m: Option<i32>,
    issued: Option<Issued>,
    is_settled: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    recent: Vec<Fix>,
    /// Newest speeds, km/h.
    speeds: Vec<(Micros, i32)>,
    /// Where it stood at the start.
    stood: Option<Fix>,
    /// Its way from there, once long enough.
    way: Option<(f64, f64)>,
    /// Number and beginning of the newest lap whose start is known.
    lap: Option<(i32, Micros)>,
    /// A start not yet placed, and the ledger record that said it.
    lap_start: Option<(Micros, u64)>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Fix {
    date: Micros,
    x: i32,
    y: i32,
    cause: u64,
}

/// Where a car was when a lap began, dm, and its velocity, dm/s.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct LapStart {
    position: (f64, f64),
    velocity: (f64, f64),
    causes: [u64; 2],
}

/// What a fit says.
struct Fit {
    point: (f64, f64),
    heading: (f64, f64),
    offset_s: f64,
    error_dm: f64,
}

fn dot(a: (f64, f64), b: (f64, f64)) -> f64 {
    a.0 * b.0 + a.1 * b.1
}

fn unit(vector: (f64, f64)) -> Option<(f64, f64)> {
    let length = dot(vector, vector).sqrt();
    (length > 0.0).then(|| (vector.0 / length, vector.1 / length))
}

fn way(from: Fix, to: Fix) -> (f64, f64) {
    (f64::from(to.x - from.x), f64::from(to.y - from.y))
}

fn mean(values: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let (sum, count) = values.fold(((0.0, 0.0), 0.0), |(sum, count), value| ((sum.0 + value.0, sum.1 + value.1), count + 1.0));
    (sum.0 / count, sum.1 / count)
}

impl Car {
    fn take(&mut self, fix: Fix, started_at: Option<Micros>) {
        // A packet may arrive before one that was measured earlier.
        let is_standing = |started_at: Micros| (0..=STANDING_MAX).contains(&fix.date.since(started_at));
        if started_at.is_some_and(is_standing) && self.stood.is_none_or(|stood| fix.date < stood.date) {
            (self.stood, self.way) = (Some(fix), None);
        }
        let at = self.recent.partition_point(|kept| kept.date < fix.date);
        if self.recent.get(at).is_some_and(|kept| kept.date == fix.date) {
            return;
        }
        self.recent.insert(at, fix);
        if self.recent.len() > RECENT_MAX {
            self.recent.remove(0);
        }
        if let (Some(stood), None) = (self.stood, self.way) {
            let way = way(stood, fix);
            self.way = (dot(way, way) >= WAY_MIN * WAY_MIN).then_some(way);
        }
    }

    fn take_speed(&mut self, date: Micros, speed: i32) {
        if self.speeds.len() == RECENT_MAX {
            self.speeds.remove(0);
        }
        let at = self.speeds.partition_point(|(kept, _)| *kept < date);
        if self.speeds.get(at).is_none_or(|(kept, _)| *kept != date) {
            self.speeds.insert(at, (date, speed));
        }
    }

    /// Places a lap's start between two fixes and two speeds, once both have come.
    fn place_lap_start(&mut self) -> Option<LapStart> {
        let (started_at, cause) = self.lap_start?;
        let has_come = |newest: Option<Micros>| newest.is_some_and(|newest| newest.since(started_at) > ARRIVAL_MAX);
        if !has_come(self.recent.last().map(|fix| fix.date)) || !has_come(self.speeds.last().map(|(date, _)| *date)) {
            return None;
        }
        let after = self.recent.partition_point(|fix| fix.date < started_at);
        let brackets = after.checked_sub(1).and_then(|before| Some((*self.recent.get(before)?, *self.recent.get(after)?)));
        let next = self.speeds.partition_point(|(date, _)| *date < started_at);
        let speeds = next.checked_sub(1).and_then(|previous| Some((*self.speeds.get(previous)?, *self.speeds.get(next)?)));
        let (Some((before, after)), Some((previous, next))) = (brackets, speeds) else {
            self.lap_start = None;
            return None;
        };
        if after.date.since(before.date) > BRACKET_MAX || next.0.since(previous.0) > BRACKET_MAX {
            self.lap_start = None;
            return None;
        }
        let share = |before: Micros, after: Micros| started_at.since(before) as f64 / after.since(before) as f64;
        let speed = (f64::from(previous.1) + share(previous.0, next.0) * f64::from(next.1 - previous.1)) / 0.36;
        let is_slow = speed <= PIT_SPEED_MAX;
        if is_slow && self.speeds.last().is_none_or(|(date, _)| date.since(started_at) <= PIT_WINDOW + ARRIVAL_MAX) {
            return None;
        }
        self.lap_start = None;
        let way = way(before, after);
        let gone = share(before.date, after.date);
        let (position, heading) = if is_slow {
            self.place_by_wheels(started_at)?
        } else {
            ((f64::from(before.x) + gone * way.0, f64::from(before.y) + gone * way.1), unit(way)?)
        };
        Some(LapStart { position, velocity: (heading.0 * speed, heading.1 * speed), causes: [cause, after.cause] })
    }

    /// Where a car in the pit lane was at `date` and where it was heading: each fix after that, taken back by what the wheels went; the
    /// median of them.
    fn place_by_wheels(&self, date: Micros) -> Option<((f64, f64), (f64, f64))> {
        let odometer = Odometer::new(&self.speeds);
        let began = odometer.way(date)?;
        let within = || self.recent.iter().filter(|fix| (0..=PIT_WINDOW).contains(&fix.date.since(date)));
        let heading = unit(way(*within().next()?, *within().next_back()?))?;
        let gone = |fix: &Fix| odometer.way(fix.date).map(|way| way - began);
        let median = |taken_back: &dyn Fn(&Fix) -> Option<f64>| {
            let mut values: Vec<f64> = within().filter_map(taken_back).collect();
            values.sort_by(f64::total_cmp);
            (values.len() >= FIXES_MIN).then(|| values[(values.len() - 1) / 2])
        };
        let x = median(&|fix| Some(f64::from(fix.x) - heading.0 * gone(fix)?))?;
        let y = median(&|fix| Some(f64::from(fix.y) - heading.1 * gone(fix)?))?;
        Some(((x, y), heading))
    }
}

/// Position against velocity by least squares; `None` when the starts do not fit one place.
fn fit(starts: &[LapStart]) -> Option<Fit> {
    let middle = |coordinate: fn(&LapStart) -> f64| {
        let mut values: Vec<i32> = starts.iter().map(|start| coordinate(start) as i32).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let (x, y) = (middle(|start| start.position.0), middle(|start| start.position.1));
    let is_near = |start: &&LapStart| (start.position.0 as i32 - x).abs() <= OUTLIER && (start.position.1 as i32 - y).abs() <= OUTLIER;
    let near: Vec<&LapStart> = starts.iter().filter(is_near).collect();
    let count = near.len() as f64;
    if near.len() * 2 <= starts.len() || near.len() < 3 {
        return None;
    }
    let position = mean(near.iter().map(|start| start.position));
    let heading = unit(mean(near.iter().map(|start| start.velocity)))?;
    // Along the mean direction alone: the direction of a single velocity is noise.
    let along = |start: &LapStart| dot((start.position.0 - position.0, start.position.1 - position.1), heading);
    let speed = |start: &LapStart| dot(start.velocity, start.velocity).sqrt();
    let speed_mean = near.iter().map(|start| speed(start)).sum::<f64>() / count;
    let (mut spread, mut product) = (0.0, 0.0);
    for start in &near {
        spread += (speed(start) - speed_mean) * (speed(start) - speed_mean);
        product += (speed(start) - speed_mean) * along(start);
    }
    if spread <= 0.0 {
        return None;
    }
    let offset_s = product / spread;
    let squares: f64 = near.iter().map(|start| along(start) - (speed(start) - speed_mean) * offset_s).map(|left| left * left).sum();
    let error_dm = 2.0 * (squares / (count - 2.0) * (1.0 / count + speed_mean * speed_mean / spread)).sqrt();
    let back = speed_mean * offset_s;
    Some(Fit { point: (position.0 - back * heading.0, position.1 - back * heading.1), heading, offset_s, error_dm })
}

impl TimingLineOperator {
    /// The line from the grid, once half of the cars that stood have gone far enough, with what it came from.
    fn grid_line(&self, state: &State) -> Option<(TimingLine, Vec<u64>)> {
        let stood: Vec<(Fix, Option<(f64, f64)>)> =
            state.cars.iter().filter_map(|(_, car)| car.stood.map(|stood| (stood, car.way))).collect();
        let ways: Vec<(f64, f64)> = stood.iter().filter_map(|(_, way)| *way).collect();
        if ways.len() < 2 || ways.len() * 2 < stood.len() {
            return None;
        }
        let heading = unit(mean(ways.into_iter()))?;
        let along = |fix: &Fix| dot((f64::from(fix.x), f64::from(fix.y)), heading);
        let mut cars: Vec<Fix> = stood.iter().map(|(fix, _)| *fix).collect();
        cars.sort_by(|one, other| along(other).total_cmp(&along(one)));
        let gap_max = f64::from(self.grid_gap_m_max * 10);
        let grid = cars.chunk_by(|ahead, behind| along(ahead) - along(behind) <= gap_max).max_by_key(|run| run.len())?;
        if grid.len() * 2 <= cars.len() {
            return None;
        }
        let (start_line_m, error_m) =
            state.start_line.map_or((self.start_line_guess_m, self.grid_error_m), |(known_m, _)| (known_m, self.known_grid_error_m));
        let back = along(&grid[0]) - f64::from((start_line_m - self.pole_to_start_line_m) * 10);
        let middle = mean(grid.iter().map(|fix| (f64::from(fix.x), f64::from(fix.y))));
        let step = back - dot(middle, heading);
        let line = TimingLine {
            source: LineSource::Grid,
            x: (middle.0 + step * heading.0).round() as i32,
            y: (middle.1 + step * heading.1).round() as i32,
            heading_x: heading.0,
            heading_y: heading.1,
            error_m,
            clock_offset_ms: None,
        };
        let circuit_cause = state.start_line.map(|(_, cause)| cause);
        let start_causes = state.start_causes.iter().map(|cause| Some(*cause));
        Some((line, in_order(grid.iter().map(|fix| Some(fix.cause)).chain(start_causes).chain([circuit_cause]))))
    }

    fn learn_from_laps(&self, state: &mut State, context: &mut Context<'_, TimingLine>) {
        let count = state.lap_starts.len();
        let is_due =
            count >= self.lap_starts_min && count.is_multiple_of(self.lap_starts_min) && (count / self.lap_starts_min).is_power_of_two();
        if is_due && let Some(fit) = fit(&state.lap_starts) {
            let line = TimingLine {
                source: LineSource::Laps,
                x: fit.point.0.round() as i32,
                y: fit.point.1.round() as i32,
                heading_x: fit.heading.0,
                heading_y: fit.heading.1,
                error_m: (fit.error_dm / 10.0) as i32 + 1,
                clock_offset_ms: Some((fit.offset_s * 1_000.0).round() as i32),
            };
            let causes = in_order(state.lap_starts.iter().flat_map(|start| start.causes).map(Some));
            say(state, line, &causes, context);
        }
        if count >= self.lap_starts_max {
            let (error_m, issued) = (state.error_m, state.issued);
            *state = State { error_m, issued, is_settled: true, ..State::default() };
        }
    }
}

/// Says the line if it is better than the one that stands.
fn say(state: &mut State, line: TimingLine, causes: &[u64], context: &mut Context<'_, TimingLine>) {
    if state.error_m.is_none_or(|error_m| line.error_m < error_m) {
        state.error_m = Some(line.error_m);
        state.issued = Some(context.draft(line).because(causes).correcting(state.issued).emit());
    }
}

impl Operator for TimingLineOperator {
    const NAME: &'static str = "timing_line";
    const VERSION: u32 = 2;
    type Output = TimingLine;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("pole_to_start_line_m", self.pole_to_start_line_m.to_string()),
            ("start_line_guess_m", self.start_line_guess_m.to_string()),
            ("grid_error_m", self.grid_error_m.to_string()),
            ("known_grid_error_m", self.known_grid_error_m.to_string()),
            ("grid_gap_m_max", self.grid_gap_m_max.to_string()),
            ("lap_starts_min", self.lap_starts_min.to_string()),
            ("lap_starts_max", self.lap_starts_max.to_string()),
        ]
    }
}

impl Handle<TrackStatus> for TimingLineOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, TimingLine>) {
        if state.is_settled {
            return;
        }
        // Only in a race does race control count laps, and only there do cars start from a grid.
        state.is_race |= status.lap_number.is_some();
        if !state.is_race || status.session != SessionState::Started || status.started_at == state.started_at {
            return;
        }
        let Some(started_at) = status.started_at else { return };
        state.start_causes = context.causes().to_vec();
        state.started_at = Some(started_at);
        for (_, car) in state.cars.iter_mut() {
            car.stood = car.recent.iter().rev().find(|fix| fix.date <= started_at).copied();
        }
    }
}

impl Handle<Lap> for TimingLineOperator {
    fn apply(&self, state: &mut State, document: &Lap, context: &mut Context<'_, TimingLine>) {
        // Outside races a lap that begins in the pit lane begins anywhere there; lap 1 of a race begins on the grid.
        let begins_elsewhere = if state.is_race { document.lap_number == 1 } else { document.is_pit_out_lap };
        let Some(started_at) = document.date_start.filter(|_| !state.is_settled && !begins_elsewhere) else { return };
        if is_ahead(started_at, context.now()) {
            return;
        }
        // A number out of reach is an error of the feed, and the laps after it count all the same.
        let car = state.cars.entry(document.driver_number);
        if car.lap.is_none_or(|(number, began_at)| document.lap_number != number && started_at > began_at) {
            car.lap = Some((document.lap_number, started_at));
            car.lap_start = Some((started_at, context.seq()));
        }
    }
}

impl Handle<Session> for TimingLineOperator {
    fn apply(&self, state: &mut State, document: &Session, context: &mut Context<'_, TimingLine>) {
        if state.is_settled || state.start_line.is_some() {
            return;
        }
        state.start_line = beyond_timing_line_m(document).map(|beyond_m| (beyond_m, context.seq()));
        // The document may come after the start.
        if state.start_line.is_some()
            && state.is_grid_done
            && let Some((line, causes)) = self.grid_line(state)
        {
            say(state, line, &causes, context);
        }
    }
}

impl Handle<Telemetry> for TimingLineOperator {
    fn apply(&self, state: &mut State, packet: &Telemetry, context: &mut Context<'_, TimingLine>) {
        if state.is_settled {
            return;
        }
        let car = state.cars.entry(packet.driver_number);
        let had_way = car.way.is_some();
        for (row, cause) in packet.samples.iter().zip(context.causes()) {
            match (packet.channel, row.x, row.y, row.speed) {
                (Channel::Location, Some(x), Some(y), _) => car.take(Fix { date: row.date, x, y, cause: *cause }, state.started_at),
                (Channel::CarData, _, _, Some(speed)) => car.take_speed(row.date, speed),
                _ => {}
            }
        }
        let has_gone = car.way.is_some() && !had_way;
        let lap_start = car.place_lap_start();
        if has_gone
            && !state.is_grid_done
            && let Some((line, causes)) = self.grid_line(state)
        {
            state.is_grid_done = true;
            say(state, line, &causes, context);
        }
        if let Some(lap_start) = lap_start {
            state.lap_starts.push(lap_start);
            self.learn_from_laps(state, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use pitwall_schemas::raw::{CarData, Location, RaceControl, Sample};

    use super::*;
    use crate::telemetry::TelemetryOperator;
    use crate::testing::{Bench, at_ms, car_data, lap, location, race_control, session_at};
    use crate::track_status::TrackStatusOperator;

    /// Cars at these speeds, dm/s, when their laps begin: on the line at x = 5,000, with locations 0.4 s ahead of the clock of the laps.
    fn lap_starts(speeds: &[f64]) -> Vec<LapStart> {
        let start = |speed: &f64| LapStart { position: (5_000.0 + 0.4 * speed, 70.0), velocity: (*speed, 0.0), causes: [0, 1] };
        speeds.iter().map(start).collect()
    }

    #[test]
    fn cars_of_different_speeds_tell_the_line_from_the_clocks_offset() {
        let fit = fit(&lap_starts(&[800.0, 820.0, 790.0, 220.0, 225.0])).unwrap();
        assert!((fit.point.0 - 5_000.0).abs() < 1e-6 && (fit.offset_s - 0.4).abs() < 1e-9);
    }

    #[test]
    fn cars_of_one_speed_tell_no_line() {
        assert!(fit(&lap_starts(&[800.0, 800.0, 800.0])).is_none());
    }

    #[test]
    fn a_start_far_from_the_others_is_not_at_the_line() {
        let mut starts = lap_starts(&[800.0, 820.0, 790.0, 220.0]);
        starts.push(LapStart { position: (-9_000.0, 70.0), velocity: (100.0, 0.0), causes: [0, 1] });
        assert!((fit(&starts).unwrap().point.0 - 5_000.0).abs() < 1e-6);
    }

    /// Four cars on the grid, the first at x = 10,000, and a fifth in the pit exit.
    fn grid() -> State {
        let mut state = State::default();
        for (car, x) in (1..).zip([10_000, 9_920, 9_840, 9_760, 12_000]) {
            let stood = Fix { date: Micros(0), x, y: car * 10, cause: car as u64 };
            *state.cars.entry(car) = Car { stood: Some(stood), way: Some((1_000.0, 0.0)), ..Car::default() };
        }
        state
    }

    #[test]
    fn at_an_unknown_circuit_the_line_lies_58_m_behind_the_front_of_the_grid_or_anywhere_within_265_m() {
        let (line, causes) = TimingLineOperator::default().grid_line(&grid()).unwrap();
        assert_eq!((line.x, line.heading_x, line.error_m), (9_420, 1.0, 265));
        assert_eq!(causes, [1, 2, 3, 4], "the car in the pit exit is not on the grid");
    }

    #[test]
    fn at_a_known_circuit_the_line_lies_where_its_start_line_tells() {
        for (start_line_m, x) in [(0, 10_030), (61, 9_420), (190, 8_130), (323, 6_800)] {
            let state = State { start_line: Some((start_line_m, 9)), ..grid() };
            let (line, causes) = TimingLineOperator::default().grid_line(&state).unwrap();
            assert_eq!((line.x, line.error_m), (x, 20), "{start_line_m} m");
            assert_eq!(causes, [1, 2, 3, 4, 9]);
        }
    }

    #[test]
    fn every_known_start_line_is_within_the_error_of_the_guess() {
        let operator = TimingLineOperator::default();
        for beyond_m in [0, 323] {
            assert!((beyond_m - operator.start_line_guess_m).abs() <= operator.grid_error_m);
        }
    }

    fn bench() -> Bench {
        Bench::new(|graph| {
            let status = graph.add(TrackStatusOperator, |inputs| inputs.samples::<RaceControl>().samples::<Lap>());
            let telemetry = graph.add(TelemetryOperator::default(), |inputs| inputs.samples::<CarData>().samples::<Location>());
            graph.publish(TimingLineOperator::default(), |inputs| {
                inputs.samples::<Lap>().samples::<Session>().stream(status).stream(telemetry)
            });
        })
    }

    fn shanghai() -> Sample {
        Sample::from(session_at(Some(49), Some("Shanghai")))
    }

    /// Two cars leave the grid at 10 s.
    fn start(bench: &mut Bench, from_ms: i64) {
        let category = Some("SessionStatus".into());
        let started = RaceControl { category, lap_number: Some(1), ..race_control(at_ms(from_ms), "SESSION STARTED") };
        for ms in (0..8_000).step_by(250) {
            if ms == 1_000 {
                bench.arrive(from_ms, Sample::from(started.clone()));
            }
            let gone = (ms as i32 - 1_000).max(0) / 2;
            for (car, x) in [(1, 10_000), (4, 9_920)] {
                let at = from_ms - 1_000 + ms;
                bench.arrive(at, location(car, at_ms(at), [x + gone, 1, 1]));
            }
        }
        bench.idle(from_ms + 8_000);
    }

    fn lines(bench: &Bench) -> Vec<(i32, i32, Option<i64>)> {
        bench.facts::<TimingLine>().iter().map(|(header, line)| (line.x, line.error_m, header.supersedes)).collect()
    }

    #[test]
    fn the_sessions_document_tells_the_circuit_before_the_start_or_after_it() {
        let (mut before, mut after) = (bench(), bench());
        before.arrive(0, shanghai());
        start(&mut before, 10_000);
        assert_eq!(lines(&before), [(8_130, 20, None)]);
        start(&mut after, 10_000);
        assert_eq!(lines(&after), [(9_420, 265, None)]);
        after.arrive(30_000, shanghai());
        after.arrive(30_001, shanghai());
        assert_eq!(lines(&after)[1..], [(8_130, 20, Some(0))], "said once");
    }

    #[test]
    fn one_lap_out_of_reach_or_dated_ahead_does_not_hide_the_laps_after_it() {
        let mut bench = bench();
        let begin = |number, ms| Sample::from(Lap { date_start: Some(at_ms(ms)), ..lap(4, number) });
        bench.arrive(100_000, begin(2, 100_000));
        bench.arrive(110_000, begin(57, 109_000));
        bench.arrive(111_000, begin(3, 86_400_000));
        for number in [3, 4] {
            let ms = i64::from(number) * 90_000 - 80_000;
            bench.arrive(ms, begin(number, ms));
            bench.arrive(ms, begin(number, ms + 20));
            for step in (-2_000..4_000).step_by(250) {
                bench.arrive(ms + step + 3_000, location(4, at_ms(ms + step), [step as i32, 1, 1]));
                bench.arrive(ms + step + 3_000, car_data(4, at_ms(ms + step), 290));
            }
        }
        bench.idle(400_000);
        assert_eq!(bench.state::<TimingLineOperator>().lap_starts.len(), 2);
    }
}
