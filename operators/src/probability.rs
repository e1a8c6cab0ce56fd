//! Probability: how likely each car is to win the race, from the running order and the leader's laps; a fact for the whole field when
//! the leader completes a lap, the order changes, or a car retires.
//!
//! The model is how often the car in a place has won: [`WIN_BY_POSITION`], 100 races of 2018 to 2022 by laps completed. It knows of no
//! gap, no pace and no stop still to come. The scheduled distance is not in the samples, so laps are counted from the start and not
//! from the end. The label is the official winner: leaders on the road have lost to penalties.
//!
//! Rules:
//! * Only a race has a winner to be: nothing is said before race control counts laps or gaps are sent, which OpenF1 does nowhere else, nor while
//!   it may be a sprint ([`session_kind`](crate::session_kind)), of which the frequencies are not.
//! * The field is the cars with a place that are not retired, as [`timing`](crate::timing) has it. Their frequencies are made to sum
//!   to 1, so that a retired car's share goes to the others. When the start was seen, the leader has completed a lap and
//!   most cars have begun one, a car that has begun none and has no gap did not start, and is not in the field.
//! * A car whose place is disputed is taken where it stood before ([`running_order`](crate::running_order)).
//! * At the flag it ends: as soon as the first of the order that is not retired has finished, its probability is 1 and that of every
//!   other car 0, the retired ones too. When [`ProbabilityOperator::flag_ms_max`] after the flag it has not, the first that has. Nothing
//!   is said between, nor afterwards, unless the session starts again.
//! * A swap is several changes of place; they are one change of the order, and one fact is said after all of them.

use pitwall_engine::Micros;
use pitwall_engine::hash::Digest;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts::{CarProbability, CarState, Gap, Position, Probability, RaceClock, SessionState, Timing, TrackStatus};
use pitwall_schemas::raw::Session;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::in_order;
use crate::running_order::RunningOrder;
use crate::session_kind::{Evidence, SessionKind};
use crate::win_by_position::{LAPS_IN_ROW, WIN_BY_POSITION};

/// Token of the timer after which the flag has waited long enough for the winner.
const FLAG: u64 = 1;

/// Tells the frequency of winning by place.
#[derive(Debug, Clone, Copy)]
pub struct ProbabilityOperator {
    /// How often the car in a place won, parts per million, at least 1: a row for lap 0 and then one for each
    /// [`laps_in_row`](Self::laps_in_row), a column for each place, the last for it and all below.
    pub table: &'static [[u32; 20]],
    /// Laps of a row but the first and the last.
    pub laps_in_row: i32,
    /// How long after the flag the leader's finish is known at the latest, ms.
    pub flag_ms_max: i64,
}

impl Default for ProbabilityOperator {
    fn default() -> Self {
        Self { table: &WIN_BY_POSITION, laps_in_row: LAPS_IN_ROW, flag_ms_max: 10_000 }
    }
}

/// The field as it stands.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    is_race: bool,
    is_start_seen: bool,
    end: End,
    evidence: Evidence,
    laps_completed: i32,
    order: RunningOrder,
    cars: ByDriver<Car>,
    /// What has changed since the last fact.
    change: Option<Change>,
    is_due: bool,
    said: Option<Probability>,
}

/// How far the end of the race has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum End {
    #[default]
    NotYet,
    /// The flag has fallen.
    Flag,
    /// And has waited long enough for the leader.
    FlagLong,
    /// The winner is said.
    Won,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    is_retired: bool,
    has_finished: bool,
    has_driven: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Change {
    happened_at: Micros,
    causes: Vec<u64>,
}

impl State {
    /// Notes a change, of which something is said as soon as everything that comes with it has come.
    fn note(&mut self, context: &mut Context<'_, Probability>) {
        if !std::mem::replace(&mut self.is_due, true) {
            context.set_timer(context.now(), 0);
        }
        let change = self.change.get_or_insert_with(|| Change { happened_at: context.event_time(), causes: Vec::new() });
        change.happened_at = change.happened_at.max(context.event_time());
        change.causes.extend_from_slice(context.causes());
    }
}

impl ProbabilityOperator {
    fn row(&self, laps_completed: i32) -> &'static [u32; 20] {
        let row = if laps_completed < 1 { 0 } else { 1 + (laps_completed - 1) / self.laps_in_row };
        &self.table[(row as usize).min(self.table.len() - 1)]
    }

    fn probability(&self, state: &State) -> Probability {
        let row = self.row(state.laps_completed);
        let field: Vec<(i32, i32)> = state.order.places().into_iter().filter(|(_, number)| state.is_in_the_field(*number)).collect();
        let weight = |position: i32| row[(position.max(1) as usize - 1).min(row.len() - 1)];
        // Whole numbers add up to the same in any order, and one division is the same everywhere.
        let total: u64 = field.iter().map(|(position, _)| u64::from(weight(*position))).sum();
        state.say_of(field, |position, _| f64::from(weight(position)) / total as f64)
    }
}

impl State {
    /// Whether a car that has not been seen to drive did not start.
    fn is_start_over(&self) -> bool {
        let driven = self.cars.iter().filter(|(_, car)| car.has_driven).count();
        self.is_start_seen && self.laps_completed >= 1 && driven * 2 > self.order.places().len()
    }

    fn is_in_the_field(&self, driver_number: i32) -> bool {
        let may_start = !self.is_start_over();
        self.cars.get(driver_number).map_or(may_start, |car| !car.is_retired && (car.has_driven || may_start))
    }

    fn winner(&self) -> Option<i32> {
        let has_finished = |number: &i32| self.cars.get(*number).is_some_and(|car| car.has_finished);
        let mut field = self.order.places().into_iter().map(|(_, number)| number).filter(|number| self.is_in_the_field(*number));
        match self.end {
            End::Flag => field.next().filter(has_finished),
            End::FlagLong => field.find(has_finished),
            End::NotYet | End::Won => None,
        }
    }

    fn say_of(&self, cars: Vec<(i32, i32)>, probability: impl Fn(i32, i32) -> f64) -> Probability {
        let car = |(position, driver_number)| CarProbability { driver_number, position, probability: probability(position, driver_number) };
        let cars = cars.into_iter().map(car).collect();
        Probability { model: "win_by_position".to_owned(), laps_completed: self.laps_completed, cars }
    }
}

impl Operator for ProbabilityOperator {
    const NAME: &'static str = "probability";
    const VERSION: u32 = 3;
    type Output = Probability;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let table: Vec<u8> = self.table.iter().flatten().flat_map(|frequency| frequency.to_le_bytes()).collect();
        vec![
            ("table", Digest::of(&table).to_string()),
            ("laps_in_row", self.laps_in_row.to_string()),
            ("flag_ms_max", self.flag_ms_max.to_string()),
        ]
    }

    fn on_timer(&self, state: &mut State, token: u64, context: &mut Context<'_, Probability>) {
        match token {
            FLAG if state.end == End::Flag => state.end = End::FlagLong,
            FLAG => return,
            _ => state.is_due = false,
        }
        if state.evidence.kind(state.laps_completed) != Some(SessionKind::Race) || state.end == End::Won {
            state.change = None;
            return;
        }
        let fact = match (state.end, state.winner()) {
            (End::NotYet, _) => self.probability(state),
            (_, Some(winner)) => state.say_of(state.order.places(), |_, number| f64::from(u8::from(number == winner))),
            (_, None) => return,
        };
        let Some(Change { happened_at, causes }) = state.change.take() else { return };
        if state.end != End::NotYet {
            state.end = End::Won;
        }
        if !fact.cars.is_empty() && state.said.as_ref() != Some(&fact) {
            state.said = Some(fact.clone());
            context.draft(fact).because(&in_order(causes.into_iter().map(Some))).at(happened_at).emit();
        }
    }
}

impl Handle<RaceClock> for ProbabilityOperator {
    fn apply(&self, state: &mut State, clock: &RaceClock, context: &mut Context<'_, Probability>) {
        let has_changed = clock.laps_completed != state.laps_completed;
        state.laps_completed = clock.laps_completed;
        if has_changed && state.is_race {
            state.note(context);
        }
    }
}

impl Handle<Position> for ProbabilityOperator {
    fn apply(&self, state: &mut State, position: &Position, context: &mut Context<'_, Probability>) {
        state.order.take(position);
        if state.is_race {
            state.note(context);
        }
    }
}

impl Handle<Timing> for ProbabilityOperator {
    fn apply(&self, state: &mut State, row: &Timing, context: &mut Context<'_, Probability>) {
        let has_distance = row.gap_ms.is_some_and(|gap_ms| gap_ms > 0) || row.laps_behind.is_some_and(|laps| laps > 0);
        let car = state.cars.entry(row.driver_number);
        let before = (car.is_retired, car.has_finished, car.has_driven);
        car.is_retired = matches!(row.state, CarState::Retired | CarState::DidNotStart);
        car.has_finished = row.state == CarState::Finished;
        car.has_driven |= row.lap_number.is_some() || has_distance;
        if (car.is_retired, car.has_finished, car.has_driven) != before && state.is_race {
            state.note(context);
        }
    }
}

impl Handle<TrackStatus> for ProbabilityOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, Probability>) {
        state.evidence.take_status(status, context.event_time());
        if status.session == SessionState::Finished {
            if state.end == End::NotYet {
                state.end = End::Flag;
                context.set_timer(context.now().plus(self.flag_ms_max * 1_000), FLAG);
                state.note(context);
            }
        } else {
            state.end = End::NotYet;
            state.is_start_seen |= status.session == SessionState::Started && state.laps_completed == 0;
        }
        if status.lap_number.is_some() && !std::mem::replace(&mut state.is_race, true) {
            state.note(context);
        }
    }
}

impl Handle<Gap> for ProbabilityOperator {
    fn apply(&self, state: &mut State, _gap: &Gap, context: &mut Context<'_, Probability>) {
        if !std::mem::replace(&mut state.is_race, true) {
            state.evidence.take_count_of_laps(context.event_time());
            state.note(context);
        }
    }
}

impl Handle<Session> for ProbabilityOperator {
    fn apply(&self, state: &mut State, document: &Session, context: &mut Context<'_, Probability>) {
        state.evidence.take_document(document);
        if state.is_race {
            state.note(context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gaps::GapsOperator;
    use crate::laps::LapsOperator;
    use crate::positions::PositionsOperator;
    use crate::race_clock::RaceClockOperator;
    use crate::testing::{Bench, at_ms, interval, lap, position, race_control};
    use crate::timing::TimingOperator;
    use crate::track_status::TrackStatusOperator;
    use pitwall_schemas::raw::{self, RaceControl, Sample};
    use proptest::prelude::*;

    fn bench() -> Bench {
        Bench::new(|graph| {
            let track_status = graph.publish(TrackStatusOperator, |inputs| inputs.samples::<RaceControl>());
            let laps = graph.publish(LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>().stream(track_status));
            let race_clock = graph.publish(RaceClockOperator, |inputs| inputs.stream(track_status).stream(laps));
            let positions = graph.publish(PositionsOperator::default(), |inputs| inputs.samples::<raw::Position>());
            let gaps = graph.publish(GapsOperator, |inputs| inputs.samples::<raw::Interval>().stream(positions));
            let timing = graph.publish(TimingOperator::default(), |inputs| inputs.stream(track_status).stream(laps).stream(gaps));
            graph.publish(ProbabilityOperator::default(), |inputs| {
                let inputs = inputs.stream(race_clock).stream(track_status).stream(positions).stream(gaps).stream(timing);
                inputs.samples::<raw::Session>()
            });
        })
    }

    fn start(ms: i64, lap_number: Option<i32>) -> (i64, Sample) {
        let category = Some("SessionStatus".into());
        (ms, Sample::from(RaceControl { category, lap_number, ..race_control(at_ms(ms), "SESSION STARTED") }))
    }

    fn place(ms: i64, driver_number: i32, place: i32) -> (i64, Sample) {
        (ms, Sample::from(position(driver_number, at_ms(ms), place)))
    }

    fn begins(ms: i64, driver_number: i32, lap_number: i32) -> (i64, Sample) {
        (ms, Sample::from(raw::Lap { date_start: Some(at_ms(ms)), ..lap(driver_number, lap_number) }))
    }

    fn play(samples: impl IntoIterator<Item = (i64, Sample)>) -> Vec<(Vec<i64>, Probability)> {
        bench().play(samples).facts().into_iter().map(|(header, fact)| (header.causes, fact)).collect()
    }

    fn cars(fact: &Probability) -> Vec<i32> {
        fact.cars.iter().map(|car| car.driver_number).collect()
    }

    #[test]
    fn a_car_is_as_likely_to_win_as_cars_in_its_place_were_at_that_lap() {
        let said = play([place(0, 1, 1), place(0, 4, 2), start(10, Some(1)), begins(20, 1, 1), begins(500_000, 1, 7)]);
        let laps: Vec<_> = said.iter().map(|(_, fact)| fact.laps_completed).collect();
        assert_eq!(laps, [0, 6]);
        for ((_, fact), row) in said.iter().zip([0, 2]) {
            let [first, second] = [0, 1].map(|place| f64::from(WIN_BY_POSITION[row][place]));
            assert_eq!(fact.cars[0].probability, first / (first + second));
            assert_eq!(fact.cars[1].probability, second / (first + second));
        }
    }

    #[test]
    fn laps_beyond_the_tables_end_take_its_last_row() {
        let operator = ProbabilityOperator::default();
        assert_eq!(operator.row(0), &WIN_BY_POSITION[0]);
        assert_eq!(operator.row(5), &WIN_BY_POSITION[1]);
        assert_eq!(operator.row(6), &WIN_BY_POSITION[2]);
        assert_eq!(operator.row(200), &WIN_BY_POSITION[14]);
    }

    #[test]
    fn every_row_of_the_table_is_a_whole_and_holds_no_zero() {
        for row in &WIN_BY_POSITION {
            assert!(row.iter().all(|frequency| *frequency > 0));
            let total: u32 = row.iter().sum();
            assert!(total.abs_diff(1_000_000) <= row.len() as u32, "{total}");
        }
    }

    #[test]
    fn outside_a_race_nothing_is_said() {
        assert!(play([start(0, None), place(10, 1, 1), place(10, 4, 2), begins(20, 1, 1), begins(30, 1, 7)]).is_empty());
    }

    /// The session's document, at 5 ms.
    fn document(session_name: &str) -> (i64, Sample) {
        let session = raw::Session {
            session_name: Some(session_name.into()),
            session_type: Some("Race".into()),
            year: Some(2025),
            ..crate::testing::session_at(None, None)
        };
        (5, Sample::from(session))
    }

    #[test]
    fn a_sprint_is_not_taken_for_a_race() {
        let session = |name| vec![place(0, 1, 1), document(name), start(10, Some(1)), begins(20, 1, 1), begins(500_000, 1, 7)];
        assert_eq!((play(session("Sprint")).len(), play(session("Race")).len()), (0, 2));
        // On a Saturday, without a document, it may be one until it has more laps than any sprint.
        let day = -86_400_000;
        let saturday = |laps| vec![place(day, 1, 1), start(day + 10, Some(1)), begins(day + 20, 1, 1), begins(day + 2_500_000, 1, laps)];
        assert_eq!((play(saturday(31)).len(), play(saturday(32)).len()), (0, 1));
    }

    #[test]
    fn a_gap_tells_that_it_is_a_race() {
        let said = play([place(0, 1, 1), (10, Sample::from(interval(1, at_ms(10))))]);
        assert_eq!(said.len(), 1);
    }

    #[test]
    fn a_swap_is_one_fact_with_all_its_messages_as_causes() {
        let said = play([place(0, 1, 1), place(0, 4, 2), start(10, Some(1)), place(20, 4, 1), place(20, 1, 2)]);
        assert_eq!(said.iter().map(|(_, fact)| cars(fact)).collect::<Vec<_>>(), [[1, 4], [4, 1]]);
        assert_eq!((said[0].0.as_slice(), said[1].0.as_slice()), ([2].as_slice(), [3, 4].as_slice()));
    }

    #[test]
    fn a_retired_cars_share_goes_to_the_others() {
        let mut samples = vec![place(0, 1, 1), place(0, 4, 2), start(10, Some(1)), begins(20, 4, 1)];
        samples.extend((1..=4).map(|number| begins(i64::from(number) * 80_000, 1, number)));
        let said = play(samples);
        let (_, last) = said.last().unwrap();
        assert_eq!((cars(last), last.cars[0].probability), (vec![1], 1.0));
    }

    fn ends(ms: i64, driver_number: i32, lap_number: i32) -> (i64, Sample) {
        let (date_start, lap_duration) = (Some(at_ms(ms - 80_000)), Some(80.0));
        (ms, Sample::from(raw::Lap { date_start, lap_duration, ..lap(driver_number, lap_number) }))
    }

    fn flag(ms: i64) -> (i64, Sample) {
        let category = Some("SessionStatus".into());
        (ms, Sample::from(RaceControl { category, lap_number: Some(2), ..race_control(at_ms(ms), "SESSION FINISHED") }))
    }

    fn chances(fact: &Probability) -> Vec<(i32, f64)> {
        fact.cars.iter().map(|car| (car.driver_number, car.probability)).collect()
    }

    #[test]
    fn at_the_flag_the_winners_probability_is_1_that_of_all_others_0_and_it_ends() {
        let grid =
            [place(0, 1, 1), place(0, 4, 2), place(0, 16, 3), start(10, Some(1)), begins(20, 1, 1), begins(20, 4, 1), begins(20, 16, 1)];
        let laps = (2..=5).flat_map(|number| [1, 4].map(|car| begins(i64::from(number) * 80_000, car, number)));
        let end = [ends(480_000, 1, 5), flag(480_300), ends(480_900, 4, 5), place(482_000, 4, 1), place(482_000, 1, 2)];
        let said = play(grid.into_iter().chain(laps).chain(end));
        let (before, last) = (&said[said.len() - 2].1, &said.last().unwrap().1);
        assert_eq!(cars(before), [1, 4], "car 16 has retired");
        assert_eq!(chances(last), [(1, 1.0), (4, 0.0), (16, 0.0)]);
    }

    #[test]
    fn a_leader_whose_finish_is_not_known_long_after_the_flag_has_not_won() {
        let grid = [place(0, 1, 1), place(0, 4, 2), start(10, Some(1)), begins(20, 1, 1), begins(20, 4, 1)];
        let (date_start, lap_duration) = (Some(at_ms(3_000)), Some(57.1));
        let late = (60_100, Sample::from(raw::Lap { date_start, lap_duration, ..lap(4, 2) }));
        let end = [begins(3_000, 1, 2), begins(3_000, 4, 2), flag(60_000), late, begins(80_000, 99, 1)];
        let said = play(grid.into_iter().chain(end));
        assert_eq!(chances(&said.last().unwrap().1), [(1, 0.0), (4, 1.0)]);
    }

    #[test]
    fn a_car_that_did_not_start_has_no_chance_once_the_leader_has_completed_a_lap() {
        let grid = [place(0, 1, 1), place(0, 4, 2), place(0, 16, 3), start(10, Some(1)), begins(20, 1, 1), begins(20, 16, 1)];
        let said = play(grid.into_iter().chain([begins(80_000, 1, 2)]));
        assert_eq!(said.iter().map(|(_, fact)| cars(fact)).collect::<Vec<_>>(), [vec![1, 4, 16], vec![1, 16]]);
    }

    #[test]
    fn laps_missing_for_most_cars_do_not_tell_who_started() {
        let grid = [place(0, 1, 1), place(0, 4, 2), place(0, 16, 3), start(10, Some(1)), begins(20, 1, 1)];
        let said = play(grid.into_iter().chain([begins(80_000, 1, 2)]));
        assert_eq!(cars(&said.last().unwrap().1), [1, 4, 16]);
    }

    proptest! {
        #[test]
        fn probabilities_sum_to_1_over_the_cars_running(
            places in Just((1..=20).collect::<Vec<i32>>()).prop_shuffle(),
            cars in 1..=20_i32,
            laps in prop::collection::vec((1..=20_i32, 1..80_i32), 0..20),
        ) {
            let mut samples = vec![start(0, Some(1))];
            let whole = places.iter().filter(|stated| **stated <= cars);
            samples.extend((1..).zip(whole).map(|(driver_number, stated)| place(10, driver_number, *stated)));
            samples.extend((0..).zip(laps).map(|(index, (driver_number, number))| begins(20 + index * 10, driver_number, number)));
            let said = play(samples);
            prop_assert!(!said.is_empty());
            for (_, fact) in said {
                let sum: f64 = fact.cars.iter().map(|car| car.probability).sum();
                prop_assert!((sum - 1.0).abs() < 1e-12, "{sum}");
                prop_assert!(fact.cars.iter().all(|car| car.probability > 0.0));
                prop_assert!(fact.cars.windows(2).all(|pair| pair[0].position < pair[1].position));
            }
        }
    }
}
