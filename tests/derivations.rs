//! `docs/derivations.md` cannot rot: every operator of the graph has a row, every test that it names exists, each of the 25 cases has one,
//! and the counts that no other test asserts are counted here.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod race;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow::Continue;
use std::path::Path;

use pitwall_archive::archive::Archive;
use pitwall_engine::backtest::CLOSING_IDLE;
use pitwall_engine::limits::Limits;
use pitwall_engine::session::Output;
use pitwall_schemas::facts::{BattleEnd, BattlePhase, FactBody, MessageKind, Status, UndercutOutcome};
use pitwall_schemas::raw::Sample;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Rows of the table below a heading, or of the first table for none, each as its cells.
fn table(heading: &str) -> Vec<Vec<String>> {
    let page = read("docs/derivations.md");
    let below = page.split_once(heading).unwrap_or_else(|| panic!("there is no heading {heading:?}")).1;
    let rows = below.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()).collect()
}

/// What stands between backticks.
fn code(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

#[test]
fn every_operator_of_the_graph_has_a_row() {
    let graph = pitwall_operators::graph(&Limits::default()).unwrap();
    let told: BTreeSet<String> = table("# Derivations").iter().flat_map(|row| code(&row[0])).collect();
    let missing: Vec<&str> = graph.description().iter().map(|node| node.name.as_str()).filter(|name| !told.contains(*name)).collect();
    assert_eq!(missing, Vec::<&str>::new(), "operators without a row");
    assert_eq!(graph.description().len(), 30);
}

#[test]
fn every_row_names_a_file_of_tests() {
    for row in table("# Derivations") {
        assert_eq!(row.len(), 8, "{row:?}");
        for file in code(&row[5]) {
            assert!(read(&format!("tests/{file}.rs")).contains("#[test]"), "{file}");
        }
        assert!(!code(&row[5]).is_empty(), "{row:?}");
    }
}

/// A case's tests are named `file::test`, a file of the operators or of the tests; the case stands in each test's docstring.
#[test]
fn each_of_the_25_cases_has_a_test_that_names_it() {
    let rows = table("## The 25 cases");
    let numbers: Vec<i32> = rows.iter().map(|row| row[0].parse().unwrap()).collect();
    assert_eq!(numbers, (1..=25).collect::<Vec<_>>());
    for row in rows {
        let tests = code(&row[2]);
        assert!(!tests.is_empty(), "{row:?}");
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{test} names no file"));
            // An operator's tests stand in its file, or in a file of its folder.
            let places = [format!("operators/src/{file}/tests.rs"), format!("operators/src/{file}.rs"), format!("tests/{file}.rs")];
            let exists = |place: &&String| Path::new(env!("CARGO_MANIFEST_DIR")).join(place).exists();
            let source = read(places.iter().find(exists).unwrap_or_else(|| panic!("{test} names no file")));
            let (before, _) =
                source.split_once(&format!("fn {name}(")).unwrap_or_else(|| panic!("case {}: there is no test {test}", row[0]));
            let (_, head) = before.rsplit_once("\n\n").unwrap();
            assert!(head.contains("#[test]"), "{test} is no test");
            // `/// Case 12: why`, `/// Cases 3 and 4.`
            let mut numbers = head.lines().filter(|line| line.contains("/// Case")).flat_map(|line| line.split([' ', '.', ':']));
            assert!(numbers.any(|number| number == row[0]), "{test} does not say that it is case {}", row[0]);
        }
    }
}

/// Everything that the sessions' facts are counted by.
#[derive(Default)]
struct Counts {
    documents: BTreeMap<&'static str, usize>,
    facts: BTreeMap<&'static str, usize>,
    cars: BTreeSet<i32>,
    unknown_messages: usize,
    spells: BTreeMap<&'static str, usize>,
    laps_completed: i32,
    degradations: BTreeSet<(i32, i32)>,
    battles: BTreeMap<i32, Option<BattleEnd>>,
    undercuts: BTreeMap<(i32, i32, i32), UndercutOutcome>,
    /// Kinds of the events that stand, by number.
    events: BTreeMap<i32, &'static str>,
    readings: usize,
    winner: Option<(i32, f64)>,
}

impl Counts {
    fn of(name: &str) -> Self {
        let mut archive = Archive::open(&race::data(name)).unwrap();
        let (mut session, mut output, mut counts) = (race::session(&archive), Output::default(), Self::default());
        let mut status = Status::Clear;
        race::for_each(&mut archive, |_, raw| {
            if let Ok(sample) = &raw.event {
                *counts.documents.entry(sample.collection().name()).or_default() += 1;
                if let Sample::CarData(_) | Sample::Location(_) = sample {
                    counts.readings += 1;
                }
            }
            session.take(&raw, &mut output).unwrap();
            counts.take(&mut output, &mut status);
            Continue(())
        });
        session.take_idle(session.sequencer().last_known_at().unwrap().plus(CLOSING_IDLE), &mut output).unwrap();
        counts.take(&mut output, &mut status);
        counts
    }

    fn take(&mut self, output: &mut Output, status: &mut Status) {
        for fact in output.facts.iter() {
            *self.facts.entry(fact.kind.name).or_default() += 1;
            if matches!(fact.kind.name, "telemetry" | "timing" | "gaps" | "laps" | "positions") {
                continue;
            }
            let (header, mut body) = fact.header().unwrap();
            match FactBody::decode(fact.kind.name, &mut body).unwrap().unwrap() {
                FactBody::Drivers(driver) => {
                    self.cars.insert(driver.driver_number);
                }
                FactBody::RaceControl(message) => self.unknown_messages += usize::from(message.kind == MessageKind::Unknown),
                FactBody::TrackStatus(fact) => {
                    let before = std::mem::replace(status, fact.status);
                    *self.spells.entry(fact.status.symbol()).or_default() += usize::from(before != fact.status);
                }
                FactBody::RaceClock(clock) => self.laps_completed = clock.laps_completed,
                FactBody::Degradation(line) => {
                    let stint = (line.driver_number, line.stint_number);
                    let _ = if header.withdrawn { self.degradations.remove(&stint) } else { self.degradations.insert(stint) };
                }
                FactBody::Battles(battle) => {
                    assert_eq!(battle.phase == BattlePhase::Ended, battle.end.is_some());
                    self.battles.insert(battle.battle_number, battle.end);
                }
                FactBody::Undercuts(attempt) => {
                    let pair = (attempt.driver_number, attempt.driver_number_ahead, attempt.lap_number);
                    let _ = if header.withdrawn { self.undercuts.remove(&pair) } else { self.undercuts.insert(pair, attempt.outcome) };
                }
                FactBody::RaceEvents(event) if header.withdrawn => drop(self.events.remove(&event.event_number)),
                FactBody::RaceEvents(event) => drop(self.events.insert(event.event_number, event.kind.symbol())),
                FactBody::Probability(fact) => self.winner = fact.cars.first().map(|car| (car.driver_number, car.probability)),
                _ => {}
            }
        }
        output.clear();
    }

    fn documents(&self, collection: &str) -> usize {
        self.documents.get(collection).copied().unwrap_or(0)
    }

    fn facts(&self, kind: &str) -> usize {
        self.facts.get(kind).copied().unwrap_or(0)
    }

    fn spells(&self, status: &str) -> usize {
        self.spells.get(status).copied().unwrap_or(0)
    }
}

/// `12345` as the page writes it: `12,345`.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).unwrap()).collect();
    groups.join(",")
}

/// `D 20, M 20`: what `of` says of each session, those left out of which it says nothing.
fn each(sessions: &[(&str, Counts)], of: impl Fn(&Counts) -> Option<String>) -> String {
    let said: Vec<String> = sessions.iter().filter_map(|(letter, counts)| of(counts).map(|said| format!("{letter} {said}"))).collect();
    said.join(", ")
}

#[test]
fn the_counts_of_the_page_are_those_of_the_sessions() {
    let sessions = [
        ("D", "dutch_2025_race.avro"),
        ("M", "mexico_2025_qualifying.avro"),
        ("I", "imola_2024_qualifying.avro"),
        ("S", "silverstone_2024_practice_1.avro"),
        ("A", "abu_dhabi_2025_race_last_27_minutes.avro"),
        ("R", "mexico_2025_race_partial_topics.avro"),
    ];
    let sessions = sessions.map(|(letter, name)| (letter, Counts::of(name)));
    let (dutch, of) = (&sessions[0].1, |of: &dyn Fn(&Counts) -> Option<String>| each(&sessions, of));
    let of_documents = |kind: &'static str, collection: &'static str| {
        of(&|counts| {
            Some(format!("{} of {}", counts.facts(kind), counts.documents(collection))).filter(|_| counts.documents(collection) > 0)
        })
    };
    let spells =
        |status: &'static str| of(&|counts| Some(counts.spells(status)).filter(|spells| *spells > 0).map(|spells| spells.to_string()));
    let ends = |end: BattleEnd| dutch.battles.values().filter(|other| **other == Some(end)).count();
    let undercuts = |outcome: UndercutOutcome| dutch.undercuts.values().filter(|other| **other == outcome).count();
    let (winner, probability) = dutch.winner.unwrap();
    let mut by_kind: BTreeMap<&str, usize> = BTreeMap::new();
    dutch.events.values().for_each(|kind| *by_kind.entry(kind).or_default() += 1);
    let events: Vec<String> = by_kind.iter().map(|(kind, count)| format!("{} {count}", kind.to_lowercase().replace('_', " "))).collect();
    let cells = [
        (
            "drivers",
            format!(
                "cars named: {}; A none, where no list was sent",
                of(&|counts| Some(counts.cars.len().to_string()).filter(|_| !counts.cars.is_empty()))
            ),
        ),
        ("track_status", format!("safety cars: {}; virtual: {}; red flags: {}", spells("SAFETY_CAR"), spells("VSC"), spells("RED"))),
        (
            "race_control",
            format!(
                "messages read: {}; unknown {}",
                of_documents("race_control", "race_control"),
                sessions.iter().map(|(_, counts)| counts.unknown_messages).sum::<usize>()
            ),
        ),
        ("race_clock", format!("leader's laps: {}", of(&|counts| Some(counts.laps_completed.to_string())))),
        ("gaps", format!("D: {} facts of {} documents", grouped(dutch.facts("gaps")), grouped(dutch.documents("intervals")))),
        (
            "degradation",
            format!(
                "stints with a slope: {}",
                of(&|counts| Some(counts.degradations.len().to_string()).filter(|_| !counts.degradations.is_empty()))
            ),
        ),
        ("probability", format!("D: {} facts; the last gives car {winner}, which won, {probability:.0}", dutch.facts("probability"))),
        ("weather", format!("changes of readings: {}", of_documents("weather", "weather"))),
        (
            "telemetry",
            format!(
                "readings in facts: {}",
                of(&|counts| Some(format!("{} in {}", grouped(counts.readings), grouped(counts.facts("telemetry"))))
                    .filter(|_| counts.readings > 0))
            ),
        ),
        ("team_radio", format!("recordings: {}", of_documents("team_radio", "team_radio"))),
        (
            "battles",
            format!(
                "D: {}; fell back {}, another car {}, overtake {}, neutralisation {}, pit {}, finish {}, retirement {}",
                dutch.battles.len(),
                ends(BattleEnd::FellBack),
                ends(BattleEnd::OtherCar),
                ends(BattleEnd::Overtake),
                ends(BattleEnd::Neutralisation),
                ends(BattleEnd::Pit),
                ends(BattleEnd::Finish),
                ends(BattleEnd::Retirement),
            ),
        ),
        (
            "undercuts",
            format!(
                "D: {} attempts; succeeded {}, failed {}, void {}, open {}",
                dutch.undercuts.len(),
                undercuts(UndercutOutcome::Succeeded),
                undercuts(UndercutOutcome::Failed),
                undercuts(UndercutOutcome::Void),
                undercuts(UndercutOutcome::Open),
            ),
        ),
        ("race_events", format!("D: {}: {}", dutch.events.len(), events.join(", "))),
    ];
    let rows = table("# Derivations");
    let mut wrong = Vec::new();
    for (name, cell) in cells {
        println!("{name}: {cell}");
        let row = rows.iter().find(|row| code(&row[0]).contains(&name.to_owned()) && row[3].contains(&cell));
        if row.is_none() {
            wrong.push(name);
        }
    }
    assert_eq!(wrong, Vec::<&str>::new(), "rows that do not say what is printed above");
}
