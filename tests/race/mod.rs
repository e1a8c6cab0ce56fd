//! The bundled sessions as tests read them: sample by sample, through the real graph.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

pub(crate) mod official;

use std::path::{Path, PathBuf};

use pitwall_archive::archive::Archive;
use pitwall_engine::backtest::RawSource;
use pitwall_engine::graph::GraphBuilder;
use pitwall_engine::limits::Limits;
use pitwall_engine::memory::Seeded;
use pitwall_engine::session::{RawRecord, Session};
use pitwall_schemas::raw::Sample;

/// Seeded points of each whole-race test.
pub(crate) const POINTS: usize = 200;

/// A file of `tests/data`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The 2025 Dutch Grand Prix.
pub(crate) fn dutch() -> Archive {
    Archive::open(&data("dutch_2025_race.avro")).unwrap()
}

/// Qualifying of the 2025 Mexico City Grand Prix.
pub(crate) fn mexico() -> Archive {
    Archive::open(&data("mexico_2025_qualifying.avro")).unwrap()
}

/// A new session of all operators and whatever `more` adds.
pub(crate) fn session_with(archive: &Archive, more: impl FnOnce(&mut GraphBuilder<Sample>)) -> Session<Sample> {
    let mut graph = GraphBuilder::default();
    pitwall_operators::join(&mut graph);
    more(&mut graph);
    let graph = graph.build(Limits::default()).unwrap().for_session(archive.session_key(), 0, archive.quality());
    Session::new(archive.session_key(), graph, Limits::default()).without_keyframes()
}

/// A new session of all operators.
pub(crate) fn session(archive: &Archive) -> Session<Sample> {
    session_with(archive, |_| {})
}

/// Hands every sample of `archive` to `each` with its number, until `each` says stop.
pub(crate) fn for_each(archive: &mut Archive, mut each: impl FnMut(usize, RawRecord<'_, Sample>) -> std::ops::ControlFlow<()>) {
    while let Some(block) = archive.next_block().unwrap() {
        for raw in block {
            let raw = raw.unwrap();
            if each(raw.ingest_seq as usize, raw).is_break() {
                return;
            }
        }
    }
}

/// Distinct sample numbers that `seed` draws from the whole race, rising.
pub(crate) fn points(seed: u64, samples: u64) -> Vec<usize> {
    let mut seeded = Seeded::new(seed);
    let mut points = std::collections::BTreeSet::new();
    while points.len() < POINTS {
        points.insert(seeded.below(samples - 1) as usize + 1);
    }
    points.into_iter().collect()
}
