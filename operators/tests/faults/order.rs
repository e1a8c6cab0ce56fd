//! The running order, and gaps and probability that rest on it.

use std::collections::BTreeMap;

use pitwall_engine::Micros;
use pitwall_schemas::facts::{Gap, Position, PositionCheck, Probability};

use crate::support::{Derived, derive};

/// Cars in running order at the end.
fn order(derived: &Derived) -> Vec<i32> {
    let mut places: Vec<_> = derived.standing::<Position>().into_iter().map(|(_, fact)| (fact.position, fact.driver_number)).collect();
    places.sort_unstable();
    places.into_iter().map(|(_, car)| car).collect()
}

/// Cars that were said to lead, in order, by gaps and by probability.
fn leaders(derived: &Derived) -> (Vec<i32>, Vec<i32>) {
    let gaps = derived.facts::<Gap>().into_iter().filter(|(_, gap)| gap.gap_ms == Some(0));
    let mut by_gaps: Vec<_> = gaps.map(|(_, gap)| gap.driver_number).collect();
    let mut by_probability: Vec<_> = derived.facts::<Probability>().into_iter().map(|(_, fact)| fact.cars[0].driver_number).collect();
    by_gaps.dedup();
    by_probability.dedup();
    (by_gaps, by_probability)
}

/// Since when a car's place was first disputed, and the places that were.
fn disputed(derived: &Derived, driver_number: i32) -> Vec<(Micros, i32)> {
    let facts = derived.facts::<Position>().into_iter();
    let of_car = facts.filter(|(_, fact)| fact.disputed && fact.driver_number == driver_number);
    of_car.map(|(header, fact)| (header.known_at, fact.position)).collect()
}

fn at(moment: &str) -> Micros {
    format!("2025-08-31T{moment}+00:00").parse().unwrap()
}

#[test]
fn the_one_place_left_over_is_that_of_the_car_that_never_changes_place() {
    let derived = derive("r01-no-position-for-one-car");
    assert_eq!(order(&derived), [4, 1, 81, 63]);
    let said = derived.facts::<Position>();
    let swap: Vec<_> = said.iter().rev().take(2).map(|(_, fact)| (fact.driver_number, fact.position, fact.previous_position)).collect();
    assert_eq!(swap, [(1, 2, Some(1)), (4, 1, Some(2))], "the grid was known before");
}

#[test]
fn the_order_for_the_restart_gives_every_place() {
    let derived = derive("15-sprint-red-flag-and-order-for-restart");
    assert_eq!(order(&derived), [4, 12, 63, 1, 14, 16, 44, 18, 10, 23, 6, 5, 30, 31, 87, 22, 55, 27]);
}

#[test]
fn a_reading_dated_a_day_ahead_does_not_freeze_a_cars_gap() {
    let gaps = derive("s14-one-reading-dated-a-day-ahead").standing::<Gap>();
    let gaps: BTreeMap<i32, _> = gaps.into_iter().map(|(_, gap)| (gap.driver_number, (gap.gap_ms, gap.interval_ms))).collect();
    assert_eq!(gaps[&63], (Some(10_000), Some(5_000)));
}

#[test]
fn a_lead_change_is_told_although_one_arrival_time_lies_an_hour_ahead() {
    let derived = derive("s17-receivers-clock-an-hour-ahead-for-one-line");
    assert_eq!(order(&derived), [1, 4]);
}

/// Car 44 crashed on lap 23, and was given places up to the lead before.
#[test]
fn places_gained_on_a_lap_never_completed_are_disputed_as_they_are_gained() {
    let derived = derive("places-gained-on-a-lap-never-completed");
    let places = disputed(&derived, 44);
    assert_eq!(places.iter().map(|(_, place)| *place).take(4).collect::<Vec<_>>(), [4, 3, 2, 1]);
    assert!(derived.facts::<Position>().iter().all(|(_, fact)| fact.position > 3 || fact.driver_number != 44 || fact.disputed));
    assert!([81, 4, 1, 6, 63, 16].into_iter().all(|car| disputed(&derived, car).is_empty()));
    assert_eq!(leaders(&derived), (vec![], vec![81]));

    let checks = derived.facts::<PositionCheck>();
    let told: Vec<_> = checks.iter().filter(|(_, check)| check.is_under_way).collect();
    assert!(told.iter().all(|(_, check)| (check.driver_number, check.lap_number) == (44, 23) && check.estimated_position >= 5));
    assert_eq!(told[0].0.known_at, places[0].0, "while it happens");
}

/// Car 4 stopped on lap 65, and was given the lead before, 1.7 s behind the leader.
#[test]
fn a_lead_gained_by_a_car_that_is_behind_on_the_road_is_disputed_as_it_is_gained() {
    let derived = derive("lead-of-a-car-that-stops");
    let (since, place) = disputed(&derived, 4)[0];
    assert_eq!(place, 1);
    assert_eq!(since.since(at("14:29:33.204")) / 1_000, 0, "{since}");
    assert_eq!(leaders(&derived).1, [81]);
    assert!([81, 1, 6, 63].into_iter().all(|car| disputed(&derived, car).is_empty()));
}

#[test]
fn at_the_flag_the_winners_probability_is_1_and_nothing_is_said_afterwards() {
    let facts = derive("r01-no-position-for-one-car").facts::<Probability>();
    let last = &facts.last().unwrap().1;
    let chances: Vec<_> = last.cars.iter().map(|car| (car.driver_number, car.probability)).collect();
    assert_eq!(chances, [(4, 1.0), (1, 0.0), (81, 0.0), (63, 0.0)]);
    let certain = facts.iter().filter(|(_, fact)| fact.cars[0].probability == 1.0).count();
    assert_eq!(certain, 1);
}
