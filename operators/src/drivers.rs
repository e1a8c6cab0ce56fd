//! Drivers: `drivers` documents folded into one entry per car; a fact only when something in it changed.
//!
//! The feed sends the whole list at the start and single entries again when they change (OpenF1 `drivers`). A version with a lower
//! `_id` than the one taken is stale and ignored; a null does not erase what is known about a driver.
//!
//! A car can change hands, as when a rookie drives it in practice (OpenF1 issue 269). Then its entry starts afresh, so that nothing of the
//! driver before is left in it. Names tell who it is, of those that both versions give the first: the acronym, which no two drivers of a
//! season share; the full name, of which the family name may stand first or a part be left out; the broadcast name.

use std::collections::BTreeSet;

use pitwall_engine::operator::{Context, Handle, Issued, Operator};
use pitwall_schemas::facts;
use pitwall_schemas::raw::Driver;
use serde::{Deserialize, Serialize};

use crate::by_driver::ByDriver;
use crate::known::{Known, Version, in_order};

/// Folds the driver list.
#[derive(Debug, Clone, Copy)]
pub struct DriversOperator {
    /// Longest name, bytes. An entry with a longer one is rejected.
    pub name_bytes_max: usize,
}

impl Default for DriversOperator {
    fn default() -> Self {
        Self { name_bytes_max: 256 }
    }
}

/// Every entry of the driver list.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct State {
    entries: ByDriver<Entry>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Entry {
    version: Version,
    broadcast_name: Known<String>,
    full_name: Known<String>,
    acronym: Known<String>,
    team_name: Known<String>,
    team_colour: Known<String>,
    country_code: Known<String>,
    issued: Option<Issued>,
}

impl Entry {
    fn fold(&mut self, document: &Driver, seq: u64) -> bool {
        // `|` and not `||`: every field is taken.
        self.broadcast_name.take(document.broadcast_name.clone(), seq)
            | self.full_name.take(document.full_name.clone(), seq)
            | self.acronym.take(document.name_acronym.clone(), seq)
            | self.team_name.take(document.team_name.clone(), seq)
            | self.team_colour.take(document.team_colour.clone(), seq)
            | self.country_code.take(document.country_code.clone(), seq)
    }

    /// Whether a version of the entry is about another driver.
    fn is_anothers(&self, document: &Driver) -> bool {
        fn both<'a>(known: &'a Known<String>, given: Option<&'a String>) -> Option<(&'a str, &'a str)> {
            Some((known.value()?, given?))
        }
        let is_other_word = |(known, given): (&str, &str)| known.to_uppercase() != given.to_uppercase();
        both(&self.acronym, document.name_acronym.as_ref())
            .map(is_other_word)
            .or_else(|| both(&self.full_name, document.full_name.as_ref()).map(|(known, given)| !is_same_name(known, given)))
            .or_else(|| both(&self.broadcast_name, document.broadcast_name.as_ref()).map(is_other_word))
            .unwrap_or(false)
    }

    fn fields(&self) -> [&Known<String>; 6] {
        [&self.broadcast_name, &self.full_name, &self.acronym, &self.team_name, &self.team_colour, &self.country_code]
    }

    fn fact(&self, driver_number: i32) -> facts::Driver {
        let [broadcast_name, full_name, acronym, team_name, team_colour, country_code] = self.fields().map(|field| field.value().cloned());
        facts::Driver { driver_number, broadcast_name, full_name, acronym, team_name, team_colour, country_code }
    }
}

/// Whether all words of the shorter of two full names are in the other one.
fn is_same_name(one: &str, other: &str) -> bool {
    let words = |name: &str| -> BTreeSet<String> { name.split_whitespace().map(str::to_uppercase).collect() };
    let (one, other) = (words(one), words(other));
    one.is_subset(&other) || other.is_subset(&one)
}

impl Operator for DriversOperator {
    const NAME: &'static str = "drivers";
    const VERSION: u32 = 3;
    type Output = facts::Driver;
    type State = State;

    fn parameters(&self) -> Vec<(&'static str, String)> {
        vec![("name_bytes_max", self.name_bytes_max.to_string())]
    }
}

impl Handle<Driver> for DriversOperator {
    fn apply(&self, state: &mut State, document: &Driver, context: &mut Context<'_, facts::Driver>) {
        let Driver { broadcast_name, full_name, name_acronym, team_name, team_colour, country_code, .. } = document;
        let mut names = [broadcast_name, full_name, name_acronym, team_name, team_colour, country_code].into_iter().flatten();
        if let Some(name) = names.find(|name| name.len() > self.name_bytes_max) {
            let (driver_number, bytes) = (document.driver_number, name.len());
            return context.reject(format!("a name of car {driver_number}'s driver has {bytes} bytes, more than {}", self.name_bytes_max));
        }
        let entry = state.entries.entry(document.driver_number);
        if !entry.version.take(document.id) {
            return;
        }
        if entry.is_anothers(document) {
            *entry = Entry { version: entry.version, issued: entry.issued, ..Entry::default() };
        }
        let has_changed = entry.fold(document, context.seq());
        if !has_changed && entry.issued.is_some() {
            return;
        }
        let mut causes = in_order(entry.fields().map(Known::cause));
        if causes.is_empty() {
            // An entry with nothing but its number still says that the car is there.
            causes.push(context.seq());
        }
        let fact = entry.fact(document.driver_number);
        entry.issued = Some(context.draft(fact).because(&causes).correcting(entry.issued).emit());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Bench, driver};
    use pitwall_schemas::raw::Sample;

    fn bench() -> Bench {
        Bench::new(|graph| {
            graph.publish(DriversOperator::default(), |inputs| inputs.samples::<Driver>());
        })
    }

    fn with(driver_number: i32, change: impl FnOnce(&mut Driver)) -> Sample {
        let mut document = driver(driver_number);
        change(&mut document);
        Sample::from(document)
    }

    #[test]
    fn an_entry_with_a_name_longer_than_the_limit_is_rejected() {
        let mut bench = bench();
        bench.arrive(0, with(1, |document| document.team_name = Some("X".repeat(257))));
        assert_eq!(bench.rejections(), ["a name of car 1's driver has 257 bytes, more than 256"]);
        assert!(bench.facts::<facts::Driver>().is_empty());
    }

    #[test]
    fn a_document_sent_again_says_nothing() {
        let mut bench = bench();
        for ms in 0..3 {
            bench.arrive(ms, with(1, |document| document.name_acronym = Some("VER".into())));
        }
        assert_eq!(bench.facts::<facts::Driver>().len(), 1);
    }

    #[test]
    fn a_change_corrects_what_was_said_and_names_the_versions_that_hold() {
        let mut bench = bench();
        bench.arrive(0, with(1, |document| (document.name_acronym, document.id) = (Some("VER".into()), Some(1))));
        bench.arrive(1, with(4, |document| document.name_acronym = Some("NOR".into())));
        bench.arrive(2, with(1, |document| (document.team_name, document.id) = (Some("Red Bull Racing".into()), Some(2))));
        let facts = bench.facts::<facts::Driver>();
        let (header, fact) = &facts[2];
        assert_eq!((header.revision, header.supersedes, header.causes.as_slice()), (1, Some(0), [0, 2].as_slice()));
        assert_eq!((fact.acronym.as_deref(), fact.team_name.as_deref()), (Some("VER"), Some("Red Bull Racing")));
    }

    fn person<'a>(full_name: impl Into<Option<&'a str>>, acronym: impl Into<Option<&'a str>>) -> impl FnOnce(&mut Driver) {
        let (full_name, name_acronym) = (full_name.into().map(String::from), acronym.into().map(String::from));
        |document| (document.full_name, document.name_acronym) = (full_name, name_acronym)
    }

    #[test]
    fn fields_of_another_driver_of_the_car_never_mix() {
        let regular: [(Option<&str>, Option<&str>); 3] =
            [(Some("Esteban OCON"), Some("OCO")), (Some("Esteban OCON"), None), (None, Some("OCO"))];
        for (full_name, acronym) in regular {
            let mut bench = bench();
            bench.arrive(0, with(31, |document| (document.country_code, document.team_name) = (Some("FRA".into()), Some("Haas".into()))));
            bench.arrive(1, with(31, person(full_name, acronym)));
            bench.arrive(2, with(31, person("Ryo HIRAKAWA", "HIR")));
            let facts = bench.facts::<facts::Driver>();
            let (header, fact) = facts.last().unwrap();
            assert_eq!((fact.full_name.as_deref(), fact.acronym.as_deref()), (Some("Ryo HIRAKAWA"), Some("HIR")));
            assert_eq!((&fact.country_code, &fact.team_name), (&None, &None), "{full_name:?}, {acronym:?}");
            assert_eq!((header.supersedes, header.causes.as_slice()), (Some(1), [2].as_slice()));
        }
    }

    #[test]
    fn a_name_that_is_written_otherwise_is_the_same_driver() {
        for (before, after) in [
            (("ZHOU Guanyu", "ZHO"), ("Guanyu Zhou", "ZHO")),
            (("Kimi ANTONELLI", "ANT"), ("Andrea Kimi ANTONELLI", "ant")),
            (("Alex ALBON", "ALB"), ("Alexander ALBON", "ALB")),
        ] {
            let mut bench = bench();
            bench.arrive(0, with(24, |document| document.country_code = Some("XYZ".into())));
            bench.arrive(1, with(24, person(before.0, before.1)));
            bench.arrive(2, with(24, person(after.0, after.1)));
            let facts = bench.facts::<facts::Driver>();
            assert_eq!(facts.last().unwrap().1.country_code.as_deref(), Some("XYZ"), "{after:?}");
        }
        assert!(is_same_name("ZHOU Guanyu", "Guanyu Zhou") && !is_same_name("Ralf SCHUMACHER", "Michael SCHUMACHER"));
    }

    #[test]
    fn where_nothing_else_is_given_the_broadcast_name_tells_who_it_is() {
        let mut bench = bench();
        let named = |name: &str| Some(String::from(name));
        bench.arrive(0, with(31, |document| (document.broadcast_name, document.country_code) = (named("E OCON"), named("FRA"))));
        bench.arrive(1, with(31, |document| document.broadcast_name = named("C HO")));
        let facts = bench.facts::<facts::Driver>();
        assert_eq!((facts[1].1.broadcast_name.as_deref(), facts[1].1.country_code.as_deref()), (Some("C HO"), None));
    }

    #[test]
    fn a_stale_version_is_ignored() {
        let mut bench = bench();
        bench.arrive(0, with(1, |document| (document.team_name, document.id) = (Some("new".into()), Some(2))));
        bench.arrive(1, with(1, |document| (document.team_name, document.id) = (Some("old".into()), Some(1))));
        assert_eq!(bench.facts::<facts::Driver>().len(), 1);
    }

    #[test]
    fn an_entry_with_nothing_but_its_number_is_said_once() {
        let mut bench = bench();
        bench.arrive(0, with(1, |_| {}));
        bench.arrive(1, with(1, |_| {}));
        let facts = bench.facts::<facts::Driver>();
        assert_eq!((facts.len(), facts[0].0.causes.as_slice()), (1, [0].as_slice()));
    }
}
