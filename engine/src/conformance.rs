//! What every log and every store must do, as functions that a connector's tests call.
//!
//! One suite for all of them: what an engine relies on is written once, here, and each connector proves it. Every case uses a session of
//! its own, so a suite can run over a log that holds others. A broken promise panics and names it.

use std::collections::BTreeMap;

use pitwall_schemas::codec::{Avro, DecodeError, Fact, Keyed, Reader, Record as AvroRecord};
use pitwall_schemas::log::{Keyframe, LedgerKind, RawPosition};
use pitwall_schemas::shared::{FactHeader, KnownAtQuality};

use crate::Micros;
use crate::facts::{EncodedFact, FactBatch, Kind};
use crate::graph::Moment;
use crate::hash::Digest;
use crate::ledger::{BlockBuilder, Chain, Origin, Record, Seal};
use crate::log::{AppendError, CommitError, CommitUnit, EventLog, Fence, Head, NewRaw, RawLog, SessionState, StateStore};

/// Names of the raw streams that the suite uses.
pub const STREAMS: &[&str] = &["left", "right"];

const SOURCE: Digest = Digest([7; 32]);

/// A fact of the suite: a value under a key.
struct Entry {
    key: i64,
    value: i64,
}

impl Avro for Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        self.key.encode(out);
        self.value.encode(out);
    }
    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { key: i64::decode(reader)?, value: i64::decode(reader)? })
    }
}
impl AvroRecord for Entry {
    const NAME: &'static str = "conformance.Entry";
    const SCHEMA: &'static str = r#"{"type":"record","name":"Entry","namespace":"conformance","fields":[{"name":"key","type":"long"},{"name":"value","type":"long"}]}"#;
    const FINGERPRINT: u64 = 0xc0f0;
}
impl Keyed for Entry {
    fn encode_key(&self, out: &mut Vec<u8>) {
        self.key.encode(out);
    }
}
impl Fact for Entry {
    const KIND: &'static str = "entries";
}

/// The fact kinds that the suite writes; a log that must know its kinds is opened with these.
#[must_use]
pub fn kinds() -> Vec<Kind> {
    vec![Kind::of::<Entry>()]
}

/// Facts numbered from `first` on, about the keys given.
fn facts(session_key: i32, epoch: i32, first: u64, keys: &[i64]) -> FactBatch {
    let mut batch = FactBatch::default();
    for (fact_seq, &key) in (first..).zip(keys) {
        let known_at = Micros(1_000_000 + fact_seq as i64 * 10);
        let header = FactHeader {
            epoch,
            session_key,
            fact_seq: fact_seq as i64,
            kind_seq: fact_seq as i64,
            known_at,
            event_time: known_at,
            causes: vec![fact_seq as i64],
            revision: 0,
            supersedes: None,
            known_at_quality: KnownAtQuality::Received,
            withdrawn: false,
        };
        let mut bytes = Vec::new();
        header.encode(&mut bytes);
        Entry { key, value: fact_seq as i64 }.encode(&mut bytes);
        batch.push_encoded(EncodedFact { kind: Kind::of::<Entry>(), fact_seq, known_at, bytes: &bytes }).expect("the fact is whole");
    }
    batch
}

/// Writes a session's commits one after the other, as an engine does.
pub struct Writer {
    session_key: i32,
    fence: Fence,
    chain: Digest,
    next_seq: u64,
    next_fact_seq: u64,
}

impl Writer {
    /// Takes the session over before its first commit.
    ///
    /// # Panics
    /// When the log does not let it.
    pub fn new<L: EventLog>(log: &mut L, session_key: i32) -> Self {
        let fence = log.acquire(session_key).expect("a session can be taken over");
        Self { session_key, fence, chain: Digest::default(), next_seq: 0, next_fact_seq: 0 }
    }

    /// Commits `records` ledger records that took as many raw records, each causing one fact.
    ///
    /// # Errors
    /// As the log answers.
    pub fn commit<L: EventLog>(&mut self, log: &mut L, records: u64) -> Result<(), CommitError> {
        let mut block = BlockBuilder::default();
        for seq in self.next_seq..self.next_seq + records {
            let known_at = Micros(1_000_000 + seq as i64 * 10);
            let moment = Moment { seq, known_at, event_time: known_at };
            let origin = Origin { stream: Some(0), partition: 0, offset: seq as i64, ingest_seq: seq as i64 };
            block.push(&Record { moment, kind: LedgerKind::Sample, origin, payload: &seq.to_le_bytes() });
        }
        let keys: Vec<i64> = (self.next_fact_seq..self.next_fact_seq + records).map(|fact_seq| fact_seq as i64 % 3).collect();
        let head = Head {
            epoch: 0,
            last_seq: self.next_seq + records - 1,
            known_at: Micros(1_000_000 + (self.next_seq + records - 1) as i64 * 10),
            next_ingest_seq: (self.next_seq + records) as i64,
            graph_hash: Digest([1; 32]),
            next_fact_seq: self.next_fact_seq + records,
            facts_hash: Digest([2; 32]),
            state: SessionState::Live,
        };
        let positions = [RawPosition { stream: STREAMS[0].to_owned(), partition: 0, offset: head.next_ingest_seq }];
        let (bytes, hash) = block.seal(&Seal {
            session_key: self.session_key,
            previous_hash: self.chain,
            streams: STREAMS,
            positions: &positions,
            next_ingest_seq: head.next_ingest_seq,
            epoch: 0,
            graph_hash: head.graph_hash,
            next_fact_seq: head.next_fact_seq,
            facts_hash: head.facts_hash,
        });
        let facts = facts(self.session_key, 0, self.next_fact_seq, &keys);
        let unit =
            CommitUnit { session_key: self.session_key, block: &bytes, head, facts: &facts, dead_letters: &[], positions: &positions };
        log.commit(self.fence, &unit)?;
        self.chain = hash;
        self.next_seq += records;
        self.next_fact_seq += records;
        Ok(())
    }
}

fn raw(value: i64) -> NewRaw {
    NewRaw { stream: (value % 2) as u16, received_at: Micros(value * 1_000), payload: value.to_le_bytes().to_vec() }
}

/// Every promise of [`EventLog`] and [`RawLog`]. `open` makes a client of one and the same log, given the one before it, if any: a
/// connector that survives its process closes that and opens the log again.
///
/// # Panics
/// When a promise is broken.
pub fn log<L: RawLog>(mut open: impl FnMut(Option<L>) -> L) {
    let mut log = open(None);
    a_commit_is_visible_as_a_whole_and_stays(&mut log, 101);
    log = open(Some(log));
    what_was_committed_is_there(&mut log, 101);
    a_commit_under_an_earlier_fence_leaves_no_trace(&mut log, 102);
    sessions_do_not_mix(&mut log, 103, 104);
    facts_are_paged_in_order(&mut log, 105);
    the_newest_keyframe_within_bounds_is_found(&mut log, 106);
    raw_records_come_once_in_order_and_from_one_source(&mut log, 107);
    log = open(Some(log));
    ingest_goes_on_at_its_end(&mut log, 107);
}

fn a_commit_is_visible_as_a_whole_and_stays<L: RawLog>(log: &mut L, session_key: i32) {
    assert_eq!(log.ledger_end(session_key).ok(), Some(None), "a new session has no ledger");
    let mut writer = Writer::new(log, session_key);
    assert_eq!(log.ledger_end(session_key).ok(), Some(None), "taking a session over commits nothing");
    for records in [3, 1, 5] {
        writer.commit(log, records).expect("a commit succeeds");
    }
    what_was_committed_is_there(log, session_key);
}

fn what_was_committed_is_there<L: RawLog>(log: &mut L, session_key: i32) {
    assert_eq!(log.ledger_end(session_key).ok(), Some(Some(8)), "the ledger ends with the last commit");
    let blocks = log.ledger(session_key, 0).expect("the ledger can be read");
    let mut chain = Chain::from_start();
    let lengths: Vec<usize> = blocks.iter().map(|block| chain.read(block).expect("blocks follow each other").records.len()).collect();
    assert_eq!(lengths, [3, 1, 5], "each commit is one block, in order, once");
    for (from_seq, expected) in [(2, 3), (3, 2), (4, 1), (8, 1), (9, 0)] {
        assert_eq!(
            log.ledger(session_key, from_seq).expect("the ledger can be read").len(),
            expected,
            "from the block of record {from_seq}"
        );
    }
    let numbers: Vec<u64> = log.facts(session_key, 0, 0, usize::MAX).expect("facts can be read").iter().map(|fact| fact.fact_seq).collect();
    assert_eq!(numbers, (0..9).collect::<Vec<_>>(), "facts are visible with their commit, dense");
}

fn a_commit_under_an_earlier_fence_leaves_no_trace<L: RawLog>(log: &mut L, session_key: i32) {
    let mut zombie = Writer::new(log, session_key);
    zombie.commit(log, 2).expect("a commit succeeds");
    let later = Writer::new(log, session_key);
    assert_eq!(zombie.commit(log, 2), Err(CommitError::Fenced), "an earlier fence is void");
    assert_eq!(log.ledger_end(session_key).ok(), Some(Some(1)), "nothing of it is visible");
    assert_eq!(log.facts(session_key, 0, 0, usize::MAX).map(|facts| facts.len()).ok(), Some(2), "nor its facts");
    let mut goes_on = Writer { fence: later.fence, ..zombie };
    goes_on.commit(log, 1).expect("the later fence holds");
}

fn sessions_do_not_mix<L: RawLog>(log: &mut L, one: i32, other: i32) {
    let (mut first, mut second) = (Writer::new(log, one), Writer::new(log, other));
    first.commit(log, 4).expect("a commit succeeds");
    second.commit(log, 2).expect("a fence holds for one session only");
    assert_eq!((log.ledger_end(one).ok(), log.ledger_end(other).ok()), (Some(Some(3)), Some(Some(1))));
    assert_eq!(log.facts(one, 0, 0, usize::MAX).map(|facts| facts.len()).ok(), Some(4));
    assert_eq!(log.facts(one, 1, 0, usize::MAX).map(|facts| facts.len()).ok(), Some(0), "nor do epochs");
}

fn facts_are_paged_in_order<L: RawLog>(log: &mut L, session_key: i32) {
    let mut writer = Writer::new(log, session_key);
    for records in [7, 1, 12] {
        writer.commit(log, records).expect("a commit succeeds");
    }
    let mut numbers = Vec::new();
    while let page = log.facts(session_key, 0, numbers.len() as u64, 3).expect("facts can be read")
        && !page.is_empty()
    {
        assert!(page.len() <= 3, "a page holds at most what was asked for");
        numbers.extend(page.iter().map(|fact| fact.fact_seq));
    }
    assert_eq!(numbers, (0..20).collect::<Vec<_>>());
}

fn the_newest_keyframe_within_bounds_is_found<L: RawLog>(log: &mut L, session_key: i32) {
    let (graph, other) = (Digest([3; 32]), Digest([4; 32]));
    let keyframe = |seq: i64, graph_hash: Digest| Keyframe {
        format: 1,
        session_key,
        graph_hash: graph_hash.0,
        seq,
        known_at: Micros(seq),
        next_fact_seq: seq,
        state_hash: [5; 32],
        facts_hash: [6; 32],
        bytes: seq.to_le_bytes().to_vec(),
    };
    for (seq, graph_hash) in [(10, graph), (20, graph), (25, other), (30, graph)] {
        log.keep_keyframe(&keyframe(seq, graph_hash)).expect("a keyframe is kept");
    }
    for (last_seq, expected) in [(9, None), (10, Some(10)), (29, Some(20)), (30, Some(30)), (u64::MAX, Some(30))] {
        let found = log.keyframe(session_key, graph, last_seq).expect("keyframes can be read");
        assert_eq!(found, expected.map(|seq| keyframe(seq, graph)), "the newest keyframe with at most record {last_seq}");
    }
    assert_eq!(log.keyframe(session_key + 1_000, graph, u64::MAX).ok(), Some(None));
}

fn raw_records_come_once_in_order_and_from_one_source<L: RawLog>(log: &mut L, session_key: i32) {
    let mut writer = Writer::new(log, session_key);
    assert_eq!(log.ingest_end(session_key, SOURCE).ok(), Some(0));
    log.append(session_key, SOURCE, 0, (0..6).map(raw).collect()).expect("records are taken in");
    log.append(session_key, SOURCE, 3, (3..10).map(raw).collect()).expect("records that come again are left out");
    assert!(
        matches!(log.append(session_key, SOURCE, 11, vec![raw(11)]), Err(AppendError::Hole { expected: 10, found: 11, .. })),
        "a hole is refused"
    );
    assert!(
        matches!(log.append(session_key, Digest([8; 32]), 10, vec![raw(10)]), Err(AppendError::OtherSource { .. })),
        "another source is refused"
    );
    assert!(matches!(log.ingest_end(session_key, Digest([8; 32])), Err(AppendError::OtherSource { .. })));
    let fetched = fetch_all(log, session_key, 0, 10);
    assert_eq!(fetched.keys().copied().collect::<Vec<_>>(), (0..10).collect::<Vec<_>>(), "none is lost");
    for (ingest_seq, (received_at, payload)) in &fetched {
        assert_eq!((*received_at, payload), (raw(*ingest_seq).received_at, &raw(*ingest_seq).payload), "raw record {ingest_seq}");
    }
    writer.commit(log, 4).expect("a commit succeeds");
    assert!((4..10).all(|ingest_seq| fetch_all(log, session_key, 4, 10).contains_key(&ingest_seq)), "what was not taken is still there");
}

fn ingest_goes_on_at_its_end<L: RawLog>(log: &mut L, session_key: i32) {
    let end = log.ingest_end(session_key, SOURCE).expect("the source is known");
    assert!((4..=10).contains(&end), "ingest goes on behind the last commit, {end}");
    log.append(session_key, SOURCE, end, (end..12).map(raw).collect()).expect("records are taken in");
    log.append(session_key, SOURCE, 0, (0..12).map(raw).collect()).expect("the same source again changes nothing");
    assert_eq!(log.ingest_end(session_key, SOURCE).ok(), Some(12));
    assert!((4..12).all(|ingest_seq| fetch_all(log, session_key, 4, 12).contains_key(&ingest_seq)), "none is lost");
}

/// Empty fetches before the records that are still missing count as lost: what has been appended may take a moment to come.
const EMPTY_FETCHES_MAX: usize = 200;

/// Fetches until nothing more comes and record `end - 1` has, each stream from where it stands; by `ingest_seq`.
fn fetch_all<L: RawLog>(log: &mut L, session_key: i32, committed: i64, end: i64) -> BTreeMap<i64, (Micros, Vec<u8>)> {
    let mut fetched = BTreeMap::new();
    let mut next: BTreeMap<u16, i64> = BTreeMap::new();
    let mut empty = 0;
    loop {
        let positions: Vec<RawPosition> = next
            .iter()
            .map(|(&stream, &offset)| RawPosition { stream: STREAMS[usize::from(stream)].to_owned(), partition: 0, offset })
            .collect();
        let page = log.fetch(session_key, &positions, 4).expect("raw records can be fetched");
        let before = next.clone();
        for raw in page {
            let offset = next.entry(raw.stream).or_default();
            *offset = (*offset).max(raw.offset + 1);
            if raw.ingest_seq >= committed || committed == 0 {
                fetched.insert(raw.ingest_seq, (raw.received_at, raw.payload));
            }
        }
        if next == before {
            empty += 1;
            if fetched.contains_key(&(end - 1)) || empty > EMPTY_FETCHES_MAX {
                return fetched;
            }
        }
    }
}

/// Every promise of [`StateStore`]. `open` makes an empty store.
///
/// # Panics
/// When a promise is broken.
pub fn store<T: StateStore>(mut open: impl FnMut() -> T) {
    let mut store = open();
    let numbers = |stored: Result<Vec<crate::log::StoredFact>, T::Error>| -> Vec<u64> {
        stored.expect("the store can be read").iter().map(|fact| fact.fact_seq).collect()
    };
    let all = |session_key, epoch| facts(session_key, epoch, 0, &[0, 1, 2, 0, 1, 0]);
    assert_eq!(store.next_fact_seq(201, 0).ok(), Some(0), "an empty store begins at the first fact");
    for _ in 0..2 {
        store.store(201, 0, &all(201, 0)).expect("facts are stored");
        assert_eq!(numbers(store.history(201, 0, "entries", 0..u64::MAX, usize::MAX)), [0, 1, 2, 3, 4, 5], "each fact once");
        assert_eq!(numbers(store.latest(201, 0, "entries", u64::MAX)), [5, 4, 2], "the newest of each key, by key");
        assert_eq!(store.next_fact_seq(201, 0).ok(), Some(6));
    }
    store.store(201, 0, &facts(201, 0, 0, &[0])).expect("facts are stored");
    assert_eq!(numbers(store.latest(201, 0, "entries", u64::MAX)), [5, 4, 2], "an older fact never replaces a newer one");
    assert_eq!(store.next_fact_seq(201, 0).ok(), Some(6), "nor does progress go back");
    for (before, expected) in [(0, vec![]), (1, vec![0]), (3, vec![0, 1, 2]), (5, vec![3, 4, 2]), (6, vec![5, 4, 2])] {
        assert_eq!(numbers(store.latest(201, 0, "entries", before)), expected, "the newest of each key before fact {before}");
    }
    assert_eq!(numbers(store.history(201, 0, "entries", 1..5, usize::MAX)), [1, 2, 3, 4]);
    assert_eq!(numbers(store.history(201, 0, "entries", 1..u64::MAX, 2)), [1, 2], "a page holds at most what was asked for");
    assert_eq!(numbers(store.history(201, 0, "entries", 6..u64::MAX, 2)), [0_u64; 0]);
    let stored = store.history(201, 0, "entries", 3..4, 1).expect("the store can be read");
    let expected = all(201, 0);
    let expected = expected.iter().nth(3).expect("there are six");
    assert_eq!((stored[0].known_at, stored[0].bytes.as_slice()), (expected.known_at, expected.bytes), "a fact comes back as it went in");
    assert_eq!(numbers(store.latest(201, 0, "entrie", u64::MAX)), [0_u64; 0], "a kind is its whole name");
    store.store(201, 1, &facts(201, 1, 0, &[2])).expect("facts are stored");
    store.store(202, 0, &all(202, 0)).expect("facts are stored");
    assert_eq!(numbers(store.latest(201, 0, "entries", u64::MAX)), [5, 4, 2], "epochs stand side by side");
    assert_eq!(numbers(store.latest(201, 1, "entries", u64::MAX)), [0]);
    store.purge(201).expect("a session can be forgotten");
    assert_eq!((store.next_fact_seq(201, 0).ok(), store.next_fact_seq(201, 1).ok()), (Some(0), Some(0)), "every epoch is forgotten");
    assert_eq!(numbers(store.history(201, 0, "entries", 0..u64::MAX, usize::MAX)), [0_u64; 0]);
    assert_eq!(numbers(store.history(202, 0, "entries", 0..u64::MAX, usize::MAX)), [0, 1, 2, 3, 4, 5], "other sessions are not");
    store.store(201, 0, &all(201, 0)).expect("a forgotten session can be stored again");
    assert_eq!(numbers(store.latest(201, 0, "entries", u64::MAX)), [5, 4, 2]);
}
