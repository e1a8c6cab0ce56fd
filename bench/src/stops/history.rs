//! Lap histories and the official lists of passes through the pit lane, and what was true by them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use flate2::read::GzDecoder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use parquet::schema::types::Type;
use pitwall_engine::Micros;

/// Fewest cars of a race whose history is not torn.
const CARS_MIN: usize = 10;

/// Longest time in the pit lane of a pass that is not part of a stopped race, s.
const LANE_MAX: f64 = 180.0;

/// By how much a pass in which no tyres can be changed is shorter than a race's usual stop, s: a car stands for 1.8 s at the least, brakes
/// and pulls away. Of the passes between two compounds none is, but for one of the feed's errors.
const STANDING_MIN: f64 = 3.0;

/// Least difference between the age that the set before has reached and the age of the set after by which the two are different sets, laps.
const AGES_APART: i32 = 3;

/// One race of the history.
#[derive(Debug, Default)]
pub(crate) struct Race {
    pub(crate) season: i64,
    pub(crate) name: String,
    pub(crate) meeting_starts_at: Micros,
    pub(crate) session_key: i32,
    pub(crate) cars: BTreeMap<i32, Car>,
    /// Whether the feed's stints begin with the lap into the pit lane: the boxes lie before the line.
    pub(crate) begins_with_the_in_lap: bool,
    /// What a stop usually takes in the lane, s.
    stop_seconds: Option<f64>,
}

/// What the history knows of one car in one race.
#[derive(Debug, Default)]
pub(crate) struct Car {
    /// Timed laps by number.
    pub(crate) laps: BTreeMap<i32, Lap>,
    /// By the feed's number.
    pub(crate) stints: BTreeMap<i32, Stint>,
    /// Official passes by the lap that they end.
    pub(crate) passes: BTreeMap<i32, Pass>,
    /// The stint that begins with a pass, by the lap that the pass ends.
    pub(crate) stints_after: BTreeMap<i32, i32>,
}

#[derive(Debug, Clone)]
pub(crate) struct Lap {
    pub(crate) seconds: f64,
    pub(crate) sectors: [Option<f64>; 3],
    pub(crate) is_pit_out_lap: bool,
    pub(crate) stint_number: i32,
}

#[derive(Debug, Clone)]
pub(crate) struct Stint {
    pub(crate) compound: String,
    pub(crate) first: i32,
    pub(crate) last: i32,
    pub(crate) age_at_start: i32,
}

/// A pass through the pit lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pass {
    pub(crate) lane_seconds: f64,
    /// Whether f1db has it among the stops. Ergast has every visit.
    pub(crate) is_listed_stop: bool,
}

/// What a pass was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    /// The car got another set of tyres.
    Stop,
    /// It went on with the same set.
    Pass,
    /// Nothing that can be compared, and why.
    LeftOut(&'static str),
}

impl Race {
    /// What the pass that ended lap `in_lap` was, by its time in the lane, the stints around it and the official lists.
    pub(crate) fn truth(&self, car: &Car, in_lap: i32) -> Truth {
        let Some(pass) = car.passes.get(&in_lap) else { return Truth::LeftOut("no official pass") };
        if pass.lane_seconds > LANE_MAX {
            return Truth::LeftOut("the race was stopped");
        }
        if self.stop_seconds.is_some_and(|stop_seconds| pass.lane_seconds < stop_seconds - STANDING_MIN) {
            return Truth::Pass;
        }
        let Some(number) = car.stints_after.get(&in_lap) else {
            return if pass.is_listed_stop { Truth::Stop } else { Truth::LeftOut("neither list nor stints tell") };
        };
        let after = &car.stints[number];
        let Some((_, before)) = car.stints.range(..number).next_back() else {
            return Truth::LeftOut("the set before is not in the history");
        };
        let reached = before.age_at_start + after.first - before.first;
        let apart = (after.age_at_start - reached).abs();
        match (pass.is_listed_stop, before.compound == after.compound) {
            (_, false) => Truth::Stop,
            (false, true) => Truth::Pass,
            (true, true) if after.age_at_start == 0 || apart >= AGES_APART => Truth::Stop,
            (true, true) if apart == 0 => Truth::Pass,
            (true, true) => Truth::LeftOut("the ages of the sets contradict each other"),
        }
    }

    /// The compounds that a car can have had at the end of a lap; `None` when the history does not tell.
    pub(crate) fn compounds<'a>(&self, car: &'a Car, lap_number: i32) -> Option<BTreeSet<&'a str>> {
        let stint_number = car.laps.get(&lap_number)?.stint_number;
        let stint = car.stints.get(&stint_number)?;
        let is_first = car.stints.keys().next() == Some(&stint_number);
        let begins_with_a_pass = car.stints_after.values().any(|number| *number == stint_number);
        let mut passes = car.passes.range(stint.first..lap_number.max(stint.first));
        let is_lost = passes.any(|(in_lap, pass)| pass.is_listed_stop && !car.stints_after.contains_key(in_lap));
        if !is_first && !begins_with_a_pass || is_lost {
            return None;
        }
        let mut compounds = BTreeSet::from([stint.compound.as_str()]);
        if car.passes.contains_key(&lap_number) && self.begins_with_the_in_lap {
            // The car crosses the line behind its box: the set before and the one after are both right.
            let after = *car.stints_after.get(&lap_number)?;
            let (_, before) = car.stints.range(..after).next_back()?;
            compounds.extend([before.compound.as_str(), car.stints[&after].compound.as_str()]);
        }
        Some(compounds)
    }

    /// Finds what concerns the whole race: where the feed's stints begin, which pass each follows, how long a stop takes.
    fn settle(&mut self) {
        let mut balance = 0;
        for car in self.cars.values() {
            let first_laps: BTreeSet<i32> = car.stints.values().skip(1).map(|stint| stint.first).collect();
            for in_lap in car.passes.keys() {
                balance += i32::from(first_laps.contains(in_lap)) - i32::from(first_laps.contains(&(in_lap + 1)));
            }
        }
        self.begins_with_the_in_lap = balance > 0;
        for car in self.cars.values_mut() {
            car.match_stints(self.begins_with_the_in_lap);
        }
        let changes = self.cars.values().flat_map(Car::changes_of_compound).collect();
        let listed =
            self.cars.values().flat_map(|car| car.passes.values()).filter(|pass| pass.is_listed_stop && pass.lane_seconds <= LANE_MAX);
        self.stop_seconds = median(changes).or_else(|| median(listed.map(|pass| pass.lane_seconds).collect()));
    }
}

impl Car {
    /// Matches the passes in order to the stints that begin on their lap or the lap after.
    fn match_stints(&mut self, begins_with_the_in_lap: bool) {
        // A first stint with a later number follows a pass on lap 1, before which nothing is known.
        let mut last = self.stints.keys().next().copied().filter(|first| *first == 1).unwrap_or(0);
        for in_lap in self.passes.keys().copied() {
            let begins_on = |lap: i32| self.stints.range(last + 1..).find(|(_, stint)| stint.first == lap).map(|(number, _)| *number);
            let (usual, other) = if begins_with_the_in_lap { (in_lap, in_lap + 1) } else { (in_lap + 1, in_lap) };
            let is_of_another = self.passes.contains_key(&(in_lap + other - usual));
            if let Some(number) = begins_on(usual).or_else(|| begins_on(other).filter(|_| !is_of_another)) {
                self.stints_after.insert(in_lap, number);
                last = number;
            }
        }
    }

    /// Times in the lane of the passes between two compounds.
    fn changes_of_compound(&self) -> Vec<f64> {
        let of = |number: &i32| Some((self.stints.range(..number).next_back()?.1, self.stints.get(number)?));
        let changes =
            self.stints_after.iter().filter(|(_, number)| of(number).is_some_and(|(before, after)| before.compound != after.compound));
        changes.map(|(in_lap, _)| self.passes[in_lap].lane_seconds).filter(|seconds| *seconds <= LANE_MAX).collect()
    }
}

/// The median of at least five times.
fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    (times.len() >= 5).then(|| times[times.len() / 2])
}

/// Every race of the history that is whole, in order of time, and the names of those that are not.
pub(crate) fn read(laps: &Path, f1db: &Path, ergast: &Path) -> Result<(Vec<Race>, Vec<String>)> {
    let races = read_laps(laps)?;
    let ergast = Ergast::read(ergast)?;
    let (mut whole, mut torn) = (Vec::new(), Vec::new());
    for mut race in races {
        let folder = folder_of(&race, f1db)?;
        let is_torn = race.cars.len() < CARS_MIN || race.cars.values().all(|car| car.laps.keys().next() > Some(&2));
        if is_torn {
            torn.push(format!("{} {}", race.season, race.name));
            continue;
        }
        let round = folder.file_name().and_then(|name| name.to_str()?.split_once('-')?.0.parse::<i64>().ok()).context("a round")?;
        read_stops(&folder.join("pit-stops.yml"), &mut race)?;
        ergast.add(race.season, round, &mut race);
        race.settle();
        whole.push(race);
    }
    whole.sort_by_key(|race| race.meeting_starts_at);
    Ok((whole, torn))
}

fn read_laps(path: &Path) -> Result<Vec<Race>> {
    const COLUMNS: [&str; 15] = [
        "season",
        "meeting_name",
        "meeting_date_start",
        "session_key",
        "driver_number",
        "lap_number",
        "lap_duration",
        "duration_sector_1",
        "duration_sector_2",
        "duration_sector_3",
        "is_pit_out_lap",
        "stint_number",
        "compound",
        "stint_lap_start",
        "stint_lap_end",
    ];
    let reader = SerializedFileReader::new(File::open(path).with_context(|| path.display().to_string())?)?;
    let schema = reader.metadata().file_metadata().schema();
    let wanted = |name: &str| COLUMNS.contains(&name) || name == "tyre_age_at_start";
    let fields: Vec<_> = schema.get_fields().iter().filter(|field| wanted(field.name())).cloned().collect();
    let places: BTreeMap<String, usize> = fields.iter().enumerate().map(|(place, field)| (field.name().to_owned(), place)).collect();
    let projection = Type::group_type_builder(schema.name()).with_fields(fields).build()?;
    let at = |name: &str| places.get(name).copied().with_context(|| format!("{} has no column {name}", path.display()));
    let mut races: BTreeMap<i32, Race> = BTreeMap::new();
    for row in reader.get_row_iter(Some(projection))? {
        let row = row?;
        let long = |name: &str| Ok::<_, anyhow::Error>(row.get_long(at(name)?)?);
        let double = |name: &str| {
            let place = at(name)?;
            Ok::<_, anyhow::Error>(if row.is_null(place)? { None } else { Some(row.get_double(place)?) })
        };
        let known = |name: &str| double(name)?.with_context(|| format!("a lap without {name}"));
        let text = |name: &str| Ok::<_, anyhow::Error>(row.get_string(at(name)?)?.clone());
        let session_key = long("session_key")? as i32;
        let race = races.entry(session_key).or_default();
        (race.season, race.name, race.session_key) = (long("season")?, text("meeting_name")?, session_key);
        race.meeting_starts_at = text("meeting_date_start")?.parse()?;
        let car = race.cars.entry(long("driver_number")? as i32).or_default();
        let stint_number = long("stint_number")? as i32;
        let lap = Lap {
            seconds: known("lap_duration")?,
            sectors: [double("duration_sector_1")?, double("duration_sector_2")?, double("duration_sector_3")?],
            is_pit_out_lap: row.get_bool(at("is_pit_out_lap")?)?,
            stint_number,
        };
        let stint = Stint {
            compound: text("compound")?,
            first: known("stint_lap_start")? as i32,
            last: known("stint_lap_end")? as i32,
            age_at_start: long("tyre_age_at_start")? as i32,
        };
        car.laps.insert(long("lap_number")? as i32, lap);
        car.stints.insert(stint_number, stint);
    }
    Ok(races.into_values().collect())
}

/// f1db's folder of a race: the one whose day is within four days of the meeting's start.
fn folder_of(race: &Race, f1db: &Path) -> Result<PathBuf> {
    let races = f1db.join(format!("src/data/seasons/{}/races", race.season));
    for folder in std::fs::read_dir(&races).with_context(|| races.display().to_string())? {
        let folder = folder?.path();
        let date =
            entries(&folder.join("race.yml"))?.into_iter().find_map(|mut entry| entry.remove("date")).context("a race has a date")?;
        let day: Micros = format!("{date}T23:59:59+00:00").parse()?;
        if (0..4 * 86_400 * Micros::SECOND).contains(&day.since(race.meeting_starts_at)) {
            return Ok(folder);
        }
    }
    anyhow::bail!("{} has no race of {} {}", races.display(), race.season, race.name)
}

/// The entries of one of f1db's files: a flat list, or one entry, with one `key: value` a line.
fn entries(path: &Path) -> Result<Vec<BTreeMap<String, String>>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut entries = vec![BTreeMap::new()];
    for line in text.lines() {
        let line = line.strip_prefix("- ").inspect(|_| entries.push(BTreeMap::new())).unwrap_or(line);
        if let Some((key, value)) = line.trim().split_once(": ") {
            let entry = entries.last_mut().context("never empty")?;
            entry.insert(key.to_owned(), value.trim_matches('"').to_owned());
        }
    }
    Ok(entries)
}

fn read_stops(path: &Path, race: &mut Race) -> Result<()> {
    for entry in entries(path)?.iter().filter(|entry| entry.contains_key("stop")) {
        let get = |key: &str| entry.get(key).with_context(|| format!("{}: {key}", path.display()));
        if let Some(car) = race.cars.get_mut(&get("driverNumber")?.parse()?) {
            let lane_seconds = seconds(get("time")?)?;
            car.passes.insert(get("lap")?.parse()?, Pass { lane_seconds, is_listed_stop: true });
        }
    }
    Ok(())
}

/// A duration such as `23.419` or `39:32.670`.
fn seconds(text: &str) -> Result<f64> {
    text.split(':').try_fold(0.0, |sum, part| Ok(sum * 60.0 + part.parse::<f64>()?))
}

/// Ergast's list of every visit to the pit lane.
struct Ergast {
    /// Numbers of races by season and round.
    races: BTreeMap<(i64, i64), i64>,
    /// Car numbers by race and driver.
    cars: BTreeMap<(i64, i64), i32>,
    /// Race, driver, lap and time in the lane, s.
    visits: Vec<(i64, i64, i32, f64)>,
}

impl Ergast {
    fn read(folder: &Path) -> Result<Self> {
        let mut ergast = Self { races: BTreeMap::new(), cars: BTreeMap::new(), visits: Vec::new() };
        each_row(&folder.join("races.csv.gz"), |row| {
            ergast.races.insert((row[1].parse()?, row[2].parse()?), row[0].parse()?);
            Ok(())
        })?;
        each_row(&folder.join("results.csv.gz"), |row| {
            if let Ok(number) = row[4].parse() {
                ergast.cars.insert((row[1].parse()?, row[2].parse()?), number);
            }
            Ok(())
        })?;
        each_row(&folder.join("pit_stops.csv.gz"), |row| {
            ergast.visits.push((row[0].parse()?, row[1].parse()?, row[3].parse()?, row[6].parse::<f64>()? / 1_000.0));
            Ok(())
        })?;
        Ok(ergast)
    }

    /// Adds the visits that f1db has not among its stops. One that f1db has a lap earlier or later is the same.
    fn add(&self, season: i64, round: i64, race: &mut Race) {
        let Some(race_number) = self.races.get(&(season, round)) else { return };
        let of_race: Vec<_> = self.visits.iter().filter(|visit| visit.0 == *race_number).collect();
        for (_, driver, in_lap, lane_seconds) in of_race {
            let Some(car) = self.cars.get(&(*race_number, *driver)).and_then(|number| race.cars.get_mut(number)) else { continue };
            let same = |pass: &Pass| (pass.lane_seconds - lane_seconds).abs() < 0.001;
            if !car.passes.range(in_lap - 1..=in_lap + 1).any(|(lap, pass)| lap == in_lap || same(pass)) {
                car.passes.insert(*in_lap, Pass { lane_seconds: *lane_seconds, is_listed_stop: false });
            }
        }
    }
}

/// The rows of a file whose first fields have no quotes.
fn each_row(path: &Path, mut take: impl FnMut(&[&str]) -> Result<()>) -> Result<()> {
    let mut text = String::new();
    let file = File::open(path).with_context(|| path.display().to_string())?;
    GzDecoder::new(BufReader::new(file)).read_to_string(&mut text)?;
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        take(&fields).with_context(|| format!("{}: {line}", path.display()))?;
    }
    Ok(())
}
