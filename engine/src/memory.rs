//! A model of log and store in memory, with the faults real ones have.
//!
//! It keeps the promises of [`EventLog`] and [`StateStore`] and nothing more: commits abort, acknowledgements get lost before or after
//! the commit took effect, fetches repeat and reorder, keyframes come back damaged, a store fails half way. Which of these happens is
//! drawn from a seed, so every run can be repeated. Clones share one log, as engines do.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::rc::Rc;

use pitwall_schemas::log::{DeadLetter, Keyframe, RawPosition};

use crate::facts::{EncodedFact, FactBatch};
use crate::hash::Digest;
use crate::log::{AppendError, CommitError, CommitUnit, EventLog, Fence, NewRaw, RawLog, StateStore, StoredFact, StoredRaw};

/// How often each fault happens, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Faults {
    /// A commit has no effect and says so.
    pub abort: u64,
    /// A commit has no effect and its acknowledgement is lost.
    pub lost_before: u64,
    /// A commit has its effect and its acknowledgement is lost.
    pub lost_after: u64,
    /// A fetch brings some records again.
    pub duplicate: u64,
    /// A fetch brings its records in another order.
    pub reorder: u64,
    /// A keyframe comes back damaged.
    pub damage: u64,
    /// A store keeps half of what it was given and fails.
    pub half_store: u64,
}

impl Faults {
    /// Every fault, `thousandths` of the time.
    #[must_use]
    pub const fn all(thousandths: u64) -> Self {
        Self {
            abort: thousandths,
            lost_before: thousandths,
            lost_after: thousandths,
            duplicate: thousandths,
            reorder: thousandths,
            damage: thousandths,
            half_store: thousandths,
        }
    }
}

/// A sequence of numbers that a seed determines (SplitMix64).
#[derive(Debug, Clone)]
pub struct Seeded(u64);

impl Seeded {
    /// The sequence of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next_number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    }

    /// The next number below `limit`, which is above 0.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.next_number() % limit
    }

    /// Puts `items` in another order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    const fn happens(&mut self, thousandths: u64) -> bool {
        self.below(1_000) < thousandths
    }
}

#[derive(Debug, Default)]
struct SessionLog {
    raw: BTreeMap<(u16, i32), Vec<StoredRaw>>,
    next_ingest_seq: i64,
    source_id: Option<Digest>,
    blocks: Vec<(u64, Vec<u8>)>,
    facts: BTreeMap<i32, FactBatch>,
    dead_letters: Vec<DeadLetter>,
    keyframes: Vec<Keyframe>,
    fence: u64,
}

impl SessionLog {
    fn push_raw(&mut self, record: NewRaw) {
        let NewRaw { stream, received_at, payload } = record;
        let ingest_seq = self.next_ingest_seq;
        self.next_ingest_seq += 1;
        let topic = self.raw.entry((stream, 0)).or_default();
        topic.push(StoredRaw { stream, partition: 0, offset: topic.len() as i64, ingest_seq, received_at, payload });
    }
}

#[derive(Debug)]
struct Inner {
    sessions: BTreeMap<i32, SessionLog>,
    streams: &'static [&'static str],
    faults: Faults,
    seeded: Seeded,
    injected: u64,
}

impl Inner {
    fn injects(&mut self, thousandths: u64) -> bool {
        let happens = self.seeded.happens(thousandths);
        self.injected += u64::from(happens);
        happens
    }
}

/// A log in memory. Clones are other clients of the same log.
#[derive(Debug, Clone)]
pub struct MemoryLog {
    inner: Rc<RefCell<Inner>>,
}

impl MemoryLog {
    /// An empty log of the raw streams `streams` with faults drawn from `seed`.
    #[must_use]
    pub fn new(streams: &'static [&'static str], faults: Faults, seed: u64) -> Self {
        Self { inner: Rc::new(RefCell::new(Inner { sessions: BTreeMap::new(), streams, faults, seeded: Seeded::new(seed), injected: 0 })) }
    }

    /// Appends a raw record, numbered as ingest does: densely, per session.
    pub fn append_raw(&self, session_key: i32, stream: u16, received_at: crate::Micros, payload: &[u8]) {
        let record = NewRaw { stream, received_at, payload: payload.to_vec() };
        self.inner.borrow_mut().sessions.entry(session_key).or_default().push_raw(record);
    }

    /// Faults injected so far.
    #[must_use]
    pub fn injected(&self) -> u64 {
        self.inner.borrow().injected
    }

    /// Raw records of a session.
    #[must_use]
    pub fn raw_records(&self, session_key: i32) -> usize {
        self.inner.borrow().sessions.get(&session_key).map_or(0, |session| session.raw.values().map(Vec::len).sum())
    }

    /// Committed dead letters of a session.
    #[must_use]
    pub fn dead_letters(&self, session_key: i32) -> Vec<DeadLetter> {
        self.inner.borrow().sessions.get(&session_key).map_or_else(Vec::new, |session| session.dead_letters.clone())
    }

    /// Plants a defect: the last committed block is forgotten, as by a log that acknowledges before it is durable.
    pub fn forget_last_block(&self, session_key: i32) {
        if let Some(session) = self.inner.borrow_mut().sessions.get_mut(&session_key) {
            session.blocks.pop();
        }
    }
}

impl EventLog for MemoryLog {
    type Error = Infallible;

    fn acquire(&mut self, session_key: i32) -> Result<Fence, Infallible> {
        let mut inner = self.inner.borrow_mut();
        let session = inner.sessions.entry(session_key).or_default();
        session.fence += 1;
        Ok(Fence(session.fence))
    }

    fn ledger_end(&mut self, session_key: i32) -> Result<Option<u64>, Infallible> {
        Ok(self.inner.borrow().sessions.get(&session_key).and_then(|session| session.blocks.last()).map(|(last_seq, _)| *last_seq))
    }

    fn ledger(&mut self, session_key: i32, from_seq: u64) -> Result<Vec<Vec<u8>>, Infallible> {
        let inner = self.inner.borrow();
        let Some(session) = inner.sessions.get(&session_key) else { return Ok(Vec::new()) };
        let first = session.blocks.partition_point(|(last_seq, _)| *last_seq < from_seq);
        Ok(session.blocks[first..].iter().map(|(_, block)| block.clone()).collect())
    }

    fn fetch(&mut self, session_key: i32, positions: &[RawPosition], records_max: usize) -> Result<Vec<StoredRaw>, Infallible> {
        let mut inner = self.inner.borrow_mut();
        let (streams, faults) = (inner.streams, inner.faults);
        let Some(session) = inner.sessions.get(&session_key) else { return Ok(Vec::new()) };
        // Like Kafka, a fetch takes what each topic has next, so records of different topics come in no common order.
        let per_topic = (records_max / session.raw.len().max(1)).max(1);
        let mut fetched = Vec::new();
        for (&(stream, partition), topic) in &session.raw {
            let position =
                positions.iter().find(|position| position.partition == partition && position.stream == streams[usize::from(stream)]);
            let from = position.map_or(0, |position| position.offset as usize).min(topic.len());
            fetched.extend_from_slice(&topic[from..topic.len().min(from + per_topic)]);
        }
        if inner.injects(faults.duplicate) && !fetched.is_empty() {
            let again = inner.seeded.below(fetched.len() as u64) as usize;
            fetched.extend_from_within(again..);
        }
        if inner.injects(faults.reorder) {
            inner.seeded.shuffle(&mut fetched);
        }
        Ok(fetched)
    }

    fn commit(&mut self, fence: Fence, unit: &CommitUnit<'_>) -> Result<(), CommitError> {
        let mut inner = self.inner.borrow_mut();
        let faults = inner.faults;
        if inner.sessions.get(&unit.session_key).is_some_and(|session| session.fence != fence.0) {
            return Err(CommitError::Fenced);
        }
        if inner.injects(faults.abort) {
            return Err(CommitError::Aborted);
        }
        if inner.injects(faults.lost_before) {
            return Err(CommitError::Unknown);
        }
        let is_lost = inner.injects(faults.lost_after);
        let session = inner.sessions.entry(unit.session_key).or_default();
        session.blocks.push((unit.head.last_seq, unit.block.to_vec()));
        let published = session.facts.entry(unit.head.epoch).or_default();
        for fact in unit.facts.iter() {
            published.push_encoded(fact).expect("the engine encodes whole facts");
        }
        session.dead_letters.extend_from_slice(unit.dead_letters);
        if is_lost { Err(CommitError::Unknown) } else { Ok(()) }
    }

    fn keep_keyframe(&mut self, keyframe: &Keyframe) -> Result<(), Infallible> {
        self.inner.borrow_mut().sessions.entry(keyframe.session_key).or_default().keyframes.push(keyframe.clone());
        Ok(())
    }

    fn keyframe(&mut self, session_key: i32, graph_hash: Digest, last_seq: u64) -> Result<Option<Keyframe>, Infallible> {
        let mut inner = self.inner.borrow_mut();
        let faults = inner.faults;
        let is_damaged = inner.injects(faults.damage);
        let Some(session) = inner.sessions.get(&session_key) else { return Ok(None) };
        let usable = |keyframe: &&Keyframe| keyframe.graph_hash == graph_hash.0 && keyframe.seq as u64 <= last_seq;
        let mut newest = session.keyframes.iter().filter(usable).max_by_key(|keyframe| keyframe.seq).cloned();
        if is_damaged && let Some(byte) = newest.as_mut().and_then(|newest| newest.bytes.last_mut()) {
            *byte ^= 0xff;
        }
        Ok(newest)
    }

    fn facts(&mut self, session_key: i32, epoch: i32, from_fact_seq: u64, facts_max: usize) -> Result<FactBatch, Infallible> {
        let inner = self.inner.borrow();
        let mut facts = FactBatch::default();
        if let Some(published) = inner.sessions.get(&session_key).and_then(|session| session.facts.get(&epoch)) {
            for fact in published.iter().skip_while(|fact| fact.fact_seq < from_fact_seq).take(facts_max) {
                facts.push_encoded(fact).expect("a committed fact is whole");
            }
        }
        Ok(facts)
    }
}

impl RawLog for MemoryLog {
    fn ingest_end(&mut self, session_key: i32, source_id: Digest) -> Result<i64, AppendError<Infallible>> {
        let mut inner = self.inner.borrow_mut();
        let session = inner.sessions.entry(session_key).or_default();
        match session.source_id {
            Some(found) if found != source_id => Err(AppendError::OtherSource { session_key, found, offered: source_id }),
            _ => Ok(session.next_ingest_seq),
        }
    }

    fn append(
        &mut self,
        session_key: i32,
        source_id: Digest,
        first_ingest_seq: i64,
        records: Vec<NewRaw>,
    ) -> Result<(), AppendError<Infallible>> {
        let expected = self.ingest_end(session_key, source_id)?;
        if first_ingest_seq > expected {
            return Err(AppendError::Hole { session_key, expected, found: first_ingest_seq });
        }
        let mut inner = self.inner.borrow_mut();
        let session = inner.sessions.entry(session_key).or_default();
        session.source_id = Some(source_id);
        for record in records.into_iter().skip((expected - first_ingest_seq) as usize) {
            session.push_raw(record);
        }
        Ok(())
    }
}

/// A store that failed half way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store failed half way")]
pub struct HalfStored;

type Scope = (i32, i32, &'static str);

/// A store in memory.
#[derive(Debug)]
pub struct MemoryStore {
    latest: BTreeMap<(Scope, Vec<u8>), StoredFact>,
    history: BTreeMap<(Scope, u64), (Vec<u8>, StoredFact)>,
    progress: BTreeMap<(i32, i32), u64>,
    half_store: u64,
    seeded: Seeded,
}

impl MemoryStore {
    /// An empty store with faults drawn from `seed`.
    #[must_use]
    pub const fn new(faults: Faults, seed: u64) -> Self {
        Self {
            latest: BTreeMap::new(),
            history: BTreeMap::new(),
            progress: BTreeMap::new(),
            half_store: faults.half_store,
            seeded: Seeded::new(seed),
        }
    }

    fn store_one(&mut self, session_key: i32, epoch: i32, fact: &EncodedFact<'_>) {
        let scope = (session_key, epoch, fact.kind.name);
        let stored = StoredFact { fact_seq: fact.fact_seq, known_at: fact.known_at, bytes: fact.bytes.to_vec() };
        let key = fact.key().expect("a committed fact is whole");
        let latest = self.latest.entry((scope, key.clone())).or_insert_with(|| stored.clone());
        if latest.fact_seq < stored.fact_seq {
            *latest = stored.clone();
        }
        self.history.insert((scope, fact.fact_seq), (key, stored));
    }
}

impl StateStore for MemoryStore {
    type Error = HalfStored;

    fn store(&mut self, session_key: i32, epoch: i32, facts: &FactBatch) -> Result<(), HalfStored> {
        let is_half = self.seeded.happens(self.half_store);
        let count = if is_half { facts.len() / 2 } else { facts.len() };
        let mut next = self.progress.get(&(session_key, epoch)).copied().unwrap_or(0);
        for fact in facts.iter().take(count) {
            self.store_one(session_key, epoch, &fact);
            next = next.max(fact.fact_seq + 1);
        }
        if is_half {
            return Err(HalfStored);
        }
        self.progress.insert((session_key, epoch), next);
        Ok(())
    }

    fn next_fact_seq(&mut self, session_key: i32, epoch: i32) -> Result<u64, HalfStored> {
        Ok(self.progress.get(&(session_key, epoch)).copied().unwrap_or(0))
    }

    fn latest(&mut self, session_key: i32, epoch: i32, kind: &str, before: u64) -> Result<Vec<StoredFact>, HalfStored> {
        let of_kind = |scope: &Scope| *scope == (session_key, epoch, kind);
        if before == u64::MAX {
            return Ok(self.latest.iter().filter(|((scope, _), _)| of_kind(scope)).map(|(_, fact)| fact.clone()).collect());
        }
        let mut newest = BTreeMap::new();
        for ((scope, fact_seq), (key, fact)) in &self.history {
            if of_kind(scope) && *fact_seq < before {
                newest.insert(key.clone(), fact.clone());
            }
        }
        Ok(newest.into_values().collect())
    }

    fn history(
        &mut self,
        session_key: i32,
        epoch: i32,
        kind: &str,
        fact_seqs: Range<u64>,
        facts_max: usize,
    ) -> Result<Vec<StoredFact>, HalfStored> {
        let of_kind =
            self.history.iter().filter(|((scope, fact_seq), _)| *scope == (session_key, epoch, kind) && fact_seqs.contains(fact_seq));
        Ok(of_kind.take(facts_max).map(|(_, (_, fact))| fact.clone()).collect())
    }

    fn purge(&mut self, session_key: i32) -> Result<(), HalfStored> {
        self.latest.retain(|((session, _, _), _), _| *session != session_key);
        self.history.retain(|((session, _, _), _), _| *session != session_key);
        self.progress.retain(|(session, _), _| *session != session_key);
        Ok(())
    }
}
