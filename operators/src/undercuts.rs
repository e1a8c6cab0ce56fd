//! Undercuts and overcuts: what came of two cars close together stopping one after the other, from `pit_stops`, with gaps, order, laps and
//! track status to tell what it brought.
//!
//! Rules:
//! * Car behind stops first: an undercut, told as soon as its stop is known. Car ahead stops first and the car behind goes on for a lap or
//!   more: an overcut, told when the car behind stops, since staying out alone shows no intention.
//! * The two are on the leader's lap and at most [`UndercutsOperator::interval_ms_max`] apart when the first begins to brake for the pit
//!   lane.
//! * Who is ahead when the second of them has completed its out-lap has won: the car that tried to pass, or the other.
//! * `VOID`, nobody can tell: both stopped on one lap; the other car did not stop within [`UndercutsOperator::answer_laps_max`] laps; it
//!   never completed its out-lap; either stop served a penalty; or the race was slowed or stopped meanwhile, when stops cost less.
//! * A stop under a safety car, virtual safety car or red flag begins none.

use std::collections::VecDeque;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{
    Gap, Lap, Neutralisation, PitPassKind, PitStop, Position, TrackStatus, Undercut, UndercutKind, UndercutOutcome,
};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::in_order;
use crate::pit_stops::{BRAKING_MS, neutralisation};

/// Newest gaps kept of one car, to look up that when another entered the pit lane: a minute and more of a race.
const GAPS_MAX: usize = 32;

/// A gap older than this at entry, µs, is no gap at entry.
const GAP_AGE_MAX: i64 = 15_000_000;

/// Laps after the second stop by which the out-lap is complete, or never will be.
const OUT_LAPS_MAX: i32 = 3;

/// Finds undercuts and overcuts.
#[derive(Debug, Clone, Copy)]
pub struct UndercutsOperator {
    /// How far apart two cars are at most, ms: a lap on new tyres gains no more.
    pub interval_ms_max: i32,
    /// Laps within which the other car must stop too.
    pub answer_laps_max: i32,
    /// Pairs waiting for the second stop or its out-lap; one more makes the oldest void.
    pub open_max: usize,
}

impl Default for UndercutsOperator {
    fn default() -> Self {
        Self { interval_ms_max: 3_000, answer_laps_max: 5, open_max: 64 }
    }
}

/// The pairs of which one car has stopped.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    attempts: i32,
    is_slowed: bool,
    leaders_lap: i32,
    cars: ByDriver<Car>,
    open: VecDeque<Pair>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    place: Option<(i32, u64)>,
    /// Gaps to the leader, ms; null when a lap or more behind or unknown.
    gaps: VecDeque<(Micros, Option<i32>, u64)>,
    /// The newest pass through the pit lane taken.
    pass: Option<(i32, i32)>,
}

/// Two cars of which the first has stopped.
#[derive(Debug, Serialize, Deserialize)]
struct Pair {
    /// Null while an overcut is only possible.
    attempt_number: Option<i32>,
    kind: UndercutKind,
    behind: i32,
    ahead: i32,
    lap_number: i32,
    answer_lap_number: Option<i32>,
    interval_before_ms: i32,
    causes: Vec<u64>,
    issued: Option<Issued>,
}

impl Pair {
    /// The car that stopped first, and the other.
    const fn cars(&self) -> (i32, i32) {
        match self.kind {
            UndercutKind::Undercut => (self.behind, self.ahead),
            UndercutKind::Overcut => (self.ahead, self.behind),
        }
    }

    /// Highest lap of the leader at which the pair can still come to something.
    const fn last_lap(&self, operator: &UndercutsOperator) -> i32 {
        match self.answer_lap_number {
            Some(answer) => answer + 1 + OUT_LAPS_MAX,
            None => self.lap_number + operator.answer_laps_max + 1,
        }
    }

    /// Says the attempt, unless it is an overcut that was only possible.
    fn say(&mut self, outcome: UndercutOutcome, interval_after_ms: Option<i32>, reasons: &[u64], context: &mut Context<'_, Undercut>) {
        let Some(attempt_number) = self.attempt_number else { return };
        self.causes = in_order(self.causes.iter().chain(reasons).map(|cause| Some(*cause)));
        let fact = Undercut {
            attempt_number,
            kind: self.kind,
            driver_number: self.behind,
            driver_number_ahead: self.ahead,
            outcome,
            lap_number: self.lap_number,
            answer_lap_number: self.answer_lap_number,
            interval_before_ms: self.interval_before_ms,
            interval_after_ms,
        };
        self.issued = Some(context.draft(fact).because(&self.causes).correcting(self.issued).emit());
    }
}

impl State {
    /// The car's gap to the leader at `moment`, and the record of it.
    fn gap_at(&self, driver_number: i32, moment: Micros) -> Option<(i32, u64)> {
        let gaps = &self.cars.get(driver_number)?.gaps;
        let (at, gap_ms, cause) = *gaps.iter().rev().find(|(at, _, _)| *at <= moment)?;
        // The leader's gap is said once and holds.
        gap_ms.filter(|gap_ms| *gap_ms == 0 || moment.since(at) <= GAP_AGE_MAX).map(|gap_ms| (gap_ms, cause))
    }

    /// Makes void every pair for which `is_meant` holds.
    fn make_void(&mut self, is_meant: impl Fn(&Pair) -> bool, context: &mut Context<'_, Undercut>) {
        let reasons = context.causes().to_vec();
        for pair in self.open.iter_mut().filter(|pair| is_meant(pair)) {
            pair.say(UndercutOutcome::Void, None, &reasons, context);
        }
        self.open.retain(|pair| !is_meant(pair));
    }

    /// Adds a pair for every car close to the one that stops.
    fn open(&mut self, operator: &UndercutsOperator, stop: &PitStop, entered_at: Micros, context: &mut Context<'_, Undercut>) {
        // Before the car that stops brakes for the pit lane, during which others pass it.
        let entered_at = entered_at.plus(-BRAKING_MS * 1_000);
        let Some((own, own_cause)) = self.gap_at(stop.driver_number, entered_at) else { return };
        let others: Vec<i32> = self.cars.iter().map(|(driver_number, _)| driver_number).collect();
        for other in others.into_iter().filter(|other| *other != stop.driver_number) {
            let Some((gap_ms, cause)) = self.gap_at(other, entered_at) else { continue };
            // Whoever stopped a lap or more before is on new tyres and no rival until it stops again.
            let has_stopped =
                self.cars.get(other).and_then(|car| car.pass).is_some_and(|(lap, _)| lap + operator.answer_laps_max >= stop.lap_number);
            if (own - gap_ms).abs() > operator.interval_ms_max || own == gap_ms || has_stopped {
                continue;
            }
            let is_undercut = gap_ms < own;
            let (kind, behind, ahead) = if is_undercut {
                (UndercutKind::Undercut, stop.driver_number, other)
            } else {
                (UndercutKind::Overcut, other, stop.driver_number)
            };
            let mut pair = Pair {
                attempt_number: None,
                kind,
                behind,
                ahead,
                lap_number: stop.lap_number,
                answer_lap_number: None,
                interval_before_ms: (own - gap_ms).abs(),
                causes: in_order([Some(own_cause), Some(cause)].into_iter().chain(context.causes().iter().map(|cause| Some(*cause)))),
                issued: None,
            };
            if is_undercut {
                self.attempts += 1;
                pair.attempt_number = Some(self.attempts);
                pair.say(UndercutOutcome::Open, None, &[], context);
            }
            if self.open.len() >= operator.open_max
                && let Some(mut oldest) = self.open.pop_front()
            {
                oldest.say(UndercutOutcome::Void, None, &[], context);
            }
            self.open.push_back(pair);
        }
    }

    /// Takes the stop as the answer to those of cars close to it.
    fn answer(&mut self, stop: &PitStop, context: &mut Context<'_, Undercut>) {
        self.make_void(
            |pair| pair.cars().1 == stop.driver_number && pair.answer_lap_number.is_none() && pair.lap_number >= stop.lap_number,
            context,
        );
        let reasons = context.causes().to_vec();
        for pair in self.open.iter_mut().filter(|pair| pair.cars().1 == stop.driver_number && pair.answer_lap_number.is_none()) {
            pair.answer_lap_number = Some(stop.lap_number);
            if pair.attempt_number.is_none() {
                self.attempts += 1;
                pair.attempt_number = Some(self.attempts);
            }
            pair.say(UndercutOutcome::Open, None, &reasons, context);
        }
    }
}

impl Operator for UndercutsOperator {
    const NAME: &'static str = "undercuts";
    const VERSION: u32 = 1;
    type Output = Undercut;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("interval_ms_max", self.interval_ms_max.to_string()),
            ("answer_laps_max", self.answer_laps_max.to_string()),
            ("open_max", self.open_max.to_string()),
        ]
    }
}

impl Handle<PitStop> for UndercutsOperator {
    fn apply(&self, state: &mut State, stop: &PitStop, context: &mut Context<'_, Undercut>) {
        if matches!(stop.kind, PitPassKind::DriveThrough | PitPassKind::StopAndGo | PitPassKind::Pass) {
            let is_its_own = |pair: &Pair| {
                let (first, second) = pair.cars();
                (first, pair.lap_number) == (stop.driver_number, stop.lap_number)
                    || (second, pair.answer_lap_number) == (stop.driver_number, Some(stop.lap_number))
            };
            return state.make_void(is_its_own, context);
        }
        let Some(entered_at) = stop.entered_at else { return };
        let pass = (stop.lap_number, stop.pass);
        if state.cars.get(stop.driver_number).and_then(|car| car.pass) >= Some(pass) {
            return;
        }
        if stop.neutralisation == Neutralisation::None && !state.is_slowed {
            state.answer(stop, context);
            state.open(self, stop, entered_at, context);
        }
        state.cars.entry(stop.driver_number).pass = Some(pass);
    }
}

impl Handle<Position> for UndercutsOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, Undercut>) {
        let cause = context.causes().last().copied().unwrap_or(context.seq());
        state.cars.entry(position.driver_number).place = Some((position.position, cause));
    }
}

impl Handle<Gap> for UndercutsOperator {
    fn apply(&self, state: &mut State, gap: &Gap, context: &mut Context<'_, Undercut>) {
        let cause = context.causes().last().copied().unwrap_or(context.seq());
        let gaps = &mut state.cars.entry(gap.driver_number).gaps;
        if gaps.len() >= GAPS_MAX {
            gaps.pop_front();
        }
        gaps.push_back((context.event_time(), gap.gap_ms, cause));
    }
}

impl Handle<Lap> for UndercutsOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, Undercut>) {
        if lap.lap_number > state.leaders_lap {
            state.leaders_lap = lap.lap_number;
            state.make_void(|pair| lap.lap_number > pair.last_lap(self), context);
        }
        if !lap.is_complete {
            return;
        }
        let is_decided =
            |pair: &Pair| pair.cars().1 == lap.driver_number && pair.answer_lap_number.is_some_and(|answer| lap.lap_number > answer);
        while let Some(index) = state.open.iter().position(is_decided) {
            let Some(mut pair) = state.open.remove(index) else { return };
            let place = |driver_number| state.cars.get(driver_number).and_then(|car: &Car| car.place);
            let newest = |driver_number| state.gap_at(driver_number, context.now());
            let (outcome, [front, behind]) = match (place(pair.behind), place(pair.ahead)) {
                (Some((behind, cause)), Some((ahead, other))) if behind < ahead => (UndercutOutcome::Succeeded, [cause, other]),
                (Some((_, cause)), Some((_, other))) => (UndercutOutcome::Failed, [cause, other]),
                _ => (UndercutOutcome::Void, [context.seq(); 2]),
            };
            let apart = newest(pair.ahead).zip(newest(pair.behind));
            let reasons: Vec<u64> = context
                .causes()
                .iter()
                .copied()
                .chain([front, behind])
                .chain(apart.into_iter().flat_map(|(one, other)| [one.1, other.1]))
                .collect();
            pair.say(outcome, apart.map(|(ahead, behind)| ahead.0 - behind.0), &reasons, context);
        }
    }
}

impl Handle<TrackStatus> for UndercutsOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, Undercut>) {
        state.is_slowed = neutralisation(status.status) != Neutralisation::None;
        if state.is_slowed {
            state.make_void(|_| true, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, interval, lap, pit, position, race_control};
    use pitwall_schemas::codec::Reading;
    use pitwall_schemas::raw::{self, Pit, RaceControl, Sample};

    /// A race on lap 10 at second 1,000 with cars 1, 4 and 16 in that order; car 4 is 2 s behind car 1 and car 16 far behind both.
    fn race() -> Bench {
        let mut bench = Bench::new(crate::join);
        order(&mut bench, 1, &[1, 4, 16]);
        [1, 4, 16].into_iter().for_each(|driver_number| begin(&mut bench, 1_000, driver_number, 10));
        gaps(&mut bench, 1_015, [0.0, 2.0, 20.0]);
        bench
    }

    fn order(bench: &mut Bench, second: i64, cars: &[i32]) {
        for (place, driver_number) in (1..).zip(cars) {
            bench.arrive(second * 1_000, Sample::from(position(*driver_number, at_ms(second * 1_000), place)));
        }
        bench.idle(second * 1_000 + 100);
    }

    fn begin(bench: &mut Bench, second: i64, driver_number: i32, lap_number: i32) {
        let begun = raw::Lap { date_start: Some(at_ms(second * 1_000)), ..lap(driver_number, lap_number) };
        bench.arrive(second * 1_000, Sample::from(begun));
    }

    fn complete(bench: &mut Bench, second: i64, driver_number: i32, lap_number: i32) {
        let start = Some(at_ms((second - 80) * 1_000));
        let whole = raw::Lap { date_start: start, lap_duration: Some(80.0), ..lap(driver_number, lap_number) };
        bench.arrive(second * 1_000, Sample::from(whole));
    }

    /// Gaps to the leader of cars 1, 4 and 16.
    fn gaps(bench: &mut Bench, second: i64, seconds: [f64; 3]) {
        for (driver_number, gap) in [1, 4, 16].into_iter().zip(seconds) {
            let (gap_to_leader, ahead) = (Reading::Number(gap), Reading::Number(gap));
            let document = raw::Interval { gap_to_leader, interval: ahead, ..interval(driver_number, at_ms(second * 1_000)) };
            bench.arrive(second * 1_000, Sample::from(document));
        }
    }

    /// The car leaves the pit lane after 20 s in it.
    fn stop(bench: &mut Bench, second: i64, driver_number: i32, lap_number: i32) {
        let document = Pit { lane_duration: Some(20.0), ..pit(driver_number, lap_number, at_ms(second * 1_000)) };
        bench.arrive(second * 1_000, Sample::from(document));
    }

    fn facts(bench: &Bench) -> Vec<Undercut> {
        bench.facts::<Undercut>().into_iter().map(|(_, fact)| fact).collect()
    }

    fn outcomes(bench: &Bench) -> Vec<UndercutOutcome> {
        facts(bench).into_iter().map(|fact| fact.outcome).collect()
    }

    #[test]
    fn the_car_behind_that_stops_first_and_comes_out_ahead_has_undercut() {
        let mut bench = race();
        stop(&mut bench, 1_040, 4, 10);
        let open = facts(&bench).remove(0);
        assert_eq!((open.kind, open.driver_number, open.driver_number_ahead), (UndercutKind::Undercut, 4, 1));
        assert_eq!((open.lap_number, open.interval_before_ms, open.outcome), (10, 2_000, UndercutOutcome::Open));
        stop(&mut bench, 1_120, 1, 11);
        order(&mut bench, 1_121, &[4, 1, 16]);
        complete(&mut bench, 1_190, 4, 12);
        gaps(&mut bench, 1_195, [1.5, 0.0, 22.0]);
        complete(&mut bench, 1_200, 1, 12);
        let facts = bench.facts::<Undercut>();
        assert_eq!(outcomes(&bench), [UndercutOutcome::Open, UndercutOutcome::Open, UndercutOutcome::Succeeded]);
        let (header, won) = &facts[2];
        assert_eq!((won.answer_lap_number, won.interval_after_ms), (Some(11), Some(1_500)));
        assert_eq!((header.revision, header.supersedes), (2, Some(facts[1].0.fact_seq)));
    }

    #[test]
    fn an_undercut_that_stays_behind_has_failed() {
        let mut bench = race();
        stop(&mut bench, 1_040, 4, 10);
        stop(&mut bench, 1_120, 1, 11);
        complete(&mut bench, 1_200, 1, 12);
        assert_eq!(outcomes(&bench).last(), Some(&UndercutOutcome::Failed));
    }

    #[test]
    fn the_car_ahead_that_stops_first_is_overcut_once_the_other_has_stopped() {
        let mut bench = race();
        stop(&mut bench, 1_040, 1, 10);
        order(&mut bench, 1_041, &[4, 16, 1]);
        assert!(facts(&bench).is_empty(), "staying out alone shows no intention");
        stop(&mut bench, 1_200, 4, 12);
        complete(&mut bench, 1_280, 4, 13);
        let facts = facts(&bench);
        let said: Vec<_> = facts.iter().map(|fact| (fact.kind, fact.driver_number, fact.driver_number_ahead, fact.outcome)).collect();
        let overcut = UndercutKind::Overcut;
        assert_eq!(said, [(overcut, 4, 1, UndercutOutcome::Open), (overcut, 4, 1, UndercutOutcome::Succeeded)]);
    }

    #[test]
    fn two_stops_on_one_lap_are_no_undercut() {
        let mut bench = race();
        stop(&mut bench, 1_040, 4, 10);
        stop(&mut bench, 1_043, 1, 10);
        assert_eq!(outcomes(&bench), [UndercutOutcome::Open, UndercutOutcome::Void]);
    }

    #[test]
    fn an_undercut_that_nobody_answers_is_void() {
        let mut bench = race();
        stop(&mut bench, 1_040, 4, 10);
        for lap_number in 11..=16 {
            begin(&mut bench, 1_000 + 80 * i64::from(lap_number - 10), 1, lap_number);
        }
        assert_eq!(outcomes(&bench), [UndercutOutcome::Open]);
        begin(&mut bench, 1_560, 1, 17);
        assert_eq!(outcomes(&bench), [UndercutOutcome::Open, UndercutOutcome::Void]);
    }

    #[test]
    fn a_safety_car_makes_it_void_and_a_stop_behind_it_begins_none() {
        let mut bench = race();
        stop(&mut bench, 1_040, 4, 10);
        let deployed = RaceControl { category: Some("SafetyCar".into()), ..race_control(at_ms(1_050_000), "SAFETY CAR DEPLOYED") };
        bench.arrive(1_050_000, Sample::from(deployed));
        gaps(&mut bench, 1_060, [0.0, 1.0, 2.0]);
        stop(&mut bench, 1_085, 1, 11);
        assert_eq!(outcomes(&bench), [UndercutOutcome::Open, UndercutOutcome::Void]);
    }

    #[test]
    fn a_penalty_served_is_no_undercut() {
        let mut bench = race();
        stop(&mut bench, 1_040, 4, 10);
        let words = "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 4 (NOR) - SPEEDING IN THE PIT LANE";
        bench.arrive(1_041_000, Sample::from(race_control(at_ms(1_001_000), words)));
        assert_eq!(outcomes(&bench), [UndercutOutcome::Open, UndercutOutcome::Void]);
    }

    #[test]
    fn a_car_too_far_ahead_is_not_undercut() {
        let mut bench = race();
        stop(&mut bench, 1_040, 16, 10);
        assert!(facts(&bench).is_empty());
    }

    #[test]
    fn one_pair_more_than_kept_makes_the_oldest_void() {
        let mut bench = Bench::new(|graph| {
            let positions = graph.publish(crate::positions::PositionsOperator::default(), |inputs| inputs.samples::<raw::Position>());
            let gaps = graph.publish(crate::gaps::GapsOperator, |inputs| inputs.samples::<raw::Interval>().stream(positions));
            let stops = graph.publish(crate::pit_stops::PitStopsOperator::default(), |inputs| inputs.samples::<Pit>());
            let operator = UndercutsOperator { open_max: 1, ..UndercutsOperator::default() };
            graph.publish(operator, |inputs| inputs.stream(positions).stream(gaps).stream(stops));
        });
        gaps(&mut bench, 1_015, [0.0, 2.0, 4.0]);
        stop(&mut bench, 1_040, 4, 10);
        let said: Vec<_> = facts(&bench).into_iter().map(|fact| (fact.driver_number, fact.driver_number_ahead, fact.outcome)).collect();
        assert_eq!(said, [(4, 1, UndercutOutcome::Open), (4, 1, UndercutOutcome::Void)], "the overcut of car 16 took its place");
    }
}
