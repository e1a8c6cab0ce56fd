//! Undercuts and overcuts: what came of two cars close together stopping one after the other, from `pit_stops`, with gaps, order, laps and
//! track status to tell what it brought.
//!
//! Rules:
//! * Car behind stops first: an undercut, told as soon as its stop is known. Car ahead stops first and the car behind goes on for a lap or
//!   more: an overcut, told when the car behind stops, since staying out alone shows no intention.
//! * Who is ahead and by how much is what held [`UndercutsOperator::entry_lead_ms`] before the first enters the pit lane: cars brake for it
//!   before the line, and a place lost there was given up. The two are on the leader's lap and at most
//!   [`UndercutsOperator::interval_ms_max`] apart then.
//! * The first of the running order leads, gap 0. Any other gap ages: one older than 15 s is none, whatever it says. A car that has begun no
//!   lap while the leader began two is out and no rival, nor is one whose place is disputed ([`positions`](crate::positions)).
//! * Who is ahead when the second of them has completed its out-lap has won: the car that tried to pass, or the other.
//! * `VOID`, nobody can tell: both stopped on one lap; the other car did not stop within [`UndercutsOperator::answer_laps_max`] laps; it
//!   never completed its out-lap; either stop served a penalty or proves to have been no stop; either place is disputed at the end; or the
//!   race was slowed or stopped meanwhile, when stops cost less.
//! * A stop under a safety car, virtual safety car or red flag begins none.
//! * A stop that is withdrawn takes its attempt with it, and an answer that is withdrawn opens the attempt again.

use std::collections::VecDeque;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{
    Gap, Lap, Neutralisation, PitPassKind, PitStop, Position, TrackStatus, Undercut, UndercutKind, UndercutOutcome,
};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::history::{At, keep, newest};
use crate::known::in_order;
use crate::pit_stops::{BRAKING_MS, neutralisation};

/// Newest places and gaps kept of one car, to look up those when another entered the pit lane: a minute and more of a race.
const HISTORY_MAX: usize = 32;

/// A gap older than this at entry, µs, is no gap at entry.
const GAP_AGE_MAX: i64 = 15_000_000;

/// Laps after the second stop by which the out-lap is complete, or never will be.
const OUT_LAPS_MAX: i32 = 3;

/// Finds undercuts and overcuts.
#[derive(Debug, Clone, Copy)]
pub struct UndercutsOperator {
    /// How far apart two cars are at most, ms: a lap on new tyres gains no more.
    pub interval_ms_max: i32,
    /// How long before the entry the order and the gaps are taken, ms: before cars brake for it.
    pub entry_lead_ms: i64,
    /// Laps within which the other car must stop too.
    pub answer_laps_max: i32,
    /// Pairs kept: those that wait for the second stop or its out-lap, and the newest that may still be corrected. One more forgets the
    /// oldest decided one, or makes the oldest void.
    pub pairs_max: usize,
}

impl Default for UndercutsOperator {
    fn default() -> Self {
        Self { interval_ms_max: 3_000, entry_lead_ms: BRAKING_MS, answer_laps_max: 5, pairs_max: 64 }
    }
}

/// The pairs of which one car has stopped.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    attempts: i32,
    is_slowed: bool,
    leaders_lap: i32,
    cars: ByDriver<Car>,
    pairs: VecDeque<Pair>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    lap_number: Option<i32>,
    places: VecDeque<At<Place>>,
    /// Gaps to the leader, ms; null when a lap or more behind or unknown.
    gaps: VecDeque<At<Option<i32>>>,
    /// The newest pass through the pit lane taken.
    pass: Option<Pass>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Place {
    position: i32,
    is_disputed: bool,
}

/// Lap and number on that lap of a pass through the pit lane.
type Pass = (i32, i32);

/// Two cars of which the first has stopped.
#[derive(Debug, Serialize, Deserialize)]
struct Pair {
    /// Null while an overcut is only possible.
    attempt_number: Option<i32>,
    kind: UndercutKind,
    behind: i32,
    ahead: i32,
    stop: Pass,
    answer: Option<Pass>,
    outcome: UndercutOutcome,
    interval_before_ms: i32,
    interval_after_ms: Option<i32>,
    causes: Vec<u64>,
    said: Option<(Undercut, Issued)>,
}

impl Pair {
    /// The car that stopped first, and the other.
    const fn cars(&self) -> (i32, i32) {
        match self.kind {
            UndercutKind::Undercut => (self.behind, self.ahead),
            UndercutKind::Overcut => (self.ahead, self.behind),
        }
    }

    fn is_open(&self) -> bool {
        self.outcome == UndercutOutcome::Open
    }

    /// Whether it waits for that car to stop.
    fn awaits(&self, driver_number: i32) -> bool {
        self.is_open() && self.cars().1 == driver_number && self.answer.is_none()
    }

    /// Whether it began with that pass of that car, and whether it was answered with it.
    fn rests_on(&self, driver_number: i32, pass: Pass) -> (bool, bool) {
        let (first, second) = self.cars();
        ((first, self.stop) == (driver_number, pass), (second, self.answer) == (driver_number, Some(pass)))
    }

    /// Highest lap of the leader at which the pair can still come to something.
    fn last_lap(&self, operator: &UndercutsOperator) -> i32 {
        match self.answer {
            Some((answer, _)) => answer + 1 + OUT_LAPS_MAX,
            None => self.stop.0 + operator.answer_laps_max + 1,
        }
    }

    fn begin(&mut self, attempts: &mut i32) {
        if self.attempt_number.is_none() {
            *attempts += 1;
            self.attempt_number = Some(*attempts);
        }
    }

    /// Says the attempt as it is now, unless it is an overcut that was only possible.
    fn say(&mut self, reasons: &[u64], context: &mut Context<'_, Undercut>) {
        let Some(attempt_number) = self.attempt_number else { return };
        let fact = Undercut {
            attempt_number,
            kind: self.kind,
            driver_number: self.behind,
            driver_number_ahead: self.ahead,
            outcome: self.outcome,
            lap_number: self.stop.0,
            answer_lap_number: self.answer.map(|(lap_number, _)| lap_number),
            interval_before_ms: self.interval_before_ms,
            interval_after_ms: self.interval_after_ms,
        };
        if self.said.as_ref().is_some_and(|(said, _)| *said == fact) {
            return;
        }
        self.causes = in_order(self.causes.iter().chain(reasons).map(|cause| Some(*cause)));
        let previous = self.said.as_ref().map(|(_, issued)| *issued);
        let issued = context.draft(fact.clone()).because(&self.causes).correcting(previous).emit();
        self.said = Some((fact, issued));
    }

    /// Takes back what was said of the attempt.
    fn withdraw(&mut self, context: &mut Context<'_, Undercut>) {
        let Some((said, issued)) = self.said.take() else { return };
        let causes = in_order(self.causes.iter().chain(context.causes()).map(|cause| Some(*cause)));
        context.draft(said).because(&causes).withdrawing(issued).emit();
        self.attempt_number = None;
    }
}

impl State {
    /// The gap to the leader at `moment` of a car that races, and the record of it.
    fn gap_at(&self, driver_number: i32, moment: Micros) -> Option<(i32, u64)> {
        let car = self.cars.get(driver_number)?;
        let is_out = car.lap_number.is_some_and(|lap| lap + 1 < self.leaders_lap);
        let place = newest(&car.places, moment);
        if is_out || place.is_some_and(|place| place.value.is_disputed) {
            return None;
        }
        let gap = newest(&car.gaps, moment);
        // A leader's gap is said once and holds. Without laps nobody can tell that a car which is said to lead still drives.
        let leads = place.map_or(gap.is_some_and(|gap| gap.value == Some(0)), |place| place.value.position == 1);
        if leads && (car.lap_number.is_some() || self.leaders_lap == 0) {
            return place.map(|place| (0, place.cause)).or(gap.map(|gap| (0, gap.cause)));
        }
        let At { at, value, cause } = gap?;
        value.filter(|_| moment.since(at) <= GAP_AGE_MAX).map(|gap_ms| (gap_ms, cause))
    }

    /// The car's newest place, unless it is disputed, and the record of it.
    fn place(&self, driver_number: i32) -> Option<(i32, u64)> {
        let newest = self.cars.get(driver_number)?.places.back()?;
        (!newest.value.is_disputed).then_some((newest.value.position, newest.cause))
    }

    /// Makes void every pair for which `is_meant` holds.
    fn make_void(&mut self, is_meant: impl Fn(&Pair) -> bool, context: &mut Context<'_, Undercut>) {
        let reasons = context.causes().to_vec();
        for pair in self.pairs.iter_mut().filter(|pair| is_meant(pair)) {
            (pair.outcome, pair.interval_after_ms) = (UndercutOutcome::Void, None);
            pair.say(&reasons, context);
        }
        // Of what was never said nothing is to be corrected.
        self.pairs.retain(|pair| pair.is_open() || pair.said.is_some());
    }

    /// Makes room for a pair.
    fn forget_oldest(&mut self, operator: &UndercutsOperator, context: &mut Context<'_, Undercut>) {
        if self.pairs.len() < operator.pairs_max {
            return;
        }
        let decided = self.pairs.iter().position(|pair| !pair.is_open());
        if let Some(mut oldest) = self.pairs.remove(decided.unwrap_or(0))
            && oldest.is_open()
        {
            oldest.outcome = UndercutOutcome::Void;
            oldest.say(&[], context);
        }
    }

    /// Adds a pair for every car close to the one that stops.
    fn open(&mut self, operator: &UndercutsOperator, stop: &PitStop, entered_at: Micros, context: &mut Context<'_, Undercut>) {
        let moment = entered_at.plus(-operator.entry_lead_ms * 1_000);
        let Some((own, own_cause)) = self.gap_at(stop.driver_number, moment) else { return };
        let others: Vec<i32> = self.cars.iter().map(|(driver_number, _)| driver_number).collect();
        for other in others.into_iter().filter(|other| *other != stop.driver_number) {
            let Some((gap_ms, cause)) = self.gap_at(other, moment) else { continue };
            // Whoever stopped a lap or more before is on new tyres and no rival until it stops again.
            let has_stopped =
                self.cars.get(other).and_then(|car| car.pass).is_some_and(|(lap, _)| lap + operator.answer_laps_max >= stop.lap_number);
            if (own - gap_ms).abs() > operator.interval_ms_max || own == gap_ms || has_stopped {
                continue;
            }
            let (kind, behind, ahead) = if gap_ms < own {
                (UndercutKind::Undercut, stop.driver_number, other)
            } else {
                (UndercutKind::Overcut, other, stop.driver_number)
            };
            let mut pair = Pair {
                attempt_number: None,
                kind,
                behind,
                ahead,
                stop: (stop.lap_number, stop.pass),
                answer: None,
                outcome: UndercutOutcome::Open,
                interval_before_ms: (own - gap_ms).abs(),
                interval_after_ms: None,
                causes: in_order([Some(own_cause), Some(cause)].into_iter().chain(context.causes().iter().map(|cause| Some(*cause)))),
                said: None,
            };
            if kind == UndercutKind::Undercut {
                pair.begin(&mut self.attempts);
                pair.say(&[], context);
            }
            self.forget_oldest(operator, context);
            self.pairs.push_back(pair);
        }
    }

    /// Takes the stop as the answer to those of cars close to it.
    fn answer(&mut self, stop: &PitStop, context: &mut Context<'_, Undercut>) {
        self.make_void(|pair| pair.awaits(stop.driver_number) && pair.stop.0 >= stop.lap_number, context);
        let reasons = context.causes().to_vec();
        for pair in self.pairs.iter_mut().filter(|pair| pair.awaits(stop.driver_number)) {
            pair.answer = Some((stop.lap_number, stop.pass));
            pair.begin(&mut self.attempts);
            pair.say(&reasons, context);
        }
    }

    /// Takes back what rests on a pass that never was.
    fn withdraw(&mut self, driver_number: i32, pass: Pass, context: &mut Context<'_, Undercut>) {
        let reasons = context.causes().to_vec();
        for pair in &mut self.pairs {
            let (is_first, is_answer) = pair.rests_on(driver_number, pass);
            if is_answer {
                (pair.answer, pair.outcome, pair.interval_after_ms) = (None, UndercutOutcome::Open, None);
            }
            if is_first || (is_answer && pair.kind == UndercutKind::Overcut) {
                pair.withdraw(context);
            } else if is_answer {
                pair.say(&reasons, context);
            }
        }
        self.pairs.retain(|pair| !pair.rests_on(driver_number, pass).0);
        let car = self.cars.entry(driver_number);
        car.pass = car.pass.filter(|newest| *newest != pass);
    }

    /// Decides an attempt of which the second car has completed its out-lap.
    fn decide(&mut self, index: usize, context: &mut Context<'_, Undercut>) {
        let (behind, ahead) = (self.pairs[index].behind, self.pairs[index].ahead);
        let places = self.place(behind).zip(self.place(ahead));
        let gaps = self.gap_at(ahead, context.now()).zip(self.gap_at(behind, context.now()));
        let of_places = places.into_iter().flat_map(|(one, other)| [one.1, other.1]);
        let of_gaps = gaps.into_iter().flat_map(|(one, other)| [one.1, other.1]);
        let reasons: Vec<u64> = context.causes().iter().copied().chain(of_places).chain(of_gaps).collect();
        let pair = &mut self.pairs[index];
        pair.outcome = match places {
            Some(((behind, _), (ahead, _))) if behind < ahead => UndercutOutcome::Succeeded,
            Some(_) => UndercutOutcome::Failed,
            None => UndercutOutcome::Void,
        };
        pair.interval_after_ms = gaps.filter(|_| places.is_some()).map(|(ahead, behind)| ahead.0 - behind.0);
        pair.say(&reasons, context);
    }
}

impl Operator for UndercutsOperator {
    const NAME: &'static str = "undercuts";
    const VERSION: u32 = 2;
    type Output = Undercut;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![
            ("interval_ms_max", self.interval_ms_max.to_string()),
            ("entry_lead_ms", self.entry_lead_ms.to_string()),
            ("answer_laps_max", self.answer_laps_max.to_string()),
            ("pairs_max", self.pairs_max.to_string()),
        ]
    }
}

impl Handle<PitStop> for UndercutsOperator {
    fn apply(&self, state: &mut State, stop: &PitStop, context: &mut Context<'_, Undercut>) {
        let pass = (stop.lap_number, stop.pass);
        if context.is_withdrawn() {
            return state.withdraw(stop.driver_number, pass, context);
        }
        if matches!(stop.kind, PitPassKind::DriveThrough | PitPassKind::StopAndGo | PitPassKind::Pass) {
            let is_its_own = |pair: &Pair| matches!(pair.rests_on(stop.driver_number, pass), (true, _) | (_, true));
            return state.make_void(is_its_own, context);
        }
        let Some(entered_at) = stop.entered_at else { return };
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
        let value = Place { position: position.position, is_disputed: position.disputed };
        let (at, cause) = (context.event_time(), context.newest_cause());
        keep(&mut state.cars.entry(position.driver_number).places, At { at, value, cause }, HISTORY_MAX);
    }
}

impl Handle<Gap> for UndercutsOperator {
    fn apply(&self, state: &mut State, gap: &Gap, context: &mut Context<'_, Undercut>) {
        let (at, cause) = (context.event_time(), context.newest_cause());
        keep(&mut state.cars.entry(gap.driver_number).gaps, At { at, value: gap.gap_ms, cause }, HISTORY_MAX);
    }
}

impl Handle<Lap> for UndercutsOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, Undercut>) {
        if context.is_withdrawn() {
            return;
        }
        let car = state.cars.entry(lap.driver_number);
        car.lap_number = car.lap_number.max(Some(lap.lap_number));
        if lap.lap_number > state.leaders_lap {
            state.leaders_lap = lap.lap_number;
            state.make_void(|pair| pair.is_open() && lap.lap_number > pair.last_lap(self), context);
        }
        if !lap.is_complete {
            return;
        }
        let is_decided = |pair: &Pair| {
            pair.is_open() && pair.cars().1 == lap.driver_number && pair.answer.is_some_and(|(answer, _)| lap.lap_number > answer)
        };
        for index in 0..state.pairs.len() {
            if is_decided(&state.pairs[index]) {
                state.decide(index, context);
            }
        }
    }
}

impl Handle<TrackStatus> for UndercutsOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, Undercut>) {
        state.is_slowed = neutralisation(status.status) != Neutralisation::None;
        if state.is_slowed {
            state.make_void(Pair::is_open, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, Disputes, WithdrawsPasses, at_ms, driver, interval, lap, pit, position, race_control};
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

    fn last(bench: &Bench) -> Undercut {
        facts(bench).pop().unwrap()
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
            let operator = UndercutsOperator { pairs_max: 1, ..UndercutsOperator::default() };
            graph.publish(operator, |inputs| inputs.stream(positions).stream(gaps).stream(stops));
        });
        gaps(&mut bench, 1_015, [0.0, 2.0, 4.0]);
        stop(&mut bench, 1_040, 4, 10);
        let said: Vec<_> = facts(&bench).into_iter().map(|fact| (fact.driver_number, fact.driver_number_ahead, fact.outcome)).collect();
        assert_eq!(said, [(4, 1, UndercutOutcome::Open), (4, 1, UndercutOutcome::Void)], "the overcut of car 16 took its place");
    }

    /// A race like [`race`] in which places can be disputed, or passes through the pit lane taken back.
    fn doubtful_race(disputes: bool) -> Bench {
        let mut bench = Bench::new(|graph| {
            let status = graph.publish(crate::track_status::TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
            let laps = graph.publish(crate::laps::LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>().stream(status));
            let mut positions = graph.add(crate::positions::PositionsOperator::default(), |inputs| inputs.samples::<raw::Position>());
            let mut stops = graph.add(crate::pit_stops::PitStopsOperator::default(), |inputs| inputs.samples::<Pit>());
            if disputes {
                positions = graph.add(Disputes, |inputs| inputs.stream(positions).samples::<raw::Driver>());
            } else {
                stops = graph.add(WithdrawsPasses, |inputs| inputs.stream(stops).samples::<raw::Driver>());
            }
            let gaps = graph.publish(crate::gaps::GapsOperator, |inputs| inputs.samples::<raw::Interval>().stream(positions));
            let operator = UndercutsOperator::default();
            graph.publish(operator, |inputs| inputs.stream(status).stream(laps).stream(positions).stream(gaps).stream(stops));
        });
        order(&mut bench, 1, &[1, 4, 16]);
        [1, 4, 16].into_iter().for_each(|driver_number| begin(&mut bench, 1_000, driver_number, 10));
        gaps(&mut bench, 1_012, [0.0, 2.0, 20.0]);
        bench
    }

    #[test]
    fn a_car_out_since_the_first_lap_is_no_rival_though_its_gap_stays_0() {
        let mut bench = Bench::new(crate::join);
        order(&mut bench, 1, &[1, 4, 16]);
        [1, 4, 16].into_iter().for_each(|driver_number| begin(&mut bench, 2, driver_number, 1));
        gaps(&mut bench, 20, [0.0, 1.0, 2.0]);
        // Car 1 stops, and the feed leaves it where it is with a gap of 0.
        for lap_number in 2..=10 {
            [4, 16].into_iter().for_each(|driver_number| begin(&mut bench, 80 * i64::from(lap_number - 1), driver_number, lap_number));
        }
        gaps(&mut bench, 735, [0.0, 1.5, 2.0]);
        stop(&mut bench, 760, 4, 10);
        let pairs: Vec<_> = facts(&bench).into_iter().map(|fact| (fact.driver_number, fact.driver_number_ahead)).collect();
        assert!(pairs.iter().all(|(behind, ahead)| *behind != 1 && *ahead != 1), "{pairs:?}");
    }

    #[test]
    fn the_order_before_cars_brake_for_the_pit_lane_tells_who_is_ahead() {
        let mut bench = race();
        // Car 1 brakes for the pit lane, and car 4 comes by 10 ms before it enters.
        order(&mut bench, 1_019, &[4, 1, 16]);
        gaps(&mut bench, 1_019, [0.1, 0.0, 20.0]);
        stop(&mut bench, 1_040, 1, 10);
        assert!(facts(&bench).is_empty(), "an overcut shows when car 4 stops");
        stop(&mut bench, 1_120, 4, 11);
        let open = last(&bench);
        assert_eq!((open.kind, open.driver_number, open.driver_number_ahead), (UndercutKind::Overcut, 4, 1));
        assert_eq!(open.interval_before_ms, 2_000);
    }

    #[test]
    fn a_car_at_a_disputed_place_is_no_rival_and_an_attempt_that_ends_at_one_is_void() {
        let mut bench = doubtful_race(true);
        bench.arrive(1_013_000, Sample::from(driver(1)));
        stop(&mut bench, 1_040, 4, 10);
        assert!(facts(&bench).is_empty());
        let mut bench = doubtful_race(true);
        stop(&mut bench, 1_040, 4, 10);
        stop(&mut bench, 1_120, 1, 11);
        order(&mut bench, 1_121, &[4, 1, 16]);
        bench.arrive(1_150_000, Sample::from(driver(4)));
        complete(&mut bench, 1_200, 1, 12);
        assert_eq!(outcomes(&bench).last(), Some(&UndercutOutcome::Void));
    }

    #[test]
    fn an_attempt_goes_with_its_stop_and_is_open_again_without_its_answer() {
        let mut bench = doubtful_race(false);
        stop(&mut bench, 1_040, 4, 10);
        bench.arrive(1_041_000, Sample::from(driver(4)));
        let withdrawn = |bench: &Bench| bench.facts::<Undercut>().iter().map(|(header, _)| header.withdrawn).collect::<Vec<_>>();
        assert_eq!(withdrawn(&bench), [false, true]);
        let mut bench = doubtful_race(false);
        stop(&mut bench, 1_040, 4, 10);
        stop(&mut bench, 1_120, 1, 11);
        complete(&mut bench, 1_200, 1, 12);
        bench.arrive(1_201_000, Sample::from(driver(1)));
        let (open, failed) = (UndercutOutcome::Open, UndercutOutcome::Failed);
        assert_eq!((outcomes(&bench), last(&bench).answer_lap_number), (vec![open, open, failed, open], None));
        assert_eq!(withdrawn(&bench), [false; 4]);
    }

    #[test]
    fn a_stop_that_proves_to_have_served_a_penalty_makes_a_decided_attempt_void() {
        let mut bench = race();
        stop(&mut bench, 1_040, 4, 10);
        stop(&mut bench, 1_120, 1, 11);
        complete(&mut bench, 1_200, 1, 12);
        let words = "FIA STEWARDS: DRIVE THROUGH PENALTY FOR CAR 4 (NOR) - SPEEDING IN THE PIT LANE";
        bench.arrive(1_201_000, Sample::from(race_control(at_ms(1_001_000), words)));
        assert_eq!(outcomes(&bench).last(), Some(&UndercutOutcome::Void));
    }
}
