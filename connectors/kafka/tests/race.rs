//! The whole Dutch race through Kafka, taken over in the middle: what it comes to is what a backtest comes to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use pitwall_engine::commit::{Engine, EngineError};
use pitwall_engine::limits::Limits;
use pitwall_engine::log::{RawLog, SessionState};
use pitwall_kafka::log::KafkaLog;
use pitwall_schemas::raw::Sample;
use support::Deployment;
use support::race::{self, DUTCH};

const SESSION: i32 = 9_920;
/// Raw records of one transaction.
const BATCH: usize = 10_000;

/// Feeds the archive to the raw topics, from where they end.
fn ingest(log: &mut KafkaLog) -> i64 {
    let (source_id, records) = (race::open(DUTCH).source_id(), race::records(DUTCH, SESSION));
    let mut next = log.ingest_end(SESSION, source_id).unwrap();
    for batch in records[next as usize..].chunks(BATCH) {
        log.append(SESSION, source_id, next, batch.to_vec()).unwrap();
        next += batch.len() as i64;
    }
    next
}

fn start(deployment: &Deployment) -> Engine<Sample, KafkaLog> {
    let log = KafkaLog::open(deployment.options.clone(), deployment.streams.clone()).unwrap();
    let quality = race::open(DUTCH).quality();
    Engine::start(log, SESSION, move || race::graph(SESSION, quality), Limits::default()).unwrap()
}

#[test]
fn a_race_through_kafka_taken_over_in_its_middle_comes_to_the_facts_of_a_backtest() {
    let expected = race::backtest(DUTCH);
    let deployment = Deployment::new("race", support::formula_1_streams());
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
    assert_eq!(race::hash_of_facts(&mut reader, SESSION), (expected.facts, expected.facts_hash), "what readers of the topics see");
}
