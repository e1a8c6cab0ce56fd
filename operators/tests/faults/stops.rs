//! Stints, passes through the pit lane, and what the tower shows of them.

use pitwall_engine::Micros;
use pitwall_schemas::facts::{Degradation, PitPassKind, PitStop, Stint, Timing, Undercut};
use pitwall_schemas::shared::Compound;
use serde_json::Value;

use crate::support::{Arrival, Derived, arrivals, derive, derive_from};

/// What stands of a car's stints, by number.
fn stints(derived: &Derived, driver_number: i32) -> Vec<Stint> {
    let mut stints: Vec<Stint> = derived.standing().into_iter().map(|(_, stint)| stint).collect();
    stints.retain(|stint: &Stint| stint.driver_number == driver_number);
    stints.sort_by_key(|stint| stint.stint_number);
    stints
}

fn passes(derived: &Derived) -> Vec<PitStop> {
    derived.standing().into_iter().map(|(_, pass)| pass).collect()
}

fn rows(derived: &Derived, driver_number: i32) -> Vec<Timing> {
    derived.facts().into_iter().map(|(_, row)| row).filter(|row: &Timing| row.driver_number == driver_number).collect()
}

/// The compound that the tower showed last while the car was on each lap, from lap 1.
fn compounds(derived: &Derived, driver_number: i32) -> Vec<Option<Compound>> {
    let mut compounds = Vec::new();
    for row in rows(derived, driver_number) {
        let lap = row.lap_number.unwrap_or(0) as usize;
        compounds.resize(compounds.len().max(lap), None);
        if let Some(compound) = lap.checked_sub(1).and_then(|index| compounds.get_mut(index)) {
            *compound = row.compound;
        }
    }
    compounds
}

fn number(arrival: &Arrival, field: &str) -> Option<i64> {
    arrival.document.get(field).and_then(Value::as_i64)
}

/// Changes all documents of a collection.
fn change(arrivals: &mut [Arrival], collection: &str, change: impl Fn(&mut Arrival)) {
    arrivals.iter_mut().filter(|arrival| arrival.collection.name() == collection).for_each(change);
}

#[test]
fn a_stint_that_the_feed_begins_with_the_in_lap_begins_with_the_out_lap_and_is_a_stop() {
    let derived = derive("01-stint-begins-with-the-in-lap");
    let [before, after] = stints(&derived, 4).try_into().unwrap();
    assert_eq!((before.lap_start, before.lap_end, before.tyre_age), (Some(1), Some(4), Some(4)));
    assert_eq!((after.lap_start, after.lap_end, after.compound), (Some(5), Some(7), Compound::Hard));
    assert_eq!((after.tyre_age_at_start, after.tyre_age, after.is_same_set), (Some(1), Some(4), false));
    let [stop] = passes(&derived).try_into().unwrap();
    assert_eq!((stop.lap_number, stop.kind, stop.stop_number), (4, PitPassKind::Stop, Some(1)));
    assert_eq!((stop.has_new_tyres, stop.compound), (Some(true), Some(Compound::Hard)));
    let shown = compounds(&derived, 4);
    assert_eq!(shown[4..], [Some(Compound::Hard); 3], "{shown:?}");
    assert!(!shown[..4].contains(&Some(Compound::Hard)), "{shown:?}");
}

#[test]
fn a_stint_that_the_feed_begins_with_the_in_lap_takes_the_in_lap_from_none_that_ends_before_it() {
    // As in Montréal and Monaco in 2025: the stint before ends with lap 3, the next begins with the in-lap, 4.
    let mut arrivals = arrivals("01-stint-begins-with-the-in-lap");
    change(&mut arrivals, "stints", |arrival| {
        if number(arrival, "stint_number") == Some(1) && number(arrival, "lap_end") == Some(4) {
            arrival.document.insert("lap_end".into(), 3.into());
        }
    });
    let derived = derive_from(&arrivals);
    let laps: Vec<_> = stints(&derived, 4).into_iter().map(|stint| (stint.lap_start, stint.lap_end)).collect();
    assert_eq!(laps, [(Some(1), Some(4)), (Some(5), Some(7))]);
    assert_eq!(passes(&derived)[0].kind, PitPassKind::Stop);
}

#[test]
fn stints_are_counted_and_not_their_numbers() {
    let derived = derive("02-stint-numbers-skip");
    let said: Vec<_> = stints(&derived, 30).into_iter().map(|stint| (stint.stint_number, stint.lap_start, stint.lap_end)).collect();
    assert_eq!(said, [(3, Some(1), Some(3)), (4, Some(4), Some(5))]);
    let first = derived.facts::<Stint>().into_iter().find(|(_, stint)| stint.stint_number == 4).unwrap();
    let sent_at: Micros = "2025-03-16T04:24:23Z".parse().unwrap();
    assert!(first.0.known_at.since(sent_at) < 1_000, "at once");
    assert_eq!(passes(&derived)[0].kind, PitPassKind::Stop);
    assert_eq!(rows(&derived, 30).last().unwrap().compound, Some(Compound::Medium));
    for (_, line) in derived.standing::<Degradation>() {
        let of = stints(&derived, 30).into_iter().find(|stint| stint.stint_number == line.stint_number).unwrap();
        assert!(Some(line.first_lap) >= of.lap_start && Some(line.last_lap) <= of.lap_end, "{line:?}");
    }
}

#[test]
fn the_place_before_a_stop_is_that_before_the_car_brakes() {
    let derived = derive("08-place-before-the-stop");
    let stop = passes(&derived).into_iter().find(|pass| pass.driver_number == 63).unwrap();
    assert_eq!((stop.kind, stop.position_before), (PitPassKind::Stop, Some(1)));
    let undercuts = derived.standing::<Undercut>();
    assert!(undercuts.iter().all(|(_, attempt)| (attempt.driver_number, attempt.driver_number_ahead) != (63, 16)), "{undercuts:?}");
}

#[test]
fn the_safety_car_through_the_pit_lane_leaves_every_car_its_set() {
    let derived = derive("r06-safety-car-through-the-pit-lane");
    let kinds: Vec<_> = passes(&derived).into_iter().map(|pass| (pass.kind, pass.stop_number, pass.has_new_tyres, pass.compound)).collect();
    assert_eq!(kinds, [(PitPassKind::Pass, None, Some(false), None); 3]);
    for driver_number in [1, 4, 81] {
        let stints = stints(&derived, driver_number);
        let ages: Vec<_> = stints.iter().map(|stint| (stint.tyre_age_at_start, stint.tyre_age, stint.is_same_set)).collect();
        assert_eq!(ages, [(Some(0), Some(4), false), (Some(4), Some(7), true)]);
        let row = rows(&derived, driver_number).pop().unwrap();
        assert_eq!((row.compound, row.tyre_age), (Some(Compound::Intermediate), Some(7)));
    }
}

#[test]
fn a_stop_without_a_pit_document_is_presumed_from_stint_and_laps() {
    let derived = derive("s26-stop-without-a-pit-document");
    let [stop] = passes(&derived).try_into().unwrap();
    assert_eq!((stop.driver_number, stop.lap_number, stop.kind, stop.is_presumed), (44, 3, PitPassKind::Stop, true));
    assert_eq!((stop.has_new_tyres, stop.compound, stop.entered_at, stop.lane_ms), (Some(true), Some(Compound::Hard), None, None));
    let row = rows(&derived, 44).pop().unwrap();
    assert_eq!((row.stops, row.compound, row.tyre_age), (1, Some(Compound::Hard), Some(3)));
    assert_eq!(rows(&derived, 12).pop().unwrap().stops, 0);
}

#[test]
fn a_stop_without_a_pit_document_and_without_a_pit_out_lap_is_presumed_when_the_stint_lasts() {
    let mut arrivals = arrivals("s26-stop-without-a-pit-document");
    change(&mut arrivals, "laps", |arrival| {
        arrival.document.insert("is_pit_out_lap".into(), false.into());
    });
    let derived = derive_from(&arrivals);
    let row = rows(&derived, 44).pop().unwrap();
    assert_eq!((row.stops, row.compound), (1, Some(Compound::Hard)));
    assert!(passes(&derived)[0].is_presumed);
}

#[test]
fn stints_and_passes_on_laps_out_of_reach_change_nothing() {
    let healthy = derive("01-stint-begins-with-the-in-lap");
    let mut arrivals = arrivals("01-stint-begins-with-the-in-lap");
    for collection in ["stints", "pit"] {
        let at = arrivals.iter().position(|arrival| arrival.collection.name() == collection).unwrap();
        let mut wrong = arrivals[at].clone();
        for field in ["lap_start", "lap_end", "lap_number"] {
            wrong.document.entry(field).and_modify(|lap| *lap = 57.into());
        }
        // It comes a moment after the one that it is made of.
        wrong.document.remove("_id");
        arrivals.insert(at + 1, wrong);
    }
    let derived = derive_from(&arrivals);
    assert_eq!((stints(&derived, 4), passes(&derived)), (stints(&healthy, 4), passes(&healthy)));
    assert_eq!(rows(&derived, 4).pop(), rows(&healthy, 4).pop());
    assert_eq!(derived.rejections().len(), 1, "{:?}", derived.rejections());
}
