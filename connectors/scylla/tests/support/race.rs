//! The facts of the Dutch race, as a sink takes them from a log.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::Path;

use pitwall_archive::archive::Archive;
use pitwall_engine::backtest::{self, Sink};
use pitwall_engine::facts::{FactBatch, Kind};
use pitwall_engine::limits::Limits;
use pitwall_engine::session::{Output, Session};

pub(crate) const SESSION: i32 = 9_920;

/// The facts of a session, in the batches that they are stored in.
pub(crate) struct Facts {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) batches: Vec<FactBatch>,
    /// Number of all.
    pub(crate) len: u64,
}

struct Cut {
    batch_facts: usize,
    batches: Vec<FactBatch>,
}

impl Sink for Cut {
    type Error = Infallible;

    fn take(&mut self, output: &Output, _samples: u64) -> Result<(), Infallible> {
        for fact in output.facts.iter() {
            if self.batches.last().is_none_or(|batch| batch.len() >= self.batch_facts) {
                self.batches.push(FactBatch::default());
            }
            self.batches.last_mut().unwrap().push_encoded(fact).unwrap();
        }
        Ok(())
    }
}

/// Derives the race.
pub(crate) fn facts(batch_facts: usize) -> Facts {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/dutch_2025_race.avro");
    let mut archive = Archive::open(&path).unwrap();
    let graph = pitwall_operators::graph(&Limits::default()).unwrap().for_session(SESSION, 0, archive.quality());
    let kinds = graph.kinds().to_vec();
    let mut session = Session::new(SESSION, graph, Limits::default()).without_keyframes();
    let mut cut = Cut { batch_facts, batches: Vec::new() };
    let outcome = backtest::run(&mut archive, &mut session, &mut cut, NonZeroUsize::new(8_192).unwrap()).unwrap();
    Facts { kinds, batches: cut.batches, len: outcome.facts }
}
