//! Engines over a log and a store that fail in every way their promises allow: what readers see equals an undisturbed run.
//!
//! Each seed draws another order of aborts, lost acknowledgements, repeated and reordered fetches, damaged keyframes, engine restarts
//! and takeovers. A failure prints its seed. The planted faults at the end show that the comparison can fail.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod toy;

use pitwall_engine::commit::{Engine, EngineError};
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{EventLog, StateStore, bring_up_to_date};
use pitwall_engine::memory::{Faults, MemoryLog, MemoryStore, Seeded};
use pitwall_engine::session::Output;
use pitwall_engine::{Event, Micros};
use toy::{SESSION, Toy};

const SEEDS: u64 = 250;

fn limits() -> Limits {
    Limits { commit_records_live_max: 20, commit_records_behind_max: 60, keyframe_records: 50, ..Limits::default() }
}

fn start(log: &MemoryLog) -> Engine<Toy, MemoryLog> {
    Engine::start(log.clone(), SESSION, toy::graph, limits()).unwrap()
}

fn published(log: &mut MemoryLog) -> pitwall_engine::facts::FactBatch {
    log.facts(SESSION, 0, 0, usize::MAX).unwrap()
}

/// Runs engines over `log`, killing, restarting and replacing them as the seed says, until everything has been taken.
fn run_disturbed(log: &MemoryLog, seed: u64) {
    let mut seeded = Seeded::new(seed);
    let mut engine = start(log);
    let mut idle = 0;
    while idle < 8 {
        match seeded.below(10) {
            // kill -9: the engine is gone with all its memory, another one starts.
            0 => engine = start(log),
            // Takeover while the old one lives: the old one must be fenced at its next commit.
            1 => {
                let mut zombie = std::mem::replace(&mut engine, start(log));
                match zombie.step(None) {
                    Err(EngineError::Fenced(SESSION)) => {}
                    Ok(step) => assert_eq!((step.records, step.has_recovered), (0, false), "seed {seed}: a zombie committed"),
                    Err(error) => panic!("seed {seed}: {error}"),
                }
            }
            _ => {
                let step = engine.step(None).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                idle = if step.records == 0 && !step.has_recovered { idle + 1 } else { 0 };
            }
        }
    }
}

#[test]
fn facts_of_a_disturbed_engine_equal_those_of_an_undisturbed_one() {
    let mut injected = 0;
    for seed in 0..SEEDS {
        let arrivals = toy::arrivals(seed, 400);
        let mut log = MemoryLog::new(Toy::STREAMS, Faults::all(150), seed);
        toy::fill(&log, &arrivals);
        run_disturbed(&log, seed);
        let (undisturbed, expected) = toy::run(&arrivals);
        assert_eq!(published(&mut log), expected.facts, "seed {seed}");
        assert_eq!(log.dead_letters(SESSION).len(), expected.dead_letters.len(), "seed {seed}: dead letters are committed once too");
        assert_eq!(start(&log).session().facts_hash(), undisturbed.facts_hash(), "seed {seed}");
        injected += log.injected();
    }
    assert!(injected > SEEDS * 10, "faults happened: {injected}");
}

#[test]
fn a_store_that_fails_half_way_ends_up_with_each_fact_once_and_the_newest_of_each_key() {
    for seed in 0..50 {
        let mut log = MemoryLog::new(Toy::STREAMS, Faults::default(), seed);
        toy::fill(&log, &toy::arrivals(seed, 300));
        run_disturbed(&log, seed);
        let mut store = MemoryStore::new(Faults { half_store: 400, ..Faults::default() }, seed);
        while bring_up_to_date(&mut log, &mut store, SESSION, 0, 40).is_err() {}
        let facts = published(&mut log);
        for kind in ["totals", "rates"] {
            let expected: Vec<u64> = facts.iter().filter(|fact| fact.kind.name == kind).map(|fact| fact.fact_seq).collect();
            let stored: Vec<u64> =
                store.history(SESSION, 0, kind, 0..u64::MAX, usize::MAX).unwrap().iter().map(|fact| fact.fact_seq).collect();
            assert_eq!(stored, expected, "seed {seed}, {kind}");
            let mut newest = std::collections::BTreeMap::new();
            for fact in facts.iter().filter(|fact| fact.kind.name == kind) {
                newest.insert(fact.key().unwrap(), fact.fact_seq);
            }
            let latest: Vec<u64> = store.latest(SESSION, 0, kind, u64::MAX).unwrap().iter().map(|fact| fact.fact_seq).collect();
            assert_eq!(latest, newest.into_values().collect::<Vec<_>>(), "seed {seed}, {kind}");
        }
        store.purge(SESSION).unwrap();
        assert_eq!(store.next_fact_seq(SESSION, 0), Ok(0));
        assert!(store.history(SESSION, 0, "totals", 0..u64::MAX, usize::MAX).unwrap().is_empty());
    }
}

#[test]
fn a_halted_session_is_still_sequenced_and_recovers_halted() {
    let log = MemoryLog::new(Toy::STREAMS, Faults::default(), 1);
    toy::fill(&log, &[(0, 0, 1), (0, 10, 666), (0, 20, 2)]);
    let mut engine = start(&log);
    engine.step(None).unwrap();
    assert!(engine.halted().is_some());
    let recovered = start(&log);
    assert_eq!(recovered.halted(), engine.halted());
    assert_eq!(recovered.session().sequencer().next_seq(), 3);
    assert_eq!(log.clone().ledger_end(SESSION), Ok(Some(2)));
}

#[test]
fn a_live_session_gives_up_a_missing_record_after_the_hold_and_says_so_in_the_ledger() {
    // A log whose second record never comes.
    struct Holed(MemoryLog);
    impl EventLog for Holed {
        type Error = std::convert::Infallible;
        fn acquire(&mut self, session_key: i32) -> Result<pitwall_engine::log::Fence, Self::Error> {
            self.0.acquire(session_key)
        }
        fn ledger_end(&mut self, session_key: i32) -> Result<Option<u64>, Self::Error> {
            self.0.ledger_end(session_key)
        }
        fn ledger(&mut self, session_key: i32, from_seq: u64) -> Result<Vec<Vec<u8>>, Self::Error> {
            self.0.ledger(session_key, from_seq)
        }
        fn fetch(
            &mut self,
            session_key: i32,
            positions: &[pitwall_schemas::log::RawPosition],
            records_max: usize,
        ) -> Result<Vec<pitwall_engine::log::StoredRaw>, Self::Error> {
            let mut fetched = self.0.fetch(session_key, positions, records_max)?;
            fetched.retain(|raw| raw.ingest_seq != 1);
            Ok(fetched)
        }
        fn commit(
            &mut self,
            fence: pitwall_engine::log::Fence,
            unit: &pitwall_engine::log::CommitUnit<'_>,
        ) -> Result<(), pitwall_engine::log::CommitError> {
            self.0.commit(fence, unit)
        }
        fn keep_keyframe(&mut self, keyframe: &pitwall_schemas::log::Keyframe) -> Result<(), Self::Error> {
            self.0.keep_keyframe(keyframe)
        }
        fn keyframe(
            &mut self,
            session_key: i32,
            graph_hash: pitwall_engine::hash::Digest,
            last_seq: u64,
        ) -> Result<Option<pitwall_schemas::log::Keyframe>, Self::Error> {
            self.0.keyframe(session_key, graph_hash, last_seq)
        }
        fn facts(
            &mut self,
            session_key: i32,
            epoch: i32,
            from_fact_seq: u64,
            facts_max: usize,
        ) -> Result<pitwall_engine::facts::FactBatch, Self::Error> {
            self.0.facts(session_key, epoch, from_fact_seq, facts_max)
        }
    }
    let log = MemoryLog::new(Toy::STREAMS, Faults::default(), 1);
    toy::fill(&log, &[(0, 1_000, 1), (0, 2_000, 2), (0, 3_000, 3)]);
    let mut engine = Engine::start(Holed(log.clone()), SESSION, toy::graph, limits()).unwrap();
    let totals = |step: &pitwall_engine::commit::Step| step.facts.len();
    assert_eq!(totals(&engine.step(Some(Micros(10_000))).unwrap()), 1);
    assert_eq!(totals(&engine.step(Some(Micros(500_000))).unwrap()), 0, "the hold is not over");
    engine.step(Some(Micros(2_600_000))).unwrap();
    assert_eq!(totals(&engine.step(Some(Micros(2_700_000))).unwrap()), 1, "the third number, two records after the first");
    let kinds: Vec<_> = log
        .clone()
        .ledger(SESSION, 0)
        .unwrap()
        .iter()
        .flat_map(|block| pitwall_engine::ledger::decode_block(block).unwrap().records)
        .map(|record| record.kind.symbol())
        .collect();
    assert_eq!(kinds, ["SAMPLE", "TICK", "GAP", "SAMPLE"]);
}

#[test]
fn records_that_a_cut_commit_left_over_are_committed_at_the_pace_of_catching_up() {
    let log = MemoryLog::new(Toy::STREAMS, Faults::default(), 1);
    toy::fill(&log, &(0..200).map(|number| (0, number * 10, number)).collect::<Vec<_>>());
    // Of the sixty records that are fetched at a time about forty find room in a block.
    let limits = Limits { block_bytes_max: 600, ..limits() };
    let mut engine = Engine::start(log.clone(), SESSION, toy::graph, limits).unwrap();
    let steps: Vec<usize> = std::iter::from_fn(|| Some(engine.step(None).unwrap().records).filter(|records| *records > 0)).collect();
    let (last, whole) = steps.split_last().unwrap();
    assert!((30..60).contains(&whole[0]), "{steps:?}: the first commit was cut by its bytes");
    assert!(whole.iter().all(|records| *records > 30) && *last <= whole[0], "{steps:?}: none is cut as if this were live");
}

#[test]
fn a_live_session_lets_time_pass_without_input_so_that_timers_fire() {
    let log = MemoryLog::new(Toy::STREAMS, Faults::default(), 1);
    toy::fill(&log, &[(0, 1_000, 10)]);
    let mut engine = start(&log);
    engine.step(Some(Micros(2_000))).unwrap();
    assert!(engine.step(Some(Micros(200_000))).unwrap().facts.is_empty(), "the timer is due at 301 ms");
    assert_eq!(engine.step(Some(Micros(400_000))).unwrap().facts.len(), 1);
    assert_eq!(start(&log).session().facts_hash(), engine.session().facts_hash(), "the idle record is in the ledger");
}

/// Planted fault: a log that acknowledges a commit before it is durable, and forgets it.
#[test]
fn planted_a_forgotten_commit_is_noticed() {
    let arrivals = toy::arrivals(3, 400);
    let mut log = MemoryLog::new(Toy::STREAMS, Faults::default(), 3);
    toy::fill(&log, &arrivals);
    let mut engine = start(&log);
    engine.step(None).unwrap();
    engine.step(None).unwrap();
    log.forget_last_block(SESSION);
    let mut engine = start(&log);
    while engine.step(None).unwrap().records > 0 {}
    let (_, expected) = toy::run(&arrivals);
    assert_ne!(published(&mut log), expected.facts, "facts of the forgotten block are published twice");
}

/// Planted fault: a sequencer that takes records as they were fetched instead of by `ingest_seq`.
#[test]
fn planted_fetch_order_changes_facts() {
    let arrivals = toy::arrivals(4, 200);
    let mut shuffled = arrivals.clone();
    Seeded::new(4).shuffle(&mut shuffled);
    let (expected, _) = toy::run(&arrivals);
    let (mut session, mut output) = (toy::session(), Output::default());
    for (ingest_seq, &arrival) in shuffled.iter().enumerate() {
        toy::take(&mut session, ingest_seq as i64, arrival, &mut output).unwrap();
    }
    assert_ne!(session.facts_hash(), expected.facts_hash());
}
