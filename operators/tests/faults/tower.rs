//! What the tower says that cars are doing: stopped, retired, finished, and how far the race is.

use std::collections::{BTreeMap, BTreeSet};

use pitwall_schemas::facts::{CarState, RaceClock, Timing};

use crate::support::{Derived, derive};

/// What each car is doing at the end.
fn at_the_end(derived: &Derived) -> BTreeMap<i32, CarState> {
    derived.standing::<Timing>().into_iter().map(|(_, row)| (row.driver_number, row.state)).collect()
}

/// The cars that were said to do `state` at any time.
fn ever(derived: &Derived, state: CarState) -> BTreeSet<i32> {
    let rows = derived.facts::<Timing>().into_iter();
    rows.filter(|(_, row)| row.state == state).map(|(_, row)| row.driver_number).collect()
}

#[test]
fn a_car_that_stops_on_the_last_laps_is_retired_when_the_flag_has_fallen_and_it_does_not_finish_within_a_lap() {
    let derived = derive("06-stops-on-the-last-laps");
    assert_eq!(at_the_end(&derived), [(1, CarState::Finished), (5, CarState::Retired)].into());
    let retired = derived.facts::<Timing>().into_iter().find(|(_, row)| row.state == CarState::Retired).unwrap();
    let finished = derived.facts::<Timing>().into_iter().find(|(_, row)| row.state == CarState::Finished).unwrap();
    let seconds = retired.0.known_at.since(finished.0.known_at) / 1_000_000;
    assert!((90..=150).contains(&seconds), "told {seconds} s after the winner's finish, with laps of 90 s");
}

#[test]
fn laps_that_are_missing_for_all_cars_retire_nobody() {
    let derived = derive("r02-four-laps-of-all-cars-missing");
    assert_eq!(ever(&derived, CarState::Retired), [].into());
    assert_eq!(at_the_end(&derived), [(1, CarState::Finished), (4, CarState::Finished), (81, CarState::Finished)].into());
}

#[test]
fn a_leader_that_stops_on_the_last_lap_is_retired_and_the_others_finish() {
    let derived = derive("r13-leader-stops-on-the-last-lap");
    assert_eq!(at_the_end(&derived), [(1, CarState::Retired), (4, CarState::Finished), (81, CarState::Finished)].into());
}

#[test]
fn the_cars_of_a_race_that_is_stopped_and_not_resumed_have_finished() {
    assert_eq!(at_the_end(&derive("r09-red-flag-not-resumed")), [(1, CarState::Finished), (4, CarState::Finished)].into());
}

#[test]
fn one_document_with_a_lap_number_out_of_reach_retires_nobody() {
    let derived = derive("s19-one-document-with-lap-57");
    assert_eq!(ever(&derived, CarState::Retired), [].into());
    assert_eq!(at_the_end(&derived), [(1, CarState::Finished), (12, CarState::Finished), (44, CarState::Finished)].into());
}

#[test]
fn a_race_without_session_status_has_begun_with_its_first_lap_and_its_cars_finish() {
    let derived = derive("s28-race-without-session-status");
    assert_eq!(at_the_end(&derived), [(1, CarState::Finished), (4, CarState::Finished)].into());
    let clocks = derived.facts::<RaceClock>();
    let started: Vec<_> = clocks.iter().filter_map(|(_, clock)| clock.started_at).collect();
    assert_eq!(started.first(), Some(&"2025-03-16T04:18:00+00:00".parse().unwrap()));
    assert_eq!(clocks.last().unwrap().1.laps_completed, 6);
}

/// The last 27 minutes of Abu Dhabi 2025, joined in mid-race: laps and positions, no telemetry, no gaps.
#[test]
fn all_who_finish_a_race_that_was_joined_late_are_finished() {
    let derived = derive("late-join-all-twenty-finish");
    assert_eq!(ever(&derived, CarState::Retired), [].into());
    let states: Vec<_> = at_the_end(&derived).into_values().collect();
    assert_eq!(states, [CarState::Finished; 20]);
}
