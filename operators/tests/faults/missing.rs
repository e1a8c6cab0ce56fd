//! What a session's data lacks, and times that cannot be.

use pitwall_schemas::facts::{EventKind, Gap, RaceEvent, Weather};

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
