//! Results: who goes on in qualifying, who is classified, places and points.

use std::collections::BTreeMap;

use pitwall_schemas::facts::{Basis, Classification, ResultStatus};
use serde_json::Value;

use crate::support::{Arrival, Derived, arrivals, derive, derive_from};

/// The provisional lines that stand, by car.
fn lines(derived: &Derived) -> BTreeMap<i32, Classification> {
    let lines = derived.standing::<Classification>().into_iter().map(|(_, line)| line);
    lines.filter(|line| line.basis == Basis::Provisional).map(|line| (line.driver_number, line)).collect()
}

/// Car numbers by place; places have no holes and no ties.
fn order(derived: &Derived) -> Vec<i32> {
    let mut placed: Vec<_> = lines(derived).values().filter_map(|line| line.position.map(|place| (place, line.driver_number))).collect();
    placed.sort_unstable();
    assert!(placed.iter().zip(1..).all(|((place, _), expected)| *place == expected), "{placed:?}");
    placed.into_iter().map(|(_, car)| car).collect()
}

fn cars_of(derived: &Derived, status: ResultStatus) -> Vec<i32> {
    lines(derived).values().filter(|line| line.status == status).map(|line| line.driver_number).collect()
}

/// The documents of a file but for some.
fn without(name: &str, is_left_out: impl Fn(&Arrival) -> bool) -> Derived {
    let kept: Vec<Arrival> = arrivals(name).into_iter().filter(|arrival| !is_left_out(arrival)).collect();
    derive_from(&kept)
}

fn says(arrival: &Arrival, words: &str) -> bool {
    arrival.document.get("message").and_then(Value::as_str).is_some_and(|message| message.contains(words))
}

#[test]
fn the_full_scale_counts_when_the_flag_falls_in_a_race_that_was_never_stopped() {
    let lines = lines(&derive("12-points-without-locations"));
    // In 2024 the fastest lap, car 4's, was worth a point.
    assert_eq!([4, 1].map(|car| lines[&car].points), [Some(26.0), Some(18.0)]);
}

#[test]
fn points_of_a_race_of_which_the_start_was_not_seen_are_unknown_without_its_length() {
    let derived = without("12-points-without-locations", |arrival| says(arrival, "SESSION STARTED"));
    assert!(lines(&derived).values().all(|line| line.points.is_none()), "it may have been stopped before");
}

#[test]
fn a_car_disqualified_from_qualifying_has_no_place_and_the_others_move_up() {
    let derived = derive("r04-disqualified-from-qualifying");
    assert_eq!(order(&derived), [1, 81, 63]);
    let disqualified = &lines(&derived)[&4];
    assert_eq!((disqualified.position, disqualified.status), (None, ResultStatus::Disqualified));
    assert_eq!(cars_of(&derived, ResultStatus::Finished), [1, 63, 81]);
}

#[test]
fn the_result_of_a_race_that_is_not_resumed_is_that_at_the_end_of_the_lap_before_the_last_but_one() {
    let derived = derive("r09-red-flag-not-resumed");
    assert_eq!(order(&derived), [1, 4], "as at the end of lap 5; the lead changed on lap 6, the flag was shown on lap 7");
    for line in lines(&derived).values() {
        let said = (line.status, line.laps_completed, line.is_classified);
        assert_eq!(said, (ResultStatus::Finished, Some(5), Some(true)), "car {}", line.driver_number);
    }
}

#[test]
fn a_sprint_is_one_by_its_name_and_gives_8_points_and_7() {
    let lines = lines(&derive("r12-sprint-of-type-sprint-qualifying"));
    assert_eq!([1, 4].map(|car| lines[&car].points), [Some(8.0), Some(7.0)]);
}

#[test]
fn a_leader_that_stops_on_the_last_lap_is_classified_behind_those_that_finish() {
    let derived = derive("r13-leader-stops-on-the-last-lap");
    assert_eq!(order(&derived), [4, 81, 1]);
    let stopped = &lines(&derived)[&1];
    assert_eq!((stopped.laps_completed, stopped.is_classified), (Some(11), Some(true)));
    assert_ne!(stopped.status, ResultStatus::Running, "nobody drives any more");
    assert_ne!(stopped.status, ResultStatus::Finished);
}

#[test]
fn a_third_segment_that_is_never_held_leaves_the_order_of_the_second() {
    let derived = derive("r16-third-segment-never-held");
    assert_eq!(order(&derived), (1..=12).collect::<Vec<_>>());
    assert_eq!(cars_of(&derived, ResultStatus::Finished), (1..=11).collect::<Vec<_>>());
    assert_eq!(cars_of(&derived, ResultStatus::Eliminated), [12]);
}

#[test]
fn of_19_cars_15_go_on() {
    let derived = derive("s01-nineteen-cars-fifteen-go-on");
    let out_in_the_first = [27, 10, 3, 24];
    let second: Vec<Arrival> = {
        let all = arrivals("s01-nineteen-cars-fifteen-go-on");
        let begins = all.iter().position(|arrival| says(arrival, "SESSION STARTED") && arrival.document["qualifying_phase"] == 2).unwrap();
        all[..=begins].to_vec()
    };
    let mut eliminated = cars_of(&derive_from(&second), ResultStatus::Eliminated);
    eliminated.sort_by_key(|car| out_in_the_first.iter().position(|out| out == car));
    assert_eq!(eliminated, out_in_the_first);
    assert_eq!(order(&derived)[..10], [1, 55, 11, 4, 16, 81, 63, 22, 18, 14]);
    assert_eq!(order(&derived)[10..], [44, 23, 77, 20, 31, 27, 10, 3, 24]);
}

#[test]
fn a_stray_number_in_the_list_of_drivers_is_no_car_that_entered() {
    let mut all = arrivals("s01-nineteen-cars-fifteen-go-on");
    let at = all.iter().position(|arrival| arrival.document.contains_key("name_acronym")).unwrap();
    for stray in [97, 98, 99] {
        let mut line = all[at].clone();
        line.document.insert("driver_number".into(), stray.into());
        all.insert(at, line);
    }
    let derived = derive_from(&all);
    assert_eq!(cars_of(&derived, ResultStatus::Eliminated).len(), 9);
    assert_eq!(order(&derived), order(&derive("s01-nineteen-cars-fifteen-go-on")));
}

#[test]
fn qualifying_without_phases_is_not_ordered_by_car_numbers() {
    let derived = derive("s05-qualifying-without-phases");
    let order = order(&derived);
    assert_eq!(order[0], 63);
    assert_eq!(order[10..], [16, 55, 2, 20, 10, 11, 77, 31, 27, 24], "who did not go on");
    assert_eq!(order[..10], [63, 1, 4, 81, 3, 14, 44, 22, 18, 23], "by the third segment");
    let out = [11, 77, 31, 27, 24];
    assert!(out.iter().all(|car| lines(&derived)[car].status == ResultStatus::Eliminated));
    assert_eq!(lines(&derived)[&63].status, ResultStatus::Finished);
}

#[test]
fn of_two_time_penalties_the_one_that_race_control_names_is_served() {
    let line = lines(&derive("s09-two-time-penalties-one-served"))[&22].clone();
    assert_eq!(line.penalty_seconds, 5);
}

#[test]
fn a_stop_that_was_said_before_its_penalty_arrives_serves_it_all_the_same() {
    let mut all = arrivals("s09-two-time-penalties-one-served");
    let given = all.iter().position(|arrival| says(arrival, "STEWARDS: 10 SECOND")).unwrap();
    let served = all.iter().position(|arrival| says(arrival, "PENALTY SERVED")).unwrap();
    let documents = (all[given].document.clone(), all[served].document.clone());
    (all[served].document, all[given].document) = documents;
    assert_eq!(lines(&derive_from(&all))[&22].penalty_seconds, 5);
}
