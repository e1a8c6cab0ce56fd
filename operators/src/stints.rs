//! Stints: versions of `stints` documents folded into one stint per car and number, with the age of its set of tyres; laps and
//! `pit` tell how many there can be.
//!
//! Rules, with their source:
//! * A version with a lower `_id` than the one taken is stale and ignored; one that says nothing new is silent; a null does not erase
//!   (OpenF1 sends whole documents, in which what is known stays).
//! * A compound may be unknown at first and corrected later (FastF1 #950): each change is a revision that supersedes what was said. The
//!   feed's `UNKNOWN`, and any text that is no compound, is the absence of news and takes no known compound away.
//! * The age at the start is the first total of laps that the feed gives for the set (OpenF1 `tyre_age_at_start`): above 0 for a used one.
//!   The age is that and the laps from the stint's first to its last so far. Both laps lag: a document comes up to 10 s after the line.
//! * A car has at most one stint more than it has been in the pit lane: one with a higher number is spurious (Italy 2018: four stints at
//!   the start) and is held, unsaid, until the car has been there as often. This cannot be told of a car that was joined after its lap 1,
//!   nor when no lap is known within [`StintsOperator::wait_ms`]: then every stint is said.

use std::collections::{BTreeMap, BTreeSet};

use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts::{self, Lap};
use pitwall_schemas::raw::{Pit, Stint};
use pitwall_schemas::shared::Compound;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::{Known, Version, in_order};

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
    /// Laps out of the pit lane and into it; the schema ends them at 200.
    pit_out_laps: BTreeSet<i32>,
    pit_in_laps: BTreeSet<i32>,
    /// Laps that `pit` names.
    passes: BTreeSet<i32>,
}

impl Car {
    /// Most stints that the car can have had.
    fn stints_max(&self, has_waited: bool) -> usize {
        match self.first_lap {
            Some(2..) => usize::MAX,
            None if has_waited => usize::MAX,
            _ => self.pit_out_laps.len().max(self.pit_in_laps.len()).max(self.passes.len()) + 1,
        }
    }

    /// Says the stints that were held and need not be any more.
    fn release(&mut self, driver_number: i32, has_waited: bool, context: &mut Context<'_, facts::Stint>) {
        let stints_max = self.stints_max(has_waited);
        for (stint_number, stint) in &mut self.stints {
            if stint.issued.is_none() && *stint_number as usize <= stints_max {
                stint.say(driver_number, *stint_number, true, context);
            }
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct StintState {
    version: Version,
    compound: Known<Compound>,
    lap_start: Known<i32>,
    lap_end: Known<i32>,
    tyre_age_at_start: Known<i32>,
    issued: Option<Issued>,
}

impl StintState {
    fn fold(&mut self, document: &Stint, seq: u64) -> bool {
        // `|` and not `||`: every field is taken.
        self.compound.take(document.compound.as_deref().and_then(compound), seq)
            | self.lap_start.take(document.lap_start, seq)
            | self.lap_end.take(document.lap_end, seq)
            | self.tyre_age_at_start.take(document.tyre_age_at_start, seq)
    }

    fn causes(&self) -> Vec<u64> {
        in_order([self.compound.cause(), self.lap_start.cause(), self.lap_end.cause(), self.tyre_age_at_start.cause()])
    }

    /// Says the stint; what is being taken is a cause when it `releases` a stint that was held, or its number is all that is known.
    fn say(&mut self, driver_number: i32, stint_number: i32, releases: bool, context: &mut Context<'_, facts::Stint>) {
        let mut causes = self.causes();
        if releases || causes.is_empty() {
            causes = in_order(causes.iter().chain(context.causes()).copied().map(Some));
        }
        let fact = self.fact(driver_number, stint_number);
        self.issued = Some(context.draft(fact).because(&causes).correcting(self.issued).emit());
    }

    fn fact(&self, driver_number: i32, stint_number: i32) -> facts::Stint {
        let [lap_start, lap_end, tyre_age_at_start] =
            [&self.lap_start, &self.lap_end, &self.tyre_age_at_start].map(|known| known.value().copied());
        let laps = lap_start.zip(lap_end).map(|(first, last)| (last - first + 1).max(0));
        facts::Stint {
            driver_number,
            stint_number,
            compound: self.compound.value().copied().unwrap_or(Compound::Unknown),
            lap_start,
            lap_end,
            tyre_age_at_start,
            tyre_age: tyre_age_at_start.zip(laps).map(|(at_start, laps)| at_start + laps),
        }
    }
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
    const VERSION: u32 = 2;
    type Output = facts::Stint;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("wait_ms", self.wait_ms.to_string())]
    }

    fn on_timer(&self, state: &mut State, _token: u64, context: &mut Context<'_, facts::Stint>) {
        state.has_waited = true;
        for (driver_number, car) in state.cars.iter_mut() {
            car.release(driver_number, true, context);
        }
    }
}

impl Handle<Stint> for StintsOperator {
    fn apply(&self, state: &mut State, document: &Stint, context: &mut Context<'_, facts::Stint>) {
        let Stint { driver_number, stint_number, .. } = *document;
        let car = state.cars.entry(driver_number);
        let stints_max = car.stints_max(state.has_waited);
        let has_lap = car.first_lap.is_some();
        let stint = car.stints.entry(stint_number).or_default();
        if !stint.version.take(document.id) {
            return;
        }
        let has_changed = stint.fold(document, context.seq());
        if stint.issued.is_none() && stint_number as usize > stints_max {
            if !has_lap && !std::mem::replace(&mut state.waits, true) {
                context.set_timer(context.now().plus(self.wait_ms * 1_000), 0);
            }
        } else if has_changed || stint.issued.is_none() {
            stint.say(driver_number, stint_number, false, context);
        }
    }
}

impl Handle<Pit> for StintsOperator {
    fn apply(&self, state: &mut State, pass: &Pit, context: &mut Context<'_, facts::Stint>) {
        let car = state.cars.entry(pass.driver_number);
        if car.passes.insert(pass.lap_number) {
            car.release(pass.driver_number, state.has_waited, context);
        }
    }
}

impl Handle<Lap> for StintsOperator {
    fn apply(&self, state: &mut State, lap: &Lap, context: &mut Context<'_, facts::Stint>) {
        let car = state.cars.entry(lap.driver_number);
        let mut is_news = car.first_lap.is_none();
        car.first_lap.get_or_insert(lap.lap_number);
        is_news |= lap.is_pit_out_lap && car.pit_out_laps.insert(lap.lap_number);
        is_news |= lap.is_pit_in_lap && car.pit_in_laps.insert(lap.lap_number);
        if is_news {
            car.release(lap.driver_number, state.has_waited, context);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laps::LapsOperator;
    use crate::testing::{Bench, at_ms, lap, pit, stint};
    use pitwall_schemas::raw::{self, Sample};
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
        bench.arrive(800_100, Sample::from(version(2, Some((11, 11)), Some("MEDIUM"), Some(0))));
        assert_eq!(numbers(&bench), [1, 2, 2], "said once it is possible, and corrected by what the feed says then");
        let (header, fact) = bench.facts::<facts::Stint>().pop().unwrap();
        assert_eq!((fact.lap_start, fact.compound, fact.tyre_age_at_start, header.revision), (Some(11), Compound::Medium, Some(0), 1));
    }

    #[test]
    fn a_pass_through_the_pit_lane_makes_room_for_a_stint_as_a_pit_out_lap_does() {
        let mut bench = with_laps();
        bench.arrive(0, begins(1, false));
        bench.arrive(1, Sample::from(version(2, Some((2, 2)), Some("HARD"), Some(0))));
        assert!(numbers(&bench).is_empty());
        bench.arrive(2, Sample::from(pit(1, 1, at_ms(2))));
        assert_eq!(numbers(&bench), [2]);
        assert_eq!(bench.facts::<facts::Stint>()[0].0.causes, [1, 2], "the document and the pass through the pit lane");
    }

    #[test]
    fn stints_are_not_bounded_after_a_late_join_or_without_laps() {
        let third = || Sample::from(version(3, Some((20, 21)), Some("HARD"), Some(0)));
        let mut joined = with_laps();
        joined.arrive(0, begins(30, false));
        joined.arrive(1, third());
        assert_eq!(numbers(&joined), [3]);
        let mut without_laps = with_laps();
        without_laps.arrive(0, third());
        without_laps.idle(299_999);
        assert!(numbers(&without_laps).is_empty());
        without_laps.idle(301_000);
        assert_eq!(numbers(&without_laps), [3]);
    }
}
