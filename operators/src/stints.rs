//! Stints: versions of `stints` documents folded into one stint per car and number, with the age of its set of tyres.
//!
//! Rules, with their source:
//! * A version with a lower `_id` than the one taken is stale and ignored; one that says nothing new is silent; a null does not erase
//!   (OpenF1 sends whole documents, in which what is known stays).
//! * A compound may be unknown at first and corrected later (FastF1 #950): each change is a revision that supersedes what was said. The
//!   feed's `UNKNOWN`, and any text that is no compound, is the absence of news and takes no known compound away.
//! * The age at the start is the first total of laps that the feed gives for the set (OpenF1 `tyre_age_at_start`): above 0 for a used one.
//!   The age is that and the laps from the stint's first to its last so far. Both laps lag: a document comes up to 10 s after the line.

use std::collections::BTreeMap;

use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts;
use pitwall_schemas::raw::Stint;
use pitwall_schemas::shared::Compound;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::{Known, in_order};

/// Folds stint documents.
#[derive(Debug, Clone, Copy, Default)]
pub struct StintsOperator;

/// Every stint of the session.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// By number, which the schema ends at 100.
    cars: ByDriver<BTreeMap<i32, StintState>>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct StintState {
    /// `_id` of the newest version taken.
    version: Option<i64>,
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
    const VERSION: u32 = 1;
    type Output = facts::Stint;
    type State = State;
}

impl Handle<Stint> for StintsOperator {
    fn apply(&self, state: &mut State, document: &Stint, context: &mut Context<'_, facts::Stint>) {
        let Stint { driver_number, stint_number, .. } = *document;
        let stint = state.cars.entry(driver_number).entry(stint_number).or_default();
        if document.id < stint.version {
            return;
        }
        stint.version = document.id;
        let has_changed = stint.fold(document, context.seq());
        if !has_changed && stint.issued.is_some() {
            return;
        }
        let mut causes = stint.causes();
        if causes.is_empty() {
            // A document with nothing but its number still says that the stint is there.
            causes.push(context.seq());
        }
        let fact = stint.fact(driver_number, stint_number);
        stint.issued = Some(context.draft(fact).because(&causes).correcting(stint.issued).emit());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, stint};
    use pitwall_schemas::raw::Sample;
    use pitwall_schemas::shared::FactHeader;

    fn version(stint_number: i32, laps: Option<(i32, i32)>, name: Option<&str>, age: Option<i32>) -> Stint {
        let (lap_start, lap_end) = laps.unzip();
        Stint { lap_start, lap_end, compound: name.map(Into::into), tyre_age_at_start: age, ..stint(1, stint_number) }
    }

    fn play(versions: impl IntoIterator<Item = Stint>) -> Vec<(FactHeader, facts::Stint)> {
        let mut bench = Bench::new(|graph| {
            graph.publish(StintsOperator, |inputs| inputs.samples::<Stint>());
        });
        for (ms, document) in (0..).zip(versions) {
            bench.arrive(ms, Sample::from(document));
        }
        assert!(bench.rejections().is_empty());
        bench.facts()
    }

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
}
