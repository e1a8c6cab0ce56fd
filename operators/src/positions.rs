//! Positions: `position` documents settled into one running order, a fact for each car whose place changed; with `laps` and `telemetry`
//! to tell which places the cars themselves refute.
//!
//! The feed states places car by car (OpenF1 `position`, from the feed's `Line`), and a swap arrives as two messages or more. What
//! arrives within [`PositionsOperator::batch_window_ms`] of the first is applied as a set:
//! * Every car named takes the place stated. Of two cars sent to one place the later message wins, and the other takes the nearest free
//!   place below, or above when there is none.
//! * The others stay where they are. Those whose place was taken move, in the same order as before, into the places that the named cars
//!   left, or below when more cars came than places became free.
//!
//! Places are kept as the feed numbers them. A late join learns of car 15 before it learns of car 1, and nobody can tell who is in between:
//! nothing is said before every place up to the last has had its car. From then on places are said without holes, 1 to the number of cars.
//! * A place that is left over is that of the one car without a place ([`left_over`](crate::left_over)).
//! * A grid of which no more than [`PositionsOperator::holes_max`] places are unknown when the race starts is said as it is numbered, so
//!   that the start's swaps are not lost.
//! * `ORDER FOR RESTART` of race control gives every place; cars that it leaves out are behind, in the order before (sporting regulations).
//!
//! A place that the cars' own laps and locations refute is said, since the feed says it, but as disputed ([`disputes`](crate::disputes)).
//! Only in a race are places won on the road.
//!
//! A message sent again after a reconnect is known by its date and `_id`, and changes nothing. A message ends the set of one dated more
//! than [`SAME_MOMENT_MAX`] before it even when arrival times stand still, and so does other news.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator, Tick};
use pitwall_schemas::facts::{self, EstimatedLap, Lap, RaceControlMessage, SessionState, Status, Telemetry, TrackStatus};
use pitwall_schemas::raw::{Interval, Position};
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::disputes::{Disputes, LINE_LAG};
use crate::known::{Version, in_order};
use crate::left_over::Entries;
use crate::road::Road;

/// Dates farther apart than this, µs, are not of one swap.
const SAME_MOMENT_MAX: i64 = Micros::SECOND;

/// Token of the timer after which a lap begun refutes places; batches have smaller ones.
const LAP_BEGUN: u64 = u64::MAX;

/// How race control begins the order for a restart.
const ORDER_FOR_RESTART: &str = "ORDER FOR RESTART";

/// Settles the running order.
#[derive(Debug, Clone, Copy)]
pub struct PositionsOperator {
    /// How long after its first message a batch ends, ms.
    pub batch_window_ms: i64,
    /// Places of the grid that may be unknown when a race starts.
    pub holes_max: i32,
}

impl Default for PositionsOperator {
    fn default() -> Self {
        Self { batch_window_ms: 2, holes_max: 3 }
    }
}

/// The running order and what is about to change it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Car numbers by place, as the feed numbers the places.
    order: BTreeMap<i32, i32>,
    /// Whether every place up to the last has had its car.
    is_whole: bool,
    /// Whether places are said although some are unknown.
    is_grid: bool,
    cars: ByDriver<Car>,
    entries: Entries,
    /// Messages being collected, at most one of each car, in order of arrival, and how many batches there were before.
    batch: Vec<Message>,
    batches: u64,
    race: Race,
    road: Road,
    disputes: Disputes,
    /// When race control gave the order for the last restart.
    restart_order_at: Option<Micros>,
}

/// What tells whether places are won on the road now.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Race {
    is_race: bool,
    is_stopped: bool,
    is_over: bool,
    /// Highest lap begun.
    lap_number: i32,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    newest: Version,
    message: Option<Message>,
    said: Option<Said>,
}

/// A car's place as last said.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    fact: facts::Position,
    happened_at: Micros,
    causes: Vec<u64>,
    issued: Issued,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Message {
    driver_number: i32,
    place: i32,
    date: Micros,
    seq: u64,
}

/// What changed the order, to name it.
#[derive(Default)]
struct Change {
    before: BTreeMap<i32, i32>,
    batch: Vec<Message>,
    /// Disputes that the road ended: the car, and the ledger records that say so.
    confirmed: Vec<(i32, [u64; 2])>,
}

impl Change {
    /// Ledger records that moved the car, and when. A car that got the new place it was sent to moved by its own message; any other was
    /// moved by all of them.
    fn of(&self, driver_number: i32, place: i32, now: Micros) -> (Vec<u64>, Micros) {
        let is_own = |message: &&Message| message.driver_number == driver_number && message.place == place;
        let has_moved = self.before.get(&place) != Some(&driver_number);
        match self.batch.iter().find(is_own).filter(|_| has_moved) {
            Some(own) => (vec![own.seq], own.date),
            None => {
                (self.batch.iter().map(|message| message.seq).collect(), self.batch.iter().map(|message| message.date).max().unwrap_or(now))
            }
        }
    }
}

impl Race {
    const fn is_decided_on_the_road(&self) -> bool {
        self.is_race && !self.is_stopped && !self.is_over
    }
}

impl State {
    /// Car numbers in running order, the leader first. Messages of the last [`PositionsOperator::batch_window_ms`] may not be in it yet.
    pub fn order(&self) -> impl Iterator<Item = i32> {
        self.order.values().copied()
    }

    const fn is_said(&self) -> bool {
        self.is_whole || self.is_grid
    }

    /// Settles the messages collected and says what they changed.
    fn close_batch(&mut self, context: &mut Context<'_, facts::Position>) {
        let batch = std::mem::take(&mut self.batch);
        if batch.is_empty() {
            return;
        }
        self.batches += 1;
        self.reorder(batch, true, context);
    }

    /// The same when the messages collected are of another moment than `date`.
    fn close_batch_before(&mut self, date: Micros, context: &mut Context<'_, facts::Position>) {
        if self.batch.first().is_some_and(|first| date.since(first.date) > SAME_MOMENT_MAX) {
            self.close_batch(context);
        }
    }

    /// Applies `batch`; what it wins is won on the road or by order of race control.
    fn reorder(&mut self, batch: Vec<Message>, is_on_the_road: bool, context: &mut Context<'_, facts::Position>) {
        let before = std::mem::take(&mut self.order);
        self.order = settle(&before, &batch);
        self.is_whole |= self.order.keys().copied().eq(1..=self.order.len() as i32);
        let mut confirmed = Vec::new();
        if !is_on_the_road {
            self.disputes.clear();
        } else if self.is_said() && self.race.is_decided_on_the_road() {
            let [former, present] = [&before, &self.order].map(|order| order.values().copied().collect::<Vec<_>>());
            let at = batch.iter().map(|message| message.date).max().unwrap_or(context.now()).min(context.now());
            self.disputes.reorder(&former, &present, at, context.now());
            confirmed = self.disputes.judge(&self.road, context.now());
        }
        self.say(&Change { before, batch, confirmed }, context);
    }

    /// Decides which places are disputed by what is known now.
    fn judge(&mut self, context: &mut Context<'_, facts::Position>) {
        if !self.is_said() || !self.race.is_decided_on_the_road() {
            return;
        }
        let confirmed = self.disputes.judge(&self.road, context.now());
        let mut first = self.order.values().copied();
        if let (Some(leader), Some(second)) = (first.next(), first.next()) {
            self.disputes.judge_leader(&self.road, leader, second, context.now());
        }
        self.say(&Change { confirmed, ..Change::default() }, context);
    }

    /// Says the place of each car of which it changed, or of which it changed whether it is disputed.
    fn say(&mut self, change: &Change, context: &mut Context<'_, facts::Position>) {
        if !self.is_said() {
            return;
        }
        let cars = if self.is_whole { self.order.len() as i32 } else { self.order.last_key_value().map_or(0, |(place, _)| *place) };
        for (rank, (&place, &driver_number)) in (1..).zip(&self.order) {
            let position = if self.is_whole { rank } else { place };
            let said = &mut self.cars.entry(driver_number).said;
            let dispute = self.disputes.of(driver_number);
            let has_moved = said.as_ref().is_none_or(|said| said.fact.position != position);
            let before = said.as_ref().map(|said| if has_moved { Some(said.fact.position) } else { said.fact.previous_position });
            let fact = facts::Position {
                driver_number,
                position,
                previous_position: before.flatten(),
                cars,
                disputed: dispute.is_some(),
                undisputed_position: dispute.as_ref().map(|(ahead, _)| (position + ahead).min(cars)),
            };
            let is_disputed_alike = |said: &Said| said.fact.undisputed_position == fact.undisputed_position;
            if !has_moved && said.as_ref().is_some_and(is_disputed_alike) {
                continue;
            }
            let confirmed = change.confirmed.iter().filter(|(car, _)| *car == driver_number).flat_map(|(_, causes)| *causes);
            let evidence: Vec<u64> = dispute.into_iter().flat_map(|(_, causes)| causes).chain(confirmed).collect();
            let (causes, happened_at, previous) = match said {
                Some(said) if !has_moved => (said.causes.clone(), said.happened_at, Some(said.issued)),
                _ => {
                    let (causes, happened_at) = change.of(driver_number, place, context.now());
                    (causes, happened_at, None)
                }
            };
            let all = in_order(causes.iter().chain(&evidence).map(|cause| Some(*cause)));
            let issued = context.draft(fact.clone()).because(&all).at(happened_at).correcting(previous).emit();
            *said = Some(Said { fact, happened_at, causes, issued });
        }
    }
}

/// The order by place after `batch`.
fn settle(order: &BTreeMap<i32, i32>, batch: &[Message]) -> BTreeMap<i32, i32> {
    let named: BTreeSet<i32> = batch.iter().map(|message| message.driver_number).collect();
    let (of_named, of_others): (Vec<_>, Vec<_>) = order.iter().partition(|(_, driver_number)| named.contains(*driver_number));
    let cars = (of_others.len() + batch.len()) as i32;
    let last_place = order.keys().copied().chain(batch.iter().map(|message| message.place)).fold(cars, i32::max);

    let mut settled = BTreeMap::new();
    let mut beaten = Vec::new();
    for message in batch.iter().rev() {
        match settled.entry(message.place) {
            Entry::Occupied(_) => beaten.push(message),
            Entry::Vacant(free) => {
                free.insert(message.driver_number);
            }
        }
    }
    for message in beaten {
        let mut nearest = (message.place..=last_place).chain((1..message.place).rev());
        let free = nearest.find(|place| !settled.contains_key(place)).expect("no more cars than places up to the last");
        settled.insert(free, message.driver_number);
    }

    let mut vacated: BTreeSet<i32> = of_named.iter().map(|(place, _)| **place).filter(|place| !settled.contains_key(place)).collect();
    let (taken, mut left): (BTreeSet<i32>, BTreeSet<i32>) =
        of_others.iter().map(|(place, _)| **place).partition(|place| settled.contains_key(place));
    for place in taken {
        let free = match vacated.iter().copied().min_by_key(|free| (free.abs_diff(place), *free)) {
            Some(free) => free,
            None => (place..).find(|free| !settled.contains_key(free) && !left.contains(free)).expect("places go on without end"),
        };
        vacated.remove(&free);
        left.insert(free);
    }
    settled.extend(left.into_iter().zip(of_others.into_iter().map(|(_, driver_number)| *driver_number)));
    settled
}

/// The cars that race control names in the order for a restart, first to last; none when the message is about something else.
fn restart_order(message: &RaceControlMessage) -> Vec<i32> {
    let Some((_, words)) = message.text.split_once(ORDER_FOR_RESTART) else { return Vec::new() };
    let in_words = words.split(|character: char| !character.is_ascii_digit()).filter_map(|number| number.parse().ok());
    let in_words: Vec<i32> = in_words.filter(|number| (1..=99).contains(number)).collect();
    let mut order = if message.driver_numbers.len() > 1 { message.driver_numbers.clone() } else { in_words };
    let mut named = BTreeSet::new();
    order.retain(|driver_number| named.insert(*driver_number));
    order
}

impl Operator for PositionsOperator {
    const NAME: &'static str = "positions";
    const VERSION: u32 = 3;
    type Output = facts::Position;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("batch_window_ms", self.batch_window_ms.to_string()), ("holes_max", self.holes_max.to_string())]
    }

    fn on_timer(&self, state: &mut State, token: u64, context: &mut Context<'_, facts::Position>) {
        match token {
            LAP_BEGUN => state.judge(context),
            batch if batch == state.batches => state.close_batch(context),
            _ => {}
        }
    }
}

impl Handle<Position> for PositionsOperator {
    fn apply(&self, state: &mut State, document: &Position, context: &mut Context<'_, facts::Position>) {
        let Position { driver_number, date, position: place, id, .. } = *document;
        let car = state.cars.entry(driver_number);
        let before = car.newest;
        let is_stale = !car.newest.take_dated(date, id, context.now());
        let is_repeated = car.message.is_some_and(|message| message.place == place) && car.newest == before;
        if is_stale || is_repeated {
            return;
        }
        let message = Message { driver_number, place, date, seq: context.seq() };
        car.message = Some(message);
        state.close_batch_before(date, context);
        if state.batch.is_empty() {
            context.set_timer(context.now().plus(self.batch_window_ms * 1_000), state.batches);
        }
        state.batch.retain(|message| message.driver_number != driver_number);
        state.batch.push(message);
    }
}

impl Handle<facts::Driver> for PositionsOperator {
    fn apply(&self, state: &mut State, driver: &facts::Driver, context: &mut Context<'_, facts::Position>) {
        state.entries.list(driver.driver_number, context.seq());
    }
}

impl Handle<Interval> for PositionsOperator {
    fn apply(&self, state: &mut State, _document: &Interval, _context: &mut Context<'_, facts::Position>) {
        state.race.is_race = true;
    }
}

impl Handle<TrackStatus> for PositionsOperator {
    fn apply(&self, state: &mut State, status: &TrackStatus, context: &mut Context<'_, facts::Position>) {
        state.close_batch_before(context.event_time(), context);
        let race = &mut state.race;
        race.is_race |= status.lap_number.is_some();
        race.is_stopped = status.status == Status::Red || status.session == SessionState::Aborted;
        race.is_over = status.session == SessionState::Finished;
        if race.is_stopped || race.is_over {
            state.disputes.forget_claims();
        }
        if status.session == SessionState::Started && state.race.lap_number <= 1 && status.lap_number.is_none_or(|lap| lap <= 1) {
            state.entries.start();
            let places = state.order.last_key_value().map_or(0, |(place, _)| *place);
            if state.race.is_race && !state.is_said() && places - state.order.len() as i32 <= self.holes_max {
                state.is_grid = true;
                let batch = state.cars.iter().filter_map(|(_, car)| car.message).collect();
                state.say(&Change { batch, ..Change::default() }, context);
            }
        }
    }
}

impl Handle<RaceControlMessage> for PositionsOperator {
    fn apply(&self, state: &mut State, message: &RaceControlMessage, context: &mut Context<'_, facts::Position>) {
        state.close_batch_before(context.event_time(), context);
        let order = restart_order(message);
        let date = context.event_time();
        if order.is_empty() || state.restart_order_at.is_some_and(|taken| date <= taken) {
            return;
        }
        state.close_batch(context);
        state.restart_order_at = Some(date);
        let left_out: Vec<i32> = state.order().filter(|car| !order.contains(car)).collect();
        let seq = context.newest_cause();
        let message = |(place, driver_number)| Message { driver_number, place, date, seq };
        state.reorder((1..).zip(order.into_iter().chain(left_out)).map(message).collect(), false, context);
    }
}

impl Handle<Lap> for PositionsOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, facts::Position>) {
        let cause = context.newest_cause();
        if context.is_withdrawn() {
            state.road.forget_lap(lap.driver_number, lap.lap_number);
            return;
        }
        state.entries.drive(lap.driver_number, cause);
        state.race.lap_number = state.race.lap_number.max(lap.lap_number);
        if let Some(at) = lap.started_at
            && state.road.take_lap(lap.driver_number, lap.lap_number, at, context.now(), cause)
            && state.race.is_race
        {
            context.set_timer(context.now().plus(LINE_LAG), LAP_BEGUN);
        }
    }
}

impl Handle<EstimatedLap> for PositionsOperator {
    fn apply(&self, state: &mut State, lap: &EstimatedLap, context: &mut Context<'_, facts::Position>) {
        let cause = context.newest_cause();
        if let Some(lap_number) = lap.lap_number {
            state.road.take_lap(lap.driver_number, lap_number + 1, lap.ended_at, context.now(), cause);
        }
    }
}

impl Handle<Telemetry> for PositionsOperator {
    fn apply(&self, state: &mut State, packet: &Telemetry, context: &mut Context<'_, facts::Position>) {
        state.close_batch_before(context.event_time(), context);
        if state.race.is_race {
            let cause = context.newest_cause();
            state.road.take_telemetry(packet, context.now(), cause);
        }
    }
}

impl Handle<Tick> for PositionsOperator {
    fn apply(&self, state: &mut State, _tick: &Tick, context: &mut Context<'_, facts::Position>) {
        if let Some(left_over) = state.entries.look(&state.order) {
            let message =
                Message { driver_number: left_over.driver_number, place: left_over.place, date: context.now(), seq: left_over.cause };
            state.reorder(vec![message], true, context);
        }
        state.judge(context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, driver, lap, position, race_control};
    use pitwall_schemas::raw::{RaceControl, Sample};
    use proptest::prelude::*;

    fn bench() -> Bench {
        Bench::new(|graph| {
            graph.publish(PositionsOperator::default(), |inputs| inputs.samples::<Position>());
        })
    }

    /// A bench after `batches` of (car, place) messages, a batch every 10 ms: no tick comes between them, so messages are numbered densely.
    fn play(batches: &[&[(i32, i32)]]) -> Bench {
        let mut bench = bench();
        for (ms, batch) in (0..).step_by(10).zip(batches) {
            for (driver_number, place) in *batch {
                bench.arrive(ms, Sample::from(position(*driver_number, at_ms(ms), *place)));
            }
        }
        bench.idle(3_600_000);
        bench
    }

    fn order(bench: &Bench) -> Vec<i32> {
        bench.state::<PositionsOperator>().order().collect()
    }

    /// Car, new place, place before and causes of every fact from number `from` on.
    fn said(bench: &Bench, from: usize) -> Vec<(i32, i32, Option<i32>, Vec<i64>)> {
        let facts = bench.facts::<facts::Position>();
        let said = facts.into_iter().skip(from);
        said.map(|(header, fact)| (fact.driver_number, fact.position, fact.previous_position, header.causes)).collect()
    }

    const GRID: &[(i32, i32)] = &[(1, 1), (4, 2), (16, 3), (44, 4), (63, 5)];

    #[test]
    fn a_swap_of_two_messages_is_one_change_of_two_places() {
        let bench = play(&[GRID, &[(16, 4), (44, 3)]]);
        assert_eq!(said(&bench, 5), [(44, 3, Some(4), vec![6]), (16, 4, Some(3), vec![5])]);
    }

    /// Case 20.
    #[test]
    fn a_three_car_swap_in_one_message_leaves_a_permutation() {
        let bench = play(&[GRID, &[(4, 4), (16, 2), (44, 3)]]);
        assert_eq!(order(&bench), [1, 16, 44, 4, 63]);
        assert_eq!(said(&bench, 5), [(16, 2, Some(3), vec![6]), (44, 3, Some(4), vec![7]), (4, 4, Some(2), vec![5])]);
    }

    #[test]
    fn cars_that_are_not_named_keep_their_order_and_name_the_whole_batch() {
        let bench = play(&[GRID, &[(63, 2)], &[(63, 5)]]);
        let forth = [(63, 2, Some(5), vec![5]), (4, 3, Some(2), vec![5]), (16, 4, Some(3), vec![5]), (44, 5, Some(4), vec![5])];
        let back = [(4, 2, Some(3), vec![6]), (16, 3, Some(4), vec![6]), (44, 4, Some(5), vec![6]), (63, 5, Some(2), vec![6])];
        assert_eq!(said(&bench, 5), [forth, back].concat());
    }

    #[test]
    fn of_two_cars_sent_to_one_place_the_later_message_wins_and_the_other_goes_below() {
        let bench = play(&[GRID, &[(44, 1), (63, 1)]]);
        assert_eq!(order(&bench), [63, 44, 1, 4, 16]);
        assert_eq!(said(&bench, 5)[..2], [(63, 1, Some(5), vec![6]), (44, 2, Some(4), vec![5, 6])]);
    }

    #[test]
    fn with_no_free_place_below_the_car_that_lost_goes_above() {
        assert_eq!(order(&play(&[GRID, &[(4, 5), (1, 5)]])), [16, 44, 63, 4, 1]);
    }

    #[test]
    fn a_car_named_twice_takes_the_later_place() {
        assert_eq!(order(&play(&[GRID, &[(63, 1), (63, 4), (44, 5)]])), [1, 4, 16, 63, 44]);
    }

    #[test]
    fn cars_that_join_later_push_the_others_down() {
        let bench = play(&[GRID, &[(81, 2)]]);
        assert_eq!(order(&bench), [1, 81, 4, 16, 44, 63]);
        assert_eq!(said(&bench, 5)[0], (81, 2, None, vec![5]));
    }

    #[test]
    fn a_late_join_keeps_places_as_the_feed_numbers_them_and_says_none_until_all_are_known() {
        // As in Abu Dhabi 2025: first 14 and 15, later 13 for a car that was 14th.
        let batches: [&[(i32, i32)]; 4] = [&[(6, 15), (18, 14)], &[(27, 16), (23, 17)], &[(12, 14), (18, 13)], &[(31, 8)]];
        let bench = play(&batches);
        assert_eq!(order(&bench), [31, 18, 12, 6, 27, 23]);
        assert!(said(&bench, 0).is_empty(), "who is eighth is not first");
        let others: Vec<(i32, i32)> = (1..=7).chain(9..=12).map(|place| (place + 50, place)).collect();
        let bench = play(&[&batches[..], &[others.as_slice()]].concat());
        let places: Vec<_> = said(&bench, 0).into_iter().map(|(car, place, ..)| (car, place)).collect();
        assert_eq!((places.len(), places[7], places[12], places[13]), (17, (31, 8), (18, 13), (12, 14)));
    }

    #[test]
    fn a_place_that_is_left_empty_later_is_closed() {
        let bench = play(&[GRID, &[(63, 9)]]);
        assert_eq!((order(&bench), said(&bench, 5)), (vec![1, 4, 16, 44, 63], vec![]));
    }

    #[test]
    fn a_place_stated_again_says_nothing() {
        let bench = play(&[GRID, &[(4, 2), (1, 1)]]);
        assert_eq!(bench.facts::<facts::Position>().len(), 5);
    }

    #[test]
    fn a_message_replayed_after_a_reconnect_does_not_undo_what_came_since() {
        let mut bench = bench();
        let grid = |bench: &mut Bench, ms: i64| {
            for (driver_number, place) in GRID {
                bench.arrive(ms, Sample::from(position(*driver_number, at_ms(1_000), *place)));
            }
        };
        grid(&mut bench, 1_000);
        bench.arrive(2_000, Sample::from(position(1, at_ms(2_000), 2)));
        bench.arrive(2_000, Sample::from(position(4, at_ms(2_000), 1)));
        grid(&mut bench, 3_000);
        bench.idle(4_000);
        assert_eq!((order(&bench), bench.facts::<facts::Position>().len()), (vec![4, 1, 16, 44, 63], 7));
        assert!(bench.rejections().is_empty());
    }

    #[test]
    fn messages_further_apart_than_the_window_are_two_batches() {
        let mut bench = bench();
        for (ms, driver_number, place) in [(1_000, 1, 1), (1_001, 4, 2), (1_003, 16, 3)] {
            bench.arrive(ms, Sample::from(position(driver_number, at_ms(ms), place)));
        }
        bench.idle(2_000);
        let cars: Vec<_> = bench.facts::<facts::Position>().iter().map(|(_, fact)| fact.cars).collect();
        assert_eq!(cars, [2, 2, 3]);
    }

    #[test]
    fn of_two_cars_sent_to_one_place_one_after_the_other_the_later_has_it_and_the_other_is_behind_it() {
        assert_eq!(order(&play(&[GRID, &[(44, 2)], &[(63, 2)]])), [1, 63, 44, 4, 16]);
    }

    #[test]
    fn a_message_of_another_moment_ends_the_set_even_when_arrival_times_stand_still() {
        let mut bench = bench();
        for (ms, driver_number, place) in [(1_000, 1, 1), (1_000, 4, 2), (30_000, 4, 1), (30_000, 1, 2), (60_000, 16, 3)] {
            bench.arrive(100_000, Sample::from(position(driver_number, at_ms(ms), place)));
        }
        let said: Vec<_> = bench.facts::<facts::Position>().into_iter().map(|(_, fact)| (fact.driver_number, fact.position)).collect();
        assert_eq!(said, [(1, 1), (4, 2), (4, 1), (1, 2)]);
    }

    /// The whole graph: a driver list, places at 1 s, the race's start at 10 s and the first laps with it, then a record at 20 s and 30 s.
    fn start(listed: &[i32], places: &[(i32, i32)], driving: &[i32], first_lap: i32) -> Bench {
        let category = Some("SessionStatus".into());
        let start = RaceControl { category, lap_number: Some(first_lap), ..race_control(at_ms(10_000), "SESSION STARTED") };
        let mut samples: Vec<(i64, Sample)> = listed.iter().map(|car| (0, Sample::from(driver(*car)))).collect();
        samples.extend(places.iter().map(|(car, place)| (1_000, Sample::from(position(*car, at_ms(1_000), *place)))));
        samples.push((10_000, Sample::from(start)));
        samples.extend(driving.iter().map(|car| (10_100, Sample::from(lap(*car, first_lap)))));
        samples.extend([20_000, 30_000].map(|ms| (ms, Sample::from(race_control(at_ms(ms), "NOTHING")))));
        Bench::new(crate::join).play(samples)
    }

    fn places(bench: &Bench) -> Vec<(i32, i32)> {
        bench.facts::<facts::Position>().into_iter().map(|(_, fact)| (fact.driver_number, fact.position)).collect()
    }

    #[test]
    fn a_place_left_over_is_that_of_the_car_without_one_wherever_it_is() {
        let listed = [1, 4, 16, 44];
        assert_eq!(order(&start(&listed, &[(4, 2), (16, 3), (44, 4)], &listed, 1)), [1, 4, 16, 44], "the first");
        assert_eq!(order(&start(&listed, &[(4, 1), (16, 2), (44, 4)], &listed, 1)), [4, 16, 1, 44]);
        assert_eq!(order(&start(&listed, &[(4, 1), (16, 2), (44, 3)], &listed, 1)), [4, 16, 44, 1], "the last");
        assert_eq!(order(&start(&[], &[(4, 1), (16, 2), (44, 4)], &listed, 1)), [4, 16, 1, 44], "without a driver list");
        assert_eq!(order(&start(&listed, &[(4, 1), (16, 2), (44, 4)], &[], 1)), [4, 16, 1, 44], "before any laps");
        let bench = start(&listed, &[(4, 1), (16, 2), (44, 4)], &listed, 1);
        let facts = bench.facts::<facts::Position>();
        let (header, _) = facts.iter().find(|(_, fact)| fact.driver_number == 1).unwrap();
        assert_eq!(header.causes.len(), 1);
    }

    #[test]
    fn a_stray_number_in_the_driver_list_has_no_place() {
        let bench = start(&[1, 4, 16, 44, 99], &[(4, 1), (16, 2), (44, 4)], &[1, 4, 16, 44], 1);
        assert_eq!(order(&bench), [4, 16, 1, 44]);
        let bench = start(&[1, 4, 16, 44, 99], &[(1, 3), (4, 1), (16, 2), (44, 4)], &[1, 4, 16, 44], 1);
        assert_eq!(order(&bench), [4, 16, 1, 44]);
    }

    #[test]
    fn a_late_join_takes_no_place_for_left_over() {
        let driven = start(&[], &[(4, 1), (16, 2), (44, 4)], &[1], 30);
        assert_eq!(order(&driven), [4, 16, 44]);
        assert_eq!(order(&start(&[1, 4, 16, 44, 63], &[(4, 1), (16, 2), (44, 4)], &[1], 30)), [4, 16, 44]);
        assert_eq!(order(&start(&[1, 4, 16, 44], &[(4, 1), (16, 2), (44, 4)], &[1], 30)), [4, 16, 1, 44], "the cars add up");
    }

    #[test]
    fn a_grid_with_holes_is_said_as_it_is_numbered_when_the_race_starts_and_its_swaps_too() {
        let mut bench = start(&[], &[(4, 1), (16, 2), (44, 5), (63, 6)], &[], 1);
        assert_eq!(places(&bench), [(4, 1), (16, 2), (44, 5), (63, 6)]);
        bench.arrive(40_000, Sample::from(position(63, at_ms(40_000), 5)));
        bench.arrive(40_000, Sample::from(position(44, at_ms(40_000), 6)));
        bench.arrive(50_000, Sample::from(position(1, at_ms(50_000), 3)));
        bench.arrive(60_000, Sample::from(position(81, at_ms(60_000), 4)));
        bench.idle(61_000);
        assert_eq!(places(&bench)[4..], [(63, 5), (44, 6), (1, 3), (81, 4)]);
        assert!(bench.facts::<facts::Position>().iter().all(|(header, _)| !header.causes.is_empty()));
        let unknown = start(&[], &[(4, 1), (63, 6)], &[], 1);
        assert_eq!(places(&unknown), [], "too little is known");
    }

    #[test]
    fn the_order_for_a_restart_is_taken_once_and_cars_left_out_are_behind() {
        let mut bench = start(&[], &[(1, 1), (4, 2), (16, 3), (44, 4), (63, 5)], &[], 1);
        let restart = |ms| Sample::from(race_control(at_ms(ms), "ORDER FOR RESTART: 44, 1, 63"));
        bench.arrive(40_000, restart(40_000));
        assert_eq!(order(&bench), [44, 1, 63, 4, 16]);
        bench.arrive(50_000, Sample::from(position(1, at_ms(50_000), 1)));
        bench.arrive(50_000, Sample::from(position(44, at_ms(50_000), 2)));
        bench.arrive(60_000, restart(40_000));
        bench.idle(61_000);
        assert_eq!(order(&bench), [1, 44, 63, 4, 16]);
        assert_eq!(restart_order_of("ORDER FOR RESTART: 4, 4, 0, 120, 12"), [4, 12]);
        assert!(restart_order_of("CARS 4 AND 12 ARE OUT OF ORDER").is_empty());
    }

    fn restart_order_of(words: &str) -> Vec<i32> {
        let bench = Bench::new(crate::join).play([(0, Sample::from(race_control(at_ms(0), words)))]);
        restart_order(&bench.facts::<RaceControlMessage>()[0].1)
    }

    /// Messages of a feed that says anything: ms since the one before, car and place.
    fn any_feed() -> impl Strategy<Value = Vec<(i64, i32, i32)>> {
        let anything = prop::collection::vec((prop::sample::select(vec![0, 0, 1, 5]), 1..9_i32, 1..=12_i32), 1..60);
        // A whole order first, without which nothing is said.
        let grid = (1..9).map(|car| (0, car, car));
        anything.prop_map(move |feed| grid.clone().chain([(10, 1, 1)]).chain(feed).collect())
    }

    fn arrivals(feed: &[(i64, i32, i32)]) -> Vec<(i64, Position)> {
        let mut ms = 0;
        feed.iter()
            .map(|(step, driver_number, place)| {
                ms += step;
                (ms, position(*driver_number, at_ms(ms), *place))
            })
            .collect()
    }

    fn bodies(arrivals: &[(i64, Position)]) -> Vec<facts::Position> {
        let mut bench = bench();
        for (ms, document) in arrivals {
            bench.arrive(*ms, Sample::from(document.clone()));
        }
        bench.idle(10_000);
        bench.facts().into_iter().map(|(_, fact)| fact).collect()
    }

    proptest! {
        #[test]
        fn positions_are_a_permutation_whatever_the_feed_says(feed in any_feed()) {
            let mut bench = bench();
            for (ms, document) in arrivals(&feed) {
                bench.arrive(ms, Sample::from(document));
            }
            bench.idle(10_000);
            let mut places = BTreeMap::<i32, i32>::new();
            let facts = bench.facts::<facts::Position>();
            for (index, (header, fact)) in facts.iter().enumerate() {
                prop_assert_eq!(places.insert(fact.driver_number, fact.position), fact.previous_position);
                prop_assert!(fact.previous_position != Some(fact.position));
                let is_last_of_batch = facts.get(index + 1).is_none_or(|(next, _)| next.known_at != header.known_at);
                if is_last_of_batch {
                    let mut said: Vec<i32> = places.values().copied().collect();
                    said.sort_unstable();
                    prop_assert_eq!(said, (1..=fact.cars).collect::<Vec<_>>());
                }
            }
            let mut by_place: Vec<_> = places.into_iter().map(|(driver_number, place)| (place, driver_number)).collect();
            by_place.sort_unstable();
            prop_assert_eq!(order(&bench), by_place.into_iter().map(|(_, driver_number)| driver_number).collect::<Vec<_>>());
        }

        /// A batch that states a whole order is that order, whatever was before.
        #[test]
        fn a_complete_batch_is_taken_as_stated(feed in any_feed(), stated in Just((1..9).collect::<Vec<i32>>()).prop_shuffle()) {
            let mut bench = bench();
            for (ms, document) in arrivals(&feed) {
                bench.arrive(ms, Sample::from(document));
            }
            for (place, driver_number) in (1..).zip(&stated) {
                bench.arrive(5_000, Sample::from(position(*driver_number, at_ms(5_000), place)));
            }
            bench.idle(10_000);
            prop_assert_eq!(order(&bench), stated);
        }

        /// A reconnect replays messages already taken, most of them out of date by then.
        #[test]
        fn messages_replayed_after_a_reconnect_give_the_same_facts(feed in any_feed(), from in 0_usize..60, length in 1_usize..20) {
            let undisturbed = arrivals(&feed);
            let from = from % undisturbed.len();
            let mut disturbed = undisturbed.clone();
            // A car's messages of one moment cannot be told apart without `_id`s; give them some.
            for (id, (_, document)) in disturbed.iter_mut().enumerate() {
                document.id = Some(id as i64);
            }
            let undisturbed = disturbed.clone();
            let replayed = undisturbed[from.saturating_sub(length)..=from].iter().map(|(_, document)| (undisturbed[from].0, document.clone()));
            disturbed.splice(from + 1..from + 1, replayed);
            prop_assert_eq!(bodies(&disturbed), bodies(&undisturbed));
        }
    }
}
