//! What must hold of every fact of both bundled sessions, whatever the feed does.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod race;

use std::collections::BTreeMap;
use std::ops::ControlFlow::Continue;

use pitwall_archive::archive::Archive;
use pitwall_engine::facts::EncodedFact;
use pitwall_engine::session::{Output, Session};
use pitwall_schemas::facts::{FactBody, Lap, SessionState, Stint};
use pitwall_schemas::raw::Sample;
use pitwall_schemas::shared::FactHeader;
use race::official;

/// Hands over the facts of each ledger record together, with the record's number.
fn each_record(mut archive: Archive, mut each: impl FnMut(u64, Vec<(FactHeader, FactBody)>)) {
    let (mut session, mut output) = (race::session(&archive), Output::default());
    race::for_each(&mut archive, |_, raw| {
        session.take(&raw, &mut output).unwrap();
        if !output.facts.is_empty() {
            each(session.sequencer().next_seq() - 1, output.facts.iter().map(|fact| read(&fact)).collect());
        }
        output.clear();
        Continue(())
    });
}

fn read(fact: &EncodedFact<'_>) -> (FactHeader, FactBody) {
    let (header, mut body) = fact.header().unwrap();
    (header, FactBody::decode(fact.kind.name, &mut body).unwrap().unwrap())
}

#[test]
fn positions_are_a_permutation_of_the_cars_after_every_change() {
    for archive in [race::dutch(), race::mexico()] {
        let mut order = BTreeMap::new();
        let mut changes = 0;
        each_record(archive, |seq, facts| {
            let before = changes;
            for (_, fact) in facts {
                if let FactBody::Positions(position) = fact {
                    order.insert(position.driver_number, position.position);
                    changes += 1;
                }
            }
            if changes > before {
                let mut places: Vec<i32> = order.values().copied().collect();
                places.sort_unstable();
                assert_eq!(places, (1..=order.len() as i32).collect::<Vec<_>>(), "after ledger record {seq}");
            }
        });
        assert_eq!(order.len(), 20);
        assert!(changes > 100, "{changes} changes");
    }
}

/// Whatever the feed does to the order, the overtakes said with it lead from the order before to the order after: each swap moves one car
/// in front of the one directly ahead, no swap is missing, and none is said twice. So every change of place is explained by as many
/// overtakes, pit stops, retirements, penalties and corrections as places were gained and lost.
#[test]
fn every_change_of_place_is_explained_by_overtakes_and_only_by_them() {
    let (mut order, mut newest, mut swaps, mut changes) = (Vec::<i32>::new(), 0, 0, 0);
    each_record(race::dutch(), |seq, facts| {
        let mut after: BTreeMap<i32, i32> = (1..).zip(&order).map(|(place, car)| (place, *car)).collect();
        let changes_before = changes;
        let mut line = order.clone();
        for (header, fact) in facts {
            match fact {
                FactBody::Positions(position) => {
                    after.insert(position.position, position.driver_number);
                    changes += 1;
                }
                FactBody::Overtakes(swap) if header.revision == 0 => {
                    assert_eq!(swap.overtake_number, newest + 1, "numbers are dense");
                    newest = swap.overtake_number;
                    let at = line.iter().position(|car| *car == swap.overtaking_driver_number).unwrap();
                    assert_eq!(line.get(at.wrapping_sub(1)), Some(&swap.overtaken_driver_number), "ledger record {seq}");
                    line.swap(at, at - 1);
                    swaps += 1;
                }
                FactBody::Overtakes(correction) => assert!(correction.overtake_number <= newest, "ledger record {seq}"),
                _ => {}
            }
        }
        if changes > changes_before {
            order = after.into_values().collect();
        }
        if line.len() == order.len() {
            assert_eq!(line, order, "after ledger record {seq}");
        }
    });
    assert_eq!(order.len(), 20);
    assert!(swaps > 300, "{swaps} swaps");
}

#[test]
fn a_swap_keeps_its_pair_and_moment_through_every_correction() {
    let mut said = BTreeMap::new();
    let mut corrections = 0;
    each_record(race::dutch(), |_, facts| {
        for (header, fact) in facts {
            if let FactBody::Overtakes(swap) = fact {
                let what = (swap.overtaking_driver_number, swap.overtaken_driver_number, swap.position, swap.lap_number, header.event_time);
                let before = said.insert(swap.overtake_number, what);
                assert_eq!(before.is_some(), header.supersedes.is_some());
                assert!(before.is_none_or(|before| before == what), "overtake {}", swap.overtake_number);
                corrections += i32::from(before.is_some());
            }
        }
    });
    assert!(corrections > 50, "{corrections} corrections");
}

#[test]
fn a_battle_begins_once_and_ends_once_and_one_car_attacks_one_car_at_a_time() {
    use pitwall_schemas::facts::BattlePhase;
    let (mut fighting, mut begun) = (BTreeMap::<i32, i32>::new(), 0);
    each_record(race::dutch(), |seq, facts| {
        for (header, fact) in facts {
            let FactBody::Battles(battle) = fact else { continue };
            assert_eq!(battle.phase == BattlePhase::Ended, battle.end.is_some(), "ledger record {seq}");
            assert!(battle.closest_ms <= battle.interval_ms && battle.interval_ms <= 1_000, "ledger record {seq}");
            let number = battle.battle_number;
            match battle.phase {
                BattlePhase::Began => {
                    begun += 1;
                    assert_eq!(number, begun, "numbers are dense");
                    assert_eq!(fighting.insert(battle.driver_number, number), None, "ledger record {seq}");
                }
                BattlePhase::GoesOn => assert_eq!(fighting.get(&battle.driver_number), Some(&number), "ledger record {seq}"),
                BattlePhase::Ended if header.supersedes.is_none() => {
                    assert_eq!(fighting.remove(&battle.driver_number), Some(number), "ledger record {seq}");
                }
                BattlePhase::Ended => assert_ne!(fighting.get(&battle.driver_number), Some(&number), "ledger record {seq}"),
            }
        }
    });
    assert!(begun > 50, "{begun} battles");
    assert!(fighting.is_empty(), "at the finish nobody fights on: {fighting:?}");
}

#[test]
fn every_fact_names_causes_that_came_before_it_in_rising_order() {
    for archive in [race::dutch(), race::mexico()] {
        let mut last_known_at = i64::MIN;
        each_record(archive, |seq, facts| {
            for (header, fact) in facts {
                assert!(!header.causes.is_empty(), "fact {} names no cause", header.fact_seq);
                assert!(
                    header.causes.iter().all(|&cause| (cause as u64) <= seq),
                    "fact {} ({}) names a later record",
                    header.fact_seq,
                    fact.kind()
                );
                assert!(
                    header.causes.windows(2).all(|pair| pair[0] < pair[1]),
                    "fact {} ({}): {:?}",
                    header.fact_seq,
                    fact.kind(),
                    header.causes
                );
                assert!(header.known_at.0 >= last_known_at, "known_at never falls");
                last_known_at = header.known_at.0;
            }
        });
    }
}

#[test]
fn a_correction_supersedes_the_newest_fact_about_the_same_thing() {
    for archive in [race::dutch(), race::mexico()] {
        let mut newest = BTreeMap::<(&'static str, Vec<u8>), (i64, i32)>::new();
        let mut corrections = 0;
        each_record(archive, |_, facts| {
            for (header, fact) in facts {
                let mut key = Vec::new();
                fact.encode_key(&mut key);
                let previous = newest.insert((fact.kind(), key), (header.fact_seq, header.revision));
                if let Some(superseded) = header.supersedes {
                    assert_eq!(previous, Some((superseded, header.revision - 1)), "fact {} ({})", header.fact_seq, fact.kind());
                    corrections += 1;
                }
            }
        });
        assert!(corrections > 1_000, "{corrections} corrections");
    }
}

#[test]
fn sectors_of_a_complete_lap_sum_to_the_lap_within_the_feeds_rounding() {
    let mut compared = 0;
    each_record(race::dutch(), |_, facts| {
        for (_, fact) in facts {
            if let FactBody::Laps(lap) = fact
                && let (Some(lap_ms), Some(first), Some(second), Some(third)) =
                    (lap.lap_ms, lap.sector_1_ms, lap.sector_2_ms, lap.sector_3_ms)
            {
                // Each of the four times is rounded to a millisecond on its own.
                assert!((lap_ms - first - second - third).abs() <= 3, "car {}, lap {}", lap.driver_number, lap.lap_number);
                compared += 1;
            }
        }
    });
    // Of the race's 1,362 laps, three lack a sector.
    assert!(compared >= 1_359, "{compared} laps");
}

#[test]
fn the_newest_lap_of_a_car_never_falls() {
    let mut newest = BTreeMap::<i32, i32>::new();
    each_record(race::dutch(), |seq, facts| {
        for (header, fact) in facts {
            if let FactBody::Laps(lap) = fact
                && header.revision == 0
            {
                let last = newest.insert(lap.driver_number, lap.lap_number);
                assert!(last.is_none_or(|last| lap.lap_number > last), "car {} at ledger record {seq}", lap.driver_number);
            }
        }
    });
    assert_eq!(newest.len(), 20);
}

#[test]
fn telemetry_holds_every_reading_of_the_feed_once() {
    use pitwall_schemas::facts::Channel;
    let mut rows = BTreeMap::new();
    each_record(race::dutch(), |_, facts| {
        for (_, fact) in facts {
            if let FactBody::Telemetry(telemetry) = fact {
                *rows.entry(telemetry.channel).or_insert(0) += telemetry.samples.len();
                assert!(telemetry.samples.windows(2).all(|pair| pair[0].date < pair[1].date), "rows stand by date");
            }
        }
    });
    let (mut car_data, mut location, mut no_reading) = (0, 0, 0);
    race::for_each(&mut race::dutch(), |_, raw| {
        match raw.event.unwrap() {
            pitwall_schemas::raw::Sample::CarData(_) => car_data += 1,
            pitwall_schemas::raw::Sample::Location(sample) if (sample.x, sample.y, sample.z) == (0, 0, 0) => no_reading += 1,
            pitwall_schemas::raw::Sample::Location(_) => location += 1,
            _ => {}
        }
        Continue(())
    });
    // The last packet is still open when the samples end.
    let short = |channel, sent: usize| sent - rows[&channel];
    assert!(
        short(Channel::CarData, car_data) + short(Channel::Location, location) <= 200,
        "{rows:?} of {car_data} and {location}; {no_reading} locations were no reading"
    );
}

/// The newest value of each kind and car that a row of the tower shows.
#[derive(Default)]
struct Shown {
    position: Option<i32>,
    gap: Option<(Option<i32>, Option<i32>)>,
    lap_number: Option<i32>,
    stint_number: Option<i32>,
}

#[test]
fn after_every_record_the_tower_shows_what_the_other_kinds_say() {
    use pitwall_schemas::facts::CarState;
    for archive in [race::dutch(), race::mexico()] {
        let (mut shown, mut rows, mut compared) = (BTreeMap::<i32, Shown>::new(), BTreeMap::new(), 0);
        each_record(archive, |seq, facts| {
            let mut touched = std::collections::BTreeSet::new();
            for (_, fact) in facts {
                match fact {
                    FactBody::Positions(fact) => shown.entry(fact.driver_number).or_default().position = Some(fact.position),
                    FactBody::Gaps(fact) => shown.entry(fact.driver_number).or_default().gap = Some((fact.gap_ms, fact.laps_behind)),
                    FactBody::Laps(fact) => {
                        let lap = &mut shown.entry(fact.driver_number).or_default().lap_number;
                        *lap = (*lap).max(Some(fact.lap_number));
                    }
                    FactBody::Stints(fact) => {
                        let stint = &mut shown.entry(fact.driver_number).or_default().stint_number;
                        *stint = (*stint).max(Some(fact.stint_number));
                    }
                    FactBody::Timing(row) => {
                        touched.insert(row.driver_number);
                        rows.insert(row.driver_number, row);
                    }
                    _ => {}
                }
            }
            for car in touched {
                let (row, shown) = (&rows[&car], shown.entry(car).or_default());
                let found = (row.position, row.lap_number, row.stint_number);
                assert_eq!(found, (shown.position, shown.lap_number, shown.stint_number), "car {car} after ledger record {seq}");
                if row.state != CarState::Retired {
                    assert_eq!((row.gap_ms, row.laps_behind), shown.gap.unwrap_or_default(), "car {car} after ledger record {seq}");
                }
                compared += 1;
            }
        });
        assert!(compared > 2_000, "{compared} rows");
    }
}

/// The tower and the classification come to their best laps on different ways; a lap into the pit lane is neither's.
#[test]
fn the_towers_best_lap_is_the_classifications_after_every_record_of_qualifying() {
    let imola = Archive::open(&race::data("imola_2024_qualifying.avro")).unwrap();
    for archive in [race::mexico(), imola] {
        let (mut phase, mut tower, mut classified) = (None, BTreeMap::new(), BTreeMap::new());
        let mut compared = 0;
        each_record(archive, |seq, facts| {
            for (_, fact) in facts {
                match fact {
                    FactBody::TrackStatus(status) if status.session == SessionState::Started => {
                        phase = status.qualifying_phase.or(phase);
                    }
                    FactBody::Timing(row) => {
                        tower.insert(row.driver_number, row.best_lap_ms);
                    }
                    FactBody::Classification(line) => {
                        classified.insert(line.driver_number, [line.segment_1_ms, line.segment_2_ms, line.segment_3_ms]);
                    }
                    _ => {}
                }
            }
            let Some(phase) = phase else { return };
            for (car, best_lap_ms) in &tower {
                let expected = classified.get(car).and_then(|segments| segments[phase as usize - 1]);
                assert_eq!(*best_lap_ms, expected, "car {car} after ledger record {seq}");
                compared += usize::from(expected.is_some());
            }
        });
        assert!(compared > 10_000, "{compared} compared");
    }
}

/// Bytes of state at the end of each bundled session; a keyframe holds them compressed.
#[test]
fn the_state_of_every_session_stays_under_2_mb() {
    for name in ["dutch_2025_race.avro", "mexico_2025_qualifying.avro", "silverstone_2024_practice_1.avro"] {
        let mut archive = Archive::open(&race::data(name)).unwrap();
        let (mut session, mut output, mut largest) = (race::session(&archive), Output::default(), 0);
        race::for_each(&mut archive, |number, raw| {
            session.take(&raw, &mut output).unwrap();
            output.clear();
            if number % 20_000 == 0 {
                largest = largest.max(state_bytes(&mut session));
            }
            Continue(())
        });
        largest = largest.max(state_bytes(&mut session));
        println!("{name}: {largest} bytes of state at most");
        assert!(largest < 2_000_000, "{name}: {largest} bytes");
    }
}

fn state_bytes(session: &mut Session<Sample>) -> usize {
    zstd::zstd_safe::get_frame_content_size(&session.keyframe().bytes).unwrap().unwrap() as usize
}

#[test]
fn no_row_of_the_tower_is_said_twice() {
    for archive in [race::dutch(), race::mexico()] {
        let mut rows = BTreeMap::new();
        each_record(archive, |seq, facts| {
            for (_, fact) in facts {
                if let FactBody::Timing(row) = fact {
                    let car = row.driver_number;
                    let before = rows.insert(car, row);
                    assert_ne!(before.as_ref(), rows.get(&car), "car {car} at ledger record {seq}");
                }
            }
        });
        assert_eq!(rows.len(), 20);
    }
}

#[test]
fn win_probabilities_sum_to_1_over_the_cars_running_and_only_a_race_has_them() {
    let mut said = 0;
    each_record(race::dutch(), |seq, facts| {
        for (_, fact) in facts {
            if let FactBody::Probability(probability) = fact {
                let sum: f64 = probability.cars.iter().map(|car| car.probability).sum();
                assert!((sum - 1.0).abs() < 1e-12, "{sum} at ledger record {seq}");
                assert!((17..=20).contains(&probability.cars.len()), "{} cars at ledger record {seq}", probability.cars.len());
                said += 1;
            }
        }
    });
    assert!(said > 72, "{said} facts");
    each_record(race::mexico(), |seq, facts| {
        assert!(facts.iter().all(|(_, fact)| fact.kind() != "probability"), "ledger record {seq}");
    });
}

#[test]
fn a_circuits_outline_closes_and_has_no_gap() {
    for archive in [race::dutch(), race::mexico()] {
        let mut outlines = 0;
        each_record(archive, |_, facts| {
            for (header, fact) in facts {
                if let FactBody::Circuit(circuit) = fact {
                    let next = circuit.points.iter().cycle().skip(1);
                    for (point, next) in circuit.points.iter().zip(next) {
                        let (x, y) = (i64::from(next.x - point.x), i64::from(next.y - point.y));
                        let metres = (x * x + y * y).isqrt() / 10;
                        assert!(metres <= 90, "fact {}: {metres} m between two points", header.fact_seq);
                    }
                    assert!((100..1_000).contains(&circuit.points.len()));
                    outlines += 1;
                }
            }
        });
        assert!((1..=3).contains(&outlines), "{outlines} outlines");
    }
}

/// Laps and stints of a session as they were at last, by car and number.
#[expect(clippy::type_complexity, reason = "two maps by car and number")]
fn laps_and_stints(archive: Archive) -> (BTreeMap<(i32, i32), Lap>, BTreeMap<(i32, i32), Stint>) {
    let (mut laps, mut stints) = (BTreeMap::new(), BTreeMap::new());
    each_record(archive, |_, facts| {
        for (_, fact) in facts {
            match fact {
                FactBody::Laps(lap) => drop(laps.insert((lap.driver_number, lap.lap_number), lap)),
                FactBody::Stints(stint) => drop(stints.insert((stint.driver_number, stint.stint_number), stint)),
                _ => {}
            }
        }
    });
    (laps, stints)
}

/// Lap 1 begins with race control's message, which comes some 0.4 s before the official clock starts: that is what the sums differ by,
/// and by as much for every car within 0.16 s, OpenF1's own precision of lap 1's end.
#[test]
fn the_laps_of_every_finisher_sum_to_the_official_race_time() {
    let (laps, _) = laps_and_stints(race::dutch());
    let mut differences = Vec::new();
    for row in official::published("classification") {
        let (car, Some(race_ms)) = (official::car(&row), official::race_ms(&row)) else { continue };
        let sum: i32 = laps.range((car, 1)..=(car, 72)).map(|(_, lap)| lap.lap_ms.unwrap()).sum();
        differences.push(sum - race_ms);
    }
    differences.sort_unstable();
    println!("{} cars' laps sum to {} to {} ms more than their race time", differences.len(), differences[0], differences[16]);
    assert_eq!(differences.len(), 17);
    assert!(differences[0] >= 300 && differences[16] <= 500 && differences[16] - differences[0] <= 160, "{differences:?}");
}

#[test]
fn pit_entries_and_exits_pair_and_each_pair_begins_a_stint() {
    for (archive, pairs) in [(race::dutch(), 39), (race::mexico(), 80)] {
        let is_race = pairs == 39;
        let (laps, stints) = laps_and_stints(archive);
        let mut found = 0;
        for ((car, number), lap) in &laps {
            let next = laps.get(&(*car, number + 1));
            assert!(next.is_none_or(|next| next.is_pit_out_lap == lap.is_pit_in_lap), "car {car}, lap {number}");
            found += usize::from(lap.is_pit_in_lap && next.is_some());
        }
        assert_eq!(found, pairs);
        let cars = laps.keys().map(|(car, _)| car).collect::<std::collections::BTreeSet<_>>().len();
        // The first lap of a qualifying is out of the pit lane too, and its stint the first.
        assert_eq!(stints.len(), pairs + cars, "race: {is_race}");
    }
}

#[test]
fn stints_tile_the_laps_of_every_car_of_the_race() {
    let (laps, stints) = laps_and_stints(race::dutch());
    let mut begins = BTreeMap::<i32, i32>::new();
    for ((car, number), stint) in &stints {
        let expected = begins.insert(*car, stint.lap_end.unwrap() + 1).unwrap_or(1);
        assert_eq!(stint.lap_start, Some(expected), "car {car}, stint {number}");
    }
    for (car, next) in begins {
        let (_, last) = laps.keys().rfind(|(of, _)| *of == car).unwrap();
        // A lap that was not completed may have no stint.
        assert!(
            next == last + 1 || (next == *last && !laps[&(car, *last)].is_complete),
            "car {car}: stints to {}, laps to {last}",
            next - 1
        );
    }
}
