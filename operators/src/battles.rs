//! Battles: two cars that fight for a place, from `gaps` and the running order, with overtakes, pit stops, laps and track status to tell
//! when and how it ends.
//!
//! Rules, ours as nobody publishes one:
//! * A battle begins when the interval to the same car ahead was at most [`BattlesOperator::interval_ms_max`] in
//!   [`BattlesOperator::measurements_min`] measurements running, both cars on the leader's lap or both as many behind, in a race that is
//!   neither slowed nor stopped nor over, and not on lap 1, when everybody is that close.
//! * It ends when the car behind comes past or another car comes between; when as many measurements running were above; when the race is
//!   slowed or stopped; and when the car behind finishes.
//! * That either car was in the pit lane then, or retired, becomes known later, and may prove wrong: the end is corrected. Of a swap that
//!   ended a battle, why the two swapped decides ([`overtakes`](crate::overtakes)); one that was a correction was no pass.
//! * Nothing is measured to or from a place that is disputed ([`positions`](crate::positions)). A battle for a place is withdrawn when the
//!   place becomes disputed on the lap on which either car came to it.
//! * The closing rate is the slope of a straight line through the intervals of the last lap (least squares), times that lap.

use std::collections::{BTreeMap, VecDeque};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{
    Battle, BattleEnd, BattlePhase, Gap, Lap, Neutralisation, Overtake, OvertakeCause, PitStop, Position, SessionState, TrackStatus,
};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::in_order;
use crate::overtakes::{PIT_ENTRY_MS, PIT_EXIT_MS};
use crate::pit_stops::neutralisation;

/// Newest measurements of an interval kept, for the closing rate: a lap and more.
const MEASUREMENTS_MAX: usize = 32;

/// Newest battles that ended and may still be corrected.
const ENDED_MAX: usize = 64;

/// Finds battles.
#[derive(Debug, Clone, Copy)]
pub struct BattlesOperator {
    /// Longest interval of a battle, ms: what DRS was allowed at.
    pub interval_ms_max: i32,
    /// Measurements running that begin a battle, or end it.
    pub measurements_min: usize,
    /// How long before the entry into the pit lane a battle may have ended because of it, ms.
    pub pit_entry_ms: i64,
    /// How long after the exit, ms.
    pub pit_exit_ms: i64,
}

impl Default for BattlesOperator {
    fn default() -> Self {
        Self { interval_ms_max: 1_000, measurements_min: 3, pit_entry_ms: PIT_ENTRY_MS, pit_exit_ms: PIT_EXIT_MS }
    }
}

/// Every pair that could be in a battle.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    is_slowed: bool,
    is_finished: bool,
    battles: i32,
    /// Highest overtake taken: what has it or a lower number is a correction.
    overtakes: i32,
    /// Cars by place.
    order: BTreeMap<i32, i32>,
    cars: ByDriver<Car>,
    ended: VecDeque<Ended>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    place: Option<i32>,
    /// The lap on which it came to its place.
    place_lap: Option<i32>,
    is_disputed: bool,
    lap_number: Option<i32>,
    last_lap_ms: Option<i32>,
    laps_behind: Option<i32>,
    /// The car ahead that the measurements are to.
    ahead: Option<i32>,
    measurements: VecDeque<Measurement>,
    /// Measurements running at or below the longest interval, and above it.
    close: usize,
    apart: usize,
    battle: Option<Battle>,
    /// What was last said of the battle, and because of what.
    issued: Option<Issued>,
    causes: Vec<u64>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Measurement {
    at: Micros,
    interval_ms: i32,
    cause: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Ended {
    battle: Battle,
    at: Micros,
    causes: Vec<u64>,
    /// The swap that ended it, and whether it was one of the two.
    overtake: Option<(i32, bool)>,
    /// How it ended as far as known before a way through the pit lane explained it.
    without_pit: Option<BattleEnd>,
    issued: Issued,
}

/// How a battle ended with a swap, by why the two cars of the swap changed places; `is_pass` when they are those of the battle.
const fn end_with(cause: OvertakeCause, is_pass: bool) -> BattleEnd {
    match cause {
        OvertakeCause::Retirement => BattleEnd::Retirement,
        OvertakeCause::Pit | OvertakeCause::Penalty => BattleEnd::Pit,
        OvertakeCause::SafetyCarRestart => BattleEnd::Neutralisation,
        OvertakeCause::OnTrack | OvertakeCause::Lap1 | OvertakeCause::OffTrack | OvertakeCause::Lapping if is_pass => BattleEnd::Overtake,
        _ => BattleEnd::OtherCar,
    }
}

impl Car {
    /// How fast the car closes, ms a lap: the slope through the intervals of the last lap.
    fn closing_ms_per_lap(&self) -> Option<i32> {
        let lap_ms = i64::from(self.last_lap_ms?);
        let newest = self.measurements.back()?.at;
        let points = self.measurements.iter().map(|measurement| (newest.since(measurement.at) / 1_000, i64::from(measurement.interval_ms)));
        let points: Vec<(i64, i64)> = points.filter(|(before_ms, _)| *before_ms <= lap_ms).collect();
        let count = points.len() as i64;
        if count < 3 {
            return None;
        }
        let (before, intervals) = points.iter().fold((0, 0), |(before, intervals), point| (before + point.0, intervals + point.1));
        // Times `count`, so that means need no rounding.
        let deviations = points.iter().map(|point| (count * point.0 - before, count * point.1 - intervals));
        let (product, square) =
            deviations.fold((0, 0), |(product, square), (before, interval)| (product + before * interval, square + before * before));
        (square > 0).then(|| (i128::from(product) * i128::from(lap_ms) / i128::from(square)) as i32)
    }

    /// Forgets what was measured to the car ahead.
    fn forget(&mut self) {
        (self.ahead, self.close, self.apart) = (None, 0, 0);
        self.measurements.clear();
    }
}

impl State {
    /// The car directly ahead, if it is on the same lap.
    fn ahead_of(&self, driver_number: i32) -> Option<i32> {
        let car = self.cars.get(driver_number)?;
        let ahead = *self.order.get(&(car.place? - 1))?;
        let is_on_same_lap = car.laps_behind.is_some() && self.cars.get(ahead)?.laps_behind == car.laps_behind;
        is_on_same_lap.then_some(ahead)
    }

    /// Ends the battle of the car behind, if it is in one.
    fn end(&mut self, driver_number: i32, end: BattleEnd, overtake: Option<(i32, bool)>, context: &mut Context<'_, Battle>) {
        let Some(car) = self.cars.get_mut(driver_number) else { return };
        let causes = in_order(car.measurements.back().map(|newest| newest.cause).into_iter().chain(context.causes().to_vec()).map(Some));
        let battle = car.battle.take();
        car.forget();
        let Some(battle) = battle else { return };
        let battle = Battle { phase: BattlePhase::Ended, end: Some(end), lap_number: car.lap_number, ..battle };
        let at = context.event_time();
        let issued = context.draft(battle.clone()).because(&causes).emit();
        if self.ended.len() >= ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(Ended { battle, at, causes, overtake, without_pit: None, issued });
    }

    /// Takes back every battle that the car is in.
    fn withdraw(&mut self, driver_number: i32, context: &mut Context<'_, Battle>) {
        let reason = context.causes().to_vec();
        let is_in = |battle: &Battle| [battle.driver_number, battle.driver_number_ahead].contains(&driver_number);
        for (_, car) in self.cars.iter_mut().filter(|(_, car)| car.battle.as_ref().is_some_and(is_in)) {
            let Some((battle, issued)) = car.battle.take().zip(car.issued) else { continue };
            let causes = in_order(car.causes.iter().chain(&reason).map(|cause| Some(*cause)));
            context.draft(battle).because(&causes).withdrawing(issued).emit();
            car.forget();
        }
    }

    /// Whether the place of the car, or that of the car ahead of it, is disputed.
    fn is_disputed(&self, driver_number: i32) -> bool {
        let Some(car) = self.cars.get(driver_number) else { return false };
        let ahead = car.place.and_then(|place| self.order.get(&(place - 1)));
        car.is_disputed || ahead.and_then(|ahead| self.cars.get(*ahead)).is_some_and(|ahead| ahead.is_disputed)
    }

    /// Says anew how battles ended for which `end_of` knows it better.
    fn correct(&mut self, end_of: impl Fn(&Ended) -> Option<BattleEnd>, context: &mut Context<'_, Battle>) {
        let reason = context.causes().to_vec();
        for ended in &mut self.ended {
            let Some(end) = end_of(ended).filter(|end| ended.battle.end != Some(*end)) else { continue };
            if end == BattleEnd::Pit {
                ended.without_pit = ended.battle.end;
            }
            ended.battle.end = Some(end);
            ended.causes = in_order(ended.causes.iter().chain(&reason).map(|cause| Some(*cause)));
            let draft = context.draft(ended.battle.clone()).because(&ended.causes).at(ended.at).correcting(Some(ended.issued));
            ended.issued = draft.emit();
        }
    }

    fn measure(&mut self, operator: &BattlesOperator, driver_number: i32, measurement: Measurement, context: &mut Context<'_, Battle>) {
        if self.is_disputed(driver_number) {
            return;
        }
        let ahead = self.ahead_of(driver_number);
        let may_begin = !self.is_slowed && !self.is_finished;
        let Some(car) = self.cars.get_mut(driver_number) else { return };
        if car.ahead != ahead {
            self.end(driver_number, BattleEnd::OtherCar, None, context);
        }
        let Some((ahead, car)) = ahead.zip(self.cars.get_mut(driver_number)) else { return };
        car.ahead = Some(ahead);
        if car.measurements.len() >= MEASUREMENTS_MAX {
            car.measurements.pop_front();
        }
        car.measurements.push_back(measurement);
        let is_close = measurement.interval_ms <= operator.interval_ms_max;
        (car.close, car.apart) = if is_close { (car.close + 1, 0) } else { (0, car.apart + 1) };

        let closing_ms_per_lap = car.closing_ms_per_lap();
        if let Some(battle) = &mut car.battle {
            battle.measurements += 1;
            battle.closing_ms_per_lap = closing_ms_per_lap;
            if is_close {
                battle.interval_ms = measurement.interval_ms;
                battle.closest_ms = battle.closest_ms.min(measurement.interval_ms);
            } else if car.apart >= operator.measurements_min {
                self.end(driver_number, BattleEnd::FellBack, None, context);
            }
            return;
        }
        let is_past_lap_1 = car.lap_number.is_some_and(|lap| lap > 1);
        if car.close < operator.measurements_min || !may_begin || !is_past_lap_1 {
            return;
        }
        let of_battle: Vec<Measurement> = car.measurements.iter().rev().take(operator.measurements_min).rev().copied().collect();
        self.battles += 1;
        let battle = Battle {
            battle_number: self.battles,
            driver_number,
            driver_number_ahead: ahead,
            phase: BattlePhase::Began,
            position: car.place.unwrap_or_default() - 1,
            began_at: of_battle.first().map_or(measurement.at, |first| first.at),
            began_lap: car.lap_number,
            lap_number: car.lap_number,
            measurements: of_battle.len() as i32,
            interval_ms: measurement.interval_ms,
            closest_ms: of_battle.iter().map(|of| of.interval_ms).min().unwrap_or(measurement.interval_ms),
            closing_ms_per_lap,
            end: None,
        };
        car.battle = Some(battle.clone());
        car.causes = in_order(of_battle.iter().map(|measurement| Some(measurement.cause)));
        car.issued = Some(context.emit_because(&car.causes, battle));
    }
}

impl Operator for BattlesOperator {
    const NAME: &'static str = "battles";
    const VERSION: u32 = 2;
    type Output = Battle;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("interval_ms_max", self.interval_ms_max.to_string()),
            ("measurements_min", self.measurements_min.to_string()),
            ("pit_entry_ms", self.pit_entry_ms.to_string()),
            ("pit_exit_ms", self.pit_exit_ms.to_string()),
        ]
    }
}

impl Handle<Position> for BattlesOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, Battle>) {
        let car = state.cars.entry(position.driver_number);
        car.is_disputed = position.disputed;
        if car.place != Some(position.position) {
            (car.place, car.place_lap) = (Some(position.position), car.lap_number);
            state.order.insert(position.position, position.driver_number);
        } else if position.disputed && car.place_lap == car.lap_number {
            state.withdraw(position.driver_number, context);
        }
    }
}

impl Handle<Gap> for BattlesOperator {
    fn apply(&self, state: &mut State, gap: &Gap, context: &mut Context<'_, Battle>) {
        state.cars.entry(gap.driver_number).laps_behind = gap.laps_behind;
        if let Some(interval_ms) = gap.interval_ms {
            let measurement = Measurement { at: context.event_time(), interval_ms, cause: context.newest_cause() };
            state.measure(self, gap.driver_number, measurement, context);
        }
    }
}

impl Handle<Overtake> for BattlesOperator {
    fn apply(&self, state: &mut State, overtake: &Overtake, context: &mut Context<'_, Battle>) {
        let Overtake { overtake_number, overtaking_driver_number: front, overtaken_driver_number: behind, cause, .. } = *overtake;
        if overtake_number <= state.overtakes {
            let cause = if context.is_withdrawn() { OvertakeCause::Correction } else { cause };
            let with_it = |ended: &Ended| ended.overtake.filter(|(number, _)| *number == overtake_number);
            state.correct(|ended| with_it(ended).map(|(_, is_pass)| end_with(cause, is_pass)), context);
            return;
        }
        state.overtakes = overtake_number;
        let is_of_battle = |(_, car): &(i32, &Car)| car.battle.is_some();
        let in_battle: Vec<(i32, Option<i32>)> =
            state.cars.iter().filter(is_of_battle).map(|(driver_number, car)| (driver_number, car.ahead)).collect();
        for (driver_number, ahead) in in_battle {
            if (driver_number, ahead) == (front, Some(behind)) {
                state.end(driver_number, end_with(cause, true), Some((overtake_number, true)), context);
            } else if [front, behind].iter().any(|car| *car == driver_number || Some(*car) == ahead)
                && state.ahead_of(driver_number) != ahead
            {
                state.end(driver_number, end_with(cause, false), Some((overtake_number, false)), context);
            }
        }
    }
}

impl Handle<PitStop> for BattlesOperator {
    fn apply(&self, state: &mut State, stop: &PitStop, context: &mut Context<'_, Battle>) {
        let Some(entered_at) = stop.entered_at else { return };
        let in_lane = entered_at.plus(-self.pit_entry_ms * 1_000)..=stop.exited_at.plus(self.pit_exit_ms * 1_000);
        let is_of = |battle: &Battle| [battle.driver_number, battle.driver_number_ahead].contains(&stop.driver_number);
        let is_meant = |ended: &Ended| is_of(&ended.battle) && in_lane.contains(&ended.at);
        if context.is_withdrawn() {
            return state.correct(|ended| ended.without_pit.filter(|_| is_meant(ended)), context);
        }
        state.correct(|ended| is_meant(ended).then_some(BattleEnd::Pit), context);
        let is_over = |(_, car): &(i32, &Car)| car.battle.as_ref().is_some_and(|battle| is_of(battle) && battle.began_at < entered_at);
        let over: Vec<i32> = state.cars.iter().filter(is_over).map(|(driver_number, _)| driver_number).collect();
        for driver_number in over {
            state.end(driver_number, BattleEnd::Pit, None, context);
        }
    }
}

impl Handle<Lap> for BattlesOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, Battle>) {
        if context.is_withdrawn() {
            return;
        }
        let car = state.cars.entry(lap.driver_number);
        let is_of_now = car.lap_number == Some(lap.lap_number);
        let is_next = car.lap_number.is_none_or(|newest| lap.lap_number > newest);
        if let Some(lap_ms) = lap.lap_ms {
            car.last_lap_ms = Some(lap_ms);
        }
        if is_next {
            car.lap_number = Some(lap.lap_number);
        }
        if state.is_finished && is_of_now && lap.is_complete {
            return state.end(lap.driver_number, BattleEnd::Finish, None, context);
        }
        if let Some(battle) = car.battle.as_mut().filter(|_| is_next) {
            (battle.phase, battle.lap_number) = (BattlePhase::GoesOn, Some(lap.lap_number));
            let causes = car.measurements.back().map(|newest| newest.cause).into_iter().chain(context.causes().to_vec());
            car.causes = in_order(causes.map(Some));
            car.issued = Some(context.emit_because(&car.causes, battle.clone()));
        }
    }
}

impl Handle<TrackStatus> for BattlesOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, Battle>) {
        state.is_slowed = neutralisation(status.status) != Neutralisation::None;
        state.is_finished = status.session == SessionState::Finished;
        if !state.is_slowed {
            return;
        }
        let all: Vec<i32> = state.cars.iter().map(|(driver_number, _)| driver_number).collect();
        for driver_number in all {
            state.end(driver_number, BattleEnd::Neutralisation, None, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, Disputes, WithdrawsPasses, at_ms, driver, interval, lap, pit, position, race_control};
    use pitwall_schemas::codec::Reading;
    use pitwall_schemas::raw::{self, Pit, RaceControl, Sample};

    /// A race on lap 10 at second 1,000, with cars 1, 4 and 16 in that order.
    fn race() -> Bench {
        let mut bench = Bench::new(crate::join);
        order(&mut bench, 1, &[1, 4, 16]);
        begin(&mut bench, 1_000, 10);
        bench
    }

    fn order(bench: &mut Bench, second: i64, cars: &[i32]) {
        for (place, driver_number) in (1..).zip(cars) {
            bench.arrive(second * 1_000, Sample::from(position(*driver_number, at_ms(second * 1_000), place)));
        }
        bench.idle(second * 1_000 + 100);
    }

    fn begin(bench: &mut Bench, second: i64, lap_number: i32) {
        for driver_number in [1, 4, 16] {
            let begun = raw::Lap { date_start: Some(at_ms(second * 1_000)), ..lap(driver_number, lap_number) };
            bench.arrive(second * 1_000, Sample::from(begun));
        }
    }

    /// Car 4 is that many ms behind car 1, and car 16 far behind both.
    fn measure(bench: &mut Bench, second: i64, interval_ms: i32) {
        let gap = |number, seconds: f64, ahead: f64| {
            let (gap_to_leader, interval_to) = (Reading::Number(seconds), Reading::Number(ahead));
            Sample::from(raw::Interval { gap_to_leader, interval: interval_to, ..interval(number, at_ms(second * 1_000)) })
        };
        let behind = f64::from(interval_ms) / 1_000.0;
        bench.arrive(second * 1_000, gap(1, 0.0, 0.0));
        bench.arrive(second * 1_000, gap(4, behind, behind));
        bench.arrive(second * 1_000, gap(16, 30.0, 25.0));
    }

    fn status(bench: &mut Bench, second: i64, category: &str, words: &str) {
        let message = race_control(at_ms(second * 1_000), words);
        bench.arrive(second * 1_000, Sample::from(RaceControl { category: Some(category.into()), lap_number: Some(10), ..message }));
    }

    fn facts(bench: &Bench) -> Vec<Battle> {
        bench.facts::<Battle>().into_iter().map(|(_, fact)| fact).collect()
    }

    fn last(bench: &Bench) -> Battle {
        facts(bench).pop().unwrap()
    }

    /// A race in which car 4 attacks car 1 from second 1,010 on.
    fn battle() -> Bench {
        let mut bench = race();
        for (second, interval_ms) in [(1_010, 900), (1_014, 800), (1_018, 700)] {
            assert!(facts(&bench).is_empty(), "three measurements make a battle");
            measure(&mut bench, second, interval_ms);
        }
        bench
    }

    #[test]
    fn three_measurements_within_a_second_are_a_battle() {
        let fact = last(&battle());
        assert_eq!((fact.driver_number, fact.driver_number_ahead, fact.phase), (4, 1, BattlePhase::Began));
        assert_eq!((fact.position, fact.began_at, fact.began_lap), (1, at_ms(1_010_000), Some(10)));
        assert_eq!((fact.interval_ms, fact.closest_ms, fact.measurements), (700, 700, 3));
        assert_eq!(battle().facts::<Battle>()[0].0.causes.len(), 3);
    }

    #[test]
    fn a_measurement_above_begins_the_count_anew() {
        let mut bench = race();
        for (second, interval_ms) in [(1_010, 900), (1_014, 910), (1_018, 1_100), (1_022, 900), (1_026, 910)] {
            measure(&mut bench, second, interval_ms);
        }
        assert!(facts(&bench).is_empty());
        measure(&mut bench, 1_030, 999);
        assert_eq!(facts(&bench).len(), 1);
    }

    #[test]
    fn on_lap_1_and_behind_the_safety_car_there_is_no_battle() {
        let mut bench = Bench::new(crate::join);
        order(&mut bench, 1, &[1, 4, 16]);
        begin(&mut bench, 2, 1);
        (0..5).for_each(|number| measure(&mut bench, 10 + 4 * number, 500));
        status(&mut bench, 40, "SafetyCar", "SAFETY CAR DEPLOYED");
        begin(&mut bench, 100, 2);
        (0..5).for_each(|number| measure(&mut bench, 110 + 4 * number, 500));
        assert!(facts(&bench).is_empty());
    }

    #[test]
    fn a_battle_is_said_once_a_lap_with_the_closing_rate() {
        let mut bench = race();
        let whole = raw::Lap { date_start: Some(at_ms(920_000)), lap_duration: Some(80.0), ..lap(4, 9) };
        bench.arrive(1_001_000, Sample::from(whole));
        for number in 0..10 {
            measure(&mut bench, 1_010 + 4 * number, 900 - 10 * number as i32);
        }
        begin(&mut bench, 1_080, 11);
        let facts = facts(&bench);
        let phases: Vec<_> = facts.iter().map(|fact| (fact.phase, fact.lap_number, fact.measurements)).collect();
        assert_eq!(phases, [(BattlePhase::Began, Some(10), 3), (BattlePhase::GoesOn, Some(11), 10)]);
        assert_eq!(facts[1].closing_ms_per_lap, Some(200), "10 ms every 4 s is 200 ms in a lap of 80 s");
    }

    #[test]
    fn a_battle_ends_when_the_car_behind_is_past() {
        let mut bench = battle();
        order(&mut bench, 1_020, &[4, 1, 16]);
        assert_eq!((last(&bench).phase, last(&bench).end), (BattlePhase::Ended, Some(BattleEnd::Overtake)));
    }

    #[test]
    fn a_battle_ends_when_another_car_comes_between() {
        let mut bench = battle();
        order(&mut bench, 1_020, &[1, 16, 4]);
        assert_eq!(last(&bench).end, Some(BattleEnd::OtherCar));
    }

    #[test]
    fn a_battle_ends_after_three_measurements_apart() {
        let mut bench = battle();
        for (second, interval_ms) in [(1_022, 1_100), (1_026, 1_200), (1_030, 900), (1_034, 1_100), (1_038, 1_200)] {
            measure(&mut bench, second, interval_ms);
        }
        assert_eq!(facts(&bench).len(), 1);
        measure(&mut bench, 1_042, 1_300);
        assert_eq!((last(&bench).end, last(&bench).interval_ms), (Some(BattleEnd::FellBack), 900));
    }

    #[test]
    fn a_battle_ends_with_the_safety_car() {
        let mut bench = battle();
        status(&mut bench, 1_020, "SafetyCar", "SAFETY CAR DEPLOYED");
        assert_eq!(last(&bench).end, Some(BattleEnd::Neutralisation));
    }

    #[test]
    fn the_last_lap_is_fought_to_the_line() {
        let mut bench = battle();
        let flag = RaceControl { flag: Some("CHEQUERED".into()), ..race_control(at_ms(1_081_000), "CHEQUERED FLAG") };
        bench.arrive(1_081_000, Sample::from(RaceControl { category: Some("Flag".into()), ..flag }));
        assert_eq!(last(&bench).end, None);
        let whole = raw::Lap { date_start: Some(at_ms(1_000_000)), lap_duration: Some(81.0), ..lap(4, 10) };
        bench.arrive(1_082_000, Sample::from(whole));
        assert_eq!(last(&bench).end, Some(BattleEnd::Finish));
    }

    #[test]
    fn that_a_battle_ended_in_the_pit_lane_is_a_correction() {
        let mut bench = battle();
        order(&mut bench, 1_022, &[4, 1, 16]);
        let document = Pit { lane_duration: Some(20.0), ..pit(1, 10, at_ms(1_040_000)) };
        bench.arrive(1_040_000, Sample::from(document));
        let facts = bench.facts::<Battle>();
        assert_eq!(facts.iter().map(|(_, fact)| fact.end).collect::<Vec<_>>(), [None, Some(BattleEnd::Overtake), Some(BattleEnd::Pit)]);
        assert_eq!(facts[2].0.supersedes, Some(facts[1].0.fact_seq));
    }

    /// Cars 4 and 16 begin three laps more, and car 1 none.
    fn others_go_on(bench: &mut Bench) {
        for lap_number in 11..=13 {
            let second = 1_000 + 80 * i64::from(lap_number - 10);
            for driver_number in [4, 16] {
                let begun = raw::Lap { date_start: Some(at_ms(second * 1_000)), ..lap(driver_number, lap_number) };
                bench.arrive(second * 1_000, Sample::from(begun));
            }
        }
    }

    #[test]
    fn that_a_battle_ended_with_a_retirement_is_a_correction() {
        let mut bench = battle();
        order(&mut bench, 1_022, &[4, 1, 16]);
        others_go_on(&mut bench);
        assert_eq!(last(&bench).end, Some(BattleEnd::Retirement));
    }

    #[test]
    fn cars_on_different_laps_do_not_fight() {
        let mut bench = race();
        for number in 0..5 {
            let second = 1_010 + 4 * number;
            let gap = |number, gap_to_leader| {
                let interval_to = Reading::Number(0.5);
                Sample::from(raw::Interval { gap_to_leader, interval: interval_to, ..interval(number, at_ms(second * 1_000)) })
            };
            bench.arrive(second * 1_000, gap(4, Reading::Number(70.0)));
            bench.arrive(second * 1_000, gap(16, Reading::Text("+1 LAP".into())));
        }
        assert!(facts(&bench).is_empty());
    }

    #[test]
    fn a_battle_that_ended_with_a_retirement_ended_with_a_pass_when_the_car_goes_on() {
        let mut bench = battle();
        order(&mut bench, 1_022, &[4, 1, 16]);
        others_go_on(&mut bench);
        let begun = raw::Lap { date_start: Some(at_ms(1_250_000)), ..lap(1, 11) };
        bench.arrive(1_250_000, Sample::from(begun));
        let ends: Vec<_> = facts(&bench).into_iter().filter_map(|fact| fact.end).collect();
        assert_eq!(ends, [BattleEnd::Overtake, BattleEnd::Retirement, BattleEnd::Overtake]);
    }

    #[test]
    fn a_pass_undone_at_once_ended_no_battle_with_a_pass() {
        let mut bench = battle();
        order(&mut bench, 1_022, &[4, 1, 16]);
        order(&mut bench, 1_023, &[1, 4, 16]);
        assert_eq!(last(&bench).end, Some(BattleEnd::OtherCar));
    }

    /// A race like [`race`] in which places can be disputed and passes through the pit lane taken back.
    fn doubtful_race() -> Bench {
        let mut bench = Bench::new(|graph| {
            let status = graph.publish(crate::track_status::TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
            let laps = graph.publish(crate::laps::LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>().stream(status));
            let positions = graph.add(crate::positions::PositionsOperator::default(), |inputs| inputs.samples::<raw::Position>());
            let positions = graph.add(Disputes, |inputs| inputs.stream(positions).samples::<raw::Driver>());
            let gaps = graph.publish(crate::gaps::GapsOperator, |inputs| inputs.samples::<raw::Interval>().stream(positions));
            let stops = graph.add(crate::pit_stops::PitStopsOperator::default(), |inputs| inputs.samples::<Pit>());
            let stops = graph.add(WithdrawsPasses, |inputs| inputs.stream(stops).samples::<raw::Driver>());
            let operator = BattlesOperator::default();
            graph.publish(operator, |inputs| inputs.stream(status).stream(laps).stream(positions).stream(gaps).stream(stops));
        });
        order(&mut bench, 1, &[1, 4, 16]);
        begin(&mut bench, 1_000, 10);
        bench
    }

    #[test]
    fn a_disputed_place_is_not_fought_for() {
        let mut bench = doubtful_race();
        bench.arrive(1_005_000, Sample::from(driver(1)));
        (0..5).for_each(|number| measure(&mut bench, 1_010 + 4 * number, 500));
        assert!(facts(&bench).is_empty());
        bench.arrive(1_030_000, Sample::from(driver(1)));
        (0..3).for_each(|number| measure(&mut bench, 1_031 + 4 * number, 510 + number as i32));
        assert_eq!(facts(&bench).len(), 1);
    }

    #[test]
    fn a_battle_for_a_place_taken_on_this_lap_is_withdrawn_when_the_place_becomes_disputed() {
        let mut bench = doubtful_race();
        order(&mut bench, 1_005, &[4, 1, 16]);
        order(&mut bench, 1_008, &[1, 4, 16]);
        (0..3).for_each(|number| measure(&mut bench, 1_010 + 4 * number, 500 + number as i32));
        bench.arrive(1_030_000, Sample::from(driver(4)));
        let said = bench.facts::<Battle>();
        assert_eq!(said.iter().map(|(header, _)| header.withdrawn).collect::<Vec<_>>(), [false, true]);
        assert_eq!((said[1].0.supersedes, &said[1].1), (Some(said[0].0.fact_seq), &said[0].1));
    }

    #[test]
    fn a_battle_outlasts_the_doubt_about_a_place_held_over_a_lap() {
        let mut bench = doubtful_race();
        (0..3).for_each(|number| measure(&mut bench, 1_010 + 4 * number, 500 + number as i32));
        begin(&mut bench, 1_080, 11);
        bench.arrive(1_090_000, Sample::from(driver(1)));
        measure(&mut bench, 1_092, 1_900);
        bench.arrive(1_094_000, Sample::from(driver(1)));
        measure(&mut bench, 1_096, 600);
        let said = bench.facts::<Battle>();
        assert!(said.iter().all(|(header, fact)| !header.withdrawn && fact.end.is_none()));
    }

    #[test]
    fn a_pass_through_the_pit_lane_that_never_was_ended_no_battle() {
        let mut bench = doubtful_race();
        (0..3).for_each(|number| measure(&mut bench, 1_010 + 4 * number, 500 + number as i32));
        order(&mut bench, 1_020, &[1, 16, 4]);
        (0..3).for_each(|number| measure(&mut bench, 1_022 + 4 * number, 400 + number as i32));
        let document = Pit { lane_duration: Some(20.0), ..pit(4, 10, at_ms(1_040_000)) };
        bench.arrive(1_040_000, Sample::from(document));
        bench.arrive(1_041_000, Sample::from(driver(4)));
        let ends: Vec<_> = facts(&bench).into_iter().filter_map(|fact| fact.end).collect();
        assert_eq!(ends, [BattleEnd::OtherCar, BattleEnd::Pit, BattleEnd::OtherCar]);
    }
}
