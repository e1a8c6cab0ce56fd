//! Laps: which are laps of the session, which number they have, and which times count.

use pitwall_schemas::facts::Lap;
use pitwall_schemas::shared::FactHeader;

use crate::support::{Derived, derive};

/// What stands of the car's laps, by number.
fn laps(derived: &Derived, driver_number: i32) -> Vec<Lap> {
    let of_car = derived.standing::<Lap>().into_iter().map(|(_, lap)| lap).filter(|lap| lap.driver_number == driver_number);
    let mut laps: Vec<_> = of_car.collect();
    laps.sort_by_key(|lap| lap.lap_number);
    laps
}

fn lap(derived: &Derived, driver_number: i32, lap_number: i32) -> Lap {
    laps(derived, driver_number).into_iter().find(|lap| lap.lap_number == lap_number).unwrap()
}

fn numbers(derived: &Derived, driver_number: i32) -> Vec<i32> {
    laps(derived, driver_number).iter().map(|lap| lap.lap_number).collect()
}

#[test]
fn the_lap_of_a_red_flag_is_interrupted_when_only_its_resumption_was_seen() {
    let derived = derive("15-sprint-red-flag-and-order-for-restart");
    let interrupted: Vec<_> = laps(&derived, 4).into_iter().filter(|lap| lap.is_interrupted).collect();
    assert_eq!(interrupted.iter().map(|lap| lap.lap_ms).collect::<Vec<_>>(), [Some(1_454_149)]);
    assert!(!interrupted[0].is_personal_best && !interrupted[0].was_personal_best);
    assert!(laps(&derived, 4).iter().all(|lap| lap.lap_number != 1), "the resumption is not the start");
    let best = laps(&derived, 4).into_iter().find(|lap| lap.is_personal_best).unwrap();
    assert_eq!(best.lap_ms, Some(72_120));
}

#[test]
fn after_a_join_race_controls_count_puts_lap_numbers_right() {
    let derived = derive("15-sprint-red-flag-and-order-for-restart");
    // OpenF1 numbers them 7 to 11.
    assert_eq!(numbers(&derived, 4), [8, 9, 10, 11, 12]);
    assert_eq!([8, 9, 10].map(|number| lap(&derived, 4, number).lap_ms), [Some(1_454_149), Some(73_612), Some(72_157)]);
    let withdrawn: Vec<_> = derived.facts::<Lap>().into_iter().filter(|(header, _)| header.withdrawn).collect();
    assert_eq!(withdrawn.iter().map(|(_, lap)| lap.lap_number).collect::<Vec<_>>(), [7], "said before race control counted lap 9");
}

#[test]
fn an_out_lap_without_its_flag_is_told_by_pit_and_is_not_accurate() {
    let derived = derive("r08-out-lap-without-its-flag");
    let (in_lap, out_lap, next) = (lap(&derived, 1, 4), lap(&derived, 1, 5), lap(&derived, 1, 6));
    assert!(in_lap.is_pit_in_lap && !in_lap.is_accurate);
    assert!(out_lap.is_pit_out_lap && !out_lap.is_accurate);
    assert!(!next.is_pit_out_lap && next.is_accurate);
}

#[test]
fn a_lap_begun_with_the_finish_is_taken_back() {
    let derived = derive("r11-lap-begun-just-before-the-flag");
    assert_eq!([1, 4].map(|car| numbers(&derived, car)), [vec![1, 2, 3, 4, 5], vec![1, 2, 3, 4, 5]]);
    let of_lap_6 =
        |(header, lap): (FactHeader, Lap)| (lap.lap_number == 6).then_some((lap.driver_number, header.revision, header.withdrawn));
    let said: Vec<_> = derived.facts::<Lap>().into_iter().filter_map(of_lap_6).collect();
    assert_eq!(said, [(1, 0, false), (1, 1, true)]);
    assert!(lap(&derived, 1, 5).is_accurate, "the way back began where it ended");
}

#[test]
fn without_phases_each_start_after_an_end_begins_a_segment() {
    let derived = derive("s05-qualifying-without-phases");
    let segments = |car| laps(&derived, car).iter().map(|lap| (lap.lap_number, lap.qualifying_segment)).collect::<Vec<_>>();
    assert_eq!(segments(63), [(2, Some(1)), (5, Some(2)), (8, Some(3))]);
    assert_eq!(segments(10), [(2, Some(1)), (5, Some(2))]);
    assert!(derived.standing::<Lap>().iter().all(|(_, lap)| lap.is_personal_best), "one lap of each car in each segment");
}

#[test]
fn a_segment_that_is_not_held_has_no_laps() {
    let derived = derive("r16-third-segment-never-held");
    assert!(derived.standing::<Lap>().iter().all(|(_, lap)| lap.qualifying_segment == Some(lap.lap_number) && lap.lap_number <= 2));
}

#[test]
fn a_lap_time_sent_again_for_another_lap_does_not_survive_its_deletion() {
    let derived = derive("s07-repeated-lap-time-and-deletion");
    let (deleted, repeated) = (lap(&derived, 11, 2), lap(&derived, 11, 3));
    assert_eq!((deleted.is_deleted, deleted.lap_ms), (true, Some(81_200)));
    assert_eq!((repeated.is_deleted, repeated.lap_ms), (false, None));
    assert!(laps(&derived, 11).iter().all(|lap| !lap.is_personal_best));
}

#[test]
fn a_lap_number_out_of_reach_is_refused() {
    let derived = derive("s19-one-document-with-lap-57");
    let whole: Vec<_> = (1..=8).collect();
    assert_eq!([12, 44, 1].map(|car| numbers(&derived, car)), [whole.clone(), whole.clone(), whole]);
    assert!(derived.rejections().iter().any(|reason| reason.contains("car 44's lap 57")));
}
