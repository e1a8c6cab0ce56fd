//! Position check: the feed's running order against the cars' own laps and locations, at the end of each lap by the crossings of the timing
//! line, and while a place is disputed by [`positions`](crate::positions).
//!
//! A disputed place is said at once, under the lap that the car is on, and taken back when the road confirms the place after all.
//!
//! At the end of a lap: the feed's order lags the line (OpenF1 #194), so its order [`PositionCheckOperator::lag_ms`] after a car's crossing is taken. In it
//! stands a car that has stopped until the feed drops it; it completes no lap and has no crossing. So of both orders only the cars that
//! complete the lap count, and a lap is compared [`PositionCheckOperator::settle_ms`] after its first car: later than any car still
//! running. Agreement is silent; a disagreement says both places and how many there were.

use std::collections::BTreeMap;

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{EstimatedPlace, Lap, Position, PositionCheck};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::in_order;

/// Places of one car by the feed that are kept. Of more, the oldest is forgotten.
const PLACES_MAX: usize = 64;

/// Compares orders.
#[derive(Debug, Clone, Copy)]
pub struct PositionCheckOperator {
    /// How long after a crossing the feed has it in its order, ms.
    pub lag_ms: i64,
    /// How long after the first car of a lap its order is compared, ms: a car two laps down has completed it.
    pub settle_ms: i64,
    /// Laps that wait to be compared. Of more, the earliest is not compared: six laps are driven while one settles.
    pub laps_max: usize,
}

impl Default for PositionCheckOperator {
    fn default() -> Self {
        Self { lag_ms: 3_000, settle_ms: 240_000, laps_max: 16 }
    }
}

/// Places to compare.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Places of each car by the feed: since when, which, and the ledger record that gave it.
    feed: ByDriver<Vec<(Micros, i32, u64)>>,
    /// Who completed the laps not yet compared.
    laps: BTreeMap<i32, BTreeMap<i32, Finish>>,
    /// The highest lap compared.
    compared: i32,
    comparisons: i32,
    disagreements: i32,
    /// Lap that each car is on.
    lap_numbers: ByDriver<i32>,
    /// The newest place of each car that was disputed while a lap was driven.
    disputed: ByDriver<Disputed>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Disputed {
    said: Option<(PositionCheck, Issued)>,
    stands: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Finish {
    position: i32,
    at: Micros,
    causes: Vec<u64>,
}

impl State {
    /// The feed's place of a car at `moment`, and the ledger record that gave it.
    fn feed_place(&self, driver_number: i32, moment: Micros) -> Option<(i32, u64)> {
        let places = self.feed.get(driver_number)?;
        places.iter().rev().find(|(since, ..)| *since <= moment).map(|(_, place, cause)| (*place, *cause))
    }
}

impl Disputed {
    /// What was said of a lap while it was driven.
    fn on_lap(&self, lap_number: i32) -> Option<Issued> {
        self.said.as_ref().filter(|(said, _)| said.lap_number == lap_number).map(|(_, issued)| *issued)
    }
}

impl State {
    /// Says that the car's place is disputed, or takes it back when the same place is not.
    fn say_disputed(&mut self, position: &Position, context: &mut Context<'_, PositionCheck>) {
        let driver_number = position.driver_number;
        let lap_number = self.lap_numbers.get(driver_number).copied().unwrap_or(0);
        let disputed = self.disputed.entry(driver_number);
        let Some(estimated_position) = position.undisputed_position else {
            if let Some((said, issued)) = disputed.said.take_if(|(said, _)| disputed.stands && said.position == position.position) {
                context.draft(said).withdrawing(issued).emit();
            }
            disputed.stands = false;
            return;
        };
        let fact = PositionCheck {
            driver_number,
            lap_number,
            position: position.position,
            estimated_position,
            disagreements: self.disagreements,
            comparisons: self.comparisons,
            is_under_way: true,
        };
        let issued = context.draft(fact.clone()).correcting(disputed.on_lap(lap_number)).emit();
        *disputed = Disputed { said: Some((fact, issued)), stands: true };
    }
}

impl Operator for PositionCheckOperator {
    const NAME: &'static str = "position_check";
    const VERSION: u32 = 3;
    type Output = PositionCheck;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("lag_ms", self.lag_ms.to_string()), ("settle_ms", self.settle_ms.to_string()), ("laps_max", self.laps_max.to_string())]
    }

    fn on_timer(&self, state: &mut State, token: u64, context: &mut Context<'_, PositionCheck>) {
        let lap_number = token as i32;
        let Some(finishes) = state.laps.remove(&lap_number) else { return };
        state.compared = state.compared.max(lap_number);
        for (&driver_number, finish) in &finishes {
            let moment = finish.at.plus(self.lag_ms * 1_000);
            let Some((own, cause)) = state.feed_place(driver_number, moment) else { continue };
            let (mut position, mut estimated_position) = (1, 1);
            for (&other, other_finish) in finishes.iter().filter(|(other, _)| **other != driver_number) {
                let Some((place, _)) = state.feed_place(other, moment) else { continue };
                position += i32::from(place < own);
                estimated_position += i32::from(other_finish.position < finish.position);
            }
            state.comparisons += 1;
            if position == estimated_position {
                continue;
            }
            state.disagreements += 1;
            let (disagreements, comparisons) = (state.disagreements, state.comparisons);
            let is_under_way = false;
            let fact = PositionCheck { driver_number, lap_number, position, estimated_position, disagreements, comparisons, is_under_way };
            let causes = in_order(finish.causes.iter().chain([&cause]).map(|cause| Some(*cause)));
            let previous = state.disputed.get(driver_number).and_then(|disputed| disputed.on_lap(lap_number));
            context.draft(fact).because(&causes).at(finish.at).correcting(previous).emit();
        }
    }
}

impl Handle<Position> for PositionCheckOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, PositionCheck>) {
        let cause = context.newest_cause();
        let places = state.feed.entry(position.driver_number);
        if places.len() == PLACES_MAX {
            places.remove(0);
        }
        places.push((context.now(), position.position, cause));
        state.say_disputed(position, context);
    }
}

impl Handle<Lap> for PositionCheckOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, PositionCheck>) {
        let newest = state.lap_numbers.entry(lap.driver_number);
        if context.is_withdrawn() {
            *newest = (*newest).min(lap.lap_number - 1);
        } else {
            *newest = (*newest).max(lap.lap_number);
        }
    }
}

impl Handle<EstimatedPlace> for PositionCheckOperator {
    fn apply(&self, state: &mut State, place: &EstimatedPlace, context: &mut Context<'_, PositionCheck>) {
        if place.lap_number <= state.compared {
            return;
        }
        if !state.laps.contains_key(&place.lap_number) {
            context.set_timer(context.now().plus(self.settle_ms * 1_000), place.lap_number as u64);
        }
        let finish = Finish { position: place.position, at: context.event_time(), causes: context.causes().to_vec() };
        state.laps.entry(place.lap_number).or_default().insert(place.driver_number, finish);
        if state.laps.len() > self.laps_max
            && let Some((lap_number, _)) = state.laps.pop_first()
        {
            state.compared = lap_number;
        }
    }
}

#[cfg(test)]
mod tests {
    use pitwall_engine::graph::GraphBuilder;
    use pitwall_schemas::raw::{Interval, Sample};

    use super::*;
    use crate::testing::{Bench, at_ms, interval, position};

    /// Places of the estimate, lap 1: cars in the order given, a second apart.
    fn bench(finishers: &'static [i32], feed: &[(i32, i32)]) -> Bench {
        let mut bench = Bench::new(|graph: &mut GraphBuilder<Sample>| {
            let places = graph.add(Places(finishers), |inputs| inputs.samples::<Interval>());
            let positions =
                graph.publish(crate::positions::PositionsOperator::default(), |inputs| inputs.samples::<pitwall_schemas::raw::Position>());
            graph.publish(PositionCheckOperator::default(), |inputs| inputs.stream(places).stream(positions));
        });
        for (driver_number, place) in feed {
            bench.arrive(1_000, Sample::from(position(*driver_number, at_ms(1_000), *place)));
        }
        bench.arrive(2_000, Sample::from(interval(finishers[0], at_ms(2_000))));
        bench.idle(300_000);
        bench
    }

    fn said(bench: &Bench) -> Vec<(i32, i32, i32, i32)> {
        let facts = bench.facts::<PositionCheck>();
        facts.into_iter().map(|(_, check)| (check.driver_number, check.position, check.estimated_position, check.comparisons)).collect()
    }

    struct Places(&'static [i32]);

    impl Operator for Places {
        const NAME: &'static str = "places_of_the_test";
        const VERSION: u32 = 1;
        type Output = EstimatedPlace;
        type State = ();
    }

    impl Handle<Interval> for Places {
        fn apply(&self, (): &mut (), _sample: &Interval, context: &mut Context<'_, EstimatedPlace>) {
            for (position, driver_number) in (1..).zip(self.0) {
                let gap_ms = (position - 1) * 1_000;
                context.emit(EstimatedPlace { driver_number: *driver_number, lap_number: 1, position, gap_ms, interval_ms: None });
            }
        }
    }

    /// Each document completes a lap more.
    struct LapAfterLap;

    impl Operator for LapAfterLap {
        const NAME: &'static str = "lap_after_lap_of_the_test";
        const VERSION: u32 = 1;
        type Output = EstimatedPlace;
        type State = i32;
    }

    impl Handle<Interval> for LapAfterLap {
        fn apply(&self, lap_number: &mut i32, sample: &Interval, context: &mut Context<'_, EstimatedPlace>) {
            *lap_number += 1;
            let (driver_number, lap_number) = (sample.driver_number, *lap_number);
            context.emit(EstimatedPlace { driver_number, lap_number, position: 1, gap_ms: 0, interval_ms: None });
        }
    }

    #[test]
    fn of_more_laps_than_may_wait_the_earliest_is_not_compared() {
        let mut bench = Bench::new(|graph: &mut GraphBuilder<Sample>| {
            let places = graph.add(LapAfterLap, |inputs| inputs.samples::<Interval>());
            let positions =
                graph.publish(crate::positions::PositionsOperator::default(), |inputs| inputs.samples::<pitwall_schemas::raw::Position>());
            graph.publish(PositionCheckOperator { laps_max: 3, ..PositionCheckOperator::default() }, |inputs| {
                inputs.stream(places).stream(positions)
            });
        });
        bench.arrive(0, Sample::from(position(4, at_ms(0), 1)));
        for ms in 10..110 {
            bench.arrive(ms, Sample::from(interval(4, at_ms(ms))));
        }
        let waiting = |bench: &Bench| bench.state::<PositionCheckOperator>().laps.len();
        assert_eq!(waiting(&bench), 3);
        bench.idle(300_000);
        assert_eq!((waiting(&bench), bench.state::<PositionCheckOperator>().comparisons), (0, 3));
    }

    #[test]
    fn a_car_that_completes_no_lap_is_in_neither_order() {
        assert_eq!(said(&bench(&[4, 81], &[(44, 1), (4, 2), (81, 3)])), []);
    }

    #[test]
    fn two_cars_in_another_order_disagree_both() {
        assert_eq!(said(&bench(&[4, 81, 1], &[(81, 1), (4, 2), (1, 3)])), [(4, 2, 1, 2), (81, 1, 2, 3)]);
    }

    struct Disputed;

    /// Turns an interval of x s into a place 1 that is disputed for place x, or undisputed for 0.
    impl Operator for Disputed {
        const NAME: &'static str = "disputed_of_the_test";
        const VERSION: u32 = 1;
        type Output = Position;
        type State = ();
    }

    impl Handle<Interval> for Disputed {
        fn apply(&self, (): &mut (), sample: &Interval, context: &mut Context<'_, Position>) {
            let place = match sample.interval {
                pitwall_schemas::codec::Reading::Number(place) if place > 0.0 => Some(place as i32),
                _ => None,
            };
            let (driver_number, disputed) = (sample.driver_number, place.is_some());
            context.emit(Position { driver_number, position: 1, previous_position: None, cars: 9, disputed, undisputed_position: place });
        }
    }

    #[test]
    fn a_disputed_place_is_said_at_once_and_taken_back_when_it_is_confirmed() {
        let mut bench = Bench::new(|graph: &mut GraphBuilder<Sample>| {
            let positions = graph.add(Disputed, |inputs| inputs.samples::<Interval>());
            graph.publish(PositionCheckOperator::default(), |inputs| inputs.stream(positions));
        });
        for (ms, place) in [(10, 0.0), (20, 5.0), (30, 6.0), (40, 0.0)] {
            let reading = pitwall_schemas::codec::Reading::Number(place);
            bench.arrive(ms, Sample::from(Interval { interval: reading, ..interval(44, at_ms(ms)) }));
        }
        let facts = bench.facts::<PositionCheck>().into_iter();
        let said: Vec<_> = facts.map(|(header, check)| (check.estimated_position, header.revision, header.withdrawn)).collect();
        assert_eq!(said, [(5, 0, false), (6, 1, false), (6, 2, true)]);
    }
}
