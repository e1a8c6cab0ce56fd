//! Replay: a session's state at any moment of its archive, from the newest keyframe before it or from the start.
//!
//! Time travel, explanation and verification are this with different endings. Keyframes are advisory: one that is damaged or of another
//! graph is passed over for an older one, and none at all only costs time.

use std::ops::ControlFlow;

use pitwall_engine::backtest::{CLOSING_IDLE, RawSource};
use pitwall_engine::graph::{Graph, Halted};
use pitwall_engine::limits::Limits;
use pitwall_engine::session::{Output, ReplayError as LedgerReplayError, Session};
use pitwall_schemas::codec::Fact;
use pitwall_schemas::facts::{FactBody, RaceClock};
use pitwall_schemas::log::{Keyframe, LedgerBlock, LedgerKind, LedgerRecord};
use pitwall_schemas::raw::Sample;
use pitwall_schemas::time::Micros;

use crate::archive::{Archive, ArchiveError};
use crate::run::{KeyframeFile, KeyframeHead, RunError};
use pitwall_schemas::moment::{Bound, Clock, Moment, NoSuchMoment};

/// Why a replay stopped before its moment.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The archive is damaged there.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// An operator halts the session there.
    #[error(transparent)]
    Halted(#[from] Halted),
    /// The keyframes cannot be read at all.
    #[error(transparent)]
    Keyframes(#[from] RunError),
    /// The session has no such moment.
    #[error(transparent)]
    Moment(#[from] NoSuchMoment),
}

/// Why a replay ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// At its bound: the next record lies behind it.
    Bound,
    /// With the archive, its closing record included.
    Archive,
    /// The caller had seen enough.
    Caller,
}

/// Where keyframes come from.
pub enum Keyframes {
    /// Nowhere: every replay begins at the start.
    None,
    /// A run folder's file.
    File(KeyframeFile),
    /// A replay's own.
    Memory(Vec<Keyframe>),
}

impl Keyframes {
    /// What is known of each without reading its state, oldest first.
    #[must_use]
    pub fn heads(&self) -> Vec<KeyframeHead> {
        match self {
            Self::None => Vec::new(),
            Self::File(file) => file.heads().to_vec(),
            Self::Memory(keyframes) => keyframes.iter().map(KeyframeHead::of).collect(),
        }
    }

    /// One of them, whole; `None` when it cannot be read.
    #[must_use]
    pub fn get(&self, number: usize) -> Option<Keyframe> {
        match self {
            Self::None => None,
            Self::File(file) => file.read(number),
            Self::Memory(keyframes) => keyframes.get(number).cloned(),
        }
    }
}

/// An archive, its keyframes and the graph that derives from it.
pub struct Recording<G> {
    archive: Archive,
    keyframes: Keyframes,
    graph: G,
    limits: Limits,
}

impl<G: Fn() -> Graph<Sample>> Recording<G> {
    /// Joins the three; `graph` makes a new graph filed under the session.
    pub const fn new(archive: Archive, keyframes: Keyframes, graph: G, limits: Limits) -> Self {
        Self { archive, keyframes, graph, limits }
    }

    /// The archive.
    pub const fn archive(&mut self) -> &mut Archive {
        &mut self.archive
    }

    /// A replay from the start.
    pub fn from_start(&mut self) -> Replay<'_> {
        let session = Session::new(self.archive.session_key(), (self.graph)(), self.limits.clone()).without_keyframes();
        self.archive.seek(0);
        Replay { archive: &mut self.archive, session, started_from: None, records: 0, output: Output::default() }
    }

    /// A replay from the newest usable keyframe that `is_early_enough`, or from the start.
    pub fn from_newest(&mut self, is_early_enough: impl Fn(&KeyframeHead) -> bool) -> Replay<'_> {
        let heads = self.keyframes.heads();
        for (number, head) in heads.iter().enumerate().rev().filter(|(_, head)| is_early_enough(head)) {
            let Some(keyframe) = self.keyframes.get(number) else { continue };
            if let Some(session) = restore(&keyframe, head, (self.graph)(), self.archive.session_key(), &self.limits) {
                self.archive.seek(session.sequencer().next_ingest_seq() as u64);
                let session = session.without_keyframes();
                let archive = &mut self.archive;
                return Replay { archive, session, started_from: Some(head.seq), records: 0, output: Output::default() };
            }
        }
        self.from_start()
    }

    /// What laps and the race clock mean, as far as `moment` needs it: a replay from the start until it can be placed.
    ///
    /// # Errors
    /// When the archive cannot be read or the session halts before.
    pub fn clock_for(&mut self, moment: Moment) -> Result<Clock, ReplayError> {
        let mut clock = Clock::default();
        if !clock.places(moment) {
            self.from_start().run(None, |_, output| {
                take_race_clock(&mut clock, output);
                if clock.places(moment) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
        }
        Ok(clock)
    }

    /// The session at `moment`.
    ///
    /// # Errors
    /// When the session has no such moment, the archive cannot be read up to it or the session halts before.
    pub fn at(&mut self, moment: Moment, clock: &Clock) -> Result<Replay<'_>, ReplayError> {
        let bound = clock.bound(moment)?;
        let mut replay = self.from_newest(|head| bound.may_start_after(head.seq, head.known_at));
        let ended = replay.run(Some(bound), |_, _| ControlFlow::Continue(()))?;
        let sequencer = replay.session.sequencer();
        if let (Ended::Archive, Bound::Seq(seq)) = (ended, bound)
            && sequencer.next_seq() <= seq
        {
            return Err(NoSuchMoment::AfterEnd(sequencer.next_seq().saturating_sub(1)).into());
        }
        if sequencer.next_seq() == 0 {
            replay.archive.seek(0);
            let first = replay.archive.next_block()?.and_then(|mut block| block.next()).transpose()?.map(|raw| raw.received_at);
            return Err(NoSuchMoment::BeforeStart(first.unwrap_or_default()).into());
        }
        Ok(replay)
    }
}

/// A session as `keyframe` holds it, if it is whole, of this graph, and where it says it is: its state's hash covers the state alone.
fn restore(keyframe: &Keyframe, head: &KeyframeHead, graph: Graph<Sample>, session_key: i32, limits: &Limits) -> Option<Session<Sample>> {
    let session = Session::restore(session_key, graph, limits.clone(), keyframe).ok()?;
    let sequencer = session.sequencer();
    let is_there = sequencer.next_seq() == head.seq + 1
        && sequencer.last_known_at() == Some(head.known_at)
        && session.graph().next_fact_seq() == head.next_fact_seq
        && session.facts_hash().0 == keyframe.facts_hash;
    is_there.then_some(session)
}

/// Adds the race clock's facts among `output` to `clock`.
pub fn take_race_clock(clock: &mut Clock, output: &Output) {
    for fact in output.facts.iter().filter(|fact| fact.kind.name == RaceClock::KIND) {
        if let Ok((header, mut body)) = fact.header()
            && let Some(Ok(FactBody::RaceClock(body))) = FactBody::decode(fact.kind.name, &mut body)
        {
            clock.take(header.known_at, &body);
        }
    }
}

/// A session on its way through an archive.
pub struct Replay<'a> {
    archive: &'a mut Archive,
    session: Session<Sample>,
    started_from: Option<u64>,
    records: u64,
    output: Output,
}

impl Replay<'_> {
    /// The session as it is now.
    #[must_use]
    pub const fn session(&self) -> &Session<Sample> {
        &self.session
    }

    /// The ledger record of the keyframe it began from; `None` from the start.
    #[must_use]
    pub const fn started_from(&self) -> Option<u64> {
        self.started_from
    }

    /// Ledger records replayed so far.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Replays up to and including `bound`, or the whole rest, and shows `each` what every step derived.
    ///
    /// # Errors
    /// When the archive cannot be read or the session halts.
    pub fn run(
        &mut self,
        bound: Option<Bound>,
        mut each: impl FnMut(&Session<Sample>, &Output) -> ControlFlow<()>,
    ) -> Result<Ended, ReplayError> {
        let first = self.session.sequencer().next_seq();
        let ended = self.steps(bound, &mut each);
        self.records += self.session.sequencer().next_seq() - first;
        ended
    }

    fn steps(
        &mut self,
        bound: Option<Bound>,
        each: &mut impl FnMut(&Session<Sample>, &Output) -> ControlFlow<()>,
    ) -> Result<Ended, ReplayError> {
        let (session, output) = (&mut self.session, &mut self.output);
        while let Some(block) = self.archive.next_block()? {
            for raw in block {
                let raw = raw?;
                if let Some(bound) = bound
                    && !step_is_within(bound, session, raw.received_at, output, each)?
                {
                    return Ok(Ended::Bound);
                }
                output.clear();
                session.take(&raw, output)?;
                if each(session, output).is_break() {
                    return Ok(Ended::Caller);
                }
            }
        }
        let Some(last) = session.sequencer().last_known_at() else { return Ok(Ended::Archive) };
        let closing = last.plus(CLOSING_IDLE);
        if let Some(bound) = bound
            && !step_is_within(bound, session, closing, output, each)?
        {
            return Ok(Ended::Bound);
        }
        output.clear();
        session.take_idle(closing, output)?;
        if each(session, output).is_break() { Ok(Ended::Caller) } else { Ok(Ended::Archive) }
    }
}

/// Whether the record that arrives at `arrival` lies within `bound`. When only the tick before it does, the tick is taken alone.
fn step_is_within(
    bound: Bound,
    session: &mut Session<Sample>,
    arrival: Micros,
    output: &mut Output,
    each: &mut impl FnMut(&Session<Sample>, &Output) -> ControlFlow<()>,
) -> Result<bool, ReplayError> {
    let mut ahead = session.sequencer().clone();
    let before = ahead.last_known_at();
    let stamped = ahead.stamp_own(arrival);
    let previous = stamped.tick.map_or(before, |tick| Some(tick.known_at));
    if bound.includes(stamped.record.seq, stamped.record.known_at, previous) {
        return Ok(true);
    }
    if let Some(tick) = stamped.tick.filter(|tick| bound.includes(tick.seq, tick.known_at, before)) {
        let record = LedgerRecord {
            seq: tick.seq as i64,
            known_at: tick.known_at,
            event_time: tick.event_time,
            kind: LedgerKind::Tick,
            stream: -1,
            partition: -1,
            offset: -1,
            ingest_seq: -1,
            payload: Vec::new(),
        };
        let block = LedgerBlock {
            format: pitwall_engine::ledger::FORMAT,
            session_key: 0,
            first_seq: record.seq,
            previous_hash: [0; 32],
            streams: Vec::new(),
            records: vec![record],
            positions: Vec::new(),
            next_ingest_seq: session.sequencer().next_ingest_seq(),
            epoch: 0,
            graph_hash: [0; 32],
            next_fact_seq: 0,
            facts_hash: [0; 32],
        };
        output.clear();
        match session.replay(&block, output) {
            Ok(()) | Err(LedgerReplayError::Ledger(_)) => {}
            Err(LedgerReplayError::Halted(halted)) => return Err(halted.into()),
        }
        let _ = each(session, output);
    }
    Ok(false)
}
