//! Whether stops and tyres are right over lap histories: `-- stops LAPS.parquet F1DB_DIR ERGAST_DIR`.
//!
//! `LAPS.parquet` has a row a timed lap: time, sectors, stint, compound, age of the set. `F1DB_DIR` is f1db unpacked (`src/data/seasons`),
//! whose `pit-stops.yml` list the stops; `ERGAST_DIR` has Ergast's tables (`pit_stops.csv.gz`, `races.csv.gz`, `results.csv.gz`), in which
//! every visit to the pit lane is. Each race becomes the documents that a feed would have sent ([`feed`]), none of them before its time,
//! goes through the whole graph, and what stands at the end is compared with what was true ([`history`]):
//! * **Kind.** Of every official visit: another set of tyres (`STOP`), or none (`PASS`; a drive-through and a stop-and-go count as one, as
//!   the histories have no stewards' messages). A visit three seconds shorter than the race's usual stop was none. Otherwise the two
//!   stints around it tell: another compound is another set, one compound is the same set if its age goes on and f1db decides if that has
//!   no stop. f1db decides as well where the stints do not show the visit. A stop that is said where nobody was in the pit lane is wrong.
//! * **Compound.** Of every timed lap: what the tower shows when the lap's time arrives. Where the boxes lie before the line the lap into
//!   the pit lane may show either set.
//!
//! Nothing said, though the feed has told, counts as not right. Left out, and counted: passes of a stopped race (more than three minutes
//! in the lane), passes whose set before is not in the history, passes around which the ages of one compound are one or two laps off; laps
//! of stints that begin where nobody was in the pit lane, laps after a stop that the stints do not show, and laps whose stint the feed had
//! not told by their end, if the tower shows nothing; races of which most laps are missing. The history's stints are OpenF1's last word,
//! read with hindsight: a truth independent of the operators, but not of errors of the feed.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use pitwall_engine::limits::Limits;
use pitwall_engine::session::{Output, RawRecord, Session};
use pitwall_schemas::codec::{Avro, Fact};
use pitwall_schemas::facts::{PitPassKind, PitStop, Timing};
use pitwall_schemas::raw::Sample;
use pitwall_schemas::shared::{Compound, KnownAtQuality};

use feed::{Feed, Manner};
use history::{Race, Truth};

mod feed;
mod history;

/// The share that must be right.
const SHARE_MIN: f64 = 0.99;

/// Measures and prints; fails below [`SHARE_MIN`].
pub(crate) fn stops(laps: &Path, f1db: &Path, ergast: &Path) -> Result<()> {
    let (races, torn) = history::read(laps, f1db, ergast)?;
    println!("{} races; left out for their missing laps: {}", races.len(), torn.join(", "));
    let manners = [
        ("new stints as a feed usually sends them", Manner { seed: 1, is_late: false }),
        ("new stints up to one lap late", Manner { seed: 2, is_late: true }),
    ];
    let mut is_met = true;
    for (name, manner) in manners {
        println!("\n{name}\n{HEADER}");
        let mut seasons: BTreeMap<i64, Tally> = BTreeMap::new();
        for race in &races {
            let tally = measure(race, manner)?;
            println!("{}", tally.row(&format!("{} {}", race.season, race.name)));
            tally.wrong.iter().for_each(|wrong| println!("    {wrong}"));
            seasons.entry(race.season).or_default().add(&tally);
        }
        let mut all = Tally::default();
        println!("\n{name}\n{HEADER}");
        for (season, tally) in &seasons {
            println!("{}", tally.row(&season.to_string()));
            all.add(tally);
        }
        println!("{}", all.row("all"));
        for (reason, count) in &all.left_out {
            println!("    left out: {count} passes, {reason}");
        }
        is_met &= all.stops.share() >= SHARE_MIN && all.compounds.share() >= SHARE_MIN;
    }
    anyhow::ensure!(is_met, "fewer than {:.0} % are right", SHARE_MIN * 100.0);
    Ok(())
}

const HEADER: &str = concat!(
    "race                                  passes  right unknown  wrong   share corrected left out |",
    "   laps  right unknown  wrong   share left out"
);

/// Answers counted.
#[derive(Debug, Default, Clone, Copy)]
struct Score {
    right: u32,
    /// Not said, though the feed had told.
    unknown: u32,
    wrong: u32,
}

impl Score {
    const fn asked(self) -> u32 {
        self.right + self.unknown + self.wrong
    }

    fn share(self) -> f64 {
        if self.asked() == 0 { 1.0 } else { f64::from(self.right) / f64::from(self.asked()) }
    }

    const fn add(&mut self, other: Self) {
        self.right += other.right;
        self.unknown += other.unknown;
        self.wrong += other.wrong;
    }
}

/// What was right in a race, or in several.
#[derive(Debug, Default)]
struct Tally {
    stops: Score,
    /// Passes of which something wrong was said before the right thing.
    corrected: u32,
    left_out: BTreeMap<&'static str, u32>,
    compounds: Score,
    laps_left_out: u32,
    /// What was wrong, with lap and car.
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.stops.add(other.stops);
        self.compounds.add(other.compounds);
        self.corrected += other.corrected;
        self.laps_left_out += other.laps_left_out;
        for (reason, count) in &other.left_out {
            *self.left_out.entry(reason).or_default() += count;
        }
    }

    fn row(&self, name: &str) -> String {
        let (stops, laps, left_out) = (self.stops, self.compounds, self.left_out.values().sum::<u32>());
        format!(
            "{name:<38}{:>6}{:>7}{:>8}{:>7}{:>7.2} %{:>9}{left_out:>9} |{:>7}{:>7}{:>8}{:>7}{:>7.2} %{:>8}",
            stops.asked(),
            stops.right,
            stops.unknown,
            stops.wrong,
            stops.share() * 100.0,
            self.corrected,
            laps.asked(),
            laps.right,
            laps.unknown,
            laps.wrong,
            laps.share() * 100.0,
            self.laps_left_out
        )
    }
}

/// What was said of a pass.
#[derive(Debug, Default)]
struct Said {
    /// Whether what stands says that tyres were changed; null when it does not tell, or was taken back.
    is_stop: Option<bool>,
    had_been: [bool; 2],
}

/// Derives the race from its feed and compares.
fn measure(race: &Race, manner: Manner) -> Result<Tally> {
    let feed = Feed::of(race, manner)?;
    let mut tally = Tally::default();
    let graph = pitwall_operators::graph(&Limits::default())?.for_session(race.session_key, 0, KnownAtQuality::Reconstructed);
    let mut session = Session::new(race.session_key, graph, Limits::default()).without_keyframes();
    let mut output = Output::default();
    let mut tower: BTreeMap<i32, Option<Compound>> = BTreeMap::new();
    let mut said: BTreeMap<(i32, i32), BTreeMap<i32, Said>> = BTreeMap::new();
    for (ingest_seq, (received_at, sample)) in (0..).zip(&feed.documents) {
        let raw = RawRecord {
            stream: sample.collection() as u16,
            partition: 0,
            offset: ingest_seq,
            ingest_seq,
            received_at: *received_at,
            payload: &[],
            event: Ok(sample.clone()),
        };
        session.take(&raw, &mut output)?;
        for fact in output.facts.iter() {
            let (header, mut body) = fact.header()?;
            if fact.kind.name == Timing::KIND {
                let row = Timing::decode(&mut body)?;
                tower.insert(row.driver_number, row.compound.filter(|compound| *compound != Compound::Unknown));
            } else if fact.kind.name == PitStop::KIND {
                let pass = PitStop::decode(&mut body)?;
                let of_lap = said.entry((pass.driver_number, pass.lap_number)).or_default();
                take_pass(of_lap.entry(pass.pass).or_default(), pass.kind, header.withdrawn);
            }
        }
        for letter in &output.dead_letters {
            tally.wrong.push(format!("refused: {}", letter.reason));
        }
        output.clear();
        if let Sample::Laps(lap) = sample
            && lap.lap_duration.is_some()
        {
            let shown = tower.get(&lap.driver_number).copied().flatten();
            compare_lap(race, &feed, *received_at, (lap.driver_number, lap.lap_number), shown, &mut tally);
        }
    }
    compare_passes(race, &said, &mut tally);
    Ok(tally)
}

fn take_pass(said: &mut Said, kind: PitPassKind, is_withdrawn: bool) {
    said.is_stop = match kind {
        _ if is_withdrawn => None,
        PitPassKind::Unknown => None,
        PitPassKind::Stop => Some(true),
        PitPassKind::DriveThrough | PitPassKind::StopAndGo | PitPassKind::Pass => Some(false),
    };
    if let Some(is_stop) = said.is_stop {
        said.had_been[usize::from(is_stop)] = true;
    }
}

fn compare_passes(race: &Race, said: &BTreeMap<(i32, i32), BTreeMap<i32, Said>>, tally: &mut Tally) {
    for (driver_number, car) in &race.cars {
        for in_lap in car.passes.keys() {
            let truth = match race.truth(car, *in_lap) {
                Truth::Stop => true,
                Truth::Pass => false,
                Truth::LeftOut(reason) => {
                    *tally.left_out.entry(reason).or_default() += 1;
                    continue;
                }
            };
            let passes = said.get(&(*driver_number, *in_lap));
            let stands = passes.and_then(|passes| passes.values().find_map(|said| said.is_stop));
            let had_been_wrong = passes.is_some_and(|passes| passes.values().any(|said| said.had_been[usize::from(!truth)]));
            match stands {
                Some(is_stop) if is_stop == truth => {
                    tally.stops.right += 1;
                    tally.corrected += u32::from(had_been_wrong);
                    continue;
                }
                Some(_) => tally.stops.wrong += 1,
                None => tally.stops.unknown += 1,
            }
            let name = |is_stop: bool| if is_stop { "a stop" } else { "no stop" };
            let stands = stands.map_or("unknown", name);
            tally.wrong.push(format!("car {driver_number}, lap {in_lap}: {stands}, was {}", name(truth)));
        }
    }
    for ((driver_number, in_lap), passes) in said {
        let is_official = race.cars.get(driver_number).is_some_and(|car| car.passes.contains_key(in_lap));
        if !is_official && passes.values().any(|said| said.is_stop == Some(true)) {
            tally.stops.wrong += 1;
            tally.wrong.push(format!("car {driver_number}, lap {in_lap}: a stop, was not in the pit lane"));
        }
    }
}

/// Compares what the tower shows when the time of a lap arrives.
fn compare_lap(
    race: &Race,
    feed: &Feed,
    now: pitwall_engine::Micros,
    (driver_number, lap_number): (i32, i32),
    shown: Option<Compound>,
    tally: &mut Tally,
) {
    let Some(car) = race.cars.get(&driver_number) else { return };
    let Some(compounds) = race.compounds(car, lap_number) else {
        tally.laps_left_out += 1;
        return;
    };
    let is_told = feed.told_at.get(&(driver_number, car.laps[&lap_number].stint_number)).is_some_and(|told_at| *told_at <= now);
    match shown.map(name) {
        Some(shown) if compounds.contains(shown) => tally.compounds.right += 1,
        // The feed has not said it yet, so nobody can.
        None if !is_told => tally.laps_left_out += 1,
        shown => {
            *(if shown.is_some() { &mut tally.compounds.wrong } else { &mut tally.compounds.unknown }) += 1;
            let (shown, right) = (shown.unwrap_or("nothing"), compounds.into_iter().collect::<Vec<_>>().join(" or "));
            tally.wrong.push(format!("car {driver_number}, end of lap {lap_number}: {shown}, was {right}"));
        }
    }
}

/// The feed's name of a compound.
const fn name(compound: Compound) -> &'static str {
    match compound {
        Compound::Soft => "SOFT",
        Compound::Medium => "MEDIUM",
        Compound::Hard => "HARD",
        Compound::Intermediate => "INTERMEDIATE",
        Compound::Wet => "WET",
        Compound::Unknown => "UNKNOWN",
    }
}
