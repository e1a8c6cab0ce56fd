//! The documents of a race of the history, as a feed would have sent them.
//!
//! Times follow real streams: a lap's first document and the newest stint's next version come 0.4 s after the line, a lap's time 0.6 s. A
//! new stint comes within 5 s after the car is out of the pit lane, as the feed polls every 5 s (Mexico 2025), and the stint before is
//! then cut (Abu Dhabi 2025); where the feed counts it from the lap into the pit lane, up to 5.5 s before the line. One new stint in nine
//! is of an unknown compound for 5 s (Mexico 2025: 3 of 31). Nothing is sent before its lap.

use std::collections::BTreeMap;

use anyhow::Result;
use pitwall_engine::Micros;
use pitwall_schemas::raw::{Collection, Sample};
use serde_json::{Value, json};

use super::history::{Car, Race, Stint};

/// How a feed sends new stints.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) seed: u64,
    /// Whether new stints come up to one lap later than they usually do.
    pub(crate) is_late: bool,
}

/// A race's documents in order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    pub(crate) documents: Vec<(Micros, Sample)>,
    /// When the first document of a car's stint came that told its compound.
    pub(crate) told_at: BTreeMap<(i32, i32), Micros>,
}

/// From the entry of the pit lane to the line, and from the line to the exit where the boxes lie before it, s.
const ENTRY_TO_LINE: f64 = 4.0;
const LINE_TO_EXIT: f64 = 3.0;

/// A lap's time when nobody's is known, s.
const LAP: f64 = 90.0;

impl Feed {
    pub(crate) fn of(race: &Race, manner: Manner) -> Result<Self> {
        let usual = usual_times(race);
        let mut writer = Writer {
            race,
            start: race.meeting_starts_at.plus(2 * 86_400 * Micros::SECOND),
            manner,
            random: Random(manner.seed ^ race.session_key as u64),
            usual_lap: median(usual.values().copied().collect()),
            usual,
            feed: Self::default(),
        };
        writer.opening()?;
        for (driver_number, car) in &race.cars {
            writer.car(*driver_number, car)?;
        }
        let mut feed = writer.feed;
        feed.documents.sort_by_key(|(at, _)| *at);
        Ok(feed)
    }
}

struct Writer<'a> {
    race: &'a Race,
    start: Micros,
    manner: Manner,
    random: Random,
    /// The field's median time of each lap, s.
    usual: BTreeMap<i32, f64>,
    /// The median of those, s.
    usual_lap: f64,
    feed: Feed,
}

/// When a stint becomes known, s after the start.
struct Arrival<'a> {
    number: i32,
    stint: &'a Stint,
    at: f64,
}

impl Writer<'_> {
    /// A document that arrives `at` seconds after the start.
    fn send(&mut self, at: f64, collection: Collection, mut document: Value) -> Result<()> {
        let at = self.at(at);
        document["session_key"] = json!(self.race.session_key);
        document["meeting_key"] = json!(1);
        let Value::Object(document) = document else { anyhow::bail!("a document is an object") };
        let sample = Sample::from_json(collection, &document).map_err(|refusal| anyhow::anyhow!("{refusal:?}"))?;
        self.feed.documents.push((at, sample));
        Ok(())
    }

    fn at(&self, seconds: f64) -> Micros {
        self.start.plus((seconds * 1e6) as i64)
    }

    fn opening(&mut self) -> Result<()> {
        let (begin, end) = (self.at(0.0).to_string(), self.at(7_200.0).to_string());
        let session = json!({"session_name": "Race", "session_type": "Race", "date_start": begin, "date_end": end});
        self.send(-600.0, Collection::Sessions, session)?;
        let started = json!({"date": begin, "category": "SessionStatus", "lap_number": 1, "message": "SESSION STARTED"});
        self.send(0.2, Collection::RaceControl, started)
    }

    fn car(&mut self, driver_number: i32, car: &Car) -> Result<()> {
        let last_lap = car.laps.keys().chain(car.passes.keys()).max().copied().unwrap_or(0);
        let mut begins = BTreeMap::from([(1, 0.0)]);
        for number in 1..=last_lap + 1 {
            begins.insert(number + 1, begins[&number] + self.lap_time(car, number));
        }
        let exits: BTreeMap<i32, f64> = car.passes.keys().map(|in_lap| (*in_lap, self.exit(car, *in_lap, &begins))).collect();
        let arrivals = self.arrivals(car, &begins, &exits);
        self.laps(driver_number, car, &begins, &exits)?;
        for (in_lap, exit) in &exits {
            let lane_seconds = car.passes[in_lap].lane_seconds;
            let date = self.at(*exit).to_string();
            let pass = json!({"driver_number": driver_number, "lap_number": in_lap, "date": date, "lane_duration": lane_seconds});
            self.send(exit + 0.5, Collection::Pit, pass)?;
        }
        self.stints(driver_number, &arrivals, &begins, car.laps.keys().max().copied().unwrap_or(0))
    }

    fn lap_time(&self, car: &Car, number: i32) -> f64 {
        car.laps.get(&number).map(|lap| lap.seconds).or_else(|| self.usual.get(&number).copied()).unwrap_or(LAP)
    }

    /// When the car is out of the pit lane again, s after the start.
    fn exit(&self, car: &Car, in_lap: i32, begins: &BTreeMap<i32, f64>) -> f64 {
        let (line, out_lap) = (begins[&(in_lap + 1)], self.lap_time(car, in_lap + 1));
        if self.race.begins_with_the_in_lap {
            line + LINE_TO_EXIT
        } else {
            line + (car.passes[&in_lap].lane_seconds - ENTRY_TO_LINE).clamp(1.0, out_lap * 0.9)
        }
    }

    /// When each stint becomes known.
    fn arrivals<'a>(&mut self, car: &'a Car, begins: &BTreeMap<i32, f64>, exits: &BTreeMap<i32, f64>) -> Vec<Arrival<'a>> {
        let in_lap_of = |number: i32| car.stints_after.iter().find(|(_, after)| **after == number).map(|(in_lap, _)| *in_lap);
        let in_laps: Vec<Option<i32>> = car.stints.keys().map(|number| in_lap_of(*number)).collect();
        let mut arrivals = Vec::new();
        for ((number, stint), in_lap) in car.stints.iter().zip(in_laps) {
            let (lag, late) = (self.random.below(5.0), self.random.below(1.0));
            let usual = match in_lap {
                Some(in_lap) if stint.first == in_lap => begins[&(in_lap + 1)] - 0.5 - lag,
                Some(in_lap) => exits[&in_lap] + lag,
                None if arrivals.is_empty() => -300.0,
                None => begins.get(&stint.first).copied().unwrap_or(0.0) + 0.45,
            };
            let late = if self.manner.is_late && in_lap.is_some() { late * self.usual_lap } else { 0.0 };
            let after_the_one_before = arrivals.last().map_or(f64::MIN, |before: &Arrival<'_>| before.at + 0.1);
            arrivals.push(Arrival { number: *number, stint, at: (usual + late).max(after_the_one_before) });
        }
        arrivals
    }

    fn laps(&mut self, driver_number: i32, car: &Car, begins: &BTreeMap<i32, f64>, exits: &BTreeMap<i32, f64>) -> Result<()> {
        for number in 1..=car.laps.keys().max().copied().unwrap_or(0) {
            let begin = begins[&number];
            let lap = |is_pit_out_lap: bool, begin: Micros| {
                json!({"driver_number": driver_number, "lap_number": number, "date_start": begin.to_string(),
                    "is_pit_out_lap": is_pit_out_lap})
            };
            let date = self.at(begin);
            self.send(begin + 0.4, Collection::Laps, lap(false, date))?;
            let Some(timed) = car.laps.get(&number) else { continue };
            if let Some(exit) = exits.get(&(number - 1)) {
                self.send(exit + 0.3, Collection::Laps, lap(timed.is_pit_out_lap, date))?;
            }
            let mut whole = lap(timed.is_pit_out_lap, date);
            whole["lap_duration"] = json!(timed.seconds);
            for (name, sector) in ["duration_sector_1", "duration_sector_2", "duration_sector_3"].iter().zip(timed.sectors) {
                whole[*name] = json!(sector);
            }
            self.send(begin + timed.seconds + 0.6, Collection::Laps, whole)?;
        }
        Ok(())
    }

    fn stints(&mut self, driver_number: i32, arrivals: &[Arrival<'_>], begins: &BTreeMap<i32, f64>, last_lap: i32) -> Result<()> {
        let version = |arrival: &Arrival<'_>, last: i32, compound: &str| {
            json!({"driver_number": driver_number, "stint_number": arrival.number, "lap_start": arrival.stint.first, "lap_end": last,
                "compound": compound, "tyre_age_at_start": arrival.stint.age_at_start})
        };
        let lap_at = |at: f64| begins.range(..=last_lap).rev().find(|(_, begin)| **begin <= at).map_or(1, |(number, _)| *number);
        for (index, arrival) in arrivals.iter().enumerate() {
            let compound = arrival.stint.compound.as_str();
            let is_unknown_first = self.random.below(9.0) < 1.0 && index > 0;
            let told_at = if is_unknown_first { arrival.at + 5.0 } else { arrival.at };
            self.feed.told_at.insert((driver_number, arrival.number), self.at(told_at));
            if let Some(before) = index.checked_sub(1).map(|before| &arrivals[before]) {
                self.send(arrival.at - 0.01, Collection::Stints, version(before, before.stint.last, &before.stint.compound))?;
            }
            let now = lap_at(arrival.at).max(arrival.stint.first);
            self.send(arrival.at, Collection::Stints, version(arrival, now, if is_unknown_first { "UNKNOWN" } else { compound }))?;
            if is_unknown_first {
                self.send(told_at, Collection::Stints, version(arrival, now, compound))?;
            }
            let next = arrivals.get(index + 1).map_or(f64::MAX, |next| next.at);
            for (number, begin) in begins.range(now + 1..).take_while(|(number, _)| **number <= last_lap) {
                let at = begin + 0.45;
                if at > arrival.at && at < next {
                    let compound = if at < told_at { "UNKNOWN" } else { compound };
                    self.send(at, Collection::Stints, version(arrival, *number, compound))?;
                }
            }
        }
        Ok(())
    }
}

/// The field's median time of each lap, s.
fn usual_times(race: &Race) -> BTreeMap<i32, f64> {
    let mut times: BTreeMap<i32, Vec<f64>> = BTreeMap::new();
    for (number, lap) in race.cars.values().flat_map(|car| &car.laps) {
        times.entry(*number).or_default().push(lap.seconds);
    }
    times.into_iter().map(|(number, times)| (number, median(times))).collect()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(LAP)
}

/// Numbers that are the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: f64) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 * limit
    }
}
