//! The Dutch race against sources that are not ours: the official classification (f1db) and OpenF1's own laps.
//!
//! The official classification is independent. OpenF1's laps have the same origin as the samples: agreement shows that nothing was lost
//! or changed on the way, not that the feed was right.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod race;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow::Continue;

use pitwall_archive::archive::Archive;
use pitwall_engine::backtest::CLOSING_IDLE;
use pitwall_engine::session::Output;
use pitwall_schemas::codec::Fact;
use pitwall_schemas::facts::{
    CarState, Circuit, Lap, Overtake, OvertakeCause, PitStop, Position, Stint, Timing, Undercut, UndercutOutcome,
};
use pitwall_schemas::shared::FactHeader;
use race::official;
use serde_json::Value;

/// Every fact of one kind that a session says, in order.
fn facts<F: Fact>(mut archive: Archive) -> Vec<(FactHeader, F)> {
    let (mut session, mut output, mut facts) = (race::session(&archive), Output::default(), Vec::new());
    let mut keep = |output: &mut Output| {
        for fact in output.facts.iter().filter(|fact| fact.kind.name == F::KIND) {
            let (header, mut body) = fact.header().unwrap();
            facts.push((header, F::decode(&mut body).unwrap()));
        }
        output.clear();
    };
    race::for_each(&mut archive, |_, raw| {
        session.take(&raw, &mut output).unwrap();
        keep(&mut output);
        Continue(())
    });
    let last = session.sequencer().last_known_at().unwrap();
    session.take_idle(last.plus(CLOSING_IDLE), &mut output).unwrap();
    keep(&mut output);
    facts
}

/// The last fact about each thing, where it was not taken back.
fn latest<F: Fact, K: Ord>(facts: Vec<(FactHeader, F)>, key: impl Fn(&F) -> K) -> BTreeMap<K, F> {
    let newest: BTreeMap<K, (bool, F)> = facts.into_iter().map(|(header, fact)| (key(&fact), (header.withdrawn, fact))).collect();
    newest.into_iter().filter(|(_, (is_withdrawn, _))| !is_withdrawn).map(|(key, (_, fact))| (key, fact)).collect()
}

/// Rows of OpenF1's laps, each as column name to text.
fn openf1_laps() -> Vec<BTreeMap<String, String>> {
    let text = fs::read_to_string(race::data("dutch_2025_openf1_laps.csv")).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = lines.next().unwrap().split(',').collect();
    lines.map(|line| names.iter().map(ToString::to_string).zip(line.split(',').map(str::to_owned)).collect()).collect()
}

fn number(row: &BTreeMap<String, String>, column: &str) -> Option<f64> {
    row[column].parse().ok()
}

fn milliseconds(seconds: Option<f64>) -> Option<i32> {
    seconds.map(|seconds| (seconds * 1_000.0).round() as i32)
}

/// `1:38:29.849` in milliseconds.
fn race_time(text: &str) -> i64 {
    let (clock, thousandths) = text.split_once('.').unwrap();
    let seconds = clock.split(':').fold(0, |total, part| total * 60 + part.parse::<i64>().unwrap());
    seconds * 1_000 + thousandths.parse::<i64>().unwrap()
}

#[test]
fn every_lap_and_sector_of_the_race_equals_openf1s_own() {
    let laps = latest(facts::<Lap>(race::dutch()), |lap| (lap.driver_number, lap.lap_number));
    let rows = openf1_laps();
    assert_eq!(rows.len(), 1_362);
    for row in &rows {
        let key = (number(row, "driver_number").unwrap() as i32, number(row, "lap_number").unwrap() as i32);
        let lap = &laps[&key];
        let found = [lap.lap_ms, lap.sector_1_ms, lap.sector_2_ms, lap.sector_3_ms];
        let expected =
            ["lap_duration", "duration_sector_1", "duration_sector_2", "duration_sector_3"].map(|column| milliseconds(number(row, column)));
        assert_eq!(found, expected, "car {}, lap {}", key.0, key.1);
        assert!(lap.is_complete, "car {}, lap {}", key.0, key.1);
    }
    let known: BTreeSet<(i32, i32)> =
        rows.iter().map(|row| (number(row, "driver_number").unwrap() as i32, number(row, "lap_number").unwrap() as i32)).collect();
    let more: Vec<_> = laps.iter().filter(|(key, _)| !known.contains(key)).map(|(&key, lap)| (key, lap.is_complete)).collect();
    // Norris and Hamilton stopped on these laps; OpenF1's table lists completed laps only.
    assert_eq!(more, [((4, 65), false), ((44, 23), false)]);
}

#[test]
fn every_drivers_fastest_lap_is_the_official_one() {
    let laps = latest(facts::<Lap>(race::dutch()), |lap| (lap.driver_number, lap.lap_number));
    let mut fastest = BTreeMap::<i32, (i32, i32)>::new();
    for ((car, lap_number), lap) in &laps {
        if let Some(lap_ms) = lap.lap_ms.filter(|_| !lap.lap_inferred) {
            let best = fastest.entry(*car).or_insert((lap_ms, *lap_number));
            *best = (*best).min((lap_ms, *lap_number));
        }
    }
    let official = official::all();
    let rows = official["fastest_laps"].as_array().unwrap();
    assert!(!rows.is_empty());
    for row in rows {
        let car = car(row);
        let minutes = row["time"].as_str().unwrap();
        let expected = (race_time(minutes) as i32, row["lap"].as_i64().unwrap() as i32);
        assert_eq!(fastest[&car], expected, "car {car}");
    }
}

#[test]
fn every_stint_of_the_race_equals_openf1s_own() {
    let stints = latest(facts::<Stint>(race::dutch()), |stint| (stint.driver_number, stint.stint_number));
    let mut expected = BTreeMap::new();
    for row in openf1_laps() {
        let key = (number(&row, "driver_number").unwrap() as i32, number(&row, "stint_number").unwrap() as i32);
        let whole = |column: &str| number(&row, column).map(|value| value as i32);
        expected.insert(key, (row["compound"].clone(), whole("stint_lap_start"), whole("stint_lap_end"), whole("tyre_age_at_start")));
    }
    let found: BTreeMap<_, _> = stints
        .into_iter()
        .map(|(key, stint)| (key, (stint.compound.symbol().to_owned(), stint.lap_start, stint.lap_end, stint.tyre_age_at_start)))
        .collect();
    assert_eq!(found.len(), 59);
    assert_eq!(found, expected);
}

#[test]
fn the_final_order_is_the_official_one_without_the_time_penalty() {
    let positions = latest(facts::<Position>(race::dutch()), |position| position.driver_number);
    let mut found: Vec<(i32, i32)> = positions.into_iter().map(|(car, position)| (position.position, car)).collect();
    found.sort_unstable();

    let official = official::all();
    let classification = official["classification"].as_array().unwrap();
    let mut on_the_road: Vec<_> = classification
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let penalty: f64 = row["timePenalty"].as_str().map_or(0.0, |seconds| seconds.parse().unwrap());
            let time = row["time"].as_str().map(|time| race_time(time) - (penalty * 1_000.0) as i64);
            // Cars without a time follow in the order of the classification.
            (time.unwrap_or(i64::MAX), index, car(row))
        })
        .collect();
    on_the_road.sort_unstable();
    let expected: Vec<(i32, i32)> = (1..).zip(on_the_road).map(|(place, (_, _, car))| (place, car)).collect();
    assert_eq!(found, expected);
}

/// The last row of each car in the tower.
fn tower() -> BTreeMap<i32, Timing> {
    latest(facts::<Timing>(race::dutch()), |row| row.driver_number)
}

fn car(row: &Value) -> i32 {
    row["driverNumber"].to_string().trim_matches('"').parse().unwrap()
}

#[test]
fn the_tower_ends_with_the_official_pit_stops() {
    let mut expected: BTreeMap<i32, i32> = tower().into_keys().map(|car| (car, 0)).collect();
    for row in &official::published("pit_stops") {
        *expected.get_mut(&car(row)).unwrap() += 1;
    }
    assert_eq!(expected.values().sum::<i32>(), 40);
    let found: BTreeMap<i32, i32> = tower().into_iter().map(|(car, row)| (car, row.stops)).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_towers_best_laps_are_the_official_fastest_laps() {
    let tower = tower();
    for row in &official::published("fastest_laps") {
        let expected = (Some(race_time(row["time"].as_str().unwrap()) as i32), row["lap"].as_i64().map(|lap| lap as i32));
        let found = &tower[&car(row)];
        assert_eq!((found.best_lap_ms, found.best_lap_number), expected, "car {}", car(row));
    }
}

#[test]
fn the_cars_that_officially_retired_are_retired_and_the_others_finished() {
    let tower = tower();
    let mut retired = BTreeSet::new();
    for row in &official::published("classification") {
        let has_retired = row["reasonRetired"].is_string();
        retired.extend(has_retired.then(|| car(row)));
        let expected = if has_retired { CarState::Retired } else { CarState::Finished };
        assert_eq!(tower[&car(row)].state, expected, "car {}", car(row));
    }
    assert_eq!(retired, BTreeSet::from([4, 16, 44]));
}

#[test]
fn the_circuits_outline_is_known_in_lap_2_and_as_long_as_the_official_course() {
    let circuits = facts::<Circuit>(race::dutch());
    let (header, circuit) = &circuits[0];
    let metres = official::all()["race"]["courseLength"].as_f64().unwrap() * 1_000.0;
    // Straight lines between points are shorter than the curves they cut.
    assert!((0.97..1.0).contains(&(f64::from(circuit.length_m) / metres)), "{} m of {metres}", circuit.length_m);
    let laps = facts::<Lap>(race::dutch());
    let is_lap = |wanted: i32| move |(_, lap): &&(FactHeader, Lap)| (lap.driver_number, lap.lap_number) == (circuit.driver_number, wanted);
    let second = laps.iter().find(is_lap(2)).unwrap().0.known_at;
    let third = laps.iter().find(is_lap(3)).unwrap().0.known_at;
    assert!((second..third).contains(&header.known_at));
}

#[test]
fn every_stop_of_the_race_is_an_official_one() {
    let passes = latest(facts::<PitStop>(race::dutch()), |pass| (pass.driver_number, pass.lap_number, pass.pass));
    let official = official::all();
    let mut expected: Vec<(i32, i32, Option<i32>, i64)> = official["pit_stops"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| {
            let number = |field: &str| row[field].to_string().trim_matches('"').parse::<i32>().unwrap();
            let lane_ms = race_time(&format!("0:{}", row["time"].as_str().unwrap()));
            (number("driverNumber"), number("lap"), Some(number("stop")), lane_ms)
        })
        .collect();
    expected.sort_unstable();
    let mut found: Vec<_> =
        passes.values().map(|pass| (pass.driver_number, pass.lap_number, pass.stop_number, pass.lane_ms.map_or(0, i64::from))).collect();
    found.sort_unstable();
    assert_eq!(found.len(), 40);
    assert_eq!(found, expected);
}

/// OpenF1's own overtakes of the race, as (date, µs, overtaking car, overtaken car).
fn openf1_overtakes() -> Vec<(i64, i32, i32)> {
    let mut rows = Vec::new();
    race::for_each(&mut race::dutch(), |_, raw| {
        if let pitwall_schemas::raw::Sample::Overtakes(row) = raw.event.unwrap() {
            rows.push((row.date.0, row.overtaking_driver_number, row.overtaken_driver_number));
        }
        Continue(())
    });
    rows
}

/// OpenF1 flags some swaps and not others, pit stops included, so this shows consistency and is no oracle.
#[test]
fn overtakes_by_cause_against_openf1s_own() {
    let swaps = latest(facts::<Overtake>(race::dutch()), |swap| swap.overtake_number);
    let times: BTreeMap<i32, i64> =
        facts::<Overtake>(race::dutch()).into_iter().map(|(header, swap)| (swap.overtake_number, header.event_time.0)).collect();
    let rows = openf1_overtakes();
    let mut by_cause = BTreeMap::<OvertakeCause, (i32, i32)>::new();
    let is_flagged = |swap: &Overtake| {
        let is_it = |row: &&(i64, i32, i32)| {
            (row.1, row.2) == (swap.overtaking_driver_number, swap.overtaken_driver_number)
                && (row.0 - times[&swap.overtake_number]).abs() <= 10_000_000
        };
        rows.iter().any(|row| is_it(&row))
    };
    for swap in swaps.values() {
        let (all, flagged) = by_cause.entry(swap.cause).or_default();
        *all += 1;
        *flagged += i32::from(is_flagged(swap));
    }
    let is_found = |row: &&(i64, i32, i32)| {
        swaps.values().any(|swap| {
            (row.1, row.2) == (swap.overtaking_driver_number, swap.overtaken_driver_number)
                && (row.0 - times[&swap.overtake_number]).abs() <= 10_000_000
        })
    };
    let found = rows.iter().filter(is_found).count();
    println!("{} swaps by cause (all, flagged by OpenF1): {by_cause:?}; {found} of OpenF1's {} found", swaps.len(), rows.len());
    assert_eq!(found, rows.len(), "every swap that OpenF1 flags is found");
    let counted = swaps.values().filter(|swap| swap.counts_pirelli).count();
    assert!(swaps.values().filter(|swap| swap.counts_f1_2021).count() > counted && counted > 0);
}

#[test]
fn no_place_was_won_on_the_track_from_a_car_that_was_in_the_pit_lane() {
    let swaps = facts::<Overtake>(race::dutch());
    let newest: BTreeMap<i32, (i64, Overtake)> =
        swaps.into_iter().map(|(header, swap)| (swap.overtake_number, (header.event_time.0, swap))).collect();
    let official = official::all();
    let stops = latest(facts::<PitStop>(race::dutch()), |pass| (pass.driver_number, pass.lap_number, pass.pass));
    assert_eq!(stops.len(), official["pit_stops"].as_array().unwrap().len());
    let mut explained = 0;
    for (at, swap) in newest.values() {
        let is_in_lane = |stop: &&PitStop| {
            [swap.overtaking_driver_number, swap.overtaken_driver_number].contains(&stop.driver_number)
                && (stop.entered_at.unwrap().0..=stop.exited_at.0).contains(at)
        };
        if stops.values().any(|stop| is_in_lane(&stop)) {
            let is_flicker = swap.cause == OvertakeCause::Correction;
            assert!(swap.cause == OvertakeCause::Pit || is_flicker, "overtake {}", swap.overtake_number);
            explained += 1;
        }
    }
    assert!(explained > 50, "{explained} swaps");
}

#[test]
fn every_undercut_comes_to_an_end() {
    let attempts = latest(facts::<Undercut>(race::dutch()), |attempt| attempt.attempt_number);
    println!(
        "{:#?}",
        attempts
            .values()
            .map(|attempt| (
                attempt.kind,
                attempt.driver_number,
                attempt.driver_number_ahead,
                attempt.lap_number,
                attempt.answer_lap_number,
                attempt.outcome
            ))
            .collect::<Vec<_>>()
    );
    assert!(!attempts.is_empty());
    assert!(attempts.values().all(|attempt| attempt.outcome != UndercutOutcome::Open));
}
