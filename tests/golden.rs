//! The bundled sessions come to the hashes they came to before: whoever changes a derivation changes these on purpose, with
//! `UPDATE_EXPECT=1`, and says why.
//!
//! A hash proves only that nothing changed. That what it covers is right is shown by `tests/oracles.rs`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "golden files are files")]

mod race;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;

use pitwall_archive::archive::Archive;
use pitwall_engine::backtest::{self, Sink};
use pitwall_engine::limits::Limits;
use pitwall_engine::session::Output;

#[derive(Default)]
struct Count(BTreeMap<&'static str, u64>);

impl Sink for Count {
    type Error = std::convert::Infallible;

    fn take(&mut self, output: &Output, _samples: u64) -> Result<(), Self::Error> {
        for fact in output.facts.iter() {
            *self.0.entry(fact.kind.name).or_default() += 1;
        }
        Ok(())
    }
}

fn check(name: &str, archive: Archive) {
    compare(name, &derive(archive));
}

fn derive(mut archive: Archive) -> serde_json::Value {
    let mut session = race::session(&archive);
    let mut count = Count::default();
    let outcome = backtest::run(&mut archive, &mut session, &mut count, NonZeroUsize::new(8_192).unwrap()).unwrap();
    serde_json::json!({
        "graph_hash": session.graph().hash().to_string(),
        "input_hash": outcome.input_hash.to_string(),
        "facts_hash": outcome.facts_hash.to_string(),
        "samples": outcome.samples,
        "ledger_records": outcome.ledger_records,
        "dead_letters": outcome.dead_letters,
        "facts": count.0,
    })
}

fn compare(name: &str, found: &serde_json::Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var("UPDATE_EXPECT").is_ok() {
        fs::write(&path, serde_json::to_string_pretty(found).unwrap() + "\n").unwrap();
    }
    let expected: serde_json::Value = serde_json::from_str(&fs::read_to_string(&path).unwrap_or_else(|_| "null".to_owned())).unwrap();
    assert_eq!(*found, expected, "{name}: if this was meant, run again with UPDATE_EXPECT=1");
}

#[test]
fn the_dutch_race_comes_to_the_same_facts_as_ever() {
    check("dutch_2025_race.json", race::dutch());
}

#[test]
fn mexico_qualifying_comes_to_the_same_facts_as_ever() {
    check("mexico_2025_qualifying.json", race::mexico());
}

/// The graph's hash stands in every keyframe and decides whether a session is derived anew, so what it covers is looked at, not only it.
#[test]
fn the_graph_is_joined_as_ever() {
    let graph = pitwall_operators::graph(&Limits::default()).unwrap();
    compare("graph.json", &serde_json::json!({ "hash": graph.hash().to_string(), "operators": graph.description() }));
}
