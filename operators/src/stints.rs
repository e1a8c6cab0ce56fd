//! Stints: versions of `stints` documents folded into one stint per car and number, with the age of its set of tyres; `pit`, laps and
//! telemetry tell which changes of tyres there can have been, and on which lap.
//!
//! Rules, with their source:
//! * A version with a lower `_id` than the one taken is stale and ignored; one that says nothing new is silent; a null does not erase
//!   (OpenF1 sends whole documents, in which what is known stays).
//! * A compound may be unknown at first and corrected later (FastF1 #950): each change is a revision that supersedes what was said. The
//!   feed's `UNKNOWN`, and any text that is no compound, is the absence of news and takes no known compound away.
//! * **A stint ends with the lap into the pit lane and the next begins with the lap out of it.** The feed gives the next one the lap that
//!   it counts when the tyres are changed: where the boxes lie before the line (Melbourne, Monaco, Montréal) that is the in-lap, which then
//!   belongs to both stints or to the wrong one. So changes of stint are matched to passes through the pit lane in order, each to one on
//!   its first lap or the lap before, so that as many as possible find one; where either could be meant, to the one during which the car
//!   stood still, or else as most of the session's other changes. A pass is known from `pit`, and from laps into and out of the pit lane.
//! * Numbers skip: sets that were changed before the start have numbers too. So stints are counted, not their numbers. The first one
//!   opens; every other one is said when it matches a pass. One that matches none is spurious (Italy 2018: four stints at the start) and
//!   held, unsaid, until it matches one or the feed goes on with it for a third lap: then the feed means it, and of two that begin with the
//!   same lap the newer takes the older one's place, which is withdrawn if it was said. Of a car that was joined after its lap 1, and
//!   when no lap is known within [`StintsOperator::wait_ms`], no pass need be known: then every stint is said.
//! * The age at the start is the first total of laps that the feed gives for the set (OpenF1 `tyre_age_at_start`): above 0 for a used one.
//!   The age is that and the laps from the stint's first to its last so far. Both laps lag: a document comes up to 10 s after the line.
//! * The set is that of the stint before when its compound is the same and its age goes on, or, if the ages tell something else, when the
//!   telemetry shows that the car did not stand in the pit lane. Without telemetry the time in the lane tells: a stop takes some 5 s more
//!   than driving through, so a pass [`STANDING_MIN`] shorter than the session's quick changes of compound was none (Spielberg 2023,
//!   Montréal 2025). Then the age goes on (the safety car through the pit lane: Fast-F1 #717).
//! * A feed that was itself joined late (OpenF1's recorder) counts from lap 1 until it learns of the lap: the car's laps leap. A stint that
//!   it begins with that lap or before has an unknown beginning, and the age that it gives is that of the lap leapt to.
//! * A lap number beyond what any car can have driven since the last lap known ([`Reach`]) is an error of the feed, or the laps between are
//!   missing: the document waits until that lap can be reached or another version replaces it.

use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::Micros;
use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{self, Channel, Lap, Telemetry};
use pitwall_schemas::raw::{self, Pit, Stint};
use pitwall_schemas::shared::Compound;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::{Known, Version, in_order};
use crate::pit_stops::exited_at;
use crate::reach::{LAP_MIN, Reach};
use crate::standing::Standing;

/// Laps of which the feed speaks of a stint before it is believed to mean it.
const LAPS_MEANT: i32 = 3;

/// Fewest laps by which the laps of a car leap when the feed was joined.
const LEAP_MIN: i32 = 3;

/// Longest pass during which standing still tells of a change of tyres, µs: in a stopped race all cars stand.
const PASS_MAX: i64 = 180 * Micros::SECOND;

/// By how much a pass without a stop is shorter than a quick stop, µs: of 1,380 changes of compound in 2023 to 2025 one was 2.4 s and more
/// shorter than its race's median, an error of the feed; passes behind a safety car are 3.3 to 6.3 s shorter.
pub const STANDING_MIN: i64 = 2 * Micros::SECOND;

/// Fewest changes of compound of which it can be told how long a quick stop takes: a quarter of them are shorter.
pub const CHANGES_MIN: usize = 5;

/// Passes further apart than this, µs, are two: no car can be twice in the pit lane meanwhile.
const SAME_PASS: i64 = 10 * Micros::SECOND;

/// What it is worth to match a stint to a pass, and one during which the car stood, against one as most of the session's are.
const MATCH: i32 = 10_000;
const STOOD: i32 = 100;

/// Folds stint documents.
#[derive(Debug, Clone, Copy)]
pub struct StintsOperator {
    /// How long a stint beyond the first is held while no lap of its car is known, ms.
    pub wait_ms: i64,
}

impl Default for StintsOperator {
    fn default() -> Self {
        Self { wait_ms: 300_000 }
    }
}

/// Every stint of the session.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    cars: ByDriver<Car>,
    reach: Reach,
    /// How long a quick stop takes in the pit lane.
    quick_stop: Option<LaneTime>,
    waits: bool,
    /// Whether laps were waited for in vain.
    has_waited: bool,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Car {
    /// By number, which the schema ends at 100.
    stints: BTreeMap<i32, StintState>,
    /// The first lap that was known of.
    first_lap: Option<i32>,
    /// When the car's lap 1 was first sent, the highest lap sent, and the one that its laps leapt to when the feed was joined.
    lap_1_sent_at: Option<Micros>,
    highest_lap: i32,
    leapt_to: Option<i32>,
    /// Passes by their in-lap, from 1 and ended by the schema at 200: as laps tell, and as `pit` does.
    of_laps: BTreeMap<i32, u64>,
    of_documents: BTreeMap<i32, Pass>,
    standing: Standing,
    /// The newest pass, while samples may yet tell whether the car stood.
    pending: Option<i32>,
}

/// A pass through the pit lane that `pit` tells of.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Pass {
    cause: u64,
    entered_at: Option<Micros>,
    exited_at: Micros,
    /// Whether the car stood still; null when nothing tells.
    stood: Option<bool>,
}

/// A time in the pit lane, µs, and the record that told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct LaneTime {
    lane_us: i64,
    cause: u64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct StintState {
    version: Version,
    /// The ledger record of the first document.
    cause: u64,
    compound: Known<Compound>,
    lap_start: Known<i32>,
    lap_end: Known<i32>,
    tyre_age_at_start: Known<i32>,
    /// Whether any version was taken.
    is_taken: bool,
    /// A version whose laps cannot be reached yet.
    early: Option<Document>,
    said: Option<facts::Stint>,
    /// The newest statement, one that took the stint back included.
    issued: Option<Issued>,
}

/// What a version says, and its ledger record.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Document {
    compound: Option<Compound>,
    lap_start: Option<i32>,
    lap_end: Option<i32>,
    tyre_age_at_start: Option<i32>,
    seq: u64,
}

impl Document {
    fn highest_lap(&self) -> i32 {
        self.lap_start.max(self.lap_end).unwrap_or(0)
    }
}

/// Passes by in-lap: the record that told, and whether the car stood.
type Passes = BTreeMap<i32, (u64, Option<bool>)>;

/// A stint that is believed, and the in-lap of the pass that it follows.
#[derive(Debug, Clone, Copy)]
struct Place {
    stint_number: i32,
    in_lap: Option<i32>,
}

impl StintState {
    /// Takes a version and tells whether something in it is new; one that cannot be yet waits.
    fn fold(&mut self, document: Document, reach: &mut Reach, now: Micros) -> bool {
        let highest = document.highest_lap();
        if reach.is_beyond(highest, now) {
            self.early = Some(document);
            return false;
        }
        (self.early, self.is_taken) = (None, true);
        if *reach != Reach::default() {
            reach.take(highest, now);
        }
        let Document { compound, lap_start, lap_end, tyre_age_at_start, seq } = document;
        // `|` and not `||`: every field is taken.
        self.compound.take(compound, seq)
            | self.lap_start.take(lap_start, seq)
            | self.lap_end.take(lap_end, seq)
            | self.tyre_age_at_start.take(tyre_age_at_start, seq)
    }

    fn start(&self) -> Option<i32> {
        self.lap_start.value().copied()
    }

    /// Whether the feed has gone on with the stint for long enough to mean it.
    fn is_meant(&self) -> bool {
        self.start().zip(self.lap_end.value()).is_some_and(|(first, last)| last - first + 1 >= LAPS_MEANT)
    }

    fn is_said(&self) -> bool {
        self.said.is_some()
    }

    fn causes(&self) -> impl Iterator<Item = Option<u64>> {
        let known = [self.compound.cause(), self.lap_start.cause(), self.lap_end.cause(), self.tyre_age_at_start.cause()];
        let first = known.iter().all(Option::is_none).then_some(self.cause);
        known.into_iter().chain([first])
    }

    /// Says the stint if it changed.
    fn say(&mut self, fact: facts::Stint, causes: &[u64], context: &mut Context<'_, facts::Stint>) {
        if self.said.as_ref() != Some(&fact) {
            self.issued = Some(context.draft(fact.clone()).because(causes).correcting(self.issued).emit());
            self.said = Some(fact);
        }
    }

    /// Takes the stint back if it was said.
    fn withdraw(&mut self, causes: &[u64], context: &mut Context<'_, facts::Stint>) {
        if let (Some(fact), Some(issued)) = (self.said.take(), self.issued) {
            self.issued = Some(context.draft(fact).because(causes).withdrawing(issued).emit());
        }
    }
}

impl Pass {
    /// The time in the pit lane, unless the race was stopped meanwhile.
    fn lane_time(&self) -> Option<LaneTime> {
        let lane_us = self.exited_at.since(self.entered_at?);
        (0..=PASS_MAX).contains(&lane_us).then_some(LaneTime { lane_us, cause: self.cause })
    }
}

impl Car {
    /// Times in the pit lane between two compounds: of passes that were stops.
    fn changes_of_compound(&self) -> impl Iterator<Item = LaneTime> {
        let compound = |stint: &StintState| stint.compound.value().copied();
        let pairs = self.stints.values().zip(self.stints.values().skip(1));
        pairs
            .filter(move |(before, after)| compound(before).zip(compound(after)).is_some_and(|(before, after)| before != after))
            .filter_map(|(_, after)| {
                let on = |in_lap: i32| self.of_documents.get(&in_lap);
                let start = after.start()?;
                match (on(start - 1), on(start)) {
                    (Some(pass), None) | (None, Some(pass)) => pass.lane_time(),
                    _ => None,
                }
            })
    }

    /// Whether all of the car's passes are known, so that a stint without one is spurious.
    const fn is_bounded(&self, has_waited: bool) -> bool {
        match self.first_lap {
            Some(lap) => lap < 2,
            None => !has_waited,
        }
    }

    /// In-laps of all passes, with the record that told of each and whether the car stood.
    fn passes(&self) -> Passes {
        let of_laps = self.of_laps.iter().map(|(in_lap, cause)| (*in_lap, (*cause, None)));
        let of_documents = self.of_documents.iter().map(|(in_lap, pass)| (*in_lap, (pass.cause, pass.stood)));
        of_laps.chain(of_documents).collect()
    }

    /// Changes of stint that only a pass on their first lap explains, less those that only one on the lap before does.
    fn changes_on_the_in_lap(&self) -> i32 {
        let passes = self.passes();
        let starts = self.stints.values().skip(1).filter_map(StintState::start);
        starts.map(|start| i32::from(passes.contains_key(&start)) - i32::from(passes.contains_key(&(start - 1)))).sum()
    }

    /// Notices that the laps leap from the first one farther than the car can have driven; the laps between prove that they did not.
    fn take_lap(&mut self, lap_number: i32, now: Micros) {
        if self.leapt_to.is_some_and(|leapt_to| (2..leapt_to).contains(&lap_number)) {
            self.leapt_to = None;
        }
        if lap_number <= 1 {
            self.lap_1_sent_at.get_or_insert(now);
            return;
        }
        let leap = lap_number - 1;
        if let Some(sent_at) = self.lap_1_sent_at.filter(|_| self.highest_lap <= 1 && leap >= LEAP_MIN)
            && now.since(sent_at) < i64::from(leap) * LAP_MIN
        {
            self.leapt_to = Some(lap_number);
        }
        self.highest_lap = self.highest_lap.max(lap_number);
    }

    /// Takes what samples tell of the newest pass; tells whether that is news.
    fn settle(&mut self) -> bool {
        let Some(pass) = self.pending.and_then(|in_lap| self.of_documents.get_mut(&in_lap)) else { return false };
        if self.standing.newest() < Some(pass.exited_at) {
            return false;
        }
        self.pending = None;
        let short = pass.entered_at.filter(|entered_at| pass.exited_at.since(*entered_at) <= PASS_MAX);
        pass.stood = pass.stood.max(short.and_then(|entered_at| self.standing.between(entered_at, pass.exited_at)));
        pass.stood.is_some()
    }
}

impl State {
    /// Which of the car's stints are believed, and the passes that they follow, in order.
    fn places(&self, car: &Car, passes: &Passes) -> Vec<Place> {
        let is_bounded = car.is_bounded(self.has_waited);
        let in_laps = self.in_laps(car, passes);
        let mut places: Vec<Place> = Vec::new();
        for (&stint_number, stint) in car.stints.iter().filter(|(_, stint)| stint.is_taken) {
            let Some(before) = places.last().copied() else {
                places.push(Place { stint_number, in_lap: None });
                continue;
            };
            let in_lap = in_laps.get(&stint_number).copied();
            let begins_with = |number: i32| car.stints.get(&number).and_then(StintState::start);
            let first_lap = before.in_lap.map(|in_lap| in_lap + 1).or_else(|| begins_with(before.stint_number));
            if in_lap.is_some() {
                places.push(Place { stint_number, in_lap });
            } else if stint.start().is_some() && stint.start() <= first_lap {
                // A second stint for the same laps; what is said stays until the feed has made up its mind.
                if stint.is_meant() || stint.is_said() {
                    places.pop();
                    places.push(Place { stint_number, in_lap: before.in_lap });
                }
            } else if !is_bounded || stint.is_meant() {
                places.push(Place { stint_number, in_lap: None });
            }
        }
        places
    }

    /// In-laps of the passes that the car's stints follow, by stint: the best of all ways to match them in order.
    fn in_laps(&self, car: &Car, passes: &Passes) -> BTreeMap<i32, i32> {
        let is_ambiguous = |start: i32| passes.contains_key(&start) && passes.contains_key(&(start - 1));
        let starts: Vec<(i32, i32)> = car.stints.iter().skip(1).filter_map(|(number, stint)| Some((*number, stint.start()?))).collect();
        let begins_with_in_lap = starts.iter().any(|(_, start)| is_ambiguous(*start)) && self.begins_with_the_in_lap();
        // The best way so far that ends with each pass, with what it is worth.
        let mut best: BTreeMap<i32, (i32, BTreeMap<i32, i32>)> = BTreeMap::from([(0, Default::default())]);
        for (number, start) in starts {
            let before = best.clone();
            for in_lap in [start - 1, start] {
                let Some((_, stood)) = passes.get(&in_lap) else { continue };
                let ways = before.range(..in_lap).map(|(_, way)| way);
                let Some((worth, way)) = ways.max_by_key(|(worth, _)| *worth) else { continue };
                let is_usual = is_ambiguous(start) && (in_lap == start) == begins_with_in_lap;
                let worth = worth + MATCH + stood.map_or(0, |stood| if stood { STOOD } else { -STOOD }) + i32::from(is_usual);
                // Of two stints that are worth the same the older has it, until the feed goes on with the newer.
                if best.get(&in_lap).is_none_or(|(other, _)| worth > *other) {
                    let way = way.iter().map(|(number, in_lap)| (*number, *in_lap)).chain([(number, in_lap)]).collect();
                    best.insert(in_lap, (worth, way));
                }
            }
        }
        best.into_values().max_by_key(|(worth, _)| *worth).map(|(_, way)| way).unwrap_or_default()
    }

    /// Whether most of the session's changes of stint count from the in-lap.
    fn begins_with_the_in_lap(&self) -> bool {
        self.cars.iter().map(|(_, car)| car.changes_on_the_in_lap()).sum::<i32>() > 0
    }

    /// What is to be said of the car's stints now, in order, with the causes.
    fn facts(&self, driver_number: i32) -> Vec<(facts::Stint, Vec<u64>)> {
        let Some(car) = self.cars.get(driver_number) else { return Vec::new() };
        let passes = car.passes();
        let places: Vec<(Place, &StintState)> =
            self.places(car, &passes).into_iter().filter_map(|place| Some((place, car.stints.get(&place.stint_number)?))).collect();
        let mut said: Vec<(facts::Stint, Vec<u64>)> = Vec::new();
        for (index, (place, stint)) in places.iter().enumerate() {
            let next = places.get(index + 1);
            let mut fact = fact(driver_number, *place, stint, next, car.leapt_to);
            let pass = |place: &Place| place.in_lap.and_then(|in_lap| passes.get(&in_lap)).copied();
            let mut causes: Vec<Option<u64>> = stint.causes().chain([pass(place).map(|(cause, _)| cause)]).collect();
            if let Some((next, after)) = next.filter(|_| fact.lap_end != stint.lap_end.value().copied()) {
                causes.extend([after.lap_start.cause(), pass(next).map(|(cause, _)| cause)]);
            }
            if let Some((before, reasons)) = said.last() {
                let seen = pass(place).and_then(|(_, stood)| stood);
                let through = place.in_lap.filter(|_| seen.is_none()).and_then(|in_lap| self.drove_through(car, in_lap));
                if goes_on(before, &fact, stint, seen.or(through.map(|_| false)), next) {
                    (fact.is_same_set, fact.tyre_age_at_start) = (true, before.tyre_age.or(fact.tyre_age_at_start));
                    fact.tyre_age = age(&fact);
                    causes.extend(reasons.iter().copied().map(Some).chain([through]));
                }
            }
            said.push((fact, in_order(causes)));
        }
        said
    }

    /// How long a quick stop takes, once enough changes of compound tell.
    fn quick_stop(&self) -> Option<LaneTime> {
        let mut changes: Vec<LaneTime> = self.cars.iter().flat_map(|(_, car)| car.changes_of_compound()).collect();
        changes.sort_unstable();
        changes.get(changes.len() / 4).copied().filter(|_| changes.len() >= CHANGES_MIN)
    }

    /// The record by which a pass was too short for a stop, if it was.
    fn drove_through(&self, car: &Car, in_lap: i32) -> Option<u64> {
        let (lane, quick_stop) = car.of_documents.get(&in_lap)?.lane_time().zip(self.quick_stop)?;
        (lane.lane_us < quick_stop.lane_us - STANDING_MIN).then_some(quick_stop.cause)
    }

    /// Says what changed of the car's stints; of all cars' when it has become known otherwise how long a stop takes.
    fn say(&mut self, driver_number: i32, context: &mut Context<'_, facts::Stint>) {
        let quick_stop = self.quick_stop();
        let is_news = std::mem::replace(&mut self.quick_stop, quick_stop) != quick_stop;
        self.say_car(driver_number, context);
        if is_news {
            let others: Vec<i32> = self.cars.iter().map(|(other, _)| other).filter(|other| *other != driver_number).collect();
            for other in others {
                self.say_car(other, context);
            }
        }
    }

    /// Says what changed of the car's stints, and takes back what proved wrong.
    fn say_car(&mut self, driver_number: i32, context: &mut Context<'_, facts::Stint>) {
        let said = self.facts(driver_number);
        let Some(car) = self.cars.get_mut(driver_number) else { return };
        let believed: BTreeSet<i32> = said.iter().map(|(fact, _)| fact.stint_number).collect();
        for (stint_number, stint) in &mut car.stints {
            if !believed.contains(stint_number) {
                let reasons = in_order(stint.causes().chain([Some(context.seq())]));
                stint.withdraw(&reasons, context);
            }
        }
        for (fact, causes) in said {
            if let Some(stint) = car.stints.get_mut(&fact.stint_number) {
                stint.say(fact, &causes, context);
            }
        }
    }
}

/// The stint with the laps that its passes give it.
fn fact(driver_number: i32, place: Place, stint: &StintState, next: Option<&(Place, &StintState)>, leapt_to: Option<i32>) -> facts::Stint {
    let last = stint.lap_end.value().copied();
    let lap_start = place.in_lap.map(|in_lap| in_lap + 1).or_else(|| stint.start());
    let lap_end = match next {
        Some((Place { in_lap: Some(in_lap), .. }, _)) => Some(*in_lap),
        Some((_, after)) => last.map(|last| after.start().map_or(last, |start| last.min(start - 1))),
        None => last.map(|last| place.in_lap.map_or(last, |in_lap| last.max(in_lap + 1))),
    };
    let mut fact = facts::Stint {
        driver_number,
        stint_number: place.stint_number,
        compound: stint.compound.value().copied().unwrap_or(Compound::Unknown),
        lap_start,
        lap_end,
        tyre_age_at_start: stint.tyre_age_at_start.value().copied(),
        tyre_age: None,
        is_same_set: false,
    };
    fact.tyre_age = age(&fact);
    let was_joined = |start: Option<i32>| leapt_to.filter(|leapt_to| start.is_some_and(|start| start <= *leapt_to));
    if let Some(first) = was_joined(lap_start).filter(|_| place.in_lap.is_none()) {
        fact.tyre_age = age(&facts::Stint { lap_start: Some(first), ..fact.clone() });
        (fact.lap_start, fact.tyre_age_at_start) = (None, None);
    }
    if next.is_some_and(|(place, after)| place.in_lap.is_none() && was_joined(after.start()).is_some()) {
        (fact.lap_end, fact.tyre_age) = (None, None);
    }
    fact
}

/// Laps that the set has run by the end of the stint so far.
fn age(fact: &facts::Stint) -> Option<i32> {
    let laps = fact.lap_start.zip(fact.lap_end).map(|(first, last)| (last - first + 1).max(0));
    fact.tyre_age_at_start.zip(laps).map(|(at_start, laps)| at_start + laps)
}

/// Whether the stint runs on the set of the one before. `stood` tells whether the car stood still between them.
fn goes_on(
    before: &facts::Stint,
    fact: &facts::Stint,
    stint: &StintState,
    stood: Option<bool>,
    next: Option<&(Place, &StintState)>,
) -> bool {
    if fact.compound == Compound::Unknown || fact.compound != before.compound {
        return false;
    }
    // Where the feed begins with the in-lap, its age at the start is that before the in-lap.
    let follows = |age: Option<i32>, at_start: Option<i32>, feeds_start: Option<i32>, start: Option<i32>| {
        let skipped = feeds_start.zip(start).map_or(0, |(feeds, own)| own - feeds);
        age.zip(at_start).is_some_and(|(age, at_start)| at_start > 0 && (at_start == age || at_start + skipped == age))
    };
    let follows_before = follows(before.tyre_age, fact.tyre_age_at_start, stint.start(), fact.lap_start);
    // One wrong age between two that fit (Qatar 2024): the stint after tells.
    let age_if_same = age(&facts::Stint { tyre_age_at_start: before.tyre_age, ..fact.clone() });
    let is_told_by_next = next.is_some_and(|(place, after)| {
        let at_start = after.tyre_age_at_start.value().copied();
        let start = place.in_lap.map(|in_lap| in_lap + 1).or_else(|| after.start());
        after.compound.value() == Some(&fact.compound)
            && follows(age_if_same, at_start, after.start(), start)
            && !follows(fact.tyre_age, at_start, after.start(), start)
    });
    follows_before || is_told_by_next || stood == Some(false)
}

/// The compound of OpenF1's name; `None` for `UNKNOWN` and texts that name none.
fn compound(name: &str) -> Option<Compound> {
    match name {
        "SOFT" => Some(Compound::Soft),
        "MEDIUM" => Some(Compound::Medium),
        "HARD" => Some(Compound::Hard),
        "INTERMEDIATE" => Some(Compound::Intermediate),
        "WET" => Some(Compound::Wet),
        _ => None,
    }
}

impl Operator for StintsOperator {
    const NAME: &'static str = "stints";
    const VERSION: u32 = 3;
    type Output = facts::Stint;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("wait_ms", self.wait_ms.to_string())]
    }

    fn on_timer(&self, state: &mut State, _token: u64, context: &mut Context<'_, facts::Stint>) {
        state.has_waited = true;
        let cars: Vec<i32> = state.cars.iter().map(|(driver_number, _)| driver_number).collect();
        for driver_number in cars {
            state.say(driver_number, context);
        }
    }
}

impl Handle<Stint> for StintsOperator {
    fn apply(&self, state: &mut State, document: &Stint, context: &mut Context<'_, facts::Stint>) {
        let Stint { driver_number, stint_number, lap_start, lap_end, tyre_age_at_start, .. } = *document;
        let compound = document.compound.as_deref().and_then(compound);
        let State { cars, reach, .. } = state;
        let car = cars.entry(driver_number);
        let (has_lap, is_first) = (car.first_lap.is_some(), car.stints.is_empty());
        let stint = car.stints.entry(stint_number).or_insert_with(|| StintState { cause: context.seq(), ..StintState::default() });
        if !stint.version.take(document.id) {
            return;
        }
        let document = Document { compound, lap_start, lap_end, tyre_age_at_start, seq: context.seq() };
        if stint.fold(document, reach, context.now()) || !stint.is_said() {
            state.say(driver_number, context);
        }
        if !is_first && !has_lap && !std::mem::replace(&mut state.waits, true) {
            context.set_timer(context.now().plus(self.wait_ms * 1_000), 0);
        }
    }
}

impl Handle<Pit> for StintsOperator {
    fn apply(&self, state: &mut State, document: &Pit, context: &mut Context<'_, facts::Stint>) {
        if state.reach.is_beyond(document.lap_number, context.now()) {
            // `pit_stops` refuses it.
            return;
        }
        let exited_at = exited_at(document, context.now());
        let lane = document.lane_duration.or(document.pit_duration).filter(|seconds| *seconds > 0.0);
        let lane_us = lane.map(|seconds| (seconds * 1e6).round() as i64);
        let car = state.cars.entry(document.driver_number);
        let cause = context.seq();
        let pass = car.of_documents.entry(document.lap_number).or_insert(Pass { cause, exited_at, ..Pass::default() });
        if exited_at.since(pass.exited_at) >= SAME_PASS && pass.stood == Some(false) {
            // A later pass on the same lap.
            pass.stood = None;
        }
        if exited_at >= pass.exited_at {
            pass.exited_at = exited_at;
            pass.entered_at = lane_us.map(|lane_us| exited_at.plus(-lane_us)).or(pass.entered_at);
        }
        if document.stop_duration.is_some_and(|seconds| seconds > 0.0) {
            pass.stood = Some(true);
        }
        car.pending = Some(document.lap_number);
        car.settle();
        state.say(document.driver_number, context);
    }
}

impl Handle<Lap> for StintsOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, facts::Stint>) {
        let State { cars, reach, .. } = state;
        let car = cars.entry(lap.driver_number);
        let into = lap.is_pit_in_lap.then_some(lap.lap_number);
        let out_of = (lap.is_pit_out_lap && lap.lap_number > 1).then_some(lap.lap_number - 1);
        let in_laps = into.into_iter().chain(out_of);
        let mut is_news = false;
        if context.is_withdrawn() {
            in_laps.for_each(|in_lap| is_news |= car.of_laps.remove(&in_lap).is_some());
        } else {
            is_news = car.first_lap.is_none();
            car.first_lap.get_or_insert(lap.lap_number);
            reach.take(lap.lap_number, context.now());
            for in_lap in in_laps {
                is_news |= !car.of_laps.contains_key(&in_lap);
                car.of_laps.entry(in_lap).or_insert(context.newest_cause());
            }
            for stint in car.stints.values_mut() {
                is_news |= stint.early.take().is_some_and(|early| stint.fold(early, reach, context.now()));
            }
        }
        if is_news {
            state.say(lap.driver_number, context);
        }
    }
}

impl Handle<raw::Lap> for StintsOperator {
    fn apply(&self, state: &mut State, lap: &raw::Lap, context: &mut Context<'_, facts::Stint>) {
        state.cars.entry(lap.driver_number).take_lap(lap.lap_number, context.now());
    }
}

impl Handle<Telemetry> for StintsOperator {
    fn apply(&self, state: &mut State, packet: &Telemetry, context: &mut Context<'_, facts::Stint>) {
        if packet.channel != Channel::CarData {
            return;
        }
        let car = state.cars.entry(packet.driver_number);
        for sample in &packet.samples {
            if let Some(speed) = sample.speed {
                car.standing.take(sample.date, speed);
            }
        }
        if car.settle() {
            state.say(packet.driver_number, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laps::LapsOperator;
    use crate::telemetry::TelemetryOperator;
    use crate::testing::{Bench, at_ms, car_data, lap, pit, stint};
    use pitwall_schemas::raw::Sample;
    use pitwall_schemas::shared::FactHeader;

    fn version(stint_number: i32, laps: Option<(i32, i32)>, name: Option<&str>, age: Option<i32>) -> Stint {
        let (lap_start, lap_end) = laps.unzip();
        Stint { lap_start, lap_end, compound: name.map(Into::into), tyre_age_at_start: age, ..stint(1, stint_number) }
    }

    fn play(versions: impl IntoIterator<Item = Stint>) -> Vec<(FactHeader, facts::Stint)> {
        let mut bench = Bench::new(|graph| {
            graph.publish(StintsOperator { wait_ms: 0 }, |inputs| inputs.samples::<Stint>());
        });
        for (ms, document) in (0..).zip(versions) {
            bench.arrive(ms, Sample::from(document));
        }
        bench.idle(1_000);
        assert!(bench.rejections().is_empty());
        bench.facts()
    }

    /// Case 24: a used set is no new one.
    #[test]
    fn the_first_total_of_laps_is_the_age_at_the_start_and_the_age_grows_with_the_stint() {
        let facts = play([version(1, Some((1, 1)), Some("SOFT"), Some(3)), version(1, Some((1, 12)), Some("SOFT"), Some(3))]);
        let ages: Vec<_> = facts.iter().map(|(_, fact)| (fact.tyre_age_at_start, fact.tyre_age)).collect();
        assert_eq!(ages, [(Some(3), Some(4)), (Some(3), Some(15))]);
    }

    #[test]
    fn the_age_of_a_set_whose_age_at_the_start_is_unknown_is_unknown() {
        let facts = play([version(2, Some((8, 9)), Some("HARD"), None)]);
        assert_eq!(facts[0].1.tyre_age, None);
    }

    #[test]
    fn a_compound_corrected_later_supersedes_what_was_said_and_names_the_version_that_corrected_it() {
        let facts = play([
            version(1, Some((1, 1)), Some("UNKNOWN"), Some(0)),
            version(1, Some((1, 2)), Some("MEDIUM"), Some(0)),
            version(1, Some((1, 2)), Some("HARD"), Some(0)),
        ]);
        let compounds: Vec<_> = facts.iter().map(|(_, fact)| fact.compound).collect();
        assert_eq!(compounds, [Compound::Unknown, Compound::Medium, Compound::Hard]);
        let (header, _) = &facts[2];
        assert_eq!((header.revision, header.supersedes, header.causes.as_slice()), (2, Some(1), [0, 1, 2].as_slice()));
    }

    #[test]
    fn a_known_compound_is_not_taken_away_by_unknown() {
        let facts = play([version(1, None, Some("WET"), None), version(1, Some((1, 2)), Some("UNKNOWN"), None)]);
        assert_eq!(facts[1].1.compound, Compound::Wet);
    }

    #[test]
    fn a_document_sent_again_says_nothing_and_a_stale_one_neither() {
        let at = |id, lap_end| Stint { id: Some(id), ..version(1, Some((1, lap_end)), Some("SOFT"), Some(0)) };
        assert_eq!(play([at(2, 5), at(2, 5), at(3, 5), at(1, 4)]).len(), 1);
    }

    #[test]
    fn a_late_document_of_an_earlier_stint_corrects_that_stint_only() {
        let facts = play([
            version(1, Some((1, 9)), Some("SOFT"), Some(0)),
            version(2, Some((11, 11)), Some("HARD"), Some(0)),
            version(1, Some((1, 10)), Some("SOFT"), Some(0)),
        ]);
        let said: Vec<_> = facts.iter().map(|(header, fact)| (fact.stint_number, fact.lap_end, header.revision)).collect();
        assert_eq!(said, [(1, Some(9), 0), (2, Some(11), 0), (1, Some(10), 1)]);
    }

    #[test]
    fn a_stint_with_nothing_but_its_number_is_said_once() {
        let facts = play([version(1, None, None, None), version(1, None, None, None)]);
        assert_eq!((facts.len(), facts[0].1.compound, facts[0].0.causes.as_slice()), (1, Compound::Unknown, [0].as_slice()));
    }

    fn with_laps() -> Bench {
        Bench::new(|graph| {
            let laps = graph.publish(LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>());
            graph.publish(StintsOperator::default(), |inputs| inputs.samples::<Stint>().samples::<Pit>().stream(laps));
        })
    }

    fn begins(lap_number: i32, is_pit_out_lap: bool) -> Sample {
        let date_start = Some(at_ms(i64::from(lap_number) * 80_000));
        Sample::from(raw::Lap { date_start, is_pit_out_lap, ..lap(1, lap_number) })
    }

    /// What stands of car 1, by number.
    fn standing(bench: &Bench) -> BTreeMap<i32, facts::Stint> {
        let mut standing = BTreeMap::new();
        for (header, fact) in bench.facts::<facts::Stint>() {
            if header.withdrawn {
                standing.remove(&fact.stint_number);
            } else {
                standing.insert(fact.stint_number, fact);
            }
        }
        standing
    }

    fn numbers(bench: &Bench) -> Vec<i32> {
        bench.facts::<facts::Stint>().iter().map(|(_, fact)| fact.stint_number).collect()
    }

    /// Case 24.
    #[test]
    fn spurious_stints_at_the_start_are_held_until_the_car_has_been_in_the_pit_lane_as_often() {
        let mut bench = with_laps();
        bench.arrive(0, begins(1, false));
        // As at the start in Italy in 2018, the last one sent twice.
        for number in [1, 2, 3, 4, 4] {
            bench.arrive(1, Sample::from(version(number, Some((1, 1)), Some("SOFT"), Some(3))));
        }
        bench.idle(400_000);
        assert_eq!(numbers(&bench), [1]);
        bench.arrive(800_000, begins(11, true));
        assert_eq!(standing(&bench).keys().copied().collect::<Vec<_>>(), [1], "the others begin with lap 1 still");
        bench.arrive(800_100, Sample::from(version(2, Some((11, 11)), Some("MEDIUM"), Some(0))));
        let said = standing(&bench);
        assert_eq!((said.len(), said[&1].lap_end), (2, Some(10)));
        assert_eq!((said[&2].lap_start, said[&2].compound, said[&2].tyre_age_at_start), (Some(11), Compound::Medium, Some(0)));
    }

    #[test]
    fn a_pass_through_the_pit_lane_makes_room_for_a_stint_as_a_pit_out_lap_does() {
        let mut bench = with_laps();
        bench.arrive(0, begins(1, false));
        bench.arrive(1, Sample::from(version(1, Some((1, 1)), Some("SOFT"), Some(0))));
        bench.arrive(2, Sample::from(version(2, Some((2, 2)), Some("HARD"), Some(0))));
        assert_eq!(numbers(&bench), [1]);
        bench.arrive(3, Sample::from(pit(1, 1, at_ms(3))));
        assert_eq!(numbers(&bench), [1, 2]);
        assert_eq!(bench.facts::<facts::Stint>()[1].0.causes, [2, 3], "the document and the pass through the pit lane");
    }

    #[test]
    fn stints_are_not_bounded_after_a_late_join_or_without_laps() {
        let third = || Sample::from(version(3, Some((20, 21)), Some("HARD"), Some(0)));
        let mut joined = with_laps();
        joined.arrive(0, begins(30, false));
        joined.arrive(1, third());
        assert_eq!(numbers(&joined), [3]);
        let mut without_laps = with_laps();
        without_laps.arrive(0, Sample::from(version(2, Some((9, 19)), Some("SOFT"), Some(0))));
        without_laps.arrive(0, third());
        without_laps.idle(299_999);
        assert_eq!(numbers(&without_laps), [2]);
        without_laps.idle(301_000);
        assert_eq!(numbers(&without_laps), [2, 3]);
    }

    fn with_telemetry() -> Bench {
        Bench::new(|graph| {
            let laps = graph.publish(LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>());
            let telemetry = graph.publish(TelemetryOperator::default(), |inputs| inputs.samples::<raw::CarData>());
            graph.publish(StintsOperator::default(), |inputs| {
                inputs.samples::<Stint>().samples::<Pit>().samples::<raw::Lap>().stream(laps).stream(telemetry)
            });
        })
    }

    /// A pass of 20 s that ends at `second`, with samples through it, in which the car stands for `standing_s`.
    fn pass(bench: &mut Bench, lap_number: i32, second: i64, standing_s: i64) {
        for ms in ((second - 22) * 1_000..(second + 1) * 1_000).step_by(500) {
            let stands = ((second - 10) * 1_000..=(second - 10 + standing_s) * 1_000).contains(&ms) && standing_s > 0;
            bench.arrive(ms, car_data(1, at_ms(ms), if stands { 0 } else { 80 }));
        }
        bench.arrive((second + 1) * 1_000, Sample::from(Pit { lane_duration: Some(20.0), ..pit(1, lap_number, at_ms(second * 1_000)) }));
    }

    #[test]
    fn a_car_that_did_not_stand_in_the_pit_lane_has_its_set_still_whatever_age_the_feed_gives() {
        for (standing_s, expected) in [(0, (true, Some(10), Some(11))), (3, (false, Some(0), Some(1)))] {
            let mut bench = with_telemetry();
            bench.arrive(0, begins(1, false));
            bench.arrive(860_000, Sample::from(version(1, Some((1, 10)), Some("HARD"), Some(0))));
            pass(&mut bench, 10, 900, standing_s);
            bench.arrive(902_000, Sample::from(version(2, Some((11, 11)), Some("HARD"), Some(0))));
            bench.idle(903_000);
            let stint = &standing(&bench)[&2];
            assert_eq!((stint.is_same_set, stint.tyre_age_at_start, stint.tyre_age), expected, "{standing_s} s");
        }
    }

    /// Five cars change from MEDIUM to HARD on lap 20 in 23 s each.
    fn five_stops(bench: &mut Bench) {
        for car in 2..=6 {
            let of = |number: i32, laps: (i32, i32), name: &str| {
                let (lap_start, lap_end) = (Some(laps.0), Some(laps.1));
                Sample::from(Stint { lap_start, lap_end, compound: Some(name.into()), tyre_age_at_start: Some(0), ..stint(car, number) })
            };
            let second = 1_700 + i64::from(car);
            bench.arrive(second * 1_000, of(1, (1, 20), "MEDIUM"));
            bench.arrive(second * 1_000, Sample::from(Pit { lane_duration: Some(23.0), ..pit(car, 20, at_ms(second * 1_000)) }));
            bench.arrive(second * 1_000, of(2, (21, 21), "HARD"));
        }
    }

    /// Montréal 2025, with ages of 0 behind the safety car.
    #[test]
    fn a_pass_too_short_for_a_stop_keeps_the_set_whatever_age_the_feed_gives() {
        for (lane_duration, is_same_set) in [(18.2, true), (22.0, false)] {
            let mut bench = with_laps();
            for lap_number in 1..=25 {
                bench.arrive(i64::from(lap_number) * 80_000 - 80_000, begins(lap_number, false));
                if lap_number == 22 {
                    five_stops(&mut bench);
                }
            }
            bench.arrive(1_980_000, Sample::from(version(1, Some((1, 25)), Some("HARD"), Some(0))));
            bench.arrive(2_000_000, Sample::from(Pit { lane_duration: Some(lane_duration), ..pit(1, 25, at_ms(2_000_000)) }));
            bench.arrive(2_001_000, Sample::from(version(2, Some((26, 26)), Some("HARD"), Some(0))));
            let said = standing(&bench);
            assert_eq!(
                (said[&2].is_same_set, said[&2].tyre_age),
                (is_same_set, Some(if is_same_set { 26 } else { 1 })),
                "{lane_duration} s"
            );
        }
    }

    /// Spielberg 2023: the field went through the pit lane before anybody had stopped.
    #[test]
    fn a_short_pass_is_told_from_a_stop_once_enough_cars_have_changed_compounds() {
        let mut bench = with_laps();
        bench.arrive(0, begins(1, false));
        bench.arrive(80_000, begins(2, false));
        bench.arrive(100_000, Sample::from(version(1, Some((1, 2)), Some("HARD"), Some(0))));
        bench.arrive(180_000, Sample::from(Pit { lane_duration: Some(16.4), ..pit(1, 2, at_ms(180_000)) }));
        bench.arrive(181_000, Sample::from(version(2, Some((3, 3)), Some("HARD"), Some(0))));
        assert!(!standing(&bench)[&2].is_same_set);
        for lap_number in 3..=22 {
            bench.arrive(i64::from(lap_number) * 80_000 - 80_000, begins(lap_number, false));
        }
        five_stops(&mut bench);
        let (header, fact) = bench.facts::<facts::Stint>().into_iter().rfind(|(_, fact)| fact.driver_number == 1).unwrap();
        assert_eq!((fact.stint_number, fact.is_same_set, fact.tyre_age_at_start), (2, true, Some(2)));
        assert!(header.supersedes.is_some() && !header.causes.is_empty());
    }

    /// Melbourne, with a drive-through on lap 10 and a stop on lap 11, and the other way round elsewhere.
    #[test]
    fn a_stint_that_two_passes_explain_follows_the_one_in_which_the_car_stood() {
        for (standing, lap_start) in [([0, 3], 12), ([3, 0], 11)] {
            let mut bench = with_telemetry();
            bench.arrive(0, begins(1, false));
            bench.arrive(860_000, Sample::from(version(1, Some((1, 10)), Some("HARD"), Some(0))));
            pass(&mut bench, 10, 900, standing[0]);
            pass(&mut bench, 11, 990, standing[1]);
            bench.arrive(992_000, Sample::from(version(2, Some((11, 11)), Some("SOFT"), Some(0))));
            bench.idle(993_000);
            let said = super::tests::standing(&bench);
            assert_eq!((said[&1].lap_end, said[&2].lap_start), (Some(lap_start - 1), Some(lap_start)), "{standing:?}");
        }
    }

    #[test]
    fn where_nothing_else_decides_a_stint_begins_as_most_of_the_session_do() {
        let of = |car, number, laps: (i32, i32), name: &str| {
            let (lap_start, lap_end) = (Some(laps.0), Some(laps.1));
            Sample::from(Stint { lap_start, lap_end, compound: Some(name.into()), tyre_age_at_start: Some(0), ..stint(car, number) })
        };
        for (in_lap_of_others, lap_start) in [(11, 12), (10, 11)] {
            let mut bench = with_laps();
            for car in [1, 4, 16] {
                bench.arrive(0, Sample::from(raw::Lap { date_start: Some(at_ms(0)), ..lap(car, 1) }));
                bench.arrive(1, of(car, 1, (1, 1), "HARD"));
            }
            for car in [4, 16] {
                bench.arrive(900_000, Sample::from(pit(car, in_lap_of_others, at_ms(900_000))));
                bench.arrive(900_001, of(car, 2, (11, 11), "SOFT"));
            }
            for (ms, in_lap) in [(900_002, 10), (990_000, 11)] {
                bench.arrive(ms, Sample::from(pit(1, in_lap, at_ms(ms))));
            }
            bench.arrive(990_001, of(1, 2, (11, 11), "SOFT"));
            assert_eq!(standing(&bench)[&2].lap_start, Some(lap_start));
        }
    }

    #[test]
    fn two_stops_on_consecutive_laps_where_the_boxes_lie_before_the_line_are_two_changes() {
        let mut bench = with_laps();
        bench.arrive(0, begins(1, false));
        let at = |lap: i64| lap * 80_000;
        bench.arrive(at(53), Sample::from(version(1, Some((1, 54)), Some("HARD"), Some(0))));
        bench.arrive(at(54), Sample::from(pit(1, 54, at_ms(at(54)))));
        bench.arrive(at(54) + 1, Sample::from(version(2, Some((54, 55)), Some("MEDIUM"), Some(1))));
        // The stint's document comes before that of the pass.
        bench.arrive(at(55), Sample::from(version(3, Some((55, 55)), Some("INTERMEDIATE"), Some(0))));
        assert_eq!(standing(&bench).len(), 2, "held until the pass is known");
        bench.arrive(at(55) + 9, Sample::from(pit(1, 55, at_ms(at(55) + 9))));
        let said = standing(&bench);
        assert_eq!(
            [1, 2, 3].map(|number| (said[&number].lap_start, said[&number].lap_end)),
            [(Some(1), Some(54)), (Some(55), Some(55)), (Some(56), Some(56)),]
        );
        assert!(bench.facts::<facts::Stint>().iter().all(|(header, _)| !header.withdrawn));
    }

    #[test]
    fn of_two_stints_for_the_same_laps_the_newer_wins_once_the_feed_goes_on_with_it_and_the_older_is_withdrawn() {
        let mut bench = with_laps();
        bench.arrive(0, begins(1, false));
        bench.arrive(1, Sample::from(version(1, Some((1, 1)), Some("SOFT"), Some(0))));
        bench.arrive(2, Sample::from(version(2, Some((1, 1)), Some("MEDIUM"), Some(0))));
        bench.arrive(80_000, Sample::from(version(2, Some((1, 2)), Some("MEDIUM"), Some(0))));
        assert_eq!(standing(&bench).keys().copied().collect::<Vec<_>>(), [1]);
        bench.arrive(160_000, Sample::from(version(2, Some((1, 3)), Some("MEDIUM"), Some(0))));
        assert_eq!(standing(&bench).keys().copied().collect::<Vec<_>>(), [2]);
        let (header, _) = bench.facts::<facts::Stint>().into_iter().find(|(header, _)| header.withdrawn).unwrap();
        assert_eq!((header.supersedes, header.revision), (Some(1), 1));
    }

    /// Qatar 2024.
    #[test]
    fn one_wrong_age_between_two_that_fit_is_no_new_set() {
        let mut bench = with_laps();
        bench.arrive(0, begins(1, false));
        bench.arrive(2_900_000, Sample::from(version(1, Some((1, 36)), Some("HARD"), Some(0))));
        for (ms, number, lap, age) in [(3_000_000, 2, 37, 0), (3_080_000, 3, 38, 37)] {
            bench.arrive(ms, Sample::from(pit(1, lap - 1, at_ms(ms))));
            bench.arrive(ms + 1, Sample::from(version(number, Some((lap, lap)), Some("HARD"), Some(age))));
        }
        let said = standing(&bench);
        assert_eq!([2, 3].map(|number| (said[&number].is_same_set, said[&number].tyre_age)), [(true, Some(37)), (true, Some(38))]);
    }

    /// Abu Dhabi 2025, which OpenF1's recorder joined on lap 48.
    #[test]
    fn a_stint_begun_before_the_feed_was_joined_has_the_age_of_the_lap_leapt_to() {
        let mut bench = Bench::new(|graph| {
            let laps = graph.publish(LapsOperator::default(), |inputs| inputs.samples::<raw::Lap>());
            graph.publish(StintsOperator::default(), |inputs| inputs.samples::<Stint>().samples::<raw::Lap>().stream(laps));
        });
        bench.arrive(0, Sample::from(version(2, Some((2, 2)), None, Some(7))));
        bench.arrive(70, Sample::from(lap(1, 1)));
        bench.arrive(190, begins(48, false));
        bench.arrive(191, Sample::from(version(2, Some((2, 48)), None, Some(7))));
        bench.arrive(80_000, begins(49, false));
        bench.arrive(80_001, Sample::from(version(2, Some((2, 49)), None, Some(7))));
        let known = |stint: &facts::Stint| (stint.lap_start, stint.lap_end, stint.tyre_age_at_start, stint.tyre_age);
        assert_eq!(known(&standing(&bench)[&2]), (None, Some(49), None, Some(9)));
        // Another car's came as two, of which the second begins with the lap leapt to.
        bench.arrive(80_002, Sample::from(version(3, Some((48, 49)), None, Some(16))));
        bench.arrive(80_003, Sample::from(version(2, Some((2, 47)), None, None)));
        let said = standing(&bench);
        assert_eq!([2, 3].map(|number| known(&said[&number])), [(None, None, None, None), (None, Some(49), None, Some(18))]);
    }

    #[test]
    fn a_document_sent_twice_under_another_id_says_nothing_new() {
        let at = |id| Stint { id: Some(id), ..version(1, Some((1, 5)), Some("SOFT"), Some(0)) };
        assert_eq!(play([at(2), at(3)]).len(), 1);
    }

    #[test]
    fn a_version_on_a_lap_out_of_reach_waits_and_another_replaces_it() {
        let mut bench = with_laps();
        bench.arrive(0, begins(1, false));
        bench.arrive(1, Sample::from(version(1, Some((1, 57)), Some("SOFT"), Some(0))));
        assert!(standing(&bench).is_empty());
        bench.arrive(80_000, begins(2, false));
        bench.arrive(80_001, Sample::from(version(1, Some((1, 2)), Some("SOFT"), Some(0))));
        bench.arrive(80_002, Sample::from(version(4, Some((56, 56)), Some("HARD"), Some(0))));
        assert_eq!(standing(&bench).values().map(|stint| stint.lap_end).collect::<Vec<_>>(), [Some(2)]);
        // Laps 3 to 7 were not sent; what came too early is taken when they have been driven.
        bench.arrive(240_000, Sample::from(version(1, Some((1, 8)), Some("SOFT"), Some(0))));
        assert_eq!(standing(&bench)[&1].lap_end, Some(2));
        bench.arrive(560_000, begins(8, false));
        assert_eq!(standing(&bench)[&1].lap_end, Some(8));
        assert!(bench.rejections().is_empty());
    }
}
