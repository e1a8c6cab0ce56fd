//! Degradation: accurate laps and stints as the slope of a stint's lap times, corrected for the fuel burnt, with its interval.
//!
//! Rules:
//! * A straight line is fitted by least squares to the times of the stint's accurate laps ([`laps`](crate::laps): neither in nor out of the
//!   pit lane, no safety car) by lap number, without those slower than [`DegradationOperator::slow_percent`] of its fastest (FastF1's
//!   quick laps). Nothing is said below [`DegradationOperator::laps_min`] laps, and what was said is withdrawn when so many are not left.
//! * A stint's laps end where the next one begins. From a lap out of the pit lane on they are nobody's until a stint reaches that lap, so
//!   that no stint's line goes through another one's laps while the feed lags.
//! * Every lap of the line is a cause, and the stint.
//! * The car gets lighter by a lap's fuel: [`DegradationOperator::fuel_ms`] a lap are added. It is an assumption, about 1.6 kg a lap at
//!   0.03 s a kilogram, the same for every circuit; the slope as driven stands beside it.
//! * The interval is that of the slope at 95 %, by Student's distribution. It tells how well a line fits these laps, not that a line is
//!   right: traffic, saving and a drying track are in the laps too.
//!
//! All sums are whole numbers, so the result is the same on every platform.

use std::collections::{BTreeMap, BTreeSet};

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
    /// Times of accurate laps, ms, and the ledger records that gave them last, by number; the schema ends at 200.
    laps: BTreeMap<i32, (i32, u64)>,
    /// Laps out of the pit lane.
    out_laps: BTreeSet<i32>,
    /// By number, which the schema ends at 100.
    stints: BTreeMap<i32, StintState>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StintState {
    lap_start: i32,
    lap_end: Option<i32>,
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

    /// The lap before which the stint ends.
    fn end_of(&self, stint_number: i32, stint: &StintState) -> i32 {
        let next = self.stints.range(stint_number + 1..).next().map_or(i32::MAX, |(_, next)| next.lap_start);
        let is_unreached = |out_lap: &&i32| **out_lap > stint.lap_start && stint.lap_end.is_none_or(|last| last < **out_lap);
        next.min(self.out_laps.iter().find(is_unreached).copied().unwrap_or(i32::MAX))
    }

    /// Says the stint's degradation if it changed, and takes it back if too few laps are left.
    fn say(&mut self, operator: &DegradationOperator, driver_number: i32, stint_number: i32, context: &mut Context<'_, Degradation>) {
        let Some(stint) = self.stints.get(&stint_number) else { return };
        let end = self.end_of(stint_number, stint);
        let of_stint = || self.laps.range(stint.lap_start.min(end)..end);
        let fastest = of_stint().map(|(_, (time_ms, _))| *time_ms).min().unwrap_or(0);
        let is_quick = |time_ms: i32| i64::from(time_ms) * 100 <= i64::from(fastest) * i64::from(operator.slow_percent);
        let quick = || of_stint().filter(|(_, (time_ms, _))| is_quick(*time_ms));
        let laps: Vec<(i32, i32)> = quick().map(|(lap, (time_ms, _))| (*lap, *time_ms)).collect();
        let causes = in_order(quick().map(|(_, (_, cause))| Some(*cause)).chain([Some(stint.cause)]));
        let fact = operator.fact(driver_number, stint_number, stint.compound, &laps);
        let Some(stint) = self.stints.get_mut(&stint_number) else { return };
        match fact {
            Some(fact) if stint.said.as_ref() != Some(&fact) => {
                stint.said = Some(fact.clone());
                stint.issued = Some(context.draft(fact).because(&causes).correcting(stint.issued).emit());
            }
            Some(_) => {}
            None => stint.withdraw(context),
        }
    }
}

impl StintState {
    /// Takes back what was said of the stint, because of the event being taken.
    fn withdraw(&mut self, context: &mut Context<'_, Degradation>) {
        if let (Some(fact), Some(issued)) = (self.said.take(), self.issued) {
            self.issued = Some(context.draft(fact).withdrawing(issued).emit());
        }
    }
}

impl DegradationOperator {
    /// What a stint's laps say, if they are enough.
    fn fact(&self, driver_number: i32, stint_number: i32, compound: Compound, laps: &[(i32, i32)]) -> Option<Degradation> {
        let ((first_lap, _), (last_lap, _)) = (*laps.first()?, *laps.last()?);
        if laps.len() < self.laps_min.max(3) {
            return None;
        }
        let Line { slope_ms, margin_ms } = fit(laps);
        let fuel_ms = f64::from(self.fuel_ms);
        let degradation_ms = slope_ms + fuel_ms;
        Some(Degradation {
            driver_number,
            stint_number,
            compound,
            laps: laps.len() as i32,
            first_lap,
            last_lap,
            slope_ms,
            fuel_ms,
            degradation_ms,
            low_ms: degradation_ms - margin_ms,
            high_ms: degradation_ms + margin_ms,
        })
    }
}

impl Operator for DegradationOperator {
    const NAME: &'static str = "degradation";
    const VERSION: u32 = 2;
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
        let Lap { driver_number, lap_number, .. } = *lap;
        let is_lap = !context.is_withdrawn();
        let car = state.cars.entry(driver_number);
        let is_out_lap = is_lap && lap.is_pit_out_lap;
        let mut has_changed = if is_out_lap { car.out_laps.insert(lap_number) } else { car.out_laps.remove(&lap_number) };
        let time_ms = lap.lap_ms.filter(|_| is_lap && lap.is_accurate);
        if car.laps.get(&lap_number).map(|(time_ms, _)| *time_ms) != time_ms {
            has_changed = true;
            let cause = context.newest_cause();
            match time_ms {
                Some(time_ms) => car.laps.insert(lap_number, (time_ms, cause)),
                None => car.laps.remove(&lap_number),
            };
        }
        if let Some(stint_number) = car.stint_of(lap_number).filter(|_| has_changed) {
            car.say(self, driver_number, stint_number, context);
        }
    }
}

impl Handle<Stint> for DegradationOperator {
    fn apply(&self, state: &mut State, stint: &Stint, context: &mut Context<'_, Degradation>) {
        let Stint { driver_number, stint_number: number, lap_start, lap_end, compound, .. } = *stint;
        let cause = context.newest_cause();
        let car = state.cars.entry(driver_number);
        // A stint whose beginning is unknown, as after a late join, has all laps if those before it began as far back.
        let is_first_known = car.stints.range(..number).all(|(_, before)| before.lap_start == 0);
        let Some(lap_start) = lap_start.or(is_first_known.then_some(0)) else { return };
        if context.is_withdrawn() {
            if let Some(mut withdrawn) = car.stints.remove(&number) {
                withdrawn.withdraw(context);
            }
        } else {
            let new = StintState { lap_start: -1, lap_end: None, compound, cause, said: None, issued: None };
            let known = car.stints.entry(number).or_insert(new);
            let changed_from = (known.lap_start, known.lap_end, known.compound);
            (known.lap_start, known.lap_end, known.compound) = (lap_start, lap_end, compound);
            if changed_from == (lap_start, lap_end, compound) {
                return;
            }
            if (changed_from.0, changed_from.2) != (lap_start, compound) {
                known.cause = cause;
            }
        }
        // The stint before ends where this one begins.
        let before = car.stints.range(..number).next_back().map(|(before, _)| *before);
        for number in before.into_iter().chain([number]) {
            car.say(self, driver_number, number, context);
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

    fn bench() -> Bench {
        Bench::new(|graph| {
            let laps = graph.publish(LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>());
            let stints = graph.publish(StintsOperator { wait_ms: 0 }, |inputs| inputs.samples::<raw::Stint>());
            graph.publish(DegradationOperator::default(), |inputs| inputs.stream(laps).stream(stints));
        })
    }

    /// Laps of car 1, each of that time in ms, from lap 2 on.
    fn drive(bench: &mut Bench, times_ms: &[i32]) {
        drive_from(bench, 2, times_ms);
    }

    /// Such laps from lap `first` on.
    fn drive_from(bench: &mut Bench, first: i32, times_ms: &[i32]) {
        let mut start = i64::from(first - 2) * 80_000 + 100_000;
        for (number, time_ms) in (first..).zip(times_ms) {
            let seconds = f64::from(*time_ms) / 1_000.0;
            let [duration_sector_1, duration_sector_2, duration_sector_3] = [25.0, 25.0, seconds - 50.0].map(Some);
            let (date_start, lap_duration) = (Some(at_ms(start)), Some(seconds));
            start += i64::from(*time_ms);
            let document = raw::Lap { date_start, lap_duration, duration_sector_1, duration_sector_2, duration_sector_3, ..lap(1, number) };
            bench.arrive(start, Sample::from(document));
        }
        bench.arrive(start + 1, Sample::from(raw::Lap { date_start: Some(at_ms(start)), ..lap(1, times_ms.len() as i32 + first) }));
    }

    /// Such laps on `stints`, which are first lap and compound of each.
    fn play(stints: &[(i32, &str)], times_ms: &[i32]) -> Vec<(pitwall_schemas::shared::FactHeader, Degradation)> {
        let mut bench = bench();
        for (number, (lap_start, compound)) in (1..).zip(stints) {
            bench.arrive(
                0,
                Sample::from(raw::Stint { lap_start: Some(*lap_start), compound: Some((*compound).into()), ..stint(1, number) }),
            );
        }
        bench.idle(1);
        drive(&mut bench, times_ms);
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
    fn every_lap_of_the_line_is_a_cause_and_the_stint() {
        let said = play(&[(1, "HARD")], &[80_000, 80_030, 95_000, 80_060, 80_090, 80_120]);
        // The stint is record 0, lap 2 record 1; a lap's end is known with the next one's start.
        let (header, fact) = said.last().unwrap();
        assert_eq!((fact.laps, header.causes.len(), header.causes[0]), (5, 6, 0), "{:?}", header.causes);
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

    #[test]
    fn a_line_through_another_stints_laps_is_corrected_whatever_the_stints_numbers_are_and_withdrawn_if_too_few_are_left() {
        for (lap_start, left) in [(8, Some(6)), (5, None)] {
            let mut bench = bench();
            let sent = |number, lap_start| {
                Sample::from(raw::Stint { lap_start: Some(lap_start), compound: Some("HARD".into()), ..stint(1, number) })
            };
            bench.arrive(0, sent(1, 1));
            drive(&mut bench, &[80_000; 10]);
            bench.arrive(2_000_000, sent(3, lap_start));
            bench.idle(2_000_001);
            let (header, fact) = bench.facts::<Degradation>().into_iter().rfind(|(_, fact)| fact.stint_number == 1).unwrap();
            assert_eq!((!header.withdrawn).then_some(fact.laps), left);
        }
    }

    #[test]
    fn laps_out_of_the_pit_lane_and_after_are_nobodys_until_a_stint_reaches_them() {
        let mut bench = bench();
        let reaches =
            |last| Sample::from(raw::Stint { lap_start: Some(1), lap_end: Some(last), compound: Some("HARD".into()), ..stint(1, 1) });
        bench.arrive(0, reaches(1));
        drive(&mut bench, &[80_000; 6]);
        assert_eq!(bench.facts::<Degradation>().pop().unwrap().1.last_lap, 7);
        let out_lap = raw::Lap { is_pit_out_lap: true, date_start: Some(at_ms(580_000)), ..lap(1, 8) };
        bench.arrive(600_000, Sample::from(out_lap));
        drive_from(&mut bench, 9, &[80_000; 3]);
        assert_eq!(bench.facts::<Degradation>().pop().unwrap().1.last_lap, 6, "and lap 7 proved to end in the pit lane");
        bench.arrive(2_000_000, reaches(11));
        assert_eq!(bench.facts::<Degradation>().pop().unwrap().1.last_lap, 11);
    }
}
