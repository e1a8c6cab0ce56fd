//! Where a run differs from what others say of the same session: the official classification as f1db keeps it, or tables of laps as
//! OpenF1's or `FastF1`'s users made them.
//!
//! Only what both sides know is compared. The official order is compared as it was on the road: a time penalty is taken off the
//! finishing time first, because no timing feed knows it, and a car that was disqualified afterwards is taken out of both orders, so that
//! those behind it are not held to a place that they moved up from.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use pitwall_engine::facts::Kind;
use pitwall_schemas::facts::{FactBody, Lap, Stint};
use pitwall_schemas::shared::Compound;
use serde::Serialize;
use serde_json::Value;

use crate::compare::fact_id;
use crate::facts::{FactReader, FactsError, keep};
use crate::run::Run;

/// Largest oracle file read, bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Why an oracle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OracleError {
    /// It cannot be read.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is none of the known shapes.
    #[error(
        "{path}: no known oracle: {reason}; f1db's JSON of a race, a CSV with driver_number, lap_number and lap_duration, or FastF1's JSON of lap_times are"
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// What somebody else says of a session.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Oracle {
    /// Cars in the order in which they finished on the road, without those disqualified, which have no place.
    order: Vec<i32>,
    /// Laps completed, by car.
    laps_completed: BTreeMap<i32, i64>,
    /// Laps with a pit stop, by car.
    pit_stops: Option<BTreeMap<i32, Vec<i64>>>,
    /// Fastest lap, by car: its number and time, ms.
    fastest_laps: BTreeMap<i32, (i64, i64)>,
    /// Single laps.
    laps: BTreeMap<(i32, i32), OracleLap>,
}

/// One lap as an oracle tells it; `None` for what it does not know.
#[derive(Debug, Clone, Default, PartialEq)]
struct OracleLap {
    lap_ms: Option<i64>,
    sectors_ms: [Option<i64>; 3],
    stint_number: Option<i64>,
    compound: Option<String>,
}

impl Oracle {
    /// Reads an oracle file, plain or compressed with zstd (`.zst`); its shape is found by its content.
    ///
    /// # Errors
    /// When it cannot be read or is of no known shape.
    pub fn open(path: &Path) -> Result<Self, OracleError> {
        let text = read_text(path).map_err(|source| OracleError::File { path: path.to_owned(), source })?;
        let read = match serde_json::from_str::<Value>(&text) {
            Ok(value) if value.get("classification").is_some() => official(&value),
            Ok(value) if value.get("lap_times").is_some() => fastf1(&value),
            Ok(_) => None,
            Err(_) => openf1_laps(&text),
        };
        read.ok_or_else(|| OracleError::Shape { path: path.to_owned(), reason: "what it holds is something else".to_owned() })
    }
}

fn read_text(path: &Path) -> std::io::Result<String> {
    let file = fs::File::open(path)?;
    let mut text = String::new();
    if path.extension().is_some_and(|extension| extension == "zst") {
        zstd::Decoder::new(file)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    } else {
        file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    }
    Ok(text)
}

/// f1db's classification, pit stops and fastest laps of one race.
fn official(value: &Value) -> Option<Oracle> {
    let mut oracle = Oracle::default();
    let mut finishers = Vec::new();
    for (place, line) in value.get("classification")?.as_array()?.iter().enumerate() {
        let driver_number = driver_number(line)?;
        let laps = line.get("laps").and_then(Value::as_i64).unwrap_or(0);
        let penalty = line.get("timePenalty").and_then(clock_ms).unwrap_or(0);
        let time = line.get("time").and_then(clock_ms).map_or(i64::MAX, |time| time - penalty);
        if line.get("position").and_then(Value::as_str) != Some("DSQ") {
            finishers.push((-laps, time, place, driver_number));
        }
        oracle.laps_completed.insert(driver_number, laps);
    }
    finishers.sort_unstable();
    oracle.order = finishers.into_iter().map(|(_, _, _, driver_number)| driver_number).collect();
    if let Some(lines) = value.get("pit_stops").and_then(Value::as_array) {
        let mut stops: BTreeMap<i32, Vec<i64>> = oracle.laps_completed.keys().map(|&driver_number| (driver_number, Vec::new())).collect();
        for line in lines {
            stops.entry(driver_number(line)?).or_default().push(line.get("lap")?.as_i64()?);
        }
        stops.values_mut().for_each(|laps| laps.sort_unstable());
        oracle.pit_stops = Some(stops);
    }
    for line in value.get("fastest_laps").and_then(Value::as_array).into_iter().flatten() {
        oracle.fastest_laps.insert(driver_number(line)?, (line.get("lap")?.as_i64()?, clock_ms(line.get("time")?)?));
    }
    Some(oracle)
}

fn driver_number(line: &Value) -> Option<i32> {
    let number = line.get("driverNumber")?;
    number.as_i64().and_then(|number| i32::try_from(number).ok()).or_else(|| number.as_str()?.parse().ok())
}

/// `H:MM:SS.mmm`, `M:SS.mmm` or `SS.mmm` in ms.
fn clock_ms(value: &Value) -> Option<i64> {
    let text = value.as_str()?;
    let mut ms = 0;
    for (place, part) in text.rsplit(':').enumerate() {
        ms += match place {
            0 => seconds_ms(part.parse().ok()?),
            1 => part.parse::<i64>().ok()? * 60_000,
            2 => part.parse::<i64>().ok()? * 3_600_000,
            _ => return None,
        };
    }
    Some(ms)
}

fn seconds_ms(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}

/// `FastF1`'s laps: `lap_times` and `info`, each by car and lap.
fn fastf1(value: &Value) -> Option<Oracle> {
    let mut oracle = Oracle::default();
    for (driver, laps) in value.get("lap_times")?.as_object()? {
        let driver_number: i32 = driver.parse().ok()?;
        let info = |field: &str, lap: &str| value.get("info")?.get(driver)?.get(field)?.get(lap).cloned();
        let ms = |value: Option<Value>| value?.as_f64().map(seconds_ms);
        for (lap, time) in laps.as_object()? {
            let told = OracleLap {
                lap_ms: ms(Some(time.clone())),
                sectors_ms: ["s1", "s2", "s3"].map(|field| ms(info(field, lap))),
                stint_number: info("stint", lap).and_then(|stint| stint.as_f64()).map(|stint| stint as i64),
                compound: info("compound", lap).and_then(|compound| compound.as_str().map(str::to_owned)),
            };
            oracle.laps.insert((driver_number, lap.parse().ok()?), told);
        }
    }
    Some(oracle)
}

/// A table of laps with OpenF1's column names.
fn openf1_laps(text: &str) -> Option<Oracle> {
    let mut lines = text.lines();
    let header = fields(lines.next()?);
    let column = |name: &str| header.iter().position(|field| field == name);
    let (driver, lap, duration) = (column("driver_number")?, column("lap_number")?, column("lap_duration")?);
    let sectors = ["duration_sector_1", "duration_sector_2", "duration_sector_3"].map(column);
    let (stint, compound) = (column("stint_number"), column("compound"));
    let mut oracle = Oracle::default();
    for line in lines.filter(|line| !line.is_empty()) {
        let values = fields(line);
        let number = |column: Option<usize>| values.get(column?)?.parse::<f64>().ok();
        let told = OracleLap {
            lap_ms: number(Some(duration)).map(seconds_ms),
            sectors_ms: sectors.map(|column| number(column).map(seconds_ms)),
            stint_number: number(stint).map(|stint| stint as i64),
            compound: compound.and_then(|column| values.get(column)).filter(|compound| !compound.is_empty()).cloned(),
        };
        oracle.laps.insert((number(Some(driver))? as i32, number(Some(lap))? as i32), told);
    }
    Some(oracle)
}

/// The fields of one CSV line; quotes may enclose commas and, doubled, quotes.
fn fields(line: &str) -> Vec<String> {
    let (mut fields, mut field, mut is_quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if is_quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => fields.push(std::mem::take(&mut field)),
            _ => field.push(character),
        }
    }
    fields.push(field);
    fields
}

/// How one aspect of a run compares with an oracle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Aspect {
    /// What is compared.
    pub aspect: &'static str,
    /// Statements of the oracle that the run was held against.
    pub compared: u64,
    /// Statements that differ.
    pub different: u64,
    /// The first of those.
    pub first: Vec<Mismatch>,
}

/// One statement on which run and oracle differ.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mismatch {
    /// What it is about.
    pub subject: String,
    /// What the run says; null when nothing.
    pub run: Value,
    /// What the oracle says.
    pub oracle: Value,
    /// The fact that says so.
    pub fact_id: Option<String>,
}

/// What a run says last of each thing an oracle knows.
#[derive(Debug, Default)]
struct Tables {
    positions: BTreeMap<i32, (i32, String)>,
    laps: BTreeMap<(i32, i32), (Lap, String)>,
    stints: BTreeMap<(i32, i32), (Stint, String)>,
}

impl Tables {
    fn read(run: &Run, kinds: &[Kind]) -> Result<Self, FactsError> {
        let mut tables = Self::default();
        let has = |name: &str| run.manifest().kinds.iter().any(|kind| kind.kind == name);
        for kind in kinds.iter().filter(|kind| ["laps", "stints", "positions"].contains(&kind.name) && has(kind.name)) {
            let mut facts = FactReader::open(&run.facts_folder(), *kind)?;
            while let Some(fact) = facts.next() {
                let (_, header, body) = fact?;
                let id = fact_id(&header);
                match body {
                    FactBody::Laps(lap) => keep(&mut tables.laps, (lap.driver_number, lap.lap_number), (lap, id), &header),
                    FactBody::Stints(stint) => keep(&mut tables.stints, (stint.driver_number, stint.stint_number), (stint, id), &header),
                    FactBody::Positions(place) => keep(&mut tables.positions, place.driver_number, (place.position, id), &header),
                    _ => {}
                }
            }
        }
        Ok(tables)
    }

    fn laps_of(&self, driver_number: i32) -> impl Iterator<Item = &(Lap, String)> {
        self.laps.range((driver_number, i32::MIN)..=(driver_number, i32::MAX)).map(|(_, lap)| lap)
    }

    fn stints_of(&self, driver_number: i32) -> impl Iterator<Item = &(Stint, String)> {
        self.stints.range((driver_number, i32::MIN)..=(driver_number, i32::MAX)).map(|(_, stint)| stint)
    }

    fn stint_at(&self, driver_number: i32, lap_number: i32) -> Option<&(Stint, String)> {
        self.stints_of(driver_number).filter(|(stint, _)| stint.lap_start.is_some_and(|start| start <= lap_number)).last()
    }
}

/// Collects the comparison of one aspect.
struct Tally {
    aspect: Aspect,
    first: usize,
}

impl Tally {
    const fn new(aspect: &'static str, first: usize) -> Self {
        Self { aspect: Aspect { aspect, compared: 0, different: 0, first: Vec::new() }, first }
    }

    fn hold(&mut self, subject: impl FnOnce() -> String, oracle: Value, run: Option<(Value, &str)>) {
        self.aspect.compared += 1;
        let (said, fact_id) = run.map_or((Value::Null, None), |(value, id)| (value, Some(id.to_owned())));
        if said != oracle {
            self.aspect.different += 1;
            if self.aspect.first.len() < self.first {
                self.aspect.first.push(Mismatch { subject: subject(), run: said, oracle, fact_id });
            }
        }
    }
}

/// Holds a run's facts against an oracle, telling the first `first` differences of each aspect.
///
/// # Errors
/// When a fact file cannot be read.
pub fn compare(run: &Run, kinds: &[Kind], oracle: &Oracle, first: usize) -> Result<Vec<Aspect>, FactsError> {
    let tables = Tables::read(run, kinds)?;
    let aspects = if oracle.laps.is_empty() { against_result(&tables, oracle, first) } else { against_laps(&tables, oracle, first) };
    Ok(aspects.into_iter().map(|tally| tally.aspect).filter(|aspect| aspect.compared > 0).collect())
}

fn against_result(tables: &Tables, oracle: &Oracle, first: usize) -> Vec<Tally> {
    let car = |driver_number: i32| move || format!("car {driver_number}");
    let mut order = Tally::new("order", first);
    let places: BTreeMap<i32, i32> = oracle.order.iter().filter_map(|car| Some((tables.positions.get(car)?.0, *car))).collect();
    let ranks: BTreeMap<i32, usize> = places.into_values().zip(1..).collect();
    for (place, &driver_number) in oracle.order.iter().enumerate() {
        let said = ranks.get(&driver_number).zip(tables.positions.get(&driver_number)).map(|(rank, (_, id))| ((*rank).into(), id.as_str()));
        order.hold(car(driver_number), (place + 1).into(), said);
    }
    let mut laps = Tally::new("laps completed", first);
    for (&driver_number, &completed) in &oracle.laps_completed {
        let last = tables.laps_of(driver_number).filter(|(lap, _)| lap.is_complete).last();
        laps.hold(car(driver_number), completed.into(), last.map(|(lap, id)| (lap.lap_number.into(), id.as_str())));
    }
    let mut stops = Tally::new("pit stops (last laps of stints)", first);
    for (&driver_number, official) in oracle.pit_stops.iter().flatten() {
        let stints: Vec<_> = tables.stints_of(driver_number).collect();
        let ends: Vec<i32> = stints.iter().take(stints.len().saturating_sub(1)).filter_map(|(stint, _)| stint.lap_end).collect();
        let id = stints.last().map(|(_, id)| id.as_str());
        stops.hold(car(driver_number), official.clone().into(), id.map(|id| (ends.into(), id)));
    }
    let mut fastest = Tally::new("fastest laps [lap, ms]", first);
    for (&driver_number, &(lap_number, lap_ms)) in &oracle.fastest_laps {
        let best = tables.laps_of(driver_number).filter_map(|(lap, id)| Some((lap.lap_ms?, lap.lap_number, id))).min();
        let said = best.map(|(ms, number, id)| (vec![number, ms].into(), id.as_str()));
        fastest.hold(car(driver_number), vec![lap_number, lap_ms].into(), said);
    }
    vec![order, laps, stops, fastest]
}

fn against_laps(tables: &Tables, oracle: &Oracle, first: usize) -> Vec<Tally> {
    let mut times = Tally::new("lap times, ms", first);
    let mut sectors = ["sector 1, ms", "sector 2, ms", "sector 3, ms"].map(|aspect| Tally::new(aspect, first));
    let mut stints = Tally::new("stint numbers", first);
    let mut compounds = Tally::new("compounds", first);
    for (&(driver_number, lap_number), told) in &oracle.laps {
        let subject = || format!("car {driver_number} lap {lap_number}");
        let lap = tables.laps.get(&(driver_number, lap_number));
        let said = |of: fn(&Lap) -> Option<i32>| lap.map(|(lap, id)| (of(lap).into(), id.as_str()));
        if let Some(lap_ms) = told.lap_ms {
            times.hold(subject, lap_ms.into(), said(|lap| lap.lap_ms));
        }
        let parts: [fn(&Lap) -> Option<i32>; 3] = [|lap| lap.sector_1_ms, |lap| lap.sector_2_ms, |lap| lap.sector_3_ms];
        for ((tally, sector_ms), of) in sectors.iter_mut().zip(told.sectors_ms).zip(parts) {
            if let Some(sector_ms) = sector_ms {
                tally.hold(subject, sector_ms.into(), said(of));
            }
        }
        let stint = tables.stint_at(driver_number, lap_number);
        if let Some(stint_number) = told.stint_number {
            stints.hold(subject, stint_number.into(), stint.map(|(stint, id)| (stint.stint_number.into(), id.as_str())));
        }
        if let Some(compound) = &told.compound {
            let said = stint.map(|(stint, id)| (Compound::symbol(stint.compound).into(), id.as_str()));
            compounds.hold(subject, compound.as_str().into(), said);
        }
    }
    let mut aspects = vec![times];
    aspects.extend(sectors);
    aspects.extend([stints, compounds]);
    aspects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_order_is_that_on_the_road_before_time_penalties() {
        let value = serde_json::json!({"classification": [
            {"driverNumber": 1, "laps": 72, "time": "1:38:31.000", "timePenalty": null},
            {"driverNumber": 12, "laps": 72, "time": "1:38:41.000", "timePenalty": "15.000"},
            {"driverNumber": "4", "laps": 64, "time": null, "timePenalty": null},
        ]});
        assert_eq!(official(&value).unwrap().order, [12, 1, 4]);
    }

    #[test]
    fn a_disqualified_car_has_no_place_and_those_behind_keep_their_order() {
        let value = serde_json::json!({"classification": [
            {"position": 1, "driverNumber": 1, "laps": 56, "time": "1:38:31.000"},
            {"position": 2, "driverNumber": 4, "laps": 56, "time": "1:38:41.000"},
            {"position": 3, "driverNumber": 81, "laps": 56, "time": "1:38:51.000"},
            {"position": "DSQ", "driverNumber": 16, "laps": 56, "time": null},
            {"position": "DSQ", "driverNumber": 44, "laps": 56, "time": null},
        ]});
        let oracle = official(&value).unwrap();
        let positions = [(1, 1), (16, 2), (4, 3), (44, 4), (81, 5)];
        let positions = positions.into_iter().map(|(car, place)| (car, (place, format!("fact of {car}")))).collect();
        let tables = Tables { positions, ..Tables::default() };
        let order = against_result(&tables, &oracle, 3).remove(0).aspect;
        assert_eq!((order.aspect, order.compared, order.different), ("order", 3, 0));
    }

    #[test]
    fn a_csv_field_may_hold_commas_and_quotes() {
        assert_eq!(fields(r#"1,"a, ""b""",,2"#), ["1", r#"a, "b""#, "", "2"]);
    }

    #[test]
    fn lap_times_are_whole_milliseconds() {
        assert_eq!(clock_ms(&"1:12.271".into()), Some(72_271));
        assert_eq!(clock_ms(&"1:38:29.849".into()), Some(5_909_849));
        assert_eq!(clock_ms(&"17.561".into()), Some(17_561));
    }
}
