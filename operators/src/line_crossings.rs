//! Line crossings: when each car crosses the timing line, from the locations around it.
//!
//! A straight line between the two fixes around the timing line is off by as much as either fix, some 5 m. So all fixes within
//! [`LineCrossingsOperator::window_ms`] of that moment are taken: way along the track against date by least squares, with the standard
//! error of the fit as the error bound. It is known [`LineCrossingsOperator::settle_ms`] after the crossing is noticed, when the fixes
//! behind the line have come. Fewer than four fixes, or a car that did not move on, leave the straight line.
//!
//! A car at pit-lane speed is braking, and its locations lag and catch up in jumps. There its wheels tell the way from fix to fix, and the
//! fixes of the [`LineCrossingsOperator::pit_window_ms`] after the line, which have caught up, where it began: their median, with the
//! middle four fifths as the error bound.
//!
//! The pit lane runs beside the line: a car no faster than [`LineCrossingsOperator::pit_speed_max`] and
//! [`LineCrossingsOperator::pit_offset_m`] beside the mean path of fast cars crosses in the pit lane. When a better line is learned, that path
//! is where the newest fast cars crossed the new line: behind a safety car there may be no fast car for many laps.
//!
//! One comparison a fix is all that is done away from the line.

use std::collections::VecDeque;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{Channel, LineCrossing, Telemetry, TimingLine};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::in_order;
use crate::odometer::Odometer;

/// Fixes and speeds kept of a car near the line: a car at walking pace makes more, and then the newest count.
const NEAR_MAX: usize = 64;

/// Farther than this from the line, dm, a car is somewhere else and may cross again.
const FAR: f64 = 4_000.0;

/// How far beside the point on the line, dm, a crossing is still one.
const BESIDE_MAX: f64 = 600.0;

/// Fast cars from which the path is known.
const FAST_MIN: u32 = 5;

/// Fast cars whose way along the line is kept, for the next line.
const FAST_WAYS_MAX: usize = 8;

/// Finds crossings.
#[derive(Debug, Clone, Copy)]
pub struct LineCrossingsOperator {
    /// Fixes this near to the crossing are fitted, ms.
    pub window_ms: i64,
    /// How long after it is noticed a crossing is said, ms: the next packet has come.
    pub settle_ms: i64,
    /// For how long after the line fixes of a car at pit-lane speed count, ms; its crossing is said a packet later.
    pub pit_window_ms: i64,
    /// Longest silence after which a crossing may be missing, ms.
    pub silence_ms_max: i64,
    /// Fastest that a car crosses in the pit lane, km/h: where the lane begins at the line it is still braking.
    pub pit_speed_max: i32,
    /// How far the pit lane is beside the path of fast cars at least, m.
    pub pit_offset_m: i32,
    /// Slowest car that counts as fast, km/h.
    pub fast_speed_min: i32,
    /// Packets of a car near the line whose ledger records are kept as causes. Of more, the newest count: seven come within the windows.
    pub packets_max: usize,
}

impl Default for LineCrossingsOperator {
    fn default() -> Self {
        Self {
            window_ms: 1_500,
            settle_ms: 1_500,
            pit_window_ms: 5_000,
            silence_ms_max: 5_000,
            pit_speed_max: 140,
            pit_offset_m: 6,
            fast_speed_min: 150,
            packets_max: 32,
        }
    }
}

/// The line and the cars near it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    line: Option<Line>,
    cars: ByDriver<Car>,
    /// How far beside the line's point fast cars cross, dm: sum and number.
    fast: (f64, u32),
    /// Where the newest fast cars were near the line, dm in the circuit's frame.
    fast_ways: VecDeque<Vec<(f64, f64)>>,
}

impl State {
    fn take_fast(&mut self, before: Fix, way: Vec<(f64, f64)>) {
        self.fast = (self.fast.0 + before.beside, self.fast.1 + 1);
        if self.fast_ways.len() == FAST_WAYS_MAX {
            self.fast_ways.pop_front();
        }
        self.fast_ways.push_back(way);
    }
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Line {
    x: f64,
    y: f64,
    heading: (f64, f64),
    error_m: i32,
}

impl Line {
    /// How far a point is beyond the line and to the left of the line's own point, dm.
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let (x, y) = (x - self.x, y - self.y);
        (x * self.heading.0 + y * self.heading.1, y * self.heading.0 - x * self.heading.1)
    }

    /// How far beside the line's point a way crosses the line, dm; `None` where it does not.
    fn crossed_beside(&self, way: &[(f64, f64)]) -> Option<f64> {
        let crosses = |pair: &&[(f64, f64)]| pair[0].0 < 0.0 && pair[1].0 >= 0.0 && pair[1].1.abs() <= BESIDE_MAX;
        let placed: Vec<(f64, f64)> = way.iter().map(|point| self.place(*point)).collect();
        placed.windows(2).rev().find(crosses).map(|pair| pair[0].1)
    }

    /// The point that [`place`](Self::place) puts there.
    fn point(&self, along: f64, beside: f64) -> (f64, f64) {
        (self.x + along * self.heading.0 - beside * self.heading.1, self.y + along * self.heading.1 + beside * self.heading.0)
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    heard_at: Option<Micros>,
    is_broken: bool,
    has_been_far: bool,
    near: Vec<Fix>,
    /// Speeds while it is near, km/h.
    speeds: Vec<(Micros, i32)>,
    /// Causes of the packets that `near` came from, with the date of their newest row.
    packets: Vec<(Micros, Vec<u64>)>,
    /// The two fixes around the line, by date.
    pending: Option<(Fix, Fix)>,
}

/// A fix near the line: dm beyond it, dm to the left of its point.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Fix {
    date: Micros,
    along: f64,
    beside: f64,
    speed: Option<i32>,
}

/// When a car was on the line, with its speed there.
struct Crossing {
    at: Micros,
    error_us: f64,
    /// dm/µs.
    speed: f64,
}

fn between(before: Fix, after: Fix) -> Crossing {
    let (span, step) = (after.date.since(before.date) as f64, after.along - before.along);
    let at = before.date.plus((span * -before.along / step).round() as i64);
    Crossing { at, error_us: span / 2.0, speed: step / span }
}

/// A least-squares line through the fixes around `about`; `None` when there are too few or the car did not move on.
fn fitted(near: &[Fix], about: Micros, window_us: i64) -> Option<Crossing> {
    let within = || near.iter().filter(|fix| fix.date.since(about).abs() <= window_us).map(|fix| (fix.date.since(about) as f64, fix.along));
    let count = within().count() as f64;
    if count < 4.0 {
        return None;
    }
    let (dates, ways) = within().fold((0.0, 0.0), |sum, (date, way)| (sum.0 + date, sum.1 + way));
    let (date_mean, way_mean) = (dates / count, ways / count);
    let (mut spread, mut product) = (0.0, 0.0);
    for (date, way) in within() {
        spread += (date - date_mean) * (date - date_mean);
        product += (date - date_mean) * (way - way_mean);
    }
    let speed = product / spread;
    let at = date_mean - way_mean / speed;
    if speed <= 0.0 || at.abs() > window_us as f64 {
        return None;
    }
    let mut squares = 0.0;
    for (date, way) in within() {
        let left = way - way_mean - speed * (date - date_mean);
        squares += left * left;
    }
    let from_mean = way_mean / speed;
    let error = (squares / (count - 2.0) * (1.0 / count + from_mean * from_mean / spread)).sqrt() / speed;
    Some(Crossing { at: about.plus(at.round() as i64), error_us: 3.0 * error, speed })
}

/// The way by the wheels, set to the fixes from `about` on; `None` when there are too few or no speeds.
fn by_wheels(near: &[Fix], speeds: &[(Micros, i32)], about: Micros, window_us: i64) -> Option<Crossing> {
    let odometer = Odometer::new(speeds);
    let within = near.iter().filter(|fix| (0..=window_us).contains(&fix.date.since(about)));
    let mut offsets: Vec<f64> = within.filter_map(|fix| Some(fix.along - odometer.way(fix.date)?)).collect();
    if offsets.len() < 4 {
        return None;
    }
    offsets.sort_by(f64::total_cmp);
    let last = offsets.len() - 1;
    let (at, speed) = odometer.passed(-offsets[last / 2])?;
    let error_us = (offsets[last - last / 10] - offsets[last / 10]) / 2.0 / speed;
    Some(Crossing { at, error_us, speed })
}

impl Operator for LineCrossingsOperator {
    const NAME: &'static str = "line_crossings";
    const VERSION: u32 = 3;
    type Output = LineCrossing;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("window_ms", self.window_ms.to_string()),
            ("settle_ms", self.settle_ms.to_string()),
            ("pit_window_ms", self.pit_window_ms.to_string()),
            ("silence_ms_max", self.silence_ms_max.to_string()),
            ("pit_speed_max", self.pit_speed_max.to_string()),
            ("pit_offset_m", self.pit_offset_m.to_string()),
            ("fast_speed_min", self.fast_speed_min.to_string()),
            ("packets_max", self.packets_max.to_string()),
        ]
    }

    fn on_timer(&self, state: &mut State, token: u64, context: &mut Context<'_, LineCrossing>) {
        let driver_number = token as i32;
        let (Some(line), Some(car)) = (state.line, state.cars.get_mut(driver_number)) else { return };
        let Some((before, after)) = car.pending.take() else { return };
        let straight = between(before, after);
        let by_wheels = self.is_slow(after).then(|| by_wheels(&car.near, &car.speeds, straight.at, self.pit_window_ms * 1_000)).flatten();
        let crossing = by_wheels.or_else(|| fitted(&car.near, straight.at, self.window_ms * 1_000)).unwrap_or(straight);
        let speed = before.speed.unwrap_or((crossing.speed * 360_000.0).round() as i32);
        let is_in_pit_lane = if speed > self.pit_speed_max {
            Some(false)
        } else {
            let (sum, count) = state.fast;
            (count >= FAST_MIN).then(|| (before.beside - sum / f64::from(count)).abs() >= f64::from(self.pit_offset_m * 10))
        };
        let is_fast = speed >= self.fast_speed_min;
        let fast_way = is_fast.then(|| car.near.iter().map(|fix| line.point(fix.along, fix.beside)).collect());
        let fact = LineCrossing {
            driver_number,
            crossed_at: crossing.at,
            error_ms: (crossing.error_us / 1_000.0) as i32 + 1,
            speed,
            line_error_m: line.error_m,
            is_in_pit_lane,
            is_unbroken: !car.is_broken,
        };
        car.is_broken = false;
        let causes = in_order(car.packets.iter().flat_map(|(_, causes)| causes).map(|cause| Some(*cause)));
        context.draft(fact).because(&causes).at(crossing.at).emit();
        if let Some(way) = fast_way {
            state.take_fast(before, way);
        }
    }
}

impl LineCrossingsOperator {
    fn is_slow(&self, fix: Fix) -> bool {
        fix.speed.is_some_and(|speed| speed <= self.pit_speed_max)
    }

    fn take_speeds(&self, car: &mut Car, packet: &Telemetry) {
        for (date, speed) in packet.samples.iter().filter_map(|row| row.speed.map(|speed| (row.date, speed))) {
            if car.speeds.len() == NEAR_MAX {
                car.speeds.remove(0);
            }
            let at = car.speeds.partition_point(|(kept, _)| *kept < date);
            car.speeds.insert(at, (date, speed));
        }
    }
}

impl Handle<TimingLine> for LineCrossingsOperator {
    fn apply(&self, state: &mut State, line: &TimingLine, _context: &mut Context<'_, LineCrossing>) {
        let heading = (line.heading_x, line.heading_y);
        let line = Line { x: f64::from(line.x), y: f64::from(line.y), heading, error_m: line.error_m };
        if let Some(former) = state.line.replace(line) {
            // A car between the two lines must cross the new one neither twice nor never, so its fixes are kept.
            for (_, car) in state.cars.iter_mut() {
                for fix in car.near.iter_mut().chain(car.pending.iter_mut().flat_map(|(before, after)| [before, after])) {
                    (fix.along, fix.beside) = line.place(former.point(fix.along, fix.beside));
                }
            }
        }
        let fast = state.fast_ways.iter().filter_map(|way| line.crossed_beside(way));
        state.fast = fast.fold((0.0, 0), |(sum, count), beside| (sum + beside, count + 1));
    }
}

impl Handle<Telemetry> for LineCrossingsOperator {
    fn apply(&self, state: &mut State, packet: &Telemetry, context: &mut Context<'_, LineCrossing>) {
        let (Some(line), Some(newest)) = (state.line, packet.samples.last().map(|row| row.date)) else { return };
        let car = state.cars.entry(packet.driver_number);
        if packet.channel == Channel::CarData {
            if !car.near.is_empty() {
                self.take_speeds(car, packet);
            }
            return;
        }
        car.is_broken |= car.heard_at.is_some_and(|heard_at| packet.samples[0].date.since(heard_at) > self.silence_ms_max * 1_000);
        car.heard_at = car.heard_at.max(Some(newest));
        let mut is_near = false;
        for row in &packet.samples {
            let (Some(x), Some(y)) = (row.x, row.y) else { continue };
            let (along, beside) = line.place((f64::from(x), f64::from(y)));
            if along.abs() > FAR || beside.abs() > FAR {
                if car.pending.is_none() {
                    car.has_been_far = true;
                    car.near.clear();
                    car.speeds.clear();
                    car.packets.clear();
                }
                continue;
            }
            is_near = true;
            let fix = Fix { date: row.date, along, beside, speed: row.speed };
            if car.has_been_far
                && along >= 0.0
                && beside.abs() <= BESIDE_MAX
                && let Some(before) = car.near.iter().rev().find(|kept| kept.date < fix.date && kept.along < 0.0)
            {
                car.pending = Some((*before, fix));
                car.has_been_far = false;
                let settle_ms = if self.is_slow(fix) { self.pit_window_ms + self.settle_ms } else { self.settle_ms };
                context.set_timer(context.now().plus(settle_ms * 1_000), packet.driver_number as u64);
            }
            if car.near.len() == NEAR_MAX {
                car.near.remove(0);
            }
            let at = car.near.partition_point(|kept| kept.date < fix.date);
            car.near.insert(at, fix);
        }
        if is_near {
            // Packets too old to touch a window are no evidence.
            let window = (2 * self.window_ms).max(self.pit_window_ms + self.settle_ms) * 1_000;
            car.packets.retain(|(date, _)| newest.since(*date) <= window);
            if car.packets.len() >= self.packets_max {
                car.packets.remove(0);
            }
            car.packets.push((newest, context.causes().to_vec()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::TelemetryOperator;
    use crate::testing::{Bench, at_ms, car_data, location};
    use pitwall_engine::graph::GraphBuilder;
    use pitwall_schemas::facts::LineSource;
    use pitwall_schemas::raw::{CarData, Location, Sample};

    /// Knows the line at once, whatever comes, and a better one as soon as car 99 is heard of: it lies `beyond` dm beyond.
    struct LineOfTheTest {
        beyond: i32,
    }

    impl Operator for LineOfTheTest {
        const NAME: &'static str = "line_of_the_test";
        const VERSION: u32 = 1;
        type Output = TimingLine;
        type State = i32;
    }

    impl Handle<Location> for LineOfTheTest {
        fn apply(&self, lines: &mut i32, sample: &Location, context: &mut Context<'_, TimingLine>) {
            if *lines == 0 || (*lines == 1 && sample.driver_number == 99) {
                let (source, x, heading_x, heading_y) = (LineSource::Grid, *lines * self.beyond, 1.0, 0.0);
                context.emit(TimingLine { source, x, y: 0, heading_x, heading_y, error_m: 1, clock_offset_ms: None });
                *lines += 1;
            }
        }
    }

    fn bench(beyond: i32, operator: LineCrossingsOperator) -> Bench {
        Bench::new(move |graph: &mut GraphBuilder<Sample>| {
            let line = graph.add(LineOfTheTest { beyond }, |inputs| inputs.samples::<Location>());
            let telemetry = graph.publish(TelemetryOperator::default(), |inputs| inputs.samples::<CarData>().samples::<Location>());
            graph.publish(operator, |inputs| inputs.stream(line).stream(telemetry));
        })
    }

    /// A car comes from 600 m before the first line to as far beyond it, `beside` dm to the left, from `ms` on.
    fn pass(bench: &mut Bench, driver_number: i32, ms: i64, speed: i32, beside: i32) {
        // One km/h is 1 dm in 360 ms.
        let step = 250 * speed / 360;
        for (at, x) in (ms..).step_by(250).zip((-6_000..6_000).step_by(step as usize)) {
            bench.arrive(at, car_data(driver_number, at_ms(at), speed));
            bench.arrive(at, location(driver_number, at_ms(at), [x, beside, 1]));
        }
    }

    /// Behind a safety car no car may be fast for many laps, so that the path would not be learned again before the stops.
    #[test]
    fn a_better_line_keeps_the_path_of_fast_cars_so_that_crossings_in_the_pit_lane_are_told() {
        for beyond in [-1_300, 570, 0] {
            let mut bench = bench(beyond, LineCrossingsOperator::default());
            for car in 1..=6 {
                pass(&mut bench, car, i64::from(car) * 20_000, 290, 10 * car);
            }
            bench.arrive(150_000, location(99, at_ms(150_000), [90_000, 90_000, 1]));
            pass(&mut bench, 7, 160_000, 80, 180);
            pass(&mut bench, 8, 300_000, 120, 40);
            bench.idle(500_000);
            let said: Vec<_> = bench.facts::<LineCrossing>().iter().map(|(_, fact)| (fact.driver_number, fact.is_in_pit_lane)).collect();
            let fast = (1..=6).map(|car| (car, Some(false)));
            let expected: Vec<_> = fast.chain([(7, Some(true)), (8, Some(false))]).collect();
            assert_eq!(said, expected, "{beyond} dm beyond");
        }
    }

    #[test]
    fn the_path_where_no_fast_car_was_heard_of_is_unknown() {
        let mut bench = bench(3_900, LineCrossingsOperator::default());
        for car in 1..=6 {
            pass(&mut bench, car, i64::from(car) * 20_000, 290, 0);
        }
        bench.arrive(150_000, location(99, at_ms(150_000), [90_000, 90_000, 1]));
        let state = bench.state::<LineCrossingsOperator>();
        assert_eq!((state.fast.1, state.fast_ways.len()), (0, 6));
    }

    #[test]
    fn a_car_that_stays_near_the_line_keeps_no_more_packets_than_the_limit() {
        let mut bench = bench(0, LineCrossingsOperator { packets_max: 4, ..LineCrossingsOperator::default() });
        // Packets every 10 ms, all within the windows.
        for ms in (0..1_000).step_by(10) {
            bench.arrive(ms, location(1, at_ms(ms), [-500, 0, 1]));
        }
        bench.idle(2_000);
        let car = bench.state::<LineCrossingsOperator>().cars.get(1).unwrap();
        assert_eq!((car.packets.len(), car.packets[3].0), (4, at_ms(990)));
    }

    fn fix(ms: i64, along: f64) -> Fix {
        Fix { date: Micros(ms * 1_000), along, beside: 0.0, speed: None }
    }

    /// A car at 80 m/s whose fixes are off by up to 6 m, as the feed's are; it is on the line at 1,000 ms.
    fn noisy() -> Vec<Fix> {
        let noise = [40.0, -60.0, 20.0, -30.0, 60.0, 50.0, -30.0, -10.0, -50.0, 10.0];
        (0..).step_by(220).zip(noise).map(|(ms, noise)| fix(i64::from(ms), (f64::from(ms) - 1_000.0) * 0.8 + noise)).collect()
    }

    #[test]
    fn all_fixes_around_the_line_tell_the_moment_better_than_two() {
        let near = noisy();
        let straight = between(near[4], near[5]);
        let fitted = fitted(&near, straight.at, 1_500_000).unwrap();
        let off = |crossing: &Crossing| crossing.at.since(Micros(1_000_000)).abs();
        assert!(off(&fitted) < 20_000 && off(&fitted) < off(&straight), "{} µs, {} µs", off(&fitted), off(&straight));
        assert!(off(&fitted) as f64 <= fitted.error_us);
    }

    #[test]
    fn in_the_pit_lane_the_wheels_tell_the_moment_when_locations_lag_and_jump() {
        // 80 km/h from the line at 1,000 ms on; fixes lag by 40 m until they jump at 2,400 ms.
        let way = |ms: i64| (ms - 1_000) as f64 * 0.08 / 0.36;
        let near: Vec<Fix> = (0..30).map(|step| step * 200).map(|ms| fix(ms, way(ms) - if ms < 2_400 { 400.0 } else { 0.0 })).collect();
        let speeds: Vec<(Micros, i32)> = (0..30).map(|step| (Micros(step * 200_000), 80)).collect();
        let after = near.iter().position(|fix| fix.along >= 0.0).unwrap();
        let straight = between(near[after - 1], near[after]);
        let off = |crossing: &Crossing| crossing.at.since(Micros(1_000_000)).abs();
        let by_wheels = by_wheels(&near, &speeds, straight.at, 5_000_000).unwrap();
        assert!(off(&by_wheels) < 10_000 && off(&straight) > 1_000_000, "{} µs, {} µs", off(&by_wheels), off(&straight));
    }

    #[test]
    fn three_fixes_or_a_car_that_stands_leave_the_straight_line() {
        let near = noisy();
        assert!(fitted(&near[4..7], Micros(1_000_000), 1_500_000).is_none());
        let standing: Vec<Fix> = (0..8).map(|step| fix(step * 220, -1.0)).collect();
        assert!(fitted(&standing, Micros(1_000_000), 1_500_000).is_none());
    }

    #[test]
    fn a_fix_keeps_its_place_on_the_circuit_when_the_line_moves() {
        let line = |x: f64, heading| Line { x, y: -50.0, heading, error_m: 1 };
        let (former, new) = (line(100.0, (0.6, 0.8)), line(120.0, (0.8, 0.6)));
        let (along, beside) = former.place((400.0, 700.0));
        let (x, y) = former.point(along, beside);
        assert!((x - 400.0).abs() < 1e-9 && (y - 700.0).abs() < 1e-9);
        assert_ne!(new.place((x, y)), (along, beside));
    }
}
