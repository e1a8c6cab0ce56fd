//! The loop over a log: fetch, put in order, derive, commit; after any doubt, back to the last commit.
//!
//! An engine fences first and reads then. It never repairs its state: whatever a commit answers but "done", it recovers from the log,
//! which knows.
//!
//! A session whose ledger was derived by another graph is derived anew before any input is taken: the whole ledger is replayed, and all
//! facts of the next epoch become visible in one commit, together with the `upgrade` record that says so. Until then readers see the epoch
//! before, whole; from then on they see the new one, whole.

use std::collections::BTreeMap;

use pitwall_schemas::log::{LedgerBlock, RawPosition, Upgrade};

use crate::backtest::CLOSING_IDLE;
use crate::facts::FactBatch;
use crate::graph::{Graph, Halted};
use crate::hash::Digest;
use crate::ledger::{BlockBuilder, Chain, LedgerError, Seal, decode_block, is_closing};
use crate::limits::Limits;
use crate::log::{CommitError, CommitUnit, Committed, EventLog, Fence, Head, SessionState, StoredRaw};
use crate::sequencer::Reorder;
use crate::session::{Output, RawRecord, ReplayError, Session};
use crate::{Event, Micros};

/// How often the commit of a session derived anew is tried before its engine gives up.
const REBUILDS_MAX: usize = 5;

/// Why an engine stopped.
#[derive(Debug, thiserror::Error)]
pub enum EngineError<E> {
    /// The log cannot be reached.
    #[error(transparent)]
    Log(E),
    /// Another engine has the session.
    #[error("another engine has taken over session {0}: this one stops")]
    Fenced(i32),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The log would not take the session derived anew.
    #[error("session {session_key} was derived anew as epoch {epoch}, and the log aborted its commit {REBUILDS_MAX} times")]
    NotRebuilt {
        /// The session.
        session_key: i32,
        /// The epoch that did not come about.
        epoch: i32,
    },
    /// Replaying the ledger gave other facts than were published.
    #[error(
        "session {session_key}: replaying the ledger up to record {seq} gives other facts than were published: an operator changed without a new VERSION"
    )]
    FactsDiffer {
        /// The session.
        session_key: i32,
        /// Last ledger record replayed.
        seq: u64,
    },
}

/// What one step of an engine did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Ledger records committed.
    pub records: usize,
    /// Facts committed, for readers in the same process.
    pub facts: FactBatch,
    /// Whether the commit failed and the engine went back to the last one.
    pub has_recovered: bool,
}

/// One session's engine over a log.
pub struct Engine<S, L> {
    log: L,
    session_key: i32,
    graph: Box<dyn Fn() -> Graph<S>>,
    limits: Limits,
    fence: Fence,
    session: Session<S>,
    block_hash: Digest,
    reorder: Reorder<StoredRaw>,
    /// Next offset to take, by stream and partition: what commits say.
    taken: BTreeMap<(u16, i32), i64>,
    /// Next offset to fetch, by stream and partition: ahead of `taken` by what is held.
    fetched: BTreeMap<(u16, i32), i64>,
    epoch: i32,
    keyframes_skipped: u64,
    /// Where the last commit stands.
    head: Option<Head>,
    /// Whether the last committed record closes the session.
    is_closing: bool,
    /// What deriving the session anew committed, until a step tells it.
    rebuilt: Option<Step>,
}

impl<S: Event, L: EventLog> Engine<S, L> {
    /// Takes a session over and recovers it, or derives it anew as the next epoch when another graph derived it. `graph` makes the
    /// session's graph, filed under the session.
    ///
    /// # Errors
    /// When the log cannot be reached, its ledger is damaged, or recovery reaches other facts than were published.
    pub fn start(
        mut log: L,
        session_key: i32,
        graph: impl Fn() -> Graph<S> + 'static,
        limits: Limits,
    ) -> Result<Self, EngineError<L::Error>> {
        let fence = log.acquire(session_key).map_err(EngineError::Log)?;
        let session = Session::new(session_key, graph(), limits.clone());
        let mut engine = Self {
            log,
            session_key,
            graph: Box::new(graph),
            limits,
            fence,
            session,
            block_hash: Digest::default(),
            reorder: Reorder::default(),
            taken: BTreeMap::new(),
            fetched: BTreeMap::new(),
            epoch: 0,
            keyframes_skipped: 0,
            head: None,
            is_closing: false,
            rebuilt: None,
        };
        engine.recover()?;
        Ok(engine)
    }

    /// The session as it stands.
    #[must_use]
    pub const fn session(&self) -> &Session<S> {
        &self.session
    }

    /// Why the session's graph stands still, if it does; its ledger goes on.
    #[must_use]
    pub const fn halted(&self) -> Option<&Halted> {
        self.session.halted()
    }

    /// Keyframes that could not be used for recovery.
    #[must_use]
    pub const fn keyframes_skipped(&self) -> u64 {
        self.keyframes_skipped
    }

    /// Where the last commit stands; `None` before the first.
    #[must_use]
    pub const fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The log.
    pub const fn log_mut(&mut self) -> &mut L {
        &mut self.log
    }

    /// Whether the record that closes a session whose source has ended is committed, or there is nothing to close.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        self.head.is_none() || self.is_closing
    }

    /// What observers are told of `step`, if it committed anything.
    #[must_use]
    pub fn committed<'a>(&'a self, step: &'a Step) -> Option<Committed<'a>> {
        let head = *self.head.as_ref().filter(|_| step.records > 0)?;
        Some(Committed { session_key: self.session_key, head, facts: &step.facts, records: step.records, halted: self.halted() })
    }

    /// Closes a session whose source has ended, with the idle record a backtest ends with, so that both come to the same facts. Once
    /// it [is closed](Self::is_closed) this does nothing, also after a restart. Only for replayed sources, and only when nothing is left
    /// to take.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub fn close(&mut self) -> Result<Step, EngineError<L::Error>> {
        let Some(last) = self.session.sequencer().last_known_at().filter(|_| !self.is_closed()) else { return Ok(Step::default()) };
        let mut output = Output::with_ledger();
        let _ = self.session.take_idle(last.plus(CLOSING_IDLE), &mut output);
        self.commit(&mut output, true)
    }

    /// Takes what has arrived and commits it. `clock` is the OS clock for live sources and `None` for replayed ones, which never see it.
    ///
    /// # Errors
    /// When the log cannot be reached or this engine has been fenced. An aborted commit is no error: the engine recovers.
    pub fn step(&mut self, clock: Option<Micros>) -> Result<Step, EngineError<L::Error>> {
        if let Some(rebuilt) = self.rebuilt.take() {
            return Ok(rebuilt);
        }
        let positions = positions::<S>(&self.fetched);
        let room = self.limits.held_records_max.saturating_sub(self.reorder.held());
        let fetched =
            self.log.fetch(self.session_key, &positions, self.limits.commit_records_behind_max.min(room)).map_err(EngineError::Log)?;
        for raw in fetched {
            let next = self.fetched.entry((raw.stream, raw.partition)).or_default();
            *next = (*next).max(raw.offset + 1);
            self.reorder.offer(self.session.sequencer().next_ingest_seq(), raw.ingest_seq, raw);
        }
        // What an earlier commit was cut before counts too: behind is who has much to do, whether it came just now or not.
        let records_max = if self.reorder.held() > self.limits.commit_records_live_max {
            self.limits.commit_records_behind_max
        } else {
            self.limits.commit_records_live_max
        };
        let mut output = Output::with_ledger();
        self.take_in_order(clock, records_max, &mut output);
        if let Some(clock) = clock {
            self.pass_time(clock, &mut output);
        }
        self.commit(&mut output, false)
    }

    fn take_in_order(&mut self, clock: Option<Micros>, records_max: usize, output: &mut Output) {
        let is_full = |output: &Output| {
            output.ledger.as_ref().is_some_and(|block| block.len() >= records_max || block.byte_len() >= self.limits.block_bytes_max)
        };
        while !is_full(output) {
            let Some(raw) = self.reorder.take(self.session.sequencer().next_ingest_seq()) else { return };
            let received_at = match clock {
                Some(clock) => self.session.sequencer_mut().clamp(raw.received_at, clock, self.limits.clock_ahead_ms_max),
                None => raw.received_at,
            };
            let record = RawRecord {
                stream: raw.stream,
                partition: raw.partition,
                offset: raw.offset,
                ingest_seq: raw.ingest_seq,
                received_at,
                payload: &raw.payload,
                event: S::decode(raw.stream, &raw.payload),
            };
            // A halted session is still sequenced; `halted` tells.
            let _ = self.session.take(&record, output);
            self.taken.insert((raw.stream, raw.partition), raw.offset + 1);
        }
    }

    /// Lets a live session notice that time passes: missing records are given up and due timers fire.
    fn pass_time(&mut self, clock: Micros, output: &mut Output) {
        if let Some(missing) =
            self.reorder.give_up(self.session.sequencer().next_ingest_seq(), clock, self.limits.hold_ms, self.limits.held_records_max)
        {
            let _ = self.session.take_gap(missing, clock, output);
        }
        let is_behind = self.session.graph().next_due().is_some_and(|due| due <= clock)
            || self.session.sequencer().last_known_at().is_some_and(|last| clock.whole_second() > last);
        if is_behind && self.reorder.held() == 0 && output.ledger.as_ref().is_some_and(BlockBuilder::is_empty) {
            let _ = self.session.take_idle(clock, output);
        }
    }

    /// Commits what was taken; `is_closing` says whether its last record closes the session.
    fn commit(&mut self, output: &mut Output, is_closing: bool) -> Result<Step, EngineError<L::Error>> {
        let Some(records) = output.ledger.as_ref().map(BlockBuilder::len).filter(|records| *records > 0) else {
            return Ok(Step::default());
        };
        match self.append(output, is_closing) {
            Ok(()) => {
                for keyframe in &output.keyframes {
                    self.log.keep_keyframe(keyframe).map_err(EngineError::Log)?;
                }
                Ok(Step { records, facts: std::mem::take(&mut output.facts), has_recovered: false })
            }
            Err(CommitError::Fenced) => Err(EngineError::Fenced(self.session_key)),
            Err(CommitError::Aborted | CommitError::Unknown) => {
                self.recover()?;
                Ok(Step { has_recovered: true, ..Step::default() })
            }
        }
    }

    /// Makes a unit of the output's ledger records and all that goes with them, and gives it to the log.
    fn append(&mut self, output: &mut Output, is_closing: bool) -> Result<(), CommitError> {
        let positions = positions::<S>(&self.taken);
        let head = self.head_of_session(is_closing);
        let Some(block) = output.ledger.as_mut() else { return Ok(()) };
        let (bytes, hash) = block.seal(&Seal {
            session_key: self.session_key,
            previous_hash: self.block_hash,
            streams: S::STREAMS,
            positions: &positions,
            next_ingest_seq: head.next_ingest_seq,
            epoch: head.epoch,
            graph_hash: head.graph_hash,
            next_fact_seq: head.next_fact_seq,
            facts_hash: head.facts_hash,
        });
        let unit = CommitUnit {
            session_key: self.session_key,
            block: &bytes,
            head,
            facts: &output.facts,
            dead_letters: &output.dead_letters,
            positions: &positions,
        };
        self.log.commit(self.fence, &unit)?;
        self.block_hash = hash;
        self.head = Some(head);
        self.is_closing = is_closing;
        Ok(())
    }

    fn head_of_session(&self, is_closed: bool) -> Head {
        let sequencer = self.session.sequencer();
        let state = match (self.session.halted(), is_closed) {
            (Some(_), _) => SessionState::Halted,
            (None, true) => SessionState::Complete,
            (None, false) => SessionState::Live,
        };
        Head {
            epoch: self.epoch,
            last_seq: sequencer.next_seq() - 1,
            known_at: sequencer.last_known_at().unwrap_or_default(),
            next_ingest_seq: sequencer.next_ingest_seq(),
            graph_hash: self.session.graph().hash(),
            next_fact_seq: self.session.graph().next_fact_seq(),
            facts_hash: self.session.facts_hash(),
            state,
        }
    }

    /// Goes back to the last commit; a session of another graph is derived anew on the way.
    fn recover(&mut self) -> Result<(), EngineError<L::Error>> {
        for _ in 0..REBUILDS_MAX {
            self.reorder = Reorder::default();
            self.taken.clear();
            self.block_hash = Digest::default();
            self.head = None;
            self.is_closing = false;
            self.epoch = 0;
            let Some(last) = self.last_block()? else {
                self.session = self.new_session();
                self.fetched.clear();
                return Ok(());
            };
            self.epoch = last.epoch;
            let is_there = if last.graph_hash == self.session.graph().hash().0 {
                self.replay_to_end(&last)?;
                true
            } else {
                self.epoch += 1;
                self.rebuild()?
            };
            if is_there {
                self.fetched.clone_from(&self.taken);
                return Ok(());
            }
        }
        Err(EngineError::NotRebuilt { session_key: self.session_key, epoch: self.epoch })
    }

    fn last_block(&mut self) -> Result<Option<LedgerBlock>, EngineError<L::Error>> {
        let Some(end) = self.log.ledger_end(self.session_key).map_err(EngineError::Log)? else { return Ok(None) };
        let blocks = self.log.ledger(self.session_key, end).map_err(EngineError::Log)?;
        Ok(blocks.last().map(|bytes| decode_block(bytes)).transpose()?)
    }

    /// Newest usable keyframe, then the ledger behind it with output thrown away, hash checked.
    fn replay_to_end(&mut self, last: &LedgerBlock) -> Result<(), EngineError<L::Error>> {
        let end = (last.first_seq + last.records.len() as i64 - 1) as u64;
        self.session = self.newest_keyframe(end)?;
        let mut chain = Chain::from_any();
        let mut output = Output::default();
        for bytes in self.log.ledger(self.session_key, self.session.sequencer().next_seq().min(end)).map_err(EngineError::Log)? {
            let block = chain.read(&bytes)?;
            self.replay_block(&block, &mut output)?;
            output.clear();
            // Blocks of earlier epochs say which facts another graph derived.
            if block.epoch == self.epoch && self.session.facts_hash().0 != block.facts_hash {
                return Err(EngineError::FactsDiffer { session_key: self.session_key, seq: self.session.sequencer().next_seq() - 1 });
            }
        }
        self.block_hash = chain.hash();
        self.head = Some(self.head_of_session(self.is_closing));
        Ok(())
    }

    /// Derives the session anew as the epoch that comes next, and commits it. Says whether the log took it.
    ///
    /// What was refused before is not refused once more: dead letters are of the ledger, whoever derives it.
    fn rebuild(&mut self) -> Result<bool, EngineError<L::Error>> {
        self.session = self.new_session();
        let mut chain = Chain::from_start();
        let mut output = Output::default();
        for bytes in self.log.ledger(self.session_key, 0).map_err(EngineError::Log)? {
            self.replay_block(&chain.read(&bytes)?, &mut output)?;
        }
        self.block_hash = chain.hash();
        output.dead_letters.clear();
        output.ledger = Some(BlockBuilder::default());
        let upgrade = Upgrade { epoch: self.epoch, graph_hash: self.session.graph().hash().0, is_closed: self.is_closing };
        // A halted session is still sequenced; `halted` tells.
        let _ = self.session.take_upgrade(&upgrade, &mut output);
        let records = output.ledger.as_ref().map_or(0, BlockBuilder::len);
        match self.append(&mut output, self.is_closing) {
            Ok(()) => {
                if self.session.halted().is_none() {
                    self.log.keep_keyframe(&self.session.keyframe()).map_err(EngineError::Log)?;
                }
                self.rebuilt = Some(Step { records, facts: output.facts, has_recovered: false });
                Ok(true)
            }
            Err(CommitError::Fenced) => Err(EngineError::Fenced(self.session_key)),
            Err(CommitError::Aborted | CommitError::Unknown) => Ok(false),
        }
    }

    fn replay_block(&mut self, block: &LedgerBlock, output: &mut Output) -> Result<(), EngineError<L::Error>> {
        match self.session.replay(block, output) {
            Ok(()) | Err(ReplayError::Halted(_)) => {}
            Err(ReplayError::Ledger(error)) => return Err(error.into()),
        }
        self.is_closing = block.records.last().is_some_and(is_closing);
        for position in &block.positions {
            let stream = S::STREAMS
                .iter()
                .position(|name| *name == position.stream)
                .ok_or_else(|| LedgerError::UnknownStream(position.stream.clone()))?;
            self.taken.insert((stream as u16, position.partition), position.offset);
        }
        Ok(())
    }

    fn new_session(&self) -> Session<S> {
        Session::new(self.session_key, (self.graph)().in_epoch(self.epoch), self.limits.clone())
    }

    fn newest_keyframe(&mut self, end: u64) -> Result<Session<S>, EngineError<L::Error>> {
        let graph_hash = self.session.graph().hash();
        let mut last_seq = Some(end);
        while let Some(until) = last_seq
            && let Some(keyframe) = self.log.keyframe(self.session_key, graph_hash, until).map_err(EngineError::Log)?
        {
            match Session::restore(self.session_key, (self.graph)().in_epoch(self.epoch), self.limits.clone(), &keyframe) {
                Ok(session) => return Ok(session),
                Err(_) => self.keyframes_skipped += 1,
            }
            // Each look goes below the last: a damaged number cannot make it go round in circles.
            last_seq = u64::try_from(keyframe.seq).ok().map(|seq| seq.min(until)).and_then(|seq| seq.checked_sub(1));
        }
        Ok(self.new_session())
    }
}

fn positions<S: Event>(offsets: &BTreeMap<(u16, i32), i64>) -> Vec<RawPosition> {
    offsets
        .iter()
        .map(|(&(stream, partition), &offset)| RawPosition { stream: S::STREAMS[usize::from(stream)].to_owned(), partition, offset })
        .collect()
}
