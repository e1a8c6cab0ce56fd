//! Backtest of an archive that may be damaged: what its whole blocks say is kept, with the reason why there is no more.

use std::num::NonZeroUsize;

use pitwall_engine::backtest::{self, BacktestError, InputHash, Outcome, RawSource, Sink};
use pitwall_engine::graph::Halted;
use pitwall_engine::session::{Output, Session};
use pitwall_schemas::raw::Sample;

use crate::archive::{Archive, ArchiveError};

/// Why a backtest covers only a part of its archive.
#[derive(Debug, thiserror::Error)]
pub enum Incomplete {
    /// The archive is damaged behind it.
    #[error(transparent)]
    Damaged(#[from] ArchiveError),
    /// An operator halted the session.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// Runs a session through an archive as [`backtest::run`] does, but comes back with an outcome where that stops early.
///
/// # Errors
/// When the sink cannot store what it is given.
pub fn run<W: Sink>(
    archive: &mut Archive,
    session: &mut Session<Sample>,
    sink: &mut W,
    batch: NonZeroUsize,
) -> Result<(Outcome, Option<Incomplete>), W::Error> {
    let mut counted = Counted { sink, samples: 0, dead_letters: 0 };
    let incomplete = match backtest::run(archive, session, &mut counted, batch) {
        Ok(outcome) => return Ok((outcome, None)),
        Err(BacktestError::Sink(error)) => return Err(error),
        Err(BacktestError::Source(error)) => Incomplete::Damaged(error),
        Err(BacktestError::Halted(halted)) => Incomplete::Halted(halted),
    };
    let outcome = Outcome {
        samples: counted.samples,
        ledger_records: session.sequencer().next_seq(),
        facts: session.graph().next_fact_seq(),
        dead_letters: counted.dead_letters,
        input_hash: hash_samples(archive, counted.samples).digest(),
        facts_hash: session.facts_hash(),
    };
    Ok((outcome, Some(incomplete)))
}

/// The input hash of an archive's first `samples` samples.
fn hash_samples(archive: &mut Archive, samples: u64) -> InputHash {
    let mut hash = InputHash::new::<Sample>();
    let mut left = samples;
    archive.seek(0);
    while left > 0
        && let Ok(Some(block)) = archive.next_block()
    {
        for raw in block.map_while(Result::ok).take(usize::try_from(left).unwrap_or(usize::MAX)) {
            hash.update(&raw);
            left -= 1;
        }
    }
    hash
}

struct Counted<'a, W> {
    sink: &'a mut W,
    samples: u64,
    dead_letters: u64,
}

impl<W: Sink> Sink for Counted<'_, W> {
    type Error = W::Error;

    fn take(&mut self, output: &Output, samples: u64) -> Result<(), W::Error> {
        self.samples = samples;
        self.dead_letters += output.dead_letters.len() as u64;
        self.sink.take(output, samples)
    }
}
