//! Degradation: accurate laps and stints as the slope of a stint's lap times, corrected for the fuel burnt, with its interval.
//!
//! Rules:
//! * A straight line is fitted by least squares to the times of the stint's accurate laps ([`laps`](crate::laps): neither in nor out of the
//!   pit lane, no safety car) by lap number, without those slower than [`DegradationOperator::slow_percent`] of its fastest (FastF1's
//!   quick laps). Nothing is said below [`DegradationOperator::laps_min`] laps.
//! * The car gets lighter by a lap's fuel: [`DegradationOperator::fuel_ms`] a lap are added. It is an assumption, about 1.6 kg a lap at
//!   0.03 s a kilogram, the same for every circuit; the slope as driven stands beside it.
//! * The interval is that of the slope at 95 %, by Student's distribution. It tells how well a line fits these laps, not that a line is
//!   right: traffic, saving and a drying track are in the laps too.
//!
//! All sums are whole numbers, so the result is the same on every platform.

use std::collections::BTreeMap;

use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{Degradation, Lap, Stint};
use pitwall_schemas::shared::Compound;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::in_order;

/// Student's distribution at 97.5 %, by degrees of freedom from 1; the last for 30 and more.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093,
    2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// Fits lines to stints.
#[derive(Debug, Clone, Copy)]
pub struct DegradationOperator {
    /// Laps below which nothing is said; at least 3.
    pub laps_min: usize,
    /// Slower laps than this part of the stint's fastest are left out, percent (FastF1 `QUICKLAP_THRESHOLD`: 107).
    pub slow_percent: i32,
    /// What burning a lap's fuel is taken to save, ms.
    pub fuel_ms: i32,
}

impl Default for DegradationOperator {
    fn default() -> Self {
        Self { laps_min: 5, slow_percent: 107, fuel_ms: 50 }
    }
}

/// The accurate laps and the stints of every car.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    cars: ByDriver<Car>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    /// Times of accurate laps, ms, by number; the schema ends at 200.
    laps: BTreeMap<i32, i32>,
    /// By number, which the schema ends at 100.
    stints: BTreeMap<i32, StintState>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StintState {
    lap_start: i32,
    compound: Compound,
    cause: u64,
    said: Option<Degradation>,
    issued: Option<Issued>,
}

/// A line through lap times.
struct Line {
    slope_ms: f64,
    /// Half of the interval's width.
    margin_ms: f64,
}

/// Fits a line to the times of laps, at least 3.
fn fit(laps: &[(i32, i32)]) -> Line {
    let count = laps.len() as i128;
    let sum = |of: fn(i128, i128) -> i128| laps.iter().map(|(lap, time_ms)| of(i128::from(*lap), i128::from(*time_ms))).sum::<i128>();
    let (laps_sum, times_sum) = (sum(|lap, _| lap), sum(|_, time| time));
    let both = count * sum(|lap, time| lap * time) - laps_sum * times_sum;
    let of_laps = count * sum(|lap, _| lap * lap) - laps_sum * laps_sum;
    let of_times = count * sum(|_, time| time * time) - times_sum * times_sum;
    let freedom = laps.len() - 2;
    let variance = (of_times * of_laps - both * both) as f64 / ((of_laps * of_laps) as f64 * freedom as f64);
    let student = STUDENT[freedom.clamp(1, STUDENT.len()) - 1];
    // Division and square root are exact to the last bit everywhere, unlike other functions.
    Line { slope_ms: both as f64 / of_laps as f64, margin_ms: student * variance.sqrt() }
}

impl Car {
    /// The stint that the lap belongs to.
    fn stint_of(&self, lap_number: i32) -> Option<i32> {
        self.stints.iter().rev().find(|(_, stint)| stint.lap_start <= lap_number).map(|(number, _)| *number)
    }

    /// Says the stint's degradation if it changed.
    fn say(&mut self, operator: &DegradationOperator, driver_number: i32, stint_number: i32, context: &mut Context<'_, Degradation>) {
        let end = self.stints.range(stint_number + 1..).next().map_or(i32::MAX, |(_, next)| next.lap_start);
        let Some(stint) = self.stints.get_mut(&stint_number) else { return };
        let of_stint = || self.laps.range(stint.lap_start.min(end)..end).map(|(lap, time_ms)| (*lap, *time_ms));
        let Some(fastest) = of_stint().map(|(_, time_ms)| time_ms).min() else { return };
        let laps: Vec<(i32, i32)> =
            of_stint().filter(|(_, time_ms)| i64::from(*time_ms) * 100 <= i64::from(fastest) * i64::from(operator.slow_percent)).collect();
        let (Some((first_lap, _)), Some((last_lap, _))) = (laps.first(), laps.last()) else { return };
        if laps.len() < operator.laps_min.max(3) {
            return;
        }
        let Line { slope_ms, margin_ms } = fit(&laps);
        let fuel_ms = f64::from(operator.fuel_ms);
        let degradation_ms = slope_ms + fuel_ms;
        let fact = Degradation {
            driver_number,
            stint_number,
            compound: stint.compound,
            laps: laps.len() as i32,
            first_lap: *first_lap,
            last_lap: *last_lap,
            slope_ms,
            fuel_ms,
            degradation_ms,
            low_ms: degradation_ms - margin_ms,
            high_ms: degradation_ms + margin_ms,
        };
        if stint.said.as_ref() != Some(&fact) {
            let causes = in_order(context.causes().iter().copied().chain([stint.cause]).map(Some));
            stint.said = Some(fact.clone());
            stint.issued = Some(context.draft(fact).because(&causes).correcting(stint.issued).emit());
        }
    }
}

impl Operator for DegradationOperator {
    const NAME: &'static str = "degradation";
    const VERSION: u32 = 1;
    type Output = Degradation;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("laps_min", self.laps_min.to_string()),
            ("slow_percent", self.slow_percent.to_string()),
            ("fuel_ms", self.fuel_ms.to_string()),
        ]
    }
}

impl Handle<Lap> for DegradationOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, Degradation>) {
        let car = state.cars.entry(lap.driver_number);
        let time_ms = lap.lap_ms.filter(|_| lap.is_accurate);
        if car.laps.get(&lap.lap_number).copied() == time_ms {
            return;
        }
        match time_ms {
            Some(time_ms) => car.laps.insert(lap.lap_number, time_ms),
            None => car.laps.remove(&lap.lap_number),
        };
        if let Some(stint_number) = car.stint_of(lap.lap_number) {
            car.say(self, lap.driver_number, stint_number, context);
        }
    }
}

impl Handle<Stint> for DegradationOperator {
    fn apply(&self, state: &mut State, stint: &Stint, context: &mut Context<'_, Degradation>) {
        let (Some(lap_start), Some(cause)) = (stint.lap_start, context.causes().last().copied()) else { return };
        let (number, compound) = (stint.stint_number, stint.compound);
        let car = state.cars.entry(stint.driver_number);
        let known = car.stints.entry(number).or_insert(StintState { lap_start: 0, compound, cause, said: None, issued: None });
        if (known.lap_start, known.compound) == (lap_start, compound) {
            return;
        }
        (known.lap_start, known.compound, known.cause) = (lap_start, compound, cause);
        // The stint before ends where this one begins.
        for number in [number - 1, number] {
            car.say(self, stint.driver_number, number, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laps::LapsOperator;
    use crate::stints::StintsOperator;
    use crate::testing::{Bench, at_ms, lap, stint};
    use pitwall_schemas::raw::{self, Sample};

    /// Laps of car 1, each of that time in ms, from lap 2 on; `stints` are first lap and compound of each.
    fn play(stints: &[(i32, &str)], times_ms: &[i32]) -> Vec<(pitwall_schemas::shared::FactHeader, Degradation)> {
        let mut bench = Bench::new(|graph| {
            let laps = graph.publish(LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>());
            let stints = graph.publish(StintsOperator { wait_ms: 0 }, |inputs| inputs.samples::<raw::Stint>());
            graph.publish(DegradationOperator::default(), |inputs| inputs.stream(laps).stream(stints));
        });
        for (number, (lap_start, compound)) in (1..).zip(stints) {
            bench.arrive(
                0,
                Sample::from(raw::Stint { lap_start: Some(*lap_start), compound: Some((*compound).into()), ..stint(1, number) }),
            );
        }
        bench.idle(1);
        let mut start = 100_000;
        for (number, time_ms) in (2..).zip(times_ms) {
            let seconds = f64::from(*time_ms) / 1_000.0;
            let [duration_sector_1, duration_sector_2, duration_sector_3] = [25.0, 25.0, seconds - 50.0].map(Some);
            let (date_start, lap_duration) = (Some(at_ms(start)), Some(seconds));
            start += i64::from(*time_ms);
            let document = raw::Lap { date_start, lap_duration, duration_sector_1, duration_sector_2, duration_sector_3, ..lap(1, number) };
            bench.arrive(start, Sample::from(document));
        }
        bench.arrive(start + 1, Sample::from(raw::Lap { date_start: Some(at_ms(start)), ..lap(1, times_ms.len() as i32 + 2) }));
        bench.facts()
    }

    #[test]
    fn a_straight_line_is_found_exactly_and_the_fuel_is_added() {
        let said = play(&[(1, "HARD")], &[80_000, 80_030, 80_060, 80_090, 80_120, 80_150]);
        assert_eq!(said.iter().map(|(_, fact)| fact.laps).collect::<Vec<_>>(), [5, 6], "nothing before the fifth lap");
        let (header, fact) = said.last().unwrap();
        assert_eq!((fact.slope_ms, fact.degradation_ms, fact.low_ms, fact.high_ms), (30.0, 80.0, 80.0, 80.0));
        assert_eq!((fact.first_lap, fact.last_lap, fact.compound), (2, 7, Compound::Hard));
        assert_eq!((header.revision, header.supersedes), (1, Some(said[0].0.fact_seq)));
    }

    /// By hand: times 0, 20, 10, 40, 30 ms above 80 s have the slope 8 and the residual sum of squares 360, so that the slope's standard
    /// error is √(360 / 3 / 10) = √12, times 3.182.
    #[test]
    fn the_interval_is_students_at_95_percent() {
        let (_, fact) = play(&[(1, "SOFT")], &[80_000, 80_020, 80_010, 80_040, 80_030]).pop().unwrap();
        assert_eq!(fact.slope_ms, 8.0);
        let margin = 3.182 * 12.0_f64.sqrt();
        assert!((fact.high_ms - (58.0 + margin)).abs() < 1e-9 && (fact.low_ms - (58.0 - margin)).abs() < 1e-9, "{fact:?}");
    }

    #[test]
    fn each_stint_has_its_own_line_and_slow_laps_are_left_out() {
        let mut times = vec![80_000, 80_010, 80_020, 95_000, 80_040, 80_050];
        times.extend([79_000, 79_100, 79_200, 79_300, 79_400]);
        let said = play(&[(1, "MEDIUM"), (8, "HARD")], &times);
        let last = |stint| said.iter().rfind(|(_, fact)| fact.stint_number == stint).unwrap().1.clone();
        assert_eq!((last(1).slope_ms, last(1).laps, last(1).last_lap), (10.0, 5, 7));
        assert_eq!((last(2).slope_ms, last(2).laps, last(2).first_lap, last(2).compound), (100.0, 5, 8, Compound::Hard));
    }
}
