//! What a session's data lacks, and times that cannot be.

use pitwall_schemas::facts::{Completeness, EventKind, Gap, RaceEvent, Subject, Weather};

use crate::support::{arrivals, derive, derive_from};

#[test]
fn one_arrival_an_hour_ahead_does_not_stop_time_for_the_rest() {
    let arrivals = arrivals("s17-receivers-clock-an-hour-ahead-for-one-line");
    let ahead = arrivals.windows(2).position(|pair| pair[0].received_at.since(pair[1].received_at) > 60_000_000).unwrap();
    let derived = derive_from(&arrivals);
    let mut without = arrivals.clone();
    without.remove(ahead);
    let lead_changes = |derived: &crate::support::Derived| {
        let events = derived.facts::<RaceEvent>().into_iter().filter(|(_, event)| event.kind == EventKind::LeadChange);
        events.map(|(header, event)| (header.known_at, event.driver_numbers)).collect::<Vec<_>>()
    };
    assert_eq!(lead_changes(&derived).len(), 1);
    assert_eq!(lead_changes(&derived), lead_changes(&derive_from(&without)));
}

#[test]
fn a_reading_dated_a_day_ahead_freezes_neither_gap_nor_weather() {
    let derived = derive("s14-one-reading-dated-a-day-ahead");
    let last_gap = derived.facts::<Gap>().into_iter().rfind(|(_, gap)| gap.driver_number == 63).unwrap().1;
    assert_eq!((last_gap.gap_ms, last_gap.interval_ms), (Some(10_000), Some(5_000)));
    let rain: Vec<_> = derived.facts::<Weather>().into_iter().map(|(_, reading)| reading.is_raining).collect();
    assert_eq!(rain, [Some(false), Some(true)]);
    assert!(derived.facts::<Weather>().iter().all(|(header, _)| header.event_time <= header.known_at), "it happened when it arrived");
}

/// Subject, car, lap, whether it is missing, and how many.
fn missing(name: &str) -> Vec<(Subject, i32, i32, bool, i32)> {
    let standing = derive(name).standing::<Completeness>().into_iter();
    standing.map(|(_, fact)| (fact.subject, fact.driver_number, fact.lap_number, fact.is_missing, fact.count)).collect()
}

#[test]
fn laps_that_are_missing_for_all_cars_are_declared() {
    let of_laps: Vec<_> =
        missing("r02-four-laps-of-all-cars-missing").into_iter().filter(|(subject, ..)| *subject == Subject::Lap).collect();
    let expected: Vec<_> = [1, 4, 81].into_iter().flat_map(|car| (4..=7).map(move |lap| (Subject::Lap, car, lap, true, 0))).collect();
    assert_eq!(of_laps.len(), 12);
    assert!(expected.iter().all(|lap| of_laps.contains(lap)), "{of_laps:?}");
}

#[test]
fn readings_out_of_range_are_counted() {
    let of_readings: Vec<_> = missing("10-gear-128").into_iter().filter(|(subject, ..)| *subject == Subject::Readings).collect();
    assert_eq!(of_readings, [(Subject::Readings, 81, 0, true, 3)]);
}

#[test]
fn a_stop_without_a_pit_document_is_declared_missing() {
    let of_passes: Vec<_> =
        missing("s26-stop-without-a-pit-document").into_iter().filter(|(subject, ..)| *subject == Subject::Pit).collect();
    assert_eq!(of_passes, [(Subject::Pit, 44, 3, true, 0)]);
}
