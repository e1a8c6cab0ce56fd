//! Backtest: a session's raw records straight through the graph, no log, no waiting.
//!
//! The same [`Session`] as live. An archive ends with one idle record, so that what waits for the end of a packet is said; a live
//! replay of the same archive ends the same way.

use std::num::NonZeroUsize;

use crate::Event;
use crate::Micros;
use crate::graph::Halted;
use crate::hash::{Digest, RunningHash};
use crate::session::{Output, RawRecord, Session};

/// Ledger time between the last sample of a source that ends and the idle record that closes it, µs.
pub const CLOSING_IDLE: i64 = Micros::SECOND;

/// A source of raw records in order, block by block.
pub trait RawSource<S> {
    /// Why it cannot be read.
    type Error;
    /// The records of one block.
    type Block<'a>: Iterator<Item = Result<RawRecord<'a, S>, Self::Error>>
    where
        Self: 'a;

    /// The next block, or `None` at the end.
    ///
    /// # Errors
    /// When the source is damaged there; blocks before it were whole.
    fn next_block(&mut self) -> Result<Option<Self::Block<'_>>, Self::Error>;
}

/// Where a backtest's output goes.
pub trait Sink {
    /// Why it cannot take any.
    type Error;

    /// Takes what was derived since the last call; the caller clears it afterwards.
    ///
    /// # Errors
    /// When it cannot be stored.
    fn take(&mut self, output: &Output, samples: u64) -> Result<(), Self::Error>;
}

/// A sink that drops everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Discard;

impl Sink for Discard {
    type Error = std::convert::Infallible;

    fn take(&mut self, _output: &Output, _samples: u64) -> Result<(), Self::Error> {
        Ok(())
    }
}

/// Why a backtest stopped early.
#[derive(Debug, thiserror::Error)]
pub enum BacktestError<R, W> {
    /// The source cannot be read further.
    #[error(transparent)]
    Source(R),
    /// The output cannot be stored.
    #[error(transparent)]
    Sink(W),
    /// An operator halted the session.
    #[error(transparent)]
    Halted(#[from] Halted),
}

/// What a backtest came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Raw samples read.
    pub samples: u64,
    /// Ledger records they made, ticks included.
    pub ledger_records: u64,
    /// Facts derived.
    pub facts: u64,
    /// Input refused.
    pub dead_letters: u64,
    /// Hash of collection, arrival time and bytes of every sample.
    pub input_hash: Digest,
    /// Hash of every fact.
    pub facts_hash: Digest,
}

/// The running hash of a session's input.
pub struct InputHash {
    hash: RunningHash,
    tags: Vec<[u8; 8]>,
}

impl InputHash {
    /// Before the first sample.
    #[must_use]
    pub fn new<S: Event>() -> Self {
        let tag = |name: &&str| {
            let mut tag = [0; 8];
            tag.copy_from_slice(&Digest::of(name.as_bytes()).0[..8]);
            tag
        };
        Self { hash: RunningHash::default(), tags: S::STREAMS.iter().map(tag).collect() }
    }

    /// Takes one sample.
    #[inline]
    pub fn update<S>(&mut self, raw: &RawRecord<'_, S>) {
        let mut frame = [0; 24];
        frame[..8].copy_from_slice(&self.tags[usize::from(raw.stream)]);
        frame[8..16].copy_from_slice(&raw.received_at.0.to_le_bytes());
        frame[16..].copy_from_slice(&(raw.payload.len() as u64).to_le_bytes());
        self.hash.update(&frame);
        self.hash.update(raw.payload);
    }

    /// The hash so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.hash.digest()
    }
}

/// Runs a whole source through a session and hands the output over every `batch` samples. The batch size changes nothing but memory.
///
/// # Errors
/// When the source is damaged, an operator halts, or the sink cannot store. What came before has been handed over.
pub fn run<S: Event, R: RawSource<S>, W: Sink>(
    source: &mut R,
    session: &mut Session<S>,
    sink: &mut W,
    batch: NonZeroUsize,
) -> Result<Outcome, BacktestError<R::Error, W::Error>> {
    let mut output = Output::default();
    let mut input_hash = InputHash::new::<S>();
    let (mut samples, mut dead_letters, mut waiting) = (0_u64, 0_u64, 0_usize);
    let stopped = loop {
        let block = match source.next_block() {
            Ok(Some(block)) => block,
            Ok(None) => break None,
            Err(error) => break Some(BacktestError::Source(error)),
        };
        let mut stopped = None;
        for raw in block {
            match raw {
                Err(error) => stopped = Some(BacktestError::Source(error)),
                Ok(raw) => {
                    input_hash.update(&raw);
                    samples += 1;
                    waiting += 1;
                    stopped = session.take(&raw, &mut output).err().map(BacktestError::Halted);
                    if waiting >= batch.get() {
                        dead_letters += output.dead_letters.len() as u64;
                        sink.take(&output, samples).map_err(BacktestError::Sink)?;
                        output.clear();
                        waiting = 0;
                    }
                }
            }
            if stopped.is_some() {
                break;
            }
        }
        if stopped.is_some() {
            break stopped;
        }
    };
    if !matches!(stopped, Some(BacktestError::Halted(_)))
        && let Some(last) = session.sequencer().last_known_at()
    {
        session.take_idle(last.plus(CLOSING_IDLE), &mut output)?;
    }
    dead_letters += output.dead_letters.len() as u64;
    sink.take(&output, samples).map_err(BacktestError::Sink)?;
    if let Some(error) = stopped {
        return Err(error);
    }
    Ok(Outcome {
        samples,
        ledger_records: session.sequencer().next_seq(),
        facts: session.graph().next_fact_seq(),
        dead_letters,
        input_hash: input_hash.digest(),
        facts_hash: session.facts_hash(),
    })
}

/// Runs `task` on every item with at most `jobs` threads, taking items in the order given, and returns the results in that order.
/// Sessions share nothing, so the number of threads cannot change a result.
pub fn run_jobs<T: Send, R: Send>(items: Vec<T>, jobs: NonZeroUsize, task: impl Fn(T) -> R + Sync) -> Vec<R> {
    use std::sync::mpsc;
    let count = items.len();
    let (send, receive) = mpsc::channel();
    let queue = Queue::new(items);
    #[expect(clippy::disallowed_methods, reason = "a thread per session; nothing flows between them but the finished results")]
    std::thread::scope(|scope| {
        for _ in 0..jobs.get().min(count) {
            let (send, queue, task) = (send.clone(), &queue, &task);
            scope.spawn(move || {
                while let Some((index, item)) = queue.next() {
                    if send.send((index, task(item))).is_err() {
                        return;
                    }
                }
            });
        }
    });
    drop(send);
    let mut results: Vec<(usize, R)> = receive.into_iter().collect();
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[expect(clippy::disallowed_types, reason = "hands whole sessions to threads; no state of a session is shared")]
struct Queue<T>(std::sync::Mutex<std::iter::Enumerate<std::vec::IntoIter<T>>>);

impl<T> Queue<T> {
    #[expect(clippy::disallowed_types, reason = "see above")]
    fn new(items: Vec<T>) -> Self {
        Self(std::sync::Mutex::new(items.into_iter().enumerate()))
    }

    fn next(&self) -> Option<(usize, T)> {
        self.0.lock().expect("no thread panics while it holds the queue").next()
    }
}
