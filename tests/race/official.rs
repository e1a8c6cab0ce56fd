//! What was published of the Dutch race, as the documents that OpenF1 makes of it: the bundled stream holds none of them.

use std::fs;

use pitwall_schemas::raw::{ChampionshipDriver, ChampionshipTeam, RaceControl, Sample, SessionResult, StartingGrid};
use pitwall_schemas::time::Micros;
use serde_json::Value;

const MEETING: i32 = 1267;
const SESSION: i32 = 9920;

/// All that f1db publishes of the race.
pub(crate) fn all() -> Value {
    serde_json::from_str(&fs::read_to_string(super::data("dutch_2025_official_f1db.json")).unwrap()).unwrap()
}

/// The rows of a part of it.
pub(crate) fn published(part: &str) -> Vec<Value> {
    all()[part].as_array().unwrap().clone()
}

/// The race time of a row of the classification before penalties, ms; a car that is laps down has none.
pub(crate) fn race_ms(row: &Value) -> Option<i32> {
    let seconds = row["time"].as_str()?.split(':').fold(0.0, |total, part| total * 60.0 + part.parse::<f64>().unwrap());
    let penalty: f64 = row["timePenalty"].as_str().map_or(0.0, |seconds| seconds.parse().unwrap());
    Some(((seconds - penalty) * 1_000.0).round() as i32)
}

/// The car of a row.
pub(crate) fn car(row: &Value) -> i32 {
    row["driverNumber"].to_string().trim_matches('"').parse().unwrap()
}

/// A line of the standings before and after the race: car number or team, place and points before, place and points after.
pub(crate) type Standing = (String, [i32; 2], [f64; 2]);

/// The standings of drivers and teams.
pub(crate) fn standings() -> Vec<Standing> {
    let text = fs::read_to_string(super::data("dutch_2025_standings_f1db.csv")).unwrap();
    let rows = text.lines().skip(1).map(|row| row.split(',').collect::<Vec<_>>());
    let place = |text: &str| text.parse::<i32>().unwrap();
    rows.map(|row| (row[0].to_owned(), [place(row[1]), place(row[3])], [row[2].parse().unwrap(), row[4].parse().unwrap()])).collect()
}

/// The standings before the race.
pub(crate) fn standings_before() -> Vec<Sample> {
    let document = |(who, [place, _], [points, _]): Standing| {
        let (position_start, points_start) = (Some(place), Some(points));
        match who.parse() {
            Ok(driver_number) => Sample::from(ChampionshipDriver {
                meeting_key: MEETING,
                session_key: SESSION,
                driver_number,
                position_start,
                position_current: None,
                points_start,
                points_current: None,
                id: None,
            }),
            Err(_) => Sample::from(ChampionshipTeam {
                meeting_key: MEETING,
                session_key: SESSION,
                team_name: who,
                position_start,
                position_current: None,
                points_start,
                points_current: None,
                id: None,
            }),
        }
    };
    standings().into_iter().map(document).collect()
}

/// Car, place and lap, s, of the starting grid. Who starts from the pit lane stands behind the others.
pub(crate) fn grid() -> Vec<(i32, i32, Option<f64>)> {
    let lap = |row: &Value| {
        let (minutes, seconds) = row["time"].as_str()?.split_once(':')?;
        Some(minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap())
    };
    (1..).zip(published("starting_grid")).map(|(place, row)| (car(&row), place, lap(&row))).collect()
}

/// The starting grid.
pub(crate) fn starting_grid() -> Vec<Sample> {
    let document = |(driver_number, position, lap_duration)| {
        Sample::from(StartingGrid { meeting_key: MEETING, session_key: SESSION, driver_number, position, lap_duration, id: None })
    };
    grid().into_iter().map(document).collect()
}

/// A line of the official classification: car, place, points and laps.
pub(crate) type Classified = (i32, Option<i32>, f64, i32);

/// The official classification.
pub(crate) fn classification() -> Vec<Classified> {
    let line = |row: &Value| {
        let place = row["position"].as_i64().map(|place| place as i32);
        (car(row), place, row["points"].as_f64().unwrap_or(0.0), row["laps"].as_i64().unwrap() as i32)
    };
    published("classification").iter().map(line).collect()
}

/// A car's result as a document.
pub(crate) fn result(driver_number: i32, position: Option<i32>, points: Option<f64>, laps: i32) -> Sample {
    Sample::from(SessionResult {
        meeting_key: MEETING,
        session_key: SESSION,
        driver_number,
        position,
        number_of_laps: Some(laps),
        dnf: Some(laps < 72),
        dns: Some(false),
        dsq: Some(false),
        duration: None,
        gap_to_leader: None,
        points,
        id: None,
    })
}

/// The official classification as documents.
pub(crate) fn session_result() -> Vec<Sample> {
    classification().into_iter().map(|(car, place, points, laps)| result(car, place, Some(points), laps)).collect()
}

/// Antonelli's two penalties as race control announces them, in the minutes after `last`; neither was served.
pub(crate) fn penalties(last: Micros) -> Vec<Sample> {
    let penalties = [
        "10 SECOND TIME PENALTY FOR CAR 12 (ANT) - CAUSING A COLLISION",
        "5 SECOND TIME PENALTY FOR CAR 12 (ANT) - SPEEDING IN THE PIT LANE",
    ];
    let document = |(minute, penalty): (i64, &str)| {
        Sample::from(RaceControl {
            meeting_key: MEETING,
            session_key: SESSION,
            date: last.plus(minute * 60_000_000),
            driver_number: None,
            lap_number: Some(72),
            category: Some("Other".into()),
            flag: None,
            scope: None,
            sector: None,
            qualifying_phase: None,
            message: Some(format!("FIA STEWARDS: {penalty}")),
            id: None,
        })
    };
    (1..).zip(penalties).map(document).collect()
}
