//! Whole real sessions other than the bundled race: qualifying against its official result, practice, a join in mid-race, and a race of
//! which most topics are missing. What is not known is null and declared, and nothing is invented.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod race;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow::Continue;

use pitwall_archive::archive::Archive;
use pitwall_engine::Micros;
use pitwall_engine::backtest::CLOSING_IDLE;
use pitwall_engine::session::{Output, RawRecord, Session};
use pitwall_operators::laps::LapsOperator;
use pitwall_schemas::facts::{Basis, Classification, Completeness, FactBody, Lap, ResultStatus, Subject};
use pitwall_schemas::raw::{self, Sample};
use pitwall_schemas::shared::FactHeader;
use race::official;

/// A session after its last sample, with everything it said.
struct Played {
    session: Session<Sample>,
    facts: Vec<(FactHeader, FactBody)>,
    dead_letters: Vec<String>,
    samples: i64,
}

impl Played {
    fn new(mut archive: Archive) -> Self {
        let mut played = Self { session: race::session(&archive), facts: Vec::new(), dead_letters: Vec::new(), samples: 0 };
        let mut output = Output::default();
        race::for_each(&mut archive, |number, raw| {
            played.session.take(&raw, &mut output).unwrap();
            played.keep(&mut output);
            played.samples = number as i64 + 1;
            Continue(())
        });
        let last = played.session.sequencer().last_known_at().unwrap();
        played.session.take_idle(last.plus(CLOSING_IDLE), &mut output).unwrap();
        played.keep(&mut output);
        played
    }

    fn keep(&mut self, output: &mut Output) {
        for fact in output.facts.iter() {
            let (header, mut body) = fact.header().unwrap();
            self.facts.push((header, FactBody::decode(fact.kind.name, &mut body).unwrap().unwrap()));
        }
        self.dead_letters.extend(output.dead_letters.iter().map(|letter| letter.reason.clone()));
        output.clear();
    }

    /// `sample` arrives `days` after the last one.
    fn arrive_later(&mut self, days: i64, sample: Sample) {
        let received_at = self.session.sequencer().last_known_at().unwrap().plus(days * 86_400_000_000);
        let raw = RawRecord {
            stream: sample.collection() as u16,
            partition: 0,
            offset: self.samples,
            ingest_seq: self.samples,
            received_at,
            payload: &[],
            event: Ok(sample),
        };
        let mut output = Output::default();
        self.session.take(&raw, &mut output).unwrap();
        self.samples += 1;
        self.keep(&mut output);
    }

    /// The last line of each car in one of the two orders.
    fn classification(&self, basis: Basis) -> BTreeMap<i32, (FactHeader, Classification)> {
        let lines = self.facts.iter().filter_map(|(header, fact)| match fact {
            FactBody::Classification(line) if line.basis == basis => Some((line.driver_number, (header.clone(), line.clone()))),
            _ => None,
        });
        lines.collect()
    }

    /// Cars by place in one of the two orders.
    fn order(&self, basis: Basis) -> Vec<i32> {
        let lines = self.classification(basis);
        let mut placed: Vec<_> = lines.iter().filter_map(|(car, (_, line))| line.position.map(|place| (place, *car))).collect();
        placed.sort_unstable();
        assert_eq!(placed.iter().map(|(place, _)| *place).collect::<Vec<_>>(), (1..=placed.len() as i32).collect::<Vec<_>>());
        placed.into_iter().map(|(_, car)| car).collect()
    }

    fn laps(&self) -> BTreeMap<(i32, i32), Lap> {
        let mut laps = BTreeMap::new();
        for (header, fact) in &self.facts {
            if let FactBody::Laps(lap) = fact {
                let key = (lap.driver_number, lap.lap_number);
                let _ = if header.withdrawn { laps.remove(&key) } else { laps.insert(key, lap.clone()) };
            }
        }
        laps
    }

    /// Laps that race control has deleted.
    fn deleted(&self) -> Vec<(i32, i32)> {
        self.laps().into_iter().filter(|(_, lap)| lap.is_deleted).map(|(key, _)| key).collect()
    }

    /// What is missing at the end.
    fn missing(&self) -> Vec<Completeness> {
        let mut newest = BTreeMap::new();
        for (_, fact) in &self.facts {
            if let FactBody::Completeness(fact) = fact {
                newest.insert((fact.subject, fact.driver_number, fact.lap_number), fact.clone());
            }
        }
        newest.into_values().filter(|fact| fact.is_missing).collect()
    }

    fn missing_channels(&self) -> BTreeSet<Subject> {
        let missing = self.missing().into_iter();
        missing.filter(|fact| (fact.driver_number, fact.lap_number) == (0, 0)).map(|fact| fact.subject).collect()
    }

    fn unknown_messages(&self) -> Vec<String> {
        let unknown = self.facts.iter().filter_map(|(_, fact)| match fact {
            FactBody::RaceControl(message) if message.kind.symbol() == "UNKNOWN" => Some(message.text.clone()),
            _ => None,
        });
        unknown.collect()
    }
}

fn play(name: &str) -> Played {
    Played::new(Archive::open(&race::data(name)).unwrap())
}

/// `1:15.762` in ms.
fn milliseconds(text: &str) -> Option<i32> {
    let (minutes, seconds) = text.split_once(':')?;
    let seconds: f64 = seconds.parse().unwrap();
    Some(minutes.parse::<i32>().unwrap() * 60_000 + (seconds * 1_000.0).round() as i32)
}

/// Compares the provisional classification with the official result: the order, and each car's best lap of each segment.
fn check_qualifying(played: &Played, oracle: &str) {
    let text = fs::read_to_string(race::data(oracle)).unwrap();
    let lines = played.classification(Basis::Provisional);
    let mut expected_order = Vec::new();
    for row in text.lines().skip(1) {
        let columns: Vec<&str> = row.split(',').collect();
        let car: i32 = columns[0].parse().unwrap();
        expected_order.push(car);
        let (_, line) = &lines[&car];
        let found = [line.segment_1_ms, line.segment_2_ms, line.segment_3_ms];
        assert_eq!(found, [1, 2, 3].map(|segment| milliseconds(columns[segment])), "car {car}");
    }
    assert_eq!(played.order(Basis::Provisional), expected_order);
    let eliminated = lines.values().filter(|(_, line)| line.status == ResultStatus::Eliminated).count();
    assert_eq!((expected_order.len(), eliminated), (20, 10));
}

#[test]
fn imola_qualifying_comes_to_the_official_order_and_times_of_every_segment() {
    let played = play("imola_2024_qualifying.avro");
    check_qualifying(&played, "imola_2024_qualifying_f1db.csv");
    assert_eq!(played.dead_letters, Vec::<String>::new());
    assert_eq!(played.unknown_messages(), Vec::<String>::new());
    // Six messages, six laps; race control's count is one ahead of OpenF1's and of the feed's.
    assert_eq!(played.deleted(), [(2, 2), (2, 5), (2, 7), (10, 13), (14, 5), (23, 2)]);
    assert_eq!(played.missing_channels(), BTreeSet::from([Subject::CarData, Subject::Location]));
}

#[test]
fn mexico_qualifying_comes_to_the_official_order_and_times_of_every_segment() {
    let played = Played::new(race::mexico());
    check_qualifying(&played, "mexico_2025_qualifying_f1db.csv");
    assert_eq!(played.unknown_messages(), Vec::<String>::new());
    assert_eq!(played.deleted(), [(5, 2), (43, 8)]);
    assert_eq!(played.missing_channels(), BTreeSet::new());
}

/// The documents of every lap as they were at last, by car and lap, and how many versions there were.
fn lap_documents(mut archive: Archive) -> (usize, BTreeMap<(i32, i32), raw::Lap>) {
    let (mut versions, mut documents) = (0, BTreeMap::new());
    race::for_each(&mut archive, |_, raw| {
        if let Sample::Laps(lap) = raw.event.unwrap() {
            versions += 1;
            documents.insert((lap.driver_number, lap.lap_number), *lap);
        }
        Continue(())
    });
    (versions, documents)
}

/// Times, speeds, mini-sectors, start and pit-out flag of a lap.
type Said = ([Option<i32>; 4], [Option<i32>; 3], [Vec<i32>; 3], (Option<Micros>, bool));

/// What a lap's document says, as the fact says it.
fn as_said(document: &raw::Lap) -> Said {
    let ms = |seconds: Option<f64>| seconds.map(|seconds| (seconds * 1_000.0).round() as i32);
    let speed = |speed: Option<f64>| speed.map(|speed| speed.round() as i32);
    let codes = |codes: &Option<Vec<Option<i32>>>| codes.iter().flatten().map(|code| code.unwrap_or(0)).collect::<Vec<i32>>();
    (
        [document.lap_duration, document.duration_sector_1, document.duration_sector_2, document.duration_sector_3].map(ms),
        [document.i1_speed, document.i2_speed, document.st_speed].map(speed),
        [&document.segments_sector_1, &document.segments_sector_2, &document.segments_sector_3].map(codes),
        (document.date_start, document.is_pit_out_lap),
    )
}

fn said(lap: &Lap) -> Said {
    (
        [lap.lap_ms, lap.sector_1_ms, lap.sector_2_ms, lap.sector_3_ms],
        [lap.i1_speed, lap.i2_speed, lap.st_speed],
        [lap.segments_1.clone(), lap.segments_2.clone(), lap.segments_3.clone()],
        (lap.started_at, lap.is_pit_out_lap),
    )
}

#[test]
fn every_lap_of_qualifying_and_practice_equals_openf1s_own() {
    for (name, versions, laps, joined) in [
        ("mexico_2025_qualifying.avro", 2_514, 307, 0),
        ("imola_2024_qualifying.avro", 2_280, 286, 0),
        // Joined at its 20th minute: what OpenF1 calls lap 1 of a car is another one, of which most was before.
        ("silverstone_2024_practice_1.avro", 2_703, 362, 20),
    ] {
        let found = play(name).laps();
        let (counted, mut documents) = lap_documents(Archive::open(&race::data(name)).unwrap());
        assert_eq!((counted, documents.len()), (versions, laps), "{name}");
        let is_joined = |documents: &BTreeMap<(i32, i32), raw::Lap>, car: i32| !documents.contains_key(&(car, 2));
        let cars_joined: Vec<i32> = documents.keys().map(|(car, _)| *car).filter(|car| is_joined(&documents, *car)).collect();
        documents.retain(|(car, number), _| *number > 1 || !cars_joined.contains(car));
        assert_eq!(documents.len(), laps - joined, "{name}");
        let mut differences = Vec::new();
        for ((car, number), document) in &documents {
            let lap = found.get(&(*car, *number));
            if lap.map(said) != Some(as_said(document)) {
                println!("car {car}, lap {number}: {:?} instead of {:?}", lap.map(said), as_said(document));
                differences.push((*car, *number));
            }
        }
        println!("{name}: {counted} versions of {laps} laps; of {} compared {} differ", documents.len(), differences.len());
        assert_eq!(differences, [], "{name}");
        let more = found.keys().filter(|key| !documents.contains_key(key)).count();
        assert!(more <= joined, "{name}: {more} laps that OpenF1 does not have");
    }
}

#[test]
fn each_segment_of_qualifying_has_one_personal_best_of_a_car_and_it_is_its_shortest() {
    for played in [play("imola_2024_qualifying.avro"), Played::new(race::mexico())] {
        let mut bests = BTreeMap::new();
        for ((car, _), lap) in played.laps() {
            if lap.is_personal_best {
                assert_eq!(bests.insert((car, lap.qualifying_segment), lap.lap_ms.unwrap()), None);
            }
        }
        for ((car, _), lap) in played.laps() {
            if let Some(best) = bests.get(&(car, lap.qualifying_segment)).filter(|_| !lap.is_deleted && !lap.is_pit_out_lap) {
                assert!(lap.lap_ms.is_none_or(|lap_ms| lap_ms >= *best), "car {car}, lap {}", lap.lap_number);
            }
        }
        assert!(bests.len() > 40, "{} bests", bests.len());
    }
}

#[test]
fn practice_is_ordered_by_the_best_laps_and_gives_no_points() {
    let played = play("silverstone_2024_practice_1.avro");
    assert_eq!(played.dead_letters, Vec::<String>::new());
    let lines = played.classification(Basis::Provisional);
    let times: Vec<_> = played.order(Basis::Provisional).iter().map(|car| lines[car].1.best_lap_ms.unwrap()).collect();
    assert!(times.len() >= 18 && times.is_sorted(), "{times:?}");
    assert!(lines.values().all(|(_, line)| line.points.is_none() && line.is_classified.is_none()));
}

/// The stream begins in the 20th minute; Tsunoda's five laps were before.
#[test]
fn practice_comes_to_the_official_order_times_and_laps_but_for_what_was_before_the_join() {
    let played = play("silverstone_2024_practice_1.avro");
    let lines = played.classification(Basis::Provisional);
    let text = fs::read_to_string(race::data("silverstone_2024_practice_1_f1db.csv")).unwrap();
    let mut official = Vec::new();
    for row in text.lines().skip(1) {
        let columns: Vec<&str> = row.split(',').collect();
        let (car, laps): (i32, i32) = (columns[0].parse().unwrap(), columns[2].parse().unwrap());
        if car == 22 {
            continue;
        }
        official.push(car);
        assert_eq!(lines[&car].1.best_lap_ms, milliseconds(columns[1]), "car {car}");
        // A last lap into the pit lane counts officially, and two cars' have no time in the feed.
        let (_, begun) = *played.laps().keys().rfind(|(of, _)| *of == car).unwrap();
        assert_eq!(begun, laps, "car {car}");
    }
    let order: Vec<i32> = played.order(Basis::Provisional).into_iter().filter(|car| *car != 22).collect();
    assert_eq!((order.len(), order), (19, official));
    let missing = played.missing().into_iter().filter(|fact| (fact.subject, fact.driver_number) == (Subject::Lap, 22)).count();
    assert!(missing >= 3, "{missing} of car 22's laps are declared missing");
}

/// What a lap's accuracy allows between its end and the next one's start, measured. No pit lane, no interruption, and not lap 1.
#[test]
fn laps_meet_within_the_boundary_that_accuracy_allows() {
    let boundary_ms = LapsOperator::default().boundary_ms_max;
    let names = [
        "mexico_2025_qualifying.avro",
        "imola_2024_qualifying.avro",
        "silverstone_2024_practice_1.avro",
        "abu_dhabi_2025_race_last_27_minutes.avro",
    ];
    let mut all = Vec::new();
    for name in names {
        let laps = play(name).laps();
        let accurate = laps.values().filter(|lap| lap.is_accurate).count();
        let mut apart = Vec::new();
        for ((car, number), lap) in &laps {
            let next = laps.get(&(*car, number + 1));
            let end = lap.started_at.zip(lap.lap_ms).map(|(start, lap_ms)| start.plus(i64::from(lap_ms) * 1_000));
            if let (Some(end), Some(next)) =
                (end.filter(|_| !lap.is_pit_out_lap && !lap.is_pit_in_lap), next.and_then(|next| next.started_at))
            {
                apart.push(end.since(next).abs() / 1_000);
            }
        }
        apart.sort_unstable();
        let beyond = apart.iter().filter(|ms| **ms > boundary_ms).count();
        println!(
            "{name}: {} of laps' ends and starts, median {} ms, p90 {} ms, {beyond} beyond {boundary_ms} ms; {accurate} laps are accurate",
            apart.len(),
            apart[apart.len() / 2],
            apart[apart.len() * 9 / 10]
        );
        assert!((3..100).contains(&apart[apart.len() / 2]), "{name}: FastF1's 3 ms leave out most laps");
        all.extend(apart);
    }
    let within = all.iter().filter(|ms| **ms <= boundary_ms).count();
    assert!(all.len() > 500 && within * 100 >= all.len() * 97, "{within} of {}", all.len());
}

#[test]
fn a_join_in_mid_race_declares_what_it_missed_and_invents_nothing() {
    let played = play("abu_dhabi_2025_race_last_27_minutes.avro");
    assert_eq!(played.dead_letters, Vec::<String>::new());
    let missing = played.missing();
    assert!(played.missing_channels().is_superset(&BTreeSet::from([Subject::SessionStart, Subject::Drivers, Subject::Intervals])));
    let first_seen = played.laps().keys().map(|(_, lap)| *lap).min().unwrap();
    assert!(missing.iter().filter(|fact| fact.subject == Subject::Lap && fact.lap_number < first_seen).count() > 100);
    assert!(missing.iter().any(|fact| fact.subject == Subject::Driver));
    assert!(first_seen >= 47, "what OpenF1 calls lap 1 is the lap under way at the join");
    for ((car, lap_number), lap) in played.laps() {
        assert!(lap.lap_ms.is_none_or(|lap_ms| lap_ms > 60_000), "car {car}, lap {lap_number}: {:?}", lap.lap_ms);
    }
    // Of most cars no place was ever sent, so nobody's is known, and nobody's chances.
    assert!(played.missing_channels().contains(&Subject::Position));
    assert!(
        played.facts.iter().all(|(_, fact)| !matches!(fact, FactBody::Positions(_) | FactBody::Probability(_) | FactBody::Overtakes(_)))
    );
    assert_eq!(played.order(Basis::Provisional), Vec::<i32>::new());
    let lines = played.classification(Basis::Provisional);
    assert!(lines.values().all(|(_, line)| line.is_classified == Some(true)), "all took the flag with nine tenths of the leader's laps");
    // Both stewards' penalties came after the flag and were never served.
    assert_eq!([18, 87].map(|car| lines[&car].1.penalty_seconds), [5, 5]);
    // 58 laps are three quarters of most races, not of all, and no document names the circuit.
    assert!(lines.values().all(|(_, line)| line.points.is_none()));
}

#[test]
fn a_race_without_laps_positions_and_gaps_has_no_order_and_says_what_is_missing() {
    let played = play("mexico_2025_race_partial_topics.avro");
    assert_eq!(played.dead_letters, Vec::<String>::new());
    assert_eq!(
        played.missing_channels(),
        BTreeSet::from([Subject::Laps, Subject::Position, Subject::Intervals, Subject::CarData, Subject::Location])
    );
    assert!(played.laps().is_empty());
    let lines = played.classification(Basis::Provisional);
    assert_eq!(lines.len(), 20);
    for (car, (_, line)) in &lines {
        let unknown = (line.position, line.points, line.best_lap_ms, line.laps_completed);
        assert_eq!((unknown, line.status), ((None, None, None, None), ResultStatus::Unknown), "car {car}");
    }
    assert_eq!(played.unknown_messages(), Vec::<String>::new());
    let last = played.facts.iter().rev().find_map(|(_, fact)| if let FactBody::RaceControl(message) = fact { Some(message) } else { None });
    assert_eq!(last.unwrap().penalties_to_serve, 0);
}

/// Norris stopped on lap 65 and was classified 18th; Antonelli was sixth on the road before 15 s of penalties.
#[test]
fn norris_is_classified_with_64_of_72_laps_at_zandvoort_and_leclerc_and_hamilton_are_not() {
    let played = Played::new(race::dutch());
    let lines = played.classification(Basis::Provisional);
    let norris = &lines[&4].1;
    assert_eq!((norris.position, norris.laps_completed, norris.is_classified), (Some(18), Some(64), Some(true)));
    assert_eq!(norris.status, ResultStatus::Retired);
    for car in [16, 44] {
        assert_eq!((lines[&car].1.position, lines[&car].1.is_classified), (None, Some(false)), "car {car}");
    }
    for (car, _, _, laps) in official::classification() {
        assert_eq!(lines[&car].1.laps_completed, Some(laps), "car {car}");
    }
    let official: Vec<i32> = official::classification().into_iter().filter(|(_, place, ..)| place.is_some()).map(|(car, ..)| car).collect();
    let mut on_the_road: Vec<i32> = official.into_iter().filter(|car| *car != 12).collect();
    on_the_road.insert(5, 12);
    assert_eq!(played.order(Basis::Provisional), on_the_road);
}

/// Antonelli's two penalties as race control announces them, after the flag: they were never served.
#[test]
fn antonellis_unserved_penalties_make_the_provisional_classification_the_official_one() {
    let mut played = Played::new(race::dutch());
    let last = played.session.sequencer().last_known_at().unwrap();
    for message in official::penalties(last) {
        played.arrive_later(0, message);
    }
    let lines = played.classification(Basis::Provisional);
    assert_eq!((lines[&12].1.position, lines[&12].1.on_road_position, lines[&12].1.penalty_seconds), (Some(16), Some(6), 15));
    assert!(lines[&12].0.supersedes.is_some());
    for (car, place, points, _) in official::classification() {
        assert_eq!((lines[&car].1.position, lines[&car].1.points), (place, Some(points)), "car {car}");
    }
}

/// The points before the race and those of the places, Antonelli's penalties included, against the standings after it. Of equal points
/// f1db counts wins, where here the place is shared.
#[test]
fn the_championship_as_it_stands_after_the_race_is_the_official_one() {
    let mut played = Played::new(race::dutch());
    let last = played.session.sequencer().last_known_at().unwrap();
    for document in official::standings_before().into_iter().chain(official::penalties(last)) {
        played.arrive_later(0, document);
    }
    let mut newest = BTreeMap::new();
    for (_, fact) in &played.facts {
        if let FactBody::Championship(standing) = fact {
            newest.insert(standing.name.clone(), standing.clone());
        }
    }
    let official = official::standings();
    assert_eq!((newest.len(), official.len()), (31, 31));
    for (who, [_, place], [before, after]) in &official {
        let standing = &newest[who];
        assert_eq!((standing.points_start, standing.points_as_it_stands), (Some(*before), Some(*after)), "{who}");
        let is_team = who.parse::<i32>().is_err();
        let equal = official.iter().filter(|(other, _, points)| other.parse::<i32>().is_err() == is_team && points[1] == *after);
        let shared = equal.map(|(_, places, _)| places[1]).min();
        assert_eq!(standing.position_as_it_stands, shared, "{who}, officially {place}");
    }
    println!("31 of 31 sums and places are those of f1db");
}

/// Nobody lost a place to a penalty in the Dutch race but Bearman, who started from the pit lane.
#[test]
fn the_grid_of_the_dutch_race_is_the_order_of_qualifying_but_for_the_car_in_the_pit_lane() {
    let mut played = Played::new(race::dutch());
    for document in official::starting_grid() {
        played.arrive_later(0, document);
    }
    let mut newest = BTreeMap::new();
    for (_, fact) in &played.facts {
        if let FactBody::StartingGrid(place) = fact {
            newest.insert(place.driver_number, place.clone());
        }
    }
    assert_eq!(newest.len(), 20);
    for (car, place, lap) in official::grid() {
        let expected = match car {
            18 => (place, None, None),
            87 => (place, Some(19), Some(1)),
            _ => (place, Some(place), Some(0)),
        };
        let found = &newest[&car];
        assert_eq!((found.position, found.qualifying_position, found.places_lost), expected, "car {car}");
        assert_eq!(found.lap_ms, lap.map(|seconds| (seconds * 1_000.0).round() as i32), "car {car}");
    }
}

/// Every stint's last line against a textbook's formula, and none steeper than tyres can be.
#[test]
fn degradation_of_every_long_stint_of_the_race_is_the_least_squares_slope_of_its_accurate_laps() {
    let played = Played::new(race::dutch());
    let laps = played.laps();
    let mut newest = BTreeMap::new();
    for (_, fact) in &played.facts {
        if let FactBody::Degradation(fact) = fact {
            newest.insert((fact.driver_number, fact.stint_number), fact.clone());
        }
    }
    for ((car, stint), fact) in &newest {
        let of_stint = laps.range((*car, fact.first_lap)..=(*car, fact.last_lap)).map(|(_, lap)| lap).filter(|lap| lap.is_accurate);
        let points: Vec<(f64, f64)> = of_stint.map(|lap| (f64::from(lap.lap_number), f64::from(lap.lap_ms.unwrap()))).collect();
        let fastest = points.iter().map(|(_, time)| *time).fold(f64::INFINITY, f64::min);
        let points: Vec<_> = points.into_iter().filter(|(_, time)| *time <= fastest * 1.07).collect();
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
        let (lap_mean, time_mean) = (mean(|point| point.0), mean(|point| point.1));
        let both: f64 = points.iter().map(|(lap, time)| (lap - lap_mean) * (time - time_mean)).sum();
        let slope = both / points.iter().map(|(lap, _)| (lap - lap_mean).powi(2)).sum::<f64>();
        assert_eq!(fact.laps as usize, points.len(), "car {car}, stint {stint}");
        assert!((fact.slope_ms - slope).abs() < 1e-6, "car {car}, stint {stint}: {} and {slope}", fact.slope_ms);
        assert!(fact.low_ms < fact.degradation_ms && fact.degradation_ms < fact.high_ms, "car {car}, stint {stint}");
        println!(
            "car {car}, stint {stint}, {:?}: {} laps, {:.0} ms a lap, {:.0} to {:.0}",
            fact.compound, fact.laps, fact.degradation_ms, fact.low_ms, fact.high_ms
        );
    }
    let long: Vec<_> = newest.values().filter(|fact| fact.laps >= 12).collect();
    assert!(long.len() >= 20, "{} long stints of {}", long.len(), newest.len());
    assert!(long.iter().all(|fact| (-100.0..250.0).contains(&fact.degradation_ms)), "a tenth and more a lap is out of reach");
}

#[test]
fn a_penalty_published_days_later_corrects_the_official_classification_and_its_points() {
    let mut played = Played::new(race::dutch());
    let official = official::classification();
    // As the cars finished: Antonelli sixth, and who was sixth to sixteenth one place lower.
    let on_the_road = |car: i32, place: Option<i32>| match place {
        Some(_) if car == 12 => Some(6),
        Some(place @ 6..=15) => Some(place + 1),
        place => place,
    };
    for (car, place, _, laps) in &official {
        played.arrive_later(0, official::result(*car, on_the_road(*car, *place), None, *laps));
    }
    let before = played.classification(Basis::Official);
    assert_eq!((before[&12].1.position, before[&12].1.points), (Some(6), Some(8.0)));
    for (car, place, _, laps) in &official {
        played.arrive_later(i64::from(*car == 81) * 3, official::result(*car, *place, None, *laps));
    }
    let after = played.classification(Basis::Official);
    let (header, antonelli) = &after[&12];
    assert_eq!((antonelli.position, antonelli.points), (Some(16), Some(0.0)));
    assert_eq!((header.revision, header.supersedes), (1, Some(before[&12].0.fact_seq)));
    for (car, place, points, _) in &official {
        assert_eq!((after[car].1.position, after[car].1.points), (*place, Some(*points)), "car {car}");
        let is_moved = on_the_road(*car, *place) != *place;
        assert_eq!(after[car].0.revision, i32::from(is_moved), "car {car}: only what changed is corrected");
    }
    let said = played.facts.iter().filter(|(_, fact)| matches!(fact, FactBody::Classification(line) if line.basis == Basis::Official));
    assert_eq!(said.count(), 20 + 11, "what was said before stays");
    assert_eq!(played.classification(Basis::Provisional)[&12].1.position, Some(6));
}

/// A replay of the whole feed from any point, as after a reconnect, adds no race control message, classification, event or recording.
#[test]
fn messages_sent_again_after_a_reconnect_say_nothing_again() {
    let mut archive = Archive::open(&race::data("imola_2024_qualifying.avro")).unwrap();
    let undisturbed = play("imola_2024_qualifying.avro");
    let mut repeated = Vec::new();
    race::for_each(&mut archive, |_, raw| {
        repeated.push(raw.event.unwrap());
        Continue(())
    });
    let mut played = play("imola_2024_qualifying.avro");
    let before = played.facts.len();
    for sample in repeated.into_iter().filter(|sample| !matches!(sample, Sample::Position(_))) {
        played.arrive_later(0, sample);
    }
    let again: BTreeSet<&str> = played.facts[before..].iter().map(|(_, fact)| fact.kind()).collect();
    for kind in ["race_control", "classification", "race_events", "team_radio", "laps", "weather", "completeness"] {
        assert!(!again.contains(kind), "{kind} is said again");
    }
    assert_eq!(undisturbed.facts.len(), before);
}
