//! A session: sequencer, graph and running hash as one pure function from raw records to facts.
//!
//! Live, backtest, recovery, time travel and verification all run this and differ only in where records come from and where
//! [`Output`] goes.

use pitwall_schemas::codec::{Avro, Reader};
use pitwall_schemas::log::{Control, DeadLetter, Keyframe, LedgerBlock, LedgerKind, Upgrade};
use pitwall_schemas::openf1::Refusal;

use crate::facts::FactBatch;
use crate::graph::{Graph, Halted, Moment, Trigger};
use crate::hash::{Digest, RunningHash};
use crate::keyframe::{self, KeyframeError, Packer, SavedSession};
use crate::ledger::{BlockBuilder, LedgerError, Origin, Record};
use crate::limits::Limits;
use crate::operator::{Operator, Tick};
use crate::sequencer::Sequencer;
use crate::{Event, Micros};

/// A raw record whose turn it is.
#[derive(Debug)]
pub struct RawRecord<'a, S> {
    /// Number of its raw stream.
    pub stream: u16,
    /// Partition of the raw topic.
    pub partition: i32,
    /// Offset in the raw topic, or line of an archive.
    pub offset: i64,
    /// Number that ingest gave it.
    pub ingest_seq: i64,
    /// When the ingest host received it.
    pub received_at: Micros,
    /// Its bytes.
    pub payload: &'a [u8],
    /// Its bytes decoded, or why they cannot be.
    pub event: Result<S, Refusal>,
}

/// What a session produces, until somebody takes it.
#[derive(Debug, Default)]
pub struct Output {
    /// Derived facts, in order.
    pub facts: FactBatch,
    /// Refused input.
    pub dead_letters: Vec<DeadLetter>,
    /// States that became due.
    pub keyframes: Vec<Keyframe>,
    /// The ledger records taken, when a log wants them.
    pub ledger: Option<BlockBuilder>,
}

impl Output {
    /// Output that also collects the ledger's records.
    #[must_use]
    pub fn with_ledger() -> Self {
        Self { ledger: Some(BlockBuilder::default()), ..Self::default() }
    }

    /// Forgets everything collected, keeping the memory.
    pub fn clear(&mut self) {
        self.facts.clear();
        self.dead_letters.clear();
        self.keyframes.clear();
        if let Some(ledger) = &mut self.ledger {
            *ledger = BlockBuilder::default();
        }
    }
}

/// A session's whole derivation.
pub struct Session<S> {
    session_key: i32,
    graph: Graph<S>,
    sequencer: Sequencer,
    facts_hash: RunningHash,
    limits: Limits,
    keyframe_seq: u64,
    keyframe_known_at: Option<Micros>,
    keeps_keyframes: bool,
    halted: Option<Halted>,
    packer: Packer,
}

impl<S: Event> Session<S> {
    /// A session before its first record. `graph` is new and filed under the same session.
    #[must_use]
    pub fn new(session_key: i32, graph: Graph<S>, limits: Limits) -> Self {
        Self {
            session_key,
            graph,
            sequencer: Sequencer::default(),
            facts_hash: RunningHash::default(),
            limits,
            keyframe_seq: 0,
            keyframe_known_at: None,
            keeps_keyframes: true,
            halted: None,
            packer: Packer::default(),
        }
    }

    /// The same session without keyframes, for replays whose result is thrown away.
    #[must_use]
    pub const fn without_keyframes(mut self) -> Self {
        self.keeps_keyframes = false;
        self
    }

    /// A session as a keyframe holds it.
    ///
    /// # Errors
    /// When the keyframe is damaged or of another graph; a caller then takes an older one.
    pub fn restore(session_key: i32, mut graph: Graph<S>, limits: Limits, keyframe: &Keyframe) -> Result<Self, KeyframeError> {
        let saved = keyframe::unpack(keyframe, graph.hash())?;
        graph.load(&saved.graph)?;
        Ok(Self {
            session_key,
            graph,
            sequencer: saved.sequencer,
            facts_hash: saved.facts_hash,
            limits,
            keyframe_seq: keyframe.seq as u64,
            keyframe_known_at: Some(keyframe.known_at),
            keeps_keyframes: true,
            halted: None,
            packer: Packer::default(),
        })
    }

    /// The session's graph.
    #[must_use]
    pub const fn graph(&self) -> &Graph<S> {
        &self.graph
    }

    /// The state of the operator of type `O` now.
    #[must_use]
    pub fn state_of<O: Operator>(&self) -> Option<&O::State> {
        self.graph.state_of::<O>()
    }

    /// Why the graph stands still, if it does. The ledger goes on: what it holds can be replayed once the operator is repaired.
    #[must_use]
    pub const fn halted(&self) -> Option<&Halted> {
        self.halted.as_ref()
    }

    /// Numbers and times of the ledger.
    #[must_use]
    pub const fn sequencer(&self) -> &Sequencer {
        &self.sequencer
    }

    /// The sequencer, for a live source to clamp arrival times.
    pub const fn sequencer_mut(&mut self) -> &mut Sequencer {
        &mut self.sequencer
    }

    /// Hash of every fact so far.
    #[must_use]
    pub fn facts_hash(&self) -> Digest {
        self.facts_hash.digest()
    }

    /// Takes the raw record whose turn it is.
    ///
    /// # Errors
    /// When an operator halts the session.
    #[inline]
    pub fn take(&mut self, raw: &RawRecord<'_, S>, output: &mut Output) -> Result<(), Halted> {
        let event_time = raw.event.as_ref().ok().and_then(Event::event_time);
        let stamped = self.sequencer.stamp(raw.received_at, event_time);
        let ticked = self.take_tick(stamped.tick, output);
        let origin = Origin { stream: Some(raw.stream), partition: raw.partition, offset: raw.offset, ingest_seq: raw.ingest_seq };
        let record = Record { moment: stamped.record, kind: LedgerKind::Sample, origin, payload: raw.payload };
        let taken = self.step(&record, Some(&raw.event), output);
        self.keep_keyframe(stamped.record, output);
        ticked.and(taken)
    }

    /// Notes that `missing` raw records were given up.
    ///
    /// # Errors
    /// When an operator halts the session.
    pub fn take_gap(&mut self, missing: i64, at: Micros, output: &mut Output) -> Result<(), Halted> {
        let stamped = self.sequencer.stamp_gap(missing, at);
        let ticked = self.take_tick(stamped.tick, output);
        let mut payload = Vec::new();
        missing.encode(&mut payload);
        let taken = self.take_own(stamped.record, LedgerKind::Gap, &payload, output);
        self.keep_keyframe(stamped.record, output);
        ticked.and(taken)
    }

    /// Lets time pass in a live session without input, so that due timers fire.
    ///
    /// # Errors
    /// When an operator halts the session.
    pub fn take_idle(&mut self, at: Micros, output: &mut Output) -> Result<(), Halted> {
        let stamped = self.sequencer.stamp_own(at);
        let ticked = self.take_tick(stamped.tick, output);
        let taken = self.take_own(stamped.record, LedgerKind::Idle, &[], output);
        self.keep_keyframe(stamped.record, output);
        ticked.and(taken)
    }

    /// Notes that from here on this graph derives the session, which it has derived anew up to here.
    ///
    /// # Errors
    /// When an operator halts the session.
    pub fn take_upgrade(&mut self, upgrade: &Upgrade, output: &mut Output) -> Result<(), Halted> {
        let stamped = self.sequencer.stamp_own(self.sequencer.last_known_at().unwrap_or_default());
        let ticked = self.take_tick(stamped.tick, output);
        let mut payload = Vec::new();
        upgrade.encode(&mut payload);
        ticked.and(self.take_own(stamped.record, LedgerKind::Upgrade, &payload, output))
    }

    /// Takes a record read back from the ledger.
    ///
    /// # Errors
    /// When an operator halts the session (the rest of the block is still sequenced) or the block names a stream this version does not know.
    pub fn replay(&mut self, block: &LedgerBlock, output: &mut Output) -> Result<(), ReplayError> {
        let streams: Vec<Option<u16>> =
            block.streams.iter().map(|name| S::STREAMS.iter().position(|known| known == name).map(|index| index as u16)).collect();
        let mut halted = Ok(());
        for record in &block.records {
            if (record.seq as u64) < self.sequencer.next_seq() {
                continue;
            }
            let stream = match usize::try_from(record.stream) {
                Err(_) => None,
                Ok(index) => {
                    let unknown = || LedgerError::UnknownStream(block.streams.get(index).cloned().unwrap_or_default());
                    Some(streams.get(index).copied().flatten().ok_or_else(unknown)?)
                }
            };
            let moment = Moment { seq: record.seq as u64, known_at: record.known_at, event_time: record.event_time };
            self.sequencer.observe(moment, (record.kind == LedgerKind::Sample).then_some(record.ingest_seq));
            let origin = Origin { stream, partition: record.partition, offset: record.offset, ingest_seq: record.ingest_seq };
            let taken = Record { moment, kind: record.kind, origin, payload: &record.payload };
            let event = stream.map(|stream| S::decode(stream, &record.payload));
            if let Err(halt) = self.step(&taken, event.as_ref(), output) {
                halted = Err(halt);
            }
        }
        if self.sequencer.next_seq() as i64 == block.first_seq + block.records.len() as i64 {
            self.sequencer.resume_ingest_at(block.next_ingest_seq);
        }
        Ok(halted?)
    }

    /// The state after the last record, as a keyframe.
    pub fn keyframe(&mut self) -> Keyframe {
        let saved = SavedSession { sequencer: self.sequencer.clone(), graph: self.graph.save(), facts_hash: self.facts_hash.clone() };
        let (state_hash, bytes) = self.packer.pack(&saved);
        Keyframe {
            format: keyframe::FORMAT,
            session_key: self.session_key,
            graph_hash: self.graph.hash().0,
            seq: self.sequencer.next_seq() as i64 - 1,
            known_at: self.sequencer.last_known_at().unwrap_or_default(),
            next_fact_seq: self.graph.next_fact_seq() as i64,
            state_hash: state_hash.0,
            facts_hash: self.facts_hash().0,
            bytes,
        }
    }

    fn take_tick(&mut self, tick: Option<Moment>, output: &mut Output) -> Result<(), Halted> {
        tick.map_or(Ok(()), |tick| self.take_own(tick, LedgerKind::Tick, &[], output))
    }

    fn take_own(&mut self, moment: Moment, kind: LedgerKind, payload: &[u8], output: &mut Output) -> Result<(), Halted> {
        self.step(&Record { moment, kind, origin: Origin::NONE, payload }, None, output)
    }

    /// The one place where a ledger record meets the graph. Says that the session halts once, at the record where it does.
    #[inline]
    fn step(&mut self, record: &Record<'_>, event: Option<&Result<S, Refusal>>, output: &mut Output) -> Result<(), Halted> {
        if let Some(ledger) = &mut output.ledger {
            ledger.push(record);
        }
        if self.halted.is_some() {
            return Ok(());
        }
        let first_fact = output.facts.len();
        let control;
        let trigger = match (record.kind, event) {
            (LedgerKind::Sample, Some(Ok(sample))) if sample.session_key() == self.session_key => Trigger::Sample(sample),
            (LedgerKind::Sample, Some(refused)) => {
                let reason = match refused {
                    Ok(sample) => Refusal::OtherSession { expected: self.session_key, found: sample.session_key() }.to_string(),
                    Err(refusal) => refusal.to_string(),
                };
                self.graph.refuse(record.moment, reason);
                Trigger::Time
            }
            (LedgerKind::Tick, _) => Trigger::Tick(Tick { second: record.moment.known_at }),
            (LedgerKind::Parameter | LedgerKind::Effect | LedgerKind::Source, _) => match Control::decode(&mut Reader::new(record.payload))
            {
                Ok(decoded) => {
                    control = decoded;
                    Trigger::Control(&control)
                }
                Err(error) => {
                    self.graph.refuse(record.moment, error.to_string());
                    Trigger::Time
                }
            },
            _ => Trigger::Time,
        };
        let taken = self.graph.take(record.moment, &trigger, &mut output.facts);
        if self.graph.has_rejections() {
            self.bury_rejections(record, output);
        }
        output.facts.hash_into(first_fact, &mut self.facts_hash);
        if let Err(halted) = taken {
            self.halted = Some(halted.clone());
            return Err(halted);
        }
        Ok(())
    }

    /// Keeps a keyframe when one is due. Only after a raw record or a record of its own, never after the tick before it: the sequencer
    /// has numbered both by then, and a keyframe holds everything up to the sequencer's last number.
    #[inline]
    fn keep_keyframe(&mut self, moment: Moment, output: &mut Output) {
        if !self.keeps_keyframes || self.halted.is_some() {
            return;
        }
        let since = *self.keyframe_known_at.get_or_insert(moment.known_at);
        let is_due = (moment.seq - self.keyframe_seq) as i64 >= self.limits.keyframe_records
            || moment.known_at.since(since) >= self.limits.keyframe_interval_ms * 1_000;
        if is_due {
            self.keyframe_seq = moment.seq;
            self.keyframe_known_at = Some(moment.known_at);
            let keyframe = self.keyframe();
            output.keyframes.push(keyframe);
        }
    }

    fn bury_rejections(&mut self, record: &Record<'_>, output: &mut Output) {
        for rejection in self.graph.take_rejections() {
            let kept = record.payload.len().min(self.limits.dead_letter_payload_bytes_max);
            output.dead_letters.push(DeadLetter {
                session_key: self.session_key,
                seq: rejection.seq as i64,
                stream: record.origin.stream.map_or_else(String::new, |stream| S::STREAMS[usize::from(stream)].to_owned()),
                partition: record.origin.partition,
                offset: record.origin.offset,
                operator: rejection.operator.map(str::to_owned),
                reason: rejection.reason,
                known_at: rejection.known_at,
                payload: record.payload[..kept].to_vec(),
            });
        }
    }
}

/// Why a replay stopped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// An operator halted the session.
    #[error(transparent)]
    Halted(#[from] Halted),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}
