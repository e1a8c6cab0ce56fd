//! Road: which of two cars of a race is behind the other, by their own laps and locations; the evidence of [`disputes`](crate::disputes).
//!
//! * By locations: a car is behind another when the other was where the car is now some time before, going the same way and on the lap
//!   that the car is on. Nothing is said of a car that is not heard of now, nor of one whose count of laps may be late.
//! * By laps: a car is behind another when the other began the next lap and the car did not, for longer than any lag of the feed. Two
//!   cars must have begun it: a single count may be wrong, or the others' laps a hole in the feed.
//! * A lap begins where the feed says, or where an estimated lap ended, whichever is known first.

use std::collections::VecDeque;

use pitwall_engine::Micros;
use pitwall_schemas::facts::{Channel, Telemetry};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::is_ahead;

/// Fixes kept of each car: two minutes and more, so at racing speed a whole lap of every circuit.
const FIXES_MAX: usize = 128;

/// Least time between two fixes kept, µs.
const SPACING: i64 = 900_000;

/// Longest time between two fixes that still tells where the car was in between, µs.
const BRACKET_MAX: i64 = 5 * Micros::SECOND;

/// A car whose newest reading is older than this, µs, is not heard of now.
const SILENCE_MAX: i64 = 5 * Micros::SECOND;

/// How far beside another car's way a car may be, dm, to be on it: the width of the track, and as much again for the error of both.
const BESIDE_MAX: f64 = 250.0;

/// Least way between two fixes that tells where a car is heading, dm.
const HEADING_MIN: f64 = 50.0;

/// Least speed of a car that goes on, dm/s; 90 km/h is more than any pit lane allows.
const GOES_ON_MIN: f64 = 250.0;

/// Hardest braking, dm/s²; 5 g.
const BRAKING_MAX: f64 = 500.0;

/// Hardest acceleration, dm/s²; 1.2 g out of a slow corner.
const ACCELERATION_MAX: f64 = 120.0;

/// Error of the way between two cars, dm: that of both fixes.
const WAY_ERROR: f64 = 200.0;

/// Fastest wheels of a car that stands, km/h.
const STANDS_MAX: i32 = 5;

/// Least speed of the wheels of a car that races, km/h.
const RACES_MIN: i32 = 100;

/// How long a car stands at least, µs, before its place counts against it.
const STANDING_MIN: i64 = 2 * Micros::SECOND;

/// Starts of laps kept of each car.
const LAPS_MAX: usize = 4;

/// How much longer than the lap before a lap may last, in percent, before the count of laps is taken to be late.
const LAP_PERCENT_MAX: i64 = 125;

/// The cars as they were lately.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Road {
    cars: ByDriver<Car>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    /// By date.
    fixes: VecDeque<Fix>,
    /// By number.
    laps: Vec<LapStart>,
    wheels: Option<Wheels>,
}

/// Where a car was, dm, and the ledger record that said so.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Fix {
    date: Micros,
    x: i32,
    y: i32,
    cause: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct LapStart {
    lap_number: i32,
    at: Micros,
    known_at: Micros,
    cause: u64,
}

/// The newest speed, km/h, and since when the car stands.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Wheels {
    date: Micros,
    speed: i32,
    stands_since: Option<Micros>,
    cause: u64,
}

/// That a car is behind another: by how much, µs, when that was measured, and the ledger records that say so.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behind {
    pub(crate) by: i64,
    pub(crate) at: Micros,
    /// The way between the two, dm, and the speeds of the car and of the other, dm/s.
    way: f64,
    speeds: [f64; 2],
    pub(crate) causes: [u64; 2],
}

impl Behind {
    /// Whether the car can be level with the other at `date`, were it to accelerate and the other to brake as hard as they can.
    pub(crate) fn can_be_level(&self, date: Micros) -> bool {
        let [own, other] = self.speeds;
        let time = date.since(self.at).max(0) as f64 / Micros::SECOND as f64;
        let braking = time.min(other / BRAKING_MAX);
        let most = own * time + ACCELERATION_MAX / 2.0 * time * time;
        let least = other * braking - BRAKING_MAX / 2.0 * braking * braking;
        most + WAY_ERROR >= self.way + least
    }
}

fn way(from: Fix, to: Fix) -> (f64, f64) {
    (f64::from(to.x - from.x), f64::from(to.y - from.y))
}

fn dot(one: (f64, f64), other: (f64, f64)) -> f64 {
    one.0 * other.0 + one.1 * other.1
}

fn length(way: (f64, f64)) -> f64 {
    dot(way, way).sqrt()
}

/// Speed from one fix to the next, dm/s.
fn speed([before, after]: [Fix; 2]) -> f64 {
    length(way(before, after)) * Micros::SECOND as f64 / after.date.since(before.date) as f64
}

impl Car {
    fn go_to(&mut self, fix: Fix) {
        if self.fixes.back().is_some_and(|newest| fix.date.since(newest.date) < SPACING) {
            return;
        }
        if self.fixes.len() == FIXES_MAX {
            self.fixes.pop_front();
        }
        self.fixes.push_back(fix);
    }

    fn turn_wheels(&mut self, date: Micros, speed: i32, cause: u64) {
        if self.wheels.is_some_and(|newest| date <= newest.date) {
            return;
        }
        let stood_since = self.wheels.and_then(|newest| newest.stands_since);
        let stands_since = (speed <= STANDS_MAX).then(|| stood_since.unwrap_or(date));
        self.wheels = Some(Wheels { date, speed, stands_since, cause });
    }

    /// The two newest fixes, the older first, when the car is heard of now.
    fn newest(&self, now: Micros) -> Option<[Fix; 2]> {
        let newest = *self.fixes.back()?;
        let before = *self.fixes.get(self.fixes.len().checked_sub(2)?)?;
        (now.since(newest.date) <= SILENCE_MAX && newest.date.since(before.date) <= BRACKET_MAX).then_some([before, newest])
    }

    fn goes_on(&self, now: Micros) -> bool {
        self.newest(now).is_some_and(|newest| speed(newest) >= GOES_ON_MIN)
    }

    /// Way from where the car was at `from` to where it was at `until`, or where it is by its newest fix; dm.
    fn way_between(&self, from: Micros, until: Micros) -> f64 {
        let pairs = self.fixes.iter().zip(self.fixes.iter().skip(1));
        pairs
            .map(|(before, after)| {
                let (began, ended) = (before.date.max(from), after.date.min(until));
                let share = ended.since(began).max(0) as f64 / after.date.since(before.date) as f64;
                share * length(way(*before, *after))
            })
            .sum()
    }

    fn wheels(&self, now: Micros) -> Option<Wheels> {
        self.wheels.filter(|wheels| now.since(wheels.date) <= SILENCE_MAX)
    }

    /// The lap that the car was on at `date`, by its count.
    fn lap_at(&self, date: Micros) -> Option<i32> {
        self.laps.iter().rev().find(|lap| lap.at <= date).map(|lap| lap.lap_number)
    }

    /// The same when the lap has not lasted so long that the next must have begun. Of lap 1 nothing is known.
    fn counted_lap_at(&self, date: Micros) -> Option<i32> {
        let after = self.laps.partition_point(|lap| lap.at <= date);
        let (before, lap) = (self.laps.get(after.checked_sub(2)?)?, self.laps.get(after - 1)?);
        let longest = lap.at.since(before.at) * LAP_PERCENT_MAX / 100;
        (lap.lap_number == before.lap_number + 1 && date.since(lap.at) <= longest).then_some(lap.lap_number)
    }

    /// When the car was last where `point` is, going the same way as `heading` where that is known, and the record that says so.
    fn passed(&self, point: Fix, heading: Option<(f64, f64)>) -> Option<(Micros, u64)> {
        let pairs = self.fixes.iter().rev().skip(1).zip(self.fixes.iter().rev());
        for (from, to) in pairs.filter(|(from, to)| to.date.since(from.date) <= BRACKET_MAX) {
            let (step, aside) = (way(*from, *to), way(*from, point));
            let length = dot(step, step);
            let share = if length > 0.0 { (dot(aside, step) / length).clamp(0.0, 1.0) } else { 0.0 };
            let left = (aside.0 - share * step.0, aside.1 - share * step.1);
            let is_same_way = heading.is_none_or(|heading| dot(step, heading) > 0.0);
            if is_same_way && dot(left, left) <= BESIDE_MAX * BESIDE_MAX {
                let date = from.date.plus((to.date.since(from.date) as f64 * share) as i64);
                return Some((date, to.cause));
            }
        }
        None
    }
}

impl Road {
    /// Takes a packet of a car's telemetry that ledger record `cause` ended.
    pub(crate) fn take_telemetry(&mut self, packet: &Telemetry, now: Micros, cause: u64) {
        let car = self.cars.entry(packet.driver_number);
        // A reading dated well after its arrival would make all later ones stale.
        for row in packet.samples.iter().filter(|row| !is_ahead(row.date, now)) {
            match (packet.channel, row.speed, row.x.zip(row.y)) {
                (Channel::Location, _, Some((x, y))) => car.go_to(Fix { date: row.date, x, y, cause }),
                (Channel::CarData, Some(speed), _) => car.turn_wheels(row.date, speed, cause),
                _ => {}
            }
        }
    }

    /// A car began a lap at `at`. Tells whether that is news.
    pub(crate) fn take_lap(&mut self, driver_number: i32, lap_number: i32, at: Micros, now: Micros, cause: u64) -> bool {
        let laps = &mut self.cars.entry(driver_number).laps;
        if let Some(known) = laps.iter_mut().find(|known| known.lap_number == lap_number) {
            known.at = at;
            return false;
        }
        let is_news = laps.last().is_none_or(|newest| newest.lap_number < lap_number);
        if is_news {
            laps.push(LapStart { lap_number, at, known_at: now, cause });
            if laps.len() > LAPS_MAX {
                laps.remove(0);
            }
        }
        is_news
    }

    /// A lap proves to be none.
    pub(crate) fn forget_lap(&mut self, driver_number: i32, lap_number: i32) {
        self.cars.entry(driver_number).laps.retain(|lap| lap.lap_number != lap_number);
    }

    /// Whether the car's location is known now.
    pub(crate) fn is_heard(&self, driver_number: i32, now: Micros) -> bool {
        self.cars.get(driver_number).is_some_and(|car| car.newest(now).is_some())
    }

    /// Whether the car is driving at speed now, by its locations.
    pub(crate) fn goes_on(&self, driver_number: i32, now: Micros) -> bool {
        self.cars.get(driver_number).is_some_and(|car| car.goes_on(now))
    }

    /// By how much `driver_number` is behind `other` on the road, by its two newest fixes: the lesser of what they say.
    pub(crate) fn behind(&self, driver_number: i32, other: i32, now: Micros) -> Option<Behind> {
        let (car, other) = (self.cars.get(driver_number)?, self.cars.get(other)?);
        let [before, newest] = car.newest(now)?;
        let speeds = [speed([before, newest]), speed(other.newest(now)?)];
        let heading = Some(way(before, newest)).filter(|way| dot(*way, *way) >= HEADING_MIN * HEADING_MIN);
        let of_fix = |fix: Fix| {
            let (passed_at, cause) = other.passed(fix, heading)?;
            let is_same_lap = car.counted_lap_at(fix.date)? == other.lap_at(passed_at)?;
            is_same_lap.then_some((passed_at, cause))
        };
        let ((passed_before, _), (passed_at, cause)) = (of_fix(before)?, of_fix(newest)?);
        let by = before.date.since(passed_before).min(newest.date.since(passed_at));
        let way = other.way_between(passed_at, newest.date);
        Some(Behind { by, at: newest.date, way, speeds, causes: [newest.cause, cause] })
    }

    /// Whether `driver_number` stands while `other` races, by their wheels.
    pub(crate) fn stands(&self, driver_number: i32, other: i32, now: Micros) -> Option<[u64; 2]> {
        let (car, other) = (self.cars.get(driver_number)?, self.cars.get(other)?);
        let (own, others) = (car.wheels(now)?, other.wheels(now)?);
        let has_stood = own.stands_since.is_some_and(|since| own.date.since(since) >= STANDING_MIN);
        let is_in_the_race = car.laps.last()?.lap_number > 1;
        (has_stood && is_in_the_race && others.speed >= RACES_MIN).then_some([own.cause, others.cause])
    }

    /// Whether `driver_number` has still not begun the lap that `other` began between `from` and `until`, and a third car too, if there is one.
    pub(crate) fn has_not_begun(&self, driver_number: i32, other: i32, from: Micros, until: Micros) -> Option<[u64; 2]> {
        let own = self.cars.get(driver_number)?.laps.last()?;
        let others = self.cars.get(other)?.laps.last().filter(|start| start.lap_number == own.lap_number + 1)?;
        let with_laps = || self.cars.iter().filter_map(|(number, car)| Some((number, car.laps.last()?)));
        let begun = with_laps().filter(|(number, start)| *number != driver_number && start.lap_number >= others.lap_number).count();
        let is_between = others.at >= from && others.known_at <= until;
        (is_between && begun >= with_laps().count().saturating_sub(1).min(2)).then_some([own.cause, others.cause])
    }

    /// Whether `driver_number` began its newest lap, at `since` or later, before `other` did, if that has begun it at all.
    pub(crate) fn began_first(&self, driver_number: i32, other: i32, since: Micros) -> Option<[u64; 2]> {
        let (own, others) = (self.cars.get(driver_number)?.laps.last()?, self.cars.get(other)?.laps.last()?);
        let is_first = own.lap_number > others.lap_number || (own.lap_number == others.lap_number && own.at < others.at);
        (is_first && own.at >= since).then_some([own.cause, others.cause])
    }
}
