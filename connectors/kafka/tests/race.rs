//! The whole Dutch race through Kafka, taken over in the middle: what it comes to is what a backtest comes to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::num::NonZeroUsize;
use std::path::Path;

use pitwall_archive::archive::Archive;
use pitwall_engine::backtest::{self, Discard, Outcome, RawSource};
use pitwall_engine::commit::{Engine, EngineError};
use pitwall_engine::graph::Graph;
use pitwall_engine::hash::{Digest, RunningHash};
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{EventLog, NewRaw, RawLog, SessionState};
use pitwall_engine::session::Session;
use pitwall_kafka::log::KafkaLog;
use pitwall_schemas::raw::Sample;
use pitwall_schemas::shared::KnownAtQuality;
use support::Deployment;

const SESSION: i32 = 9_920;
/// Raw records of one transaction.
const BATCH: usize = 10_000;

fn dutch() -> Archive {
    Archive::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/dutch_2025_race.avro")).unwrap()
}

fn graph() -> Graph<Sample> {
    pitwall_operators::graph(&Limits::default()).unwrap().for_session(SESSION, 0, KnownAtQuality::Reconstructed)
}

fn backtest() -> Outcome {
    let mut archive = dutch();
    assert_eq!((archive.session_key(), archive.quality()), (SESSION, KnownAtQuality::Reconstructed));
    let mut session = Session::new(SESSION, graph(), Limits::default()).without_keyframes();
    backtest::run(&mut archive, &mut session, &mut Discard, NonZeroUsize::new(8_192).unwrap()).unwrap()
}

/// Feeds the archive to the raw topics, from where they end.
fn ingest(log: &mut KafkaLog) -> i64 {
    let mut archive = dutch();
    let source_id = archive.source_id();
    let mut next = log.ingest_end(SESSION, source_id).unwrap();
    archive.seek(next as u64);
    let mut records = Vec::new();
    while let Some(block) = archive.next_block().unwrap() {
        for raw in block {
            let raw = raw.unwrap();
            records.push(NewRaw { stream: raw.stream, received_at: raw.received_at, payload: raw.payload.to_vec() });
        }
        if records.len() >= BATCH {
            let count = records.len() as i64;
            log.append(SESSION, source_id, next, std::mem::take(&mut records)).unwrap();
            next += count;
        }
    }
    let count = records.len() as i64;
    log.append(SESSION, source_id, next, records).unwrap();
    next + count
}

fn start(deployment: &Deployment) -> Engine<Sample, KafkaLog> {
    let log = KafkaLog::open(deployment.options.clone(), deployment.streams.clone()).unwrap();
    Engine::start(log, SESSION, 0, graph, Limits::default()).unwrap()
}

/// Hash of the session's facts as readers of the topics see them; they must be dense.
fn hash_of_facts(log: &mut KafkaLog) -> (u64, Digest) {
    let (mut hash, mut next) = (RunningHash::default(), 0);
    loop {
        let facts = log.facts(SESSION, 0, next, 20_000).unwrap();
        if facts.is_empty() {
            return (next, hash.digest());
        }
        for fact in facts.iter() {
            assert_eq!(fact.fact_seq, next, "facts are numbered densely: none lost, none doubled");
            next += 1;
        }
        facts.hash_into(0, &mut hash);
    }
}

#[test]
fn a_race_through_kafka_taken_over_in_its_middle_comes_to_the_facts_of_a_backtest() {
    let expected = backtest();
    let deployment = Deployment::new("race", support::formula_1_streams(graph().kinds().to_vec()));
    let mut reader = KafkaLog::open(deployment.options.clone(), deployment.streams.clone()).unwrap();
    let samples = ingest(&mut reader);
    assert_eq!(samples as u64, expected.samples);
    assert_eq!(ingest(&mut reader), samples, "the same archive again changes nothing");

    let mut first = start(&deployment);
    while first.head().is_none_or(|head| head.last_seq < expected.ledger_records / 2) {
        assert!(first.step(None).unwrap().records > 0, "the engine goes on until it has everything");
    }
    let taken_over_at = first.head().unwrap().last_seq;
    let mut second = start(&deployment);
    assert_eq!(second.head().unwrap().last_seq, taken_over_at, "the second engine goes on where the first was");
    assert!(matches!(first.step(None), Err(EngineError::Fenced(SESSION))), "and the first is told");
    while second.head().is_none_or(|head| head.next_ingest_seq < samples) {
        assert!(second.step(None).unwrap().records > 0, "the engine goes on until it has everything");
    }
    second.close().unwrap();

    let head = *second.head().unwrap();
    assert_eq!(head.state, SessionState::Complete);
    assert_eq!((head.last_seq + 1, head.next_fact_seq), (expected.ledger_records, expected.facts));
    assert_eq!(head.facts_hash, expected.facts_hash, "what the engine derived");
    assert_eq!(hash_of_facts(&mut reader), (expected.facts, expected.facts_hash), "what readers of the topics see");
}
