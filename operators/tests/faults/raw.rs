//! Documents and samples with something odd in them, and what follows from samples alone.

use std::collections::BTreeMap;

use pitwall_schemas::facts::{Channel, Driver, EstimatedLap, LineSource, Telemetry, TimingLine};
use pitwall_schemas::raw::Collection;
use serde_json::json;

use crate::support::{Arrival, Derived, arrivals, derive, derive_from};

/// Lap 1 of each car: time and error bound, ms.
fn first_laps(derived: &Derived) -> BTreeMap<i32, (i32, i32)> {
    let laps = derived.facts::<EstimatedLap>().into_iter().filter(|(_, lap)| lap.lap_number == Some(1));
    laps.map(|(_, lap)| (lap.driver_number, (lap.lap_ms, lap.error_ms))).collect()
}

/// The session's document, ahead of all others.
fn at_circuit(arrivals: &[Arrival], circuit_key: i32, circuit_short_name: &str) -> Vec<Arrival> {
    let document = json!({"meeting_key": 1255, "session_name": "Race", "session_type": "Race", "circuit_key": circuit_key,
        "circuit_short_name": circuit_short_name});
    let serde_json::Value::Object(document) = document else { panic!("an object") };
    let session = Arrival { collection: Collection::Sessions, received_at: arrivals[0].received_at, document };
    [session].into_iter().chain(arrivals.iter().cloned()).collect()
}

#[test]
fn lap_1_is_within_its_bound_which_has_the_error_of_the_line_in_it() {
    let documents = arrivals("04-lap-1-bound-without-the-lines-error");
    let (guessed, known) = (derive_from(&documents), derive_from(&at_circuit(&documents, 49, "Shanghai")));
    let of_line = |(_, line): (_, TimingLine)| (line.source, line.error_m);
    let lines = |derived: &Derived| derived.standing::<TimingLine>().into_iter().map(of_line).collect::<Vec<_>>();
    assert_eq!([lines(&guessed), lines(&known)], [vec![(LineSource::Grid, 265)], vec![(LineSource::Grid, 20)]]);
    let (guessed, known) = (first_laps(&guessed), first_laps(&known));
    assert_eq!(known.keys().copied().collect::<Vec<_>>(), [1, 4, 63, 81]);
    for (car, (lap_ms, error_ms)) in known {
        let (guessed_ms, guessed_error_ms) = guessed[&car];
        let apart = (guessed_ms - lap_ms).abs();
        assert!(apart > 1_500, "Shanghai's line is 130 m from the guess: {apart} ms of car {car}");
        assert!(apart + error_ms <= guessed_error_ms, "{apart} ms of car {car}, within {error_ms} and {guessed_error_ms} ms");
        assert!(error_ms < 1_500, "{error_ms} ms of car {car}");
    }
}

#[test]
fn a_channel_out_of_range_is_no_reading_and_the_rest_of_its_sample_is_kept() {
    let derived = derive("10-gear-128");
    assert_eq!((derived.refusals.len(), derived.rejections().len()), (0, 0));
    let packets = derived.facts::<Telemetry>();
    let rows: Vec<_> = packets.iter().flat_map(|(_, packet)| packet.samples.iter().map(|row| (row.speed, row.rpm, row.gear))).collect();
    let row = |speed, gear| (Some(speed), Some(6_000), gear);
    assert_eq!(rows, [row(120, Some(3)), row(60, Some(2)), row(0, None), row(0, None), row(4, None), row(30, Some(2))]);
    assert_eq!(packets.iter().map(|(_, packet)| packet.readings_refused).sum::<i32>(), 3);
}

#[test]
fn a_packet_dated_a_day_ahead_freezes_no_car() {
    let mut documents = arrivals("04-lap-1-bound-without-the-lines-error");
    let undisturbed = derive_from(&documents);
    // 20 s after the start a packet of all cars comes dated a day later, five times over.
    let at = documents.iter().position(|arrival| arrival.received_at.since(documents[0].received_at) > 20_000_000).unwrap();
    let packet: Vec<Arrival> = documents[at..].iter().take(60).cloned().collect();
    let ahead = (0..5).flat_map(|_| packet.clone()).enumerate().map(|(index, mut arrival)| {
        arrival.received_at = documents[at].received_at;
        let date = arrival.document["date"].as_str().unwrap().replace("2025-03-23", "2025-03-24");
        arrival.document.insert("date".into(), date.into());
        arrival.document.insert("driver_number".into(), [1, 4, 63, 81][index % 4].into());
        arrival
    });
    let ahead: Vec<Arrival> = ahead.collect();
    documents.splice(at..at, ahead);
    let disturbed = derive_from(&documents);
    assert_eq!(first_laps(&disturbed), first_laps(&undisturbed));
    let rows = |derived: &Derived, channel| -> usize {
        let packets = derived.facts::<Telemetry>().into_iter().filter(|(_, packet)| packet.channel == channel);
        packets.map(|(_, packet)| packet.samples.len()).sum()
    };
    for channel in [Channel::CarData, Channel::Location] {
        assert_eq!(rows(&disturbed, channel), rows(&undisturbed, channel));
    }
    assert_eq!(disturbed.rejections().len(), 300);
}

#[test]
fn fields_of_another_driver_never_mix() {
    let drivers = derive("r14-driver-replaced").standing::<Driver>();
    let [(header, driver)] = drivers.as_slice() else { panic!("one car: {drivers:?}") };
    assert_eq!((driver.full_name.as_deref(), driver.acronym.as_deref()), (Some("Christian HO"), Some("CHO")));
    assert_eq!((driver.team_name.as_deref(), driver.country_code.as_deref()), (Some("Haas F1 Team"), None));
    assert_eq!(header.revision, 1);
}

#[test]
fn one_odd_field_never_costs_the_document_and_a_colour_taken_for_a_number_is_read_as_text() {
    let derived = derive("r15-team-colour-as-a-number");
    assert!(derived.refusals.is_empty(), "{:?}", derived.refusals);
    let drivers = derived.standing::<Driver>();
    let colours: Vec<_> = drivers.iter().map(|(_, driver)| (driver.driver_number, driver.team_colour.as_deref())).collect();
    assert_eq!(colours, [(14, Some("229971")), (24, Some("52E252")), (1, Some("3671C6"))]);
}

#[test]
fn an_odd_field_of_any_document_is_null_and_the_rest_is_read() {
    let mut documents = arrivals("r15-team-colour-as-a-number");
    for arrival in documents.iter_mut().filter(|arrival| arrival.collection == Collection::Drivers) {
        arrival.document.insert("country_code".into(), json!(["GBR"]));
        arrival.document.insert("_id".into(), json!("new"));
    }
    let derived = derive_from(&documents);
    assert!(derived.refusals.is_empty(), "{:?}", derived.refusals);
    assert_eq!(derived.standing::<Driver>().iter().filter(|(_, driver)| driver.country_code.is_none()).count(), 3);
}
