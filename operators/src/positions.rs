//! Positions: `position` documents settled into one running order, always a permutation; a fact for each car whose place changed.
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
//! A message sent again after a reconnect is known by its date and `_id`, and changes nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Operator};
use pitwall_schemas::facts;
use pitwall_schemas::raw::Position;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::Version;

/// Settles the running order.
#[derive(Debug, Clone, Copy)]
pub struct PositionsOperator {
    /// How long after its first message a batch ends, ms.
    pub batch_window_ms: i64,
}

impl Default for PositionsOperator {
    fn default() -> Self {
        Self { batch_window_ms: 2 }
    }
}

/// The running order and what is about to change it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// Car numbers by place, as the feed numbers the places.
    order: BTreeMap<i32, i32>,
    /// Whether every place up to the last has had its car.
    is_whole: bool,
    cars: ByDriver<Car>,
    /// Messages being collected, at most one of each car, in order of arrival.
    batch: Vec<Message>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    newest: Version,
    /// Place as the newest message stated it.
    stated: Option<i32>,
    /// Place as last said.
    position: Option<i32>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Message {
    driver_number: i32,
    place: i32,
    date: Micros,
    seq: u64,
}

impl State {
    /// Car numbers in running order, the leader first. Messages of the last [`PositionsOperator::batch_window_ms`] may not be in it yet.
    pub fn order(&self) -> impl Iterator<Item = i32> {
        self.order.values().copied()
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

impl Operator for PositionsOperator {
    const NAME: &'static str = "positions";
    const VERSION: u32 = 2;
    type Output = facts::Position;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("batch_window_ms", self.batch_window_ms.to_string())]
    }

    fn on_timer(&self, state: &mut State, _token: u64, context: &mut Context<'_, facts::Position>) {
        let batch = std::mem::take(&mut state.batch);
        let before = std::mem::take(&mut state.order);
        state.order = settle(&before, &batch);
        let batch_causes: Vec<u64> = batch.iter().map(|message| message.seq).collect();
        let batch_date = batch.iter().map(|message| message.date).max().unwrap_or(context.now());
        let cars = state.order.len() as i32;
        state.is_whole |= state.order.keys().copied().eq(1..=cars);
        if !state.is_whole {
            return;
        }
        for (position, (place, driver_number)) in (1..).zip(&state.order) {
            let car = state.cars.entry(*driver_number);
            if car.position == Some(position) {
                continue;
            }
            let previous_position = car.position.replace(position);
            let fact = facts::Position { driver_number: *driver_number, position, previous_position, cars, disputed: false };
            // A car that got the new place it was sent to moved by its own message; any other was moved by all of them.
            let is_own = |message: &&Message| message.driver_number == *driver_number && message.place == *place;
            let has_moved = before.get(place) != Some(driver_number);
            match batch.iter().find(is_own).filter(|_| has_moved) {
                Some(own) => context.draft(fact).because(&[own.seq]).at(own.date).emit(),
                None => context.draft(fact).because(&batch_causes).at(batch_date).emit(),
            };
        }
    }
}

impl Handle<Position> for PositionsOperator {
    fn apply(&self, state: &mut State, document: &Position, context: &mut Context<'_, facts::Position>) {
        let Position { driver_number, date, position: place, id, .. } = *document;
        let car = state.cars.entry(driver_number);
        let before = car.newest;
        let is_stale = !car.newest.take_dated(date, id, context.now());
        if is_stale || (car.newest, car.stated) == (before, Some(place)) {
            return;
        }
        car.stated = Some(place);
        if state.batch.is_empty() {
            context.set_timer(context.now().plus(self.batch_window_ms * 1_000), 0);
        }
        state.batch.retain(|message| message.driver_number != driver_number);
        state.batch.push(Message { driver_number, place, date, seq: context.seq() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, at_ms, position};
    use pitwall_schemas::raw::Sample;
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
